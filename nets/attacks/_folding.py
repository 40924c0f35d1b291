"""Batch normalisation as what it is in evaluation mode: an affine map, which its neighbours can take over.

    bn(x) = a x + b,  a = weight / sqrt(running_var + eps),  b = bias - a running_mean        (per channel)

    bn(conv(x)) = conv(x) with weights a w and bias b;      relu(bn(x)) in one step, which keeps its result alone

The gradient of an attack asks for no statistics, sums or inputs of the normalisation, and these are a fifth of its
time. The results are those of the model up to rounding.
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional

__all__ = ["folded", "is_compiled"]

# In half precision the folded numbers would be rounded where the originals are not.
DTYPES = (torch.float32, torch.float64)


@contextlib.contextmanager
def folded(model):
    """Fold the batch normalisations of a network's `Sequential` parts, for the length of a `with` block.

    Within `torch.nn.Sequential`, a convolution followed by a normalisation becomes one convolution, and a
    normalisation followed by a ReLU one function of two passes over memory forward and two backward. Everything else
    is left as it is: normalisations of the batch, those whose parameters ask for a gradient, other modules, modules
    with hooks, compiled models (the compiler does as much) and `DataParallel`.

    Parameters
    ----------
    model : Module
        In evaluation mode; its weights must not change inside the block.

    Yields
    ------
    Module
        The model.
    """
    changed = []
    try:
        if not any(is_compiled(module) or isinstance(module, nn.DataParallel) for module in model.modules()):
            for module in model.modules():
                # An exact type: what subclasses do in `forward` is theirs.
                if type(module) is nn.Sequential and "forward" not in vars(module) and (steps := _steps(module)):
                    module.forward = _chain(steps)
                    changed.append(module)
        yield model
    finally:
        for module in changed:
            del module.forward


def is_compiled(module):
    """Tell whether `torch.compile` or `Module.compile` made this module.

    Parameters
    ----------
    module : Module
        Itself, not the modules in it.

    Returns
    -------
    bool
    """
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _steps(sequence):
    """The sequence's maps with what can be folded folded; None where nothing can."""
    modules, steps, i = list(sequence), [], 0
    while i < len(modules):
        first, second, third = (modules[i : i + 3] + [None, None])[:3]
        if _is_plain(first, nn.Conv2d) and first.padding_mode == "zeros" and _is_affine(second, first.weight.dtype):
            activated = _is_plain(third, nn.ReLU)
            steps.append(_convolution(first, second, third if activated else nn.Identity()))
            i += 2 + activated
        elif _is_affine(first) and _is_plain(second, nn.ReLU):
            steps.append(_activation(first, second))
            i += 2
        else:
            steps.append(first)
            i += 1
    return steps if len(steps) < len(modules) else None


def _is_plain(module, kind):
    """Of exactly this type, without hooks, and frozen."""
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))
        and not module._backward_pre_hooks
        and not any(parameter.requires_grad for parameter in module.parameters())
    )


def _is_affine(module, dtype=None):
    if not _is_plain(module, nn.BatchNorm2d) or module.training or module.running_mean is None:
        return False
    return module.running_mean.dtype in (DTYPES if dtype is None else {dtype}.intersection(DTYPES))


def _affine(norm):
    a = torch.rsqrt(norm.running_var + norm.eps)
    a = a if norm.weight is None else a * norm.weight
    b = -norm.running_mean * a
    return a.detach(), (b if norm.bias is None else b + norm.bias).detach()


def _convolution(convolution, norm, relu):
    a, b = _affine(norm)
    # `*` keeps the weights' order in memory.
    weight = (convolution.weight * a.view(-1, 1, 1, 1)).detach()
    bias = b if convolution.bias is None else (b + a * convolution.bias).detach()
    options = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    activated = isinstance(relu, nn.ReLU)

    def step(x):
        # Another block inside this one may have asked for the statistics of the batch.
        if norm.training:
            return relu(norm(convolution(x)))
        x = functional.conv2d(x, weight, bias, *options)
        # In place: nothing else sees the result of the convolution, and its gradient does not need it.
        return x.relu_() if activated else x

    return step


def _activation(norm, relu):
    a, b = (values.view(1, -1, 1, 1) for values in _affine(norm))

    def step(x):
        # Under autocast the normalisation takes mixed types, and the affine map does not.
        mixed = x.dtype != a.dtype or x.dim() != 4
        return relu(norm(x)) if mixed or norm.training else _AffineReLU.apply(x, a, b)

    return step


class _AffineReLU(torch.autograd.Function):
    """max(a x + b, 0); the gradient g becomes a g where the result is positive."""

    @staticmethod
    def forward(ctx, x, a, b):
        y = torch.addcmul(b, x, a).relu_()
        ctx.save_for_backward(y, a)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        y, a = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(g, y, 0).mul_(a), None, None


def _chain(steps):
    def forward(x):
        for step in steps:
            x = step(x)
        return x

    return forward
