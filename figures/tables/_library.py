"""Evaluations found in files: what they measured, and on what."""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import _enresnet
from nets.evaluate import REPORT

__all__ = ["NOISE", "RELEASED", "TEXT", "Evaluation", "Library", "Score", "read"]

# Radius and step: the paper's text (8/255, 2/255), and the released code.
TEXT, RELEASED = (8 / 255, 2 / 255), (0.031, 0.007)
# Fields of a recipe by which noisy networks differ.
NOISE = ("noise", "coef", "std_over")


class Score(NamedTuple):
    """A measured accuracy, a fraction of n images; its standard error covers images and draws.

    `settings` are those of the attack, `remarks` the differences from the paper's text.
    """

    accuracy: float
    stderr: float
    n: int
    settings: dict
    remarks: tuple = ()


@dataclass(frozen=True)
class Evaluation:
    """A report of `nets.evaluate`, field by field; `oracle`, the model that blind attacks are computed on, or None."""

    path: Path
    run: dict
    data: dict
    protocol: dict
    oracle: dict | None
    rows: list
    date: str

    @property
    def recipe(self):
        """Fields of the run's recipe by name."""
        return self.run["recipe"]

    @property
    def weights(self):
        """Digest of the network's weights: the same wherever they are written."""
        return self.run["weights"]["digest"]

    def score(self, attack, *, one_draw=True):
        """Return the `Score` on the most images under an attack of `nets.evaluation`, or None if no row fits.

        one_draw: accuracy of single passes on attacked images, where all images were attacked; otherwise the share that
        the mean over the draws classifies correctly before and after the attack. A row needs the paper's radius.
        """
        found = [row for row in self.rows if row["name"].partition("@")[0] == attack and "settings" in row]
        if one_draw:
            found = [row for row in found if row["n_attacked"] == row["n"]]
        found = [row for row in found if self.radius(row) is not None]
        if not found:
            return None
        row = max(found, key=lambda row: row["n"])
        part = row["one_draw"] if one_draw else row
        remarks = ("attacked by the released code's eps=0.031, step 0.007",) if self.radius(row) == RELEASED else ()
        return Score(part["accuracy"], part["stderr"], row["n"], row["settings"], remarks)

    @staticmethod
    def radius(row):
        """Return (eps, step) of a row, TEXT or RELEASED; TEXT for attacks without a radius, None for any other."""
        settings = row["settings"]
        if settings["base"] in ("natural", "cw"):
            return TEXT
        for radius in (TEXT, RELEASED):
            steps = settings["base"] not in ("ifgsm", "pgd") or math.isclose(
                settings["step_size"], radius[1], rel_tol=1e-6
            )
            if steps and math.isclose(settings["eps"], radius[0], rel_tol=1e-6):
                return radius
        return None


@dataclass(frozen=True)
class Library:
    """All evaluations, in the order of their paths; `runs` holds the runs of the members of averaged networks."""

    evaluations: list
    runs: Path
    _members: dict = field(default_factory=dict)

    def trained(self, digest):
        """Return the first evaluation of a network with weights of this digest, or None."""
        return next((e for e in self.evaluations if e.weights == digest), None)

    def members(self, evaluation):
        """Return the recipes of an averaged network's members; None if their runs are missing or of another network."""
        if evaluation.weights not in self._members:
            self._members[evaluation.weights] = self._find_members(evaluation)
        return self._members[evaluation.weights]

    def _find_members(self, evaluation):
        for directory in self._places(evaluation.run["path"]):
            weights = directory / "best.safetensors"
            config = _record(directory)
            if config is None or not weights.is_file():
                continue
            if hashlib.sha256(weights.read_bytes()).hexdigest() == evaluation.run["weights"].get("sha256"):
                found = [self._member(member) for member in config.get("members", [])]
                return found if found and None not in found else None
        return None

    def _member(self, member):
        for directory in self._places(member["run"]):
            config = _record(directory)
            if config is not None and (config["name"], config["seed"]) == (member["name"], member["seed"]):
                return config["recipe"] if _n_epochs(directory) == config["recipe"]["epochs"] else None
        return None

    def _places(self, path):
        return dict.fromkeys((Path(path), self.runs / Path(path).name))


def _record(directory):
    try:
        return _enresnet.read_record(directory / "config.json")
    except (OSError, ValueError):
        return None


def _n_epochs(directory):
    path = directory / "metrics.csv"
    return len(path.read_text(encoding="utf-8").splitlines()) - 1 if path.is_file() else 0


def read(results, runs):
    """Read all evaluations in results/*.json and runs/*/evaluation.json; ValueError if one of them is damaged.

    Other JSON files are left alone, and a directory need not exist.
    """
    found = []
    for path in [*sorted(results.glob("[!.]*.json")), *sorted(runs.glob(f"*/{REPORT}"))]:
        try:
            report = _enresnet.read_record(path)
            # A control has noise that its network was not trained with, which is none of the paper's networks.
            is_evaluation = isinstance(report, dict) and "run" in report
            if is_evaluation and not report.get("control"):
                keys = ("run", "data", "protocol", "oracle", "rows", "date")
                evaluation = Evaluation(path, **{key: report[key] for key in keys})
                _check(evaluation)
                found.append(evaluation)
        except KeyError as error:
            raise ValueError(f"{path} is damaged (it lacks {error}): remove it, or evaluate again") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, or evaluate again") from None
    return Library(found, runs)


def _check(evaluation):
    """Raise if a field that the tables rely on is missing, or is not an accuracy."""
    recipe, data = evaluation.recipe, evaluation.data
    _ = recipe["model"] + recipe["method"], recipe["eps"] + recipe["epochs"], len(recipe["members"])
    _ = [recipe[key] for key in (*NOISE, "weights")]
    _ = evaluation.run["name"], evaluation.run["path"], evaluation.run["epochs_done"], evaluation.weights + ""
    _ = evaluation.protocol["is_noisy"], evaluation.protocol["subset_seed"], evaluation.date + ""
    _ = [data[key] for key in ("name", "encoding", "n_classes", "shape", "n_train", "n_test", "digest", "trained_on")]
    if evaluation.oracle is not None:
        _ = evaluation.oracle["name"], evaluation.oracle["weights"]["digest"]
    for row in evaluation.rows:
        _ = row["name"] + ""
        if "settings" not in row:
            continue
        _ = row["n_attacked"], evaluation.radius(row)
        for part in (row, row["one_draw"]):
            if not (0 <= part["accuracy"] <= 1 and 0 <= part["stderr"] < 1 and row["n"] >= 1):
                raise ValueError(
                    f"{row['name']}: {part['accuracy']} ± {part['stderr']} of {row['n']} is not an accuracy"
                )
