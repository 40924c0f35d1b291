"""What the published Figure 4 shows: which readings of its recipe have the ranges and the roughness of its panels.

    u_t + v . grad u + nu lap u = 0,  u(x, T) = f(x);  as printed nu = sigma**2 / 2, T = 1             (paper: (2.8))

The solution of the printed recipe (`python -m figures.fig4`) is not what the paper shows: its panel (b), sigma = 0.01,
has half the range of the datum and is as smooth, and (c), sigma = 0.1, a seventh. Here candidate readings are solved
for 8 seeds of velocity and datum: sigma taken as a diffusivity or a variance, the half dropped; a shorter time; a
velocity that is smooth, scaled, or drawn anew at each step of 1e-3; wavenumbers without their 2 pi; data of other
modes; and the pseudospectral method itself, with and without the 2/3 rule and with a spectral filter at each step.

Measured for each panel: minimum and maximum of u, their difference, and the length of ten contour lines between them,
relative to that of the datum. The same for the published panels: the ends of the colour bars, and the coloured pixels
of the contour lines relative to those of its panel (d). The rule: a number is compatible if it lies within the 99 %
prediction interval of the 8 seeds, widened by what can be read from the picture (0.05 of an end of a range in (a) and
(b), 0.01 in (c), twice that of the difference, 0.15 of a length); a panel if its four numbers are; a reading if all
three panels are. A run that leaves [-2, 2] blows up. The rule was fixed before the runs, but for the difference: the
ends scatter together from seed to seed, so that without it a field that is nearly constant can pass.

Prints a Markdown table. Minutes, with --quick a small part of that (2 seeds, n = 32).
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import contourpy
import numba
import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures._cli import make_main
from figures._style import BLACK, BLUE, GREEN, GREY, RED, letter
from figures.fig4 import PAPER_DT, PUBLISHED_RANGES, path_average
from pde.transforms import to_spectrum, to_values

__all__ = ["READINGS", "Reading", "compute", "contour_length", "findings", "main", "march", "plot", "table"]

SIGMAS = tuple(PUBLISHED_RANGES)
# Contour length of each published panel over that of its datum (d): coloured pixels inside the frames of the picture,
# the mean of three thresholds of saturation, which give 1.32 to 1.48, 0.86 to 0.94 and 0.33 to 0.38.
PUBLISHED_LENGTHS = (1.38, 0.91, 0.35)
RANGE_TOLERANCE, LENGTH_TOLERANCE = (0.05, 0.05, 0.01), 0.15
CONFIDENCE, BLOW_UP, LOST, N_LEVELS = 0.99, 2.0, 1e3, 10
DIFFUSIVITIES = {"σ²/2": lambda s: s * s / 2, "σ²": lambda s: s * s, "σ/2": lambda s: s / 2, "σ": lambda s: s}
N_PATHS, N_STEPS = 32, 200
# A bar of this length is about as long as it is high.
SHORT = 0.05
# Exponential filter of order 36 at each step, machine precision at the last mode (Hou & Li 2007).
FILTER_STRENGTH, FILTER_ORDER = 36.0, 36


class Reading(NamedTuple):
    """A reading of the recipe: the problem and the method."""

    group: str
    nu: str
    horizon: float = 1.0
    velocity: str = "grid-noise"
    scale: float = 1.0
    n_modes: int = 5
    # "exact", or the pseudospectral method: "2/3 rule", "no 2/3 rule", "filter".
    scheme: str = "exact"
    # Factor on nu; the wavenumbers without 2 pi divide nu by its square.
    nu_scale: float = 1.0

    @property
    def name(self):
        """Diffusivity and time, after the group."""
        return f"ν = {self.nu}, T = {self.horizon:g}"


TIMES = (1.0, 0.1)
NU = tuple(DIFFUSIVITIES)
PI2 = 2 * np.pi
READINGS = (
    *(Reading("grid noise (as printed)", nu, T) for T in (1.0, 0.2, 0.1) for nu in NU),
    *(Reading("smooth velocity", nu, T, "band-limited") for T in (1.0, 0.2, 0.1) for nu in NU),
    *(Reading("smooth velocity / 10", nu, velocity="band-limited", scale=0.1) for nu in NU),
    *(Reading("no 2π in the wavenumbers", nu, scale=1 / PI2, nu_scale=1 / PI2**2) for nu in NU),
    *(Reading("velocity redrawn each step", nu, T, "redrawn", scheme="2/3 rule") for T in TIMES for nu in NU),
    *(Reading("datum of modes ≤ 3", nu, T, n_modes=3) for nu, T in (("σ²/2", 1.0), ("σ", 0.1))),
    *(Reading("datum of modes ≤ 8", nu, T, n_modes=8) for nu, T in (("σ²/2", 1.0), ("σ", 0.1))),
    *(
        Reading(f"pseudospectral, {scheme}", nu, T, scheme=scheme)
        for scheme in ("2/3 rule", "no 2/3 rule", "filter")
        for nu, T in (("σ²/2", 1.0), ("σ", 1.0), ("σ²/2", 0.1), ("σ", 0.1))
    ),
)


def compute(*, quick=False, seed=0):
    """`low`, `high` and `length` (r, s, m) of the readings, seeds and sigmas; NaN where a run blows up."""
    n, n_seeds = (32, 2) if quick else (128, 8)
    shape = (len(READINGS), n_seeds, len(SIGMAS))
    low, high, length = (np.full(shape, np.nan) for _ in range(3))
    with tqdm(total=n_seeds * len(READINGS), disable=None, desc="fig4_forensics", unit="reading") as bar:

        def fill(place):
            solve = functools.cache(functools.partial(_solution, n, seed + place))
            for row, reading in enumerate(READINGS):
                f = _data(n, seed + place, "grid-noise", reading.n_modes)[1]
                reference = contour_length(f)
                for column, sigma in enumerate(SIGMAS):
                    nu = DIFFUSIVITIES[reading.nu](sigma) * reading.nu_scale
                    u = solve(nu, reading.horizon, reading.velocity, reading.scale, reading.n_modes, reading.scheme)
                    if np.isfinite(u).all() and np.abs(u).max() <= BLOW_UP:
                        low[row, place, column], high[row, place, column] = u.min(), u.max()
                        length[row, place, column] = contour_length(u) / reference
                bar.update()

        # Seeds share nothing, and their transforms and loops run without Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(fill, range(n_seeds)))
    return {
        "group": np.array([reading.group for reading in READINGS]),
        "name": np.array([reading.name for reading in READINGS]),
        "low": low, "high": high, "length": length, "n": np.array(float(n)),
    }  # fmt: skip


def _data(n, seed, velocity, n_modes):
    """Values of the velocity (2, n, n) and of the datum (n, n), of the streams of Figure 4."""
    v_rng, f_rng = np.random.default_rng(seed).spawn(2)
    draw = pde.random_fields.band_limited if velocity == "band-limited" else pde.random_fields.grid_noise
    return draw(n, v_rng), pde.random_fields.terminal_datum(n, f_rng, n_modes=n_modes).on_grid(n)


def _solution(n, seed, nu, horizon, velocity, scale, n_modes, scheme):
    """u(x, 0) on the grid, shape (n, n)."""
    field, f = _data(n, seed, velocity, n_modes)
    if velocity == "redrawn":
        rng = np.random.default_rng([seed, 1])
        if nu == 0:
            return _along_redrawn(f, rng, round(horizon / PAPER_DT))
        return march(f, lambda: rng.uniform(-1, 1, (2, n, n)), nu, round(horizon / PAPER_DT), scheme)
    if scheme != "exact":
        return march(f, lambda: field.values, nu, round(horizon / PAPER_DT), scheme)
    scaled = pde.PeriodicField(scale * field.values, interpolation=field.interpolation)
    problem = pde.ConvectionDiffusion(scaled, f, sigma=float(np.sqrt(2 * nu)), horizon=horizon)
    try:
        return pde.spectral.solve(problem, n, rtol=1e-3, resolution=1e-2).field.on_grid(n)
    except pde.UnresolvedError:
        n_steps = max(20, round(N_STEPS * horizon))
        return path_average(problem, n, N_PATHS, n_steps, seed).mean


def march(f, velocity, nu, n_steps, scheme):
    """Pseudospectral Runge-Kutta 4 in time to go, nu in an integrating factor; velocity() (2, n, n) once per step."""
    n, dt = len(f), PAPER_DT
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    kx, ky = k[:, None], k[None, : n // 2 + 1]
    half = np.exp(-nu * (kx**2 + ky**2) * dt / 2)
    size = np.maximum(np.abs(kx), np.abs(ky)) / np.abs(k).max()
    keep = {
        "2/3 rule": size <= 2 / 3, "no 2/3 rule": np.ones_like(size),
        "filter": np.exp(-FILTER_STRENGTH * size**FILTER_ORDER),
    }[scheme]  # fmt: skip

    def rate(hat, v):
        return keep * to_spectrum(v[0] * to_values(1j * kx * hat, n) + v[1] * to_values(1j * np.abs(ky) * hat, n))

    u = to_spectrum(f)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(n_steps):
            if step % 20 == 0 and not np.abs(u).max() < LOST:
                break
            v = velocity()
            a = rate(u, v)
            b = rate(half * (u + dt / 2 * a), v)
            c = rate(half * u + dt / 2 * b, v)
            d = rate(half * (half * u + dt * c), v)
            u = half * (half * (u + dt / 6 * a) + dt / 3 * (b + c)) + dt / 6 * d
            u = keep * u if scheme == "filter" else u
        return to_values(u, n)


def _along_redrawn(f, rng, n_steps):
    """f at the ends of the characteristics of a velocity that is drawn anew at each step."""
    n = len(f)
    x = pde.grid.points(n).reshape(-1, 2).copy()
    for _ in range(n_steps):
        _advance(x, rng.uniform(-1, 1, (2, n, n)), PAPER_DT)
    return pde.PeriodicField(f)(x).reshape(n, n)


@numba.njit(cache=True)
def _advance(x, v, dt):
    """Move the points (p, 2) by dt times the bilinear interpolant of v (2, n, n)."""
    n = v.shape[1]
    for p in range(len(x)):
        a, b = x[p, 0] * n, x[p, 1] * n
        i, j = int(np.floor(a)), int(np.floor(b))
        s, t = a - i, b - j
        i, j = i % n, j % n
        k, m = (i + 1) % n, (j + 1) % n
        for c in range(2):
            lower = (1 - s) * v[c, i, j] + s * v[c, k, j]
            upper = (1 - s) * v[c, i, m] + s * v[c, k, m]
            x[p, c] += dt * ((1 - t) * lower + t * upper)


def contour_length(u):
    """Length of ten contour lines of a grid function, at equal steps between its least and greatest value."""
    n = len(u)
    side, closed = np.arange(n + 1) / n, np.pad(u, ((0, 1), (0, 1)), mode="wrap")
    lines = contourpy.contour_generator(side, side, closed.T)
    levels = np.linspace(u.min(), u.max(), N_LEVELS + 2)[1:-1]
    return sum(np.hypot(*np.diff(line, axis=0).T).sum() for level in levels for line in lines.lines(level))


def _is_compatible(values, published, tolerance):
    """Whether a published number lies in the prediction interval of the seeds' values (s,), widened by a tolerance."""
    if np.isnan(values).any():
        return False
    n = len(values)
    reach = scipy.stats.t(n - 1).isf((1 - CONFIDENCE) / 2) * values.std(ddof=1) * np.sqrt(1 + 1 / n)
    return bool(abs(published - values.mean()) <= reach + tolerance)


def findings(data):
    """Return the contents of the JSON file: each reading's numbers by panel, and which of them are compatible."""
    readings = []
    for row, (group, name) in enumerate(zip(data["group"].tolist(), data["name"].tolist(), strict=True)):
        panels = []
        for column, sigma in enumerate(SIGMAS):
            values = {key: data[key][row, :, column] for key in ("low", "high", "length")}
            values["span"] = values["high"] - values["low"]
            bottom, top = PUBLISHED_RANGES[sigma]
            tests = {
                "low": _is_compatible(values["low"], bottom, RANGE_TOLERANCE[column]),
                "high": _is_compatible(values["high"], top, RANGE_TOLERANCE[column]),
                "span": _is_compatible(values["span"], top - bottom, 2 * RANGE_TOLERANCE[column]),
                "length": _is_compatible(values["length"], PUBLISHED_LENGTHS[column], LENGTH_TOLERANCE),
            }
            is_finite = not np.isnan(values["low"]).any()
            means = {key: float(value.mean()) if is_finite else None for key, value in values.items()}
            spread = {f"{key}_sd": float(value.std(ddof=1)) if is_finite else None for key, value in values.items()}
            panels.append(means | spread | {"compatible": all(tests.values()), "tests": tests})
        readings.append(
            {"group": group, "name": name, "panels": panels, "compatible": all(one["compatible"] for one in panels)}
        )
    return {
        "n_seeds": data["low"].shape[1],
        "n": int(data["n"]),
        "published": {"range": list(map(list, PUBLISHED_RANGES.values())), "length": list(PUBLISHED_LENGTHS)},
        "compatible": [f"{one['group']}: {one['name']}" for one in readings if one["compatible"]],
        "readings": readings,
        "captions": {
            "": "Readings of the recipe of Figure 4, by diffusivity ν and horizon T. (a)–(c) Bars: range of u(x, 0), "
            f"mean over {data['low'].shape[1]} seeds, a dot where it is next to nothing; grey: range of the published "
            "panel; green: compatible with it in range and roughness; no bar: the run blows up. Names in green: "
            "compatible with all three panels. (d) "
            "Contour length over that of the datum, mean over the seeds; dashed: the published panels."
        },
    }


def table(found):
    """Write the readings as a Markdown table: mean range, and length, by panel; bold where compatible."""
    lines = ["| reading | " + " | ".join(f"{letter(k)} σ = {s:g}" for k, s in enumerate(SIGMAS)) + " | all |"]
    lines += ["|---|---|---|---|---|"]
    published = zip(found["published"]["range"], found["published"]["length"], strict=True)
    lines += ["| published | " + " | ".join(f"{a:g} to {b:g}; {c:.2f}" for (a, b), c in published) + " | |"]
    for one in found["readings"]:
        cells = [_cell(panel) for panel in one["panels"]]
        verdict = "**yes**" if one["compatible"] else "no"
        lines.append(f"| {one['group']}, {one['name']} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines).replace("-", "−").replace("−−−", "---")


def _cell(panel):
    if panel["low"] is None:
        return "blows up"
    text = f"{panel['low']:.2f} to {panel['high']:.2f}; {panel['length']:.2f}"
    return f"**{text}**" if panel["compatible"] else text


def plot(data):
    """Draw the range of u and the contour length of each reading, by panel, beside the published ones."""
    found = findings(data)
    rows = found["readings"]
    figure = Figure(figsize=(11.5, 0.6 + 0.2 * len(rows)), layout="constrained")
    grid = figure.subplots(1, 4, sharey=True, width_ratios=(1, 1, 1, 1.1))
    places, labels, groups = [], [], []
    for one in rows:
        places.append((places[-1] if places else 0) + (1.6 if one["group"] not in groups else 1))
        labels.append(one["name"] if one["group"] in groups else f"$\\bf{{{_bold(one['group'])}}}$   {one['name']}")
        groups.append(one["group"])
    for column, sigma in enumerate(SIGMAS):
        _ranges(grid[column], rows, places, column, sigma)
    _lengths(grid[3], rows, places)
    grid[0].set_yticks(places, labels, fontsize=8)
    grid[0].set_ylim(places[-1] + 0.8, 0.2)
    for tick, one in zip(grid[0].get_yticklabels(), rows, strict=True):
        tick.set_color(GREEN if one["compatible"] else BLACK)
    return figure


def _bold(text):
    return text.replace(" ", r"\ ").replace("π", r"\pi").replace("≤", r"\leq")


def _ranges(axes, rows, places, column, sigma):
    low, high = PUBLISHED_RANGES[sigma]
    axes.axvspan(low, high, color=GREY, alpha=0.2, lw=0)
    for place, one in zip(places, rows, strict=True):
        panel = one["panels"][column]
        if panel["low"] is not None:
            colour = GREEN if panel["compatible"] else BLUE
            axes.plot([panel["low"], panel["high"]], [place, place], color=colour, lw=4, solid_capstyle="butt")
            if panel["span"] < SHORT:
                axes.plot((panel["low"] + panel["high"]) / 2, place, "o", color=colour, ms=4)
    axes.set(xlim=(-1.05, 1.05), xlabel="range of $u$ (unit of $f$)")
    axes.set_title(f"{letter(column)} σ = {sigma:g}")


def _lengths(axes, rows, places):
    for column, (sigma, colour) in enumerate(zip(SIGMAS, (BLUE, RED, GREEN), strict=True)):
        values = [one["panels"][column]["length"] for one in rows]
        known = [(value, place) for value, place in zip(values, places, strict=True) if value is not None]
        axes.plot(*zip(*known, strict=True), "osD"[column], color=colour, ms=4, label=f"σ = {sigma:g}")
        axes.axvline(PUBLISHED_LENGTHS[column], color=colour, lw=1, ls="--")
    axes.set(xscale="log", xlabel="contour length over datum's")
    axes.set_xticks([0.5, 1.0, 2.0], ["0.5", "1", "2"])
    axes.minorticks_off()
    axes.set_title(f"{letter(3)} roughness")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=8)


main = make_main("fig4_forensics", __doc__, compute=compute, plot=plot, findings=findings, table=table)


if __name__ == "__main__":
    main()
