"""The command line of a figure: compute, draw, save picture, arrays and record; or draw again from the arrays."""

import sys
import time
from pathlib import Path

import _enresnet
from figures import _io, _style

__all__ = ["OneLineParser", "make_main", "run", "whole"]


class OneLineParser(_enresnet.OneLineParser):
    """A parser with the options that every figure has; its errors are one line.

    A command that is never one of several figures and computes nothing has --out alone.
    """

    def __init__(self, prog, doc, *, computes=True):
        super().__init__(prog, doc)
        if computes:
            self.add_argument(
                "--quick", action="store_true", help="small problem, few images; no effect where nothing is computed"
            )
            self.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default 0)")
        self.add_argument(
            "--out", type=_enresnet.output_path, default=Path("out"), help="output directory (default out)"
        )

    def add_networks(self):
        """Add the options that choose the trained networks."""
        self.add_argument("--runs", type=Path, help="directory of finished runs (default: the networks that ship)")
        self.add_argument("--data", help="path of their images (default: those that ship)")


def run(main, prog, arguments):
    """Call main() in the frame of a command with these arguments: errors of a user become one line and status 2."""
    options = arguments if isinstance(arguments, dict) else vars(arguments)
    also = [(MemoryError, ": a smaller --n takes less memory")] if "n" in options else []
    # A network's name is an argument of `nets.build`, and the option --model.
    others = {"name": "--model"} if "model" in options else {}
    _enresnet.run(main, prog, options=options, others=others, also=also)


def whole(name, value):
    """The whole number >= 1 given for an option."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    return number


def make_main(name, doc, *, compute, plot, findings, options=None, of_networks=False, table=None):
    """Return the function main(argv=None) of the module figures.NAME.

    `compute(quick=, seed=)` gives arrays; `plot(arrays)` a figure, or it is a dict of such functions by what follows
    NAME in the file's name; `findings(arrays)` gives what the JSON holds besides the provenance; `table(findings)` is
    printed. `options` adds arguments, name -> keywords of `add_argument`; compute receives their values, and that of a
    figure `of_networks` also `runs` and `data`: see `figures._runs`. compute, plot, findings and table are looked up
    in the module when they are called.
    """
    plots = plot if isinstance(plot, dict) else {"": plot}
    module = compute.__module__

    def main(argv=None):
        """Run the command line with these arguments, those of the process by default."""
        parser = _parser(name, f"{doc}\n{_files(name, plots)}", options or {}, of_networks)
        arguments = vars(parser.parse_args(argv))
        if of_networks and arguments["runs"] is not None and not arguments["runs"].is_dir():
            parser.error(f"--runs {arguments['runs']} is not a directory")
        run(lambda: _run(name, arguments, parser, current(), options or {}, of_networks), parser.prog, arguments)

    def current():
        """The functions by the names under which the module has them now."""
        names = vars(sys.modules[module])
        drawn = {suffix: names[draw.__name__] for suffix, draw in plots.items()}
        return names[compute.__name__], drawn, names[findings.__name__], table and names[table.__name__]

    return main


def _files(name, suffixes):
    pictures = ", ".join(f"{name}{suffix}.png" for suffix in suffixes)
    return f"Writes {pictures}, {name}.npz (the arrays) and {name}.json (findings and provenance) to --out."


def _parser(name, doc, options, of_networks):
    parser = OneLineParser(f"python -m figures.{name}", doc)
    if of_networks:
        parser.add_networks()
    for option, described in options.items():
        parser.add_argument(f"--{option}", **described)
    parser.add_argument("--format", choices=_io.FORMATS, default="png", help="file format of the picture (default png)")
    parser.add_argument("--replot", action="store_true", help=f"draw again from {name}.npz, without computing")
    return parser


def _run(name, arguments, parser, functions, options, of_networks):
    compute, plots, findings, table = functions
    begin = time.perf_counter()
    keys = [option.replace("-", "_") for option in options] + ["runs", "data"] * of_networks
    chosen = {key: arguments[key] for key in keys}
    names = [f"{name}{suffix}.{arguments['format']}" for suffix in plots]
    if arguments["replot"]:
        for key in ("quick", "seed", *chosen):
            if arguments[key] != parser.get_default(key):
                raise ValueError(f"--{key.replace('_', '-')} needs other data: run without --replot")
        data = _io.load_data(arguments["out"] / f"{name}.npz", name)
    elif arguments["seed"] < 0:
        raise ValueError(f"--seed must be >= 0, got {arguments['seed']}")
    else:
        names += [f"{name}.npz", f"{name}.json"]
    with _io.output_directory(arguments["out"], names) as directory:
        if not arguments["replot"]:
            data = compute(quick=arguments["quick"], seed=arguments["seed"], **chosen)
        _style.use_style()
        writers = {f"{name}{suffix}.{arguments['format']}": _drawer(plot, data) for suffix, plot in plots.items()}
        found = findings(data)
        if not arguments["replot"]:
            record = _io.provenance(arguments, time.perf_counter() - begin) | found
            writers[f"{name}.npz"] = lambda path: _io.save_data(path, name, data)
            writers[f"{name}.json"] = lambda path: _io.write_json(path, record)
        for written in _io.save_all(directory, writers):
            print(written)
    if table:
        print(f"\n{table(found)}")


def _drawer(plot, data):
    return lambda path: _io.save_picture(plot(data), path)
