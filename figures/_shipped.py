"""Arrays that ship with the package, for figures that need more images or more time than a fresh clone has.

Each file was made by the figure's own command with --data, and names it and its commit:

    python -m figures.robustness_curve --data PATH
    python -m figures._shipped out/robustness_curve.npz       copies the file to figures/data and adds both
"""

from pathlib import Path

import numpy as np

import _enresnet
from figures import _io

__all__ = ["LARGEST", "is_there", "load", "main", "note"]

PROG = "python -m figures._shipped"
DIRECTORY = Path(__file__).with_name("data")
# Bytes.
LARGEST = 150_000


def is_there(name):
    """Whether the arrays of a figure ship."""
    return (DIRECTORY / f"{name}.npz").is_file()


def load(name):
    """Arrays of the figure, with the commit `made_at` and the command `made_by`."""
    path = DIRECTORY / f"{name}.npz"
    if not path.is_file():
        raise ValueError(f"figures/data lacks {path.name}: give --data PATH, the images of their training")
    return _io.load_data(path, name, remedy=f"python -m figures.{name} --data PATH")


def note(data):
    """Line for the picture; empty for data that were computed now."""
    return f"arrays that ship, of commit {data['made_at']}; anew by {data['made_by']}" if "made_at" in data else ""


def add(path):
    """Copy a figure's arrays into figures/data with the commit and the command of the JSON file beside them."""
    name, beside = path.stem, path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise ValueError(f"{file} does not exist: python -m figures.{name} --data PATH writes it")
    record = _enresnet.read_record(beside)
    data = _io.load_data(path, name) | {
        "made_at": np.array(str(record["commit"])), "made_by": np.array(f"python -m figures.{name} --data PATH")
    }  # fmt: skip
    DIRECTORY.mkdir(exist_ok=True)
    (target,) = _io.save_all(DIRECTORY, {path.name: lambda target: _io.save_data(target, name, data)})
    if target.stat().st_size > LARGEST:
        raise ValueError(f"{target} has {target.stat().st_size} bytes, more than {LARGEST}")
    return target


def main(argv=None):
    """Run the command line."""
    parser = _enresnet.OneLineParser(PROG, __doc__)
    parser.add_argument("path", type=Path, metavar="FILE", help="arrays of a figure, OUT/NAME.npz")
    arguments = parser.parse_args(argv)
    _enresnet.run(lambda: print(add(arguments.path)), PROG)


if __name__ == "__main__":
    main()
