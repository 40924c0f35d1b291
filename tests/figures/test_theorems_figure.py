"""The figure of the two theorems: bounds above what they bound, and its files."""

import numpy as np
import pytest

from figures import _io as common
from figures import _style, theorems

TEXTS = ("smooth_family", "rough_method")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "smooth_family": "f", "smooth_sigma": "m", "smooth_gamma": "f", "smooth_n": "fm", "smooth_measured": "fm",
    "smooth_bismut": "fm", "smooth_bismut_stderr": "fm", "rough_bismut": "s", "rough_bismut_stderr": "s",
    "smooth_published": "fm", "smooth_corrected": "fm", "smooth_sharp": "fm",
    "rough_sigma": "s", "rough_gamma": "", "rough_n": "", "rough_method": "s", "rough_measured": "s",
    "rough_noise": "s", "rough_published": "s", "rough_corrected": "s", "rough_sharp": "s",
    "alpha": "a", "hoelder": "sa", "hoelder_noise": "sa", "hoelder_bound": "sa", "exponent": "", "exponent_stderr": "",
    "radius": "", "threshold": "", "any_threshold": "", "time_sigma": "",
    "time": "t", "time_measured": "t", "time_exact": "t", "time_published": "t", "time_corrected": "t",
    "time_sharp": "t",
    "wide_sigma": "w", "wide_measured": "w", "wide_exact": "w", "wide_published": "w", "wide_corrected": "w",
    "wide_sharp": "w",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return theorems.compute(quick=True, seed=0)


def made_up(**changed):
    """Data of the right shapes, of which the answers are known."""
    sizes = {"f": 2, "m": 3, "s": 4, "a": 4, "t": 5, "w": 6}
    numbers = {key: np.full([sizes[axis] for axis in axes], 2.0) for key, axes in SHAPES.items() if key not in TEXTS}
    texts = {"smooth_family": np.array(["one", "other"]), "rough_method": np.array(["spectral"] * 4)}
    axes = {
        "smooth_sigma": [0.1, 0.2, 0.3], "rough_sigma": [0.01, 0.03, 0.1, 0.3], "time": np.linspace(0.2, 1, 5),
        "wide_sigma": np.linspace(0.5, 2.5, 6), "alpha": [0.25, 0.5, 0.75, 1.0],
        "smooth_sharp": [[8.0, 6.0, 5.0], [9.0, 4.0, 7.0]],
        "wide_measured": [2.0, 2.0, 2.5, 2.0, 2.0, 2.0], "rough_published": [1e90] * 4, "rough_n": 48.0,
    }  # fmt: skip
    return numbers | texts | {key: np.array(value) for key, value in axes.items()} | changed


def test_quick_run_shows_the_bounds_kept_and_the_printed_one_broken(data):
    # Monte Carlo, for two sigma: the half-difference of two runs stands for the noise, twice for the pairs' maximum.
    assert set(data["rough_method"]) == {"spectral", "Feynman-Kac"}
    assert (data["rough_noise"] > 0).tolist() == (data["rough_method"] == "Feynman-Kac").tolist()
    assert (data["rough_measured"] <= data["rough_sharp"] + 2 * data["rough_noise"]).all()
    assert (data["hoelder"] <= data["hoelder_bound"] + 2 * data["hoelder_noise"]).all()
    for kind in ("smooth", "time", "wide"):
        assert (data[f"{kind}_measured"] <= data[f"{kind}_sharp"]).all()
        assert (data[f"{kind}_sharp"] <= data[f"{kind}_corrected"] * (1 + 1e-12)).all()
    # Two ways to one slope, for 8 values; Euler's bias in steps of 1/100 is about gamma / 200.
    gap = np.abs(data["smooth_bismut"] - data["smooth_measured"])
    bias = data["smooth_gamma"][:, None] / 200 * data["smooth_measured"]
    assert (gap <= bias + 5 * data["smooth_bismut_stderr"]).all()
    assert (data["smooth_bismut_stderr"] < data["smooth_measured"] / 3)[:, 0].all()
    # (b) fails beyond the threshold and nowhere else; the solver and the closed form agree.
    beyond = data["wide_sigma"] > data["threshold"]
    assert 0 < beyond.sum() < len(beyond)
    assert ((data["wide_measured"] > data["wide_published"]) == beyond).all()
    assert (data["time_measured"] > data["time_published"])[-1]
    for panel in ("time", "wide"):
        assert data[f"{panel}_measured"] == pytest.approx(data[f"{panel}_exact"], rel=1e-6)
    # The smoothing is seen: more sigma, less slope.
    assert (np.diff(data["smooth_measured"], axis=1) < 0).all()


def test_findings_of_made_up_data():
    found = theorems.findings(made_up())
    assert list(found["gradients"]) == ["grid-noise", "one", "other"]
    assert found["gradients"]["one"]["smallest_sharp_over_measured"] == pytest.approx(2.5)
    assert found["gradients"]["other"]["smallest_sharp_over_measured"] == pytest.approx(2.0)
    assert found["gradients"]["grid-noise"]["smallest_published_over_measured"] == pytest.approx(5e89)
    assert found["counterexample"]["largest_relative_error"] == pytest.approx(0.25)


def test_command_writes_files_and_replot_draws_the_same_picture(check_command):
    record, _, _ = check_command(theorems, "--quick", "--seed", 3, data=made_up())
    assert record["arguments"]["seed"] == 3
    assert record["counterexample"]["exact"] == 2.0


def test_picture_is_drawn_from_the_quick_data(data, tmp_path):
    _style.use_style()
    common.save_picture(theorems.plot(data), tmp_path / "theorems.png")
    assert (tmp_path / "theorems.png").stat().st_size > 20_000


def test_the_half_difference_of_two_estimates_is_as_noisy_as_their_mean():
    rng, truth = np.random.default_rng(0), 3.0
    mean, noise = theorems._mean_and_noise(truth + rng.normal(size=40_000), truth + rng.normal(size=40_000))
    # Both have the deviation 1 / sqrt(2), known to 1 / sqrt(80 000) of itself; five of these are passed with 6e-7.
    for values in (mean - truth, noise):
        assert values.std() == pytest.approx(np.sqrt(0.5), rel=5 / np.sqrt(80_000))
    assert abs(noise.mean()) < 5 * np.sqrt(0.5 / 40_000)


def test_the_steepest_pair_of_neighbours():
    u = np.zeros((8, 8))
    # Across the seam in y: down from 3 to -2.
    u[2, 7], u[2, 0] = 3.0, -2.0
    place, way = theorems._steepest_pair(u)
    assert place == pytest.approx([2 / 8, 7.5 / 8])
    assert way.tolist() == [0.0, -1.0]
