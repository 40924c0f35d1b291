"""Attacks on classifiers of images in [0, 1]: those of the paper, and today's standard.

Every attack maps a model, images and labels to images inside the ball: x_adv = fgsm(model, x, y, eps=8/255). A model is
any callable from images to logits. Every attack takes `n_eot`, the number of passes with independent noise over which
it averages (expectation over transformation). `nets.red_flags.check` looks for signs that a robust accuracy cannot be
trusted.
"""

from nets.attacks._apgd import apgd
from nets.attacks._autoattack import autoattack
from nets.attacks._balls import EPS, make_ball
from nets.attacks._carlini_wagner import cw
from nets.attacks._carlini_wagner_released import cw_as_released
from nets.attacks._decisions import N_DRAWS, check_classes, draws_differ, is_noisy, n_images_differing, resolve_draws
from nets.attacks._fab import fab
from nets.attacks._inputs import NoisyModelWarning, TrainingModeWarning, admit, admitted
from nets.attacks._modes import changed_by_training
from nets.attacks._objective import Objective, check_finite
from nets.attacks._passes import ModelError, NoGradientError, draw_logits, mean_logits, single
from nets.attacks._pgd import ascend, fgsm, ifgsm, pgd
from nets.attacks._square import square
from nets.attacks._state import attacked
from nets.attacks._transfer import transfer

__all__ = [
    "EPS",
    "N_DRAWS",
    "ModelError",
    "NoGradientError",
    "NoisyModelWarning",
    "Objective",
    "TrainingModeWarning",
    "admit",
    "admitted",
    "apgd",
    "ascend",
    "attacked",
    "autoattack",
    "changed_by_training",
    "check_classes",
    "check_finite",
    "cw",
    "cw_as_released",
    "draw_logits",
    "draws_differ",
    "fab",
    "fgsm",
    "ifgsm",
    "is_noisy",
    "make_ball",
    "mean_logits",
    "n_images_differing",
    "pgd",
    "resolve_draws",
    "single",
    "square",
    "transfer",
]
