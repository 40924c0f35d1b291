"""The forward equation against closed forms, another grid, and the backward equation."""

import numpy as np
import pytest

import pde
from pde import ConvectionDiffusion, density, grid, random_fields, spectral

N = 48
X, Y = np.moveaxis(grid.points(N), -1, 0) * (2 * np.pi)


def smooth(seed, n_layers=1):
    return np.stack([random_fields.band_limited(N, 10 * seed + j, n_modes=2).values for j in range(n_layers)])


def bump(x):
    return np.exp(np.cos(2 * np.pi * (x[..., 0] - 0.3)) + np.sin(2 * np.pi * x[..., 1]))


def test_a_constant_velocity_carries_the_density_downstream():
    velocity = np.broadcast_to(np.array([0.3, -0.2])[:, None, None], (2, N, N))
    d = density.solve(velocity, 1 + np.cos(X), sigma=0.2, horizon=1.0)
    exact = 1 + np.exp(-0.02 * 4 * np.pi**2) * np.cos(X - 2 * np.pi * 0.3)
    assert np.abs(d.rho - exact).mean() <= 2 * d.error_estimate + 1e-13
    assert np.abs(d.rho - exact).max() <= 1e-8
    assert d.initial_mass == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_the_invariant_law_of_a_gradient_flow_stays(length):
    # v = -grad U: rho = exp(-U / nu) solves div(v rho) = nu lap rho.
    sigma, a = 0.3 * length, 0.04 * length**2
    velocity = a * 2 * np.pi / length * np.stack([np.sin(X), np.sin(Y)])
    rho = np.exp(-a * (np.cos(X) + np.cos(Y)) / (sigma**2 / 2))
    d = density.solve(velocity, rho, sigma=sigma, horizon=2.0, length=length)
    assert np.abs(d.rho - rho).max() <= 1e-8 * rho.max()
    assert d.mass_error <= 1e-11 * d.initial_mass
    assert d.initial_mass == pytest.approx(rho.mean() * length**2, rel=1e-12)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_forward_equation_is_the_adjoint_of_the_backward_one(n_layers):
    velocity, f = smooth(1, n_layers), random_fields.terminal_datum(N, 7, n_modes=2)
    rho = 1 + 0.5 * random_fields.terminal_datum(N, 8, n_modes=2).values
    d = density.solve(velocity, rho, sigma=0.4, horizon=1.0)
    u = spectral.solve(ConvectionDiffusion(velocity, f, sigma=0.4))
    # Both products are resolved by the grid: their means are the integrals.
    gap = abs((u.u * rho).mean() - (f.values * d.rho).mean())
    assert gap <= 2 * (u.error_estimate * np.abs(rho).mean() + d.error_estimate * np.abs(f.values).max())
    # The layers in the wrong order, or a velocity of the wrong sign, are seen.
    assert (
        abs((u.u * rho).mean() - (f.values * density.solve(-velocity, rho, sigma=0.4, horizon=1.0).rho).mean()) > 1e-3
    )


def test_another_grid_gives_the_same_density_within_the_estimate():
    velocity = smooth(2)
    coarse, fine = (density.solve(velocity, bump, sigma=0.4, horizon=1.0, n=n, rtol=1e-10) for n in (48, 96))
    error = np.abs(coarse.field.on_grid(96) - fine.rho).mean()
    assert error <= 2 * (coarse.error_estimate + fine.error_estimate)
    assert max(fine.error_estimate, coarse.error_estimate) <= 1e-8
    assert fine.rho.min() > -fine.error_estimate


def test_what_is_not_resolved_is_refused():
    with pytest.raises(spectral.UnresolvedError, match="raise n above 16"):
        density.solve(smooth(3), bump, sigma=0.02, horizon=1.0, n=16)
    with pytest.raises(ValueError, match="velocity must be a field, steady or in layers, got a callable"):
        density.solve(lambda x, t: 0 * x, bump, sigma=0.1, horizon=1.0)
    with pytest.raises(ValueError, match="velocity must be trigonometric, got interpolation='bilinear'"):
        density.solve(pde.PeriodicField(smooth(3)[0], 1.0, "bilinear"), bump, sigma=0.1, horizon=1.0)
