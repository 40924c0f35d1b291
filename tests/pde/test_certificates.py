"""Certified radii against true distances: closed forms, dense grids, and networks by their exact transfer operator."""

import math

import numpy as np
import pytest
import scipy.fft
from scipy.spatial import cKDTree
from scipy.special import ndtri

import pde
from pde import bounds, grid, problems, random_fields
from pde.bounds import _certified_maxima, _rates

KINDS = ("sharp", "local", "smoothing")


def random_points(count, length=1.0, seed=0):
    return np.random.default_rng(seed).uniform(-length, 2 * length, (count, 2))


def distance_to_a_mode(x, k, shift, length=1.0):
    """Distance to the lines on which cos(2 pi k . (x + shift) / length) vanishes."""
    phase = (x + shift) @ np.array(k) / length
    return np.abs(np.mod(phase, 0.5) - 0.25) * length / np.linalg.norm(k)


def band_limited(seed, sigma, *, n=48, length=1.0, n_layers=1, speed=0.3):
    layers = [random_fields.band_limited(n, [seed, j], n_modes=2).values for j in range(n_layers)]
    terminal = random_fields.terminal_datum(n, [seed, 9], n_modes=3).values
    return pde.ConvectionDiffusion(speed * length * np.stack(layers), terminal, sigma=sigma * length, length=length)


def assert_never_larger_and_not_timid(certificates, true, *, median):
    for kind in (*KINDS, "radius"):
        assert (getattr(certificates, kind) <= true).all(), kind
    assert np.median(certificates.radius / true) >= median


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_radii_of_closed_forms_are_below_the_true_distance_and_close_to_it(count):
    velocity, k = (0.7, -0.4), (1, 2)
    for length, sigma in ((1.0, 0.15), (3.0, 0.5)):
        problem = problems.constant_velocity(velocity, k, sigma=sigma, length=length)
        points = random_points(count, length)
        found = bounds.certificates(problem, points)
        assert found.method == "spectral"
        assert found.spread == pytest.approx(sigma)  # v is constant, T = 1
        assert_never_larger_and_not_timid(found, distance_to_a_mode(points, k, np.array(velocity), length), median=0.99)
        # A plane wave is flat at its crests, where the global bounds cannot know how far the next trough is.
        for kind in ("sharp", "smoothing"):
            assert np.median(getattr(found, kind)[np.abs(found.u) < 0.2 * np.abs(found.u).max()]) > 0


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_radii_are_below_the_distance_to_grid_points_of_the_other_sign(count):
    for seed, sigma, length, n_layers in ((0, 0.1, 1.0, 1), (1, 0.12, 0.3, 3), (2, 0.3, 5.0, 2)):
        problem = band_limited(seed, sigma, length=length, n_layers=n_layers)
        solution, m = pde.spectral.solve(problem, 96), 512
        fine, where = solution.field.on_grid(m), grid.points(m, length)
        points = random_points(count, length)
        found, cell = bounds.certificates(problem, points), np.mod(points, length)
        other = np.full(count, np.inf)
        for sign in (-1, 1):
            if (fine * sign > 0).any():
                tree = cKDTree(where[fine * sign > 0], boxsize=length)
                mask = found.u * sign < 0
                other[mask] = tree.query(cell[mask])[0]
        # Grid points of the other sign are an upper bound of the distance, half a diagonal too far at most.
        assert_never_larger_and_not_timid(found, other, median=0.9)
        assert np.isfinite(found.local).all()


def test_boundary_distance_encloses_the_distance():
    k, points = (1, 2), random_points(500, 2.0)
    field = problems.fourier_mode(k, length=2.0).terminal
    true = distance_to_a_mode(points, k, np.zeros(2), 2.0)
    for error, resolution in ((0.0, 2.0**-12), (0.01, 2.0**-10)):
        lower, upper = bounds.boundary_distance(field, points, error, resolution=resolution)
        assert (lower <= true).all()
        assert (true <= upper).all()
        # Half a diagonal, and what the error may move the boundary by: slope 2 pi sqrt(5) / 2 at the zeros.
        slack = 2.0 * resolution * math.sqrt(2) + 2 * error / (math.pi * math.sqrt(5))
        certain = np.abs(field(points)) > error
        assert (upper - lower <= 2.5 * slack)[certain].all()
        assert not lower[~certain].any()
    for positive in bounds.boundary_distance(pde.PeriodicField(field.values + 1.5, 2.0), points):
        assert np.isinf(positive).all()
    with pytest.raises(ValueError, match="field must be trigonometric"):
        bounds.boundary_distance(field.with_interpolation("bilinear"), points)


def test_upper_end_of_the_distance_holds_for_every_sign_that_the_error_allows():
    # The field is 0.05 at x = 0; a solution 0.06 lower is negative everywhere, and has no point of another sign.
    x = grid.points(32)[..., 0]
    field, at = pde.PeriodicField(np.cos(2 * np.pi * x) - 0.95), [[0.0, 0.0], [0.5, 0.0]]
    lower, upper = bounds.boundary_distance(field, at, 0.06)
    assert lower[0] == 0
    assert np.isinf(upper).all()
    # One 0.04 lower is positive for cos(2 pi x) > 0.99.
    lower, upper = bounds.boundary_distance(field, at, 0.04)
    true = np.abs(at[0][0] - math.acos(0.99) / (2 * np.pi)), 0.5 - math.acos(0.99) / (2 * np.pi)
    assert (lower <= true).all()
    assert (true <= upper).all()
    # Exactly at a zero.
    lower, upper = bounds.boundary_distance(problems.fourier_mode((1, 0)).terminal, [0.25, 0.3])
    assert lower == 0 <= upper


def test_field_without_zeros_has_no_other_class():
    problem = pde.ConvectionDiffusion(
        np.zeros((2, 8, 8)), 1.5 + problems.fourier_mode((1, 0), n=8).terminal.values, sigma=0.1
    )
    found = bounds.certificates(problem, random_points(5))
    assert np.isinf(found.local).all()
    assert np.isinf(found.smoothing).all()
    assert np.isfinite(found.sharp).all()


@pytest.mark.parametrize("horizon", [0.5, 1.0])
def test_smoothing_of_a_step_is_the_distance(horizon):
    # u = Phi(x / sigma sqrt(T)) for a step in the plane (Cohen et al. 2019: attained by linear classifiers).
    n, sigma = 128, 0.08
    x = np.arange(n) / n
    step = np.where((x > 0.25) & (x < 0.75), 1.0, -1.0)
    step[[n // 4, 3 * n // 4]] = 0.0
    terminal = pde.PeriodicField(step[:, None] * np.ones(n), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(np.zeros((2, 4, 4)), terminal, sigma=sigma, horizon=horizon)
    at = np.stack([0.25 + np.linspace(0.03, 0.11, 6), np.full(6, 0.3)], axis=-1)
    found = bounds.certificates(problem, at)
    assert (found.smoothing <= at[:, 0] - 0.25).all()
    # The step is 2 / n wide, and the solution known up to its error, which is magnified in the tail.
    assert found.spread == pytest.approx(sigma * math.sqrt(horizon))
    assert (found.smoothing >= 0.9 * (at[:, 0] - 0.25)).all()
    # The negative side is the mirror image.
    mirrored = bounds.certificates(problem, np.stack([0.5 - at[:, 0], at[:, 1]], axis=-1))
    np.testing.assert_allclose(mirrored.smoothing, found.smoothing, rtol=1e-2)


def test_monte_carlo_certifies_all_points_together():
    # With probability 1 - alpha a call is right at all of its points: 0 failures in 20 calls of alpha = 1e-3 have
    # the false-alarm rate 2 % at most (the intervals are wider than they need be).
    k, sigma = (1, 1), 0.15
    problem = problems.fourier_mode(k, sigma=sigma)
    points = random_points(100)
    true = distance_to_a_mode(points, k, np.zeros(2))
    exact = problem.exact(points)
    for rng in range(20):
        found = bounds.certificates(problem, points, method="monte-carlo", n_paths=2048, rng=rng)
        assert found.method == "monte-carlo"
        assert found.confidence == 0.999
        assert (np.abs(found.u - exact) <= found.error).all()
        assert_never_larger_and_not_timid(found, true, median=0.3)
        assert not found.local.any()
    certain = np.abs(found.u) - found.error
    cohen = sigma * np.maximum(ndtri(np.maximum(certain + 1, 1) / 2), 0)
    np.testing.assert_allclose(found.smoothing, cohen, rtol=0, atol=1e-7)  # the range of f is enclosed to 1e-7


def test_half_width_covers_bounded_variables_of_any_variance():
    rng, n, alpha = np.random.default_rng(0), 512, 0.1
    for p in (0.5, 0.05, 0.002):
        draws = rng.binomial(n, p, 4000) / n
        width = bounds._certificates._half_width(np.sqrt(draws * (1 - draws) / (n - 1)), n, 1.0, alpha)
        # Coverage 0.9 at least; 4000 draws know it to 0.005.
        assert (np.abs(draws - p) <= width).mean() >= 0.9 - 5 * 0.005
    assert bounds._certificates._half_width(0.0, n, 1.0, alpha) < 0.05


def transfer(values, drift, dt, sigma):
    """One step of a network in one dimension, exactly: (w * N(0, sigma**2 dt))(x + dt v(x)), w trigonometric."""
    n = len(values)
    c = scipy.fft.fft(values) / n
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    c = c * np.exp(-(k**2) * sigma**2 * dt / 2)
    x = np.arange(n) / n + dt * drift
    return np.array([(c * np.exp(1j * k * point)).sum().real for point in x])


@pytest.mark.parametrize("n_layers", [1, 2, 8])
def test_network_of_gaussian_steps_has_its_own_spread(n_layers):
    n, gamma, sigma = 512, 2.0, 0.08
    x = np.arange(n) / n
    drift = gamma / (2 * np.pi) * np.sin(2 * np.pi * x)
    f = np.clip(60 * np.sin(2 * np.pi * x), -1, 1)
    velocity = np.stack([drift[::32, None] * np.ones(n // 32), np.zeros((n // 32, n // 32))])
    terminal = pde.PeriodicField(f[:, None] * np.ones(n), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(velocity, terminal, sigma=sigma)
    u = f
    for _ in range(n_layers):
        u = transfer(u, drift, 1 / n_layers, sigma)
    points = np.stack([x[::16], 0 * x[::16]], axis=-1)
    found = bounds.certificates(problem, points, n_layers=n_layers, n_paths=1024)
    # K = 1 + gamma / L, s**2 = sum of sigma**2 dt / K**(2 l).
    factors = (1 + gamma / n_layers) ** np.arange(1.0, n_layers + 1)
    assert found.spread == pytest.approx(sigma * math.sqrt((1 / n_layers / factors**2).sum()), rel=1e-6)
    assert (np.abs(found.u - u[::16]) <= found.error).all()
    # Phi^-1 of u is 1/s-Lipschitz, and at x = 0, where v stretches most, nearly attains it.
    slopes = np.abs(np.diff(ndtri((u + 1) / 2))) * n
    assert slopes.max() <= 1 / found.spread * (1 + 1e-6)
    assert slopes.max() >= 0.75 / found.spread
    # The equation's bound is false for a network of few layers.
    equation = bounds.certificates(problem, points[:1], method="monte-carlo", n_paths=64).spread
    assert equation > found.spread
    assert n_layers > 2 or slopes.max() > 1 / equation


def test_spread_of_layers_is_the_integral():
    gammas, sigmas = np.array([0.5, 2.0, 0.0, 1.0]), np.array([0.1, 0.3, 0.2, 0.05])
    found = _rates.Rates(gammas, sigmas, 0.25, True, True)
    t = (np.arange(400_000) + 0.5) / 400_000
    g = np.cumsum(gammas[(t * 4).astype(int)]) / 400_000
    assert found.spread == pytest.approx(
        math.sqrt((sigmas[(t * 4).astype(int)] ** 2 * np.exp(-2 * g)).mean()), rel=1e-4
    )
    assert found.growth == pytest.approx(gammas.mean())


@pytest.mark.parametrize("interpolation", ["trigonometric", "bilinear", "bicubic"])
def test_largest_step_is_an_upper_bound_that_is_attained(interpolation):
    field = random_fields.band_limited(16, 3, n_modes=2).with_interpolation(interpolation)
    points = random_points(20_000)
    for dt in (0.01, 0.3, 2.0):
        found = _certified_maxima.largest_step(field, dt)
        tried = np.linalg.norm(np.eye(2) + dt * field.jacobian(points), ord=2, axis=(-2, -1)).max()
        assert tried <= found.at_most * (1 + 1e-12)
        assert tried >= found.found * 0.95
        assert found.at_most <= found.found * (1 + 1e-5)


def test_rates_of_sigma_per_layer_and_as_a_field():
    base = band_limited(0, 0.2)
    x = grid.points(48)[..., 0]
    args = base.velocity.values[0], base.terminal
    layered = pde.ConvectionDiffusion(*args, sigma=np.array([0.1, 0.3]))
    varying = pde.ConvectionDiffusion(*args, sigma=0.2 + 0.05 * np.sin(2 * np.pi * x))
    gamma = bounds.stretching(base)[0]
    halves = np.exp(-np.array([0, gamma])) * -np.expm1(-gamma) / (2 * gamma)
    rates = _rates.rates(layered)
    assert rates.spread == pytest.approx(math.sqrt((np.array([0.1, 0.3]) ** 2 * halves).sum()))
    rates = _rates.rates(varying)
    assert rates.sigmas[0] == pytest.approx(0.15)
    assert rates.gammas[0] == pytest.approx(gamma + (0.1 * np.pi) ** 2 / 2)


def test_velocity_of_many_layers_has_an_error_of_the_step():
    # 64 layers and more: 64 steps are one per layer, and half as many would be the same.
    for n_layers in (1, 3, 64, 70):
        v = np.stack([3 * random_fields.band_limited(16, [j % 2], n_modes=2).values for j in range(n_layers)])
        problem = pde.ConvectionDiffusion(v, random_fields.terminal_datum(16, 9, n_modes=3), sigma=0.0)
        points = random_points(20)
        found = bounds.certificates(problem, points, method="monte-carlo", n_paths=2)
        reference = pde.feynman_kac.estimate(problem, points, 2, 1920 * n_layers // min(n_layers, 3)).mean
        assert (np.abs(found.u - reference) <= found.error).all(), n_layers


def test_network_without_noise_is_its_own_path():
    # Of few steps: far from the characteristics, which `estimate` follows where sigma is 0.
    velocity = 3 * random_fields.band_limited(16, 1, n_modes=3).values
    problem = pde.ConvectionDiffusion(velocity, random_fields.terminal_datum(32, 9, n_modes=6), sigma=0.0, horizon=0.8)
    points = random_points(200)
    found = bounds.certificates(problem, points, n_layers=4)
    x = points
    for _ in range(4):
        x = x + 0.2 * problem.layer_field(0)(x)
    np.testing.assert_allclose(found.u, problem.terminal(x), rtol=0, atol=1e-9)
    assert found.error.max() < 1e-5
    assert not found.smoothing.any()


def test_range_of_the_data_does_not_bound_a_solution_with_a_source():
    x = grid.points(32)[..., 0]
    f, source = 0.2 + 0.05 * np.cos(2 * np.pi * x), 2 * np.cos(2 * np.pi * x) - 1
    problem = pde.ConvectionDiffusion(np.zeros((2, 32, 32)), f, sigma=0.1, source=source)
    found = bounds.certificates(problem, [[0.0, 0.0], [0.5, 0.0]])
    # Positive data, and a solution of both signs.
    assert found.u[0] > 1 > -1 > found.u[1]
    assert (found.radius < 0.5).all()


def test_radius_of_nonnegative_values():
    with np.errstate(all="raise"):
        assert bounds.smoothing_radius(np.array([0.0, 0.1]), 0.0, 1.0, 0.2).tolist() == [0.0, math.inf]
        assert not bounds.smoothing_radius(np.array([0.0, 0.1]), 0.0, 1.0, 0.0).any()


def test_potential_leaves_the_local_certificate():
    base, points = band_limited(0, 0.2, speed=0.0), random_points(30)
    args = base.velocity.values[0], base.terminal
    # A constant potential multiplies u by a constant, and moves no zero.
    plain = bounds.certificates(base, points)
    grown = bounds.certificates(pde.ConvectionDiffusion(*args, sigma=0.2, potential=0.5), points)
    np.testing.assert_allclose(grown.local, plain.local, atol=1e-3)
    assert not grown.sharp.any()
    assert not grown.smoothing.any()


def test_what_samples_do_not_bound_is_refused():
    smooth, points = band_limited(0, 0.2), random_points(3)
    with pytest.raises(ValueError, match="velocity must be a field"):
        bounds.certified_radius(problems.doob(), points)
    called = pde.ConvectionDiffusion(smooth.velocity, lambda x: np.sin(2 * np.pi * x[..., 0]), sigma=0.1)
    with pytest.raises(ValueError, match="terminal must be a field"):
        bounds.certified_radius(called, points)
    with pytest.raises(ValueError, match="method must be one of"):
        bounds.certified_radius(smooth, points, method="exact")
    with pytest.raises(ValueError, match="alpha must be < 1"):
        bounds.certified_radius(smooth, points, alpha=1.0)
    with pytest.raises(ValueError, match="n_layers must be a multiple of the velocity's 3 layers"):
        bounds.certified_radius(band_limited(0, 0.2, n_layers=3), points, n_layers=4)
    with pytest.raises(pde.UnresolvedError):
        bounds.certified_radius(problems.figure4(0, 32, 0.003), points, method="spectral")


@pytest.mark.parametrize("rule", ("trigonometric", "bilinear", "bicubic"))
@pytest.mark.parametrize("exponent", [-540, -1000])
def test_radii_do_not_depend_on_the_units_of_the_terminal_data(rule, exponent):
    # Where squares underflow the bound of the slope was 0, and radii without limit were certified.
    def problem(exponent):
        x = grid.points(16)
        velocity = 0.1 * np.stack([np.sin(2 * np.pi * x[..., 1]), np.sin(2 * np.pi * x[..., 0])])
        values = np.ldexp(np.cos(2 * np.pi * x[..., 0]), exponent)
        fields = (pde.PeriodicField(part, 1.0, rule) for part in (velocity, values))
        return pde.ConvectionDiffusion(*fields, sigma=0.3)

    points = random_points(5)
    plain, tiny = (bounds.certified_radius(problem(each), points) for each in (0, exponent))
    np.testing.assert_allclose(tiny, plain, rtol=1e-6)
    sharp = [bounds.sharp_gradient_bound(problem(each)).bound for each in (0, exponent)]
    assert np.ldexp(sharp[1], -exponent) == pytest.approx(sharp[0], rel=1e-6)


def test_smoothing_is_exact_for_shares_near_one():
    # Phi^-1(p) = -Phi^-1(1 - p), with 1 - p_0 = b / (1 + b), and half of it for u = b / 2.
    for b in (1e-6, 1e-13):
        found = float(bounds.smoothing_radius(b / 2, -1.0, b, 2.0))
        expected = 2 * (ndtri(b / (1 + b)) - ndtri(b / 2 / (1 + b)))
        assert found == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="low must be <= high, got low=1, high=-1"):
        bounds.smoothing_radius(0.5, 1.0, -1.0, 1.0)
