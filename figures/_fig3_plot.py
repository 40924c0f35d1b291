"""The drawing of the residual mapping's inside and of the characteristics; computes nothing."""

import numpy as np
from matplotlib.figure import Figure

from figures._architecture import from_arrays
from figures._boxes_plot import BLUE, GREEN, RED, arrow, blank, box, law_of, number, plus, text

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers.
N_LEVELS = 12
CLASSES = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), ("#CC79A7", "D"))
# The paper's operators: batch normalisation, activation, convolution.
SYMBOLS = {"batch norm": ("B", r"\ominus"), "convolution": ("C", r"\otimes")}


def panels(data, found):
    """Three panels: the block, the characteristics of a velocity, and those of a network.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.fig3.compute`: `curve` of shape (t, p, 2), and the rest.
    found : dict
        As from `figures.fig3.findings`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    block, velocity, network = figure.subplots(1, 3, gridspec_kw={"width_ratios": [0.85, 1.2, 1.1]})
    _block(block, data)
    _characteristics(figure, velocity, data, found)
    _hidden(network, data, found)
    return figure


def _block(axes, data):
    boxes = from_arrays(data, "block_")
    blank(axes, 10, 12)
    axes.set_title(f"(a) a residual mapping of {data['model']}, stage {data['stage']:g}", fontsize=10)
    branch = [found for found in boxes if found.role == "branch"]
    noise = next((found for found in boxes if found.role == "noise"), None)
    middle, right, high, top, sum_y = 4.2, 8.9, 0.75, 10.4, 2.9
    step = (top - sum_y - 0.9) / len(branch)
    places = [top - 0.6 - step * (k + 0.35) for k in range(len(branch))]
    text(axes, middle, 11.5, f"$x_l$   {branch[0].input_shape}")
    arrow(axes, (middle, 11.15), (middle, places[0] + high / 2))
    arrow(axes, (middle, top + 0.2), (right, top + 0.2), (right, sum_y), (middle + 0.45, sum_y))
    seen = {}
    for k, (found, y) in enumerate(zip(branch, places, strict=True)):
        if k:
            arrow(axes, (middle, y + step - high / 2), (middle, y + high / 2))
        box(axes, (middle, y), (7.9, high), "branch", fill="white")
        text(axes, 0.5, y, _symbol(found.label, seen), ha="left", fontsize=11)
        text(axes, 2.9, y, found.label, ha="left", fontsize=9)
        text(axes, 7.95, y, number(found.n_parameters), ha="right", fontsize=8.5)
    text(axes, 7.95, places[0] + high / 2 + 0.25, "parameters", ha="right", fontsize=7.5, color="#555555")
    text(axes, right + 0.4, (top + sum_y) / 2, "identity", rotation=90, fontsize=9)
    arrow(axes, (middle, places[-1] - high / 2), (middle, sum_y + 0.4))
    plus(axes, middle, sum_y)
    if noise:
        arrow(axes, (middle, sum_y - 0.4), (middle, 2.05))
        box(axes, (7.6, 1.65), (4.2, 0.85), "noise")
        text(axes, 7.6, 1.65, f"${law_of(noise.noise)}$,  $a$ = {noise.coef:g}", fontsize=9)
        arrow(axes, (5.5, 1.65), (middle + 0.45, 1.65))
        plus(axes, middle, 1.65)
        arrow(axes, (middle, 1.25), (middle, 0.75))
    else:
        arrow(axes, (middle, sum_y - 0.4), (middle, 0.75))
    text(axes, middle, 0.35, f"$x_{{l+1}}$   {branch[-1].output_shape}")


def _symbol(label, seen):
    """The layer in the paper's notation; `seen` counts those of its kind."""
    for start, (letter, operator) in SYMBOLS.items():
        if label.startswith(start):
            seen[letter] = seen.get(letter, 0) + 1
            return rf"$w_l^{{{letter}{seen[letter]}}}\,{operator}$"
    return r"$\sigma$" if label == "ReLU" else ""


def _characteristics(figure, axes, data, found):
    axes.set_title("(b) characteristics of a velocity: $u$ is constant along them", fontsize=10)
    low, high = data["edge"]
    largest = np.abs(data["picture"]).max()
    # Indexed [i, j] for (x_i, y_j).
    # Few colours, which a palette holds.
    levels = np.linspace(-largest, largest, N_LEVELS)
    axis = np.linspace(low, high, len(data["picture"]))
    image = axes.contourf(axis, axis, data["picture"].T, levels, cmap="RdBu_r")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="$f = u(x, T)$; in the circles $u(x, 0)$")
    bar.set_ticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if abs(tick) <= largest])
    axes.plot(*np.moveaxis(data["curve"], -1, 0), color="black", lw=1.1)
    states = np.moveaxis(data["network_state"][1:-1], -1, 0).reshape(2, -1)
    axes.plot(*states, ".", color="black", ms=3.2)
    axes.scatter(
        *data["curve"][0].T, c=data["along"][0], cmap="RdBu_r", vmin=-largest, vmax=largest, s=46, edgecolors="black",
        linewidths=0.9, zorder=3,
    )  # fmt: skip
    for before, end in zip(data["curve"][-4], data["curve"][-1], strict=True):
        axes.annotate("", end, before, arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.1, "shrinkB": 0})
    depths = data["n_layers"]
    deviation = found["network"]["largest_deviation"]
    words = (
        f"largest $|u(X_t, t) - u(x, 0)|$: {_power(found['largest_deviation_along_curves'])} (spectral $u$),\n"
        f"{deviation[0]:.2g} for {depths[0]:g} layers (dots), {deviation[-1]:.1g} for {depths[-1]:g}: "
        f"order {found['network']['order']['order']:.2f} ± {found['network']['order']['stderr']:.2f}"
    )
    axes.set_xlabel(f"$x$ (length 1, $T$ = {data['horizon']:g})\n{words}", fontsize=9)
    axes.set(ylabel="$y$", xlim=(low, high), ylim=(low, high), aspect="equal")


def _hidden(axes, data, found):
    n_steps = found["stage"]["n_time_steps"]
    axes.set_title(f"(c) states in stage {data['stage']:g} of {data['model']}, {n_steps} blocks", fontsize=10)
    for k, name in enumerate(data["class_name"].tolist()):
        colour, marker = CLASSES[k % len(CLASSES)]
        own = data["label"] == k
        axes.plot(*np.moveaxis(data["block_state"][:, own], -1, 0), color=colour, lw=0.8, alpha=0.7)
        axes.plot(*np.moveaxis(data["state"][:, own][:, :1], -1, 0), color=colour, lw=1.6, ls="--")
        axes.plot(*data["state"][-1, own][:1].T, "x", color=colour, ms=8, mew=2)
        middle = np.moveaxis(data["block_state"][1:-1, own], -1, 0).reshape(2, -1)
        axes.plot(*middle, marker, color=colour, ms=3)
        axes.plot(*data["block_state"][0, own].T, marker, mec=colour, mfc="white", ms=4.5)
        axes.plot(*data["block_state"][-1, own].T, marker, color=colour, ms=6, label=name)
    first, second = data["explained"]
    apart = found["stage"]["median_distance_to_equation"]
    words = f"dashed to ×: the equation; it ends {apart:.0%} of the way off (median)\n{data['source']}"
    axes.set_xlabel(f"first principal component ({first:.0%} of the variance)\n{words}", fontsize=8.5)
    axes.set_ylabel(f"second principal component ({second:.0%})", fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.14 * (high - low))
    title = "hollow: before the stage's blocks; full: after them"
    axes.legend(
        fontsize=8.5, frameon=False, ncols=4, loc="upper center", title=title, title_fontsize=8.5, columnspacing=1,
        handletextpad=0.2,
    )  # fmt: skip


def _power(x):
    """A small number as a rounded multiple of a power of ten."""
    mantissa, exponent = f"{x:.0e}".split("e")
    return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"
