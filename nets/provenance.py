"""Provenance of a result: the run of the network, and the machine and code that computed it."""

import datetime
import hashlib
import os
import platform
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from _enresnet import commit, portable
from nets import checkpoint

__all__ = ["commit", "environment", "epochs_done", "load_run"]

NEEDED = ("name", "recipe", "seed", "model", "data", "epoch", "accuracy", "versions")


def load_run(run, device):
    """Return the model and record of a run, as `checkpoint.load_model` does, and the hashes of its weights.

    The hashes are "sha256" of the file, and "digest" of the weights alone, which does not depend on the file.
    ValueError if the file does not exist, is damaged, or is not from a training run.
    """
    run = Path(run)
    path = run / "best.safetensors" if run.is_dir() else run
    before = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    model, record = checkpoint.load_model(run, device)
    missing = [name for name in NEEDED if name not in record]
    if missing:
        raise ValueError(f"{path} is not from a training run: its record lacks {', '.join(missing)}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != before:
        raise ValueError(f"{path} was replaced while it was read: the run is not finished, evaluate it at its end")
    hashes = {"sha256": before, "digest": checkpoint.digest(model.state_dict())}
    return model.to(memory_format=torch.channels_last), record, hashes


def epochs_done(run):
    """Number of finished epochs of a run; None if they are not recorded, as for a mean of finished runs."""
    path = Path(run) / "last.safetensors"
    return len(checkpoint.read(path, "training")[1]["history"]) if path.is_file() else None


def environment(device, module):
    """Return the provenance of a result: versions, device, threads, command of `python -m module`, commit, date."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    cuda = device.type == "cuda"
    cpu = f"cpu, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "versions": versions | ({"cuda": torch.version.cuda} if cuda else {}),
        "device": torch.cuda.get_device_name(device) if cuda else cpu,
        "n_threads": torch.get_num_threads(),
        "n_cores": os.cpu_count(),
        "command": shlex.join(["python", "-m", module, *map(portable, sys.argv[1:])]),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
