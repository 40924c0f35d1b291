"""Benchmarks can be started: all are imported, and each explains itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if "def main(" in p.read_text(encoding="utf-8"))
# In one process, which imports PyTorch once.
HELP = """
import importlib, sys
for name in sys.argv[1:]:
    module, sys.argv = importlib.import_module(name), [f"{name}.py", "--help"]
    try:
        module.main()
    except SystemExit as stop:
        print("ended", name, stop.code)
"""


@pytest.mark.slow
def test_every_benchmark_explains_itself():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    done = subprocess.run([sys.executable, "-c", HELP, *NAMES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"attacks", "feynman_kac_gpu", "spectral"} <= set(NAMES)
    for name in NAMES:
        assert f"ended {name} 0" in done.stdout
