"""Plain Monte Carlo: the average over paths, in blocks that any worker may compute.

The work is cut into blocks, points x paths, by a rule that depends on the problem alone. The moments of a block depend
on the seed and the block alone, and are merged in the order of the blocks: the result is the same to the last bit
however the blocks are spread over threads, processes and machines of one kind, and wherever a run was interrupted.
"""

import contextlib
import uuid
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments, _shards
from pde.feynman_kac._checkpoint import Checkpoint, describe
from pde.feynman_kac._moments import Moments
from pde.feynman_kac._paths import SCHEMES, Options, make_walk
from pde.feynman_kac._random import INCREMENTS, dtype_name, key_from
from pde.feynman_kac._response import unseen_bias
from pde.feynman_kac._result import result_of
from pde.feynman_kac._tails import Tails
from pde.feynman_kac._velocity_tables import points_per_side

DEVICES = ("cpu", "cuda")

# Most particles per block, 16 MB of positions, so memory does not grow with the number of paths; path-steps per block,
# about a second of one core; and particles enough to keep all cores busy.
_BATCH, _WORK, _FEWEST = 2**20, 2**28, 2**14
# Points per block with common paths: many times a kernel's lanes, so that drawing the noise costs next to nothing.
_POINTS = 2**12


def estimate(
    problem,
    points,
    n_paths=1024,
    n_steps=1000,
    rng=0,
    *,
    bias=False,
    scheme="euler",
    antithetic=False,
    common_paths=False,
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

    With a potential c and a source g, u = E[f(X_T) e^(C_T) + integral of g e^(C_t) dt], C the integral of c along the
    path. With a sigma that depends on x the SDE is Ito's. Steps end where a layer of the velocity ends. Fields are
    evaluated as bicubic splines that differ from trigonometric ones by less than 1e-6 max |v| and 1e-6 max |f|, or
    there is a warning, and by 1e-4 of what varies beside a constant: see `table_errors`.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma = 0, the characteristics are followed by the classical Runge-Kutta method of order 4 instead: one
        path per point, no noise.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Number of paths per point, >= 1; even with antithetic.
    n_steps : int, default=1000
        Number of steps per path, >= the number of layers. `time_steps` returns their sizes: T / n_steps unless layers
        do not divide them.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. The result depends on it alone: not on the number of threads, shards or workers, nor on interruptions.
    bias : bool, default=False
        Follow every path a second time with steps twice as long, and estimate the bias of the steps from it and
        from the integrals of callables over time; n_steps must be even, and dtype "float64".
    scheme : {"euler", "heun"}
        Euler-Maruyama, weak order 1, or stochastic Heun, weak order 2 (for a sigma that does not depend on x): for a
        smooth velocity 20 steps of it are as good as 1000.
    antithetic : bool, default=False
        Paths in pairs with opposite increments; the standard error is that of the pair means.

    Other Parameters
    ----------------
    common_paths : bool, default=False
        One set of Brownian paths for all points: the error is then smooth in space, and no longer independent.
    increments : {"gaussian", "two-point"}
        Law of dB_k. Two-point increments, +-sqrt(dt) in each component, have the moments that weak order 1 needs
        (and, with "heun", not those of order 2).
    dtype : {"float64", "float32"}, or the types of NumPy
        "float32": displacements of 24 bits, positions of 32 bits of the period; several times faster, with other random
        numbers. These have 16 bits, |z| < 4.4 (32 in "float64", |z| < 6.8), which leaves up to 1e-3 of max |f| as a
        bias of one step, and less of more. Not with a potential, a source or a sigma that depends on x. With sigma = 0
        it is not used.
    device : {"cpu", "cuda"}
        "cuda": the same paths on a GPU (extra "gpu"), in float32 those of "float64" to about 1e-6 of the period; with
        as many steps in each layer of the velocity, and without bias, a potential, a source or a sigma that depends
        on x. A worker of several shards takes the first device that it sees: set CUDA_VISIBLE_DEVICES for each.
    n : int, optional
        Points per side on which velocity, potential and source given as callables of x are sampled at each step; by
        default those of the problem's fields, or 128, refined up to 512 until samples miss less than 1e-4 of the
        maximum. A RuntimeWarning where they miss 1e-2 of it, or 1e-4 on average.
    n_shards : int, default=1
        With K > 1, the work goes to K shards at a time, which run where `joblib.parallel_config` sends them: on a
        backend "loky" with its n_jobs, "dask", "ray" or "threading"; without one, in this process. A few shards per
        worker even out workers of unequal speed. If a worker dies, others repeat its work.
    checkpoint : str or os.PathLike, optional
        File in which the moments are saved, at most every two seconds. A call with the same arguments resumes from it
        and returns the same result to the last bit as without an interruption, from a finished file at once. It is
        not removed. Callables are recognised by their code, constants and captured values, and by their values on the
        grid of n points per side, the velocity at five times.
    progress : bool, default=False
        Show a progress bar, in notebooks a widget.

    Returns
    -------
    Estimate
        `mean` and `stderr` of shape (...).

    Raises
    ------
    ValueError
        If points has another shape or is not finite, n_paths, n_steps or n_shards is out of range, an option is
        unknown or does not go with another or with the problem, rng is not a seed, the checkpoint is damaged, has no
        directory or belongs to another call, joblib's backend is "multiprocessing", the drift of a step in float32
        crosses a quarter of a period, or sigma sqrt(horizon) is above 2**26 periods (in float32, 2**10).
    RuntimeError
        If workers keep dying, or there is no CUDA device.
    FloatingPointError
        If the result or its standard error is not finite.

    Warns
    -----
    RuntimeWarning
        If the samples show too little of the terminal data for the standard error to be trusted: all of them equal at
        some point, fewer than ten on the rarer side of a two-valued result, or large values that all may have missed.
        If a trigonometric field has modes that no table of 256 MB holds to 1e-6 of its maximum. With bias=True, if
        steps are longer than 1 / max |grad v|, or too long for the variation of callables in time.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.constant_velocity()
    >>> e = estimate(problem, [[0.1, 0.2], [0.5, 0.3]], n_paths=4096, n_steps=10, rng=1)
    >>> bool((np.abs(e.mean - problem.exact([[0.1, 0.2], [0.5, 0.3]])) < 5 * e.stderr).all())
    True
    """
    points, starts = _arguments.places(problem, points)
    n_paths, n_steps = _arguments.counts(n_paths, n_steps, points, antithetic=antithetic)
    n = points_per_side(problem, n)
    n_shards = checks.integer("n_shards", n_shards, at_least=1)
    ways = Options(
        bool(common_paths),
        bool(antithetic),
        checks.one_of("scheme", scheme, SCHEMES),
        checks.one_of("increments", increments, INCREMENTS),
        dtype_name(dtype),
        bool(bias),
    )
    cuda = None
    if checks.one_of("device", device, DEVICES) == "cuda":
        from pde.feynman_kac import _cuda as cuda  # Loads numba's CUDA target.

        cuda.refuse_unless_possible(problem, n_steps, ways)
    key = key_from(rng)
    if _arguments.is_noiseless(problem):
        # Too few paths for a GPU.
        n_paths, ways, cuda = 1, ways._replace(antithetic=False), None
    call = problem, n_steps, n, key, ways
    job = _CudaJob((*call, cuda.layout_of(len(starts), n_paths, ways))) if cuda else _Job(call)
    share = 2 if ways.antithetic else 1
    blocks = (cuda.blocks_of if cuda else _blocks)(problem, len(starts), n_paths, n_steps, ways)
    moments = _merged(job, starts, blocks, share, n_shards, _saved(checkpoint, job, points, blocks), progress)
    unseen = _unseen(problem, starts, n, n_steps, ways) if ways.bias else None
    result = result_of(problem, moments, points.shape[:-1], n_paths, n_steps, ways, n, unseen)
    if problem.n_terminals is None:
        Tails(problem, starts, n).warn(result.stderr, result.n_samples, zeros=False)
    return result


def _unseen(problem, starts, n, n_steps, ways):
    noiseless, heun = _arguments.is_noiseless(problem), ways.scheme == "heun"
    rule, order = ("simpson", 4) if noiseless else ("trapezoid", 2) if heun else ("left", 1)
    return unseen_bias(problem, starts, n, n_steps, rule, order)


def _saved(path, job, points, blocks):
    """The checkpoint of a call; None without a path."""
    if path is None:
        return None
    problem, n_steps, n, key, ways, *_ = job.arguments
    sizes = {"n_paths": blocks.n_paths, "n_steps": n_steps, "n": n} | job.place
    block = {"block": [blocks.points_per_block, blocks.paths_per_block], "rng": " ".join(map(str, key))}
    return Checkpoint(path, describe(problem, points.reshape(-1, 2), n) | sizes | block | ways._asdict())


def _merged(job, starts, blocks, share, n_shards, saved, progress):
    """Moments of all blocks, merged in their order: mean and squares of shape (n_results, n_points)."""
    done, mean, squares = (saved and saved.load()) or (0, None, None)

    def arguments(index):
        block = blocks[index]
        return starts[block.first_point : block.first_point + block.n_points], block

    with _bar(progress, blocks, done) as bar:
        for results in _shards.in_rounds(job, arguments, done, len(blocks), n_shards):
            for result in results:
                block = blocks[done]
                if mean is None:
                    mean, squares = np.zeros((2, len(result[1]), len(starts)))
                here = slice(block.first_point, block.first_point + block.n_points)
                part = Moments(mean[:, here], squares[:, here], block.first_path // share)
                part.merge(*result)
                mean[:, here], squares[:, here] = part.mean, part.products
                done += 1
                if bar is not None:
                    bar.update(block.n_points * block.n_paths)
            if saved and (saved.due or done == len(blocks)):
                saved.save(done, mean, squares)
    if mean is None:
        mean, squares = np.zeros((2, job.n_results, 0))
    return Moments(mean, squares, blocks.n_paths // share)


def _bar(progress, blocks, done):
    if not progress:
        return contextlib.nullcontext()
    from tqdm.auto import tqdm  # It detects notebooks.

    sizes = {"total": blocks.n_particles_before(len(blocks)), "initial": blocks.n_particles_before(done)}
    return tqdm(**sizes, unit="path", unit_scale=True)


def _blocks(problem, n_points, n_paths, n_steps, options):
    """The blocks of a problem: all paths of many points, some paths of one, or some common paths of many points."""
    # Tables of a velocity without layers are made anew for every block, which must be worth it.
    particles = _BATCH if problem.n_layers is None else min(_BATCH, max(_FEWEST, _WORK // n_steps))
    if options.common_paths:
        points_per_block = max(1, min(n_points, _POINTS, particles))
        paths_per_block = particles // points_per_block
    else:
        paths_per_block = min(n_paths, particles)
        points_per_block = particles // paths_per_block
    # A pair of antithetic paths is one sample.
    pairs = 2 if options.antithetic else 1
    return _shards.Blocks(n_points, n_paths, points_per_block, max(pairs, paths_per_block // pairs * pairs))


@dataclass(frozen=True)
class _Job:
    """What a worker needs to compute any block of one call of `estimate`."""

    arguments: tuple = field(compare=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    # What a checkpoint says of the device: nothing of the first one that there was.
    place: ClassVar[dict] = {}

    def prepare(self):
        return make_walk(*self.arguments).moments

    @property
    def n_results(self):
        """Number of results per point: terminal data, and their differences for the bias."""
        return (self.arguments[0].n_terminals or 1) * (1 + self.arguments[4].bias)


class _CudaJob(_Job):
    """The same on the first CUDA device that a worker sees."""

    place: ClassVar[dict] = {"device": "cuda"}

    def prepare(self):
        from pde.feynman_kac import _cuda

        return _cuda.Walk(*self.arguments).moments
