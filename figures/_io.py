"""What every figure shares: the command line, provenance, and files that appear whole or not at all."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import _enresnet

__all__ = [
    "OneLineParser",
    "load_data",
    "output_directory",
    "provenance",
    "run",
    "save_all",
    "save_picture",
    "use_style",
    "write_json",
]

PACKAGES = ("numpy", "scipy", "numba", "matplotlib")
# Where a figure has needed it.
NETWORKS = frozenset({"torch"})
N_COLOURS = 256


class OneLineParser(_enresnet.OneLineParser):
    """An ArgumentParser with the options that every figure has; its errors are one line."""

    def __init__(self, prog, doc):
        super().__init__(prog, doc)
        self.add_argument("--quick", action="store_true", help="small problem, under ten seconds")
        self.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default 0)")
        self.add_argument(
            "--out", type=_enresnet.output_path, default=Path("out"), help="output directory (default out)"
        )


def run(main, prog, arguments):
    """Call main() in the frame of a command with these arguments: errors of a user become one line and status 2."""
    options = arguments if isinstance(arguments, dict) else vars(arguments)
    also = [(MemoryError, ": a smaller --n takes less memory")] if "n" in options else []
    # A network's name is an argument of `nets.build`, and the option --model.
    others = {"name": "--model"} if "model" in options else {}
    _enresnet.run(main, prog, options=options, others=others, also=also)


def writable(path):
    """Return the output directory after a check that it can be made and written; what was not there is not left."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    output_directory(path)
    for each in missing:
        each.rmdir()
    return path


def output_directory(path):
    """Make the output directory, and find out now whether it can be written.

    Parameters
    ----------
    path : Path
        Directory.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None
    return path


def save_all(directory, writers):
    """Write files under temporary names, and rename them only when all are complete.

    Parameters
    ----------
    directory : Path
        Where.
    writers : dict of str to callable
        File name -> function that writes the file to a path given.

    Returns
    -------
    list of Path
    """
    written = {}
    directory.mkdir(parents=True, exist_ok=True)
    try:
        for name, write in writers.items():
            handle, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=Path(name).suffix)
            os.close(handle)
            written[directory / name] = Path(temporary)
            write(written[directory / name])
        for target, temporary in written.items():
            # mkstemp makes files that only their owner can read.
            temporary.chmod(0o644)
            temporary.replace(target)
    finally:
        for temporary in written.values():
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    return list(written)


def load_data(path, keys):
    """Read the arrays that a figure is drawn from.

    Parameters
    ----------
    path : Path
        An .npz file that the figure wrote.
    keys : sequence of str
        Arrays that must be in it.

    Returns
    -------
    dict of str to ndarray
        Of the shapes (...) that were saved.

    Raises
    ------
    ValueError
        If the file is missing, damaged or another figure's.
    """
    if not path.is_file():
        raise ValueError(f"--replot needs {path}, which is not there: run without --replot first")
    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            data = {key: archive[key] for key in archive.files}
    except Exception as error:  # noqa: BLE001
        # A damaged archive raises whatever its broken part leads to: zlib, struct, zip, pickle or value errors.
        raise ValueError(f"{path} is damaged ({type(error).__name__}): run without --replot") from None
    missing = [key for key in keys if key not in data]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: run without --replot")
    return data


def provenance(arguments, seconds):
    """Return what is needed to make the same data again.

    Parameters
    ----------
    arguments : dict
        The command's arguments.
    seconds : float
        Time the computation took.

    Returns
    -------
    dict
    """
    return {
        "command": shlex.join(["python", "-m", *_module_arguments()]),
        "arguments": {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in (*PACKAGES, *NETWORKS.intersection(sys.modules))},
        "commit": _commit(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
    }


def _module_arguments():
    return [Path(sys.argv[0]).stem and f"figures.{Path(sys.argv[0]).stem}", *sys.argv[1:]]


def _commit():
    """The commit of this checkout, or None outside of one."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def write_json(path, data):
    """Write a JSON file with a final newline.

    Parameters
    ----------
    path : Path
        Where.
    data : dict
        What.

    Raises
    ------
    ValueError
        If a number is not finite: JSON has no word for it (raised by json).
    """
    path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_picture(figure, path):
    """Save a figure as a PNG of a palette: a third of the size, and no difference to be seen.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to save.
    path : Path
        Where.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(N_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def use_style():
    """Set Matplotlib to the style of the figures, drawn without a screen."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"font.size": 10, "axes.grid": False, "figure.dpi": 110, "image.cmap": "viridis"})
