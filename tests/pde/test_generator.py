"""Modes and generator against sums written out term by term."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pde import PeriodicField, grid, transforms
from pde.spectral._generator import Generator, product_grid
from pde.spectral._modes import Modes

EPS = np.finfo(float).eps


def random_polynomial(rng, n_fields, k_max, radius=np.inf):
    """Coefficients c[k_1, k_2] of real fields as a dictionary, |k_i| <= k_max and |k| <= radius."""
    c = {}
    for k in np.ndindex(2 * k_max + 1, 2 * k_max + 1):
        k = (k[0] - k_max, k[1] - k_max)
        if np.hypot(*k) <= radius and k not in c:
            value = rng.standard_normal(n_fields) + 1j * rng.standard_normal(n_fields)
            value = value.real + 0j if k == (0, 0) else value
            c[k], c[-k[0], -k[1]] = value, value.conj()
    return c


def values(c, n, component=0):
    x = 2 * np.pi * np.arange(n) / n
    waves = (value[component] * np.exp(1j * (k[0] * x[:, None] + k[1] * x)) for k, value in c.items())
    return sum(waves).real


def convolved(v, w, length):
    """Coefficients of v . grad w by the direct sum over pairs of modes."""
    out = {}
    for p, a in v.items():
        for q, b in w.items():
            k = (p[0] + q[0], p[1] + q[1])
            out[k] = out.get(k, 0) + 2j * np.pi / length * (a[0] * q[0] + a[1] * q[1]) * b[0]
    return out


@pytest.fixture
def problem():
    """A velocity of bandwidth 3 and a state in the disc of radius 6.5, on a torus of period 2.5."""
    rng = np.random.default_rng(8)
    v, w = random_polynomial(rng, 2, 3), random_polynomial(rng, 1, 6, radius=6.5)
    velocity = PeriodicField(np.stack([values(v, 16, 0), values(v, 16, 1)]), length=2.5)
    modes = Modes(6.5, 20, length=2.5)
    return v, w, velocity, modes, on_modes(modes, values(w, 32))


def sup(state):
    return np.abs(state).max()


def on_modes(modes, values):
    return modes.gather(transforms.to_spectrum(values))


@pytest.mark.parametrize(("radius", "k_max"), [(1.0, 9), (3.0, 9), (4.7, 9), (5.0, 3), (5.0, 4), (np.sqrt(2) * 6, 6)])
def test_modes_are_half_of_the_disc(radius, k_max):
    modes = Modes(radius, k_max)
    side = range(-k_max, k_max + 1)
    disc = {(k1, k2) for k1 in side for k2 in side if k1**2 + k2**2 <= radius**2 * (1 + 1e-12)}
    kept = {tuple(int(i) for i in k) for k in modes.k.T}
    assert len(kept) == modes.size == (len(disc) + 1) // 2
    assert kept | {(-k1, -k2) for k1, k2 in kept} == disc


@pytest.mark.parametrize("n", [13, 14, 24])
def test_state_and_grid_function_are_the_same_polynomial(problem, n):
    _, w, _, modes, state = problem
    # Sums of fewer than 200 terms of size 1 round by less than 200 eps times their number.
    assert np.abs(modes.to_grid(state, 13 + n) - values(w, 13 + n)).max() <= 1e-11
    assert sup(on_modes(modes, values(w, n)) - state) <= 1e-12


def test_mode_of_a_state_is_its_fourier_coefficient(problem):
    _, w, _, modes, state = problem
    assert sup(state - np.array([w[tuple(k)][0] for k in modes.k.T])) <= 1e-12
    assert np.allclose(modes.k_squared, (2 * np.pi / 2.5) ** 2 * (modes.k**2).sum(axis=0), rtol=4 * EPS)


@pytest.mark.parametrize("radius", [2.0, 4.3, 6.5, 9.0])
def test_change_of_modes_drops_and_adds_nothing_else(problem, radius):
    _, w, _, modes, state = problem
    other = Modes(radius, 20, length=2.5)
    wanted = [w[tuple(k)][0] if tuple(k) in w else 0 for k in other.k.T]
    assert sup(modes.change(state, other) - np.array(wanted)) <= 1e-12


def test_shells_hold_both_modes_of_a_pair(problem):
    _, w, _, modes, state = problem
    sums = np.zeros(7)
    for k, value in w.items():
        # The mean is its own partner and counted twice, which only makes a bound larger.
        sums[int(np.hypot(*k))] += abs(value[0]) * (2 if k == (0, 0) else 1)
    assert np.allclose(modes.shells(state), sums, rtol=1e-12)


def test_product_is_the_convolution(problem):
    v, w, velocity, modes, state = problem
    exact = convolved(v, w, 2.5)
    product = np.array([exact[tuple(k)] for k in modes.k.T])
    generator = Generator(velocity, 0.3, modes)
    assert generator.n_grid >= 2 * 6 + 3 + 1
    # About 49 terms of size 2 pi 6 / 2.5 * 2: rounding below 1e4 eps.
    assert sup(generator.convection(state) - product) <= 1e4 * EPS
    assert sup(generator(state) - (product - 0.3 * modes.k_squared * state)) <= 1e4 * EPS


def test_too_small_a_grid_aliases_and_the_residual_says_so(problem):
    _, _, velocity, modes, state = problem
    clean, aliased = Generator(velocity, 0.0, modes), Generator(velocity, 0.0, modes, n_grid=14)
    difference = aliased.convection(state) - clean.convection(state)
    assert sup(difference) > 0.1
    # With nu = 0 and tau = 1 the residual is what is lost of v . grad w: its part on the modes kept is the alias.
    parts = on_modes(modes, aliased.residual(state, velocity, 1.0))
    assert sup(parts + difference) <= 1e4 * EPS


@pytest.mark.parametrize(("nu", "tau"), [(0.0, 0.3), (0.02, 0.3), (0.02, 1e-3)])
def test_residual_is_what_the_modes_lose_while_it_lives(problem, nu, tau):
    v, w, velocity, modes, state = problem
    residual = Generator(velocity, nu, modes).residual(state, velocity, tau)
    kept = {tuple(k) for k in modes.k.T} | {tuple(-k) for k in modes.k.T}
    lost = {}
    for k, value in convolved(v, w, 2.5).items():
        rate = nu * (2 * np.pi / 2.5) ** 2 * (k[0] ** 2 + k[1] ** 2)
        lost[k] = [0 if k in kept else value * min(tau, 1 / rate if rate else np.inf)]
    assert np.abs(residual - values(lost, residual.shape[0])).max() <= 1e5 * EPS


def test_residual_knows_what_sampling_the_velocity_costs(problem):
    _, _, velocity, modes, state = problem
    rough = velocity.with_interpolation("bilinear")
    sampled = PeriodicField(rough.on_grid(24), 2.5)
    generator = Generator(sampled, 0.0, modes)
    m = 2 * generator.n_grid
    residual = generator.residual(state, rough, 1.0)
    slopes = np.moveaxis(PeriodicField(modes.to_grid(state, 32), 2.5).jacobian_on_grid(m), -1, 0)
    exact = (rough.on_grid(m) * slopes).sum(axis=0) - modes.to_grid(generator.convection(state), m)
    # The Nyquist mode of the fine grid alone may differ: the product of a bilinear velocity is not band-limited.
    assert np.abs(residual - exact).max() <= 1e-10 * np.abs(exact).max()


def test_other_velocity_on_the_same_modes(problem):
    _, _, velocity, modes, state = problem
    other = PeriodicField(np.roll(velocity.values, 3, axis=-1), 2.5)
    generator = Generator(velocity, 0.3, modes, n_grid=30).with_velocity(other)
    assert generator.n_grid == 30
    assert sup(generator(state) - Generator(other, 0.3, modes)(state)) <= 1e4 * EPS


def test_transport_rate_bounds_the_imaginary_reach(problem):
    _, _, velocity, modes, _ = problem
    generator = Generator(velocity, 0.0, modes)
    speed = np.abs(velocity.on_grid(generator.n_grid)).sum(axis=0).max()
    assert generator.transport_rate == pytest.approx(speed * 2 * np.pi / 2.5 * 6)


def test_constants_are_in_the_kernel(problem):
    _, _, velocity, modes, _ = problem
    assert not Generator(velocity, 0.3, modes)(on_modes(modes, np.ones((16, 16)))).any()


def test_default_grid_is_fast_and_even(problem):
    _, _, velocity, modes, _ = problem
    assert Generator(velocity, 0.0, modes).n_grid == grid.fast_size(2 * 6 + 3 + 1)


@pytest.mark.parametrize(("n", "n_columns"), [(12, 7), (15, 8), (80, 41), (80, 20)])
def test_both_transforms_are_the_same_to_rounding(n, n_columns, monkeypatch):
    pytest.importorskip("ducc0")
    values = np.random.default_rng(n).standard_normal((2, n, n))
    fast = transforms.to_spectrum(values)
    back = transforms.to_values(fast[..., :n_columns], n)
    monkeypatch.setattr(transforms, "ducc0", None)
    # Sums of n**2 terms over n**2: rounding of a few eps log2(n) of their root mean square, below 4 / n and 4.
    assert np.abs(fast - transforms.to_spectrum(values)).max() <= 100 * EPS / n
    assert np.abs(back - transforms.to_values(fast[..., :n_columns], n)).max() <= 100 * EPS
    if n_columns == n // 2 + 1:
        assert np.abs(back - values).max() <= 100 * EPS


@pytest.mark.parametrize("n", [12, 15, 80])
@pytest.mark.parametrize("engine", ["ducc0", "pypocketfft", None])
def test_transforms_of_one_size_are_those_of_any_size(engine, n, monkeypatch):
    for name in ("ducc0", "pypocketfft"):
        if name == engine and getattr(transforms, name) is None:
            pytest.skip(f"{name} is not there")
        if engine != "ducc0" and name != engine:
            monkeypatch.setattr(transforms, name, None)
    values, spectrum = transforms.transforms_of(n)
    own = np.random.default_rng(n).standard_normal((2, n, n))
    spectra = np.stack([spectrum(one) for one in own])
    kept, out = spectra.copy(), np.empty((2, n, n))
    assert np.abs(spectra - np.fft.rfft2(own, norm="forward")).max() <= 100 * EPS / n
    for given in (out, None):
        assert np.abs(values(spectra, given) - own).max() <= 100 * EPS
    assert np.array_equal(spectra, kept)
    assert engine is None or np.abs(out - own).max() <= 100 * EPS


@pytest.mark.parametrize("threads", ["4,2", "", "auto"])
def test_transforms_where_the_number_of_threads_is_no_number(threads):
    # OpenMP takes a list, one number per level of nesting.
    code = "import numpy as np; from pde import transforms; print(transforms.to_spectrum(np.ones((4, 4)))[0, 0].real)"
    kept = {name: value for name, value in os.environ.items() if name != "DUCC0_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1.0", done.stderr


def test_small_product_grid_spoils_the_edge_alone():
    rng = np.random.default_rng(3)
    v, w = random_polynomial(rng, 2, 3), random_polynomial(rng, 1, 15, radius=15)
    velocity = PeriodicField(np.stack([values(v, 16, 0), values(v, 16, 1)]), length=2.5)
    modes = Modes(15.0, 20, length=2.5)
    state = on_modes(modes, values(w, 40))
    generator = Generator(velocity, 0.3, modes, product_grid(velocity, 15))
    clean = Generator(velocity, 0.3, modes, n_grid=40)
    assert generator.n_grid < 2 * 15 + 3 + 1 <= clean.n_grid
    wrong = np.abs(generator(state) - clean(state)) > 1e-10
    assert wrong.any()
    # An alias moves k_i by n_grid: it comes from |k_i| <= 18 and lands on |k_i| >= n_grid - 18.
    assert np.abs(modes.k[:, wrong]).max(axis=0).min() >= generator.n_grid - 18
