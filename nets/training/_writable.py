"""Directories that are tested before the work begins, and leave nothing behind if they cannot be written."""

import contextlib
import os
from pathlib import Path

__all__ = ["check_directory", "make_directory", "remove_empty"]


def check_directory(directory):
    """Check that the directory of a run can be made and written, and leave nothing in it.

    Parameters
    ----------
    directory : Path
        Directory of the run.

    Raises
    ------
    ValueError
        If it cannot be made or written (raised by a helper).
    """
    made = make_directory(Path(directory))
    draft = Path(directory) / f".try.{os.getpid()}.part"
    try:
        draft.write_bytes(b"\0" * 4096)
    except OSError as error:
        raise _unwritable(directory, error) from None
    finally:
        draft.unlink(missing_ok=True)
        remove_empty(made)


def make_directory(directory):
    """Make a directory and its parents; return those that did not exist, the innermost first."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remove_empty(missing)
        raise _unwritable(directory, error) from None
    return missing


def remove_empty(directories):
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()


def _unwritable(directory, error):
    return ValueError(f"the run's directory {directory} cannot be written: {error.strerror}")
