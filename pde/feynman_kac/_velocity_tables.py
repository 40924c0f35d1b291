"""Velocity and terminal data of a problem as the path loops read them: tables, made once for all step sizes."""

import warnings
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from pde import checks, grid
from pde.feynman_kac import _kernels32, _kernels64, _spline_tables, _table_errors
from pde.feynman_kac._spline_tables import TERMINAL_TOLERANCE, VELOCITY_TOLERANCE
from pde.feynman_kac._table_errors import telling_times
from pde.fields import PeriodicField

# For characteristics: the difference must vanish beside the error of Runge-Kutta 4.
CHARACTERISTIC_TOLERANCE = 1e-9

# A callable is sampled on so many points per side, up to the finest, that samples miss the first part of its maximum at
# most; where the finest miss the second, or the first on average, there is a warning.
_RESOLVED, _WARNED, _FINEST = 1e-4, 1e-2, 512
# Points per side, at least, at which samples are compared with the callable.
_TRIED = 64

# Tables of a velocity that changes at every step are made for this many bytes at a time.
_TABLE_BYTES = 2**27


class Piece(NamedTuple):
    """Tables of some consecutive steps of one size.

    `tables` (n_tables, m); `layers` (n_steps, n_stages) the table of each stage of each step; index `first`, generator
    counter `counter` and size `dt` of the first step.
    """

    tables: np.ndarray
    layers: np.ndarray
    first: int
    counter: int
    dt: float


def points_per_side(problem, n=None):
    """Points per side on which callables of points are sampled: n, or those of the data, or 128, or more.

    They are refined, up to the finest, until velocity, potential and source are resolved; if they are not, a warning
    is issued, because no stated error includes that, and the finest are taken. So it is where tables of fields are
    coarser than these need.
    """
    _table_errors.warn_once(problem)
    wanted = (problem.n or 128) if n is None else checks.integer("n", n, at_least=1)
    parts = _of_points(problem)
    if not parts:
        return wanted
    known = problem.__dict__.setdefault("_points_per_side", {})
    if (n, wanted) not in known:
        size = wanted
        for part in parts:
            size = max(size, _resolving(problem, part, wanted, finer=n is None))
        known[n, wanted] = known[size, size] = size
    return known[n, wanted]


def _of_points(problem):
    """(name, values at points, field of samples) of each callable of points."""
    parts = [("velocity", problem.velocity_at, problem.velocity_field)] if problem.velocity_is_of_points else []
    for name, at in (("potential", problem.potential_at), ("source", problem.source_at)):
        if problem.scalar_is_of_points(name):
            parts.append((name, at, partial(problem.scalar_field, name)))
    return parts


def size_of_tables(problem, name, n, tolerance):
    """(degree, points per side) of tables that hold a callable at all times, as those without a pattern show it."""
    fields = _table_errors.fields_of(problem, name, n)
    table = _spline_tables.make_tables(fields, 1.0, tolerance=tolerance, largest=_spline_tables.LARGEST_OF_A_STEP)[0]
    return table.degree, table.n


def _resolving(problem, part, n, *, finer):
    """n points per side or, if `finer`, as many as resolve a callable; with a warning if they do not."""
    name, at, field = part
    times = telling_times(problem, at)
    sizes = [n, *(n * 2**k for k in range(1, 8) if n * 2**k <= _FINEST)] if finer else [n]
    for m in sizes:
        largest, mean = _missed(times, at, field, m)
        if largest <= _RESOLVED:
            return m
    if largest > _WARNED or mean > _RESOLVED:
        option = f"{m} points per side" if finer else f"n={n}"
        warnings.warn(
            f"the {name} is not resolved by {option}: its samples miss {largest:.2g} of it at some points, {mean:.1g} "
            "on average, which no stated error includes; raise n, or give a field",
            RuntimeWarning,
            stacklevel=4,
        )
    # As fine as was judged: what is missed shrinks, if slowly.
    return m


def _missed(times, at, field, m):
    """What the interpolant of m samples per side misses of a callable, relative to its maximum: largest, and mean.

    Compared on a grid without common points, moved at random from time to time: every cell is seen.
    """
    n_tried, rng = grid.fast_size(max(m + 1, _TRIED)), np.random.default_rng(2)
    size, largest, total = 0.0, 0.0, 0.0
    for t in times:
        sampled, shift = field(t, m), rng.random(2) / n_tried
        exact = at(grid.points(n_tried, sampled.length) + shift * sampled.length, t)
        c, wave = (
            sampled.fourier_coefficients(m // 2),
            np.exp(2j * np.pi * np.arange(-(m // 2), m // 2 + 1)[:, None] * shift),
        )
        there = grid.from_coefficients(c * wave[:, :1] * wave[:, 1], n_tried)
        gap = np.abs(there - (exact if exact.ndim == 2 else np.moveaxis(exact, -1, 0)))
        size, largest = max(size, float(np.abs(exact).max())), max(largest, float(gap.max()))
        total += float(gap.mean())
    return (largest / size, total / len(times) / size) if size else (0.0, 0.0)


class VelocityTables:
    """Velocity of a problem as tables of v / length, or of the displacements v dt / length.

    Parameters: `n` points per side on which callables of points are sampled; `tolerance` of splines, relative to
    max |v|; `scaled`: displacements, as most loops read them; `single`: in the layout of the float32 loops.
    """

    def __init__(self, problem, n=None, *, tolerance=VELOCITY_TOLERANCE, scaled=False, single=False):
        self.problem, self.n = problem, points_per_side(problem, n)
        self.tolerance, self.scaled, self.single = tolerance, scaled, single
        self.size = None
        if problem.n_layers is None:
            self.size = size_of_tables(problem, "velocity", self.n, tolerance)
        self._layers, self._kept = None, {}

    @cached_property
    def terminal(self):
        """The terminal data as tables."""
        return TerminalTables(self.problem)

    def pieces(self, steps, n_stages=1):
        """Yield the pieces of `steps` (TimeSteps), with tables at n_stages times of each step.

        Stages: 1, its beginning; 2, and its end; 3, and its middle.
        """
        key = (steps.n_steps, tuple(run.first for run in steps.runs), n_stages)
        if key not in self._kept:
            make = self._of_layers if self.problem.n_layers is not None else self._of_times
            pieces = make(steps, n_stages)
            n_tables = 0 if self.problem.n_layers is not None else steps.n_steps * max(1, n_stages - 1)
            if n_tables and n_tables * self._bytes_per_table() > _TABLE_BYTES:
                return pieces
            self._kept = {key: list(pieces)}
        return iter(self._kept[key])

    def _bytes_per_table(self):
        return self._stack(self._tables([self._field(0.0)]), 0.0, 1).nbytes

    def _of_layers(self, steps, n_stages):
        if self._layers is None:
            fields = [self.problem.layer_field(layer) for layer in range(self.problem.n_layers)]
            self._layers = self._tables(fields)
        for run in steps.runs:
            layers = steps.layers[run.first : run.first + run.count]
            present, indices = np.unique(layers, return_inverse=True)
            stack = self._stack((self._layers[layer] for layer in present), run.dt, len(present))
            yield Piece(stack, np.repeat(indices[:, None], n_stages, axis=1), run.first, run.counter, run.dt)

    def _of_times(self, steps, n_stages):
        # Number of tables of a step; the last of several stages uses the first table of the next step.
        apart = max(1, n_stages - 1)
        chunk = max(1, _TABLE_BYTES // self._bytes_per_table() // apart)
        # One call of the generator serves 64 steps, and coupled loops take steps in pairs.
        chunk = max(64, chunk // 64 * 64) if self.single else max(2, chunk // 2 * 2)
        for run in steps.runs:
            for begin in range(0, run.count, chunk):
                count = min(chunk, run.count - begin)
                first = run.first + begin
                places = np.arange(count * apart + (n_stages > 1)) / apart
                # By the place in the run, so that the times do not depend on the chunks.
                times = np.minimum(steps.t[run.first] + (begin + places) * run.dt, self.problem.horizon)
                # One at a time: of some tables there are two copies, of all of them one.
                each = (self._tables([self._field(float(t))])[0] for t in times)
                stack = self._stack(each, run.dt, len(times))
                layers = np.arange(count)[:, None] * apart + np.arange(n_stages)[None, :]
                yield Piece(stack, layers, first, run.counter + begin, run.dt)

    def _field(self, t):
        return self.problem.velocity_field(t, self.n)

    def _tables(self, fields):
        made = _spline_tables.make_tables(fields, 1 / self.problem.length, tolerance=self.tolerance, size=self.size)
        self.size = made[0].degree, made[0].n
        return made

    def _stack(self, tables, dt, count):
        stack = None
        for index, table in enumerate(tables):
            table = table.scaled(dt if self.scaled else 1.0)
            part = _kernels32.cell_table(table) if self.single else table.coefficients
            stack = np.empty((count, *part.shape), part.dtype) if stack is None else stack
            stack[index] = part
        return stack


class TerminalTables:
    """Terminal data as tables, one for each of several; or, for a callable, the function itself."""

    def __init__(self, problem):
        self.problem, self.tables = problem, None
        terminal = problem.terminal
        if isinstance(terminal, PeriodicField):
            fields = [terminal]
            if terminal.values.ndim == 3:
                rule = terminal.length, terminal.interpolation
                fields = [PeriodicField(values, *rule) for values in terminal.values]
            self.tables = _spline_tables.make_tables(fields, 1.0, tolerance=TERMINAL_TOLERANCE)

    def values(self, x, y):
        """f at positions x, y of shape (n_points, n_paths), in periods: shape (n_points, n_paths) or (k, ...)."""
        if self.tables is None:
            # A position that rounding has put on the far edge of the cell is the near edge.
            cell = np.stack([x, y], axis=-1) % 1.0 * self.problem.length
            return self.problem.terminal_at(cell)
        out = np.empty((len(self.tables), *x.shape))
        for values, table in zip(out, self.tables, strict=True):
            _kernels64.evaluate(x, y, table.coefficients, table.degree, table.n, values)
        return out[0] if self.problem.terminal.values.ndim == 2 else out
