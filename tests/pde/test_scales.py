"""Answers do not depend on the size of the data, the speed of the wind or the way in which a seed is given."""

import warnings

import numpy as np
import pytest

import pde
from pde import feynman_kac
from pde.feynman_kac.quasi import quasi_estimate

NODES = np.arange(16) / 16
WAVE = np.sin(2 * np.pi * NODES)[:, None] * np.ones(16)
SHEARS = 0.3 * np.stack([WAVE.T, WAVE])
X = np.array([[0.1, 0.2], [0.4, 0.7]])


def wind(speed, sigma, *, horizon=1.0, offset=0.0, k=1, n=16):
    """Wave k in a constant wind along x, and its closed form."""
    v, f = np.zeros((2, 4, 4)), np.sin(2 * np.pi * k * np.arange(n) / n)[:, None] * np.ones(n)
    v[0] = speed
    problem = pde.ConvectionDiffusion(v, offset + f, sigma=sigma, horizon=horizon)
    damped = np.exp(-2 * (np.pi * k * sigma) ** 2 * horizon)
    return problem, lambda x: offset + damped * np.sin(2 * np.pi * k * (x[:, 0] + speed * horizon))


# --- the size of the data ------------------------------------------------------------------------------------------


def test_sobol_points_take_data_whose_squares_overflow():
    one, large = (
        quasi_estimate(pde.ConvectionDiffusion(SHEARS, scale * WAVE, sigma=0.2), X, 64, 4) for scale in (1.0, 2.0**520)
    )
    # A power of two, so to the last bit but for splines.
    np.testing.assert_allclose(large.mean * 2.0**-520, one.mean, rtol=1e-12)
    np.testing.assert_allclose(large.stderr * 2.0**-520, one.stderr, rtol=1e-9)


def test_characteristics_converge_where_squares_of_their_differences_overflow():
    one, large = (
        feynman_kac.solve_to(pde.ConvectionDiffusion(3 * SHEARS, scale * WAVE, sigma=0.0), X, scale * 2.0**-32)
        for scale in (1.0, 2.0**530)
    )
    assert large.n_steps == one.n_steps
    np.testing.assert_allclose(large.mean * 2.0**-530, one.mean, rtol=1e-9)


@pytest.mark.parametrize("solver", [feynman_kac.solve_to, feynman_kac.multilevel])
def test_an_error_whose_square_overflows_is_refused(solver):
    problem, _ = wind(0.3, 0.2)
    with pytest.raises(ValueError, match="stderr must be <= 1e150, so that its square does not overflow"):
        solver(problem, X, stderr=1e200)


@pytest.mark.parametrize("exponent", [-300, 0, 300])
def test_a_level_whose_variance_rests_on_few_samples_is_named_at_any_size(exponent):
    def terminal(x):
        return 2.0**exponent * ((x[..., 0] > 0.25) & (x[..., 0] < 0.75))

    problem = pde.ConvectionDiffusion(SHEARS, terminal, sigma=0.2)
    # With 64 steps few pairs of paths end on two sides of a jump.
    with pytest.warns(RuntimeWarning, match=r"level 2 has a kurtosis of 2\.7e\+02"):
        feynman_kac.multilevel(problem, [[0.4, 0.2]], stderr=0.1 * 2.0**exponent, n_pilot=800, base=64)


@pytest.mark.parametrize(("offset", "n", "k"), [(0.0, 64, 20), (3e5, 64, 20), (1e8, 4, 1)])
def test_a_large_constant_costs_no_accuracy_of_what_varies(offset, n, k):
    problem, exact = wind(0.0, 0.2 / k, offset=offset, n=n, k=k)
    x = np.array([[0.26, 0.3], [0.2, 0.2]]) / k
    # Exact in law. Pairs take off the linear part: 2e5 of them leave 1e-3 of the wave, and splines less than 1e-4.
    e = feynman_kac.estimate(problem, x, 400_000, 1, scheme="heun", antithetic=True)
    assert (e.stderr < 2e-3).all()
    # Two normal numbers exceed 5 with a probability of 1e-6.
    assert (np.abs(e.mean - exact(x)) < 5 * e.stderr).all()


# --- fast winds and little noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("speed", "horizon", "offset"), [(1.3, 1000.0, 0.0), (3.0, 1.0, 1e6)])
def test_independent_points_take_a_wind_that_crosses_periods_in_a_step(speed, horizon, offset):
    problem, exact = wind(speed, 0.2 / np.sqrt(horizon), horizon=horizon, offset=offset)
    x = np.random.default_rng(0).random((400, 2))
    s = feynman_kac.solve_to(problem, x, 2e-2, common_paths=False)
    # The root mean square over 400 independent points is within a fifth of the error, five of its standard deviations.
    assert np.sqrt(np.mean((s.mean - exact(x)) ** 2)) < 1.2 * 2e-2


def test_noise_that_positions_do_not_show_is_refused_by_the_formula_that_needs_it():
    problem, _ = wind(0.3, 1e-18)
    with pytest.raises(ValueError, match="rounding hides the noise"):
        feynman_kac.gradient(problem, X, n_paths=64, n_steps=4)
    problem, _ = wind(0.3, 1e-12)
    g = feynman_kac.gradient(problem, X, n_paths=4000, n_steps=4)
    slope = 2 * np.pi * np.cos(2 * np.pi * (X[:, 0] + 0.3))
    assert (np.abs(g.mean[:, 0] - slope) < 5 * g.stderr[:, 0]).all()


def test_no_points_have_no_gradients():
    problem, _ = wind(0.3, 0.2)
    for ways in ({"n_paths": 64}, {"n_paths": 64, "sobol": True}, {"n_paths": 64, "method": "pathwise"}):
        assert feynman_kac.gradient(problem, np.empty((0, 3, 2)), n_steps=4, **ways).mean.shape == (0, 3, 2)


def test_an_interval_without_noise_has_no_width():
    problem, _ = wind(0.3, 0.0)
    with np.errstate(all="raise"):
        assert not feynman_kac.estimate(problem, X).half_width().any()
        assert not feynman_kac.solve_to(problem, X).half_width().any()
    problem, _ = wind(0.3, 0.2)
    assert np.isinf(feynman_kac.estimate(problem, X, 1, 2).half_width()).all()


# --- what a potential and a source add to the range of the data ---------------------------------------------------


@pytest.mark.parametrize(
    "extra", [{"source": 10.0}, {"potential": 3.0}, {"source": lambda x, t: 9 + np.cos(t) + 0 * x[..., 0]}]
)
def test_values_beyond_the_range_of_the_terminal_data_are_not_rare(extra):
    plain, reacting = (pde.ConvectionDiffusion(SHEARS, WAVE + 1.2, sigma=0.1, **more) for more in ({}, extra))
    # Warnings are errors here.
    e = feynman_kac.estimate(reacting, X, 256, 16)
    q = quasi_estimate(reacting, X, 64, 16)
    assert (np.abs(e.mean - q.mean) < 5 * e.stderr).all()
    if "potential" not in extra:
        # A source that is the same everywhere has no variance.
        assert feynman_kac.solve_to(reacting, X, 0.02).n_paths <= 2 * feynman_kac.solve_to(plain, X, 0.02).n_paths


def test_what_is_the_same_for_all_paths_is_not_rare():
    one = np.ones((4, 4))
    problem = pde.ConvectionDiffusion(SHEARS, one, sigma=0.1, potential=lambda x, t: 0 * x[..., 0] + t, source=2.0)
    # Warnings are errors here. u = e^(1 / 2) + 2 integral of e^(t^2 / 2), by the trapezoidal rule to h^2.
    t = np.linspace(0, 1, 2001)
    weights = np.exp(t**2 / 2)
    u = weights[-1] + (weights[1:] + weights[:-1]).sum() / 2000
    e = feynman_kac.estimate(problem, X, 64, 100)
    np.testing.assert_allclose(e.mean, u, atol=1e-4)
    assert (e.stderr < 1e-12).all()


def test_a_source_or_potential_that_no_path_meets_is_named():
    nodes = np.arange(128) / 128 - 0.5
    spike = np.exp(-(nodes[:, None] ** 2 + nodes**2) / (2 * 0.02**2))
    still = np.zeros((2, 4, 4))

    def levels(problem):
        return feynman_kac.multilevel(problem, [[0.1, 0.1]], stderr=0.1)

    for f, extra in ((0.0, {"source": 100 * spike}), (1.0, {"potential": 60 * spike})):
        # Eight standard deviations away.
        problem = pde.ConvectionDiffusion(still, np.full((4, 4), f), sigma=0.05, **extra)
        for solver in (
            lambda p: feynman_kac.estimate(p, [[0.1, 0.1]], 256, 16),
            lambda p: quasi_estimate(p, [[0.1, 0.1]], 64, 16),
            *(() if "potential" in extra else (levels,)),
        ):
            with pytest.warns(RuntimeWarning, match="samples agree: stderr is 0 there, yet an event that none"):
                solver(problem)
    # Such a path has a weight of up to exp(60): a solution of 6e4.
    with pytest.raises(feynman_kac.NotConvergedError, match="pilot samples of level 0 cost"):
        levels(problem)


# --- seeds -----------------------------------------------------------------------------------------------------------

SOLVERS = {
    "quasi_estimate": lambda rng: quasi_estimate(wind(0.3, 0.2)[0], X, 16, 2, 4, rng),
    "solve_to": lambda rng: feynman_kac.solve_to(wind(0.3, 0.2)[0], X, 0.1, rng),
    "independent points": lambda rng: feynman_kac.solve_to(wind(0.3, 0.2)[0], X, 0.1, rng, common_paths=False),
    "gradient": lambda rng: feynman_kac.gradient(wind(0.3, 0.2)[0], X, n_paths=64, n_steps=2, rng=rng, sobol=True),
    "estimate": lambda rng: feynman_kac.estimate(wind(0.3, 0.2)[0], X, 16, 2, rng),
    "multilevel": lambda rng: feynman_kac.multilevel(wind(0.3, 0.2)[0], X, stderr=0.1, rng=rng),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_seed_sequence_gives_the_same_answer_twice_and_keeps_its_children(name):
    seeds = np.random.SeedSequence(5)
    first, second = (SOLVERS[name](seeds).mean for _ in range(2))
    assert (first == second).all()
    assert (first == SOLVERS[name](5).mean).all()
    assert seeds.n_children_spawned == 0


@pytest.mark.parametrize("name", SOLVERS)
def test_a_generator_is_its_state(name):
    rng = np.random.default_rng(5)
    state = rng.bit_generator.state
    first, second = (SOLVERS[name](rng).mean for _ in range(2))
    assert (first != second).any()
    rng.bit_generator.state = state
    assert (SOLVERS[name](rng).mean == first).all()
    # Of the legacy seeding, which knows no children.
    legacy = np.random.Generator(np.random.RandomState(3)._bit_generator)
    assert np.isfinite(SOLVERS[name](legacy).mean).all()


# --- few samples ---------------------------------------------------------------------------------------------------


def test_few_samples_of_a_level_state_a_larger_error():
    problem, exact = wind(0.3, 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [
            feynman_kac.multilevel(problem, X, stderr=10.0, rng=seed, n_pilot=5, base=1, max_levels=3)
            for seed in range(2000)
        ]
    # Nothing is drawn beyond the pilot: five samples of variance V, of which the stated V (n - 1) / (n - 3) / n is
    # twice V / n, the mean square of Student's t with 4 degrees of freedom.
    assert all(r.n_paths[0] == 5 for r in results)
    stated = np.mean([r.stderr**2 for r in results])
    found = np.mean([(r.mean - exact(X)) ** 2 for r in results])
    # Both have relative standard errors of less than 0.05.
    assert stated == pytest.approx(2 * found, rel=0.25)
