"""Results in a directory are found by the model that they are of, in any process, and by no other."""

import collections
import dataclasses
import functools
import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import generator
from defences import command, report_of, write_defences
from torch import nn

import nets
from nets.evaluation import _runner
from nets.evaluation._identity import identify

SHORT = {"eps": 0.05, "n_iter": 3, "n_queries": 6, "n_draws": 2, "n_repeats": 2, "progress": False}


def linear(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(10 * seed + i)) / 3)
    return model.eval()


def batch():
    x = torch.rand(12, 3, 4, 4, generator=generator(5))
    with torch.no_grad():
        return x, linear()(x).argmax(1)


def rows(model, out, **options):
    report = nets.evaluate_model(model, *batch(), out=out, **(SHORT | {"attacks": ["ifgsm20"]} | options))
    return [(row["name"], row["accuracy"]) for row in report.rows]


def times(s, net=None):
    return lambda x: s * (net or linear())(x)


class Attribute(nn.Module):
    """A network with noise from a source of its own, of a size that stands anywhere in an attribute."""

    def __init__(self, sigma, source=np.random.default_rng):
        super().__init__()
        self.net, self.sigma, self.source = linear(), sigma, source()
        self.eval()

    def forward(self, x):
        sigma = self.sigma
        while not isinstance(sigma, (float, torch.Tensor)):
            first = sigma if isinstance(sigma, (dict, list, tuple)) else vars(sigma)
            sigma = next(iter(first.values() if isinstance(first, dict) else first))
        if isinstance(self.source, torch.Generator):
            return self.net(x + sigma * torch.randn(x.shape, generator=self.source))
        return self.net(x + sigma * torch.from_numpy(self.source.normal(size=x.shape)).float())


@dataclasses.dataclass
class Settings:
    sigma: object


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x.flatten(1)


def in_globals(s):
    space = {"cfg": {"T": s}, "__name__": "somebody"}
    exec("def inner(x):\n    return x.flatten(1) / cfg['T']\ndef model(x):\n    return inner(x)", space)
    return space["model"]


def in_a_module(s, read="settings.T"):
    module = types.ModuleType("module_of_somebody")
    module.T = s
    space = {"settings": module}
    exec(f"def model(x):\n    return x.flatten(1) / {read}", space)
    return space["model"]


def by_getattr(s):
    return in_a_module(s, "getattr(settings, 'T')")


def in_the_code(s):
    return eval(f"lambda x: {s!r} * x.flatten(1)")


def detector(threshold):
    def model(x):
        logits = linear()(x)
        rough = (x[..., 1:] - x[..., :-1]).abs().flatten(1).mean(1) > threshold
        return torch.where(rough[:, None], logits.flip(1), logits)

    return model


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def in_a_class(s):
    class Model:
        T = s

        def __call__(self, x):
            return self.T * Sign.apply(x).flatten(1)

    return Model()


def hooked(s):
    net = linear()
    net.register_forward_hook(lambda module, args, logits: s * logits)
    return net


def replaced(s):
    net = linear()
    net.forward = lambda x: s * nn.functional.linear(x.flatten(1), net[1].weight)
    return net


KINDS = {
    "closure": times,
    "cells of cells": lambda s: (lambda f: lambda x: f(x))(times(s)),
    "partial": lambda s: functools.partial(lambda x, s: s * x.flatten(1), s=s),
    "default": lambda s: lambda x, s=s: s * x.flatten(1),
    "keyword": lambda s: lambda x, *, s=s: s * x.flatten(1),
    "global": in_globals,
    "attribute of a module": in_a_module,
    "getattr": by_getattr,
    "code": in_the_code,
    "class": in_a_class,
    "slot": Slotted,
    "method": lambda s: Slotted(s).__call__,
    "tensor": lambda s: Attribute(torch.tensor(s)),
    "numpy": lambda s: times(np.float32(s)),
    "array": lambda s: times(np.array([s])),
    "dict": lambda s: Attribute({"sigma": s}),
    "list": lambda s: Attribute([s]),
    "nested": lambda s: Attribute(Settings(Settings([{"sigma": s}]))),
    "namespace": lambda s: Attribute(types.SimpleNamespace(sigma=s)),
    "deque": lambda s: times(collections.deque([s])),
    "set": lambda s: times({s, "a", "b"}),
    "weights": lambda s: times(1.0, net=linear(int(10 * s))),
    "hook": hooked,
    "forward of an instance": replaced,
    "scripted": lambda s: torch.jit.script(Scripted(s)),
    "decorated": lambda s: torch.enable_grad()(times(s)),
    "own generator": lambda s: Attribute(s, source=torch.Generator),
    "detector": detector,
    "lock beside it": lambda s: times((s, threading.Lock())),
}


class Scripted(nn.Module):
    factor: float

    def __init__(self, s):
        super().__init__()
        self.factor = s

    def forward(self, x):
        return self.factor * x.flatten(1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("kind", KINDS)
def test_equal_models_are_the_same_and_models_of_other_settings_are_not(kind):
    one, same, other = (identify(KINDS[kind](s)) for s in (0.5, 0.5, 0.3))
    assert one == same and one[0] != other[0]
    assert one[1] == []


def test_passes_of_a_model_with_its_own_source_do_not_change_it():
    for source in (np.random.default_rng, torch.Generator, lambda: np.random.RandomState(3)):
        model = Attribute(0.1, source)
        before = identify(model)
        model(batch()[0])
        assert identify(model) == before


def test_modes_and_types_of_numbers_count():
    assert identify(linear())[0] != identify(linear().train())[0]
    assert len({identify(times(s))[0] for s in (1, 1.0, True, "1", -0.0, 0.0)}) == 6


PROCESS = """
import functools, numpy as np, torch
from nets.evaluation._identity import identify
class Model(torch.nn.Module):
    names = {"a", "b", "c", "d"}
    def __init__(self):
        super().__init__()
        self.rng, self.sizes = np.random.default_rng(), {"sigma": torch.tensor(0.1)}
    def forward(self, x):
        return helper(x) if "a" in self.names else np.sum(x)
def helper(x):
    import os.path
    return [part for part in (x, os.path)] and functools.reduce(max, {1, 2})
model = Model()
print(identify(model), identify(lambda x: model(x) + len({"e", "f"})))
"""


def test_another_process_finds_the_same_identity():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROCESS],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1 and "unread" not in found.pop()


def quantised(x):
    return linear()((x * 32).round() / 32)


def test_another_surrogate_does_not_find_the_results(tmp_path):
    rows(quantised, tmp_path, surrogate=linear(3))
    assert rows(quantised, tmp_path, surrogate=linear()) == rows(quantised, None, surrogate=linear())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # A factor beyond which the softmax saturates and the loss has no gradient.
        (times(1), times(10_000)),
        # On clean images of this batch, both are the network.
        (lambda x: linear()(x), lambda x: linear()(x) * (1 - 2 * ((x * 7).frac() == 0).flatten(1).all(1))[:, None]),
        (Attribute({"sigma": 0.01}), Attribute({"sigma": 0.5})),
        (Attribute(torch.tensor(0.01), torch.Generator), Attribute(torch.tensor(0.5), torch.Generator)),
    ],
)
def test_another_model_finds_no_file(first, second, tmp_path, monkeypatch):
    found = []
    for model, folder in ((first, "first"), (second, "second")):
        rows(model, tmp_path / folder)
        found.append({path.name for path in (tmp_path / folder).glob("model-*")})
    assert all(found) and not found[0] & found[1]
    # The first one does, and its noise need not come from a seed.
    monkeypatch.setattr(_runner, "predictions", None)
    rows(first, tmp_path / "first")


def test_a_constant_edited_in_the_module_of_the_command_counts(tmp_path, monkeypatch, capsys):
    here = write_defences(tmp_path, monkeypatch)
    written, found = (here / "defence_of_a_test.py").read_text(), []
    for factor in (1, 10_000):
        (here / "defence_of_a_test.py").write_text(written + f"\nT = {factor}\ndef hot(x):\n    return T * net(x)\n")
        # Python compares times and sizes of files, not their contents.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        report_of(capsys, here / "out", *command("hot", "--attacks", "fgsm"))
        sys.modules.pop("defence_of_a_test", None)
        found.append(len(list((here / "out").glob("model-fgsm-*"))))
    assert found == [1, 2]


def test_what_cannot_be_read_keeps_nothing_and_is_noted(tmp_path):
    lines = iter("abc")
    source = (line for line in lines)
    with pytest.warns(UserWarning, match="no results are kept in out"):
        report = nets.evaluate_model(
            lambda x: linear()(x) if source else x, *batch(), out=tmp_path / "out", attacks=["fgsm"], **SHORT
        )
    (note,) = (note for note in report.notes if "no results are kept in out" in note)
    assert "(builtins.generator)" in note and not (tmp_path / "out").exists()
    assert not nets.evaluate_model(linear(), *batch(), out=tmp_path / "out", attacks=["fgsm"], **SHORT).notes


def test_logits_that_changed_under_the_same_code_are_refused(tmp_path, monkeypatch):
    def model(x):
        return linear()(x) * float(os.environ["FACTOR"])

    monkeypatch.setenv("FACTOR", "1")
    first = rows(model, tmp_path)
    # Rounding is no change.
    monkeypatch.setenv("FACTOR", "1.000001")
    assert rows(model, tmp_path) == first
    monkeypatch.setenv("FACTOR", "2")
    with pytest.raises(ValueError, match=r"out must be another directory: .* other logits"):
        rows(model, tmp_path)
    assert rows(model, tmp_path / "other")[0] == first[0]


def test_the_order_of_the_images_memory_changes_nothing():
    def model(x):
        return linear()(x + 0.2 * torch.randn_like(x))

    x, y = batch()
    found = [
        nets.evaluate_model(model, images, y, attacks=["ifgsm20-eot2"], **SHORT).rows
        for images in (x, x.to(memory_format=torch.channels_last))
    ]
    assert [row["one_draw"] for row in found[0]] == [row["one_draw"] for row in found[1]]
