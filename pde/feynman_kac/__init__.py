"""Monte-Carlo solution of the convection-diffusion equation by the Feynman-Kac formula.

u(x, 0) = E[f(X_T) | X_0 = x],  dX = v(X, t) dt + sigma dB                                (paper: (3.1))

with the expectation an average over Euler-Maruyama paths, compiled and on all cores. Without diffusion the average is
over one path: the characteristic, by the classical Runge-Kutta method.

The work is cut into blocks, points x paths, by a rule that knows the problem alone. The moments of a block depend on
the seed and the block alone, and are merged in the order of the blocks: the result is the same to the last bit however
the blocks are spread over threads, processes and machines of one kind, and wherever a run was interrupted.
"""

import uuid
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from pde import checks
from pde.feynman_kac import _shards
from pde.feynman_kac._checkpoint import Checkpoint, describe
from pde.feynman_kac._multilevel import level_key, level_samples, multilevel
from pde.feynman_kac._normals import standard_normals
from pde.feynman_kac._path_fields import PathFields
from pde.feynman_kac._paths import SCHEMES, Options, Walk
from pde.feynman_kac._random import DTYPES, INCREMENTS, brownian_increments, key_from

__all__ = [
    "Estimate",
    "PathFields",
    "brownian_increments",
    "estimate",
    "euler_maruyama",
    "key_from",
    "level_key",
    "level_samples",
    "multilevel",
    "standard_normals",
    "stochastic_heun",
]

DEVICES = ("cpu", "cuda")

# Particles of a block at most: 16 MB of positions, so memory does not grow with the number of paths; and path-steps of
# a block, about a second of one core, with particles enough to keep all cores busy.
_BATCH, _WORK, _FEWEST = 2**20, 2**28, 2**14
# Points of a block that share common paths: many times a kernel's lanes, so that drawing their noise costs nothing.
_POINTS = 2**12


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
    scheme="euler",
    increments="gaussian",
    dtype="float64",
    device="cpu",
    n=None,
    n_shards=1,
    checkpoint=None,
    progress=False,
):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points.

    X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k,  dB_k ~ N(0, dt I)                       (Euler-Maruyama)
    Y = X_(k+1),  X_(k+1) = X_k + (v(X_k, t_k) + v(Y, t_(k+1))) dt / 2 + sigma dB_k       (stochastic Heun)

    A velocity piecewise constant in time is taken at layer (k n_t) // n_steps in step k. Trigonometric fields are
    evaluated as bicubic splines that differ from them by less than 1e-6 max |v| and 1e-6 max |f|.

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
    scheme : {"euler", "heun"}
        Euler-Maruyama, weak order 1, or stochastic Heun, weak order 2 (the noise is additive): for a smooth velocity 20
        steps of it are as good as 1000.
    increments : {"gaussian", "two-point"}
        Law of dB_k. Two-point increments, +-sqrt(dt) in each component, have the moments that weak order 1 asks for
        (and, with "heun", not those of order 2).
    dtype : {"float64", "float32"}
        "float32": displacements of 24 bits, positions of 32 bits of the period; several times faster, with other random
        numbers. With sigma = 0 it is not used.
    device : {"cpu", "cuda"}
        "cuda": the same paths on a GPU, by `fk_cuda.estimate_cuda` (extra "gpu"); for Gaussian Euler-Maruyama, in one
        shard and without a checkpoint.
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
        If points has another shape or is not finite, n_paths, n_steps or n_shards is out of range, an option is
        unknown, rng is no seed, the checkpoint is damaged, in no directory or that of another call, joblib's backend is
        "multiprocessing", or a step in float32 crosses a quarter of a period.
    RuntimeError
        If workers keep dying, or there is no CUDA device.
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
    points = checks.points_array(points)
    n_paths = checks.integer("n_paths", n_paths, at_least=1)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    n = (problem.n or 128) if n is None else checks.integer("n", n, at_least=1)
    if max(n_paths, n_steps, points.size) >= 2**32:
        raise ValueError("n_paths, n_steps and the number of points must be < 2**32, the range of the counters")
    if antithetic and n_paths % 2:
        raise ValueError(f"n_paths must be even with antithetic pairs, got n_paths={n_paths}")
    n_shards = checks.integer("n_shards", n_shards, at_least=1)
    if checks.one_of("device", device, DEVICES) == "cuda":
        if (scheme, increments, n_shards, checkpoint) != ("euler", "gaussian", 1, None):
            raise ValueError("device='cuda' needs scheme='euler', increments='gaussian', n_shards=1 and no checkpoint")
        from pde.feynman_kac import _cuda  # Loads numba's CUDA target.

        options = {"common_paths": common_paths, "antithetic": antithetic, "dtype": dtype, "n": n, "progress": progress}
        return _cuda.estimate_cuda(problem, points, n_paths, n_steps, rng, **options)
    problem.refuse("feynman_kac.estimate")
    key = key_from(rng)
    if problem.sigma == 0:
        n_paths, antithetic = 1, False
    options = Options(
        bool(common_paths),
        bool(antithetic),
        checks.one_of("scheme", scheme, SCHEMES),
        checks.one_of("increments", increments, INCREMENTS),
        checks.one_of("dtype", dtype, DTYPES),
    )
    flat = points.reshape(-1, 2)
    blocks = _blocks(problem, len(flat), n_paths, n_steps, options)
    saved = None
    if checkpoint is not None:
        sizes = {"n_paths": n_paths, "n_steps": n_steps, "n": n, "block": [blocks.points_a_block, blocks.paths_a_block]}
        seed = {"rng": " ".join(map(str, key))}
        saved = Checkpoint(checkpoint, describe(problem, flat, n) | sizes | seed | options._asdict())
    done, mean, squares = (saved and saved.load()) or (0, np.zeros(len(flat)), np.zeros(len(flat)))
    starts = np.mod(flat / problem.length, 1.0)

    def arguments(index):
        block = blocks[index]
        return starts[block.first_point : block.first_point + block.n_points], block

    job = _Job((problem, n_steps, n, key, options))
    share = 2 if antithetic else 1
    with tqdm(
        total=blocks.n_particles_before(len(blocks)),
        initial=blocks.n_particles_before(done),
        disable=None if progress else True,
        unit="path",
        unit_scale=True,
    ) as bar:
        for results in _shards.in_rounds(job, arguments, done, len(blocks), n_shards):
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


def _blocks(problem, n_points, n_paths, n_steps, options):
    """The blocks of a problem: all paths of many points, some paths of one, or some common paths of many points."""
    # A velocity without layers has its tables made again for every block, which must be worth it.
    particles = _BATCH if problem.n_layers is None else min(_BATCH, max(_FEWEST, _WORK // n_steps))
    if options.common_paths:
        points_a_block = max(1, min(n_points, _POINTS, particles))
        paths_a_block = particles // points_a_block
    else:
        paths_a_block = min(n_paths, particles)
        points_a_block = particles // paths_a_block
    # A pair of antithetic paths is one sample.
    pairs = 2 if options.antithetic else 1
    return _shards.Blocks(n_points, n_paths, points_a_block, max(pairs, paths_a_block // pairs * pairs))


@dataclass(frozen=True)
class _Job:
    """What a worker needs to do any block of one call of `estimate`."""

    arguments: tuple = field(compare=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def prepare(self):
        return Walk(*self.arguments).moments


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
        If points or increments has another shape or is not finite (raised by a helper).
    """
    return _follow(problem, points, increments, heun=False)


def stochastic_heun(problem, points, increments):
    """Follow paths of the stochastic Heun method along given increments, in plain NumPy: the reference, as above.

    Y = X_k + v(X_k, t_k) dt + sigma dB_k,  X_(k+1) = X_k + (v(X_k, t_k) + v(Y, t_(k+1))) dt / 2 + sigma dB_k

    Parameters
    ----------
    problem : ConvectionDiffusion
        Fields are evaluated by their own rule, exactly; within a step the layer of a velocity piecewise constant in
        time does not change.
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
        If points or increments has another shape or is not finite (raised by a helper).
    """
    return _follow(problem, points, increments, heun=True)


def _follow(problem, points, increments, heun):
    points = checks.points_array(points)
    increments = checks.finite_array("increments", increments)
    problem.refuse("stochastic_heun" if heun else "euler_maruyama", "sigma")
    if increments.ndim < 2 or increments.shape[-1] != 2 or not len(increments):
        raise ValueError(f"increments must have shape (n_steps, ..., 2), got {increments.shape}")
    n_steps = len(increments)
    dt = problem.horizon / n_steps

    def velocity(x, step, k):
        if problem.n_layers is None:
            return problem.velocity_at(x, min(k * dt, problem.horizon))
        return problem.layer_field(step * problem.n_layers // n_steps)(x)

    x = np.broadcast_to(points, np.broadcast_shapes(points.shape, increments.shape[1:]))
    for k, increment in enumerate(increments):
        noise = problem.sigma * increment
        v = velocity(x, k, k)
        if heun:
            v = (v + velocity(x + v * dt + noise, k, k + 1)) / 2
        x = x + v * dt + noise
    return x
