"""What the figures share: one line for every error, and files that appear whole or not at all."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import figures.__main__
from figures import _io as common
from figures.__main__ import FIGURES
from figures.__main__ import main as figures_main


def names(directory):
    """Everything in a directory, hidden files included."""
    return sorted(path.name for path in directory.iterdir())


def one_line(capsys):
    """The one line on standard error; nothing stands on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err[:-1]


# The command line


def test_the_help_is_the_docstring_as_written(capsys):
    parser = common.OneLineParser("python -m figures.none", "Title.\n\n    u_t = 0\n")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "Title.\n\n    u_t = 0\n" in out
    for option in ("--quick", "--seed", "--out"):
        assert option in out


def test_every_command_has_the_shared_options():
    arguments = common.OneLineParser("p", "").parse_args(["--quick", "--seed", "7", "--out", "a b"])
    assert vars(arguments) == {"quick": True, "seed": 7, "out": Path("a b")}
    assert vars(common.OneLineParser("p", "").parse_args([])) == {"quick": False, "seed": 0, "out": Path("out")}


@pytest.mark.parametrize("argv", (["--seed", "one"], ["--sed"], ["extra"], ["--out"]))
def test_a_wrong_argument_is_one_line_and_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        common.OneLineParser("python -m figures.none", "").parse_args(argv)
    assert stop.value.code == 2
    assert one_line(capsys).startswith("python -m figures.none: error: ")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("n is\n  wrong"), "n is wrong"),
        (ArithmeticError("not resolved"), "not resolved"),
        (FloatingPointError("not finite"), "not finite"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_status_2(error, line, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        common.run(main, "python -m figures.none", {})
    assert stop.value.code == 2
    assert one_line(capsys) == f"python -m figures.none: error: {line}"


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        common.run(lambda: {}["key"], "p", {})


def test_an_interruption_is_silent_with_status_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        common.run(main, "p", {})
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_what_goes_well_ends_without_exiting(capsys):
    common.run(lambda: print("done"), "p", {})
    assert capsys.readouterr() == ("done\n", "")


# Directories


def test_the_output_directory_is_made_with_its_parents(tmp_path):
    directory = tmp_path / "a" / "b c"
    assert common.output_directory(directory) == directory
    assert common.output_directory(directory) == directory
    assert names(directory) == []


@pytest.mark.parametrize("below", ("", "sub", "sub/sub"))
def test_a_file_is_no_output_directory(tmp_path, below):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(ValueError, match=r"^--out .*taken.* cannot be written: "):
        common.output_directory(taken / below)
    assert taken.read_text() == "mine"
    assert names(tmp_path) == ["taken"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a directory")
def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match=r"^--out /proc/x cannot be written: No such file or directory$"):
        common.output_directory(Path("/proc/x"))


# Files


def write(text):
    return lambda path: path.write_text(text)


def test_files_are_written_under_their_names_and_readable_by_all(tmp_path):
    paths = common.save_all(tmp_path, {"a.txt": write("A"), "b.json": write("B")})
    assert paths == [tmp_path / "a.txt", tmp_path / "b.json"]
    assert names(tmp_path) == ["a.txt", "b.json"]
    assert [path.read_text() for path in paths] == ["A", "B"]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}


def test_writers_see_the_suffix_of_the_name(tmp_path):
    # numpy and PIL choose the format by it.
    common.save_all(tmp_path, {"a.npz": lambda path: np.savez(path, x=np.arange(3))})
    assert names(tmp_path) == ["a.npz"]
    assert (np.load(tmp_path / "a.npz")["x"] == [0, 1, 2]).all()


@pytest.mark.parametrize("error", (KeyboardInterrupt, ValueError, OSError))
@pytest.mark.parametrize("place", (0, 1, 2))
def test_an_interrupted_save_leaves_the_old_files_whole(tmp_path, error, place):
    old = {"a.txt": write("old A"), "b.txt": write("old B"), "c.txt": write("old C")}
    common.save_all(tmp_path, old)

    def fail(path):
        path.write_text("half of")
        raise error

    new = {"a.txt": write("new A"), "b.txt": write("new B"), "c.txt": write("new C")}
    new[list(new)[place]] = fail
    with pytest.raises(error):
        common.save_all(tmp_path, new)
    assert names(tmp_path) == ["a.txt", "b.txt", "c.txt"]
    assert [(tmp_path / name).read_text() for name in old] == ["old A", "old B", "old C"]


def test_an_interrupted_first_save_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        common.save_all(tmp_path, {"a.txt": write("A"), "b.txt": lambda path: 1 / 0})
    assert names(tmp_path) == []


def test_arrays_come_back_as_they_were_saved(tmp_path):
    saved = {"x": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "σ"]), "empty": np.empty((0, 0))}
    np.savez_compressed(tmp_path / "a.npz", **saved)
    loaded = common.load_data(tmp_path / "a.npz", saved)
    assert list(loaded) == list(saved)
    for key, array in saved.items():
        assert loaded[key].dtype == array.dtype
        assert loaded[key].shape == array.shape
        assert (loaded[key] == array).all()


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    for path in (tmp_path / "a.npz", tmp_path):
        with pytest.raises(ValueError, match=r"--replot needs .*, which is not there: run without --replot first"):
            common.load_data(path, ["x"])


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=1.0)
    with pytest.raises(ValueError, match=r"a.npz lacks y, z: run without --replot"):
        common.load_data(tmp_path / "a.npz", ["x", "y", "z"])


def test_a_file_cut_anywhere_is_said_to_be_damaged(tmp_path):
    whole, path = tmp_path / "whole.npz", tmp_path / "a.npz"
    np.savez_compressed(whole, x=np.arange(100.0), y=np.ones(3))
    content = whole.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a.npz is damaged \(\w+\): run without --replot"):
            common.load_data(path, ["x", "y"])


def test_a_flipped_bit_in_an_array_is_noticed(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random(100))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz is damaged"):
        common.load_data(tmp_path / "a.npz", ["x"])


def test_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "sprung", "!"))

    np.savez(tmp_path / "a.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        common.load_data(tmp_path / "a.npz", ["x"])
    assert names(tmp_path) == ["a.npz"]


# Provenance


def test_the_provenance_can_be_written_as_json_and_repeated(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/somewhere/figures/fig4.py", "--out", "my figures", "--sigmas", "0", "0.1"])
    record = common.provenance({"out": Path("my figures"), "sigmas": [0.0, 0.1], "quick": False}, 1.23456)
    common.write_json(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == record
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")
    assert record["command"] == "python -m figures.fig4 --out 'my figures' --sigmas 0 0.1"
    assert record["arguments"] == {"out": "my figures", "sigmas": [0.0, 0.1], "quick": False}
    assert record["versions"]["numpy"] == np.__version__
    # PyTorch where it was used: by the figures of networks.
    assert record["versions"].keys() - common.NETWORKS == {"python", *common.PACKAGES}
    assert ("torch" in record["versions"]) == ("torch" in sys.modules)
    assert record["seconds"] == 1.23
    assert {"commit", "machine", "date"} <= record.keys()


@pytest.mark.parametrize("number", (np.nan, np.inf))
def test_json_holds_finite_numbers_only(tmp_path, number):
    with pytest.raises(ValueError, match="JSON compliant"):
        common.write_json(tmp_path / "a.json", {"x": number})


# python -m figures


def test_the_list_names_every_figure_and_makes_none(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    figures_main(["--list"])
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == [*FIGURES, "gallery"]
    assert "fig4" in FIGURES
    assert err == ""
    assert names(tmp_path) == []


def test_a_figure_that_does_not_exist_is_one_line_and_status_2(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        figures_main(["fig4", "fig99"])
    assert stop.value.code == 2
    assert one_line(capsys) == f"python -m figures: error: no figure fig99; there are {', '.join(FIGURES)}"
    assert names(tmp_path) == []


@pytest.mark.parametrize("named", ([], ["fig7", "tables", "fig4"]))
def test_the_options_reach_the_figures_that_know_them(named, monkeypatch, tmp_path):
    calls = {}

    def import_module(name):
        if name == "torch":
            raise ImportError(name)
        name = name.removeprefix("figures.")
        return SimpleNamespace(main=lambda options: calls.__setitem__(name, options))

    monkeypatch.setattr(figures.__main__, "importlib", SimpleNamespace(import_module=import_module))
    figures_main([*named, "--quick", "--seed", "3", "--out", str(tmp_path), "--runs", str(tmp_path), "--data", "d"])
    assert list(calls) == (named or list(FIGURES))
    shared = ["--seed", "3", "--out", str(tmp_path), "--quick"]
    assert calls["fig4"] == shared
    assert calls["tables"] == [*shared, "--runs", str(tmp_path)]
    assert calls["fig7"] == [*shared, "--runs", str(tmp_path), "--data", "d"]
