"""The command on a model of anybody's, named MODULE:CALLABLE."""

import signal
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from defences import command, report_of, write_defences

from nets import data, evaluate


@pytest.fixture
def here(tmp_path, monkeypatch):
    yield write_defences(tmp_path, monkeypatch)
    sys.modules.pop("defence_of_a_test", None)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["Net", "noisy", "net", "black_box"])
def test_a_class_a_maker_a_module_and_a_function_are_evaluated(here, capsys, norm, name):
    options = command(name, "--attacks", "ifgsm20", "square@10", "--n-queries", "5", "--norm", norm)
    report, printed = report_of(capsys, here / "out", *options)
    assert report["settings"]["is_noisy"] == (name == "noisy") and report["settings"]["norm"] == norm
    assert report["attacked_by_gradients"] == (name != "black_box")
    assert printed.startswith("**Not attacked") == (name == "black_box")
    for row in report["rows"][1:]:
        assert row["distance"]["greatest"] <= row["settings"]["eps"] + 1e-6


def test_the_options_reach_the_attacks(here, capsys):
    options = command("net", "--attacks", "ifgsm20", "--also", "autoattack", "--eps", "0.2", "--step-size", "1/255")
    options += ["--version", "standard", "--n-iter", "2", "--n-queries", "3", "--n-images", "7", "--batch-size", "3"]
    report, _ = report_of(capsys, here / "out", *options)
    settings = {row["name"]: row["settings"] for row in report["rows"]}
    assert settings["ifgsm20"]["step_size"] == pytest.approx(1 / 255) and settings["ifgsm20"]["eps"] == 0.2
    assert settings["autoattack"]["version"] == "standard" and settings["autoattack"]["n_queries"] == 3
    assert report["settings"]["n_images"] == 7 and report["settings"]["batch_size"] == 3
    # Twenty steps of 1/255 do not reach the surface of the ball.
    (row,) = (row for row in report["rows"] if row["name"] == "ifgsm20")
    assert row["distance"]["greatest"] <= 20 / 255 + 1e-6
    also, _ = report_of(capsys, here / "also", *command("black_box", "--also", "square@5", "--n-queries", "3"))
    assert [row["name"] for row in also["rows"]] == ["natural", "square"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eps", "8"], "8/255 and not 8"),
        (["--norm", "l1"], "--norm must be one of"),
        (["--seed", "-1"], "--seed must be"),
        (["--draws", "0"], "--draws must be"),
        (["--attacks", "fgms"], "there is no attack 'fgms': python -m nets.evaluate --list"),
        (["--attacks", "blind-fgsm"], "give --oracle RUN"),
    ],
)
def test_options_are_judged_before_the_images_are_read(here, capsys, monkeypatch, options, message):
    monkeypatch.setattr(data, "load", None)
    with pytest.raises(SystemExit) as stop:
        evaluate.main(command("net", *options))
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net", ["--eps", "0"], "--eps must be finite and > 0, got --eps=0"),
        ("net", ["--eps", "8"], "8/255 and not 8"),
        ("net", ["--repeats", "0"], "--repeats must be an integer >= 1, got --repeats=0"),
        ("net", ["--n-images", "0"], "--n-images must be an integer >= 1"),
        ("net", ["--step-size", "0"], "--step-size must be finite and > 0"),
        ("net", ["--version", "new", "--attacks", "autoattack"], "--version must be one of"),
        ("net", ["--oracle", "nosuch"], "nosuch does not exist"),
        ("net", ["--inject", "blocks"], "--inject blocks: the model is not a network of this package"),
        ("net", ["--out", "defence_of_a_test.py"], "--out must be a directory"),
        ("fails", [], "the model fails on images of shape (20, 3, 4, 4) in torch.float32: KeyError: 'a'"),
        ("nosuch", [], "has no nosuch"),
        ("DEFENCE", [], "has no DEFENCE"),
        ("torch", [], "model must be a function of images"),
    ],
)
def test_what_is_wrong_is_one_line(here, capsys, name, options, message):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(command(name, *options))
    written = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in written and written.count("\n") == 1


def test_a_module_that_cannot_be_imported_is_one_line(here, capsys):
    (here / "broken_defence_of_a_test.py").write_text("def f(:")
    with pytest.raises(SystemExit):
        evaluate.main(["broken_defence_of_a_test:f", "--data", "images"])
    assert "SyntaxError" in (written := capsys.readouterr().err) and written.count("\n") == 1


def test_an_interrupted_command_says_whether_anything_is_kept(here, capsys, monkeypatch):
    # signal.signal is the command's own; what it would raise is raised here by the model.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for options, told in (
        ([], "nothing is kept without --out DIRECTORY"),
        (["--out", "kept"], "resumes after the last"),
    ):
        with pytest.raises(SystemExit) as stop:
            evaluate.main(command("counted", "--attacks", "ifgsm20", *options))
        assert stop.value.code == 130
        assert told in capsys.readouterr().err


def test_one_place_tells_networks_of_the_zoo_from_other_targets(here, monkeypatch):
    taken = []
    monkeypatch.setattr(evaluate.zoo, "of_the_zoo", lambda run: run == "own:net")
    monkeypatch.setattr(evaluate, "evaluate_target", lambda run, options: taken.append(run))
    # As one of the zoo it is looked for there.
    with pytest.raises(SystemExit):
        evaluate.main(["own:net"])
    assert not taken
