"""Tables as the compiled loops read them, against the fields that they were made from."""

import numba
import numpy as np
import pytest

from pde import PeriodicField, grid, random_fields
from pde.feynman_kac import _kernels64 as fk_kernels
from pde.feynman_kac import _spline_tables as tables

EPS = np.finfo(float).eps
# What the loops may pass: 0, the last number below 1, and 1 itself, to which a wrap rounds a tiny negative number.
EDGES = np.array([0.0, 1 - EPS / 2, 1.0, 0.5, EPS])


def fractions(count=400):
    """Positions as fractions of the period: random ones, and every pair of the edges."""
    pairs = np.stack(np.meshgrid(EDGES, EDGES), axis=-1).reshape(-1, 2)
    return np.concatenate([pairs, np.random.default_rng(count).random((count, 2))])


def evaluate(table, places):
    """The table's first component, through the compiled loop, in two rows."""
    rows = places[: len(places) // 2 * 2].reshape(2, -1, 2)
    x, y = (np.ascontiguousarray(rows[..., axis]) for axis in (0, 1))
    out = np.full_like(x, np.nan)
    fk_kernels.evaluate(x, y, table.coefficients, table.degree, table.n, out)
    return out.ravel()


def components(table, places):
    """Both components; the second through a table with the two exchanged."""
    exchanged = table.coefficients.reshape(-1, 2)[:, ::-1].ravel()
    return np.stack(
        [evaluate(table, places), evaluate(tables.Table(exchanged, table.n, table.degree), places)], axis=-1
    )


@pytest.mark.parametrize("length", (1.0, 2.5))
@pytest.mark.parametrize("n", (1, 2, 3, 5, 8, 12))
@pytest.mark.parametrize(("rule", "degree"), [("bilinear", 1), ("bicubic", 3)])
def test_a_spline_table_is_the_field_times_the_factor(rule, degree, n, length):
    values = np.random.default_rng(n).uniform(-1, 1, (2, n, n))
    field = PeriodicField(values, length, rule)
    table = tables.make_table(field, 0.3, tolerance=1e-3)
    assert (table.n, table.degree) == (n, degree)
    places = fractions()
    u = components(table, places)
    # Fractions of a cell are known to 2 n eps here and there; coefficients are below 9, slopes below 18 a cell.
    np.testing.assert_allclose(u, 0.3 * field(places[: len(u)] * length), rtol=0, atol=0.3 * 100 * n * EPS)


@pytest.mark.parametrize("rule", ("trigonometric", "bilinear", "bicubic"))
def test_the_table_of_a_scalar_has_no_second_component(rule):
    field = PeriodicField(np.random.default_rng(0).uniform(-1, 1, (6, 6)), 1.0, rule)
    table = tables.make_table(field, 2.0, tolerance=1e-2)
    assert not table.coefficients[1::2].any()
    at_points = evaluate(table, grid.points(6).reshape(-1, 2))
    # Splines interpolate.
    np.testing.assert_allclose(at_points, 2 * field.values.ravel(), rtol=0, atol=1e4 * EPS)


@pytest.mark.parametrize("rule", ("trigonometric", "bilinear", "bicubic"))
def test_a_table_is_padded_so_that_no_index_wraps(rule):
    field = random_fields.grid_noise(8, 0, interpolation=rule)
    table = tables.make_table(field, 1.0, tolerance=1e-1)
    side = table.n + table.degree + 1
    assert table.coefficients.shape == (2 * side**2,)
    assert table.coefficients.flags.c_contiguous
    square = table.coefficients.reshape(side, side, 2)
    wrapped = square[np.arange(side)[:, None] % table.n, np.arange(side) % table.n]
    assert (square == wrapped).all()


@pytest.mark.parametrize("tolerance", (1e-2, 1e-4, 1e-6, 1e-8))
@pytest.mark.parametrize("n", (10, 16))
def test_the_table_of_a_trigonometric_field_honours_the_tolerance(n, tolerance):
    field = random_fields.band_limited(n, 1, length=2.0)
    table = tables.make_table(field, 1.0, tolerance=tolerance)
    places = fractions(4000)
    u = components(table, places)
    error = np.abs(u - field(places[: len(u)] * 2.0)).max()
    # The error in a cell is t**2 (1 - t)**2 f'''' to leading order, largest at the centres, where it is measured. The
    # next order is (2 pi k h)**2 of it, at most (pi / 2)**2 / 10 = 1/4 on the grids of 16 and more points chosen here,
    # and the centres miss the maximum of f'''' by 1 / cos(pi / 8)**2 = 1.18.
    assert error <= 1.5 * tolerance * np.abs(field.on_grid(4 * n)).max()


@pytest.mark.parametrize("tolerance", (1e-2, 1e-5, 1e-8))
def test_the_size_is_the_first_power_of_two_multiple_within_the_tolerance(tolerance):
    field = random_fields.band_limited(12, 3)

    def relative_error(n):
        fine = field.on_grid(2 * n)
        return np.abs(PeriodicField(field.on_grid(n), 1.0, "bicubic").on_grid(2 * n) - fine).max() / np.abs(fine).max()

    n = tables.finest_size(field, tolerance)
    multiple = n // 12
    assert n == 12 * multiple
    assert multiple.bit_count() == 1
    assert relative_error(n) <= tolerance
    assert n == 12 or relative_error(n // 2) > tolerance


def test_the_size_of_a_tolerance_out_of_reach_is_bounded():
    # Beyond 2048 points nothing is finer than 1e-6, which modes up to 4 reach with 180.
    assert tables.finest_size(random_fields.band_limited(16, 3), 0.0) == 2048
    assert tables.finest_size(random_fields.band_limited(12, 3), 0.0, 1024) == 1024
    rough = PeriodicField(np.random.default_rng(0).uniform(-1, 1, (200, 200)))
    # 2**28 bytes for one table, two of them, and for many no less than 1024 points.
    assert [tables.finest_size(rough, 0.0, tables.largest_of(n)) for n in (1, 4, 1000)] == [4096, 2048, 1024]


def test_a_constant_needs_no_finer_table():
    assert tables.finest_size(PeriodicField(np.full((2, 5, 5), 3.0)), 1e-12) == 5


def test_a_size_may_be_asked_for():
    field = random_fields.band_limited(12, 0)
    table = tables.make_table(field, 1.0, tolerance=0.0, n=20)
    assert (table.n, table.degree) == (20, 3)
    at_points = components(table, grid.points(20).reshape(-1, 2))
    # The spline of 20 points goes through the field's values there, though 12 does not divide 20.
    np.testing.assert_allclose(at_points, field(grid.points(20)).reshape(-1, 2), rtol=0, atol=1e4 * EPS)


@numba.njit(error_model="numpy")
def drift(degree, table, n, x, y, places, dx, dy, count):
    fk_kernels._drift(degree, table, np.uint64(n + degree + 1), np.float64(n), x, y, places, dx, dy, count)


@pytest.mark.parametrize("count", (1, 3, 4, 6, 25))
@pytest.mark.parametrize("n", (1, 3, 8))
@pytest.mark.parametrize(("rule", "degree"), [("bilinear", 1), ("bicubic", 3)])
def test_four_points_at_once_have_the_values_of_one_after_the_other(rule, degree, n, count):
    values = np.random.default_rng(n).uniform(-1, 1, (2, n, n))
    table = tables.make_table(PeriodicField(values, 1.0, rule), 1.0, tolerance=1e-3)
    places = fractions()[:count]
    whole = -(-count // 4) * 4
    # Beyond the points there may be anything, which is not looked up.
    x, y = np.full((2, whole), -1e300)
    x[:count], y[:count] = places.T
    dx, dy = np.empty((2, whole))
    # Places beyond the points may be another table's, and outside of this one.
    cells = np.ones(whole, np.uint32)
    drift(degree, table.coefficients, n, x, y, cells, dx, dy, count)
    assert (cells[count:] == 0).all()
    expected = components(table, np.concatenate([places, places]))[:count]
    np.testing.assert_allclose(np.stack([dx, dy], axis=-1)[:count], expected, rtol=0, atol=100 * n * EPS)
