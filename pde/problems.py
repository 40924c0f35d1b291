"""The convection-diffusion problem, and problems whose solution is known in closed form."""

import inspect
from collections.abc import Callable

import numpy as np

from pde import _checks, grid, random_fields
from pde.fields import PeriodicField

__all__ = [
    "ConvectionDiffusion",
    "constant_velocity",
    "crossed_shears",
    "doob",
    "eigenfunction",
    "figure4",
    "fourier_mode",
]

VELOCITIES = ("grid-noise", "band-limited", "divergence-free")


class ConvectionDiffusion:
    """The terminal-value problem on the torus of period `length`, for 0 <= t <= T = `horizon`.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: (2.8))

    Parameters
    ----------
    velocity : PeriodicField, array_like or callable
        v, in length / time. Field or array of shape (2, n, n): steady. Of shape (n_t, 2, n, n): piecewise constant in
        time, layer j holding for j T / n_t <= t < (j + 1) T / n_t. Callable of one argument: v(t), a field or an
        array of shape (2, n, n). Callable of two arguments: v(x, t), points of shape (..., 2) to shape (..., 2).
        Arrays are taken as trigonometric fields.
    terminal : PeriodicField, array_like or callable
        f: field or array of shape (n, n), or a callable from points of shape (..., 2) to values of shape (...).
    sigma : float
        Diffusion coefficient of the SDE, in length / sqrt(time); >= 0.
    horizon : float, default=1.0
        T, in units of time; > 0.
    length : float, default=1.0
        Period; > 0. Must be that of the fields.
    solution : callable, optional
        The exact u(x, t), points of shape (..., 2) and a time to values of shape (...), where it is known.

    Raises
    ------
    ValueError
        If sigma is negative or not finite, horizon or length not positive, a grid not square, a value not finite, or
        a field has another period or number of components.
    """

    def __init__(self, velocity, terminal, *, sigma, horizon=1.0, length=1.0, solution=None):
        self.sigma = _checks.real("sigma", sigma, positive=False)
        self.horizon = _checks.real("horizon", horizon, positive=True)
        self.length = _checks.real("length", length, positive=True)
        self.velocity = (
            velocity if callable(velocity) and not _is_field(velocity) else self._field("velocity", velocity)
        )
        self.terminal = (
            terminal if callable(terminal) and not _is_field(terminal) else self._field("terminal", terminal)
        )
        if _is_field(self.velocity):
            shape = self.velocity.values.shape
            if len(shape) not in (3, 4) or shape[-3] != 2:
                raise ValueError(f"velocity must have shape (2, n, n) or (n_t, 2, n, n), got {shape}")
            self._of_points = False
            stack = [self.velocity] if len(shape) == 3 else None
            self._layers = stack or [
                PeriodicField(v, self.length, self.velocity.interpolation) for v in self.velocity.values
            ]
        else:
            self._of_points = _n_arguments(self.velocity) == 2
        if _is_field(self.terminal) and self.terminal.values.ndim != 2:
            raise ValueError(f"terminal must have shape (n, n), got {self.terminal.values.shape}")
        self._solution = solution

    def __repr__(self):
        return (
            f"ConvectionDiffusion(velocity={self.velocity!r}, terminal={self.terminal!r}, "
            f"sigma={self.sigma:g}, horizon={self.horizon:g}, length={self.length:g})"
        )

    def _field(self, name, values):
        field = values if _is_field(values) else PeriodicField(_checks.finite_array(name, values), self.length)
        if field.length != self.length:
            raise ValueError(f"{name} must have the problem's period {self.length:g}, got length={field.length:g}")
        return field

    @property
    def nu(self):
        """Diffusivity sigma**2 / 2, in length**2 / time."""
        return self.sigma**2 / 2

    @property
    def n(self):
        """Points per side of the finest grid among velocity and terminal data; None if both are callables."""
        sizes = [part.n for part in (self.velocity, self.terminal) if _is_field(part)]
        return max(sizes, default=None)

    @property
    def n_layers(self):
        """Number of layers of a velocity piecewise constant in time (1: steady); None for a callable."""
        if not _is_field(self.velocity):
            return None
        return self.velocity.values.shape[0] if self.velocity.values.ndim == 4 else 1

    def layer(self, t):
        """Return the index of the velocity layer that holds at time t (the last one at t = horizon).

        Parameters
        ----------
        t : float
            Time, 0 <= t <= horizon.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If t lies outside [0, horizon].
        """
        if not -1e-9 * self.horizon <= t <= self.horizon * (1 + 1e-9):
            raise ValueError(f"t must lie in [0, {self.horizon:g}], got t={t:g}")
        # 1e-9 of a layer: k * dt must fall into the layer that starts there, whatever its rounding.
        return min(max(int(t / self.horizon * self.n_layers + 1e-9), 0), self.n_layers - 1)

    def layer_field(self, layer):
        """Return one layer of a velocity given as a field.

        Parameters
        ----------
        layer : int
            0 <= layer < n_layers.

        Returns
        -------
        PeriodicField
            Values of shape (2, n, n).
        """
        return self._layers[layer]

    def velocity_field(self, t, n=None):
        """Return v(., t) as a field.

        Parameters
        ----------
        t : float
            Time, 0 <= t <= horizon.
        n : int, optional
            Points per side on which a callable v(x, t) is sampled; not used otherwise.

        Returns
        -------
        PeriodicField
            Values of shape (2, n, n).

        Raises
        ------
        ValueError
            If n is missing where it is needed, or the callable returns something of another shape or not finite.
        """
        if _is_field(self.velocity):
            return self.layer_field(self.layer(t))
        if self._of_points:
            if n is None:
                raise ValueError("n must be given: the velocity is a callable of points")
            values = np.moveaxis(self.velocity_at(grid.points(n, self.length), t), -1, 0)
            return PeriodicField(values, self.length)
        field = self._field("velocity(t)", self.velocity(t))
        if field.values.ndim != 3 or field.values.shape[0] != 2:
            raise ValueError(f"velocity(t) must have shape (2, n, n), got {field.values.shape} at t={t:g}")
        return field

    def velocity_at(self, points, t):
        """Evaluate v(x, t).

        Parameters
        ----------
        points : array_like of shape (..., 2)
            Anywhere in the plane.
        t : float
            Time, 0 <= t <= horizon.

        Returns
        -------
        ndarray of shape (..., 2)

        Raises
        ------
        ValueError
            If points has another shape, or the callable returns something of another shape or not finite.
        """
        points = _checks.points_array(points)
        if not self._of_points:
            return self.velocity_field(t)(points)
        values = _checks.finite_array("velocity(x, t)", self.velocity(points, t))
        if values.shape != points.shape:
            raise ValueError(f"velocity(x, t) must have shape {points.shape} for points of it, got {values.shape}")
        return values

    def terminal_at(self, points):
        """Evaluate f(x).

        Parameters
        ----------
        points : array_like of shape (..., 2)
            Anywhere in the plane.

        Returns
        -------
        ndarray of shape (...)

        Raises
        ------
        ValueError
            If points has another shape, or the callable returns something of another shape or not finite.
        """
        points = _checks.points_array(points)
        values = _checks.finite_array("terminal(x)", self.terminal(points))
        if values.shape != points.shape[:-1]:
            raise ValueError(
                f"terminal(x) must have shape {points.shape[:-1]} for points {points.shape}, got {values.shape}"
            )
        return values

    def terminal_on_grid(self, n):
        """Evaluate f on the points of the grid of n per side.

        Parameters
        ----------
        n : int
            Points per side, >= 1.

        Returns
        -------
        ndarray of shape (n, n)

        Raises
        ------
        ValueError
            If n < 1.
        """
        if _is_field(self.terminal):
            return self.terminal.on_grid(n)
        return self.terminal_at(grid.points(n, self.length))

    def exact(self, points, t=0.0):
        """Evaluate the closed form of u(x, t).

        Parameters
        ----------
        points : array_like of shape (..., 2)
            Anywhere in the plane.
        t : float, default=0.0
            Time, 0 <= t <= horizon.

        Returns
        -------
        ndarray of shape (...)

        Raises
        ------
        ValueError
            If no closed form is known for this problem, or points has another shape.
        """
        if self._solution is None:
            raise ValueError("no closed form is known for this problem")
        return self._solution(_checks.points_array(points), t)


def figure4(seed=0, n=128, sigma=0.01, velocity="grid-noise"):
    """Return the problem of the paper's Figure 4: unit square, T = 1, random velocity and terminal data.

    Parameters
    ----------
    seed : int, default=0
        Seed of the velocity and the terminal datum (two independent streams).
    n : int, default=128
        Points per side.
    sigma : float, default=0.01
        Diffusion coefficient.
    velocity : {"grid-noise", "band-limited", "divergence-free"}
        The paper's velocity (independent uniform numbers on each grid point, bilinear between them), or a smooth one
        of the same kind, resolved by the grid.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If velocity is unknown or another argument is out of range.
    """
    _checks.one_of("velocity", velocity, VELOCITIES)
    draw = getattr(random_fields, velocity.replace("-", "_"))
    v_rng, f_rng = np.random.default_rng(_checks.integer("seed", seed, at_least=0)).spawn(2)
    return ConvectionDiffusion(draw(n, v_rng), random_fields.terminal_datum(n, f_rng), sigma=sigma)


def fourier_mode(k=(1, 2), *, sigma=0.2, n=16, horizon=1.0, length=1.0):
    """Return the problem without velocity whose terminal datum is one Fourier mode.

    u(x, t) = exp(-nu |q|**2 (T - t)) cos(q . x),  q = 2 pi k / length

    Parameters
    ----------
    k : pair of int
        Mode.
    sigma : float, default=0.2
        Diffusion coefficient.
    n : int, default=16
        Points per side, > 2 max |k_i|.
    horizon : float, default=1.0
        T.
    length : float, default=1.0
        Period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    return constant_velocity((0.0, 0.0), k, sigma=sigma, n=n, horizon=horizon, length=length)


def constant_velocity(velocity=(0.7, -0.4), k=(1, 2), *, sigma=0.2, n=16, horizon=1.0, length=1.0):
    """Return the problem with a constant velocity c; Euler-Maruyama is exact in law for it.

    u(x, t) = exp(-nu |q|**2 (T - t)) cos(q . (x + c (T - t))),  q = 2 pi k / length

    Parameters
    ----------
    velocity : pair of float
        c.
    k : pair of int
        Mode of the terminal datum.
    sigma : float, default=0.2
        Diffusion coefficient.
    n : int, default=16
        Points per side, > 2 max |k_i|.
    horizon : float, default=1.0
        T.
    length : float, default=1.0
        Period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    c, k = _pair("velocity", velocity), _pair("k", k)
    if (k % 1).any():
        raise ValueError(f"k must be a pair of integers, got k={tuple(k.tolist())}")
    n, sigma, horizon, length = _checked(n, 2 * int(np.abs(k).max()) + 1, sigma, horizon, length)
    q = 2 * np.pi * k / length
    nu = sigma**2 / 2

    def solution(x, t):
        return np.exp(-nu * (q @ q) * (horizon - t)) * np.cos((x + c * (horizon - t)) @ q)

    values = np.broadcast_to(c[:, None, None], (2, n, n))
    return _with_solution(values, n, solution, sigma, horizon, length)


def crossed_shears(amplitudes=(0.4, -0.3), *, n=64, horizon=1.0, length=1.0):
    """Return two crossed shears, one after the other, without diffusion; it tells the direction of time.

    v = (A sin(q y), 0) for t < T / 2, then (0, B sin(q x)),  q = 2 pi / length
    u(x, 0) = f(x + A s T / 2, y + B sin(q (x + A s T / 2)) T / 2),  s = sin(q y),  f = cos(q x) + sin(2 q y)

    Parameters
    ----------
    amplitudes : pair of float
        A and B, in length / time.
    n : int, default=64
        Points per side, >= 5.
    horizon : float, default=1.0
        T.
    length : float, default=1.0
        Period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    a, b = _pair("amplitudes", amplitudes)
    n, _, horizon, length = _checked(n, 5, 0.0, horizon, length)
    q = 2 * np.pi / length

    def solution(points, t):
        x, y = points[..., 0], points[..., 1]
        x = x + a * np.sin(q * y) * max(horizon / 2 - t, 0.0)
        y = y + b * np.sin(q * x) * min(horizon / 2, horizon - t)
        return np.cos(q * x) + np.sin(2 * q * y)

    x, y = np.moveaxis(grid.points(n, length), -1, 0)
    layers = np.stack([[a * np.sin(q * y), 0 * x], [0 * x, b * np.sin(q * x)]])
    return _with_solution(layers, n, solution, 0.0, horizon, length)


def eigenfunction(shape=(0.05, -0.03), *, sigma=0.4, n=64, horizon=1.0, length=1.0):
    """Return a steady velocity for which the terminal datum is an eigenfunction of the generator.

    f = phi_b(x) phi_d(y),  phi_b(x) = sin(q x) + b sin(3 q x),  q = 2 pi / length,  (b, d) = shape
    u(x, t) = exp(-(lambda_b + lambda_d) (T - t)) f(x),  lambda_b = nu q**2 (1 - 9 b) / (1 - b)

    The velocity (a_b(x), a_d(y)) solves a phi' + nu phi'' = -lambda phi; the zeros of phi' cancel, so that

    a_b(x) = 4 b (9 nu q**2 - lambda_b) sin(q x) cos(q x) / (q (1 + 3 b (1 - 4 sin(q x)**2)))

    Parameters
    ----------
    shape : pair of float, default=(0.05, -0.03)
        b and d, each of absolute value < 1/9 so that the denominator has no zero.
    sigma : float, default=0.4
        Diffusion coefficient.
    n : int, default=64
        Points per side, >= 7.
    horizon : float, default=1.0
        T.
    length : float, default=1.0
        Period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    shape = _pair("shape", shape)
    if not np.abs(shape).max() < 1 / 9:
        raise ValueError(f"shape must have two entries of absolute value < 1/9, got shape={tuple(shape.tolist())}")
    n, sigma, horizon, length = _checked(n, 7, sigma, horizon, length)
    q, nu = 2 * np.pi / length, sigma**2 / 2
    rates = [nu * q**2 * (1 - 9 * b) / (1 - b) for b in shape]

    def solution(points, t):
        factors = [np.sin(q * points[..., i]) + b * np.sin(3 * q * points[..., i]) for i, b in enumerate(shape)]
        return np.exp(-sum(rates) * (horizon - t)) * factors[0] * factors[1]

    def component(x, b, rate):
        s, c = np.sin(q * x), np.cos(q * x)
        return 4 * b * (9 * nu * q**2 - rate) * s * c / (q * (1 + 3 * b * (1 - 4 * s**2)))

    x = np.moveaxis(grid.points(n, length), -1, 0)
    values = np.stack([component(x[i], b, rates[i]) for i, b in enumerate(shape)])
    return _with_solution(values, n, solution, sigma, horizon, length)


def doob(weight=0.6, *, sigma=0.5, n=48, horizon=1.0, length=1.0):
    """Return a problem with a velocity that varies in space and time, by Doob's h-transform of the heat equation.

    h_t + nu lap h = 0 and w_t + nu lap w = 0  imply  u = w / h solves the problem with v = 2 nu grad(h) / h:
    h = 1 + weight m(x + y) exp(-2 nu q**2 (T - t)),  w = cos(q x) sin(q y) exp(-2 nu q**2 (T - t)),
    m(z) = cos(q z),  q = 2 pi / length

    Parameters
    ----------
    weight : float, default=0.6
        Amplitude of the wave in h, of absolute value < 1 so that h > 0.
    sigma : float, default=0.5
        Diffusion coefficient.
    n : int, default=48
        Points per side on which the velocity and the terminal datum are sampled, >= 3.
    horizon : float, default=1.0
        T.
    length : float, default=1.0
        Period.

    Returns
    -------
    ConvectionDiffusion
        Its velocity is a callable v(x, t).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if not abs(weight) < 1:
        raise ValueError(f"weight must have absolute value < 1, got weight={weight}")
    n, sigma, horizon, length = _checked(n, 3, sigma, horizon, length)
    q, nu = 2 * np.pi / length, sigma**2 / 2

    def decay(t):
        return np.exp(-2 * nu * q**2 * (horizon - t))

    def h(points, t):
        return 1 + weight * np.cos(q * points.sum(axis=-1)) * decay(t)

    def velocity(points, t):
        slope = -weight * q * np.sin(q * points.sum(axis=-1)) * decay(t)
        return np.stack([2 * nu * slope / h(points, t)] * 2, axis=-1)

    def solution(points, t):
        return np.cos(q * points[..., 0]) * np.sin(q * points[..., 1]) * decay(t) / h(points, t)

    return _with_solution(velocity, n, solution, sigma, horizon, length)


def _checked(n, smallest, sigma, horizon, length):
    """The arguments that the closed forms share; a grid of the smallest n tells the modes of f apart."""
    return (
        _checks.integer("n", n, at_least=smallest),
        _checks.real("sigma", sigma, positive=False),
        _checks.real("horizon", horizon, positive=True),
        _checks.real("length", length, positive=True),
    )


def _pair(name, values):
    pair = _checks.finite_array(name, values)
    if pair.shape != (2,):
        raise ValueError(f"{name} must hold two numbers, got shape {pair.shape}")
    return pair


def _with_solution(velocity, n, solution, sigma, horizon, length):
    terminal = solution(grid.points(n, length), horizon)
    return ConvectionDiffusion(velocity, terminal, sigma=sigma, horizon=horizon, length=length, solution=solution)


def _is_field(part):
    return isinstance(part, PeriodicField)


def _n_arguments(function: Callable) -> int:
    """Number of required positional arguments: 1 for v(t), 2 for v(x, t)."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    count = sum(p.kind in kinds and p.default is p.empty for p in parameters)
    if count not in (1, 2):
        raise ValueError(f"a callable velocity must be v(t) or v(x, t), got one of {count} required arguments")
    return count
