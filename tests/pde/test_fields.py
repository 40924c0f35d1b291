"""Periodic fields: every rule against its formula, against SciPy's splines, and against sums written out."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pde import PeriodicField, _splines, fields, grid
from pde.convergence import l2_norm, observed_order

EPS = np.finfo(float).eps
RULES = ("trigonometric", "bilinear", "bicubic")
SPLINES = ("bilinear", "bicubic")
coordinates = st.floats(-10, 10)
points_lists = arrays(float, st.tuples(st.integers(1, 6), st.just(2)), elements=coordinates)


def random_values(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def random_points(count, length=1.0, seed=1):
    """Points in the nine periods around the first."""
    return np.random.default_rng([seed, count]).uniform(-length, 2 * length, (count, 2))


def trigonometric_sum(n_modes, n, length=1.0, n_fields=2):
    """(field, function, gradient): random real modes |k_i| <= n_modes, and their sum and derivatives term by term."""
    rng = np.random.default_rng([n_modes, n])
    k = np.stack(np.meshgrid(*[np.arange(-n_modes, n_modes + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    amplitude, shift = rng.uniform(-1, 1, (n_fields, len(k))) / len(k), rng.uniform(0, 2 * np.pi, (n_fields, len(k)))
    q = 2 * np.pi / length * k

    def function(points):
        phase = points[..., None, :] @ q.T + shift
        return (amplitude * np.cos(phase)).sum(axis=-1)

    def gradient(points):
        phase = points[..., None, :] @ q.T + shift
        return (amplitude * -np.sin(phase)) @ q

    values = np.moveaxis(function(grid.points(n, length)), -1, 0)
    return PeriodicField(values, length), function, gradient


def cell_of(field, points):
    """Index and fraction of a cell, by the definition."""
    scaled = points / field.length * field.n
    index = np.floor(scaled).astype(int)
    return index % field.n, scaled - index


# Values


@pytest.mark.parametrize("length", (1.0, 0.3, 7.0))
@pytest.mark.parametrize("n", (9, 10, 16))
def test_trigonometric_evaluation_is_exact_for_band_limited_data(n, length):
    field, function, _ = trigonometric_sum(4, n, length)
    points = random_points(200, length)
    # The amplitudes add up to 1 at most; phases up to 2 * 2 pi 4 * 2 = 100 are known to 100 eps each, twice.
    np.testing.assert_allclose(field(points), function(points), rtol=0, atol=400 * EPS)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", (1, 2, 5, 8))
def test_every_rule_gives_the_values_at_the_grid_points(rule, n):
    values = random_values(2, n, n)
    field = PeriodicField(values, 2.5, rule)
    at_points = np.moveaxis(field(grid.points(n, 2.5)), -1, 0)
    # A point is off by 4 eps of the side; the slope is at most pi n times the sum of the n**2 coefficients.
    np.testing.assert_allclose(at_points, values, rtol=0, atol=50 * n**2 * EPS)


@pytest.mark.parametrize("length", (1.0, 0.3))
def test_bilinear_evaluation_is_the_hand_formula(length):
    field = PeriodicField(random_values(7, 7), length, "bilinear")
    points = random_points(300, length)
    index, t = cell_of(field, points)
    (i, j), (s, t) = index.T, t.T
    i_next, j_next, v = (i + 1) % 7, (j + 1) % 7, field.values
    expected = (1 - s) * ((1 - t) * v[i, j] + t * v[i, j_next]) + s * ((1 - t) * v[i_next, j] + t * v[i_next, j_next])
    # Fractions are known to n * 2 eps; slopes are at most 2 a cell.
    np.testing.assert_allclose(field(points), expected, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("n", (4, 7, 16))
@pytest.mark.parametrize(("rule", "order"), [("bilinear", 1), ("bicubic", 3)])
def test_splines_agree_with_scipy(rule, order, n):
    values = random_values(n, n)
    points = random_points(300, 3.0)
    coefficients = values if order == 1 else scipy.ndimage.spline_filter(values, order, mode="grid-wrap")
    expected = scipy.ndimage.map_coordinates(
        coefficients, points.T / 3.0 * n, order=order, mode="grid-wrap", prefilter=False
    )
    # Fractions of a cell are known to 2 n eps; the prefilter raises values, and slopes, by at most 3 an axis.
    np.testing.assert_allclose(PeriodicField(values, 3.0, rule)(points), expected, rtol=0, atol=200 * n * EPS)


@pytest.mark.parametrize("n", (5, 8))
@pytest.mark.parametrize("k", [(0, 0), (1, 0), (1, 2), (2, -1)])
def test_splines_damp_a_mode_at_the_cell_centres_by_the_known_factor(k, n):
    points = grid.points(n)
    wave = np.cos(2 * np.pi * points @ k + 0.3)
    centres = points + 0.5 / n
    theta = 2 * np.pi * np.array(k) / n
    exact = np.cos(2 * np.pi * centres @ k + 0.3)
    # B-spline weights at half a cell: (1, 1) / 2, and (1, 23, 23, 1) / 48 over the prefilter (4 + 2 cos) / 6.
    linear = np.cos(theta / 2).prod()
    cubic = ((23 * np.cos(theta / 2) + np.cos(1.5 * theta)) / (8 * (2 + np.cos(theta)))).prod()
    for rule, factor in (("bilinear", linear), ("bicubic", cubic)):
        np.testing.assert_allclose(PeriodicField(wave, 1.0, rule)(centres), factor * exact, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize(("rule", "order"), [("bilinear", 2), ("bicubic", 4)])
def test_splines_converge_at_their_order(rule, order):
    def function(points):
        return np.exp(np.sin(2 * np.pi * points[..., 0])) * np.cos(2 * np.pi * points[..., 1])

    points, sizes = random_points(2000), np.array([32, 64, 128, 256])
    errors = [
        np.abs(PeriodicField(function(grid.points(n)), 1.0, rule)(points) - function(points)).max() for n in sizes
    ]
    # error = C h**p (1 + O((2 pi k h)**2)), k = 3 modes of weight: 0.35 at n = 32, 0.09 at n = 64, ...; the slope of
    # log2 over three octaves moves by less than 0.3 * log2(1.35) = 0.13. Random points miss the maximum by a few %.
    assert abs(observed_order(1 / sizes, errors).order - order) < 0.15


@given(points_lists, st.tuples(st.integers(-50, 50), st.integers(-50, 50)), st.sampled_from(RULES))
def test_fields_are_periodic(points, periods, rule):
    field = PeriodicField(random_values(2, 6, 6), 0.7, rule)
    shifted = points + 0.7 * np.array(periods)
    # The shifted point is rounded to 60 * eps, and the slope is at most 3 modes * 2 pi / 0.7 * 36 coefficients.
    np.testing.assert_allclose(field(shifted), field(points), rtol=0, atol=1e5 * EPS)


@given(points_lists)
def test_bilinear_fields_stay_within_their_values(points):
    field = PeriodicField(random_values(5, 5), 1.0, "bilinear")
    u = field(points)
    assert field.values.min() - 4 * EPS <= u.min()
    assert u.max() <= field.values.max() + 4 * EPS


@given(points_lists, st.floats(-5, 5), st.sampled_from(RULES))
def test_evaluation_is_linear_in_the_values(points, factor, rule):
    a, b = random_values(2, 6, 6)
    together = PeriodicField(a + factor * b, 1.0, rule)(points)
    apart = PeriodicField(a, 1.0, rule)(points) + factor * PeriodicField(b, 1.0, rule)(points)
    # Waves of phases up to 2 pi 3 * 10; modes below 4 eps of the largest are left out, 36 at most.
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e4 * EPS)


@given(st.floats(0, 1), st.sampled_from((1, 3)))
def test_spline_weights_are_a_partition_of_one(t, degree):
    weights, slopes = (_splines.bspline_weights(t, degree, derivative) for derivative in (False, True))
    assert weights.shape == slopes.shape == (degree + 1,)
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1) < 8 * EPS
    assert abs(slopes.sum()) < 8 * EPS
    # The B-spline's mean: it reproduces the coordinate (nodes -degree // 2, ..., shifted by one).
    assert abs(weights @ (np.arange(degree + 1) - degree // 2) - t) < 16 * EPS


@pytest.mark.parametrize("rule", RULES)
def test_far_and_tiny_coordinates_stay_in_the_period(rule):
    field = PeriodicField(random_values(8, 8), 1.0, rule)
    # A negative number this small is rounded to a whole period.
    near = field([[-1e-300, 0.0], [0.0, -1e-20], [1 - EPS / 2, 1.0], [2.0**40, -(2.0**40)]])
    # 64 coefficients of slope 2 pi 4 over a distance of one eps, and phases of 2**40 2 pi 4 for the last.
    np.testing.assert_allclose(near[:3], field.values[0, 0], rtol=0, atol=1e4 * EPS)
    np.testing.assert_allclose(near[3], field.values[0, 0], rtol=0, atol=64 * 25 * 2.0**40 * EPS)


@pytest.mark.parametrize("rule", RULES)
def test_blocks_of_points_join_without_seams(rule, monkeypatch):
    field = PeriodicField(random_values(2, 8, 8), 1.0, rule)
    points = random_points(100).reshape(4, 25, 2)
    whole, slopes = field(points), field.jacobian(points)
    # 2**9 entries for 8 points a side and two components: blocks of 32.
    monkeypatch.setattr(fields, "_BLOCK_ENTRIES", 2**9)
    np.testing.assert_allclose(field(points), whole, rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(field.jacobian(points), slopes, rtol=0, atol=1e4 * EPS)


# Shapes


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("components", [(), (2,), (3, 2)])
@pytest.mark.parametrize("batch", [(), (5,), (4, 3), (0,)])
def test_components_come_last_at_points(rule, components, batch):
    field = PeriodicField(random_values(*components, 6, 6), 1.0, rule)
    points = np.random.default_rng(2).random((*batch, 2))
    u, jacobian = field(points), field.jacobian(points)
    assert u.shape == (*batch, *components)
    assert jacobian.shape == (*batch, *components, 2)
    for place in np.ndindex(*components):
        alone = PeriodicField(field.values[place], 1.0, rule)
        # The same sums; products of matrices may add in another order: 36 terms of size 1, slopes of size 20.
        np.testing.assert_allclose(u[(..., *place)], alone(points), rtol=0, atol=1e3 * EPS)
        np.testing.assert_allclose(jacobian[(..., *place, slice(None))], alone.jacobian(points), rtol=0, atol=1e4 * EPS)


@pytest.mark.parametrize("rule", RULES)
def test_components_come_first_on_a_grid(rule):
    field = PeriodicField(random_values(3, 2, 6, 6), 1.0, rule)
    assert field.on_grid(9).shape == (3, 2, 9, 9)
    assert field.on_grid(3).shape == (3, 2, 3, 3)
    assert field.jacobian_on_grid(9).shape == (3, 2, 9, 9, 2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("m", (1, 3, 4, 6, 7, 8, 12, 17))
def test_on_grid_is_evaluation_at_its_points(rule, m):
    field = PeriodicField(random_values(2, 2, 6, 6), 1.7, rule)
    points = grid.points(m, 1.7)
    # 36 coefficients of slope up to 6 pi / 1.7 at points off by 4 eps; their second derivatives for the Jacobian.
    expected = np.moveaxis(field(points), (0, 1), (-2, -1))
    np.testing.assert_allclose(field.on_grid(m), expected, rtol=0, atol=5e3 * EPS)
    expected = np.moveaxis(field.jacobian(points), (0, 1), (-3, -2))
    np.testing.assert_allclose(field.jacobian_on_grid(m), expected, rtol=0, atol=5e4 * EPS)


def test_a_part_of_the_grid_is_returned_as_it_was_given():
    values = random_values(6, 6)
    for rule in RULES:
        part = PeriodicField(values, 1.0, rule).on_grid(3)
        assert (part == values[::2, ::2]).all()
        part[:] = 0
    assert values.all()


# Derivatives


@pytest.mark.parametrize("length", (1.0, 2.5))
@pytest.mark.parametrize("n", (9, 12))
def test_the_trigonometric_jacobian_is_exact_and_rows_are_components(n, length):
    field, _, gradient = trigonometric_sum(4, n, length)
    points = random_points(100, length)
    slope = 2 * np.pi * 4 / length
    # As for the values, times the largest wavenumber; gradient returns [..., a, b] = d u_a / d x_b.
    np.testing.assert_allclose(field.jacobian(points), gradient(points), rtol=0, atol=400 * slope * EPS)


@pytest.mark.parametrize("rule", RULES)
def test_the_jacobian_has_the_component_before_the_direction(rule):
    x, y = np.moveaxis(grid.points(16), -1, 0)
    field = PeriodicField(np.stack([np.sin(2 * np.pi * y), 0 * x]), 1.0, rule)
    jacobian = field.jacobian(random_points(50))
    # Only d u_0 / d y is there; absent modes are rounding.
    assert np.abs(jacobian[:, 0, 1]).max() > 5
    assert np.abs(jacobian[:, [0, 1, 1], [0, 0, 1]]).max() < 1e3 * EPS


@pytest.mark.parametrize("rule", SPLINES)
@pytest.mark.parametrize("length", (1.0, 2.5))
def test_the_spline_jacobian_is_the_difference_quotient_within_a_cell(rule, length):
    n = 8
    field = PeriodicField(random_values(2, n, n), length, rule)
    rng = np.random.default_rng(3)
    h = length / n
    points = (rng.integers(-n, 2 * n, (200, 2)) + rng.uniform(0.3, 0.7, (200, 2))) * h

    def quotient(axis, step):
        shift = step * np.eye(2)[axis]
        return (field(points + shift) - field(points - shift)) / (2 * step)

    # Cubics: the difference's error is a multiple of step**2, so Richardson's extrapolation leaves rounding alone.
    extrapolated = [(4 * quotient(axis, 0.1 * h) - quotient(axis, 0.2 * h)) / 3 for axis in (0, 1)]
    # Values are known to about 200 n eps (see above), the quotient divides by 0.1 h.
    atol = 200 * n * EPS / (0.1 * h)
    np.testing.assert_allclose(field.jacobian(points), np.stack(extrapolated, axis=-1), rtol=0, atol=atol)


def test_at_a_grid_point_the_bilinear_jacobian_looks_forwards():
    values = random_values(8, 8)
    jacobian = PeriodicField(values, 2.0, "bilinear").jacobian_on_grid(8)
    # Spacing 1 / 4: dyadic coordinates have no rounding.
    assert np.allclose(jacobian[..., 0], (np.roll(values, -1, 0) - values) * 4, rtol=0, atol=8 * EPS)
    assert np.allclose(jacobian[..., 1], (np.roll(values, -1, 1) - values) * 4, rtol=0, atol=8 * EPS)


def test_bicubic_fields_have_no_kinks():
    n = 8
    field = PeriodicField(random_values(n, n), 1.0, "bicubic")
    edges = np.stack([np.arange(n) / n, np.random.default_rng(0).random(n)], axis=-1)
    step = np.array([1e-7, 0.0])
    before, at, after = (field.jacobian(edges + shift)[:, 0] for shift in (-step, 0 * step, step))
    # Second derivatives, too, are equal on both sides; third ones jump by at most 6 n**3 * 8 (coefficients up to 3,
    # differences of order three), and a quotient of slopes known to 1e4 eps has an error of 1e4 eps / 1e-7.
    atol = 6 * n**3 * 8 * 1e-7 + 1e4 * EPS / 1e-7
    np.testing.assert_allclose((at - before) / 1e-7, (after - at) / 1e-7, rtol=0, atol=atol)
    assert np.abs((after - at) / 1e-7).max() > 100 * atol


# Norms


def spectral_norms(jacobian):
    """Largest singular values of J[..., a, b]."""
    return np.linalg.svd(np.atleast_2d(jacobian), compute_uv=False)[..., 0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("components", [(), (2,), (3, 2)])
def test_the_sup_norm_is_the_largest_length(rule, components):
    field = PeriodicField(random_values(*components, 6, 6), 1.0, rule)
    points = grid.points(6 if rule == "bilinear" else 24)
    u = field(points)
    lengths = np.abs(u) if not components else np.linalg.norm(u, axis=-1)
    assert field.sup_norm() == pytest.approx(lengths.max(), rel=1e3 * EPS)
    assert field.sup_norm(5) == pytest.approx(
        (np.abs(field.on_grid(5)) if not components else np.linalg.norm(field.on_grid(5), axis=-3)).max(), rel=8 * EPS
    )


@pytest.mark.parametrize(("n", "n_modes", "stated"), [(8, 4, 1.18), (40, 2, 1.0016)])
def test_the_sup_norm_misses_no_more_than_it_says(n, n_modes, stated):
    factor = 1 / np.cos(np.pi * n_modes / (4 * n)) ** 2
    assert factor < stated
    for seed in range(5):
        # All the modes that a grid of 2 n_modes has, its Nyquist mode included.
        field = PeriodicField(grid.resample(random_values(2, 2 * n_modes, 2 * n_modes, seed=seed), n))
        between = np.linalg.norm(field.on_grid(509), axis=0).max()
        assert between <= factor * field.sup_norm() * (1 + 1e3 * EPS)


def test_the_sup_norm_misses_that_much_of_a_wave_with_its_crest_between_the_points():
    n, n_modes = 10, 4
    x, y = np.moveaxis(2 * np.pi * n_modes * (grid.points(n) + 1 / (8 * n)), -1, 0)
    field = PeriodicField(np.cos(x) * np.cos(y))
    assert field.sup_norm() == pytest.approx(np.cos(np.pi * n_modes / (4 * n)) ** 2, rel=100 * EPS)


@given(points_lists, st.integers(0, 20))
def test_a_bilinear_field_nowhere_exceeds_its_norms(points, seed):
    field = PeriodicField(random_values(2, 4, 4, seed=seed), 0.5, "bilinear")
    assert np.linalg.norm(field(points), axis=-1).max() <= field.sup_norm() * (1 + 8 * EPS)
    assert spectral_norms(field.jacobian(points)).max() <= field.jacobian_sup_norm() * (1 + 64 * EPS)


@pytest.mark.parametrize("components", [(), (2,), (3, 2)])
def test_the_bilinear_jacobian_norm_is_attained_inside_a_cell(components):
    n, length = 8, 2.0
    field = PeriodicField(random_values(*components, n, n), length, "bilinear")
    corners = [np.array(corner) for corner in itertools.product((1e-9, 1 - 1e-9), repeat=2)]
    jacobians = [field.jacobian(grid.points(n, length) + corner * length / n) for corner in corners]
    norms = [np.linalg.norm(j, axis=-1) if not components else spectral_norms(j) for j in jacobians]
    # The Jacobian is off the corner's by 1e-9 of differences of up to 4, a norm of about 10.
    assert field.jacobian_sup_norm() == pytest.approx(np.max(norms), rel=1e-8)


@pytest.mark.parametrize("rule", ("trigonometric", "bicubic"))
@pytest.mark.parametrize("components", [(), (2,), (3, 2), (1,), (3,)])
def test_the_jacobian_norm_is_the_largest_singular_value(rule, components):
    field = PeriodicField(random_values(*components, 6, 6), 0.7, rule)
    for n in (24, 10):
        jacobian = field.jacobian(grid.points(n, 0.7))
        norms = np.linalg.norm(jacobian, axis=-1) if not components else spectral_norms(jacobian)
        # A sum of squares: rounding of the slopes (1e4 eps of about 50) carries over.
        assert field.jacobian_sup_norm(n) == pytest.approx(norms.max(), rel=1e4 * EPS)
    assert field.jacobian_sup_norm() == field.jacobian_sup_norm(24)


def test_a_shear_has_the_jacobian_norm_of_its_slope():
    x, y = np.moveaxis(grid.points(16, 2.0), -1, 0)
    field = PeriodicField(np.stack([0.3 * np.sin(np.pi * y), 0 * x]), 2.0)
    assert field.jacobian_sup_norm() == pytest.approx(0.3 * np.pi, rel=100 * EPS)


@pytest.mark.parametrize("k", [(0, 0), (3, 1), (-2, 5), (8, 0)])
def test_the_number_of_modes_does_not_count_rounding(k):
    wave = np.cos(2 * np.pi * grid.points(16) @ k)
    assert PeriodicField(wave).n_modes == max(map(abs, k))
    assert PeriodicField(np.stack([0 * wave, 1e-6 * wave])).n_modes == max(map(abs, k))
    assert PeriodicField(0 * wave).n_modes == 0


# At the door


@pytest.mark.parametrize("rule", RULES)
def test_a_field_neither_locks_nor_follows_the_array_it_was_made_from(rule):
    values = random_values(4, 4)
    field = PeriodicField(values, 1.0, rule)
    before = field.values.copy()
    values[:] = 7
    assert (field.values == before).all()
    with pytest.raises(ValueError, match="read-only"):
        field.values[0, 0] = 1


def test_another_rule_changes_nothing_but_the_rule():
    field = PeriodicField(random_values(2, 5, 5), 3.0, "bicubic")
    other = field.with_interpolation("bilinear")
    assert (other.values == field.values).all()
    assert (other.length, other.interpolation, field.interpolation) == (3.0, "bilinear", "bicubic")
    assert repr(other) == "PeriodicField(shape=(2, 5, 5), length=3, bilinear)"


def test_integers_and_lists_are_values_too():
    field = PeriodicField([[1, 2], [3, 4]], interpolation="bilinear")
    assert field.values.dtype == np.float64
    assert field([0.25, 0.25]) == 2.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 5)), r"square grid, got \(4, 5\)"),
        (np.zeros((2, 4, 5)), r"square grid, got \(2, 4, 5\)"),
        (np.zeros(4), r"square grid, got \(4,\)"),
        (1.0, r"square grid, got \(\)"),
        (np.zeros((0, 0)), r"square grid, got \(0, 0\)"),
        (np.zeros((0, 2, 4, 4)), r"square grid, got \(0, 2, 4, 4\)"),
        (np.zeros((4, 4), dtype=complex), "values must be an array of real numbers, got dtype complex128"),
        (np.full((4, 4), "a"), "values must be an array of real numbers, got dtype <U1"),
        (np.full((4, 4), None), "values must be an array of real numbers, got dtype object"),
        ([[1.0, 2.0], [3.0]], "values must be a rectangular array of numbers"),
        (np.full((4, 4), np.nan), "values must be finite, got 16 non-finite of 16 values"),
        (np.diag([1.0, np.inf]), "values must be finite, got 1 non-finite of 4 values"),
    ],
)
def test_values_that_are_no_square_grid_of_numbers_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PeriodicField(values)


@pytest.mark.parametrize("rule", ("spline", "", None, 3, "Bilinear"))
def test_an_unknown_rule_is_refused_and_the_known_ones_listed(rule):
    message = "interpolation must be one of 'trigonometric', 'bilinear', 'bicubic', got interpolation="
    with pytest.raises(ValueError, match=message):
        PeriodicField(np.zeros((4, 4)), interpolation=rule)
    with pytest.raises(ValueError, match=message):
        PeriodicField(np.zeros((4, 4))).with_interpolation(rule)


@pytest.mark.parametrize("length", (0, -1, np.nan, np.inf, "1 m", None))
def test_a_length_that_is_not_positive_is_refused(length):
    with pytest.raises(ValueError, match=r"length must be .*> 0, got length="):
        PeriodicField(np.zeros((4, 4)), length)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("points", "message"),
    [
        (0.5, r"points must have shape \(\.\.\., 2\), got \(\)"),
        ([0.1, 0.2, 0.3], r"points must have shape \(\.\.\., 2\), got \(3,\)"),
        (np.zeros((2, 5)), r"points must have shape \(\.\.\., 2\), got \(2, 5\)"),
        ([], r"points must have shape \(\.\.\., 2\), got \(0,\)"),
        ([0.1, np.nan], "points must be finite, got 1 non-finite of 2 values"),
        ([np.inf, 0.1], "points must be finite"),
        ([0.1j, 0.2], "points must be an array of real numbers"),
        (["0.1", "0.2"], "points must be an array of real numbers"),
    ],
)
def test_points_that_are_no_pairs_of_numbers_are_refused(rule, points, message):
    field = PeriodicField(np.zeros((4, 4)), interpolation=rule)
    with pytest.raises(ValueError, match=message):
        field(points)
    with pytest.raises(ValueError, match=message):
        field.jacobian(points)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", (0, -1, 2.5, "8"))
def test_grids_of_no_positive_size_are_refused(rule, n):
    field = PeriodicField(np.zeros((4, 4)), interpolation=rule)
    # A bilinear field's Jacobian is judged cell by cell, whatever n.
    methods = [field.on_grid, field.jacobian_on_grid, field.sup_norm, field.jacobian_sup_norm]
    for method in methods[:3] if rule == "bilinear" else methods:
        with pytest.raises(ValueError, match=r"n must be an integer.*, got n="):
            method(n)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("exponent", [-400, -540, -1000, 530])
def test_norms_scale_with_the_field(rule, exponent):
    # Squares underflow below 2**-537 and overflow above 2**512.
    for shape in ((7, 7), (2, 7, 7)):
        values = random_values(*shape)
        plain, scaled = (PeriodicField(part, 1.0, rule) for part in (values, np.ldexp(values, exponent)))
        for name in ("sup_norm", "jacobian_sup_norm"):
            ratio = np.ldexp(getattr(scaled, name)(), -exponent) / getattr(plain, name)()
            assert abs(ratio - 1) < 1e3 * EPS, (name, shape)
    assert np.ldexp(l2_norm(np.ldexp(values, exponent)), -exponent) == pytest.approx(l2_norm(values), rel=16 * EPS)
