"""The directory of a run: its configuration, its progress, and the trained model.

config.json        recipe, seed, data and their encoding, versions, device
metrics.csv        one line per epoch
tensorboard/       the same, for `tensorboard --logdir runs`
last.safetensors   state to resume from: weights, momentum, and all lines of the metrics so far
best.safetensors   weights of the best epoch, of the last epoch, or their average, as the recipe keeps them, with the
                   arguments that build the model

Only last.safetensors determines the progress of the run. It is replaced as a whole, and the metrics are written from
it. A directory without it, and without the mean of finished runs, contains no run; the remains of an interrupted start
are overwritten.
"""

import csv
import io
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

import _enresnet
from nets import checkpoint, provenance
from nets.training._precision import precisions
from nets.training._schedule import SCHEDULE, by_schedule_of, changes, reason_not_to_resume
from nets.training._writable import make_directory, remove_empty

__all__ = ["Run", "configuration"]

CONFIG, METRICS, LAST, BEST = "config.json", "metrics.csv", "last.safetensors", "best.safetensors"
LOCK = ".lock"
# Keys of the configuration that must agree for a run to be resumed; "recipe" is compared field by field.
IDENTITY = ("seed", "model", "data")
# Keys that may differ; the resumed run is then not guaranteed to be the same bit by bit.
ENVIRONMENT = ("versions", "device", "n_ranks", "n_threads", "precision")


class Run:
    """The directory of a run, locked by this process until `close`.

    Parameters
    ----------
    directory : Path
        Directory, which is made if it does not exist.
    config : dict
        Result of `configuration`.
    recipe : Recipe
        Recipe of the configuration.
    resume : bool, default=False
        Whether to resume a run that is in the directory.

    Attributes
    ----------
    history : list of dict
        Metrics, one dict per epoch.
    state : dict of str to Tensor or None
        State to resume from, as given to `save`, of shapes (...).
    notes : list of str
        Differences that may keep a resumed run from being the same bit by bit.
    changes : list of str
        Fields of the schedule that differ from before; the run is that of the new schedule from the start, bit by bit.

    Raises
    ------
    ValueError
        If another process has locked the directory, it contains a run and resume is False, the run has another recipe,
        seed or data set, or its files are damaged.
    """

    def __init__(self, directory, config, recipe, *, resume=False):
        self.directory, self.config, self._keep = Path(directory), config, recipe.keep
        self.history, self.state, self.notes, self.changes = [], None, [], []
        self._board, self._made = None, make_directory(self.directory)
        self._lock = FileLock(self.directory / LOCK)
        try:
            self._hold()
            # Drafts of a process that was killed.
            for draft in self.directory.glob(".*.part*"):
                draft.unlink()
            existing = self._read_config()
            if existing is not None:
                self._resume(existing, recipe, resume)
            else:
                self._write_text(CONFIG, _enresnet.sealed(config, indent=2))
            self._write_metrics()
        except BaseException:
            self.close()
            raise

    def close(self):
        """Release the directory, and remove it if it is new and no epoch has finished."""
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
        """Metrics of the best epoch so far, the first with the greatest "selected" accuracy; None before any."""
        return max(self.history, key=lambda row: row["selected"], default=None)

    @property
    def kept(self):
        """Metrics of the epoch whose weights are kept, the best or the last; None before any."""
        return self.best if self._keep == "best" else next(iter(self.history[-1:]), None)

    @staticmethod
    def read_state(directory):
        """Read the state to resume from, as given to `save`, without locking the directory."""
        return checkpoint.read(Path(directory) / LAST, "training")[0]

    def save(self, state, row, model):
        """Record the end of an epoch.

        Parameters
        ----------
        state : dict of str to Tensor
            State to resume from, of any shapes (...).
        row : dict
            Metrics, with "epoch" and "selected", the accuracy that determines the best epoch.
        model : Module
            Model at this epoch, or its average.
        """
        if self._keep != "best" or self.best is None or row["selected"] > self.best["selected"]:
            # First: a process that dies in between repeats this epoch, and writes this file again.
            self.save_best(model, row)
        self.history.append(row)
        record = {key: self.config[key] for key in ("name", "recipe", *IDENTITY)}
        checkpoint.write(self.directory / LAST, "training", state, record | {"history": self.history})
        self._write_metrics()

    def save_best(self, model, row):
        """Write the model that is kept, from `nets.build`, with "epoch" and "selected" of its metrics."""
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
                raise ValueError(f"{self.directory} has a {LAST} without {CONFIG}: give another directory")
            return None
        try:
            existing = _enresnet.read_record(path)
            if not isinstance(existing.get("recipe"), dict):
                raise ValueError("it has no recipe")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged, or not from a run ({error})") from None
        is_combined = existing["recipe"].get("members") and (self.directory / BEST).exists()
        return existing if has_epoch or is_combined else None

    def _resume(self, existing, recipe, resume):
        if not resume:
            name = existing.get("name")
            raise ValueError(f"{self.directory} contains a run ({name}): give --resume to continue, or another --out")
        history = []
        if (self.directory / LAST).exists():
            self.state, record = checkpoint.read(self.directory / LAST, "training")
            history = record["history"]
            self._check_identity(record, recipe, self.directory / LAST, history)
            if not (self.directory / BEST).is_file():
                raise ValueError(f"{self.directory} has lost its {BEST}: give another directory")
            checkpoint.read(self.directory / BEST, "model")
        self._check_identity(existing, recipe, self.directory / CONFIG, history)
        self.history = history
        self.changes = changes(recipe, by_schedule_of(recipe, existing["recipe"]))
        if self.changes:
            changed = existing | {"recipe": self.config["recipe"]}
            self._write_text(CONFIG, _enresnet.sealed(changed, indent=2))
        for name in ENVIRONMENT:
            if existing.get(name) != self.config.get(name):
                self.notes.append(f"{name} was {existing.get(name)} and is {self.config.get(name)}")

    def _check_identity(self, existing, recipe, path, history):
        differing = recipe.differences(existing["recipe"], execution=False)
        if differing and {text.partition("=")[0] for text in differing} <= {*SCHEDULE}:
            reason = reason_not_to_resume(recipe, by_schedule_of(recipe, existing["recipe"]), len(history))
            differing = [f"{' and '.join(differing)}, which cannot be changed: {reason}"] if reason else []
        for name in IDENTITY:
            if existing.get(name) != self.config[name]:
                old, new = _brief(existing.get(name)), _brief(self.config[name])
                differing.append(f"{name}={old} (here {new})")
        if differing:
            raise ValueError(f"{path} belongs to another run, with {'; '.join(differing[:3])}")

    def _write_text(self, name, text):
        with _enresnet.renamed(self.directory / name) as draft:
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
    """A board without earlier events: those of a killed process may be incomplete, and all are written again."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(directory)


def _brief(value):
    """The name and digest of a record, in place of the whole record."""
    if isinstance(value, dict):
        return value.get("name", "?") + (f" {value['digest'][:8]}" if "digest" in value else "")
    return value


def configuration(name, recipe, seed, model, data, world):
    """Return the contents of a run's config.json: what is trained, and on what its numbers depend.

    Parameters
    ----------
    name : str
        Name of the recipe.
    recipe : Recipe
        Recipe with all overrides.
    seed : int or list of int
        Seed of the run, or of the runs whose mean it is.
    model : dict
        Arguments of `nets.build`.
    data : dict
        Provenance of the data.
    world : World
        Processes and device.

    Returns
    -------
    dict
        "name", "recipe" (fields by name), "seed", "model", "data", "versions", "device" and others.
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
