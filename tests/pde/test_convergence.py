"""Orders, norms and z-scores against closed forms and SciPy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pde import convergence

EPS = np.finfo(float).eps


@given(st.floats(-3, 6), st.floats(1e-3, 1e3), st.integers(2, 6))
def test_a_power_law_has_its_order_and_constant(order, constant, count):
    h = 0.5 ** np.arange(count)
    fit = convergence.observed_order(h, constant * h**order)
    # Logarithms up to 25 carry 25 eps; the slope divides by log 2, the constant multiplies by up to log 32 = 3.5.
    assert fit.order == pytest.approx(order, abs=100 * EPS)
    assert fit.constant == pytest.approx(constant, rel=400 * EPS)
    assert fit.stderr < 100 * EPS


def test_the_order_of_scattered_errors_is_scipys_regression():
    rng = np.random.default_rng(0)
    h = rng.uniform(0.01, 1, 20)
    errors = 3 * h**1.7 * np.exp(0.2 * rng.standard_normal(20))
    fit, line = convergence.observed_order(h, errors), scipy.stats.linregress(np.log(h), np.log(errors))
    # Sums of 20 terms of size up to 20.
    assert fit.order == pytest.approx(line.slope, rel=1e3 * EPS)
    assert fit.stderr == pytest.approx(line.stderr, rel=1e4 * EPS)
    assert fit.constant == pytest.approx(np.exp(line.intercept), rel=1e3 * EPS)


def test_two_points_have_a_line_and_no_scatter():
    fit = convergence.observed_order([1.0, 0.5], [8.0, 1.0])
    assert fit.order == pytest.approx(3, rel=8 * EPS)
    assert fit.stderr == 0


@pytest.mark.parametrize(
    ("h", "errors", "message"),
    [
        ([1, 0.5], [1], r"one shape \(m,\), got \(2,\) and \(1,\)"),
        ([[1, 0.5]], [[1, 0.5]], r"one shape \(m,\), got \(1, 2\)"),
        ([0.5], [1], "at least two different step sizes"),
        ([0.5, 0.5], [1, 2], "at least two different step sizes"),
        ([], [], "at least two different step sizes"),
        ([1, 0], [1, 1], "h and errors must be > 0"),
        ([1, -0.5], [1, 1], "h and errors must be > 0"),
        ([1, 0.5], [1, 0], "h and errors must be > 0"),
        ([1, 0.5], [1, np.nan], "errors must be finite"),
        ([1, np.inf], [1, 1], "h must be finite"),
        ([1, 0.5], ["1", "2"], "errors must be an array of real numbers"),
    ],
)
def test_an_order_needs_positive_numbers_at_two_step_sizes(h, errors, message):
    with pytest.raises(ValueError, match=message):
        convergence.observed_order(h, errors)


@given(arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-1e3, 1e3)))
def test_norms_are_those_of_numpy(values):
    assert convergence.sup_norm(values) == np.linalg.norm(values.ravel(), np.inf)
    # Squares below the smallest number are lost: 1e-150 stands for their root.
    expected = np.linalg.norm(values.ravel()) / np.sqrt(values.size)
    assert convergence.l2_norm(values) == pytest.approx(expected, rel=16 * EPS, abs=1e-150)


def test_the_l2_norm_of_a_wave_is_its_amplitude_over_the_root_of_two():
    wave = 3 * np.sin(2 * np.pi * np.arange(16) / 16)
    assert convergence.l2_norm(wave[:, None] * np.ones(16)) == pytest.approx(3 / np.sqrt(2), rel=16 * EPS)
    assert convergence.sup_norm(-wave) == 3
    assert convergence.sup_norm(-2.5) == convergence.l2_norm(-2.5) == 2.5


@pytest.mark.parametrize("norm", (convergence.sup_norm, convergence.l2_norm))
def test_norms_of_nothing_or_of_no_numbers_are_refused(norm):
    with pytest.raises(ValueError, match="values must not be empty"):
        norm([])
    with pytest.raises(ValueError, match="values must be finite, got 1 non-finite of 2 values"):
        norm([1.0, np.nan])
    with pytest.raises(ValueError, match="values must be an array of real numbers"):
        norm([1j])


def test_z_scores_count_standard_errors_above_the_reference():
    scores = convergence.z_scores([[1.0, 2.0], [3.0, 4.0]], [[0.5, 1.0], [2.0, 4.0]], [[0.0, 3.0], [3.0, 2.0]])
    assert (scores == [[2.0, -1.0], [0.0, 0.5]]).all()


def test_z_scores_of_means_are_standard_normal():
    samples = np.random.default_rng(0).standard_normal((2000, 400)) + 3
    scores = convergence.z_scores(samples.mean(axis=1), samples.std(axis=1, ddof=1) / 20, np.full(2000, 3.0))
    # Student's law with 399 degrees, to Kolmogorov-Smirnov at 2000 scores: fails for one seed in a million.
    assert scipy.stats.kstest(scores, scipy.stats.t(399).cdf).pvalue > 1e-6


def test_z_scores_need_noise():
    for stderr in ([0.1, 0.0], [0.1, -0.1]):
        with pytest.raises(ValueError, match="stderr must be > 0: an estimate without noise has no z-score"):
            convergence.z_scores([1.0, 1.0], stderr, [1.0, 1.0])
    for place, name in enumerate(("mean", "stderr", "reference")):
        arguments = [[1.0], [1.0], [1.0]]
        arguments[place] = [np.inf]
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            convergence.z_scores(*arguments)


@given(st.integers(1, 10**6), st.floats(1e-12, 0.5))
def test_the_threshold_has_the_false_alarm_rate_by_bonferroni(n_scores, false_alarm):
    z = convergence.z_threshold(n_scores, false_alarm)
    # The normal tail falls by a factor exp(z dz): an error of a few eps in z is some hundred in the tail.
    assert n_scores * 2 * scipy.stats.norm.sf(z) == pytest.approx(false_alarm, rel=1e-10)


def test_the_threshold_is_exceeded_as_often_as_it_says():
    n_trials, false_alarm = 20000, 0.05
    z = np.random.default_rng(0).standard_normal((n_trials, 10))
    rate = (np.abs(z).max(axis=1) > convergence.z_threshold(10, false_alarm)).mean()
    # Independent scores: 1 - (1 - 0.05 / 10)**10. Five standard errors of a proportion, false alarms below 1e-6.
    exact = 1 - (1 - false_alarm / 10) ** 10
    assert abs(rate - exact) < 5 * np.sqrt(exact * (1 - exact) / n_trials)


@pytest.mark.parametrize("n_scores", (0, -1, 2.5))
def test_a_threshold_needs_a_positive_number_of_scores(n_scores):
    with pytest.raises(ValueError, match="n_scores must be an integer"):
        convergence.z_threshold(n_scores)


@pytest.mark.parametrize("false_alarm", (0, 1, -0.1, 2, np.nan))
def test_a_threshold_needs_a_probability(false_alarm):
    with pytest.raises(ValueError, match=r"false_alarm must lie in \(0, 1\), got false_alarm="):
        convergence.z_threshold(4, false_alarm)


def test_relative_noise_is_the_standard_error_over_the_size_of_the_bias():
    assert (convergence.relative_noise([1.0, 1.0], [-4.0, 2.0]) == [0.25, 0.5]).all()
    with pytest.raises(ValueError, match="bias must not be 0"):
        convergence.relative_noise([1.0, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="stderr must be finite"):
        convergence.relative_noise([np.nan], [1.0])
