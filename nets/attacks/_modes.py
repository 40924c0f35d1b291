"""Whether the training mode of a network changes what a model computes, seen from passes in both modes."""

import contextlib

import torch
from torch import nn

from bridge import noise_from
from nets import seeds
from nets.attacks._decisions import draws_differ
from nets.attacks._passes import mean_logits
from nets.attacks._state import is_training, kept, to_evaluation

__all__ = ["changed_by_training"]

# Number of images in each pass.
N_SHOWN = 16
# Submodules that are named in a message: in training mode, these draw or normalise otherwise.
MODAL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)


def changed_by_training(model, network, x):
    """Return what the training mode of a network changes in the passes of a model, as text for a message.

    Two passes of at most 16 images, in both modes and from equal seeds, are compared; a third one, if they differ,
    shows whether noise that no seed governs is the reason. Modes and buffers are the same afterwards.

    Parameters
    ----------
    model : callable
        Images to logits.
    network : Module
        The model, or a network that it calls.
    x : Tensor of shape (n_images, ...)
        Images.

    Returns
    -------
    str
        Names of dropouts and normalisations in training mode, or "the logits" if others are the reason. Empty if
        the network is not in training mode, or the mode changes nothing.
    """
    if not is_training(network):
        return ""
    names = [name or "itself" for name, m in network.named_modules() if isinstance(m, MODAL) and m.training]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (shown or "the logits") if _differs(model, network, x[:N_SHOWN], bool(names)) else ""


def _differs(model, network, x, otherwise):
    """Whether passes in both modes differ; `otherwise` if that cannot be seen."""
    if not len(x):
        return otherwise
    with kept(list(network.modules())):
        first = _pass(model, x)
        to_evaluation(network)
        second = _pass(model, x)
        if first is None or second is None:
            return otherwise or second is not None
        if not draws_differ(first, second):
            return False
        again = _pass(model, x)
        return otherwise if again is None or draws_differ(second, again) else True


def _pass(model, x):
    """Logits from a fixed seed; None if the pass fails, as one in training mode may that is made for training alone."""
    noise = contextlib.nullcontext()
    if isinstance(model, nn.Module):
        noise = noise_from(model, torch.Generator(x.device).manual_seed(0))
    with seeds.default_generator_seeded(0, x.device), seeds.numpy_and_python_seeded(0), noise:
        try:
            return mean_logits(model, x)
        except Exception:  # noqa: BLE001
            # An error of the mode in which the model is evaluated is raised by the evaluation.
            return None
