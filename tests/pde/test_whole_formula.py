"""The whole Feynman-Kac formula by Monte Carlo: weights, sigma of x, steps on layers, trajectories, several data."""

import pickle

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from path_problems import random_points

import pde
from pde import convergence, feynman_kac, problems
from pde.feynman_kac.control_variates import controlled_estimate
from pde.feynman_kac.quasi import quasi_estimate

FALSE_ALARM = 1e-6
STILL, ONE = np.zeros((2, 4, 4)), np.ones((4, 4))


def layered(n_layers=3, sigma=0.0):
    """Layers of constant velocity, and what they do to cos(2 pi x) + sin(2 pi y)."""
    c = np.random.default_rng(n_layers).uniform(-0.5, 0.5, (n_layers, 2))
    x = np.arange(16) / 16
    f = np.cos(2 * np.pi * x)[:, None] + np.sin(2 * np.pi * x)[None]

    def exact(points, t):
        y = points + c.mean(axis=0)
        fade = np.exp(-0.5 * sigma**2 * 4 * np.pi**2)
        return fade * (np.cos(2 * np.pi * y[..., 0]) + np.sin(2 * np.pi * y[..., 1]))

    velocity = np.broadcast_to(c[:, :, None, None], (n_layers, 2, 4, 4))
    return pde.ConvectionDiffusion(velocity, f, sigma=sigma, solution=exact)


# --- steps end on layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [3, 64, 1000])
def test_characteristics_are_exact_in_layers_that_do_not_divide_the_steps(n_steps):
    problem, points = layered(), random_points(20)
    e = feynman_kac.estimate(problem, points, n_steps=n_steps)
    # Runge-Kutta is exact for a constant velocity: rounding of 1000 steps.
    np.testing.assert_allclose(e.mean, problem.exact(points), atol=1e-12)


@pytest.mark.parametrize(
    "way",
    [
        lambda p, x: feynman_kac.estimate(p, x, 4000, 64),
        lambda p, x: feynman_kac.estimate(p, x, 4000, 64, scheme="heun"),
        lambda p, x: feynman_kac.estimate(p, x, 4000, 64, dtype="float32"),
        lambda p, x: feynman_kac.estimate(p, x, 4000, 64, dtype="float32", increments="two-point"),
        lambda p, x: quasi_estimate(p, x, 64, 64),
        lambda p, x: controlled_estimate(p, x, 4000, 64, control="heat"),
        lambda p, x: feynman_kac.multilevel(p, x, stderr=2e-2, base=4),
    ],
    ids=["euler", "heun", "float32", "two-point", "quasi", "control", "multilevel"],
)
def test_no_bias_of_layers_that_do_not_divide_the_steps(way):
    problem, points = layered(sigma=0.05), random_points(40)
    e = way(problem, points)
    # Exact in law but for two-point increments, whose fourth moment costs 1e-5 here; 16 scrambles have Student's t.
    z = scipy.stats.t.isf(FALSE_ALARM / 80, 15) if "means" in vars(e) else convergence.z_threshold(40, FALSE_ALARM)
    assert (np.abs(e.mean - problem.exact(points)) < z * e.stderr + 1e-4).all()


def test_fewer_steps_than_layers_are_refused():
    problem = layered(4, sigma=0.1)
    increments = np.zeros((3, 5, 2))
    for call in (
        lambda: feynman_kac.estimate(problem, [0.1, 0.2], 4, 3),
        lambda: quasi_estimate(problem, [0.1, 0.2], 4, 3),
        lambda: controlled_estimate(problem, [0.1, 0.2], 4, 3, control="heat"),
        lambda: feynman_kac.multilevel(problem, [0.1, 0.2], base=3),
        lambda: feynman_kac.euler_maruyama(problem, [0.1, 0.2], increments),
    ):
        with pytest.raises(ValueError, match="n_steps must be >= 4, one per layer"):
            call()


def test_steps_of_any_sizes_follow_the_increments():
    problem = layered(3, sigma=0.2)
    dt = feynman_kac.time_steps(problem, 7)
    assert dt.sum() == pytest.approx(1.0)
    drawn = feynman_kac.brownian_increments(4, 7, 50_000, dt)
    # Each variance of 100000 normals is known to 1 / sqrt(50000): five standard errors.
    np.testing.assert_allclose((drawn**2).mean(axis=(1, 2)), dt, rtol=5 / np.sqrt(50_000))
    with pytest.raises(ValueError, match="dt must sum to the horizon"):
        feynman_kac.euler_maruyama(problem, [0.1, 0.2], drawn, dt=2 * dt)
    with pytest.raises(ValueError, match=r"dt must be a number or have shape \(7,\)"):
        feynman_kac.brownian_increments(4, 7, 5, dt[:6])


# --- potential, source, sigma(x) -----------------------------------------------------------------------------------


def decaying(sigma=0.3):
    """A Fourier mode with constant potential and source: closed form, weights the same on every path."""
    c, g, base = -0.8, 0.5, problems.fourier_mode((1, 1), sigma=sigma)
    problem = pde.ConvectionDiffusion(base.velocity, base.terminal, sigma=sigma, potential=c, source=g)
    return problem, lambda x: np.exp(c) * base.exact(x) + g * (np.exp(c) - 1) / c


@pytest.mark.parametrize(
    "way",
    [
        lambda p, x: feynman_kac.estimate(p, x, 2000, 50),
        lambda p, x: feynman_kac.estimate(p, x, 2000, 20, scheme="heun", antithetic=True),
        lambda p, x: feynman_kac.multilevel(p, x, stderr=2e-2),
        lambda p, x: quasi_estimate(p, x, 64, 16),
    ],
    ids=["euler", "heun", "multilevel", "quasi"],
)
def test_constant_potential_and_source_have_their_closed_form(way):
    problem, exact = decaying()
    points = random_points(30)
    e = way(problem, points)
    z = scipy.stats.t.isf(FALSE_ALARM / 60, 15) if "means" in vars(e) else convergence.z_threshold(30, FALSE_ALARM)
    # The trapezoidal rule of the source errs by c**2 dt**2 g / 12 < 2e-3.
    assert (np.abs(e.mean - exact(points)) < z * e.stderr + 2e-3).all()


def test_weights_follow_the_characteristics_to_order_four():
    # v = 0, c(t) = cos 2t, g(t) = sin 3t: an integral for one variable.
    t = np.linspace(0, 1, 20_001)
    weight = np.exp(np.sin(2 * t) / 2)
    exact = weight[-1] + scipy.integrate.simpson(np.sin(3 * t) * weight, x=t)
    errors = []
    for n_steps in (4, 8, 16):
        problem = pde.ConvectionDiffusion(
            STILL, ONE, sigma=0.0, potential=lambda x, t: np.cos(2 * t) + 0 * x[..., 0],
            source=lambda x, t: np.sin(3 * t) + 0 * x[..., 0],
        )  # fmt: skip
        errors.append(abs(feynman_kac.estimate(problem, [0.1, 0.2], n_steps=n_steps, n=8).mean - exact))
    assert abs(convergence.observed_order(1 / np.array([4, 8, 16]), errors).order - 4) < 0.3


def test_sigma_in_layers_is_that_of_its_layer():
    base = problems.fourier_mode((1, 0), sigma=0.1)
    sigma = np.array([0.1, 0.3, 0.2])
    problem = pde.ConvectionDiffusion(base.velocity, base.terminal, sigma=sigma)
    points = random_points(30)
    e = feynman_kac.estimate(problem, points, 4000, 7, scheme="heun")
    rms = np.sqrt(np.mean(sigma**2))
    exact = problems.fourier_mode((1, 0), sigma=rms).exact(points)
    assert np.abs((e.mean - exact) / e.stderr).max() < convergence.z_threshold(30, FALSE_ALARM)


def test_sigma_of_x_is_that_of_ito():
    x = np.arange(32) / 32
    sigma = pde.PeriodicField((0.2 + 0.1 * np.cos(2 * np.pi * x))[:, None] * np.ones(32), interpolation="bilinear")
    f = pde.PeriodicField(np.sin(2 * np.pi * x)[:, None] * np.ones(32), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(STILL, f, sigma=sigma)
    increments = feynman_kac.brownian_increments(3, 20, 64, 1 / 20)
    ends = feynman_kac.euler_maruyama(problem, [0.3, 0.1], increments)
    e = feynman_kac.estimate(problem, [0.3, 0.1], 64, 20, rng=3)
    # The same paths as the reference, whose Ito step takes sigma at its beginning.
    assert abs(e.mean - problem.terminal_at(ends).mean()) < 1e-12
    for call in (
        lambda: feynman_kac.estimate(problem, [0.3, 0.1], 64, 20, scheme="heun"),
        lambda: feynman_kac.stochastic_heun(problem, [0.3, 0.1], increments),
        lambda: feynman_kac.estimate(problem, [0.3, 0.1], 64, 20, dtype="float32"),
        lambda: feynman_kac.multilevel(problem, [0.3, 0.1]),
        lambda: quasi_estimate(problem, [0.3, 0.1]),
        lambda: controlled_estimate(problem, [0.3, 0.1]),
        lambda: feynman_kac.gradient(problem, [0.3, 0.1]),
    ):
        with pytest.raises(ValueError, match="does not support a sigma"):
            call()


# --- bias, several data, trajectories ------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "n_steps"), [("euler", 12), ("heun", 12)])
def test_the_bias_estimate_is_the_bias(scheme, n_steps):
    # Little noise and curved paths, so that the bias is seen: circles of speed 0.3 where |grad v| is 2.
    x = np.arange(64) / 64
    v = 0.3 * np.stack(np.broadcast_arrays(np.sin(2 * np.pi * x)[None], np.cos(2 * np.pi * x)[:, None]))
    problem = pde.ConvectionDiffusion(v, np.cos(2 * np.pi * x)[:, None] * np.ones(64), sigma=0.1)
    points, exact = random_points(8), pde.spectral.solve(problem).field
    e = feynman_kac.estimate(problem, points, 40_000, n_steps, scheme=scheme, bias=True, antithetic=True)
    bias = np.abs(e.mean - exact(points))
    # The next term of the expansion is a quarter of it at these steps at most.
    noise = 5.5 * (e.stderr + e.bias_stderr)
    assert (np.abs(bias - e.bias_estimate) < noise + 0.5 * e.bias_estimate).all()
    assert e.bias_estimate.max() > 10 * e.bias_stderr.max()
    with pytest.warns(RuntimeWarning, match="too long to estimate their bias"):
        feynman_kac.estimate(problems.eigenfunction(), points, 4, 2, scheme=scheme, bias=True)
    assert (np.abs(e.mean - feynman_kac.estimate(
        problem, points, 40_000, n_steps, scheme=scheme, antithetic=True).mean) < 1e-12).all()  # fmt: skip


def test_several_data_are_those_of_each():
    values = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16))
    velocity = pde.PeriodicField(np.random.default_rng(1).uniform(-1, 1, (2, 16, 16)), interpolation="bilinear")
    terminal = pde.PeriodicField(values, interpolation="bilinear")
    points = random_points(6).reshape(2, 3, 2)
    together = feynman_kac.estimate(pde.ConvectionDiffusion(velocity, terminal, sigma=0.2), points, 50, 10)
    assert together.mean.shape == together.stderr.shape == (2, 3, 3)
    for k in range(3):
        one = pde.PeriodicField(values[k], interpolation="bilinear")
        alone = feynman_kac.estimate(pde.ConvectionDiffusion(velocity, one, sigma=0.2), points, 50, 10)
        np.testing.assert_array_equal(together.mean[..., k], alone.mean)
        np.testing.assert_array_equal(together.stderr[..., k], alone.stderr)


@pytest.mark.parametrize("scheme", ["euler", "heun"])
def test_trajectories_are_the_paths_of_the_reference(scheme):
    rng = np.random.default_rng(5)
    velocity = pde.PeriodicField(rng.uniform(-1, 1, (2, 2, 16, 16)), 2.0, "bilinear")
    problem = pde.ConvectionDiffusion(velocity, lambda x: 0 * x[..., 0], sigma=0.2, horizon=0.8, length=2.0)
    points = random_points(3, length=2.0)
    x = feynman_kac.paths(problem, points, 20, [0.0, 0.2, 0.8], rng=2, n_steps=40, scheme=scheme)
    assert x.shape == (3, 3, 20, 2)
    follow = feynman_kac.stochastic_heun if scheme == "heun" else feynman_kac.euler_maruyama
    for index, point in enumerate(points):
        assert (x[0, index] == point).all()
        increments = feynman_kac.brownian_increments(2, 40, 20, 0.02, point=index)
        # Not reduced to the cell: equal as they stand.
        np.testing.assert_allclose(x[2, index], follow(problem, point, increments), atol=1e-11)
    # Ten steps to the second time.
    spread = feynman_kac.paths(problem, points, 4000, [0.2], rng=2, n_steps=40).std(axis=2)
    assert (spread / (0.2 * np.sqrt(0.2)) > 0.5).all()


def test_trajectories_refuse_what_they_cannot_follow():
    problem = problems.constant_velocity(sigma=0.2)
    for times, message in (([0.5, 0.2], "increasing"), ([0.0, 1.5], "increasing times from 0 to 1")):
        with pytest.raises(ValueError, match=message):
            feynman_kac.paths(problem, [0.1, 0.2], 4, times)
    with pytest.raises(ValueError, match="a step may cross half a period"):
        feynman_kac.paths(problem, [0.1, 0.2], 4, [1.0], n_steps=2)


# --- statistics ----------------------------------------------------------------------------------------------------


def bump(height):
    """An event of probability 2 Phi(-height) at the origin."""
    half = 0.1 * height
    return pde.ConvectionDiffusion(
        STILL, lambda x: (np.abs(np.mod(x[..., 0] + 0.5, 1.0) - 0.5) > half) * 1.0, sigma=0.1
    )


def test_rare_events_warn():
    with pytest.warns(RuntimeWarning, match="all 1000 samples agree: stderr is 0 there"):
        feynman_kac.estimate(bump(4.9), [0.0, 0.0], 1000, 1)
    with pytest.warns(RuntimeWarning, match="fewer than 10 of 1000 samples make up the mean"):
        feynman_kac.estimate(bump(2.8), [0.0, 0.0], 1000, 1)
    # 317 of 1000: no warning, which would be an error.
    feynman_kac.estimate(bump(1.0), [0.0, 0.0], 1000, 1)


def test_few_paths_have_intervals_of_students_t():
    problem = problems.constant_velocity(k=(1, 0), sigma=0.1)
    points = np.broadcast_to([0.1, 0.2], (20_000, 2))
    for e in (
        feynman_kac.estimate(problem, points, 4, 1),
        controlled_estimate(problem, points, 8, 1, control="heat"),
    ):
        covered = np.mean(np.abs(e.mean - problem.exact(points[0])) < e.half_width(0.95))
        # Samples are somewhat skewed: a few per cent; 1.96 standard errors would cover 0.84 and 0.88.
        assert covered > 0.92


def test_a_standard_error_that_overflows_is_refused():
    problem = pde.ConvectionDiffusion(STILL, 1e300 * problems.fourier_mode().terminal.values, sigma=0.1)
    with pytest.raises(FloatingPointError, match="the standard error is not finite"):
        feynman_kac.estimate(problem, [0.1, 0.2], 8, 1)


def test_seed_sequences_are_seeds():
    problem = problems.constant_velocity()
    by_integer, by_sequence = (
        feynman_kac.estimate(problem, [0.1, 0.2], 8, 1, rng).mean for rng in (7, np.random.SeedSequence(7))
    )
    assert by_integer == by_sequence
    quasi_estimate(problem, [0.1, 0.2], 8, 1, rng=np.random.SeedSequence(7))


def test_results_pickle():
    e = feynman_kac.estimate(problems.constant_velocity(), [0.1, 0.2], 8, 1)
    assert pickle.loads(pickle.dumps(e)).half_width() == e.half_width()


# --- multilevel sees time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [16, 32, 48, 64, 96])
def test_multilevel_sees_a_velocity_whose_period_divides_its_steps(frequency):
    f = np.cos(2 * np.pi * np.arange(8) / 8)[:, None] * np.ones(8)

    def v(x, t):
        return np.stack([0.3 * np.cos(2 * np.pi * frequency * t) + 0 * x[..., 0], 0 * x[..., 0]], axis=-1)

    problem, x = pde.ConvectionDiffusion(v, f, sigma=0.2), np.array([[0.1, 0.2], [0.3, 0.7]])
    m = feynman_kac.multilevel(problem, x, stderr=3e-2, n=4)
    exact = np.exp(-0.02 * 4 * np.pi**2) * np.cos(2 * np.pi * x[:, 0])
    # Over whole periods the fine steps add up to 0, so no bias is left: an alias of the velocity would move u by 0.7.
    assert (np.abs(m.mean - exact) < convergence.z_threshold(2, FALSE_ALARM) * m.stderr).all()
    with pytest.warns(RuntimeWarning, match="varies in time within the 4 steps of the coarsest level"):
        feynman_kac.multilevel(problem, x, stderr=1e-1, n=4, base=4)


FINE_SOURCES = {
    "steady": (lambda x: np.cos(24 * np.pi * x[..., 0]), lambda s: 1.0),
    "zero at first": (lambda x, t: 2 * t * np.cos(24 * np.pi * x[..., 0]), lambda s: 2 * s),
}


@pytest.mark.parametrize("source, growth", FINE_SOURCES.values(), ids=FINE_SOURCES)
def test_a_source_finer_than_the_grid_of_the_velocity_is_sampled_on_more_points(source, growth):
    # E cos(24 pi X_s) fades by exp(-rate s); samples on 4 points take the cosine for 1.
    sigma, points = 0.02, np.array([[0.1, 0.2], [0.53, 0.3]])
    rate = 0.5 * (sigma * 24 * np.pi) ** 2
    left = scipy.integrate.quad(lambda s: growth(s) * np.exp(-rate * s), 0, 1)[0]
    problem = pde.ConvectionDiffusion(STILL, 0 * ONE, sigma=sigma, source=source)
    e = feynman_kac.estimate(problem, points, 1024, 32)
    assert (np.abs(e.mean - left * np.cos(24 * np.pi * points[:, 0])) < 5 * e.stderr + 2e-3).all()
    with pytest.warns(RuntimeWarning, match="the source is not resolved by n=4"):
        feynman_kac.estimate(problem, points, 8, 8, n=4)


def test_a_bias_estimate_warns_of_a_source_that_both_steps_alias():
    # The 32 steps and the 16 see 1 of cos(64 pi t), whose integral is 0.
    problem = pde.ConvectionDiffusion(STILL, ONE, sigma=0.1, source=lambda x, t: np.cos(64 * np.pi * t) + 0 * x[..., 0])
    with pytest.warns(RuntimeWarning, match="source varies in time within"):
        feynman_kac.estimate(problem, [[0.1, 0.2]], 4, 32, bias=True)
