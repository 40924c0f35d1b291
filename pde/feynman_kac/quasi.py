"""Randomised quasi-Monte-Carlo for the Feynman-Kac formula.

u(x, 0) = integral over (0, 1)**(2 n_steps) of f(X_T),  X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k

The increments come from a scrambled Sobol sequence in the order of a Brownian bridge: the first, best distributed
coordinates set the end of the path, the next its middle, and so on. Independent scrambles give the standard error.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.special

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._general_paths import GeneralPaths, Ways
from pde.feynman_kac._kernels_coupled import advance_given, bridge
from pde.feynman_kac._moments import refuse_unless_finite, standard_error, warn_if_rare
from pde.feynman_kac._sobol import LARGEST_DIMENSION, sobol_engine
from pde.feynman_kac._tails import Tails
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables

__all__ = ["QuasiEstimate", "bridge_order", "quasi_estimate", "sobol_increments"]

# Normal numbers held at once: 32 MB, so memory does not grow with the number of paths.
_NUMBERS = 2**22
# Increments that are given need no key.
_NO_KEY = np.zeros(2, np.uint64)
# Particles advanced together.
_BATCH = 2**19


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
        Number of paths per point and randomisation.
    n_steps : int
        Number of steps per path.
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
        Number of paths per point and randomisation, a power of two: the sequence is balanced in these numbers.
    n_steps : int, default=64
        Number of steps per path, at least one per layer of the velocity, which steps end on; at most 10600, for which
        direction numbers are tabulated.
    n_randomisations : int, default=16
        Number of independent scrambles, >= 2.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.

    Other Parameters
    ----------------
    n : int, optional
        Points per side on which callables of x are sampled at each step, as for `feynman_kac.estimate`.

    Returns
    -------
    QuasiEstimate
        `mean` and `stderr` of shape (...).

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, sigma = 0 or depends on x,
        or there are several terminal data.
    FloatingPointError
        If the result or its standard error is not finite.

    Warns
    -----
    RuntimeWarning
        If the samples may have missed large values of the terminal data, whose share stderr does not show.

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
    points, start = _arguments.places(problem, points)
    n_paths, n_steps = _arguments.counts(n_paths, n_steps, points)
    n_randomisations = checks.integer("n_randomisations", n_randomisations, at_least=2)
    if n_paths & (n_paths - 1) or n_paths > 2**30:
        raise ValueError(f"n_paths must be a power of two <= 2**30, got n_paths={n_paths}")
    if 2 * n_steps > LARGEST_DIMENSION:
        raise ValueError(f"n_steps must be <= {LARGEST_DIMENSION // 2} for Sobol points, got n_steps={n_steps}")
    _arguments.needs_noise(problem)
    problem.refuse("quasi_estimate", "terminals")
    _arguments.refuse_varying_sigma(problem, "quasi_estimate")
    steps = TimeSteps(problem, n_steps)
    sums = _Sums(problem, steps, n)
    means = np.zeros((n_randomisations, len(start)))
    for randomisation, stream in enumerate(_arguments.random_numbers(rng).spawn(n_randomisations)):
        for increments in sobol_increments(n_paths, n_steps, stream, scale=sums.scale):
            means[randomisation] += sums(start, increments) / n_paths
    stderr = standard_error(means)
    refuse_unless_finite(means, stderr, n_randomisations)
    size = sums.velocity.n
    warn_if_rare(means.mean(axis=0), stderr, n_randomisations * n_paths, *_arguments.sample_range(problem, size))
    Tails(problem, start, size).warn(stderr, n_randomisations * n_paths, zeros=False)
    shape = points.shape[:-1]
    return QuasiEstimate(
        mean=means.mean(axis=0).reshape(shape),
        stderr=stderr.reshape(shape),
        means=means.reshape(n_randomisations, *shape),
        n_paths=n_paths,
        n_steps=n_steps,
    )


class _Sums:
    """Sums over given paths of f(X_T), or of the Feynman-Kac formula, for any starting points (n_points, 2)."""

    def __init__(self, problem, steps, n):
        self.problem, self.steps = problem, steps
        self.velocity, self.general = VelocityTables(problem, n), None
        self.scale = np.sqrt(steps.dt)
        if not _arguments.is_plain(problem):
            self.general = GeneralPaths(problem, steps, n)
            return
        self.scale = self.scale * (problem.sigma / problem.length)
        if len(steps.runs) == 1:
            self.scale = float(self.scale[0])

    def __call__(self, start, increments):
        """Sums (n_points,) along increments (n_steps, 2, n_paths) of standard deviation `scale`."""
        n_paths = increments.shape[-1]
        sums, block = [np.zeros(0)], max(1, _BATCH // n_paths)
        for first in range(0, len(start), block):
            values = self._values(start[first : first + block], increments)
            # Overflow shows in the result, which is checked.
            with np.errstate(over="ignore", invalid="ignore"):
                sums.append(values.sum(axis=1))
        return np.concatenate(sums)

    def _values(self, start, increments):
        if self.general is not None:
            return self.general.samples(start, increments.shape[-1], Ways(), _NO_KEY, increments)[0]
        x, y = (np.repeat(start[:, i, None], increments.shape[-1], axis=1) for i in (0, 1))
        for piece in self.velocity.pieces(self.steps):
            tables = piece.tables, piece.layers[:, 0], *self.velocity.size
            advance_given(x, y, increments, *tables, piece.dt, piece.first)
        return self.velocity.terminal.values(x, y)


def sobol_increments(n_paths, n_steps, rng, *, scale=1.0):
    """Yield Brownian increments from one scrambled Sobol sequence, in the order of a Brownian bridge, in batches.

    Parameters
    ----------
    n_paths : int
        Number of paths, a power of two.
    n_steps : int
        Number of steps.
    rng : numpy.random.Generator
        Source of the scramble.
    scale : float or ndarray of shape (n_steps,), default=1.0
        Standard deviation of the increments of each step.

    Yields
    ------
    ndarray of shape (n_steps, 2, m)
        Increments of m paths, m a power of two.

    Raises
    ------
    ValueError
        If n_paths is not a power of two, or n_steps < 1.
    """
    n_paths = checks.integer("n_paths", n_paths, at_least=1)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    if n_paths & (n_paths - 1):
        raise ValueError(f"n_paths must be a power of two, got n_paths={n_paths}")
    scale = checks.finite_array("scale", scale)
    # `seed`, because `rng` is new in SciPy 1.15.
    engine = sobol_engine(2 * n_steps, scramble=True, seed=rng)
    one = np.ndim(scale) == 0
    order, weights = bridge_order(n_steps) if one else bridge_order(n_steps, np.square(scale))
    batch = min(n_paths, 2 ** max(0, int(math.log2(max(1, _NUMBERS // (2 * n_steps))))))
    for _ in range(n_paths // batch):
        u = engine.random(batch)
        # The sequence has 30 bits: 0 stands for the first 2**-30, of which the middle is taken.
        normals = scipy.special.ndtri(np.clip(u, 2.0**-31, 1 - 2.0**-31))
        increments = np.empty((n_steps, 2, batch))
        bridge(normals, order, weights, float(scale) if one else 1.0, increments)
        yield increments


def bridge_order(n_steps, dt=1.0):
    """Return the order in which a Brownian bridge sets the values of a path at t_0 = 0, t_1, ..., t_n.

    W_m = (1 - w) W_l + w W_r + s Z,  w = (t_m - t_l) / (t_r - t_l),  s = sqrt((t_m - t_l) (t_r - t_m) / (t_r - t_l))
    W_n = sqrt(t_n) Z  comes first

    Parameters
    ----------
    n_steps : int
        Number of steps.
    dt : float or ndarray of shape (n_steps,), default=1.0
        Sizes of the steps.

    Returns
    -------
    order : ndarray of shape (n_steps, 3)
        m, l and r of each draw, the widest gaps first.
    weights : ndarray of shape (n_steps, 2)
        w and s of each draw.

    Raises
    ------
    ValueError
        If n_steps < 1, or dt is not positive or has another shape.
    """
    n_steps, dt = checks.integer("n_steps", n_steps, at_least=1), checks.finite_array("dt", dt)
    if dt.shape not in ((), (n_steps,)) or not (dt > 0).all():
        raise ValueError(f"dt must be one step > 0, or {n_steps} of them, got dt={dt.tolist()}")
    t = np.concatenate([[0.0], np.cumsum(np.broadcast_to(dt, (n_steps,)))])
    order, gaps = [(n_steps, 0, n_steps)], [(0, n_steps)]
    # First in, first out: every gap of a generation is halved before the next generation.
    for left, right in gaps:
        if right - left < 2:
            continue
        middle = (left + right) // 2
        order.append((middle, left, right))
        gaps += [(left, middle), (middle, right)]
    order = np.array(order, dtype=np.int64)
    middle, left, right = t[order[1:]].T
    weights = np.empty((n_steps, 2))
    weights[0] = 0.0, math.sqrt(t[-1])
    weights[1:, 0] = (middle - left) / (right - left)
    weights[1:, 1] = np.sqrt((middle - left) * (right - middle) / (right - left))
    return order, weights
