"""The end of a lesson: lines of our code, and links to the index, to the next lesson and to the paper."""

import marimo as mo

from lessons import LESSONS

__all__ = ["PAPER", "closing", "links"]

PAPER = "https://doi.org/10.1137/19M1265302"


def links(name):
    """A line of links of a lesson, relative to its address on the server; pages on disk and notebooks rewrite them."""
    place = [lesson.name for lesson in LESSONS].index(name)
    lesson, following = LESSONS[place], LESSONS[place + 1 : place + 2]
    words = ['<a href="../">All lessons</a>', f"lesson {place + 1} of {len(LESSONS)}"]
    words += [f'next: <a href="../{each.name}/">{each.title}</a>' for each in following]
    words.append(f'section {lesson.section} of <a href="{PAPER}">the paper</a>')
    return mo.Html(f'<nav aria-label="Lessons">{" · ".join(words)}</nav>')


def closing(name, text, *sources):
    """The last cell of a lesson: lines of our code, from `show_source`, below a text on them, and the links."""
    return mo.vstack([mo.md(f"## The lines of our code\n{text}"), *sources, links(name)])
