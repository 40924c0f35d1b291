"""Parts that the commands of this package share: options from a dataclass, signals, and files of results.

The frame around a command – errors in one line, Ctrl-C, closed pipes – is `_enresnet.run`.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import signal
import sys
import typing

import _enresnet
from _enresnet import ERROR, complain, name_options, prog

__all__ = ["as_decimal", "field_names", "on_sigterm", "parse", "run", "write_json"]

# tyro draws a box around its errors: the error itself, then rules and advice in further paragraphs.
# Where the output knows ASCII alone there is no box, and a rule below the title.
BOX, RULE = "╭╮╰╯│ ", "─-"
WIDTH = 1000


def as_decimal(word):
    """Convert a fraction such as `8/255` to a decimal, which an option of type float accepts; return others as is."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)/([1-9]\d*)", word)
    return repr(float(match[1]) / int(match[2])) if match else word


def field_names(kind):
    """Names of the options of a command: the fields of a dataclass and of the dataclasses in it."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    inner = [field.type for field in dataclasses.fields(kind) if dataclasses.is_dataclass(field.type)]
    return {field.name for field in dataclasses.fields(kind)}.union(*map(field_names, inner))


def parse(kind, name, doc, argv, default=None):
    """Read the options of a command into a dataclass; errors are one line on standard error, and status 2."""
    import tyro

    written, words = io.StringIO(), [as_decimal(word) for word in argv]
    arguments = {} if default is None else {"default": default}
    for option, value in itertools.pairwise(word for each in words for word in each.split("=", 1)):
        if option.startswith("--") and not value:
            sys.exit(complain(name, f"{option} must not be empty, got ''", ERROR))
    # Help keeps the width of the terminal.
    width = contextlib.nullcontext() if {"-h", "--help"} & set(words) else _wide()
    try:
        with contextlib.redirect_stderr(written), width:
            return tyro.cli(kind, prog=prog(name), description=doc, args=words, **arguments)
    except SystemExit as stop:
        if not stop.code:
            raise
        sys.exit(complain(name, name_options(_in_one_line(written.getvalue()), field_names(kind)), ERROR))


@contextlib.contextmanager
def _wide():
    """Prevent line breaks in messages, whatever the width of the terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _in_one_line(box):
    lines = [line.strip(BOX) for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    # The first line is the title of the box; the error ends at a rule or an empty line.
    below = itertools.dropwhile(lambda line: not line.strip(RULE), lines[1:])
    error = itertools.takewhile(lambda line: line.strip(RULE), below)
    message = " ".join(error) or " ".join(box.split())
    # An error raised by the dataclass itself, which tyro attributes to no option.
    return re.sub(r"^Error parsing [a-z_]\w*: ", "", message)


def on_sigterm(handler=signal.default_int_handler):
    """Handle SIGTERM, by default like Ctrl-C; outside the main thread, where this is impossible, do nothing."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, handler)


def run(main, name, *, options, others=(), interrupted=None, also=()):
    """Call main() in the frame of a command; `options` are the dataclasses of its options."""
    import safetensors
    import torch

    from nets.attacks import ModelError, NoGradientError

    errors = [
        (ModelError, ""),
        (NoGradientError, ""),
        (safetensors.SafetensorError, ""),
        (torch.OutOfMemoryError, ": a smaller --batch-size needs less"),
        *also,
    ]
    names = set().union(*map(field_names, options))
    _enresnet.run(main, name, options=names, others=others, interrupted=interrupted, also=errors)


def write_json(path, content):
    """Write a file of results, with a digest, completely or not at all; ValueError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _enresnet.write_record(path, content, indent=2)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
