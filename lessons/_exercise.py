"""The verdict on a reader's answer."""

import marimo as mo

__all__ = ["verdict"]


def verdict(answer, is_right, *, right, wrong):
    """Say whether an answer is right, in words and not by colour alone.

    Parameters
    ----------
    answer : object
        Value of a `mo.ui.radio` or `mo.ui.number`; None: none has been given.
    is_right : bool
        Whether it is right; not looked at without an answer.
    right, wrong : str
        Why it is; a hint. Markdown.

    Returns
    -------
    marimo.Html
    """
    if answer is None:
        return mo.callout(mo.md("**No answer yet.** Choose one above."), kind="neutral")
    if is_right:
        return mo.callout(mo.md(f"**Right.** {right}"), kind="success")
    return mo.callout(mo.md(f"**Not yet.** {wrong}"), kind="warn")
