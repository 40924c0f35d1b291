"""Networks as their owners hand them over: NCHW, with weights that require gradients.

ResNet-20 as one writes it down, pre-activation blocks in the order of the released code, whose modules are registered
in the order of `nets.build("resnet20")`, so that numbers can be copied in sequence; and torchvision's ResNet-18.
"""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, new_width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, new_width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(new_width)
        self.conv2 = nn.Conv2d(new_width, new_width, 3, 1, 1, bias=False)
        self.projection = nn.Conv2d(width, new_width, 1, stride, bias=False) if stride > 1 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(out)
        out = self.conv2(self.relu(self.bn2(self.conv1(out))))
        out += shortcut
        return out


class ResNet20(nn.Module):
    """Images in [0, 1] of shape (n_images, 3, 32, 32) to logits of 10 classes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*sizes) for sizes in widths))
        self.bn = nn.BatchNorm2d(64)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        out = self.blocks(self.stem((x - self.mean) / self.std))
        return self.linear(nn.functional.relu(self.bn(out)).mean((2, 3)))


def make(name):
    """A network of 10 classes for images of 32 x 32, by name."""
    if name == "resnet20":
        return ResNet20()
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def load(model, fields):
    """Copy the numbers of the file into a model, in sequence, and put it into evaluation mode."""
    numbers = [torch.from_numpy(fields[name]) for name in sorted(fields) if name.startswith("weight")]
    state = model.state_dict()
    model.load_state_dict(dict(zip(state, numbers, strict=True)))
    return model.eval()


def problem(fields):
    """Images and labels of the file."""
    return torch.from_numpy(fields["x"]), torch.from_numpy(fields["y"])
