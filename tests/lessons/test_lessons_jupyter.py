"""A lesson in a real Jupyter kernel, run by nbconvert: formulas, pictures and verdicts are there, and no cell fails."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("marimo")
for module in ("nbconvert", "ipykernel", "nbformat"):
    # Their own imports are not under test, and warn of what they please.
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)

from lessons import LESSONS
from lessons._export import write_notebooks

ROOT = Path(__file__).resolve().parents[2]
NAMES = [lesson.name for lesson in LESSONS]


def executed(path, directory):
    """The notebook of a path after `jupyter nbconvert --execute`, with nothing of the reader's own settings."""
    places = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    # Numba's cache stays where it is.
    own = {name: str(directory) for name in places} | {"NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", "")}
    options = ["--to", "notebook", "--execute", "--output-dir", str(directory), "--output", "run.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", *options, str(path)],
        cwd=directory,
        env=os.environ | {key: value for key, value in own.items() if value} | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((directory / "run.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_lesson_runs_in_jupyter(name, tmp_path):
    (path,) = write_notebooks([name], tmp_path)
    cells = executed(path, tmp_path)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] in ("error", "stream")]
    shown = ["".join(output["data"].get("text/markdown", "")) for output in outputs]
    texts = "\n".join(shown + ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"])
    assert "$$" in texts and "data:image/png;base64," in texts and "No answer yet." in texts
    assert "change <code>value=</code>" in texts
    # Whatever only marimo's pages can show has been turned into Markdown.
    assert "marimo-" not in "".join(shown)
