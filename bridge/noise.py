"""Noise of unit variance, drawn in the order in which a tensor lies in memory.

On a CPU the generators of PyTorch are vectorised over contiguous memory alone: for a channels-last tensor,
`torch.randn_like` takes several times as long as the same numbers drawn contiguously and seen through a permutation.
They also form one sequential stream: the numbers of `pde.feynman_kac.standard_normals`, functions of a key and a
counter, take a third of the time, on any number of threads. PyTorch's generator gives the key, so `torch.manual_seed`
fixes them too.
"""

import math

import torch

from bridge import checks
from pde.feynman_kac import standard_normals

__all__ = ["NOISES", "standard_noise"]

NOISES = ("gaussian", "laplace")


def standard_noise(like, noise="gaussian", generator=None):
    """Draw independent numbers of mean 0 and variance 1: a tensor like `like`, its order in memory included.

    gaussian: density exp(-z**2 / 2) / sqrt(2 pi);  laplace: density exp(-sqrt(2) |z|) / sqrt(2)
    """
    checks.one_of("noise", noise, NOISES)
    channels_last = not like.is_contiguous() and like.dim() == 4
    channels_last = channels_last and like.is_contiguous(memory_format=torch.channels_last)
    shape = [like.shape[i] for i in (0, 2, 3, 1)] if channels_last else like.shape
    options = {"dtype": like.dtype, "device": like.device, "generator": generator}
    drawn = _laplace(shape, options) if noise == "laplace" else _gaussian(shape, options)
    return drawn.permute(0, 3, 1, 2) if channels_last else drawn


def _gaussian(shape, options):
    # Double precision needs more digits, and torch.compile operations that it can trace.
    if options["device"].type != "cpu" or options["dtype"] == torch.float64 or torch.compiler.is_compiling():
        return torch.randn(shape, **options)
    key = torch.randint(2**32, (2,), generator=options["generator"]).tolist()
    drawn = standard_normals(math.prod(shape), key, n_threads=torch.get_num_threads())
    return torch.from_numpy(drawn).view(shape).to(options["dtype"])


def _laplace(shape, options):
    """By the inverse of the distribution function: two cheap passes, where `exponential_` takes five times as long."""
    # In half precision the uniform numbers would be too coarse for the tails.
    wide = torch.promote_types(options["dtype"], torch.float32)
    side = torch.rand(shape, **(options | {"dtype": wide})).mul_(2).sub_(1)
    # A uniform number of exactly 0 has side = -1, whose logarithm is infinite.
    tail = side.abs().clamp_(max=1 - torch.finfo(wide).eps).neg_().log1p_().mul_(-math.sqrt(0.5))
    return torch.copysign(tail, side, out=tail).to(options["dtype"])
