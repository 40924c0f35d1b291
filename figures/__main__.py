"""Every figure and table of the paper: python -m figures [NAME ...], and one page that shows them: OUT/index.html.

    python -m figures                    all of them, with the trained networks that ship with the package
    python -m figures fig5 fig6          some of them
    python -m figures --list             their names
    python -m figures --quick            small problems, few images
    python -m figures --runs runs        with your own finished runs

Each figure also has its own command, python -m figures.NAME, with its own options. The page is rewritten after each
figure, so that an interrupted call leaves one as well; python -m figures.gallery writes it from the files alone. A
figure for which a package or finished runs are missing is skipped with a line that says how to get them. The exit
status is 1 if a figure failed, or if one that was named was skipped.

About eight minutes on two cores, one to three with --quick; with --runs those of attacks may take an hour: see their
--help.
"""

import contextlib
import functools
import importlib
import io
import re
import sys
import traceback
from typing import NamedTuple

from tqdm import tqdm

import _enresnet
from figures import _io, gallery
from figures._cli import OneLineParser, run
from figures._registry import FIGURES, OF_NETWORKS

__all__ = ["FIGURES", "main"]

PROG = "python -m figures"
# The wording of figures._runs, which cannot be imported where PyTorch is missing.
NO_RUNS = re.compile(r"finished runs\b.* for this figure|figures/data lacks")
EXTRA = "enresnet[nets]"
OF_EXTRA = ("torch", "torchvision", "sklearn", "safetensors", "PIL", "tensorboard", "tyro")
INTERRUPTED = 130


class Outcome(NamedTuple):
    """Outcome of a figure: "made", "skipped" or "failed", and why."""

    word: str
    why: str = ""


def main(argv=None):
    """Run the command line."""
    parser = OneLineParser(PROG, __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to make (default: all)")
    parser.add_argument("--list", action="store_true", help="list the figures and exit")
    parser.add_networks()
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    if arguments.seed < 0:
        parser.error(f"--seed must be >= 0, got {arguments.seed}")
    if arguments.runs is not None and not arguments.runs.is_dir():
        parser.error(f"--runs {arguments.runs} is not a directory")
    for option in OF_NETWORKS:
        takers = [name for name, figure in FIGURES.items() if option in figure.options]
        if getattr(arguments, option) is not None and arguments.names and not {*takers} & {*arguments.names}:
            parser.error(f"--{option} has no effect on {', '.join(arguments.names)}; it is for {', '.join(takers)}")
    if arguments.list:
        for name, figure in FIGURES.items():
            print(f"{name:20s} {figure.what}")
    else:
        run(lambda: _build(arguments), PROG, arguments)


def _build(arguments):
    with _io.output_directory(arguments.out, ["index.html"]) as directory:
        _build_in(directory, arguments)


def _build_in(directory, arguments):
    names = list(dict.fromkeys(arguments.names)) or list(FIGURES)
    outcomes, keep_threads = {}, _keep_threads(names)
    with tqdm(names, disable=None, desc="figures", unit="figure") as bar:
        for name in bar:
            bar.set_postfix_str(name)
            keep_threads()
            outcomes[name] = _make(name, _options(name, arguments))
            reasons = {name: outcome.why for name, outcome in outcomes.items() if outcome.word != "made"}
            page = gallery.write(directory, reasons=reasons)
    print(page)
    sys.stderr.write(_summary(outcomes))
    bad = ("failed", "skipped") if arguments.names else ("failed",)
    if any(outcome.word in bad for outcome in outcomes.values()):
        sys.exit(1)


def _keep_threads(names):
    """Return a function that resets PyTorch's number of threads, which earlier figures may have changed.

    Numba's loops set the number of OpenMP's threads of the whole process, whatever OMP_NUM_THREADS is; on a busy
    machine small networks then take five times the processor time.
    """
    try:
        # Not for a single figure: none came before it, and it may not need PyTorch.
        torch = importlib.import_module("torch") if len(names) > 1 else None
    except ImportError:
        torch = None
    if torch is None:
        return lambda: None
    return functools.partial(torch.set_num_threads, torch.get_num_threads())


def _options(name, arguments):
    """The arguments of a figure: the shared ones, and those of the others that it accepts."""
    options = ["--seed", str(arguments.seed), "--out", str(arguments.out)] + ["--quick"] * arguments.quick
    for option in FIGURES[name].options:
        value = getattr(arguments, option)
        if value is not None:
            options += [f"--{option}", str(value)]
    return options


def _make(name, options):
    """Run a figure's command."""
    # Its files contain what it prints.
    quietly = contextlib.redirect_stdout(io.StringIO()) if FIGURES[name].prints_output else contextlib.nullcontext()
    try:
        with quietly, _as_typed(name, options):
            importlib.import_module(f"figures.{name}").main(options)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            raise
        return _judge(stop)
    except ImportError as error:
        why = _missing(error)
        if why:
            sys.stderr.write(f"{PROG}.{name}: skipped: {why}\n")
            return Outcome("skipped", why)
        return _crash(error)
    except Exception as error:  # noqa: BLE001
        # A failing figure does not stop the others; its traceback and the exit status report it.
        return _crash(error)
    return Outcome("made")


@contextlib.contextmanager
def _as_typed(name, options):
    """Make the figure's provenance name the command of this figure alone."""
    typed = sys.argv
    sys.argv = [f"figures/{name}.py", *options]
    try:
        yield
    finally:
        sys.argv = typed


def _judge(stop):
    """Outcome of an exit, whose reason the user has seen already."""
    if not stop.code:
        return Outcome("made")
    # The error that `_cli.run` turned into an exit.
    why = " ".join(str(stop.__context__ or f"exit status {stop.code}").split())
    return Outcome("skipped" if NO_RUNS.search(why) else "failed", why)


def _missing(error):
    """The extra that contains the missing package; empty for another error."""
    if EXTRA in str(error):
        return " ".join(str(error).split())
    package = (error.name or "").partition(".")[0]
    is_missing = isinstance(error, ModuleNotFoundError) and package in OF_EXTRA
    return f'needs {package}, which is not installed: pip install "{EXTRA}"' if is_missing else ""


def _crash(error):
    traceback.print_exception(error)
    return Outcome("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _summary(outcomes):
    lines = []
    for word in ("made", "skipped", "failed"):
        chosen = {name: outcome.why for name, outcome in outcomes.items() if outcome.word == word}
        if chosen or word == "made":
            lines.append(f"{_enresnet.prog(PROG)}: {len(chosen)} of {len(outcomes)} {word}")
        lines += [f"  {name}: {why}" for name, why in chosen.items() if why]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
