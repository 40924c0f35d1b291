"""A lesson's page: a template with its style and script inlined."""

import base64
import json
import re
from importlib import resources

from pygments.formatters import HtmlFormatter

from lessons import LESSONS
from lessons._html._markup import to_html
from lessons._index import render, style

__all__ = ["lesson_page"]

# One panel of a picture; the same panel belongs to many positions.
IMAGE = re.compile(r'src="(data:image/[^"]*)"')


def lesson_page(name, states):
    """HTML of the page that shows the states of a lesson."""
    controls, ids, shown = states
    texts, images, cells = _Numbered(), _Numbered(), []
    for cell in shown:
        outputs = {
            ",".join(map(str, places)): to_html(output, controls, ids) for places, output in cell.outputs.items()
        }
        first = outputs[",".join(str(controls[control].first) for control in cell.controls)]
        keys = {}
        # The output of a cell without controls is only in the page itself.
        for key, text in outputs.items() if cell.controls else ():
            keys[key] = texts[IMAGE.sub(lambda match: f'src="#{images[match[1]]}"', text)]
        cells.append({"controls": cell.controls, "texts": keys, "first": first})
    data = {
        "texts": list(texts),
        "images": list(images),
        "cells": [{"controls": cell["controls"], "texts": cell["texts"]} for cell in cells if cell["controls"]],
        "controls": {
            name: {"labels": control.labels, "values": control.values, "first": control.first}
            for name, control in controls.items()
        },
    }
    files = resources.files(__package__)
    css, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return render(
        __package__,
        "page.html.j2",
        style=style() + _font_of_formulas(files.joinpath("math.woff").read_bytes()) + css + _colours_of_code(),
        script=script,
        lesson=next(lesson for lesson in LESSONS if lesson.name == name),
        cells=cells,
        # No "</script>" inside the script.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/"),
    )


class _Numbered(dict):
    """Numbers of things in the order in which they came first; each is kept once."""

    def __missing__(self, key):
        self[key] = len(self)
        return self[key]


def _font_of_formulas(data):
    """Browsers set MathML well with a font for it alone, which many systems lack."""
    address = f"data:font/woff;base64,{base64.b64encode(data).decode('ascii')}"
    return f'@font-face {{ font-family: "lesson math"; src: url({address}) format("woff") }}\n'


def _colours_of_code():
    light = HtmlFormatter(style="default").get_style_defs(".codehilite")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".codehilite")
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.codehilite {{ background: none }}\n"
