"""A lesson's page, and the index of them: one template with its style and script inlined."""

import base64
import io
import json
import re
from importlib import resources

import jinja2
from PIL import Image
from pygments.formatters import HtmlFormatter

from lessons import LESSONS
from lessons._html._markup import to_html

__all__ = ["index_page", "lesson_page"]

THUMBNAIL = (240, 160)
PICTURE = re.compile(r'src="data:image/png;base64,([^"]*)"')


def lesson_page(name, states):
    """(HTML of the page, PNG of its first picture in base64) of the states of a lesson."""
    controls, ids, shown = states
    texts, places, cells = [], {}, []
    for cell in shown:
        keys = {}
        for positions, output in cell.outputs.items():
            text = to_html(output, controls, ids)
            if text not in places:
                places[text] = len(texts)
                texts.append(text)
            keys[",".join(map(str, positions))] = places[text]
        first = ",".join(str(controls[control].first) for control in cell.controls)
        cells.append({"controls": cell.controls, "texts": keys, "first": texts[keys[first]]})
    moving = [cell for cell in cells if cell["controls"]]
    # What a cell without controls shows stands in the page alone.
    kept = sorted({i for cell in moving for i in cell["texts"].values()})
    number = {i: n for n, i in enumerate(kept)}
    data = {
        "texts": [texts[i] for i in kept],
        "cells": [
            {"controls": cell["controls"], "texts": {key: number[i] for key, i in cell["texts"].items()}}
            for cell in moving
        ],
        "controls": {
            name: {"labels": control.labels, "values": control.values, "first": control.first}
            for name, control in controls.items()
        },
    }
    picture = next(match[1] for cell in cells if (match := PICTURE.search(cell["first"])))
    page = _template().render(
        lesson=next(lesson for lesson in LESSONS if lesson.name == name),
        cells=cells,
        # No "</script>" inside the script.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/"),
    )
    return page, _thumbnail(picture)


def index_page(thumbnails):
    """HTML of the index: `thumbnails` maps names to PNGs in base64."""
    return _template("index.html.j2").render(lessons=LESSONS, thumbnails=thumbnails)


def _template(name="page.html.j2"):
    files = resources.files(__package__)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "style": files.joinpath("page.css").read_text(encoding="utf-8") + _colours_of_code(),
        "script": files.joinpath("page.js").read_text(encoding="utf-8"),
    }
    return environment.get_template(name)


def _colours_of_code():
    light = HtmlFormatter(style="default").get_style_defs(".codehilite")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".codehilite")
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.codehilite {{ background: none }}\n"


def _thumbnail(data):
    """A PNG of the size of a thumbnail, in base64, of one of any size."""
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    image.thumbnail(THUMBNAIL)
    file = io.BytesIO()
    image.quantize(64).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
