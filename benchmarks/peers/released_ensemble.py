"""The ensemble as the paper's released code designs it, from its description: what `ensemble.py` times against.

A Python loop over pre-activation ResNet-20s in NCHW single precision, noise `coef * torch.std(out) *
torch.randn_like(out)` over the whole batch tensor, attack steps with batch normalisation in training mode and
parameters that require gradients.
"""

import torch
from torch import nn


class Block(nn.Module):
    """y + coef std(y) z, y = shortcut + conv(relu(bn(conv(relu(bn(x))))))."""

    def __init__(self, width, new_width, stride, coef):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(new_width)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(width, new_width, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(new_width, new_width, 3, padding=1, bias=False)
        self.projection = nn.Conv2d(width, new_width, 1, stride, bias=False) if width != new_width else None
        self.coef = coef

    def forward(self, x):
        active = self.relu(self.bn1(x))
        y = self.conv2(self.relu(self.bn2(self.conv1(active))))
        y += x if self.projection is None else self.projection(active)
        return y + self.coef * torch.std(y) * torch.randn_like(y)


class ResNet20(nn.Module):
    """Three stages of three blocks."""

    def __init__(self, coef):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*width, coef) for width in widths))
        self.bn, self.relu, self.pool = nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.AvgPool2d(8)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(self.pool(self.relu(self.bn(self.blocks(self.stem(x))))).flatten(1))


class Ensemble(nn.Module):
    """Mean of the members' logits."""

    def __init__(self, n_members, coef=0.1):
        super().__init__()
        self.members = nn.ModuleList(ResNet20(coef) for _ in range(n_members))

    def forward(self, x):
        total = 0.0
        for member in self.members:
            total = total + member(x)
        return total / len(self.members)
