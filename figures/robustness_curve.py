"""Accuracy against the radius of the attack: one panel a model, one curve an attack, with standard errors.

    accuracy(eps) = share of the images that are answered right, before and after an attack within eps (max norm)

Attacks: FGSM; PGD of 20 steps eps / 4 from a random start, IFGSM^20 but for the start; Auto-PGD on the cross-entropy,
20 steps. Of a model that draws noise they average the gradient over 1, 5 or 20 draws (EOT), and the model answers by
the mean of 10 draws, 5 times over. An image that is wrong in all answers at one radius counts as broken at all larger
ones, whose balls hold the same attacked image, and is not attacked again; so no curve rises. At 64/255 nothing may be
left: a model that is right there under all attacks of several steps may mask its gradients (Athalye et al. 2018).

The seeds of a model share the images out: each answers its part of them, the curve is the mean, its error bar the
standard error of the images and of the noise. The models answer the same images.

The points are kept in RUN/evaluation, and a second call goes on where the first one ended.

Writes robustness_curve.png, robustness_curve.npz (the arrays) and robustness_curve.json (arguments, versions, seconds,
findings) to --out.

About half an hour on one core for the plain ResNet-20, En1 and En2; ten seconds with --quick once its tiny runs are
trained.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from bridge import noisy_blocks
from figures import _robustness_curve_plot, _runs
from figures._cli import figure_command, sound_arrays
from figures._comparable import comparable
from nets import data as image_sets
from nets.evaluation import NOTHING, Evaluation, balanced_order, parse, robust, score, worst_case
from nets.provenance import load_run

__all__ = ["Plan", "compute", "findings", "main", "plot"]

MODELS = ("resnet20", "en1_resnet20", "en2_resnet20", "en5_resnet20")
# In units of 1 / 255; the paper's radius is 8.
WHITE, PAPER_EPS = 255, 8
ALL = (1, 2, 4, 6, 8, 12, 16, 64)
# Of the paper's radius and step: (3.3).
STEPS_A_RADIUS = 4
N_ITER = 20
N_DRAWS, BATCH_SIZE = 10, 128
TEXTS = ("training", "model", "attack", "run", "run_model")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "training": "", "model": "c", "attack": "c", "n_eot": "c", "n_images": "c", "n_seeds": "c", "eps": "e",
    "accuracy": "ce", "stderr": "ce", "gain": "ce", "gain_stderr": "ce", "n_gradients": "c", "seconds": "c",
    "run": "r", "run_model": "r",
}  # fmt: skip
# NaN where an attack is not made.
GAPS = ("accuracy", "stderr", "gain", "gain_stderr")


class Plan(NamedTuple):
    """What is measured.

    Attributes
    ----------
    n_images : int
        Test images of a model.
    n_repeats : int
        Answers of a noisy model to an image, each the mean of 10 draws.
    plain, noisy : dict of str to tuple
        Of each attack, as `nets.evaluation` names it, the radii in units of 1 / 255; one-draw PGD first.
    """

    n_images: int
    n_repeats: int
    plain: dict
    noisy: dict


FULL = Plan(
    100,
    5,
    {"pgd20": ALL, "fgsm": ALL, "apgd-ce": ALL},
    {
        "pgd20-eot1": ALL, "fgsm-eot5": ALL, "pgd20-eot5": (2, 4, 8, 16), "pgd20-eot20": (4, 8, 16),
        "apgd-ce-eot20": (4, 8, 16),
    },
)  # fmt: skip
QUICK = Plan(20, 2, {"pgd5": (8, 64), "fgsm": (8, 64)}, {"pgd5-eot1": (8, 64), "fgsm-eot5": (8, 64), "pgd5-eot5": (8,)})


class _Curve(NamedTuple):
    """Of one run and attack: c_ir at each radius, the first of which is 0, and what it cost."""

    eps: tuple
    rights: list
    n_eot: int
    n_gradients: int
    seconds: float


def compute(*, quick=False, seed=0, runs, data=None, n_images=None):
    """Attack the models, going on with what there is in the runs' directories.

    Parameters
    ----------
    quick : bool, default=False
        Fewer images, answers, attacks, steps and radii.
    seed : int, default=0
        Seed of attacks and noise.
    runs : Path
        Directory of runs.
    data : str, optional
        Where their images lie; by default where they lay for the training.
    n_images : int, optional
        Test images; by default 100, or 20 for quick.

    Returns
    -------
    dict of str to ndarray
        `accuracy` and `stderr` (c, e) of the curves at the radii `eps`, NaN where an attack is not made; `gain` and
        `gain_stderr` (c, e), by which the accuracy is below that under one-draw PGD, image by image; the curves'
        `model`, `attack` and sizes (c,).

    Raises
    ------
    ValueError
        If seed or n_images is out of range, or there are no runs.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    plan = QUICK if quick else FULL
    n_images = _whole("--n-images", plan.n_images if n_images is None else n_images)
    groups = comparable(runs, MODELS)
    first = next(iter(groups.values()))[0]
    images = _runs.load_data(first, data)
    order = balanced_order(images.test_labels, 0)
    radii = sorted({0}.union(*plan.plain.values(), *plan.noisy.values()))
    rows = []
    with tqdm(total=sum(map(len, groups.values())), disable=None, desc="robustness_curve", unit="run") as bar:
        for group in groups.values():
            rows += _panel(group, images, order, plan, n_images, seed, radii, bar)
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return columns | {
        "training": np.array(_runs.describe(first)), "eps": np.array(radii, dtype=float),
        "run": np.array([run.directory.name for group in groups.values() for run in group]),
        "run_model": np.array([name for name, group in groups.items() for _ in group]),
    }  # fmt: skip


def _whole(name, value):
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    return number


def _panel(group, images, order, plan, n_images, seed, radii, bar):
    """The rows of one model: its runs share the images out."""
    group = group[:n_images]
    part = min(n_images, len(order)) // len(group)
    found = []
    for place, run in enumerate(group):
        found.append(_curves(run, images, order[place * part : (place + 1) * part], plan, seed))
        bar.update()
    reference = [next(iter(curves.values())) for curves in found]
    rows = []
    for name in found[0]:
        curves = [curves[name] for curves in found]
        gaps = {key: np.full(len(radii), np.nan) for key in GAPS}
        for step, eps in enumerate(curves[0].eps):
            column = radii.index(eps)
            scores = [score(curve.rights[step]) for curve in curves]
            gaps["accuracy"][column] = np.mean([s.accuracy for s in scores])
            gaps["stderr"][column] = np.sqrt(sum(s.stderr**2 for s in scores)) / len(scores)
            at = reference[0].eps.index(eps)
            pairs = zip(reference, curves, strict=True)
            harm = np.concatenate([_mean(a.rights[at]) - _mean(b.rights[step]) for a, b in pairs])
            gaps["gain"][column] = harm.mean()
            gaps["gain_stderr"][column] = harm.std(ddof=1) / np.sqrt(len(harm)) if len(harm) > 1 else 0.0
        rows.append(
            gaps | {
                "model": group[0].model_name, "attack": name, "n_eot": float(curves[0].n_eot),
                "n_images": float(part * len(group)), "n_seeds": float(len(group)),
                "n_gradients": float(sum(curve.n_gradients for curve in curves)),
                "seconds": float(sum(curve.seconds for curve in curves)),
            }
        )  # fmt: skip
    return rows


def _mean(right):
    return right.double().mean(1).numpy()


def _curves(run, images, order, plan, seed):
    model, _, weights = load_run(run.directory, torch.device("cpu"))
    noisy = any(block.is_noisy for block in noisy_blocks(model))
    evaluation = partial(
        Evaluation,
        model,
        image_sets.Batches(images.test_images, images.test_labels, images.white),
        directory=run.directory / "evaluation",
        identity={"weights": weights["digest"], "data": run.config["data"]["digest"]},
        seed=seed,
        n_draws=N_DRAWS,
        n_repeats=plan.n_repeats,
        batch_size=BATCH_SIZE,
        progress=True,
    )
    attacks = plan.noisy if noisy else plan.plain
    return {name: _curve(evaluation, order, name, radii, noisy) for name, radii in attacks.items()}


def _curve(evaluation, order, name, radii, noisy):
    """Attack at one radius after the other, at each the images that no smaller one has broken."""
    natural = evaluation(order=order).run(parse("natural", is_noisy=noisy, n_images=len(order)))
    rights, shares, curve = [natural.right], [natural.draws.double().mean(2)], [natural.right]
    alive, n_gradients, seconds, n_eot = natural.right.any(1), 0, 0.0, 1
    for number in radii:
        right, share = torch.zeros_like(rights[0]), torch.zeros_like(shares[0])
        places = alive.nonzero().flatten()
        eps = number / WHITE
        attack = parse(
            name, is_noisy=noisy, eps=eps, step_size=eps / STEPS_A_RADIUS, n_images=len(places), n_iter=N_ITER
        )
        n_eot = attack.n_eot
        if len(places):
            # Those to be attacked are chosen here.
            outcome = evaluation(order=order[places]).run(replace(attack, everywhere=True))
            right[places], share[places] = outcome.right, outcome.draws.double().mean(2)
            n_gradients, seconds = n_gradients + outcome.n_gradients, seconds + outcome.seconds
        alive &= right.any(1)
        rights.append(robust(natural.right, right))
        shares.append(share)
        # What harms an image at a smaller radius is there at this one as well.
        worst = worst_case(torch.stack(rights), torch.stack(shares))
        curve.append(min(curve[-1], worst, key=lambda part: part.double().mean().item()))
    return _Curve((0, *radii), curve, n_eot, n_gradients, seconds)


def findings(data):
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `accuracy` of shape (c, e), and the rest.

    Returns
    -------
    dict
        Of each model the curves, "left" at the largest radius under the best of the attacks of several steps, and
        whether that is too much: "may_be_masked".
    """
    models = {}
    for row, (model, attack) in enumerate(zip(data["model"].tolist(), data["attack"].tolist(), strict=True)):
        made = ~np.isnan(data["accuracy"][row])
        panel = models.setdefault(model, {"natural": float(data["accuracy"][row, 0]), "attacks": {}})
        panel["attacks"][attack] = {
            "eps": data["eps"][made].tolist(),
            **{key: data[key][row, made].tolist() for key in GAPS},
            **{key: float(data[key][row]) for key in ("n_eot", "n_images", "n_seeds", "n_gradients", "seconds")},
        }
    for model, panel in models.items():
        rows = [
            row
            for row, attack in enumerate(data["attack"].tolist())
            if data["model"][row] == model and not attack.startswith("fgsm")
        ]
        last = data["accuracy"][rows, -1]
        panel["left"] = None if np.isnan(last).all() else float(np.nanmin(last))
        panel["may_be_masked"] = None if panel["left"] is None else panel["left"] > NOTHING
        panel["runs"] = data["run"][data["run_model"] == model].tolist()
    return {
        "training": str(data["training"]),
        "eps_unit": f"1/{WHITE}",
        "largest_eps": float(data["eps"][-1]),
        "nothing": NOTHING,
        "models": models,
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "robustness_curve", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound,
        of_runs=True,
        options={"n-images": {"metavar": "N", "help": "test images (default 100, 20 for --quick)"}},
    )  # fmt: skip


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        if array.dtype.kind != "f":
            return False
        if key in GAPS:
            return (np.isfinite(array) | np.isnan(array)).all() and np.isfinite(array[:, 0]).all()
        return np.isfinite(array).all() and (array >= 0).all()

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or not finite")


def plot(data):
    """Draw the panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `accuracy` of shape (c, e), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _robustness_curve_plot.panels(data)


if __name__ == "__main__":
    main()
