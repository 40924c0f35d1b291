"""What all packages and commands of enresnet share; it imports none of them, and loads in an instant.

The version; the check that `pde` is ours and not py-pde's; records in JSON with a digest of their values; and the frame
of a command: every error a user can cause is one line on standard error with status 2, Ctrl-C ends with status 130 from
the first line on.
"""

import argparse
import contextlib
import contextvars
import hashlib
import importlib.util
import io
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

__all__ = [
    "OneLineParser",
    "__version__",
    "as_typed",
    "check_pde",
    "commit",
    "complain",
    "counted",
    "in_one_line",
    "name_options",
    "output_path",
    "portable",
    "prog",
    "quiet_imports",
    "read_record",
    "renamed",
    "run",
    "sealed",
    "silence_interrupts",
    "unsealed",
    "writable_directory",
    "write_record",
]

__version__ = "0.1.0"

ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
# Key of a record under which the digest of its other values stands.
DIGEST = "sha256"
USER_ERRORS = (ValueError, ArithmeticError, OSError, MemoryError)
CLASH = (
    "the package pde that Python finds ({where}) is not enresnet's: py-pde installs its own under the same name; "
    "install enresnet into an environment of its own (python -m venv)"
)
# What stands in front of an error where the installed command was typed: "enresnet fig4".
_typed = contextvars.ContextVar("typed", default=None)


def check_pde():
    """Raise an ImportError if `pde` is another project's: before it is imported, for that may fail in any way."""
    ours = Path(__file__).resolve().parent / "pde"
    spec = importlib.util.find_spec("pde")
    origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    # Installed into one folder, the two have overwritten each other's files; a package of py-pde's is left.
    if origin != ours / "__init__.py" or (ours / "pdes").is_dir():
        message = CLASH.format(where=origin.parent if origin else "no regular package")
        if sys.argv[:1] == ["-m"]:
            sys.exit(complain(f"python -m {' '.join(sys.orig_argv[2:3])}", message, ERROR))
        raise ImportError(message)


def quiet_imports():
    """Let Ctrl-C end `python -m package.command` in silence while it still imports; `run` takes over later."""
    # Python's own mark while it imports the package of a module that it was told to run.
    if sys.argv[:1] == ["-m"]:
        silence_interrupts()


def silence_interrupts():
    """Let Ctrl-C end the process in silence with status 130, unless someone else handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(signum, frame):
    # Nothing is open yet that would have to be closed, and an exception would be lost in some imports.
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def as_typed(words):
    """Name the command by these words in its messages, instead of `python -m …`."""
    token = _typed.set(words)
    try:
        yield
    finally:
        _typed.reset(token)


def prog(default):
    """Return the command's name as it was typed."""
    return _typed.get() or default


def in_one_line(error):
    """Return an error's message in one line, without numbers of the system; of one without a message, its class."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(message.split()) or type(error).__name__


def name_options(message, names, others=()):
    """Write the fields of a command in a message as its options: `n_threads must be` as `--n-threads must be`.

    `others` are pairs (name in messages, option) where the two differ.
    """
    options = {name: f"--{name.replace('_', '-')}" for name in names} | dict(others)
    if not options:
        return message
    words = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    return re.sub(rf"(?<![\w.\-/])({words})(?= must\b|=)", lambda match: options[match[1]], message)


def run(main, name, *, options=(), others=(), interrupted=None, also=()):
    """Call main() in the frame of a command.

    `name` is the command as typed, `options` and `others` as for `name_options`, `interrupted` what to write after
    Ctrl-C (by default nothing) where the KeyboardInterrupt has no message. `also` are further errors of users: (class,
    what to add to the message).
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        # A terminal without ± shows a question mark, and the results are not lost.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    expected = (*USER_ERRORS, *(kind for kind, _ in also))
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough; without this the interpreter would complain when it closes the stream.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt as stop:
        if message := " ".join(map(str, stop.args)) or interrupted:
            sys.stderr.write(f"{prog(name)}: {message}\n")
        sys.exit(getattr(stop, "status", INTERRUPTED))
    except expected as error:
        advice = next((advice for kind, advice in also if isinstance(error, kind)), "")
        sys.exit(complain(name, f"{name_options(in_one_line(error), options, others)}{advice}", ERROR))


def counted(n, noun):
    """Return a number with its noun: "1 epoch", "2 epochs"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def complain(name, message, status):
    """Write an error in one line to standard error, and return the status to exit with."""
    sys.stderr.write(f"{prog(name)}: error: {' '.join(message.split())}\n")
    return status


def sealed(record, **options):
    """Return a record, a dict, as a line or lines of JSON with a digest of its values; options are those of json.dumps.

    ValueError if a number is not finite.
    """
    values = {key: value for key, value in record.items() if key != DIGEST}
    # As they will be read: keys are words, and tuples lists.
    values = json.loads(json.dumps(values, allow_nan=False))
    return json.dumps(values | {DIGEST: _digest(values)}, **options) + "\n"


def unsealed(text):
    """Return the record that `sealed` wrote, without its digest; ValueError if it is no JSON, or a value has changed.

    A record that has no digest, of an earlier version or written by hand, is returned as it is.
    """
    record = json.loads(text)
    if isinstance(record, dict) and DIGEST in record and record.pop(DIGEST) != _digest(record):
        raise ValueError(f"its values do not match its {DIGEST}")
    return record


def read_record(path):
    """Return the record in a file, see `unsealed`."""
    return unsealed(path.read_text(encoding="utf-8"))


def write_record(path, record, **options):
    """Write `sealed` of a record into a file, completely or not at all."""
    with renamed(path) as draft:
        draft.write_text(sealed(record, **options), encoding="utf-8")


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def renamed(path):
    """Yield a temporary path beside `path`, to which it is renamed at the end, after synchronising with the disk."""
    # With the suffix of the path, by which libraries choose the format.
    draft = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        # Some libraries create files that only their owner can read.
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def commit():
    """Return the commit of this checkout, or None outside of one."""
    import subprocess

    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def portable(word):
    """Reduce an absolute path to its last name: records are committed, and directories differ between machines."""
    option, equals, value = word.rpartition("=")
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def output_path(word):
    """The path of an option; `--out ''` is a mistake of a script and not the working directory."""
    if not word.strip():
        raise argparse.ArgumentTypeError("must not be empty, got ''")
    return Path(word)


def writable_directory(path, option):
    """Make the directory of an option, and raise a ValueError if no file can be written there."""
    import tempfile

    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written: {error.strerror}") from None


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and whose help shows the module's docstring as written."""

    def __init__(self, name, doc):
        super().__init__(prog=prog(name), description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        # An abbreviation would be accepted today and be ambiguous after the next option.
        self.allow_abbrev = False

    def parse_args(self, args=None, namespace=None):
        """Read the arguments; names and options may stand in any order."""
        return self.parse_intermixed_args(args, namespace)

    def error(self, message):
        """Print one line and exit with status 2."""
        self.exit(ERROR, f"{self.prog}: error: {' '.join(message.split())}\n")
