"""Control experiment: noise that a network was not trained with, switched on only for its evaluation."""

import torch
from torch import nn

from bridge import NoisyResidual, checks, noisy_blocks
from nets.models import ImageClassifier

PLACES = ("blocks", "input")
# The strength of En1ResNet-20's noise.
COEF = 0.1


def control_of(options):
    """The noise of options that is switched on for the evaluation alone: `inject` and `coef`, or nothing."""
    if options.inject is not None:
        return {"inject": options.inject, "coef": COEF if options.coef is None else options.coef}
    if options.coef is not None:
        raise ValueError(
            f"coef must come with inject=blocks or inject=input, whose strength it is, got coef={options.coef:g}"
        )
    return {}


class _Zero(nn.Module):
    """F = 0: the step x -> x + coef sqrt(Var(x)) N(0, I)."""

    def forward(self, x):
        return torch.zeros_like(x)


def inject(model, place, coef=COEF):
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
