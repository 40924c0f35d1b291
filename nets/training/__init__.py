"""Training: recipes, the training loop, run directories, several processes."""

from nets.training._catalogue import RECIPES, as_released, published, recipe
from nets.training._collapse import CollapseError, check_collapse
from nets.training._combine import integrate
from nets.training._distributed import PeerLostError, World, connect, device_of
from nets.training._graph import make_training
from nets.training._precision import precisions
from nets.training._recipe import NOT_IN_THE_PAPER, Recipe
from nets.training._run_directory import METRICS, Run, configuration
from nets.training._trainer import Training
from nets.training._writable import check_directory

__all__ = [
    "METRICS",
    "NOT_IN_THE_PAPER",
    "RECIPES",
    "CollapseError",
    "PeerLostError",
    "Recipe",
    "Run",
    "Training",
    "World",
    "as_released",
    "check_collapse",
    "check_directory",
    "configuration",
    "connect",
    "device_of",
    "integrate",
    "make_training",
    "precisions",
    "published",
    "recipe",
]
