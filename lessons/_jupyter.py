"""Outputs of a lesson in Jupyter and Colab, which support neither marimo's formulas nor its sliders.

A formula becomes LaTeX between dollars, a slider its label with the advice to change its value in the code.
"""

import marimo as mo

from lessons._marimo_html import CALLOUT, CONTROL, FORMULA, TAG, attribute, formula_of

__all__ = ["show_as_markdown", "to_markdown"]


def show_as_markdown(shell):
    """Let a Jupyter kernel, by its `get_ipython()`, show marimo's objects as Markdown."""
    formatters = shell.display_formatter.formatters
    formatters["text/markdown"].for_type(mo.Html, lambda shown: to_markdown(shown.text))
    # Where there is HTML, Jupyter shows that.
    formatters["text/html"].for_type(mo.Html, lambda shown: None)


def to_markdown(text):
    """Turn the HTML of a marimo object (`marimo.Html.text`) into Markdown with HTML that Jupyter shows."""
    text = CALLOUT.sub(lambda match: f"<blockquote>{to_markdown(attribute(match[1], 'html'))}</blockquote>", text)
    text = CONTROL.sub(_control, text)
    return FORMULA.sub(_formula, text)


def _formula(match):
    formula, alone = formula_of(match)
    return f"\n\n$${formula}$$\n\n" if alone else f"${formula}$"


def _control(match):
    label = TAG.sub("", to_markdown(attribute(match[0], "label") or ""))
    return f"<p>{label}: change <code>value=</code> in this cell, and run the cells below.</p>"
