"""An evaluation that is killed at random moments, and run again: the rows that it would have had undisturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from defences import command, report_of, write_defences
from untrained_run import comparable, save_run

from nets import checkpoint
from nets.evaluate import main
from nets.evaluation import _runner

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


@pytest.fixture(autouse=True)
def quick_files(monkeypatch):
    """Files written after every batch, without waiting for the disk."""
    monkeypatch.setattr(_runner, "SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)


COMMAND = """
import os, sys
from nets.evaluation import _runner
from nets.evaluate import main
_runner.SECONDS, os.fsync = 0.0, lambda _: None
main(sys.argv[1:])
"""
LONG = ["--quick", "--n-images", "40", "--draws", "2", "--repeats", "2", "--batch-size", "4"]
LONG += ["--attacks", "ifgsm10-eot2", "fgsm"]


def state(folder):
    """Numbers of batches in the files of an evaluation; a file that is being written has a hidden name."""
    paths = (folder / "evaluation").glob("[!.]*.safetensors")
    return [checkpoint.read(path, "evaluation")[1]["n_batches"] for path in paths]


@pytest.mark.parametrize("n_kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_command_killed_again_and_again_gives_what_it_would_have_given(n_kills, tmp_path):
    # An untrained network: natural rows of 10 batches, and more of the attacks.
    folder, whole = save_run(tmp_path / "run"), save_run(tmp_path / "whole")
    environment, rng = os.environ | {"PYTHONPATH": str(ROOT)}, random.Random(n_kills)
    for kill in range(n_kills):
        killer = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[kill % 3]
        moment = sum(state(folder)) + rng.randint(1, 3)
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(folder), *LONG], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while process.poll() is None and sum(state(folder)) < moment:
            time.sleep(0.005)
        # In the middle of a batch, or of a file.
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(killer)
        output = process.communicate()
        assert process.returncode == (-killer if killer == signal.SIGKILL else 130), output
        assert not (folder / "evaluation.json").exists()
        assert sum(state(folder)) >= moment
    main([str(folder), *LONG])
    main([str(whole), *LONG])
    reports = [json.loads((path / "evaluation.json").read_text(encoding="utf-8")) for path in (folder, whole)]
    assert comparable(reports[0]) == comparable(reports[1])
    assert reports[0]["red_flags"] == reports[1]["red_flags"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    yield write_defences(tmp_path, monkeypatch)
    sys.modules.pop("defence_of_a_test", None)


@pytest.mark.slow
def test_a_killed_command_resumes_to_the_same_report(here, capsys):
    options = command("noisy", "--attacks", "apgd-ce-eot20", "--batch-size", "2", "--n-iter", "20")
    whole, _ = report_of(capsys, here / "whole", *options)
    code = "import nets.evaluation._runner as r; r.SECONDS = 0.0; from nets.evaluate import main; main()"
    line = [sys.executable, "-c", code, *options, "--out", "killed"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
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
