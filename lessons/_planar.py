"""The network of lessons 4 and 5: a small EnResNet on points of the plane, trained in seconds."""

import contextlib
import functools

import numpy as np
import torch
from torch import nn

import bridge

__all__ = ["noise_scaled", "spirals", "train"]

# States, hidden units of a branch, blocks: the least that separates the spirals under noise, by trial.
WIDTH, HIDDEN, N_BLOCKS = 8, 16, 8
N_STEPS, STEP_SIZE = 300, 0.03


def spirals(n, seed):
    """Draw n points of two spirals, one around the other: x (n, 2) in [0, 1], and labels y (n,), 0 and 1 in turn.

    x = (1/2, 1/2) + 0.45 (r (cos(a), sin(a)) + 0.03 z),  a = 2 pi r + pi y,  r**2 ~ U(0.03, 1),  z ~ N(0, I)

    They lie in [0, 1] because attacks clip images to it.
    """
    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    r = np.sqrt(rng.uniform(0.03, 1, n))
    angle = 2 * np.pi * r + np.pi * y
    x = r[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.03 * rng.standard_normal((n, 2))
    return torch.tensor(np.clip(0.5 + 0.45 * x, 0, 1), dtype=torch.float32), torch.tensor(y)


def _member(coef, generator):
    """Two coordinates lifted to a state, a row of the paper's blocks, and a linear classifier."""
    # Without the weights that PyTorch would draw from its own generator.
    linear = functools.partial(nn.utils.skip_init, nn.Linear)
    branches = [nn.Sequential(linear(WIDTH, HIDDEN), nn.Tanh(), linear(HIDDEN, WIDTH)) for _ in range(N_BLOCKS)]
    # The standard deviation of each state alone: the output at a point does not depend on the rest of the batch.
    blocks = [bridge.NoisyResidual(branch, coef=coef, std_over="sample") for branch in branches]
    net = nn.Sequential(linear(2, WIDTH), bridge.ResidualNetwork(blocks, linear(WIDTH, 2)))
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                for parameter in (layer.weight, layer.bias):
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
        # Around the middle of the square.
        net[0].bias.copy_(-net[0].weight.sum(dim=1) / 2)
    return net


@functools.cache
def train(n_members=1, coef=0.2, seed=0):
    """Train an ensemble on 256 points of the spirals: Adam on the cross entropy of the members' mean, all at once.

    In evaluation mode, and the same object for the same arguments: a caller that changes its noise restores it.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = spirals(256, seed)
    model = bridge.FeynmanKacMean([_member(coef, generator) for _ in range(n_members)])
    optimiser = torch.optim.Adam(model.parameters(), lr=STEP_SIZE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, STEP_SIZE, total_steps=N_STEPS)
    with bridge.noise_from(model, generator):
        for _ in range(N_STEPS):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
            schedule.step()
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def noise_scaled(model, coef):
    """Give all blocks of a network the noise `coef`, the paper's a, for the length of a `with` block."""
    blocks = bridge.noisy_blocks(model)
    before = [block.coef for block in blocks]
    try:
        for block in blocks:
            block.coef = coef
        yield model
    finally:
        for block, old in zip(blocks, before, strict=True):
            block.coef = old
