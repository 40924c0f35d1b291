"""Options of a command that cannot be read are refused before PyTorch is imported, which takes seconds.

The dataclasses of the options are read from their source, without the checks of their values, and parsed as the command
will parse them; what can be read is read again by the command itself, and judged there.
"""

import ast
import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Literal

from nets import _cli

__all__ = ["refuse"]

HERE = Path(__file__).parent
# The files that hold the options of a command, and what comes first where it is not given: a recipe, a run, nothing.
COMMANDS = {
    "train": (("training/_recipe.py", "train.py"), "cpu/digits"),
    "evaluate": (("evaluation/_setup.py",), "RUN"),
    "compare": (("compare.py",), ""),
}
CLASSES = ("Recipe", "Options")
# These print what only the command knows.
LATER = {"-h", "--help", "--list"}


def refuse():
    """Exit with one line and status 2 if this process is a command whose options cannot be read; else do nothing."""
    name, words = _command()
    if name not in COMMANDS or LATER & set(words) or importlib.util.find_spec("tyro") is None:
        return
    files, subject = COMMANDS[name]
    if subject and words and not words[0].startswith("-"):
        subject, *words = words
    kinds = {}
    for file in files:
        for node in ast.parse((HERE / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in CLASSES:
                kinds[node.name] = _without_checks(node, kinds)
    _cli.parse(kinds["Options"], f"python -m nets.{name} {subject}".rstrip(), None, words)


def _command():
    """The command that is being started, "train" of nets.train, and its words."""
    module, words = sys.argv[0], sys.argv[1:]
    if module == "-m":
        # Python's own mark while it imports the package of a module that it was told to run.
        before = sys.orig_argv[: len(sys.orig_argv) - len(words)]
        module = before[-1] if before[-2:-1] == ["-m"] else ""
    else:
        # As `enresnet` names it.
        module = module.removesuffix(".py").replace("/", ".")
    package, _, name = module.partition(".")
    return (name, words) if package == "nets" else ("", words)


def _without_checks(node, kinds):
    """A dataclass with the fields of a class's source, every one with a default."""
    import tyro

    known = {"Literal": Literal, "Path": Path} | kinds
    made = []
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            kind = eval(ast.unparse(field.annotation), known)
            if kind in kinds.values():
                made.append(
                    (
                        field.target.id,
                        Annotated[kind, tyro.conf.OmitArgPrefixes],
                        dataclasses.field(default_factory=kind),
                    )
                )
            else:
                # Required are those that the command fills in.
                default = "" if field.value is None else eval(ast.unparse(field.value), known)
                made.append((field.target.id, kind, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(node.name, made, frozen=True)
