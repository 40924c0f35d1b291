"""The spectral solution at equidistant times, for controls that need its gradient along the paths."""

from dataclasses import dataclass

import numpy as np

from pde import checks, spectral
from pde.equation import ConvectionDiffusion
from pde.fields import PeriodicField

__all__ = ["SolutionInTime", "solve_in_time"]


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
    n_times = checks.integer("n_times", n_times, at_least=1)
    problem.refuse("solve_in_time")
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
