"""Checks of arguments, shared by the modules of this package."""

import math
import operator

import numpy as np

__all__ = [
    "accuracy",
    "finite_array",
    "generator",
    "integer",
    "number",
    "one_of",
    "points_array",
    "real",
    "refuse_masked",
    "share",
    "square_array",
]


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
        number = _float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number {bound}, got {name}={value!r:.80}") from None
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise ValueError(f"{name} must be finite and {bound}, got {name}={number:g}")
    return number


def number(name, value, *, finite=True):
    """Return value as a float of any sign, or raise a ValueError naming it."""
    refuse_masked(name, value)
    try:
        found = _float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {name}={value!r:.80}") from None
    if finite and not math.isfinite(found):
        raise ValueError(f"{name} must be finite, got {name}={found:g}")
    return found


def _float(value):
    # NumPy makes a float of a complex number, without its imaginary part.
    if isinstance(value, np.complexfloating):
        raise TypeError
    return float(value)


def share(name, value):
    """Return value as a float between 0 and 1, both left out, or raise a ValueError naming it."""
    found = number(name, value, finite=False)
    if not 0 < found < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {name}={found:g}")
    return found


def generator(rng):
    """Return a numpy Generator of one, of a SeedSequence or of a seed, or raise a ValueError."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise ValueError(f"rng must be a numpy.random.Generator or a seed >= 0, got rng={rng!r}") from None


def accuracy(name, value):
    """Return value as a finite float > 0 whose square neither underflows nor overflows, or raise a ValueError."""
    number = real(name, value, positive=True)
    for wrong, bound, flow in ((number < 1e-150, ">= 1e-150", "underflow"), (number > 1e150, "<= 1e150", "overflow")):
        if wrong:
            raise ValueError(
                f"{name} must be {bound}, so that its square does not {flow}: scale the data, got {name}={number:g}"
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


def square_array(name, values, *, complex_too=False):
    """Return values as an array of numbers of shape (..., n, n), or raise a ValueError; they need not be finite."""
    refuse_masked(name, values)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array of numbers") from None
    if array.dtype.kind not in "fiubc":
        raise ValueError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    if array.dtype.kind == "c" and not complex_too:
        raise ValueError(f"{name} must be real, got dtype {array.dtype}")
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or not array.shape[-1]:
        raise ValueError(f"{name} must have shape (..., n, n), got {array.shape}")
    return array


def points_array(points):
    """Return points as a finite float64 array of shape (..., 2), or raise a ValueError."""
    array = finite_array("points", points)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), got {array.shape}")
    return array
