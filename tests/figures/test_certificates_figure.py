"""The figure of the certificates: radii below the distance of a closed form, findings of made-up data, the command."""

import json

import numpy as np
import pytest

import pde
from figures import _style, certificates


def test_radii_of_a_plane_wave_are_below_its_distance_and_the_local_one_reaches_it():
    velocity, k = (0.7, -0.4), np.array([1, 2])
    problem = pde.problems.constant_velocity(velocity, tuple(k), sigma=0.15, n=32)
    found = certificates.measure(problem, 16)
    # cos(2 pi k . (x + v)) vanishes on lines; the distance is that of the phase to the nearest quarter.
    phase = (pde.grid.points(16) + velocity) @ k
    distance = np.abs(np.mod(phase, 0.5) - 0.25) / np.linalg.norm(k)
    clear = distance > 1e-3
    # The boundary is covered by squares of side 1 / 2048: centres lie within half a diagonal, two of them to the side.
    np.testing.assert_allclose(found["distance"][clear], distance[clear], atol=4 * certificates.RESOLUTION)
    assert (found["distance"][clear] >= distance[clear] - 1e-9).all()
    for kind in certificates.KINDS:
        assert (found[kind] <= distance + 1e-9).all()
    assert np.median((found["local"] / distance)[clear]) > 0.98
    # For v constant the smoothing certificate is Cohen's: sigma Phi^-1 of (u + 1) / 2, which is positive off the lines.
    assert (found["smoothing"][clear] > 0).all()


@pytest.fixture(scope="module")
def data():
    """Made-up data of which the quartiles are known."""
    u = np.ones((2, 8, 8))
    u[:, ::2] = -0.5
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    return {
        "sigma": np.array([0.1, 0.3]), "u": u, "distance": np.full((2, 8, 8), 0.2), "sharp": np.full((2, 8, 8), 0.05),
        "smoothing": 0.2 * np.stack([ramp, ramp / 2]), "local": np.full((2, 8, 8), 0.1),
    }  # fmt: skip


def test_findings_are_the_quartiles_of_the_shares(data):
    first, second = certificates.findings(data)["certified_over_true"]
    assert first["median_distance"] == pytest.approx(0.2)
    for row, factor in ((first, 1), (second, 0.5)):
        assert row["sharp"] == pytest.approx({"quartile_1": 0.25, "median": 0.25, "quartile_3": 0.25})
        smoothing = {"quartile_1": 0.25 * factor, "median": 0.5 * factor, "quartile_3": 0.75 * factor}
        assert row["smoothing"] == pytest.approx(smoothing)
    # The largest of 1/4, the ramp and 1/2, and of 1/4, half the ramp and 1/2.
    assert first["largest"]["quartile_3"] == pytest.approx(0.75)
    assert second["largest"]["quartile_3"] == pytest.approx(0.5)
    assert (first["most"], second["most"]) == pytest.approx((1.0, 0.5))


def test_table_has_a_row_for_each_sigma(data):
    lines = certificates.table(certificates.findings(data)).splitlines()
    assert lines[0] == "| σ | median distance | sharp | smoothing | local | largest |"
    # Of 64 points the median is the mean of the two in the middle, of which one is cut off at 1/2.
    assert lines[2:] == [
        "| 0.1 | 0.2000 | 0.250 | 0.500 | 0.500 | 0.504 |", "| 0.3 | 0.2000 | 0.250 | 0.250 | 0.500 | 0.500 |",
    ]  # fmt: skip


def test_picture_shows_the_arrays(data):
    _style.use_style()
    axes = [one for one in certificates.plot(data).axes if one.get_title(loc="left")]
    assert [one.get_title(loc="left")[:3] for one in axes] == [f"({letter})" for letter in "abcdef"]
    assert all("length" in one.get_xlabel() and "length" in one.get_ylabel() for one in axes[:5])
    # The radii share one scale.
    scales = [(one.collections[0].norm.vmin, one.collections[0].norm.vmax) for one in axes[1:5]]
    assert scales == [pytest.approx((2e-4, 0.2))] * 4
    lines = {line.get_label(): line for line in axes[5].containers}
    medians = {"sharp": [0.25, 0.25], "smoothing": [0.5, 0.25], "local": [0.5, 0.5]}
    for kind, values in medians.items():
        assert lines[kind].lines[0].get_ydata() == pytest.approx(values)


def test_quick_run_certifies_no_more_than_the_truth(tmp_path, capsys):
    certificates.main(["--quick", "--out", str(tmp_path)])
    assert "| σ | median distance |" in capsys.readouterr().out
    found = json.loads((tmp_path / "certificates.json").read_text())["certified_over_true"]
    for row in found:
        assert row["most"] <= 1
        assert row["local"]["median"] > 0.9
        assert 0 < row["sharp"]["median"] <= row["largest"]["median"]
