"""Checks of arguments, shared by the modules of this package."""

import math
import operator

import numpy as np

__all__ = ["accuracy", "finite_array", "integer", "one_of", "points_array", "real", "refuse_masked"]


def integer(name, value, *, at_least):
    """Return value as an int >= at_least, or raise a ValueError naming it."""
    refuse_masked(name, value)
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {name}={value!r}") from None
    if isinstance(value, (bool, np.bool_)) or number < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {name}={value!r}")
    return number


def real(name, value, *, positive):
    """Return value as a finite float, > 0 or >= 0, or raise a ValueError naming it."""
    bound = "> 0" if positive else ">= 0"
    refuse_masked(name, value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number {bound}, got {name}={value!r}") from None
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise ValueError(f"{name} must be finite and {bound}, got {name}={number:g}")
    return number


def accuracy(name, value):
    """Return value as a finite float > 0 whose square does not underflow, or raise a ValueError."""
    number = real(name, value, positive=True)
    if number < 1e-150:
        raise ValueError(
            f"{name} must be >= 1e-150, so that its square does not underflow: scale the data, got {name}={number:g}"
        )
    return number


def one_of(name, value, choices):
    """Return value if it is one of the choices, or raise a ValueError that lists them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {name}={value!r}")
    return value


def refuse_masked(name, values):
    """Raise a ValueError if values, an array or a list of such, hold masked entries of `numpy.ma`."""
    n_masked = _n_masked(values)
    if n_masked:
        raise ValueError(f"{name} must not be masked, got {n_masked} masked values: fill them, as with .filled(0.0)")


def _n_masked(values):
    if isinstance(values, np.ma.MaskedArray):
        return int(np.ma.count_masked(values))
    if isinstance(values, (list, tuple)):
        return sum(map(_n_masked, values))
    return 0


def finite_array(name, values):
    """Return values as a float64 array, or raise a ValueError if they are masked, or not real and finite."""
    refuse_masked(name, values)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array of numbers") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    array = np.asarray(array, dtype=np.float64, order="C")
    n_bad = array.size - np.count_nonzero(np.isfinite(array))
    if n_bad:
        raise ValueError(f"{name} must be finite, got {n_bad} non-finite of {array.size} values")
    return array


def points_array(points):
    """Return points as a finite float64 array of shape (..., 2), or raise a ValueError."""
    array = finite_array("points", points)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), got {array.shape}")
    return array
