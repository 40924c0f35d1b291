"""A convolution with fixed weights, laid out once per attack in the order in which its products are cheapest.

    y = W x + b,   grad_x <g, W x> = W^T g

With n x n images, k x k kernels and stride s, W and its adjoint W^T are computed in one of these ways:

- **pointwise**, k = 1 and weights outnumber pixels or s > 1: a product for each of the pixels that count
- **dense**, n^2 <= 2 k^2: one product with the whole matrix W, in which many kernels would multiply padding
- **shuffled**, s > 1 and at most four channels (the first layer): W^T is a convolution of stride 1 and of kernel
  ceil(k / s) for each of the s^2 phases of the pixels, which are interleaved afterwards
- **packed**, weights outnumber pixels: W^T at s = 1 is a convolution with flipped weights, and both are packed once
- otherwise PyTorch's own
"""

from math import ceil

import torch
from torch.nn import functional

# An adjoint by phases computes few channels at once; with more of them PyTorch's own is as fast.
MOST_CHANNELS = 4

# Internal operations that inductor calls as well. In a PyTorch without them, weights are laid out in every pass.
_CAN_PACK = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and hasattr(
    torch.ops.mkldnn, "_convolution_pointwise"
)
_CAN_MULTIPLY = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")

# A dense matrix: its columns per entry of a kernel, and its entries per weight.
MOST_COLUMNS, MOST_COPIES = 2 if _CAN_MULTIPLY else 0.5, 8


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
        make = self._way(x)
        if make is None:
            return functional.conv2d(x, self._ordered, self.bias, *self.options)
        # Only packed weights depend on the number of images.
        key = x.shape if make is _packed else x.shape[1:]
        if self._maps is None or self._maps[0] != (make, key):
            self._maps = (make, key), make(self._ordered, self.bias, *self.options[:2], x.shape)
        return _Affine.apply(x, self._maps[1])

    def _way(self, x):
        """Return the function that makes the maps for `_Affine`, or None for PyTorch's own convolution."""
        stride, padding, dilation, groups = self.options
        if (
            x.dim() != 4
            or x.dtype != torch.float32
            or x.numel() == 0
            or (groups, dilation) != (1, (1, 1))
            or isinstance(padding, str)
            or torch.is_autocast_enabled("cpu")
        ):
            return None
        kernel = self.weight.shape[2:]
        sizes = _sizes(x.shape[2:], kernel, stride, padding)
        n_kernel, n_in, n_out = kernel.numel(), x.shape[2:].numel(), sizes[0] * sizes[1]
        if x.shape[1] != self.weight.shape[1] or min(sizes) < 1:
            return None
        is_heavy = self.weight.numel() >= x.numel()
        if n_kernel == 1 and not any(padding) and (is_heavy or max(stride) > 1):
            return _pointwise
        if n_in <= MOST_COLUMNS * n_kernel and n_in * n_out <= MOST_COPIES * n_kernel:
            return _dense
        if max(stride) > 1 and x.shape[1] <= MOST_CHANNELS:
            return _shuffled
        return _packed if is_heavy and _CAN_PACK else None


def _sizes(sizes, kernel, stride, padding):
    return [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True)]


def _dense(weight, bias, stride, padding, shape):
    """Return the maps by the matrix of shape (h' w' channels', h w channels)."""
    kernel, image = weight.shape[2:], shape[2:]
    sizes = _sizes(image, kernel, stride, padding)
    matrix = weight.new_zeros(*sizes, weight.shape[0], *image, weight.shape[1])
    kernels = weight.permute(0, 2, 3, 1)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            # The kernel's first row lies on row i s - p of the image.
            starts = [s * at - p for s, at, p in zip(stride, (i, j), padding, strict=True)]
            pixels = tuple(slice(max(a, 0), max(a + k, 0)) for a, k in zip(starts, kernel, strict=True))
            rows = tuple(slice(max(-a, 0), max(n - a, 0)) for a, n in zip(starts, image, strict=True))
            matrix[(i, j, slice(None), *pixels)] = kernels[(slice(None), *rows)]
    matrix = matrix.flatten(3).flatten(0, 2)
    forward, backward = _product(matrix), _product(matrix.T.contiguous())
    bias = None if bias is None else bias.repeat(sizes[0] * sizes[1])

    def rows_of(x):
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)

    def images_of(rows, sizes):
        return rows.view(len(rows), *sizes, -1).permute(0, 3, 1, 2)

    def linear(x, bias=None):
        return images_of(forward(rows_of(x), bias), sizes)

    return lambda x: linear(x, bias), lambda g: images_of(backward(rows_of(g), None), image), linear


def _product(matrix):
    """Return (rows, bias) -> rows @ matrix.T + bias, with a matrix that is packed once.

    By oneDNN, as convolutions: MKL's product uses half of what a processor of another maker can do.
    """
    if not _CAN_MULTIPLY:
        return lambda rows, bias: functional.linear(rows, matrix, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix)
    return lambda rows, bias: torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")


def _pointwise(weight, bias, stride, padding, shape):
    """Return the maps of a 1 x 1 kernel without padding, by rows of channels."""
    forward, backward = _product(weight.flatten(1)), _product(weight.flatten(1).T.contiguous())
    counts = (slice(None), *(slice(None, None, s) for s in stride))

    def images_of(product, images, bias=None):
        # (n, h, w, channels)
        return product(images.flatten(0, 2), bias).view(*images.shape[:3], -1)

    def linear(x, bias=None):
        return images_of(forward, x.permute(0, 2, 3, 1)[counts], bias).permute(0, 3, 1, 2)

    def adjoint(g):
        images = images_of(backward, g.permute(0, 2, 3, 1))
        if max(stride) > 1:
            x = g.new_zeros(len(g), *shape[2:], shape[1])
            x[counts] = images
            images = x
        return images.permute(0, 3, 1, 2)

    return lambda x: linear(x, bias), adjoint, linear


def _shuffled(weight, bias, stride, padding, shape):
    """Return the maps with an adjoint by the phases of the pixels.

    Pixel s q + r - p has a part of output q - j by the kernel's entry s j + r: for each phase r in 0..s - 1 a
    convolution over q, whose kernel has the entries of phase r in reverse order.
    """
    n_out, n_in, *kernel = weight.shape
    taps = [ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
    phases = weight.new_zeros(n_out, n_in, taps[0] * stride[0], taps[1] * stride[1])
    phases[..., : kernel[0], : kernel[1]] = weight
    # (channels', channels, tap, phase, tap, phase) -> (phase, phase, channels; channels'; tap; tap)
    phases = phases.view(n_out, n_in, taps[0], stride[0], taps[1], stride[1]).permute(3, 5, 1, 0, 2, 4).flatten(0, 2)
    phases = phases.flip(2, 3).contiguous(memory_format=torch.channels_last)

    def adjoint(g):
        parts = functional.conv2d(g, phases, padding=[n - 1 for n in taps]).permute(0, 2, 3, 1)
        n, rows, columns, _ = parts.shape
        x = parts.reshape(n, rows, columns, *stride, n_in).transpose(2, 3)
        x = x.reshape(n, rows * stride[0], columns * stride[1], n_in).permute(0, 3, 1, 2)
        # Negative at the end where the last kernel reaches into the padding, positive where no kernel reaches.
        (top, left), (h, w) = padding, shape[2:]
        return functional.pad(x, (-left, w + left - x.shape[3], -top, h + top - x.shape[2]))

    def linear(x, bias=None):
        return functional.conv2d(x, weight, bias, stride, padding)

    return lambda x: linear(x, bias), adjoint, linear


def _packed(weight, bias, stride, padding, shape):
    """Return the maps by weights that are packed once; the adjoint is PyTorch's unless the stride is 1."""
    kernel = weight.shape[2:]
    pads = [k - 1 - p for p, k in zip(padding, kernel, strict=True)]
    forward = _pack(weight, stride, padding, shape)
    if stride == (1, 1) and min(pads) >= 0:
        flipped = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        size = shape[0], weight.shape[0], *_sizes(shape[2:], kernel, stride, padding)
        backward = _pack(flipped, stride, pads, size)
    else:
        backward = None

    def run(packed, x, bias, pads):
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, packed, bias, pads, stride, (1, 1), 1, "none", [], "")

    def adjoint(g):
        if backward is not None:
            return run(backward, g, None, pads)
        x = torch.empty(shape, dtype=g.dtype, memory_format=torch.channels_last)
        mask = [True, False, False]
        return torch.ops.aten.convolution_backward(g, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, mask)[
            0
        ]

    return lambda x: run(forward, x, bias, padding), adjoint, lambda x: run(forward, x, None, padding)


def _pack(weight, stride, padding, shape):
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, stride, (1, 1), 1, shape)


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
