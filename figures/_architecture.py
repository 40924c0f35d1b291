"""A built network as boxes: its modules in the order in which they run, with inputs, outputs and parameters."""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import nets
from bridge import FeynmanKacMean, NoisyResidual, noise_off

# CIFAR's images.
SIDE = 32
LABELS = {
    nn.BatchNorm2d: "batch norm", nn.ReLU: "ReLU", nn.AdaptiveAvgPool2d: "average pool", nn.Flatten: "flatten",
    nn.Linear: "linear", nn.Identity: "identity",
}  # fmt: skip


class Box(NamedTuple):
    """A module, or what a block does besides its modules; `role` selects the drawing style."""

    role: str
    label: str
    input_shape: str
    output_shape: str
    n_parameters: int
    noise: str = ""
    coef: float = 0.0
    n_repeats: int = 1


def build(name, seed):
    """The network and an all-zero input image: only the shapes matter."""
    model = nets.build(name, seed=seed).eval()
    return model, torch.zeros(1, len(model.mean), SIDE, SIDE)


def model_option(default):
    """The option --model of a figure of networks, for `make_main`."""
    return {"model": {"default": default, "help": f"network to draw (default {default})"}}


def count(module):
    """Number of learned parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def parts(module):
    """The residual blocks, and the layers outside of them."""
    children = list(module.children())
    if isinstance(module, NoisyResidual) or not children:
        return [module]
    return [part for child in children for part in parts(child)]


def members(net, weight=1.0):
    """The networks of a mean, or of a mean of means, with their weights."""
    if not isinstance(net, FeynmanKacMean):
        return [(net, weight)]
    pairs = zip(net.members, net.weights.tolist(), strict=True)
    return [found for member, w in pairs for found in members(member, weight * w)]


def trace(model, modules, x):
    """Run the model on x, and return (module, box) for each of the modules in the order in which they ran."""
    found = []

    def note(module, inputs, output):
        found.append((module, _box(module, inputs[0], output)))

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        # The shapes do not depend on the noise, and no generator is touched without it.
        with torch.no_grad(), noise_off(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _box(module, x, y):
    role = "layer"
    if isinstance(module, NoisyResidual):
        role = "step" if module.is_time_step else "change"
    noisy = role != "layer" and module.noise is not None and module.coef > 0
    law = (module.noise, module.coef) if noisy else ("", 0.0)
    return Box(role, label(module), shape(x), shape(y), count(module), *law)


def label(module):
    """Name of a module in its box."""
    if isinstance(module, NoisyResidual):
        return "residual mapping" if module.is_time_step else "residual mapping, projected"
    if isinstance(module, nn.Conv2d):
        stride = "" if module.stride == (1, 1) else f", stride {module.stride[0]}"
        return f"convolution {'×'.join(map(str, module.kernel_size))}{stride}"
    return LABELS.get(type(module), type(module).__name__)


def shape(x):
    """Shape of one image's part of a tensor: "16×32×32"."""
    return "×".join(map(str, x.shape[1:]))


def inside(model, block, x):
    """The boxes of one residual block: branch, shortcut, sum and, where there is one, noise."""
    branch = [module for module in block.branch.modules() if not list(module.children())]
    boxes = []
    for module, box in trace(model, [block, *branch, block.shortcut], x):
        if module is block:
            whole = box
        else:
            boxes.append(box._replace(role="shortcut" if module is block.shortcut else "branch"))
    boxes.sort(key=lambda box: box.role != "branch")
    boxes.append(Box("sum", "sum", whole.output_shape, whole.output_shape, 0))
    if whole.noise:
        boxes.append(Box("noise", "noise", whole.output_shape, whole.output_shape, 0, whole.noise, whole.coef))
    return boxes


def grouped(boxes):
    """Merge consecutive equal boxes into one, with the number of repeats."""
    groups = ((box, len(list(run))) for box, run in itertools.groupby(boxes))
    return [box._replace(n_repeats=n) for box, n in groups]


def arrays(boxes, prefix=""):
    """Boxes as arrays, for the file."""
    return {prefix + key: np.array([getattr(box, key) for box in boxes]) for key in Box._fields}


def from_arrays(data, prefix=""):
    """Boxes from arrays, the inverse of the above."""
    columns = (data[prefix + key].tolist() for key in Box._fields)
    return [Box(*row) for row in zip(*columns, strict=True)]
