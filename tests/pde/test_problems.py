"""Problems: every closed form solves its equation, and every form of velocity is the same velocity."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pde import ConvectionDiffusion, PeriodicField, bounds, feynman_kac, grid, problems, spectral
from pde._closed_forms import least_for_pole, least_for_wave
from pde.feynman_kac import control_variates, quasi

EPS = np.finfo(float).eps
# Weights of f(h), f(2 h), f(3 h) in the central differences of order 6: f' = sum w (f+ - f-) / h, and
# f'' = sum w (f+ + f- - 2 f) / h**2.
FIRST, SECOND = (3 / 4, -3 / 20, 1 / 60), (3 / 2, -3 / 20, 1 / 90)

CLOSED_FORMS = {
    "fourier mode": problems.fourier_mode,
    "fourier mode (3, -1)": lambda **scales: problems.fourier_mode((3, -1), sigma=0.1, **scales),
    "constant velocity": problems.constant_velocity,
    "constant velocity (-2, 1)": lambda **scales: problems.constant_velocity((0.3, 1.1), (-2, 1), sigma=0, **scales),
    "crossed shears": problems.crossed_shears,
    "crossed shears, opposite": lambda **scales: problems.crossed_shears((-0.5, 0.2), **scales),
    "eigenfunction": problems.eigenfunction,
    "eigenfunction (-0.06, 0)": lambda **scales: problems.eigenfunction((-0.06, 0.0), sigma=0.3, **scales),
    "doob": problems.doob,
    "doob, negative weight": lambda **scales: problems.doob(-0.3, sigma=0.3, **scales),
}
closed_forms = pytest.mark.parametrize("name", CLOSED_FORMS)
scales = pytest.mark.parametrize(("length", "horizon"), [(1.0, 1.0), (2.5, 0.4)])


def points_in(length, count=200):
    return np.random.default_rng(count).uniform(-length, 2 * length, (count, 2))


def residual(problem, points, t, fraction):
    """u_t + v . grad u + nu lap u by differences over fractions of length and horizon, and the size of its terms."""
    v = problem.velocity_at(points, t)
    shifts = [problem.length * fraction * np.eye(2)[axis] for axis in (0, 1)]

    def first(at, step):
        return sum(w * (at(m) - at(-m)) for m, w in enumerate(FIRST, 1)) / step

    def second(at, step):
        return sum(w * (at(m) + at(-m) - 2 * at(0)) for m, w in enumerate(SECOND, 1)) / step**2

    in_time = first(lambda m: problem.exact(points, t + m * problem.horizon * fraction), problem.horizon * fraction)
    in_space = [(lambda m, s=shift: problem.exact(points + m * s, t)) for shift in shifts]
    h = problem.length * fraction
    convection = sum(v[:, axis] * first(in_space[axis], h) for axis in (0, 1))
    diffusion = problem.nu * sum(second(along, h) for along in in_space)
    size = np.abs(in_time).max() + np.abs(convection).max() + np.abs(diffusion).max()
    return in_time + convection + diffusion, size


@closed_forms
@scales
@pytest.mark.parametrize("time", (0.1, 0.3, 0.8))
def test_closed_forms_solve_the_equation(name, length, horizon, time):
    problem = CLOSED_FORMS[name](length=length, horizon=horizon)
    points = points_in(length)
    h = 1e-3
    r, size = residual(problem, points, time * horizon, h)
    coarse, _ = residual(problem, points, time * horizon, 2 * h)
    # Order 6: the error at h is 1/63 of the change from 2 h to h, which bounds it with room. Rounding: u is known to
    # 1e3 eps of its size (phases up to 60), first differences divide it by h, second ones by h**2; the weights add up
    # to 2 and 7, in two directions.
    speed = np.abs(problem.velocity_at(points, time * horizon)).max() / length
    u_eps = 1e3 * EPS * np.abs(problem.exact(points, time * horizon)).max()
    rounding = u_eps * (2 * (1 / horizon + 2 * speed) / h + 14 * problem.nu / (length * h) ** 2)
    # The velocity of "eigenfunction" is a field of 64 points. Its pole, 1 + 3 b (1 - 4 sin(z)**2) = 0, has
    # |Im z| = arccosh(1.38) = 0.85 for b = 0.05, so that modes beyond 32 are below exp(-0.85 * 32) = 2e-12 of it.
    tolerance = np.abs(r - coarse).max() + rounding + 1e-10 * size
    assert tolerance < 1e-5 * size
    assert np.abs(r).max() < tolerance


@closed_forms
@scales
def test_closed_forms_end_in_the_terminal_data(name, length, horizon):
    problem = CLOSED_FORMS[name](length=length, horizon=horizon)
    points = points_in(length)
    # Trigonometric sums of up to 3 modes, exact but for rounding, 1e3 eps (phases up to 40); "doob" has the modes of
    # 1 / h = (1 + 2 sum (-r)**m cos(m z)) / 0.8, r = (1 - 0.8) / 0.6 = 1/3, of which a grid of 48 aliases those from
    # m = 23 on (f has one more): 2 * 2.5 sum_(m >= 23) r**m = 8e-11.
    np.testing.assert_allclose(problem.terminal_at(points), problem.exact(points, horizon), rtol=0, atol=1e-10)
    values = problem.exact(grid.points(12, length), horizon)
    np.testing.assert_allclose(problem.terminal_on_grid(12), values, rtol=0, atol=1e-10)


@closed_forms
@scales
def test_closed_forms_are_periodic_and_obey_the_maximum_principle(name, length, horizon):
    problem = CLOSED_FORMS[name](length=length, horizon=horizon)
    points = points_in(length)
    largest = np.abs(problem.exact(grid.points(256, length), horizon)).max()
    for t in (0.0, 0.4 * horizon, horizon):
        u = problem.exact(points, t)
        # Phases up to 100, and a grid of 80 points a wavelength: 1 / cos(pi / 80)**2 = 1.0016.
        np.testing.assert_allclose(problem.exact(points + [3 * length, -length], t), u, rtol=0, atol=1e3 * EPS)
        assert np.abs(u).max() <= 1.002 * largest


def test_the_crossed_shears_join_where_they_change():
    problem = problems.crossed_shears(horizon=2.0)
    points, d = points_in(1.0), 1e-9
    # Velocities below 0.4, slopes of f below 2 pi 3, stretched by 1 + 2 pi 0.4.
    before, after = problem.exact(points, 1.0 - d), problem.exact(points, 1.0 + d)
    np.testing.assert_allclose(before, after, rtol=0, atol=2 * d * 0.4 * 2 * np.pi * 3 * 3.6)


def test_the_crossed_shears_tell_the_direction_of_time():
    # Backwards in time, or with the layers swapped, the solution is another one.
    points = points_in(1.0)
    u = problems.crossed_shears().exact(points)
    forwards = points.copy()
    forwards[:, 0] += 0.4 * np.sin(2 * np.pi * points[:, 1]) / 2
    forwards[:, 1] += -0.3 * np.sin(2 * np.pi * forwards[:, 0]) / 2
    swapped = points.copy()
    swapped[:, 1] += -0.3 * np.sin(2 * np.pi * points[:, 0]) / 2
    swapped[:, 0] += 0.4 * np.sin(2 * np.pi * swapped[:, 1]) / 2
    f = problems.crossed_shears().terminal
    np.testing.assert_allclose(u, f(forwards), rtol=0, atol=1e4 * EPS)
    assert np.abs(u - f(swapped)).max() > 0.1


def test_the_diffusivity_is_half_of_sigma_squared():
    # One mode, |q| = 2 pi: u(0) / f = exp(-sigma**2 / 2 * 4 pi**2 T).
    problem = problems.fourier_mode((1, 0), sigma=0.2, horizon=0.5)
    assert problem.nu == pytest.approx(0.02, rel=4 * EPS)
    assert problem.exact([0.0, 0.3]) == pytest.approx(np.exp(-0.02 * 4 * np.pi**2 * 0.5), rel=32 * EPS)


# Arguments of the closed forms


MAKERS = (
    problems.fourier_mode,
    problems.constant_velocity,
    problems.crossed_shears,
    problems.eigenfunction,
    problems.doob,
)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ("horizon", "length"))
@pytest.mark.parametrize("value", (0, -1.0, np.nan, np.inf, "long"))
def test_closed_forms_need_a_positive_horizon_and_length(make, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*> 0, got {name}="):
        make(**{name: value})


@pytest.mark.parametrize("make", [make for make in MAKERS if make is not problems.crossed_shears])
@pytest.mark.parametrize("sigma", (-0.1, np.nan, np.inf, "small"))
def test_closed_forms_need_a_sigma(make, sigma):
    with pytest.raises(ValueError, match=r"sigma must be .*>= 0, got sigma="):
        make(sigma=sigma)


@pytest.mark.parametrize(("make", "smallest"), [*zip(MAKERS, (5, 5, 5, 61, 48), strict=True)])
def test_closed_forms_need_a_grid_that_holds_their_modes(make, smallest):
    assert make(n=smallest).n == smallest
    for n in (smallest - 1, 0, -1, 8.5):
        with pytest.raises(ValueError, match=r"n must be .*, got n="):
            make(n=n)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problems.fourier_mode((0.5, 1)), r"k must be a pair of integers, got k=\(0\.5, 1\.0\)"),
        (lambda: problems.fourier_mode((1, 2, 3)), "k must hold two numbers"),
        (lambda: problems.fourier_mode((8, 0)), "n must be an integer >= 17, got n=16"),
        (lambda: problems.constant_velocity((0.1,)), "velocity must hold two numbers"),
        (lambda: problems.constant_velocity((0.1, np.nan)), "velocity must be finite"),
        (lambda: problems.crossed_shears((0.1, np.inf)), "amplitudes must be finite"),
        (lambda: problems.crossed_shears(0.1), "amplitudes must hold two numbers"),
        (lambda: problems.eigenfunction((1 / 9, 0)), "shape must have two entries of absolute value < 1/9"),
        (lambda: problems.eigenfunction((0, 0, 0)), "shape must hold two numbers"),
        (lambda: problems.doob(1.0), "weight must have absolute value < 1, got weight=1.0"),
        (lambda: problems.doob(np.nan), "weight must have absolute value < 1, got weight=nan"),
        (lambda: problems.doob("a"), "weight must have absolute value < 1, got weight=a"),
        (lambda: problems.doob([0.1, 0.2]), "weight must have absolute value < 1, got weight"),
        (lambda: problems.doob(n=3), "n must be >= 48 to hold the closed form to 1e-10 for weight=0.6, got n=3"),
        (lambda: problems.doob(n="a"), "n must be an integer"),
        (lambda: problems.doob(1 - 1e-7), "points per side, more than 4096: choose a smaller one"),
        (lambda: problems.eigenfunction(n=7), "n must be >= 61 to hold the closed form to 1e-10 for shape"),
        (lambda: problems.eigenfunction((0.1111, 0)), "points per side, more than 4096"),
    ],
)
def test_closed_forms_refuse_what_they_do_not_hold_for(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_a_closed_form_there_is_no_exact_solution():
    with pytest.raises(ValueError, match="no closed form is known for this problem"):
        problems.figure4(n=16).exact([0.0, 0.0])
    with pytest.raises(ValueError, match=r"points must have shape \(\.\.\., 2\)"):
        problems.doob().exact([0.0, 0.0, 0.0])


# Figure 4


@pytest.mark.parametrize(
    ("velocity", "rule"),
    [("grid-noise", "bilinear"), ("band-limited", "trigonometric"), ("divergence-free", "trigonometric")],
)
def test_figure_4_has_the_papers_square_and_its_kinds_of_velocity(velocity, rule):
    problem = problems.figure4(3, 32, 0.1, velocity)
    assert (problem.n, problem.sigma, problem.horizon, problem.length) == (32, 0.1, 1.0, 1.0)
    assert problem.velocity.interpolation == rule
    assert problem.velocity.values.shape == (2, 32, 32)
    again, other = problems.figure4(3, 32, 0.0, velocity), problems.figure4(4, 32, 0.1, velocity)
    assert (again.velocity.values == problem.velocity.values).all()
    assert (again.terminal.values == problem.terminal.values).all()
    assert np.abs(other.velocity.values - problem.velocity.values).max() > 0.1
    # The datum has a stream of its own: the kind of velocity does not change it.
    assert (problem.terminal.values == problems.figure4(3, 32).terminal.values).all()


def test_figure_4_velocities_are_of_three_kinds():
    kinds = [problems.figure4(0, 32, 0.1, velocity).velocity for velocity in problems.VELOCITIES]
    jacobians = [kind.jacobian_on_grid(32) for kind in kinds]
    divergences = [np.abs(j[0, ..., 0] + j[1, ..., 1]).max() for j in jacobians]
    # Noise: differences of up to 2 over 1/32, twice. Four modes: 2 pi 4 a component. None.
    assert divergences[0] > 30 > divergences[1] > 1 > 1e-10 > divergences[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"velocity": "smooth"}, "velocity must be one of 'grid-noise', 'band-limited', 'divergence-free', got"),
        ({"seed": -1}, "seed must be an integer >= 0, got seed=-1"),
        ({"seed": 1.5}, "seed must be an integer, got seed=1.5"),
        ({"sigma": -0.1}, "sigma must be finite and >= 0, got sigma=-0.1"),
        ({"n": 10}, "n must be > 2 n_modes to resolve the field, got n=10, n_modes=5"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
    ],
)
def test_figure_4_refuses_what_it_cannot_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        problems.figure4(**arguments)


# Forms of the velocity


N = 16
WAVES = 2 * np.pi * grid.points(N)
STEADY = np.stack([np.sin(WAVES[..., 1]), 0.5 * np.cos(WAVES[..., 0] - WAVES[..., 1])])
F = np.cos(WAVES[..., 0])


def steady_at(points, t):
    x, y = np.moveaxis(2 * np.pi * points, -1, 0)
    return np.stack([np.sin(y), 0.5 * np.cos(x - y)], axis=-1)


FORMS = {
    "array": STEADY,
    "list": STEADY.tolist(),
    "field": PeriodicField(STEADY),
    "stack of one": STEADY[None],
    "v(t), array": lambda t: STEADY,
    "v(t), field": lambda t: PeriodicField(STEADY),
    "v(x, t)": steady_at,
}


@pytest.mark.parametrize("form", FORMS)
def test_one_velocity_in_any_form_has_the_same_values(form):
    problem = ConvectionDiffusion(FORMS[form], F, sigma=0.1, horizon=2.0)
    points = points_in(1.0).reshape(4, 50, 2)
    for t in (0.0, 0.7, 2.0):
        # Waves of phases up to 4 pi, from transforms of numbers of size 1.
        np.testing.assert_allclose(problem.velocity_at(points, t), steady_at(points, t), rtol=0, atol=200 * EPS)
        field = problem.velocity_field(t, N)
        assert isinstance(field, PeriodicField)
        np.testing.assert_allclose(field.on_grid(N), STEADY, rtol=0, atol=64 * EPS)
    assert problem.n_layers == (None if form.startswith("v(") else 1)
    assert problem.n == N


def test_arrays_are_trigonometric_fields_of_the_problems_period():
    problem = ConvectionDiffusion(STEADY, F, sigma=0.1, length=3.0)
    assert (problem.velocity.interpolation, problem.velocity.length) == ("trigonometric", 3.0)
    assert (problem.terminal.interpolation, problem.terminal.length) == ("trigonometric", 3.0)


@pytest.mark.parametrize("rule", ("trigonometric", "bilinear", "bicubic"))
def test_fields_keep_their_rule_layer_by_layer(rule):
    stack = PeriodicField(np.stack([STEADY, 2 * STEADY, -STEADY]), 1.0, rule)
    problem = ConvectionDiffusion(stack, F, sigma=0.0, horizon=3.0)
    points = points_in(1.0)
    assert problem.n_layers == 3
    for layer, factor in enumerate((1, 2, -1)):
        field = problem.layer_field(layer)
        assert field.interpolation == rule
        alone = PeriodicField(factor * STEADY, 1.0, rule)
        np.testing.assert_allclose(field(points), alone(points), rtol=0, atol=200 * EPS)
        np.testing.assert_allclose(problem.velocity_at(points, layer + 0.5), alone(points), rtol=0, atol=200 * EPS)


@given(st.integers(1, 12), st.integers(1, 50), st.floats(1e-3, 1e3))
def test_a_step_that_starts_with_a_layer_is_in_it(n_layers, steps_a_layer, horizon):
    problem = ConvectionDiffusion(np.zeros((n_layers, 2, 1, 1)), np.zeros((1, 1)), sigma=0.0, horizon=horizon)
    n_steps = n_layers * steps_a_layer
    dt = horizon / n_steps
    assert [problem.layer(k * dt) for k in range(n_steps)] == [k // steps_a_layer for k in range(n_steps)]
    assert problem.layer(horizon) == n_layers - 1


def test_a_velocity_of_time_is_asked_at_the_time():
    problem = ConvectionDiffusion(lambda t: t * STEADY, F, sigma=0.1)
    points = points_in(1.0)
    np.testing.assert_allclose(problem.velocity_at(points, 0.25), 0.25 * steady_at(points, 0), rtol=0, atol=200 * EPS)
    assert problem.velocity_field(0.5).values == pytest.approx(0.5 * STEADY)


def test_a_velocity_of_points_and_time_is_sampled_where_a_field_is_asked_for():
    problem = ConvectionDiffusion(lambda x, t: t * steady_at(x / 2, 0), F, sigma=0.1, length=2.0)
    np.testing.assert_allclose(problem.velocity_field(0.5, N).values, 0.5 * STEADY, rtol=0, atol=16 * EPS)
    assert problem.velocity_field(0.5, N).length == 2.0
    with pytest.raises(ValueError, match="n must be given: the velocity is a callable of points"):
        problem.velocity_field(0.5)


def test_parameters_with_defaults_do_not_count_as_arguments():
    problem = ConvectionDiffusion(lambda t, strength=2.0: strength * STEADY, F, sigma=0.1)
    assert problem.velocity_field(0.0).values == pytest.approx(2 * STEADY)


def test_one_place_tells_callables_of_points_from_fields():
    class Constant:
        """A callable of the user's that has a name of fields."""

        band_limited = True

        def __call__(self, x):
            return np.full(x.shape[:-1], -1.0)

    potentials = {True: Constant(), False: -np.ones((4, 4))}
    both = {of: ConvectionDiffusion(0 * STEADY, F, sigma=0.1, potential=c) for of, c in potentials.items()}
    for of_points, problem in both.items():
        assert problem.scalar_is_of_points("potential") == of_points
        assert not problem.scalar_is_of_points("source")
    # exp(-T) of the solution without a potential, F having one mode.
    found = [spectral.solve(problem, rtol=1e-8).u for problem in both.values()]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-7)


def test_terminal_data_may_be_a_function():
    problem = ConvectionDiffusion(lambda t: STEADY, lambda x: np.cos(np.pi * x[..., 0]), sigma=0.1, length=2.0)
    assert problem.n is None
    np.testing.assert_allclose(problem.terminal_on_grid(N), F, rtol=0, atol=16 * EPS)
    points = points_in(2.0).reshape(2, 100, 2)
    # Each point as its image in the cell, to the bit.
    assert (problem.terminal_at(points) == np.cos(np.pi * np.mod(points[..., 0], 2.0))).all()


def test_the_finest_grid_counts():
    assert ConvectionDiffusion(STEADY, np.zeros((24, 24)), sigma=0.1).n == 24
    assert ConvectionDiffusion(STEADY, lambda x: 0 * x[..., 0], sigma=0.1).n == N


# At the door


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": -0.1}, "sigma must be finite and >= 0, got sigma=-0.1"),
        ({"sigma": np.nan}, "sigma must be finite and >= 0, got sigma=nan"),
        ({"sigma": np.inf}, "sigma must be finite and >= 0, got sigma=inf"),
        ({"sigma": "a lot"}, "sigma must be a number >= 0, got sigma='a lot'"),
        ({"sigma": None}, "sigma must be a number >= 0, got sigma=None"),
        ({"horizon": 0}, "horizon must be finite and > 0, got horizon=0"),
        ({"horizon": -1}, "horizon must be finite and > 0, got horizon=-1"),
        ({"length": np.inf}, "length must be finite and > 0, got length=inf"),
        ({"velocity": F}, r"velocity must have shape \(2, n, n\) or \(n_t, 2, n, n\), got \(16, 16\)"),
        ({"velocity": np.zeros((3, 8, 8))}, r"velocity must have shape .*, got \(3, 8, 8\)"),
        ({"velocity": np.zeros((2, 1, 8, 8))}, r"velocity must have shape .*, got \(2, 1, 8, 8\)"),
        ({"velocity": np.zeros((1, 5, 2, 8, 8))}, r"velocity must have shape .*, got \(1, 5, 2, 8, 8\)"),
        ({"velocity": np.zeros((2, 8, 9))}, r"square grid, got \(2, 8, 9\)"),
        ({"velocity": np.full((2, 8, 8), np.nan)}, "velocity must be finite, got 128 non-finite of 128 values"),
        ({"velocity": np.full((2, 8, 8), 1j)}, "velocity must be an array of real numbers, got dtype complex128"),
        ({"velocity": "north"}, "velocity must be an array of real numbers"),
        ({"velocity": PeriodicField(STEADY, 2.0)}, "velocity must have the problem's period 1, got length=2"),
        ({"terminal": STEADY[None]}, r"terminal must have shape \(n, n\) or \(k, n, n\), got \(1, 2, 16, 16\)"),
        ({"terminal": np.zeros((4, 6))}, r"square grid, got \(4, 6\)"),
        ({"terminal": np.full((4, 4), np.inf)}, "terminal must be finite, got 16 non-finite of 16 values"),
        ({"terminal": PeriodicField(F, 0.5)}, "terminal must have the problem's period 1, got length=0.5"),
        ({"velocity": lambda x, y, t: STEADY}, r"must be v\(t\) or v\(x, t\), got one with 3 required arguments"),
        ({"velocity": lambda: STEADY}, r"must be v\(t\) or v\(x, t\), got one with 0 required arguments"),
    ],
)
def test_what_is_no_problem_is_refused_at_the_door(changes, message):
    arguments = {"velocity": STEADY, "terminal": F, "sigma": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        ConvectionDiffusion(**arguments)


@pytest.mark.parametrize(
    ("velocity", "message"),
    [
        (lambda t: F, r"velocity\(t\) must have shape \(2, n, n\), got \(16, 16\) at t=0"),
        (lambda t: np.stack([STEADY, STEADY]), r"velocity\(t\) must have shape .*, got \(2, 2, 16, 16\)"),
        (lambda t: np.full((2, 8, 8), np.nan), r"velocity\(t\) must be finite"),
        (lambda t: PeriodicField(STEADY, 2.0), r"velocity\(t\) must have the problem's period 1, got length=2"),
        (lambda t: None, r"velocity\(t\) must be an array of real numbers"),
        (lambda x, t: x[..., 0], r"velocity\(x, t\) must have shape \(6, 2\) for points \(6, 2\), got \(6,\)"),
        (lambda x, t: np.moveaxis(x, -1, 0), r"velocity\(x, t\) must have shape \(6, 2\) .*, got \(2, 6\)"),
        (lambda x, t: np.full_like(x, np.inf), r"velocity\(x, t\) must be finite, got 12 non-finite of 12 values"),
        (lambda x, t: x + 0j, r"velocity\(x, t\) must be an array of real numbers, got dtype complex128"),
    ],
)
def test_a_velocity_that_returns_something_else_is_refused_at_the_door(velocity, message):
    with pytest.raises(ValueError, match=message):
        ConvectionDiffusion(velocity, F, sigma=0.1)


def test_a_velocity_that_changes_its_shape_later_is_refused_when_it_does():
    problem = ConvectionDiffusion(lambda t: STEADY if t < 0.5 else F, F, sigma=0.1)
    with pytest.raises(ValueError, match=r"velocity\(t\) must have shape \(2, n, n\), got \(16, 16\) at t=0.75"):
        problem.velocity_at(np.zeros((5, 2)), 0.75)


@pytest.mark.parametrize(
    ("terminal", "message"),
    [
        (lambda x: x, r"terminal\(x\) must have shape \(6,\) for points \(6, 2\), got \(6, 2\)"),
        (lambda x: 0.0, r"terminal\(x\) must have shape \(6,\) for points \(6, 2\), got \(\)"),
        (lambda x: np.full(6, np.nan), r"terminal\(x\) must be finite"),
        (lambda x: ["warm"] * 6, r"terminal\(x\) must be an array of real numbers"),
    ],
)
def test_terminal_data_that_return_something_else_are_refused_at_the_door(terminal, message):
    with pytest.raises(ValueError, match=message):
        ConvectionDiffusion(STEADY, terminal, sigma=0.1)


@pytest.mark.parametrize("points", (0.5, [0.1, 0.2, 0.3], [0.1, np.nan]))
def test_points_that_are_no_pairs_of_numbers_are_refused(points):
    problem = problems.doob()
    for evaluate in (lambda: problem.velocity_at(points, 0.5), lambda: problem.terminal_at(points)):
        with pytest.raises(ValueError, match="points must"):
            evaluate()


def test_a_problem_shows_what_it_is_made_of():
    text = repr(ConvectionDiffusion(STEADY, F, sigma=0.25, horizon=2.0))
    assert text == (
        "ConvectionDiffusion(velocity=PeriodicField(shape=(2, 16, 16), length=1, trigonometric), "
        "terminal=PeriodicField(shape=(16, 16), length=1, trigonometric), sigma=0.25, horizon=2, length=1)"
    )


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_a_time_outside_the_horizon_has_no_layer(t):
    problem = problems.crossed_shears()
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\], got t="):
        problem.velocity_at([0.1, 0.2], t)


# Potential, source, sigma that is not one constant, several terminal data


SIGMA = 0.3 + 0.1 * np.cos(2 * np.pi * np.arange(N) / N)[:, None] * np.ones(N)


def test_sigma_is_a_number_one_per_layer_or_a_positive_field():
    points, layers = points_in(1.0), np.stack([STEADY, 2 * STEADY])
    one = ConvectionDiffusion(layers, F, sigma=0.3)
    assert (one.sigma, one.has_constant_sigma, one.sigma_layer(1)) == (0.3, True, 0.3)
    per_layer = ConvectionDiffusion(layers, F, sigma=[0.1, 0.2])
    assert not per_layer.has_constant_sigma
    assert per_layer.sigma.tolist() == [0.1, 0.2] == [per_layer.sigma_layer(j) for j in (0, 1)]
    np.testing.assert_allclose(per_layer.sigma_at(points, 0.7), 0.2, rtol=1e-15)
    field = ConvectionDiffusion(layers, F, sigma=np.stack([SIGMA, 2 * SIGMA]))
    wanted = 2 * (0.3 + 0.1 * np.cos(2 * np.pi * points[:, 0]))
    np.testing.assert_allclose(field.sigma_at(points, 0.7), wanted, rtol=1e-13)
    np.testing.assert_allclose(field.sigma_layer(1)(points), wanted, rtol=1e-13)
    assert ConvectionDiffusion(STEADY, F, sigma=SIGMA).sigma_layer(0).values.shape == (N, N)
    for problem in (per_layer, field):
        with pytest.raises(ValueError, match="nu does not support a sigma that is not one constant"):
            _ = problem.nu


def test_potential_and_source_in_any_form_have_the_same_values():
    points = points_in(2.0)
    x = grid.points(N, 2.0)

    def c(x, t=0.0):
        return np.cos(np.pi * x[..., 0]) + 0 * t

    for form in (c, lambda x: c(x), lambda x, *, t: c(x), c(x), np.stack([c(x), c(x)]), PeriodicField(c(x), 2.0)):
        problem = ConvectionDiffusion(
            np.stack([STEADY, STEADY]), F, sigma=0.1, length=2.0, **(arguments := {"potential": form, "source": form})
        )
        for evaluate in (problem.potential_at, problem.source_at):
            np.testing.assert_allclose(evaluate(points, 0.7), c(points), rtol=0, atol=1e-13)
        for name in arguments:
            np.testing.assert_allclose(problem.scalar_field(name, 0.7, N)(points), c(points), rtol=0, atol=1e-13)
    number = ConvectionDiffusion(STEADY, F, sigma=0.1, potential=-0.5)
    np.testing.assert_allclose(number.potential_at(points, 0.0), -0.5, rtol=1e-15)
    assert (number.source_at(points, 0.0) == 0).all()
    assert number.source is None


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        ("a potential", {"potential": 1.0}),
        ("a source", {"source": lambda x, t: t + 0 * x[..., 0]}),
        ("a sigma that is not one constant", {"sigma": SIGMA}),
        ("a sigma that is not one constant", {"sigma": [0.1]}),
        ("several terminal data", {"terminal": np.stack([F, F, F])}),
    ],
)
def test_what_a_consumer_does_not_know_it_refuses_by_name(feature, changes):
    problem = ConvectionDiffusion(**{"velocity": STEADY, "terminal": F, "sigma": 0.1} | changes)
    with pytest.raises(ValueError, match=f"somebody does not support {feature}"):
        problem.refuse("somebody")
    ConvectionDiffusion(STEADY, F, sigma=0.1).refuse("somebody")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": SIGMA - 0.25}, "sigma must be positive as a field, also between its grid points, got -0.05"),
        ({"sigma": [0.1, 0.2, 0.3], "velocity": np.stack([STEADY] * 2)}, "equally many, got velocity 2, sigma 3"),
        ({"sigma": [0.1, -0.2]}, "sigma must be finite and >= 0, got sigma=-0.2"),
        ({"sigma": [0.1, 0.2], "velocity": lambda t: STEADY}, "sigma has layers: the velocity must then be a field"),
        ({"potential": STEADY[None]}, r"potential must have shape \(n, n\) or \(n_t, n, n\), got \(1, 2, 16, 16\)"),
        ({"source": lambda x, t: x}, r"source\(x, t\) must have shape \(6,\) for points \(6, 2\), got \(6, 2\)"),
        ({"source": lambda: 1.0}, r"a callable source must be source\(x\) or source\(x, t\), got one with 0 required"),
    ],
)
def test_coefficients_that_do_not_fit_are_refused_at_the_door(changes, message):
    with pytest.raises(ValueError, match=message):
        ConvectionDiffusion(**{"velocity": STEADY, "terminal": F, "sigma": 0.1} | changes)


# Callables


@pytest.mark.parametrize(
    "velocity",
    [
        lambda x, t=0.0: t * steady_at(x, 0),
        lambda x, *, t: t * steady_at(x, 0),
        np.vectorize(lambda x, t: t * steady_at(x, 0), signature="(d),()->(d)"),
    ],
)
def test_signatures_of_a_velocity_of_points_and_time(velocity):
    problem, points = ConvectionDiffusion(velocity, F, sigma=0.1), points_in(1.0)
    assert problem.velocity_is_of_points
    np.testing.assert_allclose(problem.velocity_at(points, 0.25), 0.25 * steady_at(points, 0), rtol=0, atol=1e-13)


def test_callables_count_within_the_cell_and_a_jump_at_its_edge_warns():
    def bump(x):
        return np.exp(-((x - 0.5) ** 2).sum(axis=-1) / 0.02)

    problem = ConvectionDiffusion(lambda x, t: np.sin(2 * np.pi * x), bump, sigma=0.1)
    points = np.array([[1.3, -0.6], [-2.7, 0.4]])
    np.testing.assert_allclose(problem.terminal_at(points), bump(np.array([0.3, 0.4])), rtol=1e-13)
    assert (problem.to_cell(np.array([[-1e-300, 1.0]])) == 0).all()
    with pytest.warns(UserWarning, match=r"terminal\(x\) jumps by 1 at the edge of the cell"):
        ConvectionDiffusion(STEADY, lambda x: x[..., 0], sigma=0.1)
    with pytest.warns(UserWarning, match=r"velocity\(x, t\) jumps by [12] at the edge"):
        ConvectionDiffusion(lambda x, t: x * (t + 1), F, sigma=0.1)


@pytest.mark.parametrize(
    "make", [problems.fourier_mode, problems.crossed_shears, problems.eigenfunction, problems.doob, problems.figure4]
)
def test_problems_and_their_copies_are_the_same_problem(make):
    problem, points = make(), points_in(1.0)
    for other in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert np.array_equal(other.velocity_at(points, 0.3), problem.velocity_at(points, 0.3))
        assert np.array_equal(other.terminal_at(points), problem.terminal_at(points))
        if make is not problems.figure4:
            assert np.array_equal(other.exact(points, 0.2), problem.exact(points, 0.2))
        # Values are frozen, as coefficients are kept.
        with pytest.raises(ValueError, match="read-only"):
            other.terminal.values[:] = 0


def consumers():
    """Public functions of `pde` whose first argument is a problem or a field, by name."""
    found = {}
    for module in (spectral, feynman_kac, bounds, quasi, control_variates):
        for name in module.__all__:
            made = getattr(module, name)
            if inspect.isfunction(made) and next(iter(inspect.signature(made).parameters), "") in ("problem", "field"):
                found[f"{module.__name__}.{name}"] = made
    return found


def test_the_consumers_are_found():
    assert {"pde.spectral.solve", "pde.feynman_kac.estimate", "pde.bounds.certificates"} < consumers().keys()
    assert len(consumers()) >= 22


@pytest.mark.parametrize("name", consumers())
@pytest.mark.parametrize("wrong", [3, None, np.zeros((4, 4)), problems.doob], ids=["number", "none", "array", "maker"])
def test_what_is_not_a_problem_is_refused_in_one_line_by_every_consumer(name, wrong):
    consumer = consumers()[name]
    first, *others = inspect.signature(consumer).parameters.values()
    values = {"points": [[0.1, 0.2]], "starts": [[0.1, 0.2]], "increments": np.zeros((2, 1, 2)), "save_at": [0.5]}
    values |= {"t": 0.5, "coupled": False, "key": None}
    needed = {other.name: values.get(other.name, 4) for other in others if other.default is other.empty}
    needed = {key: value for key, value in needed.items() if key != "options"}
    kind = {"problem": "ConvectionDiffusion", "field": "PeriodicField|field must be trigonometric"}[first.name]
    with pytest.raises(ValueError, match=kind) as caught:
        consumer(wrong, **needed)
    assert first.name == "field" or "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.3, -0.6, 0.9, 0.99])
def test_the_least_grid_of_doob_holds_its_terminal_datum_and_not_a_much_coarser_one(weight):
    n, points = least_for_wave(weight), points_in(1.0)
    problem = problems.doob(weight, n=n)
    exact = problem.exact(points, 1.0)
    assert np.abs(problem.terminal_at(points) - exact).max() < 1e-10
    if n > 3:
        # A fifth fewer points lose r**(n / 10), from 1e-10.
        coarse = problem.exact(grid.points(int(0.8 * n)), 1.0)
        assert np.abs(PeriodicField(coarse)(points) - exact).max() > 1e-10
    with pytest.raises(ValueError, match=f"n must be >= {n} "):
        problems.doob(weight, n=n - 1)


@pytest.mark.parametrize("b", [0.0, 0.01, 0.05, -0.03, -0.1, 0.1])
def test_the_least_grid_of_an_eigenfunction_holds_its_velocity(b):
    n, points = least_for_pole(b), points_in(1.0)
    velocity, fine = (problems.eigenfunction((b, 0.0), n=m).velocity(points) for m in (n, 4 * n))
    assert np.abs(velocity - fine).max() <= 1e-10 * np.abs(fine).max()
    if b:
        # A third fewer points lose r**(n / 12), from 1e-10.
        coarse = PeriodicField(problems.eigenfunction((b, 0.0), n=4 * n).velocity.on_grid(2 * n // 3))(points)
        assert np.abs(coarse - fine).max() > 1e-10 * np.abs(fine).max()


@pytest.mark.parametrize("make", [lambda: problems.doob(0.8), lambda: problems.eigenfunction((0.09, -0.1))])
def test_the_closed_form_is_the_solution_on_the_grid_that_is_chosen(make):
    problem = make()
    s = spectral.solve(problem, 128, rtol=1e-10)
    assert np.abs(s.u - problem.exact(grid.points(128))).max() <= s.error_estimate + 1e-9
