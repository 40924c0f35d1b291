"""Distance from points to where a trigonometric field may vanish, from below.

The torus is cut into squares. In a square of centre c and half diagonal rho, with K >= |D**2 u|,

    |u(x) - u(c)| <= (|grad u(c)| + K rho / 2) rho,

so a square in which |u(c)| exceeds that and the threshold holds no point with |u| <= threshold. The others are cut in
four, until they are small. From a point with |u| > threshold, the nearest one with |u| <= threshold lies in one of the
squares left.
"""

import math

import numpy as np
from scipy.spatial import cKDTree

from pde import grid
from pde.bounds._certified_maxima import curvature_bound

# Relative to the period: what a distance may be short of, times sqrt(2).
_SIDE = 2.0**-13
# Squares to keep; a field that vanishes nearly everywhere would ask for ever more.
_MOST = 2**19


def distance_to_zeros(field, threshold, points):
    """Return lower bounds of the distance on the torus to {|u| <= threshold}, of the shape (...) of points (..., 2).

    The field is trigonometric, with values (n, n); inf where no such point exists.
    """
    m = grid.fast_size(max(64, 8 * field.n_modes))
    side, K = field.length / m, curvature_bound(field, 0)
    # Centres of the squares.
    centres = grid.points(m, field.length).reshape(-1, 2)
    values = field.on_grid(m).ravel()
    slopes = np.linalg.norm(field.jacobian_on_grid(m).reshape(-1, 2), axis=-1)
    quarters = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) / 4
    while True:
        rho = side * math.sqrt(0.5)
        near = np.abs(values) <= threshold + (slopes + K * rho / 2) * rho
        centres, slopes = centres[near], slopes[near]
        if not len(centres):
            return np.full(points.shape[:-1], np.inf)
        if side <= _SIDE * field.length or 4 * len(centres) > _MOST:
            break
        # The slope at the new centre differs from that at the old one by K times their distance at most.
        slopes = np.repeat(slopes + K * rho / 2, 4)
        centres = (centres[:, None] + side * quarters).reshape(-1, 2)
        side /= 2
        values = field(centres)
    distance, _ = cKDTree(_cell(centres, field.length), boxsize=field.length).query(_cell(points, field.length))
    return np.maximum(distance - rho, 0.0)


def _cell(points, length):
    reduced = np.mod(points, length)
    return np.where(reduced >= length, 0.0, reduced)
