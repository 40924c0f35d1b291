"""A disk that is full at any write: one line, status 2, nothing half-written, and the work can be resumed.

For figures see tests/figures/test_fig4.py.
"""

import errno
import os
from pathlib import Path

import pytest

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """A disk that is full from the n-th renaming on: files are written beside their place and then renamed."""

    def __init__(self, n):
        self.left = n

    def replace(self, original):
        def replaced(*arguments, **options):
            if self.left <= 0:
                raise FULL
            self.left -= 1
            return original(*arguments, **options)

        return replaced


def fill(monkeypatch, n):
    disk = Disk(n)
    monkeypatch.setattr(Path, "replace", disk.replace(Path.replace))
    monkeypatch.setattr(os, "replace", disk.replace(os.replace))


def refused_in_one_line(command, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    return line


SMALL = ["cpu/digits", "--model", "en1_resnet20", "--n-train", "64", "--n-validation", "32", "--batch-size", "32"]
SMALL += ["--n-threads", "1", "--epochs", "2"]


@pytest.mark.parametrize("n", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_training_can_be_resumed_afterwards(n, tmp_path, capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from nets import train

    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        fill(patch, n)
        refused_in_one_line(lambda: train.main([*SMALL, "--out", str(directory)]), capsys)
    train.main([*SMALL, "--resume", "--out", str(directory)])
    train.main([*SMALL, "--out", str(tmp_path / "whole")])
    for name in ("best.safetensors", "last.safetensors"):
        ours, whole = (load_file(folder / name) for folder in (directory, tmp_path / "whole"))
        assert ours.keys() == whole.keys()
        assert all(torch.equal(ours[key], whole[key]) for key in whole)
    assert not [path for path in directory.iterdir() if path.suffix == ".tmp" or path.name.startswith(".draft")]


def test_an_error_of_safetensors_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    import safetensors

    from nets import _cli

    def write():
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    line = refused_in_one_line(lambda: _cli.run(write, "python -m nets.train", options=()), capsys)
    assert line.startswith("python -m nets.train: error: ")
