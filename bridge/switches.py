"""The switches of a network's noise: its noise-injected blocks, their generator, and the noise on or off."""

import contextlib

from torch import nn

from bridge import checks
from bridge.residual import NoisyResidual

__all__ = ["noise_from", "noise_off", "noisy_blocks"]


def noisy_blocks(model: nn.Module):
    """List the noise-injected blocks of a network, in the order of its modules.

    Parameters
    ----------
    model : Module
        Any network.

    Returns
    -------
    list of NoisyResidual
    """
    return [module for module in model.modules() if isinstance(module, NoisyResidual)]


@contextlib.contextmanager
def noise_from(model: nn.Module, generator):
    """Let all blocks of a network draw from a generator, inside a `with` block.

    Parameters
    ----------
    model : Module
        Any network.
    generator : torch.Generator or None
        On the device of the network.

    Yields
    ------
    Module
        The network.

    Raises
    ------
    ValueError
        If the generator is none of PyTorch's (raised by a helper).
    """
    with _attribute(noisy_blocks(model), "generator", checks.generator(generator)):
        yield model


@contextlib.contextmanager
def noise_off(model: nn.Module):
    """Switch the noise of a network off, inside a `with` block.

    Parameters
    ----------
    model : Module
        Any network.

    Yields
    ------
    Module
        The network.
    """
    with _attribute(noisy_blocks(model), "enabled", False):
        yield model


@contextlib.contextmanager
def _attribute(modules, name, value):
    before = [getattr(module, name) for module in modules]
    try:
        for module in modules:
            setattr(module, name, value)
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            setattr(module, name, old)
