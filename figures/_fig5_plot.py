"""The drawing of training and validation accuracies; computes nothing."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.tables import label

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers: by the number of members.
STYLES = {"": ("#0072B2", "o"), "en1": ("#D55E00", "s"), "en2": ("#009E73", "^"), "en5": ("#CC79A7", "D")}
TRAINING, VALIDATION = (0, (4, 2)), "-"
# Beyond so many epochs markers would run together.
N_MARKED = 30


def panels(data):
    """A row of panels for each kind of ResNet: natural images, adversarial images.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.fig5.compute`: `training` of shape (r, e), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    families = {}
    for model in data["model"].tolist():
        members, _, base = model.partition("_") if model.startswith("en") else ("", "", model)
        families.setdefault(base, []).append((members, model))
    figure = Figure(figsize=(10.0, 0.7 + 4.2 * len(families)), layout="constrained")
    grid = figure.subplots(len(families), 2, sharex=True, sharey=True, squeeze=False)
    for row, (letter, (base, models)) in zip(grid, zip("abcd", families.items(), strict=False), strict=True):
        natural, adversarial = row
        natural.set_title(f"({letter}) {label(base)}, natural images", fontsize=11)
        adversarial.set_title(f"({letter}) {label(base)}, adversarial images", fontsize=11)
        for members, model in models:
            mine, style = data["run_model"] == model, STYLES[members]
            _curves(natural, data["epoch"], data["validation"][mine], style, VALIDATION)
            _curves(adversarial, data["epoch"], data["training"][mine], style, TRAINING)
            _curves(adversarial, data["epoch"], data["adversarial"][mine], style, VALIDATION)
        adversarial.legend(handles=_handles(data, models), fontsize=9, loc="best", framealpha=0.9)
        natural.set_ylabel("accuracy (fraction of images)")
        for axes in row:
            axes.grid(alpha=0.3, lw=0.6)
            axes.tick_params(labelbottom=True)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    told = dict.fromkeys(data["how"].tolist())
    images = (
        f"validation on {int(data['n_validation'])} images held out, s.e. of one seed ≤ {data['largest_stderr']:.3f}"
    )
    figure.suptitle("\n".join([*told, f"{images}; adversarial: {data['attack']}"]), fontsize=10)
    return figure


def _curves(axes, epoch, accuracy, style, dashes):
    """Each seed thin, the mean thick."""
    colour, marker = style
    if len(accuracy) > 1:
        for one in accuracy:
            axes.plot(epoch, one, color=colour, ls=dashes, lw=0.7, alpha=0.55)
    axes.plot(
        epoch, np.mean(accuracy, axis=0), color=colour, ls=dashes, lw=2.2,
        marker=marker if len(epoch) <= N_MARKED else None, ms=5,
    )  # fmt: skip


def _handles(data, models):
    """One entry a model, and one a kind of line."""
    entries = []
    for members, model in models:
        colour, marker = STYLES[members]
        n = int((data["run_model"] == model).sum())
        seeds = f"{n} seed{'s' * (n > 1)}"
        entries.append(Line2D([], [], color=colour, marker=marker, lw=2.2, ms=5, label=f"{label(model)} ({seeds})"))
    grey = {"color": "#555555", "lw": 1.8}
    return [
        *entries,
        Line2D([], [], ls=TRAINING, label="training (while it goes on)", **grey),
        Line2D([], [], ls=VALIDATION, label="validation", **grey),
    ]
