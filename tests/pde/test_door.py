"""What is not an argument is refused in one line that names it, by a ValueError."""

import numpy as np
import pytest

import pde
from pde import PeriodicField, bounds, convergence, feynman_kac, grid, problems, random_fields
from pde.feynman_kac import quasi
from pde.feynman_kac.control_variates import controlled_estimate

PROBLEM = problems.constant_velocity(n=8)
LAYERED = pde.ConvectionDiffusion(np.zeros((3, 2, 4, 4)), np.ones((4, 4)), sigma=0.1)
CALLABLE = problems.doob()
FIELD = PROBLEM.terminal
KEY = feynman_kac.key_from(0)
X = np.array([[0.1, 0.2]])
ESTIMATE = feynman_kac.estimate(PROBLEM, X, 8, 1)
CONTROLLED = controlled_estimate(PROBLEM, X, 8, 1, control="heat")

REFUSED = {
    "odd steps of coupled samples": (
        lambda: feynman_kac.level_samples(PROBLEM, X, 5, 4, KEY, coupled=True),
        "n_steps must be even with coupled=True, got n_steps=5",
    ),
    "a number beyond all": (
        lambda: pde.ConvectionDiffusion(PROBLEM.velocity, FIELD, sigma=10**400),
        "sigma must be a number >= 0",
    ),
    "a velocity of points alone": (
        lambda: pde.ConvectionDiffusion(lambda x: 0.1 * x[..., ::-1], FIELD, sigma=0.1),
        r"velocity\(t\), a callable of one argument, must take a time.*give velocity\(x, t\)",
    ),
    "no steps of samples": (lambda: feynman_kac.level_samples(PROBLEM, X, 0, 4, KEY, coupled=False), "n_steps must be"),
    "no samples": (lambda: feynman_kac.level_samples(PROBLEM, X, 2, 0, KEY, coupled=True), "n_paths must be"),
    "starts": (lambda: feynman_kac.level_samples(PROBLEM, [0.1], 2, 2, KEY, coupled=True), "points must have shape"),
    "no layers of a network": (lambda: bounds.network_spread(PROBLEM, 0), "n_layers must be an integer >= 1"),
    "a part of a layer": (lambda: bounds.network_spread(PROBLEM, 1e-300), "n_layers must be an integer"),
    "other layers": (lambda: bounds.network_spread(LAYERED, 4), "n_layers must be a multiple of the velocity's 3"),
    "no steps of a bridge": (lambda: quasi.bridge_order(0), "n_steps must be an integer >= 1, got n_steps=0"),
    "steps back of a bridge": (lambda: quasi.bridge_order(2, [0.5, -0.5]), "dt must be one step > 0, or 2 of them"),
    "other steps of a bridge": (lambda: quasi.bridge_order(2, [0.5] * 3), "dt must be one step > 0, or 2 of them"),
    "no increments": (lambda: next(quasi.sobol_increments(0, 4, 0)), "n_paths must be an integer >= 1"),
    "unbalanced increments": (lambda: next(quasi.sobol_increments(3, 4, 0)), "n_paths must be a power of two"),
    "no steps of increments": (lambda: next(quasi.sobol_increments(4, 0, 0)), "n_steps must be an integer >= 1"),
    "no points": (lambda: grid.from_coefficients(np.ones((3, 3)), 0), "n must be an integer >= 1, got n=0"),
    "no points to resample": (lambda: grid.resample(np.ones((3, 3)), 0), "n must be an integer >= 1, got n=0"),
    "coefficients of text": (lambda: grid.coefficients("a"), "values must be an array of numbers"),
    "coefficients of a row": (lambda: grid.coefficients([1.0, 2.0]), r"values must have shape \(\.\.\., n, n\)"),
    "negative modes": (lambda: grid.coefficients(np.ones((4, 4)), -1), "n_modes must be an integer >= 0"),
    "an even number of modes": (lambda: grid.from_coefficients(np.ones((2, 2)), 4), r"c must have shape \(\.\.\., 2 m"),
    "ragged values": (lambda: grid.resample([[1.0], [1.0, 2.0]], 4), "values must be a rectangular array"),
    "a probability in words": (lambda: convergence.z_threshold(3, "a"), "false_alarm must be a number, got"),
    "a probability of 1": (lambda: convergence.z_threshold(3, 1.0), r"false_alarm must lie in \(0, 1\)"),
    "a confidence in words": (lambda: ESTIMATE.half_width("a"), "confidence must be a number"),
    "a confidence of 2": (lambda: CONTROLLED.half_width(2), r"confidence must lie in \(0, 1\)"),
    "modes in words": (lambda: FIELD.band_limited("a"), "n_modes must be an integer"),
    "a layer at no time": (lambda: PROBLEM.layer("a"), "t must be a number, got t='a'"),
    "a layer of a callable": (lambda: CALLABLE.layer(0.1), "velocity must be a field to have layers"),
    "a layer field beyond the last": (lambda: LAYERED.layer_field(3), "layer must be < n_layers=3"),
    "a layer field of a callable": (lambda: CALLABLE.layer_field(0), "of a velocity given as a field"),
    "a velocity at no time": (lambda: CALLABLE.velocity_field("a", 8), "t must be a number"),
    "a velocity at points at no time": (lambda: CALLABLE.velocity_at(X, None), "t must be a number"),
    "a solution at no time": (lambda: PROBLEM.exact(X, "a"), "t must be a number"),
    "a solution at infinity": (lambda: PROBLEM.exact(X, np.inf), "t must be finite"),
    "the range of a number": (lambda: bounds.value_range(3.0), r"field must be a PeriodicField of values \(n, n\)"),
    "the slope of a number": (lambda: bounds.largest_gradient(3.0), "field must be a PeriodicField"),
    "the range of a vector": (lambda: bounds.value_range(PROBLEM.velocity), "field must be a PeriodicField of values"),
    "a radius of text": (lambda: bounds.smoothing_radius("a", -1, 1, 0.1), "u must be an array of real numbers"),
    "a radius of no range": (lambda: bounds.smoothing_radius(0.3, "a", 1, 0.1), "low must be a number"),
    "a key of one word": (lambda: feynman_kac.level_key([1], 0), "key must be two words of 32 bits"),
    "a key in words": (lambda: feynman_kac.level_samples(PROBLEM, X, 2, 2, "a", coupled=True), "key must be an array"),
    "a negative key": (lambda: feynman_kac.standard_normals(4, (-1, 2)), "key must be two words of 32 bits"),
    "a part of a level": (lambda: feynman_kac.level_key(KEY, 0.5), "level must be an integer"),
    "a part of a path": (lambda: feynman_kac.brownian_increments(0, 2, 1.5, 0.1), "n_paths must be an integer"),
    "a point in words": (lambda: feynman_kac.brownian_increments(0, 2, 2, 0.1, point="a"), "point must be an integer"),
    "numbers for constants": (lambda: bounds.hoelder_exponent([1, 2]), "constants must be a sequence of results of"),
    "one number for constants": (lambda: bounds.hoelder_exponent(3), "constants must be a sequence of results of"),
    "a slope of nothing": (lambda: bounds.counterexample_gradient({}, 1, 1), "radius must be an array of real numbers"),
    "a Gaussian on few points": (lambda: bounds.counterexample(n=16), "n must be >= .* to hold the Gaussian to 1e-10"),
    "a Gaussian too narrow": (lambda: bounds.counterexample(0.01, sigma=10.0), "the Gaussian has .* modes, more than"),
    "a Gaussian too wide": (lambda: bounds.counterexample(1e300), "must lie between 1e-100 and 1e100"),
    "a square out of range": (
        lambda: problems.doob(sigma=1e300),
        "sigma must be <= 1e150, so that its square does not",
    ),
    "a number for a control": (
        lambda: controlled_estimate(PROBLEM, X, 8, 1, solution=1),
        "solution must be a SolutionInTime, as from solve_in_time, got solution=1",
    ),
    "a number for a solution": (
        lambda: pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.ones((4, 4)), sigma=1, solution=3),
        "solution must be a callable u\\(x, t\\), got solution=3",
    ),
}
DRAWS = (
    random_fields.grid_noise,
    random_fields.band_limited,
    random_fields.divergence_free,
    random_fields.terminal_datum,
)
REFUSED |= {
    f"a fraction for a seed of {draw.__name__}": (
        lambda draw=draw: draw(16, 1.5),
        "rng must be a numpy.random.Generator or a seed >= 0, got rng=1.5",
    )
    for draw in DRAWS
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_argument_is_refused_by_name(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_lists_and_numbers_are_taken_where_arrays_are():
    values = [[1.0, 2.0], [3.0, 4.0]]
    c = grid.coefficients(values)
    np.testing.assert_allclose(grid.from_coefficients(c.tolist(), 2), values, atol=1e-15)
    np.testing.assert_allclose(grid.resample(values, 4)[::2, ::2], values, atol=1e-14)
    assert bounds.smoothing_radius(0.5, -1, 1, 0.2) == bounds.smoothing_radius(np.array([0.5]), -1, 1, 0.2)[0]


def test_coupled_samples_of_even_steps_are_differences():
    fine = feynman_kac.level_samples(PROBLEM, X, 4, 4, KEY, coupled=False)
    assert feynman_kac.level_samples(PROBLEM, X, 4, 4, KEY, coupled=True).shape == fine.shape
    # Constant velocity: both levels end at one place.
    np.testing.assert_allclose(feynman_kac.level_samples(PROBLEM, X, 4, 4, KEY, coupled=True), 0, atol=1e-10)


@pytest.mark.parametrize("distance", [1e3, 1e8, 1e12])
def test_a_field_is_periodic_far_away(distance):
    field = PeriodicField(np.random.default_rng(0).uniform(-1, 1, (16, 16)))
    # Points that far away which are known exactly: multiples of 2**-10, and whole periods.
    points = np.random.default_rng(1).integers(0, 2**10, (100, 2)) / 2**10
    np.testing.assert_allclose(field(points - distance), field(points), rtol=0, atol=1e-12)
    np.testing.assert_allclose(field.jacobian(points + distance), field.jacobian(points), rtol=0, atol=1e-10)


def test_the_bias_of_a_velocity_that_jumps_in_time_is_not_divided_by_the_order_of_smooth_ones():
    def step(x, t):
        return np.stack([np.full(x.shape[:-1], 1.0 if t < 0.3 else 0.0), 0 * x[..., 0]], axis=-1)

    f = np.sin(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    problem = pde.ConvectionDiffusion(step, f, sigma=0.05)
    x = np.random.default_rng(2).random((20, 2))
    exact = np.exp(-(0.05**2) / 2 * 4 * np.pi**2) * np.sin(2 * np.pi * (x[:, 0] + 0.3))
    # Heun takes half of the step that the jump is in: 16 steps move paths by 0.28125, 8 by 0.3125. A third of their
    # difference, 0.0104, is less than the error, 0.01875; the whole is more.
    e = feynman_kac.estimate(problem, x, 4096, 16, scheme="heun", bias=True)
    error = np.abs(e.mean - exact)
    assert (error < 1.0 * e.bias_estimate + 5 * np.hypot(e.stderr, e.bias_stderr)).mean() > 0.9
    smooth = feynman_kac.estimate(PROBLEM, x, 64, 16, scheme="heun", bias=True)
    assert smooth.bias_estimate.max() < 1e-9


def test_the_least_grid_of_the_counterexample_holds_it():
    with pytest.raises(ValueError, match="to hold the Gaussian") as refused:
        bounds.counterexample(n=8)
    least = int(str(refused.value).split(">= ")[1].split(" ")[0])
    problem = bounds.counterexample(n=least)
    x = np.random.default_rng(0).random((200, 2)) * problem.length
    np.testing.assert_allclose(problem.terminal_at(x), problem.exact(x, 1.0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [np.complex64(1 + 2j), np.complex128(1 + 2j), 10**400])
@pytest.mark.parametrize("name", ["sigma", "horizon", "length"])
def test_numbers_that_no_float_holds_are_refused(name, value):
    arguments = {"sigma": 0.1, "horizon": 1.0, "length": 1.0} | {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a number") as refused:
        pde.ConvectionDiffusion(np.zeros((2, 4, 4)), np.zeros((4, 4)), **arguments)
    assert len(str(refused.value)) < 200


def test_a_solution_keeps_times_of_its_own():
    times = np.array([0.0, 0.5])
    solution = pde.spectral.solve(pde.problems.fourier_mode(), save_at=times)
    times[:] = 9.0
    assert solution.save_at.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("horizon", [1e-300, 1e300])
def test_times_whose_squares_are_no_numbers_are_refused(horizon):
    # The same problem in another unit of time, in which velocities are 1e300 times as small, or as large.
    problem = problems.crossed_shears((0.05 / horizon, 0.06 / horizon), horizon=horizon)
    with pytest.raises(pde.UnresolvedError, match="choose units of length and time in which these are near 1"):
        pde.spectral.solve(problem)


def test_a_shape_below_all_numbers_is_none():
    problem = problems.eigenfunction((1e-320, 0.0))
    np.testing.assert_array_equal(problem.terminal.values, problems.eigenfunction((0.0, 0.0)).terminal.values)
