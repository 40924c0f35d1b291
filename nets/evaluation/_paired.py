"""Is one training better than another? The difference of their accuracies on the same images.

    d_i = mean over B's networks of c_ik - mean over A's of c_ik,    d = mean of d_i
    stderr**2 = Var(d_i) / n + s_A**2 / K_A + s_B**2 / K_B

c_ik is the share of the repeats in which network k is right on image i, before and after the attack. s is the standard
deviation of the accuracies over the seeds, K the number of networks. With one network there is no such term: the error
is then that of these networks, not of their trainings. The difficulty of an image cancels in d_i, so the error is
smaller than that of two evaluations on different images. Where all d_i are equal, their variance says nothing, and
`nets.proportions` has what takes its place.
"""

import math
from dataclasses import fields, replace
from typing import NamedTuple

import torch

from nets.evaluation._rows import has_worst_case, worst_rights
from nets.evaluation._setup import Options, exact, prepare
from nets.evaluation._statistics import robust
from nets.proportions import paired_stderr
from nets.training import Recipe

__all__ = ["Difference", "compare", "paired"]

# Attacks on deterministic and on noisy networks that are compared: the paper's, and those averaged over 20 draws.
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
    """The accuracies of A and B, second - first with its standard error, and the numbers of images and networks."""

    first: float
    second: float
    difference: float
    stderr: float
    n: int
    n_first: int
    n_second: int


def paired(first, second):
    """Compare two trainings by c_ki in [0, 1], of shape (n_networks, n_images >= 2), on the same images.

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
    variance = paired_stderr(difference) ** 2
    for shares in (first, second):
        if len(shares) > 1:
            variance += shares.mean(1).var().item() / len(shares)
    accuracies = first.mean().item(), second.mean().item()
    return Difference(*accuracies, difference.mean().item(), math.sqrt(variance), n, len(first), len(second))


def compare(first, second, options=None, *, inject=None, progress=True):
    """Compare two lists of runs by the results of their evaluations; missing results are computed.

    Parameters
    ----------
    first, second : sequence of Path
        Directories of the runs of one training each, with different seeds; or zoo:NAME, and `options` with `data`.
    options : Options, optional
        Options of each evaluation.
    inject : str, optional
        Noise switched on for the evaluation of the second list, see `Options`.
    progress : bool, default=True
        Whether to show progress bars, if standard error is a terminal.

    Returns
    -------
    rows : list of dict
        One per attack that both sides have: "attack", "attack_on_first", "first", "second", "difference" (second -
        first), "stderr", "n", "n_first" and "n_second". Then one per worst case, over all attacks on at least as many
        images; a noisy side has more of these attacks than a deterministic one, and with one repeat there is none.
    device : torch.device
        Device of the evaluations.

    Raises
    ------
    ValueError
        If one side has no run, a network twice, or runs of different recipes, if both sides have the same network and
        inject is None, or if the runs were not evaluated on the same images with the same eps.
    """
    if not first or not second:
        raise ValueError("there must be a run on each side")
    options = Options() if options is None else options
    # The strength is that of the second side's noise.
    given = replace(options, coef=options.coef if inject is None else None), replace(options, inject=inject)
    sides = [
        [prepare(run, of_side, progress=progress) for run in runs]
        for runs, of_side in zip((first, second), given, strict=True)
    ]
    seen = [_check_side(*of_side) for of_side in zip(("first", "second"), (first, second), sides, strict=True)]
    for digest in seen[0].keys() & seen[1].keys() if inject is None else ():
        same = " and ".join(dict.fromkeys(str(side[digest]) for side in seen))
        raise ValueError(f"second must name other networks than first, got {same} on both sides")
    reference, *others = (setup for side in sides for setup in side)
    for setup in others:
        same = setup.provenance["digest"] == reference.provenance["digest"] and setup.eps == reference.eps
        if not same or not torch.equal(setup.runner.order, reference.runner.order):
            raise ValueError(
                f"{setup.network.record['name']} is evaluated on other images or with another eps than the first run"
            )
    with exact(reference.device):
        return _rows(*sides), reference.device


def _check_side(name, runs, side):
    """Refuse what is not several networks of one training, whose spread is its error; return the runs by weights."""
    known = {field.name for field in fields(Recipe)}
    recipes = [{key: value for key, value in setup.network.record["recipe"].items() if key in known} for setup in side]
    seen = {}
    for run, setup, recipe in zip(runs, side, recipes, strict=True):
        digest = setup.network.weights["digest"]
        if digest in seen:
            raise ValueError(f"{name} must name each network once, got {seen[digest]} and {run}")
        seen[digest] = run
        if different := Recipe(**recipes[0]).differences(recipe, execution=False):
            raise ValueError(f"{name} must name runs of one training: {run} has {different[0].replace('here', 'not')}")
    return seen


def _rows(first, second):
    rows, compared_names = [], []
    others = [(attack.name, attack.name) for attack in first[0].attacks]
    for of_plain, of_noisy in (*PAIRS, *others):
        attacks = [[_attack(setup, of_plain, of_noisy) for setup in side] for side in (first, second)]
        names = [attack.name if attack else None for side in attacks for attack in side]
        # For deterministic networks, the attacks with more draws are the same attacks.
        if None in names or names in compared_names:
            continue
        compared_names.append(names)
        shares = [
            [_robust_shares(*pair) for pair in zip(side, chosen, strict=True)]
            for side, chosen in zip((first, second), attacks, strict=True)
        ]
        rows.append(_row(attacks[1][0].name, attacks[0][0].name, *shares))
    if not all(has_worst_case(setup.runner) for setup in (*first, *second)):
        return rows
    compared = [[(setup, _compared(setup)) for setup in side] for side in (first, second)]
    for n in _sizes([outcomes for side in compared for _, outcomes in side]):
        worst = [[_worst(*pair, n) for pair in side] for side in compared]
        names = [f"worst case of {side[0][1]}" for side in worst]
        rows.append(_row(names[1], names[0], *([right for right, _ in side] for side in worst)))
    return rows


def _row(name, on_first, first, second):
    n = min(map(len, (*first, *second)))
    cut = [torch.stack([shares[:n] for shares in side]) for side in (first, second)]
    return {"attack": name, "attack_on_first": on_first, **paired(*cut)._asdict()}


def _attack(setup, of_plain, of_noisy):
    name = of_noisy if setup.runner.is_noisy else of_plain
    return next((attack for attack in setup.attacks if attack.name == name), None)


def _robust_shares(setup, attack):
    """Share of the repeats in which each image is robust, of shape (n_images,)."""
    right = setup.runner.run(attack).right
    if attack.base != "natural":
        right = robust(setup.runner.natural(attack).right, right)
    return right.double().mean(1)


def _compared(setup):
    return [setup.runner.run(attack) for attack in setup.attacks if attack.is_compared]


def _sizes(outcomes_of_all):
    """Numbers of images of the attacks, in decreasing order, up to the largest that every network was attacked on."""
    sizes = [{outcome.attack.n_images for outcome in outcomes} for outcomes in outcomes_of_all]
    # Of natural images alone there is no worst case.
    most = min(max(found, default=0) for found in sizes)
    return sorted({n for found in sizes for n in found if n <= most}, reverse=True)


def _worst(setup, outcomes, n):
    """Share of the repeats in which each of n images is right under its worst attack, and the number of attacks."""
    right, names = worst_rights(outcomes, setup.runner.run(setup.attacks[0]), setup.eps, n)
    return right.double().mean(1), len(names)
