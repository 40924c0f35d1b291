"""Random fields: their laws, their bands, and that a seed is all they depend on."""

import numpy as np
import pytest
import scipy.stats

from pde import PeriodicField, grid, random_fields
from pde.convergence import z_threshold

EPS = np.finfo(float).eps
SMOOTH = (random_fields.band_limited, random_fields.divergence_free)
DRAWS = (random_fields.grid_noise, *SMOOTH, random_fields.terminal_datum)


def radii(n):
    """|k| of the coefficients of a grid of n."""
    k = np.arange(-(n // 2), n // 2 + 1)
    return np.hypot(k[:, None], k[None, :])


# Grid noise


def test_grid_noise_is_uniform_on_minus_one_to_one():
    values = random_fields.grid_noise(64, 0).values
    assert values.shape == (2, 64, 64)
    assert np.abs(values).max() <= 1
    # Kolmogorov-Smirnov over 8192 numbers: a fair generator fails for one seed in a million.
    assert scipy.stats.kstest(values.ravel(), "uniform", args=(-1, 2)).pvalue > 1e-6


def test_grid_noise_is_independent_between_points_and_components():
    u, v = random_fields.grid_noise(128, 1).values
    others = (v, np.roll(u, 1, 0), np.roll(u, 1, 1), np.roll(v, 1, 0), np.roll(v, 1, 1), u.T)
    # A product of independent numbers of variance 1/3 has mean 0 and standard deviation 1/3. In u u.T each product
    # stands twice and the diagonal's are squares, which the strict upper triangle leaves out.
    upper = np.triu(np.ones((128, 128), dtype=bool), 1)
    products = [u * other for other in others[:-1]] + [(u * u.T)[upper]]
    scores = [3 * product.sum() / np.sqrt(product.size) for product in products]
    # Six scores, together beyond this for one seed in a million.
    assert np.abs(scores).max() < z_threshold(len(scores), 1e-6)


def test_bilinear_grid_noise_stays_below_one_between_the_points():
    field = random_fields.grid_noise(16, 2, length=3.0)
    assert (field.interpolation, field.length) == ("bilinear", 3.0)
    assert np.abs(field(np.random.default_rng(0).uniform(0, 3, (1000, 2)))).max() <= 1


@pytest.mark.parametrize("rule", ("trigonometric", "bilinear", "bicubic"))
def test_grid_noise_has_the_same_numbers_under_every_rule(rule):
    field = random_fields.grid_noise(8, 3, interpolation=rule)
    assert field.interpolation == rule
    assert (field.values == random_fields.grid_noise(8, 3).values).all()


# Smooth velocities


@pytest.mark.parametrize("draw", SMOOTH)
@pytest.mark.parametrize("n_modes", (1, 4, 7))
def test_smooth_velocities_have_modes_in_the_disc_only(draw, n_modes):
    field = draw(24, 0, n_modes=n_modes)
    assert field.values.shape == (2, 24, 24)
    size, inside = np.abs(grid.coefficients(field.values)), (radii(24) > 0) & (radii(24) <= n_modes)
    # Rounding of a transform of 576 numbers of size 1; every drawn mode of some component is far above it.
    assert size[:, ~inside].max() < 16 * EPS
    assert size[:, inside].max(axis=0).min() > 1e-6


@pytest.mark.parametrize("draw", SMOOTH)
@pytest.mark.parametrize("n_modes", (1, 4, 7))
def test_smooth_velocities_have_sup_norm_one(draw, n_modes):
    field = draw(2 * n_modes + 1, 5, n_modes=n_modes, length=2.0)
    fine = np.linalg.norm(field.on_grid(16 * n_modes), axis=0)
    # Values of size 1, transformed twice.
    assert fine.max() == pytest.approx(1, rel=1e3 * EPS)
    # Between 16 points a wavelength a wave rises by 1 / cos(pi / 16)**2 at most.
    assert np.linalg.norm(field.on_grid(211), axis=0).max() <= 1.04


@pytest.mark.parametrize("draw", SMOOTH)
def test_smooth_velocities_do_not_depend_on_the_grid(draw):
    coarse, fine = draw(12, 7), draw(36, 7)
    # Transforms of numbers of size 1.
    np.testing.assert_allclose(fine.values[:, ::3, ::3], coarse.values, rtol=0, atol=64 * EPS)
    points = np.random.default_rng(0).random((100, 2))
    np.testing.assert_allclose(fine(points), coarse(points), rtol=0, atol=1e3 * EPS)


@pytest.mark.parametrize("n_modes", (1, 4))
def test_a_divergence_free_velocity_has_no_divergence(n_modes):
    field = random_fields.divergence_free(24, 0, n_modes=n_modes, length=0.5)
    jacobian = field.jacobian_on_grid(50)
    divergence = jacobian[0, ..., 0] + jacobian[1, ..., 1]
    # Slopes of size 4 pi n_modes, from 576 values of size 1 with an error of a few eps.
    assert np.abs(divergence).max() < 4 * np.pi * n_modes * 64 * EPS
    assert np.abs(jacobian).max() > 4 * np.pi / 2


def test_a_band_limited_velocity_has_divergence():
    jacobian = random_fields.band_limited(24, 0).jacobian_on_grid(24)
    assert np.abs(jacobian[0, ..., 0] + jacobian[1, ..., 1]).max() > 1


def test_a_divergence_free_velocity_flows_along_its_stream_function():
    # One mode, k = (1, 0), (0, 1) and opposites: v = (d psi / dy, -d psi / dx) has v_x of y alone and v_y of x alone.
    u, v = random_fields.divergence_free(8, 11, n_modes=1).values
    assert np.ptp(u, axis=0).max() < 16 * EPS < np.ptp(u, axis=1).min()
    assert np.ptp(v, axis=1).max() < 16 * EPS < np.ptp(v, axis=0).min()


# Terminal datum


@pytest.mark.parametrize(("n", "n_modes"), [(11, 5), (16, 5), (128, 5), (16, 1)])
def test_the_terminal_datum_runs_from_minus_one_to_one(n, n_modes):
    field = random_fields.terminal_datum(n, 0, n_modes=n_modes)
    assert field.interpolation == "trigonometric"
    # Numerator and denominator are rounded apart.
    assert field.values.min() == pytest.approx(-1, abs=8 * EPS)
    assert field.values.max() == pytest.approx(1, abs=8 * EPS)
    size = np.abs(grid.coefficients(field.values))
    assert size[radii(n) > n_modes].max() < 16 * EPS
    assert size[(radii(n) > 0) & (radii(n) <= n_modes)].min() > 1e-6


# Seeds and errors


@pytest.mark.parametrize("draw", DRAWS)
def test_a_seed_and_its_generator_draw_the_same_field(draw):
    first, again, other = draw(16, 4).values, draw(16, np.random.default_rng(4)).values, draw(16, 5).values
    assert (first == again).all()
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("draw", DRAWS)
def test_a_generator_moves_on(draw):
    rng = np.random.default_rng(4)
    assert np.abs(draw(16, rng).values - draw(16, rng).values).max() > 0.1


@pytest.mark.parametrize("draw", DRAWS)
def test_the_period_scales_space_and_not_the_values(draw):
    unit, long = draw(16, 0), draw(16, 0, length=5.0)
    assert isinstance(long, PeriodicField)
    assert long.length == 5.0
    assert (unit.values == long.values).all()


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", (0, -1, 8.5, "16"))
def test_a_size_that_is_no_positive_integer_is_refused(draw, n):
    with pytest.raises(ValueError, match=r"n must be an integer.*, got n="):
        draw(n, 0)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("length", (0, -1.0, np.nan))
def test_a_length_that_is_not_positive_is_refused(draw, length):
    with pytest.raises(ValueError, match=r"length must be .*> 0, got length="):
        draw(16, 0, length=length)


@pytest.mark.parametrize("draw", DRAWS[1:])
@pytest.mark.parametrize("n_modes", (0, -2, 1.5))
def test_a_band_that_is_no_positive_integer_is_refused(draw, n_modes):
    with pytest.raises(
        ValueError, match=r"n_modes must be an integer >= 1, got n_modes=|n_modes must be an integer, got"
    ):
        draw(16, 0, n_modes=n_modes)


@pytest.mark.parametrize("draw", DRAWS[1:])
def test_a_grid_that_cannot_hold_the_modes_is_refused(draw):
    assert draw(13, 0, n_modes=6).n == 13
    with pytest.raises(ValueError, match="n must be > 2 n_modes to resolve the field, got n=12, n_modes=6"):
        draw(12, 0, n_modes=6)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="interpolation must be one of"):
        random_fields.grid_noise(8, 0, interpolation="linear")
