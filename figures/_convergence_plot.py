"""The drawing of the convergence of networks to the solution; computes nothing."""

import numpy as np
from matplotlib.figure import Figure

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers.
BLUE, RED, GREY = "#0072B2", "#D55E00", "#999999"
LAWS = {"gaussian": (BLUE, "o", "Gaussian"), "laplace": (RED, "s", "Laplace")}


def panels(data, found):
    """Two panels: the error against the depth and against the number of draws.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.convergence.compute`: `bias` of shape (w, l), and the rest.
    found : dict
        As from `figures.convergence.findings`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    depth, draws = figure.subplots(1, 2)
    _over_depth(depth, data, found["order_in_depth"])
    _over_draws(draws, data, found["order_in_draws"])
    return figure


def _slope(fit, expected):
    if fit["order"] is None:
        return "no slope: too noisy"
    # A minus sign as long as the figures' dashes.
    return f"slope −{fit['order']:.3f} ± {fit['stderr']:.3f} (theory −{expected})"


def _line(axes, fit, n, colour):
    if fit["order"] is not None:
        axes.plot(n, fit["constant"] * n ** -fit["order"], color=colour, lw=1.2)


def _reference(axes, n, start, order, text):
    """A line of the slope of the theory, below the data."""
    axes.plot(n, start * (n / n[0]) ** -order, color=GREY, ls="--", lw=1.2)
    middle = np.sqrt(n[0] * n[-1])
    axes.annotate(text, (middle, start * (middle / n[0]) ** -order), (-4, -3), textcoords="offset points", ha="right",
                  va="top", color="#555555", fontsize=9)  # fmt: skip


def _over_depth(axes, data, fits):
    axes.set_title(f"(a) depth: error of the expectation, {data['n_bias_points']:g} points", fontsize=10)
    n = data["n_layers"]
    for row, law in enumerate(data["law"].tolist()):
        colour, marker, name = LAWS[law]
        axes.errorbar(
            n, data["bias"][row], yerr=data["bias_stderr"][row], fmt=marker, color=colour, ms=5, capsize=3,
            label=f"{name}: {_slope(fits[law], 1)}",
        )  # fmt: skip
        _line(axes, fits[law], n, colour)
    _reference(axes, n, 0.6 * data["bias"][:, 0].min(), 1, "$1/L$")
    axes.set_xlabel("layers $L$")
    axes.set_ylabel(r"rms over points of $E[f(x_L)] - u(x, 0)$, units of $f$")
    _finish(axes, n, room=0.12)


def _over_draws(axes, data, fits):
    axes.set_title(f"(b) draws: error of the mean, {data['n_error_points']:g} points", fontsize=10)
    n = data["n_draws"]
    # The root mean square of m normals is known to this part of itself.
    scatter = 1 / np.sqrt(2 * data["n_error_points"])
    for row, law in enumerate(data["law"].tolist()):
        colour, marker, name = LAWS[law]
        for place, depth in enumerate(data["depth"]):
            error, deepest = data["error"][row, place], place == len(data["depth"]) - 1
            text = f", $L = {depth:g}$" + (f": {_slope(fits[law], '1/2')}" if deepest else "")
            axes.errorbar(
                n, error, yerr=scatter * error, fmt=marker, color=colour, ms=5, capsize=3,
                mfc=colour if deepest else "white", label=name + text,
            )  # fmt: skip
            if not deepest:
                axes.axhline(data["depth_bias"][row, place], color=colour, ls=":", lw=1.2)
        _line(axes, fits[law], n, colour)
    _reference(axes, n, 0.6 * data["error"][:, -1, 0].min(), 0.5, r"$1/\sqrt{N}$")
    floor = data["depth_bias"][:, 0].max()
    axes.annotate(f"error (a) of $L = {data['depth'][0]:g}$", (n[0], floor), (0, 3), textcoords="offset points",
                  fontsize=9, color="#555555")  # fmt: skip
    axes.set_xlabel("draws $N$ of the noise a point")
    axes.set_ylabel("rms over points of mean − $u(x, 0)$, units of $f$")
    _finish(axes, n, room=0.5)


def _finish(axes, n, *, room):
    """Logarithmic axes with plain numbers, and room below the data for the legend."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(n, [f"{count:g}" for count in n])
    low, high = axes.get_ylim()
    low /= (high / low) ** room
    ticks = [t for t in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low <= t <= high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.legend(loc="lower left", fontsize=9, frameon=False)
