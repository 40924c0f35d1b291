"""Checks of arguments, shared by the modules of this package and of those above it: those of `pde`, and of PyTorch."""

import torch

from pde.checks import integer, one_of, real, refuse_masked

__all__ = ["generator", "integer", "one_of", "real", "refuse_masked"]


def generator(value):
    """Return value if it is a torch.Generator or None, which stands for PyTorch's own, or raise a ValueError."""
    if value is None or isinstance(value, torch.Generator):
        return value
    remedy = "for a seed, torch.Generator().manual_seed(seed)"
    raise ValueError(f"generator must be a torch.Generator or None, got {value!r:.80}: {remedy}")
