"""Randomised quasi-Monte-Carlo for the Feynman-Kac formula.

u(x, 0) = integral over (0, 1)**(2 n_steps) of f(X_T),  X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k

The increments come from a scrambled Sobol sequence in the order of a Brownian bridge: the first, best distributed
coordinates set the end of the path, the next its middle, and so on. Independent scrambles give the standard error.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats

from pde import checks
from pde.feynman_kac._kernels_coupled import advance_given, bridge
from pde.feynman_kac._path_fields import PathFields

__all__ = ["QuasiEstimate", "bridge_order", "quasi_estimate", "sobol_increments"]

# Normal numbers held at once: 32 MB, so memory does not grow with the number of paths.
_NUMBERS = 2**22
# Particles advanced together.
_BATCH = 2**19
# The largest dimension for which direction numbers are tabulated (Joe & Kuo 2008).
_LARGEST_DIMENSION = scipy.stats.qmc.Sobol.MAXDIM


@dataclass(frozen=True, eq=False)
class QuasiEstimate:
    """A randomised quasi-Monte-Carlo estimate of u(x, 0).

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f: the average over the randomisations.
    stderr : ndarray of shape (...)
        Its standard error, with n_randomisations - 1 degrees of freedom (Student's t).
    means : ndarray of shape (n_randomisations, ...)
        Estimate of each randomisation.
    n_paths : int
        Paths a point and randomisation.
    n_steps : int
        Steps a path.
    """

    mean: np.ndarray
    stderr: np.ndarray
    means: np.ndarray
    n_paths: int
    n_steps: int


def quasi_estimate(problem, points, n_paths=1024, n_steps=64, n_randomisations=16, rng=0, *, n=None):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points from scrambled Sobol points.

    X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k,  B by a Brownian bridge from Sobol points in 2 n_steps dimensions

    All starting points share their increments, as with `common_paths`: errors are not independent from point to point.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma > 0.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Paths a point and randomisation, a power of two: the points of the sequence are balanced in these numbers.
    n_steps : int, default=64
        Steps a path, >= 1; at most 10600, for which direction numbers are tabulated.
    n_randomisations : int, default=16
        Independent scrambles, >= 2.
    rng : int or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled at each step; by default those of
        the terminal data, or 128.

    Returns
    -------
    QuasiEstimate
        `mean` and `stderr` of shape (...).

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, or sigma = 0.
    FloatingPointError
        If the result is not finite.

    References
    ----------
    .. [1] Caflisch, Morokoff & Owen 1997, Valuation of mortgage-backed securities using Brownian bridges.
    .. [2] Owen 1995, Randomly permuted (t, m, s)-nets and (t, s)-sequences.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.constant_velocity()
    >>> e = quasi_estimate(problem, [[0.1, 0.2]], n_paths=1024, n_steps=4)
    >>> bool(abs(e.mean[0] - problem.exact([0.1, 0.2])) < 1e-3)
    True
    """
    points = checks.points_array(points)
    n_paths = checks.integer("n_paths", n_paths, at_least=1)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    n_randomisations = checks.integer("n_randomisations", n_randomisations, at_least=2)
    if n_paths & (n_paths - 1) or n_paths > 2**30:
        raise ValueError(f"n_paths must be a power of two <= 2**30, got n_paths={n_paths}")
    if 2 * n_steps > _LARGEST_DIMENSION:
        raise ValueError(f"n_steps must be <= {_LARGEST_DIMENSION // 2} for Sobol points, got n_steps={n_steps}")
    problem.refuse("quasi_estimate")
    if problem.sigma == 0:
        raise ValueError("sigma must be > 0: without noise one characteristic is the answer, see feynman_kac.estimate")
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(checks.integer("rng", rng, at_least=0))
    fields = PathFields(problem, n)
    start = np.mod(points.reshape(-1, 2) / problem.length, 1.0)
    scale = problem.sigma * math.sqrt(problem.horizon / n_steps) / problem.length
    means = np.zeros((n_randomisations, len(start)))
    for randomisation, stream in enumerate(rng.spawn(n_randomisations)):
        for increments in sobol_increments(n_paths, n_steps, stream, scale=scale):
            means[randomisation] += _sums(fields, start, increments, n_steps) / n_paths
    if not np.isfinite(means).all():
        raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
    shape = points.shape[:-1]
    return QuasiEstimate(
        mean=means.mean(axis=0).reshape(shape),
        stderr=(means.std(axis=0, ddof=1) / math.sqrt(n_randomisations)).reshape(shape),
        means=means.reshape(n_randomisations, *shape),
        n_paths=n_paths,
        n_steps=n_steps,
    )


def _sums(fields, start, increments, n_steps):
    """Sums over the paths of f(X_T), shape (n_points,)."""
    n_paths = increments.shape[-1]
    dt = fields.problem.horizon / n_steps
    sums, block = [], max(1, _BATCH // n_paths)
    for first in range(0, len(start), block):
        x, y = (np.repeat(start[first : first + block, i, None], n_paths, axis=1) for i in (0, 1))
        for stack, layers, step in fields.velocity(n_steps):
            degree, n = fields.size
            advance_given(x, y, increments, stack, layers, degree, n, dt, step)
        # Overflow shows in the result, which is checked.
        with np.errstate(over="ignore"):
            sums.append(fields.terminal(x, y).sum(axis=1))
    return np.concatenate(sums) if sums else np.zeros(0)


def sobol_increments(n_paths, n_steps, rng, *, scale=1.0):
    """Yield Brownian increments from one scrambled Sobol sequence, in the order of a Brownian bridge, in batches.

    Parameters
    ----------
    n_paths : int
        Paths, a power of two.
    n_steps : int
        Steps.
    rng : numpy.random.Generator
        Source of the scramble.
    scale : float, default=1.0
        Standard deviation of an increment.

    Yields
    ------
    ndarray of shape (n_steps, 2, m)
        Increments of m paths, m a power of two.
    """
    # `seed`, because SciPy knows `rng` from version 1.15 on only.
    engine = scipy.stats.qmc.Sobol(2 * n_steps, scramble=True, seed=rng)
    order, weights = bridge_order(n_steps)
    batch = min(n_paths, 2 ** max(0, int(math.log2(max(1, _NUMBERS // (2 * n_steps))))))
    for _ in range(n_paths // batch):
        u = engine.random(batch)
        # The sequence has 30 bits: 0 stands for the first 2**-30, of which the middle is taken.
        normals = scipy.special.ndtri(np.clip(u, 2.0**-31, 1 - 2.0**-31))
        increments = np.empty((n_steps, 2, batch))
        bridge(normals, order, weights, scale, increments)
        yield increments


def bridge_order(n_steps):
    """Return the order in which a Brownian bridge sets the values of a path at 0, 1, ..., n_steps.

    W_m = (1 - w) W_l + w W_r + s Z,  w = (m - l) / (r - l),  s = sqrt((m - l) (r - m) / (r - l))
    W_n = sqrt(n) Z  comes first

    Parameters
    ----------
    n_steps : int
        Steps, of variance 1 each.

    Returns
    -------
    order : ndarray of shape (n_steps, 3)
        m, l and r of each draw, the widest gaps first.
    weights : ndarray of shape (n_steps, 2)
        w and s of each draw.
    """
    order, weights = [(n_steps, 0, n_steps)], [(0.0, math.sqrt(n_steps))]
    gaps = [(0, n_steps)]
    # First in, first out: every gap of a generation is halved before the next generation.
    for left, right in gaps:
        if right - left < 2:
            continue
        middle = (left + right) // 2
        order.append((middle, left, right))
        width = right - left
        weights.append(((middle - left) / width, math.sqrt((middle - left) * (right - middle) / width)))
        gaps += [(left, middle), (middle, right)]
    return np.array(order, dtype=np.int64), np.array(weights)
