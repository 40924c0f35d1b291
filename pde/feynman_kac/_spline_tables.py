"""Fields as tables of B-spline coefficients, in the layout that the compiled loops read.

A trigonometric field becomes a bicubic spline on a grid fine enough that the two differ by less than a tolerance;
bilinear and bicubic fields are taken as they are.
"""

from dataclasses import dataclass

import numpy as np

from pde.fields import PeriodicField

__all__ = ["TERMINAL_TOLERANCE", "VELOCITY_TOLERANCE", "Table", "finest_size", "make_table", "make_tables"]

# A trigonometric field is replaced by a spline; the difference must vanish beside the noise of the paths.
VELOCITY_TOLERANCE, TERMINAL_TOLERANCE = 1e-6, 1e-6

# 1024**2 points: beyond this a table is slower than what it buys in accuracy.
_LARGEST = 1024


@dataclass(frozen=True, eq=False)
class Table:
    """Coefficients of a field with two components, padded so that no index wraps.

    Attributes
    ----------
    coefficients : ndarray of shape (2 * (n + degree + 1)**2,)
        Components interleaved, row by row.
    n : int
        Points per side.
    degree : int
        Of the B-splines: 1 or 3.
    """

    coefficients: np.ndarray
    n: int
    degree: int


def finest_size(field, tolerance):
    """Return the points per side at which a bicubic spline represents a trigonometric field.

    Parameters
    ----------
    field : PeriodicField
        Trigonometric.
    tolerance : float
        Largest difference allowed at the centres of the cells, relative to max |values|.

    Returns
    -------
    int
        A power-of-two multiple of the field's size, at most 1024 or that size.
    """
    n = field.n
    while 2 * n <= _LARGEST:
        fine = field.on_grid(2 * n)
        spline = PeriodicField(fine[..., ::2, ::2], field.length, "bicubic").on_grid(2 * n)
        if np.abs(spline - fine).max() <= tolerance * np.abs(fine).max():
            break
        n *= 2
    return n


def make_table(field, scale, *, tolerance, n=None):
    """Return the table of a field times a factor.

    Parameters
    ----------
    field : PeriodicField
        Values of shape (2, n, n), or (n, n): then the second component is zero.
    scale : float
        Factor.
    tolerance : float
        As for `finest_size`; for trigonometric fields.
    n : int, optional
        Points per side for a trigonometric field, instead of `finest_size`.

    Returns
    -------
    Table
    """
    if field.interpolation == "trigonometric":
        n = finest_size(field, tolerance) if n is None else n
        field = PeriodicField(field.on_grid(n), field.length, "bicubic")
    degree = 1 if field.interpolation == "bilinear" else 3
    values = field.spline_coefficients
    components = np.stack([values, np.zeros_like(values)]) if values.ndim == 2 else values
    places = (np.arange(field.n + degree + 1) - degree // 2) % field.n
    padded = components[:, places[:, None], places[None, :]]
    return Table(np.ascontiguousarray(np.moveaxis(padded, 0, -1)).reshape(-1) * scale, field.n, degree)


def make_tables(fields, scale, *, tolerance, size=None):
    """Return the tables of fields that share one grid and one interpolation.

    Parameters
    ----------
    fields : sequence of PeriodicField
        As for `make_table`.
    scale : float
        Factor.
    tolerance : float
        As for `finest_size`, which is asked once, for the field of the finest grid.
    size : tuple of int, optional
        (degree, n) of the tables, where others have it already.

    Returns
    -------
    list of Table

    Raises
    ------
    ValueError
        If the fields differ in grid or interpolation, or from size.
    """
    n = None if size is None else size[1]
    if n is None:
        finest = max(fields, key=lambda field: field.n)
        n = finest_size(finest, tolerance) if finest.interpolation == "trigonometric" else finest.n
    made = [make_table(field, scale, tolerance=tolerance, n=n) for field in fields]
    if {(table.degree, table.n) for table in made} != {size or (made[0].degree, n)}:
        raise ValueError("velocity must have one grid and one interpolation at all times")
    return made
