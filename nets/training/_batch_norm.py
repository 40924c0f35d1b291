"""Batch normalisation with a second derivative that costs two passes over memory.

    y = w h + b,  h = (x - mean) r,  r = (var + eps)^(-1/2)
    gx = w r P g,  P g = g - <g, 1> / n - h <g, h> / n

<., .> sums over images and pixels, n of them. P is its own adjoint. For a cotangent v of gx, with dr = -r^2 <h, dx> / n
and dh = r P dx,

    d/dg = w r P v
    d/dx = -w r^2 / n (q h + P(v <g, h> + g <v, h>)),  q = <v, g> - <v, 1> <g, 1> / n - <v, h> <g, h> / n
    d/dw = r q

PyTorch's formula for the second derivative returns contiguous images among channels-last ones, and operations between
the two are many times as slow: on a CPU, two thirds of the time of a second derivative of ResNet-20.
"""

import inspect

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["TwiceDifferentiable"]

SIGNATURE = inspect.signature(functional.batch_norm)


class TwiceDifferentiable(TorchFunctionMode):
    """Within it, batch normalisation in training mode on a CPU is that of this module, also in what is recorded."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            given = SIGNATURE.bind(*args, **kwargs)
            given.apply_defaults()
            x, mean, var, weight, bias, training, momentum, eps = given.args
            if training and weight is not None and bias is not None and x.device.type == "cpu" and x.dim() > 1:
                # PyTorch's refusals, of one value per channel for example.
                functional._verify_batch_size(x.size())
                return _Normalise.apply(x, weight, bias, mean, var, momentum, eps)
        return func(*args, **kwargs)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, momentum, eps):
        y, mean, r = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, r)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx, g):
        return (*_Backward.apply(g, *ctx.saved_tensors, ctx.eps), None, None, None, None)


class _Backward(torch.autograd.Function):
    """(g, x, w) -> (gx, gw, gb) = (w r P g, <g, h>, <g, 1>), with the mean and r of x."""

    @staticmethod
    def forward(ctx, g, x, weight, mean, r, eps):
        ctx.save_for_backward(g, x, weight, mean, r)
        ctx.set_materialize_grads(False)
        mask = (True, True, True)
        return torch.ops.aten.native_batch_norm_backward(g, x, weight, None, None, mean, r, True, eps, mask)

    @staticmethod
    def backward(ctx, v, v_weight, v_bias):
        g, x, weight, mean, r = ctx.saved_tensors
        n = x.numel() / x.shape[1]
        over = [0, *range(2, x.dim())]

        def total(images):
            return images.sum(over, dtype=r.dtype)

        def per_channel(numbers):
            return numbers.to(x.dtype).view(-1, *(1,) * (x.dim() - 2))

        def combine(constant, *terms):
            """The sum of a constant and of factors times images, each constant and factor one number per channel."""
            result = per_channel(constant)
            for factor, images in terms:
                result = torch.addcmul(result, per_channel(factor), images)
            return result

        centred = x - per_channel(mean)
        sum_g, along_g = total(g), total(g * centred) * r
        to_g = to_x = to_weight = None
        if v is not None:
            sum_v, along_v = total(v), total(v * centred) * r
            q = total(v * g) - sum_v * sum_g / n - along_v * along_g / n
            to_g = combine(-weight * r * sum_v / n, (weight * r, v), (-weight * r * along_v / n * r, centred))
            k = -weight * r**2 / n
            to_x = combine(
                -k * (sum_v * along_g + sum_g * along_v) / n,
                (k * along_g, v),
                (k * along_v, g),
                (k * (q - 2 * along_v * along_g / n) * r, centred),
            )
            to_weight = r * q
        if v_weight is not None:
            # <g, h>: to g by h itself, to x by h.
            to_g = _add(to_g, combine(0 * r, (v_weight * r, centred)))
            k = v_weight * r
            to_x = _add(to_x, combine(-k * sum_g / n, (k, g), (-k * along_g / n * r, centred)))
        if v_bias is not None:
            to_g = _add(to_g, combine(v_bias).expand_as(g))
        return to_g, to_x, to_weight, None, None, None


def _add(a, b):
    return b if a is None else a + b
