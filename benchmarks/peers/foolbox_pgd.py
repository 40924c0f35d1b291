"""foolbox: `LinfPGD` without a random start; it has neither APGD nor FAB."""

import foolbox
from plain_networks import load, make, problem
from worker import serve


def make_solve(fields, network, attack, n_iter, eps, step_size):
    if attack != "pgd":
        raise ValueError(f"foolbox has no {attack}")
    model = foolbox.PyTorchModel(load(make(network), fields), bounds=(0, 1))
    x, y = problem(fields)
    made = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=n_iter, random_start=False)

    def solve():
        return made.run(model, x, y, epsilon=eps).numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("LinfPGD", make_solve, "torch", "foolbox")
