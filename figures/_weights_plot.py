"""The drawing of two histograms of weights beside each other, each with the other's outline; computes nothing."""

import numpy as np
from matplotlib.figure import Figure

from nets.sparsity import THRESHOLD

__all__ = ["panels", "percent"]

# Told apart by the colour-blind too (Okabe & Ito 2008).
BLUE, RED, GREY = "#0072B2", "#D55E00", "#999999"


def panels(data, found, names):
    """Two panels of the same axes, with the weights around zero as insets.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures._weights.histograms`: `density` of shape (2, b), and the rest.
    found : dict
        As from `figures._weights.findings`.
    names : dict of str to str
        How to call each network in a legend.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    # Room for the text above the histograms.
    top = 1.3 * data["density"].max()
    # Counts scatter more in the bins of the insets: those have their own height.
    near_top = 1.3 * data["near_density"].max()
    for row, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        name, other = (data["network"].tolist()[place] for place in (row, 1 - row))
        colour = (BLUE, RED)[row]
        _histogram(axes, data["density"], data["reach"], row, colour, names, (name, other))
        axes.set(xlim=(-data["reach"], data["reach"]), ylim=(0, top), xlabel="weight $w$")
        axes.set_title(_title("ab"[row], found["networks"][name]), fontsize=10)
        axes.text(0.02, 0.97, _text(found["networks"][name]), transform=axes.transAxes, va="top", fontsize=10)
        inset = axes.inset_axes((0.67, 0.48, 0.29, 0.42))
        _histogram(inset, data["near_density"], data["near"], row, colour, names, (name, other))
        inset.axvspan(-THRESHOLD, THRESHOLD, color=GREY, alpha=0.35, lw=0)
        inset.set(xlim=(-data["near"], data["near"]), ylim=(0, near_top))
        inset.set_title("grey: $|w| < 10^{-3}$", fontsize=9)
        inset.set_xticks([-data["near"], 0, data["near"]])
        inset.tick_params(labelsize=8)
        axes.legend(loc="center left", bbox_to_anchor=(0, 0.6), frameon=False, fontsize=9)
    figure.axes[0].set_ylabel("density of the weights, 1 / unit of $w$")
    return figure


def _histogram(axes, density, reach, row, colour, names, pair):
    edges = np.linspace(-reach, reach, density.shape[1] + 1)
    axes.stairs(density[row], edges, fill=True, color=colour, alpha=0.55, label=names[pair[0]])
    axes.stairs(density[1 - row], edges, color="#333333", lw=1.0, label=f"outline: {names[pair[1]]}")


def _title(letter, one):
    n = one["n_members"]
    members = "" if n == 1 else ", both members" if n == 2 else f", all {n} members"
    return f"({letter}) {one['label']}{members}\n{one['training']}"


def _text(one):
    lines = [f"{percent(one['below_0.001'])} of $|w| < 10^{{-3}}$"]
    if one["paper_below_0.001"] is not None:
        lines.append(f"(paper: {100 * one['paper_below_0.001']:.2f} %, n = 10)")
    return "\n".join([*lines, f"{100 * one['outside_0.3']:.2f} % of $|w| > 0.3$, not drawn"])


def percent(value):
    """Write a fraction in per cent, with its standard error and the number of seeds.

    Parameters
    ----------
    value : dict
        Fields of a `nets.evaluation.Interval`.

    Returns
    -------
    str

    Examples
    --------
    >>> percent({"mean": 0.0203, "stderr": 0.0003, "n": 2}), percent({"mean": 0.0203, "stderr": None, "n": 1})
    ('2.03 ± 0.03 % (n = 2)', '2.03 % (n = 1)')
    """
    error = "" if value["stderr"] is None else f" ± {100 * value['stderr']:.2f}"
    return f"{100 * value['mean']:.2f}{error} % (n = {value['n']})"
