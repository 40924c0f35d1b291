"""The index of lessons, live and from disk, and what a reader sees while a server gets ready."""

import base64
from importlib import resources
from pathlib import Path

import jinja2

from lessons import LESSONS

__all__ = ["THUMBNAILS", "index_page", "render", "style", "waiting_page"]

# NAME.png, written by `python -m lessons._thumbnails`.
THUMBNAILS = Path(__file__).resolve().parents[1] / "data"


def index_page(address, *, progress=None):
    """HTML of the index: `address` is that of a lesson with {} in place of its name.

    `progress` is the address at which a live server reports how far it is; a page on disk has none.
    """
    thumbnails = {lesson.name: _base64(THUMBNAILS / f"{lesson.name}.png") for lesson in LESSONS}
    return _render("index.html.j2", lessons=LESSONS, address=address, thumbnails=thumbnails, progress=progress)


def waiting_page(title, progress):
    """HTML of a lesson that cannot be shown yet: it reports how far the server is, and loads the lesson after that."""
    return _render("waiting.html.j2", title=title, progress=progress)


def style():
    """The style that all pages share."""
    return _read("base.css")


def _render(name, **values):
    return render(__package__, name, style=style(), script=_read("progress.js"), **values)


def render(package, name, **values):
    """Render a template among the files of a package; a value that is missing is an error."""
    loader = jinja2.FunctionLoader(lambda name: resources.files(package).joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name).render(**values)


def _read(name):
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _base64(path):
    return base64.b64encode(path.read_bytes()).decode("ascii")
