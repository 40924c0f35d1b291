"""Potentials and sources of which few paths bring most of the mean: counted, named or refused."""

import numpy as np
import pytest

import pde
from pde import feynman_kac, grid, spectral
from pde.feynman_kac._path_moments import is_extreme, path_moments

NODES = np.arange(64) / 64
WAVE = np.cos(2 * np.pi * NODES)[:, None] * np.ones(64)
ROW = np.sin(2 * np.pi * NODES) * np.ones((64, 1))
SHEARS = 0.3 * np.stack([ROW, ROW.T])
X = np.array([[0.1, 0.1], [0.3, 0.2]])


def spike(width):
    x = np.arange(128) / 128 - 0.5
    return np.exp(-(x[:, None] ** 2 + x**2) / (2 * width**2))


@pytest.mark.parametrize("source", [None, WAVE.T])
@pytest.mark.parametrize("potential", [None, 1.5 * WAVE])
def test_first_moment_is_the_solution(potential, source):
    problem = pde.ConvectionDiffusion(SHEARS, WAVE + 1.2, sigma=0.3, potential=potential, source=source)
    (m1,), size, growth = path_moments(problem, 64, count=1)
    size *= np.exp(growth)
    u = spectral.solve(problem, rtol=1e-4).field(grid.points(len(m1)))
    # Of first order in the steps, and bilinear between the points.
    assert np.abs(size * m1 - u).max() < 0.03 * np.abs(u).max()


def test_higher_moments_are_solutions_with_powers_of_the_data():
    f, c = WAVE + 1.2, 1.5 * WAVE
    moments, size, growth = path_moments(pde.ConvectionDiffusion(SHEARS, f, sigma=0.3, potential=c), 64)
    size *= np.exp(growth)
    for k, found in enumerate(moments, 1):
        u = spectral.solve(pde.ConvectionDiffusion(SHEARS, f**k, sigma=0.3, potential=k * c), rtol=1e-4)
        exact = u.field(grid.points(len(found)))
        assert np.abs(size**k * found - exact).max() < 0.03 * k * np.abs(exact).max()


def test_moments_of_a_source_are_those_of_paths():
    problem = pde.ConvectionDiffusion(SHEARS, 0 * WAVE, sigma=0.2, source=3 * spike(0.15))
    (m1, m2), size, _ = path_moments(problem, 128, count=2)
    e = feynman_kac.estimate(problem, X, 4096, 64, 0)
    i, j = np.rint(X * len(m1)).astype(int).T
    variance = size**2 * (m2 - m1**2)[i, j]
    np.testing.assert_allclose(variance, e.stderr**2 * 4096, rtol=0.3)


@pytest.mark.parametrize(
    ("extra", "sigma"), [({"potential": 60 * spike(0.03)}, 0.2), ({"potential": 60 * spike(0.03)}, 0.1)]
)
def test_a_peak_whose_paths_are_too_rare_is_named_or_refused(extra, sigma):
    # exp of 60 for paths that stay: 8192 paths say 5, and the solution is 1.5e5.
    problem = pde.ConvectionDiffusion(SHEARS, WAVE + 1.2, sigma=sigma, **extra)
    assert is_extreme(problem, 128)
    with pytest.warns(RuntimeWarning, match="samples may have missed large values of f and its weights"):
        feynman_kac.estimate(problem, X, 8192, 32, 0)
    with pytest.raises(feynman_kac.NotConvergedError, match="paths too rare for max_cost=1e\\+12 bring up to"):
        feynman_kac.solve_to(problem, X, 0.02)
    with pytest.raises(feynman_kac.NotConvergedError, match="max_cost"):
        feynman_kac.multilevel(problem, X, stderr=0.05)


@pytest.mark.parametrize(
    ("extra", "sigma"),
    [({"source": 100 * spike(0.03)}, 0.1), ({"potential": 8 * spike(0.05)}, 0.1), ({"potential": 4 * WAVE}, 0.2)],
)
def test_rare_paths_that_can_be_paid_for_are_paid_for(extra, sigma):
    """Beyond five of the stated errors, bias included, once in 10**6 times."""
    problem = pde.ConvectionDiffusion(SHEARS, WAVE + 1.2, sigma=sigma, **extra)
    u = spectral.solve(problem, rtol=1e-4, n=128, check=False)
    for seed in range(3):
        s = feynman_kac.solve_to(problem, X, 0.05, seed)
        assert (np.abs(s.mean - u.field(X)) < 5 * np.hypot(s.stderr, s.bias_estimate) + u.error_estimate).all()


def test_even_potentials_and_sources_are_not_looked_at():
    for extra in ({"potential": WAVE}, {"source": 3 + spike(0.1)}, {"source": WAVE, "potential": 5.0}, {}):
        assert not is_extreme(pde.ConvectionDiffusion(SHEARS, WAVE, sigma=0.2, **extra), 128)
