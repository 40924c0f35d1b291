"""Fourier pseudospectral solution of the convection-diffusion equation.

u_t + v . grad u + nu lap u = 0,  u(x, T) = f(x)                                          (paper: (2.8))

is integrated in time-to-go s = T - t, from s = 0. Two integrators: `krylov`, the action of the exponential of the
generator, exact in time up to its tolerance; `ifrk4`, the paper's fixed step in an integrating factor.

The error estimate rests on the maximum principle: the exact solution operator does not increase the sup norm, so
errors committed along the way add up and do not grow. They are the integrator's local errors, and what the modes kept
cannot hold of v . grad u (`_march`, `_integrators`).
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import checks, grid
from pde.fields import PeriodicField
from pde.spectral import _integrators
from pde.spectral._state import March

__all__ = ["METHODS", "SpectralSolution", "UnresolvedError", "solve"]

METHODS = ("krylov", "ifrk4")


class UnresolvedError(ArithmeticError):
    """The grid does not resolve the solution; the message says what would."""


@dataclass(frozen=True, eq=False)
class SpectralSolution:
    """The solution at t = 0 and what is known of its error.

    Attributes
    ----------
    u : ndarray of shape (n, n)
        u(x_i, y_j, 0).
    error_estimate : float
        Estimate of max |error|, in units of u.
    resolved : bool
        The maximum principle holds and error_estimate is within the `resolution` asked.
    reason : str
        Why not resolved; empty if it is.
    n_steps : int
        Steps in time.
    n_modes : int
        Modes kept at the end, |k_i| <= n_modes.
    n_products : int
        Evaluations of v . grad u.
    t : ndarray of shape (m,)
        Times, from T down to 0.
    sup_norms : ndarray of shape (m,)
        max |u(., t)| over the grid points.
    method : str
        Integrator.
    length : float
        Period.
    """

    u: np.ndarray
    error_estimate: float
    resolved: bool
    reason: str
    n_steps: int
    n_modes: int
    n_products: int
    t: np.ndarray
    sup_norms: np.ndarray
    method: str
    length: float

    @property
    def field(self):
        """u(., 0) as a trigonometric PeriodicField."""
        return PeriodicField(self.u, self.length)


def solve(problem, n=None, rtol=1e-8, method="krylov", dt=None, check=True, *, resolution=1e-3, dealias=True):
    """Solve the terminal-value problem for u(x, 0), spectrally in space.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: (2.8))

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity in length / time, sigma in length / sqrt(time). A velocity that is not trigonometric is known to the
        solver by its values on the n-grid; the error estimate says what that costs.
    n : int, optional
        Points per side, >= 4; by default those of the problem's fields. Modes |k_i| < n / 3 are available.
    rtol : float, default=1e-8
        Tolerance of "krylov" on the time integration and on the modes left out, relative to max |f|.
    method : {"krylov", "ifrk4"}
        "krylov": adaptive Krylov action of the exponential, for velocities steady or piecewise constant in time; it
        keeps as many modes as the solution asks for. "ifrk4": classical Runge-Kutta of order 4 in an integrating
        factor, for any velocity, on all modes.
    dt : float, optional
        Step of "ifrk4", 1e-3 * horizon by default (the paper's); shortened to divide each layer evenly.
    check : bool, default=True
        Raise if the solution is not resolved; False returns it with `resolved=False`.
    resolution : float, default=1e-3
        Largest error_estimate / max |f| that counts as resolved.
    dealias : bool, default=True
        False: "ifrk4" keeps all modes |k_i| < n / 2 and lets the product on the n-grid alias.

    Returns
    -------
    SpectralSolution
        `u` of shape (n, n); `error_estimate`; `resolved`.

    Raises
    ------
    ValueError
        If an argument is out of range, or "krylov" is asked for a velocity that is a callable.
    UnresolvedError
        If the solution is not finite, violates the maximum principle or is not resolved by the modes kept; the
        message says what n would be asked for by the boundary layers.

    References
    ----------
    .. [1] Wang et al. 2020, section 2.2.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.eigenfunction()
    >>> solution = solve(problem)
    >>> exact = problem.exact(pde.grid.points(problem.n))
    >>> bool(np.abs(solution.u - exact).max() <= 1e-8)
    True
    """
    problem.refuse("spectral.solve")
    rtol = checks.real("rtol", rtol, positive=True)
    resolution = checks.real("resolution", resolution, positive=True)
    if rtol >= 1:
        raise ValueError(f"rtol must be < 1, got rtol={rtol:g}")
    checks.one_of("method", method, METHODS)
    if n is None and problem.n is None:
        raise ValueError("n must be given: velocity and terminal data are callables")
    n = checks.integer("n", problem.n if n is None else n, at_least=4)
    if method == "krylov":
        if problem.n_layers is None:
            raise ValueError("method must be 'ifrk4' for a velocity that is a callable, got method='krylov'")
        if dt is not None or not dealias:
            raise ValueError("dt and dealias belong to method='ifrk4', got method='krylov'")
        march = March(problem, n, grid.dealiased_modes(n), resolution, not check)
        with np.errstate(over="ignore", invalid="ignore"):
            _integrators.krylov(march, rtol)
    else:
        dt = 1e-3 * problem.horizon if dt is None else checks.real("dt", dt, positive=True)
        n_modes = grid.dealiased_modes(n) if dealias else (n - 1) // 2
        march = March(problem, n, n_modes, resolution, not check)
        coarse = March(problem, n, n_modes, resolution, True)
        n_steps = max(2, math.ceil(problem.horizon / (problem.n_layers or 1) / dt * (1 - 1e-12)))
        with np.errstate(over="ignore", invalid="ignore"):
            _integrators.ifrk4(march, n_steps, dealias)
            if not march.violation:
                _integrators.ifrk4(coarse, (n_steps + 1) // 2, dealias)
                march.time_error = _integrators.richardson(march, coarse)
            else:
                march.time_error = math.inf
    solution = _solution(march, method)
    if check and not solution.resolved:
        raise UnresolvedError(solution.reason + "; " + _remedy(problem, n) + "; check=False returns the fields")
    return solution


def _solution(march, method):
    u = march.modes.to_grid(march.state, march.n)
    reason = march.violation
    n_modes, space_error = march.modes.k_max, march.error + march.sampling_error
    if not np.isfinite(u).all():
        reason = f"unresolved: the solution is not finite at t = {march.times[-1]:.3g}"
    elif not reason and not march.time_error <= march.tolerance:
        reason = (
            f"unresolved: estimated error in time {march.time_error:.2g} > {march.tolerance:.2g}, shorten dt below "
            f"{march.problem.horizon / march.n_steps:.3g}"
        )
    elif not reason and not space_error <= march.tolerance:
        reason = (
            f"unresolved: the spectrum does not decay within {n_modes} modes, estimated error "
            f"{space_error:.2g} > {march.tolerance:.2g}"
        )
    return SpectralSolution(
        u=u,
        error_estimate=space_error + march.time_error,
        resolved=not reason,
        reason=reason,
        n_steps=march.n_steps,
        n_modes=n_modes,
        n_products=march.n_products,
        t=np.array(march.times),
        sup_norms=np.array(march.sup_norms),
        method=method,
        length=march.problem.length,
    )


def _remedy(problem, n):
    """What would resolve the solution, by the width sqrt(nu / max |grad v|) of its boundary layers."""
    if problem.nu == 0:
        return "sigma = 0 has no smallest scale: follow the characteristics with pde.feynman_kac.estimate"
    times = [problem.horizon * (j + 0.5) / (problem.n_layers or 8) for j in range(problem.n_layers or 8)]
    steepest = max(problem.velocity_field(t, n).jacobian_sup_norm() for t in times)
    width = math.sqrt(problem.nu / steepest) if steepest else problem.length
    # Two points per layer width.
    wanted = 2 ** math.ceil(math.log2(2 * problem.length / width))
    if wanted <= n:
        return f"boundary layers of width {width:.2g} need no more than n = {wanted}: try n = {2 * n}"
    return (
        f"boundary layers of width sqrt(nu / max |grad v|) = {width:.2g} ask for n >= {wanted}: raise n, or use "
        "pde.feynman_kac.estimate"
    )
