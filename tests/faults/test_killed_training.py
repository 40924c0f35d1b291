"""A training that is killed at random moments, and run again: the same bits as undisturbed.

One process, two processes joined by gloo, and torchrun.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from digits_runs import TINY, check_same, command, rows
from two_processes import PLAIN, column, forkserver, run_two, start_two

from nets import checkpoint, train

ROOT = Path(__file__).resolve().parents[2]
needs_gloo = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


def start(directory, *options):
    """The command in a process forked from one that has imported everything and computed nothing."""
    process = forkserver().Process(target=train.main, args=(["cpu/digits", *options, "--out", str(directory)],))
    process.start()
    return process


def run_killed(tmp_path, n_kills, epochs, seed):
    """Run once undisturbed, then with so many kills at random moments; both to the end.

    Four kills in five come after the end of an epoch, up to two epochs later, so that the run goes on; the others at
    any moment of the first seconds, imports and reading included.
    """
    options = [*TINY, "--epochs", str(epochs)]
    assert command("cpu/digits", *options, "--out", tmp_path / "undisturbed") == 0
    pause = 2 * sum(float(row["seconds"]) for row in rows(tmp_path / "undisturbed")) / epochs
    rng, directory, done = random.Random(seed), tmp_path / "killed", [0]
    state = directory / "last.safetensors"
    for kill in range(n_kills):
        process = start(directory, *options, "--resume")
        if kill % 5 == 1:
            time.sleep(rng.uniform(0, 2))
        else:
            before = state.stat().st_mtime_ns if state.exists() else 0
            while process.is_alive() and (state.stat().st_mtime_ns if state.exists() else 0) == before:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, pause))
        process.kill()
        process.join(60)
        if state.exists():
            history = checkpoint.read(state, "training")[1]["history"]
            assert [row["epoch"] for row in history] == [*range(1, len(history) + 1)]
            done.append(len(history))
    process = start(directory, *options, "--resume")
    process.join(300)
    assert process.exitcode == 0
    assert done == sorted(done)
    return tmp_path / "undisturbed", directory, done


def test_run_killed_at_a_random_moment_ends_in_the_same_bits(tmp_path):
    undisturbed, killed, done = run_killed(tmp_path, n_kills=1, epochs=4, seed=0)
    check_same(killed, undisturbed)
    assert 0 < done[1] < 4


@pytest.mark.slow
def test_run_killed_at_twenty_random_moments_ends_in_the_same_bits(tmp_path):
    undisturbed, killed, done = run_killed(tmp_path, n_kills=20, epochs=40, seed=1)
    check_same(killed, undisturbed)
    # The kills met the run in many of its epochs, and before its end.
    assert len({*done}) > 10
    assert done[10] < 40


@needs_gloo
@pytest.mark.slow
def test_one_process_that_is_killed_ends_the_other_and_the_run_goes_on(tmp_path):
    # With noise and random starts: each process draws its own, and draws them again when the run goes on.
    options = [*PLAIN, "--model", "en1_resnet20", "--epochs", "3"]
    run_two(tmp_path, train.main, ["cpu/digits", *options, "--out", str(tmp_path / "undisturbed")])
    directory = tmp_path / "killed"
    arguments = ["cpu/digits", *options, "--out", str(directory), "--resume"]
    processes, logs = start_two(tmp_path, train.main, arguments)
    deadline = time.monotonic() + 120
    while not (directory / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    processes[1].kill()
    processes[0].join(120)
    assert processes[0].exitcode == 2
    error = [line for line in logs[0].read_text().splitlines() if line.startswith("python -m nets.train: error: ")]
    assert len(error) == 1
    assert "another process of the training ended" in error[0]
    assert "--resume continues after the last finished epoch" in error[0]
    assert 1 <= len(column(directory, "loss")) < 3
    run_two(tmp_path, train.main, arguments)
    for name in ("loss", "accuracy", "validation", "validation_adversarial"):
        assert column(directory, name) == column(tmp_path / "undisturbed", name)
    digests = [
        checkpoint.digest(checkpoint.read(path / "last.safetensors", "training")[0])
        for path in (directory, tmp_path / "undisturbed")
    ]
    assert digests[0] == digests[1]


@needs_gloo
@pytest.mark.slow
def test_torchrun_trains_and_survives_a_killed_process(tmp_path):
    def torchrun(*options):
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "nets.train"]
            + ["cpu/digits", *PLAIN, *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    directory = tmp_path / "run"
    options = ["--epochs", "300", "--out", str(directory), "--resume"]
    process = torchrun(*options)
    deadline = time.monotonic() + 180
    while not (directory / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    out, _ = process.communicate(timeout=180)
    assert process.returncode != 0
    # The other process sees the loss itself, or is first told by torchrun to end.
    assert len(re.findall("^python -m nets.train: (?:error|interrupted): .*--resume", out, re.MULTILINE)) == 1
    n_done = len(checkpoint.read(directory / "last.safetensors", "training")[1]["history"])
    assert n_done >= 1
    again = torchrun(*options)
    while len(column(directory, "loss")) <= n_done and time.monotonic() < deadline + 180:
        time.sleep(0.05)
    again.terminate()
    out, _ = again.communicate(timeout=180)
    assert f"resuming after epoch {n_done}" in out
    assert column(directory, "epoch")[: n_done + 1] == [*range(1, n_done + 2)]
