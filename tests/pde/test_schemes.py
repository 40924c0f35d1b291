"""Schemes, laws of the increments and precisions of the path loops: their references, laws and orders."""

import numba
import numpy as np
import pytest
import scipy.stats
from test_feynman_kac import FALSE_ALARM, random_points, rough

import pde
from pde import convergence, feynman_kac, grid, problems

ALL = [
    {"scheme": scheme, "increments": increments, "dtype": dtype}
    for scheme in ("euler", "heun")
    for increments in ("gaussian", "two-point")
    for dtype in ("float64", "float32")
]


def name(options):
    return "-".join(options.values())


def ends(problem, points, n_paths, n_steps, rng, options, *, common_paths=False, antithetic=False):
    """f(X_T) of shape (n_points, n_paths), in NumPy, with the increments of the compiled loop."""
    follow = feynman_kac.stochastic_heun if options["scheme"] == "heun" else feynman_kac.euler_maruyama
    law = {"increments": options["increments"], "dtype": options["dtype"]}
    rows = []
    for index, point in enumerate(points):
        number = 0 if common_paths else index
        dt = problem.horizon / n_steps
        drawn = feynman_kac.brownian_increments(rng, n_steps, n_paths, dt, point=number, antithetic=antithetic, **law)
        rows.append(problem.terminal_at(follow(problem, point, drawn)))
    return np.array(rows)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("more", [{}, {"common_paths": True}, {"antithetic": True}])
@pytest.mark.parametrize("options", ALL, ids=name)
def test_compiled_loop_equals_its_reference(options, more, interpolation):
    problem, points = rough(n=20, interpolation=interpolation), random_points(5)
    expected = ends(problem, points, 150, 70, 11, options, **more)
    e = feynman_kac.estimate(problem, points, n_paths=150, n_steps=70, rng=11, **options, **more)
    # Rounding of a step: 1e-16; in single precision 2**-32 of the period, and 2**-24 of a displacement of at most
    # 0.1 sqrt(dt) * 6 = 0.07. Over 70 steps and a stretching of at most 100, seen through |grad f| < 2 * 20.
    tolerance = 1e-10 if options["dtype"] == "float64" else 70 * (2.0**-32 + 0.07 * 2.0**-24) * 100 * 40
    np.testing.assert_allclose(e.mean, expected.mean(axis=1), atol=tolerance)


@pytest.mark.parametrize("options", ALL, ids=name)
def test_layers_and_time_are_those_of_the_reference(options):
    shears = problems.crossed_shears(n=32)
    layered = pde.ConvectionDiffusion(
        shears.velocity.with_interpolation("bilinear"), shears.terminal.with_interpolation("bilinear"), sigma=0.1
    )
    moving = pde.ConvectionDiffusion(
        lambda t: pde.PeriodicField(np.cos(3 * t) * shears.velocity.values[0], interpolation="bilinear"),
        layered.terminal,
        sigma=0.1,
    )
    points = random_points(6)
    for problem in (layered, moving):
        e = feynman_kac.estimate(problem, points, n_paths=40, n_steps=66, rng=2, **options)
        np.testing.assert_allclose(e.mean, ends(problem, points, 40, 66, 2, options).mean(axis=1), atol=2e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gaussian_increments_are_normal(dtype):
    z = feynman_kac.brownian_increments(3, 40, 5000, 1.0, dtype=dtype).ravel()
    # Three tests with a false-alarm rate of 1e-6 each.
    assert scipy.stats.kstest(z, "norm").pvalue > FALSE_ALARM
    assert abs(z.mean()) * np.sqrt(z.size) < 4.9
    assert abs((z**2).mean() - 1) / np.sqrt(2 / z.size) < 4.9


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_point_increments_are_fair_signs(dtype):
    z = feynman_kac.brownian_increments(4, 128, 2000, 0.25, increments="two-point", dtype=dtype)
    np.testing.assert_allclose(np.abs(z), 0.5, rtol=1e-7)
    # Means, and products of neighbours in step, path and component: each within 4.9 standard errors (1e-6).
    assert abs(z.mean()) / 0.5 * np.sqrt(z.size) < 4.9
    for product in (z[1:] * z[:-1], z[:, 1:] * z[:, :-1], z[..., 0] * z[..., 1], z[64:] * z[:-64]):
        assert abs(product.mean()) / 0.25 * np.sqrt(product.size) < 4.9


@pytest.mark.parametrize("options", [o for o in ALL if o["increments"] == "gaussian"], ids=name)
def test_unbiased_for_a_constant_velocity(options):
    problem, points = problems.constant_velocity(sigma=0.3), random_points(100)
    e = feynman_kac.estimate(problem, points, n_paths=4000, n_steps=7, rng=22, **options)
    z = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    assert np.abs(z).max() < convergence.z_threshold(100, FALSE_ALARM)
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 100)
    assert low < z @ z < high


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_heun_has_weak_order_two(dtype):
    problem = problems.figure4(seed=4, n=32, sigma=0.1, velocity="band-limited")
    points = random_points(8, seed=5)
    exact = pde.spectral.solve(problem, n=128, rtol=1e-7).field(points)
    n_steps, options = np.array([4, 6, 8, 12]), {"scheme": "heun", "dtype": dtype}
    estimates = [feynman_kac.estimate(problem, points, 1_000_000, int(n), rng=int(n), **options) for n in n_steps]
    direction = feynman_kac.estimate(problem, points, 1_000_000, 5, rng=1, **options).mean - exact
    direction /= np.linalg.norm(direction)
    bias = np.array([(e.mean - exact) @ direction for e in estimates])
    noise = [np.linalg.norm(e.stderr * direction) for e in estimates]
    assert (convergence.relative_noise(noise, bias) < 0.1).all()
    # dt |grad v| is about one at the coarsest step: its square bends the line by a few tenths of an order.
    assert abs(convergence.observed_order(1 / n_steps, np.abs(bias)).order - 2) < 0.6
    euler = feynman_kac.estimate(problem, points, 1_000_000, 12, rng=3).mean - exact
    assert np.linalg.norm(euler) > 3 * abs(bias[-1])


@pytest.mark.parametrize("options", ALL, ids=name)
def test_two_threads_give_the_bits_of_one(options):
    most = numba.config.NUMBA_NUM_THREADS
    if most < 2:
        pytest.skip("one core: nothing to compare")
    problem, points, means = rough(), random_points(60), []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        means.append(feynman_kac.estimate(problem, points, n_paths=200, n_steps=10, rng=6, **options).mean)
    numba.set_num_threads(most)
    assert (means[0] == means[1]).all()


def test_any_size_of_grid_serves_single_precision():
    options = {"scheme": "euler", "increments": "gaussian", "dtype": "float32"}
    for n in (11, 20, 100):
        smooth = problems.figure4(seed=1, n=n, velocity="band-limited")
        fields = (field.with_interpolation("bilinear") for field in (smooth.velocity, smooth.terminal))
        problem, points = pde.ConvectionDiffusion(*fields, sigma=0.1), random_points(40)
        e = feynman_kac.estimate(problem, points, n_paths=1, n_steps=40, dtype="float32")
        # Forty roundings of 2**-24 of a step < 0.1, stretched by 1e3 at most, seen through |grad f| < 40.
        expected = ends(problem, points, 1, 40, 0, options)[:, 0]
        np.testing.assert_allclose(e.mean, expected, atol=40 * 0.1 * 2.0**-24 * 1e3 * 40)
        assert np.median(np.abs(e.mean - expected)) < 1e-5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scheme": "milstein"}, "scheme must be one of 'euler', 'heun', got scheme='milstein'"),
        ({"increments": "laplace"}, "increments must be one of 'gaussian', 'two-point'"),
        ({"dtype": "float16"}, "dtype must be one of 'float64', 'float32'"),
        ({"dtype": "float32", "n_steps": 1}, "a step may not cross a quarter of a period"),
    ],
)
def test_unknown_options_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        feynman_kac.estimate(rough(), [0.1, 0.2], **({"n_paths": 4, "n_steps": 50} | changed))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scheme", ["euler", "heun"])
@pytest.mark.parametrize("common_paths", [False, True])
def test_steps_may_cross_many_periods(dtype, scheme, common_paths):
    # Constant velocity: exact in law for any step. Displacements of half a period and more took particles to one place
    # in float32. 24 scores of each of 8 cases, false-alarm rate 1e-6 in all; normals of 16 bits are off by up to 1e-3.
    x = grid.points(8)[..., 0] * 2 * np.pi
    points = np.array([[0.0, 0.0], [0.31, 0.2], [0.6, 0.9]])
    sigmas, bound = (0.3, 1.0, 7.0, 900.0), convergence.z_threshold(24 * 8, 1e-6)
    for sigma in sigmas:
        problem = pde.ConvectionDiffusion(np.full((2, 8, 8), 0.1), np.cos(x), sigma=sigma)
        exact = np.exp(-((2 * np.pi * sigma) ** 2) / 2) * np.cos(2 * np.pi * (points[:, 0] + 0.1))
        for n_steps in (1, 3):
            options = {"dtype": dtype, "scheme": scheme, "common_paths": common_paths}
            e = feynman_kac.estimate(problem, points, 2**14, n_steps, 3, **options)
            assert (np.abs(e.mean - exact) <= bound * e.stderr + 1e-3 * (dtype == "float32")).all(), (sigma, n_steps)


@pytest.mark.parametrize("count", [3, 70])
@pytest.mark.parametrize("sigma", [0.7, 3.0, 900.0, 1e5])
@pytest.mark.parametrize("common_paths", [True, False])
def test_solve_to_crosses_many_periods_in_a_step(count, sigma, common_paths):
    x = grid.points(8)[..., 0] * 2 * np.pi
    points = np.random.default_rng(1).random((count, 2))
    problem = pde.ConvectionDiffusion(np.full((2, 8, 8), 0.1), np.cos(x), sigma=sigma)
    exact = np.exp(-((2 * np.pi * sigma) ** 2) / 2) * np.cos(2 * np.pi * (points[:, 0] + 0.1))
    s = feynman_kac.solve_to(problem, points, 2e-2, rng=2, common_paths=common_paths)
    # A constant velocity has no bias, and is done in the fewest steps; five standard errors.
    assert s.n_steps <= 8
    assert np.sqrt(np.mean((s.mean - exact) ** 2)) <= 5 * 2e-2


def test_noise_that_rounding_would_move_is_refused():
    still, f = np.zeros((2, 4, 4)), np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"sigma sqrt\(horizon\) must be <= 6\.7e\+07 periods"):
        feynman_kac.estimate(pde.ConvectionDiffusion(still, f, sigma=1e8), [0.1, 0.2], 4, 4)
    with pytest.raises(ValueError, match=r"dtype='float32' needs sigma sqrt\(horizon\) <= 1024 periods, got 2e\+03"):
        feynman_kac.estimate(pde.ConvectionDiffusion(still, f, sigma=2e3), [0.1, 0.2], 4, 4, dtype="float32")
