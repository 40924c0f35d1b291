"""The Monte-Carlo solver: exact in law where it should be, of its orders, and equal to its NumPy reference."""

import math

import numba
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from path_problems import random_points, rough

import pde
from pde import convergence, feynman_kac, problems

FALSE_ALARM = 1e-6


def by_reference(problem, points, n_paths, n_steps, rng, common_paths=False, antithetic=False):
    """f(X_T) of shape (n_points, n_paths), path by path with the increments of the compiled loop, in NumPy."""
    dt = feynman_kac.time_steps(problem, n_steps)
    columns = []
    for index, point in enumerate(points):
        increments = feynman_kac.brownian_increments(
            rng, n_steps, n_paths, dt, point=0 if common_paths else index, antithetic=antithetic
        )
        columns.append(problem.terminal_at(feynman_kac.euler_maruyama(problem, point, increments)))
    return np.array(columns)


# --- the compiled loop against the reference -------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}])
def test_compiled_loop_equals_the_reference_on_the_same_increments(interpolation, options):
    problem, points = rough(interpolation=interpolation), random_points(7)
    samples = by_reference(problem, points, 200, 30, 11, **options)
    e = feynman_kac.estimate(problem, points, n_paths=200, n_steps=30, rng=11, **options)
    # Positions differ by rounding, 30 steps of 1e-16, stretched by exp(max |grad v|) < 1e3 at most.
    np.testing.assert_allclose(e.mean, samples.mean(axis=1), atol=1e-11)
    if options.get("antithetic"):
        samples = samples.reshape(7, 100, 2).mean(axis=2)
    np.testing.assert_allclose(e.stderr, scipy.stats.sem(samples, axis=1), rtol=1e-9)


@pytest.mark.parametrize("n", [20, 24])
@pytest.mark.parametrize(("length", "horizon"), [(1.0, 1.0), (2.5, 0.7)])
def test_each_path_ends_where_the_reference_ends(n, length, horizon):
    problem = rough(n=n, length=length, horizon=horizon)
    points = random_points(300, length=length) * 3 - length
    e = feynman_kac.estimate(problem, points, n_paths=1, n_steps=25, rng=5)
    np.testing.assert_allclose(e.mean, by_reference(problem, points, 1, 25, 5)[:, 0], atol=1e-11)


@pytest.mark.parametrize("n_steps", [12, 13])
def test_layers_are_crossed_in_the_order_of_the_reference(n_steps):
    problem, points = rough(n_layers=4), random_points(20)
    e = feynman_kac.estimate(problem, points, n_paths=8, n_steps=n_steps, rng=2)
    np.testing.assert_allclose(e.mean, by_reference(problem, points, 8, n_steps, 2).mean(axis=1), atol=1e-11)


def test_velocity_depending_on_time_equals_the_reference():
    rng = np.random.default_rng(0)
    fields = rng.uniform(-1, 1, (2, 2, 16, 16))

    def velocity(t):
        return pde.PeriodicField(np.cos(t) * fields[0] + np.sin(5 * t) * fields[1], interpolation="bilinear")

    terminal = pde.PeriodicField(rng.uniform(-1, 1, (16, 16)), interpolation="bilinear")
    problem, points = pde.ConvectionDiffusion(velocity, terminal, sigma=0.2), random_points(9)
    e = feynman_kac.estimate(problem, points, n_paths=16, n_steps=20, rng=4)
    np.testing.assert_allclose(e.mean, by_reference(problem, points, 16, 20, 4).mean(axis=1), atol=1e-11)


def test_tables_made_a_few_steps_at_a_time_give_the_same_paths(monkeypatch):
    problem, points = problems.doob(), random_points(6)
    for sigma in (problem.sigma, 0.0):
        other = pde.ConvectionDiffusion(problem.velocity, problem.terminal, sigma=sigma)
        monkeypatch.undo()
        whole = feynman_kac.estimate(other, points, n_paths=10, n_steps=21, rng=1)
        monkeypatch.setattr("pde.feynman_kac._velocity_tables._TABLE_BYTES", 2**20)
        assert (feynman_kac.estimate(other, points, n_paths=10, n_steps=21, rng=1).mean == whole.mean).all()


def test_trigonometric_velocity_is_represented_within_its_tolerance():
    problem, points = problems.figure4(seed=1, n=32, sigma=0.1, velocity="band-limited"), random_points(50)
    e = feynman_kac.estimate(problem, points, n_paths=4, n_steps=20, rng=9)
    # 1e-6 max |v| for a time 1, stretched by at most exp(max |grad v|) and seen through |grad f| < 2 pi 5.
    stretch = math.exp(problem.velocity.jacobian_sup_norm())
    tolerance = 1e-6 * min(stretch, 1e3) * 2 * math.pi * 5 + 1e-8
    np.testing.assert_allclose(e.mean, by_reference(problem, points, 4, 20, 9).mean(axis=1), atol=tolerance)


# --- laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"antithetic": True}, {"length": 2.5, "horizon": 0.6}])
def test_unbiased_where_euler_maruyama_is_exact_in_law(options):
    antithetic = options.pop("antithetic", False)
    problem = problems.constant_velocity(sigma=0.3, **options)
    points = random_points(100, length=problem.length)
    e = feynman_kac.estimate(problem, points, n_paths=4000, n_steps=7, rng=21, antithetic=antithetic)
    z = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    # Two tests, each with a false-alarm rate of 1e-6: the largest score, and the sum of squares from both sides.
    assert np.abs(z).max() < convergence.z_threshold(100, FALSE_ALARM)
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 100)
    assert low < z @ z < high


def test_error_falls_with_the_square_root_of_the_number_of_paths():
    problem, points = problems.constant_velocity(sigma=0.3), random_points(256)
    n_paths = np.array([64, 256, 1024, 4096])
    errors, stderrs = [], []
    for count in n_paths:
        e = feynman_kac.estimate(problem, points, n_paths=int(count), n_steps=3, rng=int(count))
        errors.append(convergence.l2_norm(e.mean - problem.exact(points)))
        stderrs.append(convergence.l2_norm(e.stderr))
    # The root mean square of 256 normals has a relative s.d. of 1 / sqrt(512) = 0.044; over four points spaced by
    # log 4 the slope has 0.044 / (log 4 sqrt(5)) = 0.0143, and 4.9 of these are passed with probability 1e-6.
    assert abs(convergence.observed_order(1 / n_paths, errors).order - 0.5) < 4.9 * 0.0143
    # The standard error says how large the error is: 0.044, and 1 / sqrt(2 * 64 * 256) of its own.
    np.testing.assert_allclose(np.array(errors) / stderrs, 1.0, atol=4.9 * 0.045)


def test_strong_order_is_one_for_additive_noise():
    problem = problems.figure4(seed=2, n=32, sigma=0.3, velocity="band-limited")
    n_paths, finest = 600, 2048
    fine = feynman_kac.brownian_increments(3, finest, n_paths, 1 / finest)
    start = np.array([0.3, 0.6])
    reference = feynman_kac.euler_maruyama(problem, start, fine)
    n_steps = np.array([16, 32, 64, 128])
    errors, noise = [], []
    for n in n_steps:
        coarse = fine.reshape(n, finest // n, n_paths, 2).sum(axis=1)
        distance = np.linalg.norm(feynman_kac.euler_maruyama(problem, start, coarse) - reference, axis=-1)
        errors.append(distance.mean())
        noise.append(scipy.stats.sem(distance))
    assert (convergence.relative_noise(noise, errors) < 0.1).all()
    # The reference has its own error, 1/16 of the smallest here: it adds 0.06 / log(8) = 0.03 to the slope. The
    # noise, 0.1 at most at each end, adds up to 0.1 * sqrt(2) / log(8) = 0.07 a standard error of it; paths are shared.
    assert abs(convergence.observed_order(1 / n_steps, errors).order - 1) < 0.15


def test_weak_order_is_one():
    problem = problems.figure4(seed=4, n=32, sigma=0.1, velocity="band-limited")
    points = random_points(8, seed=5)
    exact = pde.spectral.solve(problem, n=128, rtol=1e-7).field(points)
    n_steps = np.array([8, 16, 32, 64])
    estimates = [feynman_kac.estimate(problem, points, 250_000, int(n), rng=int(n)) for n in n_steps]
    # One number for all points: the bias along its own direction, known from an independent run.
    direction = feynman_kac.estimate(problem, points, 250_000, 16, rng=1).mean - exact
    direction /= np.linalg.norm(direction)
    bias = [(e.mean - exact) @ direction for e in estimates]
    noise = [np.linalg.norm(e.stderr * direction) for e in estimates]
    assert (convergence.relative_noise(noise, bias) < 0.1).all()
    assert min(bias) > 0
    # The bias curves by about dt |grad v|, a third at the coarsest step, 0.1 in the slope; noise of 0.1 at the finest
    # step and less before moves it by 0.03 a standard error.
    assert abs(convergence.observed_order(1 / n_steps, bias).order - 1) < 0.25


def test_agrees_with_the_spectral_solution_for_a_smooth_velocity():
    problem = problems.figure4(seed=4, n=64, sigma=0.1, velocity="band-limited")
    points = random_points(64)
    reference = pde.spectral.solve(problem, rtol=1e-6).field(points)
    e = feynman_kac.estimate(problem, points, n_paths=2000, n_steps=1000, rng=8)
    z = convergence.z_scores(e.mean, e.stderr, reference)
    # P(max |z| > 5) = 64 * 5.7e-7 = 4e-5.
    assert np.abs(z).max() < 5
    assert scipy.stats.chi2.isf(1 - FALSE_ALARM, 64) < z @ z < scipy.stats.chi2.isf(FALSE_ALARM, 64)


@pytest.mark.parametrize("name", ["layers", "callable"])
def test_agrees_with_the_spectral_solution_in_time(name):
    if name == "layers":
        shears = problems.crossed_shears()
        problem = pde.ConvectionDiffusion(shears.velocity, shears.terminal, sigma=0.1)
        reference = pde.spectral.solve(problem, rtol=1e-6).field
    else:
        problem = problems.doob(horizon=0.3)
        reference = problem.exact
    points = random_points(64)
    e = feynman_kac.estimate(problem, points, n_paths=2000, n_steps=400, rng=3)
    z = convergence.z_scores(e.mean, e.stderr, reference(points))
    assert np.abs(z).max() < convergence.z_threshold(64, FALSE_ALARM)


def test_antithetic_pairs_reduce_the_variance_of_a_smooth_functional():
    problem = problems.constant_velocity(k=(1, 0), sigma=0.05)
    points = np.array([[0.25, 0.0]]) - np.array([0.7, -0.4])
    plain = feynman_kac.estimate(problem, points, n_paths=4000, n_steps=2)
    pairs = feynman_kac.estimate(problem, points, n_paths=4000, n_steps=2, antithetic=True)
    # At this point f is odd about the mean of X_T, so pairs cancel but for rounding.
    assert pairs.stderr[0] < 1e-6 * plain.stderr[0]


def test_common_paths_make_the_error_smooth_in_space():
    problem = problems.constant_velocity(sigma=0.3)
    points = np.stack([0.3 + np.arange(50) * 1e-3, np.full(50, 0.2)], axis=-1)
    common = feynman_kac.estimate(problem, points, n_paths=500, n_steps=4, common_paths=True)
    error = common.mean - problem.exact(points)
    # f(x + d) and u are cosines of 2 pi x up to a phase, so a mean over common d is one as well: e(x + h) + e(x - h) =
    # 2 cos(2 pi h) e(x), up to the tables' 1e-9 of each. No random number is left in this.
    assert np.abs(error[2:] + error[:-2] - 2 * np.cos(2e-3 * np.pi) * error[1:-1]).max() < 4e-9
    alone = feynman_kac.estimate(problem, points, n_paths=500, n_steps=4)
    # Of 25 separate pairs none differs by more than a twentieth of a standard error with 0.03**25. The common error
    # moves by 2 pi h of its amplitude, which is 8 standard errors with exp(-32).
    assert np.abs(np.diff(alone.mean - problem.exact(points))).max() > 0.05 * alone.stderr.max()
    assert np.abs(np.diff(error)).max() < 0.05 * common.stderr.max()


# --- characteristics --------------------------------------------------------------------------------------------


def test_characteristics_reproduce_the_crossed_shears():
    problem, points = problems.crossed_shears(), random_points(100)
    e = feynman_kac.estimate(problem, points, n_steps=8)
    # In each layer the path is a straight line: only the table's 1e-9 max |v| remains, seen through |grad f| < 15.
    np.testing.assert_allclose(e.mean, problem.exact(points), atol=1e-8)
    assert (e.stderr == 0).all()
    assert e.n_paths == 1


def test_characteristics_have_order_four():
    problem = problems.figure4(seed=6, n=32, sigma=0.0, velocity="band-limited")
    points = random_points(50)
    fine = feynman_kac.estimate(problem, points, n_steps=1024).mean
    n_steps = np.array([8, 16, 32])
    errors = [convergence.l2_norm(feynman_kac.estimate(problem, points, n_steps=int(n)).mean - fine) for n in n_steps]
    # The next term of the error is of relative size dt |grad v|: 0.3 at the coarsest, a fifth of an order.
    assert abs(convergence.observed_order(1 / n_steps, errors).order - 4) < 0.4


def test_characteristics_equal_an_independent_integrator():
    problem, points = problems.doob(), random_points(5)
    still = pde.ConvectionDiffusion(problem.velocity, problem.terminal, sigma=0.0)
    e = feynman_kac.estimate(still, points, n_steps=200)
    for point, value in zip(points, e.mean, strict=True):
        path = scipy.integrate.solve_ivp(
            lambda t, x: problem.velocity_at(x, t), (0, 1), point, method="DOP853", rtol=1e-11, atol=1e-12
        )
        # The velocity is sampled on 48 points: its modes beyond are 1/3**24 = 4e-12 of it; tables differ by 1e-9.
        assert abs(still.terminal_at(path.y[:, -1]) - value) < 1e-7


# --- results depend on the seed alone --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}, {"sigma": 0.0}])
def test_results_do_not_depend_on_the_number_of_threads(options):
    problem, points = rough(sigma=options.pop("sigma", 0.1)), random_points(300)
    most = numba.config.NUMBA_NUM_THREADS
    if most < 2:
        pytest.skip("one core: nothing to compare")
    results = []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        results.append(feynman_kac.estimate(problem, points, n_paths=300, n_steps=20, rng=6, **options))
    numba.set_num_threads(most)
    assert (results[0].mean == results[1].mean).all()
    assert (results[0].stderr == results[1].stderr).all()


@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}])
def test_batches_merge_to_the_same_result(options, monkeypatch):
    problem, points = rough(), random_points(30)
    whole = feynman_kac.estimate(problem, points, n_paths=100, n_steps=5, **options)
    for batch in (40, 250):
        monkeypatch.setattr("pde.feynman_kac._estimate._BATCH", batch)
        parts = feynman_kac.estimate(problem, points, n_paths=100, n_steps=5, **options)
        np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-14)
        np.testing.assert_allclose(parts.stderr, whole.stderr, rtol=1e-12)


def test_seeds_differ_and_repeat():
    problem, points = rough(), random_points(3)
    first, again, other = (feynman_kac.estimate(problem, points, 50, 5, rng).mean for rng in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()
    a, b = (feynman_kac.estimate(problem, points, 50, 5, np.random.default_rng(3)).mean for _ in range(2))
    assert (a == b).all()


# --- the door ---------------------------------------------------------------------------------------------------


def test_shapes_follow_the_points():
    problem = rough()
    assert feynman_kac.estimate(problem, [0.1, 0.2], 4, 2).mean.shape == ()
    e = feynman_kac.estimate(problem, random_points(6).reshape(2, 3, 2), 4, 2)
    assert e.mean.shape == e.stderr.shape == (2, 3)
    assert feynman_kac.estimate(problem, np.empty((0, 2)), 4, 2).mean.shape == (0,)


def test_one_path_has_an_unknown_error():
    assert feynman_kac.estimate(rough(), [0.1, 0.2], n_paths=1, n_steps=2).stderr == np.inf


def test_terminal_data_given_as_a_callable():
    problem = problems.constant_velocity(sigma=0.2)
    other = pde.ConvectionDiffusion(problem.velocity, problem.terminal, sigma=0.2)
    direct = pde.ConvectionDiffusion(problem.velocity, lambda x: problem.exact(x, 1.0), sigma=0.2)
    points = random_points(10)
    np.testing.assert_allclose(
        feynman_kac.estimate(direct, points, 50, 3).mean, feynman_kac.estimate(other, points, 50, 3).mean, atol=1e-7
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_paths": 0}, "n_paths must be an integer >= 1, got n_paths=0"),
        ({"n_paths": -3}, "n_paths must be an integer >= 1, got n_paths=-3"),
        ({"n_paths": 2.5}, "n_paths must be an integer, got n_paths=2.5"),
        ({"n_paths": True}, "n_paths must be an integer >= 1, got n_paths=True"),
        ({"n_paths": 2**32}, "must be < 2\\*\\*32"),
        ({"n_steps": 0}, "n_steps must be an integer >= 1, got n_steps=0"),
        ({"n_paths": 3, "antithetic": True}, "n_paths must be even with antithetic pairs, got n_paths=3"),
        ({"rng": -1}, "rng must be a seed >= 0"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
        ({"points": [0.1, 0.2, 0.3]}, "points must have shape \\(..., 2\\), got \\(3,\\)"),
        ({"points": [[0.1, np.nan]]}, "points must be finite, got 1 non-finite of 2 values"),
        ({"points": 0.5}, "points must have shape"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"points": [[0.1, 0.2]], "n_paths": 4, "n_steps": 2} | changed
    with pytest.raises(ValueError, match=message):
        feynman_kac.estimate(rough(), **arguments)


@pytest.mark.parametrize("increments", [np.zeros(3), np.zeros((4, 3)), np.zeros((0, 2)), np.full((4, 2), np.inf)])
def test_bad_increments_are_refused_at_the_door(increments):
    with pytest.raises(ValueError, match="increments must"):
        feynman_kac.euler_maruyama(rough(), [0.1, 0.2], increments)


def test_velocity_that_changes_its_grid_is_refused():
    problem = pde.ConvectionDiffusion(
        lambda t: pde.PeriodicField(np.zeros((2, 8, 8)), interpolation="bilinear" if t < 0.5 else "bicubic"),
        np.zeros((8, 8)),
        sigma=0.1,
    )
    with pytest.raises(ValueError, match="one grid and one interpolation at all times"):
        feynman_kac.estimate(problem, [0.1, 0.2], 4, 10)


def test_overflow_is_no_result():
    signs = np.where(np.random.default_rng(0).random((8, 8)) < 0.5, 1, -1)
    terminal = pde.PeriodicField(1.7e308 * signs, interpolation="bilinear")
    problem = pde.ConvectionDiffusion(np.zeros((2, 8, 8)), terminal, sigma=0.1)
    with pytest.raises(FloatingPointError, match="not finite"):
        feynman_kac.estimate(problem, [0.1, 0.2], 8, 2)


def test_progress_is_shown_where_it_is_wanted_alone(capfd):
    feynman_kac.estimate(rough(), [0.1, 0.2], 4, 2)
    assert capfd.readouterr() == ("", "")
    # A pipe, as in a notebook's kernel or a log.
    feynman_kac.estimate(rough(), [0.1, 0.2], 4, 2, progress=True)
    assert "4.00/4.00" in capfd.readouterr().err


def test_dtype_may_be_a_type_of_numpy():
    problem, x = problems.eigenfunction(), np.array([[0.1, 0.2]])
    named = feynman_kac.estimate(problem, x, 4, 3, dtype="float32")
    for dtype in (np.float32, np.dtype("float32")):
        assert (feynman_kac.estimate(problem, x, 4, 3, dtype=dtype).mean == named.mean).all()
    with pytest.raises(ValueError, match="dtype must be one of 'float64', 'float32', got dtype='float16'"):
        feynman_kac.estimate(problem, x, 4, 3, dtype=np.float16)


def wavy(x, t):
    """A shear of 16 waves, constant on the grid of 16 points."""
    return np.stack([0.3 * np.cos(2 * np.pi * 16 * x[..., 1]), 0 * x[..., 0]], axis=-1)


def test_a_callable_velocity_finer_than_the_terminal_data_is_sampled_on_more_points():
    # Along y the path leaves a wave in no time: the mode moves by nearly nothing. On 16 points the velocity is 0.3.
    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    x, sigma = np.array([[0.1, 0.2], [0.3, 0.7]]), 0.2
    field = pde.PeriodicField(np.moveaxis(wavy(pde.grid.points(40), 0), -1, 0))
    exact = pde.spectral.solve(pde.ConvectionDiffusion(field, f, sigma=sigma), 120).field(x)
    problem = pde.ConvectionDiffusion(wavy, f, sigma=sigma)
    e = feynman_kac.estimate(problem, x, 2048, 40, scheme="heun")
    assert (np.abs(e.mean - exact) < 5 * e.stderr).all()


@pytest.mark.parametrize("n", [16, 20])
def test_samples_that_do_not_resolve_a_velocity_warn(n):
    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    with pytest.warns(RuntimeWarning, match=f"not resolved by n={n}"):
        feynman_kac.estimate(pde.ConvectionDiffusion(wavy, f, sigma=0.2), [[0.1, 0.2]], 8, 8, n=n)


def test_tables_of_a_velocity_that_is_zero_at_first_are_fine_enough_for_later():
    # Characteristics in x = x_0 + cos(40 pi y) / 4: on splines of 64 points they miss it by 0.06.
    def pulse(x, t):
        return np.stack([0.5 * np.sin(np.pi * t) ** 2 * np.cos(40 * np.pi * x[..., 1]), 0 * x[..., 0]], axis=-1)

    f = np.sin(2 * np.pi * np.arange(64) / 64)[:, None] * np.ones(64)
    points = np.array([[0.5, 0.0125], [0.3, 0.3137]])
    exact = np.sin(2 * np.pi * (points[:, 0] + 0.25 * np.cos(40 * np.pi * points[:, 1])))
    e = feynman_kac.estimate(pde.ConvectionDiffusion(pulse, f, sigma=0), points, 1, 32)
    np.testing.assert_allclose(e.mean, exact, atol=1e-6)


@pytest.mark.parametrize("size", [1e-140, 1e-158, 1e-165, 1e-310])
@pytest.mark.filterwarnings("ignore:at .* points")
def test_the_standard_error_of_numbers_whose_squares_underflow_is_not_too_small(size):
    problem, points = problems.constant_velocity(sigma=0.3), random_points(20)
    small = problem.with_terminal(problem.terminal_on_grid(16) * size)
    e = feynman_kac.estimate(small, points, 256, 4)
    assert (np.abs(e.mean - size * problem.exact(points)) < 5 * e.stderr).all()
