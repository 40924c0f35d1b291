"""Memory that stays with the process between the passes of an attack."""

import gc
import platform
import subprocess
import sys
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from nets.attacks import _layout, _memory, ifgsm

FAULTS = """
import resource, sys, torch
from torch import nn
from nets.attacks import _layout, attacked, Objective
torch.set_num_threads(1)
if sys.argv[1] == "without":
    _layout.hold = lambda n_bytes: None
layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Sigmoid()) for _ in range(6)]
model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
x, y = torch.rand(64, 3, 32, 32), torch.zeros(64, dtype=torch.long)
with attacked(model):
    objective = Objective(model, y)
    for _ in range(3):
        objective.gradient(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        objective.gradient(x)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def test_only_blocks_between_the_limits_are_held():
    assert _memory.hold(_memory.LEAST - 1) is None and _memory.hold(_memory.MOST + 1) is None
    assert _memory.hold(_memory.LEAST).nbytes == _memory.LEAST


def test_what_is_held_during_an_attack_is_free_after_it(monkeypatch):
    held = []

    def hold(n_bytes):
        block = _memory.hold(n_bytes)
        held.append((n_bytes, weakref.ref(block)))
        return block

    monkeypatch.setattr(_layout, "hold", hold)
    x, y = torch.rand(32, 3, 32, 32), torch.zeros(32, dtype=torch.long)
    model = network()
    ifgsm(model, x, y, n_iter=1)
    # One step needs no memory twice.
    assert held == []
    ifgsm(model, x, y, n_iter=4)
    gc.collect()
    # Once, of the largest input of a convolution, here the images.
    assert [(n_bytes, block()) for n_bytes, block in held] == [(x.nbytes, None)]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library's heap is glibc's")
def test_pages_are_kept_between_gradients():
    """Of 5 gradients, whose activations of 4 MiB have 1024 pages each: most pages of the heap are not made anew."""
    faults = {}
    for how in ("with", "without"):
        ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(ran.stdout)
    assert faults["without"] > 5 * 4 * 1024
    assert faults["with"] < faults["without"] / 4
