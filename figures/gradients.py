"""Gradients by Monte Carlo: the variance of each formula against sigma, the horizon and the number of paths.

    Bismut, Elworthy and Li   grad u = E[(f(X_T) - b) (sigma tau)**-1 integral_0^tau J^T dB],  J' = grad v J
    pathwise                  grad u = E[J_T^T grad f(X_T)]

For a constant velocity the variance of one path, summed over both components and averaged over x, has a closed form;
<.> is the mean over the period and b = u:

    Bismut      2 (<f**2> - <u**2>) / (sigma**2 T) + <|grad u|**2>
    pathwise    <|grad f|**2> - <|grad u|**2>

(a) The standard deviation of one path against sigma at T = 1, for a smooth wave and for stripes, whose jumps the
pathwise formula refuses: measured, and by these formulas. (b) Against T, for the smooth velocity of Figure 4: Bismut's
weight over all of [0, T], over its window of least variance (the default), and pathwise; in grey the gradient itself.
(c) The error against a closed form over the number of paths: independent ones, antithetic pairs, Sobol points.

Under a minute, seconds with --quick.
"""

import warnings

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures._cli import make_main
from figures._style import BLUE, GREEN, GREY, PURPLE, RED, letter
from pde.feynman_kac import gradient

__all__ = ["bismut_variance", "compute", "findings", "main", "pathwise_variance", "plot"]

K = 2 * np.pi
VELOCITY = (0.3, 0.2)
# Settings of panels (b) and (c).
SIGMA_IN_TIME, SIGMA_OF_PATHS = 0.2, 0.15
# Odd modes of stripes that are 1 on one half of the period and -1 on the other: the series of <f**2> to 1e-4.
N_MODES = 4001
WAYS = {"independent": {"antithetic": False}, "pairs": {}, "Sobol": {"sobol": True}}
METHODS = {"bismut": "Bismut", "pathwise": "pathwise"}
STYLE = {"independent": (BLUE, "o"), "pairs": (RED, "s"), "Sobol": (GREEN, "D")}


def compute(*, quick=False, seed=0):
    """`wave_*`, `stripes_*` (s,) over `sigma`; `time_*` (t,) over `horizon`; `error` (m, w, p) over `n_paths`."""
    with tqdm(total=3, disable=None, desc="gradients", unit="panel") as bar:
        data = _over_sigma(quick, seed)
        bar.update()
        data |= _over_time(quick, seed)
        bar.update()
        data |= _over_paths(quick, seed)
        bar.update()
    return data


def stripes(x):
    """1 where the first coordinate lies in the middle half of its period, else -1."""
    return np.where(np.abs(np.mod(x[..., 0], 1.0) - 0.5) < 0.25, 1.0, -1.0)


def squares(name, sigma, horizon):
    """<f**2>, <u**2>, <|grad f|**2> and <|grad u|**2> of the wave cos(2 pi x) or the stripes, from their series."""
    m = np.array([1.0]) if name == "wave" else np.arange(1, N_MODES, 2.0)
    energy = np.array([0.5]) if name == "wave" else 8 / (np.pi * m) ** 2
    left = np.exp(-((sigma * K * m) ** 2) * horizon)
    slope = (K * m) ** 2 * energy
    return energy.sum(), (energy * left).sum(), slope.sum(), (slope * left).sum()


def bismut_variance(name, sigma, horizon):
    """Variance of one path of Bismut's formula, summed over the components, mean over x, for a constant velocity."""
    f, u, _, slope = squares(name, sigma, horizon)
    return 2 * (f - u) / (sigma**2 * horizon) + slope


def pathwise_variance(name, sigma, horizon):
    """The same of the pathwise formula; infinite for stripes, whose series diverges."""
    _, _, steep, slope = squares(name, sigma, horizon)
    return steep - slope if name == "wave" else np.inf


def deviation(estimate):
    """Standard deviation of one path: root of the variance summed over the components, mean over the points."""
    return np.sqrt((estimate.stderr**2).sum(axis=-1).mean() * estimate.n_samples)


def _over_sigma(quick, seed):
    sigmas = np.geomspace(0.02, 1.0, 4 if quick else 9)
    n_points, n_paths = (100, 512) if quick else (400, 2048)
    # Both data depend only on the first coordinate; the points are not on the jumps.
    points = np.stack([(np.arange(n_points) + 0.5) / n_points, np.zeros(n_points)], axis=-1)
    velocity = np.broadcast_to(np.array(VELOCITY)[:, None, None], (2, 4, 4))
    x = np.arange(16) / 16
    terminals = {"wave": np.cos(K * x)[:, None] * np.ones(16), "stripes": stripes}
    data = {"sigma": sigmas}
    for name, terminal in terminals.items():
        for method in METHODS if name == "wave" else ("bismut",):
            problems = [pde.ConvectionDiffusion(velocity, terminal, sigma=float(sigma)) for sigma in sigmas]
            with warnings.catch_warnings():
                # At points far from the stripes' edges few paths see them: their part of the mean variance is small.
                warnings.filterwarnings("ignore", ".*may have missed large values of terminal", RuntimeWarning)
                found = [gradient(problem, points, method, n_paths, 2, seed, antithetic=False) for problem in problems]
            data[f"{name}_{method}"] = np.array([deviation(one) for one in found])
    return data


def _over_time(quick, seed):
    horizons = np.array([0.1, 0.4, 1.6] if quick else [0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6, 2.0])
    n, n_points, n_paths = (48, 64, 256) if quick else (128, 128, 1024)
    smooth = pde.problems.figure4(seed, n, SIGMA_IN_TIME, "band-limited")
    points = np.random.default_rng(seed).random((n_points, 2))
    rows = []
    for horizon in horizons.tolist():
        problem = pde.ConvectionDiffusion(smooth.velocity, smooth.terminal, sigma=SIGMA_IN_TIME, horizon=horizon)
        n_steps = max(16, round(100 * horizon))
        whole, best, path = (
            gradient(problem, points, method, n_paths, n_steps, seed, antithetic=False, **options)
            for method, options in (("bismut", {"window": horizon}), ("bismut", {}), ("pathwise", {}))
        )
        slopes = pde.spectral.solve(problem, rtol=1e-4).field.jacobian(points)
        size = np.sqrt((slopes**2).sum(axis=-1).mean())
        rows.append((deviation(whole), deviation(best), deviation(path), size, best.window))
    names = ("time_whole", "time_window", "time_pathwise", "time_gradient", "window")
    columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    return columns | {"horizon": horizons, "gamma": np.array(pde.bounds.sharp_gradient_bound(smooth).gamma)}


def _over_paths(quick, seed):
    counts = np.array([256, 1024] if quick else [256, 1024, 4096, 16384])
    n_points, n_seeds = (16, 2) if quick else (32, 4)
    problem = pde.problems.constant_velocity(sigma=SIGMA_OF_PATHS)
    points = np.random.default_rng(seed).random((n_points, 2))
    # Central differences of the closed form: exact to 1e-9.
    shifts = 1e-5 * np.eye(2)
    exact = np.stack([(problem.exact(points + h) - problem.exact(points - h)) / 2e-5 for h in shifts], axis=-1)
    error = np.empty((len(METHODS), len(WAYS), len(counts)))
    for place in np.ndindex(error.shape):
        method, way, n_paths = (list(METHODS)[place[0]], list(WAYS)[place[1]], int(counts[place[2]]))
        gaps = [
            gradient(problem, points, method, n_paths, 8, seed + repeat, **WAYS[way]).mean - exact
            for repeat in range(n_seeds)
        ]
        error[place] = np.sqrt((np.stack(gaps) ** 2).sum(axis=-1).mean())
    return {"n_paths": counts, "error": error, "n_seeds": np.array(float(n_seeds))}


def _closed(data, kind):
    """Standard deviation of one path by the closed form, over sigma."""
    name, method = kind.split("_")
    variance = bismut_variance if method == "bismut" else pathwise_variance
    return np.sqrt([variance(name, sigma, 1.0) for sigma in data["sigma"].tolist()])


def findings(data):
    """Return the contents of the JSON file."""
    kinds = ("wave_bismut", "wave_pathwise", "stripes_bismut")
    gains = (data["error"][:, :1] / data["error"]) ** 2
    slopes = np.polyfit(np.log(data["n_paths"]), np.log(data["error"].reshape(-1, len(data["n_paths"])).T), 1)[0]
    return {
        "one_path": {
            kind: {
                "sigma": data["sigma"].tolist(), "sd": data[kind].tolist(), "closed_form": _closed(data, kind).tolist()
            }
            for kind in kinds
        },
        "largest_relative_gap_to_the_closed_form": float(
            max(np.abs(data[kind] / _closed(data, kind) - 1).max() for kind in kinds)
        ),
        "over_time": {
            "sigma": SIGMA_IN_TIME, "gamma": float(data["gamma"]),
            **{key: data[key].tolist() for key in ("horizon", "window", "time_whole", "time_window", "time_pathwise",
                                                   "time_gradient")},
        },
        "error": {
            method: {
                way: {"n_paths": data["n_paths"].tolist(), "rms": data["error"][i, j].tolist(),
                      "variance_gain": gains[i, j].tolist(), "slope": float(slopes[i * len(WAYS) + j])}
                for j, way in enumerate(WAYS)
            }
            for i, method in enumerate(METHODS)
        },
        "captions": {
            "": "Gradients of u by Monte Carlo. (a) Standard deviation of one path against σ, T = 1, constant v; "
            "markers: measured, lines: closed form. (b) The same against T for the smooth velocity of Figure 4 "
            f"(γ = {float(data['gamma']):.3g}, σ = {SIGMA_IN_TIME:g}); grey: root mean square of |∇u|. (c) Root mean "
            f"square error over points and {int(data['n_seeds'])} seeds against the closed form, "
            f"σ = {SIGMA_OF_PATHS:g}; solid: Bismut, dashed: pathwise."
        },
    }  # fmt: skip


def plot(data):
    """Draw the standard deviation of one path against sigma and T, and the error against the number of paths."""
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    over_sigma, over_time, over_paths = figure.subplots(1, 3)
    for kind, colour, marker, label in (
        ("wave_bismut", BLUE, "o", "Bismut, smooth wave"),
        ("wave_pathwise", RED, "s", "pathwise, smooth wave"),
        ("stripes_bismut", PURPLE, "^", "Bismut, stripes that jump"),
    ):
        over_sigma.plot(data["sigma"], _closed(data, kind), color=colour, lw=1.2)
        over_sigma.plot(data["sigma"], data[kind], marker, color=colour, ms=5, label=label)
    over_sigma.set(xscale="log", yscale="log", xlabel=r"$\sigma$ (length / time$^{1/2}$)")
    over_sigma.set_title(f"{letter(0)} one path, T = 1; lines: closed form")
    for key, colour, marker, label in (
        ("time_whole", PURPLE, "^", "Bismut, weight over [0, T]"),
        ("time_window", BLUE, "o", "Bismut, window of least variance"),
        ("time_pathwise", RED, "s", "pathwise"),
    ):
        over_time.plot(data["horizon"], data[key], marker + "-", color=colour, ms=5, lw=1.2, label=label)
    over_time.plot(data["horizon"], data["time_gradient"], color=GREY, lw=3, alpha=0.6, label="rms of |∇u|")
    over_time.set(yscale="log", xlabel="horizon T (time)")
    over_time.set_title(f"{letter(1)} one path of a flow that stretches, γ = {float(data['gamma']):.3g}")
    for axes in (over_sigma, over_time):
        axes.set_ylabel("standard deviation of one path (1 / length)")
        axes.legend(loc="best", fontsize=8.5)
    for i, (name, line) in enumerate(zip(METHODS.values(), ("-", "--"), strict=True)):
        for j, (way, (colour, marker)) in enumerate(STYLE.items()):
            over_paths.plot(data["n_paths"], data["error"][i, j], marker + line, color=colour, ms=5, lw=1.2,
                            label=f"{name}, {way}")  # fmt: skip
    over_paths.set(xscale="log", yscale="log", xlabel="paths per point", ylabel="rms error of ∇u (1 / length)")
    over_paths.set_xticks(data["n_paths"], [f"{count:d}" for count in data["n_paths"].tolist()])
    over_paths.minorticks_off()
    over_paths.set_title(f"{letter(2)} error against the closed form")
    over_paths.legend(loc="best", fontsize=8)
    return figure


main = make_main("gradients", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
