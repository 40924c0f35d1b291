"""One page with every figure and table that has been made: index.html, which needs no other file and no network.

    python -m figures.gallery --out DIR

Pictures, findings and provenance come from the files that `python -m figures` and its modules write: NAME.png,
NAME-*.png, NAME.json, tableN.csv and tableN.md. What is not there is said to be missing, with the command that makes
it. The pictures are part of the page, which asks for nothing from anywhere and runs no script. Nothing is computed,
with --quick or without; a second.
"""

import ast
import csv
import io
import json
import re
import struct
from pathlib import Path
from typing import NamedTuple

from figures import _io
from figures._registry import FIGURES
from figures.gallery import _page

__all__ = ["Picture", "Section", "Table", "main", "sections", "write"]

PROG = "python -m figures.gallery"
PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
TABLE = re.compile(r"table(\d+)|section([\d-]+)")


class Picture(NamedTuple):
    """A picture.

    Attributes
    ----------
    name : str
        Of the file.
    content : bytes
        PNG.
    width, height : int
        Pixels.
    """

    name: str
    content: bytes
    width: int
    height: int


class Table(NamedTuple):
    """A table of the paper.

    Attributes
    ----------
    name, title : str
        Of the file without its ending, and what it is about.
    rows : list of dict
        By the heads of the CSV file.
    """

    name: str
    title: str
    rows: list


class Section(NamedTuple):
    """What the page shows of a figure.

    Attributes
    ----------
    name : str
        Of the module.
    title, text : str
        First line of its docstring, and the rest.
    pictures : list of Picture
        Those that are there.
    tables : list of Table
        Of the module `tables`.
    record : dict
        The JSON file; empty if there is none.
    command : str
        That makes it.
    faults : list of str
        What was wrong with files, and why the figure was not made now.
    """

    name: str
    title: str
    text: str
    pictures: list
    tables: list
    record: dict
    command: str
    faults: list

    @property
    def is_missing(self):
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables)


def write(directory, *, reasons=None):
    """Write index.html from the files in a directory.

    Parameters
    ----------
    directory : Path
        Where the figures are, and the page will be.
    reasons : dict of str to str, optional
        By name of a figure, why it could not be made now.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    ValueError
        If directory is none.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"--out {directory} is no directory: python -m figures makes it")
    page = _page.page(sections(directory, reasons or {}))
    (path,) = _io.save_all(directory, {"index.html": lambda path: path.write_text(page, encoding="utf-8")})
    return path


def sections(directory, reasons):
    """Read what there is of every figure.

    Parameters
    ----------
    directory : Path
        Where.
    reasons : dict of str to str
        By name of a figure, why it could not be made now.

    Returns
    -------
    list of Section
        In the order of the list of figures.
    """
    return [_section(directory, name, reasons.get(name)) for name in FIGURES]


def _section(directory, name, reason):
    title, text = _docstring(name)
    faults = [f"Not made by the last call: {reason}"] if reason else []
    pictures = [_picture(path, faults) for path in sorted(directory.glob(f"{name}.png")) + _others(directory, name)]
    tables = _tables(directory, faults) if name == "tables" else []
    record = _record(directory / f"{name}.json", faults)
    command = _page.command(name, directory)
    return Section(name, title, text, [p for p in pictures if p], tables, record, command, faults)


def _others(directory, name):
    return sorted(directory.glob(f"{name}-*.png"))


def _docstring(name):
    """First line and the rest, read from the source: importing the module may need PyTorch."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    title, _, text = (ast.get_docstring(ast.parse(source)) or name).partition("\n")
    return title, text.strip("\n")


def _picture(path, faults):
    content = path.read_bytes()
    if not (content.startswith(PNG) and content.endswith(PNG_END)):
        faults.append(f"{path.name} is damaged")
        return None
    return Picture(path.name, content, *struct.unpack(">II", content[16:24]))


def _record(path, faults):
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        faults.append(f"{path.name} is damaged")
        return {}
    return record


def _tables(directory, faults):
    found = []
    for path in directory.glob("*.csv"):
        match = TABLE.fullmatch(path.stem)
        if not match:
            continue
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        except (ValueError, csv.Error):
            rows = []
        if not rows or not set(_page.FIELDS) <= rows[0].keys() or any(None in row.values() for row in rows):
            faults.append(f"{path.name} is damaged")
            continue
        # Tables in the order of their numbers, then sections.
        order = (match[1] is None, int(match[1]) if match[1] else 0, path.stem)
        found.append((order, Table(path.stem, _heading(path), rows)))
    return [table for _, table in sorted(found, key=lambda pair: pair[0])]


def _heading(path):
    markdown = path.with_suffix(".md")
    first = markdown.read_text(encoding="utf-8").partition("\n")[0] if markdown.is_file() else ""
    return first.lstrip("# ") or path.stem


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    arguments = _io.OneLineParser(PROG, __doc__).parse_args(argv)
    _io.run(lambda: print(write(arguments.out)), PROG, arguments)
