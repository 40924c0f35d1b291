"""Gradients by Monte Carlo: unbiased, of honest standard errors, by two formulas and against two solutions."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from path_problems import random_points

import pde
from pde import convergence, feynman_kac, problems

FALSE_ALARM = 1e-6


def slopes(problem, points, h=1e-5):
    """Central differences of the closed form."""
    h = h * problem.length
    shifts = np.eye(2) * h
    parts = [(problem.exact(points + shift) - problem.exact(points - shift)) / (2 * h) for shift in shifts]
    return np.stack(parts, axis=-1)


WAYS = [
    {"method": "bismut"},
    {"method": "bismut", "antithetic": False},
    {"method": "bismut", "sobol": True},
    {"method": "bismut", "window": 0.3},
    {"method": "pathwise"},
    {"method": "pathwise", "sobol": True, "scheme": "heun"},
]


@pytest.mark.parametrize("ways", WAYS, ids=str)
def test_unbiased_where_euler_maruyama_is_exact_in_law(ways):
    # Little damping, so that a gradient wrong by a tenth is many standard errors off.
    problem = problems.constant_velocity(sigma=0.15, length=2.0)
    points = random_points(60, length=2.0)
    g = feynman_kac.gradient(problem, points, n_paths=2048, n_steps=4, rng=3, **ways)
    z = ((g.mean - slopes(problem, points)) / g.stderr).ravel()
    # Sobol points share their paths, so only the largest can be judged, by Student's t; others have independent points.
    if ways.get("sobol"):
        assert np.abs(z).max() < scipy.stats.t.isf(FALSE_ALARM / 240, g.n_samples - 1)
        return
    assert np.abs(z).max() < convergence.z_threshold(120, FALSE_ALARM)
    # The two components of a point are correlated: half as many degrees of freedom at least.
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 60)
    assert low / 60 < z @ z / 120 < high / 60


@pytest.mark.parametrize("ways", [WAYS[0], WAYS[2], WAYS[4]], ids=str)
def test_agrees_with_the_spectral_gradient(ways):
    smooth = problems.figure4(3, 48, 0.2, "band-limited")
    problem = pde.ConvectionDiffusion(0.4 * smooth.velocity.values, smooth.terminal, sigma=0.2, horizon=0.5)
    points = random_points(20)
    field = pde.spectral.solve(problem, 64).field
    g = feynman_kac.gradient(problem, points, n_paths=4096, n_steps=128, rng=1, **ways)
    gap = g.mean - field.jacobian(points)
    # The bias of 128 steps is about dt max|grad v| / 2 = 1e-2 of the gradient.
    bias = 1e-2 * np.abs(field.jacobian(points)).max()
    assert (np.abs(gap) < bias + scipy.stats.t.isf(FALSE_ALARM / 80, g.n_samples - 1) * g.stderr).all()


def test_bismut_takes_terminal_data_that_jump():
    def f(x):
        return np.where(np.abs(np.mod(x[..., 0], 1.0) - 0.5) < 0.25, 1.0, 0.0)

    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), f, sigma=0.2, horizon=0.5)
    points = np.array([[0.75, 0.1], [0.67, 0.7], [0.25, 0.3]])
    g = feynman_kac.gradient(problem, points, n_paths=40_000, n_steps=4)
    s, images = 0.2 * np.sqrt(0.5), np.arange(-3, 4)
    density = [scipy.stats.norm.pdf(points[:, 0, None] - edge + images, scale=s).sum(axis=1) for edge in (0.25, 0.75)]
    exact = np.stack([density[0] - density[1], np.zeros(3)], axis=-1)
    assert (np.abs(g.mean - exact) < convergence.z_threshold(6, FALSE_ALARM) * g.stderr).all()
    with pytest.raises(ValueError, match="method='pathwise' needs terminal data with a gradient"):
        feynman_kac.gradient(problem, points, "pathwise")


def test_the_window_keeps_the_variance_from_exploding():
    # v = a x near a saddle stretches by exp(a T) = 500.
    x = np.arange(32) / 32
    v = np.stack(np.broadcast_arrays(np.sin(2 * np.pi * x)[:, None], -np.sin(2 * np.pi * x)[None]))
    f = np.cos(2 * np.pi * x)[:, None] * np.ones(32)
    problem = pde.ConvectionDiffusion(v, f, sigma=0.1)
    point, options = [[0.0, 0.3]], {"n_paths": 2048, "n_steps": 128}
    g = feynman_kac.gradient(problem, point, **options)
    whole = feynman_kac.gradient(problem, point, window=1.0, **options)
    assert 10 * g.stderr[0, 0] < whole.stderr[0, 0]


def test_the_window_is_the_one_of_least_variance():
    # Stretching along one line alone: the largest rate of strain, 2 pi, is no measure of what a path meets.
    x = np.arange(32) / 32
    v = np.stack([np.broadcast_to(0.5 * np.sin(2 * np.pi * x), (32, 32)), np.zeros((32, 32))])
    problem = pde.ConvectionDiffusion(v, np.cos(2 * np.pi * x)[:, None] * np.ones(32), sigma=0.2)
    points, options = random_points(40), {"n_paths": 2048, "n_steps": 64}
    g = feynman_kac.gradient(problem, points, **options)
    tried = [feynman_kac.gradient(problem, points, window=w, rng=9, **options) for w in np.arange(1, 17) / 16]
    # The shortest window whose variance is within a tenth of the least, by the pilot. Of its 40 * 64 samples, of fourth
    # moment 4.6, a variance is known to sqrt(3.6 / 2560) = 0.037 of its own, and the ratio of two, which share the
    # paths, to 0.028; the variances compared here are known to 0.01. As 1.3 = 1.1 (1 + 5.8 hypot(0.028, 0.01, 0.01)),
    # one of the 32 windows passes it wrongly with probability 32 * 3e-9 = 1e-7.
    assert (g.stderr**2).sum() < 1.3 * min((one.stderr**2).sum() for one in tried)
    assert g.window > 0.2


def test_pairs_and_sobol_points_reduce_the_variance():
    # The samples are proportional to sin(theta + q Z), theta = 2 pi x, q = 2 pi sigma, and the mean of a pair to
    # sin(theta) cos(q Z). Over equidistant theta the variances are (1 - a) / 2 and (1 - a)**2 / 4, a = exp(-q**2).
    problem = problems.constant_velocity(k=(1, 0), sigma=0.1)
    points, a = np.stack([np.arange(20) / 20, np.full(20, 0.3)], axis=-1), np.exp(-((0.2 * np.pi) ** 2))
    plain, pairs, sobol = (
        feynman_kac.gradient(problem, points, "pathwise", 4096, 16, **ways)
        for ways in ({"antithetic": False}, {}, {"sobol": True})
    )
    # By the fourth moments, the variances of 20 * 4096 samples and of half as many pairs are known to 0.0053 and 0.0166
    # of their own.
    ratio = np.mean(pairs.stderr**2) / np.mean(plain.stderr**2)
    assert abs(ratio / (1 - a) - 1) < scipy.stats.norm.isf(FALSE_ALARM / 2) * np.hypot(0.0053, 0.0166)
    # One Z decides, and 128 points of a scramble stratify it: the variance within strata is 0.002 of the whole, by
    # quadrature. Of 32 scrambles it is known to 0.36 of its own. As a gamma variable it is ten times as large with
    # probability 1e-20; whatever its law, with 1 / (1 + 25**2) at most.
    assert np.mean(sobol.stderr**2) < 0.02 * np.mean(plain.stderr**2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "finite"}, "method must be one of 'bismut', 'pathwise', got method='finite'"),
        ({"scheme": "heun"}, "scheme='heun' does not go with method='bismut'"),
        ({"window": 2.0}, r"window must lie in \(0, 1\]"),
        ({"n_paths": 33}, "n_paths must be even"),
        ({"n_paths": 48, "sobol": True}, "n_paths must be 32 times a power of two"),
        ({"problem": problems.crossed_shears(n=16)}, "sigma must be > 0"),
        ({"problem": pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=0.1, source=1.0)}, "a source"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"problem": problems.fourier_mode(), "points": [[0.1, 0.2]], "n_paths": 32, "n_steps": 2} | changed
    with pytest.raises(ValueError, match=message):
        feynman_kac.gradient(arguments.pop("problem"), arguments.pop("points"), **arguments)


@pytest.mark.parametrize("ways", [{"sobol": True}, {"method": "pathwise", "sobol": True}, {}], ids=str)
def test_means_errors_and_window_scale_with_the_terminal_data(ways):
    # Squares underflow below 2**-537.
    problem, points = problems.constant_velocity(sigma=0.3), random_points(3)
    values, options = problem.terminal_on_grid(problem.n), ways | {"n_paths": 256, "n_steps": 8}
    plain = feynman_kac.gradient(problem.with_terminal(values), points, **options)
    for exponent in (-400, -540, -1000):
        tiny = feynman_kac.gradient(problem.with_terminal(np.ldexp(values, exponent)), points, **options)
        assert tiny.window == plain.window
        np.testing.assert_allclose(np.ldexp(tiny.mean, -exponent), plain.mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.ldexp(tiny.stderr, -exponent), plain.stderr, rtol=1e-9)
