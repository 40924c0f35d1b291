"""Options that cannot be read are refused before PyTorch is imported, in the words of the command itself."""

import ast
import dataclasses
import importlib
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

pytest.importorskip("torch")

from nets import _early

ROOT = Path(__file__).resolve().parents[2]
WRONG = [
    ("train", "--lr x"), ("train", "cpu/resnet20 --n-train 1.5"), ("train", "--method none"), ("train", "--bar 3"),
    ("train", "--milestones 0.1 x"), ("train", "--lr"), ("train", "--lr="), ("train", "--as-released --seed z"),
    ("evaluate", "runs/a --eps z"), ("evaluate", "--draws 2.5"), ("evaluate", "runs/a --bar"),
    ("compare", "--first a --second b --coef q"), ("compare", "--inject"),
]  # fmt: skip


def started(*words):
    """A process of these words: its status, its error, and the modules that it imported."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = result.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return result.returncode, [line for line in lines if not line.startswith("import time:")], imported


@pytest.mark.parametrize(("name", "words"), WRONG, ids=[f"{name} {words}" for name, words in WRONG])
def test_what_cannot_be_read_is_refused_at_once_in_the_words_of_the_command(name, words, capsys):
    status, error, imported = started("-m", f"nets.{name}", *words.split())
    assert status == 2
    assert not {"torch", "numpy", "nets.models"} & imported
    # In this process the command itself refuses it.
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"nets.{name}").main(words.split())
    assert stop.value.code == 2
    assert error == capsys.readouterr().err.splitlines()


def test_the_installed_command_refuses_at_once_as_well():
    status, error, imported = started("-m", "enresnet", "train", "--lr", "x")
    assert (status, "torch" in imported) == (2, False)
    assert error == ["enresnet train: error: Error parsing --lr: could not convert string to float: 'x'"]


@pytest.mark.parametrize(
    ("argv", "orig"),
    [
        (["-m", "cpu/digits", "--lr", "8/255", "--epochs", "3"], "nets.train"),
        (["-m", "--milestones", "0.2", "0.4", "--no-flip", "--n-train", "None", "--integrate", "a", "b"], "nets.train"),
        (["-m", "runs/a", "--attacks", "fgsm", "pgd20@30", "--eps", "0.1", "--quick"], "nets.evaluate"),
        (["-m", "--first", "a", "--second", "b", "c"], "nets.compare"),
        # Not a command of ours, one without options that are known, help.
        (["-m", "--lr", "x"], "other.train"), (["-m", "--minutes", "x"], "nets.campaign"),
        (["-m", "--lr", "x", "--help"], "nets.train"), (["nets.py", "--lr", "x"], "script"), ([""], ""),
    ],
)  # fmt: skip
def test_what_can_be_read_or_is_another_program_is_left_to_it(argv, orig, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-W", "error", "-m", orig, *argv[1:]])
    _early.refuse()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", _early.COMMANDS)
def test_the_fields_are_those_of_the_dataclasses(name):
    real = {"Options": importlib.import_module(f"nets.{name}").Options}
    if name == "train":
        real["Recipe"] = importlib.import_module("nets.training").Recipe
    kinds = {}
    for file in _early.COMMANDS[name][0]:
        for node in ast.parse((ROOT / "nets" / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in _early.CLASSES:
                kinds[node.name] = _early._without_checks(node, kinds)
    assert kinds.keys() == real.keys()
    for key, kind in real.items():
        fields, ours = dataclasses.fields(kind), dataclasses.fields(kinds[key])
        types = typing.get_type_hints(kind)
        assert [field.name for field in ours] == [field.name for field in fields]
        for one, other in zip(ours, fields, strict=True):
            if one.name != "recipe":
                assert one.type == types[other.name]
                assert one.default == other.default or other.default is dataclasses.MISSING
