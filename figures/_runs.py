"""Trained networks for the figures: those that ship with the package, or finished runs, and which belong together."""

import contextlib
import csv
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

import _enresnet
import nets
import nets.zoo
from nets import checkpoint, data
from nets.checkpoint import load_model
from nets.evaluation import balanced_order
from nets.train import train
from nets.training import recipe

__all__ = ["TrainedRun", "Wanted", "comparable", "describe", "find", "in_one", "list_runs", "load_data", "most_of",
           "quick_runs", "test_images"]  # fmt: skip

# Tiny runs, for tests: model, method, number of seeds. Two seeds make an interval.
QUICK = (("resnet20", "natural", 2), ("resnet20", "fast", 2), ("en1_resnet20", "fast", 1), ("en2_resnet20", "fast", 1))
N_QUICK_EPOCHS, N_QUICK_IMAGES, N_QUICK_VALIDATION = 2, 320, 100
METHODS = {"natural": "natural", "pgd": "PGD adversarial", "fast": "fast adversarial", "nfgsm": "N-FGSM adversarial",
           "trades": "TRADES"}  # fmt: skip
# A description: method, first and last number of epochs done, number planned, and the rest.
EPOCHS = re.compile(r"(.*) training, (?:(\d+)(?: to (\d+))? of )?(\d+) (epochs?, .*)")


class Wanted(NamedTuple):
    """A network that a figure shows: the first available of these models, trained on clean or adversarial images."""

    models: tuple
    natural: bool = False
    noisy: bool = True


@dataclass(frozen=True)
class TrainedRun:
    """A trained network: its config.json, one dict per epoch of its metrics (None: not measured), and its weights."""

    name: str
    config: dict
    history: list
    load: Callable
    # Where its evaluations are kept; None of a network that ships.
    directory: Path | None = None

    @property
    def model_name(self):
        """Model, as `nets.build` names it."""
        return self.config["recipe"]["model"]

    @property
    def is_natural(self):
        """Whether it was trained on clean images."""
        return self.config["recipe"]["method"] == "natural"

    @property
    def is_noisy(self):
        """Whether its blocks are noisy; an ensemble without noise differs from the EnResNet of the same name."""
        plan = self.config["recipe"]
        return self.model_name.startswith("en") and plan.get("noise") != "none" and plan.get("coef") != 0

    @property
    def group(self):
        """Digest of the data, and number of epochs, which are equal for runs that can be compared."""
        return self.config["data"]["digest"], self.config["recipe"]["epochs"]

    def is_wanted(self, model, want):
        """Whether it is this model, trained as wanted, its noise the paper's or none."""
        plan = self.config["recipe"]
        usual = plan.get("noise", "gaussian") == "gaussian" and plan.get("coef", 0.1) == 0.1
        kind = (usual and plan.get("std_over", "batch") == "batch") if want.noisy else not self.is_noisy
        plain = not model.startswith("en")
        return self.model_name == model and self.is_natural == want.natural and (plain or kind)


def list_runs(root):
    """List the finished runs in a directory in the order of their names, or, root being None, those that ship."""
    if root is None:
        return [_shipped(name) for name in nets.zoo.names()]
    found = []
    for path in sorted(Path(root).glob("*/config.json")):
        try:
            config = _enresnet.read_record(path)
            history = _read_history(path.parent)
            finished = len(history) == config["recipe"]["epochs"] and path.with_name("best.safetensors").is_file()
            run = TrainedRun(path.parent.name, config, history, _loader(path.parent), path.parent)
            # What the figures rely on.
            _ = run.group, run.model_name, run.is_natural, config["seed"], config["data"]["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.parent} is damaged ({type(error).__name__}: {error}): remove it") from None
        if finished and history:
            found.append(run)
    return found


def _shipped(name):
    card = nets.zoo.card(name)
    return TrainedRun(name, card, card["history"], lambda: nets.load(name))


def _loader(directory):
    return lambda: load_model(directory)[0]


def _read_history(directory):
    """The rows of a run's metrics: from its state, which has a digest, or without one from the table of the same."""
    state = directory / "last.safetensors"
    if not state.is_file():
        return _read_metrics(directory / "metrics.csv")
    rows = checkpoint.read(state, "training")[1]["history"]
    return [{key: None if value is None else float(value) for key, value in row.items()} for row in rows]


def _read_metrics(path):
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(file)]


def find(root, wanted):
    """Find runs that can be compared: of one data set, one number of epochs.

    `wanted` has a Wanted for each name of the figure. The dict returned has, for each name, the runs of one model in
    the order of their seeds: of the group that has them all and was trained on the most images. If there is none, a
    ValueError names the commands that make them.
    """
    groups = {}
    for run in list_runs(root):
        groups.setdefault(run.group, []).append(run)
    complete = {}
    for group, runs in groups.items():
        chosen = {name: _choose(runs, want) for name, want in wanted.items()}
        if all(chosen.values()):
            complete[group] = chosen
    if not complete:
        raise ValueError(_missing(root, wanted, groups))
    return complete[max(complete, key=lambda group: _n_seen(groups[group][0]))]


def _choose(runs, want):
    for model in want.models:
        chosen = [run for run in runs if run.is_wanted(model, want)]
        if chosen:
            return sorted(chosen, key=lambda run: str(run.config["seed"]))
    return []


def _n_seen(run):
    return run.config["data"]["n_train"] * run.config["recipe"]["epochs"]


def _missing(root, wanted, groups):
    lacking = [name for name, want in wanted.items() if not any(_choose(runs, want) for runs in groups.values())]
    commands = "; ".join(_command(wanted[name]) for name in lacking or wanted)
    what = "lacks finished runs" if lacking else "holds no finished runs of one data set and one number of epochs"
    where = "nets.zoo" if root is None else root
    return f"{where} {what} for this figure ({', '.join(lacking or wanted)}): {commands}"


def _command(want):
    known = [model for model in want.models if model in ("resnet20", "en1_resnet20", "en2_resnet20")]
    model = (known or want.models)[0]
    arguments = ["python", "-m", "nets.train", f"cpu/{model}" if known else f"table2/{model}", "--data", "PATH"]
    if want.natural:
        arguments += ["--method", "natural", "--out", f"runs/{model}-natural"]
    return shlex.join(arguments)


def most_of(root, required, optional):
    """Find runs that can be compared: the required ones, and as many of the optional ones as possible; see `find`."""
    for n in range(len(optional), 0, -1):
        for chosen in combinations(optional, n):
            # No group has them all. A damaged run fails the last call as well, and is reported there.
            with contextlib.suppress(ValueError):
                return find(root, required | {name: optional[name] for name in chosen})
    return find(root, required)


def comparable(root, models):
    """Find the adversarially trained runs of as many of these models as can be compared; see `find`."""
    wanted = {name: Wanted((name,)) for name in models}
    present = [name for name, want in wanted.items() if any(run.is_wanted(name, want) for run in list_runs(root))]
    if not present:
        return find(root, {models[0]: wanted[models[0]]})
    return most_of(root, {}, {name: wanted[name] for name in present})


def quick_runs(root):
    """Train tiny networks on the handwritten digits, seconds each, where they have not been trained yet."""
    # The running statistics of batch normalisation need some steps to follow.
    small = {"epochs": N_QUICK_EPOCHS, "n_train": N_QUICK_IMAGES, "n_validation": N_QUICK_VALIDATION}
    for model, method, n_seeds in QUICK:
        made = replace(recipe("cpu/digits"), model=model, method=method, batch_size=32, **small)
        for seed in range(n_seeds):
            out = Path(root) / f"{model}-{method}-seed{seed}"
            if not (out / "best.safetensors").is_file() or len(_read_metrics(out / "metrics.csv")) < N_QUICK_EPOCHS:
                train("cpu/digits", made, out=out, seed=seed, resume=True, device="cpu", progress=False)
    return root


def load_data(run, name=None):
    """Load the data set of a run: `name`, the path it was trained on, or the sample that ships with the network."""
    trained_on = run.config["data"]["name"]
    if name is None and run.directory is None:
        return _sample()
    name = name or run.config["recipe"]["data"]
    try:
        images = data.load(name)
    except ValueError as error:
        raise ValueError(f"{run.name} was trained on {trained_on}: give --data ({error})") from None
    if images.provenance()["digest"] != run.config["data"]["digest"]:
        raise ValueError(f"{run.name} was trained on {trained_on}, {name} holds other images")
    return images


def _sample():
    """The test images that ship, as a data set that has them as training images as well."""
    sample = nets.zoo.sample()
    images, labels = (255 * sample.x).round().to(torch.uint8), sample.y
    return data.Dataset(sample.name, images, labels, images, labels, sample.classes, sample.encoding)


def test_images(images, n):
    """The first n test images, in [0, 1], and labels (n,), in the evaluations' order: the classes take turns."""
    order = balanced_order(images.test_labels, 0)[:n]
    return data.Batches(images.test_images, images.test_labels, images.white).take(order)


def describe(*runs):
    """Describe in one line how networks of one recipe were trained, and on what."""
    plan, source = runs[0].config["recipe"], runs[0].config["data"]
    unit = "epoch" if plan["epochs"] == 1 else "epochs"
    encoding = "" if source["encoding"] == "raw" else f" ({source['encoding']})"
    name = source["name"].removesuffix("-images.tar.xz").replace("cifar10", "CIFAR-10")
    # One step from outside the ball, without a projection: de Jorge et al. 2022.
    wide = plan["method"] == "fast" and not plan.get("fast_projection", True)
    method = "N-FGSM adversarial" if wide else METHODS.get(plan["method"], plan["method"])
    return _description(method, plan["epochs"], f"{unit}, {name}{encoding}", [len(run.history) for run in runs])


def in_one(descriptions):
    """Descriptions of `describe`, each once, those of one recipe with the range of all their epochs.

    >>> in_one(["natural training, 2 of 30 epochs, digits", "natural training, 30 epochs, digits"])
    ['natural training, 2 to 30 of 30 epochs, digits']
    """
    recipes = {}
    for text in descriptions:
        match = EPOCHS.fullmatch(text)
        if match is None:
            recipes[text] = None
            continue
        method, first, last, planned, rest = match.groups()
        done = recipes.setdefault((method, planned, rest), [])
        done += [int(first or planned), int(last or first or planned)]
    return [key if done is None else _description(*key, done) for key, done in recipes.items()]


def _description(method, planned, rest, done):
    ends = dict.fromkeys((min(done), max(done)))
    cut = "" if list(ends) == [int(planned)] else f"{' to '.join(map(str, ends))} of "
    return f"{method} training, {cut}{planned} {rest}"
