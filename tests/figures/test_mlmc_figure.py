"""The figure of cost against accuracy: slopes as in theory, and its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from figures import _io as common
from figures import _style, mlmc


@pytest.fixture(scope="module")
def data():
    return mlmc.compute(quick=True, seed=0)


def made_up(**changed):
    """Data of which the answers are known."""
    factors = 1, 0.5, 100, 1e3, 1e4
    asked, n_steps = 2.0 ** -np.arange(5.0, 9.0), 8 * 2.0 ** np.arange(7)
    return {
        "asked": asked, "error": asked, "cost": 3 * asked**-2, "n_levels": 0 * asked + 4, "plain_asked": asked[:3],
        "solve_asked": asked, "solve_error": asked, "solve_cost": asked**-1.5,
        "plain_error": asked[:3], "plain_cost": asked[:3] ** -3, "plain_n_steps": 1 / asked[:3],
        "level_n_steps": n_steps, "level_variance": n_steps**-2, "level_mean": 1 / n_steps,
        "level_noise": 0.1 / n_steps,
        "option": np.array(["pairs", "control"]), "gain_per_step": np.array([2.0, 30.0]),
        "gain_per_second": np.array([1.5, 20.0]), "n_points": np.array(48.0), "option_n_steps": np.array(64.0),
        "option_n_paths": np.array(1024.0),
        # After solve_to, every method is asked for one error less, and its time is a factor more, or half.
        "timed_method": np.array(["ours: solve_to"] * 5 + ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]),
        "timed_requested": 10.0 ** -np.concatenate([np.arange(n) for n in (5, 4, 3, 2, 1)]),
        "timed_error": 10.0 ** -np.concatenate([np.arange(n) for n in (5, 4, 3, 2, 1)]),
        "timed_time": np.concatenate([factor * 4.0 ** np.arange(5 - k) for k, factor in enumerate(factors)]),
        "timed_n_points": np.array(64), "timed_at": np.array("0123abc"),
    } | changed  # fmt: skip


def test_quick_run_has_the_shapes_and_slopes(data):
    found = mlmc.findings(data)
    slopes = found["slopes"]
    # 48 points tell an error to 1 / sqrt(96) = 0.10: over three halvings the slopes have an s.d. of p * 0.1 / (log 2
    # sqrt(5)), 0.13 and 0.2; a level more or less is up to 0.2.
    assert abs(slopes["multilevel_cost"]["order"] + 2) < 0.9
    assert abs(slopes["plain_cost"]["order"] + 3) < 1.0
    assert abs(slopes["level_mean"]["order"] - 1) < 0.2
    # Below 2, because neighbouring paths part by exp(T max |grad v|) before the steps are small.
    assert 1.3 < slopes["level_variance"]["order"] < 2.3
    # The error asked, with five times 0.10 of noise in what is measured.
    assert (data["error"] < 1.5 * data["asked"]).all()
    assert (data["plain_error"] < 1.6 * data["plain_asked"]).all()
    # Points share their paths here, so their errors rise and fall together: Student's t with 31 degrees of freedom.
    assert (data["solve_error"] < 4 * data["solve_asked"]).all()
    assert found["cost_ratio"]["multilevel_over_solve_to"] > 2
    assert found["gain_per_step"]["spectral martingale"] > 10


def test_findings_recover_the_slopes_of_made_up_data():
    found = mlmc.findings(made_up())
    orders = {name: round(fit["order"], 9) for name, fit in found["slopes"].items()}
    expected = {"multilevel_cost": -2, "plain_cost": -3, "solve_cost": -1.5, "level_variance": 2, "level_mean": 1}
    assert orders == expected
    # 128**3 / (3 * 128**2), at the smallest error that plain Monte Carlo was asked for.
    assert found["cost_ratio"] == {
        "error": 2.0**-7,
        "plain_over_multilevel": pytest.approx(128 / 3),
        "multilevel_over_solve_to": pytest.approx(3 * np.sqrt(128)),
    }
    assert found["gain_per_second"] == {"pairs": 1.5, "control": 20.0}
    ratios = {name: (value["error"], value["ratio"]) for name, value in found["time_over_solve_to"].items()}
    assert ratios == {
        "ours: solve_to": (1e-4, 1), "a": (1e-3, 0.5), "b": (1e-2, 100), "c": (0.1, 1000), "d": (1, 10_000),
    }  # fmt: skip


def test_times_are_those_of_the_record(data):
    rows = json.loads((Path(__file__).resolve().parents[2] / "results" / mlmc.RECORD).read_text())["rows"]
    assert data["timed_time"].tolist() == [np.median(row["seconds"]) for row in rows]
    assert data["timed_method"].tolist() == [f"{row['tool']}: {row['method']}" for row in rows]
    # The record reaches the error that the figure is for.
    assert data["timed_requested"].min() == 1e-4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rows": []}', '{"rows": [{"tool": 1}], "machine": 3}'])
def test_record_of_times_that_cannot_be_read_is_refused_before_anything_is_computed(content, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / mlmc.RECORD).write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"work_precision.json cannot be read .*: python benchmarks/work_precision"):
        mlmc.compute(quick=True)


def test_results_of_another_project_in_this_directory_do_not_hide_the_record(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(mlmc._timed()["timed_time"]) > 10


def test_bars_of_gains_begin_at_no_gain():
    _, _, gains, _ = mlmc.plot(made_up(gain_per_second=np.array([0.5, 20.0]))).axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for container in gains.containers for bar in container]
    assert bars == [(1, 2), (1, 30), (1, 0.5), (1, 20)]


def test_command_writes_files_and_replot_draws_the_same_picture(check_command):
    record, _, _ = check_command(mlmc, "--quick", "--seed", 3, data=made_up())
    assert record["arguments"]["seed"] == 3
    assert record["slopes"]["plain_cost"]["order"] == pytest.approx(-3)


def test_picture_is_drawn_from_the_quick_data(data, tmp_path):
    _style.use_style()
    common.save_picture(mlmc.plot(data), tmp_path / "mlmc.png")
    assert (tmp_path / "mlmc.png").stat().st_size > 20_000


def test_a_record_without_the_peers_is_drawn_and_a_file_named_results_is_no_directory(tmp_path, monkeypatch):
    made = made_up()
    ours = made["timed_method"] == "ours: solve_to"
    few = {key: made[key][ours] for key in ("timed_method", "timed_requested", "timed_error", "timed_time")}
    assert len(mlmc.plot(made | few).axes[-1].lines) == 1
    (tmp_path / "results").touch()
    monkeypatch.chdir(tmp_path)
    assert common.results_directory().is_dir()


@pytest.mark.parametrize("wrong", [float("nan"), -1.0, "3 s", None])
def test_a_time_that_is_none_is_refused_by_its_key(wrong, tmp_path, monkeypatch):
    record = json.loads((Path(__file__).resolve().parents[2] / "results" / mlmc.RECORD).read_text())
    record["rows"][2]["time"] = wrong
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / mlmc.RECORD).write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"rows\[2\]\.time"):
        mlmc._timed()


def test_replot_of_arrays_from_before_a_panel_says_what_they_lack(tmp_path, capsys):
    arrays = made_up()
    del arrays["timed_method"]
    common.save_data(tmp_path / "mlmc.npz", "mlmc", arrays)
    with pytest.raises(SystemExit):
        mlmc.main(["--replot", "--out", str(tmp_path)])
    assert "mlmc.npz lacks timed_method" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mlmc.npz"]
