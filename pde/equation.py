"""The convection-diffusion problem: velocity, terminal data, sigma and horizon on a torus."""

# Over 300 lines: one class, the problem that all solvers ask.

import copy

import numpy as np

from pde import checks, grid
from pde._coefficients import Coefficient, as_field, to_cell, warn_of_a_jump
from pde.fields import PeriodicField

__all__ = ["ConvectionDiffusion", "admit"]

_FEATURES = {
    "potential": "a potential",
    "source": "a source",
    "sigma": "a sigma that is not one constant",
    "terminals": "several terminal data",
}


class ConvectionDiffusion:
    """The terminal-value problem on the torus of period `length`, for 0 <= t <= T = `horizon`.

    u_t + v . grad u + (sigma**2 / 2) lap u + c u + g = 0,  u(x, T) = f(x)          (paper: (2.8), c = g = 0)
    u(x, t) = E[f(X_T) e(t, T) + int_t^T g(X_s, s) e(t, s) ds],  e(t, s) = exp(int_t^s c(X_r, r) dr)

    Parameters
    ----------
    velocity : PeriodicField, array_like or callable
        v, in length / time. Field or array of shape (2, n, n): steady. Of shape (n_t, 2, n, n): piecewise constant in
        time, layer j holding for j T / n_t <= t < (j + 1) T / n_t. Callable v(t): a field or an array of shape
        (2, n, n). Callable v(x, t), also with t by keyword or with a default: points of shape (..., 2) to the same
        shape. Arrays are taken as trigonometric fields.
    terminal : PeriodicField, array_like or callable
        f: field or array of shape (n, n), or (k, n, n) for k terminal data at once; or a callable from points of
        shape (..., 2) to values of shape (...).
    sigma : float, PeriodicField or array_like
        Diffusion coefficient of the SDE (Ito), in length / sqrt(time): one constant >= 0; of shape (n_t,) one constant
        per layer; of shape (n, n) or (n_t, n, n) a positive field, steady or per layer.
    horizon : float, default=1.0
        T, in units of time; > 0.
    length : float, default=1.0
        Period; > 0. Must be that of the fields.
    solution : callable, optional
        The exact u(x, t), points of shape (..., 2) and a time to values of shape (...), where it is known.
    potential, source : float, PeriodicField, array_like or callable, optional
        c, in 1 / time, and g, in u / time: a number, a field of shape (n, n), layers (n_t, n, n), or a callable of
        x or of x and t. Absent (None) in the paper.

    Raises
    ------
    ValueError
        If sigma is negative or not finite, horizon or length not positive, a grid not square, a value not finite, a
        field has another period or number of components, a callable returns another shape, or the numbers of layers
        differ.

    Warns
    -----
    UserWarning
        If a callable is not periodic and jumps at the edge of the cell: its values within [0, length)**2 are used.
    """

    def __init__(
        self, velocity, terminal, *, sigma, horizon=1.0, length=1.0, solution=None, potential=None, source=None
    ):
        self.horizon = checks.real("horizon", horizon, positive=True)
        self.length = checks.real("length", length, positive=True)
        self._velocity = Coefficient("velocity", velocity, 2, self.length, self.horizon)
        self.velocity = self._velocity.value
        self.sigma, self._sigma = self._read_sigma(sigma)
        self._scalars = {"potential": self._scalar("potential", potential), "source": self._scalar("source", source)}
        self.potential, self.source = (part and part.value for part in self._scalars.values())
        self.n_layers = self._count_layers()
        if callable(terminal) and not isinstance(terminal, PeriodicField):
            self.terminal = terminal
            warn_of_a_jump("terminal(x)", self._call_terminal, self.length)
        else:
            self.terminal = as_field("terminal", terminal, self.length)
            if self.terminal.values.ndim not in (2, 3):
                raise ValueError(f"terminal must have shape (n, n) or (k, n, n), got {self.terminal.values.shape}")
        if solution is not None and not callable(solution):
            raise ValueError(f"solution must be a callable u(x, t), got solution={solution!r}")
        self._solution = solution

    def __repr__(self):
        sigma = f"{self.sigma:g}" if self.has_constant_sigma else repr(self.sigma)
        extra = "".join(f", {name}={part.value!r}" for name, part in self._scalars.items() if part)
        return (
            f"ConvectionDiffusion(velocity={self.velocity!r}, terminal={self.terminal!r}, "
            f"sigma={sigma}, horizon={self.horizon:g}, length={self.length:g}{extra})"
        )

    def _read_sigma(self, sigma):
        """(float, array of one number per layer, or field; the same as a Coefficient, None for one constant)."""
        checks.refuse_masked("sigma", sigma)
        if not isinstance(sigma, PeriodicField) and np.ndim(sigma) == 0:
            return checks.real("sigma", sigma, positive=False), None
        if not isinstance(sigma, PeriodicField) and np.ndim(sigma) == 1:
            layers = np.array([checks.real("sigma", value, positive=False) for value in sigma])
            layers.flags.writeable = False
            return layers, Coefficient("sigma", layers[:, None, None] * np.ones((4, 4)), 0, self.length, self.horizon)
        part = Coefficient("sigma", sigma, 0, self.length, self.horizon)
        lowest = float(part.value.on_grid(4 * part.n).min())
        if not lowest > 0:
            raise ValueError(f"sigma must be positive as a field, also between its grid points, got {lowest:.3g}")
        return part.value, part

    def _scalar(self, name, value):
        if value is None:
            return None
        if not isinstance(value, PeriodicField) and not callable(value) and np.ndim(value) == 0:
            value = np.full((4, 4), checks.finite_array(name, value))
        return Coefficient(name, value, 0, self.length, self.horizon)

    def _count_layers(self):
        """Common number of layers; None where the velocity is a callable."""
        parts = [self._velocity, self._sigma, *self._scalars.values()]
        counts = {part.name: part.n_layers for part in parts if part and (part.n_layers or 1) > 1}
        if self._velocity.is_callable and counts:
            raise ValueError(f"{next(iter(counts))} has layers: the velocity must then be a field, got a callable")
        if len(set(counts.values())) > 1:
            counted = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"layers must be equally many, got {counted}")
        return None if self._velocity.is_callable else max(counts.values(), default=1)

    @property
    def has_constant_sigma(self):
        """True if sigma is one constant, a float; else it is a field or an array of one number per layer."""
        return self._sigma is None

    @property
    def nu(self):
        """Diffusivity sigma**2 / 2, in length**2 / time, of a constant sigma."""
        self.refuse("nu", "sigma")
        return self.sigma * self.sigma / 2

    @property
    def n(self):
        """Points per side of the finest grid among velocity, sigma, terminal data, potential and source, or None."""
        sizes = [self._velocity.n, self.terminal.n if isinstance(self.terminal, PeriodicField) else None]
        sizes += [
            part.n for part in (self._sigma, *self._scalars.values()) if part and isinstance(part.value, PeriodicField)
        ]
        return max((size for size in sizes if size), default=None)

    @property
    def n_terminals(self):
        """Number k of terminal data given at once as values (k, n, n); None for one, of values (n, n)."""
        several = isinstance(self.terminal, PeriodicField) and self.terminal.values.ndim == 3
        return len(self.terminal.values) if several else None

    @property
    def velocity_is_of_points(self):
        """True for a callable v(x, t); False for fields and for v(t), whose values are fields."""
        return self._velocity.of_points

    @property
    def velocity_varies(self):
        """True if the velocity is a callable."""
        return self._velocity.is_callable

    def scalar_is_of_points(self, name):
        """True if "potential" or "source" is a callable of points."""
        part = self._scalars[name]
        return part is not None and part.of_points

    def scalar_varies(self, name):
        """True if "potential" or "source" is a callable of time."""
        part = self._scalars[name]
        return part is not None and part.is_callable and part.passes_time

    def refuse(self, consumer, *features):
        """Raise a ValueError if the problem has a feature that `consumer`, a name for the message, does not support.

        Features: "potential", "source", "sigma" (other than one constant), "terminals" (several); by default all.
        """
        present = {
            "potential": self.potential is not None,
            "source": self.source is not None,
            "sigma": not self.has_constant_sigma,
            "terminals": self.n_terminals is not None,
        }
        for feature in features or _FEATURES:
            if present[feature]:
                raise ValueError(f"{consumer} does not support {_FEATURES[feature]}")

    def with_terminal(self, terminal):
        """Return the same problem for other terminal data, without a closed form."""
        return ConvectionDiffusion(
            self.velocity, terminal, sigma=self.sigma, horizon=self.horizon, length=self.length,
            potential=self.potential, source=self.source,
        )  # fmt: skip

    def with_means(self, mean_at):
        """Return the same problem with means in time in place of values of callables.

        `mean_at` has a function of t for some of "velocity", "potential" and "source": times and weights, or None where
        the value itself is meant.
        """
        other = copy.copy(self)
        other._scalars = dict(self._scalars)
        for name, function in mean_at.items():
            if name == "velocity":
                other._velocity = self._velocity.with_means(function)
                other.velocity = other._velocity.value
            else:
                other._scalars[name] = self._scalars[name].with_means(function)
                setattr(other, name, other._scalars[name].value)
        return other

    def to_cell(self, points):
        """Reduce points of shape (..., 2) to the cell [0, length)**2, where callables are evaluated."""
        return to_cell(checks.points_array(points), self.length)

    def layer(self, t):
        """Return the index of the layer that holds at time t, 0 <= t <= horizon (the last one at t = horizon)."""
        t = checks.number("t", t, finite=False)
        if self.n_layers is None:
            raise ValueError("velocity must be a field to have layers, got a callable")
        if not -1e-9 * self.horizon <= t <= self.horizon * (1 + 1e-9):
            raise ValueError(f"t must lie in [0, {self.horizon:g}], got t={t:g}")
        # 1e-9 of a layer: k * dt must fall into the layer that starts there, whatever its rounding.
        return min(max(int(t / self.horizon * self.n_layers + 1e-9), 0), self.n_layers - 1)

    def layer_field(self, layer):
        """Return layer 0 <= layer < n_layers of a velocity given as a field: values of shape (2, n, n)."""
        if not 0 <= checks.integer("layer", layer, at_least=0) < (self.n_layers or 0):
            raise ValueError(f"layer must be < n_layers={self.n_layers}, of a velocity given as a field, got {layer}")
        return self._velocity.layer(layer)

    def velocity_field(self, t, n=None):
        """Return v(., t) as a field of shape (2, n, n); a callable v(x, t) is sampled on the grid of n per side."""
        if self._velocity.is_callable:
            return self._velocity.field(checks.number("t", t), n)
        return self.layer_field(self.layer(t))

    def velocity_at(self, points, t):
        """Evaluate v(x, t) at points of shape (..., 2) anywhere in the plane: shape (..., 2)."""
        return self._at(self._velocity, points, t)

    def sigma_at(self, points, t):
        """Evaluate sigma(x, t) at points of shape (..., 2): shape (...)."""
        points = checks.points_array(points)
        return np.full(points.shape[:-1], self.sigma) if self._sigma is None else self._at(self._sigma, points, t)

    def sigma_layer(self, layer):
        """Return sigma of one layer: a float, or a PeriodicField of shape (n, n)."""
        if isinstance(self.sigma, PeriodicField):
            return self._sigma.layer(layer)
        return self.sigma if self.has_constant_sigma else float(self.sigma[layer if len(self.sigma) > 1 else 0])

    def scalar_field(self, name, t, n=None):
        """Return "potential" or "source" at time t as a field of shape (n, n); None if absent, n as in velocity_field.

        A callable is sampled on the grid of n per side.
        """
        part = self._scalars[name]
        if part is None or part.is_callable:
            return part and part.field(checks.number("t", t), n)
        return part.layer(self.layer(t) if (part.n_layers or 1) > 1 else 0)

    def potential_at(self, points, t):
        """Evaluate c(x, t) at points of shape (..., 2): shape (...), zero if there is no potential."""
        return self._scalar_at("potential", points, t)

    def source_at(self, points, t):
        """Evaluate g(x, t) at points of shape (..., 2): shape (...), zero if there is no source."""
        return self._scalar_at("source", points, t)

    def _scalar_at(self, name, points, t):
        points, part = checks.points_array(points), self._scalars[name]
        return np.zeros(points.shape[:-1]) if part is None else self._at(part, points, t)

    def _at(self, part, points, t):
        if part.is_callable:
            return part(self.to_cell(points), checks.number("t", t))
        return part.layer(self.layer(t) if part.n_layers > 1 else 0)(points)

    def terminal_at(self, points):
        """Evaluate f at points of shape (..., 2): shape (...), or (..., k) for k data."""
        points = checks.points_array(points)
        if isinstance(self.terminal, PeriodicField):
            return self.terminal(points)
        return self._call_terminal(self.to_cell(points))

    def _call_terminal(self, points):
        values = checks.finite_array("terminal(x)", self.terminal(points))
        if values.shape != points.shape[:-1]:
            raise ValueError(
                f"terminal(x) must have shape {points.shape[:-1]} for points {points.shape}, got {values.shape}"
            )
        return values

    def terminal_on_grid(self, n):
        """Evaluate f on the points of the grid of n per side: shape (n, n), or (k, n, n) for k terminal data."""
        if isinstance(self.terminal, PeriodicField):
            return self.terminal.on_grid(n)
        return self.terminal_at(grid.points(n, self.length))

    def exact(self, points, t=0.0):
        """Evaluate the closed form of u(x, t) at points of shape (..., 2): shape (...); ValueError if it has none."""
        if self._solution is None:
            raise ValueError("no closed form is known for this problem")
        return self._solution(checks.points_array(points), checks.number("t", t))


def admit(problem):
    """Return problem if it is a ConvectionDiffusion, or raise a ValueError: the door of every solver and bound."""
    if not isinstance(problem, ConvectionDiffusion):
        kind = type(problem).__name__
        raise ValueError(f"problem must be a ConvectionDiffusion, as pde.problems.doob() returns, got {kind}")
    return problem
