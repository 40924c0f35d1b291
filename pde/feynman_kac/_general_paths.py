"""Paths for what the fast loops lack: sigma in layers or of x, weights by potential and source, steps in pairs."""

from typing import NamedTuple

import numpy as np

from pde.feynman_kac import _arguments, _spline_tables
from pde.feynman_kac._kernels_general import advance_general, advance_weighted_rk4
from pde.feynman_kac._spline_tables import VELOCITY_TOLERANCE
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import CHARACTERISTIC_TOLERANCE, VelocityTables, size_of_tables

_NONE = (np.empty((0, 1)), np.zeros((1, 3), np.int64), 1, 1)
_NOT_GIVEN = np.empty((0, 2, 0))
# sqrt(2 log(2**33)): no normal number of the generator's 32 bits is larger.
LARGEST_NORMAL = 6.765
# Tables of a potential or a source that changes at every step are made for about this many bytes at a time.
_TABLE_BYTES = 2**27


class Ways(NamedTuple):
    """How increments are made: `n_sub` drawn ones per step, counters of the first path and point, and options."""

    n_sub: int = 1
    first_path: int = 0
    first_point: int = 0
    common: bool = False
    antithetic: int = 0
    two_point: bool = False
    heun: bool = False


class GeneralPaths:
    """Paths of any problem along TimeSteps, with the weights of the Feynman-Kac formula.

    `counters` (n_steps,): those of the first drawn increment of each step, by default those of the steps.
    """

    def __init__(self, problem, steps, n=None, *, counters=None, tolerance=VELOCITY_TOLERANCE):
        self.problem, self.steps = problem, steps
        # Every second counter of a finer level is a view with a stride, for which the loop would be compiled again.
        self.counters = np.ascontiguousarray(steps.counters if counters is None else counters)
        self.velocity = VelocityTables(problem, n, tolerance=tolerance)
        self._made = {}
        # Tables of a potential or source that changes at every step are made for so many steps at a time.
        self._sizes = {
            name: size_of_tables(problem, name, self.velocity.n, VELOCITY_TOLERANCE)
            for name in ("potential", "source")
            if problem.scalar_varies(name)
        }
        finest = max((n for _, n in self._sizes.values()), default=0)
        self._chunk = max(2, _TABLE_BYTES // (32 * finest**2)) if finest else steps.n_steps

    def advance(self, state, ways, key, given=None):
        """Advance state (x, y, C, G), each (n_points, n_paths), from 0 to T, in place.

        `given` (n_steps, 2, n_paths): increments of Brownian motion over all steps, the same for all points.
        """
        for chosen, tables in self._parts(ways, self._chunk):
            self._advance(state, ways, key, given, chosen, tables)

    def advance_singly(self, state, ways, key, judge):
        """Advance state step by step, in place; yield the number of steps done after each.

        Before a step, `judge` is called with it, the most of |v_i|, in periods per time, and of the noise in each
        direction, in periods.
        """
        known, fastest = None, ()
        for chosen, tables in self._parts(ways, 1):
            if tables[0] is not known:
                # Splines are means of their coefficients.
                known, fastest = tables[0], np.maximum(tables[0].max(axis=1), -tables[0].min(axis=1))
            judge(chosen.start, float(fastest[tables[1]].max()), self._largest_noise(chosen))
            self._advance(state, ways, key, None, chosen, tables)
            yield chosen.stop

    def _largest_noise(self, chosen):
        if _arguments.is_noiseless(self.problem):
            return 0.0
        scales, (spread, layers, *_) = self._spread(chosen, 1, given=False)
        return LARGEST_NORMAL * float(scales[0] * (np.abs(spread[layers[0, 0]]).max() if len(spread) else 1.0))

    def _parts(self, ways, most):
        """Up to `most` steps at a time, as slices, with the tables of the velocity for these."""
        n_stages = 3 if _arguments.is_noiseless(self.problem) else 2 if ways.heun else 1
        for piece in self.velocity.pieces(self.steps, n_stages):
            last = piece.first + len(piece.layers)
            for low in range(piece.first, last, most):
                chosen = slice(low, min(last, low + most))
                layers = piece.layers[low - piece.first : chosen.stop - piece.first]
                layers = np.repeat(layers, 2, axis=1) if n_stages == 1 else layers
                yield chosen, (piece.tables, layers, *self.velocity.size)

    def _advance(self, state, ways, key, given, chosen, tables):
        dts, noiseless = self.steps.dt[chosen], _arguments.is_noiseless(self.problem)
        potential, source = (self._rates(name, chosen, 3 if noiseless else 2) for name in ("potential", "source"))
        if noiseless:
            advance_weighted_rk4(*state, tables, potential, source, dts)
            return
        scales, spread = self._spread(chosen, ways.n_sub, given is not None)
        counters = self.counters[chosen]
        increments = _NOT_GIVEN if given is None else given[chosen]
        advance_general(*state, tables, potential, source, spread, dts, scales, counters, increments, tuple(ways), key)

    def _spread(self, chosen, n_sub, given):
        """Scale of the increments of the chosen steps, in periods, and sigma(x) as a group of tables."""
        dt = self.steps.dt[chosen]
        # Standard deviation of the n_sub parts in which the increment of a step is drawn.
        scales = np.ones(len(dt)) if given else np.sqrt(dt / n_sub)
        scales = scales / self.problem.length
        if _arguments.sigma_varies(self.problem):
            fields = [self.problem.sigma_layer(layer) for layer in range(self.problem.n_layers or 1)]
            return scales, self._group("sigma", fields, self._layers(chosen, 2))
        layers = self._layers(chosen, 1)[:, 0]
        sigma = np.array([self.problem.sigma_layer(j) for j in range(self.problem.n_layers or 1)])
        return scales * sigma[layers], _NONE

    def _layers(self, chosen, n_stages):
        layers = self.steps.layers
        count = len(self.steps.dt[chosen])
        one = np.zeros(count, np.int64) if layers is None else layers[chosen]
        return np.repeat(one[:, None], n_stages, axis=1)

    def _rates(self, name, chosen, n_stages):
        """Potential or source as a group of tables at n_stages times of each of the chosen steps."""
        problem, value = self.problem, getattr(self.problem, name)
        if value is None:
            return _NONE
        if not problem.scalar_varies(name):
            # The middle of a layer is within it, whatever rounding does to its ends.
            n_layers = problem.n_layers or 1 if _arguments.is_field(value) else 1
            times = (np.arange(n_layers) + 0.5) * (problem.horizon / n_layers) if name not in self._made else ()
            fields = [problem.scalar_field(name, float(t), self.velocity.n) for t in times]
            return self._group(name, fields, self._layers(chosen, n_stages))
        count, apart = len(self.steps.dt[chosen]), n_stages - 1
        begins, dt = self.steps.t[:-1][chosen], self.steps.dt[chosen]
        times = (begins[:, None] + np.arange(apart) / apart * dt[:, None]).ravel()
        times = np.minimum(np.append(times, begins[-1] + dt[-1]), problem.horizon)
        fields = [problem.scalar_field(name, float(t), self.velocity.n) for t in times]
        tables = _spline_tables.make_tables(fields, 1.0, tolerance=VELOCITY_TOLERANCE, size=self._sizes[name])
        layers = np.arange(count)[:, None] * apart + np.arange(n_stages)
        return np.stack([table.coefficients for table in tables]), layers, *self._sizes[name]

    def _group(self, name, fields, layers):
        """A group of tables of fields in layers, made once."""
        if name not in self._made:
            made = _spline_tables.make_tables(fields, 1.0, tolerance=VELOCITY_TOLERANCE)
            self._made[name] = np.stack([table.coefficients for table in made]), made[0].degree, made[0].n
        tables, *size = self._made[name]
        return tables, np.minimum(layers, len(tables) - 1), *size

    def start(self, starts, n_paths):
        """State (x, y, C, G) of n_paths paths from starts (n_points, 2), in fractions of the period."""
        x, y = (np.repeat(starts[:, i, None], n_paths, axis=1) for i in (0, 1))
        return x, y, np.zeros_like(x), np.zeros_like(x)

    def weighted(self, state):
        """f(X_T) exp(C_T) + G_T: shape (k, n_points, n_paths), k = 1 for one terminal datum."""
        x, y, c, g = state
        if _arguments.is_noiseless(self.problem):
            # Few end points, and no noise to hide an error of interpolation behind.
            cell = np.stack([x, y], axis=-1) % 1.0 * self.problem.length
            values = np.moveaxis(self.problem.terminal_at(cell).reshape(*x.shape, -1), -1, 0)
        else:
            values = self.velocity.terminal.values(x, y).reshape(-1, *x.shape)
        if self.problem.potential is None and self.problem.source is None:
            return values
        # Overflow shows in the result, which is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            return values * np.exp(c) + g

    def samples(self, starts, n_paths, ways, key, given=None):
        """Samples of the Feynman-Kac formula: shape (k, n_points, n_paths)."""
        state = self.start(starts, n_paths)
        self.advance(state, ways, key, given)
        return self.weighted(state)


class GeneralWalk:
    """As `Walk`, for any problem; with `options.bias`, also differences from paths of steps twice as long."""

    def __init__(self, problem, n_steps, n, key, options):
        self.key, self.antithetic = key, int(options.antithetic)
        self.ways = Ways(
            common=options.common_paths,
            antithetic=self.antithetic,
            two_point=options.increments == "two-point",
            heun=options.scheme == "heun",
        )
        tolerance = CHARACTERISTIC_TOLERANCE if _arguments.is_noiseless(problem) else VELOCITY_TOLERANCE
        self.coarse = None
        steps = TimeSteps(problem, n_steps // 2 if options.bias else n_steps)
        if options.bias:
            coarse, steps = steps, steps.refined(problem)
            self.coarse = GeneralPaths(problem, coarse, n, counters=steps.counters[::2], tolerance=tolerance)
        self.fine = GeneralPaths(problem, steps, n, tolerance=tolerance)

    def moments(self, starts, block):
        """As `Walk.moments`; with the bias, the k results are followed by the k differences."""
        ways = self.ways._replace(first_path=block.first_path, first_point=block.first_point)
        samples = self.fine.samples(starts, block.n_paths, ways, self.key)
        if self.coarse is not None:
            coarse = self.coarse.samples(starts, block.n_paths, ways._replace(n_sub=2), self.key)
            samples = np.concatenate([samples, samples - coarse])
        return moments_of(samples, self.antithetic)


def moments_of(samples, antithetic):
    """Number, means and sums of squared deviations of samples (k, n_points, n_paths); pairs are one sample."""
    if antithetic:
        samples = samples.reshape(*samples.shape[:2], -1, 2).mean(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = samples.mean(axis=-1)
        return samples.shape[-1], mean, ((samples - mean[..., None]) ** 2).sum(axis=-1)
