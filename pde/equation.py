"""The convection-diffusion problem: velocity, terminal data, sigma and horizon on a torus."""

import inspect
from collections.abc import Callable

import numpy as np

from pde import checks, grid
from pde.fields import PeriodicField

__all__ = ["ConvectionDiffusion"]


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
        self.sigma = checks.real("sigma", sigma, positive=False)
        self.horizon = checks.real("horizon", horizon, positive=True)
        self.length = checks.real("length", length, positive=True)
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
        field = values if _is_field(values) else PeriodicField(checks.finite_array(name, values), self.length)
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
        points = checks.points_array(points)
        if not self._of_points:
            return self.velocity_field(t)(points)
        values = checks.finite_array("velocity(x, t)", self.velocity(points, t))
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
        points = checks.points_array(points)
        values = checks.finite_array("terminal(x)", self.terminal(points))
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
        return self._solution(checks.points_array(points), t)


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
