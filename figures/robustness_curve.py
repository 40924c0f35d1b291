"""Accuracy against the radius of the attack, with standard errors.

    accuracy(eps) = fraction of the images classified correctly before and after an attack within eps (max norm)

Attacks: PGD of 20 steps eps / 4 from a random start, IFGSM^20 but for the start; Auto-PGD on the cross-entropy, 20
steps. For a noisy model, the gradient is averaged over 1, 5 or 20 draws (EOT), and the model predicts 5 times by the
mean of 10 draws. An image that is wrong in all predictions at one radius counts as broken at all larger radii, whose
balls contain the same attacked image, and is not attacked again, so that no curve rises. At 64/255 no image should
remain right: a model that is right there under all attacks may mask its gradients (Athalye et al. 2018).

(a) The curve of each model under PGD-20, with gradients averaged over 5 draws for noisy models; bars are standard
errors over images and noise. (b) Every attack at the paper's radius, 8/255. The images are divided among the seeds of a
model, and the curve is the mean. All models have the same images.

The points are kept in RUN/evaluation, those of networks that ship in the cache, and a second call resumes there.
Without --runs, --data and --n-images the arrays that ship are drawn, and the picture names the commit that made them.
With --n-images alone, and where no arrays ship, images of the sample of 100 are attacked by fewer steps.

A second from the arrays that ship; an hour on one core for 500 images of ResNet-20, En1 and En2.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import re
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from bridge import noisy_blocks
from figures import _runs, _shipped
from figures._cli import make_main, whole
from figures._runs import comparable
from figures._style import GREY, letter, network
from nets import checkpoint
from nets import data as image_sets
from nets.evaluation import NOTHING, AttackRunner, balanced_order, parse, robust, score, worst_case

__all__ = ["Plan", "compute", "findings", "main", "plot"]

MODELS = ("resnet20", "en1_resnet20", "en2_resnet20", "en5_resnet20")
# Number of images per lot: a larger --n-images continues where a smaller one ended. Divisible by two and three
# networks.
LOT = 180
# In units of 1 / 255; the paper's radius is 8.
WHITE, PAPER_EPS = 255, 8
ALL = (2, 4, 8, 12, 16, 64)
# Of the paper's radius and step: (3.3).
STEPS_A_RADIUS = 4
N_ITER = 20
N_DRAWS, BATCH_SIZE = 10, 128
# NaN where an attack is not made.
GAPS = ("accuracy", "stderr", "gain", "gain_stderr")
# The largest radius stands behind a break of the axis, this wide in units of 1 / 255.
BREAK = 3.5
DODGE = 0.16
NAME = re.compile(r"(?P<base>[a-z]+(?:-ce)?)(?P<n_iter>\d+)?(?:-eot\d+)?")
TITLES = {"fgsm": "FGSM", "pgd": "PGD", "apgd-ce": "APGD-CE"}


class Plan(NamedTuple):
    """Images, predictions of a noisy model per image, and by attack its radii in 1 / 255: the curve's attack first.

    The attacks named in `dear` are made on the first lot of the images alone.
    """

    n_images: int
    n_repeats: int
    plain: dict
    noisy: dict
    dear: tuple = ()


FULL = Plan(
    510,
    5,
    {"pgd20": ALL, "apgd-ce": (8,)},
    {"pgd20-eot5": ALL, "pgd20-eot1": (8,), "pgd20-eot20": (8,), "apgd-ce-eot20": (8,)},
    ("pgd20-eot20", "apgd-ce-eot20"),
)
QUICK = Plan(20, 2, {"pgd5": (8, 64), "fgsm": (8, 64)}, {"pgd5-eot5": (8, 64), "fgsm-eot5": (8, 64), "pgd5-eot1": (8,)})


class _Curve(NamedTuple):
    """One run under one attack: c_ir at each radius, the first of which is 0, and what it cost."""

    eps: tuple
    rights: list
    n_eot: int
    n_gradients: int
    seconds: float


def compute(*, quick=False, seed=0, runs=None, data=None, n_images=None):
    """`accuracy` and `stderr` (c, e) of the curves at the radii `eps`, NaN where an attack is not made; see `Plan`.

    `gain` and `gain_stderr` (c, e): by how much the accuracy is below that under the model's first attack, image by
    image.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    if runs is None and data is None and n_images is None and _shipped.is_there("robustness_curve"):
        return _shipped.load("robustness_curve")
    # The sample that ships is too small for more, and a fresh clone is not to wait for an hour.
    plan = QUICK if quick or (runs is None and data is None) else FULL
    wanted = None if n_images is None else whole("--n-images", n_images)
    groups = comparable(runs, MODELS)
    first = next(iter(groups.values()))[0]
    images = _runs.load_data(first, data)
    order = balanced_order(images.test_labels, 0)
    if wanted is not None and wanted > len(order):
        more = " without --data PATH" if runs is None and data is None else ""
        raise ValueError(
            f"--n-images must be at most {len(order)}, the test images of {images.name}{more}, got {wanted}"
        )
    n_images = plan.n_images if wanted is None else wanted
    radii = sorted({0}.union(*plan.plain.values(), *plan.noisy.values()))
    rows = []
    with tqdm(total=sum(map(len, groups.values())), disable=None, desc="robustness_curve", unit="run") as bar:
        for group in groups.values():
            rows += _panel(group, images, order, plan, n_images, seed, radii, bar)
    everybody = [run for group in groups.values() for run in group]
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return columns | {
        "training": np.array(_runs.describe(*everybody)), "eps": np.array(radii, dtype=float),
        "run": np.array([run.name for run in everybody]),
        "run_model": np.array([name for name, group in groups.items() for _ in group]),
    }  # fmt: skip


def _panel(group, images, order, plan, n_images, seed, radii, bar):
    """The rows of one model: each lot of the images is divided among its runs."""
    group = group[:n_images]
    lots = order[:n_images].split(LOT)
    found = []
    for place, run in enumerate(group):
        parts = [lot[place * (n := len(lot) // len(group)) : (place + 1) * n] for lot in lots]
        found.append(_curves(run, images, list(filter(len, parts)), plan, seed))
        bar.update()
    reference = [next(iter(curves.values())) for curves in found]
    rows = []
    for name in found[0]:
        curves = [curves[name] for curves in found]
        n_each = len(curves[0].rights[0])
        gaps = {key: np.full(len(radii), np.nan) for key in GAPS}
        for step, eps in enumerate(curves[0].eps):
            column = radii.index(eps)
            scores = [score(curve.rights[step]) for curve in curves]
            gaps["accuracy"][column] = np.mean([s.accuracy for s in scores])
            gaps["stderr"][column] = np.sqrt(sum(s.stderr**2 for s in scores)) / len(scores)
            at = reference[0].eps.index(eps)
            pairs = zip(reference, curves, strict=True)
            harm = np.concatenate([_mean(a.rights[at][:n_each]) - _mean(b.rights[step]) for a, b in pairs])
            gaps["gain"][column] = harm.mean()
            gaps["gain_stderr"][column] = harm.std(ddof=1) / np.sqrt(len(harm)) if len(harm) > 1 else 0.0
        rows.append(
            gaps | {
                "model": group[0].model_name, "attack": name, "n_eot": float(curves[0].n_eot),
                "n_images": float(n_each * len(group)), "n_seeds": float(len(group)),
                "n_gradients": float(sum(curve.n_gradients for curve in curves)),
                "seconds": float(sum(curve.seconds for curve in curves)),
            }
        )  # fmt: skip
    return rows


def _mean(right):
    return right.double().mean(1).numpy()


def _curves(run, images, lots, plan, seed):
    """By attack, the curve of a run over the lots of its images."""
    model = run.load()
    digest = checkpoint.digest(model.state_dict())
    kept = (run.directory or image_sets.cache_directory() / "figures" / run.name) / "evaluation"
    noisy = any(block.is_noisy for block in noisy_blocks(model))
    evaluation = partial(
        AttackRunner,
        model,
        image_sets.Batches(images.test_images, images.test_labels, images.white),
        directory=kept,
        identity={"weights": digest, "data": run.config["data"]["digest"]},
        seed=seed,
        n_draws=N_DRAWS,
        n_repeats=plan.n_repeats,
        batch_size=BATCH_SIZE,
        progress=True,
    )
    attacks = plan.noisy if noisy else plan.plain
    return {
        name: _joined(
            [_curve(evaluation, lot, name, radii, noisy) for lot in (lots[:1] if name in plan.dear else lots)]
        )
        for name, radii in attacks.items()
    }


def _joined(curves):
    """One curve of several of the same attack on different images."""
    rights = [torch.cat(parts) for parts in zip(*(curve.rights for curve in curves), strict=True)]
    totals = {key: sum(getattr(curve, key) for curve in curves) for key in ("n_gradients", "seconds")}
    return curves[0]._replace(rights=rights, **totals)


def _curve(evaluation, order, name, radii, noisy):
    """Attack at one radius after the other, at each the images that no smaller one has broken."""
    natural = evaluation(order=order).run(parse("natural", is_noisy=noisy, n_images=len(order)))
    rights, shares, curve = [natural.right], [natural.draws.double().mean(2)], [natural.right]
    alive, n_gradients, seconds, n_eot = natural.right.any(1), 0, 0.0, 1
    for number in radii:
        right, share = torch.zeros_like(rights[0]), torch.zeros_like(shares[0])
        places = alive.nonzero().flatten()
        eps = _radius(number)
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


def _radius(number):
    """Radius in [0, 1] of a number of units of 1 / 255."""
    return number / WHITE


def findings(data):
    """Return the findings for the JSON file."""
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
        "captions": {"": _caption(data)},
    }


def _caption(data):
    """Caption: training, images and networks of each model, and the definition of the errors."""
    counts = []
    for model in dict.fromkeys(data["model"].tolist()):
        rows = data["model"] == model
        n = sorted({int(count) for count in data["n_images"][rows]}, reverse=True)
        dear = [name for name, count in zip(data["attack"][rows], data["n_images"][rows], strict=True) if count < n[0]]
        fewer = f" ({n[-1]} under {', '.join(dear)})" if dear else ""
        n_runs = int((data["run_model"] == model).sum())
        counts.append(f"{network(model).label}: {n[0]} test images{fewer}, {n_runs} network{'s' * (n_runs > 1)}")
    return " ".join(filter(None, (
        f"{data['training']}. {'; '.join(counts)}. Bars: ± one standard error of images and noise; the networks of a "
        "model share the images.", _shipped.note(data),
    )))  # fmt: skip


def plot(data):
    """Draw (a) the curves of all models and (b) every attack at the paper's radius."""
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    curves, attacks = figure.subplots(1, 2, sharey=True, width_ratios=(1.35, 1))
    models = list(dict.fromkeys(data["model"].tolist()))
    _draw_curves(curves, data, models)
    _draw_attacks(attacks, data, models)
    curves.set_ylim(0, 1)
    curves.set_ylabel("accuracy (fraction of images), ± standard error")
    return figure


def _draw_curves(axes, data, models):
    """The first attack of each model, against the radius; no line over the break."""
    eps, last = data["eps"], len(data["eps"]) - 1
    place = eps.copy()
    place[last] = eps[last - 1] + BREAK
    for number, model in enumerate(models):
        row, style = int(np.flatnonzero(data["model"] == model)[0]), network(model)
        made = ~np.isnan(data["accuracy"][row])
        x = place + DODGE * (number - (len(models) - 1) / 2)
        line = made & (np.arange(len(eps)) < last)
        axes.plot(x[line], data["accuracy"][row, line], color=style.colour, lw=1.4)
        axes.errorbar(
            x[made], data["accuracy"][row, made], yerr=data["stderr"][row, made], fmt=style.marker, color=style.colour,
            ms=5, capsize=2, lw=1, label=f"{style.label}, {_title(data['attack'][row], int(data['n_eot'][row]))}",
        )  # fmt: skip
    middle = (place[last - 1] + place[last]) / 2
    axes.axvline(middle, ymax=0.6, color=GREY, lw=1, ls=(0, (2, 3)))
    axes.annotate("//", (middle, 0), xycoords=("data", "axes fraction"), ha="center", va="center", fontsize=11)
    near = [e for e in (0, 2, 4, 8, 12, 16) if e in eps[:last]]
    axes.set_xticks([*near, place[last]], [f"{e:g}" for e in [*near, eps[last]]])
    axes.set_xlabel("radius ε (units of 1/255)")
    axes.set_title(f"{letter(0)} accuracy against the radius")
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    axes.legend(loc="upper right")


def _draw_attacks(axes, data, models):
    """A column for each attack at the paper's radius, a marker for each model."""
    at = data["eps"].tolist().index(PAPER_EPS) if PAPER_EPS in data["eps"] else len(data["eps"]) - 1
    columns = []
    for number, model in enumerate(models):
        style = network(model)
        for row in np.flatnonzero((data["model"] == model) & ~np.isnan(data["accuracy"][:, at])):
            name = _title(data["attack"][row], int(data["n_eot"][row]))
            if name not in columns:
                columns.append(name)
            axes.errorbar(
                columns.index(name) + DODGE * (number - (len(models) - 1) / 2), data["accuracy"][row, at],
                yerr=data["stderr"][row, at], fmt=style.marker, color=style.colour, ms=6, capsize=3, lw=1,
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [name.replace(", ", "\n") for name in columns], fontsize=9)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_title(f"{letter(1)} every attack at ε = {data['eps'][at]:g}/255")
    axes.grid(axis="y", lw=0.4, alpha=0.5)


def _title(attack, n_eot):
    """An attack to read: "PGD-20, 5 draws"."""
    match = NAME.fullmatch(str(attack))
    steps = f"-{match['n_iter']}" if match["n_iter"] else ""
    draws = f", {n_eot} draw{'s' * (n_eot > 1)}" if "eot" in str(attack) else ""
    return f"{TITLES[match['base']]}{steps}{draws}"


main = make_main(
    "robustness_curve",
    __doc__,
    compute=compute,
    plot=plot,
    findings=findings,
    of_networks=True,
    options={
        "n-images": {"metavar": "N", "help": "test images (default 510; 20 with --quick or without --runs and --data)"}
    },
)


if __name__ == "__main__":
    main()
