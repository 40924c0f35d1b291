"""Fourier pseudospectral solution of the convection-diffusion equation.

u_t + v . grad u + nu lap u = 0,  u(x, T) = f(x)                                          (paper: (2.8))

is integrated in time-to-go s = T - t, from s = 0. Two integrators: `krylov`, the action of the exponential of the
generator, exact in time up to its tolerance; `ifrk4`, the paper's fixed step in an integrating factor.

The error estimate rests on the maximum principle: the exact solution operator does not increase the sup norm, so
errors committed along the way add up and do not grow. They are the integrator's local errors, and the
parts of f and of v . grad u outside the modes kept (`_state`, `_fading`, `_integrators`).
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from pde import checks, equation, grid
from pde.fields import PeriodicField
from pde.spectral import _comparison, _integrators, _magnus, _reaction
from pde.spectral._krylov import precompile
from pde.spectral._remedy import in_time, remedy
from pde.spectral._state import March

__all__ = ["METHODS", "SpectralSolution", "UnresolvedError", "precompile", "solve"]

METHODS = ("krylov", "ifrk4")


class UnresolvedError(ArithmeticError):
    """The grid does not resolve the solution; the message names a remedy."""


@dataclass(frozen=True, eq=False)
class SpectralSolution:
    """The solution at t = 0, with an estimate of its error and a record of the integration.

    Attributes
    ----------
    u : ndarray of shape (n, n)
        u(x_i, y_j, 0).
    error_estimate : float
        Estimate of max |error|, in units of u.
    resolved : bool
        Whether the maximum principle holds and error_estimate is within `resolution`.
    reason : str
        Why it is not resolved; empty if it is.
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
    save_at : ndarray of shape (m,)
        Times requested.
    saved : ndarray of shape (m, n, n), or (m, k, n, n)
        u at these times.
    saved_error_estimates : ndarray of shape (m,)
        Estimates of max |error| of `saved`. At times that an unresolved solution never reaches: inf, and `saved` NaN.
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
    save_at: np.ndarray
    saved: np.ndarray
    saved_error_estimates: np.ndarray

    @property
    def field(self):
        """u(., 0) as a trigonometric PeriodicField."""
        return PeriodicField(self.u, self.length)


def solve(
    problem, n=None, rtol=1e-8, method="krylov", dt=None, check=True, *,
    resolution=1e-3, dealias=True, save_at=None, norm="sup",
):  # fmt: skip
    """Solve the terminal-value problem for u(x, 0), spectrally in space.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: (2.8))

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity in length / time, sigma in length / sqrt(time), constant.
    n : int, optional
        Points per side, >= 4; by default those of the problem's fields. Modes |k_i| < n / 3 are available.
    rtol : float, default=1e-8
        Tolerance of "krylov" in time and on the modes left out, relative to max |f|; with a potential or a source, to
        the bound exp(T max c) (max |f| + T max |g|) of max |u|.
    method : {"krylov", "ifrk4"}
        "krylov": adaptive Krylov action of the exponential, on as many modes as the solution needs; a callable
        velocity is followed by commutator-free Magnus steps of order 4, chosen by rtol. "ifrk4": classical
        Runge-Kutta of order 4 in an integrating factor, on all modes.
    dt : float, optional
        Step of "ifrk4", 1e-3 * horizon by default (the paper's); shortened to divide each layer evenly.
    check : bool, default=True
        Raise if the solution is not resolved; False returns it with `resolved=False`.
    save_at : array_like of shape (m,), optional
        Times in [0, horizon] at which the solution is kept in `saved`.
    norm : {"sup", "l1"}
        Norm of the error: its maximum, or the mean of |error| over the cell. "l1" is for a potential c = div v, the
        forward equation, whose solutions do not grow in it (`pde.density`).
    resolution : float, default=1e-3
        Largest error_estimate that counts as resolved, relative to max |f| or, if c or g are given, largest |u| met.
    dealias : bool, default=True
        False: "ifrk4" keeps all modes |k_i| < n / 2 and lets the product on the n-grid alias.

    Returns
    -------
    SpectralSolution
        `u` of shape (n, n), or (k, n, n) for k terminal data; `error_estimate`; `resolved`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the problem has a potential, a source or a sigma that is not one constant.
    UnresolvedError
        If the solution is not finite, violates the maximum principle, is not resolved by the modes kept or needs more
        than 100 000 products; the message names the n that the boundary layers need.

    Notes
    -----
    The error estimate adds up bounds and estimates. Bounded: modes of f and of the residual that are not kept, damped
    by diffusion. Estimated: aliases of callables, on grids of several sizes; the integration in time. Coefficients of
    fields are exact. A callable velocity is read at irregular times beside the steps: an event of an eighth of a step
    of "ifrk4" (a quarter, for v(t)), or of T / 500 of "krylov" (T / 120), is seen; shorter ones may be missed.

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
    rtol = checks.real("rtol", rtol, positive=True)
    resolution = checks.real("resolution", resolution, positive=True)
    if rtol >= 1:
        raise ValueError(f"rtol must be < 1, got rtol={rtol:g}")
    checks.accuracy("length", equation.admit(problem).length)
    checks.one_of("method", method, METHODS)
    checks.one_of("norm", norm, ("sup", "l1"))
    if n is None and problem.n is None:
        raise ValueError("n must be given: velocity and terminal data are callables")
    n = checks.integer("n", problem.n if n is None else n, at_least=4)
    problem.refuse("spectral.solve", "sigma")
    if problem.velocity_varies or method == "ifrk4":
        problem.refuse(f"spectral.solve with method='{method}' and this velocity", "potential", "source")
    for name in ("potential", "source"):
        if problem.scalar_varies(name):
            raise ValueError(f"{name} must not depend on time continuously in spectral.solve: give layers")
    save_at = _times(save_at, problem.horizon)
    if method == "krylov" and (dt is not None or not dealias):
        raise ValueError("dt and dealias belong to method='ifrk4', got method='krylov'")
    dt = 1e-3 * problem.horizon if dt is None else checks.real("dt", dt, positive=True)
    n_modes = grid.dealiased_modes(n) if dealias else (n - 1) // 2
    arguments = {"n": n, "k_max": n_modes, "resolution": resolution, "rtol": rtol, "save_at": save_at, "norm": norm}
    parts = [_solve(part, arguments, method, dt, dealias, to_the_end=not check) for part in _one_by_one(problem)]
    solutions = [_solution(march, method) for march in parts]
    for solution in solutions:
        if check and not solution.resolved:
            # Errors in time, and numbers out of range, come with a remedy of their own.
            more = "" if "; " in solution.reason else "; " + remedy(problem, n)
            raise UnresolvedError(solution.reason + more + "; check=False returns the fields")
    return solutions[0] if problem.n_terminals is None else _together(solutions)


def _solve(problem, arguments, method, dt, dealias, to_the_end):
    """March with one terminal datum to t = 0; where the bound of the truncation error is too large, estimate it."""

    def march(to_the_end, **changes):
        return _march(problem, arguments | changes, method, dt, dealias, to_the_end)

    with np.errstate(over="ignore", invalid="ignore"):
        return _comparison.compared(march, to_the_end)


def _march(problem, arguments, method, dt, dealias, to_the_end):
    march = March(problem, to_the_end=to_the_end, **arguments)
    if march.violation and not to_the_end:
        return march
    if march.sup_f == 0 or march.out_of_range:
        march.finish()
    elif march.reaction:
        _reaction.react(march, march.rtol)
    elif method == "krylov" and problem.n_layers is not None:
        _integrators.krylov(march, march.rtol)
    elif method == "krylov":
        _magnus.magnus(march, march.rtol)
    else:
        # dt is shortened to divide each layer, and each interval between times saved, evenly.
        n_steps = [max(2, math.ceil(piece.duration / dt * (1 - 1e-12))) for piece in march.pieces()]
        _integrators.ifrk4(march, n_steps, dealias, counts_events=True)
        in_time = math.inf
        if not march.violation:
            coarser = []
            for factor in (2, 4):
                coarser.append(March(problem, to_the_end=True, **arguments))
                _integrators.ifrk4(coarser[-1], [-(-steps // factor) for steps in n_steps], dealias)
            in_time = _integrators.richardson(march, *coarser)
        march.time_error += in_time
        march.saved_errors += in_time
    return march


def _times(save_at, horizon):
    times = checks.finite_array("save_at", () if save_at is None else save_at)
    if times.ndim != 1 or not ((times >= 0) & (times <= horizon)).all():
        raise ValueError(f"save_at must hold times in [0, {horizon:g}], got save_at={times.tolist()}")
    return times.copy()


def _one_by_one(problem):
    """The problem for each of its terminal data."""
    if problem.n_terminals is None:
        return [problem]
    fields = (PeriodicField(v, problem.length, problem.terminal.interpolation) for v in problem.terminal.values)
    return [problem.with_terminal(field) for field in fields]


def _together(solutions):
    worst = max(solutions, key=lambda solution: solution.error_estimate)
    return dataclasses.replace(
        worst,
        u=np.stack([solution.u for solution in solutions]),
        saved=np.stack([solution.saved for solution in solutions], axis=1),
        saved_error_estimates=np.max([solution.saved_error_estimates for solution in solutions], axis=0),
        resolved=all(solution.resolved for solution in solutions),
        reason=next((solution.reason for solution in solutions if solution.reason), ""),
        n_steps=max(solution.n_steps for solution in solutions),
        n_modes=max(solution.n_modes for solution in solutions),
        n_products=sum(solution.n_products for solution in solutions),
        t=solutions[0].t[[0, -1]],
        sup_norms=np.max([solution.sup_norms[[0, -1]] for solution in solutions], axis=0),
    )


def _solution(march, method):
    # In two factors, each within the range of floating-point numbers.
    first, second = (math.ldexp(1.0, part) for part in (march.exponent // 2, march.exponent - march.exponent // 2))

    def in_units_of_u(value):
        return value * first * second

    u, reason = march.values(), march.violation
    n_modes, space_error = march.modes.k_max, march.space_error()
    # Rounding of the transforms.
    time_error = march.time_error + 8 * np.finfo(float).eps * march.sup_f
    if not np.isfinite(u).all():
        reason = reason or f"unresolved: the solution is not finite at t = {march.times[-1]:.3g}"
    elif not reason and not time_error <= march.tolerance:
        reason = (
            f"unresolved: estimated error in time {in_units_of_u(time_error):.2g} > "
            f"{in_units_of_u(march.tolerance):.2g}; {in_time(march, method, time_error, march.tolerance)}"
        )
    elif not reason and not space_error <= march.tolerance:
        reason = (
            f"unresolved: the spectrum does not decay within {n_modes} modes, estimated error "
            f"{in_units_of_u(space_error):.2g} > {in_units_of_u(march.tolerance):.2g}"
        )
    return SpectralSolution(
        u=u,
        error_estimate=in_units_of_u(space_error + time_error),
        resolved=not reason,
        reason=reason,
        n_steps=march.n_steps,
        n_modes=n_modes,
        n_products=march.n_products,
        t=np.array(march.times),
        sup_norms=in_units_of_u(np.array(march.sup_norms)),
        method=method,
        length=march.problem.length,
        save_at=march.save_at,
        saved=march.saved,
        saved_error_estimates=in_units_of_u(march.saved_errors),
    )
