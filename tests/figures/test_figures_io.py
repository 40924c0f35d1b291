"""What the figures share: one line for every error, and files that appear whole or not at all."""

import contextlib
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

import _enresnet
import figures.__main__
from figures import _cli, _style
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
    parser = _cli.OneLineParser("python -m figures.none", "Title.\n\n    u_t = 0\n")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "Title.\n\n    u_t = 0\n" in out
    for option in ("--quick", "--seed", "--out"):
        assert option in out


def test_every_command_has_the_shared_options():
    arguments = _cli.OneLineParser("p", "").parse_args(["--quick", "--seed", "7", "--out", "a b"])
    assert vars(arguments) == {"quick": True, "seed": 7, "out": Path("a b")}
    assert vars(_cli.OneLineParser("p", "").parse_args([])) == {"quick": False, "seed": 0, "out": Path("out")}


@pytest.mark.parametrize("argv", (["--seed", "one"], ["--sed"], ["extra"], ["--out"]))
def test_a_wrong_argument_is_one_line_and_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        _cli.OneLineParser("python -m figures.none", "").parse_args(argv)
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
        _cli.run(main, "python -m figures.none", {})
    assert stop.value.code == 2
    assert one_line(capsys) == f"python -m figures.none: error: {line}"


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        _cli.run(lambda: {}["key"], "p", {})


def test_an_interruption_is_silent_with_status_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        _cli.run(main, "p", {})
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_what_goes_well_ends_without_exiting(capsys):
    _cli.run(lambda: print("done"), "p", {})
    assert capsys.readouterr() == ("done\n", "")


# Directories


def test_the_output_directory_is_made_with_its_parents(tmp_path):
    directory = tmp_path / "a" / "b c"
    for _ in range(2):
        with common.output_directory(directory) as made:
            assert made == directory
            (made / "kept").touch()
        assert names(directory) == ["kept"]


@pytest.mark.parametrize("error", (None, ValueError, KeyboardInterrupt))
def test_a_directory_without_a_file_is_removed_with_its_new_parents_and_no_others(tmp_path, error):
    (tmp_path / "old").mkdir()
    with contextlib.suppress(ValueError, KeyboardInterrupt), common.output_directory(tmp_path / "old" / "a" / "b"):
        if error:
            raise error
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == []
    with common.output_directory(tmp_path / "old"):
        pass
    assert names(tmp_path) == ["old"]


@pytest.mark.parametrize("below", ("", "sub", "sub/sub"))
def test_a_file_is_no_output_directory(tmp_path, below):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(ValueError, match=r"^--out .*taken.* cannot be written: "):
        common.output_directory(taken / below).__enter__()
    assert taken.read_text() == "mine"
    assert names(tmp_path) == ["taken"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a directory")
def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match=r"^--out /proc/x cannot be written: No such file or directory$"):
        common.output_directory(Path("/proc/x")).__enter__()


def test_a_name_that_is_too_long_is_refused_by_its_option(tmp_path):
    with pytest.raises(ValueError, match=r"^--out .*a cannot be written: File name too long$"):
        common.output_directory(tmp_path / ("a" * 300)).__enter__()


def test_a_directory_in_the_place_of_a_file_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "fig.npz").mkdir()
    with pytest.raises(ValueError, match=r"^--out .* cannot be written: fig\.npz is a directory there$"):
        common.output_directory(tmp_path, ["fig.png", "fig.npz"]).__enter__()
    assert names(tmp_path) == ["fig.npz"]


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
    common.save_data(tmp_path / "a.npz", "fig0", saved)
    loaded = common.load_data(tmp_path / "a.npz", "fig0")
    assert list(loaded) == list(saved)
    for key, array in saved.items():
        assert loaded[key].dtype == array.dtype
        assert loaded[key].shape == array.shape
        assert (loaded[key] == array).all()


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    for path in (tmp_path / "a.npz", tmp_path):
        with pytest.raises(ValueError, match=r"--replot needs .*, which does not exist: run without --replot first"):
            common.load_data(path, "fig0")


ARRAYS = {"x": np.arange(4.0), "y": np.ones((2, 2))}


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.arange(5.0)}, {"x": np.arange(4)}, {"x": np.arange(4.0)[None]}, {"x": -np.arange(4.0)}, {"y": None},
        {"z": np.zeros(1)}, {"x": np.ones((2, 2)), "y": np.arange(4.0)},
    ],
)  # fmt: skip
def test_arrays_that_were_changed_added_or_taken_out_are_noticed(changed, tmp_path):
    """The format and the digest are those of the file as it was written."""
    common.save_data(tmp_path / "a.npz", "fig0", ARRAYS)
    with np.load(tmp_path / "a.npz") as archive:
        arrays = dict(archive) | changed
    np.savez(tmp_path / "a.npz", **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=r"a.npz is damaged \(its digest differs\): run without --replot"):
        common.load_data(tmp_path / "a.npz", "fig0")


def test_arrays_of_another_figure_format_or_program_are_refused(tmp_path, monkeypatch):
    common.save_data(tmp_path / "a.npz", "fig0", ARRAYS)
    with pytest.raises(ValueError, match=r"a.npz is not of this figure and format \(fig0 1\)"):
        common.load_data(tmp_path / "a.npz", "fig1")
    monkeypatch.setattr(common, "FORMAT", 2)
    with pytest.raises(ValueError, match=r"is not of this figure and format \(fig0 1\)"):
        common.load_data(tmp_path / "a.npz", "fig0")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with pytest.raises(ValueError, match=r"is not of this figure and format \(none\)"):
        common.load_data(tmp_path / "a.npz", "fig0")


def test_a_file_cut_anywhere_is_said_to_be_damaged(tmp_path):
    whole, path = tmp_path / "whole.npz", tmp_path / "a.npz"
    common.save_data(whole, "fig0", {"x": np.arange(100.0), "y": np.ones(3)})
    content = whole.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a.npz is damaged \(\w+\): run without --replot"):
            common.load_data(path, "fig0")


def test_a_flipped_bit_in_an_array_is_noticed(tmp_path):
    common.save_data(tmp_path / "a.npz", "fig0", {"x": np.random.default_rng(0).random(100)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz is damaged"):
        common.load_data(tmp_path / "a.npz", "fig0")


def test_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "sprung", "!"))

    np.savez(tmp_path / "a.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        common.load_data(tmp_path / "a.npz", "fig0")
    assert names(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_have_three_formats_and_one_figure_gives_one_file(kind, start, tmp_path):
    _style.use_style()
    for name in ("a", "b"):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1], [1, 0])
        common.save_picture(figure, tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert first.startswith(start)
    assert first == second


# Networks


def test_a_network_has_one_spelling_and_one_look_of_its_own():
    names = ("resnet20", "en1_resnet20", "en2_resnet20", "en5_resnet20")
    looks = [_style.network(name) for name in names]
    looks += [_style.network("en2_resnet20", noisy=False), _style.network("resnet20", natural=True)]
    assert [look.label for look in looks] == [
        "ResNet-20", "En1ResNet-20", "En2ResNet-20", "En5ResNet-20", "En2ResNet-20 without noise",
        "ResNet-20, natural training",
    ]  # fmt: skip
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)
    # The depth changes neither.
    assert _style.network("en2_resnet110")[1:] == looks[2][1:]


# Provenance


def test_the_provenance_can_be_written_as_json_and_repeated(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/somewhere/figures/fig4.py", "--out", "my figures", "--sigmas", "0", "0.1"])
    record = common.provenance({"out": Path("my figures"), "sigmas": [0.0, 0.1], "quick": False}, 1.23456)
    common.write_json(tmp_path / "a.json", record)
    assert _enresnet.read_record(tmp_path / "a.json") == record
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")
    assert record["command"] == "python -m figures.fig4 --out 'my figures' --sigmas 0 0.1"
    assert record["arguments"] == {"out": "my figures", "sigmas": [0.0, 0.1], "quick": False}
    assert record["versions"]["numpy"] == np.__version__
    # PyTorch where it was used: by the figures of networks.
    assert record["versions"].keys() - common.NETWORKS == {"python", *common.PACKAGES}
    assert ("torch" in record["versions"]) == ("torch" in sys.modules)
    assert record["seconds"] == 1.23
    assert {"commit", "machine", "date"} <= record.keys()
    # The directories of one machine mean nothing on another.
    monkeypatch.setattr(sys, "argv", ["figures/fig4.py", "--out", str(tmp_path / "mine"), f"--data={tmp_path}/b"])
    record = common.provenance({"out": tmp_path / "mine"}, 0.0)
    assert record["command"] == "python -m figures.fig4 --out mine --data=b"
    assert record["arguments"] == {"out": "mine"}


@pytest.mark.parametrize("number", (np.nan, np.inf))
def test_json_holds_finite_numbers_only(tmp_path, number):
    with pytest.raises(ValueError, match="JSON compliant"):
        common.write_json(tmp_path / "a.json", {"x": number})


# python -m figures


def test_the_list_names_every_figure_and_makes_none(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    figures_main(["--list"])
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == list(FIGURES)
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


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_refuses_a_negative_seed(name, tmp_path, refused):
    pytest.importorskip("torch")
    figure = importlib.import_module(f"figures.{name}")
    assert refused(figure.main, "--seed", -1, "--out", tmp_path / "new").endswith("--seed must be >= 0, got -1\n")
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
