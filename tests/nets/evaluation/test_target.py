"""The command on a model of anybody's, named MODULE:CALLABLE."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import nets
from nets import evaluate
from nets.evaluation import _runner

DEFENCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, noise=0.0):
        super().__init__()
        self.noise = noise
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.net(x + self.noise * torch.randn_like(x) if self.noise else x)

def noisy():
    return Net(0.3).eval()

def black_box(x):
    import numpy as np
    return torch.from_numpy(np.asarray(x).reshape(len(x), -1)[:, :2].copy())

def fails(x):
    return {}["a"]

def counted(x, calls=[]):
    calls.append(1)
    if len(calls) > 12:
        raise KeyboardInterrupt
    return net(x)

net = Net().eval()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    for i, each in enumerate(pixels):
        folder = tmp_path / "images" / ("train" if i < 4 else "test") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(each).save(folder / f"{i}.png")
    (tmp_path / "defence_of_a_test.py").write_text(DEFENCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("defence_of_a_test", None)


def command(name, *options):
    return [f"defence_of_a_test:{name}", "--data", "images", "--repeats", "2", "--draws", "3", *options]


def report_of(capsys, folder, *options):
    """The report as the command writes it, and what it prints."""
    evaluate.main([*options, "--out", str(folder)])
    return json.loads((folder / "evaluation.json").read_text()), capsys.readouterr().out


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


@pytest.mark.slow
def test_a_killed_command_resumes_to_the_same_report(here, capsys, monkeypatch):
    options = command("noisy", "--attacks", "apgd-ce-eot20", "--batch-size", "2", "--n-iter", "20")
    monkeypatch.setattr(_runner, "SECONDS", 0.0)
    whole, _ = report_of(capsys, here / "whole", *options)
    code = "import nets.evaluation._runner as r; r.SECONDS = 0.0; from nets.evaluate import main; main()"
    line = [sys.executable, "-c", code, *options, "--out", "killed"]
    environment = os.environ | {"PYTHONPATH": str(Path(nets.__file__).resolve().parents[1])}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The first batch of the attack is there, and the command has not ended.
        while not list((here / "killed").glob("model-apgd*")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
    # Killed, and not at its end: there is no report yet.
    assert process.wait() == -signal.SIGKILL
    assert not (here / "killed" / "evaluation.json").exists()
    resumed, _ = report_of(capsys, here / "killed", *options)
    accuracies = [[(row["name"], row["accuracy"]) for row in report["rows"]] for report in (whole, resumed)]
    assert accuracies[0] == accuracies[1]
    assert whole["eot_curve"] == resumed["eot_curve"]
