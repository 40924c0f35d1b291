"""Fields as tables of B-spline coefficients, in the layout that the compiled loops read.

A trigonometric field becomes a bicubic spline on a grid fine enough that the two differ by less than a tolerance, or
on the finest that memory allows; bilinear and bicubic fields are taken as they are.
"""

import math
from dataclasses import dataclass

import numpy as np

from pde import grid
from pde.fields import PeriodicField

# A trigonometric field is replaced by a spline; the difference must vanish beside the noise of the paths.
VELOCITY_TOLERANCE, TERMINAL_TOLERANCE = 1e-6, 1e-6

# Points per side of tables made at every step, and of any; beyond these, bytes of all tables that are kept together.
LARGEST_OF_A_STEP, _MOST_BYTES = 1024, 2**28
# Times the variation of a field that its maximum counts at most.
_LARGEST_CONSTANT = 100
# Points per side beyond which no tolerance below that of noisy paths is worth its time.
_LARGEST_OF_FINE = 2048


@dataclass(frozen=True, eq=False)
class Table:
    """Coefficients (2 * (n + degree + 1)**2,) of a field with two components, padded so that no index wraps.

    Components are interleaved, row by row; n points per side, B-splines of degree 1 or 3.
    """

    coefficients: np.ndarray
    n: int
    degree: int

    def scaled(self, factor):
        """The table of the field times a factor."""
        return Table(self.coefficients * factor, self.n, self.degree)


def largest_of(n_tables):
    """Points per side that so many tables, kept together, may have."""
    return max(LARGEST_OF_A_STEP, math.isqrt(_MOST_BYTES // (16 * max(n_tables, 1))))


def finest_size(field, tolerance, largest=None):
    """Points per side at which a bicubic spline represents a trigonometric field: a power of 2 times its own, or most.

    At the centres of the cells the error, `tolerance` times max |values| at most, is r(kx h) r(ky h) - 1 times each
    mode, with r(q) = (23 cos(q / 2) + cos(3 q / 2)) / 24 / ((2 + cos q) / 3), about -q**4 / 384. At most `largest`
    points per side, by default as one table may have.
    """
    return _size_and_error(field, tolerance, largest or largest_of(1))[0]


def relative_error(field, tolerance, largest=None):
    """Largest difference of a field and its table, at most `tolerance` if that is in reach, over max |values|."""
    if field.interpolation != "trigonometric":
        return 0.0
    return _size_and_error(field, tolerance, largest or largest_of(1))[1]


def _size_and_error(field, tolerance, largest):
    return field._cached(f"_table {tolerance} {largest}", lambda: _search(field, tolerance, largest))


def _search(field, tolerance, largest):
    n, m, size = field.n, field.n_modes, np.abs(field.values).max()
    varies = np.abs(field.values - field.values.mean(axis=(-2, -1), keepdims=True)).max()
    # A constant, which splines hold, is no reason to miss what varies beside it; unless that is rounding.
    allowed = min(size, _LARGEST_CONSTANT * varies) if varies > 1e-12 * size else size
    c, k = field.fourier_coefficients(m), np.arange(-m, m + 1)
    # On more points than the field's own, between which its highest modes may be largest.
    n_seen = max(n, grid.fast_size(max(3 * m + 1, min(8 * m + 1, 256))))
    largest = max(largest, min(2 * n, _LARGEST_OF_FINE))
    while True:
        q = 2 * np.pi / n * k
        r = (23 * np.cos(q / 2) + np.cos(1.5 * q)) / 8 / (2 + np.cos(q))
        gap = np.abs(grid.from_coefficients(c * (r[:, None] * r - 1), n_seen)).max()
        wanted = tolerance if 2 * n <= _LARGEST_OF_FINE else max(tolerance, VELOCITY_TOLERANCE)
        if gap <= wanted * allowed or n >= largest:
            return n, float(gap / size) if size else 0.0
        n = min(2 * n, largest)


def make_table(field, scale, *, tolerance, n=None):
    """Return the Table of a field (2, n, n), or (n, n) with a second component of zero, times a factor.

    Trigonometric fields become bicubic on n points per side, by default as many as `finest_size` finds.
    """
    if field.interpolation == "trigonometric":
        n = finest_size(field, tolerance) if n is None else n
        degree, values = 3, _spline_of_modes(field, n)
    else:
        n, degree, values = field.n, 1 if field.interpolation == "bilinear" else 3, field.spline_coefficients
    # The grid's own points first, and then the rows and columns around them.
    side, first = n + degree + 1, degree // 2
    padded = np.zeros((side, side, 2))
    for component, part in enumerate(values.reshape(-1, n, n)):
        np.multiply(part, scale, out=padded[first : first + n, first : first + n, component])
    outer = np.concatenate([np.arange(first), np.arange(first + n, side)])
    inner = (outer - first) % n + first
    padded[outer] = padded[inner]
    padded[:, outer] = padded[:, inner]
    return Table(padded.reshape(-1), n, degree)


def _spline_of_modes(field, n):
    """Coefficients of the bicubic spline that interpolates a trigonometric field on n points per side."""
    m = field.n_modes
    if n <= 2 * m:
        return PeriodicField(field.on_grid(n), field.length, "bicubic").spline_coefficients
    symbol = (2 + np.cos(2 * np.pi / n * np.arange(-m, m + 1))) / 3
    return grid.from_coefficients(field.fourier_coefficients(m) / (symbol[:, None] * symbol), n)


def make_tables(fields, scale, *, tolerance, size=None, largest=None):
    """Return the Tables of fields that share one grid and one interpolation, on the finest grid that one of them needs.

    `size`, (degree, n), is that of others that exist already; a ValueError is raised if fields differ from it.
    `largest`, points per side, by default what so many tables may have.
    """
    if size is not None:
        n = size[1]
    else:
        largest = largest or largest_of(len(fields))
        n = max(finest_size(f, tolerance, largest) if f.interpolation == "trigonometric" else f.n for f in fields)
    made = [make_table(field, scale, tolerance=tolerance, n=n) for field in fields]
    if {(table.degree, table.n) for table in made} != {size or (made[0].degree, n)}:
        raise ValueError("velocity must have one grid and one interpolation at all times")
    return made
