"""torchattacks: `PGD` without a random start."""

from importlib.metadata import version

import torch
import torchattacks
from plain_resnet20 import ResNet20, load, problem
from worker import serve


def make_solve(fields, n, n_iter, eps, step_size, prepared=False):
    model = load(ResNet20(), fields)
    if prepared:
        # What a user could do without us: weights without gradients, channels last.
        model = model.requires_grad_(False).to(memory_format=torch.channels_last)
    x, y = problem(fields)
    attack = torchattacks.PGD(model, eps=eps, alpha=step_size, steps=n_iter, random_start=False)

    def solve():
        return attack(x, y).numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("PGD", make_solve, {name: version(name) for name in ("torch", "torchattacks")})
