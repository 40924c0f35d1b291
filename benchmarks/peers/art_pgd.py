"""Adversarial Robustness Toolbox: `ProjectedGradientDescentPyTorch` without a random start."""

from importlib.metadata import version

import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from plain_resnet20 import ResNet20, load
from worker import serve


def make_solve(fields, n, n_iter, eps, step_size):
    classifier = PyTorchClassifier(
        load(ResNet20(), fields), torch.nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=eps, eps_step=step_size, max_iter=n_iter, batch_size=n, verbose=False
    )

    def solve():
        return attack.generate(fields["x"], fields["y"]), n_iter

    return solve


if __name__ == "__main__":
    names = ("torch", "adversarial-robustness-toolbox")
    serve("PGD", make_solve, {name: version(name) for name in names})
