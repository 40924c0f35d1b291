"""The figure of the gradients: the closed form of the variance by a second way, and what the quick run shows of it."""

import numpy as np
import pytest
import scipy.integrate

from figures import _style, gradients

K = 2 * np.pi


@pytest.fixture(scope="module")
def data():
    return gradients.compute(quick=True, seed=0)


def test_the_variance_of_a_path_is_its_integral():
    # By the normal law of X_T - x instead of series: f = cos(2 pi x), both components, mean over x.
    sigma, horizon = 0.17, 0.8
    spread = sigma * np.sqrt(horizon)
    x = np.arange(64) / 64
    # Trapezoidal rule over eight deviations each way: exact to rounding for a Gaussian times a wave.
    b = np.linspace(-8, 8, 2001)
    weight = np.exp(-(b**2) / 2) / np.sqrt(2 * np.pi)
    f = np.cos(K * (x[:, None] + spread * b))

    def mean(values):
        return scipy.integrate.trapezoid(weight * values, b, axis=-1)

    u = mean(f)
    along = mean(((f - u[:, None]) * b) ** 2) - mean((f - u[:, None]) * b) ** 2
    # Across x the increment is independent of f, of variance 1 and mean 0.
    across = mean((f - u[:, None]) ** 2)
    assert gradients.bismut_variance("wave", sigma, horizon) == pytest.approx(
        np.mean(along + across) / spread**2, rel=1e-9
    )
    slope = -K * np.sin(K * (x[:, None] + spread * b))
    assert gradients.pathwise_variance("wave", sigma, horizon) == pytest.approx(
        np.mean(mean(slope**2) - mean(slope) ** 2), rel=1e-9
    )
    # Its limit for little noise: 3 <|grad f|**2>, to order (sigma K)**2 T; the pathwise one vanishes.
    assert gradients.bismut_variance("wave", 1e-3, 1.0) == pytest.approx(3 * K**2 / 2, rel=1e-4)


def test_stripes_have_their_energy_and_no_slope():
    f, u, steep, slope = gradients.squares("stripes", 0.3, 1.0)
    # The tail of sum 8 / (pi m)**2 over odd m > M is below 4 / (pi**2 M).
    assert 0 < 1 - f < 4 / (np.pi**2 * (gradients.N_MODES - 2))
    assert steep > 1e4 > slope > 0
    assert u < f
    assert gradients.pathwise_variance("stripes", 0.3, 1.0) == np.inf


def test_quick_run_agrees_with_the_closed_form(data):
    found = gradients.findings(data)
    # 100 points of 512 paths: the variance is known to a few per cent; the pilot's b adds up to a 64th of it.
    assert found["largest_relative_gap_to_the_closed_form"] < 0.05
    one_path = found["one_path"]
    # Bismut is the better one for large sigma, the pathwise formula for small.
    better = np.array(one_path["wave_bismut"]["sd"]) < np.array(one_path["wave_pathwise"]["sd"])
    assert better.tolist() == [False, False, True, True]
    # The window pays where the flow has stretched for long, and never costs much.
    assert data["time_window"][-1] < 0.7 * data["time_whole"][-1]
    assert (data["time_window"] < 1.15 * data["time_whole"]).all()
    assert (data["time_pathwise"][-1] > 10 * data["time_window"][-1]).all()


def test_sobol_points_err_less(data):
    found = gradients.findings(data)["error"]
    for method in found.values():
        assert method["independent"]["variance_gain"] == [1, 1]
        assert method["Sobol"]["rms"][-1] < method["independent"]["rms"][-1]
    _style.use_style()
    assert len(gradients.plot(data).axes) == 3
