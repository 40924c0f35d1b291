"""Control experiment: noise that a network was not trained with, switched on only for its evaluation."""

import torch
from torch import nn

from bridge import NoisyResidual, checks, noisy_blocks
from nets.models import ImageClassifier

PLACES = ("blocks", "input")


class _Zero(nn.Module):
    """F = 0: the step x -> x + coef sqrt(Var(x)) N(0, I)."""

    def forward(self, x):
        return torch.zeros_like(x)


def inject(model, place, coef=0.1):
    """Switch on Gaussian noise of coef standard deviations, in place: after every residual mapping, as in En1ResNet-20
    ("blocks"), or on the normalised images ("input"); ValueError if the model is already noisy or has no blocks.
    """
    checks.one_of("inject", place, PLACES)
    coef = checks.real("coef", coef, positive=True)
    if not isinstance(model, ImageClassifier):
        raise ValueError(f"--inject {place}: the model is not a network of this package")
    blocks = noisy_blocks(model)
    if any(block.is_noisy for block in blocks):
        raise ValueError(f"--inject {place}: the network is already noisy")
    if place == "input":
        model.net = nn.Sequential(NoisyResidual(_Zero(), coef=coef), model.net).eval()
        return model
    if not blocks:
        raise ValueError("--inject blocks: the network has no residual blocks of this package")
    for block in blocks:
        block.noise, block.coef = "gaussian", coef
    return model
