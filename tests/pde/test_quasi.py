"""Randomised quasi-Monte-Carlo: Brownian increments, without bias, and of less variance."""

import numba
import numpy as np
import pytest
import scipy.stats
from path_problems import eigenfunction, random_points

import pde
from pde import convergence, feynman_kac, problems
from pde.feynman_kac import _sobol, quasi
from pde.feynman_kac.quasi import bridge_order, quasi_estimate, sobol_increments

FALSE_ALARM = 1e-6


def student_threshold(n_scores, n_randomisations):
    """As `convergence.z_threshold`, for Student's t with n_randomisations - 1 degrees of freedom."""
    return scipy.stats.t.isf(FALSE_ALARM / (2 * n_scores), n_randomisations - 1)


# --- the increments ------------------------------------------------------------------------------------------------


def test_the_largest_dimension_is_that_of_scipy():
    assert _sobol.LARGEST_DIMENSION == scipy.stats.qmc.Sobol.MAXDIM


@pytest.mark.parametrize("n_steps", [1, 2, 5, 8, 13])
def test_bridge_is_a_rotation_of_the_normals(n_steps):
    order, weights = bridge_order(n_steps)
    assert sorted(order[:, 0]) == list(range(1, n_steps + 1))
    normals = np.eye(n_steps).repeat(2, axis=1)
    increments = np.empty((n_steps, 2, n_steps))
    quasi.bridge(normals, order, weights, 1.0, increments)
    # Independent increments of variance 1: the linear map is orthogonal, and acts on both components alike.
    for c in range(2):
        np.testing.assert_allclose(increments[:, c] @ increments[:, c].T, np.eye(n_steps), atol=1e-13)
    np.testing.assert_allclose(increments[:, 0].sum(axis=0)[0], np.sqrt(n_steps), atol=1e-13)


def test_bridge_sets_the_widest_gaps_first():
    order, _ = bridge_order(8)
    assert order[:, 0].tolist() == [8, 4, 2, 6, 1, 3, 5, 7]


def test_sobol_increments_have_the_law_of_brownian_ones():
    n_steps, n_paths = 6, 4096
    (increments,) = sobol_increments(n_paths, n_steps, np.random.default_rng(0), scale=0.5)
    assert increments.shape == (n_steps, 2, n_paths)
    flat = increments.reshape(12, n_paths)
    # Better balanced than independent numbers: within their five standard errors.
    assert np.abs(flat.mean(axis=1)).max() < 5 * 0.5 / np.sqrt(n_paths)
    np.testing.assert_allclose(np.cov(flat), 0.25 * np.eye(12), atol=5 * 0.25 * np.sqrt(2 / n_paths))
    for row in flat:
        assert scipy.stats.kstest(row / 0.5, "norm").pvalue > 1e-6


def test_batches_of_the_sequence_are_the_sequence(monkeypatch):
    whole = np.concatenate(list(sobol_increments(64, 5, np.random.default_rng(3))), axis=-1)
    monkeypatch.setattr(quasi, "_NUMBERS", 90)
    parts = list(sobol_increments(64, 5, np.random.default_rng(3)))
    assert len(parts) == 8
    assert (np.concatenate(parts, axis=-1) == whole).all()


# --- the estimate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_compiled_loop_equals_the_reference_on_the_same_increments(interpolation, layers):
    rng = np.random.default_rng(3)
    shape = (2, 24, 24) if layers is None else (layers, 2, 24, 24)
    velocity = pde.PeriodicField(rng.uniform(-1, 1, shape), 1.5, interpolation)
    terminal = pde.PeriodicField(rng.uniform(-1, 1, (24, 24)), 1.5, interpolation)
    problem = pde.ConvectionDiffusion(velocity, terminal, sigma=0.3, horizon=0.8, length=1.5)
    points = random_points(5, length=1.5)
    e = quasi_estimate(problem, points, 128, 20, n_randomisations=2, rng=9)
    for stream, means in zip(np.random.default_rng(9).spawn(2), e.means, strict=True):
        (increments,) = sobol_increments(128, 20, stream, scale=np.sqrt(feynman_kac.time_steps(problem, 20)))
        paths = np.moveaxis(increments, 1, 2)[:, None]
        ends = feynman_kac.euler_maruyama(problem, points[:, None], paths)
        np.testing.assert_allclose(means, problem.terminal_at(ends).mean(axis=1), atol=1e-11)
    np.testing.assert_allclose(e.mean, e.means.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(e.stderr, scipy.stats.sem(e.means, axis=0), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"length": 2.5, "horizon": 0.6}])
def test_unbiased_where_euler_maruyama_is_exact_in_law(options):
    problem = problems.constant_velocity(sigma=0.3, **options)
    points = random_points(50, length=problem.length)
    e = quasi_estimate(problem, points, 64, 8, n_randomisations=32, rng=5)
    t = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    assert np.abs(t).max() < student_threshold(50, 32)


def test_standard_error_is_honest():
    problem, point = problems.constant_velocity(sigma=0.3), np.array([0.3, 0.1])
    # 50 estimates of 8 randomisations each, all independent.
    means = quasi_estimate(problem, point, 32, 4, n_randomisations=400, rng=5).means.reshape(50, 8)
    t = convergence.z_scores(means.mean(axis=1), scipy.stats.sem(means, axis=1), np.full(50, problem.exact(point)))
    # P(|t| < 2.365) = 0.95 with 7 degrees of freedom: 47 or 48 of 50, binomial.
    low, high = scipy.stats.binom.interval(1 - FALSE_ALARM, 50, 0.95)
    assert low <= np.sum(np.abs(t) < 2.365) <= high


def test_agrees_with_plain_paths_in_time():
    problem, points = problems.doob(horizon=0.3), random_points(20)
    plain = feynman_kac.estimate(problem, points, 8000, 16, rng=1)
    e = quasi_estimate(problem, points, 256, 16, rng=2)
    t = (e.mean - plain.mean) / np.hypot(e.stderr, plain.stderr)
    assert np.abs(t).max() < student_threshold(20, 16)


def test_error_falls_faster_than_the_square_root():
    problem, points = problems.constant_velocity(k=(1, 1), sigma=0.2), random_points(20)
    n_paths = np.array([16, 64, 256, 1024])
    errors = [convergence.l2_norm(quasi_estimate(problem, points, int(n), 4, rng=1).stderr) for n in n_paths]
    # f(X_T) depends on the first two coordinates alone and is smooth: order 1 at least, up to logarithms, where
    # independent paths have 1/2. Standard errors of 16 scrambles move the slope by 0.18 / (log 4 sqrt(5)) = 0.06.
    assert convergence.observed_order(1 / n_paths, errors).order > 0.7


def test_variance_falls_at_equal_cost():
    problem, points = eigenfunction(), random_points(20)
    plain = feynman_kac.estimate(problem, points, 8192, 32, rng=1)
    e = quasi_estimate(problem, points, 512, 32, rng=1)
    assert np.mean(plain.stderr**2) > 5 * np.mean(e.stderr**2)


# --- results depend on the seed alone ------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_number_of_threads():
    most = numba.config.NUMBA_NUM_THREADS
    if most < 2:
        pytest.skip("one core: nothing to compare")
    problem, results = eigenfunction(), []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        results.append(quasi_estimate(problem, random_points(30), 256, 10, rng=6))
    numba.set_num_threads(most)
    assert (results[0].means == results[1].means).all()


def test_batches_merge_to_the_same_result(monkeypatch):
    problem, points = eigenfunction(), random_points(7)
    whole = quasi_estimate(problem, points, 64, 5)
    monkeypatch.setattr(quasi, "_NUMBERS", 100)
    monkeypatch.setattr(quasi, "_BATCH", 20)
    np.testing.assert_allclose(quasi_estimate(problem, points, 64, 5).means, whole.means, atol=1e-14)


def test_seeds_differ_and_repeat():
    problem, points = eigenfunction(), random_points(3)
    first, again, other = (quasi_estimate(problem, points, 8, 4, rng=rng).mean for rng in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()
    a, b = (quasi_estimate(problem, points, 8, 4, rng=np.random.default_rng(3)).mean for _ in range(2))
    assert (a == b).all()


# --- the door ------------------------------------------------------------------------------------------------------


def test_shapes_follow_the_points():
    problem = problems.fourier_mode()
    e = quasi_estimate(problem, random_points(6).reshape(2, 3, 2), 4, 2, n_randomisations=3)
    assert e.mean.shape == e.stderr.shape == (2, 3)
    assert e.means.shape == (3, 2, 3)
    assert quasi_estimate(problem, [0.1, 0.2], 1, 1).mean.shape == ()
    assert quasi_estimate(problem, np.empty((0, 2)), 4, 2).mean.shape == (0,)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_paths": 3}, "n_paths must be a power of two <= 2\\*\\*30, got n_paths=3"),
        ({"n_paths": 0}, "n_paths must be an integer >= 1"),
        ({"n_paths": 2**31}, "n_paths must be a power of two"),
        ({"n_steps": 0}, "n_steps must be an integer >= 1"),
        ({"n_steps": 20_000}, "n_steps must be <= 10600 for Sobol points, got n_steps=20000"),
        ({"n_randomisations": 1}, "n_randomisations must be an integer >= 2, got n_randomisations=1"),
        ({"rng": -1}, "rng must be an integer >= 0, got rng=-1"),
        ({"rng": 1.5}, "rng must be an integer"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
        ({"points": [0.1]}, "points must have shape"),
        ({"problem": problems.crossed_shears(n=16)}, "sigma must be > 0"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"problem": problems.fourier_mode(), "points": [[0.1, 0.2]], "n_paths": 4, "n_steps": 2} | changed
    with pytest.raises(ValueError, match=message):
        quasi_estimate(arguments.pop("problem"), arguments.pop("points"), **arguments)


def test_overflow_is_no_result():
    terminal = pde.PeriodicField(np.full((8, 8), 1.7e308), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(np.zeros((2, 8, 8)), terminal, sigma=0.1)
    with pytest.raises(FloatingPointError, match="not finite"):
        quasi_estimate(problem, [0.1, 0.2], 8, 2)


@pytest.mark.parametrize("exponent", [-400, -540, -1000])
def test_the_standard_error_scales_with_the_terminal_data(exponent):
    # Powers of two scale without rounding, down to the smallest normal number.
    problem, points = eigenfunction(), random_points(5)
    values = problem.terminal_on_grid(problem.n)
    both = (problem.with_terminal(np.ldexp(values, each)) for each in (0, exponent))
    plain, tiny = (quasi_estimate(each, points, 16, 4, 8) for each in both)
    np.testing.assert_allclose(np.ldexp(tiny.mean, -exponent), plain.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.ldexp(tiny.stderr, -exponent), plain.stderr, rtol=1e-9)
