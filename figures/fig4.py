"""Figure 4: the solution of the convection-diffusion equation at t = 0 for growing diffusion.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, 1) = f(x),  unit square, periodic        (paper: (2.8))

As in the paper: 128 points per side, time step 1e-3, each component of the velocity an independent uniform number in
[-1, 1] at each grid point, sigma = 0, 0.01 and 0.1. The pseudospectral method that the paper names does not run on
this velocity (second picture), so `--method auto` takes it where it resolves the problem, and the average over
Euler-Maruyama paths (Feynman-Kac), or the characteristics for sigma = 0, elsewhere.

Writes fig4.png (panels (a)-(c) and the terminal datum (d)), fig4-evidence.png (why it can be believed), fig4.npz (the
arrays) and fig4.json (arguments, versions, seconds, and what was found for each sigma) to --out.

About half a minute on two cores, five seconds with --quick; the first run compiles, which takes ten seconds more.
"""

import time

import numpy as np
from tqdm import tqdm

import pde
from figures import _fig4_plot, _io
from figures._cli import sound_arrays
from pde.problems import VELOCITIES

__all__ = ["compute", "main", "plot", "plot_evidence", "solve"]

METHODS = ("auto", "spectral", "feynman-kac")
# The paper's time step (section 2.2).
PAPER_DT = 1e-3
# Relative to max |f|: a sixth of the spacing of the contours in panel (c).
RESOLUTION = 1e-2
# Grids up to twice the problem's, or to this, are tried.
FINEST = 256
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "sigma": "m", "u": "mnn", "stderr": "mnn", "terminal": "nn", "velocity": "2nn", "method": "m", "why": "m",
    "z_sigma": "c", "z": "cp", "sweep_sigma": "s", "sweep_gradient": "s", "sweep_low": "s", "sweep_high": "s",
    "literal_sigma": "m", "literal_t": "t", "literal_sup": "mt",
}  # fmt: skip


def compute(*, quick=False, seed=0, velocity="grid-noise", method="auto", n=128, sigmas=(0.0, 0.01, 0.1)):
    """Solve for every sigma, and gather the evidence.

    Parameters
    ----------
    quick : bool, default=False
        Fewer paths and time steps.
    seed : int, default=0
        Seed of velocity, terminal datum and paths.
    velocity : {"grid-noise", "band-limited", "divergence-free"}
        Kind of velocity.
    method : {"auto", "spectral", "feynman-kac"}
        Solver; "auto" is the spectral one where n or 2 n points resolve the problem.
    n : int, default=128
        Points per side, >= 16.
    sigmas : sequence of float
        Diffusion coefficients, >= 0.

    Returns
    -------
    dict of str to ndarray
        `sigma` (m,), `u` and `stderr` (m, n, n), `terminal` (n, n), `velocity` (2, n, n), and the evidence.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    sigmas = _check(method, n, sigmas, seed)
    n_paths, n_steps, n_sweep_paths = (32, 200, 8) if quick else (256, round(1 / PAPER_DT), 64)
    problems = {sigma: pde.problems.figure4(seed, n, sigma, velocity) for sigma in sigmas}
    first = problems[sigmas[0]]
    sweep = np.unique([*sigmas, *((0.0, 0.02, 0.1) if quick else (0.0, 0.003, 0.01, 0.03, 0.1, 0.3))])
    solutions, spectral = {}, {}
    with tqdm(total=3 * len(sigmas) + len(sweep), disable=None, desc="fig4", unit="solve") as bar:
        for sigma in sigmas:
            solutions[sigma], spectral[sigma] = solve(problems[sigma], method, n_paths, n_steps, seed)
            bar.update()
        literal = [_literal(problems[sigma], bar) for sigma in sigmas]
        checks = [_check_by_paths(problems[s], spectral[s], 16 if quick else 64, n_steps, seed, bar) for s in sigmas]
        family = []
        for sigma in sweep:
            if sigma not in solutions:
                problem = pde.problems.figure4(seed, n, float(sigma), velocity)
                solutions[sigma], _ = solve(problem, "auto", n_sweep_paths, n_steps, seed)
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


def _check(method, n, sigmas, seed):
    if method not in METHODS:
        raise ValueError(f"--method must be one of {', '.join(METHODS)}, got {method}")
    if n < 16:
        raise ValueError(f"--n must be >= 16 to hold the terminal datum, got {n}")
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    sigmas = [float(sigma) for sigma in sigmas]
    # A standard deviation of a thousand periods is uniform noise to the last bit.
    if not sigmas or not all(0 <= s <= 1000 for s in sigmas) or len(set(sigmas)) < len(sigmas):
        raise ValueError(f"--sigmas must be different numbers in [0, 1000], got {' '.join(f'{s:g}' for s in sigmas)}")
    return sigmas


def solve(problem, method, n_paths, n_steps, seed):
    """Solve a problem by the method of record: the spectral one where a grid resolves it, else Feynman-Kac.

    Parameters
    ----------
    problem : pde.ConvectionDiffusion
        Given as fields.
    method : {"auto", "spectral", "feynman-kac"}
        "auto": as above.
    n_paths, n_steps : int
        Of Feynman-Kac: paths a point, steps a path.
    seed : int
        Of the paths.

    Returns
    -------
    solution : tuple
        u and its standard error, ndarrays of shape (n, n); the method's name; why it was taken.
    spectral : SpectralSolution or None
        Where a grid resolves the problem.

    Raises
    ------
    UnresolvedError
        If method is "spectral" and no grid resolves the problem.
    """
    spectral, reason = _resolved_spectral(problem)
    n = problem.n
    if method == "spectral" and spectral is None:
        raise pde.UnresolvedError(f"sigma = {problem.sigma:g}: {reason}; --method auto solves it by Feynman-Kac")
    if method != "feynman-kac" and spectral is not None:
        u = spectral.field.on_grid(n)
        grid_size = len(spectral.u)
        why = f"resolved on {grid_size} points per side, estimated error {spectral.error_estimate:.1g}"
        return (u, np.zeros_like(u), "spectral", why), spectral
    # Common paths: the error is smooth in space, so contours stay clean.
    e = pde.feynman_kac.estimate(problem, pde.grid.points(n), n_paths, n_steps, seed, common_paths=True)
    asked = "as asked" if method == "feynman-kac" else f"the spectral solution is {reason}"
    if problem.sigma == 0:
        return (e.mean, e.stderr, "characteristics", asked), spectral
    return (e.mean, e.stderr, f"Feynman-Kac, {n_paths} paths, standard error ≤ {e.stderr.max():.1g}", asked), spectral


def _resolved_spectral(problem):
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
    """Values up to `count`: a run that left the range of the numbers ends early."""
    return np.concatenate([values, np.full(count - len(values), np.nan)])


def _check_by_paths(problem, spectral, n_side, n_steps, seed, bar):
    """z-scores of independent Feynman-Kac estimates against a resolved spectral solution, where there is noise."""
    z = None
    if spectral is not None and problem.sigma > 0:
        points = pde.grid.points(n_side)
        e = pde.feynman_kac.estimate(problem, points, 256, n_steps, seed + 1)
        z = pde.convergence.z_scores(e.mean, e.stderr, spectral.field.on_grid(n_side)).ravel()
    bar.update()
    return z


def _gradient(u):
    """Largest slope of u between neighbouring grid points."""
    return pde.PeriodicField(u, interpolation="bilinear").jacobian_sup_norm()


def findings(data):
    """Return what is said of each sigma in the JSON file.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `u` of shape (m, n, n) and the rest.

    Returns
    -------
    list of dict
    """
    # Between the grid points the terminal datum is larger than on them.
    bound = pde.PeriodicField(data["terminal"]).sup_norm()
    return [
        {
            "sigma": float(sigma),
            "method": str(data["method"][i]),
            "why": str(data["why"][i]),
            "range": [float(data["u"][i].min()), float(data["u"][i].max())],
            "sup_gradient": _gradient(data["u"][i]),
            "maximum_principle": bool(np.abs(data["u"][i]).max() <= bound * (1 + RESOLUTION)),
            "largest_stderr": float(data["stderr"][i].max()),
            # None where the run left the range of the numbers.
            "literal_recipe_sup_norm": _finite(data["literal_sup"][i, -1]),
        }
        for i, sigma in enumerate(data["sigma"])
    ]


def _finite(number):
    return float(number) if np.isfinite(number) else None


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    parser = _io.OneLineParser("python -m figures.fig4", __doc__)
    parser.add_argument("--velocity", choices=VELOCITIES, default="grid-noise", help="kind of velocity")
    parser.add_argument("--method", choices=METHODS, default="auto", help="solver (default auto)")
    parser.add_argument("--n", type=int, default=None, help="points per side (default 128; 48 with --quick)")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.0, 0.01, 0.1], help="diffusion coefficients")
    parser.add_argument("--replot", action="store_true", help="draw again from fig4.npz, without computing")
    arguments = vars(parser.parse_args(argv))
    _io.run(lambda: _main(arguments), parser.prog, arguments)


def _main(arguments):
    begin = time.perf_counter()
    options = {key: arguments[key] for key in ("quick", "seed", "velocity", "method", "n", "sigmas")}
    if options["n"] is None:
        options["n"] = 48 if options["quick"] else 128
    if arguments["replot"]:
        data = _shapes_agree(_io.load_data(arguments["out"] / "fig4.npz", SHAPES), arguments["out"] / "fig4.npz")
    else:
        _check(options["method"], options["n"], options["sigmas"], options["seed"])
    directory = _io.writable(arguments["out"])
    if not arguments["replot"]:
        data = compute(**options)
    _io.use_style()
    writers = {
        "fig4.png": lambda path: _io.save_picture(plot(data), path),
        "fig4-evidence.png": lambda path: _io.save_picture(plot_evidence(data), path),
    }
    if not arguments["replot"]:
        seconds = time.perf_counter() - begin
        writers["fig4.npz"] = lambda path: np.savez_compressed(path, **data)
        record = _io.provenance(arguments | options, seconds) | {"solutions": findings(data)}
        writers["fig4.json"] = lambda path: _io.write_json(path, record)
    for path in _io.save_all(directory, writers):
        print(path)


def _shapes_agree(data, path):
    def is_sound(key, array):
        if key in ("method", "why"):
            return array.dtype.kind == "U"
        # A run of the literal recipe may leave the range of the numbers.
        return array.dtype.kind == "f" and (key == "literal_sup" or np.isfinite(array).all())

    # No sigma need have a z-score.
    return sound_arrays(
        data,
        path,
        SHAPES,
        is_sound,
        fault="wrong shape or kind, or not finite",
        lengths={"2": 2},
        may_be_empty=("z_sigma", "z"),
    )


def plot(data):
    """Draw the contour panels, one for each sigma and one for the terminal datum.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `u` of shape (m, n, n) and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig4_plot.contours(data)


def plot_evidence(data):
    """Draw what supports the solution: both solvers compared, the effect of sigma, and the recipe taken literally.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `u` of shape (m, n, n) and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig4_plot.evidence(data)


if __name__ == "__main__":
    main()
