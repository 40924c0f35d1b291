"""What the commands of this package share: fractions as options, and errors in one line."""

import json
import re
import sys

from nets import checkpoint


def as_decimal(word):
    """`8/255` as the decimal that an option of type float reads; any other word as it is."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)/([1-9]\d*)", word)
    return repr(float(match[1]) / int(match[2])) if match else word


def complain(prog, error, status):
    """Write an error in one line to standard error, and return the status to exit with."""
    message = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"{prog}: error: {message}\n")
    return status


def write_json(path, content):
    """Write a file of results, whole or not at all; a ValueError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with checkpoint.renamed(path) as draft:
            draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
