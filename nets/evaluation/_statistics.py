"""Accuracies with their standard errors, of models whose answer is random as well.

An image is asked about in R repeats, each the mean over draws of the noise; c_ir = 1 where the answer is right:

    p = (1 / (n R)) sum_ir c_ir,   a_r = (1 / n) sum_i c_ir,   s**2 = sum_r (a_r - p)**2 / (R - 1)
    stderr**2 = p (1 - p) / n + s**2 / R

The first term is the binomial one of n images drawn at random, with the noise of one repeat; the second is that of
noise which the images of a batch share. For a model that draws nothing R = 1, and the binomial one is left.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats
import torch

__all__ = ["Interval", "Score", "interval", "robust", "score", "worst_case"]


class Score(NamedTuple):
    """An accuracy.

    Attributes
    ----------
    accuracy : float
        p, a fraction.
    stderr : float
        Standard error, see above.
    spread : float or None
        s, the standard deviation over the repeats; None of one repeat.
    n : int
        Images.
    n_repeats : int
        R.
    """

    accuracy: float
    stderr: float
    spread: float | None
    n: int
    n_repeats: int


def score(right):
    """Return the accuracy.

    Parameters
    ----------
    right : Tensor of shape (n_images, n_repeats)
        c_ir: whether an image is answered right; one at least.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If the shape is another, or there is no image or repeat.

    Examples
    --------
    >>> score(torch.tensor([[1], [1], [0], [0]]))
    Score(accuracy=0.5, stderr=0.25, spread=None, n=4, n_repeats=1)
    """
    if right.dim() != 2 or not right.numel():
        raise ValueError(f"right must be of shape (n_images, n_repeats), got {tuple(right.shape)}")
    n, n_repeats = right.shape
    accuracies = right.double().mean(0)
    p = accuracies.mean().item()
    spread = accuracies.std().item() if n_repeats > 1 else None
    variance = p * (1 - p) / n + (spread or 0.0) ** 2 / n_repeats
    return Score(p, math.sqrt(variance), spread, n, n_repeats)


def robust(natural, attacked):
    """Say which images are right before and after an attack, repeat by repeat.

    Parameters
    ----------
    natural, attacked : Tensor of shape (n_images, n_repeats)
        Whether the image, and the attacked image, are answered right. Images beyond those attacked are left out.

    Returns
    -------
    Tensor of shape (n_images, n_repeats)
    """
    return natural[: len(attacked)].bool() & attacked.bool()


def worst_case(rights, shares):
    """Give every image the attack that harms it most.

    The attack of an image is chosen by the other repeats and scored by the one at hand,

        c_ir = c_(a) ir,  a = argmin_a' sum_(q != r) c_(a') iq,

    since the least of several random numbers is below the least of their means. Of attacks equal in this, the one is
    taken under which fewer single draws of the other repeats are right. Where few repeats choose so badly that one
    attack on all images leaves less, it is that attack: the worst case is never above one of its parts.

    Parameters
    ----------
    rights : Tensor of shape (n_attacks, n_images, n_repeats)
        Whether an image is right.
    shares : Tensor of shape (n_attacks, n_images, n_repeats)
        Share of the single draws that are right, in [0, 1].

    Returns
    -------
    Tensor of shape (n_images, n_repeats)
        Of one repeat: the least over the attacks.
    """
    rights, shares = rights.double(), shares.double()
    n_repeats = rights.shape[2]
    if n_repeats == 1:
        return rights.amin(0).bool()
    others, other_shares = rights.sum(2, keepdim=True) - rights, shares.sum(2, keepdim=True) - shares
    # The sums of rights are integers, those of shares at most R - 1: they decide between equals alone.
    chosen = (others + other_shares / (2 * n_repeats)).argmin(0, keepdim=True)
    adversaries = torch.cat([rights.gather(0, chosen), rights])
    return adversaries[adversaries.mean((1, 2)).argmin()].bool()


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
        raise ValueError(f"values must be finite numbers, one per seed, got {values.tolist()}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got level={level!r}")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, None, None, None, n)
    stderr = float(values.std(ddof=1) / math.sqrt(n))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * stderr
    return Interval(mean, stderr, mean - reach, mean + reach, n)
