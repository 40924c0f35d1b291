"""The paths of one problem: tables of its fields, the layout of the particles, and the loop that moves them."""

import math
from typing import NamedTuple

import numpy as np

from pde.feynman_kac import _kernels32, _kernels64, _spline_tables
from pde.fields import PeriodicField

__all__ = ["SCHEMES", "Options", "Walk"]

SCHEMES = ("euler", "heun")
# Tables of a velocity that changes at every step are made for this many bytes at a time.
_TABLE_BYTES = 2**27
# Of a velocity whose characteristics are followed: the difference must vanish beside the error of RK4.
_CHARACTERISTIC_TOLERANCE = 1e-9


class Options(NamedTuple):
    """How paths are made.

    Attributes
    ----------
    common_paths, antithetic : bool
    scheme, increments, dtype : str
        As in `feynman_kac.estimate`.
    """

    common_paths: bool
    antithetic: bool
    scheme: str
    increments: str
    dtype: str


class Walk:
    """Paths of one problem: the tables of its fields, and how the particles are laid out for the kernels.

    Parameters
    ----------
    problem : ConvectionDiffusion
    n_steps : int
    n : int
        Points per side on which a callable v(x, t) is sampled.
    key : ndarray of shape (2,)
        As from `random_numbers.key_from`.
    options : Options
    """

    def __init__(self, problem, n_steps, n, key, options):
        self.problem, self.n_steps, self.n, self.key, self.options = problem, n_steps, n, key, options
        self.dt = problem.horizon / n_steps
        self.common, self.antithetic = options.common_paths, int(options.antithetic)
        self.single = options.dtype == "float32" and problem.sigma > 0
        # Tables wanted a step: at its beginning; and at its end; and in its middle.
        self.stages = 3 if problem.sigma == 0 else 2 if options.scheme == "heun" or self.single else 1
        self.tolerance = _spline_tables.VELOCITY_TOLERANCE if problem.sigma else _CHARACTERISTIC_TOLERANCE
        self.terminal = None
        # Without noise there are few end points, and nothing to hide an error of interpolation behind.
        if isinstance(problem.terminal, PeriodicField) and problem.sigma:
            self.terminal = _spline_tables.make_table(
                problem.terminal, 1.0, tolerance=_spline_tables.TERMINAL_TOLERANCE
            )
        self.size, self.chunks = None, None

    def moments(self, starts, block):
        """Return what a block of paths adds to the estimate.

        Parameters
        ----------
        starts : ndarray of shape (n_points, 2)
            Starting points of the block, in fractions of the period.
        block : shards.Block
            Counters of the paths.

        Returns
        -------
        tuple
            Number of samples a point, and their means and sums of squared deviations, of shape (n_points,).
        """
        x, y = self._ends(starts, block.first_point, block.first_path, block.n_paths)
        if self.terminal is None:
            return self._moments_of(self._values(x, y))
        mean, squares = np.empty(len(starts)), np.empty(len(starts))
        table, unit = self.terminal, 2.0**-32 if self.single else 1.0
        _kernels64.terminal_moments(
            x, y, unit, table.coefficients, table.degree, table.n, self.common, self.antithetic, mean, squares
        )
        return block.n_paths // (1 + self.antithetic), mean, squares

    def _moments_of(self, samples):
        if self.antithetic:
            samples = samples.reshape(len(samples), -1, 2).mean(axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = samples.mean(axis=1)
            return samples.shape[1], mean, ((samples - mean[:, None]) ** 2).sum(axis=1)

    def _ends(self, starts, first_point, first_path, n_paths):
        """X_T for paths from starts: two arrays of shape (n_points, n_paths), or transposed for common paths."""
        if self.single:
            # 2**-32 of the period: 1.0 wraps to 0, as it should.
            starts = (starts * 2.0**32).astype(np.uint64).astype(np.uint32)
        shape = (n_paths, len(starts)) if self.common else (len(starts), n_paths)
        x, y = (np.broadcast_to(starts[:, i] if self.common else starts[:, i, None], shape).copy() for i in (0, 1))
        scale = self.problem.sigma * math.sqrt(self.dt) / self.problem.length
        two_point, heun = self.options.increments == "two-point", self.options.scheme == "heun"
        counters = first_path, first_point, self.common, self.antithetic, two_point
        for stack, layers, step in self._velocity():
            degree, n = self.size
            if self.problem.sigma == 0:
                _kernels64.advance_rk4(x, y, stack, layers, degree, n)
            elif self.single:
                _kernels32.advance32(x, y, stack, layers, degree, n, scale, step, *counters, heun, self.key)
            else:
                advance = _kernels64.advance_heun if heun else _kernels64.advance_euler
                advance(x, y, stack, layers, degree, n, scale, step, *counters, self.key)
        return x, y

    def _values(self, x, y):
        """f(X_T) of shape (n_points, n_paths), for terminal data that no table holds."""
        unit = self.problem.length * (2.0**-32 if self.single else 1.0)
        values = self.problem.terminal_at(np.stack([x, y], axis=-1) * unit)
        return np.ascontiguousarray(values.T) if self.common else values

    def _velocity(self):
        """(tables, table of each stage of each step, first step), in chunks of steps that fit the memory."""
        if self.chunks is not None:
            return self.chunks
        if self.problem.n_layers is not None:
            fields = [self.problem.layer_field(layer) for layer in range(self.problem.n_layers)]
            layers = np.arange(self.n_steps) * self.problem.n_layers // self.n_steps
            self.chunks = [(self._tables(fields), np.repeat(layers[:, None], self.stages, axis=1), 0)]
            return self.chunks
        per_table = self._tables([self._field(0.0)]).nbytes
        steps = max(1, _TABLE_BYTES // per_table // max(1, self.stages - 1))
        if self.single:
            # One call of the generator serves 64 steps.
            steps = max(64, steps // 64 * 64)
        chunks = (self._chunk(step, min(steps, self.n_steps - step)) for step in range(0, self.n_steps, steps))
        if steps >= self.n_steps:
            self.chunks = list(chunks)
            return self.chunks
        return chunks

    def _chunk(self, step, count):
        """Tables of `count` steps of a velocity that depends on time."""
        # From the beginning of a step to that of the next: tables of its own, and the next step's first.
        apart = max(1, self.stages - 1)
        last = 0 if self.stages == 1 else 1
        times = (step + np.arange(count * apart + last) / apart) * self.dt
        stack = self._tables([self._field(min(t, self.problem.horizon)) for t in times])
        return stack, np.arange(count)[:, None] * apart + np.arange(self.stages)[None, :], step

    def _field(self, t):
        return self.problem.velocity_field(t, self.n)

    def _tables(self, fields):
        made = _spline_tables.make_tables(
            fields, self.dt / self.problem.length, tolerance=self.tolerance, size=self.size
        )
        self.size = made[0].degree, made[0].n
        return np.stack([_kernels32.cell_table(table) if self.single else table.coefficients for table in made])
