"""A Feynman-Kac estimate that is killed at random moments: its checkpoint continues to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pde
from pde import feynman_kac
from pde.feynman_kac import _estimate

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

RUN = """
import os
import signal
import sys
import numpy as np
import pde
from pde import feynman_kac
from pde.feynman_kac import _checkpoint as checkpoint

checkpoint._SECONDS, checkpoint._SHARE, os.fsync = 0.0, 1e9, lambda _: None
feynman_kac._estimate._BATCH = 2**14
# A suite that was started in the background hands down that interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(3)
fields = [pde.PeriodicField(rng.uniform(-1, 1, shape), interpolation="bilinear") for shape in ((2, 16, 16), (16, 16))]
problem = pde.ConvectionDiffusion(*fields, sigma=0.1)
n_paths = int(sys.argv[2])
print("ready", flush=True)
e = feynman_kac.estimate(problem, rng.random((5, 2)), n_paths, 100, checkpoint=sys.argv[1])
np.save(sys.argv[1] + ".result.npy", [e.mean, e.stderr])
"""


def start(path, n_paths):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(path), str(n_paths)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def n_done(path):
    with np.load(path) as data:
        return int(data["n_done"])


@pytest.mark.parametrize("n_kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_process_killed_again_and_again_continues_to_the_same_bits(n_kills, monkeypatch, tmp_path):
    path, n_paths, rng = tmp_path / "c", 60_000 * (1 + n_kills), random.Random(n_kills)
    monkeypatch.setattr(_estimate, "_BATCH", 2**14)
    generator = np.random.default_rng(3)
    fields = [
        pde.PeriodicField(generator.uniform(-1, 1, shape), interpolation="bilinear")
        for shape in ((2, 16, 16), (16, 16))
    ]
    problem, points = pde.ConvectionDiffusion(*fields, sigma=0.1), generator.random((5, 2))
    n_blocks = 5 * -(-n_paths // 2**14)
    reached = [0]
    for kill in range(n_kills):
        killer = signal.SIGINT if kill % 3 == 1 else signal.SIGKILL
        process, moment = start(path, n_paths), reached[-1] + rng.randint(1, 8)
        while process.poll() is None and not (path.exists() and n_done(path) >= moment):
            time.sleep(0.01)
        # In the middle of a block, or of the file.
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(killer)
        output = process.communicate()
        # Python itself ends by the signal that it was interrupted by, or with status 1.
        assert process.returncode in ((-killer, 1) if killer == signal.SIGINT else (-killer,)), output
        assert ("KeyboardInterrupt" in output[1]) == (killer == signal.SIGINT)
        reached.append(n_done(path))
    assert (np.diff(reached) > 0).all()
    assert reached[-1] < n_blocks
    process = start(path, n_paths)
    output = process.communicate()
    assert process.returncode == 0, output
    whole = feynman_kac.estimate(problem, points, n_paths, 100)
    assert (np.load(f"{path}.result.npy") == [whole.mean, whole.stderr]).all()
    assert n_done(path) == n_blocks
