"""The networks of the paper, built from the residual block of `bridge`.

`build` makes a network by name, `load` returns a trained one (`zoo` lists those that come with the package), `attacks`
contains the attacks, `red_flags` checks whether a robust accuracy can be trusted, and `evaluate_model` applies all of
this to any classifier. Images are tensors of shape (n_images, n_channels, height, width) with values in [0, 1], labels
are integers of shape (n_images,), and models map images to logits of shape (n_images, n_classes).
"""

import _enresnet

_enresnet.quiet_imports()
from nets import _early

# Before PyTorch, which takes seconds.
_early.refuse()
# First, so that a missing PyTorch is reported by `bridge`, before any module of `nets` imports it.
import bridge  # noqa: F401
from nets import attacks, models, red_flags, zoo
from nets.evaluation import evaluate_model
from nets.models import build
from nets.zoo import load

__all__ = ["attacks", "build", "evaluate_model", "load", "models", "red_flags", "zoo"]
