"""The findings in a figure's JSON file as lines to read: a name, and a value in words and rounded numbers."""

from typing import NamedTuple

__all__ = ["Line", "lines_of"]

# Provenance and captions are not findings.
PROVENANCE = ("captions", "command", "arguments", "versions", "commit", "machine", "date", "seconds")
# Estimates that are in one dict with their standard error.
ESTIMATES = ("mean", "order", "accuracy")
# The standard error implies it.
INTERVAL = ("low", "high")
N_LISTED = 8


class Line(NamedTuple):
    """A finding: name and value as text, and whether it is one of a list of similar findings."""

    name: str
    value: str
    is_item: bool = False


def lines_of(record):
    """Return the findings in a figure's record: near the top of the file first, items of lists last.

    >>> found = lines_of({"seconds": 3.0, "gain": {"n": [1, 2], "in_h": {"order": 0.98765, "stderr": 0.01}}, "x": 1e-9})
    >>> [tuple(line)[:2] for line in found]
    [('x', '1e-09'), ('gain · n', '1, 2'), ('gain · in h', '0.9877 ± 0.01')]
    """
    found = []
    for key, value in record.items():
        if key not in PROVENANCE:
            _collect((key,), value, found)
    # An item's place in its list is a number, every other part of a path a name.
    listed = [any(isinstance(part, int) for part in path) for path, _ in found]
    lines = sorted(zip(listed, found, strict=True), key=lambda line: (line[0], len(line[1][0])))
    return [Line(" · ".join(map(str, path)).replace("_", " "), text, is_item) for is_item, (path, text) in lines]


def _collect(path, value, found):
    if isinstance(value, dict):
        estimate = next((key for key in ESTIMATES if key in value and "stderr" in value), None)
        rest = dict(value)
        if estimate:
            found.append((path, _estimate(value, estimate)))
            for key in (estimate, "stderr", *((*INTERVAL, "n") if estimate == "mean" else ())):
                rest.pop(key, None)
        for key, inner in rest.items():
            _collect((*path, str(key)), inner, found)
    elif isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
        for number, inner in enumerate(value, 1):
            _collect((*path, number), inner, found)
    else:
        found.append((path, _text(value)))


def _estimate(value, key):
    text = _text(value[key])
    if value["stderr"] is not None:
        # Two digits of an error are enough to judge the estimate.
        text += f" ± {value['stderr']:.2g}" if isinstance(value["stderr"], (int, float)) else f" ± {value['stderr']}"
    return text + (f" (n = {value['n']})" if key == "mean" and "n" in value else "")


def _text(value):
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        numbers = [one for one in value if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if len(value) > N_LISTED and len(numbers) == len(value):
            return f"{len(value)} numbers, {_text(min(numbers))} to {_text(max(numbers))}"
        return ", ".join(map(_text, value)) or "none"
    return str(value)
