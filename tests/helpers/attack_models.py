"""Small models and images that the tests of the attacks share."""

import functools

import torch
from torch import nn

from bridge import NoisyResidual

N_CLASSES, SIDE = 6, 8


def images(n, seed, spread=0.2):
    """Noisy copies of one smooth pattern a class: x of shape (n, 1, 8, 8) in [0, 1], y of shape (n,)."""
    patterns = torch.randn(N_CLASSES, 1, SIDE // 2, SIDE // 2, generator=generator(0), dtype=torch.float64)
    patterns = nn.functional.interpolate(patterns, scale_factor=2, mode="bilinear")
    y = torch.randint(N_CLASSES, (n,), generator=generator(seed))
    noise = torch.randn(n, 1, SIDE, SIDE, generator=generator(seed + 1), dtype=torch.float64)
    return (0.5 + 0.2 * patterns[y] + spread * noise).clamp(0, 1), y


@functools.cache
def trained(coef=0.0):
    """A convolutional net in double precision that was fitted to such images, with noise in its residual block."""
    # Also where the first to ask is a model inside a pass without gradients.
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        branch = nn.Sequential(nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1))
        block = NoisyResidual(branch, coef=coef, std_over="sample")
        model = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), block, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, N_CLASSES)
        )
        x, y = images(300, seed=1)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x.float()), y).backward()
            optimiser.step()
    optimiser.zero_grad()
    return model.double().eval()


class Linear(nn.Module):
    """Logits linear in the pixels, with a bias for class 0 that no attack in a small ball overcomes."""

    def __init__(self, shape, n_classes=2, bias=20.0, seed=0):
        super().__init__()
        n = torch.Size(shape).numel()
        self.weight = nn.Parameter(torch.randn(n_classes, n, generator=generator(seed), dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(n_classes, dtype=torch.float64))
        self.bias.data[0] = bias

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


class Lucky(nn.Module):
    """Right on the mean, whatever the image, and wrong in 3 draws of 10: z = (0.52 + g, 0), g normal."""

    def forward(self, x):
        draw = torch.randn(len(x), dtype=x.dtype, device=x.device)
        logits = torch.stack([0.52 + draw, torch.zeros_like(draw)], 1)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def accuracy(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


def distance(norm, x_adv, x):
    step = (x_adv - x).flatten(1)
    return step.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(step, dim=1)
