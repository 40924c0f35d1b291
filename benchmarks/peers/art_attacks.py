"""Adversarial Robustness Toolbox: PGD in PyTorch without a random start, and Auto-PGD."""

import torch
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from plain_networks import load, make
from worker import serve


def make_solve(fields, network, attack, n_iter, eps, step_size=None):
    model, loss = load(make(network), fields), torch.nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(model, loss, (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu")
    common = {"eps": eps, "max_iter": n_iter, "batch_size": len(fields["x"]), "verbose": False}
    made = {
        "pgd": lambda: ProjectedGradientDescentPyTorch(classifier, eps_step=step_size, **common),
        "apgd": lambda: AutoProjectedGradientDescent(
            classifier, eps_step=2 * eps, nb_random_init=1, loss_type="cross_entropy", **common
        ),
    }[attack]()

    def solve():
        return made.generate(fields["x"], fields["y"]), n_iter

    return solve


if __name__ == "__main__":
    serve("PGD", make_solve, "torch", "adversarial-robustness-toolbox")
