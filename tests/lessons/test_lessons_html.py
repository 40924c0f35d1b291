"""Lessons as pages: what they show is what the cells compute, and in a browser their sliders move."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("marimo")
pytest.importorskip("latex2mathml")

import marimo as mo

from lessons import LESSONS
from lessons._chromium import chromium, find_chromium
from lessons._html import MOST_BYTES, write_pages
from lessons._html._markup import to_html
from lessons._html._states import states_of

EXERCISE = "noise_makes_euler_maruyama"


def test_formulas_and_callouts_need_no_script_of_marimo():
    shown = mo.vstack(
        [mo.md(r"$\mathbb E\,x$"), mo.md("$$\\frac12$$"), mo.callout(mo.md("**Right.**"), kind="success")]
    )
    made = to_html(shown, {}, {})
    assert "marimo-" not in made and "$" not in made
    assert "𝔼" in made and "<mfrac>" in made and '<div class="callout success">' in made


def test_states_are_those_that_the_cells_compute(monkeypatch):
    """The exercise of lesson 2: every answer once, and only 16384 is right."""
    from lessons._html import _states

    fewer = {EXERCISE: {"n_paths": [1024], "n_layers": [1, 32]}}
    monkeypatch.setattr(_states, "POSITIONS", fewer)
    controls, _, shown = states_of(EXERCISE)
    assert controls["n_layers"].values == [1, 32] and controls["n_layers"].first == 1
    (cell,) = (cell for cell in shown if cell.controls == ("answer",))
    right = [
        controls["answer"].values[positions[0]] for positions, output in cell.outputs.items() if "Right." in output.text
    ]
    assert right == ["16384"]
    (cell,) = (cell for cell in shown if set(cell.controls) == {"n_paths", "n_layers"})
    texts = {re.search("aria-label=.([^>]*)", output.text)[1] for output in cell.outputs.values()}
    assert len(texts) == 2 and any("1024 paths of 1 blocks" in text for text in texts)


@pytest.mark.slow
def test_pages_open_from_disk_and_their_sliders_move(tmp_path):
    try:
        find_chromium()
    except ValueError as missing:
        pytest.skip(str(missing))
    names = [lesson.name for lesson in LESSONS]
    written = list(write_pages(names, tmp_path, lambda path, data: (path.write_bytes(data), path)[1]))
    assert [path.name for path in written] == [*(f"{name}.html" for name in names), "index.html"]
    assert max(path.stat().st_size for path in written) <= MOST_BYTES
    with chromium() as page:
        for path in written[:-1]:
            for width in (390, 1280):
                page.look(width, scheme="dark" if width == 390 else "light")
                page.open(path.as_uri())
                page.wait_for("document.readyState === 'complete'")
                assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
                assert page.evaluate("Math.min(...[...document.images].map(i => i.width / i.naturalWidth))") >= 0.43
                before = page.evaluate("document.images[0].src")
                page.evaluate("document.querySelector('input[type=range]').focus()")
                page.press("ArrowLeft")
                page.wait_for(f"document.images[0].src !== {before!r}")
                assert {url.split(":")[0] for url in page.requests} <= {"file", "data"}
                assert page.complaints == []
