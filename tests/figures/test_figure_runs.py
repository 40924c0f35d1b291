"""Trained networks for the figures: which runs belong together, and the tiny ones."""

import csv
import json

import pytest
import torch

from figures import _runs
from figures._runs import Wanted

DIGITS = "1b926be7"
ADVERSARIAL = {"plain": Wanted(("resnet20",)), "noisy": Wanted(("en5_resnet20", "en2_resnet20"))}


def _make(root, name, model, *, method="fast", seed=0, digest=DIGITS, epochs=3, n_done=None):
    """The files of a run, without weights that anybody would load."""
    directory = root / name
    directory.mkdir(parents=True)
    recipe = {"model": model, "method": method, "epochs": epochs, "data": "digits"}
    source = {"digest": digest, "name": "digits", "n_train": 1437, "encoding": "raw"}
    (directory / "config.json").write_text(json.dumps({"recipe": recipe, "seed": seed, "data": source}))
    with (directory / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "validation", "validation_adversarial"])
        writer.writerows([k + 1, 0.5, ""] for k in range(epochs if n_done is None else n_done))
    (directory / "best.safetensors").touch()
    return directory


def test_runs_of_one_group_are_found_in_the_order_of_their_seeds(tmp_path):
    _make(tmp_path, "a", "resnet20", seed=1)
    _make(tmp_path, "b", "resnet20", seed=0)
    _make(tmp_path, "c", "en2_resnet20")
    _make(tmp_path, "natural", "resnet20", method="natural")
    found = _runs.find(tmp_path, ADVERSARIAL)
    assert [run.name for run in found["plain"]] == ["b", "a"]
    assert [run.model_name for run in found["noisy"]] == ["en2_resnet20"]
    assert found["plain"][0].history[0] == {"epoch": 1.0, "validation": 0.5, "validation_adversarial": None}


def test_the_model_named_first_is_preferred(tmp_path):
    for model in ("resnet20", "en2_resnet20", "en5_resnet20"):
        _make(tmp_path, model, model)
    assert [run.model_name for run in _runs.find(tmp_path, ADVERSARIAL)["noisy"]] == ["en5_resnet20"]


def test_runs_of_other_data_or_length_are_not_mixed(tmp_path):
    _make(tmp_path, "plain", "resnet20")
    _make(tmp_path, "other-data", "en2_resnet20", digest="other")
    _make(tmp_path, "longer", "en2_resnet20", epochs=4)
    with pytest.raises(ValueError, match="holds no finished runs of one data set and one number of epochs"):
        _runs.find(tmp_path, ADVERSARIAL)


def test_of_two_complete_groups_the_one_trained_longer_is_taken(tmp_path):
    for epochs in (3, 5):
        for model in ("resnet20", "en2_resnet20"):
            _make(tmp_path, f"{model}-{epochs}", model, epochs=epochs)
    assert {run.config["recipe"]["epochs"] for runs in _runs.find(tmp_path, ADVERSARIAL).values() for run in runs} == {
        5
    }


def test_an_unfinished_run_is_none_and_the_message_names_the_command(tmp_path):
    _make(tmp_path, "plain", "resnet20")
    _make(tmp_path, "noisy", "en2_resnet20", n_done=2)
    with pytest.raises(ValueError, match=r"lacks finished runs .*\(noisy\): python -m nets.train cpu/en2_resnet20"):
        _runs.find(tmp_path, ADVERSARIAL)


def test_a_damaged_run_is_named(tmp_path):
    (_make(tmp_path, "plain", "resnet20") / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="plain is damaged"):
        _runs.list_runs(tmp_path)


def test_the_tiny_runs_are_finished_models_of_both_kinds_and_are_made_once(quick_runs):
    wanted = ADVERSARIAL | {"one": Wanted(("en1_resnet20",)), "natural": Wanted(("resnet20",), natural=True)}
    found = _runs.find(quick_runs, wanted)
    assert {name: len(runs) for name, runs in found.items()} == {"plain": 2, "noisy": 1, "one": 1, "natural": 2}
    before = {path: path.stat().st_mtime_ns for path in quick_runs.glob("*/best.safetensors")}
    _runs.quick_runs(quick_runs)
    assert before == {path: path.stat().st_mtime_ns for path in quick_runs.glob("*/best.safetensors")}


def test_a_run_gives_its_model_and_its_own_test_images(quick_runs):
    run = _runs.find(quick_runs, ADVERSARIAL)["noisy"][0]
    images = _runs.load_data(run)
    x, y = _runs.test_images(images, 20)
    # The classes take turns.
    assert torch.bincount(y).tolist() == [2] * 10
    assert run.load()(x).shape == (20, 10)
    assert "fast adversarial training, 2 epochs, digits" in _runs.describe(run)


def test_images_of_another_set_are_refused(quick_runs, monkeypatch):
    run = _runs.find(quick_runs, ADVERSARIAL)["noisy"][0]
    run.config["data"]["digest"] = "other"
    with pytest.raises(ValueError, match="holds other images"):
        _runs.load_data(run, "digits")
