"""Potential and source in the spectral solver: closed forms, layers, and the door."""

import numpy as np
import pytest

from pde import ConvectionDiffusion, grid, spectral

N = 32
X, Y = np.moveaxis(grid.points(N), -1, 0) * (2 * np.pi)
STILL = np.zeros((2, N, N))
NU, Q2 = 0.045, 4 * np.pi**2


def check(problem, exact, **options):
    s = spectral.solve(problem, **options)
    error = np.abs(s.u - exact).max()
    assert error <= 1e-8 * max(1.0, np.abs(exact).max())
    assert error <= 2 * s.error_estimate + 1e-13


def test_constants_grow_and_accumulate():
    exact = np.exp(0.7 - NU * Q2) * np.cos(X) + 0.5 * np.expm1(0.7) / 0.7
    check(ConvectionDiffusion(STILL, np.cos(X), sigma=0.3, potential=0.7, source=0.5), exact)


def test_a_source_is_carried_upstream_while_it_diffuses():
    velocity, q = STILL + np.array([0.3, -0.2])[:, None, None], 2 * np.pi
    rate = -NU * Q2 - 0.2j * q
    exact = np.exp(-NU * Q2) * np.cos(X + 0.3 * q) + np.imag(np.expm1(rate) / rate * np.exp(1j * Y))
    for source in (np.sin(Y), lambda x: np.sin(2 * np.pi * x[..., 1])):
        check(ConvectionDiffusion(velocity, np.cos(X), sigma=0.3, source=source), exact)


@pytest.mark.parametrize("length", [1.0, 4.0])
def test_the_ground_state_of_a_potential_stays(length):
    # c = -nu lap h / h.
    def h(x):
        return 1 + 0.3 * np.cos(2 * np.pi * x[..., 0] / length)

    nu = NU * length**2

    def c(x):
        return nu * (2 * np.pi / length) ** 2 * (h(x) - 1) / h(x)

    x = grid.points(N, length)
    for potential in (c(x), c):
        check(ConvectionDiffusion(STILL, h(x), sigma=0.3 * length, length=length, potential=potential), h(x))


def test_layers_of_potential_and_source_hold_in_their_time():
    # From t = 1 down: c = 1, g = 0, then c = 0, g = 2, each for half of the time; constants only.
    c, g = (np.array(values)[:, None, None] * np.ones((N, N)) for values in ([0.0, 1.0], [2.0, 0.0]))
    problem = ConvectionDiffusion(STILL, np.ones((N, N)), sigma=0.3, potential=c, source=g)
    check(problem, np.full((N, N), np.exp(0.5) + 2 * 0.5))
    s = spectral.solve(problem, save_at=[0.5])
    assert s.saved[0] == pytest.approx(np.exp(0.5), abs=1e-8)


def test_a_zero_terminal_datum_with_a_source_is_solved():
    exact = -np.expm1(-NU * Q2) / (NU * Q2) * np.cos(X)
    check(ConvectionDiffusion(STILL, np.zeros((N, N)), sigma=0.3, source=np.cos(X)), exact)


def test_what_the_solver_cannot_do_it_refuses_by_name():
    moving = ConvectionDiffusion(STILL, np.cos(X), sigma=0.3, source=lambda x, t: t + 0 * x[..., 0])
    with pytest.raises(
        ValueError, match=r"source must not depend on time continuously in spectral\.solve: give layers"
    ):
        spectral.solve(moving)
    steady = ConvectionDiffusion(STILL, np.cos(X), sigma=0.3, potential=1.0)
    with pytest.raises(ValueError, match="method='ifrk4' and this velocity does not support a potential"):
        spectral.solve(steady, method="ifrk4")


@pytest.mark.parametrize("rate", [5.0, 30.0, 250.0])
def test_growth_by_a_large_potential_costs_no_relative_accuracy(rate):
    # A constant potential multiplies the solution without one by exp(c T).
    velocity = np.stack([np.sin(Y), np.sin(X)])
    plain = spectral.solve(ConvectionDiffusion(velocity, np.cos(X), sigma=0.3), rtol=1e-10)
    s = spectral.solve(ConvectionDiffusion(velocity, np.cos(X), sigma=0.3, potential=rate))
    error = np.abs(s.u * np.exp(-rate) - plain.u).max()
    # rtol = 1e-8 is relative to exp(c T) max |f|; it was exp(c T) times as large.
    assert error <= min(1e-7, 2 * s.error_estimate * np.exp(-rate) + 1e-10)
    assert s.error_estimate * np.exp(-rate) <= 1e-6


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"potential": 400.0}, r"max c T = 400, beyond the range of the numbers; c less a constant c_0 divides u by"),
        ({"potential": -1e20}, r"max \|c\| T, is out of range; choose units"),
        ({"potential": -1e300}, r"max \|c\| T, is out of range; choose units"),
    ],
)
def test_potentials_out_of_range_are_refused_with_a_remedy_that_the_method_has(changes, remedy):
    problem = ConvectionDiffusion(STILL, np.cos(X), sigma=0.3, **changes)
    with pytest.raises(spectral.UnresolvedError, match=remedy) as refused:
        spectral.solve(problem)
    assert "dt" not in str(refused.value)
    assert "try n" not in str(refused.value)


def test_the_remedy_for_an_error_in_time_is_an_option_of_the_method():
    # rtol = 0.5 leaves an error in time beyond the resolution.
    problem = ConvectionDiffusion(np.stack([np.sin(Y), np.sin(X)]), np.cos(X), sigma=0.3, potential=np.cos(Y))
    with pytest.raises(
        spectral.UnresolvedError, match=r"estimated error in time .*; choose rtol <= ([\d.e-]+)"
    ) as refused:
        spectral.solve(problem, rtol=0.5, resolution=1e-9)
    wanted = float(str(refused.value).split("rtol <= ")[1].split(";")[0])
    assert spectral.solve(problem, rtol=wanted, resolution=1e-9).resolved


def in_a_well(strength, n_layers=1):
    velocity = np.stack([0.3 * np.sin(Y), 0.2 * np.cos(X)])
    potential = strength * np.stack([np.cos(X + layer) for layer in range(n_layers)])
    return ConvectionDiffusion(velocity, np.ones((N, N)), sigma=0.4, potential=potential)


@pytest.mark.parametrize("strength", [20.0, 60.0])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_what_is_resolved_is_measured_by_u_and_not_by_what_a_potential_could_make_of_it(strength, n_layers):
    # exp(max c T) is 170 (strength 20) to 1e4 times max |u|.
    problem = in_a_well(strength, n_layers)
    fine = spectral.solve(problem, 96, rtol=1e-10, check=False)
    resolved = []
    for n in (16, 24, 32, 48, 96):
        s = spectral.solve(problem, n, check=False)
        largest = max(s.sup_norms.max(), 1.0)
        assert s.resolved == (s.error_estimate <= 1e-3 * largest)
        assert np.abs(s.u - fine.field.on_grid(n)).max() <= 2 * s.error_estimate + 1e-6 * largest
        resolved.append(s.resolved)
    assert not resolved[0] and resolved[-1]
    with pytest.raises(spectral.UnresolvedError, match=r"the spectrum does not decay within 5 modes"):
        spectral.solve(problem, 16)


def test_a_source_that_hardly_moves_u_is_measured_by_what_it_does():
    # A wave that diffusion takes as fast as the source makes it: u is g / (nu |q|**2), 1 / 400 of max |g| T.
    q2 = (2 * np.pi * 15) ** 2
    problem = ConvectionDiffusion(STILL, np.zeros((N, N)), sigma=0.3, source=np.cos(15 * X))
    s = spectral.solve(problem, 96)
    exact = -np.expm1(-NU * q2) / (NU * q2) * np.cos(15 * 2 * np.pi * grid.points(96)[..., 0])
    assert np.abs(s.u - exact).max() <= s.error_estimate <= 1e-3 * np.abs(exact).max()
    with pytest.raises(spectral.UnresolvedError, match="unresolved"):
        spectral.solve(problem, 40)


@pytest.mark.parametrize("of_points", [True, False])
@pytest.mark.parametrize("k", [16, 20, 40])
def test_waves_that_no_product_of_the_grid_holds_are_counted(k, of_points):
    # On 16 points modes up to 5 are kept, and products with modes up to 15 are formed.
    def wave(x):
        return np.cos(2 * np.pi * k * x[..., 0])

    x, sampled = grid.points(16), wave(grid.points(128))
    for size in (1.0, 1e-4):
        part = (lambda x, size=size: size * wave(x)) if of_points else size * sampled
        # u = 1 + A cos(2 pi k x), A = size (1 - exp(-r)) / r, r = nu (2 pi k)**2; of c without diffusion exp(c).
        rate = 5e-5 * (2 * np.pi * k) ** 2
        source = ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=0.01, source=part)
        potential = ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=0.0, potential=part)
        for problem, exact in (
            (source, 1 - size * np.expm1(-rate) / rate * wave(x)),
            (potential, np.exp(size * wave(x))),
        ):
            s = spectral.solve(problem, 16, check=False, save_at=[0.5, 0.0])
            assert np.abs(s.u - exact).max() <= s.error_estimate <= 5 * size
            assert s.saved_error_estimates[1] == pytest.approx(s.error_estimate, rel=1e-3)
            assert s.resolved == (size < 1)
