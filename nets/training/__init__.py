"""Training: recipes, the loop, run directories, several processes."""

from nets.training._collapse import CollapseError, check_collapse
from nets.training._combine import integrate
from nets.training._devices import device_of
from nets.training._distributed import PeerLostError, World, connect
from nets.training._losses import precisions
from nets.training._recipe import RECIPES, Recipe, as_released, published, recipe
from nets.training._run_directory import METRICS, Run, configuration
from nets.training._trainer import Training

__all__ = [
    "METRICS",
    "RECIPES",
    "CollapseError",
    "PeerLostError",
    "Recipe",
    "Run",
    "Training",
    "World",
    "as_released",
    "check_collapse",
    "configuration",
    "connect",
    "device_of",
    "integrate",
    "precisions",
    "published",
    "recipe",
]
