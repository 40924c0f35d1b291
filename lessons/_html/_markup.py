"""Objects of marimo as HTML that needs none of its scripts."""

import functools
import html
import re

from latex2mathml.converter import convert

from lessons._marimo_html import CALLOUT, CONTROL, FORMULA, attribute, formula_of, object_id

__all__ = ["to_html"]

# A bar is taken for an operator between two things, and cos for a variable beside the next.
BAR = re.compile(r"<mo((?: [^>]*)?)>(&#x0007C;|&#x02016;)</mo>")
NAME = re.compile(r"(<mi>[a-z]{2,}</mi>)(?=<m[in])")
LETTER = re.compile(r'(?<=<mi)( mathvariant="(?:double-struck|script)")>(\w)(?=</mi>)')
ALPHABETS = {
    ' mathvariant="double-struck"': {"E": ">𝔼", "P": ">ℙ", "R": ">ℝ"},
    ' mathvariant="script"': {"N": ">𝒩", "L": ">ℒ"},
}
# Links of a lesson's server: to the index, and to another lesson.
INDEX, LESSON = re.compile(r'href="\.\./"'), re.compile(r'href="\.\./(\w+)/"')


def to_html(shown, controls, ids):
    """The HTML of an object of marimo; `controls` maps names to `Control`s, `ids` marimo's ids to the names."""

    def control_of(match):
        name = ids[object_id(match[0])]
        return _input(name, controls[name], markup(attribute(match[0], "label") or ""))

    def markup(text):
        text = CALLOUT.sub(
            lambda match: (
                f'<div class="callout {attribute(match[1], "kind")}">{markup(attribute(match[1], "html"))}</div>'
            ),
            text,
        )
        text = FORMULA.sub(_mathml, CONTROL.sub(control_of, text))
        return LESSON.sub(r'href="\1.html"', INDEX.sub('href="index.html"', text))

    return "" if shown is None else markup(shown.text)


def _mathml(match):
    formula, alone = formula_of(match)
    made = _converted(formula, "block" if alone else "inline")
    return f'<div class="formula" tabindex="0">{made}</div>' if alone else made


@functools.cache
def _converted(formula, display):
    made = BAR.sub(r'<mo lspace="0" rspace="0"\1>\2</mo>', convert(formula, display=display))
    made = NAME.sub(r'\1<mspace width="0.167em"/>', made)
    # Browsers draw letters of these kinds by their own signs only.
    return LETTER.sub(lambda match: ALPHABETS[match[1]].get(match[2], f">{match[2]}"), made)


def _input(name, control, label):
    if control.element.__class__.__name__ == "radio":
        choices = "".join(
            f'<label><input type="radio" name="{name}" data-control="{name}" value="{i}"'
            f"{' checked' if i == control.first else ''}> {html.escape(text)}</label>"
            for i, text in enumerate(control.labels)
            if text is not None
        )
        return f"<fieldset><legend>{label}</legend>{choices}</fieldset>"
    first = html.escape(control.labels[control.first])
    if control.element.__class__.__name__ == "number":
        return (
            f'<p class="control"><label>{label} <input type="number" data-control="{name}" value="{first}" step="any" '
            f'inputmode="decimal"></label> <span class="note" role="status" data-note="{name}"></span></p>'
        )
    last = len(control.values) - 1
    return (
        f'<p class="control"><label>{label} <input type="range" data-control="{name}" min="0" max="{last}" '
        f'value="{control.first}" aria-valuetext="{first}"></label> <output data-value="{name}">{first}</output></p>'
    )
