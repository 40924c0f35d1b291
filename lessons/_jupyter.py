"""What a lesson's outputs look like in Jupyter and Colab, which know neither marimo's formulas nor its sliders.

A formula becomes LaTeX between dollars, and a slider its label and value: there it is changed in the code.
"""

import html
import json
import re

import marimo as mo

__all__ = ["show_as_markdown", "to_markdown"]

FORMULA = re.compile(r"<marimo-tex[^>]*>\|\|([\[(])(.*?)\|\|[\])]</marimo-tex>", re.DOTALL)
CONTROL = re.compile(r"<marimo-ui-element.*?</marimo-ui-element>", re.DOTALL)
CALLOUT = re.compile(r"<marimo-callout-output(.*?)></marimo-callout-output>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def show_as_markdown(shell):
    """Let a Jupyter kernel, by its `get_ipython()`, show marimo's objects as Markdown."""
    formatters = shell.display_formatter.formatters
    formatters["text/markdown"].for_type(mo.Html, lambda shown: to_markdown(shown.text))
    # Where there is HTML, Jupyter shows that.
    formatters["text/html"].for_type(mo.Html, lambda shown: None)


def to_markdown(text):
    """Turn the HTML of a marimo object into Markdown with HTML that Jupyter shows.

    Parameters
    ----------
    text : str
        `marimo.Html.text`.

    Returns
    -------
    str
    """
    text = CALLOUT.sub(lambda match: f"<blockquote>{to_markdown(_attribute(match[1], 'html'))}</blockquote>", text)
    text = CONTROL.sub(_control, text)
    return FORMULA.sub(_formula, text)


def _formula(match):
    formula = html.unescape(match[2])
    return f"\n\n$${formula}$$\n\n" if match[1] == "[" else f"${formula}$"


def _control(match):
    label = TAG.sub("", to_markdown(_attribute(match[0], "label") or ""))
    return f"<p>{label}: change <code>value=</code> in this cell, and run the cells below.</p>"


def _attribute(text, name):
    """The JSON in an attribute data-NAME."""
    match = re.search(rf"data-{name}='([^']*)'", text)
    return json.loads(html.unescape(match[1])) if match else None
