"""AutoAttack: attacks of different kinds in sequence, each on the images that are still classified correctly.

    "standard"    APGD-CE, APGD-T, FAB-T, Square    for deterministic models
    "rand"        APGD-CE, APGD-DLR                 for noisy models, gradients averaged over 20 draws

(Croce & Hein 2020.) The field `version` of the result names the attacks that ran. For a noisy model, an image counts as
broken if the mean logits over n_draws >= 10 fresh passes are wrong.
"""

import functools
import warnings
from dataclasses import dataclass

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._apgd import apgd
from nets.attacks._balls import EPS, make_ball
from nets.attacks._decisions import Best, check_classes, is_noisy, resolve_draws
from nets.attacks._fab import fab
from nets.attacks._inputs import admit, admitted
from nets.attacks._objective import EOT
from nets.attacks._passes import NoGradientError, mean_logits
from nets.attacks._square import square
from nets.attacks._state import attacked

__all__ = ["AutoAttackResult", "autoattack", "parts"]

VERSIONS = ("auto", "standard", "rand")


@dataclass(frozen=True)
class AutoAttackResult:
    """The result of an AutoAttack evaluation.

    Attributes
    ----------
    version : str
        Attacks that ran, joined by "+".
    accuracies : dict of str to float
        "clean" is the accuracy without attack; each attack's entry is the share of images that are still correct after
        this attack and all before it.
    robust : Tensor of shape (n_images,)
        Whether each image is correct after all attacks.
    n_draws : int
        Number of passes whose mean logits decided.
    batch_size : int
        Number of images per batch: with noise scaled over a batch, the predictions depend on it.
    """

    version: str
    accuracies: dict
    robust: torch.Tensor
    n_draws: int
    batch_size: int


def autoattack(
    model,
    x,
    y,
    *,
    eps=EPS,
    norm="linf",
    version="auto",
    n_iter=100,
    n_queries=5000,
    n_eot=20,
    eot="gradients",
    n_draws=None,
    batch_size=250,
    generator=None,
    progress=False,
):
    """Evaluate a model by AutoAttack, today's standard.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacked`.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1]; at least one.
    y : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius of the ball, in units of x and in `norm`; >= 0.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    version : {"auto", "standard", "rand"}
        Set of attacks: "standard" runs APGD-CE, APGD-T, FAB-T and Square, "rand" APGD-CE and APGD-DLR with gradients
        averaged over noise. "auto" takes "rand" for a noisy model.
    n_iter : int, default=100
        Number of steps of APGD and FAB; >= 1.
    n_queries : int, default=5000
        Number of queries of Square; >= 1.
    n_eot : int, default=20
        Number of passes over which "rand" averages; >= 1. "standard" uses one.
    eot : {"gradients", "logits"}
        Whether to average gradients, or logits inside the loss.
    n_draws : int, optional
        Number of passes whose mean logits decide whether an image is misclassified. Default: 1, or max(10, n_eot) for a
        noisy model.
    batch_size : int, default=250
        Number of images attacked at once; >= 1.
    generator : torch.Generator, optional
        Generator of all random numbers; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    x_adv : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1] and within eps of x up to rounding. For an image that no attack breaks, the attempt with the
        greatest margin.
    result : AutoAttackResult

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the logits, a loss or its gradient are not finite.

    References
    ----------
    .. [1] Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
       attacks, ICML, arXiv 2003.01690.
    """
    make_ball(norm, eps)
    checks.one_of("version", version, VERSIONS)
    checks.integer("n_queries", n_queries, at_least=1)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    batch_size = checks.integer("batch_size", batch_size, at_least=1)
    seen = 1 if version == "standard" else n_eot
    model, x, y = admit(model, x, y, n_eot=seen, eps=eps, norm=norm, as_images=True, generator=generator)
    if not len(x):
        raise ValueError(f"x must hold at least one image, got shape {tuple(x.shape)}")
    with attacked(model, generator=generator), admitted():
        warnings.filterwarnings("ignore", "eps=.* is larger than the cube", UserWarning)
        if version == "auto":
            version = "rand" if is_noisy(model, x[:batch_size]) else "standard"
        n_draws = resolve_draws(model, x[:batch_size], n_draws, n_eot if version == "rand" else 1)
        logits = torch.cat([mean_logits(model, batch, n_draws) for batch in x.split(batch_size)])
        check_classes(logits, y)
        options = {"eps": eps, "norm": norm, "n_iter": n_iter, "n_queries": n_queries}
        attacks = parts(version, logits.shape[1], **options, n_eot=n_eot, eot=eot, n_draws=n_draws)
        best = Best(x, y, logits, model=model)
        accuracies = {"clean": _share(best.right)}
        bar = tqdm(attacks.items(), disable=None if progress else True, unit="attack", desc="autoattack")
        for name, attack in bar:
            try:
                # An empty tensor splits into one empty batch, which many models do not take.
                for images in filter(len, best.left().split(batch_size)):
                    x_adv = attack(model, x[images], y[images], generator=generator, progress=progress)
                    best.offer(images, x_adv, mean_logits(model, x_adv, n_draws))
            except NoGradientError:
                # Square needs no gradient; `version` then does not name this attack.
                continue
            accuracies[name] = _share(best.right)
            bar.set_postfix(accuracies)
    ran = "+".join(name for name in accuracies if name != "clean")
    return best.x_adv, AutoAttackResult(ran, accuracies, best.right, n_draws, batch_size)


def parts(
    version, n_classes, *, eps=EPS, norm="linf", n_iter=100, n_queries=5000, n_eot=20, eot="gradients", n_draws=None
):
    """Return the attacks of version "standard" or "rand" by name, in order, as functions of model, x, y and options.

    The targeted DLR loss needs four classes; with three, "apgd-dlr" replaces it, with two, "apgd-margin".
    """
    checks.one_of("version", version, VERSIONS[1:])
    checks.one_of("eot", eot, EOT)
    n_classes = checks.integer("n_classes", n_classes, at_least=2)
    n_eot = n_eot if version == "rand" else 1
    options = {"eps": eps, "norm": norm, "n_draws": n_draws}
    by_loss = functools.partial(apgd, n_iter=n_iter, n_eot=n_eot, eot=eot, **options)
    other = "margin" if n_classes == 2 else "dlr" if version == "rand" or n_classes == 3 else "dlr-targeted"
    attacks = {
        "apgd-ce": functools.partial(by_loss, loss="ce"),
        "apgd-t" if other == "dlr-targeted" else f"apgd-{other}": functools.partial(by_loss, loss=other),
    }
    if version == "standard":
        attacks["fab-t"] = functools.partial(fab, targeted=True, n_iter=n_iter, **options)
        # The schedule of 10 000 queries, of which the standard uses the first 5000.
        attacks["square"] = functools.partial(square, n_queries=n_queries, rescale=False, **options)
    return attacks


def _share(right):
    return right.double().mean().item()
