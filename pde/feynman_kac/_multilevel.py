"""Multilevel Monte Carlo for the Feynman-Kac formula: a prescribed accuracy at the least cost.

E[f(X^L)] = E[f(X^0)] + sum_(l=1..L) E[f(X^l) - f(X^(l-1))]                        (Giles 2008)

X^l is the Euler-Maruyama path of n_l = base 2**l steps, and both paths of a difference have the same Brownian
increments: a coarse increment is the sum of two fine ones. The noise is additive, so paths have strong order 1, the
variance of a difference is O(h**2), and a root-mean-square error eps costs O(eps**-2) path-steps, where plain Monte
Carlo asks for O(eps**-3).
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import checks
from pde.feynman_kac._kernels_coupled import ALONE, COARSE, advance_pair
from pde.feynman_kac._moments import Moments
from pde.feynman_kac._path_fields import PathFields
from pde.feynman_kac._random import key_from

__all__ = ["MultilevelEstimate", "NotConvergedError", "level_key", "level_samples", "multilevel"]

# Particles advanced together: memory does not grow with the number of paths.
_BATCH = 2**19
# Steps of the coarsest level that a steep velocity may ask for; `base` can ask for more.
_COARSEST_LIMIT = 1024


class NotConvergedError(ArithmeticError):
    """The accuracy asked was not reached; the message says what stood in the way and what would help."""


@dataclass(frozen=True, eq=False)
class MultilevelEstimate:
    """A multilevel estimate of u(x, 0), and what its levels were.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Its standard error (without the bias).
    bias_estimate : float
        Estimate of the root mean square over the points of the bias that the finest step leaves.
    n_steps : ndarray of shape (n_levels,)
        Steps of the (fine) paths of each level.
    n_paths : ndarray of shape (n_levels,)
        Samples of each level at each point.
    means : ndarray of shape (n_levels, ...)
        Mean of f(X^l) - f(X^(l-1)) at each point; of f(X^0) for the first level.
    variances : ndarray of shape (n_levels,)
        Its variance for one sample, averaged over the points.
    costs : ndarray of shape (n_levels,)
        Path-steps of each level, over all points, coarse paths included.
    """

    mean: np.ndarray
    stderr: np.ndarray
    bias_estimate: float
    n_steps: np.ndarray
    n_paths: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    costs: np.ndarray

    @property
    def cost(self):
        """Path-steps in all."""
        return int(self.costs.sum())

    @property
    def error_estimate(self):
        """Root-mean-square error over the points, bias and noise together."""
        return float(np.sqrt(self.bias_estimate**2 + np.mean(self.stderr**2)))


def multilevel(
    problem,
    points,
    *,
    stderr=1e-3,
    rng=0,
    base=None,
    max_levels=10,
    n_pilot=None,
    bias_share=0.25,
    max_cost=1e12,
    n=None,
):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points to a root-mean-square error over the points.

    mean_x (bias(x)**2 + Var(x)) <= stderr**2,  bias**2 <= bias_share stderr**2
    N_l = (sum_k sqrt(V_k C_k)) sqrt(V_l / C_l) / ((1 - bias_share) stderr**2)                  (Giles 2008, (12))

    with V_l the variance of level l averaged over the points and C_l its path-steps a sample. Levels are added until
    max(b_L, b_(L-1) / 2) is within the bias allowed, b_l being the root mean square over the points of the level's
    mean, noise included: with weak order 1 the bias left is as large as the last level's mean.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma > 0.
    points : array_like of shape (..., 2)
        Starting points, at least one; the levels' numbers of samples are the same for all.
    stderr : float, default=1e-3
        Root-mean-square error asked, in units of f; > 0.
    rng : int or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.
    base : int, optional
        Steps of the coarsest level; by default 3 T max |grad v|, at least 4 and at most 1024, rounded up to a multiple
        of the number of layers of a velocity piecewise constant in time, so that no step skips a layer.
    max_levels : int, default=10
        Levels at most, >= 3: the finest has base 2**(max_levels - 1) steps.
    n_pilot : int, optional
        Samples of each level at each point that its variance is first read from, >= 2; by default 2048 over all
        points and at least 16.
    bias_share : float, default=0.25
        Part of the mean square error left to the bias, in (0, 1).
    max_cost : float, default=1e12
        Path-steps at most.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled at each step; by default those of
        the terminal data, or 128.

    Returns
    -------
    MultilevelEstimate
        `mean` and `stderr` of shape (...); `bias_estimate` and the levels.

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, or sigma = 0.
    NotConvergedError
        If the bias is not within its share at the last level, or the samples would cost more than max_cost.
    FloatingPointError
        If the result is not finite.

    References
    ----------
    .. [1] Giles 2008, Multilevel Monte Carlo path simulation, Operations Research 56.
    .. [2] Giles 2015, Multilevel Monte Carlo methods, Acta Numerica 24.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.eigenfunction()
    >>> e = multilevel(problem, [[0.2, 0.3], [0.7, 0.1]], stderr=3e-3)
    >>> bool((np.abs(e.mean - problem.exact([[0.2, 0.3], [0.7, 0.1]])) < 5 * 3e-3).all())
    True
    """
    points = checks.points_array(points)
    if not points.size:
        raise ValueError(f"points must hold at least one point, got shape {points.shape}")
    stderr = checks.real("stderr", stderr, positive=True)
    max_cost = checks.real("max_cost", max_cost, positive=True)
    bias_share = checks.real("bias_share", bias_share, positive=True)
    if bias_share >= 1:
        raise ValueError(f"bias_share must lie in (0, 1), got bias_share={bias_share:g}")
    max_levels = checks.integer("max_levels", max_levels, at_least=3)
    problem.refuse("multilevel")
    if problem.sigma == 0:
        raise ValueError("sigma must be > 0: without noise one characteristic is the answer, see feynman_kac.estimate")
    fields = PathFields(problem, n)
    base = _coarsest(problem, fields.n) if base is None else checks.integer("base", base, at_least=1)
    if base * 2 ** (max_levels - 1) >= 2**32:
        raise ValueError("base * 2**(max_levels - 1) must be < 2**32, the range of the counters")
    starts = points.reshape(-1, 2)
    default_pilot = max(16, -(-2048 // len(starts)))
    n_pilot = default_pilot if n_pilot is None else checks.integer("n_pilot", n_pilot, at_least=2)
    levels = _Levels(fields, starts, base, n_pilot, key_from(rng), max_cost)
    for _ in range(3):
        levels.add()
    while True:
        levels.sample((1 - bias_share) * stderr**2)
        if levels.bias**2 <= bias_share * stderr**2:
            break
        if len(levels.moments) == max_levels:
            raise NotConvergedError(_remedy(levels, stderr, bias_share, max_levels))
        levels.add()
    return levels.result(points.shape[:-1])


def level_key(key, level):
    """Return the Philox key of a level, so that levels are independent.

    Parameters
    ----------
    key : ndarray of shape (2,)
        As from `random_numbers.key_from`.
    level : int
        0 for the coarsest.

    Returns
    -------
    ndarray of shape (2,)
    """
    return np.random.SeedSequence([*key.tolist(), level]).generate_state(2, np.uint32).astype(np.uint64)


def level_samples(fields, starts, n_steps, n_paths, key, *, coupled, first_point=0, first_path=0):
    """Draw samples of one level: f(X^l) - f(X^(l-1)), or f(X^0).

    Parameters
    ----------
    fields : PathFields
        Problem with its tables.
    starts : ndarray of shape (n_points, 2)
        Starting points.
    n_steps : int
        Steps of the fine paths; even if coupled.
    n_paths : int
        Samples a point.
    key : ndarray of shape (2,)
        As from `level_key`.
    coupled : bool
        Take off the value of the path of half as many steps.
    first_point, first_path : int, default=0
        Counters of the first point and path.

    Returns
    -------
    ndarray of shape (n_points, n_paths)
    """
    problem = fields.problem
    dt = problem.horizon / n_steps
    scale = problem.sigma * math.sqrt(dt) / problem.length
    start = np.mod(starts / problem.length, 1.0)
    x, y = (np.repeat(start[:, i, None], n_paths, axis=1) for i in (0, 1))
    cx, cy = (x.copy(), y.copy()) if coupled else (x, y)
    second = COARSE if coupled else ALONE
    for stack, layers, step in fields.velocity(n_steps):
        degree, n = fields.size
        advance_pair(
            x, y, cx, cy, stack, layers, degree, n, dt, scale, step, first_path, first_point, second, key
        )  # fmt: skip
    values = fields.terminal(x, y)
    return values - fields.terminal(cx, cy) if coupled else values


class _Levels:
    """The levels sampled so far."""

    def __init__(self, fields, starts, base, n_pilot, key, max_cost):
        self.fields, self.starts, self.base, self.key = fields, starts, base, key
        self.n_pilot, self.max_cost = n_pilot, max_cost
        self.moments = []

    @property
    def n_steps(self):
        return self.base * 2 ** np.arange(len(self.moments))

    @property
    def unit_costs(self):
        """Path-steps of a sample at one point."""
        return self.n_steps * np.where(np.arange(len(self.moments)) > 0, 1.5, 1.0)

    @property
    def counts(self):
        return np.array([m.count for m in self.moments])

    @property
    def variances(self):
        return np.array([m.covariance[0, 0].mean() for m in self.moments])

    @property
    def bias(self):
        """Root mean square over the points of the bias left: that of the last level's mean, or half the one before."""
        b = [np.sqrt(np.mean(m.mean[0] ** 2)) for m in self.moments[-2:]]
        return max(b[1], b[0] / 2) if len(self.moments) > 2 else math.inf

    def add(self):
        """Add a level with its pilot samples."""
        self.moments.append(Moments(1, len(self.starts)))
        self._draw(len(self.moments) - 1, self.n_pilot)

    def sample(self, variance):
        """Draw until the variance of the sum, averaged over the points, is within the one allowed."""
        while True:
            per_level = np.sqrt(np.maximum(self.variances, 0.0) * self.unit_costs)
            wanted = np.ceil(per_level.sum() * per_level / self.unit_costs / variance)
            cost = np.maximum(wanted, self.counts) @ self.unit_costs * len(self.starts)
            if not np.isfinite(cost):
                raise FloatingPointError("a level is not finite: check velocity and terminal data for overflow")
            if cost > self.max_cost or wanted.max() >= 2**32:
                raise NotConvergedError(
                    f"the samples asked for cost {cost:.2g} path-steps > max_cost={self.max_cost:.2g}: ask for a "
                    "larger stderr or fewer points, or raise max_cost"
                )
            # One per cent more would change the error by half a per cent: not worth another round.
            short = wanted > self.counts * 1.01
            if not short.any():
                return
            for level in np.flatnonzero(short):
                self._draw(level, int(wanted[level]) - self.moments[level].count)

    def _draw(self, level, n_paths):
        moments = self.moments[level]
        key, n_steps = level_key(self.key, level), self.base * 2**level
        paths = max(1, min(n_paths, _BATCH // min(len(self.starts), _BATCH)))
        points = max(1, _BATCH // paths)
        first = moments.count
        for start in range(first, first + n_paths, paths):
            count = min(paths, first + n_paths - start)
            parts = [
                level_samples(
                    self.fields, self.starts[p : p + points], n_steps, count, key,
                    coupled=level > 0, first_point=p, first_path=start,
                )
                for p in range(0, len(self.starts), points)
            ]  # fmt: skip
            moments.merge(np.concatenate(parts))

    def result(self, shape):
        means = np.stack([m.mean[0] for m in self.moments])
        variances = np.stack([m.covariance[0, 0] for m in self.moments])
        if not np.isfinite(means).all():
            raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
        return MultilevelEstimate(
            mean=means.sum(axis=0).reshape(shape),
            stderr=np.sqrt((variances / self.counts[:, None]).sum(axis=0)).reshape(shape),
            bias_estimate=float(self.bias),
            n_steps=self.n_steps,
            n_paths=self.counts,
            means=means.reshape(-1, *shape),
            variances=variances.mean(axis=1),
            costs=np.round(self.counts * self.unit_costs * len(self.starts)).astype(np.int64),
        )


def _coarsest(problem, n):
    """Steps of the coarsest level: three in the time 1 / max |grad v| in which neighbouring paths part."""
    n_layers = problem.n_layers or 1
    n_times = problem.n_layers or 4
    times = np.arange(n_times) * (problem.horizon / n_times)
    steepest = max(problem.velocity_field(t, n).jacobian_sup_norm() for t in times)
    wanted = min(max(4, math.ceil(3 * problem.horizon * steepest)), _COARSEST_LIMIT)
    return n_layers * -(-wanted // n_layers)


def _remedy(levels, stderr, bias_share, max_levels):
    """What to do about a bias that is too large at the last level."""
    b = [float(np.sqrt(np.mean(m.mean[0] ** 2))) for m in levels.moments]
    finest = int(levels.n_steps[-1])
    text = (
        f"the bias is estimated at {levels.bias:.2g} > {math.sqrt(bias_share) * stderr:.2g} with {finest} steps "
        f"(level {max_levels - 1}); "
    )
    if b[-1] > 0.75 * b[-2]:
        return text + (
            f"it does not fall from level to level ({b[-2]:.2g}, {b[-1]:.2g}), as for a velocity too rough for the "
            f"coarse steps: raise base above {levels.base}, or ask for a larger stderr"
        )
    wanted = max_levels + max(1, math.ceil(math.log2(levels.bias / (math.sqrt(bias_share) * stderr))))
    return text + f"raise max_levels to {wanted} or base above {levels.base}, or ask for a larger stderr"
