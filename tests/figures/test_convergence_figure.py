"""The figure of the convergence: networks against the equation's own solvers, slopes of known errors, files, errors."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import pde
from bridge import network_from_velocity
from bridge.noise import NOISES
from figures import _io as common
from figures import _style, convergence

FALSE_ALARM = 1e-6


@pytest.fixture(scope="module")
def data():
    return convergence.compute(quick=True, seed=0)


def made_up(**changed):
    """Errors that follow the theory: 0.5 / L, and 1 / sqrt(N)."""
    n_layers, n_draws = np.array([4.0, 8, 16, 32]), np.array([4.0, 16, 64])
    bias = np.stack([0.5 / n_layers, 0.75 / n_layers])
    return {
        "law": np.array(["gaussian", "laplace"]), "n_layers": n_layers, "bias": bias, "bias_stderr": 0.02 * bias,
        "n_bias_draws": np.array(100.0), "n_bias_points": np.array(8.0), "depth": n_layers[[0, -1]],
        "n_draws": n_draws, "error": np.tile(1 / np.sqrt(n_draws), (2, 2, 1)), "depth_bias": bias[:, [0, -1]],
        "n_error_points": np.array(64.0), "sigma": np.array(0.2), "horizon": np.array(1.0),
    } | changed  # fmt: skip


def test_quick_run_shows_both_orders_for_both_laws(data):
    found = convergence.findings(data)
    for law in NOISES:
        depth, draws = found["order_in_depth"][law], found["order_in_draws"][law]
        # No depth is too noisy for the fit.
        assert depth["n_layers"] == data["n_layers"].tolist()
        # 4.9 standard errors are passed with probability 1e-6. The next term of the bias, C dt (1 + r dt), moves a
        # slope over dt = 1/4 ... 1/32 by 0.085 r, and 0.05 allows |r| = 0.6.
        assert abs(depth["order"] - 1) < 0.05 + 4.9 * depth["stderr"]
        # Errors add in squares: a bias of a fifth of the error raises it by 0.02, and the slope over three
        # numbers or more, log(2) apart, by 0.02 / log(4) at most.
        assert abs(draws["order"] - 0.5) < 0.015 + 4.9 * draws["stderr"]
        assert len(draws["n_draws"]) >= 3


@pytest.mark.parametrize("row", range(len(NOISES)))
def test_control_has_the_mean_zero_and_takes_most_of_the_variance(row):
    problem, n_draws = convergence._problem(), 4000
    points = torch.from_numpy(np.random.default_rng(0).random((6, 2)))
    net = network_from_velocity(problem, 8, noise=NOISES[row])
    generator = torch.Generator().manual_seed(1)
    fields = convergence._derivatives(problem, 8)
    values, control = convergence._draws(net, fields, points, n_draws, NOISES[row], generator)
    z = control.mean(dim=0) / (control.std(dim=0) / math.sqrt(n_draws))
    assert z.abs().max() < pde.convergence.z_threshold(6, FALSE_ALARM)
    # What is left is of third order in the noise: s**3 q**3 dt / sqrt(6) against s q, s q = 1.3 and dt = 1/8.
    assert ((values - control).var(dim=0) < 0.2 * values.var(dim=0)).all()


def test_expectation_of_the_network_is_that_of_the_equations_own_paths():
    problem, n_layers = convergence._problem(), 4
    points = np.random.default_rng(3).random((8, 2))
    net = network_from_velocity(problem, n_layers)
    fields = convergence._derivatives(problem, n_layers)
    generator = torch.Generator().manual_seed(4)
    values, control = convergence._draws(net, fields, torch.from_numpy(points), 4000, "gaussian", generator)
    ours = values - control
    theirs = pde.feynman_kac.estimate(problem, points, 100_000, n_layers, 5)
    noise = np.hypot(theirs.stderr, (ours.std(dim=0) / math.sqrt(4000)).numpy())
    scores = (ours.mean(dim=0).numpy() - theirs.mean) / noise
    assert np.abs(scores).max() < pde.convergence.z_threshold(8, FALSE_ALARM)


def test_root_mean_square_and_its_noise_are_those_of_many_repetitions():
    generator, exact = torch.Generator().manual_seed(0), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    bias, n_draws, n_repetitions = torch.tensor([0.3, -0.4, 0.1], dtype=torch.float64), 400, 500
    noise = torch.randn(n_repetitions, n_draws, 3, generator=generator, dtype=torch.float64)
    pairs = [convergence._root_mean_square(exact + bias + draws, exact) for draws in noise]
    rms, stderr = np.array(pairs).T
    # 500 normals know their deviation to 1 / sqrt(1000) of itself; 4.9 of these are passed with probability 1e-6. The
    # squared noise, 1 / 400 a point, adds 1 / 800 / rms to the mean, and a part as small to the deviation.
    assert abs(rms.std(ddof=1) / stderr.mean() - 1) < 4.9 / math.sqrt(1000) + 0.02
    true = math.sqrt(float(bias.square().mean()))
    assert abs(rms.mean() - true) < 1 / 800 / true + 4.9 * stderr.mean() / math.sqrt(n_repetitions)


def test_findings_of_errors_of_known_orders():
    found = convergence.findings(made_up())
    for law, constant in (("gaussian", 0.5), ("laplace", 0.75)):
        depth = found["order_in_depth"][law]
        assert (depth["order"], depth["constant"]) == pytest.approx((1.0, constant))
        # Points log(2) apart, of independent noise of 0.02 each: 0.02 / (log(2) sqrt(5)).
        assert depth["stderr"] == pytest.approx(0.02 / (math.log(2) * math.sqrt(5)))
    # N = 64: an error of 1/8 on a bias of 0.5 / 32.
    assert found["order_in_draws"]["gaussian"]["order"] == pytest.approx(0.5)
    assert found["order_in_draws"]["gaussian"]["n_draws"] == [4, 16, 64]
    # ... and of 0.75 / 32, which it does not exceed six times.
    assert found["order_in_draws"]["laplace"]["n_draws"] == [4, 16, 64]


def test_errors_that_drown_in_noise_are_left_out():
    noisy = made_up()["bias_stderr"].copy()
    noisy[0, 3], noisy[1, 1:] = 1.0, 1.0
    found = convergence.findings(made_up(bias_stderr=noisy))["order_in_depth"]
    assert found["gaussian"]["n_layers"] == [4, 8, 16]
    assert found["laplace"]["order"] is None
    _style.use_style()
    texts = [text.get_text() for text in convergence.plot(made_up(bias_stderr=noisy)).axes[0].get_legend().get_texts()]
    assert texts == ["Gaussian: slope −1.000 ± 0.020 (theory −1)", "Laplace: no slope: too noisy"]


def test_command_writes_files_and_replot_draws_the_same_picture(check_command):
    record, _, _ = check_command(convergence, "--quick", "--seed", 3, data=made_up())
    assert record["arguments"]["seed"] == 3
    assert record["order_in_depth"]["laplace"]["order"] == pytest.approx(1)


def test_picture_is_drawn_from_the_quick_data(data, tmp_path):
    _style.use_style()
    common.save_picture(convergence.plot(data), tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 15_000
