"""Convolutions in channels-last order, with weights laid out once per attack, which is faster on a CPU.

    grad_x <g, W x> = W^T g          the adjoint of a convolution of stride 1 is a convolution with flipped weights

The results equal the model's up to rounding, and the model's weights are not moved. If a model does not work in this
order, because it takes a `view` of a tensor that is not contiguous, or would be slow, because it draws normal numbers
in this order, the attack continues in the model's own order.
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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


class Convolution:
    """A convolution with fixed weights, in the memory order of its weights or, if `last`, in channels-last order.

    `weight` and `bias` replace those of the module.
    """

    def __init__(self, module, weight=None, bias=None):
        self.weight = module.weight.detach() if weight is None else weight
        self.bias = bias if bias is not None or module.bias is None else module.bias.detach()
        self.options = module.stride, module.padding, module.dilation, module.groups
        # Single precision only: in double, convolutions are not faster; in half, autocast decides.
        self.is_for_cpu = self.weight.device.type == "cpu" and self.weight.dtype == torch.float32
        self.last, self.n_bytes, self._ordered, self._maps = False, 0, None, None

    @staticmethod
    def takes(module):
        return module.padding_mode == "zeros" and module.weight.dtype == torch.float32

    def __call__(self, x):
        if not self.last:
            return functional.conv2d(x, self.weight, self.bias, *self.options)
        self.n_bytes = x.nbytes
        if self._ordered is None:
            self._ordered = self.weight.contiguous(memory_format=torch.channels_last)
        if self._is_packed(x):
            x = x.contiguous(memory_format=torch.channels_last)
            return _Affine.apply(x, self._packed(x.shape))
        return functional.conv2d(x, self._ordered, self.bias, *self.options)

    def _is_packed(self, x):
        # Only where weights outnumber pixels: laying them out in every pass would cost as much as the convolution.
        _, padding, dilation, groups = self.options
        return (
            x.dim() == 4
            and x.dtype == torch.float32
            and self.weight.numel() >= x.numel() > 0
            and (groups, dilation) == (1, (1, 1))
            and not isinstance(padding, str)
            and not torch.is_autocast_enabled("cpu")
            and _CAN_PACK
        )

    def _packed(self, shape):
        """Return the map x -> W x + b, the adjoint g -> W^T g, and the map x -> W x."""
        if self._maps is None or self._maps[0] != shape:
            stride, padding, _, _ = self.options
            forward = _pack(self._ordered, stride, padding, shape)
            if stride == (1, 1) and all(p < k for p, k in zip(padding, self.weight.shape[2:], strict=True)):
                flipped = self.weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
                size = shape[0], self.weight.shape[0], *_sizes(shape[2:], self.weight.shape[2:], padding)
                backward = _pack(flipped, stride, _padding_of_adjoint(padding, self.weight), size)
            else:
                backward = None
            self._maps = shape, _maps(forward, backward, self._ordered, self.bias, stride, padding, shape)
        return self._maps[1]


def _padding_of_adjoint(padding, weight):
    return [k - 1 - p for p, k in zip(padding, weight.shape[2:], strict=True)]


def _maps(forward, backward, weight, bias, stride, padding, shape):
    def run(packed, x, bias, pads):
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, packed, bias, pads, stride, (1, 1), 1, "none", [], "")

    def adjoint(g):
        if backward is not None:
            return run(backward, g, None, _padding_of_adjoint(padding, weight))
        x = torch.empty(shape, dtype=g.dtype, memory_format=torch.channels_last)
        mask = [True, False, False]
        return torch.ops.aten.convolution_backward(g, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, mask)[
            0
        ]

    return lambda x: run(forward, x, bias, padding), adjoint, lambda x: run(forward, x, None, padding)


def _sizes(sizes, kernel, padding):
    return [n + 2 * p - k + 1 for n, k, p in zip(sizes, kernel, padding, strict=True)]


def _pack(weight, stride, padding, shape):
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, stride, (1, 1), 1, shape)


# Internal operations that inductor calls as well. In a PyTorch without them, weights are laid out in every pass.
_CAN_PACK = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)


class _Affine(torch.autograd.Function):
    """x -> W x + b with derivatives of all orders, by the maps (x -> W x + b, g -> W^T g, x -> W x)."""

    @staticmethod
    def forward(ctx, x, maps):
        ctx.maps = maps
        return maps[0](x)

    @staticmethod
    def backward(ctx, g):
        _, adjoint, linear = ctx.maps
        return _Affine.apply(g, (adjoint, linear, adjoint)), None


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
