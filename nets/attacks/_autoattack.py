"""AutoAttack: attacks of different kinds one after the other, each on the images that the ones before left right.

    "standard"    APGD-CE, APGD-T, FAB-T, Square    for deterministic models
    "rand"        APGD-CE, APGD-DLR                 gradients averaged over 20 draws, for models that draw

(Croce & Hein 2020.) The result's `version` spells the parts that ran. An image of a model that draws counts as broken
if the mean logits over n_draws >= 10 fresh passes are wrong.
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
from nets.attacks._inputs import NoisyModelWarning, admit
from nets.attacks._objective import EOT
from nets.attacks._passes import NoGradientError, mean_logits
from nets.attacks._square import square
from nets.attacks._state import attacked

__all__ = ["AutoAttackResult", "autoattack", "parts"]

VERSIONS = ("auto", "standard", "rand")


@dataclass(frozen=True)
class AutoAttackResult:
    """What an evaluation found.

    Attributes
    ----------
    version : str
        The attacks that ran, joined by "+".
    accuracies : dict of str to float
        Under "clean" the accuracy; under each attack's name the share of images that are right after it and all before.
    robust : Tensor of shape (n_images,)
        Whether an image is right after all attacks.
    n_draws : int
        Passes whose mean logits decided.
    batch_size : int
        Images that the model saw at once: with noise scaled over a batch, the answer depends on it.
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
    """Evaluate a model by the present standard.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is held still, see `attacked`.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1], one at least.
    y : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius, in units of x and in the norm; >= 0.
    norm : {"linf", "l2"}
        Norm.
    version : {"auto", "standard", "rand"}
        See above; "auto" takes "rand" for a model that draws.
    n_iter : int, default=100
        Steps of APGD and FAB; >= 1.
    n_queries : int, default=5000
        Queries of Square; >= 1.
    n_eot : int, default=20
        Passes that "rand" averages over; >= 1. "standard" takes one.
    eot : {"gradients", "logits"}
        Average gradients, or logits inside the loss.
    n_draws : int, optional
        Passes whose mean logits decide; by default 1, and for a model that draws, 10 or n_eot if that is more.
    batch_size : int, default=250
        Images attacked at once; >= 1.
    generator : torch.Generator, optional
        Source of all random numbers; by default PyTorch's own.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    x_adv : Tensor of shape (n_images, n_channels, height, width)
        In [0, 1] and within eps of x up to rounding. Of an image that stays right, the attempt with the greatest
        margin.
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
    with attacked(model, generator=generator), warnings.catch_warnings():
        # Already warned on entry.
        warnings.simplefilter("ignore", NoisyModelWarning)
        warnings.filterwarnings("ignore", "eps=.* is larger than the cube", UserWarning)
        if version == "auto":
            version = "rand" if is_noisy(model, x[:batch_size]) else "standard"
        n_draws = resolve_draws(model, x[:batch_size], n_draws, n_eot if version == "rand" else 1)
        logits = torch.cat([mean_logits(model, batch, n_draws) for batch in x.split(batch_size)])
        check_classes(logits, y)
        options = {"eps": eps, "norm": norm, "n_iter": n_iter, "n_queries": n_queries}
        attacks = parts(version, logits.shape[1], **options, n_eot=n_eot, eot=eot, n_draws=n_draws)
        best = Best(x, y, logits)
        accuracies = {"clean": _share(best.right)}
        bar = tqdm(attacks.items(), disable=None if progress else True, unit="attack", desc="autoattack")
        for name, attack in bar:
            try:
                for images in best.right.nonzero().flatten().split(batch_size):
                    x_adv = attack(model, x[images], y[images], generator=generator, progress=progress)
                    best.offer(images, x_adv, mean_logits(model, x_adv, n_draws))
            except NoGradientError:
                # Square goes on without one; `version` then does not name this attack.
                continue
            accuracies[name] = _share(best.right)
            bar.set_postfix(accuracies)
    ran = "+".join(name for name in accuracies if name != "clean")
    return best.x_adv, AutoAttackResult(ran, accuracies, best.right, n_draws, batch_size)


def parts(
    version, n_classes, *, eps=EPS, norm="linf", n_iter=100, n_queries=5000, n_eot=20, eot="gradients", n_draws=None
):
    """Return the attacks of a version by name, in order, for whoever runs them one by one.

    Parameters
    ----------
    version : {"standard", "rand"}
        See above.
    n_classes : int
        Classes of the model; >= 2. The targeted DLR loss needs four, for which "apgd-dlr" stands in with three and
        "apgd-margin" with two.
    eps, norm, n_iter, n_queries, n_eot, eot, n_draws : optional
        Those of `autoattack`.

    Returns
    -------
    dict of str to callable
        Each takes model, x of shape (n_images, n_channels, height, width), y of shape (n_images,), and by name
        generator and progress, and returns x_adv.

    Raises
    ------
    ValueError
        If an option is unknown or out of range (raised by a helper).
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
        # The schedule of 10 000 queries, of which the standard asks the first 5000.
        attacks["square"] = functools.partial(square, n_queries=n_queries, rescale=False, **options)
    return attacks


def _share(right):
    return right.double().mean().item()
