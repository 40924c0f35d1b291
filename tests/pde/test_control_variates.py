"""Control variates: of the mean they claim, without bias, and of less variance."""

import math
import warnings
from functools import partial

import numba
import numpy as np
import pytest
import scipy.stats
from path_problems import eigenfunction as any_eigenfunction
from path_problems import random_points

import pde
from pde import convergence, feynman_kac, problems
from pde.feynman_kac import control_variates
from pde.feynman_kac.control_variates import CONTROLS, controlled_estimate, heat_semigroup, solve_in_time

FALSE_ALARM = 1e-6
eigenfunction = partial(any_eigenfunction, n=64)


def layered(n=32):
    shears = problems.crossed_shears(n=n)
    return pde.ConvectionDiffusion(shears.velocity, shears.terminal, sigma=0.2)


# --- what is known exactly -----------------------------------------------------------------------------------------


def test_heat_semigroup_damps_each_mode():
    problem = problems.fourier_mode((1, 2), sigma=0.3, length=2.0, horizon=0.8)
    points = random_points(20, length=2.0)
    np.testing.assert_allclose(heat_semigroup(problem, 0.8)(points), problem.exact(points), atol=1e-13)
    np.testing.assert_allclose(heat_semigroup(problem, 0.5)(points), problem.exact(points, 0.3), atol=1e-13)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_heat_semigroup_of_a_spline_is_the_expectation_of_the_spline(interpolation):
    values = np.random.default_rng(1).uniform(-1, 1, (6, 6))
    terminal = pde.PeriodicField(values, 1.5, interpolation)
    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), terminal, sigma=0.2, horizon=0.7, length=1.5)
    # Gauss-Legendre in each cell, where the spline is a polynomial, against the Gaussian weight summed over periods.
    nodes, weights = np.polynomial.legendre.leggauss(12)
    cells = np.arange(-18, 24)[:, None] * 0.25
    x = (cells + 0.125 * (nodes + 1)).ravel()
    w = np.tile(0.125 * weights, len(cells))
    point, spread = np.array([0.4, 1.1]), 0.2 * math.sqrt(0.7)
    density = [w * scipy.stats.norm.pdf(x, centre, spread) for centre in point]
    lattice = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    expected = density[0] @ terminal(lattice) @ density[1]
    # 12 nodes in a cell of 1.5 standard deviations: the rule is exact to 1e-12; the largest values are 1.
    assert abs(heat_semigroup(problem, 0.7)(point) - expected) < 1e-10


def test_heat_semigroup_of_a_callable_is_that_of_its_field():
    problem = problems.fourier_mode((2, 1), sigma=0.2)
    direct = pde.ConvectionDiffusion(problem.velocity, lambda x: problem.exact(x, 1.0), sigma=0.2)
    points = random_points(10)
    np.testing.assert_allclose(heat_semigroup(direct, 1.0)(points), problem.exact(points), atol=1e-12)


def test_a_callable_that_is_not_smooth_is_refused():
    problem = pde.ConvectionDiffusion(
        np.zeros((2, 4, 4)), lambda x: (np.abs(np.mod(x[..., 0], 1.0) - 0.5) < 0.31) * 1.0, sigma=0.01, horizon=1e-4
    )
    with pytest.raises(ValueError, match="terminal is not smooth enough"):
        heat_semigroup(problem, 1e-4)


@pytest.mark.parametrize(
    ("problem", "m"),
    [(problems.eigenfunction(sigma=0.2), 8), (problems.doob(horizon=0.3), 4), (problems.fourier_mode(length=2.0), 3)],
    ids=["steady", "in time", "units"],
)
def test_solution_in_time_is_the_exact_one_at_all_times(problem, m):
    solution = solve_in_time(problem, m, n=48)
    points = pde.grid.points(48, problem.length)
    for t, u in zip(solution.t, solution.u, strict=True):
        # rtol 1e-6 in each of at most 8 intervals.
        np.testing.assert_allclose(u, problem.exact(points, t), atol=1e-5)


def test_solution_in_time_is_as_accurate_as_its_tolerance():
    problem, points, errors = problems.doob(horizon=0.3), pde.grid.points(48), []
    for rtol in (1e-3, 1e-9):
        solution = solve_in_time(problem, 8, n=48, rtol=rtol)
        errors.append(
            max(np.abs(u - problem.exact(points, t)).max() for t, u in zip(solution.t, solution.u, strict=True))
        )
        # In each of 8 intervals, relative to max |f|.
        assert errors[-1] < 8 * rtol * np.abs(problem.terminal_on_grid(48)).max()
    assert errors[1] < 1e-2 * errors[0]


def test_solution_in_time_crosses_the_layers_in_order():
    problem = layered(64)
    solution = solve_in_time(problem, 3)
    assert len(solution.t) == 5
    whole = pde.spectral.solve(problem, rtol=1e-8)
    np.testing.assert_allclose(solution.u[0], whole.u, atol=1e-5)
    assert solution.error_estimate < 1e-2


# --- the estimate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", CONTROLS)
def test_plain_estimate_is_that_of_the_same_paths(control):
    problem, points = eigenfunction(), random_points(5)
    plain = feynman_kac.estimate(problem, points, 100, 16, rng=3)
    e = controlled_estimate(problem, points, 100, 16, rng=3, control=control, coefficient=0.0)
    np.testing.assert_allclose(e.mean, plain.mean, atol=1e-9)
    # The variance is the average over two halves here: 1 / 100 of it either way.
    np.testing.assert_allclose(e.stderr, plain.stderr, rtol=0.05)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("options", [{}, {"coefficient": 0.7}, {"length": 2.5, "horizon": 0.6}])
def test_unbiased_where_euler_maruyama_is_exact_in_law(control, options):
    options = dict(options)
    coefficient = options.pop("coefficient", None)
    problem = problems.constant_velocity((0.1, 0.05), sigma=0.3, **options)
    points = random_points(100, length=problem.length)
    e = controlled_estimate(problem, points, 400, 8, rng=4, control=control, coefficient=coefficient, n_times=4)
    if control == "characteristic" and coefficient is None:
        # Here f(y + sigma B_T) is f(X_T) itself: only the tables' 1e-6 max |v| remains.
        np.testing.assert_allclose(e.mean, problem.exact(points), atol=1e-6)
        assert (e.variance_ratio > 1e6).all()
        return
    z = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    # Two tests with a false-alarm rate of 1e-6 each, the normal law's tails widened for the 400 samples and the
    # products of normals in the martingale.
    assert np.abs(z).max() < 1.2 * convergence.z_threshold(100, FALSE_ALARM)
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 100)
    assert 0.9 * low < z @ z < 1.1 * high


def test_unbiased_with_few_paths():
    # A coefficient read off the same paths biases the mean by O(1 / n_paths); here it comes from the other half.
    problem = problems.constant_velocity((0.02, 0.03), (1, 0), sigma=0.25)
    points = np.broadcast_to([0.1, 0.2], (40_000, 2))
    e = controlled_estimate(problem, points, 4, 2, rng=2, control="heat")
    error = e.mean - problem.exact(points[0])
    # Heavy tails: the coefficient of two paths is a ratio with a Cauchy law; medians of groups of 200 means are robust.
    groups = np.clip(error, -1, 1).reshape(200, 200).mean(axis=1)
    assert abs(groups.mean()) < 4.9 * scipy.stats.sem(groups)


@pytest.mark.parametrize("problem", [layered(), problems.doob(horizon=0.3)], ids=["layers", "in time"])
@pytest.mark.parametrize("control", CONTROLS)
def test_agrees_with_plain_paths(problem, control):
    points = random_points(30)
    plain = feynman_kac.estimate(problem, points, 4000, 16, rng=1)
    e = controlled_estimate(problem, points, 2000, 16, rng=2, control=control)
    z = (e.mean - plain.mean) / np.hypot(e.stderr, plain.stderr)
    assert np.abs(z).max() < convergence.z_threshold(30, FALSE_ALARM)
    assert (e.variance_ratio > 0.95).all()


def test_spectral_control_leaves_a_variance_of_the_order_of_the_step():
    problem, points = eigenfunction(), random_points(20)
    solution, n_steps = solve_in_time(problem, 64, n=32), np.array([8, 16, 32, 64])
    left = [np.mean(controlled_estimate(problem, points, 1000, int(n), solution=solution).stderr ** 2) for n in n_steps]
    # Steps of dt leave sigma**2 Hess u : (dB dB - dt) in each: variance O(dt). A variance of 20000 samples has an
    # error of 0.01 to 0.03, worth 0.03 / (log 2 sqrt(5)) = 0.02 in the slope; the next order of dt is a fifth.
    assert abs(convergence.observed_order(1 / n_steps, left).order - 1) < 0.15


def test_mean_checks_the_spectral_solution():
    problem, points = eigenfunction(), random_points(20)
    good = solve_in_time(problem, 32, n=32)
    wrong = control_variates.SolutionInTime(good.t, 1.1 * good.u, good.error_estimate, good.length)
    exact = problem.exact(points)
    for solution, accepted in ((good, True), (wrong, False)):
        e = controlled_estimate(problem, points, 1000, 128, solution=solution)
        # The mean does not follow w; the bias of 128 steps is 0.1 / 128 (test_multilevel), and less.
        bias = 1e-3
        assert np.abs(e.mean - exact).max() < bias + convergence.z_threshold(20, FALSE_ALARM) * e.stderr.max()
        gap = np.abs(e.mean - e.control_mean) - bias
        assert (gap < convergence.z_threshold(20, FALSE_ALARM) * e.stderr).all() == accepted


@pytest.mark.parametrize(("control", "gain"), [("heat", 4), ("characteristic", 2), ("spectral", 20)])
def test_variance_falls(control, gain):
    e = controlled_estimate(eigenfunction(), random_points(20), 500, 64, control=control)
    assert np.median(e.variance_ratio) > gain


def test_a_control_without_variance_is_not_used():
    problem = pde.ConvectionDiffusion(np.zeros((2, 8, 8)), np.ones((8, 8)), sigma=0.2)
    for control in CONTROLS:
        e = controlled_estimate(problem, [0.1, 0.2], 8, 2, control=control)
        assert abs(e.mean - 1) < 1e-12
        assert e.stderr < 1e-12


# --- results depend on the seed alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("control", CONTROLS)
def test_results_do_not_depend_on_the_number_of_threads(control):
    most = numba.config.NUMBA_NUM_THREADS
    if most < 2:
        pytest.skip("one core: nothing to compare")
    problem, results = eigenfunction(), []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        results.append(controlled_estimate(problem, random_points(40), 300, 10, rng=6, control=control))
    numba.set_num_threads(most)
    assert (results[0].mean == results[1].mean).all()


@pytest.mark.parametrize("control", ["heat", "spectral"])
def test_batches_merge_to_the_same_result(control, monkeypatch):
    problem, points = eigenfunction(), random_points(7)
    whole = controlled_estimate(problem, points, 100, 5, control=control)
    for batch in (40, 250):
        monkeypatch.setattr(control_variates, "_BATCH", batch)
        parts = controlled_estimate(problem, points, 100, 5, control=control)
        np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-12)
        np.testing.assert_allclose(parts.stderr, whole.stderr, rtol=1e-9)


# --- the door ------------------------------------------------------------------------------------------------------


def test_shapes_follow_the_points():
    problem = eigenfunction(n=64)
    e = controlled_estimate(problem, random_points(6).reshape(2, 3, 2), 4, 2, control="heat")
    assert e.mean.shape == e.stderr.shape == e.coefficient.shape == e.variance_ratio.shape == (2, 3)
    assert e.control_mean.shape == (2, 3)
    for control in CONTROLS:
        assert controlled_estimate(problem, [0.1, 0.2], 4, 2, control=control).mean.shape == ()
        assert controlled_estimate(problem, np.empty((0, 2)), 4, 2, control=control).mean.shape == (0,)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_paths": 2}, "n_paths must be an integer >= 4, got n_paths=2"),
        ({"n_paths": 7}, "n_paths must be even, for two halves, got n_paths=7"),
        ({"n_paths": 2**32}, "must be < 2\\*\\*32"),
        ({"n_steps": 0}, "n_steps must be an integer >= 1"),
        ({"n_times": 0}, "n_times must be an integer >= 1"),
        ({"control": "none"}, "control must be one of 'heat', 'characteristic', 'spectral', got control='none'"),
        ({"coefficient": np.nan}, "coefficient must be finite"),
        ({"coefficient": [1.0, 2.0]}, "coefficient must be a number"),
        ({"rng": -1}, "rng must be a seed >= 0"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
        ({"points": [0.1]}, "points must have shape"),
        ({"problem": problems.crossed_shears(n=16)}, "sigma must be > 0"),
        ({"solution": solve_in_time(problems.fourier_mode(horizon=2.0), 1)}, "the same period and horizon"),
        (
            {"solution": solve_in_time(problems.fourier_mode(), 1), "control": "heat"},
            "leave it out, got control='heat'",
        ),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"problem": problems.fourier_mode(), "points": [[0.1, 0.2]], "n_paths": 4, "n_steps": 2} | changed
    with pytest.raises(ValueError, match=message):
        controlled_estimate(arguments.pop("problem"), arguments.pop("points"), **arguments)


def test_a_spectral_solution_that_explodes_is_no_control():
    problem = problems.figure4(n=32, sigma=0.001)
    rough = pde.ConvectionDiffusion(problem.velocity.values * 1e3, problem.terminal, sigma=0.001)
    with pytest.raises(pde.UnresolvedError, match=r"not finite at t = .* raise n, or use another control"):
        solve_in_time(rough, 4)


def test_overflow_is_no_result():
    terminal = pde.PeriodicField(1e200 * np.random.default_rng(0).uniform(-1, 1, (8, 8)), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(np.zeros((2, 8, 8)), terminal, sigma=0.1)
    with pytest.raises(FloatingPointError, match="not finite"):
        controlled_estimate(problem, [0.1, 0.2], 8, 2, control="heat")


@pytest.mark.parametrize("control", CONTROLS)
def test_means_and_errors_scale_with_the_terminal_data(control):
    # Squares underflow below 2**-537.
    problem, points = eigenfunction(), random_points(3)
    values = problem.terminal_on_grid(problem.n)
    plain = controlled_estimate(problem.with_terminal(values), points, 64, 8, control=control)
    for exponent in (-400, -540, -1000):
        small = problem.with_terminal(np.ldexp(values, exponent))
        tiny = controlled_estimate(small, points, 64, 8, control=control)
        np.testing.assert_allclose(np.ldexp(tiny.mean, -exponent), plain.mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.ldexp(tiny.stderr, -exponent), plain.stderr, rtol=1e-6)


@pytest.mark.parametrize("control", ["heat", "characteristic"])
def test_a_narrow_datum_that_half_of_the_paths_miss_gets_no_wild_coefficient(control):
    # A Gaussian of width w: u is one of width sqrt(w**2 + sigma**2 T), summed over its images.
    w, sigma, drift = 0.05, 0.1, np.array([0.3, 0.2])
    velocity = np.broadcast_to(drift[:, None, None], (2, 4, 4))
    problem = pde.ConvectionDiffusion(
        velocity, lambda x: np.exp(-((x % 1 - 0.5) ** 2).sum(axis=-1) / (2 * w**2)), sigma=sigma
    )
    points = np.random.default_rng(0).random((12, 2))
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2), axis=-1).reshape(-1, 2)
    square = ((points + drift - 0.5 + images[:, None]) ** 2).sum(axis=-1)
    width = w**2 + sigma**2
    u = (w**2 / width * np.exp(-square / (2 * width))).sum(axis=0)
    for seed in range(5):
        with warnings.catch_warnings():
            # That some points are missed by all paths is said.
            warnings.simplefilter("ignore", RuntimeWarning)
            e = controlled_estimate(problem, points, 2000, 2, rng=seed, control=control)
        # Five standard errors of the plain mean, whose variance is at most u; without a bound of c, errors of 1.
        assert (np.abs(e.mean - u) < 5 * np.sqrt(u / 2000) + 1e-3).all()
