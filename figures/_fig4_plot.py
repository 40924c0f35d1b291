"""The drawing of Figure 4 and of its evidence; computes nothing."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure

__all__ = ["contours", "evidence"]

N_LEVELS = 10
# One colour and one marker for each sigma, told apart by the colour-blind too (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^v<"


def contours(data):
    """Contour panels as in the paper: (a), (b), ... u(x, 0) for each sigma, and last the terminal datum.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.fig4.compute`: `u` of shape (m, n, n) and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    sigmas = np.atleast_1d(data["sigma"])
    panels = [*data["u"], data["terminal"]]
    titles = [rf"$\sigma = {sigma:g}$" for sigma in sigmas] + [r"$u(\mathbf{x}, 1)$"]
    columns = 2 if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    caption = _caption(data)
    # Inches: a row of panels, and below them the caption.
    caption_height = 0.17 * (caption.count("\n") + 1) + 0.15
    height = 3.5 * rows + caption_height
    figure = Figure(figsize=(4.2 * columns, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, caption_height / height, 1, 1 - caption_height / height), hspace=0.04)
    grid = figure.add_gridspec(rows, columns)
    for place, (u, title) in enumerate(zip(panels, titles, strict=True)):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _contour_panel(figure, axes, u)
        axes.set_xlabel(f"({chr(ord('a') + place)}) {title}", labelpad=4, fontsize=11)
    figure.text(0.02, 0.08 / height, caption, fontsize=8, va="bottom", linespacing=1.3)
    return figure


def _contour_panel(figure, axes, u):
    n = len(u)
    side = np.arange(n + 1) / n
    closed = np.pad(u, ((0, 1), (0, 1)), mode="wrap")
    low, high = float(u.min()), float(u.max())
    axes.set_aspect("equal")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.2), yticks=np.arange(0, 1.1, 0.2))
    axes.tick_params(direction="in", top=True, right=True)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        axes.text(0.5, 0.5, f"constant {low:g}", ha="center", va="center")
        return
    norm = matplotlib.colors.Normalize(low, high)
    levels = np.linspace(low, high, N_LEVELS + 2)[1:-1]
    # Grid functions are [i, j] for (x_i, y_j); contour wants rows of constant y.
    axes.contour(side, side, closed.T, levels=levels, norm=norm, linewidths=0.9)
    mappable = matplotlib.cm.ScalarMappable(norm=norm)
    figure.colorbar(mappable, ax=axes, fraction=0.046, pad=0.04)


def _caption(data):
    parts = []
    for place, sigma in enumerate(np.atleast_1d(data["sigma"])):
        letter = chr(ord("a") + place)
        parts.append(f"({letter}) σ = {sigma:g}: {data['method'][place]} ({data['why'][place]}).")
    return "\n".join(line for part in parts for line in textwrap.wrap(part, 132 if len(parts) <= 3 else 195))


def evidence(data):
    """Three panels: the two solvers compared, range and slope against sigma, the literal recipe's growth.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.fig4.compute`: `u` of shape (m, n, n) and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(13.5, 4.3), layout="constrained")
    histogram, fall, growth = figure.subplots(1, 3)
    _histogram(histogram, np.atleast_1d(data["z_sigma"]), data["z"])
    _fall(fall, data)
    _growth(growth, data)
    return figure


def _histogram(axes, sigmas, scores):
    axes.set_title("(a) both solvers, where both apply", fontsize=10)
    axes.set(xlabel="(Feynman–Kac − spectral) / standard error", ylabel="density")
    z = np.linspace(-4.5, 4.5, 181)
    axes.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color="black", label="normal law")
    for sigma, z_scores, colour in zip(sigmas, scores, COLOURS, strict=False):
        label = (
            f"σ = {sigma:g}: {len(z_scores)} points, s.d. {z_scores.std():.2f}, max |z| {np.abs(z_scores).max():.1f}"
        )
        axes.hist(z_scores, bins=np.arange(-4.5, 4.6, 0.25), density=True, alpha=0.45, color=colour, label=label)
    if not len(sigmas):
        axes.text(0.5, 0.5, "no σ > 0 here that\nthe grid resolves", transform=axes.transAxes, ha="center")
    axes.set_ylim(0, 0.62)
    axes.legend(loc="upper center", fontsize=8, frameon=False)


def _fall(axes, data):
    axes.set_title("(b) range and slope of u(x, 0) against σ", fontsize=10)
    sigma = data["sweep_sigma"]
    # sigma = 0 stands at the left edge of a symmetric-log axis.
    threshold = sigma[sigma > 0].min() if (sigma > 0).any() else 1.0
    axes.set_xscale("symlog", linthresh=threshold, linscale=0.4)
    axes.fill_between(
        sigma, data["sweep_low"], data["sweep_high"], color=COLOURS[0], alpha=0.25, label="range of u (left)"
    )
    axes.plot(sigma, data["sweep_low"], "o-", color=COLOURS[0], ms=4)
    axes.plot(sigma, data["sweep_high"], "o-", color=COLOURS[0], ms=4)
    axes.set(xlabel="σ  (length / time$^{1/2}$)", ylabel="min u, max u", ylim=(-1.1, 1.1))
    axes.set_xticks(sigma, [f"{s:g}" for s in sigma], fontsize=8)
    axes.minorticks_off()
    slope = axes.twinx()
    slope.plot(sigma, data["sweep_gradient"], "s--", color=COLOURS[1], ms=4, label="sup |∇u| (right)")
    slope.set(ylabel="sup |∇u| between grid points  (1 / length)", yscale="log")
    handles = [*axes.get_legend_handles_labels()[0], *slope.get_legend_handles_labels()[0]]
    slope.legend(handles, [handle.get_label() for handle in handles], fontsize=8, loc="center left", frameon=False)


def _growth(axes, data):
    axes.set_title("(c) the paper's recipe to the letter", fontsize=10)
    for place, sigma in enumerate(np.atleast_1d(data["literal_sigma"])):
        style = {"color": COLOURS[place % 6], "marker": MARKERS[place % 6], "markevery": 10, "ms": 4}
        sup = data["literal_sup"][place]
        axes.plot(1 - data["literal_t"], sup, label=f"σ = {sigma:g}: {sup[-1]:.2g} at t = 0", **style)
    axes.axhline(np.abs(data["terminal"]).max(), color="black", lw=1, label="maximum principle: max |f|")
    axes.set(xlabel="time to go, 1 − t", ylabel="max |u(·, t)|", yscale="log", xlim=(0, 1))
    axes.legend(fontsize=8, loc="upper left", frameon=False)
