"""The elements of marimo's own in the HTML of its objects: formulas, controls and callouts."""

import html
import json
import re

__all__ = ["CALLOUT", "CONTROL", "FORMULA", "TAG", "attribute", "formula_of", "object_id"]

FORMULA = re.compile(r"<marimo-tex[^>]*>\|\|([\[(])(.*?)\|\|[\])]</marimo-tex>", re.DOTALL)
CONTROL = re.compile(r"<marimo-ui-element.*?</marimo-ui-element>", re.DOTALL)
CALLOUT = re.compile(r"<marimo-callout-output(.*?)></marimo-callout-output>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def attribute(text, name):
    """The JSON in an attribute data-NAME, or None."""
    match = re.search(rf"data-{name}='([^']*)'", text)
    return json.loads(html.unescape(match[1])) if match else None


def formula_of(match):
    """(LaTeX, whether it stands in a line of its own) of a match of FORMULA."""
    return html.unescape(match[2]), match[1] == "["


def object_id(shown):
    """The id that marimo gives a control, itself given as an object or as HTML."""
    return re.search(r"object-id='([^']*)'", shown if isinstance(shown, str) else shown.text)[1]
