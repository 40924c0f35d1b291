"""The action of the exponential against scipy's dense expm, and what its error estimate and its step promise."""

import numpy as np
import pytest
import scipy.linalg

from pde.spectral._krylov import exponential_step

EPS = np.finfo(float).eps


def random_matrix(rng, n, norm, *, damped=True):
    """A complex matrix of 2-norm about `norm`, its spectrum in the left half plane if damped."""
    a = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    a *= norm / np.linalg.norm(a, 2)
    return a - damped * norm * np.eye(n)


def random_state(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("damped", [True, False])
@pytest.mark.parametrize("rate", [1e-4, 1e-8, 1e-12])
def test_step_is_the_exponential_within_its_error_estimate(seed, damped, rate):
    rng = np.random.default_rng(seed)
    a, w = random_matrix(rng, 60, 12.0, damped=damped), random_state(rng, 60)
    w /= np.linalg.norm(w)
    step = exponential_step(lambda v: a @ v, w, 1.0, rate)
    exact = scipy.linalg.expm(step.tau * a) @ w
    error = np.linalg.norm(step.state - exact)
    # expm and 36 Gram-Schmidt steps round at about 100 eps of the largest vector on the way.
    rounding = 100 * EPS * max(1.0, np.linalg.norm(exact))
    # A factor of 10 for an estimate by two terms of the error's expansion (Saad 1992, section 5).
    assert error <= 10 * step.error + rounding
    assert step.error <= rate * step.tau + rounding
    assert step.error <= 100 * error + rounding


def test_several_steps_end_where_one_exponential_does():
    rng = np.random.default_rng(5)
    rates, w = 1j * rng.uniform(-100, 100, 300) - rng.uniform(0, 10, 300), random_state(rng, 300)
    left, state, guess, n_steps, estimate = 1.0, w, None, 0, 0.0
    while left > 1e-12:
        step = exponential_step(lambda v: rates * v, state, left, 1e-9, tau_guess=guess)
        # Each step divides what is left evenly.
        parts = left / step.tau
        assert abs(parts - round(parts)) <= 1e-9 * parts
        left, state, guess = left - step.tau, step.state, step.tau
        n_steps, estimate = n_steps + 1, estimate + step.error
    # A basis of 36 reaches no further than 36 / 100.
    assert n_steps >= 3
    # The matrix is dissipative: norms of errors do not grow from step to step.
    assert np.linalg.norm(state - np.exp(rates) * w) <= 10 * estimate
    assert estimate <= 1e-9 * (1 + 1e-6)


def test_shape_of_the_state_is_kept():
    rng = np.random.default_rng(1)
    rates, w = -rng.uniform(0, 2, (5, 3)), random_state(rng, 5, 3)
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-12)
    assert step.state.shape == (5, 3)
    assert step.tau == 1.0
    assert np.abs(step.state - np.exp(rates) * w).max() <= 10 * step.error + 100 * EPS


def test_real_linear_maps_are_allowed():
    # w' = conj(w): the real part grows like exp(s), the imaginary part decays like exp(-s).
    w = np.array([1 + 2j, -0.5 + 1j])
    step = exponential_step(np.conj, w, 1.0, 1e-12)
    assert np.abs(step.state - (w.real * np.e + 1j * w.imag / np.e)).max() <= 100 * EPS


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_invariant_space_ends_the_basis(dimension):
    # A state in the span of `dimension` eigenvectors with distinct real eigenvalues.
    rates = -np.arange(1.0, 21.0)
    w = np.zeros(20, dtype=complex)
    w[:dimension] = 1.0
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-13)
    assert step.n_products == dimension
    assert step.tau == 1.0
    assert np.abs(step.state - np.exp(rates) * w).max() <= 100 * EPS


def test_zero_stays_zero_without_a_product():
    step = exponential_step(lambda v: 1 / 0, np.zeros(3, dtype=complex), 0.7, 1e-8)
    assert step.n_products == 0
    assert step.tau == 0.7
    assert not step.state.any()


def test_easy_interval_takes_fewer_products_than_the_basis_allows():
    rng = np.random.default_rng(2)
    a, w = random_matrix(rng, 60, 0.5), random_state(rng, 60)
    step = exponential_step(lambda v: a @ v, w, 1.0, 1e-8)
    assert step.tau == 1.0
    # Taylor's series for norm 1 (damped matrix: 0.5 + 0.5) has a remainder below 1e-9 after 12 terms, and a Krylov
    # space is no worse; the estimate is looked at every third product.
    assert step.n_products <= 15


def test_stiff_matrix_limits_the_step():
    rng = np.random.default_rng(3)
    rates, w = 1j * rng.uniform(-500, 500, 400), random_state(rng, 400)
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-8)
    # On an imaginary spectrum of reach R nothing is gained before n_products = tau R (Hochbruck & Lubich 1997).
    assert 0 < step.tau < 36 / 500
    assert step.n_products == 36


@pytest.mark.parametrize("refusals", [0, 1, 2, 3])
def test_refused_steps_are_halved_twice_then_given_up(refusals):
    rng = np.random.default_rng(4)
    a, w = random_matrix(rng, 40, 2.0), random_state(rng, 40)
    asked = []

    def accept(state, tau):
        exact = scipy.linalg.expm(tau * a) @ w
        assert np.linalg.norm(state - exact) <= 1e-7
        asked.append(tau)
        return len(asked) > refusals

    step = exponential_step(lambda v: a @ v, w, 1.0, 1e-8, accept=accept)
    if refusals < 3:
        assert asked == [0.5**j for j in range(refusals + 1)]
        assert step.tau == asked[-1]
    else:
        assert step.tau == 0.0
        assert np.array_equal(step.state, w)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_product_raises(bad):
    w = np.ones(4, dtype=complex)
    with pytest.raises(FloatingPointError, match="the product with the matrix is not finite"):
        exponential_step(lambda v: np.full_like(v, bad), w, 1.0, 1e-8)
    with pytest.raises(FloatingPointError, match="the norm of the state is not finite"):
        exponential_step(lambda v: v, bad * w.real + 0j, 1.0, 1e-8)
