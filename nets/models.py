"""The networks of the paper: pre-activation ResNets and wide ResNets with injected noise, and their ensembles.

    en5_resnet20 = mean over 5 members of ResNet-20, each residual mapping x + F(x) + a sqrt(Var(x + F(x))) N(0, I)

Every block between two stage changes is a `bridge.NoisyResidual`, a step of the Euler-Maruyama method. Models map
images in [0, 1] to logits; normalisation is their first layer.
"""

import math
import re
from typing import NamedTuple

import torch
from torch import nn

from bridge import FeynmanKacMean, NoisyResidual, checks

__all__ = ["Architecture", "ImageClassifier", "ResNet", "architecture", "build"]

# Mean and standard deviation of each colour of CIFAR-10's training images.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
STEM_WIDTH = 16

# With n blocks per stage, the depth counts the convolutions of the residual mappings, the stem and the linear layer: 6
# n + 2. In WRN-34-10 it counts the three projections instead of the linear layer, as its authors do: 6 n + 4. WRN-14-2
# has 6 n + 2, as its 0.69 M parameters show.
N_BLOCKS = {
    "resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18, "wrn14_2": 2, "wrn34_10": 5,
}  # fmt: skip
NAME = re.compile(r"(?:en(?P<n_members>[1-9]\d*)_)?(?P<base>[a-z]+\d+(?:_\d+)?)")


class Architecture(NamedTuple):
    """Sizes of a network.

    Attributes
    ----------
    n_blocks : int
        Number of blocks per stage; there are three stages.
    widths : tuple of int
        Number of channels of each stage.
    """

    n_blocks: int
    widths: tuple


def architecture(base: str) -> Architecture:
    """Look up the sizes of a network of the paper.

    Parameters
    ----------
    base : str
        "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "wrn14_2" or "wrn34_10".

    Returns
    -------
    Architecture

    Raises
    ------
    ValueError
        If there is no such network (raised by a helper).
    """
    checks.one_of("base", base, N_BLOCKS)
    factor = int(base.rpartition("_")[2]) if base.startswith("wrn") else 1
    return Architecture(N_BLOCKS[base], tuple(factor * width for width in (16, 32, 64)))


class ResNet(nn.Module):
    """Pre-activation ResNet of three stages, with noise after every residual mapping.

    Parameters
    ----------
    sizes : Architecture
        Number of blocks per stage, and of channels of each stage.
    n_classes : int, default=10
        Number of classes.
    n_channels : int, default=3
        Number of channels of the images.
    noise, coef, std_over : optional
        Parameters of `bridge.NoisyResidual`, with scale="std".

    References
    ----------
    .. [1] He et al. 2016, Identity mappings in deep residual networks.
    .. [2] Zagoruyko & Komodakis 2016, Wide residual networks.
    """

    def __init__(
        self, sizes: Architecture, n_classes: int = 10, *, n_channels=3, noise="gaussian", coef=0.1, std_over="batch"
    ):
        super().__init__()
        options = {"noise": noise, "coef": coef, "scale": "std", "std_over": std_over}
        self.stem = _convolution(n_channels, STEM_WIDTH, 3)
        width, stages = STEM_WIDTH, []
        for i, new_width in enumerate(sizes.widths):
            stride = 1 if i == 0 else 2
            changes = stride != 1 or new_width != width
            first = _stage_change(width, new_width, stride, options) if changes else _time_step(width, options)
            stages.append(nn.Sequential(first, *(_time_step(new_width, options) for _ in range(sizes.n_blocks - 1))))
            width = new_width
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(
            *_activation(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n_images, n_classes) of images (n_images, n_channels, height, width)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


class ImageClassifier(nn.Module):
    """A classifier of images in [0, 1], which it normalises.

    Parameters
    ----------
    net : Module
        Network of normalised images.
    mean, std : sequence of float
        Mean and standard deviation of each channel; std > 0.

    Raises
    ------
    ValueError
        If mean and std are empty or differ in length, a number is not finite, or a std is not positive (raised by a
        helper).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, mean=CIFAR_MEAN, std=CIFAR_STD):
        super().__init__()
        _check_statistics(mean, std)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n_images, n_classes) of images (n_images, n_channels, height, width)."""
        if x.dim() != 4 or x.shape[1] != len(self.mean):
            raise ValueError(f"x must have shape (n_images, {len(self.mean)}, height, width), got {tuple(x.shape)}")
        if x.requires_grad:
            # For a contiguous gradient whatever the memory order of the weights: attacks of others take views of it.
            x = x.flatten(1).unflatten(1, x.shape[1:])
        return self.net((x - self.mean) / self.std)


def build(
    name: str,
    n_classes: int = 10,
    *,
    coef: float = 0.1,
    noise="gaussian",
    std_over: str = "batch",
    weights=None,
    nonnegative=False,
    mean=CIFAR_MEAN,
    std=CIFAR_STD,
    seed: int | None = None,
) -> ImageClassifier:
    """Build a network of the paper, with random weights, in channels-last memory order.

    Parameters
    ----------
    name : str
        "resnet20" is one network without noise, "en5_resnet20" the ensemble of 5 with noise. Names joined by "+" are
        the mean of several networks ("en1_resnet20+en1_resnet32", section 5; "en2_resnet20+en5_resnet20", section 4.2).
        For the bases see `architecture`.
    n_classes : int, default=10
        Number of classes.
    coef : float, default=0.1
        The paper's a: noise of standard deviation a sqrt(Var(x + F(x))).
    noise : {"gaussian", "laplace"} or None
        Distribution of the noise in networks whose name begins with "en".
    std_over : {"batch", "sample"}
        Whether Var is taken over the batch or over each image, see `bridge.NoisyResidual`.
    weights, nonnegative : optional
        Weights of the terms of a sum, see `bridge.FeynmanKacMean`.
    mean, std : sequence of float
        Mean and standard deviation of each channel, for normalisation; their length is the number of channels.
    seed : int, optional
        Seed of the random weights, >= 0, which leaves PyTorch's own generators unchanged. By default the weights are
        drawn from these.

    Returns
    -------
    ImageClassifier
        `net` is a `FeynmanKacMean` for every name that begins with "en", and for sums; else a `ResNet`.

    Raises
    ------
    ValueError
        If the name is unknown, weights are given without a sum, or an option is out of range.

    Examples
    --------
    >>> import torch
    >>> build("en2_resnet20", n_classes=7, seed=0)(torch.rand(3, 3, 32, 32)).shape
    torch.Size([3, 7])
    """
    n_classes = checks.integer("n_classes", n_classes, at_least=2)
    _check_statistics(mean, std)
    terms = [NAME.fullmatch(term.strip()) for term in str(name).split("+")]
    if not all(match and match["base"] in N_BLOCKS for match in terms):
        known = ", ".join(N_BLOCKS)
        raise ValueError(f'name must be BASE, enK_BASE or a sum of them by "+", BASE of {known}; got name={name!r}')
    if len(terms) == 1 and weights is not None:
        raise ValueError(f"weights must be None for name={name!r}: only a sum has weights")

    def member(match):
        law = noise if match["n_members"] else None
        sizes = architecture(match["base"])
        return ResNet(sizes, n_classes, n_channels=len(mean), noise=law, coef=coef, std_over=std_over)

    def term(match):
        if not match["n_members"]:
            return member(match)
        return FeynmanKacMean([member(match) for _ in range(int(match["n_members"]))])

    seed = None if seed is None else checks.integer("seed", seed, at_least=0)
    # On the CPU, whatever the default device is, so that a seed gives the same network everywhere.
    with torch.device("cpu"), torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            # Not torch.manual_seed, which would seed the generators of all devices.
            torch.default_generator.manual_seed(seed)
        nets = [term(match) for match in terms]
        net = nets[0] if len(nets) == 1 else FeynmanKacMean(nets, weights=weights, nonnegative=nonnegative)
        _initialise(net)
    return ImageClassifier(net, mean, std).to(memory_format=torch.channels_last)


def _check_statistics(mean, std):
    if not 0 < len(mean) == len(std) or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"mean and std must be finite and of equal length, with std > 0, got {mean} and {std}")


def _initialise(net):
    """He et al. 2015: convolutions with variance 2 / (k**2 n_out), as in the released code."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[0, 0].numel() * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))


def _convolution(width, new_width, size, stride=1):
    return nn.Conv2d(width, new_width, size, stride, padding=size // 2, bias=False)


def _activation(width):
    return nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _time_step(width, options):
    """A block x + F(x) + noise, F = conv(relu(bn(conv(relu(bn(x)))))) (paper: Figure 3(a))."""
    branch = nn.Sequential(
        *_activation(width), _convolution(width, width, 3), *_activation(width), _convolution(width, width, 3)
    )
    return NoisyResidual(branch, **options)


def _stage_change(width, new_width, stride, options):
    """A stage change, not a time step: P h + F(h) + noise with h = relu(bn(x)) and a projection P."""
    branch = nn.Sequential(
        _convolution(width, new_width, 3, stride), *_activation(new_width), _convolution(new_width, new_width, 3)
    )
    return nn.Sequential(
        *_activation(width), NoisyResidual(branch, shortcut=_convolution(width, new_width, 1, stride), **options)
    )
