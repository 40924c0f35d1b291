"""The cheapest route to a prescribed error of bias and sampling together."""

import math

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._characteristics import characteristics, resolving
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._independent import independent
from pde.feynman_kac._levels import NotConvergedError
from pde.feynman_kac._moments import rare_points, refuse_unless_finite, root_mean_square, student_variance
from pde.feynman_kac._response import Response
from pde.feynman_kac._result import Solution
from pde.feynman_kac._shared_paths import make_means
from pde.feynman_kac._sobol import LARGEST_DIMENSION, ScrambledPaths
from pde.feynman_kac._tails import HIDDEN, Tails
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import points_per_side
from pde.feynman_kac.quasi import bridge_order

# Number of independent scrambles: Student's t with 31 degrees of freedom exceeds 3 with a probability of 0.5 %.
_N_SCRAMBLES = 32
# Points and paths per scramble on which the bias of the steps is read, and its share of the error.
_PILOT_POINTS, _PILOT_PATHS, _MOST_PILOT_PATHS = 128, 8, 256
_BIAS_SHARE = 0.5
# Share of the bias allowed which is not worth an estimate of its own.
_IGNORED = 0.05
# Paths per scramble to begin with, at most.
_FIRST = 16
# A value of a callable velocity and its spline cost about as many path-steps.
_CELL_COST = 25
# Normal numbers made at once: 64 MB, and some copies.
_NUMBERS = 2**23
# Paths are doubled until events have been seen ten times, or 1 / n_paths is below a tenth of the error requested.
_ENOUGH = 10
# Of an event seen k < 10 times the standard error is the root of k + 1.5**2 paths: three of these reach the 99 % limit
# of a Poisson count.
_UNSEEN = 1.5


def solve_to(problem, points, stderr=1e-3, rng=0, *, common_paths=True, max_cost=1e12, n=None):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points to a root-mean-square error over the points.

    mean_x (bias**2 + Var(x)) <= stderr**2,  bias**2 <= stderr**2 / 4

    Stochastic Heun along Brownian bridges of scrambled Sobol points, which all starting points share. The number of
    steps comes from a pilot: paths of M / 2, M and 2 M steps along the same Brownian motion, until the bias that their
    differences predict is within its share, and what such steps miss of callables in time: their integrals over time
    are known at some points, by about 2000 values and more where they jump. Steps within which a callable jumps take
    its mean. Then paths are doubled, and scrambles added, until the standard error is
    within the rest and until values of f that no path may have hit cannot matter. Steps end where
    layers of the velocity end.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Without diffusion, the characteristics are followed with doubled steps. A sigma that depends on x is followed by
        Euler-Maruyama.
    points : array_like of shape (..., 2)
        Starting points, at least one.
    stderr : float, default=1e-3
        Root-mean-square error allowed, bias and sampling together, in units of f; > 0.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.
    common_paths : bool, default=True
        False: independent antithetic paths for every point, so that the errors of the points are independent.

    Other Parameters
    ----------------
    max_cost : float, default=1e12
        Largest number of path-steps; each grid point at which a callable velocity is sampled in a step counts 25.
    n : int, optional
        Points per side on which callables of x are sampled at each step, as for `estimate`.

    Returns
    -------
    Solution
        `mean` and `stderr` of shape (...); `bias_estimate`, `method`, `n_paths` and `n_steps`.

    Raises
    ------
    ValueError
        If an argument is out of range, points has another shape or is not finite, or there are several terminal data.
    NotConvergedError
        If the bias does not fall, callables vary too fast in time for their integrals to be known, or the paths would
        cost more than max_cost.
    FloatingPointError
        If the result or its standard error is not finite.

    References
    ----------
    .. [1] Caflisch, Morokoff & Owen 1997, Valuation of mortgage-backed securities using Brownian bridges.
    .. [2] Matousek 1998, On the L2-discrepancy for anchored boxes.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.eigenfunction()
    >>> s = solve_to(problem, [[0.2, 0.3], [0.7, 0.1]], stderr=3e-3)
    >>> bool((np.abs(s.mean - problem.exact([[0.2, 0.3], [0.7, 0.1]])) < 5 * 3e-3).all())
    True
    """
    points, starts = _arguments.places(problem, points)
    if not points.size:
        raise ValueError(f"points must hold at least one point, got shape {points.shape}")
    stderr = checks.accuracy("stderr", stderr)
    max_cost = checks.real("max_cost", max_cost, positive=True)
    n = points_per_side(problem, n)
    problem.refuse("solve_to", "terminals")
    shape = points.shape[:-1]
    if _arguments.is_noiseless(problem):
        return characteristics(problem, points, stderr, n, max_cost)
    route = _Route(problem, starts, stderr, _arguments.random_numbers(rng), n, max_cost)
    route.refuse_rare()
    route.choose_steps()
    if not common_paths:
        return independent(problem, points, route, n)
    mean, error = route.sample()
    refuse_unless_finite(mean, error, _N_SCRAMBLES)
    method = "sobol-heun" if route.means.order == 2 else "sobol-euler"
    counts = {"n_paths": route.n_paths, "n_steps": route.n_steps, "n_samples": route.n_scrambles}
    return Solution(mean.reshape(shape), error.reshape(shape), route.bias, method, **counts)


class _Route:
    """The search for the number of steps, and then of paths."""

    def __init__(self, problem, starts, stderr, rng, n, max_cost):
        self.problem, self.starts, self.stderr, self.rng, self.max_cost = problem, starts, stderr, rng, max_cost
        self.n, self.in_time = n, InTime(problem, "left" if _arguments.sigma_varies(problem) else "trapezoid")
        self.means = make_means(problem, n, stderr, self.in_time)
        self.response, self.remedy = Response(problem, starts, n, self.in_time), "choose a larger stderr"
        self.range, self.n_layers = _arguments.sample_range(problem, n), problem.n_layers or 1
        self.tails = Tails(problem, starts, n)
        self.bias, self.n_steps, self.variance = math.inf, 0, 0.0

    def refuse_rare(self):
        """Raise a NotConvergedError if paths that are too few to be met bring more than the error requested."""
        hidden = self.tails.hidden(self.max_cost / (4 * len(self.starts)))
        if (hidden > HIDDEN * self.stderr).any():
            raise NotConvergedError(
                f"paths too rare for max_cost={self.max_cost:.2g} bring up to {hidden.max():.2g} of the mean: choose a "
                "larger stderr, or spectral.solve"
            )

    def choose_steps(self):
        """Set n_steps, the bias that they leave, and the variance of one path as the pilot shows it."""
        many = len(self.starts) > _PILOT_POINTS
        chosen = self.rng.permutation(self.starts)[:_PILOT_POINTS] if many else self.starts
        allowed = _BIAS_SHARE * self.stderr
        coarse = self._multiple(resolving(self.in_time, self.n, max(self.means.fewest_steps, 4)))
        self.response.refuse_beyond(allowed)
        n_paths, more, before, means, paths = 0, _PILOT_PATHS, math.inf, 0.0, None
        while True:
            batch = _batch(more, 4 * coarse)
            cost = len(chosen) * (n_paths + more) * _N_SCRAMBLES * 7 * coarse
            self.afford(cost, 4 * coarse, 2 * more // batch)
            paths = paths if n_paths else _paths(self.rng, _N_SCRAMBLES, 4 * coarse)
            # The means of coarse, 2 coarse and 4 coarse steps along the same Brownian motion; once more as many paths.
            parts = (self._pilot(chosen, paths.increments(batch), batch) for _ in range(more // batch))
            new = sum(parts) * (batch / more)
            u4, u2, u1 = means = (means + new) / 2 if n_paths else new
            more = n_paths = n_paths + more
            with np.errstate(over="ignore"):
                refuse_unless_finite(u4, np.square(u4), 2)
            first, second = u2 - u1, u4 - u2
            seen = root_mean_square(second.mean(axis=0))
            noise = math.sqrt(np.mean(second.var(axis=0, ddof=1)) / _N_SCRAMBLES)
            # The noise is known, and subtracted where it would hide the order; a part of it stays in the bias.
            gap = math.sqrt(max(seen**2 - noise**2, noise**2 / 4))
            known = root_mean_square(first.mean(axis=0))
            # Halving the steps divides the bias by 2**order; where it does less, the rest is larger.
            ratio = min(max(gap / known if known > 0 else 0.0, 0.5**self.means.order), 0.9)
            left = max(seen, noise) / (1 - ratio)
            self.variance = np.mean(u4.var(axis=0, ddof=1)) * n_paths
            # From 2 coarse steps the bias is extrapolated to other numbers by a power law.
            order = -math.log2(ratio)
            wanted = 2 * coarse * (left / allowed) ** (1 / order) if left > 0 else 0
            # Below 2 coarse steps, where the bias may fall faster than its order: the difference seen, less its noise.
            visible = math.sqrt(max(known**2 - 4 * np.mean(first.var(axis=0, ddof=1)) / _N_SCRAMBLES, 0.0))
            wanted = max(wanted, min(2 * coarse, coarse * (visible / allowed) ** (1 / order)))
            # A bias hidden by noise would be taken for one of the full order.
            if noise > 0.75 * max(gap, allowed) and n_paths < _MOST_PILOT_PATHS:
                continue
            if wanted <= 4 * coarse:
                for n_steps in (max(self._multiple(wanted), coarse), 2 * coarse, 4 * coarse):
                    before_two = visible * (coarse / n_steps) ** order if n_steps < 2 * coarse else 0.0
                    bias = max(left * (2 * coarse / n_steps) ** order, before_two)
                    most = (2 * coarse / n_steps) ** order / (1 - ratio)
                    if wanted <= n_steps and self._settled(n_steps, coarse, bias, most):
                        return
            # A gap of noise alone looks like a bias: more paths decide.
            elif noise > 0.5 * gap and n_paths < _MOST_PILOT_PATHS and ratio > 0.5**self.means.order:
                continue
            if left > 0.9 * before and n_paths >= _MOST_PILOT_PATHS and coarse >= 2**12 * self.n_layers:
                message = f"the bias does not fall: {left:.2g} with {2 * coarse} steps; choose a larger stderr"
                raise NotConvergedError(message)
            coarse, before, n_paths = 2 * coarse, left, 0

    def _settled(self, n_steps, coarse, bias, most):
        """Whether the bias holds with what steps make of callables in time, unseen by the pilot; then it is set."""
        if self.in_time:
            allowed = _BIAS_SHARE * self.stderr
            unseen = self.in_time.unseen(*(TimeSteps(self.problem, m) for m in (n_steps, 2 * coarse, 4 * coarse)), most)
            extra = self.response(unseen, _IGNORED * allowed)
            if bias + extra > allowed:
                self.remedy = self.in_time.remedy()
                return False
            bias += extra
        self.n_steps, self.bias = n_steps, bias
        return True

    def _pilot(self, starts, fine, n_paths):
        """Means by the increments given, and by sums of two and of four of them: (3, n_scrambles, n_starts)."""
        half = fine[::2] + fine[1::2]
        return np.stack([self.means(starts, dw, n_paths) for dw in (fine, half, half[::2] + half[1::2])])

    def sample(self):
        """Mean and standard error (n_points,), with as many paths as these need."""
        target = self.stderr**2 - self.bias**2
        n_points, per_scramble = len(self.starts), 1
        # Half of what independent paths would need, but few: later ones continue the sequences, so nothing is lost.
        while per_scramble < _FIRST and 2 * per_scramble * _N_SCRAMBLES * target <= 0.5 * self.variance:
            per_scramble *= 2
        calls = per_scramble // _batch(per_scramble, self.n_steps)
        self.afford(n_points * per_scramble * _N_SCRAMBLES * self.n_steps, self.n_steps, calls)
        sequences = [_paths(self.rng, _N_SCRAMBLES, self.n_steps)]
        means = self._means(sequences[0], per_scramble)
        # One per cent more would change the error by half a per cent: not worth another round.
        while True:
            mean = means.mean(axis=0)
            apart = means - mean
            squares = np.square(apart, out=apart).sum(axis=0) / (len(means) - 1)
            variance = np.mean(squares)
            scrambles = 1.02 * variance / target
            scrambles = math.ceil(scrambles * student_variance(max(scrambles, len(means))))
            stderr = np.sqrt(squares / len(means))
            rare, one_path = self._rare(mean, stderr, len(means) * per_scramble)
            seen = not rare.any() or _ENOUGH * one_path < self.stderr
            hidden = self.tails.hidden(len(means) * per_scramble)
            seen = seen and not (hidden > HIDDEN * self.stderr).any()
            if seen and student_variance(len(means)) * variance <= 1.01 * target * len(means):
                break
            if len(means) < scrambles <= 2 * _N_SCRAMBLES:
                sequences.append(_paths(self.rng, scrambles - len(means), self.n_steps))
                means = np.concatenate([means, self._means(sequences[-1], per_scramble)])
                continue
            calls = len(sequences) * per_scramble // _batch(per_scramble, self.n_steps)
            self.afford(2 * n_points * per_scramble * len(means) * self.n_steps, self.n_steps, calls)
            means = (means + np.concatenate([self._means(each, per_scramble) for each in sequences])) / 2
            per_scramble *= 2
        self.n_scrambles, self.n_paths = len(means), len(means) * per_scramble
        error = math.sqrt(student_variance(len(means))) * stderr
        return mean, np.hypot(np.where(rare, np.hypot(error, _UNSEEN * one_path), error), hidden)

    def _rare(self, mean, stderr, n_paths):
        """Where too few paths hit an event for a standard error, and the weight of one path in n_paths."""
        lowest, highest = self.range
        if not highest > lowest:
            return np.zeros(len(mean), bool), 0.0
        agree, few = rare_points(mean, stderr, n_paths, lowest, highest)
        return agree | few, (highest - lowest) / n_paths

    def _means(self, paths, n_points):
        """Means of the next n_points of each scramble, (n_scrambles, n_starts), in batches that fit the memory."""
        total = 0.0
        batch = _batch(n_points, self.n_steps)
        for _ in range(n_points // batch):
            total = total + self.means(self.starts, paths.increments(batch), batch)
        return total / (n_points // batch)

    def _multiple(self, n_steps):
        """n_steps, a multiple of the layers, rounded up."""
        return self.n_layers * max(1, math.ceil(n_steps / self.n_layers - 1e-9))

    def afford(self, cost, n_steps, calls=1):
        """Raise a NotConvergedError for path-steps beyond the limit, with tables of a callable in each of the calls."""
        if self.problem.velocity_varies:
            cost += calls * n_steps * self.n**2 * _CELL_COST
        if cost > self.max_cost or 2 * n_steps > LARGEST_DIMENSION:
            raise NotConvergedError(
                f"the error requested takes {n_steps} steps (at most {LARGEST_DIMENSION // 2} for Sobol points) and "
                f"{cost:.2g} path-steps > max_cost={self.max_cost:.2g}: {self.remedy}"
            )


def _batch(n_points, n_steps):
    """Number of points per scramble whose increments are made at once: n_points, or a power of two that fits."""
    return min(n_points, 2 ** int(math.log2(max(1, _NUMBERS // (2 * n_steps * _N_SCRAMBLES)))))


def _paths(rng, n_scrambles, n_steps):
    return ScrambledPaths(rng, n_scrambles, n_steps, *bridge_order(n_steps))
