"""One page with every figure and table that has been made: index.html, which needs no other file and no network.

    python -m figures.gallery --out DIR

Pictures, captions, findings and provenance come from the files that `python -m figures` and its modules write:
NAME.png, NAME-*.png, NAME.json, tableN.csv and tableN.md. Missing ones are listed in one fold at the end, with the
commands that make them. The page contains the pictures and runs no script. Nothing is computed; it takes a second.
"""

import ast
import base64
import csv
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import _enresnet
from figures import _io
from figures._cli import OneLineParser, run
from figures._registry import FIGURES
from figures.gallery import _page
from figures.gallery._summary import lines_of

__all__ = ["main", "write"]

PROG = "python -m figures.gallery"
PNG_END = b"IEND\xaeB`\x82"
TABLE = re.compile(r"table(\d+)|section([\d-]+)")
# Number of findings that are shown; the file contains all.
N_FINDINGS = 12


class Picture(NamedTuple):
    """A picture: its PNG in base64, its size in pixels, a caption, and an alternative text."""

    base64: str
    width: int
    height: int
    caption: str
    alternative: str


class Section(NamedTuple):
    """A figure on the page: title and text of its docstring, its contents, and errors found."""

    name: str
    title: str
    text: str
    pictures: list
    tables: list
    findings: list
    n_more: int
    is_quick: bool
    provenance: str
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
        Directory of the figures, and of the page.
    reasons : dict of str to str, optional
        Reasons why figures could not be made, by name of the figure.

    Returns
    -------
    Path
        Path of the page.

    Raises
    ------
    ValueError
        If there is no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"--out {directory} is not a directory: python -m figures makes it")
    page = _page.page([_section(directory, name, (reasons or {}).get(name)) for name in FIGURES])
    (path,) = _io.save_all(directory, {"index.html": lambda path: path.write_text(page, encoding="utf-8")})
    return path


def _section(directory, name, reason):
    title, text = _docstring(name)
    faults = [f"Not made by the last call: {reason}"] if reason else []
    record = _record(directory / f"{name}.json", faults)
    paths = [*directory.glob(f"{name}.png"), *sorted(directory.glob(f"{name}-*.png"))]
    pictures = [_picture(path, name, title, record, faults) for path in paths]
    findings = lines_of(record)
    shown = [line for line in findings if not line.is_item][:N_FINDINGS]
    command = shlex.join(["python", "-m", f"figures.{name}", "--out", str(directory)])
    arguments = record.get("arguments")
    return Section(
        name=name,
        title=title.rstrip("."),
        text=text,
        pictures=[picture for picture in pictures if picture],
        tables=_tables(directory, faults) if name == "tables" else [],
        findings=shown,
        n_more=len(findings) - len(shown),
        is_quick=bool(isinstance(arguments, dict) and arguments.get("quick")),
        provenance=_provenance(name, record),
        command=str(record.get("command") or command),
        faults=faults,
    )


def _docstring(name):
    """First line and the rest, read from the source: importing the module may need PyTorch."""
    parent = Path(__file__).parents[1]
    path = parent / f"{name}.py"
    source = (path if path.is_file() else parent / name / "__init__.py").read_text(encoding="utf-8")
    title, _, text = (ast.get_docstring(ast.parse(source)) or name).partition("\n")
    return title, text.strip("\n")


def _picture(path, name, title, record, faults):
    content = path.read_bytes()
    size = _size(content)
    if size is None:
        faults.append(f"{path.name} is damaged")
        return None
    part = path.stem.removeprefix(name).strip("-")
    captions = record.get("captions")
    caption = str(captions.get(part, "")) if isinstance(captions, dict) else ""
    alternative = f"{title.rstrip('.')}{f': {part}' if part else ''}. Its numbers are listed below the picture."
    return Picture(base64.b64encode(content).decode("ascii"), *size, caption, alternative)


def _size(content):
    """Width and height of a PNG; None if a part is missing or does not match its checksum."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
            return image.size if content.endswith(PNG_END) else None
    except Exception:  # noqa: BLE001
        # Damaged pictures raise errors of many types.
        return None


def _record(path, faults):
    if not path.is_file():
        return {}
    try:
        record = _enresnet.read_record(path)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        faults.append(f"{path.name} is damaged")
        return {}
    return record


def _provenance(name, record):
    """Date, seconds, commit and versions in a line."""
    if not record:
        return "" if name == "tables" else f"{name}.json, which records how it was made, is missing."
    versions = record.get("versions")
    parts = [
        record.get("date"),
        f"{record['seconds']} s" if "seconds" in record else None,
        f"commit {record.get('commit') or 'unknown'}",
        ", ".join(f"{key} {version}" for key, version in versions.items()) if isinstance(versions, dict) else None,
    ]
    return "; ".join(str(part) for part in parts if part)


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
        found.append((order, _page.table_of(_heading(path), rows)))
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
    arguments = OneLineParser(PROG, __doc__, computes=False).parse_args(argv)
    run(lambda: print(write(arguments.out)), PROG, arguments)
