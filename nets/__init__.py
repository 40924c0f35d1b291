"""The networks of the paper, built from the residual block of `bridge`.

`build` makes a network by name, `attacks` holds what it is to resist, and `red_flags` looks whether a robust accuracy
is to be believed. Images are tensors of shape (n_images, n_channels, height, width) with values in [0, 1], labels
integers of shape (n_images,), and models map images to logits of shape (n_images, n_classes).
"""

import _enresnet

_enresnet.quiet_imports()
# First, and here alone: a missing PyTorch is reported once, by `bridge`, before any module of `nets` trips over it.
import bridge  # noqa: F401
from nets import attacks, models, red_flags
from nets.models import build

__all__ = ["attacks", "build", "models", "red_flags"]
