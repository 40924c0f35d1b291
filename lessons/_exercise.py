"""The verdict on a reader's answer."""

import marimo as mo

__all__ = ["verdict"]


def verdict(answer, is_right, *, right, wrong):
    """Show whether an answer is right, in words and not by colour alone; None: no answer has been given.

    `right` is the reason and `wrong` a hint, in Markdown.
    """
    if answer is None:
        return mo.callout(mo.md("**No answer yet.** Give one above."), kind="neutral")
    if is_right:
        return mo.callout(mo.md(f"**Right.** {right}"), kind="success")
    return mo.callout(mo.md(f"**Not yet.** {wrong}"), kind="warn")
