"""torchattacks: `PGD` without a random start, `APGD` and `FAB`."""

import torch
import torchattacks
from plain_networks import load, make, problem
from worker import serve


def make_solve(fields, network, attack, n_iter, eps, step_size=None, norm="linf", prepared=False):
    model = load(make(network), fields)
    if prepared:
        # What a user could do without us: weights without gradients, channels last.
        model = model.requires_grad_(False).to(memory_format=torch.channels_last)
    x, y = problem(fields)
    common = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "steps": n_iter}
    made = {
        "pgd": lambda: torchattacks.PGD(model, eps=eps, alpha=step_size, steps=n_iter, random_start=False),
        "apgd": lambda: torchattacks.APGD(model, **common),
        "fab": lambda: torchattacks.FAB(model, n_classes=10, **common),
        "fab-t": lambda: torchattacks.FAB(model, n_classes=10, multi_targeted=True, **common),
    }[attack]()

    def solve():
        return made(x, y).detach().numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("torchattacks", make_solve, "torch", "torchattacks")
