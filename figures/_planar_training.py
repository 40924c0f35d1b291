"""Many small EnResNets on the 2-torus trained at once: data, the networks as one, natural and adversarial training.

A row of networks is one network whose state has an axis for them: (n_networks, n_points, 2). The blocks are
`bridge.NoisyResidual`, with a sigma for each network.
"""

import math

import numpy as np
import torch
from torch import nn

from bridge import NoisyResidual, ResidualNetwork, TorusFeatures

__all__ = ["DATASETS", "Row", "attack", "draw_points", "train"]

# sin and cos of two modes in each direction.
N_MODES, HIDDEN, N_BLOCKS = 2, 16, 4
# Adam; the largest perturbation of adversarial training, and its steps.
STEP_SIZE, WEIGHT_DECAY, TRAIN_EPS, TRAIN_ITER = 0.02, 3e-3, 0.05, 3
BATCH = 128
DATASETS = ("moons", "spirals", "checkerboard")


def draw_points(name, n, rng):
    """Draw n points of two classes in the unit square: x (n, 2) and labels -1 or 1 (n,)."""
    y = np.where(np.arange(n) % 2, 1.0, -1.0)
    side = y > 0
    if name == "checkerboard":
        x = rng.uniform(size=(n, 2))
        # Squares of side 1/4, with a gap between the classes.
        cell = np.floor(4 * x)
        x = (cell + 0.1 + 0.8 * (4 * x - cell)) / 4
        odd = (cell.sum(axis=1) % 2).astype(bool)
        return x, np.where(odd, 1.0, -1.0)
    if name == "moons":
        angle = rng.uniform(0, np.pi, n)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x = np.where(side[:, None], [1.0, 0.5] - x, x) + 0.08 * rng.standard_normal((n, 2))
        return 0.5 + 0.27 * (x - [0.5, 0.25]), y
    radius = np.sqrt(rng.uniform(0.03, 1, n))
    angle = 2 * np.pi * radius + np.pi * side
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.03 * rng.standard_normal((n, 2))
    return 0.5 + 0.4 * x, y


class _Linear(nn.Module):
    """A linear layer for each network: (n_networks, n_points, n_in) to (n_networks, n_points, n_out)."""

    def __init__(self, n_networks, n_in, n_out, generator):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter((2 * torch.rand(n_networks, n_in, n_out, generator=generator) - 1) * bound)
        self.bias = nn.Parameter((2 * torch.rand(n_networks, 1, n_out, generator=generator) - 1) * bound)

    def forward(self, x):
        return torch.baddbmm(self.bias, x, self.weight)

    def single(self, index):
        """The layer of one network."""
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[2])
        with torch.no_grad():
            layer.weight.copy_(self.weight[index].T)
            layer.bias.copy_(self.bias[index, 0])
        return layer


class _Sigma(nn.Module):
    """The noise of each network: (n_networks, 1, 1)."""

    def __init__(self, sigmas):
        super().__init__()
        self.register_buffer("sigmas", torch.as_tensor(sigmas, dtype=torch.float32)[:, None, None])

    def forward(self, x):
        return self.sigmas


class Row(nn.Module):
    """Networks of one architecture and of these sigmas: points (n_networks, n, 2) to outputs (n_networks, n)."""

    def __init__(self, sigmas, generator):
        super().__init__()
        self.sigmas = [float(sigma) for sigma in sigmas]
        sigma, options = _Sigma(sigmas), {"dt": 1 / N_BLOCKS, "coef": 1.0}
        blocks = [NoisyResidual(self._perceptron(2, generator), scale=sigma, **options) for _ in range(N_BLOCKS)]
        self.net = ResidualNetwork(blocks, self._perceptron(1, generator))

    def _perceptron(self, n_out, generator):
        n, n_in = len(self.sigmas), 4 * N_MODES
        layers = _Linear(n, n_in, HIDDEN, generator), nn.Tanh(), _Linear(n, HIDDEN, n_out, generator)
        return nn.Sequential(TorusFeatures(N_MODES), *layers)

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def member(self, index):
        """A single network: a `ResidualNetwork` on points (n, 2), an equation for `problem_from_network`."""

        def single(perceptron):
            features, first, tanh, last = perceptron
            return nn.Sequential(features, first.single(index), tanh, last.single(index))

        sigma = self.sigmas[index]
        options = {"dt": 1 / N_BLOCKS, "coef": sigma, "scale": "additive", "noise": "gaussian" if sigma else None}
        blocks = [NoisyResidual(single(block.branch), **options) for block in self.net.blocks]
        return ResidualNetwork(blocks, nn.Sequential(single(self.net.output), nn.Flatten(0)))


def train(row, x, y, *, adversarial, n_iter, rng):
    """Minimise the logistic loss at one draw of the noise per step, as the paper does; adversarially after l2 PGD."""
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    optimiser = torch.optim.Adam(row.parameters(), lr=STEP_SIZE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_iter)
    for _ in range(n_iter):
        chosen = rng.choice(len(x), min(BATCH, len(x)), replace=False)
        seen, sign = x[chosen].expand(len(row.sigmas), -1, -1), y[chosen]
        if adversarial:
            seen = attack(row, seen, sign, TRAIN_EPS, TRAIN_ITER, 1, rng)
        optimiser.zero_grad()
        # Networks share no parameters, so the sum of their losses trains each by its own loss.
        nn.functional.softplus(-sign * row(seen)).mean(dim=1).sum().backward()
        optimiser.step()
        schedule.step()


def attack(row, x, y, eps, n_iter, n_eot, rng):
    """Move points x (n_networks, n, 2) by l2 PGD against the mean over n_eot draws, without clipping.

    x <- P(x - alpha y grad mean_j u_j(x) / |.|),  alpha = 2.5 eps / n_iter (Madry et al. 2018), from a random start
    """
    shape = (len(x), x.shape[1], 1)
    angle, radius = rng.uniform(0, 2 * math.pi, shape), eps * np.sqrt(rng.uniform(size=shape))
    delta = torch.tensor(radius * np.concatenate([np.cos(angle), np.sin(angle)], axis=2), dtype=x.dtype)
    for _ in range(n_iter):
        delta.requires_grad_()
        margin = y.repeat(n_eot) * row((x + delta).repeat(1, n_eot, 1))
        (gradient,) = torch.autograd.grad(margin.sum(), delta)
        step = gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1e-20)
        delta = delta.detach() - 2.5 * eps / n_iter * step
        delta = delta * (eps / delta.norm(dim=-1, keepdim=True).clamp_min(1e-20)).clamp_max(1.0)
    return (x + delta).detach()
