"""Multilevel Monte Carlo: coupled as it should be, of its orders, and as accurate as asked."""

import numba
import numpy as np
import pytest
import scipy.stats
from path_problems import eigenfunction, random_points, rough

import pde
from pde import convergence, feynman_kac, problems
from pde.feynman_kac import _increments, _levels
from pde.feynman_kac import _multilevel as multilevel
from pde.feynman_kac import _random as random_numbers
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables

FALSE_ALARM = 1e-6
KEY = random_numbers.key_from(7)


def in_time():
    """The same, with a velocity that depends on time."""
    fields = np.random.default_rng(0).uniform(-1, 1, (2, 2, 16, 16))

    def velocity(t):
        return pde.PeriodicField(np.cos(t) * fields[0] + np.sin(5 * t) * fields[1], interpolation="bilinear")

    return pde.ConvectionDiffusion(velocity, rough().terminal, sigma=0.2)


def by_reference(problem, points, n_steps, n_paths, key, coupled):
    """The level's samples in NumPy; a coarse increment is the sum of two fine ones."""
    rows = []
    for index, point in enumerate(points):
        dt = problem.horizon / n_steps
        fine = _increments._increments(n_steps, n_paths, np.sqrt(dt), 0, index, key)
        value = problem.terminal_at(feynman_kac.euler_maruyama(problem, point, fine))
        if coupled:
            coarse = fine.reshape(n_steps // 2, 2, n_paths, 2).sum(axis=1)
            value = value - problem.terminal_at(feynman_kac.euler_maruyama(problem, point, coarse))
        rows.append(value)
    return np.array(rows)


# --- the coupled loop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(
    "problem",
    [rough(), rough(interpolation="bicubic"), rough(n_layers=4), rough(length=2.5, horizon=0.7), in_time()],
    ids=["bilinear", "bicubic", "layers", "units", "in time"],
)
def test_coupled_loop_equals_the_reference_on_the_same_increments(problem, coupled):
    points = random_points(5, length=problem.length)
    samples = feynman_kac.level_samples(problem, points, 24, 150, KEY, coupled=coupled)
    # Rounding of 24 steps, stretched by exp(max |grad v|) < 1e3 at most.
    np.testing.assert_allclose(samples, by_reference(problem, points, 24, 150, KEY, coupled), atol=1e-11)


def test_tables_made_a_few_steps_at_a_time_give_the_same_samples(monkeypatch):
    problem, points = in_time(), random_points(4)
    whole = feynman_kac.level_samples(problem, points, 22, 10, KEY, coupled=True)
    monkeypatch.setattr("pde.feynman_kac._velocity_tables._TABLE_BYTES", 2**15)
    assert len(list(VelocityTables(problem).pieces(TimeSteps(problem, 22)))) > 3
    parts = feynman_kac.level_samples(problem, points, 22, 10, KEY, coupled=True)
    assert (parts == whole).all()


def test_samples_by_parts_of_points_and_paths_are_those_drawn_at_once():
    problem, points = rough(), random_points(5)
    whole = feynman_kac.level_samples(problem, points, 8, 12, KEY, coupled=True)
    rows = [
        np.concatenate(
            [
                feynman_kac.level_samples(problem, part, 8, n, KEY, coupled=True, first_point=i, first_path=j)
                for j, n in ((0, 7), (7, 5))
            ],
            axis=1,
        )
        for i, part in ((0, points[:2]), (2, points[2:]))
    ]
    assert (np.concatenate(rows) == whole).all()


def test_levels_have_their_own_numbers():
    keys = {tuple(feynman_kac.level_key(KEY, level)) for level in range(20)}
    assert len(keys) == 20
    assert tuple(KEY) not in keys


def test_variance_of_a_level_has_order_two_and_its_mean_order_one():
    problem, points = eigenfunction(), random_points(8)
    n_steps, n_paths = np.array([16, 32, 64, 128]), 20_000
    variances, means, errors = [], [], []
    for level, n in enumerate(n_steps):
        key = feynman_kac.level_key(KEY, level)
        samples = feynman_kac.level_samples(problem, points, int(n), n_paths, key, coupled=True)
        variances.append(samples.var(axis=1).mean())
        means.append(samples.mean(axis=1))
        errors.append(scipy.stats.sem(samples, axis=1))
    # A sample variance of 160000 has a relative error of 0.0035 for normal samples and 0.01 for a kurtosis of 17; the
    # next term of the expansion, h max |grad v| < 0.1 at the coarsest, moves the slope by 0.1 / log 8 = 0.05.
    assert abs(convergence.observed_order(1 / n_steps, variances).order - 2) < 0.1
    # One number for all points: the mean along the direction of the first.
    direction = means[0] / np.linalg.norm(means[0])
    bias = np.array(means) @ direction
    noise = np.sqrt((np.array(errors) * direction) ** 2 @ np.ones(8))
    assert (convergence.relative_noise(noise, bias) < 0.1).all()
    # Noise of 0.045 at each step is 0.045 / (log 2 sqrt(5)) = 0.03 in the slope: 5 of these, and 0.05 for the next.
    assert abs(convergence.observed_order(1 / n_steps, bias).order - 1) < 0.2


def test_levels_telescope():
    problem, points = eigenfunction(), random_points(16)
    e = multilevel.multilevel(problem, points, stderr=4e-3, rng=3, base=4)
    np.testing.assert_allclose(e.means.sum(axis=0), e.mean, atol=1e-15)
    finest = feynman_kac.estimate(problem, points, 20_000, int(e.n_steps[-1]), rng=99)
    z = (e.mean - finest.mean) / np.hypot(e.stderr, finest.stderr)
    # Standard errors at fine levels rest on a few dozen samples: their share of the variance is small.
    assert np.abs(z).max() < convergence.z_threshold(16, FALSE_ALARM)


# --- accuracy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "eps"),
    [
        (eigenfunction(), 3e-3),
        (problems.doob(horizon=0.3), 6e-3),
        (problems.constant_velocity(sigma=0.3), 3e-3),
        (eigenfunction(sigma=0.3, length=2.0, horizon=1.5), 4e-3),
    ],
    ids=["eigenfunction", "doob", "constant velocity", "units"],
)
def test_error_is_the_one_asked(problem, eps):
    points = random_points(64, length=problem.length)
    e = multilevel.multilevel(problem, points, stderr=eps, rng=5)
    error = convergence.l2_norm(e.mean - problem.exact(points))
    # The noise of 64 independent points has a mean square of eps**2 chi2(64) / 64 at most, and adds to the bias.
    assert error < eps * np.sqrt(0.75 * scipy.stats.chi2.isf(FALSE_ALARM, 64) / 64) + 0.5 * eps
    assert e.error_estimate <= 1.01 * eps
    z = (e.mean - problem.exact(points)) / np.hypot(e.stderr, e.bias_estimate)
    assert np.abs(z).max() < convergence.z_threshold(64, FALSE_ALARM)


def test_error_is_the_one_asked_for_layers():
    shears = problems.crossed_shears(n=32)
    problem = pde.ConvectionDiffusion(shears.velocity, shears.terminal, sigma=0.2)
    points = random_points(64)
    e = multilevel.multilevel(problem, points, stderr=5e-3, rng=1)
    assert e.n_steps[0] % 2 == 0
    error = e.mean - pde.spectral.solve(problem, rtol=1e-6).field(points)
    assert convergence.l2_norm(error) < 5e-3 * np.sqrt(scipy.stats.chi2.isf(FALSE_ALARM, 64) / 64)


def test_standard_error_is_honest():
    # Euler-Maruyama is exact in law here, and coupled paths end at the same place: no bias at all.
    problem, points = problems.constant_velocity(sigma=0.3), random_points(200)
    e = multilevel.multilevel(problem, points, stderr=1e-2, rng=11)
    z = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    assert np.abs(z).max() < convergence.z_threshold(200, FALSE_ALARM)
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 200)
    # The number of samples was chosen by the variance seen, which biases it by a per cent or two at most.
    assert 0.95 * low < z @ z < 1.05 * high


def test_a_finer_answer_costs_the_square():
    problem, points = eigenfunction(), random_points(256)
    asked = np.array([1.6e-2, 8e-3, 4e-3])
    costs = [multilevel.multilevel(problem, points, stderr=eps, rng=2, base=4).cost for eps in asked]
    # Plain Monte Carlo has slope -3. Levels come in steps, each worth a few per cent of the cost.
    assert abs(convergence.observed_order(asked, costs).order + 2) < 0.3


def test_bias_estimate_is_of_the_size_of_the_bias():
    problem, points = eigenfunction(), random_points(16)
    e = multilevel.multilevel(problem, points, stderr=4e-3, rng=3, base=4, bias_share=0.9)
    exact = problem.exact(points)
    fine = feynman_kac.estimate(problem, points, 60_000, int(e.n_steps[-1]), rng=8)
    bias = np.sqrt(max(np.mean((fine.mean - exact) ** 2) - np.mean(fine.stderr**2), 0.0))
    # The estimate holds the noise of the last level too, and is a factor of two larger where the one before decides.
    assert bias < 1.3 * e.bias_estimate < 5 * bias


# --- what is recorded ----------------------------------------------------------------------------------------------


def test_the_record_adds_up():
    points = random_points(6).reshape(2, 3, 2)
    e = multilevel.multilevel(eigenfunction(), points, stderr=1e-2)
    levels = len(e.n_steps)
    assert e.mean.shape == e.stderr.shape == (2, 3)
    assert e.means.shape == (levels, 2, 3)
    assert e.variances.shape == e.costs.shape == e.n_paths.shape == (levels,)
    assert (e.n_steps[1:] == 2 * e.n_steps[:-1]).all()
    unit = e.n_steps * np.where(np.arange(levels) > 0, 1.5, 1.0)
    np.testing.assert_array_equal(e.costs, 6 * e.n_paths * unit)
    assert e.cost == e.costs.sum()
    assert (np.diff(e.n_paths) <= 0).all()
    assert multilevel.multilevel(eigenfunction(), points[0, 0], stderr=3e-2).mean.shape == ()


def test_results_do_not_depend_on_the_number_of_threads():
    most = numba.config.NUMBA_NUM_THREADS
    if most < 2:
        pytest.skip("one core: nothing to compare")
    problem, points, results = eigenfunction(), random_points(20), []
    for n_threads in (1, 2):
        numba.set_num_threads(n_threads)
        results.append(multilevel.multilevel(problem, points, stderr=1e-2, rng=6))
    numba.set_num_threads(most)
    assert (results[0].mean == results[1].mean).all()
    assert (results[0].stderr == results[1].stderr).all()


def test_batches_merge_to_the_same_result(monkeypatch):
    problem, points = eigenfunction(), random_points(150)
    whole = multilevel.multilevel(problem, points, stderr=3e-2)
    for batch in (600, 5000):
        monkeypatch.setattr(_levels, "_BATCH", batch)
        parts = multilevel.multilevel(problem, points, stderr=3e-2)
        np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-13)
        np.testing.assert_allclose(parts.stderr, whole.stderr, rtol=1e-10)


def test_seeds_differ_and_repeat():
    problem, points = eigenfunction(), random_points(3)
    first, again, other = (multilevel.multilevel(problem, points, stderr=3e-2, rng=rng).mean for rng in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()


# --- the door, and the end of the levels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stderr": 0}, "stderr must be finite and > 0, got stderr=0"),
        ({"stderr": np.nan}, "stderr must be finite"),
        ({"stderr": "small"}, "stderr must be a number > 0"),
        ({"bias_share": 1.0}, "bias_share must lie in \\(0, 1\\), got bias_share=1"),
        ({"max_levels": 2}, "max_levels must be an integer >= 3, got max_levels=2"),
        ({"max_levels": 33}, "must be < 2\\*\\*32"),
        ({"max_cost": -1}, "max_cost must be finite and > 0"),
        ({"base": 0}, "base must be an integer >= 1, got base=0"),
        ({"n_pilot": 3}, "n_pilot must be an integer >= 4, got n_pilot=3"),
        ({"rng": -1}, "rng must be a seed >= 0"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
        ({"points": [0.1, 0.2, 0.3]}, "points must have shape"),
        ({"points": [[0.1, np.inf]]}, "points must be finite"),
        ({"points": np.empty((0, 2))}, "points must hold at least one point, got shape \\(0, 2\\)"),
        ({"problem": problems.crossed_shears()}, "sigma must be > 0: .* see feynman_kac.estimate"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"problem": rough(), "points": [[0.1, 0.2]], "stderr": 0.1} | changed
    with pytest.raises(ValueError, match=message):
        multilevel.multilevel(arguments.pop("problem"), arguments.pop("points"), **arguments)


def test_a_rough_velocity_stops_with_the_remedy():
    problem = problems.figure4(n=64, sigma=0.01)
    with pytest.raises(multilevel.NotConvergedError, match=r"does not fall from level to level .*raise base above 2"):
        multilevel.multilevel(problem, random_points(64), stderr=2e-2, base=2, max_levels=4)


def test_too_few_levels_stop_with_the_remedy():
    problem = eigenfunction()
    with pytest.raises(multilevel.NotConvergedError, match=r"raise max_levels to \d+ or base above 2"):
        multilevel.multilevel(problem, random_points(16), stderr=5e-3, base=2, max_levels=3)


def test_a_cost_beyond_the_limit_stops_before_it_is_spent():
    with pytest.raises(multilevel.NotConvergedError, match="path-steps > max_cost=1e\\+07: choose a larger stderr"):
        multilevel.multilevel(eigenfunction(), random_points(4), stderr=1e-5, max_cost=1e7)


def test_overflow_is_no_result():
    terminal = pde.PeriodicField(np.full((8, 8), 1.7e308), interpolation="bilinear")
    problem = pde.ConvectionDiffusion(np.zeros((2, 8, 8)), terminal, sigma=0.1)
    with pytest.raises(FloatingPointError, match="not finite"):
        multilevel.multilevel(problem, [0.1, 0.2])
