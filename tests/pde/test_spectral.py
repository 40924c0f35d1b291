"""The spectral solver against closed forms, orders, invariants and a dense matrix exponential.

`krylov` promises an error of about rtol * max |f|; the tests allow ten times that (TOLERANCE), since its estimates are
sums of leading terms. `ifrk4` promises error_estimate.
"""

import functools

import numpy as np
import pytest
import scipy.linalg

import pde
from pde import ConvectionDiffusion, PeriodicField, grid, problems, random_fields
from pde.spectral import METHODS, SpectralSolution, UnresolvedError, solve

TOLERANCE = 10


def exact(problem, n):
    return problem.exact(grid.points(n, problem.length))


def sup(values):
    return float(np.abs(values).max())


def smooth(seed, sigma, *, velocity="band-limited", n=128, n_layers=1):
    """A random problem resolved on the grid of 128 for sigma >= 0.1 and of 256 for 0.05; max |f| is about 1."""
    draw = getattr(random_fields, velocity.replace("-", "_"))
    layers = [draw(128, 100 * seed + j, n_modes=3) for j in range(n_layers)]
    v = np.stack([layer.on_grid(n) for layer in layers])
    return ConvectionDiffusion(v, random_fields.terminal_datum(128, seed).on_grid(n), sigma=sigma)


# Closed forms


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [(1, 0), (0, 1), (2, 1), (1, 2), (-3, 2), (3, -1)])
def test_single_mode_decays_at_half_sigma_squared(k, method):
    sigma, n = 0.3, 16
    x, y = np.moveaxis(grid.points(n), -1, 0)
    f = np.sin(2 * np.pi * (k[0] * x + k[1] * y) + 0.4)
    rate = sigma**2 / 2 * 4 * np.pi**2 * (k[0] ** 2 + k[1] ** 2)
    solution = solve(ConvectionDiffusion(np.zeros((2, n, n)), f, sigma=sigma), method=method, rtol=1e-12)
    # Without velocity both methods are exact; 1000 factors exp(-rate dt) round by 1000 eps.
    assert sup(solution.u - np.exp(-rate) * f) <= 1e-12
    assert solution.resolved


@pytest.mark.parametrize("method", METHODS)
def test_constant_velocity_translates(method):
    problem = problems.constant_velocity((0.7, -0.4), (3, 1), sigma=0.1)
    solution = solve(problem, method=method, rtol=1e-10)
    # RK4 of w' = i a w with a = q . c: a phase error of a**5 dt**4 / 120.
    a = 2 * np.pi * (3 * 0.7 - 1 * 0.4)
    bound = TOLERANCE * 1e-10 if method == "krylov" else 1.1 * a**5 * 1e-12 / 120
    assert sup(solution.u - exact(problem, 16)) <= bound


@pytest.mark.parametrize("method", METHODS)
def test_crossed_shears_tell_the_direction_of_time(method):
    problem = problems.crossed_shears()
    solution = solve(problem, method=method, rtol=1e-8)
    error = sup(solution.u - exact(problem, 64))
    # max |f| = 2. RK4 turns by 2 pi 0.7 * 3 at most on the modes that matter: 13**5 dt**4 / 120 = 3e-9.
    assert error <= (TOLERANCE * 2e-8 if method == "krylov" else 3e-9 + solution.error_estimate)
    # The layers in the wrong order are another problem altogether.
    reverse = ConvectionDiffusion(problem.velocity.values[::-1], problem.terminal, sigma=0)
    assert sup(solve(reverse).u - exact(problem, 64)) > 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0.05, -0.03), (-0.08, 0.1)])
def test_eigenfunction_decays_at_its_eigenvalue(shape, method):
    problem = problems.eigenfunction(shape, sigma=0.2)
    solution = solve(problem, method=method, rtol=1e-10)
    # RK4 of w' = v . grad w: at most max |v| |q| 3 on f's modes, here below 2: 2**5 dt**4 / 120 = 3e-13.
    bound = TOLERANCE * 1e-10 if method == "krylov" else 3e-13 + 2 * solution.error_estimate
    assert sup(solution.u - exact(problem, problem.n)) <= bound


def test_callable_velocity_that_varies_in_time():
    problem = problems.doob()
    coarse, fine = (solve(problem, method="ifrk4", dt=dt) for dt in (1 / 100, 1 / 200))
    errors = [sup(s.u - exact(problem, 48)) for s in (coarse, fine)]
    # Order 4 halves log2(error) by 4; 3.5 leaves room for the order lost on stiff modes.
    assert np.log2(errors[0] / errors[1]) > 3.5
    for solution, error in zip((coarse, fine), errors, strict=True):
        # The bound for the modes of f that 48 points do not keep is 1e-8.
        assert error / 2 <= solution.error_estimate <= 10 * error + 2e-8


def test_callable_of_time_is_the_field_it_returns():
    problem = problems.doob(0.15, n=24)
    stack = ConvectionDiffusion(lambda t: problem.velocity_field(t, 24), problem.terminal, sigma=problem.sigma)
    options = {"method": "ifrk4", "dt": 0.01}
    a, b = solve(stack, resolution=0.01, **options), solve(problem, resolution=0.01, **options)
    # The samples of the callable are taken on a finer grid than 24.
    assert 0 < sup(a.u - b.u) <= a.error_estimate


# Orders


@pytest.mark.parametrize("n_modes", [1, 2])
def test_ifrk4_is_of_fourth_order(n_modes):
    # nu |k|**2 dt < 0.5 on all 31 modes: not stiff. The reference has the same modes, so that only time differs.
    velocity = random_fields.band_limited(96, 5, n_modes=n_modes)
    terminal = random_fields.terminal_datum(96, 5, n_modes=2)
    problem = ConvectionDiffusion(velocity, terminal, sigma=0.1, horizon=0.5)
    reference = solve(problem, rtol=1e-13)
    n_steps = np.array([48, 64, 96, 128])
    errors = [sup(solve(problem, method="ifrk4", dt=0.5 / m).u - reference.u) for m in n_steps]
    assert errors[-1] > 30 * reference.error_estimate
    assert np.polyfit(np.log(n_steps), np.log(errors), 1)[0] == pytest.approx(-4, abs=0.2)


def test_error_falls_exponentially_with_n():
    problem = smooth(2, 0.2)
    reference = solve(problem, rtol=1e-12).field
    sizes = np.arange(28, 61, 8)
    solutions = [solve(problem, n=int(n), rtol=1e-12, check=False) for n in sizes]
    errors = [sup(s.u - reference.on_grid(int(n))) for s, n in zip(solutions, sizes, strict=True)]
    assert errors[-1] > 100 * 1e-12
    slope, intercept = np.polyfit(sizes, np.log(errors), 1)
    # Straight to within a factor e over several decades; a power law would bend by far more.
    assert np.log(errors[0] / errors[-1]) > 8
    assert np.abs(np.log(errors) - slope * sizes - intercept).max() < 1
    for solution, error in zip(solutions, errors, strict=True):
        assert error / 2 <= solution.error_estimate <= 20 * error


# The account of the error


CASES = {
    "band-limited 0.1": lambda n: smooth(1, 0.1, n=n),
    "band-limited 0.2": lambda n: smooth(2, 0.2, n=n),
    "band-limited 0.3": lambda n: smooth(3, 0.3, n=n),
    "divergence-free 0.1": lambda n: smooth(4, 0.1, velocity="divergence-free", n=n),
    "divergence-free 0.3": lambda n: smooth(5, 0.3, velocity="divergence-free", n=n),
    "four layers 0.1": lambda n: smooth(6, 0.1, n_layers=4, n=n),
    "four layers 0.3": lambda n: smooth(7, 0.3, velocity="divergence-free", n_layers=4, n=n),
    "thin layers 0.05": lambda n: smooth(8, 0.05, velocity="divergence-free", n=n),
}


@functools.cache
def reference(case):
    solution = solve(CASES[case](128), n=240, rtol=1e-13)
    assert solution.error_estimate < 1e-11
    return solution.field.on_grid(64), solution.error_estimate


@pytest.mark.parametrize("case", CASES)
def test_krylov_keeps_its_tolerance_and_knows_its_error(case):
    u, uncertainty = reference(case)
    n = 240 if "0.05" in case else 160
    problem = CASES[case](n)
    sup_f = problem.terminal.sup_norm()
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9, 1e-11):
        solution = solve(problem, rtol=rtol)
        error = sup(solution.field.on_grid(64) - u)
        assert error <= TOLERANCE * rtol * sup_f + uncertainty
        # Never a wild underestimate, nor so large that it says nothing (a hundred for what fades unseen, or a fifth
        # of what was allowed: a long step may end with much less).
        assert solution.error_estimate >= 0.1 * (error - uncertainty)
        assert solution.error_estimate <= 100 * error + uncertainty + 0.2 * rtol * sup_f
        assert solution.error_estimate <= 2 * rtol * sup_f


@pytest.mark.parametrize("case", ["band-limited 0.2", "divergence-free 0.3", "four layers 0.3"])
def test_both_methods_agree_within_their_estimates(case):
    problem = CASES[case](96)
    krylov, rk4 = solve(problem, rtol=1e-9), solve(problem, method="ifrk4", dt=1 / 400)
    assert sup(krylov.u - rk4.u) <= krylov.error_estimate + 2 * rk4.error_estimate
    assert rk4.error_estimate < 1e-6


def test_bilinear_velocity_is_exact_on_the_modes_kept():
    velocity = random_fields.band_limited(32, 3, n_modes=2).with_interpolation("bilinear")
    terminal = random_fields.terminal_datum(32, 3, n_modes=2)
    problem = ConvectionDiffusion(velocity, terminal, sigma=0.3)
    coarse, fine = solve(problem, n=64), solve(problem, n=128)
    error = sup(coarse.u - fine.u[::2, ::2])
    # Samples on 64 points, of which 32 are the corners of the cells, were wrong by 2e-4.
    assert error <= min(1e-6, 2 * coarse.error_estimate)


def test_modes_are_as_many_as_the_solution_asks_for():
    coarse, fine = solve(smooth(3, 0.2, n=128)), solve(smooth(3, 0.2, n=256))
    assert fine.n_modes < 40 < grid.dealiased_modes(256) // 2
    assert fine.n_products <= 1.1 * coarse.n_products
    assert sup(fine.u[::2, ::2] - coarse.u) <= 2 * TOLERANCE * 1e-8


# A second implementation, by sums over pairs of modes


def dense_generator(v_hat, nu, modes):
    """The matrix of w -> v . grad w + nu lap w on the modes listed; v_hat[k] are the velocity's coefficients."""
    matrix = np.zeros((len(modes), len(modes)), dtype=complex)
    for column, q in enumerate(modes):
        for row, k in enumerate(modes):
            v = v_hat.get((k[0] - q[0], k[1] - q[1]))
            if v is not None:
                matrix[row, column] = 2j * np.pi * (v[0] * q[0] + v[1] * q[1])
        matrix[column, column] -= nu * 4 * np.pi**2 * (q[0] ** 2 + q[1] ** 2)
    return matrix


@pytest.mark.parametrize("method", METHODS)
def test_dense_exponential_of_the_convolution_agrees(method):
    n, k_max, nu = 16, 5, 0.02
    rng = np.random.default_rng(12)
    modes = [(a, b) for a in range(-k_max, k_max + 1) for b in range(-k_max, k_max + 1)]
    waves = [np.exp(2j * np.pi * (grid.points(n) @ k)) for k in modes]
    v, f = rng.standard_normal((2, n, n)) / 10, rng.standard_normal((n, n))
    v_hat = {k: [np.vdot(wave, component) / n**2 for component in v] for k, wave in zip(modes, waves, strict=True)}
    f_hat = [np.vdot(wave, f) / n**2 for wave in waves]
    # The velocity keeps the modes listed; the rest of its bandwidth is taken away first.
    v = np.stack([sum(v_hat[k][i] * wave for k, wave in zip(modes, waves, strict=True)).real for i in (0, 1)])
    u_hat = scipy.linalg.expm(dense_generator(v_hat, nu, modes)) @ f_hat
    u = sum(c * wave for c, wave in zip(u_hat, waves, strict=True)).real
    options = {"rtol": 1e-12} if method == "krylov" else {"dt": 1 / 1000}
    solution = solve(ConvectionDiffusion(v, f, sigma=np.sqrt(2 * nu)), method=method, check=False, **options)
    assert solution.n_modes == k_max
    # RK4: 1000 steps of 2 pi 5 * 0.5 * 1e-3 = 0.016, to the fifth / 120.
    assert sup(solution.u - u) <= (1e-11 if method == "krylov" else 1e-8) * sup(f)


# Invariants


def test_solution_is_linear_in_the_terminal_data():
    problem = smooth(3, 0.2, n=64)
    g = random_fields.terminal_datum(64, 99).values
    f = problem.terminal.values
    u_f, u_g, both = (solve(ConvectionDiffusion(problem.velocity, h, sigma=0.2)).u for h in (f, g, 2 * f - 3 * g))
    # max |2 f - 3 g| <= 5.
    assert sup(both - (2 * u_f - 3 * u_g)) <= 2 * 5 * TOLERANCE * 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_constants_stay(method):
    problem = ConvectionDiffusion(smooth(3, 0.2, n=64).velocity, np.full((64, 64), 1.5), sigma=0.2)
    solution = solve(problem, method=method, dt=0.01 if method == "ifrk4" else None)
    assert sup(solution.u - 1.5) <= 1e-13
    assert solution.resolved


@pytest.mark.parametrize("case", CASES)
def test_maximum_principle_holds(case):
    problem = CASES[case](160)
    solution = solve(problem, n=240 if "0.05" in case else None, rtol=1e-6)
    f = problem.terminal.on_grid(1024)
    u = solution.field.on_grid(512)
    assert f.min() - TOLERANCE * 1e-6 <= u.min()
    assert u.max() <= f.max() + TOLERANCE * 1e-6
    assert solution.sup_norms.max() <= sup(f) + TOLERANCE * 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_shifted_fields_give_the_shifted_solution(method):
    problem, shift = smooth(3, 0.2, n=64, n_layers=2), (5, -11)
    v, f = (np.roll(field.values, shift, (-2, -1)) for field in (problem.velocity, problem.terminal))
    options = {"method": method, "dt": 0.01 if method == "ifrk4" else None}
    shifted = solve(ConvectionDiffusion(v, f, sigma=0.2), **options)
    # The same steps up to rounding, which "krylov" may turn into another choice of step.
    assert sup(shifted.u - np.roll(solve(problem, **options).u, shift, (0, 1))) <= TOLERANCE * 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_axes_can_be_swapped(method):
    problem = smooth(3, 0.2, n=64)
    v, f = problem.velocity.values[0], problem.terminal.values
    options = {"method": method, "dt": 0.01 if method == "ifrk4" else None}
    swapped = solve(ConvectionDiffusion(v[::-1].swapaxes(1, 2), f.T, sigma=0.2), **options)
    u = solve(problem, **options).u
    assert sup(u - u.T) > 0.1 * sup(u)
    assert sup(swapped.u.T - u) <= TOLERANCE * 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_units_of_length_and_time_do_not_matter(method):
    problem, length, horizon = smooth(3, 0.2, n=64), 3.0, 0.25
    v = problem.velocity.values * (length / horizon)
    other = ConvectionDiffusion(
        v, problem.terminal.values, sigma=0.2 * length / np.sqrt(horizon), horizon=horizon, length=length
    )
    dts = (0.01, 0.01 * horizon) if method == "ifrk4" else (None, None)
    a, b = (solve(p, method=method, dt=dt) for p, dt in zip((problem, other), dts, strict=True))
    assert sup(a.u - b.u) <= TOLERANCE * 1e-8
    assert b.length == b.field.length == length
    assert b.t[0] == horizon
    assert b.error_estimate == pytest.approx(a.error_estimate, rel=0.5)


def test_layers_that_are_equal_are_one():
    one = smooth(3, 0.2, n=64)
    three = ConvectionDiffusion(np.repeat(one.velocity.values, 3, axis=0), one.terminal, sigma=0.2)
    assert sup(solve(one).u - solve(three).u) <= 2 * TOLERANCE * 1e-8


def test_result_says_what_was_done():
    problem = smooth(3, 0.2, n=64, n_layers=2)
    for method in METHODS:
        solution = solve(problem, method=method)
        assert isinstance(solution, SpectralSolution)
        assert solution.method == method
        assert solution.resolved
        assert solution.reason == ""
        assert solution.u.shape == (64, 64)
        assert solution.t[0] == problem.horizon
        assert solution.t[-1] == 0
        assert (np.diff(solution.t) < 0).all()
        assert solution.t.shape == solution.sup_norms.shape
        assert solution.sup_norms[0] == pytest.approx(sup(problem.terminal.values), rel=1e-12)
        assert solution.sup_norms[-1] == sup(solution.u)
        assert solution.n_steps >= 2
        assert solution.n_products >= 4 * solution.n_steps
        assert np.allclose(solution.field.on_grid(64), solution.u, atol=1e-14)


def test_finer_grid_of_the_answer_samples_the_same_function():
    problem = smooth(3, 0.2, n=64)
    assert sup(solve(problem, n=128).u[::2, ::2] - solve(problem).u) <= 2 * TOLERANCE * 1e-8


# What is not resolved


def test_grid_noise_at_small_sigma_is_refused_by_the_maximum_principle():
    with pytest.raises(UnresolvedError) as refusal:
        solve(problems.figure4(n=128, sigma=0.01))
    message = str(refusal.value)
    assert "violates the maximum principle" in message
    assert "max |f| = 1" in message
    assert "check=False" in message
    # The layer: sqrt(nu / max |grad v|) with |grad v| <= 2 * 128 * sqrt(2) is at least 3.7e-4, two points each.
    wanted = int(message.partition("n >= ")[2].partition(":")[0])
    assert wanted >= 4096
    assert "pde.feynman_kac.estimate" in message


@pytest.mark.parametrize("method", METHODS)
def test_without_diffusion_the_message_names_the_characteristics(method):
    problem = problems.figure4(n=32, sigma=0.0)
    with pytest.raises(UnresolvedError, match="follow the characteristics with pde"):
        solve(problem, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_unchecked_solution_of_an_unresolved_problem_says_so(method, sigma):
    solution = solve(problems.figure4(n=64, sigma=sigma), method=method, check=False)
    assert not solution.resolved
    assert solution.reason.startswith("unresolved: ")
    assert solution.u.shape == (64, 64)
    # It violates the maximum principle, and its own estimate covers that.
    assert not sup(solution.u) <= 1.001
    assert not solution.error_estimate < sup(solution.u) - 1.001


def test_overflow_ends_the_march():
    problem = problems.figure4(n=32, sigma=0.0)
    fast = ConvectionDiffusion(100 * problem.velocity.values, problem.terminal, sigma=0.0)
    for method in METHODS:
        solution = solve(fast, method=method, check=False)
        assert not solution.resolved
        assert not np.isfinite(solution.u).all() or sup(solution.u) > 1e6


@pytest.mark.parametrize("method", METHODS)
def test_spectrum_that_does_not_decay_is_refused(method):
    # Ten modes for boundary layers of width 0.01.
    problem = smooth(2, 0.15, n=32)
    options = {"method": method, "resolution": 1e-5}
    with pytest.raises(UnresolvedError, match="the spectrum does not decay within 10 modes, estimated error"):
        solve(problem, **options)
    solution = solve(problem, check=False, **options)
    truth = solve(smooth(2, 0.15, n=128)).u[::4, ::4]
    assert solution.error_estimate >= 0.5 * sup(solution.u - truth) > 1e-5


def test_step_beyond_the_stability_limit_is_refused():
    problem = smooth(3, 0.1, n=64)
    with pytest.raises(UnresolvedError, match=r"dt = 0.05 exceeds the stability limit 0.0\d+ of Runge-Kutta 4 on 21"):
        solve(problem, method="ifrk4", dt=0.05)
    assert solve(problem, method="ifrk4", dt=0.05, check=False).error_estimate == np.inf


def test_step_too_long_for_the_accuracy_is_refused():
    problem = problems.constant_velocity((1.0, 0.0), (2, 0), sigma=0.01, n=16)
    with pytest.raises(UnresolvedError, match=r"estimated error in time .*; shorten dt below 0\.0625"):
        solve(problem, method="ifrk4", dt=1 / 16)


def test_products_may_alias_on_request():
    problem = problems.figure4(n=32, sigma=0.1)
    with_, without = (solve(problem, method="ifrk4", dealias=d, check=False) for d in (True, False))
    assert (with_.n_modes, without.n_modes) == (10, 15)
    # On a resolved problem the aliases are as small as the error.
    smooth_problem = smooth(3, 0.3, n=64)
    with_, without = (solve(smooth_problem, method="ifrk4", dealias=d) for d in (True, False))
    assert sup(with_.u - without.u) <= with_.error_estimate + without.error_estimate


# The door


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": 0.0}, "rtol must be finite and > 0, got rtol=0"),
        ({"rtol": 1.0}, "rtol must be < 1, got rtol=1"),
        ({"rtol": float("nan")}, "rtol must be finite and > 0, got rtol=nan"),
        ({"rtol": "small"}, "rtol must be a number > 0, got rtol='small'"),
        ({"n": 3}, "n must be an integer >= 4, got n=3"),
        ({"n": 16.0}, "n must be an integer, got n=16.0"),
        ({"method": "rk4"}, "method must be one of 'krylov', 'ifrk4', got method='rk4'"),
        ({"dt": 1e-3}, "dt and dealias belong to method='ifrk4', got method='krylov'"),
        ({"dealias": False}, "dt and dealias belong to method='ifrk4', got method='krylov'"),
        ({"dt": 0.0, "method": "ifrk4"}, "dt must be finite and > 0, got dt=0"),
        ({"resolution": -1.0}, "resolution must be finite and > 0, got resolution=-1"),
    ],
)
def test_bad_arguments_are_named_at_the_door(options, message):
    with pytest.raises(ValueError) as refusal:
        solve(problems.fourier_mode(), **options)
    assert str(refusal.value) == message


def test_n_is_needed_where_all_are_callables():
    problem = ConvectionDiffusion(problems.doob().velocity, lambda x: np.cos(2 * np.pi * x[..., 0]), sigma=0.5)
    with pytest.raises(ValueError) as refusal:
        solve(problem)
    assert str(refusal.value) == "n must be given: velocity and terminal data are callables"


def test_unresolved_error_is_public():
    assert pde.UnresolvedError is UnresolvedError
    assert PeriodicField(np.zeros((4, 4))).n == 4


@pytest.mark.parametrize("rtol", (1e-4, 1e-10))
def test_a_constant_velocity_is_solved_without_products(rtol):
    # cos(k (x + v T)) exp(-nu k**2 T): modes do not couple, so no tolerance enters.
    length, horizon, sigma, speed = 3.0, 40.0, 0.1, np.array([0.3, -0.7])
    velocity = np.broadcast_to(speed[:, None, None], (2, 16, 16))
    x = grid.points(32, length)
    k = 2 * np.pi / length * np.array([3, 2])
    problem = pde.ConvectionDiffusion(velocity, np.cos(x @ k), sigma=sigma, horizon=horizon, length=length)
    s = pde.spectral.solve(problem, rtol=rtol)
    exact = np.exp(-(sigma**2) / 2 * (k @ k) * horizon) * np.cos(x @ k + k @ speed * horizon)
    assert s.n_products == 0
    assert np.abs(s.u - exact).max() <= min(2 * s.error_estimate + 1e-14, 1e-12)
    assert s.error_estimate < 1e-12


@pytest.mark.parametrize("length", [1e-300, 1e-160])
def test_a_period_whose_square_is_no_number_is_refused(length):
    problem = pde.ConvectionDiffusion(np.full((2, 8, 8), 0.3 * length), np.eye(8), sigma=0.1 * length, length=length)
    with pytest.raises(ValueError, match="length must be >= 1e-150"):
        solve(problem)
