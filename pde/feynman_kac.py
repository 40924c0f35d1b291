"""Monte-Carlo solution of the convection-diffusion equation by the Feynman-Kac formula.

u(x, 0) = E[f(X_T) | X_0 = x],  dX = v(X, t) dt + sigma dB                                (paper: (3.1))

with the expectation an average over Euler-Maruyama paths, compiled and on all cores. Without diffusion the average is
over one path: the characteristic, by the classical Runge-Kutta method.

The work is cut into blocks, points x paths, by a rule that knows the problem alone. The moments of a block depend on
the seed and the block alone, and are merged in the order of the blocks: the result is the same to the last bit however
the blocks are spread over threads, processes and machines of one kind, and wherever a run was interrupted.
"""

import math
import uuid
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from pde import _checks, fk_kernels, shards, tables
from pde.checkpoint import Checkpoint, describe
from pde.fields import PeriodicField
from pde.random_numbers import brownian_increments, key_from

__all__ = ["Estimate", "brownian_increments", "estimate", "euler_maruyama"]

# Particles of a block at most: 16 MB of positions, so memory does not grow with the number of paths; and path-steps of
# a block, about a second of one core, with particles enough to keep all cores busy.
_BATCH, _WORK, _FEWEST = 2**20, 2**28, 2**14
# Points of a block that share common paths: many times a kernel's lanes, so that drawing their noise costs nothing.
_POINTS = 2**12
# Tables of a velocity that changes at every step are made for this many bytes at a time.
_TABLE_BYTES = 2**27
# A trigonometric field is replaced by a spline; the difference must vanish beside the noise, or beside RK4's error.
_VELOCITY_TOLERANCE, _CHARACTERISTIC_TOLERANCE, _TERMINAL_TOLERANCE = 1e-6, 1e-9, 1e-8


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte-Carlo estimate of u(x, 0).

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Its standard error; 0 without diffusion, inf where one sample leaves it unknown.
    n_paths : int
        Paths a point.
    n_steps : int
        Steps a path.
    """

    mean: np.ndarray
    stderr: np.ndarray
    n_paths: int
    n_steps: int


def estimate(
    problem,
    points,
    n_paths=1024,
    n_steps=1000,
    rng=0,
    *,
    common_paths=False,
    antithetic=False,
    n=None,
    n_shards=1,
    checkpoint=None,
    progress=False,
):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points.

    X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k,  dB_k ~ N(0, dt I)                       (Euler-Maruyama)

    A velocity piecewise constant in time is taken at layer (k n_t) // n_steps in step k. Trigonometric fields are
    evaluated as bicubic splines that differ from them by less than 1e-6 max |v| and 1e-8 max |f|.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma = 0, the characteristics are followed by the classical Runge-Kutta method of order 4 instead: one
        path a point, no noise.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Paths a point, >= 1; even with antithetic.
    n_steps : int, default=1000
        Steps a path, >= 1; dt = T / n_steps.
    rng : int or numpy.random.Generator, default=0
        Seed. The result depends on it alone: not on the number of threads, shards or workers, nor on interruptions.
    common_paths : bool, default=False
        One set of Brownian paths for all points: the error is then smooth in space, and no longer independent.
    antithetic : bool, default=False
        Paths in pairs with opposite increments; the standard error is that of the pair means.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled at each step; by default those of
        the terminal data, or 128.
    n_shards : int, default=1
        With K > 1, the work goes to K shards at a time, which run where `joblib.parallel_config` says: on a backend
        "loky" with its n_jobs, "dask", "ray" or "threading"; without one, in this process. A few shards a worker even
        out workers of unequal speed. Work of workers that die is done again by others.
    checkpoint : str or os.PathLike, optional
        File in which the moments are kept, at most every two seconds. A call with the same arguments goes on from it
        to the result that it would have had, to the last bit; a finished file gives it at once. It is not removed.
        Velocity and terminal data given as callables are told from others by their values on the grid of n points per
        side, the velocity at five times.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Estimate
        `mean` and `stderr` of shape (...).

    Raises
    ------
    ValueError
        If points has another shape or is not finite, n_paths, n_steps or n_shards is out of range, rng is no seed, the
        checkpoint is damaged, in no directory or that of another call, or joblib's backend is "multiprocessing".
    RuntimeError
        If workers keep dying.
    FloatingPointError
        If the result is not finite.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.constant_velocity()
    >>> e = estimate(problem, [[0.1, 0.2], [0.5, 0.3]], n_paths=4096, n_steps=10, rng=1)
    >>> bool((np.abs(e.mean - problem.exact([[0.1, 0.2], [0.5, 0.3]])) < 5 * e.stderr).all())
    True
    """
    points = _checks.points_array(points)
    n_paths = _checks.integer("n_paths", n_paths, at_least=1)
    n_steps = _checks.integer("n_steps", n_steps, at_least=1)
    n = (problem.n or 128) if n is None else _checks.integer("n", n, at_least=1)
    if max(n_paths, n_steps, points.size) >= 2**32:
        raise ValueError("n_paths, n_steps and the number of points must be < 2**32, the range of the counters")
    if antithetic and n_paths % 2:
        raise ValueError(f"n_paths must be even with antithetic pairs, got n_paths={n_paths}")
    n_shards = _checks.integer("n_shards", n_shards, at_least=1)
    key = key_from(rng)
    if problem.sigma == 0:
        n_paths, antithetic = 1, False
    options = {"common_paths": bool(common_paths), "antithetic": bool(antithetic)}
    flat = points.reshape(-1, 2)
    blocks = _blocks(problem, len(flat), n_paths, n_steps, **options)
    saved = None
    if checkpoint is not None:
        sizes = {"n_paths": n_paths, "n_steps": n_steps, "n": n, "block": [blocks.points_a_block, blocks.paths_a_block]}
        seed = {"rng": " ".join(map(str, key))}
        saved = Checkpoint(checkpoint, describe(problem, flat, n) | sizes | seed | options)
    done, mean, squares = (saved and saved.load()) or (0, np.zeros(len(flat)), np.zeros(len(flat)))
    starts = np.mod(flat / problem.length, 1.0)

    def arguments(index):
        block = blocks[index]
        return starts[block.first_point : block.first_point + block.n_points], block

    job = _Job((problem, n_steps, n, key, *options.values()))
    share = 2 if antithetic else 1
    with tqdm(
        total=blocks.n_particles_before(len(blocks)),
        initial=blocks.n_particles_before(done),
        disable=None if progress else True,
        unit="path",
        unit_scale=True,
    ) as bar:
        for results in shards.in_rounds(job, arguments, done, len(blocks), n_shards):
            for result in results:
                block = blocks[done]
                here = slice(block.first_point, block.first_point + block.n_points)
                moments = _Moments(block.first_path // share, mean[here], squares[here])
                moments.merge(*result)
                mean[here], squares[here] = moments.mean, moments.squares
                done += 1
                bar.update(block.n_points * block.n_paths)
            if saved and (saved.due or done == len(blocks)):
                saved.save(done, mean, squares)
    stderr = np.zeros(len(flat)) if problem.sigma == 0 else _Moments(n_paths // share, mean, squares).stderr
    if not np.isfinite(mean).all():
        raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
    shape = points.shape[:-1]
    return Estimate(mean.reshape(shape), stderr.reshape(shape), n_paths, n_steps)


def _blocks(problem, n_points, n_paths, n_steps, common_paths, antithetic):
    """The blocks of a problem: all paths of many points, some paths of one, or some common paths of many points."""
    # A velocity without layers has its tables made again for every block, which must be worth it.
    particles = _BATCH if problem.n_layers is None else min(_BATCH, max(_FEWEST, _WORK // n_steps))
    if common_paths:
        points_a_block = max(1, min(n_points, _POINTS, particles))
        paths_a_block = particles // points_a_block
    else:
        paths_a_block = min(n_paths, particles)
        points_a_block = particles // paths_a_block
    # A pair of antithetic paths is one sample.
    pairs = 2 if antithetic else 1
    return shards.Blocks(n_points, n_paths, points_a_block, max(pairs, paths_a_block // pairs * pairs))


@dataclass(frozen=True)
class _Job:
    """What a worker needs to do any block of one call of `estimate`."""

    arguments: tuple = field(compare=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def prepare(self):
        return _Walk(*self.arguments).moments


class _Moments:
    """Count, mean and sum of squared deviations, merged batch by batch (Chan, Golub & LeVeque 1983)."""

    def __init__(self, count=0, mean=0.0, squares=0.0):
        self.count, self.mean, self.squares = count, mean, squares

    def merge(self, count, mean, squares):
        total = self.count + count
        # Overflow shows in the result, which is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            gap = mean - self.mean
            self.squares = self.squares + squares + gap**2 * (self.count * count / total)
            self.mean = self.mean + gap * (count / total)
        self.count = total

    @property
    def stderr(self):
        if self.count == 1:
            return np.full_like(self.mean, np.inf)
        return np.sqrt(self.squares / (self.count - 1) / self.count)


class _Walk:
    """Paths of one problem: the tables of its fields, and how the particles are laid out for the kernels."""

    def __init__(self, problem, n_steps, n, key, common_paths, antithetic):
        self.problem, self.n_steps, self.n, self.key = problem, n_steps, n, key
        self.dt = problem.horizon / n_steps
        self.common, self.antithetic = bool(common_paths), int(antithetic)
        self.stages = 1 if problem.sigma else 2
        self.tolerance = _VELOCITY_TOLERANCE if problem.sigma else _CHARACTERISTIC_TOLERANCE
        self.terminal = None
        # Without noise there are few end points, and nothing to hide an error of interpolation behind.
        if isinstance(problem.terminal, PeriodicField) and problem.sigma:
            self.terminal = tables.make_table(problem.terminal, 1.0, tolerance=_TERMINAL_TOLERANCE)
        self.size, self.chunks = None, None

    def moments(self, starts, block):
        """Number of samples a point, and their means and sums of squared deviations, shapes (n_points,)."""
        samples = self.samples(starts, block.first_point, block.first_path, block.n_paths)
        if self.antithetic:
            samples = samples.reshape(len(samples), -1, 2).mean(axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = samples.mean(axis=1)
            return samples.shape[1], mean, ((samples - mean[:, None]) ** 2).sum(axis=1)

    def samples(self, starts, first_point, first_path, n_paths):
        """f(X_T), shape (n_points, n_paths), for paths from starts (n_points, 2), in fractions of the period."""
        shape = (n_paths, len(starts)) if self.common else (len(starts), n_paths)
        x, y = (np.broadcast_to(starts[:, i] if self.common else starts[:, i, None], shape).copy() for i in (0, 1))
        scale = self.problem.sigma * math.sqrt(self.dt) / self.problem.length
        for stack, layers, step in self._velocity():
            degree, n = self.size
            if self.problem.sigma:
                fk_kernels.advance_euler(
                    x, y, stack, layers[:, 0], degree, n, scale, step, first_path, first_point, self.common,
                    self.antithetic, self.key,
                )  # fmt: skip
            else:
                fk_kernels.advance_rk4(x, y, stack, layers, degree, n)
        values = self._terminal(x, y)
        return np.ascontiguousarray(values.T) if self.common else values

    def _terminal(self, x, y):
        if self.terminal is None:
            return self.problem.terminal_at(np.stack([x, y], axis=-1) * self.problem.length)
        out = np.empty_like(x)
        table = self.terminal
        fk_kernels.evaluate(x, y, table.coefficients, table.degree, table.n, out)
        return out

    def _velocity(self):
        """(tables, (begin, middle, end) table of each step, first step), in chunks of steps that fit the memory."""
        if self.chunks is not None:
            return self.chunks
        if self.problem.n_layers is not None:
            fields = [self.problem.layer_field(layer) for layer in range(self.problem.n_layers)]
            layers = np.arange(self.n_steps) * self.problem.n_layers // self.n_steps
            self.chunks = [(self._tables(fields), np.repeat(layers[:, None], 3, axis=1), 0)]
            return self.chunks
        per_table = self._tables([self._field(0.0)]).nbytes
        steps = max(1, _TABLE_BYTES // per_table // self.stages)
        chunks = (self._chunk(step, min(steps, self.n_steps - step)) for step in range(0, self.n_steps, steps))
        if steps >= self.n_steps:
            self.chunks = list(chunks)
            return self.chunks
        return chunks

    def _chunk(self, step, count):
        """Tables of `count` steps of a velocity that depends on time: one a step, or two and the last one's end."""
        times = (step + np.arange(count * self.stages + self.stages - 1) / self.stages) * self.dt
        stack = self._tables([self._field(min(t, self.problem.horizon)) for t in times])
        first = np.arange(count)[:, None] * self.stages
        return stack, first + np.arange(3)[None, :] * (self.stages - 1), step

    def _field(self, t):
        return self.problem.velocity_field(t, self.n)

    def _tables(self, fields):
        scale = self.dt / self.problem.length
        if self.size is None:
            largest = max(fields, key=lambda field: field.n)
            first = tables.make_table(largest, scale, tolerance=self.tolerance)
            self.size = first.degree, first.n
        made = [tables.make_table(field, scale, tolerance=self.tolerance, n=self.size[1]) for field in fields]
        if {(table.degree, table.n) for table in made} != {self.size}:
            raise ValueError("velocity must have one grid and one interpolation at all times")
        return np.stack([table.coefficients for table in made])


def euler_maruyama(problem, points, increments):
    """Follow Euler-Maruyama paths along given Brownian increments, in plain NumPy: the reference of the compiled loop.

    X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k,  t_k = k dt

    Parameters
    ----------
    problem : ConvectionDiffusion
        Fields are evaluated by their own rule, exactly.
    points : array_like of shape (..., 2)
        Starting points.
    increments : array_like of shape (n_steps, ..., 2)
        dB_k, of variance dt = T / n_steps; the shapes of increments[0] and points are broadcast.

    Returns
    -------
    ndarray of shape (..., 2)
        X_T, not reduced to one period.

    Raises
    ------
    ValueError
        If points or increments has another shape or is not finite.
    """
    points = _checks.points_array(points)
    increments = _checks.finite_array("increments", increments)
    if increments.ndim < 2 or increments.shape[-1] != 2 or not len(increments):
        raise ValueError(f"increments must have shape (n_steps, ..., 2), got {increments.shape}")
    n_steps = len(increments)
    dt = problem.horizon / n_steps
    x = np.broadcast_to(points, np.broadcast_shapes(points.shape, increments.shape[1:]))
    for k, increment in enumerate(increments):
        if problem.n_layers is None:
            v = problem.velocity_at(x, k * dt)
        else:
            v = problem.layer_field(k * problem.n_layers // n_steps)(x)
        x = x + v * dt + problem.sigma * increment
    return x
