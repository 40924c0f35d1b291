"""A run to be evaluated, of a network whose weights nobody trained, and what tests compare of its evaluations."""

import torch

from nets import checkpoint, data
from nets.models import build
from nets.training import RECIPES


def save_run(folder, model="en1_resnet20", n_classes=10, seed=0, **changes):
    """Write the directory of a run on the digits, and return it."""
    folder.mkdir(parents=True)
    digits = data.load("digits")
    mean, std = digits.statistics()
    recipe = {**vars(RECIPES["cpu/digits"]), "model": model, **changes}
    recipe = {key: list(value) if isinstance(value, tuple) else value for key, value in recipe.items()}
    arguments = {"name": model, "n_classes": n_classes, "coef": 0.1, "noise": "gaussian", "std_over": "batch",
                 "weights": None, "mean": mean, "std": std}  # fmt: skip
    record = {"name": "cpu/digits", "recipe": recipe, "seed": seed, "model": arguments, "data": digits.provenance(),
              "epoch": 1, "accuracy": 0.5, "versions": {"torch": torch.__version__}}  # fmt: skip
    record["data"]["n_classes"] = n_classes
    checkpoint.save_model(folder / "best.safetensors", build(**arguments, seed=seed), record)
    return folder


def comparable(report):
    """The rows of an evaluation without what depends on the clock."""
    timed = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in timed} for row in report["rows"]]
