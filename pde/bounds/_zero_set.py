"""Distance from points to where a trigonometric field may vanish, from below.

The torus is cut into squares. In a square of centre c and half diagonal rho, with K >= |D**2 u|,

    |u(x) - u(c)| <= (|grad u(c)| + K rho / 2) rho,

so a square in which |u(c)| exceeds that and the threshold holds no point with |u| <= threshold. The others are cut in
four, until they are small. From a point with |u| > threshold, the nearest one with |u| <= threshold lies in one of the
squares left.
"""

import math

import numpy as np
import scipy

from pde import checks, grid
from pde._coefficients import to_cell
from pde.bounds._certified_maxima import curvature_bound

# Side of the smallest squares, in periods: a distance is short by at most sqrt(2) of it.
_SIDE = 2.0**-13
# Squares to keep; a field that vanishes nearly everywhere would need ever more.
_MOST = 2**19


def boundary_distance(field, points, error=0.0, *, resolution=2.0**-13):
    """Enclose the distance on the torus from points to the decision boundary of a field that is known up to an error.

    lower <= min |y - x| over all y with u(y) u(x) <= 0 <= upper,  |u - field| <= error

    Parameters
    ----------
    field : PeriodicField
        Trigonometric, of values (n, n).
    points : array_like of shape (..., 2)
        Anywhere in the plane.
    error : float, default=0.0
        Largest error of the field; >= 0.
    resolution : float, default=2**-13
        Side of the squares that the boundary is covered by, in periods.

    Returns
    -------
    lower, upper : ndarray of shape (...)
        In units of length; lower is 0 where |field| <= error, upper inf where no point is known to have another sign.

    Raises
    ------
    ValueError
        If the field is not trigonometric and scalar, error is negative, or points has another shape.
    """
    if getattr(field, "interpolation", None) != "trigonometric" or field.values.ndim != 2:
        raise ValueError(f"field must be trigonometric with values (n, n), got {field!r}")
    points, error = checks.points_array(points), checks.real("error", error, positive=False)
    resolution = checks.real("resolution", resolution, positive=True)
    u = field(points)
    (centres, values), rho = _squares(field, error, resolution)
    if not len(centres):
        return np.full(u.shape, np.inf), np.full(u.shape, np.inf)
    where, cell = to_cell(centres, field.length), to_cell(points, field.length)
    lower = np.maximum(scipy.spatial.cKDTree(where, boxsize=field.length).query(cell)[0] - rho, 0.0)
    upper = np.zeros(u.shape)
    for sign in (-1, 1):
        other, nearest = sign * values > error, np.inf
        if other.any():
            nearest = scipy.spatial.cKDTree(where[other], boxsize=field.length).query(cell)[0]
        # Where the sign of u(x) is not known, the farther of the two classes counts.
        upper = np.where(sign * u <= error, np.maximum(upper, nearest), upper)
    return np.where(np.abs(u) > error, lower, 0.0), upper


def distance_to_zeros(field, threshold, points):
    """Return lower bounds of the distance on the torus to {|u| <= threshold}, of the shape (...) of points (..., 2).

    The field is trigonometric, with values (n, n); inf where no such point exists.
    """
    (centres, _), rho = _squares(field, threshold, _SIDE)
    if not len(centres):
        return np.full(points.shape[:-1], np.inf)
    tree = scipy.spatial.cKDTree(to_cell(centres, field.length), boxsize=field.length)
    distance, _ = tree.query(to_cell(points, field.length))
    return np.maximum(distance - rho, 0.0)


def _squares(field, threshold, resolution):
    """Centres (m, 2) of squares that cover {|u| <= threshold}, the values there, and half a diagonal."""
    m = grid.fast_size(max(64, 8 * field.n_modes))
    side, K = field.length / m, curvature_bound(field, 0)
    centres = grid.points(m, field.length).reshape(-1, 2)
    values = field.on_grid(m).ravel()
    slopes = np.hypot(*field.jacobian_on_grid(m).reshape(-1, 2).T)
    quarters = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) / 4
    while True:
        rho = side * math.sqrt(0.5)
        near = np.abs(values) <= threshold + (slopes + K * rho / 2) * rho
        centres, slopes = centres[near], slopes[near]
        values = values[near]
        if not len(centres) or side <= resolution * field.length or 4 * len(centres) > _MOST:
            return (centres, values), rho
        # The slope at the new centre differs from that at the old one by K times their distance at most.
        slopes = np.repeat(slopes + K * rho / 2, 4)
        centres = (centres[:, None] + side * quarters).reshape(-1, 2)
        side /= 2
        values = field(centres)
