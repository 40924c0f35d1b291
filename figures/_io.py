"""Files of a figure: picture, arrays and record, written completely or not at all."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import _enresnet
from _enresnet import portable

__all__ = ["FORMATS", "load_data", "output_directory", "provenance", "save_all", "save_data", "save_picture",
           "write_json"]  # fmt: skip

PACKAGES = ("numpy", "scipy", "numba", "matplotlib")
# Listed only if the figure has imported it.
NETWORKS = frozenset({"torch"})
FORMATS = ("png", "svg", "pdf")
N_COLOURS = 256
# Format of the file of arrays: bump it when the meaning of a figure's arrays changes.
FORMAT = 1


@contextlib.contextmanager
def output_directory(path, names=()):
    """Make a directory, check that files of these names can be written, and remove it if nothing was written to it."""
    path = Path(path)
    # Path.exists raises an OSError for a name that is too long.
    new = [part for part in (path, *path.parents) if not os.path.exists(part)]
    _enresnet.writable_directory(path, "--out")
    _check_places(path, names)
    try:
        yield path
    finally:
        for part in new:
            # Only what is empty can be removed.
            with contextlib.suppress(OSError):
                part.rmdir()


def _check_places(directory, names):
    for name in names:
        if (directory / name).is_dir():
            raise ValueError(f"--out {directory} cannot be written: {name} is a directory there")


def results_directory(name=""):
    """`results` in this directory, if it has a file of this name; elsewhere the numbers that came with the package."""
    package = Path(__file__).resolve().parent
    places = (Path("results"), package / "results", package.parent / "results")
    return next((place for place in places if place.is_dir() and (place / name).exists()), places[0])


def save_all(directory, writers):
    """Write files (name -> function of a path) under temporary names; rename them when all are complete."""
    _check_places(Path(directory), writers)
    with contextlib.ExitStack() as renamings:
        for name, write in writers.items():
            write(renamings.enter_context(_enresnet.renamed(directory / name)))
    return [directory / name for name in writers]


def save_data(path, figure, arrays):
    """Write a figure's arrays with their format and a digest of all of them."""
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    np.savez_compressed(path, **arrays, format=np.array(f"{figure} {FORMAT}"), digest=np.array(_digest(arrays)))


def _digest(arrays):
    state = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        state.update(f"{key} {array.dtype.str} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def load_data(path, figure, *, remedy="run without --replot"):
    """Read the arrays that `save_data` wrote; refuse a file that is missing, damaged or another figure's."""
    if not path.is_file():
        raise ValueError(f"--replot needs {path}, which does not exist: {remedy} first")
    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            data = _Arrays(path, remedy, {key: archive[key] for key in archive.files})
        written, digest = (str(data.pop(key, "")) for key in ("format", "digest"))
        is_whole = digest == _digest(data)
    except Exception as error:  # noqa: BLE001
        # A damaged archive raises whatever its broken part leads to: zlib, struct, zip, pickle or value errors.
        raise ValueError(f"{path} is damaged ({type(error).__name__}): {remedy}") from None
    if written != f"{figure} {FORMAT}":
        raise ValueError(f"{path} is not of this figure and format ({written or 'none'}): {remedy}")
    if not is_whole:
        raise ValueError(f"{path} is damaged (its digest differs): {remedy}")
    return data


class _Arrays(dict):
    """The arrays of a file by name; one that a figure asks for and the file lacks is a ValueError."""

    def __init__(self, path, remedy, arrays):
        super().__init__(arrays)
        self.path, self.remedy = path, remedy

    def __missing__(self, key):
        raise ValueError(f"{self.path} lacks {key}, as the arrays of another version do: {self.remedy}")


def provenance(arguments, seconds):
    """Return what is needed to make the same data again: command, arguments, versions, commit, machine, date."""
    return {
        "command": shlex.join(["python", "-m", *_module_arguments()]),
        "arguments": {key: portable(str(v)) if isinstance(v, (str, Path)) else v for key, v in arguments.items()},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in (*PACKAGES, *NETWORKS.intersection(sys.modules))},
        "commit": _enresnet.commit(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
    }


def _module_arguments():
    return [Path(sys.argv[0]).stem and f"figures.{Path(sys.argv[0]).stem}", *map(portable, sys.argv[1:])]


def write_json(path, data):
    """Write a JSON file with a digest of its values; a number that is not finite raises a ValueError."""
    path.write_text(_enresnet.sealed(data, indent=2), encoding="utf-8")


def save_picture(figure, path):
    """Save a figure: PNG as a palette, a third of the size without a visible difference; SVG and PDF as vectors."""
    kind = Path(path).suffix[1:]
    if kind != "png":
        # Without a date, so that one figure gives one file.
        figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
        return
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(N_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
