"""Lessons as pages that open from disk: no Python, no server, no network.

The outputs of the cells are computed beforehand, for every combination of positions that a page offers, and are part of
the page; a short script shows those that belong to the sliders.
"""

import concurrent.futures
import multiprocessing
import os

from lessons import LESSONS
from lessons._html._page import lesson_page
from lessons._html._states import states_of
from lessons._index import index_page

__all__ = ["MOST_BYTES", "write_pages"]

# Largest size of a page.
MOST_BYTES = 4_000_000


def write_pages(names, directory, write):
    """Write lessons to NAME.html in a directory, and index.html for all of them; yields each path.

    `write` is called with a path and its bytes. ValueError: a page exceeds MOST_BYTES; RuntimeError: a lesson fails.
    """
    with concurrent.futures.ProcessPoolExecutor(
        min(len(names), os.cpu_count() or 1, 4), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for name, page in zip(names, pool.map(_make, names), strict=True):
            yield write(directory / f"{name}.html", page.encode())
    if set(names) == {lesson.name for lesson in LESSONS}:
        yield write(directory / "index.html", index_page("{}.html").encode())


def _make(name):
    try:
        page = lesson_page(name, states_of(name))
    except AssertionError as error:
        raise RuntimeError(f"lesson {name} fails: {error}") from None
    if (size := len(page.encode())) > MOST_BYTES:
        raise ValueError(f"the page of lesson {name} has {size} bytes, more than {MOST_BYTES}")
    return page
