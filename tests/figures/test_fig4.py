"""Figure 4 by its command: the files, their contents, the pictures, and what happens when something is wrong.

One run of the command, `made`, is shared: a subprocess on the smallest grid, 16 points a side.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure
from PIL import Image

import pde
from figures import _fig4_plot, fig4
from figures import _io as common
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
        arrays = dict(archive)
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
    monkeypatch.setattr(fig4, "compute", refuse)


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
    assert shapes.keys() == fig4.SHAPES.keys()
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
        "quick": True, "seed": 1, "out": str(directory), "velocity": "grid-noise", "method": "auto", "n": N,
        "sigmas": SIGMAS, "replot": False,
    }  # fmt: skip
    assert (
        record["command"] == f"python -m figures.fig4 --quick --n {N} --seed 1 --sigmas 0.0 0.01 0.3 --out {directory}"
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
    (spectral, no_error, name, _), _ = fig4.solve(problem, "spectral", N_PATHS, 200, 2)
    (paths, stderr, other, why), _ = fig4.solve(problem, "feynman-kac", N_PATHS, 200, 2)
    assert name == "spectral"
    assert other.startswith(f"Feynman-Kac, {N_PATHS} paths")
    assert why == "as asked"
    assert not no_error.any()
    # Common paths: the scores are dependent, which Bonferroni does not mind. 31 degrees, one seed in a million.
    assert np.abs((paths - spectral) / stderr).max() < scipy.stats.t(N_PATHS - 1).isf(1e-6 / (2 * N**2))
    (automatic, _, _, _), _ = fig4.solve(problem, "auto", N_PATHS, 200, 2)
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
        ({"seed": -1}, "--seed must be >= 0, got -1"),
        ({"sigmas": ()}, "--sigmas must be different finite numbers >= 0"),
        ({"sigmas": (0.1, 0.1)}, "--sigmas must be different finite numbers >= 0, got 0.1 0.1"),
        ({"velocity": "wind"}, "velocity must be one of"),
    ],
)
def test_compute_refuses_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        fig4.compute(**({"quick": True} | arguments))


# What was found


def findings_of(data, **changes):
    return fig4.findings(dict(data) | changes)


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


def panel(u):
    """Draw one contour panel; return its axes."""
    figure = Figure()
    axes = figure.add_subplot()
    _fig4_plot._contour_panel(figure, axes, u)
    return axes


def contour_lines(axes):
    """The vertices (m, 2) of each contour line of a panel."""
    return [line for path in axes.collections[0].get_paths() for line in path.to_polygons(closed_only=False)]


def test_a_function_of_x_has_upright_contours():
    x = np.arange(32) / 32
    lines = contour_lines(panel(np.broadcast_to(np.sin(2 * np.pi * x)[:, None], (32, 32))))
    # Ten levels, each crossed twice in a period, each line from y = 0 to the closing y = 1.
    assert len(lines) == 20
    for line in lines:
        assert np.ptp(line[:, 0]) < 1e-12
        assert (line[:, 1].min(), line[:, 1].max()) == (0, 1)


def test_a_function_of_y_has_level_contours():
    y = np.arange(32) / 32
    lines = contour_lines(panel(np.broadcast_to(np.sin(2 * np.pi * y), (32, 32))))
    assert len(lines) == 20
    for line in lines:
        assert np.ptp(line[:, 1]) < 1e-12
        assert (line[:, 0].min(), line[:, 0].max()) == (0, 1)


def test_contours_stand_where_the_function_has_their_level():
    x, y = np.moveaxis(2 * np.pi * grid.points(128), -1, 0)
    axes = panel(np.cos(x - 0.5) + 0.5 * np.sin(2 * y + 1))
    levels = axes.collections[0].levels
    low, high = axes.collections[0].get_clim()
    assert len(levels) == 10
    assert low < levels.min() < levels.max() < high
    lines = contour_lines(axes)
    assert len(lines) >= 10
    for line in lines:
        a, b = 2 * np.pi * line.T
        u = np.cos(a - 0.5) + 0.5 * np.sin(2 * b + 1)
        # Straight lines between 128 points a side: (2 pi h)**2 / 8 (1 + 2) = 9e-4; levels are 0.27 apart.
        assert np.abs(u - levels[np.abs(u.mean() - levels).argmin()]).max() < 1e-3


@pytest.mark.parametrize("value", (0.0, -3.0))
def test_a_constant_panel_says_so(value):
    axes = panel(np.full((8, 8), value))
    assert not axes.collections
    assert [text.get_text() for text in axes.texts] == [f"constant {value:g}"]


@pytest.mark.parametrize("n_sigmas", (1, 2, 3, 5))
def test_there_is_a_panel_for_each_sigma_and_one_for_the_terminal_datum(data, n_sigmas, no_solver):
    chosen = np.arange(n_sigmas) % 3
    few = {key: data[key][chosen] for key in ("u", "stderr", "method", "why", "literal_sup")}
    sigmas = np.arange(n_sigmas) / 8
    figure = fig4.plot(dict(data) | few | {"sigma": sigmas, "literal_sigma": sigmas})
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert [label[:3] for label in labels] == [f"({letter})" for letter in "abcdef"[: n_sigmas + 1]]
    assert [f"{sigma:g}" in label for sigma, label in zip(sigmas, labels, strict=False)] == [True] * n_sigmas
    caption = figure.texts[0].get_text().replace("\n", " ")
    assert all(str(why).replace("\n", " ") in caption for why in few["why"])


def test_the_panels_show_what_the_arrays_hold(data, no_solver):
    figure = fig4.plot(data)
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    shown = [tuple(axes.collections[0].get_clim()) for axes in panels]
    assert shown == [(u.min(), u.max()) for u in [*data["u"], data["terminal"]]]


def test_the_evidence_shows_what_the_arrays_hold(data, no_solver):
    histogram, fall, growth, *_ = fig4.plot_evidence(data).axes
    legend = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert any(f"{data['z'].shape[1]} points" in text and "σ = 0.3" in text for text in legend)
    assert (fall.lines[1].get_ydata() == data["sweep_high"]).all()
    assert (fall.lines[0].get_ydata() == data["sweep_low"]).all()
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


def without(key):
    def spoil(path):
        with np.load(path) as archive:
            arrays = dict(archive)
        del arrays[key]
        np.savez(path, **arrays)

    return spoil


def not_a_number(array):
    spoilt = array.copy()
    spoilt.flat[-1] = np.nan
    return spoilt


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
    "u in complex numbers": (change("u", lambda u: u + 0j), "damaged (u:"),
    "u of text": (change("u", lambda u: u.astype(str)), "damaged (u:"),
    "why of numbers": (change("why", lambda why: np.zeros(len(why))), "damaged (why:"),
    "no sigma": (change("sigma", lambda sigma: sigma[:0]), "damaged (sigma"),
} | {
    f"{key} {what}": (change(key, function), "damaged (")
    for key in fig4.SHAPES
    for what, function in (("cut", lambda array: array[..., 1:]), ("nested", lambda array: array[None]))
    # Fewer scores for a sigma are as good.
    if (key, what) != ("z", "cut")
} | {
    f"{key} not finite": (change(key, not_a_number), f"damaged ({key}:")
    for key in fig4.SHAPES
    if key not in ("method", "why", "literal_sup")
} | {f"without {key}": (without(key), f"lacks {key}") for key in ("u", "z", "literal_t", "why")}  # fmt: skip


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
        (["--sigmas", "-0.1"], "--sigmas must be different finite numbers >= 0, got -0.1"),
        (["--sigmas", "0.1", "nan"], "--sigmas must be different finite numbers >= 0, got 0.1 nan"),
        (["--sigmas", "inf"], "--sigmas must be different finite numbers >= 0, got inf"),
        (["--sigmas", "0.1", "0.1"], "--sigmas must be different finite numbers >= 0, got 0.1 0.1"),
        (["--sigmas", "small"], "argument --sigmas: invalid float value: 'small'"),
        (["--sigmas"], "argument --sigmas: expected at least one argument"),
        (["--n", "15"], "--n must be >= 16 to hold the terminal datum, got 15"),
        (["--n", "0"], "--n must be >= 16 to hold the terminal datum, got 0"),
        (["--n", "-128"], "--n must be >= 16 to hold the terminal datum, got -128"),
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


def test_the_size_is_128_and_48_when_quick(data, monkeypatch, tmp_path):
    asked = []

    def compute(**options):
        asked.append(options["n"])
        return data

    monkeypatch.setattr(fig4, "compute", compute)
    monkeypatch.setattr(common, "save_all", lambda directory, writers: [])
    fig4.main(["--out", str(tmp_path)])
    fig4.main(["--quick", "--out", str(tmp_path)])
    fig4.main(["--quick", "--n", "17", "--out", str(tmp_path)])
    assert asked == [128, 48, 17]


@pytest.mark.slow
def test_quick_as_it_stands_makes_the_figure(tmp_path):
    process = run_fig4("--quick", "--out", tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert sorted(contents(tmp_path)) == FILES
