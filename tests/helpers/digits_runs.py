"""Small trainings on the handwritten digits by the command, and what tests compare of their directories."""

import csv

from nets import checkpoint, train

SIZES = {"n_train": 64, "batch_size": 32, "epochs": 2, "n_validation": 16, "validation_n_iter": 1}
TINY = [word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def command(*arguments):
    """Run the command here; return its exit status."""
    try:
        train.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def rows(directory):
    """The lines of a run's metrics."""
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def deterministic(rows):
    """What does not depend on the clock."""
    clock = ("seconds", "images_per_second", "time")
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]


def weights(directory, name="last.safetensors", kind="training"):
    """Digest of the tensors of a run's file."""
    tensors, _ = checkpoint.read(directory / name, kind)
    return checkpoint.digest(tensors)


def check_same(one, other):
    """Two runs end in the same bits, and leave no draft."""
    assert weights(one) == weights(other)
    assert weights(one, "best.safetensors", "model") == weights(other, "best.safetensors", "model")
    assert deterministic(rows(one)) == deterministic(rows(other))
    assert not [*one.glob(".*.part*"), *other.glob(".*.part*")]
