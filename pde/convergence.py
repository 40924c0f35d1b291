"""Observed order of convergence, norms of errors, and z-scores of Monte-Carlo estimates."""

import math
from typing import NamedTuple

import numpy as np
import scipy.special

from pde import checks
from pde._splines import lengths

__all__ = ["Order", "l2_norm", "observed_order", "relative_noise", "sup_norm", "z_scores", "z_threshold"]


class Order(NamedTuple):
    """An observed order of convergence.

    Attributes
    ----------
    order : float
        Slope of log error against log h.
    stderr : float
        Standard error of the slope, from the scatter about the line; 0 for two points.
    constant : float
        C in error = C h**order.
    """

    order: float
    stderr: float
    constant: float


def observed_order(h, errors) -> Order:
    """Fit error = C h**p by least squares in logarithms.

    log e_i = log C + p log h_i

    Parameters
    ----------
    h : array_like of shape (m,)
        Step sizes (or 1 / n, 1 / n_paths, ...), > 0, at least two different ones.
    errors : array_like of shape (m,)
        Errors, > 0.

    Returns
    -------
    Order

    Raises
    ------
    ValueError
        If the shapes differ, there are fewer than two step sizes, or an entry is not positive.

    Examples
    --------
    >>> round(observed_order([0.1, 0.05, 0.025], [3e-2, 7.5e-3, 1.875e-3]).order, 12)
    2.0
    """
    h, errors = checks.finite_array("h", h), checks.finite_array("errors", errors)
    if h.ndim != 1 or h.shape != errors.shape:
        raise ValueError(f"h and errors must have one shape (m,), got {h.shape} and {errors.shape}")
    if len(np.unique(h)) < 2:
        raise ValueError("h must hold at least two different step sizes")
    if not (h > 0).all() or not (errors > 0).all():
        raise ValueError("h and errors must be > 0")
    x, y = np.log(h) - np.log(h).mean(), np.log(errors)
    order = float(x @ y / (x @ x))
    residual = y - y.mean() - order * x
    stderr = float(np.sqrt(residual @ residual / (len(h) - 2) / (x @ x))) if len(h) > 2 else 0.0
    return Order(order, stderr, float(np.exp(y.mean() - order * np.log(h).mean())))


def sup_norm(values) -> float:
    """Return max |values|.

    Parameters
    ----------
    values : array_like of any shape (...)
        Numbers, not empty.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If values is empty or not finite.
    """
    return float(np.abs(_some(values)).max())


def l2_norm(values) -> float:
    """Return the root mean square of grid values: the L2 norm on a torus of unit area.

    Parameters
    ----------
    values : array_like of any shape (...)
        Numbers, not empty.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If values is empty or not finite.
    """
    values = _some(values)
    return float(lengths(values, axis=None) / math.sqrt(values.size))


def z_scores(mean, stderr, reference) -> np.ndarray:
    """Return (mean - reference) / stderr: standard normal where mean is unbiased and of many samples.

    Parameters
    ----------
    mean : array_like of shape (...)
        Estimates.
    stderr : array_like of shape (...)
        Their standard errors, > 0.
    reference : array_like of shape (...)
        What they estimate.

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    ValueError
        If a standard error is not positive or an entry is not finite.
    """
    mean, stderr, reference = (
        checks.finite_array(name, values)
        for name, values in (("mean", mean), ("stderr", stderr), ("reference", reference))
    )
    if not (stderr > 0).all():
        raise ValueError("stderr must be > 0: an estimate without noise has no z-score")
    return (mean - reference) / stderr


def z_threshold(n_scores: int, false_alarm: float = 1e-6) -> float:
    """Return z such that max |z_i| of n_scores independent standard normals exceeds it with probability false_alarm.

    P(max_i |Z_i| > z) <= n P(|Z| > z) = false_alarm                                      (Bonferroni)

    Parameters
    ----------
    n_scores : int
        Number of scores, >= 1.
    false_alarm : float, default=1e-6
        Probability, > 0 and < 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> round(z_threshold(64), 2)
    5.65
    """
    n_scores = checks.integer("n_scores", n_scores, at_least=1)
    false_alarm = checks.share("false_alarm", false_alarm)
    return -float(scipy.special.ndtri(false_alarm / (2 * n_scores)))


def relative_noise(stderr, bias) -> np.ndarray:
    """Return stderr / |bias|; biases show an order of convergence where this is below 0.1.

    Parameters
    ----------
    stderr : array_like of shape (...)
        Standard errors of the biases.
    bias : array_like of shape (...)
        Biases, not 0.

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    ValueError
        If an entry is not finite or a bias is 0.
    """
    bias = checks.finite_array("bias", bias)
    if not bias.all():
        raise ValueError("bias must not be 0")
    return checks.finite_array("stderr", stderr) / np.abs(bias)


def _some(values):
    values = checks.finite_array("values", values)
    if not values.size:
        raise ValueError("values must not be empty")
    return values
