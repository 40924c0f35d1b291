"""A page of marimo seen from outside: when it is complete, and where its formulas and controls are."""

import re

from lessons._server import lesson_path

__all__ = ["COMPLETE", "FORMULAS", "PICTURE", "PICTURES", "SLIDERS", "cells_of", "wait_for_lesson"]

# Cells run in their order as far as they do not depend on each other, so that the last one, which shows our code, is
# the last to come. A cell that fails leaves the page without a trace.
CELLS = "[...document.querySelectorAll('.marimo-cell')]"
COMPLETE = f"{CELLS}.at(-1)?.querySelector('.output-area *')"
PICTURE = "document.querySelector('img[src^=\"data:image/png\"]')"
PICTURES = "[...document.querySelectorAll('img[src^=\"data:image/png\"]')].map(picture => picture.src)"
# Elements of marimo have shadow trees, and these have elements of marimo.
FORMULAS = """[...document.querySelectorAll('marimo-tex')].map(
    element => element.shadowRoot?.querySelector('.katex-error') ? 'error'
        : element.shadowRoot?.querySelector('.katex') ? 'shown' : 'missing')"""
SLIDERS = "[...document.querySelectorAll('marimo-slider')].map(e => e.shadowRoot.querySelector('[role=slider]'))"


def cells_of(name):
    """Return the number of cells of a lesson, the set-up included."""
    source = lesson_path(name).read_text(encoding="utf-8")
    return len(re.findall(r"^(?:@app\.(?:cell|function|class_definition)\b|with app\.setup\b)", source, re.MULTILINE))


def wait_for_lesson(page, name, *, seconds=120):
    """Wait until all of a lesson is on its page.

    RuntimeError if a cell failed, TimeoutError if the page is not complete after `seconds`.
    """
    page.wait_for(COMPLETE, seconds=seconds)
    # Formulas and pictures are drawn after the text has come.
    page.wait_for(f"!{FORMULAS}.includes('missing')", seconds=seconds)
    page.wait_for("[...document.images].every(image => image.complete)", seconds=seconds)
    if (shown := page.evaluate(f"{CELLS}.length")) != (n_cells := cells_of(name)):
        raise RuntimeError(f"lesson {name}: {n_cells - shown} of {n_cells} cells failed: run python lessons/{name}.py")
