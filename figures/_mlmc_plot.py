"""The panels of the figure `mlmc`; computes nothing."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures._style import BLUE, GREEN, GREY, PURPLE, RED

__all__ = ["panels"]


def panels(data, found):
    """Draw four panels: cost against accuracy, the levels, the options' gains, and seconds beside other packages."""
    figure = Figure(figsize=(11.5, 9.2), layout="constrained")
    (cost, levels), (gains, seconds) = figure.subplots(2, 2)
    _cost(cost, data, found)
    _levels(levels, data, found)
    _gains(gains, data)
    _seconds(seconds, data)
    return figure


def _slope(found, name, expected, sign=1):
    fit = found["slopes"][name]
    # A minus sign as long as the figures' dashes.
    theory = "" if expected is None else f" (theory {expected})"
    return f"slope {sign * fit['order']:.2f} ± {fit['stderr']:.2f}{theory}".replace("-", "−")


def _line(axes, found, name, x, **style):
    x = np.array([x.min(), x.max()])
    axes.plot(x, found["lines"][name] * x ** found["slopes"][name]["order"], **style)


def _cost(axes, data, found):
    axes.set_title("(a) cost against accuracy", fontsize=10)
    runs = (
        ("plain", "plain_error", "plain_cost", RED, "s", -3),
        ("multilevel", "error", "cost", BLUE, "o", -2),
        ("solve_to", "solve_error", "solve_cost", PURPLE, "D", None),
    )
    for name, error, cost, colour, marker, expected in runs:
        fit = cost if name == "solve_to" else f"{name}_cost"
        axes.plot(data[error], data[cost], marker, color=colour, ms=6, label=f"{name}: {_slope(found, fit, expected)}")
        _line(axes, found, fit, data[error], color=colour, lw=1.2)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"rms error over {data['n_points']:g} points, against the\nspectral solution; accuracy grows →",
        ylabel="path-steps",
    )
    ratio = found["cost_ratio"]
    ends = [
        found["lines"][name] * ratio["error"] ** found["slopes"][name]["order"]
        for name in ("multilevel_cost", "plain_cost")
    ]
    axes.annotate(
        "",
        (ratio["error"], ends[1]),
        (ratio["error"], ends[0]),
        arrowprops={"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0},
    )
    axes.annotate(
        f"× {ratio['plain_over_multilevel']:.1f}",
        (ratio["error"], np.sqrt(ends[0] * ends[1])),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )
    # Accuracy grows to the right, as in the levels' panel.
    axes.invert_xaxis()
    axes.legend(loc="upper left", fontsize=8.5, frameon=False)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.28)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _levels(axes, data, found):
    axes.set_title("(b) the levels: $Y_l = f(X^l) - f(X^{l-1})$", fontsize=10)
    n_steps = data["level_n_steps"]
    axes.plot(n_steps[:1], data["level_variance"][:1], "o", mfc="white", color=BLUE, ms=6)
    axes.plot(n_steps[:1], data["level_mean"][:1], "^", mfc="white", color=GREEN, ms=6)
    axes.annotate("$Y_0 = f(X^0)$", (n_steps[0], data["level_variance"][0]), (6, 0), textcoords="offset points",
                  va="center", fontsize=9)  # fmt: skip
    axes.plot(
        n_steps[1:], data["level_variance"][1:], "o", color=BLUE, ms=6,
        label=f"variance: {_slope(found, 'level_variance', -2, -1)}",
    )  # fmt: skip
    axes.errorbar(
        n_steps[1:], data["level_mean"][1:], yerr=data["level_noise"][1:], fmt="^", color=GREEN, ms=6, capsize=2,
        label=f"rms mean: {_slope(found, 'level_mean', -1, -1)}",
    )  # fmt: skip
    for name, colour in (("level_variance", BLUE), ("level_mean", GREEN)):
        h = 1 / n_steps[3:]
        fit = found["lines"][name] * h ** found["slopes"][name]["order"]
        axes.plot(n_steps[3:], fit, color=colour, lw=1.2)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="steps $n_l$ of the fine path",
        ylabel="variance (unit of $f^2$), rms mean (unit of $f$)",
    )
    axes.set_xticks(n_steps, [f"{n:g}" for n in n_steps])
    axes.minorticks_off()
    axes.legend(loc="lower left", fontsize=8.5, frameon=False)
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.15, high)


def _gains(axes, data):
    axes.set_title("(c) variance ratio to plain paths at equal cost", fontsize=10)
    place = np.arange(len(data["option"]))[::-1]
    bars = (
        ("gain_per_step", 0.19, BLUE, "at equal path-steps"),
        ("gain_per_second", -0.19, GREY, "at equal time, set-up included"),
    )
    for key, shift, colour, label in bars:
        # Bars start at 1, no gain: a logarithmic axis has no 0.
        axes.barh(place + shift, data[key] - 1, height=0.36, color=colour, label=label, left=1)
        for y, gain in zip(place + shift, data[key], strict=True):
            axes.annotate(f" {gain:.3g}", (max(gain, 1.0), y), va="center", fontsize=8.5)
    axes.axvline(1, color="black", lw=1)
    axes.set_yticks(place, data["option"])
    low = 0.8 * min(1.0, data["gain_per_second"].min())
    high = 3 * max(data["gain_per_step"].max(), data["gain_per_second"].max())
    axes.set(xscale="log", xlim=(low, high), ylim=(-1.4, len(place) - 0.5))
    axes.set_xlabel(f"gain, {data['option_n_paths']:g} paths of {data['option_n_steps']:g} steps per point")
    axes.legend(loc="lower right", fontsize=8.5, frameon=False)


def _seconds(axes, data):
    axes.set_title("(d) seconds against accuracy, beside other packages", fontsize=10)
    lines = ((PURPLE, "D"), (BLUE, "o"), (RED, "s"), (GREEN, "^"), (GREY, "v"))
    methods = dict.fromkeys(data["timed_method"].tolist())
    # A record made without a peer's environment has fewer.
    for (colour, marker), method in zip(lines[: len(methods)], methods, strict=True):
        mine = data["timed_method"] == method
        axes.plot(data["timed_error"][mine], data["timed_time"][mine], marker, ls="-", color=colour, ms=6, label=method)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"rms error over {data['timed_n_points']:g} points, of benchmarks/work_precision.py\n"
        f"at commit {data['timed_at']}; accuracy grows →",
        ylabel="seconds",
    )
    axes.invert_xaxis()
    axes.legend(loc="upper left", fontsize=8.5, frameon=False)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.2)
