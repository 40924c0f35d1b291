"""Scripts in interpreters of their own: estimates in shards, whose workers may die at a chosen block."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Velocity and terminal data are lambdas and closures of a script, which only cloudpickle can send. The terminal data
# are asked once a block, in a worker: there the number of blocks is counted, and the worker killed.
COMMON = """
import os, signal, sys, time
import numpy as np
import joblib
import pde
from pde import feynman_kac
from pde.feynman_kac import _shards as shards

folder, parent = sys.argv[1], os.getpid()
feynman_kac._estimate._BATCH = 2**14
shards._ROUND_SECONDS = 0.2
rng = np.random.default_rng(0)
points = rng.random((300, 2))


def problem(deaths, at_block=4):
    def claim(name):
        try:
            os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def terminal(x):
        if os.getpid() != parent and deaths:
            block = next(i for i in range(10**6) if claim(f"{deaths}-block-{i}"))
            if at_block <= block < at_block + deaths:
                os.kill(os.getpid(), signal.SIGKILL)
        return np.sin(2 * np.pi * x[..., 0])

    return pde.ConvectionDiffusion(lambda x, t: np.cos(2 * np.pi * (x - t)), terminal, sigma=0.1)


def estimate(n_shards, deaths=0, at_block=4):
    return feynman_kac.estimate(
        problem(deaths, at_block), points, n_paths=1000, n_steps=4, rng=7, n=16, n_shards=n_shards
    )


def check(e):
    assert (e.mean == alone.mean).all() and (e.stderr == alone.stderr).all()


def n_blocks(deaths):
    return sum(name.startswith(f"{deaths}-block-") for name in os.listdir(folder))


if __name__ == "__main__":
    alone = estimate(1)
"""


def run_script(source, *arguments, **environment):
    """Run a script in a fresh interpreter, and give what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)] if source is None else [sys.executable, "-c", source, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def script(body, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(COMMON + textwrap.indent(textwrap.dedent(body), "    "), encoding="utf-8")
    (tmp_path / "flags").mkdir()
    return run_script(None, path, tmp_path / "flags")
