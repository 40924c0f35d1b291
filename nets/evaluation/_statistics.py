"""Accuracies with their standard errors, also for models whose predictions are random.

Each image is predicted R times, each time by the mean over draws of the noise; c_ir = 1 if prediction r is right:

    p = (1 / (n R)) sum_ir c_ir,   a_r = (1 / n) sum_i c_ir,   s**2 = sum_r (a_r - p)**2 / (R - 1)
    stderr**2 = p (1 - p) / n + s**2 / R

The first term is the binomial error of n random images, which includes the noise of one repeat; the second accounts for
noise that the images of a batch share. For a deterministic model R = 1, and only the binomial term remains. Where none
or all are right, the formula would promise an error of 0: see `nets.proportions`.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.special
import torch

from nets.proportions import binomial_stderr

__all__ = ["Interval", "Score", "interval", "robust", "score", "worst_case"]


class Score(NamedTuple):
    """An accuracy p (a fraction), its standard error, `spread` s over the repeats (None if R = 1), n and R."""

    accuracy: float
    stderr: float
    spread: float | None
    n: int
    n_repeats: int


def score(right):
    """Return the accuracy over images and repeats, with its standard error.

    stderr**2 = p (1 - p) / n + s**2 / n_repeats              (p = 0 or 1: see `nets.proportions.binomial_stderr`)

    Parameters
    ----------
    right : Tensor of shape (n_images, n_repeats)
        Whether each prediction of an image is right; at least one image and one repeat.

    Returns
    -------
    Score
        `accuracy` p, a fraction; `stderr`; `spread`, the standard deviation s over the repeats, None if there is only
        one; `n` images; `n_repeats`.

    Raises
    ------
    ValueError
        If the shape differs, or there is no image or repeat.

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
    stderr = math.hypot(binomial_stderr(p, n), (spread or 0.0) / math.sqrt(n_repeats))
    return Score(p, stderr, spread, n, n_repeats)


def robust(natural, attacked):
    """Return which images are right both before and after an attack, repeat by repeat.

    Parameters
    ----------
    natural, attacked : Tensor of shape (n_images, n_repeats)
        Whether the predictions of the image and of the attacked image are right. `natural` may have more images than
        `attacked`; the result has as many as `attacked`.

    Returns
    -------
    Tensor of shape (n_images, n_repeats)
    """
    return natural[: len(attacked)].bool() & attacked.bool()


def worst_case(rights, shares):
    """Choose for every image the attack that harms it most, and return which images remain right.

    The attack on an image is chosen by the other repeats and scored by the repeat itself,

        c_ir = c_(a) ir,  a = argmin_a' sum_(q != r) c_(a') iq,

    since the smallest of several random numbers is on average below the smallest of their means. Ties are decided by
    the share of the single draws of the other repeats that are right. If this choice is worse than a single attack on
    all images, as it may be with few repeats, that attack is taken: the worst case is never above any one attack.

    Parameters
    ----------
    rights : Tensor of shape (n_attacks, n_images, n_repeats)
        Whether an image is right under each attack.
    shares : Tensor of shape (n_attacks, n_images, n_repeats)
        Share of the single draws that are right, in [0, 1].

    Returns
    -------
    Tensor of shape (n_images, n_repeats)
        With a single repeat, the minimum over the attacks.
    """
    rights, shares = rights.double(), shares.double()
    n_repeats = rights.shape[2]
    if n_repeats == 1:
        return rights.amin(0).bool()
    others, other_shares = rights.sum(2, keepdim=True) - rights, shares.sum(2, keepdim=True) - shares
    # The sums of rights are integers, those of shares are at most R - 1: they only decide between ties.
    chosen = (others + other_shares / (2 * n_repeats)).argmin(0, keepdim=True)
    adversaries = torch.cat([rights.gather(0, chosen), rights])
    return adversaries[adversaries.mean((1, 2)).argmin()].bool()


class Interval(NamedTuple):
    """A mean over seeds, with its error.

    Attributes
    ----------
    mean : float
        Mean of the n values.
    stderr : float or None
        s / sqrt(n), s**2 = sum (x - mean)**2 / (n - 1); None for a single value.
    low, high : float or None
        mean -+ t s / sqrt(n), t the quantile of Student's distribution with n - 1 degrees of freedom; None for a single
        value.
    n : int
        Number of values, that is of independent trainings.
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
        One value per seed.
    level : float, default=0.95
        Probability that the interval contains the true mean, if the values are normally distributed; in (0, 1).

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If there are no values, a value is not finite, or level is not in (0, 1).

    Examples
    --------
    >>> result = interval([1.0, 3.0])
    >>> result.mean, round(result.stderr, 6), round(result.high, 3), result.n
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
    half_width = float(scipy.special.stdtrit(n - 1, (1 + level) / 2)) * stderr
    return Interval(mean, stderr, mean - half_width, mean + half_width, n)
