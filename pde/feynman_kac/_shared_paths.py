"""Means of f(X_T) over Sobol paths that all starting points share, by stochastic Heun in single precision."""

import copy

import numpy as np

from pde._histories import histories, irregular_times
from pde.feynman_kac import _arguments, _spline_tables
from pde.feynman_kac._general_paths import GeneralPaths, Ways
from pde.feynman_kac._kernels32 import cell_table
from pde.feynman_kac._kernels_shared import advance_shared, sums_of_terminal, terminal_values
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables

# Tables are scaled so that no displacement exceeds this part of the period, which single precision can hold.
_REACH = 0.2
# Fewer points than this leave lanes empty: then paths fill them.
_FEW_POINTS = 64
# Particles advanced together where paths fill the lanes.
_BATCH = 2**20
# Error of the table of f, relative to the error requested.
_SHARE = 0.02
# The pilot takes paths of three numbers of steps in turn: the tables of so many are kept, unless they are large. Larger
# ones are made for as many steps at a time as fit, and so many particles wait for them.
_N_KEPT, _TABLE_BYTES, _WAITING = 3, 2**28, 2**24
# Most steps that single precision may need.
_MOST_STEPS = 1024
_NO_KEY = np.zeros(2, np.uint64)


def make_means(problem, n, error, in_time=None):
    """The loop for means to an error: the fast one where it supports the problem and is precise enough.

    `in_time`: an `InTime` of the problem, to take means in time from where its callables jump.
    """
    size = max(map(abs, _arguments.terminal_range(problem, n)), default=0.0)
    if _arguments.is_plain(problem) and error >= 1e-5 * size and _arguments.fits_single(problem):
        means = SharedMeans(problem, n, error, in_time)
        # A velocity that is very large at times needs short steps in single precision alone.
        if means.fewest_steps <= _MOST_STEPS:
            return means
    return GeneralMeans(problem, n, in_time)


def _keep(kept, key, value):
    """Keep a value, and of the others the last ones."""
    kept.setdefault(key, value)
    if len(kept) > _N_KEPT:
        del kept[next(iter(kept))]


class SharedMeans:
    """The fast loop: one constant sigma, neither potential nor source."""

    order = 2

    def __init__(self, problem, n, error, in_time=None):
        self.problem, self.velocity, self.in_time = problem, VelocityTables(problem, n), in_time
        sampled = self._sampled()
        self.fastest = max(np.abs(table.coefficients).max() for table in sampled) * problem.horizon
        # One table for all steps, where a callable depends on time in its arguments alone.
        steady = bool(in_time) and in_time.velocity_is_steady
        steady = steady and all((table.coefficients == sampled[0].coefficients).all() for table in sampled)
        self._steady = sampled[0] if steady else None
        self.terminal = None
        if _arguments.is_field(problem.terminal):
            size = max(np.abs(problem.terminal.values).max(), np.finfo(float).tiny)
            table = _spline_tables.make_table(problem.terminal, 1.0, tolerance=_SHARE * error / size)
            size = max(np.abs(table.coefficients).max(), size)
            self.terminal = cell_table(table.scaled(_REACH / size)), table.degree, table.n
            self.unit = size / _REACH * 2.0**-32
        self._base, self._kept = None, {}

    def with_terminal(self, problem):
        """The same paths for a problem that differs in its terminal data alone, a callable."""
        other = copy.copy(self)
        other.problem, other.terminal = problem, None
        return other

    def _sampled(self):
        problem = self.problem
        if problem.n_layers is not None:
            fields = [problem.layer_field(layer) for layer in range(problem.n_layers)]
        else:
            times = [part * problem.horizon for part in (0, 0.3, 0.7, 1)]
            # And the time at which the velocity is largest.
            sizes = np.abs((self.in_time.histories if self.in_time else histories(problem))[0]).max(axis=1)
            times.append(float(irregular_times(problem.horizon, len(sizes))[sizes.argmax()]))
            fields = [problem.velocity_field(t, self.velocity.n) for t in times]
        return self.velocity._tables(fields)

    @property
    def fewest_steps(self):
        """Steps of which none crosses a fifth of the period, a multiple of the layers."""
        n_layers = self.problem.n_layers or 1
        wanted = max(2, int(np.ceil(self.fastest / _REACH)))
        return n_layers * -(-wanted // n_layers)

    def __call__(self, starts, increments, n_per_mean):
        """Means over groups of n_per_mean paths: (n_groups, n_points).

        `starts` (n_points, 2) in periods; `increments` (n_steps, 2, n_paths) of variance 1 / n_steps.
        """
        problem, n_steps = self.problem, len(increments)
        pieces = self._kept.get(n_steps) or self._pieces(TimeSteps(problem, n_steps))
        if len(pieces) == 1:
            _keep(self._kept, n_steps, pieces)
        degree, n = self.velocity.size
        unit = problem.sigma * np.sqrt(problem.horizon) / problem.length * 2.0**32
        x, y = (starts * 2.0**32).astype(np.uint64).astype(np.uint32).T
        n_groups, n_paths = increments.shape[-1] // n_per_mean, increments.shape[-1]
        if len(starts) >= _FEW_POINTS and self.terminal is not None and len(pieces) == 1:
            paths = np.ascontiguousarray(np.moveaxis(increments * unit, -1, 0), dtype=np.float32)
            sums = np.empty((n_groups, len(starts)))
            where = np.ascontiguousarray(x), np.ascontiguousarray(y)
            sums_of_terminal(*where, paths, n_per_mean, *pieces[0].made, degree, n, *self.terminal, sums)
            return sums * (self.unit / n_per_mean)
        increments = (increments * unit).astype(np.float32)
        means = np.empty((n_groups, len(starts)))
        block = max(1, _BATCH // n_paths)
        waiting = block if len(pieces) == 1 else max(block, _WAITING // n_paths // block * block)
        for first in range(0, len(starts), waiting):
            shape = len(x[first : first + waiting]), n_paths
            px, py = (np.broadcast_to(each[first : first + waiting, None], shape).copy() for each in (x, y))
            for piece in pieces:
                tables, layers = piece.made
                for row in range(0, len(px), block):
                    rows = slice(row, row + block)
                    advance_shared(px[rows], py[rows], increments[piece.steps], tables, layers, degree, n)
            values = self._values(px, py).reshape(shape[0], n_groups, n_per_mean)
            means[:, first : first + waiting] = values.mean(axis=-1).T
        return means

    def _values(self, x, y):
        if self.terminal is None:
            return self.problem.terminal_at(np.stack([x, y], axis=-1) * (2.0**-32 * self.problem.length))
        out = np.empty(x.size, np.float32)
        terminal_values(x.reshape(-1), y.reshape(-1), *self.terminal, out)
        return out.reshape(x.shape) * self.unit

    def _pieces(self, steps):
        """The steps in pieces, whose tables fit the memory."""
        problem = self.problem
        dt = problem.horizon / steps.n_steps
        if problem.n_layers is not None:
            if self._base is None:
                # A table of displacements is linear in dt.
                self._base_dt = problem.horizon * _REACH / max(self.fastest, _REACH)
                self._base = np.stack([cell_table(table.scaled(self._base_dt)) for table in self._sampled()])
            layers = np.repeat(steps.layers[:, None], 2, axis=1)
            piece = _Piece(slice(0, steps.n_steps), None)
            piece.made = self._base * np.float32(dt / self._base_dt), layers
            return [piece]
        if self._steady is not None:
            piece = _Piece(slice(0, steps.n_steps), None)
            piece.made = cell_table(self._steady.scaled(dt))[None], np.zeros((steps.n_steps, 2), np.int64)
            return [piece]
        problem = self.in_time.problem_of(steps) if self.in_time else problem
        times = np.minimum(steps.t, problem.horizon)

        def make(t):
            return cell_table(self.velocity._tables([problem.velocity_field(float(t), self.velocity.n)])[0].scaled(dt))

        count = max(1, _TABLE_BYTES // make(0.0).nbytes - 1)
        chosen = [slice(k, min(k + count, steps.n_steps)) for k in range(0, steps.n_steps, count)]
        pieces = [_Piece(part, (make, times[part.start : part.stop + 1])) for part in chosen]
        if len(pieces) == 1:
            pieces[0].made = pieces[0].made
        return pieces


class _Piece:
    """Consecutive steps, a slice, and `made`: their cell tables, and (n_steps, 2) which hold at their two ends."""

    def __init__(self, steps, how):
        self.steps, self._how, self._made = steps, how, None

    @property
    def made(self):
        """Tables that were set, or made anew: those of several pieces are not held at once."""
        if self._made is not None:
            return self._made
        make, times = self._how
        first = make(times[0])
        tables = np.empty((len(times), *first.shape), first.dtype)
        tables[0] = first
        for k, t in enumerate(times[1:], 1):
            tables[k] = make(t)
        return tables, np.arange(len(times) - 1)[:, None] + np.arange(2)

    @made.setter
    def made(self, tables):
        self._made = tables


class GeneralMeans:
    """The general loop in double precision: potential, source, sigma in layers or of x, or a very small error."""

    def __init__(self, problem, n, in_time=None):
        self.problem, self.n, self.in_time = problem, n, in_time
        self.heun = not _arguments.sigma_varies(problem)
        self.order = 2 if self.heun else 1
        self._paths = {}

    @property
    def fewest_steps(self):
        """Two steps, or one per layer."""
        return max(2, self.problem.n_layers or 1)

    def with_terminal(self, problem):
        """As `SharedMeans.with_terminal`."""
        return GeneralMeans(problem, self.n)

    def __call__(self, starts, increments, n_per_mean):
        """As `SharedMeans.__call__`."""
        n_steps, n_paths = len(increments), increments.shape[-1]
        paths = self._paths.get(n_steps) or self._make(TimeSteps(self.problem, n_steps))
        _keep(self._paths, n_steps, paths)
        given = increments * np.sqrt(self.problem.horizon)
        means = np.empty((n_paths // n_per_mean, len(starts)))
        block = max(1, _BATCH // n_paths)
        for first in range(0, len(starts), block):
            chosen = starts[first : first + block]
            values = paths.samples(chosen, n_paths, Ways(heun=self.heun), _NO_KEY, given)[0]
            means[:, first : first + block] = values.reshape(len(chosen), -1, n_per_mean).mean(axis=-1).T
        return means

    def _make(self, steps):
        return GeneralPaths(self.in_time.problem_of(steps) if self.in_time else self.problem, steps, self.n)
