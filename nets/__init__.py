"""The networks of the paper, built from the residual block of `bridge`.

`build` makes a network by name, `load` gives a trained one (`zoo` lists those that come with the package), `attacks`
contains the attacks, `red_flags` checks whether a robust accuracy can be trusted, and `evaluate_model` does all of it
to any classifier. Images are tensors of shape (n_images, n_channels, height, width) with values in [0, 1], labels
integers of shape (n_images,), and models map images to logits of shape (n_images, n_classes).
"""

import _enresnet

_enresnet.quiet_imports()
# First, and here alone: a missing PyTorch is reported once, by `bridge`, before any module of `nets` trips over it.
import bridge  # noqa: F401
from nets import attacks, models, red_flags, zoo
from nets.evaluation import evaluate_model
from nets.models import build
from nets.zoo import load

__all__ = ["attacks", "build", "evaluate_model", "load", "models", "red_flags", "zoo"]
