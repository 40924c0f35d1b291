"""Batch normalisation in evaluation mode is an affine map, which is folded into the neighbouring layers.

    bn(x) = a x + b,  a = weight / sqrt(running_var + eps),  b = bias - a running_mean        (per channel)

    bn(conv(x)) = conv(x) with weights a w and bias b;      relu(bn(x)) in one step, which stores only its result

An attack needs no statistics, sums or inputs of the normalisation, which take a fifth of the time of its gradients. The
results equal the model's up to rounding; where the map would differ, the module's own forward is called (`Forward`).
"""

import contextlib

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from nets.attacks._convolution import Convolution
from nets.attacks._forward import Forward, is_plain

__all__ = ["folded"]

# Weights of a layer that are folded faster than two passes of eight images gain.
N_SMALL = 2**17
# In half precision the folded weights would be rounded where the originals are not.
DTYPES = (torch.float32, torch.float64)


@contextlib.contextmanager
def folded(model, *, small_only=False):
    """Fold the batch normalisations of a model in evaluation mode within a `with` block.

    Inside `Sequential`, convolution and normalisation become one convolution, normalisation and ReLU one function;
    elsewhere a normalisation becomes an affine map. small_only: only the former, and only in a model of small layers.
    Modules in training mode, trainable or with hooks are left alone.
    """
    changed, taken = [], set()
    try:
        modules = list(model.modules())
        if small_only and any(map(_is_large, modules)):
            modules = []
        for module in modules:
            # Only the exact type: a subclass may have a `forward` of its own.
            if type(module) is nn.Sequential and "forward" not in vars(module):
                steps, parts = _steps(module)
                if parts:
                    convolutions = [step.convolution for step in steps if isinstance(step, _Folded)]
                    module.forward = Forward(module, _chain(steps), parts, convolutions)
                    changed.append(module)
                    taken.update(map(id, parts))
            elif not small_only and _is_affine(module) and id(module) not in taken:
                module.forward = Forward(module, _alone(module), (module,))
                changed.append(module)
        yield model
    finally:
        for module in changed:
            vars(module).pop("forward", None)


def _is_large(module):
    weights = [weight for weight in module._parameters.values() if weight is not None and not is_lazy(weight)]
    return any(weight.numel() > N_SMALL for weight in weights)


def _steps(sequence):
    """Return the maps of a sequence after folding, and the modules whose weights these maps contain."""
    modules, steps, parts, i = list(sequence), [], [], 0
    while i < len(modules):
        first, second, third = (modules[i : i + 3] + [None, None])[:3]
        if is_plain(first, nn.Conv2d) and first.padding_mode == "zeros" and _is_affine(second, first.weight.dtype):
            activated = is_plain(third, nn.ReLU)
            steps.append(_Folded(first, second, third if activated else nn.Identity()))
            parts += [first, second]
            i += 2 + activated
        elif _is_affine(first) and is_plain(second, nn.ReLU):
            steps.append(_activation(first, second))
            parts.append(first)
            i += 2
        else:
            steps.append(first)
            i += 1
    return steps, parts


def _is_affine(module, dtype=None):
    if not is_plain(module, nn.BatchNorm2d) or module.training or module.running_mean is None:
        return False
    return module.running_mean.dtype in (DTYPES if dtype is None else {dtype}.intersection(DTYPES))


def _affine(norm):
    a = torch.rsqrt(norm.running_var + norm.eps)
    a = a if norm.weight is None else a * norm.weight
    b = -norm.running_mean * a
    return a.detach(), (b if norm.bias is None else b + norm.bias).detach()


class _Folded:
    """A convolution, a normalisation and, if given, a ReLU in one."""

    def __init__(self, convolution, norm, relu):
        a, b = _affine(norm)
        # Multiplication by `a` keeps the memory format of the weights.
        weight = (convolution.weight * a.view(-1, 1, 1, 1)).detach()
        bias = b if convolution.bias is None else (b + a * convolution.bias).detach()
        self.modules, self.is_activated = (convolution, norm, relu), isinstance(relu, nn.ReLU)
        self.convolution = Convolution(convolution, weight, bias)

    def __call__(self, x):
        convolution, norm, relu = self.modules
        # An inner `attacked` block may use the statistics of the batch.
        if norm.training:
            return relu(norm(convolution(x)))
        x = self.convolution(x)
        # In place: nothing else sees the result of the convolution, and its gradient does not need it.
        return x.relu_() if self.is_activated else x


def _activation(norm, relu):
    a, b = (values.view(1, -1, 1, 1) for values in _affine(norm))

    def step(x):
        # Under autocast the normalisation accepts mixed dtypes, the affine map does not.
        mixed = x.dtype != a.dtype or x.dim() != 4
        return relu(norm(x)) if mixed or norm.training else _AffineReLU.apply(x, a, b)

    return step


def _alone(norm):
    a, b = (values.view(1, -1, 1, 1) for values in _affine(norm))
    own = norm.forward

    def step(x):
        mixed = x.dtype != a.dtype or x.dim() != 4
        return own(x) if mixed else torch.addcmul(b, x, a)

    return step


class _AffineReLU(torch.autograd.Function):
    """max(a x + b, 0); the gradient g becomes a g where the result is positive."""

    @staticmethod
    def forward(ctx, x, a, b):
        y = torch.addcmul(b, x, a).relu_()
        ctx.save_for_backward(y, a)
        return y

    @staticmethod
    def backward(ctx, g):
        y, a = ctx.saved_tensors
        # Made of differentiable operations: a defence may itself compute gradients.
        return torch.ops.aten.threshold_backward(g, y, 0).mul_(a), None, None


def _chain(steps):
    def forward(x):
        for step in steps:
            x = step(x)
        return x

    return forward
