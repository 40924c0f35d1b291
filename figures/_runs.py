"""Trained networks for the figures: which of the finished runs belong together, and tiny ones for a quick look."""

import csv
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from figures import _io
from nets import data
from nets.checkpoint import load_model
from nets.evaluation import balanced_order
from nets.train import train
from nets.training import recipe

__all__ = ["TrainedRun", "Wanted", "describe", "find", "list_runs", "load_data", "quick_runs", "root_of", "test_images"]

# Of the tiny runs: how each is trained, and with which seeds. Two seeds make an interval.
QUICK = (("resnet20", "natural", 2), ("resnet20", "fast", 2), ("en1_resnet20", "fast", 1), ("en2_resnet20", "fast", 1))
N_QUICK_EPOCHS, N_QUICK_IMAGES, N_QUICK_VALIDATION = 2, 320, 100


class Wanted(NamedTuple):
    """What a figure asks for.

    Attributes
    ----------
    models : tuple of str
        As `nets.build` names them, the best first.
    natural : bool
        Trained on clean images; otherwise on adversarial ones.
    """

    models: tuple
    natural: bool = False


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Parameters
    ----------
    directory : Path
        Of the run.
    config : dict
        Its config.json.
    history : list of dict
        Its metrics, one line an epoch, numbers as float; None where the metrics have no number.
    """

    directory: Path
    config: dict
    history: list

    @property
    def model_name(self):
        """As `nets.build` names it."""
        return self.config["recipe"]["model"]

    @property
    def is_natural(self):
        """Whether it was trained on clean images."""
        return self.config["recipe"]["method"] == "natural"

    @property
    def group(self):
        """Digest of the data, and epochs: runs that can be compared have both in common."""
        return self.config["data"]["digest"], self.config["recipe"]["epochs"]

    def load(self):
        """Build the model with its best weights.

        Returns
        -------
        ImageClassifier
            In evaluation mode.
        """
        return load_model(self.directory)[0]


def list_runs(root):
    """List the finished runs in a directory.

    Parameters
    ----------
    root : Path
        Each subdirectory of it may be a run.

    Returns
    -------
    list of TrainedRun
        In the order of their names.

    Raises
    ------
    ValueError
        If a run's files are damaged.
    """
    found = []
    for path in sorted(Path(root).glob("*/config.json")):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            history = _read_metrics(path.with_name("metrics.csv"))
            finished = len(history) == config["recipe"]["epochs"] and path.with_name("best.safetensors").is_file()
            run = TrainedRun(path.parent, config, history)
            # What the figures rely on.
            _ = run.group, run.model_name, run.is_natural, config["seed"], config["data"]["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.parent} is damaged ({type(error).__name__}: {error}): remove it") from None
        if finished and history:
            found.append(run)
    return found


def _read_metrics(path):
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(file)]


def find(root, wanted):
    """Find runs that can be compared: of one data set, one number of epochs.

    Parameters
    ----------
    root : Path
        Directory of runs.
    wanted : dict of str to Wanted
        By any name.

    Returns
    -------
    dict of str to list of TrainedRun
        For each name the runs of one model in the order of their seeds: of the group that has them all and was trained
        on the most images.

    Raises
    ------
    ValueError
        If no group has them all; the message says by which commands they are made.
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
        chosen = [run for run in runs if run.model_name == model and run.is_natural == want.natural]
        if chosen:
            return sorted(chosen, key=lambda run: str(run.config["seed"]))
    return []


def _n_seen(run):
    return run.config["data"]["n_train"] * run.config["recipe"]["epochs"]


def _missing(root, wanted, groups):
    lacking = [name for name, want in wanted.items() if not any(_choose(runs, want) for runs in groups.values())]
    commands = "; ".join(_command(wanted[name]) for name in lacking or wanted)
    what = "lacks finished runs" if lacking else "holds no finished runs of one data set and one number of epochs"
    return f"{root} {what} for this figure ({', '.join(lacking or wanted)}): {commands}; or give --quick"


def _command(want):
    known = [model for model in want.models if model in ("resnet20", "en1_resnet20", "en2_resnet20")]
    model = (known or want.models)[0]
    arguments = ["python", "-m", "nets.train", f"cpu/{model}" if known else f"table2/{model}", "--data", "PATH"]
    if want.natural:
        arguments += ["--method", "natural", "--out", f"runs/{model}-natural"]
    return shlex.join(arguments)


def quick_runs(root):
    """Train tiny networks on the handwritten digits, seconds each, where they have not been trained yet.

    Parameters
    ----------
    root : Path
        Directory of runs.

    Returns
    -------
    Path
        root.
    """
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
    """Load the data set of a run.

    Parameters
    ----------
    run : TrainedRun
        Whose.
    name : str, optional
        Where it lies now; by default where it lay for the training.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If it is not there, or another one.
    """
    name, trained_on = name or run.config["recipe"]["data"], run.config["data"]["name"]
    try:
        images = data.load(name)
    except ValueError as error:
        raise ValueError(f"{run.directory} was trained on {trained_on}: give --data ({error})") from None
    if images.provenance()["digest"] != run.config["data"]["digest"]:
        raise ValueError(f"{run.directory} was trained on {trained_on}, {name} holds other images")
    return images


def test_images(images, n):
    """Return the first test images in the order of the evaluations, in which the classes take turns.

    Parameters
    ----------
    images : Dataset
        Of a run.
    n : int
        How many.

    Returns
    -------
    x : Tensor of shape (n, n_channels, height, width)
        In [0, 1].
    y : Tensor of shape (n,)
        Labels.
    """
    order = balanced_order(images.test_labels, 0)[:n]
    return data.Batches(images.test_images, images.test_labels, images.white).take(order)


def describe(run):
    """Say in a line what a network was trained on, and how.

    Parameters
    ----------
    run : TrainedRun
        Which.

    Returns
    -------
    str
    """
    plan, source = run.config["recipe"], run.config["data"]
    methods = {"natural": "natural", "pgd": "PGD adversarial", "fast": "fast adversarial", "trades": "TRADES"}
    unit = "epoch" if plan["epochs"] == 1 else "epochs"
    encoding = "" if source["encoding"] == "raw" else f" ({source['encoding']})"
    return f"{methods[plan['method']]} training, {plan['epochs']} {unit}, {source['name']}{encoding}"


def root_of(arguments):
    """Return the directory of runs that a command asks for, and make the quick ones if it asks for none.

    Parameters
    ----------
    arguments : dict
        "runs" (Path or None), "quick", "out".

    Returns
    -------
    Path
    """
    if arguments["runs"] is not None:
        return arguments["runs"]
    if arguments["quick"]:
        return quick_runs(_io.output_directory(arguments["out"]) / "quick-runs")
    return Path("runs")
