"""The directory of a run: what is trained, how far it is, and the models that come out.

config.json        recipe, seed, data and their encoding, versions, device
metrics.csv        one line per epoch
tensorboard/       the same, for `tensorboard --logdir runs`
last.safetensors   what to resume from: weights, momentum, and all lines of the metrics so far
best.safetensors   weights of the best epoch, or of the last or their average where the recipe keeps those, with what is
                   needed to build the model

last.safetensors alone says how far the run is, and is replaced as a whole; the metrics are written from it. A directory
without it, and without a model put together, holds no run: what a refused or interrupted start left is written over.
"""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from nets import checkpoint, provenance
from nets.training._precision import precisions
from nets.training._schedule import SCHEDULE, by_schedule_of, cannot_go_on, changes
from nets.training._writable import make_directory, remove_empty

__all__ = ["Run", "configuration"]

CONFIG, METRICS, LAST, BEST = "config.json", "metrics.csv", "last.safetensors", "best.safetensors"
LOCK = ".lock"
# Keys of the configuration that must agree for a run to be resumed; "recipe" is compared field by field.
IDENTITY = ("seed", "model", "data")
# What may differ, though the same bits cannot be promised then.
ENVIRONMENT = ("versions", "device", "n_ranks", "n_threads", "precision")


class Run:
    """A run's directory, held by this process alone until `close`.

    Parameters
    ----------
    directory : Path
        Made where there is none.
    config : dict
        "name", "recipe" (fields by name), "seed", "model", "data", "versions" and so on: see `nets.train`.
    recipe : Recipe
        That of the configuration.
    resume : bool, default=False
        Resume the run that is there, if there is one.

    Attributes
    ----------
    history : list of dict
        Lines of the metrics, one an epoch.
    state : dict of str to Tensor or None
        As given to `save`, of shapes (...).
    notes : list of str
        What keeps a resumed run from the same bits.
    changes : list of str
        Fields of the schedule that are others than before: the same bits as of a run that had them from the start.

    Raises
    ------
    ValueError
        If another process holds the directory, there is a run and resume is False, it is that of another recipe, seed
        or data set, or its files are damaged.
    """

    def __init__(self, directory, config, recipe, *, resume=False):
        self.directory, self.config, self._keep = Path(directory), config, recipe.keep
        self.history, self.state, self.notes, self.changes = [], None, [], []
        self._board, self._made = None, make_directory(self.directory)
        self._lock = FileLock(self.directory / LOCK)
        try:
            self._hold()
            # What a killed process was writing.
            for draft in self.directory.glob(".*.part"):
                draft.unlink()
            there = self._read_config()
            if there is not None:
                self._go_on(there, recipe, resume)
            else:
                self._write_text(CONFIG, json.dumps(config, indent=2, allow_nan=False) + "\n")
            self._write_metrics()
        except BaseException:
            self.close()
            raise

    def close(self):
        """Release the directory; a new one that has no epoch behind it is removed."""
        if self._board is not None:
            self._board.close()
        self._lock.release()
        if self._made and not any((self.directory / name).exists() for name in (LAST, BEST)):
            for name in (CONFIG, LOCK):
                (self.directory / name).unlink(missing_ok=True)
            remove_empty(self._made)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @property
    def best(self):
        """The line of the best epoch so far: the first of the greatest "selected" accuracy; None before any."""
        return max(self.history, key=lambda row: row["selected"], default=None)

    @property
    def kept(self):
        """The line of the epoch whose weights the run gives: the best, or the last; None before any."""
        return self.best if self._keep == "best" else next(iter(self.history[-1:]), None)

    @staticmethod
    def read_state(directory):
        """Read the state to resume from, without holding the directory.

        Parameters
        ----------
        directory : Path
            The run's.

        Returns
        -------
        dict of str to Tensor
            As given to `save`, of shapes (...).
        """
        return checkpoint.read(Path(directory) / LAST, "training")[0]

    def save(self, state, row, model):
        """Record the end of an epoch.

        Parameters
        ----------
        state : dict of str to Tensor
            State to resume from, of any shapes (...).
        row : dict
            Line of the metrics; "epoch", and "selected", the accuracy by which the best epoch is found.
        model : Module
            The model at this epoch, or its average.
        """
        if self._keep != "best" or self.best is None or row["selected"] > self.best["selected"]:
            # First: a process that dies in between makes this epoch, and this file, again.
            self.save_best(model, row)
        self.history.append(row)
        record = {key: self.config[key] for key in ("name", "recipe", *IDENTITY)}
        checkpoint.write(self.directory / LAST, "training", state, record | {"history": self.history})
        self._write_metrics()

    def save_best(self, model, row):
        """Write the model that the run gives.

        Parameters
        ----------
        model : Module
            Of `nets.build`.
        row : dict
            Goes into the record: "epoch" and "selected".
        """
        record = {key: self.config[key] for key in ("name", "recipe", *IDENTITY)}
        record |= {"epoch": row["epoch"], "accuracy": row["selected"], "versions": self.config["versions"]}
        checkpoint.save_model(self.directory / BEST, model, record)

    def _hold(self):
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{self.directory} is in use by another process") from None
        except (OSError, NotImplementedError) as error:
            raise ValueError(f"the run's directory {self.directory} cannot be written: {error}") from None

    def _read_config(self):
        path, has_epoch = self.directory / CONFIG, (self.directory / LAST).exists()
        if not path.is_file():
            if has_epoch:
                raise ValueError(f"{self.directory} holds a {LAST} without {CONFIG}: give another directory")
            return None
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(there.get("recipe"), dict):
                raise ValueError("there is no recipe in it")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged, or no run's ({error})") from None
        is_combined = there["recipe"].get("members") and (self.directory / BEST).exists()
        return there if has_epoch or is_combined else None

    def _go_on(self, there, recipe, resume):
        if not resume:
            name = there.get("name")
            raise ValueError(f"{self.directory} holds a run ({name}): give --resume to go on, or another --out")
        history = []
        if (self.directory / LAST).exists():
            self.state, record = checkpoint.read(self.directory / LAST, "training")
            history = record["history"]
            self._check_identity(record, recipe, self.directory / LAST, history)
            if not (self.directory / BEST).is_file():
                raise ValueError(f"{self.directory} has lost its {BEST}: give another directory")
            checkpoint.read(self.directory / BEST, "model")
        self._check_identity(there, recipe, self.directory / CONFIG, history)
        self.history = history
        self.changes = changes(recipe, by_schedule_of(recipe, there["recipe"]))
        if self.changes:
            changed = there | {"recipe": self.config["recipe"]}
            self._write_text(CONFIG, json.dumps(changed, indent=2, allow_nan=False) + "\n")
        for name in ENVIRONMENT:
            if there.get(name) != self.config.get(name):
                self.notes.append(f"{name} was {there.get(name)} and is {self.config.get(name)}")

    def _check_identity(self, there, recipe, path, history):
        differing = recipe.differences(there["recipe"], execution=False)
        if differing and {text.partition("=")[0] for text in differing} <= {*SCHEDULE}:
            reason = cannot_go_on(recipe, by_schedule_of(recipe, there["recipe"]), len(history))
            differing = [f"{' and '.join(differing)}, which cannot be changed: {reason}"] if reason else []
        for name in IDENTITY:
            if there.get(name) != self.config[name]:
                old, new = _brief(there.get(name)), _brief(self.config[name])
                differing.append(f"{name}={old} (here {new})")
        if differing:
            raise ValueError(f"{path} belongs to another run, with {'; '.join(differing[:3])}")

    def _write_text(self, name, text):
        with checkpoint.renamed(self.directory / name) as draft:
            draft.write_text(text, encoding="utf-8", newline="")

    def _write_metrics(self):
        if not self.history:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        self._write_text(METRICS, text.getvalue())
        new = self.history[-1:]
        if self._board is None:
            new = self.history
            self._board = _open_board(self.directory / "tensorboard")
        for row in new:
            for name, value in row.items():
                if isinstance(value, float) and name != "time":
                    self._board.add_scalar(name, value, row["epoch"], walltime=row["time"])
        self._board.flush()


def _open_board(directory):
    """A board without earlier lines: those of a killed process may lack some, and what is there is written again."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(directory)


def _brief(value):
    """A digest, or the name of a set, stands for a whole record."""
    if isinstance(value, dict):
        return value.get("name", "?") + (f" {value['digest'][:8]}" if "digest" in value else "")
    return value


def configuration(name, recipe, seed, model, data, world):
    """Return what a run's config.json says: what is trained, and what its numbers depend on beside that.

    Parameters
    ----------
    name : str
        Of the recipe.
    recipe : Recipe
        With all overrides.
    seed : int or list of int
        Of the run, or of the runs that were put together.
    model : dict
        Arguments of `nets.build`.
    data : dict
        Provenance of the data.
    world : World
        Processes and device.

    Returns
    -------
    dict
    """
    about = provenance.environment(world.device, "nets.train")
    return {
        "name": name,
        "recipe": asdict(recipe),
        "seed": seed,
        "model": model,
        "data": data,
        **{key: about[key] for key in ("versions", "device")},
        "n_ranks": world.n_ranks,
        "n_threads": about["n_threads"],
        "precision": precisions(recipe, world.device),
        **{key: about[key] for key in ("n_cores", "command", "commit")},
        "began": about["date"],
    }
