"""The levels of multilevel Monte Carlo that have been sampled, how many samples they need, and whether they fit."""

import math
import warnings

import numpy as np
import scipy.special

from pde.feynman_kac import _arguments
from pde.feynman_kac._level_paths import level_key
from pde.feynman_kac._moments import Moments, student_variance

# Particles advanced together: memory does not grow with the number of paths.
_BATCH = 2**19
# Kurtosis of a level beyond which its variance rests on too few samples (Giles 2015, section 3.3).
_LARGEST_KURTOSIS = 100
# Kurtosis over number of samples is the squared relative error of a variance: a quarter is accurate enough.
_SURE = 1 / 4
# Probability per level of a false warning that levels do not fit together.
_FALSE_ALARM = 1e-6


class NotConvergedError(ArithmeticError):
    """The accuracy requested was not reached; the message gives the reason and a remedy."""


class Levels:
    """The levels sampled so far."""

    def __init__(self, paths, starts, base, n_pilot, key, max_cost, unseen=None):
        self.paths, self.starts, self.base, self.key = paths, starts, base, key
        self.n_pilot, self.max_cost = n_pilot, max_cost
        # Bias of a level that means do not show, as a function of its number.
        self._unseen = unseen or (lambda level: 0.0)
        # Per level: moments of differences and fine values; sums of squares and fourth powers of deviations, in units
        # of the terminal data: fourth powers of large and of small numbers leave the range of doubles.
        self.moments, self.powers = [], []
        self._size = max(map(abs, _arguments.terminal_range(paths.problem, paths.n))) or 1.0

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
        """Root mean square over the points of the bias left: that of the last level's mean, or half the one before.

        And what neither shows.
        """
        if len(self.moments) <= 2:
            return math.inf
        b = [np.sqrt(np.mean(m.mean[0] ** 2)) for m in self.moments[-2:]]
        return max(b[1], b[0] / 2) + self.unseen

    @property
    def unseen(self):
        """Bias of the last level that means do not show."""
        return self._unseen(len(self.moments) - 1)

    def add(self):
        """Add a level with its pilot samples."""
        cost = self.n_pilot * self.base * 1.5 * 2 ** len(self.moments) * len(self.starts)
        if cost > self.max_cost:
            raise NotConvergedError(
                f"{self.n_pilot} pilot samples of level {len(self.moments)} cost {cost:.2g} path-steps > "
                f"max_cost={self.max_cost:.2g}: raise max_cost, or choose fewer points or a smoother terminal"
            )
        self.moments.append(Moments.joint(2, len(self.starts)))
        self.powers.append(np.zeros(2))
        self._draw(len(self.moments) - 1, self.n_pilot)

    def sample(self, variance):
        """Draw until the variance of the sum, averaged over the points, is within the one allowed."""
        while True:
            per_level = np.sqrt(np.maximum(self.variances, 0.0) * self.unit_costs)
            wanted = np.ceil(per_level.sum() * per_level / self.unit_costs / variance)
            # Variances of few samples decide when to stop: low ones would stop too early.
            wanted = np.ceil(wanted * student_variance(np.maximum(wanted, self.counts)))
            cost = np.maximum(wanted, self.counts) @ self.unit_costs * len(self.starts)
            if not np.isfinite(cost):
                raise FloatingPointError("a level is not finite: check velocity and terminal data for overflow")
            if cost > self.max_cost or wanted.max() >= 2**32:
                raise NotConvergedError(
                    f"the samples needed cost {cost:.2g} path-steps > max_cost={self.max_cost:.2g}: choose a "
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
        key = level_key(self.key, level)
        paths = max(1, min(n_paths, _BATCH // min(len(self.starts), _BATCH)))
        points = max(1, _BATCH // paths)
        first = moments.count
        for start in range(first, first + n_paths, paths):
            count = min(paths, first + n_paths - start)
            parts = [
                self.paths.samples(level, self.starts[p : p + points], count, key, p, start)
                for p in range(0, len(self.starts), points)
            ]
            fine = np.concatenate([part[0] for part in parts])
            # Overflow shows in the result, which is checked.
            with np.errstate(over="ignore", invalid="ignore"):
                difference = fine - np.concatenate([part[1] for part in parts]) if level else fine
                squares = ((difference - difference.mean(axis=1, keepdims=True)) / self._size) ** 2
                self.powers[level] += squares.sum(), (squares**2).sum()
            moments.add(difference, fine)

    def check(self):
        """Warn where the levels do not fit together, or a variance rests on too few samples (Giles 2015, 3.3)."""
        n_points = len(self.starts)
        for level in range(1, len(self.moments)):
            below, here = self.moments[level - 1], self.moments[level]
            covariance = here.covariance
            coarse = covariance[1, 1] - 2 * covariance[0, 1] + covariance[0, 0]
            noise = np.sqrt(below.covariance[1, 1] / below.count + np.maximum(coarse, 0.0) / here.count)
            gap = np.abs(below.mean[1] - (here.mean[1] - here.mean[0]))
            quantile = -scipy.special.stdtrit(min(below.count, here.count) - 1, _FALSE_ALARM / (2 * n_points))
            if (gap > quantile * noise + 1e-12 * np.abs(below.mean[1]).max()).any():
                warnings.warn(
                    f"the mean of f on {self.base * 2 ** (level - 1)} steps differs between levels {level - 1} and "
                    f"{level} by more than their noise: the levels do not sum to the mean of the finest",
                    RuntimeWarning,
                    stacklevel=3,
                )
            squares, fourths = self.powers[level]
            n_samples = here.count * n_points
            kurtosis = fourths * n_samples / squares**2 if squares > 0 else 0.0
            if kurtosis > max(_LARGEST_KURTOSIS, _SURE * n_samples):
                warnings.warn(
                    f"level {level} has a kurtosis of {kurtosis:.2g}: its variance rests on few of its {n_samples} "
                    "samples, and so do the standard error and the numbers of paths; raise n_pilot, or smooth terminal",
                    RuntimeWarning,
                    stacklevel=3,
                )
