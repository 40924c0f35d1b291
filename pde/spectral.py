"""Fourier pseudospectral solution of the convection-diffusion equation.

u_t + v . grad u + nu lap u = 0,  u(x, T) = f(x)                                          (paper: (2.8))

is integrated in time-to-go s = T - t, from s = 0. Two integrators: `krylov`, the action of the exponential of the
generator, exact in time up to its tolerance; `ifrk4`, the paper's fixed step in an integrating factor.

The error estimate rests on the maximum principle: the exact solution operator does not increase the sup norm, so
errors committed along the way add up and do not grow. They are the integrator's local errors and the residual, what
the modes kept cannot hold of v . grad u, a mode k of which lives for 1 / (nu |k|**2). Errors of the residual sit at
the edge of the spectrum, at wavenumbers of `radius` and more; the strain max |grad v| needs a time log(2) / strain to
bring them to half of that, so they fade at the rate nu (radius / 2)**2 - strain, if that is positive.
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import _checks, grid
from pde.fields import PeriodicField
from pde.generator import Generator
from pde.krylov import exponential_step
from pde.modes import Modes

__all__ = ["METHODS", "SpectralSolution", "UnresolvedError", "solve"]

METHODS = ("krylov", "ifrk4")

# The sup norm of an error field is about ten times its root mean square (measured: 8 to 12).
_SUP_PER_RMS = 10.0
# RK4's stability limit on the imaginary axis is 2 sqrt(2).
_RK4_LIMIT = 2.8


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
    rtol = _checks.real("rtol", rtol, positive=True)
    resolution = _checks.real("resolution", resolution, positive=True)
    if rtol >= 1:
        raise ValueError(f"rtol must be < 1, got rtol={rtol:g}")
    _checks.one_of("method", method, METHODS)
    if n is None and problem.n is None:
        raise ValueError("n must be given: velocity and terminal data are callables")
    n = _checks.integer("n", problem.n if n is None else n, at_least=4)
    if method == "krylov":
        if problem.n_layers is None:
            raise ValueError("method must be 'ifrk4' for a velocity that is a callable, got method='krylov'")
        if dt is not None or not dealias:
            raise ValueError("dt and dealias belong to method='ifrk4', got method='krylov'")
        march = _March(problem, n, grid.dealiased_modes(n), resolution)
        with np.errstate(over="ignore", invalid="ignore"):
            _krylov(march, rtol)
    else:
        dt = 1e-3 * problem.horizon if dt is None else _checks.real("dt", dt, positive=True)
        n_modes = grid.dealiased_modes(n) if dealias else (n - 1) // 2
        march, coarse = (_March(problem, n, n_modes, resolution) for _ in range(2))
        n_steps = max(2, math.ceil(problem.horizon / (problem.n_layers or 1) / dt * (1 - 1e-12)))
        with np.errstate(over="ignore", invalid="ignore"):
            _ifrk4(march, n_steps, dealias)
            if not march.violation:
                _ifrk4(coarse, (n_steps + 1) // 2, dealias)
                march.time_error = _richardson(march, coarse)
            else:
                march.time_error = math.inf
    solution = march.solution(method)
    if check and not solution.resolved:
        raise UnresolvedError(solution.reason + "; " + _remedy(problem, n) + "; check=False returns the fields")
    return solution


class _March:
    """The state on its way from s = 0 to T, with the account of its error."""

    def __init__(self, problem, n, k_max, resolution):
        self.problem, self.n, self.k_max = problem, n, k_max
        values = problem.terminal_on_grid(n)
        self.modes = Modes(self.largest_radius, k_max, problem.length)
        self.state = self.modes.from_grid(values)
        # Max over all x against max over the grid of m: 1 / cos(pi K / m) for each direction.
        reach = min(self.radius_of(self.state, 1e-12 * np.abs(values).max()), n)
        n_fine = min(2 * n, grid.fast_size(max(32 * reach, 32)))
        fine = problem.terminal_on_grid(n_fine)
        self.sup_f = float(np.abs(fine).max())
        self.tolerance = resolution * self.sup_f
        self.centre, self.half_range = (fine.max() + fine.min()) / 2, (fine.max() - fine.min()) / 2
        self.half_range /= math.cos(math.pi * reach / max(n_fine, 2 * n)) ** 2
        kept = self.modes.to_grid(self.state, n_fine) if n_fine > 2 * k_max else grid.resample(
            self.modes.to_grid(self.state, n), n_fine)
        self.error = float(np.abs(kept - fine).max())
        self.time_error = 0.0
        self.s, self.n_steps, self.n_products, self.violation = 0.0, 0, 0, ""
        self.times, self.sup_norms = [], []
        self.record()

    @property
    def largest_radius(self):
        """Length of the longest mode within the square |k_i| <= k_max."""
        return math.sqrt(2) * self.k_max

    def radius_of(self, state, tolerance):
        """Smallest r >= 1 such that the coefficients with |k| >= r add up to <= tolerance."""
        beyond = self.modes.shells(state)[::-1].cumsum()[::-1]
        return max(1, int(np.count_nonzero(beyond > tolerance)))

    def change_modes(self, radius):
        """Go on with the modes |k| <= radius."""
        modes = Modes(radius, self.k_max, self.problem.length)
        state = self.modes.change(self.state, modes)
        # What is dropped, each coefficient and its conjugate, at the worst point.
        self.error += 2 * max(0.0, float(np.abs(self.state).sum() - np.abs(state).sum()))
        self.modes, self.state = modes, state

    def sample(self, field):
        """The velocity as the solver knows it: exact if trigonometric, else by its values on the n-grid."""
        if field.interpolation == "trigonometric":
            return field
        return PeriodicField(field.on_grid(self.n), field.length)

    def record(self):
        u = self.modes.to_grid(self.state, self.n)
        self.times.append(self.problem.horizon - self.s)
        low, high = float(u.min()), float(u.max())
        self.sup_norms.append(max(-low, high))
        excess = max(high - self.centre, self.centre - low) - self.half_range
        if not self.violation and not excess <= self.tolerance:
            self.violation = (
                f"unresolved: max |u| = {self.sup_norms[-1]:.3g} at t = {self.times[-1]:.3g} violates the maximum "
                f"principle, max |f| = {self.sup_f:.3g}"
            )
        return u

    def solution(self, method):
        u = self.modes.to_grid(self.state, self.n)
        reason = self.violation
        n_modes = self.modes.k_max
        if not np.isfinite(u).all():
            reason = f"unresolved: the solution is not finite at t = {self.times[-1]:.3g}"
        elif not reason and not self.time_error <= self.tolerance:
            reason = (
                f"unresolved: estimated error in time {self.time_error:.2g} > {self.tolerance:.2g}, shorten dt below "
                f"{self.problem.horizon / self.n_steps:.3g}"
            )
        elif not reason and not self.error <= self.tolerance:
            reason = (
                f"unresolved: the spectrum does not decay within {n_modes} modes, estimated error "
                f"{self.error:.2g} > {self.tolerance:.2g}"
            )
        times, sup_norms = np.array(self.times), np.array(self.sup_norms)
        return SpectralSolution(
            u, self.error + self.time_error, not reason, reason, self.n_steps, n_modes, self.n_products, times, sup_norms, method,
            self.problem.length,
        )  # fmt: skip


def _krylov(march, rtol):
    problem = march.problem
    duration = problem.horizon / problem.n_layers
    radius = march.radius_of(march.state, 1e-2 * rtol * march.sup_f)
    for layer in reversed(range(problem.n_layers)):
        velocity = problem.layer_field(layer)
        radius = _krylov_layer(march, velocity, duration, rtol, radius)
        march.s = problem.horizon - layer * duration


def _krylov_layer(march, velocity, duration, rtol, radius):
    """Cross one layer on the modes |k| <= radius, as many as the residual asks for; return the radius."""
    problem, sampled = march.problem, march.sample(velocity)
    strain = sampled.jacobian_sup_norm(max(8, 4 * sampled.n_modes))
    if march.s == 0:
        radius = max(radius + 2, _expected_radius(sampled, strain, problem.nu, rtol))
    radius = min(radius, march.largest_radius)
    left, generator, guess, trials = duration, None, None, []

    def allowed(tau):
        fading = max(0.0, problem.nu * (march.modes.unit * radius / 2) ** 2 - strain)
        return 0.5 * rtol * scale * max(tau / problem.horizon, -math.expm1(-fading * tau)), math.exp(-fading * tau)

    def accept(state, tau):
        lost = float(np.abs(generator.residual(state, velocity, tau)).max())
        trials.append((state, lost, lost / allowed(tau)[0]))
        # One step may spend twice its share: the next has more modes.
        return trials[-1][-1] <= 2 or radius >= march.largest_radius

    while left > 0 and math.isfinite(march.sup_norms[-1]):
        # A field that blows up is followed at its own scale: only check=False returns it.
        scale = max(march.sup_f, march.sup_norms[-1])
        if generator is None or march.modes.radius != radius:
            march.change_modes(radius)
            generator = Generator(sampled, problem.nu, march.modes)
        trials.clear()
        rate = 0.5 * rtol * scale / (_SUP_PER_RMS * problem.horizon)
        step = exponential_step(generator, march.state, left, rate, tau_guess=guess, accept=accept)
        march.n_products += step.n_products
        if step.tau > 0:
            left = 0.0 if step.tau >= left else left - step.tau
            march.state, guess = step.state, step.tau
            march.s += step.tau
            march.n_steps += 1
            march.error = march.error * allowed(step.tau)[1] + trials[-1][1]
            march.time_error += _SUP_PER_RMS * step.error
            march.record()
        if left > 0:
            radius = _next_radius(march, sampled, trials[0][0], trials[0][2], 0.1 * rtol * scale)
    return radius


def _expected_radius(velocity, strain, nu, rtol):
    """Where the spectrum of a steady boundary layer has fallen to rtol, three quarters of it.

    With v = (V sin(q x), 0), q = strain / V, the layer's slope exp(-(V / nu q) (1 - cos(q x))) has the modes
    I_m(z) exp(-z), z = V / (nu q), at wavenumbers m q: a Gaussian up to m = z, and a slower fall beyond.
    """
    if nu == 0 or strain == 0:
        return 2 * velocity.n_modes
    speed = velocity.sup_norm(max(8, 4 * velocity.n_modes))
    z, m = speed**2 / (nu * strain), 1.0
    while math.hypot(m, z) - z - m * math.asinh(m / z) > math.log(rtol):
        m *= 1.05
    return 0.75 * m * strain / speed * velocity.length / (2 * math.pi)


def _next_radius(march, velocity, state, excess, negligible):
    """Return the radius at which the residual, `excess` times what is allowed, should fit: extrapolates the spectrum."""
    radius = march.modes.radius
    if 0.05 <= excess <= 0.8 or not math.isfinite(excess):
        return radius
    shells = march.modes.shells(state)
    last = min(math.floor(radius), march.k_max) - 1
    span = max(2, last // 8)
    decay = math.log(max(shells[max(last - span, 0)] / max(shells[last], 1e-300), 1.1)) / span
    least, ample = (radius + math.log(max(excess, 1e-8) / target) / decay for target in (0.6, 0.3))
    if excess > 0.8:
        least, ample = max(least, 1.03 * radius), max(ample, 1.05 * radius)
    else:
        # A spectrum still on its way outwards is not to be cut too soon.
        floor = max(min(radius, march.radius_of(state, negligible)), 0.75 * radius)
        least, ample = max(floor, least), max(floor, (ample + radius) / 2)
    return min(_filling(velocity, least, ample), 1.6 * radius, march.largest_radius)


def _filling(velocity, least, ample):
    """Return the largest radius up to `ample` that needs no finer grid of products than `least` does."""

    def n_grid(k_max):
        return grid.fast_size(2 * k_max + velocity.n_modes + 1)

    k_max = math.floor(ample)
    while k_max > least and n_grid(k_max) > n_grid(math.floor(least)):
        k_max -= 1
    return min(ample, k_max + 0.999)


def _richardson(march, coarse):
    """Estimate the error in time from the same solution with longer steps."""
    # Order 3: on stiff modes the integrating factor costs Runge-Kutta 4 up to one order.
    ratio = (march.n_steps / coarse.n_steps) ** 3
    return float(np.abs(march.modes.to_grid(march.state - coarse.state, march.n)).max() / (ratio - 1))


def _ifrk4(march, n_steps, dealias):
    problem, n, k_max = march.problem, march.n, march.k_max
    n_parts = problem.n_layers or 1
    duration = problem.horizon / n_parts
    dt = duration / n_steps
    n_grid = None
    if not dealias:
        n_grid = n
    elif problem.n_layers is None:
        # The bandwidth of a callable velocity may change from step to step: room for all that the n-grid holds.
        n_grid = grid.fast_size(2 * k_max + n // 2 + 1)
    for part in reversed(range(n_parts)):
        start = part * duration
        velocity = problem.velocity_field(start + (duration if problem.n_layers is None else 0.5 * duration), n)
        stages = (Generator(march.sample(velocity), problem.nu, march.modes, n_grid),) * 3
        decay = np.exp(-0.5 * dt * problem.nu * march.modes.k_squared)
        for step in range(n_steps):
            if problem.n_layers is None:
                times = (start + duration - (step + c) * dt for c in (0.5, 1.0))
                fields = [problem.velocity_field(max(t, 0.0), n) for t in times]
                stages = (stages[2], *(stages[2].with_velocity(march.sample(field)) for field in fields))
                velocity = fields[1]
            courant = dt * max(stage.transport_rate for stage in stages)
            if courant > _RK4_LIMIT and not march.violation:
                march.violation = (
                    f"unresolved: dt = {dt:.3g} exceeds the stability limit {_RK4_LIMIT * dt / courant:.3g} of "
                    f"Runge-Kutta 4 on {k_max} modes"
                )
            march.state = _lawson_step(march.state, stages, decay, dt)
            march.n_steps += 1
            march.n_products += 4
            if (step + 1) % max(1, n_steps // 100) == 0 or step + 1 == n_steps:
                march.s = problem.horizon - start - (duration - (step + 1) * dt)
                march.record()
                residual = stages[2].residual(march.state, velocity, march.times[-2] - march.times[-1])
                march.error += float(np.abs(residual).max())
                if not np.isfinite(march.sup_norms[-1]):
                    return


def _lawson_step(w, stages, decay, dt):
    """One step of the classical Runge-Kutta method for exp(-s nu lap) w; decay belongs to half a step."""
    begin, middle, end = stages
    half, k1 = decay * w, decay * begin.convection(w)
    k2 = middle.convection(half + (0.5 * dt) * k1)
    k3 = middle.convection(half + (0.5 * dt) * k2)
    k4 = end.convection(decay * (half + dt * k3))
    return decay * (half + (dt / 6) * (k1 + 2 * (k2 + k3))) + (dt / 6) * k4


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
