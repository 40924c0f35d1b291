"""Attacks on classifiers of images in [0, 1]: those of the paper, and the present standard.

x_adv = fgsm(model, x, y, eps=8/255) and so on: model, images, labels in; images inside the ball out. Every attack takes
`n_eot`, the number of passes with independent noise that it averages over (expectation over transformation).
Before a number is believed, `nets.red_flags.check` looks for the signs that it should not be.
"""

from nets.apgd import apgd
from nets.autoattack import autoattack
from nets.carlini_wagner import cw, cw_as_released
from nets.gradients import NoisyModelWarning, compiled
from nets.pgd import fgsm, ifgsm, pgd
from nets.square import square
from nets.transfer import transfer

__all__ = [
    "NoisyModelWarning",
    "apgd",
    "autoattack",
    "compiled",
    "cw",
    "cw_as_released",
    "fgsm",
    "ifgsm",
    "pgd",
    "square",
    "transfer",
]
