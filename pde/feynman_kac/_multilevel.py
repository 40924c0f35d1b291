"""Multilevel Monte Carlo for the Feynman-Kac formula: a prescribed accuracy at the least cost.

E[f(X^L)] = E[f(X^0)] + sum_(l=1..L) E[f(X^l) - f(X^(l-1))]                        (Giles 2008)

X^l is the Euler-Maruyama path of n_l = base 2**l steps, and both paths of a difference have the same Brownian
increments: a coarse increment is the sum of two fine ones. The noise is additive, so paths have strong order 1, the
variance of a difference is O(h**2), and a root-mean-square error eps costs O(eps**-2) path-steps, where plain Monte
Carlo needs O(eps**-3).
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._level_paths import LevelPaths, coarsest_steps
from pde.feynman_kac._levels import Levels, NotConvergedError
from pde.feynman_kac._moments import refuse_unless_finite, student_variance, warn_if_rare
from pde.feynman_kac._random import key_from
from pde.feynman_kac._response import Response
from pde.feynman_kac._tails import HIDDEN, Tails
from pde.feynman_kac._velocity_tables import points_per_side

# Share of the bias allowed which is not worth an estimate of its own.
_IGNORED = 0.05


@dataclass(frozen=True, eq=False)
class MultilevelEstimate:
    """A multilevel estimate of u(x, 0), and its levels.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Its standard error (without the bias).
    bias_estimate : float
        Estimate of the root mean square over the points of the bias that the finest step leaves.
    n_steps : ndarray of shape (n_levels,)
        Number of steps of the (fine) paths of each level.
    n_paths : ndarray of shape (n_levels,)
        Number of samples of each level at each point.
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

    with V_l the variance of level l averaged over the points and C_l its path-steps per sample. Levels are added until
    max(b_L, b_(L-1) / 2) is within the bias allowed, b_l being the root mean square over the points of the level's
    mean, noise included: with weak order 1 the bias left is as large as the last level's mean. What the steps make of
    the integrals of callables over time, beside what two levels show, is added to it; where a callable jumps, steps
    take its mean. A potential and a source
    are integrated by the trapezoidal rule.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With sigma > 0, one constant or one per layer.
    points : array_like of shape (..., 2)
        Starting points, at least one; the levels' numbers of samples are the same for all.
    stderr : float, default=1e-3
        Root-mean-square error allowed, in units of f; > 0.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.

    Other Parameters
    ----------------
    base : int, optional
        Number of steps of the coarsest level, >= the number of layers, at whose ends steps end; by default
        3 T max |grad v|, or as many as resolve callables in time, at least 4 and at most 1024, rounded up to a
        multiple of the number of layers.
    max_levels : int, default=10
        Largest number of levels, >= 3: the finest has base 2**(max_levels - 1) steps.
    n_pilot : int, optional
        Number of samples of each level at each point for a first estimate of its variance, >= 4; by default 2048 over
        all points and at least 16. More where f has rare large values, which fewer might miss.
    bias_share : float, default=0.25
        Share of the mean square error that the bias may take, in (0, 1).
    max_cost : float, default=1e12
        Largest number of path-steps.
    n : int, optional
        Points per side on which callables of x are sampled at each step, as for `estimate`.

    Returns
    -------
    MultilevelEstimate
        `mean` and `stderr` of shape (...); `bias_estimate` and the levels.

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, sigma = 0 or depends on x, or there
        are several terminal data.
    NotConvergedError
        If the bias is not within its share at the last level, or the samples would cost more than max_cost.
    FloatingPointError
        If the result is not finite.

    Warns
    -----
    RuntimeWarning
        If the coarsest steps alias callables in time, two levels disagree on the mean that they share, or a level's
        variance rests on too few samples (its kurtosis).

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
    points, starts = _arguments.places(problem, points)
    if not points.size:
        raise ValueError(f"points must hold at least one point, got shape {points.shape}")
    stderr = checks.accuracy("stderr", stderr)
    max_cost = checks.real("max_cost", max_cost, positive=True)
    bias_share = checks.real("bias_share", bias_share, positive=True)
    if bias_share >= 1:
        raise ValueError(f"bias_share must lie in (0, 1), got bias_share={bias_share:g}")
    max_levels = checks.integer("max_levels", max_levels, at_least=3)
    problem.refuse("multilevel", "terminals")
    _arguments.refuse_varying_sigma(problem, "multilevel")
    _arguments.needs_noise(problem)
    n = points_per_side(problem, n)
    in_time = InTime(problem, "left")
    base = coarsest_steps(in_time, n, base)
    paths = LevelPaths(problem, n, base, in_time)
    if base * 2 ** (max_levels - 1) >= 2**32:
        raise ValueError("base * 2**(max_levels - 1) must be < 2**32, the range of the counters")
    default_pilot = max(16, -(-2048 // len(starts)))
    n_pilot = default_pilot if n_pilot is None else checks.integer("n_pilot", n_pilot, at_least=4)
    allowed = math.sqrt(bias_share) * stderr
    response = Response(problem, starts, n, in_time)
    response.refuse_beyond(allowed)

    def unseen(level):
        if not in_time:
            return 0.0
        coarse, fine = paths.steps(level - 1), paths.steps(level)
        return response(in_time.unseen(fine, coarse, fine, 1.0), _IGNORED * allowed)

    tails = Tails(problem, starts, n)
    n_pilot = tails.enough(HIDDEN * stderr, n_pilot)
    levels = Levels(paths, starts, base, n_pilot, key_from(rng), max_cost, unseen)
    for _ in range(3):
        levels.add()
    while True:
        levels.sample((1 - bias_share) * stderr**2)
        if levels.bias**2 <= bias_share * stderr**2:
            break
        if len(levels.moments) == max_levels:
            if levels.unseen > allowed / 2:
                text = f"{levels.n_steps[-1]} steps leave a bias of {levels.bias:.2g} > {allowed:.2g}"
                raise NotConvergedError(f"{text}: {in_time.remedy()}, or raise max_levels")
            raise NotConvergedError(_remedy(levels, stderr, bias_share, max_levels))
        levels.add()
    levels.check()
    if problem.potential is not None or problem.source is not None:
        # A peak that no path has met leaves samples that agree.
        first = levels.moments[0]
        error = np.sqrt(first.covariance[1, 1] / first.count)
        warn_if_rare(first.mean[1], error, first.count, *_arguments.sample_range(problem, n))
    return _result(levels, tails.hidden(int(levels.counts[0])), points.shape[:-1])


def _result(levels, hidden, shape):
    means = np.stack([m.mean[0] for m in levels.moments])
    variances = np.stack([m.covariance[0, 0] for m in levels.moments])
    widened = student_variance(levels.counts) / levels.counts
    stderr = np.sqrt((variances * widened[:, None]).sum(axis=0))
    refuse_unless_finite(means, stderr, levels.n_pilot)
    stderr = np.hypot(stderr, hidden)
    return MultilevelEstimate(
        mean=means.sum(axis=0).reshape(shape),
        stderr=stderr.reshape(shape),
        bias_estimate=float(levels.bias),
        n_steps=levels.n_steps,
        n_paths=levels.counts,
        means=means.reshape(-1, *shape),
        variances=variances.mean(axis=1),
        costs=np.round(levels.counts * levels.unit_costs * len(levels.starts)).astype(np.int64),
    )


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
            f"coarse steps: raise base above {levels.base}, or choose a larger stderr"
        )
    wanted = max_levels + max(1, math.ceil(math.log2(levels.bias / (math.sqrt(bias_share) * stderr))))
    return text + f"raise max_levels to {wanted} or base above {levels.base}, or choose a larger stderr"
