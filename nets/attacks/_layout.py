"""Convolutions in channels-last order, which is faster on a CPU; each is computed as `_convolution` says.

The results equal the model's up to rounding, and the model's weights are not moved. If a model does not work in this
order, because it takes a `view` of a tensor that is not contiguous, or would be slow, because it draws normal numbers
in this order, the attack continues in the model's own order.
"""

import contextlib

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nets.attacks._convolution import Convolution
from nets.attacks._forward import Forward, is_plain, stand_in_for
from nets.attacks._memory import hold

# Where memory is not contiguous, PyTorch draws them one by one, which takes ten times as long.
NORMALS = (torch.randn_like, torch.Tensor.normal_, torch.normal)


@contextlib.contextmanager
def channels_last(model):
    """Compute a model's convolutions in channels-last order within a `with` block, if it is on a CPU."""
    switched, made = [], []
    held = vars(model).get("forward")
    try:
        if torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available() and not isinstance(held, _Root):
            for module in model.modules():
                if is_plain(module, nn.Conv2d) and Convolution.takes(module):
                    module.forward = Forward(module, step := Convolution(module), (module,), [step])
                    made.append(module)
                steps = getattr(vars(module).get("forward"), "convolutions", [])
                switched += [step for step in steps if step.is_for_cpu and not step.last]
            for step in switched:
                step.last = True
            if switched:
                model.forward = _Root(model, switched)
        yield model
    finally:
        for step in switched:
            step.last = False
        if switched:
            stand_in_for(model, held)
        for module in made:
            vars(module).pop("forward", None)


class _Root:
    """The forward of a whole model, which gives up channels-last order if the model does not work in it."""

    def __init__(self, model, steps):
        self.model, self.own, self.steps, self.seen = model, model.forward, steps, False
        # From the second pass on: it knows the largest activation, and a single pass needs no memory twice.
        self.held = None

    def __call__(self, *args, **kwargs):
        if not any(step.last for step in self.steps):
            return self.own(*args, **kwargs)
        try:
            if self.seen:
                result = self.own(*args, **kwargs)
                if self.held is None and torch.is_grad_enabled():
                    self.held = hold(max(step.n_bytes for step in self.steps))
                return result
            # In the first pass only: watching costs a little at every operation.
            with _Normals() as watch:
                result = self.own(*args, **kwargs)
            self.seen = True
            if watch.found:
                self._leave()
            return result
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self._leave()
            return self.own(*args, **kwargs)

    def _leave(self):
        for step in self.steps:
            step.last = False

    def __deepcopy__(self, memo):
        return Forward.own_of_copy(self.model, memo)


class _Normals(TorchFunctionMode):
    """Watches for normal numbers that are drawn in channels-last order."""

    found = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in NORMALS:
            like = next((a for a in args if isinstance(a, torch.Tensor)), None)
            self.found |= like is not None and like.dim() == 4 and not like.is_contiguous()
        return function(*args, **(kwargs or {}))
