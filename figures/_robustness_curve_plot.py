"""The drawing of accuracies against the radius; computes nothing."""

import re

import numpy as np
from matplotlib.figure import Figure

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers.
BLUE, SKY, BLACK, RED, GREY = "#0072B2", "#56B4E9", "#000000", "#D55E00", "#999999"
STYLES = {
    "fgsm": (GREY, "v", "FGSM"),
    "pgd": (BLUE, "o", "PGD"),
    "pgd5": (SKY, "s", "PGD"),
    "pgd20": (BLACK, "D", "PGD"),
    "apgd-ce": (RED, "^", "APGD-CE"),
}
NAME = re.compile(r"(?P<base>[a-z]+(?:-ce)?)(?P<n_iter>\d+)?(?:-eot\d+)?")
MODELS = {"resnet20": "ResNet-20", "en1_resnet20": "En1ResNet-20", "en2_resnet20": "En2ResNet-20",
          "en5_resnet20": "En5ResNet-20"}  # fmt: skip
# The largest radius stands behind a break of the axis, so wide in units of 1 / 255.
BREAK = 3.5
DODGE = 0.13


def panels(data):
    """One panel a model.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.robustness_curve.compute`: `accuracy` of shape (c, e), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    models = list(dict.fromkeys(data["model"].tolist()))
    figure = Figure(figsize=(max(4.6 * len(models), 6.5), 5.0), layout="constrained")
    row = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, model in zip(row, models, strict=True):
        _panel(axes, data, model)
    # Shared by all panels, and so set when all are drawn.
    row[0].set_ylim(bottom=-0.02)
    row[0].set_ylabel("accuracy (fraction of images), ± s.e.")
    figure.suptitle(str(data["training"]), fontsize=10)
    return figure


def _panel(axes, data, model):
    rows = np.flatnonzero(data["model"] == model)
    eps, last = data["eps"], len(data["eps"]) - 1
    place = eps.copy()
    place[last] = eps[last - 1] + BREAK
    n, n_seeds = int(data["n_images"][rows[0]]), int(data["n_seeds"][rows[0]])
    axes.set_title(f"{MODELS.get(model, model)}: n = {n} images, {n_seeds} seed{'s' * (n_seeds > 1)}", fontsize=10)
    several = len(set(data["n_eot"][rows])) > 1
    for number, row in enumerate(rows):
        colour, marker, label = _style(data["attack"][row], int(data["n_eot"][row]), several)
        made = ~np.isnan(data["accuracy"][row])
        x = place + DODGE * (number - (len(rows) - 1) / 2)
        # No line over the break.
        line = made & (np.arange(len(eps)) < last)
        axes.plot(x[line], data["accuracy"][row, line], color=colour, lw=1.2)
        axes.errorbar(
            x[made], data["accuracy"][row, made], yerr=data["stderr"][row, made], fmt=marker, color=colour, ms=5,
            capsize=2, lw=1, label=label,
        )  # fmt: skip
    _break(axes, (place[last - 1] + place[last]) / 2)
    near = [e for e in (0, 2, 4, 8, 12, 16) if e in eps[:last]]
    axes.set_xticks([*near, place[last]], [f"{e:g}" for e in [*near, eps[last]]])
    axes.set_xlabel("ε (units of 1/255)")
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    axes.legend(fontsize=9, frameon=False, loc="upper right")


def _style(attack, n_eot, several):
    match = NAME.fullmatch(attack)
    base = match["base"]
    key = f"{base}{n_eot}" if base == "pgd" and n_eot in (5, 20) else base
    colour, marker, label = STYLES[key]
    label += f"-{match['n_iter']}" if match["n_iter"] else ""
    return colour, marker, label + (f", EOT {n_eot}" if several else "")


def _break(axes, x):
    axes.axvline(x, color=GREY, lw=1, ls=(0, (2, 3)))
    axes.annotate("//", (x, 0), xycoords=("data", "axes fraction"), ha="center", va="center", fontsize=11)
