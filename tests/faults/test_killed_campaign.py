"""A campaign that is killed at random moments, and run again: the weights and results of an undisturbed one."""

import contextlib
import json
import os
import random
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from digits_runs import check_same
from two_processes import forkserver
from untrained_run import comparable

from nets import campaign
from nets.evaluation import _runner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
NAMES = ("table2-resnet20-seed0", "table2-en1_resnet20-seed0")


def rehearse(directory):
    """The command, which writes after every batch and waits for no disk."""
    _runner.SECONDS, os.fsync = 0.0, lambda _: None
    torch.set_num_threads(1)
    places = ["--runs", str(directory / "runs"), "--results", str(directory / "results")]
    campaign.main(["table2/resnet20", "table2/en1_resnet20", "--quick", *places])


def start(directory):
    process = forkserver().Process(target=rehearse, args=(directory,))
    process.start()
    return process


def finish(directory):
    process = start(directory)
    process.join(300)
    assert process.exitcode == 0


def written(directory):
    """How far the campaign is: its complete files and their times."""
    found = set()
    # Unlike Path.rglob, os.walk passes over a directory that goes while it is read.
    for place, _, names in os.walk(directory):
        for path in (Path(place, name) for name in names if name.endswith((".json", ".csv", ".safetensors"))):
            with contextlib.suppress(FileNotFoundError):
                found.add((path, path.stat().st_mtime_ns))
    return found


@pytest.mark.slow
def test_a_campaign_killed_at_random_moments_ends_in_the_same_weights_and_results(tmp_path):
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    finish(whole)
    plans = []
    for _ in range(8):
        process, before = start(killed), written(killed)
        wanted = rng.randint(1, 4)
        while process.is_alive() and len(written(killed) - before) < wanted:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        assert process.is_alive()
        process.kill()
        process.join(60)
        plans.append((killed / "runs" / "plan.json").read_bytes())
    assert not (killed / "results" / "campaign.json").exists()
    finish(killed)
    # The plan of the first call holds for all.
    assert {*plans} == {(killed / "runs" / "plan.json").read_bytes()}
    for name in NAMES:
        check_same(killed / "runs" / name, whole / "runs" / name)
        reports = [json.loads((each / "results" / f"{name}.json").read_text()) for each in (killed, whole)]
        assert comparable(reports[0]) == comparable(reports[1])
        assert reports[0]["red_flags"] == reports[1]["red_flags"]
