"""Lessons as pages: what they show is what the cells compute, and in a browser their sliders move."""

import html
import re
from importlib import resources

import pytest

pytest.importorskip("torch")
pytest.importorskip("marimo")
pytest.importorskip("latex2mathml")

import marimo as mo

from lessons import LESSONS
from lessons._chromium import chromium, find_chromium
from lessons._html import MOST_BYTES, write_pages
from lessons._html._markup import to_html
from lessons._html._page import lesson_page
from lessons._html._states import states_of
from lessons._server import lesson_path

EXERCISE = "noise_makes_euler_maruyama"


def test_formulas_and_callouts_need_no_script_of_marimo():
    shown = mo.vstack(
        [mo.md(r"$\mathbb E\,x$"), mo.md("$$\\frac12$$"), mo.callout(mo.md("**Right.**"), kind="success")]
    )
    made = to_html(shown, {}, {})
    assert "marimo-" not in made and "$" not in made
    assert 'rspace="0"' in to_html(mo.md("$|x|$"), {}, {}) and "cos</mi><mspace" in to_html(mo.md(r"$\cos x$"), {}, {})
    assert "𝔼" in made and "<mfrac>" in made and '<div class="callout success">' in made


def test_font_has_the_signs_of_all_formulas():
    """Chromium sets a variable x by the italic sign; what the font lacks comes from another one, out of place."""
    ttf = pytest.importorskip("fontTools.ttLib")
    with ttf.TTFont(resources.files("lessons._html").joinpath("math.woff")) as font:
        known, has_table = font.getBestCmap().keys(), "MATH" in font
    signs = set()
    for lesson in LESSONS:
        source = lesson_path(lesson.name).read_text(encoding="utf-8")
        for alone, inline in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", source, re.DOTALL):
            made = to_html(mo.md(f"${alone or inline}$".replace("\n", " ")), {}, {})
            signs |= {sign for part in re.findall(r"<m[ion][^>]*>([^<]*)<", made) for sign in html.unescape(part)}
    assert len(signs) > 60 and has_table
    assert {sign for sign in signs if not sign.isspace() and ord(sign) not in known} == set()
    # The italic alphabet, of which h is Planck's.
    assert known >= {*range(0x1D434, 0x1D468)} - {0x1D455} | {0x210E}


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


@pytest.fixture(scope="module")
def page():
    try:
        find_chromium()
    except ValueError as missing:
        pytest.skip(str(missing))
    with chromium() as page:
        yield page


# All panels: not every one depends on the first slider.
IMAGES = "[...document.images].map(image => image.src).join()"


def remember_images(page):
    page.evaluate(f"window.before = {IMAGES}")


def opened(page, path, width):
    """Open a page of a lesson, and find nothing wrong with it."""
    page.look(width, scheme="dark" if width == 390 else "light")
    page.open(path.as_uri())
    page.wait_for("document.readyState === 'complete'")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    # Letters of 10 points at 150 dots per inch have 9 CSS pixels then.
    assert page.evaluate("Math.min(...[...document.images].map(i => i.width / i.naturalWidth))") >= 0.43
    assert page.evaluate("document.querySelectorAll('math').length") >= 3
    assert "$" not in page.evaluate("document.querySelector('main').innerText")
    assert page.evaluate("[...document.querySelectorAll('[role=img]')].every(e => e.ariaLabel.length > 20)")


def moves(page):
    """Whether an arrow key on the first slider changes the pictures, and the other one brings them back."""
    remember_images(page)
    page.evaluate("document.querySelector('input[type=range]').focus()")
    page.press("ArrowLeft")
    page.wait_for(f"{IMAGES} !== window.before")
    page.press("ArrowRight")
    page.wait_for(f"{IMAGES} === window.before")
    return {url.split(":")[0] for url in page.requests} <= {"file", "data"} and page.complaints == []


# Every answer that the page knows, and what it replies; then the first one again.
ANSWERS = """(() => {
    const right = data.controls.answer.values.filter((value, place) => {
        state.answer = place;
        show("answer");
        return document.querySelector(".callout.success") !== null;
    });
    state.answer = data.controls.answer.first;
    show("answer");
    return right;
})()"""


def test_page_from_disk_moves_and_checks_the_exercise(page, tmp_path, monkeypatch):
    from lessons._html import _states

    monkeypatch.setattr(_states, "POSITIONS", {EXERCISE: {"n_paths": [1024], "n_layers": [1, 32]}})
    path = tmp_path / "page.html"
    path.write_text(lesson_page(EXERCISE, states_of(EXERCISE)), encoding="utf-8")
    opened(page, path, 390)
    page.evaluate("document.querySelector('[data-control=n_layers]').focus()")
    remember_images(page)
    page.press("ArrowLeft")
    page.wait_for(f"{IMAGES} !== window.before")
    assert page.evaluate("document.querySelector('[data-value=n_layers]').textContent") == "1"
    verdict = "document.querySelector('.callout:last-of-type').innerText"
    assert "No answer yet." in page.evaluate(verdict)
    for answer, word in (("16384", "Right."), ("2048", "Not yet."), ("4096", "Not yet.")):
        page.evaluate(f"""[...document.querySelectorAll('[data-control=answer]')].find(
            input => input.parentElement.innerText.trim() === '{answer}').click()""")
        assert word in page.evaluate(verdict), answer
    # Each panel stands once among the data, however many positions show it.
    assert page.evaluate("new Set(data.images).size === data.images.length")
    assert page.complaints == []


@pytest.mark.slow
def test_pages_open_from_disk_and_their_sliders_move(page, tmp_path):
    names = [lesson.name for lesson in LESSONS]
    written = list(write_pages(names, tmp_path, lambda path, data: (path.write_bytes(data), path)[1]))
    assert [path.name for path in written] == [*(f"{name}.html" for name in names), "index.html"]
    assert max(path.stat().st_size for path in written) <= MOST_BYTES
    for path in written[:-1]:
        for width in (390, 1280):
            opened(page, path, width)
            assert moves(page)
        right = page.evaluate(ANSWERS)
        # Of a number several are near enough; nobody answers right by not answering.
        assert 1 <= len(right) < page.evaluate("data.controls.answer.values.length") / 2, path
        assert page.evaluate("data.controls.answer.values[data.controls.answer.first]") not in right
        assert page.evaluate("document.querySelectorAll('nav a[href$=\".html\"]').length") >= 1
    page.open(written[-1].as_uri())
    page.wait_for("document.readyState === 'complete'")
    links = page.evaluate("[...document.querySelectorAll('li a')].map(link => link.href)")
    assert links == [path.as_uri() for path in written[:-1]]
    assert page.complaints == []
