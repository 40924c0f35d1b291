"""Lines of code that are a formula, read from the source itself, so that a lesson never quotes old code."""

import ast
import inspect
import textwrap

import marimo as mo

__all__ = ["show_source", "source_lines"]


def show_source(function, *, first=None, last=None):
    """Show a function's code without its docstring, or its lines from one with `first` to one with `last` in it."""
    function = getattr(function, "py_func", function)
    number, code = source_lines(function, first=first, last=last)
    file = function.__module__.replace(".", "/") + ".py"
    return mo.md(f"`{function.__qualname__}` in `{file}`, line {number}:\n\n```python\n{code}\n```")


def source_lines(function, *, first=None, last=None):
    """Return the number of the first line shown, from 1, and the lines without common indentation; see `show_source`.

    ValueError if no line contains the words.
    """
    lines, start = inspect.getsourcelines(function)
    (definition,) = ast.parse(textwrap.dedent("".join(lines))).body
    body = definition.body
    if ast.get_docstring(definition) is not None:
        # The docstring is the lesson's text; the code is what is left.
        head, tail = body[0].lineno - 1, body[0].end_lineno
    else:
        head = tail = body[0].lineno - 1
    numbered = [(start + i, line.rstrip("\n")) for i, line in enumerate(lines) if i < head or i >= tail]
    begin = _index(numbered, first, 0, function)
    # One line where only the first is named.
    end = begin if last is None and first is not None else _index(numbered, last, begin, function, len(numbered) - 1)
    shown = numbered[begin : end + 1]
    return shown[0][0], textwrap.dedent("\n".join(line for _, line in shown)).strip("\n")


def _index(numbered, words, begin, function, default=0):
    if words is None:
        return default
    for index, (_, line) in enumerate(numbered[begin:], begin):
        if words in line:
            return index
    raise ValueError(f"no line of {function.__qualname__} contains {words!r}")
