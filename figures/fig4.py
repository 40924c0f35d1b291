"""Figure 4: the solution of the convection-diffusion equation at t = 0 for growing diffusion.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, 1) = f(x),  unit square, periodic        (paper: (2.8))

As in the paper: 128 points per side, time step 1e-3, each component of the velocity an independent uniform number in
[-1, 1] at each grid point, sigma = 0, 0.01 and 0.1. The pseudospectral method that the paper names does not run on
this velocity (second picture), so `--method auto` takes it where it resolves the problem, and the average over
Euler-Maruyama paths (Feynman-Kac), or the characteristics for sigma = 0, elsewhere. Beside the panels are the ranges
of the paper's own colour bars; `python -m figures.fig4_forensics` looks for a reading of the recipe that has them.

The first picture has panels (a)-(c) and the terminal datum (d), fig4-evidence.png the evidence that they are right.

A quarter of a minute on two cores, five seconds with --quick; the first run also compiles, for eight seconds.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures._cli import make_main
from figures._style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, letter
from pde.problems import VELOCITIES

__all__ = ["PUBLISHED_RANGES", "compute", "findings", "main", "path_average", "plot", "plot_evidence", "solve"]

METHODS = ("auto", "spectral", "feynman-kac")
# The paper's time step (section 2.2).
PAPER_DT = 1e-3
# Relative to max |f|: a sixth of the spacing of the contours in panel (c).
RESOLUTION = 1e-2
# Grids up to twice the problem's, or to this, are tried.
FINEST = 256
# By sigma, the ends of the colour bars in the paper's Figure 4 (a), (b), (c).
PUBLISHED_RANGES = {0.0: (-1.0, 1.0), 0.01: (-0.6, 0.4), 0.1: (-0.13, 0.15)}
# Spacing of the contours, the same in all panels.
SPACING = 0.1
COLOURS, MARKERS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY), "osD^v<"


def compute(*, quick=False, seed=0, velocity="grid-noise", method="auto", n=None, sigmas=(0.0, 0.01, 0.1)):
    """`sigma` (m,), `u` and `stderr` (m, n, n), `terminal` (n, n), `velocity` (2, n, n), and the evidence."""
    n = (48 if quick else 128) if n is None else n
    sigmas = _check(method, n, sigmas)
    n_paths, n_steps, n_sweep_paths = (32, 200, 8) if quick else (256, round(1 / PAPER_DT), 32)
    # With few steps double precision is faster, since its loop compiles in half the time.
    dtype = "float64" if quick else "float32"
    sweep = np.unique([*sigmas, *((0.0, 0.02, 0.1) if quick else (0.0, 0.003, 0.01, 0.03, 0.1, 0.3))])
    problems = {s: pde.problems.figure4(seed, n, s, velocity) for s in dict.fromkeys([*sigmas, *sweep.tolist()])}
    first, solutions = problems[sigmas[0]], {}
    # On the first run after installation, the loops over paths are compiled while the spectral solver runs.
    wait = pde.feynman_kac.precompile(dtype)
    with tqdm(total=3 * len(sigmas) + len(sweep), disable=None, desc="fig4", unit="solve") as bar:
        # Both run on one core each, the longest first; the loops over paths use all cores.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            runs = threads.map(lambda sigma: _literal(problems[sigma], bar), sigmas[::-1])
            spectral = dict(zip(problems, threads.map(resolved_spectral, problems.values()), strict=True))
            literal = list(runs)[::-1]
        wait()
        for sigma in sigmas:
            solutions[sigma] = solve(problems[sigma], method, n_paths, n_steps, seed, spectral[sigma], dtype)
            bar.update()
        n_side = 16 if quick else 32
        checks = [_check_by_paths(problems[s], spectral[s][0], n_side, n_steps, seed, dtype, bar) for s in sigmas]
        family = []
        for sigma in sweep:
            if sigma not in solutions:
                solutions[sigma] = solve(problems[sigma], "auto", n_sweep_paths, n_steps, seed, spectral[sigma], dtype)
            family.append(solutions[sigma][0])
            bar.update()
    longest = max(len(solution.t) for solution in literal)
    checked = [(s, z) for s, z in zip(sigmas, checks, strict=True) if z is not None]
    return {
        "sigma": np.array(sigmas),
        "u": np.stack([solutions[s][0] for s in sigmas]),
        "stderr": np.stack([solutions[s][1] for s in sigmas]),
        "method": np.array([solutions[s][2] for s in sigmas]),
        "why": np.array([solutions[s][3] for s in sigmas]),
        "terminal": first.terminal_on_grid(n),
        "velocity": first.velocity.values,
        "z_sigma": np.array([s for s, _ in checked]),
        "z": np.array([z for _, z in checked]) if checked else np.empty((0, 0)),
        "sweep_sigma": sweep,
        "sweep_gradient": np.array([_gradient(u) for u in family]),
        "sweep_low": np.array([u.min() for u in family]),
        "sweep_high": np.array([u.max() for u in family]),
        "literal_sigma": np.array(sigmas),
        "literal_t": np.array(max((solution.t for solution in literal), key=len)),
        "literal_sup": np.array([_padded(solution.sup_norms, longest) for solution in literal]),
    }


def _check(method, n, sigmas):
    if method not in METHODS:
        raise ValueError(f"--method must be one of {', '.join(METHODS)}, got {method}")
    if n < 16:
        raise ValueError(f"--n must be >= 16 to hold the terminal datum, got {n}")
    sigmas = [float(sigma) for sigma in sigmas]
    # A standard deviation of a thousand periods is uniform noise to the last bit.
    if not sigmas or not all(0 <= s <= 1000 for s in sigmas) or len(set(sigmas)) < len(sigmas):
        raise ValueError(f"--sigmas must be different numbers in [0, 1000], got {' '.join(f'{s:g}' for s in sigmas)}")
    return sigmas


def solve(problem, method, n_paths, n_steps, seed, spectral=None, dtype="float32"):
    """Solve a problem by the method of record: the spectral one where a grid resolves it, else Feynman-Kac.

    spectral is what `resolved_spectral` returned, where it has been called before.
    """
    spectral, reason = resolved_spectral(problem) if spectral is None else spectral
    n = problem.n
    if method == "spectral" and spectral is None:
        raise pde.UnresolvedError(f"sigma = {problem.sigma:g}: {reason}; --method auto solves it by Feynman-Kac")
    if method != "feynman-kac" and spectral is not None:
        u = spectral.field.on_grid(n)
        grid_size = len(spectral.u)
        why = f"resolved on {grid_size} points per side, estimated error {spectral.error_estimate:.1g}"
        return u, np.zeros_like(u), "spectral", why
    e = path_average(problem, n, n_paths, n_steps, seed, dtype)
    why = "as requested" if method == "feynman-kac" else f"the spectral solution is {reason}"
    if problem.sigma == 0:
        return e.mean, e.stderr, "characteristics", why
    return e.mean, e.stderr, f"Feynman-Kac, {n_paths} paths, largest standard error {e.stderr.max():.1g}", why


def path_average(problem, n, n_paths, n_steps, seed, dtype="float32"):
    """Average over paths common to all n**2 grid points: its error is smooth in space, so contours stay clean."""
    points = pde.grid.points(n)
    return pde.feynman_kac.estimate(problem, points, n_paths, n_steps, seed, common_paths=True, dtype=dtype)


def resolved_spectral(problem):
    """The spectral solution on n points, 2 n, or more up to FINEST; or None and the reason why not."""
    n = problem.n
    sizes = [n, 2 * n, *(size for size in (4 * n, 8 * n) if size <= FINEST)]
    for size in sizes:
        try:
            return pde.spectral.solve(problem, size, rtol=RESOLUTION / 10, resolution=RESOLUTION), ""
        except pde.UnresolvedError as error:
            reason = str(error).split(";")[0].removeprefix("unresolved: ")
    return None, f"unresolved on {sizes[-1]} points per side: {reason}"


def _literal(problem, bar):
    """The paper's recipe to the letter: the numbers at the grid points, 2/3 rule, Runge-Kutta 4, step 1e-3."""
    velocity = problem.velocity.with_interpolation("trigonometric")
    recipe = pde.ConvectionDiffusion(velocity, problem.terminal, sigma=problem.sigma)
    solution = pde.spectral.solve(recipe, method="ifrk4", dt=PAPER_DT, check=False)
    bar.update()
    return solution


def _padded(values, count):
    """Values up to `count`: a run that overflows ends early."""
    return np.concatenate([values, np.full(count - len(values), np.nan)])


def _check_by_paths(problem, spectral, n_side, n_steps, seed, dtype, bar):
    """z-scores of independent Feynman-Kac estimates against a resolved spectral solution, where there is noise."""
    z = None
    if spectral is not None and problem.sigma > 0:
        points = pde.grid.points(n_side)
        e = pde.feynman_kac.estimate(problem, points, 256, n_steps, seed + 1, dtype=dtype)
        z = pde.convergence.z_scores(e.mean, e.stderr, spectral.field.on_grid(n_side)).ravel()
    bar.update()
    return z


def _gradient(u):
    """Largest length of the gradient of the bilinear field through the values of u on the grid."""
    return pde.PeriodicField(u, interpolation="bilinear").jacobian_sup_norm()


def findings(data):
    """Return the contents of the JSON file: captions, and the findings for each sigma."""
    # Between the grid points the terminal datum is larger than on them.
    bound = pde.PeriodicField(data["terminal"]).sup_norm()
    solutions = [
        {
            "sigma": float(sigma),
            "method": str(data["method"][i]),
            "why": str(data["why"][i]),
            "range": [float(data["u"][i].min()), float(data["u"][i].max())],
            "published_range": list(PUBLISHED_RANGES[float(sigma)]) if float(sigma) in PUBLISHED_RANGES else None,
            "sup_gradient": _gradient(data["u"][i]),
            "maximum_principle": bool(np.abs(data["u"][i]).max() <= bound * (1 + RESOLUTION)),
            "largest_stderr": float(data["stderr"][i].max()),
            # None where the run overflowed.
            "literal_recipe_sup_norm": _finite(data["literal_sup"][i, -1]),
        }
        for i, sigma in enumerate(data["sigma"])
    ]
    return {"n": int(data["u"].shape[-1]), "solutions": solutions, "captions": _captions(data)}


def _captions(data):
    """Captions of the pictures in the gallery, by the suffix of the picture's name."""
    methods = " ".join(
        f"{letter(place)} σ = {sigma:g}: {data['method'][place]} ({data['why'][place]})."
        for place, sigma in enumerate(data["sigma"])
    )
    last = letter(len(data["sigma"]))
    return {
        "": f"u(x, 0) for growing σ, and the terminal datum {last}, filled contours {SPACING:g} apart on one scale. "
        f"{methods} Right: ranges of u here and on the paper's colour bars.",
        "evidence": "(a) Scores of independent Feynman–Kac estimates against the spectral solution where both apply: "
        "the normal law if both are right. (b), (c) Range and largest slope of u(x, 0) against σ; dashed: σ = 0. "
        "(d) The recipe to the letter, on the grid noise: the maximum principle is violated by many orders.",
    }


def _finite(number):
    return float(number) if np.isfinite(number) else None


def plot(data):
    """Draw u(x, 0) for each sigma and the terminal datum as contours on one scale, and the ranges beside them."""
    panels = [*data["u"], data["terminal"]]
    titles = [rf"$u(\mathbf{{x}}, 0)$, $\sigma = {sigma:g}$" for sigma in data["sigma"]] + [r"$f = u(\mathbf{x}, 1)$"]
    columns = 2 if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns + 4.0, 3.2 * rows + 0.2), layout="constrained")
    maps, side = figure.subfigures(1, 2, width_ratios=(3.1 * columns + 0.9, 3.1))
    grid = maps.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    largest = math.ceil(max(np.abs(u).max() for u in panels) / SPACING - 1e-9) * SPACING
    levels = np.arange(-round(largest / SPACING), round(largest / SPACING) + 1) * SPACING
    for place, (axes, u, title) in enumerate(zip(grid, panels, titles, strict=False)):
        image = _contours(axes, u, levels)
        axes.set_title(f"{letter(place)} {title}")
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for place, axes in enumerate(grid[: len(panels)]):
        if place % columns == 0:
            axes.set_ylabel("$y$ (length)")
        if place + columns >= len(panels):
            axes.set_xlabel("$x$ (length)")
            axes.tick_params(labelbottom=True)
    maps.colorbar(image, ax=grid, shrink=0.6, label="$u$ (unit of $f$)", ticks=levels[:: max(1, len(levels) // 8)])
    _ranges(side.subplots(), data, largest)
    return figure


def _contours(axes, u, levels):
    """Filled contours of a grid function, and its zero line."""
    side = np.arange(len(u) + 1) / len(u)
    closed = np.pad(u, ((0, 1), (0, 1)), mode="wrap")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
    # Grid functions are [i, j] for (x_i, y_j); contourf wants rows of constant y.
    image = axes.contourf(side, side, closed.T, levels=levels, cmap="RdBu_r", extend="both")
    if u.min() < 0 < u.max():
        axes.contour(side, side, closed.T, levels=[0.0], colors=BLACK, linewidths=0.4)
    return image


def _ranges(axes, data, largest):
    """Ranges of u for each sigma, beside those of the paper's colour bars."""
    axes.set_title(f"{letter(len(data['u']) + 1)} range of $u(\\mathbf{{x}}, 0)$")
    for place, (sigma, u) in enumerate(zip(data["sigma"], data["u"], strict=True)):
        bars = [(u.min(), u.max(), BLUE, -0.22, "here")]
        if float(sigma) in PUBLISHED_RANGES:
            bars.append((*PUBLISHED_RANGES[float(sigma)], GREY, 0.22, "paper"))
        for low, high, colour, shift, name in bars:
            axes.bar(place + shift, high - low, 0.3, low, color=colour, label=name if place == 0 else None)
            for value, where in ((low, "top"), (high, "bottom")):
                text = f"{value:.2f}".replace("-", "−")
                axes.text(place + shift, value, text, ha="center", va=where, fontsize=7)
    axes.axhline(0, color=BLACK, lw=0.6)
    axes.set_xticks(range(len(data["sigma"])), [f"{sigma:g}" for sigma in data["sigma"]])
    axes.set(
        xlabel="$\\sigma$ (length / time$^{1/2}$)", ylabel="$u$ (unit of $f$)", ylim=(-1.35 * largest, 1.35 * largest)
    )
    axes.legend(loc="upper right")


def plot_evidence(data):
    """Draw the two solvers compared, range and slope against sigma, and the literal recipe's growth."""
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    scores, extent, slope, growth = figure.subplots(2, 2).flat
    _histogram(scores, np.atleast_1d(data["z_sigma"]), data["z"])
    sigma = data["sweep_sigma"]
    for axes, keys, title in (
        (extent, ("sweep_low", "sweep_high"), "(b) range of $u(\\mathbf{x}, 0)$ against σ"),
        (slope, ("sweep_gradient",), "(c) largest slope of $u(\\mathbf{x}, 0)$ against σ"),
    ):
        axes.set_title(title)
        for key in keys:
            axes.plot(sigma[sigma > 0], data[key][sigma > 0], "o-", color=BLUE, ms=5)
            for limit in data[key][sigma == 0]:
                axes.axhline(limit, color=BLUE, lw=1, ls="--")
        axes.set(xscale="log", xlabel="σ (length / time$^{1/2}$); dashed: σ = 0")
        axes.set_xticks(sigma[sigma > 0], [f"{s:g}" for s in sigma[sigma > 0]])
        axes.minorticks_off()
    extent.fill_between(
        sigma[sigma > 0], data["sweep_low"][sigma > 0], data["sweep_high"][sigma > 0], color=BLUE, alpha=0.2
    )
    extent.set(ylabel="min u and max u (unit of $f$)", ylim=(-1.1, 1.1))
    slope.set(ylabel="max |∇u| of the bilinear field (1 / length)", yscale="log")
    low, high = slope.get_ylim()
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= tick <= high]
    slope.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    slope.minorticks_off()
    _growth(growth, data)
    return figure


def _histogram(axes, sigmas, scores):
    axes.set_title("(a) both solvers, where both apply")
    axes.set(xlabel="(Feynman–Kac − spectral) / standard error", ylabel="density")
    z = np.linspace(-4.5, 4.5, 181)
    axes.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=BLACK, label="normal law")
    for sigma, z_scores, colour in zip(sigmas, scores, COLOURS, strict=False):
        label = (
            f"σ = {sigma:g}: {len(z_scores)} points,\ns.d. {z_scores.std():.2f}, max |z| {np.abs(z_scores).max():.1f}"
        )
        axes.hist(z_scores, bins=np.arange(-4.5, 4.6, 0.25), density=True, alpha=0.45, color=colour, label=label)
    if not len(sigmas):
        axes.text(0.5, 0.5, "no σ > 0 here that\nthe grid resolves", transform=axes.transAxes, ha="center")
    axes.legend(loc="upper left", fontsize=8)


def _growth(axes, data):
    axes.set_title("(d) the paper's recipe to the letter")
    for place, sigma in enumerate(np.atleast_1d(data["literal_sigma"])):
        style = {"color": COLOURS[place % 6], "marker": MARKERS[place % 6], "markevery": 10, "ms": 4}
        sup = data["literal_sup"][place]
        axes.plot(1 - data["literal_t"], sup, label=f"σ = {sigma:g}: {sup[-1]:.2g} at t = 0", **style)
    axes.axhline(np.abs(data["terminal"]).max(), color=BLACK, lw=1, label="maximum principle: max |f|")
    axes.set(xlabel="time to go, 1 − t", ylabel="max |u(·, t)| (unit of $f$)", yscale="log", xlim=(0, 1))
    axes.legend(fontsize=8, loc="upper left")


main = make_main(
    "fig4", __doc__, compute=compute, plot={"": plot, "-evidence": plot_evidence}, findings=findings,
    options={
        "velocity": {"choices": VELOCITIES, "default": "grid-noise", "help": "kind of velocity"},
        "method": {"choices": METHODS, "default": "auto", "help": "solver (default auto)"},
        "n": {"type": int, "help": "points per side (default 128; 48 with --quick)"},
        "sigmas": {"type": float, "nargs": "+", "default": [0.0, 0.01, 0.1], "help": "diffusion coefficients"},
    },
)  # fmt: skip


if __name__ == "__main__":
    main()
