"""Control variates for the Feynman-Kac formula: quantities of the same paths whose expectation is known.

mean = average of f(X_T) - c (Z - E[Z]),  X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k

heat:            Z = f(x + sigma B_T),       E[Z] = (exp(T nu lap) f)(x)
characteristic:  Z = f(y + sigma B_T),       E[Z] = (exp(T nu lap) f)(y),  y the end of the path without noise
spectral:        Z = w(x, 0) + sum_k sigma grad w(X_k, t_k) . dB_k,  E[Z] = w(x, 0),  w the spectral solution

The last is a martingale, whatever w is: the mean is not biased by an error of w, and becomes a check of it.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._controlled_walk import ControlledWalk
from pde.feynman_kac._heat import heat_at, heat_semigroup
from pde.feynman_kac._moments import Moments, rare_points, refuse_unless_finite
from pde.feynman_kac._random import key_from
from pde.feynman_kac._result import half_width
from pde.feynman_kac._solution_in_time import SolutionInTime, solve_in_time
from pde.feynman_kac._tails import Tails, variance_under_noise
from pde.fields import PeriodicField

__all__ = ["CONTROLS", "ControlledEstimate", "SolutionInTime", "controlled_estimate", "heat_semigroup", "solve_in_time"]

CONTROLS = ("heat", "characteristic", "spectral")
# Particles advanced together: memory does not grow with the number of paths.
_BATCH = 2**19


@dataclass(frozen=True, eq=False)
class ControlledEstimate:
    """A Monte-Carlo estimate of u(x, 0) with a control variate.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Its standard error, with the error to which E[Z] is known: 1e-12 max |f|, or 1e-10 for a callable. With few
        paths an interval takes Student's quantile with n_samples - 1 degrees of freedom: see `half_width`.
    control_mean : ndarray of shape (...)
        E[Z], known: for "spectral" the spectral solution itself, which `mean` checks up to the bias of the steps.
    coefficient : ndarray of shape (...)
        c, averaged over the two halves of the paths.
    variance_ratio : ndarray of shape (...)
        Sample variance of f(X_T) over that of f(X_T) - c Z: the gain of the control on the same paths.
    n_paths : int
        Number of paths per point.
    n_steps : int
        Number of steps per path.
    n_samples : int
        Number of samples for Student's quantile: n_paths - 1 with a given coefficient; a quarter of the paths where
        each half has its coefficient from the other.
    """

    mean: np.ndarray
    stderr: np.ndarray
    control_mean: np.ndarray
    coefficient: np.ndarray
    variance_ratio: np.ndarray
    n_paths: int
    n_steps: int
    n_samples: int

    def half_width(self, confidence=0.95):
        """Half the width of the interval around `mean` that holds E[f(X_T)] at this confidence, shape (...)."""
        return half_width(self.stderr, confidence, self.n_samples)


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

    The coefficient c that minimises the variance is Cov(f(X_T), Z) / Var(Z). It is estimated on each half of the paths
    and used on the other half, so that the mean is not biased by it; the bias that remains is that of the steps.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma > 0.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Number of paths per point, >= 4 and even.
    n_steps : int, default=1000
        Number of steps per path, at least one per layer of the velocity, which steps end on.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed; the paths are those of `feynman_kac.estimate`.
    control : {"heat", "characteristic", "spectral"}
        Z.
    coefficient : float, optional
        c; by default estimated point by point for "heat" and "characteristic", and 1 for "spectral".

    Other Parameters
    ----------------
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
        If an argument is out of range, points has another shape or is not finite, solution is given to another control,
        sigma = 0 or depends on x, the problem has a potential, a source or several terminal data, or "heat" or
        "characteristic" is to control a callable f that is not smooth.
    UnresolvedError
        If the spectral solution is not finite (raised by `solve_in_time`).
    FloatingPointError
        If the result or its standard error is not finite.

    Warns
    -----
    RuntimeWarning
        If all samples of f agree at some point, or the samples may have missed large values of the terminal
        data: stderr does not show these.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.eigenfunction(sigma=0.2)
    >>> e = controlled_estimate(problem, [[0.1, 0.2]], n_paths=1000, n_steps=64, n_times=64)
    >>> bool(e.variance_ratio[0] > 20)
    True
    """
    points, start = _arguments.places(problem, points)
    checks.one_of("control", control, CONTROLS)
    if solution is not None and control != "spectral":
        raise ValueError(f"solution is that of control='spectral': leave it out, got control={control!r}")
    coefficient = _coefficient(coefficient, control)
    n_paths, n_steps = _arguments.counts(n_paths, n_steps, points, fewest_paths=4)
    n_times = checks.integer("n_times", n_times, at_least=1)
    if n_paths % 2:
        raise ValueError(f"n_paths must be even, for two halves, got n_paths={n_paths}")
    _arguments.needs_noise(problem)
    problem.refuse("controlled_estimate")
    key = key_from(rng)
    walk = ControlledWalk(problem, n_steps, n, key)
    # All numbers are linear in f, and variances are not to underflow.
    unit = _arguments.unit_of(problem, walk.velocity.n)
    if control == "spectral":
        if solution is None:
            solution = solve_in_time(problem, min(n_times, n_steps), n=n)
        walk.use_solution(solution)
        # The samples are made around it: an error of it leaves the mean.
        control_mean, known = PeriodicField(solution.u[0], solution.length)(points).reshape(-1), 0.0
        least = np.zeros(len(start))
    else:
        shift = walk.ends(start) - start if control == "characteristic" else np.zeros_like(start)
        control_mean, known = heat_at(problem, problem.horizon, (start + shift) * problem.length)
        # Of paths that miss a narrow f by chance, the variance of Z is next to nothing, and c without a bound.
        least = variance_under_noise(problem, start + shift, walk.velocity.n, unit) / 2
    halves = [Moments.joint(2, len(start)) for _ in range(2)]
    control_mean, known = control_mean * unit, known * unit

    def draw(chosen, first, count):
        if control == "spectral":
            values, z = walk.with_martingale(start[chosen], chosen.start, first, count)
            return values * unit, z * unit + control_mean[chosen, None]
        values, z = walk.with_heat(start[chosen], shift[chosen], chosen.start, first, count)
        return values * unit, z * unit

    # In even numbers of paths, so that every batch has both halves.
    paths = min(n_paths, _BATCH)
    block = max(1, _BATCH // paths)
    for first in range(0, n_paths, paths):
        count = min(paths, n_paths - first)
        batch = [draw(slice(p, p + block), first, count) for p in range(0, len(start), block)]
        if batch:
            values, z = (np.concatenate(parts) for parts in zip(*batch, strict=True))
            for half, moments in enumerate(halves):
                moments.add(values[:, half::2], z[:, half::2])
    # Overflow shows in the result, which is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        result = _controlled(halves, control_mean, known, least, unit, coefficient, points.shape[:-1], n_paths, n_steps)
    _warn_of_silence(problem, halves, unit, walk.velocity.n)
    Tails(problem, start, walk.velocity.n).warn(result.stderr, n_paths)
    return result


def _warn_of_silence(problem, halves, unit, n):
    """Warn where all samples of f agree, so that no covariance with the control shows what none of them hit."""
    mean, variance = (
        sum(values) / 2 for values in zip(*((h.mean[0], h.covariance[0, 0]) for h in halves), strict=True)
    )
    n_paths, (low, high) = 2 * halves[0].count, _arguments.terminal_range(problem, n)
    if not high > low:
        return
    silent, _ = rare_points(mean / unit, np.sqrt(variance / n_paths) / unit, n_paths, low, high)
    if silent.any():
        warnings.warn(
            f"at {int(silent.sum())} of {silent.size} points all {n_paths} samples of terminal agree, yet an event "
            f"that none of them hit may have a probability of {3 / n_paths:.1g} (at 95 %): stderr does not include it; "
            "take more paths",
            RuntimeWarning,
            stacklevel=3,
        )


def _coefficient(coefficient, control):
    """c as a number, or None where it is estimated from the paths."""
    if coefficient is None:
        return 1.0 if control == "spectral" else None
    coefficient = checks.finite_array("coefficient", coefficient)
    if coefficient.ndim:
        raise ValueError(f"coefficient must be a number, got shape {coefficient.shape}")
    return float(coefficient)


def _controlled(halves, control_mean, known, least, unit, coefficient, shape, n_paths, n_steps):
    """The result; `least` (n_points,): the least variance of Z that a coefficient is divided by."""
    covariances = [half.covariance for half in halves]
    if coefficient is None:
        # Z without variance gains nothing: c = 0.
        own = [
            np.divide(c[0, 1], np.maximum(c[1, 1], least), out=np.zeros_like(c[0, 1]), where=c[1, 1] > 0)
            for c in covariances
        ]
        used = own[::-1]
    else:
        used = [np.full(len(control_mean), coefficient)] * 2
    means = [half.mean[0] - c * (half.mean[1] - control_mean) for half, c in zip(halves, used, strict=True)]
    left = [np.maximum(v[0, 0] - 2 * c * v[0, 1] + c**2 * v[1, 1], 0.0) for v, c in zip(covariances, used, strict=True)]
    mean, variance = (means[0] + means[1]) / 2, (left[0] + left[1]) / 2
    # Where E[Z] is known up to an error, that of the mean is c times it.
    stderr = np.hypot(np.sqrt(variance / n_paths), known * np.abs(used[0] + used[1]) / 2)
    refuse_unless_finite(mean, variance, n_paths)
    plain = (covariances[0][0, 0] + covariances[1][0, 0]) / 2
    ratio = np.divide(plain, variance, out=np.full_like(plain, np.inf), where=variance > 0)
    return ControlledEstimate(
        mean=mean.reshape(shape) / unit,
        stderr=stderr.reshape(shape) / unit,
        control_mean=control_mean.reshape(shape) / unit,
        coefficient=((used[0] + used[1]) / 2).reshape(shape),
        variance_ratio=ratio.reshape(shape),
        n_paths=n_paths,
        n_steps=n_steps,
        # Half the paths give a coefficient, and f - c Z is not normal: with few paths, a cautious count.
        n_samples=n_paths // 4 if coefficient is None else n_paths - 1,
    )
