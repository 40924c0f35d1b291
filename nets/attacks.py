"""Attacks on classifiers of images in [0, 1]: those of the paper, and the present standard.

x_adv = fgsm(model, x, y, eps=8/255) and so on: model, images, labels in; images inside the ball out. Every attack takes
`n_eot`, the number of passes with independent noise that it averages over (expectation over transformation).
"""

from nets.gradients import NoisyModelWarning
from nets.pgd import fgsm, ifgsm, pgd

__all__ = ["NoisyModelWarning", "fgsm", "ifgsm", "pgd"]
