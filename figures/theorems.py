"""The paper's two theorems against what they bound: where they hold, where they fail, and what is true.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: Theorems 2.1 and 2.2)

(a) The largest slope of u(., 0) over sigma, for the velocity of Figure 4 (between grid points) and two smooth ones,
beside the bound of Theorem 2.2 as printed, corrected, and sharp. (b) The Gaussian for which the printed bound fails,
over time and over sigma: spectral solution, closed form and bounds. (c) The smallest Hölder constants of Theorem 2.1,
for Figure 4's problem. The proofs are in docs/theorem-2-2.md.

Writes theorems.png, theorems.npz (the arrays) and theorems.json (arguments, versions, seconds, findings) to --out.

About a minute on two cores, under ten seconds with --quick; the first run compiles, which takes ten seconds more.
"""

import numpy as np
from tqdm import tqdm

import pde
from figures import _theorems_plot, fig4
from figures._cli import figure_command, sound_arrays
from pde import bounds

__all__ = ["compute", "findings", "main", "plot"]

SMOOTH = ("band-limited", "divergence-free")
ALPHAS = (0.25, 0.5, 0.75, 1.0)
# Relative to max |f|.
RESOLUTION = 1e-3
RADIUS, SIGMA = 2.0, 2.0
FINE = 1024
TEXTS = ("smooth_family", "rough_method")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "smooth_family": "f", "smooth_sigma": "m", "smooth_gamma": "f", "smooth_n": "fm", "smooth_measured": "fm",
    "smooth_published": "fm", "smooth_corrected": "fm", "smooth_sharp": "fm",
    "rough_sigma": "s", "rough_gamma": "", "rough_n": "", "rough_method": "s", "rough_measured": "s",
    "rough_noise": "s", "rough_published": "s", "rough_corrected": "s", "rough_sharp": "s",
    "alpha": "a", "hoelder": "sa", "hoelder_noise": "sa", "hoelder_bound": "sa", "exponent": "", "exponent_stderr": "",
    "radius": "", "threshold": "", "any_threshold": "", "time_sigma": "",
    "time": "t", "time_measured": "t", "time_exact": "t", "time_published": "t", "time_corrected": "t",
    "time_sharp": "t",
    "wide_sigma": "w", "wide_measured": "w", "wide_exact": "w", "wide_published": "w", "wide_corrected": "w",
    "wide_sharp": "w",
}  # fmt: skip


def compute(*, quick=False, seed=0):
    """Measure slopes and Hölder constants, and evaluate the bounds.

    Parameters
    ----------
    quick : bool, default=False
        A coarser grid for Figure 4's problem, fewer paths, and no sigma below 0.05 for the smooth velocities.
    seed : int, default=0
        Seed of velocities, terminal datum and paths.

    Returns
    -------
    dict of str to ndarray
        `smooth_*` of shape (f, m) and `rough_*` (s,), panels (a); `time_*` (t,) and `wide_*` (w,), panels (b);
        `hoelder*` (s, a), panel (c).

    Raises
    ------
    ValueError
        If seed is negative.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    smooth = np.array([0.05, 0.1, 0.2, 0.3] if quick else [0.02, 0.03, 0.05, 0.1, 0.2, 0.3])
    rough = np.array([0.003, 0.03, 0.1, 0.3] if quick else [0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3])
    n_times = 5 if quick else 10
    with tqdm(total=len(SMOOTH) * len(smooth) + len(rough) + 1, disable=None, desc="theorems", unit="solve") as bar:
        data = _smooth(smooth, seed, bar) | _rough(rough, quick, seed, bar) | _gaussian(n_times)
        bar.update()
    return data


def _bounds(problem):
    """Printed, corrected and sharp bound, and the mean gamma."""
    sharp = bounds.sharp_gradient_bound(problem)
    corrected, published = bounds.gradient_bound(problem), bounds.gradient_bound_as_published(problem)
    return {"published": published.bound, "corrected": corrected.bound, "sharp": sharp.bound}, sharp.gamma


def _smooth(sigmas, seed, bar):
    shape = (len(SMOOTH), len(sigmas))
    data = {f"smooth_{key}": np.empty(shape) for key in ("n", "measured", "published", "corrected", "sharp")}
    gammas = []
    for row, family in enumerate(SMOOTH):
        for column, sigma in enumerate(sigmas):
            problem = pde.problems.figure4(seed, sigma=float(sigma), velocity=family)
            solution = _resolved(problem)
            data["smooth_n"][row, column] = len(solution.u)
            data["smooth_measured"][row, column] = bounds.largest_gradient(solution.field).found
            found, gamma = _bounds(problem)
            for key, value in found.items():
                data[f"smooth_{key}"][row, column] = value
            bar.update()
        gammas.append(gamma)
    return data | {"smooth_family": np.array(SMOOTH), "smooth_sigma": sigmas, "smooth_gamma": np.array(gammas)}


def _resolved(problem):
    """The spectral solution on the smallest grid that resolves it."""
    for n in (problem.n, 2 * problem.n):
        solution = pde.spectral.solve(problem, n, rtol=1e-6, resolution=RESOLUTION, check=False)
        if solution.resolved:
            return solution
    return pde.spectral.solve(problem, 4 * problem.n, rtol=1e-6, resolution=RESOLUTION)


def _rough(sigmas, quick, seed, bar):
    """Figure 4's problem: by its method of record, and twice where that is Monte Carlo."""
    n, n_paths, n_steps = (48, 16, 200) if quick else (128, 128, round(1 / fig4.PAPER_DT))
    rows, methods, results = [], [], []
    for sigma in sigmas:
        problem = pde.problems.figure4(seed, n, float(sigma))
        (u, _, method, _), _ = fig4.solve(problem, "auto", n_paths, n_steps, seed)
        noise = np.zeros_like(u)
        if method != "spectral":
            points = pde.grid.points(n)
            again = pde.feynman_kac.estimate(problem, points, n_paths, n_steps, seed + 1, common_paths=True).mean
            # The half-difference of two estimates is as noisy as their mean.
            u, noise = (u + again) / 2, (u - again) / 2
        result = bounds.hoelder_constant(problem, u, alphas=ALPHAS)
        noise = bounds.hoelder_constant(problem, noise, alphas=ALPHAS)
        found, gamma = _bounds(problem)
        rows.append(
            {
                # Differences between neighbours: a slope that u surely has somewhere.
                "rough_measured": result.difference[0] * n, "rough_noise": noise.difference[0] * n,
                "hoelder": result.constant, "hoelder_noise": noise.constant,
                "hoelder_bound": bounds.hoelder_bound(problem, ALPHAS),
            } | {f"rough_{key}": value for key, value in found.items()}
        )  # fmt: skip
        methods.append("spectral" if method == "spectral" else "Feynman-Kac")
        results.append(result)
        bar.update()
    fit = bounds.hoelder_exponent(results)
    return {key: np.array([row[key] for row in rows]) for key in rows[0]} | {
        "rough_sigma": sigmas, "rough_gamma": np.array(gamma), "rough_n": np.array(float(n)),
        "rough_method": np.array(methods), "alpha": np.array(ALPHAS), "exponent": np.array(fit.order),
        "exponent_stderr": np.array(fit.stderr),
    }  # fmt: skip


def _gaussian(n_times):
    times = np.arange(1, n_times + 1) / n_times
    sigmas = np.linspace(0.25, 2.5, 2 * n_times)
    data = {
        "radius": np.array(RADIUS), "time_sigma": np.array(SIGMA), "time": times, "wide_sigma": sigmas,
        "time_exact": bounds.counterexample_gradient(RADIUS, SIGMA, times),
        "wide_exact": bounds.counterexample_gradient(RADIUS, sigmas, 1.0),
        "threshold": np.array(bounds.counterexample_threshold(RADIUS)),
        "any_threshold": np.array(bounds.published_threshold()),
    }  # fmt: skip
    cases = {"time": [(SIGMA, float(t)) for t in times], "wide": [(float(sigma), 1.0) for sigma in sigmas]}
    # One torus, long enough for the widest of the solutions.
    widest = bounds.counterexample(RADIUS, sigma=float(sigmas[-1]))
    for panel, values in cases.items():
        rows = []
        for sigma, horizon in values:
            problem = pde.ConvectionDiffusion(
                widest.velocity, widest.terminal, sigma=sigma, horizon=horizon, length=widest.length
            )
            field = pde.spectral.solve(problem, rtol=1e-10).field
            # The largest slope is attained on a circle, which a fine grid does not miss.
            rows.append({"measured": field.jacobian_sup_norm(FINE)} | _bounds(problem)[0])
        data |= {f"{panel}_{key}": np.array([row[key] for row in rows]) for key in rows[0]}
    return data


def findings(data):
    """Return what the JSON file and the legends say.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `smooth_measured` of shape (f, m), and the rest.

    Returns
    -------
    dict
    """
    families = {"grid-noise": ("rough", ())} | {
        str(name): ("smooth", (row,)) for row, name in enumerate(data["smooth_family"])
    }
    gradients = {}
    for name, (kind, row) in families.items():
        measured, sharp = data[f"{kind}_measured"][row], data[f"{kind}_sharp"][row]
        gradients[name] = {
            "sigma": data[f"{kind}_sigma"].tolist(),
            "gamma": float(data[f"{kind}_gamma"][row]),
            "measured": measured.tolist(),
            "sharp": sharp.tolist(),
            "corrected": data[f"{kind}_corrected"][row].tolist(),
            "published": data[f"{kind}_published"][row].tolist(),
            "smallest_sharp_over_measured": float((sharp / measured).min()),
            "smallest_published_over_measured": float((data[f"{kind}_published"][row] / measured).min()),
        }
    exact, wide = data["wide_exact"], data["wide_measured"]
    return {
        "gradients": gradients,
        "counterexample": {
            "radius": float(data["radius"]),
            "fails_beyond_sigma": float(data["threshold"]),
            "no_data_fail_below_sigma": float(data["any_threshold"]),
            "sigma": float(data["time_sigma"]),
            "measured": float(data["time_measured"][-1]),
            "exact": float(data["time_exact"][-1]),
            "published": float(data["time_published"][-1]),
            "corrected": float(data["time_corrected"][-1]),
            "sharp": float(data["time_sharp"][-1]),
            "largest_relative_error": float(np.abs(wide / exact - 1).max()),
        },
        "hoelder": {
            "sigma": data["rough_sigma"].tolist(),
            "method": data["rough_method"].tolist(),
            "alpha": data["alpha"].tolist(),
            "constant": data["hoelder"].tolist(),
            "noise": data["hoelder_noise"].tolist(),
            "bound": data["hoelder_bound"][0].tolist(),
            "exponent_between_neighbours": {"order": float(data["exponent"]), "stderr": float(data["exponent_stderr"])},
        },
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "theorems", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound
    )


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        return array.dtype.kind == "U" if key in TEXTS else array.dtype.kind == "f" and np.isfinite(array).all()

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or not finite")


def plot(data):
    """Draw the six panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `smooth_measured` of shape (f, m), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _theorems_plot.panels(data)


if __name__ == "__main__":
    main()
