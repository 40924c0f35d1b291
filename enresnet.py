"""The installed command: every command of the packages under one name.

    enresnet fig4                 Figure 4 of the paper                   python -m figures.fig4
    enresnet figures [NAME ...]   every figure, and out/index.html        python -m figures
    enresnet tables [N ...]       the paper's tables, ours beside them    python -m figures.tables
    enresnet train [RECIPE]       train a network                         python -m nets.train
    enresnet evaluate MODEL       attack a trained network                python -m nets.evaluate
    enresnet compare              two trainings on the same images        python -m nets.compare
    enresnet campaign             train and evaluate in a given time      python -m nets.campaign
    enresnet lessons              lessons with sliders in the browser     python -m lessons

enresnet COMMAND --help lists the options of a command; enresnet --version prints the version.
"""

import importlib
import sys

import _enresnet

__all__ = ["main"]

COMMANDS = {
    "fig4": "figures.fig4",
    "figures": "figures.__main__",
    "tables": "figures.tables",
    "train": "nets.train",
    "evaluate": "nets.evaluate",
    "compare": "nets.compare",
    "campaign": "nets.campaign",
    "lessons": "lessons.__main__",
}
PROG = "enresnet"


def main(argv=None):
    """Run a command by its name."""
    _enresnet.silence_interrupts()
    argv = sys.argv[1:] if argv is None else list(argv)
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        _enresnet.run(lambda: print(__doc__, end=""), PROG)
    elif name == "--version":
        _enresnet.run(lambda: print(f"{PROG} {_enresnet.__version__}"), PROG)
    elif name in COMMANDS:
        _call(name, rest)
    else:
        known = ", ".join(COMMANDS)
        sys.exit(_enresnet.complain(PROG, f"{name!r} is not a command; there are {known} and --version", 2))


def _call(name, rest):
    module = COMMANDS[name]
    typed = f"{PROG} {name}"
    # Provenance names the command as it can be repeated in a checkout as well.
    sys.argv = [module.removesuffix(".__main__").replace(".", "/") + ".py", *rest]
    with _enresnet.as_typed(typed):
        try:
            command = importlib.import_module(module).main
        except ImportError as error:
            sys.exit(_enresnet.complain(typed, _missing(error), 2))
        sys.exit(command(rest))


def _missing(error):
    message = _enresnet.in_one_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'{message}: pip install "enresnet[nets]", or "enresnet[nets,teach]" for the lessons'
    return message


if __name__ == "__main__":
    main()
