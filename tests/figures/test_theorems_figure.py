"""The figure of the two theorems: bounds above what they bound, files whole or not at all, errors in one line."""

import json

import numpy as np
import pytest

import figures.__main__
from figures import _io as common
from figures import theorems


@pytest.fixture(scope="module")
def data():
    return theorems.compute(quick=True, seed=0)


def made_up(**changed):
    """Data of the right shapes, of which the answers are known."""
    sizes = {"f": 2, "m": 3, "s": 4, "a": 4, "t": 5, "w": 6}
    numbers = {
        key: np.full([sizes[axis] for axis in axes], 2.0)
        for key, axes in theorems.SHAPES.items()
        if key not in theorems.TEXTS
    }
    texts = {"smooth_family": np.array(["one", "other"]), "rough_method": np.array(["spectral"] * 4)}
    axes = {
        "smooth_sigma": [0.1, 0.2, 0.3], "rough_sigma": [0.01, 0.03, 0.1, 0.3], "time": np.linspace(0.2, 1, 5),
        "wide_sigma": np.linspace(0.5, 2.5, 6), "alpha": [0.25, 0.5, 0.75, 1.0],
        "smooth_sharp": [[8.0, 6.0, 5.0], [9.0, 4.0, 7.0]],
        "wide_measured": [2.0, 2.0, 2.5, 2.0, 2.0, 2.0], "rough_published": [1e90] * 4, "rough_n": 48.0,
    }  # fmt: skip
    return numbers | texts | {key: np.array(value) for key, value in axes.items()} | changed


def run(*arguments):
    theorems.main([str(argument) for argument in arguments])


def test_quick_run_shows_the_bounds_kept_and_the_printed_one_broken(data):
    assert theorems._sound(data, "here") is data
    # Monte Carlo, for two sigma: the half-difference of two runs stands for the noise, twice for the pairs' maximum.
    assert set(data["rough_method"]) == {"spectral", "Feynman-Kac"}
    assert (data["rough_noise"] > 0).tolist() == (data["rough_method"] == "Feynman-Kac").tolist()
    assert (data["rough_measured"] <= data["rough_sharp"] + 2 * data["rough_noise"]).all()
    assert (data["hoelder"] <= data["hoelder_bound"] + 2 * data["hoelder_noise"]).all()
    for kind in ("smooth", "time", "wide"):
        assert (data[f"{kind}_measured"] <= data[f"{kind}_sharp"]).all()
        assert (data[f"{kind}_sharp"] <= data[f"{kind}_corrected"] * (1 + 1e-12)).all()
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


def test_command_writes_picture_data_and_provenance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theorems, "compute", lambda **_: made_up())
    run("--quick", "--seed", 3, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theorems.json", "theorems.npz", "theorems.png"]
    assert capsys.readouterr().out.split() == [str(tmp_path / f"theorems.{end}") for end in ("png", "npz", "json")]
    record = json.loads((tmp_path / "theorems.json").read_text())
    assert record["arguments"]["seed"] == 3
    assert record["counterexample"]["exact"] == 2.0


def test_replot_draws_the_same_picture_and_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(theorems, "compute", lambda **_: made_up())
    run("--out", tmp_path)
    first = (tmp_path / "theorems.png").read_bytes()
    (tmp_path / "theorems.png").unlink()
    monkeypatch.setattr(theorems, "compute", None)
    run("--replot", "--out", tmp_path)
    assert (tmp_path / "theorems.png").read_bytes() == first


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"time_sharp": np.ones(3)}, "time_sharp"),
        ({"hoelder": np.full((4, 4), np.nan)}, "hoelder"),
        ({"smooth_family": np.array([1.0, 2.0])}, "smooth_family"),
    ],
)
def test_damaged_data_are_refused(changed, what, tmp_path, capsys):
    np.savez(tmp_path / "theorems.npz", **made_up(**changed))
    with pytest.raises(SystemExit) as stop:
        run("--replot", "--out", tmp_path)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert f"({what}: " in message
    assert "run without --replot" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--seed", "-1"], "--seed must be >= 0, got -1"), (["--replot"], "run without --replot first")],
)
def test_bad_arguments_end_in_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--out", tmp_path / "new")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_negative_seed_is_refused_by_compute():
    with pytest.raises(ValueError, match="--seed must be >= 0, got -2"):
        theorems.compute(quick=True, seed=-2)


def test_the_figure_is_listed(capsys):
    figures.__main__.main(["--list"])
    assert "theorems " in capsys.readouterr().out


def test_picture_is_drawn_from_the_quick_data(data, tmp_path):
    common.use_style()
    common.save_picture(theorems.plot(data), tmp_path / "theorems.png")
    assert (tmp_path / "theorems.png").stat().st_size > 20_000
