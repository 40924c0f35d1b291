"""What controls know of their expectations: to far less than a standard error, or they are refused."""

import numpy as np
import pytest
import scipy.stats

import pde
from pde import PeriodicField, convergence, feynman_kac
from pde.feynman_kac._heat import heat_at
from pde.feynman_kac.control_variates import controlled_estimate, heat_semigroup

STILL = np.zeros((2, 4, 4))
POINTS = np.random.default_rng(1).random((200, 2))


def noise(n, rule, length=1.0):
    return PeriodicField(np.random.default_rng(n).uniform(-1, 1, (n, n)), length, rule)


@pytest.mark.parametrize("rule", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sigma", [1e-9, 1e-5, 1e-4, 5e-4])
def test_the_expectation_of_a_spline_under_little_noise_is_that_of_its_cells(rule, sigma):
    # Far below a cell the spline is a polynomial, which Gauss and Hermite integrate exactly: 24 nodes reach 9 standard
    # deviations, so that points that far from the edges of their cells see one polynomial alone.
    f, length = noise(64, rule, 1.5), 1.5
    z, w = np.polynomial.hermite_e.hermegauss(24)
    inside = np.abs(POINTS * 64 % 1 - 0.5).max(axis=-1) < 0.5 - 9 * sigma * 64 / length
    points = POINTS[inside] * length
    assert len(points) > 20
    values, error = heat_at(pde.ConvectionDiffusion(STILL, f, sigma=sigma, length=length), 1.0, points)
    nodes = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1) * sigma
    expected = f(points[:, None, None] + nodes) @ w @ w / (2 * np.pi)
    # Sums of doubles with values below 4.
    assert np.abs(values - expected).max() < 1e-12
    assert error < 1e-11


@pytest.mark.parametrize("rule", ["bilinear", "bicubic"])
@pytest.mark.parametrize("n", [1, 2, 5, 48])
def test_both_ways_to_the_expectation_of_a_spline_agree(rule, n, monkeypatch):
    # 1200 modes decide: one of the two is taken below 1.4e-3 of the period, the other above.
    problem = pde.ConvectionDiffusion(STILL, noise(n, rule), sigma=0.002)
    by_modes, _ = heat_at(problem, 1.0, 3 * POINTS - 1)
    monkeypatch.setattr("pde.feynman_kac._heat._LARGEST_MODE", 4)
    in_space, _ = heat_at(problem, 1.0, 3 * POINTS - 1)
    assert np.abs(by_modes - in_space).max() < 1e-12


@pytest.mark.parametrize("sigma", [1e-5, 1e-4])
def test_a_control_of_rough_data_under_little_noise_agrees_with_plain_paths(sigma):
    problem = pde.ConvectionDiffusion(STILL, noise(256, "bilinear"), sigma=sigma)
    c = controlled_estimate(problem, POINTS, 1024, 1, control="heat")
    e = feynman_kac.estimate(problem, POINTS, 1024, 1, rng=5)
    z = convergence.z_scores(c.mean, np.hypot(c.stderr, e.stderr), e.mean)
    # 200 points, a false alarm in a million; slopes jump where paths cross edges of cells: 1.2 for the tails.
    assert np.abs(z).max() < 1.2 * convergence.z_threshold(len(POINTS), 1e-6)
    # Without a velocity the control is the result.
    assert (c.stderr > 0).all() and c.stderr.max() < 1e-11


def test_modes_of_a_spline_that_are_cut_off_are_counted():
    f = noise(256, "bilinear")
    for sigma in (1e-5, 1e-4, 5e-4):
        with pytest.raises(ValueError, match="t must be larger: modes of terminal, a bilinear spline, beyond 1024"):
            heat_semigroup(pde.ConvectionDiffusion(STILL, f, sigma=sigma), 1.0)
    # One value on 16 points: bicubic modes beyond 1024 add up to less than 2 (16 / pi 1024)**3 / 3 of it.
    smooth = PeriodicField(np.ones((16, 16)), interpolation="bicubic")
    assert heat_semigroup(pde.ConvectionDiffusion(STILL, smooth, sigma=1e-5), 1.0)([0.3, 0.4]) == pytest.approx(1.0)


def step(x):
    return np.where(x[..., 0] < 0.3, 1.0, 0.0)


@pytest.mark.filterwarnings("ignore:terminal.* jumps by")
@pytest.mark.parametrize("control", ["heat", "characteristic"])
@pytest.mark.parametrize("sigma", [0.1, 2.0])
@pytest.mark.parametrize(
    "f",
    [
        step,
        lambda x: np.abs(np.sin(2 * np.pi * x[..., 0])),
        lambda x: np.where(np.hypot(x[..., 0] - 0.5, x[..., 1] - 0.5) < 0.21, 1.0, 0.0),
    ],
    ids=["step", "kink", "disc"],
)
def test_data_that_no_grid_holds_have_no_known_expectation(f, sigma, control):
    problem = pde.ConvectionDiffusion(STILL, f, sigma=sigma)
    with pytest.raises(ValueError, match=r"terminal is not smooth enough .* or take control='spectral'"):
        controlled_estimate(problem, [[0.1, 0.2]], 64, 4, control=control)


@pytest.mark.filterwarnings("ignore:terminal.* jumps by")
def test_such_data_are_controlled_by_a_spectral_solution():
    problem = pde.ConvectionDiffusion(STILL, step, sigma=0.3)
    e = controlled_estimate(problem, [[0.1, 0.2]], 4096, 16, control="spectral")
    shifts = np.arange(-5, 6)
    exact = np.diff(scipy.stats.norm.cdf((np.array([0.0, 0.3])[:, None] + shifts - 0.1) / 0.3), axis=0).sum()
    assert abs(e.mean[0] - exact) < 5 * e.stderr[0]


@pytest.mark.parametrize("k", [40, 130, 300])
def test_fine_waves_are_seen_by_all_grids(k):
    # Of 256 points a wave of 256 is a constant: other grids differ.
    problem = pde.ConvectionDiffusion(STILL, lambda x: np.cos(2 * np.pi * k * x[..., 0]) ** 2, sigma=0.3)
    values, error = heat_at(problem, 1.0, POINTS[:5])
    assert np.abs(values - 0.5).max() < 1e-11 and error < 1e-10


@pytest.mark.parametrize("control", ["heat", "characteristic", "spectral"])
def test_samples_that_all_agree_are_warned_of(control):
    f = PeriodicField(np.zeros((64, 64)) + (np.arange(64) == 0), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(STILL, f, sigma=0.05)
    with pytest.warns(RuntimeWarning, match="all 64 samples of terminal agree"):
        controlled_estimate(problem, [[0.5, 0.5]], 64, 4, control=control, n=64)
