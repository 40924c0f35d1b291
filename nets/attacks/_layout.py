"""Convolutions in channels-last order, which a CPU computes faster, for the length of an attack.

The numbers are the model's up to rounding. Where a model does not work in this order, since it takes a `view` of what
is not contiguous, the attack goes on in the model's own.
"""

import contextlib

import torch
from torch import nn

from nets.attacks._folding import is_compiled


@contextlib.contextmanager
def channels_last(model):
    """Hold the weights of a model's convolutions, and its images, in channels-last order within a `with` block."""
    if not _gains(model):
        yield model
        return
    weights = {m.weight: m.weight.data for m in model.modules() if type(m) is nn.Conv2d}
    own, last = model.forward, {"on": True}

    def restore():
        for weight, data in weights.items():
            weight.data = data

    def forward(x, *args, **kwargs):
        if last["on"] and isinstance(x, torch.Tensor) and x.dim() == 4:
            try:
                return own(x.contiguous(memory_format=torch.channels_last), *args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                last["on"] = False
                restore()
        return own(x, *args, **kwargs)

    held = vars(model).get("forward")
    try:
        for weight, data in weights.items():
            weight.data = data.contiguous(memory_format=torch.channels_last)
        model.forward = forward
        yield model
    finally:
        restore()
        if held is None:
            del model.forward
        else:
            model.forward = held


def _gains(model):
    modules = list(model.modules())
    if any(is_compiled(m) or isinstance(m, (nn.DataParallel, torch.jit.ScriptModule)) for m in modules):
        return False
    convolutions = [m for m in modules if type(m) is nn.Conv2d]
    return any(
        m.weight.device.type == "cpu" and not m.weight.is_contiguous(memory_format=torch.channels_last)
        for m in convolutions
    )
