"""Figure 4 by its command: the files, their contents, the pictures, and what happens when something is wrong.

One run of the command, `made`, is shared: a subprocess on the smallest grid, 16 points a side.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import pde
from figures import _io as common
from figures import fig4
from pde import PeriodicField, grid

ROOT = Path(__file__).resolve().parents[2]
EPS = np.finfo(float).eps
FILES = ["fig4-evidence.png", "fig4.json", "fig4.npz", "fig4.png"]
# Not resolved, not resolved, resolved by any of the grids tried.
SIGMAS = [0.0, 0.01, 0.3]
N, N_PATHS, N_CHECK_PATHS = 16, 32, 256


def run_fig4(*arguments, cwd=ROOT):
    """Run the command in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "figures.fig4", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(directory, finished process) of one run of the command."""
    directory = tmp_path_factory.mktemp("fig4") / "new"
    return directory, run_fig4("--quick", "--n", N, "--seed", 1, "--sigmas", *SIGMAS, "--out", directory)


@pytest.fixture
def copy(made, tmp_path):
    """A copy of what the run made, to be spoilt."""
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


@pytest.fixture(scope="module")
def data(made):
    with np.load(made[0] / "fig4.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key not in ("format", "digest")}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@pytest.fixture(scope="module")
def record(made):
    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads((made[0] / "fig4.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def no_solver(monkeypatch):
    """From here on every solver raises."""

    def refuse(*args, **kwargs):
        raise AssertionError("a solver was called")

    monkeypatch.setattr(pde.spectral, "solve", refuse)
    monkeypatch.setattr(pde.feynman_kac, "estimate", refuse)


def contents(directory):
    """Every file in a directory, hidden ones included."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def fails_in_one_line(capsys, *arguments, status=2):
    """Run the command here; return its one line on standard error."""
    with pytest.raises(SystemExit) as stop:
        fig4.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert stop.value.code == status
    assert out == ""
    assert err.startswith("python -m figures.fig4: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("python -m figures.fig4: ")[:-1]


# The files


def test_the_command_writes_four_files_and_names_them(made):
    directory, process = made
    assert process.returncode == 0, process.stderr
    assert sorted(contents(directory)) == FILES
    assert sorted(process.stdout.splitlines()) == [str(directory / name) for name in FILES]


def test_without_a_terminal_there_is_no_progress_bar(made):
    assert made[1].stderr == ""


def test_the_arrays_have_the_documented_keys_and_shapes(data):
    m, n, n_sweep, n_times = 3, N, 5, len(data["literal_t"])
    shapes = {
        "sigma": (m,), "u": (m, n, n), "stderr": (m, n, n), "terminal": (n, n), "velocity": (2, n, n),
        "method": (m,), "why": (m,), "z_sigma": (len(data["z"]),), "z": data["z"].shape,
        "sweep_sigma": (n_sweep,), "sweep_gradient": (n_sweep,), "sweep_low": (n_sweep,), "sweep_high": (n_sweep,),
        "literal_sigma": (m,), "literal_t": (n_times,), "literal_sup": (m, n_times),
    }  # fmt: skip
    assert {key: array.shape for key, array in data.items()} == shapes
    for key, array in data.items():
        assert array.dtype.kind == ("U" if key in ("method", "why") else "f")
        assert array.dtype.kind == "U" or np.isfinite(array).all()
    assert data["sigma"].tolist() == data["literal_sigma"].tolist() == SIGMAS
    assert data["sweep_sigma"].tolist() == [0.0, 0.01, 0.02, 0.1, 0.3]
    assert data["literal_t"][0] == 1
    assert data["literal_t"][-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(data["literal_t"]) < 0).all()


def test_the_arrays_are_of_the_problem_of_the_seed(data):
    problem = pde.problems.figure4(1, N)
    assert (data["velocity"] == problem.velocity.values).all()
    assert (data["terminal"] == problem.terminal.values).all()


def test_the_record_says_how_the_arrays_were_made(made, record):
    directory, _ = made
    assert record["arguments"] == {
        "quick": True, "seed": 1, "out": directory.name, "velocity": "grid-noise", "method": "auto", "n": N,
        "sigmas": SIGMAS, "format": "png", "replot": False,
    }  # fmt: skip
    assert (
        record["command"]
        == f"python -m figures.fig4 --quick --n {N} --seed 1 --sigmas 0.0 0.01 0.3 --out {directory.name}"
    )
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["matplotlib"] == matplotlib.__version__
    assert 0 < record["seconds"] < 300


def test_the_record_says_what_was_found_for_each_sigma(record, data):
    assert [solution["sigma"] for solution in record["solutions"]] == SIGMAS
    for i, solution in enumerate(record["solutions"]):
        u = data["u"][i]
        slopes = [(np.roll(u, -1, axis) - u) * N for axis in (0, 1)]
        # The steepest corner of a cell of the bilinear interpolant: its two slopes meet there.
        corners = [
            np.hypot(sx, sy)
            for sx in (slopes[0], np.roll(slopes[0], -1, 1))
            for sy in (slopes[1], np.roll(slopes[1], -1, 0))
        ]
        assert solution["range"] == [u.min(), u.max()]
        assert solution["sup_gradient"] == pytest.approx(np.max(corners), rel=16 * EPS)
        assert solution["largest_stderr"] == data["stderr"][i].max()
        assert solution["method"] == data["method"][i]
        assert solution["why"] == data["why"][i]
        assert solution["literal_recipe_sup_norm"] == data["literal_sup"][i, -1]
        assert solution["maximum_principle"] is True


def test_the_sweep_contains_the_panels(data):
    for i, sigma in enumerate(SIGMAS):
        place = data["sweep_sigma"].tolist().index(sigma)
        assert data["sweep_low"][place] == data["u"][i].min()
        assert data["sweep_high"][place] == data["u"][i].max()


def test_the_pictures_are_whole(made):
    for name in ("fig4.png", "fig4-evidence.png"):
        with Image.open(made[0] / name) as picture:
            picture.load()
            assert min(picture.size) > 400
            assert len(picture.convert("RGB").getcolors(2**24)) > 20


# The solution


def test_without_diffusion_the_characteristics_are_followed(data):
    assert data["method"][0] == "characteristics"
    assert not data["stderr"][0].any()
    # Every value is one of f; four times as many points miss its maximum by a factor of 1.06 at most (5 modes of 64).
    assert np.abs(data["u"][0]).max() <= 1.07 * PeriodicField(data["terminal"]).sup_norm()


def test_the_literal_recipe_violates_the_maximum_principle(data, record):
    # Grid noise, not resolved: exponential growth without diffusion, where the exact solution cannot grow at all.
    assert data["literal_sup"][0, 0] == pytest.approx(1, abs=0.01)
    assert data["literal_sup"][0, -1] > 10
    assert record["solutions"][0]["literal_recipe_sup_norm"] > 10


def test_both_solvers_agree_where_both_apply(data):
    assert data["z_sigma"].tolist() == [0.3]
    # Independent paths at each point, Student's law with 255 degrees: a false alarm for one seed in a million.
    assert np.abs(data["z"]).max() < scipy.stats.t(N_CHECK_PATHS - 1).isf(1e-6 / (2 * data["z"].size))
    # And the scores are no smaller than they should be: their mean square is chi-squared, or nearly.
    assert data["z"].size * np.mean(data["z"] ** 2) > scipy.stats.chi2(data["z"].size).isf(1 - 1e-6)


def test_the_method_asked_for_is_taken_and_both_give_one_solution():
    problem = pde.problems.figure4(2, N, 0.3, "divergence-free")
    spectral, no_error, name, _ = fig4.solve(problem, "spectral", N_PATHS, 200, 2)
    paths, stderr, other, why = fig4.solve(problem, "feynman-kac", N_PATHS, 200, 2)
    assert name == "spectral"
    assert other.startswith(f"Feynman-Kac, {N_PATHS} paths")
    assert why == "as requested"
    assert not no_error.any()
    # Common paths: the scores are dependent, which Bonferroni does not mind. 31 degrees, one seed in a million.
    assert np.abs((paths - spectral) / stderr).max() < scipy.stats.t(N_PATHS - 1).isf(1e-6 / (2 * N**2))
    automatic, _, _, _ = fig4.solve(problem, "auto", N_PATHS, 200, 2)
    assert (automatic == spectral).all()


def test_one_seed_gives_one_set_of_arrays(data):
    again = fig4.compute(quick=True, seed=1, n=N, sigmas=SIGMAS)
    assert again.keys() == data.keys()
    for key, array in data.items():
        assert (again[key] == array).all(), key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "best"}, "--method must be one of auto, spectral, feynman-kac, got best"),
        ({"n": 15}, "--n must be >= 16 to hold the terminal datum, got 15"),
        ({"sigmas": ()}, "--sigmas must be different numbers in [0, 1000]"),
        ({"sigmas": (0.1, 0.1)}, "--sigmas must be different numbers in [0, 1000], got 0.1 0.1"),
        ({"velocity": "wind"}, "velocity must be one of"),
    ],
)
def test_compute_refuses_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fig4.compute(**({"quick": True} | arguments))


# What was found


def findings_of(data, **changes):
    return fig4.findings(dict(data) | changes)["solutions"]


def test_the_maximum_principle_is_judged_by_the_terminal_datum_between_the_points(data):
    # Crests half a cell off the grid: 1 everywhere, cos(pi / 8)**2 = 0.85 on the grid.
    x, y = np.moveaxis(2 * np.pi * (grid.points(N) + 1 / (2 * N)), -1, 0)
    terminal = np.cos(2 * x) * np.cos(2 * y)
    assert terminal.max() < 0.86
    for size, holds in ((0.99, True), (-0.99, True), (1.02, False), (-1.02, False)):
        u = np.zeros((3, N, N))
        u[1, 3, 4] = size
        found = findings_of(data, terminal=terminal, u=u)
        assert [solution["maximum_principle"] for solution in found] == [True, holds, True]
        assert found[1]["range"] == [min(size, 0), max(size, 0)]


@pytest.mark.parametrize("end", (np.nan, np.inf))
def test_a_literal_run_that_left_the_numbers_has_no_sup_norm(data, tmp_path, end):
    literal = data["literal_sup"].copy()
    literal[0, -1] = end
    found = findings_of(data, literal_sup=literal)
    assert found[0]["literal_recipe_sup_norm"] is None
    assert found[1]["literal_recipe_sup_norm"] == literal[1, -1]
    common.write_json(tmp_path / "a.json", {"solutions": found})


# The pictures


LEVELS = np.arange(-10, 11) / 10


def panel(u):
    """Draw one panel; return its axes."""
    axes = Figure().add_subplot()
    fig4._contours(axes, u, LEVELS)
    return axes


def edges(axes):
    """The vertices (m, 2) of the edges of each filled contour of a panel."""
    return [
        line for path in axes.collections[0].get_paths() for line in path.to_polygons(closed_only=False) if len(line)
    ]


@pytest.mark.parametrize("axis", (0, 1))
def test_a_function_of_one_coordinate_has_contours_along_the_other(axis):
    wave = 0.95 * np.sin(2 * np.pi * (np.arange(32) + 0.5) / 32)
    u = np.broadcast_to(wave[:, None] if axis == 0 else wave, (32, 32))
    zero = panel(u).collections[1]
    lines = [line for path in zero.get_paths() for line in path.to_polygons(closed_only=False)]
    # The zeros of the sine, half a cell before 1/2 and 1: from one side of the square to the other.
    assert sorted({round(float(line[:, axis].mean()), 6) for line in lines}) == [31 / 64, 63 / 64]
    for line in lines:
        assert np.ptp(line[:, axis]) < 1e-12
        assert (line[:, 1 - axis].min(), line[:, 1 - axis].max()) == (0, 1)


def test_contours_stand_where_the_function_has_their_level():
    x, y = np.moveaxis(2 * np.pi * grid.points(128), -1, 0)
    axes = panel((np.cos(x - 0.5) + 0.5 * np.sin(2 * y + 1)) / 1.6)
    count = 0
    for line in edges(axes):
        # Vertices inside the square lie on a level; straight lines between 128 points per side are off by at most
        # (2 pi h)**2 / 8 (1 + 2) / 1.6 = 6e-4.
        inside = line[((line > 1e-9) & (line < 1 - 1e-9)).all(axis=1)]
        a, b = 2 * np.pi * inside.T
        u = (np.cos(a - 0.5) + 0.5 * np.sin(2 * b + 1)) / 1.6
        assert np.abs(u - LEVELS[np.abs(u[:, None] - LEVELS).argmin(axis=1)]).max(initial=0) < 1e-3
        count += len(inside)
    assert count > 1000


@pytest.mark.parametrize("n_sigmas", (1, 2, 3, 5))
def test_there_is_a_panel_for_each_sigma_one_for_the_datum_and_one_of_ranges(data, n_sigmas, no_solver):
    chosen = np.arange(n_sigmas) % 3
    few = {key: data[key][chosen] for key in ("u", "stderr", "method", "why", "literal_sup")}
    sigmas = np.arange(n_sigmas) / 8
    changed = dict(data) | few | {"sigma": sigmas, "literal_sigma": sigmas}
    titles = [axes.get_title() or axes.get_title("left") for axes in fig4.plot(changed).findobj(Axes)]
    assert [title[:3] for title in titles if title] == [f"({letter})" for letter in "abcdefg"[: n_sigmas + 2]]
    for sigma, title in zip(sigmas, filter(None, titles), strict=False):
        assert f"{sigma:g}" in title
    captions = fig4.findings(changed)["captions"]
    assert all(str(why) in captions[""] for why in few["why"])


def test_all_panels_share_one_scale_and_the_ranges_are_those_of_the_arrays(data, no_solver):
    figure = fig4.plot(dict(data) | {"sigma": np.array([0.0, 0.01, 0.1])})
    maps, side = figure.subfigs
    levels = [axes.collections[0].levels.tolist() for axes in maps.axes if hasattr(axes.collections[0], "levels")]
    assert len(levels) == 4
    assert all(one == levels[0] for one in levels)
    assert np.diff(levels[0]) == pytest.approx(fig4.SPACING)
    assert max(levels[0]) >= np.abs(data["u"]).max() > max(levels[0]) - 2 * fig4.SPACING
    (axes,) = side.axes
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    ours, theirs = bars[::2], bars[1::2]
    assert np.array(ours) == pytest.approx(np.array([(u.min(), u.max()) for u in data["u"]]))
    # The ends of the colour bars in the paper.
    assert np.array(theirs) == pytest.approx(np.array([(-1, 1), (-0.6, 0.4), (-0.13, 0.15)]))


def test_the_evidence_shows_what_the_arrays_hold(data, no_solver):
    histogram, extent, slope, growth = fig4.plot_evidence(data).axes
    legend = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert any(f"{data['z'].shape[1]} points" in text and "σ = 0.3" in text for text in legend)
    positive = data["sweep_sigma"] > 0
    curves = [line for axes in (extent, slope) for line in axes.lines if len(line.get_xdata()) == positive.sum()]
    for line, key in zip(curves, ("sweep_low", "sweep_high", "sweep_gradient"), strict=True):
        assert (line.get_ydata() == data[key][positive]).all()
    # sigma = 0, which has no place on the axis.
    limits = [float(line.get_ydata()[0]) for line in extent.lines if line.get_linestyle() == "--"]
    assert limits == [data["sweep_low"][0], data["sweep_high"][0]]
    for i in range(3):
        assert (growth.lines[i].get_xdata() == 1 - data["literal_t"]).all()
        assert (growth.lines[i].get_ydata() == data["literal_sup"][i]).all()


def test_the_evidence_can_do_without_scores_and_with_runs_that_ended_early(data, tmp_path, no_solver):
    literal = data["literal_sup"].copy()
    literal[0, -5], literal[0, -4:] = np.inf, np.nan
    changes = {"z_sigma": np.empty(0), "z": np.empty((0, 0)), "literal_sup": literal}
    figure = fig4.plot_evidence(dict(data) | changes)
    common.save_picture(figure, tmp_path / "a.png")
    assert "no σ > 0" in figure.axes[0].texts[0].get_text()


# --replot


def test_replot_draws_the_same_pictures_without_computing(made, copy, no_solver, capsys):
    before = contents(copy)
    for name in ("fig4.png", "fig4-evidence.png"):
        (copy / name).unlink()
    fig4.main(["--replot", "--out", str(copy)])
    assert contents(copy) == before == contents(made[0])
    assert sorted(capsys.readouterr().out.splitlines()) == [str(copy / name) for name in FILES if name.endswith("png")]


def test_replot_needs_the_arrays_alone(copy, no_solver):
    (copy / "fig4.json").unlink()
    fig4.main(["--replot", "--out", str(copy)])
    assert sorted(contents(copy)) == [name for name in FILES if name != "fig4.json"]


@pytest.mark.parametrize("option", (["--seed", "5"], ["--seed", "-5"], ["--quick"], ["--n", "64"]))
def test_replot_refuses_what_would_need_other_arrays(copy, no_solver, capsys, option):
    before = contents(copy)
    line = fails_in_one_line(capsys, "--replot", *option, "--out", copy)
    assert line == f"error: {option[0]} needs other data: run without --replot"
    assert contents(copy) == before


def test_replot_without_arrays_says_what_is_missing(tmp_path, capsys):
    line = fails_in_one_line(capsys, "--replot", "--out", tmp_path / "none")
    assert "needs" in line
    assert str(tmp_path / "none" / "fig4.npz") in line
    assert contents(tmp_path) == {}


def change(key, function):
    """Spoil one array of the archive."""

    def spoil(path):
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays[key] = function(arrays[key])
        np.savez(path, **arrays)

    return spoil


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGES = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-400]), "damaged"),
    "cut in half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "garbage": (lambda path: path.write_bytes(bytes(range(256)) * 40), "damaged"),
    "one array": (one_array, "damaged"),
    "a page of HTML": (lambda path: path.write_text("<!DOCTYPE html><title>404</title>"), "damaged"),
    "a pickled object": (change("u", lambda u: np.array([{}, None], dtype=object)), "damaged"),
    "another u": (change("u", lambda u: u + 1e-9), "damaged (its digest differs)"),
    "another figure's": (change("format", lambda _: np.array("fig5 1")), "is not of this figure"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_one_line_and_leave_everything_as_it_was(copy, capsys, no_solver, damage):
    spoil, message = DAMAGES[damage]
    spoil(copy / "fig4.npz")
    before = contents(copy)
    line = fails_in_one_line(capsys, "--replot", "--out", copy)
    assert line.startswith(f"error: {copy / 'fig4.npz'} ")
    assert message in line
    assert line.endswith("run without --replot")
    assert contents(copy) == before


# Errors of the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigmas", "-0.1"], "--sigmas must be different numbers in [0, 1000], got -0.1"),
        (["--sigmas", "0.1", "nan"], "--sigmas must be different numbers in [0, 1000], got 0.1 nan"),
        (["--sigmas", "inf"], "--sigmas must be different numbers in [0, 1000], got inf"),
        (["--sigmas", "0.1", "0.1"], "--sigmas must be different numbers in [0, 1000], got 0.1 0.1"),
        (["--sigmas", "small"], "argument --sigmas: invalid float value: 'small'"),
        (["--sigmas"], "argument --sigmas: expected at least one argument"),
        (["--n", "15"], "--n must be >= 16 to hold the terminal datum, got 15"),
        (["--n", "0"], "--n must be >= 16 to hold the terminal datum, got 0"),
        (["--n", "-128"], "--n must be >= 16 to hold the terminal datum, got -128"),
        (["--sigmas", "1e300"], "--sigmas must be different numbers in [0, 1000], got 1e+300"),
        (["--n", "16.5"], "argument --n: invalid int value: '16.5'"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--velocity", "wind"], "argument --velocity: invalid choice: 'wind'"),
        (["--method", "best"], "argument --method: invalid choice: 'best'"),
    ],
)
def test_arguments_out_of_range_are_one_line_and_make_nothing(arguments, message, tmp_path, capsys, no_solver):
    line = fails_in_one_line(capsys, *arguments, "--out", tmp_path / "out")
    assert line.startswith(f"error: {message}")
    assert contents(tmp_path) == {}


def test_a_spectral_solution_that_is_not_resolved_is_one_line_and_no_file(tmp_path, capsys):
    arguments = ["--quick", "--n", N, "--seed", 1, "--method", "spectral", "--sigmas", 0, "--out", tmp_path]
    line = fails_in_one_line(capsys, *arguments)
    assert line.startswith("error: sigma = 0: unresolved on ")
    assert line.endswith("--method auto solves it by Feynman-Kac")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("below", ("", "sub", "sub/sub"))
def test_an_output_that_is_a_file_is_found_out_before_computing(tmp_path, capsys, no_solver, below):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    line = fails_in_one_line(capsys, "--quick", "--out", taken / below)
    assert line.startswith(f"error: --out {taken / below} cannot be written: ")
    assert contents(tmp_path) == {"taken": b"mine"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a directory")
def test_from_a_shell_an_unwritable_output_is_one_line_and_status_2():
    process = run_fig4("--quick", "--out", "/proc/x")
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == (
        "python -m figures.fig4: error: --out /proc/x cannot be written: No such file or directory\n"
    )


def test_from_a_shell_damaged_arrays_are_one_line_and_status_2(copy):
    (copy / "fig4.npz").write_bytes(b"PK\x03\x04")
    before = contents(copy)
    process = run_fig4("--replot", "--out", ".", cwd=copy)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == ("python -m figures.fig4: error: fig4.npz is damaged (BadZipFile): run without --replot\n")
    assert contents(copy) == before


@pytest.mark.parametrize("writer", ("save_picture", "write_json"))
def test_a_save_that_fails_leaves_the_old_files_whole(copy, data, capsys, monkeypatch, writer):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fig4, "compute", lambda **options: data)
    monkeypatch.setattr(common, writer, fail)
    before = contents(copy)
    line = fails_in_one_line(capsys, "--quick", "--n", N, "--out", copy)
    assert line == "error: No space left on device"
    assert contents(copy) == before


def test_an_interrupted_save_leaves_the_old_files_whole(copy, data, capsys, monkeypatch):
    def interrupt(path, record):
        path.write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(fig4, "compute", lambda **options: data)
    monkeypatch.setattr(common, "write_json", interrupt)
    before = contents(copy)
    with pytest.raises(SystemExit) as stop:
        fig4.main(["--quick", "--n", str(N), "--out", str(copy)])
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "")
    assert contents(copy) == before


def test_the_size_is_128_and_48_when_quick(monkeypatch):
    sizes = []

    def figure4(seed, n, *_):
        sizes.append(n)
        raise ZeroDivisionError

    monkeypatch.setattr(pde.problems, "figure4", figure4)
    for options in ({}, {"quick": True}, {"quick": True, "n": 17}):
        with pytest.raises(ZeroDivisionError):
            fig4.compute(**options)
    assert sizes == [128, 48, 17]


@pytest.mark.slow
def test_quick_as_it_stands_makes_the_figure(tmp_path):
    process = run_fig4("--quick", "--out", tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert sorted(contents(tmp_path)) == FILES
