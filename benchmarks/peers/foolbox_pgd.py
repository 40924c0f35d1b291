"""foolbox: `LinfPGD` without a random start."""

from importlib.metadata import version

import foolbox
from plain_resnet20 import ResNet20, load, problem
from worker import serve


def make_solve(fields, n, n_iter, eps, step_size):
    model = foolbox.PyTorchModel(load(ResNet20(), fields), bounds=(0, 1))
    x, y = problem(fields)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=n_iter, random_start=False)

    def solve():
        return attack.run(model, x, y, epsilon=eps).numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("LinfPGD", make_solve, {name: version(name) for name in ("torch", "foolbox")})
