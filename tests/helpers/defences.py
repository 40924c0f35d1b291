"""Models of somebody else's, in a module of their own beside a few images, and the command that evaluates them."""

import json
import sys

import numpy as np
from PIL import Image

from nets import evaluate

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


def write_images(folder, *, side, n_train):
    """Write 24 random images of two classes, n_train of them for training."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, side, side, 3), dtype=np.uint8)
    for i, each in enumerate(pixels):
        images = folder / ("train" if i < n_train else "test") / "ab"[i % 2]
        images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(images / f"{i}.png")


def write_defences(folder, monkeypatch):
    """Write the module and its images to a folder, work there, and return it."""
    write_images(folder / "images", side=4, n_train=4)
    (folder / "defence_of_a_test.py").write_text(DEFENCE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def command(name, *options):
    """Arguments that evaluate one of the models on the images."""
    return [f"defence_of_a_test:{name}", "--data", "images", "--repeats", "2", "--draws", "3", *options]


def report_of(capsys, folder, *options):
    """The report as the command writes it, and what it prints."""
    evaluate.main([*options, "--out", str(folder)])
    return json.loads((folder / "evaluation.json").read_text()), capsys.readouterr().out
