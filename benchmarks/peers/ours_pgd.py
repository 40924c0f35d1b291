"""This project: `nets.attacks.ifgsm` on `nets.build("resnet20")`."""

import torch
from plain_resnet20 import load, problem
from worker import serve

import nets


def make_solve(fields, n, n_iter, eps, step_size, bf16=False, compiled=False):
    model = load(nets.build("resnet20"), fields)
    if compiled:
        model = nets.attacks.compiled(model)
    x, y = problem(fields)

    def solve():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            x_adv = nets.attacks.ifgsm(model, x, y, eps=eps, step_size=step_size, n_iter=n_iter)
        return x_adv.numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("ifgsm", make_solve, {"torch": torch.__version__})
