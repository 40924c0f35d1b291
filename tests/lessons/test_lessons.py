"""Lessons: complete in the index, scripts that fail where the mathematics does, code shown from the source, exports."""

import ast
import importlib
import inspect
import io
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the lessons need the extra nets")
pytest.importorskip("marimo", reason="marimo is not installed: the lessons need the extra teach")

from PIL import Image

import pde
from lessons import LESSONS, _chromium, _drawing, _exercise, _index, _jupyter, _links, _server, _source, _thumbnails

ROOT = Path(__file__).resolve().parents[2]
NAMES = [lesson.name for lesson in LESSONS]
# What the lessons may import: a solver of their own would have to come from somewhere.
ALLOWED = {"bridge", "lessons", "marimo", "matplotlib", "nets", "numpy", "pde", "torch"} | sys.stdlib_module_names


def run_python(*arguments, cwd=ROOT, timeout=300, **variables):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def cells(name):
    """Sources of the cells of a lesson."""
    tree = ast.parse((ROOT / "lessons" / f"{name}.py").read_text(encoding="utf-8"))
    return [ast.unparse(node) for node in tree.body if isinstance(node, (ast.FunctionDef, ast.With))]


def test_every_lesson_is_in_the_index_once():
    files = {path.stem for path in (ROOT / "lessons").glob("*.py") if not path.stem.startswith("_")}
    assert sorted(NAMES) == sorted(files)
    assert all(lesson.title and lesson.summary.endswith(".") and lesson.minutes > 0 for lesson in LESSONS)


def test_links_lead_to_the_index_the_next_lesson_and_the_paper():
    for i, lesson in enumerate(LESSONS):
        text = _links.links(lesson.name).text
        assert text.startswith("<nav") and 'href="../"' in text and f"section {lesson.section} of" in text
        following = re.findall(r'href="\.\./(\w+)/"', text)
        assert following == NAMES[i + 1 : i + 2]


@pytest.mark.parametrize("name", NAMES)
def test_picture_of_the_index_is_small(name):
    data = (_index.THUMBNAILS / f"{name}.png").read_bytes()
    image = Image.open(io.BytesIO(data))
    assert len(data) < 40_000 and max(a / b for a, b in zip(image.size, _thumbnails.SIZE, strict=True)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_lesson_is_short_and_has_every_part_of_the_pattern(name):
    source = (ROOT / "lessons" / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 175
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= ALLOWED
    places = [
        source.index(part)
        for part in (
            "**Statement.**",
            "$$",
            "mo.ui.slider(",
            "as_image(",
            "## Break it",
            "**Why.**",
            "## Exercise",
            "verdict(",
        )
    ]
    assert places == sorted(places), "statement, formula, slider, figure, break it, why, exercise: in this order"
    assert "show_source(" in cells(name)[-1], "the last cell shows our code"
    assert f"closing('{name}', " in cells(name)[-1], "the last cell leads on"
    assert any("assert " in cell and "verdict(" in cell for cell in cells(name)), "the exercise checks its own facts"
    # The screen reader's name of each control.
    for call in re.findall(r"mo\.ui\.\w+\((?:[^()]|\([^()]*\))*\)", source):
        assert "label=" in call, call
    title = next(lesson.title for lesson in LESSONS if lesson.name == name)
    assert f"# {NAMES.index(name) + 1}. {title}\n" in source


@pytest.mark.parametrize("name", NAMES)
def test_lesson_runs_in_twenty_seconds_and_fails_with_its_mathematics(name, tmp_path):
    path = ROOT / "lessons" / f"{name}.py"
    # Of the processor, as the machine may be busy; all threads count. A first run may compile loops.
    for _ in range(2):
        begin = time.process_time()
        runpy.run_path(str(path), run_name="__main__")
        if (seconds := time.process_time() - begin) < 20:
            break
    assert seconds < 20
    with pytest.raises(AssertionError):
        runpy.run_path(str(falsified(path, tmp_path)), run_name="__main__")


@pytest.mark.slow
def test_script_exits_with_0_and_with_1_where_a_fact_is_false(tmp_path):
    path = ROOT / "lessons" / "noise_makes_euler_maruyama.py"
    done = run_python(path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_python(falsified(path, tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


def falsified(path, directory):
    """Write the same lesson with its last fact turned round."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fact = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)][-1]
    fact.test = ast.UnaryOp(ast.Not(), fact.test)
    copy = directory / path.name
    copy.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    return copy


def test_source_shown_is_the_file_s_own():
    number, code = _source.source_lines(pde.convergence.sup_norm)
    file = Path(inspect.getsourcefile(pde.convergence.sup_norm)).read_text(encoding="utf-8").splitlines()
    assert file[number - 1] == code.splitlines()[0] == "def sup_norm(values) -> float:"
    # Nothing of the docstring, and the last line.
    assert code.splitlines()[1:] == ["    return float(np.abs(_some(values)).max())"]
    number, code = _source.source_lines(pde.convergence.l2_norm, first="return")
    assert code == "return float(lengths(values, axis=None) / math.sqrt(values.size))" == file[number - 1].strip()
    _, code = _source.source_lines(pde.convergence.observed_order, first="h, errors =", last="raise")
    assert code.startswith("h, errors = ") and code.splitlines()[-1].strip().startswith("raise ")
    with pytest.raises(ValueError, match=r"no line of sup_norm contains 'Runge'"):
        _source.source_lines(pde.convergence.sup_norm, first="Runge")
    shown = _source.show_source(pde.convergence.l2_norm, first="return").text
    assert "pde/convergence.py" in shown and f"line {number}" not in shown.partition("pde/convergence.py")[0]


def test_picture_has_a_text_a_white_card_and_nothing_of_the_reader_s_style():
    import matplotlib

    with matplotlib.rc_context({"text.color": "white", "axes.labelcolor": "white", "figure.facecolor": "black"}):
        figure, (left, right) = _drawing.new_figure(2)
        left.set_xlabel("x")
        shown = _drawing.as_image(figure, 'a "slope" < 1').text
    assert figure.get_facecolor() == (1, 1, 1, 1) and right.xaxis.label.get_color() == "black"
    assert 'aria-label="a &quot;slope&quot; &lt; 1"' in shown and "data:image/png;base64," in shown
    with pytest.raises(ValueError, match="alt must describe"):
        _drawing.as_image(figure, " ")


def two_panels(ticks="0", title="title"):
    figure, (left, right) = _drawing.new_figure(2)
    left.set(ylabel="left", title=title)
    right.set(ylabel="right", yticks=[0], yticklabels=[ticks])
    _drawing.as_image(figure, "two panels")
    return left, right


def test_panels_stand_where_they_stood_unless_letters_have_no_room_there(monkeypatch):
    monkeypatch.setattr(_drawing, "_layouts", {})
    for changed in ({"ticks": "an inch of letters"}, {"title": "three\nlines of\ntitle"}):
        (left, right), (left_again, right_again) = two_panels(), two_panels()
        assert left.get_position().bounds == left_again.get_position().bounds
        assert right.get_position().bounds == right_again.get_position().bounds
        left, right = two_panels(**changed)
        assert [left.get_position().bounds, right.get_position().bounds] != [
            left_again.get_position().bounds,
            right_again.get_position().bounds,
        ]
        card, (left, right) = left.figure.bbox, (left.get_tightbbox(), right.get_tightbbox())
        assert left.x1 < right.x0 and right.x1 <= card.width and left.y1 <= card.height


def test_verdict_is_in_words():
    verdicts = [_exercise.verdict(answer, answer == 25, right="so", wrong="hint").text for answer in (None, 25, 24)]
    for text, word in zip(verdicts, ("No answer yet.", "Right.", "Not yet."), strict=True):
        assert word in text


def test_jupyter_sees_formulas_and_values():
    import marimo as mo

    slider = mo.ui.slider(1, 9, value=3, label="Number $L$")
    text = _jupyter.to_markdown(mo.vstack([mo.md("a $x < 1$\n\n$$y$$"), slider, mo.callout(mo.md("so $z$"))]).text)
    assert "$x < 1$" in text and "$$y$$" in text and "Number $L$" in text and "so $z$" in text
    assert "marimo-" not in text


@pytest.mark.slow
def test_notebooks_run_from_top_to_bottom_as_in_jupyter(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: --ipynb needs the extra teach")
    package = "enresnet @ git+https://example.org"
    done = run_python("-m", "lessons", "--ipynb", *NAMES[:2], "--out", tmp_path, "--package", package)
    assert done.returncode == 0, done.stderr
    files = [tmp_path / f"{name}.ipynb" for name in NAMES[:2]]
    assert done.stdout.split() == list(map(str, files))
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for file in files:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
        first, *others = notebook["cells"]
        assert f'%pip install -q "{package}"' in "".join(first["source"])
        assert any("$$" in "".join(cell["source"]) for cell in others if cell["cell_type"] == "markdown")
        variables = {"__name__": "notebook"}
        for cell in others:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), variables)


def test_command_line_says_in_one_line_what_is_wrong(tmp_path):
    def error(*arguments, **variables):
        done = run_python("-m", "lessons", *arguments, **variables)
        assert done.returncode == 2 and not done.stdout, done.stderr
        (line,) = done.stderr.splitlines()
        return line.removeprefix("python -m lessons: error: ")

    assert error("--ipynb", "fourier").startswith(f"no lesson fourier; there are {NAMES[0]}, ")
    assert error(NAMES[0]).startswith("NAME goes with")
    assert error("--port", "x").startswith("argument --port")
    assert error("--port", "65536") == "--port must lie in 0..65535, got 65536"
    with socket.socket() as busy:
        busy.bind((_server.HOST, 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert error("--port", port).startswith(f"port {port} cannot be used (")
    (tmp_path / "file").touch()
    assert error("--ipynb", "--out", tmp_path / "file").startswith(f"--out {tmp_path / 'file'} cannot be written")
    assert "apt-get install chromium" in error("--handout", "--out", tmp_path, PATH=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_chromium_is_looked_for_by_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no Chromium found"):
        _chromium.find_chromium()
    browser = tmp_path / "google-chrome"
    shutil.copy("/bin/true", browser)
    assert _chromium.find_chromium() == str(browser)


def test_importing_lessons_needs_neither_marimo_nor_torch():
    done = run_python("-c", "import sys; sys.modules['marimo'] = sys.modules['torch'] = None; import lessons.__main__")
    assert done.returncode == 0, done.stderr
    assert importlib.util.find_spec("lessons.__main__") is not None
