"""The drawing of sparsity and smoothness of weights, in all and by layer; computes nothing."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
PURPLE = "#CC79A7"
STYLES = {
    "natural": (GREY, "D"), "adversarial": (BLUE, "o"), "en1": (RED, "s"), "en2": (GREEN, "^"), "en5": (PURPLE, "v")
}  # fmt: skip


def panels(data, found):
    """Four panels: the paper's fraction and one without scale for each network; the first, and smoothness, by layer.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.sparsity.compute`: `below` (r,), and the rest.
    found : dict
        As from `figures.sparsity.findings`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    below, profile, relative, smooth = figure.subplots(2, 2, width_ratios=(1, 1.35)).flat
    trainings = dict.fromkeys(one["training"] for one in found["networks"].values())
    figure.suptitle("; ".join(trainings), fontsize=10)
    _totals(below, data, found, "below")
    below.set_title("(a) fraction of $|w| < 10^{-3}$", fontsize=11)
    below.set_ylabel("% of the weights")
    _totals(relative, data, found, "relative")
    relative.set_title(f"(c) fraction of $|w| < {found['relative']:g}$ rms of the layer", fontsize=11)
    relative.set_ylabel("% of the weights")
    _profiles(profile, found, "below", 100)
    profile.set_title("(b) $|w| < 10^{-3}$ by layer; dotted: normal weights of the same rms", fontsize=11)
    profile.set_ylabel("% of the layer's weights")
    _profiles(smooth, found, "smoothness", 1)
    smooth.axhline(1, color="black", ls="--", lw=1)
    smooth.set_title("(d) smoothness of the 3 × 3 kernels by layer; dashed: independent", fontsize=11)
    smooth.set_ylabel(r"$\langle (w_p - w_q)^2\rangle\,/\,2 s^2$ of neighbours $p, q$")
    smooth.set_ylim(bottom=0)
    return figure


def _label(name, one):
    return one["label"] + (", natural" if name == "natural" else "")


def _totals(axes, data, found, key):
    networks = found["networks"]
    for place, (name, one) in enumerate(networks.items()):
        colour, marker = STYLES[name]
        value, seeds = one[key], 100 * data[key][data["run_network"] == name]
        if value["stderr"] is not None:
            reach = 100 * (value["high"] - value["mean"])
            axes.errorbar(place, 100 * value["mean"], reach, color=colour, capsize=5, lw=1)
            axes.errorbar(place, 100 * value["mean"], 100 * value["stderr"], color=colour, lw=4)
        axes.plot(place, 100 * value["mean"], marker, color=colour, ms=8)
        axes.plot(np.full(len(seeds), place + 0.15), seeds, ".", color=colour, ms=5)
        if key == "below":
            first = place == 0
            axes.plot(place - 0.15, 100 * one["gaussian"]["mean"], "x", color="black", ms=6,
                      label="normal weights of each layer's rms" if first else None)  # fmt: skip
    if key == "below":
        _published(axes, networks)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", fontsize=9, frameon=False)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.25 * (high - low))
    else:
        axes.axhline(100 * found["normal"][key], color="black", ls="--", lw=1, label="normal weights")
        axes.legend(loc="upper right", fontsize=9, frameon=False)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))
    names = [f"{_label(name, one)}\nn = {one[key]['n']}".replace(", ", ",\n") for name, one in networks.items()]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _published(axes, networks):
    places = [(place, one["paper_below"]) for place, one in enumerate(networks.values()) if one["paper_below"]]
    axes.plot(*zip(*((place, 100 * value) for place, value in places), strict=True), "*", color="white", mec="black",
              ms=13, label="paper, mean of 10 trials")  # fmt: skip


def _profiles(axes, found, key, factor):
    for name, one in found["networks"].items():
        colour, marker = STYLES[name]
        values = np.array([np.nan if value is None else factor * value for value in one["layers"][key]])
        layers = np.arange(1, len(values) + 1)
        known = ~np.isnan(values)
        axes.plot(layers[known], values[known], marker + "-", color=colour, ms=4, lw=1.2, label=_label(name, one))
        if key == "below":
            axes.plot(layers, factor * np.array(one["layers"]["gaussian"]), ":", color=colour, lw=1.2)
    others = [f"{place}" for place, layer in enumerate(found["layer"], 1) if layer.endswith("shortcut")]
    axes.set_xlabel(f"layer ({', '.join(others)}: 1 × 1 projections; {len(found['layer'])}: linear)")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.legend(fontsize=9, frameon=False)
