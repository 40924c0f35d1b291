"""Callables as samples and fields as tables: what these miss is less than is said, or there is a warning."""

import warnings

import numpy as np
import pytest

import pde
from pde import PeriodicField, feynman_kac
from pde.bounds import _gradient, _rates
from pde.bounds._table_bounds import error_of_tables


def along_x(values):
    """A velocity of shape (..., 2) whose second component is zero."""
    return np.stack([values, 0 * values], axis=-1)


def front(x, t):
    return along_x(np.tanh(60 * np.sin(2 * np.pi * x[..., 0])))


def wave(x):
    return np.sin(2 * np.pi * x[..., 0])


def test_a_steep_callable_is_sampled_on_the_points_that_were_judged():
    problem, x = pde.ConvectionDiffusion(front, wave, sigma=0.1, horizon=0.1), np.array([0.005, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = feynman_kac.estimate(problem, [x], 2048, 100, rng=1)
    # The same paths by the velocity itself, whose samples of 512 points miss 3e-5 on average, and 3e-3 on a front of a
    # 200th of the period: it keeps paths apart by less than 3e-3 sqrt(T) or 1e-3, f' = 2 pi; 128 points miss by 0.03.
    increments = feynman_kac.brownian_increments(1, 100, 2048, 1e-3)
    exact = wave(feynman_kac.euler_maruyama(problem, x, increments)).mean()
    assert abs(e.mean[0] - exact) < 1e-3


def jet(width):
    return lambda x, t: along_x(np.exp(-((x[..., 0] - 0.377) ** 2 + (x[..., 1] - 0.511) ** 2) / (2 * width**2)))


# Narrower than the gaps between a few hundred points at random; of modes beyond 256; on average more than at its peak.
UNRESOLVED = {
    "a jet of a cell": jet(1e-3),
    "a jet within a cell": jet(3e-4),
    "a wave of one cell": lambda x, t: along_x(np.sin(2 * np.pi * 512 * x[..., 0])),
    "a jump": lambda x, t: along_x(np.sign(np.sin(2 * np.pi * x[..., 0]))),
    "a stripe": lambda x, t: along_x(np.exp(-((x[..., 0] - 0.377) ** 2) / (2 * 1e-3**2))),
}


@pytest.mark.parametrize("name", UNRESOLVED)
@pytest.mark.filterwarnings("ignore:velocity.* jumps by")
def test_what_no_samples_resolve_is_said(name):
    problem = pde.ConvectionDiffusion(UNRESOLVED[name], np.zeros((4, 4)), sigma=0.1)
    with pytest.warns(RuntimeWarning, match="the velocity is not resolved by 512 points per side"):
        feynman_kac.estimate(problem, [[0.1, 0.2]], 2, 1)


@pytest.mark.parametrize("velocity", [jet(3e-3), lambda x, t: along_x(np.abs(wave(x)))])
def test_what_samples_resolve_is_not_warned_of(velocity):
    # A width of 1.5 cells of 512, which Gaussians need; a kink, whose samples miss 1e-5 on average.
    problem = pde.ConvectionDiffusion(velocity, np.ones((4, 4)), sigma=0.1)
    assert feynman_kac.estimate(problem, [[0.1, 0.2]], 2, 1).mean == pytest.approx([1.0], abs=1e-12)


def mode(n, k):
    return PeriodicField(np.cos(2 * np.pi * k * np.arange(n) / n)[:, None] * np.ones(n))


@pytest.mark.parametrize(("n", "k", "largest"), [(64, 30, 2048), (128, 60, 4096), (128, 3, 256), (48, 20, 1536)])
def test_a_mode_near_the_limit_of_its_grid_is_held_to_a_millionth(n, k, largest):
    x, f, q = np.random.default_rng(0).random((100, 2)), mode(n, k), 2 * np.pi * k
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = feynman_kac.estimate(pde.ConvectionDiffusion(np.zeros((2, 4, 4)), f, sigma=1e-9), x, 16, 1)
    # The noise moves f by sigma |f'| or 4e-7, of which sixteen paths leave a quarter.
    error, noise = np.abs(e.mean - np.cos(q * x[:, 0])), 5 * 1e-9 * q / 4
    assert error.max() < 1e-6 + noise
    # About q**4 / (384 n**4), and no worse.
    assert feynman_kac.table_errors(pde.ConvectionDiffusion(np.zeros((2, 4, 4)), f, sigma=1))["terminal"] < 1e-6
    assert error.max() < 1.1 * (q / largest) ** 4 / 384 + noise


@pytest.mark.parametrize(("n", "k"), [(600, 290), (512, 250), (256, 120)])
@pytest.mark.parametrize("as_velocity", [False, True])
def test_modes_that_no_table_holds_are_said(n, k, as_velocity):
    f = mode(n, k)
    if as_velocity:
        problem = pde.ConvectionDiffusion(np.stack([f.values, 0 * f.values]), np.ones((4, 4)), sigma=1e-9)
    else:
        problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), f, sigma=1e-9)
    with pytest.warns(RuntimeWarning, match="has modes that no table of affordable size holds"):
        e = feynman_kac.estimate(problem, [[0.1, 0.2], [0.21, 0.7]], 16, 1)
    name = "velocity" if as_velocity else "terminal"
    missed = feynman_kac.table_errors(problem)[name]
    q = 2 * np.pi * k / 4096
    # r(q) - 1 = -q**4 / 384 (1 + O(q**2)), with q < 0.45.
    assert missed == pytest.approx(q**4 / 384, rel=0.1)
    if not as_velocity:
        exact = np.cos(2 * np.pi * k * np.array([0.1, 0.21]))
        assert (np.abs(e.mean - exact) < 1.5 * missed + 5e-9 * 2 * np.pi * k).all()


def test_each_field_is_judged_and_layers_share_the_memory():
    noise = np.random.default_rng(0).uniform(-1, 1, (8, 64, 64))
    layered = pde.ConvectionDiffusion(noise.reshape(4, 2, 64, 64), noise[0], sigma=2 + noise[1], source=noise[2])
    found = feynman_kac.table_errors(layered)
    # Of 32 modes: 2048 points for four layers and 4096 for one, (2 pi 32 / n)**4 / 384 in each direction at most.
    assert found.keys() == {"velocity", "sigma", "source", "terminal"}
    assert 0 < max(found.values()) < 2 * (2 * np.pi * 32 / 2048) ** 4 / 384 < 1e-6
    many = pde.ConvectionDiffusion(np.tile(noise.reshape(4, 2, 64, 64), (5, 1, 1, 1)), noise[0], sigma=1)
    with pytest.warns(RuntimeWarning, match="the velocity has modes"):
        feynman_kac.estimate(many, [[0.1, 0.2]], 2, 20)


def test_splines_have_exact_tables():
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 256, 256))
    problem = pde.ConvectionDiffusion(
        PeriodicField(noise[:2], 1.0, "bilinear"), PeriodicField(noise[2], 1.0, "bicubic"), sigma=0.1
    )
    assert feynman_kac.table_errors(problem) == {"velocity": 0.0, "terminal": 0.0}


def test_a_velocity_in_time_whose_fine_part_lasts_shortly_has_tables_for_it():
    k, field = 30, mode(64, 30).values

    def velocity(t):
        return np.stack([0 * field, field * (1 if abs(t - 0.45) < 0.01 else 1e-9)])

    problem = pde.ConvectionDiffusion(velocity, np.ones((4, 4)), sigma=0.1)
    # At the time of its maximum it needs more than the 1024 points of a table of a step: (2 pi 30 / 1024)**4 / 384.
    assert feynman_kac.table_errors(problem)["velocity"] == pytest.approx((2 * np.pi * k / 1024) ** 4 / 384, rel=0.1)


def bound(problem):
    low, high, slope = _gradient.terminal_range(problem)
    found = _rates.rates(problem)
    return error_of_tables(problem, found, slope, (low, high), np.exp(found.growth))


def test_certificates_count_what_the_table_of_the_data_misses():
    x, f = np.random.default_rng(0).random((200, 2)), mode(600, 290)
    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), f, sigma=1e-9)
    with pytest.warns(RuntimeWarning, match="the terminal has modes"):
        e = feynman_kac.estimate(problem, x, 2, 1)
    error = np.abs(e.mean - np.cos(2 * np.pi * 290 * x[:, 0])).max()
    # sigma |f'| sqrt(2) of noise.
    assert 5e-5 < error < bound(problem) + 1e-5
    assert bound(problem) < 3e-4


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3, 1.0, 5.0])
def test_a_wrong_drift_changes_u_by_less_than_its_bound(sigma, monkeypatch):
    velocity, k, missed = np.array([0.7, -0.4]), (1, 2), 1e-3
    problem = pde.problems.constant_velocity(velocity, k, sigma=sigma)
    monkeypatch.setattr(feynman_kac, "table_errors", lambda _: {"velocity": missed, "terminal": 0.0})
    x = np.random.default_rng(0).random((2000, 2))
    changes = []
    for angle in np.linspace(0, 2 * np.pi, 16):
        wrong = velocity + missed * 0.7 * np.array([np.cos(angle), np.sin(angle)])
        changes.append(np.abs(pde.problems.constant_velocity(wrong, k, sigma=sigma).exact(x) - problem.exact(x)).max())
    assert max(changes) <= bound(problem)
    # sqrt(2) for two components and 1.5 between the cells' centres, times |v| / 0.7, at sigma = 0.01.
    assert sigma > 0.01 or bound(problem) < 3 * max(changes)
    # At sigma = 5 the laws hardly differ: 2 drift / (2 sigma).
    assert sigma < 5 or bound(problem) < 1e-3
