"""The lessons on paper, by printing their pages, and as notebooks of Jupyter."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import _enresnet
from lessons._chromium import chromium
from lessons._pages import wait_for_lesson
from lessons._server import lesson_path, running

__all__ = ["write", "write_handouts", "write_notebooks"]

PACKAGE = "enresnet[nets,teach]"
INSTALL = """# In Colab, or wherever the packages are missing. From a checkout: %pip install -e ".[nets,teach]"
import importlib.util

if not all(map(importlib.util.find_spec, ("bridge", "lessons", "marimo"))):
    %pip install -q "{}"

import lessons._jupyter

lessons._jupyter.show_as_markdown(get_ipython())"""


def write_handouts(names, directory):
    """Print lessons to NAME.pdf in a directory, as they are when opened; yield the path of each complete file.

    ValueError if there is no Chromium or a page cannot be written, RuntimeError if a lesson fails.
    """
    with chromium() as page, running() as address:
        # The width of A4 between its margins.
        page.look(718)
        for name in names:
            page.open(f"{address}/{name}/")
            wait_for_lesson(page, name)
            yield write(directory / f"{name}.pdf", page.pdf())


def write_notebooks(names, directory, package=PACKAGE):
    """Write lessons as NAME.ipynb with a first cell that installs `package`; yield the path of each complete file."""
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "lesson.ipynb")
            command = ["export", "ipynb", str(lesson_path(name)), "--output", str(file), "--sort", "top-down"]
            done = subprocess.run(
                [sys.executable, "-m", "marimo", "--yes", *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if done.returncode or not file.is_file():
                raise ValueError(f"lesson {name} cannot be exported: {(done.stderr or done.stdout).strip()}")
            notebook = json.loads(file.read_text(encoding="utf-8"))
        first = {"cell_type": "code", "execution_count": None, "id": "install", "metadata": {}, "outputs": []}
        notebook["cells"].insert(0, first | {"source": INSTALL.format(package).splitlines(keepends=True)})
        notebook["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        data = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        yield write(directory / f"{name}.ipynb", data.encode())


def write(path, data):
    """Write a file under a temporary name, rename it when it is complete, and return its path."""
    with _enresnet.renamed(path) as draft:
        draft.write_bytes(data)
    return path
