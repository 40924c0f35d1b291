"""Control variates for the Feynman-Kac formula: quantities of the same paths whose expectation is known.

mean = average of f(X_T) - c (Z - E[Z]),  X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k

heat:            Z = f(x + sigma B_T),       E[Z] = (exp(T nu lap) f)(x)
characteristic:  Z = f(y + sigma B_T),       E[Z] = (exp(T nu lap) f)(y),  y the end of the path without noise
spectral:        Z = w(x, 0) + sum_k sigma grad w(X_k, t_k) . dB_k,  E[Z] = w(x, 0),  w the spectral solution

The last is a martingale, whatever w is: the mean is not biased by an error of w, and becomes a check of it.
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import checks, grid, spectral
from pde.equation import ConvectionDiffusion
from pde.feynman_kac import _spline_tables
from pde.feynman_kac._kernels_coupled import ALONE, STILL, advance_martingale, advance_pair
from pde.feynman_kac._moments import Moments
from pde.feynman_kac._path_fields import PathFields
from pde.feynman_kac._random import key_from
from pde.fields import PeriodicField

__all__ = ["CONTROLS", "ControlledEstimate", "SolutionInTime", "controlled_estimate", "heat_semigroup", "solve_in_time"]

CONTROLS = ("heat", "characteristic", "spectral")
# Particles advanced together: memory does not grow with the number of paths.
_BATCH = 2**19
# The control's expectation must be known to far less than any standard error.
_HEAT_TOLERANCE = 1e-10
# Modes of a spline that are summed at most: the next ones are of size (n / mode)**2 for a bilinear one.
_LARGEST_MODE = 2**10


@dataclass(frozen=True, eq=False)
class ControlledEstimate:
    """A Monte-Carlo estimate of u(x, 0) with a control variate.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Its standard error.
    control_mean : ndarray of shape (...)
        E[Z], known: for "spectral" the spectral solution itself, which `mean` checks up to the bias of the steps.
    coefficient : ndarray of shape (...)
        c, averaged over the two halves of the paths.
    variance_ratio : ndarray of shape (...)
        Sample variance of f(X_T) over that of f(X_T) - c Z: what the control gains on the same paths.
    n_paths : int
        Paths a point.
    n_steps : int
        Steps a path.
    """

    mean: np.ndarray
    stderr: np.ndarray
    control_mean: np.ndarray
    coefficient: np.ndarray
    variance_ratio: np.ndarray
    n_paths: int
    n_steps: int


@dataclass(frozen=True, eq=False)
class SolutionInTime:
    """The spectral solution at equidistant times.

    Attributes
    ----------
    t : ndarray of shape (m + 1,)
        Times, from 0 to T.
    u : ndarray of shape (m + 1, n, n)
        u(x_i, y_j, t).
    error_estimate : float
        Estimate of max |error| at t = 0: the sum of those of the intervals.
    length : float
        Period.
    """

    t: np.ndarray
    u: np.ndarray
    error_estimate: float
    length: float


def controlled_estimate(
    problem,
    points,
    n_paths=1024,
    n_steps=1000,
    rng=0,
    *,
    control="spectral",
    coefficient=None,
    solution=None,
    n_times=64,
    n=None,
):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points with a control variate.

    mean = average of f(X_T) - c (Z - E[Z]),  Z as in the head of this module

    The coefficient c that minimises the variance is Cov(f(X_T), Z) / Var(Z). It is read off each half of the paths and
    used on the other half, so that the mean is not biased by it; the bias that remains is that of the steps.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma > 0.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Paths a point, >= 4 and even.
    n_steps : int, default=1000
        Steps a path, >= 1.
    rng : int or numpy.random.Generator, default=0
        Seed; the paths are those of `feynman_kac.estimate`.
    control : {"heat", "characteristic", "spectral"}
        Z.
    coefficient : float, optional
        c; by default read off the paths, point by point, for "heat" and "characteristic", and 1 for "spectral".
    solution : SolutionInTime, optional
        w of "spectral"; by default `solve_in_time(problem, min(n_times, n_steps), n=n)`.
    n_times : int, default=64
        Intervals between the times at which grad w is stored; each step takes the nearest time. >= 1.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled, and of w; by default those of the
        problem's fields, or 128.

    Returns
    -------
    ControlledEstimate
        `mean` and `stderr` of shape (...).

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, or sigma = 0.
    UnresolvedError
        If the spectral solution is not finite (raised by `solve_in_time`).
    FloatingPointError
        If the result is not finite.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.eigenfunction(sigma=0.2)
    >>> e = controlled_estimate(problem, [[0.1, 0.2]], n_paths=1000, n_steps=64, n_times=64)
    >>> bool(e.variance_ratio[0] > 20)
    True
    """
    points = checks.points_array(points)
    n_paths = checks.integer("n_paths", n_paths, at_least=4)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    n_times = checks.integer("n_times", n_times, at_least=1)
    checks.one_of("control", control, CONTROLS)
    if n_paths % 2:
        raise ValueError(f"n_paths must be even, for two halves, got n_paths={n_paths}")
    if max(n_paths, n_steps, points.size) >= 2**32:
        raise ValueError("n_paths, n_steps and the number of points must be < 2**32, the range of the counters")
    problem.refuse("controlled_estimate")
    if problem.sigma == 0:
        raise ValueError("sigma must be > 0: without noise there is no variance to reduce, see feynman_kac.estimate")
    if coefficient is not None:
        coefficient = checks.finite_array("coefficient", coefficient)
        if coefficient.ndim:
            raise ValueError(f"coefficient must be a number, got shape {coefficient.shape}")
        coefficient = float(coefficient)
    elif control == "spectral":
        coefficient = 1.0
    key = key_from(rng)
    walk = _ControlledWalk(problem, n_steps, n, key)
    start = np.mod(points.reshape(-1, 2) / problem.length, 1.0)
    if control == "spectral":
        if solution is None:
            solution = solve_in_time(problem, min(n_times, n_steps), n=n)
        walk.use_solution(solution)
        control_mean = PeriodicField(solution.u[0], solution.length)(points).reshape(-1)
    else:
        shift = walk.ends(start) - start if control == "characteristic" else np.zeros_like(start)
        control_mean = heat_semigroup(problem, problem.horizon)((start + shift) * problem.length)
    halves = [Moments(2, len(start)), Moments(2, len(start))]
    # In even numbers of paths, so that every batch has both halves.
    paths = min(n_paths, _BATCH)
    block = max(1, _BATCH // paths)
    for first in range(0, n_paths, paths):
        count = min(paths, n_paths - first)
        batch = []
        for p in range(0, len(start), block):
            chosen = slice(p, p + block)
            if control == "spectral":
                values, z = walk.with_martingale(start[chosen], p, first, count)
                z += control_mean[chosen, None]
            else:
                values, z = walk.with_heat(start[chosen], shift[chosen], p, first, count)
            batch.append((values, z))
        if batch:
            values, z = (np.concatenate(parts) for parts in zip(*batch, strict=True))
            for half, moments in enumerate(halves):
                moments.merge(values[:, half::2], z[:, half::2])
    # Overflow shows in the result, which is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        return _controlled(halves, control_mean, coefficient, points.shape[:-1], n_paths, n_steps)


def _controlled(halves, control_mean, coefficient, shape, n_paths, n_steps):
    covariances = [half.covariance for half in halves]
    if coefficient is None:
        # Z without variance has nothing to say: c = 0.
        own = [np.divide(c[0, 1], c[1, 1], out=np.zeros_like(c[0, 1]), where=c[1, 1] > 0) for c in covariances]
        used = own[::-1]
    else:
        used = [np.full(len(control_mean), coefficient)] * 2
    means = [half.mean[0] - c * (half.mean[1] - control_mean) for half, c in zip(halves, used, strict=True)]
    left = [np.maximum(v[0, 0] - 2 * c * v[0, 1] + c**2 * v[1, 1], 0.0) for v, c in zip(covariances, used, strict=True)]
    mean, variance = (means[0] + means[1]) / 2, (left[0] + left[1]) / 2
    if not (np.isfinite(mean) & np.isfinite(variance)).all():
        raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
    plain = (covariances[0][0, 0] + covariances[1][0, 0]) / 2
    ratio = np.divide(plain, variance, out=np.full_like(plain, np.inf), where=variance > 0)
    return ControlledEstimate(
        mean=mean.reshape(shape),
        stderr=np.sqrt(variance / n_paths).reshape(shape),
        control_mean=control_mean.reshape(shape),
        coefficient=((used[0] + used[1]) / 2).reshape(shape),
        variance_ratio=ratio.reshape(shape),
        n_paths=n_paths,
        n_steps=n_steps,
    )


def heat_semigroup(problem, t):
    """Return exp(t nu lap) f, the expectation of f under Brownian motion.

    (exp(t nu lap) f)(x) = E[f(x + sigma B_t)] = sum_k f_k exp(-nu |q|**2 t) exp(i q . x),  q = 2 pi k / length

    Parameters
    ----------
    problem : ConvectionDiffusion
        f as a field, whatever its rule of interpolation, or as a callable, sampled on a grid that is refined until
        the result no longer changes by more than 1e-10 max |f|.
    t : float
        Time, > 0.

    Returns
    -------
    PeriodicField
        Trigonometric.

    Raises
    ------
    ValueError
        If t is not positive, or 2048 points per side do not hold f (a callable that is not smooth).
    """
    t = checks.real("t", t, positive=True)
    problem.refuse("heat_semigroup")
    f = problem.terminal
    if not isinstance(f, PeriodicField):
        return _sampled_heat(problem, t)
    rate = problem.nu * t * (2 * np.pi / problem.length) ** 2
    if f.interpolation == "trigonometric":
        k_max = f.n_modes
        c = grid.coefficients(f.values, k_max)
    else:
        # A spline has infinitely many modes; those beyond this one are damped below 1e-16 or tabulated no further.
        k_max = int(min(math.sqrt(37 / rate) if rate else np.inf, _LARGEST_MODE)) + 1
        c = _spline_coefficients(f, k_max)
    k = np.arange(-k_max, k_max + 1)
    c = c * np.exp(-rate * (k[:, None] ** 2 + k[None, :] ** 2))
    return PeriodicField(grid.from_coefficients(c, 2 * k_max + 2), problem.length)


def _spline_coefficients(f, k_max):
    """Exact Fourier coefficients of a spline field: those of its coefficients, repeated, times sinc**(degree + 1)."""
    degree = 1 if f.interpolation == "bilinear" else 3
    n, k = f.n, np.arange(-k_max, k_max + 1)
    factor = np.sinc(k / n) ** (degree + 1)
    a = np.fft.fft2(f.spline_coefficients, norm="forward")[np.ix_(k % n, k % n)]
    return a * factor[:, None] * factor[None, :]


def _sampled_heat(problem, t):
    before = None
    for size in (32, 64, 128, 256, 512, 1024, 2048):
        values = problem.terminal_on_grid(size)
        still = ConvectionDiffusion(
            np.zeros((2, 4, 4)), values, sigma=problem.sigma, horizon=problem.horizon, length=problem.length
        )
        result = heat_semigroup(still, t)
        coarse = result.on_grid(32)
        if before is not None and np.abs(coarse - before).max() <= _HEAT_TOLERANCE * np.abs(values).max():
            return result
        before = coarse
    raise ValueError("terminal is not smooth enough for its heat semigroup: give it as a PeriodicField")


def solve_in_time(problem, n_times, *, n=None, rtol=1e-6):
    """Solve spectrally, interval by interval, and keep the solution at equidistant times.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x);  at t_j = j T / m, from j = m down to 0

    Parameters
    ----------
    problem : ConvectionDiffusion
        A callable velocity is solved by "ifrk4" on steps of T / 1000 or less, others by "krylov".
    n_times : int
        m, rounded up to a multiple of the number of layers; >= 1.
    n : int, optional
        Points per side, >= 4; by default those of the problem's fields, or 128.
    rtol : float, default=1e-6
        Tolerance of "krylov" in each interval.

    Returns
    -------
    SolutionInTime
        `u` of shape (m + 1, n, n). It need not be resolved: see `error_estimate`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    UnresolvedError
        If the solution is not finite.
    """
    problem.refuse("solve_in_time")
    n_times = checks.integer("n_times", n_times, at_least=1)
    n = (problem.n or 128) if n is None else checks.integer("n", n, at_least=4)
    n_layers = problem.n_layers or 1
    m = n_layers * -(-n_times // n_layers)
    h = problem.horizon / m
    u = np.empty((m + 1, n, n))
    u[m] = problem.terminal_on_grid(n)
    error = 0.0
    for j in range(m - 1, -1, -1):
        last = problem.terminal if j == m - 1 else PeriodicField(u[j + 1], problem.length)
        part = ConvectionDiffusion(
            _velocity_from(problem, j, m), last, sigma=problem.sigma, horizon=h, length=problem.length
        )
        method, dt = ("krylov", None) if problem.n_layers else ("ifrk4", problem.horizon / max(1000, m))
        solution = spectral.solve(part, n, rtol, method, dt, check=False)
        u[j] = solution.u
        error += solution.error_estimate
        if not np.isfinite(u[j]).all():
            raise spectral.UnresolvedError(
                f"the spectral solution is not finite at t = {j * h:.3g} with n = {n}: raise n, or use another control"
            )
    return SolutionInTime(np.arange(m + 1) * h, u, float(error), problem.length)


def _velocity_from(problem, j, m):
    """The velocity on the interval that begins at j T / m, as one of a problem that begins there."""
    begin = j * problem.horizon / m
    if problem.n_layers:
        return problem.layer_field(j * problem.n_layers // m)
    return lambda x, t: problem.velocity_at(x, begin + t)


class _ControlledWalk:
    """Paths of a problem that carry a control."""

    def __init__(self, problem, n_steps, n, key):
        self.problem, self.n_steps, self.key = problem, n_steps, key
        self.dt = problem.horizon / n_steps
        self.scale = problem.sigma * math.sqrt(self.dt) / problem.length
        self.fields = PathFields(problem, n)

    def use_solution(self, solution):
        m = len(solution.t) - 1
        if solution.length != self.problem.length or not math.isclose(solution.t[-1], self.problem.horizon):
            raise ValueError("solution must be one of the same period and horizon as the problem")
        n = solution.u.shape[-1]
        gradients = (np.moveaxis(PeriodicField(u, solution.length).jacobian_on_grid(n), -1, 0) for u in solution.u)
        # dB is in periods, so the gradient is per period.
        made = [
            _spline_tables.make_table(PeriodicField(g, solution.length, "bicubic"), solution.length, tolerance=1e-6)
            for g in gradients
        ]
        self.slopes, self.slope_n = np.stack([table.coefficients for table in made]), n
        self.snapshots = np.rint(np.arange(self.n_steps) * (m / self.n_steps)).astype(np.int64)

    def ends(self, start):
        """Ends of the paths without noise, shape (n_points, 2), in periods, not reduced to one."""
        x, y = (start[:, i, None].copy() for i in (0, 1))
        for stack, layers, step in self.fields.velocity(self.n_steps):
            degree, n = self.fields.size
            advance_pair(x, y, x, y, stack, layers, degree, n, self.dt, 0.0, step, 0, 0, ALONE, self.key)
        return np.concatenate([x, y], axis=1)

    def with_heat(self, start, shift, first_point, first_path, n_paths):
        x, y = (np.repeat(start[:, i, None], n_paths, axis=1) for i in (0, 1))
        cx, cy = (np.repeat(np.mod(start + shift, 1.0)[:, i, None], n_paths, axis=1) for i in (0, 1))
        for stack, layers, step in self.fields.velocity(self.n_steps):
            degree, n = self.fields.size
            advance_pair(
                x, y, cx, cy, stack, layers, degree, n, self.dt, self.scale, step, first_path, first_point, STILL,
                self.key,
            )  # fmt: skip
        return self.fields.terminal(x, y), self.fields.terminal(cx, cy)

    def with_martingale(self, start, first_point, first_path, n_paths):
        x, y = (np.repeat(start[:, i, None], n_paths, axis=1) for i in (0, 1))
        martingale = np.zeros_like(x)
        for stack, layers, step in self.fields.velocity(self.n_steps):
            degree, n = self.fields.size
            snapshots = self.snapshots[step : step + len(layers)]
            advance_martingale(
                x, y, martingale, stack, layers, degree, n, self.slopes, snapshots, self.slope_n, self.dt, self.scale,
                step, first_path, first_point, self.key,
            )  # fmt: skip
        return self.fields.terminal(x, y), martingale
