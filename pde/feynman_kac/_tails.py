"""Rare large values that no path may have hit: what the heat kernel says of those of f, without a path.

K(y) = E|f - m|**4 / V**2,  V and m the variance and mean of f(y + sigma B_T)

An event of probability p and size s has V = p s**2 and K = 1 / p: n samples hit it n / K times, and its share of the
mean is p s = sqrt(V / K).
"""

import math
import warnings
from itertools import accumulate, repeat

import numpy as np

from pde.feynman_kac import _arguments
from pde.feynman_kac._path_moments import is_extreme, path_moments

# Share of an error requested that values of f may have which no path may have hit.
HIDDEN = 0.2
# With an expected number of hits below the first, the event may be unseen (5 %); kurtoses below the second are those of
# smooth data.
_HITS, _ORDINARY = 3, 50
# Points per side on which f is looked at, and steps of the characteristics that lead there.
_FEWEST, _MOST, _N_STEPS = 128, 512, 32
# Share of a cell below which the noise meets no other value than that of the cell and its slope.
_LEAST_REACH = 0.25
# Shares of max |f| lost to rounding, and stretching beyond which paths may end anywhere.
_ROUNDING, _MOST_STRETCH = 1e-9, 3.0
# Share of a moment about 0 that one about the mean must have to be known, and the largest kurtosis.
_RELATIVE, _LARGEST = 1e-9, 1e12


class Tails:
    """Rare values of what paths of a problem bring; `starts` (n_points, 2), in periods."""

    def __init__(self, problem, starts, n):
        self.problem, self.starts, self.n = problem, starts, n
        # Of each kind of event its kurtosis and its share of the mean at the points of a grid, (n_kinds, m, m); None if
        # there are none.
        self.kurtosis, self.share, self.size, self.of = None, None, 0.0, "terminal"
        self._ends = self._radius = None
        # A noiseless path misses nothing.
        self.reach = _arguments.rms_sigma(problem) * math.sqrt(problem.horizon)
        if problem.n_terminals is None and self.reach > 0:
            if is_extreme(problem, n):
                self._find_among_paths()
            else:
                self._find()

    def _find_among_paths(self):
        """As `_find`, of f with the weight by a potential, and a source: from the starts, not the ends, of paths."""
        (m1, m2, m3, m4), self.size, growth = path_moments(self.problem, self.n)
        variance, fourth = _central(m1, m2, m3, m4)
        # Of differences that rounding leaves nothing of, nothing is said.
        known = (variance > _RELATIVE * m2) & (fourth > _RELATIVE * m4)
        with np.errstate(divide="ignore", invalid="ignore"):
            kurtosis = np.where(known, np.minimum(fourth / variance**2, _LARGEST), 0.0)
            share = np.where(known, variance * np.sqrt(variance / fourth), 0.0)
            # The mean itself may be that of an event: p s = m_1, p s**2 = m_2.
            of_mean = np.minimum(np.nan_to_num(m2 / m1**2), kurtosis)
        if kurtosis.max() > _ORDINARY:
            share = self.size * math.exp(growth) * np.stack([share, np.abs(m1)])
            share[share <= _ROUNDING * self.size] = 0.0
            self.kurtosis, self.share = np.stack([kurtosis, of_mean]), share
            self.of, self._ends, self._radius = "f and its weights by potential or source", self.starts, 1

    def _find(self):
        m, reach = _looked_at(self.problem, self.n)
        if reach * m < _LEAST_REACH:
            return
        f = self.problem.terminal_on_grid(m)
        largest = float(np.abs(f).max())
        f = f / (largest or 1.0)
        f = f - f.mean()
        size = float(np.abs(f).max())
        if size == 0:
            return
        f, size = f / size, size * largest
        variance, fourth = _central(*_smoothed_powers(f, reach, 4))
        fourth = np.maximum(fourth, variance**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(fourth > 0, variance * np.sqrt(variance / fourth), 0.0)
            kurtosis = np.where(share > _ROUNDING, fourth / variance**2, 0.0)
        if kurtosis.max() > _ORDINARY:
            self.kurtosis, self.share, self.size = kurtosis[None], share[None] * size, size

    def hidden(self, n_samples):
        """Share of the mean, (n_points,), of events that so many samples may not have hit; 0 where there is none."""
        if self.kurtosis is None or not (self.kurtosis > self._limit(n_samples)).any():
            return np.zeros(len(self.starts))
        shares = np.where(self.kurtosis > self._limit(n_samples), self.share, 0.0).max(axis=0)
        i, j = self._places()
        return self._widened(shares)[i, j]

    def enough(self, error, n_samples):
        """The number of samples, n_samples or more, of which nothing larger than an error is hidden anywhere."""
        while self.kurtosis is not None and np.any(self.hidden(n_samples) > error):
            n_samples *= 2
        return n_samples

    def warn(self, stderr, n_samples, *, per=1.0, zeros=True):
        """Warn where what may be hidden, over `per`, exceeds stderr (n_points,) or (n_points, k).

        `zeros=False`: not where all samples agree, if there are other warnings of that.
        """
        if self.kurtosis is None or n_samples < 2:
            return
        hidden = self.hidden(n_samples) / per
        stderr = np.reshape(stderr, (len(hidden), -1)).max(axis=1, initial=0.0)
        found = (hidden > stderr) & (zeros | (stderr > _ROUNDING * self.size))
        if found.any():
            # Until what is hidden is less than a hundredth of the largest of it.
            wanted = self.enough(per * hidden.max() / 100, 2 * n_samples)
            warnings.warn(
                f"at {int(found.sum())} of {len(hidden)} points {n_samples} samples may have missed large values of "
                f"{self.of}, whose share of up to {hidden[found].max():.2g} stderr does not show; "
                f"take {wanted} or more",
                RuntimeWarning,
                stacklevel=3,
            )

    @staticmethod
    def _limit(n_samples):
        return max(n_samples / _HITS, _ORDINARY)

    def _places(self):
        """Indices on the grid of the ends of characteristics."""
        if self._ends is None:
            self._ends = _characteristic_ends(self.problem, self.starts, self.n)
        return _nearest(self._ends, self.kurtosis.shape[-1])

    def _widened(self, values):
        """The largest value within what a flow may stretch the noise by."""
        from scipy.ndimage import maximum_filter  # It takes long to import.

        m, radius = len(values), self._radius
        if radius is None:
            stretch = min(self.problem.horizon * _arguments.steepness(self.problem, self.n), _MOST_STRETCH)
            radius = math.ceil(self.reach / self.problem.length * math.expm1(stretch) * m)
        return maximum_filter(values, size=min(2 * radius + 1, m), mode="wrap") if radius else values


def variance_under_noise(problem, places, n, unit):
    """Variance of unit f under the noise of the horizon at places (n_points, 2), in periods.

    Roughly, and 0 where the noise stays within a cell of the grid.
    """
    m, reach = _looked_at(problem, n)
    if reach * m < _LEAST_REACH:
        return np.zeros(len(places))
    # Overflow shows in the result, which is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        f = unit * problem.terminal_on_grid(m)
        mean, square = _smoothed_powers(f - f.mean(), reach, 2)
        variance = np.maximum(square - mean**2, 0.0)
    i, j = _nearest(places, len(variance))
    return variance[i, j]


def _central(m1, m2, m3, m4):
    """Variance and fourth moment about the mean, of moments about 0."""
    return np.maximum(m2 - m1**2, 0.0), m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4


def _looked_at(problem, n):
    """Points per side on which f is looked at, and standard deviation of the noise of the horizon, in periods."""
    reach = _arguments.rms_sigma(problem) * math.sqrt(problem.horizon) / problem.length
    return min(max(_FEWEST, n, problem.n or 0), _MOST), reach


def _nearest(places, m):
    """Indices (2, n_points) of the points nearest to places, in periods, on a grid of m per side."""
    return (np.rint(np.mod(places, 1.0) * m).astype(int) % m).T


def _smoothed_powers(f, reach, count):
    """Means of f, f**2, ... f**count under a Gaussian of this standard deviation, on as few points as hold them."""
    m = len(f)
    # Means over blocks of half the standard deviation add 2 % to it.
    side = max(s for s in range(1, m + 1) if m % s == 0 and (s == 1 or s <= reach * m / 2))
    # By products, which are many times as fast as powers.
    powers = [_block_means(power, side) for power in accumulate(repeat(f, count), np.multiply)]
    k = np.fft.fftfreq(m // side, side / m)
    factor = np.exp(-0.5 * (2 * np.pi * k * reach) ** 2)
    factor = factor[:, None] * factor[: len(k) // 2 + 1]
    return [np.fft.irfft2(np.fft.rfft2(power) * factor, s=power.shape) for power in powers]


def _block_means(values, side):
    n = len(values) // side
    return values.reshape(n, side, n, side).mean(axis=(1, 3)) if side > 1 else values


def _characteristic_ends(problem, starts, n):
    """Ends of paths without noise by the midpoint rule, (n_points, 2), in periods: roughly, by bilinear velocities."""
    x, dt = starts * problem.length, problem.horizon / _N_STEPS
    for k in range(_N_STEPS):
        t = (k + 0.5) * dt
        if problem.velocity_is_of_points:
            x = x + dt * problem.velocity_at(x + dt / 2 * problem.velocity_at(x, t), t)
        else:
            v = problem.velocity_field(t).with_interpolation("bilinear")
            x = x + dt * v(x + dt / 2 * v(x))
    return x / problem.length
