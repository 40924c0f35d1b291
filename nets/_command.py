"""What the commands of this package share: fractions as options, and errors in one line."""

import re
import sys


def as_decimal(word):
    """`8/255` as the decimal that an option of type float reads; any other word as it is."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)/([1-9]\d*)", word)
    return repr(float(match[1]) / int(match[2])) if match else word


def complain(prog, error, status):
    """Write an error in one line to standard error, and return the status to exit with."""
    message = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"{prog}: error: {message}\n")
    return status
