"""The periodic grid: layout, coefficients, and passage between grids, against sums written out term by term."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pde import grid

EPS = np.finfo(float).eps


def cardinal(n, fraction):
    """Values D(fraction - i / n), i = 0..n-1, of the trigonometric cardinal function of n points on the unit circle.

    Odd n: sin(n pi x) / (n sin(pi x)). Even n: sin(n pi x) / (n tan(pi x)), its mode n / 2 being a pure cosine.
    """
    x = fraction[..., None] - np.arange(n) / n
    whole = np.abs(x - np.round(x)) < 1e-12
    denominator = np.where(whole, 1.0, np.sin(np.pi * x) if n % 2 else np.tan(np.pi * x))
    return np.where(whole, 1.0, np.sin(n * np.pi * x) / (n * denominator))


def interpolant_on_grid(values, m):
    """The trigonometric interpolant on the grid of m, without a Fourier transform."""
    rule = cardinal(values.shape[-1], np.arange(m) / m)
    return rule @ values @ rule.T


def hermitian(rng, n_modes):
    """Random coefficients with c_(-k) the conjugate of c_k."""
    real, imaginary = rng.standard_normal((2, 2 * n_modes + 1, 2 * n_modes + 1))
    c = real + 1j * imaginary
    return (c + np.conj(c[::-1, ::-1])) / 2


def square_grids(largest=9):
    sides = st.integers(1, largest)
    return sides.flatmap(lambda n: arrays(float, (n, n), elements=st.floats(-1, 1, width=32)))


def test_points_are_indexed_x_first():
    points = grid.points(5, length=2.5)
    assert points.shape == (5, 5, 2)
    for i, j in itertools.product(range(5), repeat=2):
        # Each coordinate is one division and one product away: two roundings.
        np.testing.assert_allclose(points[i, j], (i * 0.5, j * 0.5), rtol=2 * EPS)


def test_coefficients_are_indexed_x_first():
    x, y = np.moveaxis(grid.points(9), -1, 0)
    c = grid.coefficients(3 + 2 * np.cos(2 * np.pi * (x - 3 * y)) + 4 * np.sin(2 * np.pi * 2 * x))
    expected = np.zeros((9, 9), dtype=complex)
    expected[4, 4] = 3
    expected[4 + 1, 4 - 3] = expected[4 - 1, 4 + 3] = 1
    expected[4 + 2, 4], expected[4 - 2, 4] = -2j, 2j
    # 81 values of size up to 9, summed with weights 1 / 81: rounding of the mean and of the phases.
    np.testing.assert_allclose(c, expected, rtol=0, atol=9 * 16 * EPS)


@pytest.mark.parametrize("n", (1, 3, 7))
def test_coefficients_are_the_sum_of_their_definition(n):
    values = np.random.default_rng(n).uniform(-1, 1, (n, n))
    k = np.arange(-(n // 2), n // 2 + 1)
    wave = np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n)
    # n**2 terms of size 1 / n**2, each wave with a phase error of at most 2 pi n eps.
    np.testing.assert_allclose(grid.coefficients(values), wave @ values @ wave.T / n**2, rtol=0, atol=20 * n * EPS)


def test_the_nyquist_mode_is_shared_between_its_two_signs():
    n = 6
    alternating = (-1.0) ** np.arange(n)
    edge, corners = np.zeros((2, n + 1, n + 1))
    edge[[0, -1], n // 2] = 1 / 2
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = 1 / 4
    # Sums of 36 terms +1/36 and -1/36.
    np.testing.assert_allclose(grid.coefficients(np.outer(alternating, np.ones(n))), edge, rtol=0, atol=4 * EPS)
    np.testing.assert_allclose(grid.coefficients(np.outer(alternating, alternating)), corners, rtol=0, atol=4 * EPS)


def test_between_the_points_the_nyquist_mode_is_a_cosine():
    n = 6
    alternating = (-1.0) ** np.arange(n)
    fine = grid.resample(np.outer(alternating, np.ones(n)), 4 * n)
    wave = np.cos(np.pi * n * np.arange(4 * n) / (4 * n))
    np.testing.assert_allclose(fine, np.outer(wave, np.ones(4 * n)), rtol=0, atol=16 * EPS)


@given(square_grids())
def test_coefficients_of_opposite_modes_are_conjugate(values):
    c = grid.coefficients(values)
    # Only the columns k_2 = 0 of the two halves are computed apart; rounding of a mean of numbers of size 1.
    np.testing.assert_allclose(c, np.conj(c[::-1, ::-1]), rtol=0, atol=16 * EPS)


@given(square_grids())
def test_coefficients_determine_the_values(values):
    n = len(values)
    # Two transforms of numbers of size 1, each with an error of a few eps log2(n).
    np.testing.assert_allclose(grid.from_coefficients(grid.coefficients(values), n), values, rtol=0, atol=64 * EPS)


@given(square_grids(), square_grids(), st.integers(1, 14))
def test_resampling_is_linear_and_keeps_the_mean(values, others, m):
    n = min(len(values), len(others))
    a, b = values[:n, :n], others[:n, :n]
    together = grid.resample(a - 3 * b, m)
    np.testing.assert_allclose(together, grid.resample(a, m) - 3 * grid.resample(b, m), rtol=0, atol=1e3 * EPS)
    if m >= n:
        assert abs(grid.resample(a, m).mean() - a.mean()) < 64 * EPS


@pytest.mark.parametrize("m", (1, 2, 3, 4, 6, 7, 9, 12, 20))
@pytest.mark.parametrize("n", (1, 2, 3, 4, 5, 8, 9))
def test_resampling_is_the_sum_of_cardinal_functions(n, m):
    values = np.random.default_rng([n, m]).uniform(-1, 1, (n, n))
    # n**2 terms of size up to 1; the sine of n pi x has an error of n pi eps, its quotient the same.
    np.testing.assert_allclose(grid.resample(values, m), interpolant_on_grid(values, m), rtol=0, atol=10 * n**3 * EPS)


def test_resampling_to_the_same_grid_copies():
    values = np.arange(9.0).reshape(3, 3)
    same = grid.resample(values, 3)
    same[0, 0] = -1
    assert values[0, 0] == 0


@pytest.mark.parametrize("n", (4, 7))
@pytest.mark.parametrize("m", (8, 11))
def test_resampling_up_and_down_again_loses_nothing(n, m):
    values = np.random.default_rng(n).uniform(-1, 1, (n, n))
    np.testing.assert_allclose(grid.resample(grid.resample(values, m), n), values, rtol=0, atol=1e3 * EPS)


@pytest.mark.parametrize("n", (1, 2, 3, 5, 10, 11, 16))
@pytest.mark.parametrize("n_modes", (0, 1, 2, 5))
def test_modes_that_a_grid_cannot_tell_apart_add_up(n_modes, n):
    c = hermitian(np.random.default_rng([n_modes, n]), n_modes)
    wave = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(-n_modes, n_modes + 1)) / n)
    expected = wave @ c @ wave.T
    # A sum of 121 coefficients of size about 1, with phases up to 10 pi.
    atol = np.abs(c).sum() * 64 * EPS
    np.testing.assert_allclose(expected.imag, 0, rtol=0, atol=atol)
    np.testing.assert_allclose(grid.from_coefficients(c, n), expected.real, rtol=0, atol=atol)


@pytest.mark.parametrize("n", (6, 7))
def test_a_number_of_modes_cuts_or_pads(n):
    values = np.random.default_rng(n).uniform(-1, 1, (n, n))
    c = grid.coefficients(values)
    assert (grid.coefficients(values, 2) == c[n // 2 - 2 : n // 2 + 3, n // 2 - 2 : n // 2 + 3]).all()
    padded = grid.coefficients(values, 5)
    assert padded.shape == (11, 11)
    assert (padded[5 - n // 2 : 6 + n // 2, 5 - n // 2 : 6 + n // 2] == c).all()
    assert np.count_nonzero(padded) == np.count_nonzero(c)


@pytest.mark.parametrize("m", (3, 5, 8))
def test_leading_axes_are_independent(m):
    stack = np.random.default_rng(0).uniform(-1, 1, (3, 2, 5, 5))
    resampled = grid.resample(stack, m)
    assert resampled.shape == (3, 2, m, m)
    for place in np.ndindex(3, 2):
        np.testing.assert_allclose(resampled[place], grid.resample(stack[place], m), rtol=0, atol=64 * EPS)


def test_the_dealiased_modes_are_the_most_whose_products_alias_beyond_them():
    def products_alias_beyond(n, k_max):
        # The sums of two modes, each where the grid shows it; a true mode of the product stays what it is.
        sums = np.arange(-2 * k_max, 2 * k_max + 1)
        shown = (sums + n // 2) % n - n // 2
        return (np.abs(shown[sums != shown]) > k_max).all() and 2 * k_max + 1 <= n

    for n in range(1, 200):
        k_max = grid.dealiased_modes(n)
        assert 3 * k_max < n <= 3 * (k_max + 1)
        assert products_alias_beyond(n, k_max)
        assert not products_alias_beyond(n, k_max + 1)


def test_the_fast_size_is_the_next_even_product_of_2_3_and_5():
    smooth = sorted(2 * 2**a * 3**b * 5**c for a in range(9) for b in range(6) for c in range(4))
    for n in range(1, 300):
        assert grid.fast_size(n) == next(size for size in smooth if size >= n)


@pytest.mark.parametrize("function", (grid.points, grid.dealiased_modes, grid.fast_size))
@pytest.mark.parametrize("n", (0, -3, 2.5, 8.0, "8", None, True))
def test_a_size_that_is_no_positive_integer_is_refused(function, n):
    with pytest.raises(ValueError, match=r"^n must be an integer.*, got n="):
        function(n)


@pytest.mark.parametrize("length", (0, -1.0, np.nan, np.inf, "long", None))
def test_a_length_that_is_not_positive_is_refused(length):
    with pytest.raises(ValueError, match=r"^length must be .*> 0, got length="):
        grid.points(4, length)


@pytest.mark.parametrize("function", [grid.coefficients, lambda values: grid.resample(values, 6)])
def test_complex_values_are_refused(function):
    # Their transform as real ones would lose the imaginary part.
    with pytest.raises(ValueError, match="values must be real, got dtype complex128"):
        function(np.full((4, 4), 1 + 1j))
