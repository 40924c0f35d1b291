"""Largest value, slope and stretching of a periodic field over all x, from above, for rigorous bounds.

A maximum over grid points is too small. Each quantity q here is a maximum over directions theta of functions p_theta
that are linear in the field. At the maximum point x* of q the p_theta that attains it has no slope, so

    q(c) >= q(x*) - B r**2 / 2,  |c - x*| <= r,  B >= |D**2 p_theta|,

and squares whose centre c lies lower than that below the best value found cannot hold x*. The others are cut in four,
until q(x*) is known. B is Bernstein's inequality or the sum over the modes (trigonometric), or comes from the
differences of the coefficients (bicubic). The quantities of a bilinear field are convex in each cell: their maxima are
at its corners.

Isolated maxima are enclosed to 1e-7. Where the maximum is attained along a line or on an area, or a rough field has
very many nearly equal ones, the search ends after a fixed effort with what is proved by then.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from pde import _splines, grid
from pde.fields import PeriodicField

# Relative to the largest |p_theta|; far below the accuracy that any bound needs.
_RTOL = 1e-7
# Terms to sum in one round of cutting: a field constant along lines would need ever more points.
_BUDGET = 2**24


class Maximum(NamedTuple):
    """A maximum over all x, enclosed: found <= maximum <= at_most, up to rounding."""

    found: float
    at_most: float


def value_range(field):
    """Return min u(x) and max u(x), each rounded outwards.

    Parameters
    ----------
    field : PeriodicField
        Values of shape (n, n).

    Returns
    -------
    low, high : float
        In units of u: low <= u(x) <= high for all x.

    Raises
    ------
    ValueError
        If field is not a scalar PeriodicField.
    """
    _refuse_unless_scalar(field)
    if field.interpolation == "bilinear":
        return float(field.values.min()), float(field.values.max())
    high = field._cached("_high", lambda: _enclose(field, 0, lambda u: u, np.abs).at_most)
    return -field._cached("_minus_low", lambda: _enclose(field, 0, lambda u: -u, np.abs).at_most), high


def largest_gradient(field):
    """Return max |grad u(x)|, Euclidean; that of a bilinear field is taken from inside each cell.

    Parameters
    ----------
    field : PeriodicField
        Values of shape (n, n).

    Returns
    -------
    Maximum
        In units of u / length.

    Raises
    ------
    ValueError
        If field is not a scalar PeriodicField.
    """
    _refuse_unless_scalar(field)

    def size(gradient):
        return np.hypot(gradient[..., 0], gradient[..., 1])

    if field.interpolation == "bilinear":
        return _at_corners(field, size)
    return field._cached("_largest_gradient", lambda: _enclose(field, 1, size, size))


def _refuse_unless_scalar(field):
    if not isinstance(field, PeriodicField) or field.values.ndim != 2:
        raise ValueError(f"field must be a PeriodicField of values (n, n), got {field!r}")


def largest_stretching(field):
    """Return max lambda_max(sym grad v), in 1 / time, as a `Maximum`; for a bilinear field from inside each cell.

    It is the least gamma with (v(x) - v(y)) . (x - y) <= gamma |x - y|**2; on a torus >= 0, as div v has mean 0.
    """

    def middle_and_radius(jacobian):
        xx, yy = jacobian[..., 0, 0], jacobian[..., 1, 1]
        return (xx + yy) / 2, np.hypot((xx - yy) / 2, (jacobian[..., 0, 1] + jacobian[..., 1, 0]) / 2)

    def largest(jacobian):
        middle, radius = middle_and_radius(jacobian)
        return middle + radius

    def size(jacobian):
        middle, radius = middle_and_radius(jacobian)
        return np.abs(middle) + radius

    if field.interpolation == "bilinear":
        return _at_corners(field, largest)
    return field._cached("_largest_stretching", lambda: _enclose(field, 1, largest, size))


def largest_step(field, dt):
    """Return max |I + dt grad v|, the largest singular value: the Lipschitz constant of the step x + dt v(x)."""

    def of_step(jacobian):
        return _largest_singular_value(dt * jacobian + np.eye(2))

    if field.interpolation == "bilinear":
        return _at_corners(field, of_step)
    # Linear in the field, but for the constant, for each pair of directions.
    return _enclose(field, 1, of_step, _largest_singular_value, factor=dt)


def _largest_singular_value(matrices):
    (a, b), (c, d) = np.moveaxis(matrices, (-2, -1), (0, 1))
    return (np.hypot(a + d, c - b) + np.hypot(a - d, b + c)) / 2


def _at_corners(field, quantity):
    """Maximum over the four corners of every cell, with the slopes that hold inside the cell."""
    jacobians = (np.stack(columns, axis=-1) for columns in itertools.product(*field._corner_slopes()))
    best = max(float(quantity(_components_last(jacobian)).max()) for jacobian in jacobians)
    return Maximum(best, best)


def _enclose(field, order, quantity, size, factor=1.0):
    """Enclose the maximum of `quantity`, a function of the field (order 0) or of its Jacobian (order 1).

    `size` is the largest |p_theta| of the field; the p_theta of `quantity` are `factor` times these, plus a constant.
    """
    trigonometric = field.interpolation == "trigonometric"
    n_modes = field.n_modes
    # Splines are evaluated by small dense matrices: a fine grid is cheap as long as it fits.
    m = grid.fast_size(16 * max(n_modes, 1)) if trigonometric else field.n * min(16, max(4, 2048 // field.n))
    data = _components_last(field.jacobian_on_grid(m)) if order else field.on_grid(m)
    values = quantity(data).ravel()
    largest = float(size(data).max())
    curvature = factor * curvature_bound(field, order, m, largest)
    if trigonometric:
        largest /= math.cos(math.pi * n_modes / m) ** 2
    largest *= factor
    points, side = grid.points(m, field.length).reshape(-1, 2), field.length / m
    evaluate = (lambda x: quantity(field.jacobian(x))) if order else (lambda x: quantity(field(x)))
    terms = (2 * n_modes + 1) ** 2 if trigonometric else 16
    best = float(values.max())
    gap = curvature * side**2 / 4
    while gap > _RTOL * max(largest, best):
        points = points[values >= best - gap]
        # No square is left where all values are rounding, as the slopes of a constant are.
        if not len(points) or 4 * len(points) * terms > _BUDGET:
            break
        quarters = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * (side / 4)
        points = (points[:, None] + quarters).reshape(-1, 2)
        side /= 2
        values = evaluate(points)
        best = max(best, float(values.max()))
        gap = curvature * side**2 / 4
    return Maximum(best, best + gap)


def curvature_bound(field, order, m=None, largest=None):
    """Bound the second derivatives of the field (order 0) or of its Jacobian (order 1), over all directions.

    For trigonometric fields `largest`, the maximum over the grid of m points per side, may sharpen it.
    """
    if field.interpolation != "trigonometric":
        return _spline_curvature(field, order)
    mode_by_mode = _mode_by_mode_curvature(field, order)
    if largest is None:
        return mode_by_mode
    # Ehlich & Zeller 1964: max over all x against max over m points, in each direction.
    largest = largest / math.cos(math.pi * field.n_modes / m) ** 2
    # Bernstein: along e, p_theta is of exponential type (|e_1| + |e_2|) K 2 pi / length.
    return min(2 * (2 * math.pi * field.n_modes / field.length) ** 2 * largest, mode_by_mode)


def _components_last(jacobian):
    """(2, n, n, 2) to (n, n, 2, 2), as at points; (n, n, 2) stays."""
    return np.moveaxis(jacobian, 0, -2) if jacobian.ndim == 4 else jacobian


def _mode_by_mode_curvature(field, order):
    """Sum over k of |c_k| |k|**(order + 2), which bounds |D**2 p_theta|: the better bound where the spectrum decays."""
    c, k = field._present_coefficients, field._wavenumbers
    size = _splines.lengths(np.abs(c.reshape(-1, *c.shape[-2:])))
    return float((size * np.hypot(k[:, None], k) ** (order + 2)).sum())


def _spline_curvature(field, order):
    """Bound of |D**(order + 2) u|, Frobenius: derivatives of a spline are splines of the differences."""
    a, degree, parts = field.spline_coefficients, order + 2, []
    for i in range(degree + 1):
        d = a
        for axis in [-2] * i + [-1] * (degree - i):
            d = d - np.roll(d, 1, axis)
        # B-splines are a partition of unity, so no value exceeds the largest coefficient.
        sizes = np.abs(d).reshape(-1, *d.shape[-2:]).max(axis=(-2, -1))
        parts.append(math.sqrt(math.comb(degree, i)) * _splines.lengths(sizes))
    return float(_splines.lengths(np.array(parts))) * (field.n / field.length) ** degree
