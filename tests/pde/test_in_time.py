"""Coefficients that jump, or pass between two steps: the stated error holds what pairs of steps do not show."""

import numpy as np
import pytest

import pde
from pde import feynman_kac
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._time_steps import TimeSteps

F = np.cos(2 * np.pi * np.arange(8) / 8)[:, None] * np.ones(8)
X = np.array([[0.1, 0.2], [0.4, 0.3]])
STILL = np.zeros((2, 4, 4))


def carried(speed, of_points, sigma):
    """f carried along x at a speed that depends on time alone."""
    if of_points:
        return pde.ConvectionDiffusion(
            lambda x, t: np.stack([speed(t) + 0 * x[..., 0], 0 * x[..., 0]], axis=-1), F, sigma=sigma
        )
    return pde.ConvectionDiffusion(lambda t: speed(t) * np.stack([np.ones((4, 4)), np.zeros((4, 4))]), F, sigma=sigma)


def exact(distance, sigma):
    return np.exp(-2 * (np.pi * sigma) ** 2) * np.cos(2 * np.pi * (X[:, 0] + distance))


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def pulse(centre, width):
    return lambda t: 0.4 / width * (abs(t - centre) < width / 2)


@pytest.mark.parametrize("width", [0.001, 0.01, 0.03, 0.1, 0.17])
@pytest.mark.parametrize("centre", [0.8, 0.5, 0.0927])
def test_a_pulse_moves_characteristics_by_its_area(centre, width):
    # Steps that miss it, or read it twice, leave up to 0.5. Without noise the stated error is an upper limit.
    s = feynman_kac.solve_to(carried(pulse(centre, width), centre == 0.5, 0.0), X, 1e-4)
    assert rms(s.mean - exact(0.4, 0.0)) <= s.error_estimate <= 1e-4


@pytest.mark.parametrize("jump", [0.1, 0.25, 0.41, 0.5, 0.61, 0.7, 0.93])
def test_a_jump_in_time_is_within_the_error_of_every_solver(jump):
    problem = carried(lambda t: 1.0 * (t < jump), jump > 0.5, 0.1)
    for s in (feynman_kac.solve_to(problem, X, 5e-3), feynman_kac.multilevel(problem, X, stderr=5e-3)):
        # The velocity is uniform, so that the law of the end is normal and steps that move it by the integral leave no
        # bias. 32 scrambles at least: Student's t, and five standard errors of both points together.
        assert rms(s.mean - exact(jump, 0.1)) < 5 * 5e-3
        assert s.error_estimate <= 5.1e-3
        # What is left of the jump would be half a step: 2 pi / 2 / n_steps.
        assert s.bias_estimate < 2.5e-3


def test_the_bias_of_an_estimate_holds_what_both_steps_miss():
    for speed, sigma, scheme in ((pulse(0.8, 0.1), 0.0, "euler"), (pulse(0.8, 0.1), 0.1, "heun")):
        e = feynman_kac.estimate(carried(speed, False, sigma), X, 4096, 64, bias=True, scheme=scheme)
        error = rms(e.mean - exact(0.4, sigma))
        # Of 64 steps the pulse holds 6 or 7 nodes: 0.375 or 0.4375 of 0.4. Five standard errors beside.
        assert error > 5e-3 - 5 * rms(e.stderr)
        assert error <= rms(e.bias_estimate) + 5 * rms(e.stderr)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["potential", "source"])
def test_pulses_of_potential_and_source_are_integrated(kind, sigma):
    value = {"source": 1.4, "potential": np.exp(0.4)}[kind]
    for width in (0.003, 0.05):
        part = {kind: lambda x, t, w=width: pulse(0.77, w)(t) + 0 * x[..., 0]}
        problem = pde.ConvectionDiffusion(STILL, np.ones((4, 4)), sigma=sigma, **part)
        s = feynman_kac.solve_to(problem, X, 1e-4)
        # f = 1: paths have no variance, and the whole error is that of the integral.
        assert rms(s.mean - value) <= s.bias_estimate <= 1e-4


def test_a_jump_between_two_fields_costs_second_order():
    # Against the same velocities in layers, whose ends steps keep.
    n, tau = 16, 0.3
    x, y = np.meshgrid(*[np.arange(n) / n] * 2, indexing="ij")
    fields = [np.stack([0.5 * np.sin(2 * np.pi * y), 0 * x]), np.stack([0 * x, 0.4 * np.cos(2 * np.pi * x)])]
    layers = np.stack([fields[j >= 3] for j in range(10)])
    terminal = np.cos(2 * np.pi * x) + np.sin(2 * np.pi * (x + 2 * y))
    points = np.random.default_rng(0).random((30, 2))
    reference = feynman_kac.solve_to(pde.ConvectionDiffusion(layers, terminal, sigma=0.0), points, 1e-7).mean
    jumping = pde.ConvectionDiffusion(lambda t: fields[t >= tau], terminal, sigma=0.0)
    s = feynman_kac.solve_to(jumping, points, 1e-3)
    assert rms(s.mean - reference) <= s.error_estimate <= 1e-3
    # A jump read at one side of it alone leaves 0.4 / n_steps times the slope of f, 10.
    assert s.n_steps <= 256


@pytest.mark.parametrize("rule", ["left", "trapezoid", "simpson"])
def test_steps_with_means_move_by_the_exact_integral(rule):
    problem = carried(pulse(0.61803, 0.0371), True, 0.1)
    in_time = InTime(problem, rule)
    for n_steps in (4, 16, 100, 333):
        defect = in_time.defect(TimeSteps(problem, n_steps))
        # Jumps are located to 1e-8 of the integral.
        assert np.abs(defect[-1]).max() < 1e-8
        plain = InTime(problem, rule, with_means=False).defect(TimeSteps(problem, n_steps))
        assert np.abs(plain[-1]).max() > 1e-4
    assert abs(in_time.integrals[-1].max() - 0.4) < 5e-8


def test_a_smooth_callable_is_read_as_it_is():
    problem = carried(lambda t: np.sin(2 * np.pi * t), True, 0.1)
    for rule, n_steps in (("left", 16), ("trapezoid", 8), ("simpson", 8)):
        in_time = InTime(problem, rule)
        assert in_time.problem_of(TimeSteps(problem, n_steps)) is problem
        # Two numbers of steps show what the rule leaves, up to the next order: h = 1 / 16, times 2 pi / 2.
        fine, coarse = TimeSteps(problem, 2 * n_steps), TimeSteps(problem, n_steps)
        unseen = in_time.unseen(fine, coarse, fine, 1.0)["velocity"].largest
        assert unseen < 0.2 * np.abs(in_time.defect(fine)).max() + 1e-6


def test_a_source_of_a_quarter_of_the_period_that_pulses_is_read_where_it_is():
    # u at the centre c: the area of the pulse times the mean of the bump under the noise since the pulse.
    c, half, sigma = np.array([0.84, 0.0]), 0.25, 0.05

    def bump(x):
        r = (((x - c + 0.5) % 1 - 0.5) ** 2).sum(axis=-1) / half**2
        return np.maximum(1 - r, 0) ** 4

    problem = pde.ConvectionDiffusion(
        np.zeros((2, 8, 8)), lambda x: 0 * x[..., 0], sigma=sigma,
        source=lambda x, t: (0.3719 <= t < 0.3919) * 15.0 * bump(x),
    )  # fmt: skip
    # By r = |x - c|, of density r exp(-r**2 / (2 s**2)) / s**2 for s = sigma sqrt(0.3819).
    r = np.linspace(0, half, 20001)
    s = sigma * np.sqrt(0.3819)
    u = 15 * 0.02 * np.trapezoid((1 - r**2 / half**2) ** 4 * r * np.exp(-(r**2) / (2 * s**2)) / s**2, r)
    e = feynman_kac.solve_to(problem, [c], stderr=1e-2, rng=0)
    assert abs(e.mean[0] - u) < 4 * np.hypot(e.stderr[0], e.bias_estimate)


def test_a_callable_may_write_to_its_points():
    # A shear that is five times as fast from 0.3 to 0.42: f(x + 0.3 (0.88 + 5 * 0.12) sin(2 pi y)).
    def velocity(x, t):
        x *= 2 * np.pi
        return np.stack([0.3 * (5.0 if 0.3 <= t < 0.42 else 1.0) * np.sin(x[..., 1]), 0 * x[..., 0]], axis=-1)

    f = np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    x = np.random.default_rng(0).random((5, 2))
    s = feynman_kac.solve_to(pde.ConvectionDiffusion(velocity, f, sigma=0.0), x, 1e-3)
    exact = np.cos(2 * np.pi * (x[:, 0] + 0.3 * 1.48 * np.sin(2 * np.pi * x[:, 1])))
    np.testing.assert_allclose(s.mean, exact, rtol=0, atol=1e-3)
