"""`solve_to`: as accurate as wanted, by the cheapest route, and honest about what it did not reach."""

import tracemalloc

import numba
import numpy as np
import pytest
import scipy.special
import scipy.stats
from path_problems import random_points

import pde
from pde import convergence, feynman_kac, problems, random_fields
from pde.feynman_kac import _shared_paths, _sobol
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._kernels_shared import scramble, sobol_uniforms
from pde.feynman_kac._time_steps import TimeSteps

N_POINTS = 40


def step(rng):
    """A step moved by a constant velocity, whose solution is a sum of error functions."""
    sigma, horizon, speed, left = rng.uniform(0.1, 0.4), rng.uniform(0.2, 1.0), rng.uniform(-1, 1), rng.uniform(0, 0.4)
    velocity = np.zeros((2, 4, 4))
    velocity[0] = speed

    def f(x):
        return np.where(np.mod(x[..., 0] - left, 1.0) < 0.5, 1.0, 0.0)

    def exact(points, t):
        y, spread = points[..., 0] + speed * horizon, sigma * np.sqrt(2 * horizon)
        images = np.arange(-9, 10)
        ends = [scipy.special.erf((y[..., None] - left - shift + images) / spread) for shift in (0.0, 0.5)]
        return (ends[0] - ends[1]).sum(axis=-1) / 2

    return pde.ConvectionDiffusion(velocity, f, sigma=sigma, horizon=horizon, solution=exact)


def by_spectral(problem):
    return pde.spectral.solve(problem, 2 * problem.n, rtol=1e-7).field


def random_problem(seed):
    """A problem, its exact u(x, 0), and an error to ask for: a twentieth to a hundredth of what f spans."""
    rng = np.random.default_rng([17, seed])
    share = np.exp(rng.uniform(np.log(0.01), np.log(0.05)))
    kind = seed % 6
    if kind == 0:
        problem = problems.constant_velocity(rng.uniform(-1, 1, 2), (1, 2), sigma=rng.uniform(0.05, 0.3))
    elif kind == 1:
        problem = problems.eigenfunction(rng.uniform(-0.05, 0.05, 2), sigma=rng.uniform(0.2, 0.5), length=1.5)
    elif kind == 2:
        smooth = problems.figure4(seed, 48, 0.1, "band-limited")
        speed = rng.uniform(0.1, 0.7)
        velocity, sigma = speed * smooth.velocity.values, rng.uniform(0.08, 0.3)
        problem = pde.ConvectionDiffusion(velocity, random_fields.band_limited(48, seed).values[0], sigma=sigma)
    elif kind == 3:
        shears = problems.crossed_shears(rng.uniform(-0.5, 0.5, 2), n=32)
        problem = pde.ConvectionDiffusion(shears.velocity, shears.terminal, sigma=rng.uniform(0.1, 0.3))
    elif kind == 4:
        problem = step(rng)
    else:
        problem = problems.doob(rng.uniform(0.2, 0.7), sigma=rng.uniform(0.4, 0.6), horizon=0.3)
    exact = by_spectral(problem) if kind in (2, 3) else problem.exact
    values = problem.terminal_on_grid(32)
    return problem, exact, share * np.ptp(values)


def misses(seeds):
    """Share of points, averaged over problems, whose error exceeds three times what is stated; and the worst ratio."""
    shares, ratios = [], []
    for seed in seeds:
        problem, exact, wanted = random_problem(seed)
        points = random_points(N_POINTS, seed, problem.length)
        s = feynman_kac.solve_to(problem, points, wanted, rng=seed)
        error = np.abs(s.mean - exact(points))
        shares.append(np.mean(error > 3 * np.hypot(s.bias_estimate, s.stderr)))
        ratios.append(convergence.l2_norm(error) / wanted)
        assert s.error_estimate <= 1.02 * wanted
    return np.mean(shares), ratios


def test_the_stated_error_holds_for_99_percent_of_the_points():
    share, ratios = misses(range(20))
    # Points share their paths: a problem may miss as a whole, with 0.5 % by Student's t. Two of twenty: 0.4 %.
    assert share <= 0.05
    assert np.sqrt(np.mean(np.square(ratios))) < 1.2


@pytest.mark.slow
def test_the_stated_error_holds_over_200_problems():
    share, _ = misses(range(1000, 1200))
    # 0.5 % by Student's t with 31 degrees of freedom, less what the bias's share widens; points share their paths.
    assert share <= 0.01


def test_independent_points_have_independent_errors():
    problem = problems.constant_velocity(sigma=0.3)
    points = np.broadcast_to([0.2, 0.6], (400, 2))
    s = feynman_kac.solve_to(problem, points, 2e-2, common_paths=False)
    z = convergence.z_scores(s.mean, s.stderr, problem.exact(points))
    # Euler-Maruyama and Heun are exact in law here; the z-scores of 400 points are independent.
    low, high = scipy.stats.chi2.isf([1 - 5e-7, 5e-7], 400)
    assert 0.9 * low < z @ z < 1.1 * high
    assert s.method == "independent-heun"
    assert np.ptp(feynman_kac.solve_to(problem, points, 2e-2).stderr) == 0.0


def test_without_noise_the_characteristics_are_followed():
    shears = problems.crossed_shears(n=32)
    points = random_points(30)
    s = feynman_kac.solve_to(shears, points, 1e-8)
    assert (s.method, s.n_paths, s.stderr.max()) == ("characteristics", 1, 0.0)
    assert convergence.l2_norm(s.mean - shears.exact(points)) < 1e-8


@pytest.mark.parametrize("n_layers", [3, 7])
def test_layers_are_respected(n_layers):
    velocities = np.random.default_rng(0).uniform(-0.5, 0.5, (n_layers, 2))
    layers = np.broadcast_to(velocities[:, :, None, None], (n_layers, 2, 4, 4))
    drift, x = velocities.mean(axis=0), random_points(64)
    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    problem = pde.ConvectionDiffusion(layers, f, sigma=0.1)
    s = feynman_kac.solve_to(problem, x, 1e-3)
    assert s.n_steps % n_layers == 0
    exact = np.exp(-0.005 * 4 * np.pi**2) * np.cos(2 * np.pi * (x[:, 0] + drift[0]))
    assert convergence.l2_norm(s.mean - exact) < 3e-3


def test_potential_source_and_layers_of_sigma_are_known():
    # u' = -c u - g along v = 0, f = 1: u(0) = exp(c) + g (exp(c) - 1) / c.
    c, g = 0.7, 0.4
    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=[0.1, 0.3], potential=c, source=g)
    s = feynman_kac.solve_to(problem, [[0.1, 0.2]], 1e-3)
    assert abs(s.mean[0] - (np.exp(c) + g * (np.exp(c) - 1) / c)) < 2e-3
    assert s.method == "sobol-heun"


def test_an_error_beyond_single_precision_is_reached():
    problem = problems.constant_velocity(sigma=0.1, horizon=0.2)
    s = feynman_kac.solve_to(problem, [[0.3, 0.1]], 3e-6)
    assert abs(s.mean[0] - problem.exact([0.3, 0.1])) < 5 * s.error_estimate
    assert s.error_estimate <= 3.1e-6


def test_results_depend_on_the_seed_alone():
    problem, points = problems.eigenfunction(), random_points(100)
    most = numba.config.NUMBA_NUM_THREADS
    results = []
    for n_threads in (1, most):
        numba.set_num_threads(n_threads)
        results.append(feynman_kac.solve_to(problem, points, 2e-2, rng=5))
    numba.set_num_threads(most)
    assert (results[0].mean == results[1].mean).all()
    assert (results[0].stderr == results[1].stderr).all()
    assert (feynman_kac.solve_to(problem, points, 2e-2, rng=6).mean != results[0].mean).any()
    few = feynman_kac.solve_to(problem, points[:3], 2e-2, rng=5)
    assert few.mean.shape == (3,)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stderr": 0}, "stderr must be finite and > 0, got stderr=0"),
        ({"points": np.empty((0, 2))}, "points must hold at least one point"),
        ({"rng": -1}, "rng must be an integer >= 0"),
        ({"max_cost": -1}, "max_cost must be finite and > 0"),
        ({"problem": pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((2, 4, 4)), sigma=0.1)}, "several terminal"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"problem": problems.fourier_mode(), "points": [[0.1, 0.2]], "stderr": 0.1} | changed
    with pytest.raises(ValueError, match=message):
        feynman_kac.solve_to(arguments.pop("problem"), arguments.pop("points"), **arguments)


def test_a_cost_beyond_the_limit_stops_before_it_is_spent():
    with pytest.raises(feynman_kac.NotConvergedError, match="max_cost"):
        feynman_kac.solve_to(problems.eigenfunction(), random_points(4), 1e-5, max_cost=1e6)


# --- the scrambled sequence ----------------------------------------------------------------------------------------


def test_scrambles_are_nets_and_uniform():
    words = np.random.default_rng(1).integers(0, 2**30, (500, 4, 31), dtype=np.uint64)
    u = np.empty((500, 64, 4))
    sobol_uniforms(scramble(_sobol._directions(4, 6), words), words, np.full((500, 4), 0.5), 0, u)
    # Every dimension: one point in each of 64 intervals; the first two: one in each of 8 x 8 squares.
    assert (np.sort((u * 64).astype(int), axis=1) == np.arange(64)[None, :, None]).all()
    squares = (u[..., 0] * 8).astype(int) * 8 + (u[..., 1] * 8).astype(int)
    assert (np.sort(squares, axis=1) == np.arange(64)).all()
    # A point of a scramble is uniform: 500 of them per dimension, with a false alarm of 1e-6 in 4 tests.
    assert all(scipy.stats.kstest(u[:, 5, d], "uniform").pvalue > 2.5e-7 for d in range(4))


def test_a_sequence_continues_where_it_stopped():
    order, weights = pde.quasi.bridge_order(6)
    whole = _sobol.ScrambledPaths(np.random.default_rng(0), 3, 6, order, weights).increments(16).reshape(6, 2, 3, 16)
    parts = _sobol.ScrambledPaths(np.random.default_rng(0), 3, 6, order, weights)
    first, second = (parts.increments(8).reshape(6, 2, 3, 8) for _ in range(2))
    np.testing.assert_array_equal(whole, np.concatenate([first, second], axis=-1))


def shaken(frequency, sigma):
    """A uniform velocity that oscillates and moves nothing in the end: a Fourier mode that only decays."""

    def velocity(x, t):
        return np.stack([0.3 * np.cos(2 * np.pi * frequency * t) + 0 * x[..., 0], 0 * x[..., 0]], axis=-1)

    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    return pde.ConvectionDiffusion(
        velocity,
        f,
        sigma=sigma,
        solution=lambda x, t: np.exp(-2 * (np.pi * sigma) ** 2 * (1 - t)) * np.cos(2 * np.pi * x[..., 0]),
    )


@pytest.mark.parametrize("sigma", [0.0, 0.2])
@pytest.mark.parametrize("frequency", [8, 64])
def test_a_period_in_time_that_divides_the_steps_is_seen(frequency, sigma):
    # Steps at multiples of the period read one velocity, 0.3, that moves the mode by 0.3: an error of 0.7.
    problem, x = shaken(frequency, sigma), np.array([[0.1, 0.2], [0.3, 0.7]])
    solution = feynman_kac.solve_to(problem, x, stderr=1e-2)
    assert np.abs(solution.mean - problem.exact(x)).max() < 5 * 1e-2


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_a_velocity_too_fast_for_any_steps_is_refused(sigma):
    with pytest.raises(feynman_kac.NotConvergedError, match=r"uncertain by .* the velocity .* give layers"):
        feynman_kac.solve_to(shaken(4096, sigma), [[0.1, 0.2]], stderr=1e-2)


def test_an_event_in_time_is_followed_by_steps_that_hold_it():
    # A pulse that moves the mode by 0.3, at 17 times the speed that steps at 0, 0.3, 0.7 and 1 see.
    def velocity(x, t):
        speed = 0.3 / (0.01 * np.sqrt(np.pi)) * np.exp(-(((t - 0.6279) / 0.01) ** 2))
        return np.stack([speed + 0 * x[..., 0], 0 * x[..., 0]], axis=-1)

    x = np.array([[0.1, 0.2], [0.3, 0.7]])
    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    solution = feynman_kac.solve_to(pde.ConvectionDiffusion(velocity, f, sigma=0.2), x, stderr=1e-2)
    exact = np.exp(-2 * (0.2 * np.pi) ** 2) * np.cos(2 * np.pi * (x[:, 0] + 0.3))
    assert np.abs(solution.mean - exact).max() < 5 * 1e-2


def test_a_bias_that_noise_hides_is_not_taken_for_a_small_one():
    # Steep, so that the bias falls by half only when steps are halved; twice the error wanted if the pilot's noise
    # hides it. Mean squares over seeds and points are (1e-2)**2 at most; their relative noise is 1 / sqrt(8).
    velocity = np.zeros((2, 64, 64))
    velocity[0] = 0.5 * np.sin(2 * np.pi * 20 * np.arange(64) / 64)[:, None]
    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    problem, x = pde.ConvectionDiffusion(velocity, f, sigma=0.2), np.array([[0.1, 0.2], [0.3, 0.7], [0.55, 0.9]])
    exact = pde.spectral.solve(problem, 200).field(x)
    errors = [feynman_kac.solve_to(problem, x, stderr=1e-2, rng=seed).mean - exact for seed in range(8)]
    assert np.mean(np.square(errors)) < 1e-4 * (1 + 3 / np.sqrt(8))


@pytest.mark.parametrize("wanted", [1e-2, 1e-4, 1e-5])
def test_the_bias_of_the_pilots_coarsest_steps_is_what_it_saw_of_it(wanted):
    # On a pulse in time the trapezoidal rule of 64 steps is wrong by 6e-4, of 128 steps by 3e-9: faster than order 2.
    def pulse(x, t):
        return np.exp(-(((t - 0.4137) / 0.01) ** 2)) + 0 * x[..., 0]

    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=0.1, source=pulse)
    s = feynman_kac.solve_to(problem, [[0.1, 0.2]], wanted)
    assert abs(s.mean[0] - 1 - 0.01 * np.sqrt(np.pi)) <= 1.1 * s.bias_estimate <= 1.1 * wanted


def test_squares_that_overflow_are_refused():
    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=0.1, potential=600.0)
    with pytest.raises(FloatingPointError, match="squares of the terminal data overflow"):
        feynman_kac.solve_to(problem, [[0.1, 0.2]], 1e150)


def test_an_error_whose_square_is_no_number_is_refused():
    for solver in (feynman_kac.solve_to, feynman_kac.multilevel):
        with pytest.raises(ValueError, match="stderr must be >= 1e-150"):
            solver(problems.constant_velocity(), [[0.1, 0.2]], stderr=1e-200)


# --- memory --------------------------------------------------------------------------------------------------------


def test_tables_made_a_few_steps_at_a_time_give_the_same_means(monkeypatch):
    def velocity(x, t):
        return np.stack([np.sin(2 * np.pi * (x[..., 1] + t)), 0 * x[..., 0]], axis=-1)

    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    problem = pde.ConvectionDiffusion(velocity, f, sigma=0.2)
    for n_points in (3, 80):
        x, increments = (
            np.random.default_rng(1).random((n_points, 2)),
            np.random.default_rng(2).normal(size=(20, 2, 64)),
        )
        whole = _shared_paths.SharedMeans(problem, 32, 1e-3)
        expected = whole(x, increments * 20**-0.5, 16)
        monkeypatch.setattr(_shared_paths, "_TABLE_BYTES", 2**17)
        monkeypatch.setattr(_shared_paths, "_WAITING", 2**7)
        parts = _shared_paths.SharedMeans(problem, 32, 1e-3)
        assert len(parts._pieces(TimeSteps(problem, 20))) > 3
        # The same arithmetic; of many points, sums of 32-bit integers in place of floats: 2**-24 of f each.
        np.testing.assert_allclose(parts(x, increments * 20**-0.5, 16), expected, rtol=0, atol=1e-6)
        monkeypatch.undo()


def test_memory_does_not_grow_with_the_steps():
    # 1 / sqrt(t) asks for 2.5e6 steps in single precision at its first moment; a steep velocity for 512**2 points.
    def singular(t):
        return np.stack([np.full((4, 4), 0.5 / np.sqrt(max(t, 1e-12))), np.zeros((4, 4))])

    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    x = np.array([[0.1, 0.2], [0.4, 0.3]])
    tracemalloc.start()
    s = feynman_kac.solve_to(pde.ConvectionDiffusion(singular, f, sigma=0.1), x, 5e-3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All velocity moves by 1, a whole period. Five standard errors of two points.
    exact = np.exp(-2 * (0.1 * np.pi) ** 2) * np.cos(2 * np.pi * x[:, 0])
    assert convergence.l2_norm(s.mean - exact) < 5 * 5e-3
    assert peak < 2**30


def test_a_callable_that_does_not_vary_has_one_table():
    def steep(x, t):
        return np.stack([np.tanh(4 * np.sin(2 * np.pi * x[..., 0])), 0 * x[..., 0]], axis=-1)

    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    problem = pde.ConvectionDiffusion(steep, f, sigma=0.2)
    means = _shared_paths.SharedMeans(problem, 64, 1e-3, InTime(problem, "trapezoid"))
    assert len(means._pieces(TimeSteps(problem, 50))[0].made[0]) == 1
    x, increments = (
        np.random.default_rng(1).random((5, 2)),
        np.random.default_rng(2).normal(size=(20, 2, 64)) * 20**-0.5,
    )
    np.testing.assert_array_equal(
        means(x, increments, 16), _shared_paths.SharedMeans(problem, 64, 1e-3)(x, increments, 16)
    )


def test_tables_of_a_callable_count_as_cost():
    def velocity(x, t):
        return np.stack([np.sin(2 * np.pi * (x[..., 1] + t)), 0 * x[..., 0]], axis=-1)

    problem = pde.ConvectionDiffusion(velocity, np.ones((4, 4)), sigma=0.2)
    # One point and 8 paths in each of 32 scrambles: 7 * 4 steps of the pilot cost 7168 path-steps, and 2 * 16 tables of
    # at least 16**2 points 25 times as many as points, 204800.
    with pytest.raises(feynman_kac.NotConvergedError, match=r"path-steps > max_cost=1e\+05"):
        feynman_kac.solve_to(problem, [[0.1, 0.2]], 1e-2, max_cost=1e5)
    steady = pde.ConvectionDiffusion(np.ones((2, 4, 4)), np.ones((4, 4)), sigma=0.2)
    assert feynman_kac.solve_to(steady, [[0.1, 0.2]], 1e-2, max_cost=1e5).mean[0] == pytest.approx(1.0, abs=1e-6)
    assert feynman_kac.solve_to(problem, [[0.1, 0.2]], 1e-2, max_cost=1e8).mean[0] == pytest.approx(1.0, abs=1e-6)
