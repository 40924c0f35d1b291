"""Checks of the arguments that all attacks share: a model, images in [0, 1] and their labels."""

import collections
import contextlib
import contextvars
import ctypes
import dataclasses
import math
import types
import warnings
import weakref

import torch
from torch import nn

from bridge import checks
from nets.attacks._decisions import is_noisy
from nets.attacks._modes import changed_by_training
from nets.attacks._reached import hidden_networks
from nets.attacks._state import attacked, check_initialised

# Whether the modes of networks have been looked at.
_ADMITTED = contextvars.ContextVar("admitted", default=False)
# What was true of each module when its passes were found to be equal.
_QUIET = weakref.WeakKeyDictionary()
PLAIN = (bool, int, float, str, type(None))
CONTAINERS = (dict, collections.OrderedDict, list, tuple, set)
# Sets of the same: a look into one takes less than a search of a tuple.
_PLAIN, _CONTAINERS = frozenset(PLAIN), frozenset(CONTAINERS)
# A tensor of at most so many bytes is read whole; of a larger one, 64-bit words.
N_BYTES, N_SAMPLED = 4096, 2048
# Of containers within containers, as of an object of settings.
DEPTH = 3


class NoisyModelWarning(UserWarning):
    """A noisy model is attacked by steps that each see a single draw of its noise."""


class TrainingModeWarning(UserWarning):
    """A training mode that changes the logits: that of the model, which is evaluated in evaluation mode, or that of a
    network that it calls, but that is not one of its submodules, and that is evaluated so.
    """


@contextlib.contextmanager
def admitted():
    """Do not warn again, in attacks within a `with` block, of a noisy model or a network in training mode.

    Yields
    ------
    None
    """
    token = _ADMITTED.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoisyModelWarning)
            yield
    finally:
        _ADMITTED.reset(token)


def admit(model, x, y, *, n_eot=1, eps=None, norm="linf", as_images=False, generator=None):
    """Check the arguments that every attack takes.

    Warns with NoisyModelWarning if n_eot is 1 and a model in evaluation mode is noisy, as five passes show; with
    TrainingModeWarning if a function, or an attribute of the model, leads to a network in training mode, which keeps
    its mode (see `attacked`) and which changes the logits, as two or three passes of 16 images show; and with
    UserWarning if eps is larger than the cube of images. A module whose passes were equal is not tried again for images
    of the same shape until one of its modes, attributes or tensors changes (writes through `.data` are seen on a CPU,
    in large tensors by a sample of their numbers).

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    n_eot : int, default=1
        Number of passes over which the attack averages.
    eps : float, optional
        Radius of the attack.
    norm : {"linf", "l2"}
        Norm of the attack.
    as_images : bool, default=False
        Whether x must be of shape (n_images, n_channels, height, width).
    generator : torch.Generator, optional
        Generator of the attack; its state is not changed.

    Returns
    -------
    model : callable
        The model, or the module of an exported program.
    x : Tensor of shape (n_images, ...)
        Images, detached.
    y : Tensor of shape (n_images,)
        Labels as int64.

    Raises
    ------
    ValueError
        If the model is not callable or has lazy layers without weights, the generator none of PyTorch's, or images or
        labels are not as above.
    RuntimeError
        If called inside `torch.inference_mode`, where there are no gradients.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("an attack needs gradients: leave torch.inference_mode (torch.no_grad is fine)")
    model = _callable(model)
    if isinstance(model, nn.Module):
        check_initialised(model)
    checks.generator(generator)
    x, y = check_images(x, y)
    if as_images and (x.dim() != 4 or not min(x.shape[1:])):
        raise ValueError(f"x must be of shape (n_images, n_channels, height, width), got {tuple(x.shape)}")
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if first is not None and all(p.device != x.device for p in model.parameters()):
        raise ValueError(f"x must be on the device of the model, {first.device}, got {x.device}")
    if eps is not None and x.numel() and eps > (1 if norm == "linf" else math.sqrt(x[0].numel())):
        warnings.warn(
            f"eps={eps:g} is larger than the cube of images: it is in units of images in [0, 1], 8/255 and not 8",
            UserWarning,
            stacklevel=3,
        )
    for network in [] if _ADMITTED.get() else hidden_networks(model):
        if changed := changed_by_training(model, network, x):
            warnings.warn(
                f"the model leads to a network in training mode, {type(network).__name__}, which is evaluated so, with "
                f"{changed}: call eval() on it, and train() on the submodules that should be random",
                TrainingModeWarning,
                stacklevel=3,
            )
    if n_eot == 1 and len(x) and not getattr(model, "training", False) and _draws(model, x, generator):
        warnings.warn(
            "the model draws noise and the attack sees one draw per step: average over draws, for example with "
            "n_eot=20, before you call the model robust",
            NoisyModelWarning,
            stacklevel=3,
        )
    return model, x, y


def _draws(model, x, generator):
    """Whether a model is noisy; five passes take longer than an attack of few steps, so that they are made once."""
    state = _fingerprint(model, x) if isinstance(model, nn.Module) else None
    if state is not None and _QUIET.get(model) == state:
        return False
    with attacked(model, generator=_twin(generator), fold=False):
        noisy = is_noisy(model, x)
    if state is not None and not noisy:
        _QUIET[model] = state
    return noisy


def _fingerprint(model, x):
    """Everything that may decide whether passes of this module on images like x are equal."""
    state = [tuple(x.shape), x.dtype, x.device]
    for module in model.modules():
        # A hook that replaces another one has a number of its own.
        state += [id(module), *module._forward_hooks, *module._forward_pre_hooks]
        # Parameters and buffers among them.
        _mark(state, vars(module).values(), DEPTH)
    return state


def _mark(state, values, depth):
    """Append what tells these values from others, and from themselves when they have been changed in place."""
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            state.append(value)
            continue
        state.append(id(value))
        if kind in _CONTAINERS:
            # A module has a dozen empty ones.
            if value and depth:
                _mark(state, value if kind in (tuple, list, set) else value.values(), depth - 1)
        elif isinstance(value, torch.Tensor):
            if _is_read(value):
                state += (value._version, value.data_ptr(), _checksum(value))
        elif isinstance(value, PLAIN):
            state.append(value)
        # Modules are seen one by one.
        elif depth and not isinstance(value, nn.Module):
            _mark(state, _inner(value), depth - 1)


def _inner(value):
    # A container may be one of these as well: its attributes count.
    if isinstance(value, types.SimpleNamespace) or dataclasses.is_dataclass(value):
        return getattr(value, "__dict__", {}).values()
    return value.values() if isinstance(value, dict) else value if isinstance(value, CONTAINERS) else ()


def _checksum(tensor):
    """The numbers' bits, or a sum of a sample of them, on a CPU: writing through `.data` changes no version.

    A sample, since reading all weights of a ResNet-18 takes as long as two images: what it misses is a write to single
    numbers of a large tensor.
    """
    size = tensor.nbytes
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or tensor.is_quantized or not size:
        return None
    if size <= N_BYTES and type(tensor) in (torch.Tensor, nn.Parameter):
        return ctypes.string_at(tensor.data_ptr(), size)
    bits = tensor.detach().reshape(-1).view(torch.uint8 if size % 8 else torch.int64)
    # An odd step meets all places of a kernel.
    return int((bits if len(bits) <= 2 * N_SAMPLED else bits[:: len(bits) // N_SAMPLED | 1]).sum())


def _is_read(tensor):
    return not tensor.is_inference() and not nn.parameter.is_lazy(tensor) and tensor.layout == torch.strided


def check_images(x, y):
    """Check images (n_images, ...) and labels (n_images,); return them detached, labels as int64."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}: use torch.as_tensor")
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            kind = "meta" if value.is_meta else "nested" if value.is_nested else str(value.layout)
            raise ValueError(f"{name} must be a dense tensor of numbers, got a {kind} tensor")
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"x must be floating-point images (n_images, ...), got {tuple(x.shape)} of {x.dtype}")
    if not all(x.shape[1:]):
        raise ValueError(f"x must be images of at least one pixel, got shape {tuple(x.shape)}")
    if x.dim() == 3 and not y.dim():
        raise ValueError(f"x must be a batch of images, x[None] and y[None] of one, got {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"y must be {len(x)} integers, one per image, got {tuple(y.shape)} of {y.dtype}")
    if y.device != x.device:
        raise ValueError(f"y must be on the device of x, {x.device}, got {y.device}")
    # `not <=` finds NaN as well.
    if x.numel() and not (x.min().item() >= 0 and x.max().item() <= 1):
        raise ValueError(f"x must lie in [0, 1], got values from {x.min().item():.9g} to {x.max().item():.9g}")
    # A tensor from inference mode cannot be part of a gradient; its copy can.
    x, y = (value.clone() if value.is_inference() else value.detach() for value in (x, y))
    return x, y.long()


def _callable(model):
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()
    if isinstance(model, type) or not callable(model):
        raise ValueError(f"model must be a function of images that returns logits, got {model!r:.80}")
    return model


def _twin(generator):
    """A generator with the same state, so that testing the model for noise changes no later random number."""
    if generator is None:
        return None
    return torch.Generator(generator.device).set_state(generator.get_state())
