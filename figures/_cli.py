"""The command of a figure: compute, draw, save picture, arrays and provenance; or draw again from the arrays."""

import time
from pathlib import Path

import numpy as np

from figures import _io


def figure_command(name, doc, argv, *, compute, plot, findings, shapes, sound, of_runs=False, options=None):
    """Run the command line of the module figures.NAME.

    `compute(quick=, seed=)` gives arrays, `plot(arrays)` a figure, `findings(arrays)` what the JSON says beside the
    provenance. For --replot the arrays named in `shapes` are read, and `sound(arrays, path)` returns them or raises a
    ValueError. A figure `of_runs` is about trained networks: `compute(quick=, seed=, runs=, data=)` is given the
    directory that holds them, of tiny ones for --quick, and where their images lie, or None. `options` are further
    ones: name without dashes -> arguments of `add_argument`; `compute` is given their values as well.
    """
    parser = _io.OneLineParser(f"python -m figures.{name}", doc)
    if of_runs:
        parser.add_argument(
            "--runs", type=Path, help="directory of finished runs (default runs; tiny ones for --quick)"
        )
        parser.add_argument("--data", help="where their images lie (default: where they lay for the training)")
    for option, described in (options or {}).items():
        parser.add_argument(f"--{option}", **described)
    parser.add_argument("--replot", action="store_true", help=f"draw again from {name}.npz, without computing")
    arguments = vars(parser.parse_args(argv))
    if of_runs and arguments["runs"] is not None and not arguments["runs"].is_dir():
        parser.error(f"--runs {arguments['runs']} is not a directory")

    def run():
        begin = time.perf_counter()
        path = arguments["out"] / f"{name}.npz"
        chosen = {key: arguments[key] for key in (option.replace("-", "_") for option in options or {})}
        if arguments["replot"]:
            for key, value in chosen.items():
                if value != parser.get_default(key):
                    raise ValueError(f"--{key.replace('_', '-')} asks for other data: run without --replot")
            data = sound(_io.load_data(path, shapes), path)
        elif arguments["seed"] < 0:
            raise ValueError(f"--seed must be >= 0, got {arguments['seed']}")
        directory = _io.writable(arguments["out"])
        if not arguments["replot"]:
            inputs = {"runs": _runs_of(arguments), "data": arguments["data"]} if of_runs else {}
            data = compute(quick=arguments["quick"], seed=arguments["seed"], **inputs, **chosen)
        _io.use_style()
        writers = {f"{name}.png": lambda path: _io.save_picture(plot(data), path)}
        if not arguments["replot"]:
            record = _io.provenance(arguments, time.perf_counter() - begin) | findings(data)
            writers[f"{name}.npz"] = lambda path: np.savez_compressed(path, **data)
            writers[f"{name}.json"] = lambda path: _io.write_json(path, record)
        for written in _io.save_all(directory, writers):
            print(written)

    _io.run(run, parser.prog, arguments)


def _runs_of(arguments):
    # Figures of the equation alone do without PyTorch.
    from figures._runs import root_of

    return root_of(arguments)


def sound_arrays(data, path, shapes, is_sound, *, fault, lengths=None, may_be_empty=()):
    """Return the arrays read from a file, or raise a ValueError that names those that no computation gave.

    `shapes` has a string a key, one letter for each axis; axes of one letter have one length, which `lengths` may fix.
    `is_sound(key, array)` judges kind and values; `fault` says what is wrong where it does not hold.
    """
    lengths, wrong = dict(lengths or {}), []
    for key, axes in shapes.items():
        array = data[key]
        fits = array.ndim == len(axes) and all(
            lengths.setdefault(axis, length) == length for axis, length in zip(axes, array.shape, strict=True)
        )
        if not (fits and is_sound(key, array) and (array.size or key in may_be_empty)):
            wrong.append(key)
    if wrong:
        raise ValueError(f"{path} is damaged ({', '.join(wrong)}: {fault}): run without --replot")
    return data
