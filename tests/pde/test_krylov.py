"""The action of the exponential against scipy's dense expm, and what its error estimate and its step promise."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from pde.spectral import _arnoldi, _hessenberg, _krylov
from pde.spectral._krylov import exponential_step

EPS = np.finfo(float).eps
ROOT = Path(__file__).resolve().parents[2]


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
    left, state, n_steps, estimate = 1.0, w, 0, 0.0
    while left > 1e-12:
        step = exponential_step(lambda v: rates * v, state, left, 1e-9, n_basis=36)
        # Each step divides what is left evenly.
        parts = left / step.tau
        assert abs(parts - round(parts)) <= 1e-9 * parts
        left, state = left - step.tau, step.state
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


# More than four: the truncated orthogonalisation does not see that the space is invariant.
@pytest.mark.parametrize("dimension", [1, 2, 4, 5, 9])
def test_invariant_space_ends_the_basis(dimension):
    # A state in the span of `dimension` eigenvectors with distinct real eigenvalues.
    rates = -np.arange(1.0, 21.0)
    w = np.zeros(20, dtype=complex)
    w[:dimension] = 1.0
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-13)
    assert step.n_products == dimension
    assert step.tau == 1.0
    assert np.abs(step.state - np.exp(rates) * w).max() <= 100 * EPS


def non_normal_matrix(n, speed):
    """Advection by upwind differences and a little diffusion on n points: far from normal, nothing symmetric."""
    step = n * speed
    a = step * (np.eye(n, k=-1) - np.eye(n)) + 0.05 * step * (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1))
    return a.astype(complex)


@pytest.mark.parametrize("rate", [1e-5, 1e-9])
def test_sketched_space_of_a_matrix_far_from_normal(rate):
    # 800 real unknowns in 222 bins: here the sketch is a true compression.
    a, w = non_normal_matrix(400, 0.2), random_state(np.random.default_rng(9), 400)
    w /= np.linalg.norm(w)
    step = exponential_step(lambda v: a @ v, w, 1.0, rate)
    assert step.tau < 1
    exact = scipy.linalg.expm(step.tau * a) @ w
    error = np.linalg.norm(step.state - exact)
    # The basis is orthonormal up to the distortion of the sketch, a factor of 2 or so.
    assert error <= 10 * step.error + 100 * EPS
    assert step.error <= rate * step.tau
    assert step.error <= 100 * error


def test_all_times_up_to_the_step_are_exponentials_of_the_same_basis():
    rng = np.random.default_rng(6)
    a, w = random_matrix(rng, 60, 3.0), random_state(rng, 60)
    seen = []

    def accept(at, tau):
        seen.extend((t, at(t)) for t in (0.0, 0.1 * tau, 0.7 * tau, tau))
        return True

    step = exponential_step(lambda v: a @ v, w, 1.0, 1e-9, accept=accept)
    for t, state in seen:
        # The error grows with t.
        assert np.linalg.norm(state - scipy.linalg.expm(t * a) @ w) <= 10 * step.error + 100 * EPS * np.linalg.norm(w)


def test_probe_ends_a_basis_that_is_not_worth_completing():
    rng = np.random.default_rng(7)
    rates, w = 1j * rng.uniform(-500, 500, 400), random_state(rng, 400)
    whole = exponential_step(lambda v: rates * v, w, 1.0, 1e-8, probe=lambda at, tau: True)
    ended = exponential_step(lambda v: rates * v, w, 1.0, 1e-8, probe=lambda at, tau: False)
    assert ended.n_products == 36 < whole.n_products
    assert 0 < ended.tau < whole.tau
    assert np.linalg.norm(ended.state - np.exp(ended.tau * rates) * w) <= 10 * ended.error + 1e-13 * np.linalg.norm(w)


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
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-8, n_basis=36)
    # On an imaginary spectrum of reach R nothing is gained before n_products = tau R (Hochbruck & Lubich 1997).
    assert 0 < step.tau < 36 / 500
    assert step.n_products == 36


@pytest.mark.parametrize("refusals", [0, 1, 2, 3])
def test_refused_steps_are_halved_twice_then_given_up(refusals):
    rng = np.random.default_rng(4)
    a, w = random_matrix(rng, 40, 2.0), random_state(rng, 40)
    asked = []

    def accept(at, tau):
        state = at(tau)
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


@pytest.mark.parametrize("spacing", [1, 41, 42, 43, 166, 167, 41 * 42])
@pytest.mark.parametrize("n_entries", [2, 21, 40])
def test_few_entries_that_differ_from_zero_are_all_seen(spacing, n_entries):
    # Entries that share their bins in the sketch, of a diagonal matrix: the exponential is known.
    size = 5 + spacing * n_entries
    rates, w = np.zeros(size), np.zeros(size, dtype=complex)
    places = spacing * np.arange(n_entries)
    rates[places], w[places] = -np.geomspace(1e-2, 30, n_entries), 1 / (1 + np.arange(n_entries))
    step = exponential_step(lambda v: rates * v, w, 1.0, 1e-10)
    error = np.linalg.norm(step.state - np.exp(step.tau * rates) * w)
    assert error <= 10 * step.error + 100 * EPS
    assert step.error <= 1e-9


def test_what_the_sketch_does_not_see_is_computed_without_it(monkeypatch):
    # All entries in one bin per block: a sketch of rank 1 of a space of 21 dimensions.
    monkeypatch.setattr(_arnoldi, "blocks_of", lambda n_bins: np.array([13, 13, 13, 13]))
    rates, w = np.zeros(400), np.zeros(400, dtype=complex)
    places = 13 * np.arange(21)
    rates[places], w[places] = -np.geomspace(1e-2, 30, 21), 1.0
    calls, kinds, make = [], [], _krylov._Basis
    monkeypatch.setattr(_krylov, "_Basis", lambda *args, **options: kinds.append(options) or make(*args, **options))
    step = exponential_step(lambda v: calls.append(1) or rates * v, w, 1.0, 1e-10)
    assert np.linalg.norm(step.state - np.exp(step.tau * rates) * w) <= 10 * step.error + 100 * EPS
    # The vectors that were given up are counted.
    assert kinds == [{"sketched": True}, {"sketched": False}] and step.n_products == len(calls)


@pytest.mark.slow
def test_a_cold_cache_gives_the_bits_of_a_warm_one(tmp_path):
    # The first process compiles, the second loads what it compiled.
    code = """
import hashlib, pde
u = pde.spectral.solve(pde.problems.figure4(1, 16, 0.3), 32, check=False).u
print(hashlib.sha256(u.tobytes()).hexdigest())
"""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    run = functools.partial(subprocess.run, [sys.executable, "-c", code], env=env, cwd=ROOT, text=True, check=True)
    cold, warm = (run(capture_output=True).stdout for _ in range(2))
    assert cold == warm


def test_vectors_that_cancel_begin_again_without_the_sketch(monkeypatch):
    rates, w = -np.linspace(0, 30, 80), np.ones(80, dtype=complex)
    kinds, make = [], _krylov._Basis

    def basis(*args, sketched):
        kinds.append(sketched)
        return make(*args, sketched=sketched)

    monkeypatch.setattr(_krylov, "_Basis", basis)
    usual = exponential_step(lambda v: rates * v, w, 1.0, 1e-9)
    assert kinds == [True]
    # As if each coefficient were a thousand million times as large.
    monkeypatch.setattr(_krylov, "_ROUNDING", 30e9)
    again = exponential_step(lambda v: rates * v, w, 1.0, 1e-9)
    assert kinds == [True, True, False]
    assert again.n_products > usual.n_products
    # What rounding may do is part of the error that is reported.
    assert again.error > 1e-6 > usual.error
    np.testing.assert_allclose(again.state, np.exp(again.tau * rates), rtol=0, atol=1e-8)


@pytest.mark.parametrize("tau", [0.5, 60.0, 4000.0])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_column_of_a_small_exponential_by_steps_and_by_squares(n, tau):
    rng = np.random.default_rng(n)
    # Stiff: real parts from 0 to about -3 n, and for the longest time 100 000 norms.
    matrix = np.triu(0.3 * rng.standard_normal((n, n)), -1) - np.diag(np.linspace(0.0, 3.0 * n, n))
    matrix -= np.linalg.eigvals(matrix).real.max() * np.eye(n)
    columns, norm = np.ascontiguousarray(matrix.T), np.linalg.norm(matrix, 2)
    expected = scipy.linalg.expm(tau * matrix)[:, 0]
    atol = 1e-13 + EPS * tau * norm
    np.testing.assert_allclose(_hessenberg.exponential_column(columns, norm, tau), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("tau_max", [3.0, 3000.0])
def test_longest_time_is_where_the_estimate_is_allowed(tau_max):
    # A mode that decays fast beside slow ones: the last entries of the column grow with tau.
    n, allowed = 6, 1e-4
    matrix = np.diag([-1e-3, -40.0, -80.0, -60.0, -90.0, 0.0]) + np.diag([0.5, 20.0, 20.0, 20.0, 1.0], -1)
    columns, norm = np.ascontiguousarray(matrix.T), np.linalg.norm(matrix, 2)
    tau, column = _hessenberg.longest_time(columns, norm, tau_max, allowed, 1.0)

    def error(t):
        x = scipy.linalg.expm(t * matrix)[:, 0]
        return _hessenberg.estimate(x[n - 2], x[n - 1], 1.0) / t

    np.testing.assert_allclose(column, scipy.linalg.expm(tau * matrix)[:, 0], rtol=0, atol=1e-12)
    assert error(tau) <= allowed
    # The estimate changes its formula on the way, and is not monotone.
    assert error(1.5 * tau) > allowed
