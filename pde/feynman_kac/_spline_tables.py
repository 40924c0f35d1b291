"""Fields as tables of B-spline coefficients, in the layout that the compiled loops read.

A trigonometric field becomes a bicubic spline on a grid fine enough that the two differ by less than a tolerance;
bilinear and bicubic fields are taken as they are.
"""

from dataclasses import dataclass

import numpy as np

from pde import grid
from pde.fields import PeriodicField

# A trigonometric field is replaced by a spline; the difference must vanish beside the noise of the paths.
VELOCITY_TOLERANCE, TERMINAL_TOLERANCE = 1e-6, 1e-6

# Points per side: a larger table costs more time than its accuracy is worth.
_LARGEST = 1024


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


def finest_size(field, tolerance):
    """Points per side, a power of 2 times the field's own, at which a bicubic spline represents a trigonometric field.

    At the centres of the cells the error, `tolerance` times max |values| at most, is r(kx h) r(ky h) - 1 times each
    mode, with r(q) = (23 cos(q / 2) + cos(3 q / 2)) / 24 / ((2 + cos q) / 3).
    """
    n, m = field.n, field.n_modes
    c, k = field.fourier_coefficients(m), np.arange(-m, m + 1)
    allowed = tolerance * np.abs(field.values).max()
    while 2 * n <= _LARGEST:
        q = 2 * np.pi / n * k
        r = (23 * np.cos(q / 2) + np.cos(1.5 * q)) / 8 / (2 + np.cos(q))
        if np.abs(grid.from_coefficients(c * (r[:, None] * r - 1), field.n)).max() <= allowed:
            break
        n *= 2
    return n


def make_table(field, scale, *, tolerance, n=None):
    """Return the Table of a field (2, n, n), or (n, n) with a second component of zero, times a factor.

    Trigonometric fields become bicubic on n points per side, by default as many as `finest_size` finds.
    """
    if field.interpolation == "trigonometric":
        n = finest_size(field, tolerance) if n is None else n
        degree, values = 3, _spline_of_modes(field, n)
    else:
        n, degree, values = field.n, 1 if field.interpolation == "bilinear" else 3, field.spline_coefficients
    components = np.stack([values, np.zeros_like(values)]) if values.ndim == 2 else values
    places = (np.arange(n + degree + 1) - degree // 2) % n
    padded = components[:, places[:, None], places[None, :]]
    return Table(np.ascontiguousarray(np.moveaxis(padded, 0, -1)).reshape(-1) * scale, n, degree)


def _spline_of_modes(field, n):
    """Coefficients of the bicubic spline that interpolates a trigonometric field on n points per side."""
    m = field.n_modes
    if n <= 2 * m:
        return PeriodicField(field.on_grid(n), field.length, "bicubic").spline_coefficients
    symbol = (2 + np.cos(2 * np.pi / n * np.arange(-m, m + 1))) / 3
    return grid.from_coefficients(field.fourier_coefficients(m) / (symbol[:, None] * symbol), n)


def make_tables(fields, scale, *, tolerance, size=None):
    """Return the Tables of fields that share one grid and one interpolation, on the finest grid that one of them needs.

    `size`, (degree, n), is that of others that exist already; a ValueError is raised if fields differ from it.
    """
    if size is not None:
        n = size[1]
    else:
        n = max(finest_size(f, tolerance) if f.interpolation == "trigonometric" else f.n for f in fields)
    made = [make_table(field, scale, tolerance=tolerance, n=n) for field in fields]
    if {(table.degree, table.n) for table in made} != {size or (made[0].degree, n)}:
        raise ValueError("velocity must have one grid and one interpolation at all times")
    return made
