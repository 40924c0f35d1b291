"""The spectral solution at equidistant times, for controls that need its gradient along the paths."""

from dataclasses import dataclass

import numpy as np

from pde import checks, spectral
from pde.equation import admit


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
        Estimate of max |error|.
    length : float
        Period.
    """

    t: np.ndarray
    u: np.ndarray
    error_estimate: float
    length: float


def solve_in_time(problem, n_times, *, n=None, rtol=1e-6):
    """Solve spectrally and keep the solution at equidistant times.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x);  at t_j = j T / m, from j = m down to 0

    Parameters
    ----------
    problem : ConvectionDiffusion
        Problem with one constant sigma, without potential and source.
    n_times : int
        m, rounded up to a multiple of the number of layers; >= 1.
    n : int, optional
        Points per side, >= 4; by default those of the problem's fields, or 128.
    rtol : float, default=1e-6
        Tolerance of `spectral.solve`.

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
    admit(problem).refuse("solve_in_time")
    n = (problem.n or 128) if n is None else checks.integer("n", n, at_least=4)
    n_layers = problem.n_layers or 1
    m = n_layers * -(-n_times // n_layers)
    t = np.linspace(0.0, problem.horizon, m + 1)
    solution = spectral.solve(problem, n, rtol, save_at=t, check=False)
    for time, u in zip(t, solution.saved, strict=True):
        if not np.isfinite(u).all():
            raise spectral.UnresolvedError(
                f"the spectral solution is not finite at t = {time:.3g} with n = {n}: raise n, or use another control"
            )
    return SolutionInTime(t, solution.saved, solution.error_estimate, problem.length)
