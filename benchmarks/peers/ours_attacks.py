"""This project: `nets.attacks` on `nets.build("resnet20")`, or on the network that the peers attack."""

import torch
from plain_networks import load, make, problem
from worker import serve

import nets


def make_solve(fields, network, attack, n_iter, eps, step_size=None, norm="linf", bf16=False, same=True):
    # "same": as its owner hands it over, contiguous and with weights that require gradients.
    model = load(make(network) if same else nets.build(network), fields)
    x, y = problem(fields)
    common = {"eps": eps, "norm": norm, "n_iter": n_iter}
    calls = {
        "pgd": lambda: nets.attacks.ifgsm(model, x, y, step_size=step_size, **common),
        "apgd": lambda: nets.attacks.apgd(model, x, y, generator=torch.Generator().manual_seed(0), **common),
        "fab": lambda: nets.attacks.fab(model, x, y, **common),
        "fab-t": lambda: nets.attacks.fab(model, x, y, targeted=True, **common),
    }

    def solve():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return calls[attack]().numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("nets.attacks", make_solve, "torch")
