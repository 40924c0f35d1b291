"""Does one training answer better than another? The difference of their accuracies on the same images.

    d_i = mean over B's networks of c_ik - mean over A's of c_ik,    d = mean of d_i
    stderr**2 = Var(d_i) / n + s_A**2 / K_A + s_B**2 / K_B

c_ik is the share of the repeats in which network k is right on image i, before and after the attack; s is the standard
deviation over the seeds of the networks' accuracies, K their number, and of one network there is no such term: then the
error is that of these networks, not of their training. What both find easy or hard cancels in d_i, so that the error is
less than that of two evaluations on images of their own.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from nets.evaluation._rows import worst_answers
from nets.evaluation._setup import Options, exact, prepare
from nets.evaluation._statistics import robust

__all__ = ["Difference", "compare", "paired"]

# What is asked of a network that draws nothing, and of one that draws: the paper's attacks, and those that average.
PAIRS = (
    ("natural", "natural"),
    ("fgsm", "fgsm"),
    ("ifgsm20", "ifgsm20"),
    ("cw", "cw"),
    ("ifgsm20", "ifgsm20-eot20"),
    ("apgd-ce", "apgd-ce-eot20"),
    ("apgd-dlr", "apgd-dlr-eot20"),
)


class Difference(NamedTuple):
    """Of two accuracies.

    Attributes
    ----------
    first, second : float
        Accuracies of A and B.
    difference : float
        second - first.
    stderr : float
        Its standard error, see above.
    n : int
        Images.
    n_first, n_second : int
        Networks.
    """

    first: float
    second: float
    difference: float
    stderr: float
    n: int
    n_first: int
    n_second: int


def paired(first, second):
    """Compare the answers of two trainings on the same images.

    Parameters
    ----------
    first, second : Tensor of shape (n_networks, n_images)
        c_ki in [0, 1]: the networks of A, and of B; the images are the same, two or more.

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        If the images are not as many, or fewer than two.

    Examples
    --------
    >>> paired(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])).difference
    0.25
    """
    first, second = first.double(), second.double()
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1] or first.shape[1] < 2:
        raise ValueError(
            f"first and second must be of shapes (n_networks, n_images), n_images >= 2 the same, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    difference, n = second.mean(0) - first.mean(0), first.shape[1]
    variance = difference.var().item() / n
    for answers in (first, second):
        if len(answers) > 1:
            variance += answers.mean(1).var().item() / len(answers)
    accuracies = first.mean().item(), second.mean().item()
    return Difference(*accuracies, difference.mean().item(), math.sqrt(variance), n, len(first), len(second))


def compare(first, second, options=None, *, inject=None, progress=True):
    """Compare two lists of runs by what their evaluations found; what is missing there is made.

    Parameters
    ----------
    first, second : sequence of Path
        Directories of runs, each of one training with different seeds.
    options : Options, optional
        As for the evaluation of each.
    inject : str, optional
        Noise switched on for the evaluation of the second list, see `Options`.
    progress : bool, default=True
        Show progress bars, if standard error is a terminal.

    Returns
    -------
    rows : list of dict
        Of each attack that both were asked for: "attack", "attack_on_first", and the fields of `Difference`. Then the
        worst cases, over all attacks on so many images or more: of a side that draws they are more than of another.
    device : torch.device
        Where.

    Raises
    ------
    ValueError
        If there is no run on one side, or the runs were not evaluated on the same images by the same eps.
    """
    if not first or not second:
        raise ValueError("there must be a run on each side")
    options = Options() if options is None else options
    second_options = replace(options, inject=inject)
    sides = [
        [prepare(run, given, progress=progress) for run in runs]
        for runs, given in ((first, options), (second, second_options))
    ]
    everybody = [ready for side in sides for ready in side]
    for ready in everybody[1:]:
        same = ready.provenance["digest"] == everybody[0].provenance["digest"] and ready.eps == everybody[0].eps
        if not same or not torch.equal(ready.evaluation.order, everybody[0].evaluation.order):
            raise ValueError(
                f"{ready.record['name']} is evaluated on other images or by another eps than the first run"
            )
    with exact(everybody[0].device):
        return _rows(*sides), everybody[0].device


def _rows(first, second):
    rows, asked = [], []
    for of_plain, of_noisy in PAIRS:
        attacks = [[_attack(ready, of_plain, of_noisy) for ready in side] for side in (first, second)]
        names = [attack.name if attack else None for side in attacks for attack in side]
        # For networks that draw nothing, more draws are no further attack.
        if None in names or names in asked:
            continue
        asked.append(names)
        answers = [
            [_answers(*pair) for pair in zip(side, chosen, strict=True)]
            for side, chosen in zip((first, second), attacks, strict=True)
        ]
        rows.append(_row(attacks[1][0].name, attacks[0][0].name, *answers))
    compared = [[(ready, _compared(ready)) for ready in side] for side in (first, second)]
    for n in _sizes([outcomes for side in compared for _, outcomes in side]):
        worst = [[_worst(*pair, n) for pair in side] for side in compared]
        names = [f"worst case of {side[0][1]}" for side in worst]
        rows.append(_row(names[1], names[0], *([right for right, _ in side] for side in worst)))
    return rows


def _row(name, on_first, first, second):
    n = min(map(len, (*first, *second)))
    cut = [torch.stack([answers[:n] for answers in side]) for side in (first, second)]
    return {"attack": name, "attack_on_first": on_first, **paired(*cut)._asdict()}


def _attack(ready, of_plain, of_noisy):
    name = of_noisy if ready.evaluation.is_noisy else of_plain
    return next((attack for attack in ready.attacks if attack.name == name), None)


def _answers(ready, attack):
    """Share of the repeats in which each image is robust."""
    right = ready.evaluation.run(attack).right
    if attack.base != "natural":
        right = robust(ready.evaluation.natural(attack).right, right)
    return right.double().mean(1)


def _compared(ready):
    return [ready.evaluation.run(attack) for attack in ready.attacks if attack.is_compared]


def _sizes(everybody):
    """Numbers of images, the greatest first, that some attack was made on, and no network was spared."""
    sizes = [{outcome.attack.n_images for outcome in outcomes} for outcomes in everybody]
    most = min(max(found) for found in sizes)
    return sorted({n for found in sizes for n in found if n <= most}, reverse=True)


def _worst(ready, outcomes, n):
    """Share of the repeats in which each of n images is right under the worst attack on it, and the number of those."""
    right, names = worst_answers(outcomes, ready.evaluation.run(ready.attacks[0]), ready.eps, n)
    return right.double().mean(1), len(names)
