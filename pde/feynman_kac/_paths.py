"""The paths of one problem: tables of its fields, the layout of the particles, and the loop that moves them."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from pde._histories import histories, misses
from pde.feynman_kac import _arguments, _kernels32, _kernels64
from pde.feynman_kac._general_paths import GeneralWalk, moments_of
from pde.feynman_kac._spline_tables import VELOCITY_TOLERANCE
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import CHARACTERISTIC_TOLERANCE, VelocityTables

SCHEMES = ("euler", "heun")


class Options(NamedTuple):
    """How paths are made: common_paths, antithetic, scheme, increments and dtype as in `feynman_kac.estimate`."""

    common_paths: bool
    antithetic: bool
    scheme: str
    increments: str
    dtype: str
    bias: bool = False


def make_walk(problem, n_steps, n, key, options):
    """The loop for the problem and the options; a ValueError for an option that does not support the problem."""
    if options.scheme == "heun":
        _arguments.refuse_varying_sigma(problem, "scheme='heun'")
    plain = _arguments.is_plain(problem)
    if options.dtype == "float32" and not _arguments.is_noiseless(problem):
        problem.refuse("dtype='float32'", "potential", "source", "sigma")
        _arguments.needs_single(problem)
        if options.bias:
            raise ValueError("bias=True needs dtype='float64', got dtype='float32'")
    if options.bias and n_steps % 2:
        raise ValueError(f"n_steps must be even with bias=True, got n_steps={n_steps}")
    if options.bias and (steep := problem.horizon / n_steps * _arguments.steepness(problem, n)) > 1:
        warnings.warn(
            f"steps are {steep:.2g} times as long as 1 / max |grad v|: too long to estimate their bias from steps "
            f"twice as long; take n_steps={2 * math.ceil(steep * n_steps / 2)} or more",
            RuntimeWarning,
            stacklevel=3,
        )
    # What steps half as long would miss, these and those twice as long may both alias.
    if options.bias and misses(histories(problem), 2 * n_steps):
        warnings.warn(
            f"the velocity, potential or source varies in time within the {n_steps} steps, an error that bias_estimate "
            "does not include; raise n_steps",
            RuntimeWarning,
            stacklevel=3,
        )
    if options.bias or not plain:
        return GeneralWalk(problem, n_steps, n, key, options)
    return Walk(problem, n_steps, n, key, options)


class Walk:
    """Paths of one problem: the tables of its fields, and how the particles are laid out for the kernels.

    Parameters: `n` points per side on which a callable v(x, t) is sampled; `key` (2,) of `key_from`; `options`.
    """

    def __init__(self, problem, n_steps, n, key, options):
        self.problem, self.key, self.options = problem, key, options
        self.steps = TimeSteps(problem, n_steps)
        self.common, self.antithetic = options.common_paths, int(options.antithetic)
        self.single = options.dtype == "float32" and problem.sigma > 0
        self.stages = 3 if problem.sigma == 0 else 2 if options.scheme == "heun" or self.single else 1
        tolerance = VELOCITY_TOLERANCE if problem.sigma else CHARACTERISTIC_TOLERANCE
        self.velocity = VelocityTables(problem, n, tolerance=tolerance, scaled=True, single=self.single)
        # Without noise there are few end points, and nothing to hide an error of interpolation behind.
        self.terminal = self.velocity.terminal.tables if problem.sigma else None

    def moments(self, starts, block):
        """Number of samples per point, and (k, n_points) their means and sums of squared deviations, of one block.

        `starts` (n_points, 2) in fractions of the period; k counts the terminal data.
        """
        x, y = self._ends(starts, block.first_point, block.first_path, block.n_paths)
        if self.terminal is None:
            return moments_of(self._values(x, y), self.antithetic)
        mean, squares = np.empty((2, len(self.terminal), len(starts)))
        unit = 2.0**-32 if self.single else 1.0
        for k, table in enumerate(self.terminal):
            _kernels64.terminal_moments(
                x, y, unit, table.coefficients, table.degree, table.n, self.common, self.antithetic, mean[k], squares[k]
            )
        return block.n_paths // (1 + self.antithetic), mean, squares

    def _ends(self, starts, first_point, first_path, n_paths):
        """X_T for paths from starts: two arrays of shape (n_points, n_paths), or transposed for common paths."""
        if self.single:
            # 2**-32 of the period: 1.0 wraps to 0, as it should.
            starts = (starts * 2.0**32).astype(np.uint64).astype(np.uint32)
        shape = (n_paths, len(starts)) if self.common else (len(starts), n_paths)
        x, y = (np.broadcast_to(starts[:, i] if self.common else starts[:, i, None], shape).copy() for i in (0, 1))
        two_point, heun = self.options.increments == "two-point", self.options.scheme == "heun"
        counters = first_path, first_point, self.common, self.antithetic, two_point
        for piece in self.velocity.pieces(self.steps, self.stages):
            degree, n = self.velocity.size
            scale = self.problem.sigma * math.sqrt(piece.dt) / self.problem.length
            tables = piece.tables, piece.layers, degree, n
            if self.problem.sigma == 0:
                _kernels64.advance_rk4(x, y, *tables)
            elif self.single:
                _kernels32.advance32(x, y, *tables, scale, piece.counter, *counters, heun, self.key)
            else:
                advance = _kernels64.advance_heun if heun else _kernels64.advance_euler
                advance(x, y, *tables, scale, piece.counter, *counters, self.key)
        return x, y

    def _values(self, x, y):
        """f(X_T) of shape (k, n_points, n_paths), for terminal data that no table holds."""
        cell = np.stack([x, y], axis=-1) * 2.0**-32 if self.single else np.stack([x, y], axis=-1) % 1.0
        values = self.problem.terminal_at(cell * self.problem.length)
        # From data along the last axis to the first.
        values = np.moveaxis(values.reshape(*x.shape, -1), -1, 0)
        return np.ascontiguousarray(values.swapaxes(1, 2)) if self.common else values
