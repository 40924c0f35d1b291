"""Means over independent trainings, with the interval of Student's distribution."""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

__all__ = ["Interval", "interval"]


class Interval(NamedTuple):
    """A mean over seeds, with its error.

    Attributes
    ----------
    mean : float
        Of the n values.
    stderr : float or None
        s / sqrt(n), s**2 = sum (x - mean)**2 / (n - 1); None of one value.
    low, high : float or None
        mean -+ t s / sqrt(n), t the quantile of Student's distribution of n - 1 degrees of freedom; None of one value.
    n : int
        Values: independent trainings.
    """

    mean: float
    stderr: float | None
    low: float | None
    high: float | None
    n: int


def interval(values, level=0.95):
    """Estimate a mean from independent values.

    mean -+ t s / sqrt(n)

    Parameters
    ----------
    values : array_like of shape (n,)
        One of each seed.
    level : float, default=0.95
        Probability that the interval holds the mean of infinitely many, for normal values; in (0, 1).

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If there are no values, or one is not finite, or level is not in (0, 1).

    Examples
    --------
    >>> found = interval([1.0, 3.0])
    >>> found.mean, round(found.stderr, 6), round(found.high, 3), found.n
    (2.0, 1.0, 14.706, 2)
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"values must be finite numbers, one a seed, got {values.tolist()}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got level={level!r}")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, None, None, None, n)
    stderr = float(values.std(ddof=1) / math.sqrt(n))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * stderr
    return Interval(mean, stderr, mean - reach, mean + reach, n)
