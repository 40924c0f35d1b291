"""This project: `nets.attacks.ifgsm` on `nets.build("resnet20")`, or on the network that the peers attack."""

import torch
from plain_resnet20 import ResNet20, load, problem
from worker import serve

import nets


def make_solve(fields, n, n_iter, eps, step_size, bf16=False, same=False):
    # "same": as its owner hands it over, contiguous and with weights that require gradients.
    model = load(ResNet20() if same else nets.build("resnet20"), fields)
    x, y = problem(fields)

    def solve():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            x_adv = nets.attacks.ifgsm(model, x, y, eps=eps, step_size=step_size, n_iter=n_iter)
        return x_adv.numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("ifgsm", make_solve, {"torch": torch.__version__})
