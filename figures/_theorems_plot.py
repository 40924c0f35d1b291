"""The drawing of the two theorems; computes nothing."""

import numpy as np
from matplotlib.figure import Figure

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their dashes.
RED, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"
BOUNDS = (
    ("published", RED, ":", "Theorem 2.2 as printed"),
    ("corrected", BLUE, "--", "corrected"),
    ("sharp", GREEN, "-", "sharp"),
)
ALPHA_COLOURS = ("#56B4E9", "#0072B2", "#CC79A7", "#000000")
# A bound beyond this is told in words.
HIGHEST = 1e7
SLOPE = r"$\sup_x |\nabla u|$"


def panels(data):
    """Six panels: slopes and bounds for three velocities; the counterexample twice; Hölder constants.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.theorems.compute`: `smooth_measured` of shape (f, m), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(14.5, 8.8), layout="constrained")
    above, below = figure.subplots(2, 3)
    n = int(data["rough_n"])
    rough = {key: data[f"rough_{key}"] for key in ("measured", "noise", "published", "corrected", "sharp")}
    _slopes(above[0], data["rough_sigma"], rough, f"grid noise (Figure 4, n = {n})", data["rough_gamma"])
    for axes, row in zip(above[1:], range(len(data["smooth_family"])), strict=True):
        smooth = {key: data[f"smooth_{key}"][row] for key in ("measured", "published", "corrected", "sharp")}
        name = f"{data['smooth_family'][row]} velocity"
        _slopes(axes, data["smooth_sigma"], smooth, name, data["smooth_gamma"][row])
    above[0].set_ylabel(f"{SLOPE} at t = 0")
    above[1].legend(loc="lower left", fontsize=8.5, frameon=False)
    _over_time(below[0], data)
    _over_sigma(below[1], data)
    _hoelder(below[2], data)
    return figure


def _slopes(axes, sigma, found, name, gamma):
    axes.set_title(f"(a) {name}, γ = {float(gamma):.3g}", fontsize=10)
    _bounds(axes, sigma, found)
    noise = found.get("noise", np.zeros_like(sigma))
    axes.errorbar(
        sigma, found["measured"], yerr=np.where(noise > 0, noise, np.nan), fmt="ko-", ms=5, lw=0.9, capsize=2,
        label="measured",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="σ", ylim=(0.1, HIGHEST))
    _sigma_ticks(axes, sigma)


def _sigma_ticks(axes, sigma):
    ticks = [s for s in (0.003, 0.01, 0.03, 0.1, 0.3) if sigma.min() <= 1.01 * s <= 1.02 * sigma.max()]
    axes.set_xticks(ticks, [f"{s:g}" for s in ticks])
    axes.minorticks_off()


def _bounds(axes, x, found):
    for key, colour, dashes, label in BOUNDS:
        values = found[key]
        if (values > HIGHEST).all():
            exponents = f"{np.log10(values.max()):.0f}"
            text = f"printed bound: $10^{{{exponents}}}$"
            axes.annotate(text, (0.5, 0.95), xycoords="axes fraction", ha="center", color=colour, fontsize=9)
        else:
            axes.plot(x, values, color=colour, ls=dashes, lw=1.8, label=label)


def _gaussian(axes, data, panel, x, *, note):
    found = {key: data[f"{panel}_{key}"] for key in ("published", "corrected", "sharp")}
    _bounds(axes, x, found)
    axes.plot(x, data[f"{panel}_exact"], color="black", lw=0.9, label="closed form")
    axes.plot(x, data[f"{panel}_measured"], "ko", ms=4, label="spectral solution")
    wrong = data[f"{panel}_exact"] > found["published"]
    axes.fill_between(
        x, found["published"], data[f"{panel}_exact"], where=wrong, color=RED, alpha=0.15, lw=0, interpolate=True
    )
    place = {"xycoords": "axes fraction", "ha": "right", "color": RED, "fontsize": 8.5}
    axes.annotate("true slope >\nprinted bound", (0.98, note), **place)
    axes.set(yscale="log", ylabel=SLOPE)
    low, high = axes.get_ylim()
    ticks = [t for t in (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low < t < high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def _over_time(axes, data):
    radius, sigma = float(data["radius"]), float(data["time_sigma"])
    axes.set_title(f"(b) v = 0, Gaussian of radius {radius:g}, σ = {sigma:g}: the printed bound fails", fontsize=10)
    _gaussian(axes, data, "time", data["time"], note=0.29)
    axes.set(xlabel="time from the data, T − t")
    axes.legend(loc="lower left", fontsize=8.5, frameon=False)


def _over_sigma(axes, data):
    threshold, lowest = float(data["threshold"]), float(data["any_threshold"])
    axes.set_title(f"(b) the same at T − t = 1: it fails for σ > {threshold:.3f}", fontsize=10)
    _gaussian(axes, data, "wide", data["wide_sigma"], note=0.42)
    axes.axvline(threshold, color=RED, lw=1)
    axes.axvline(lowest, color="grey", lw=1, ls="-.")
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}
    axes.annotate(f"below σ = {lowest:.3f}\nit holds for\nevery datum", (lowest, 0.03), (-6, 0), ha="right", **place)
    axes.annotate("this datum violates\nit from here", (threshold, 0.03), (6, 0), ha="left", color=RED, **place)
    axes.set(xlabel="σ")


def _hoelder(axes, data):
    sigma, n = data["rough_sigma"], int(data["rough_n"])
    axes.set_title(f"(c) Hölder constants, grid noise, all pairs of {n}² points", fontsize=10)
    for column, (alpha, colour) in enumerate(zip(data["alpha"], ALPHA_COLOURS, strict=True)):
        noise = data["hoelder_noise"][:, column]
        axes.errorbar(
            sigma, data["hoelder"][:, column], yerr=np.where(noise > 0, noise, np.nan), fmt="o-", ms=4, lw=1.2,
            capsize=2, color=colour, label=f"α = {alpha:g}",
        )  # fmt: skip
        axes.plot(sigma, data["hoelder_bound"][:, column], ls="--", lw=1, color=colour)
    axes.axvspan(axes.get_xlim()[0], 1 / n, color="grey", alpha=0.12, lw=0)
    axes.annotate("◂ σ below the grid spacing", (1 / n, 0.96), (2, 0), xycoords=("data", "axes fraction"), va="top",
                  textcoords="offset points", fontsize=8.5, color="#555555")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="σ", xlim=(sigma.min() * 0.85, sigma.max() * 1.15))
    axes.set_ylabel(r"smallest $C$: $|u(x+\delta) - u(x)| \leq C (|\delta|/\sigma)^\alpha$")
    axes.plot([], [], ls="--", lw=1, color="grey", label="bound (corrected 2.1)")
    axes.legend(loc="lower left", fontsize=8.5, frameon=False, ncols=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.2, high * (high / low) ** 0.08)
    _sigma_ticks(axes, sigma)
