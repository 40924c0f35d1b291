"""One coefficient of the equation - velocity, sigma, potential or source - in any form that a caller may give."""

import copy
import inspect
import warnings

import numpy as np

from pde import checks, grid
from pde.fields import PeriodicField

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
# Points at which callables are tried once, as fractions of the period, without a pattern.
_TRIED = np.array([[0.137, 0.831], [0.713, 0.289], [0.389, 0.557], [0.911, 0.071], [0.253, 0.971], [0.593, 0.419]])


class Coefficient:
    """A field, layers of fields in time, or a callable; `n_components` is 2 for a velocity and 0 for a scalar."""

    def __init__(self, name, value, n_components, length, horizon):
        self.name, self.length, self._shape = name, length, (n_components,) * (n_components > 0)
        self.is_callable = callable(value) and not isinstance(value, PeriodicField)
        self.of_points, self._layers = False, []
        if self.is_callable:
            self.value = value
            self.of_points, self._passes_time = _arguments(name, value, scalar=not self._shape)
            for t in (0.0, horizon) if self.of_points else (0.0,):
                self._try_at(t)
            return
        self.value = as_field(name, value, length)
        shape = self.value.values.shape
        if len(shape) not in (2 + len(self._shape), 3 + len(self._shape)) or shape[-2 - len(self._shape) : -2] != (
            self._shape
        ):
            raise ValueError(f"{name} must have shape {self._shape_text()} or {self._shape_text('n_t')}, got {shape}")
        layered = len(shape) == 3 + len(self._shape)
        rule = self.value.interpolation
        self._layers = [PeriodicField(v, length, rule) for v in self.value.values] if layered else [self.value]

    def _shape_text(self, *first):
        return "(" + ", ".join([*first, *map(str, self._shape), "n", "n"]) + ")"

    @property
    def n(self):
        """Points per side; None for a callable."""
        return None if self.is_callable else self.value.n

    @property
    def n_layers(self):
        """Number of layers, 1 for a steady field; None for a callable."""
        return len(self._layers) or None

    @property
    def passes_time(self):
        """Whether a callable of points takes the time, too."""
        return self._passes_time is not None

    def layer(self, j):
        """Layer j as a field; a steady field holds for every j."""
        return self._layers[j if len(self._layers) > 1 else 0]

    def field(self, t, n=None):
        """The field at time t of a callable; one of points is sampled on the grid of n per side."""
        if self.of_points:
            if n is None:
                raise ValueError(f"n must be given: the {self.name} is a callable of points")
            values = self(grid.points(n, self.length), t)
            return PeriodicField(np.moveaxis(values, -1, 0) if self._shape else values, self.length)
        field = as_field(f"{self.name}(t)", self.value(t), self.length)
        if field.values.shape[:-2] != self._shape:
            raise ValueError(
                f"{self.name}(t) must have shape {self._shape_text()}, got {field.values.shape} at t={t:g}"
            )
        return field

    def with_means(self, mean_at):
        """The same callable with means over the times and weights mean_at(t) in place of its value, where not None."""
        other = copy.copy(self)
        if self.of_points:

            def value(points, t):
                mean = mean_at(t)
                if mean is None:
                    return self(points, t)
                # Copies: a callable may write to its points.
                return sum(w * self(points.copy(), float(s)) for s, w in zip(*mean, strict=True))

            other._passes_time = ""
        else:

            def value(t):
                mean = mean_at(t)
                first = self.field(t)
                if mean is None:
                    return first
                fields = (self.field(float(s)) for s in mean[0])
                values = (each.values if each.n == first.n else each.on_grid(first.n) for each in fields)
                total = sum(w * each for w, each in zip(mean[1], values, strict=True))
                return PeriodicField(total, self.length, first.interpolation)

        other.value = value
        return other

    def __call__(self, points, t):
        """Values at points of shape (..., 2) within the cell: (..., 2), or (...) for a scalar."""
        if not self.of_points:
            return self.field(t)(points)
        if self._passes_time is None:
            values, label = self.value(points), f"{self.name}(x)"
        else:
            values = self.value(points, **{self._passes_time: t}) if self._passes_time else self.value(points, t)
            label = f"{self.name}(x, t)"
        values = checks.finite_array(label, values)
        wanted = points.shape[:-1] + self._shape
        if values.shape != wanted:
            raise ValueError(f"{label} must have shape {wanted} for points {points.shape}, got {values.shape}")
        return values

    def _try_at(self, t):
        if self.of_points:
            warn_of_a_jump(f"{self.name}(x, t)", lambda x: self(x, t), self.length)
            return
        try:
            self.field(t)
        except (TypeError, IndexError) as error:
            raise ValueError(
                f"{self.name}(t), a callable of one argument, must take a time, got an error at t={t:g} ({error}): "
                f"for one of points, give {self.name}(x, t)"
            ) from error


def as_field(name, values, length):
    """Return values, a PeriodicField or an array, as a field of the period."""
    field = values if isinstance(values, PeriodicField) else PeriodicField(checks.finite_array(name, values), length)
    if field.length != length:
        raise ValueError(f"{name} must have the problem's period {length:g}, got length={field.length:g}")
    return field


def to_cell(points, length):
    """Return points reduced to [0, length)**2; those within it keep their bits."""
    reduced = np.mod(points, length)
    # The remainder of a tiny negative number rounds to the length itself.
    return np.where(reduced == length, 0.0, reduced)


def warn_of_a_jump(label, function, length):
    """Try a callable of points once, within the cell alone, and warn if it jumps at the cell's edge."""
    values = [function(_TRIED * length)]
    ends = np.array([[0.0], [np.nextafter(1.0, 0.0)]])
    gaps = []
    for axis in (0, 1):
        edge = np.repeat(_TRIED[None], 2, axis=0)
        edge[..., axis] = ends
        values += [
            first := function(edge[0] * length),
            last := function(np.minimum(edge[1] * length, np.nextafter(length, 0.0))),
        ]
        gaps.append(float(np.abs(last - first).max()))
    if max(gaps) > 1e-6 * max(float(np.abs(part).max()) for part in values):
        warnings.warn(
            f"{label} jumps by {max(gaps):.3g} at the edge of the cell [0, {length:g})**2, within which its values are "
            "used: is it periodic?",
            stacklevel=5,
        )


def _arguments(name, function, *, scalar):
    """Whether a callable takes points, and how it takes time: "" by position, a keyword's name, None not at all."""
    plain = function.pyfunc if isinstance(function, np.vectorize) else function
    try:
        parameters = inspect.signature(plain).parameters.values()
    except (TypeError, ValueError):
        # Compiled code without a signature: v(x, t).
        return True, ""
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    n_required = sum(p.default is p.empty for p in positional)
    times = [p for p in parameters if p.name in ("t", "time") and p not in positional[:1]]
    if n_required == 2 or (n_required == 0 and any(p.kind is p.VAR_POSITIONAL for p in parameters)):
        return True, ""
    if n_required <= 1 and positional and times:
        return True, "" if times[0].kind is times[0].POSITIONAL_ONLY else times[0].name
    if n_required == 1:
        return scalar, None
    spellings = f"{name}(x) or {name}(x, t)" if scalar else "v(t) or v(x, t)"
    raise ValueError(f"a callable {name} must be {spellings}, got one with {n_required} required arguments")
