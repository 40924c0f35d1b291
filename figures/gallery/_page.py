"""The gallery as HTML, from the template beside: one file without scripts or external requests."""

import functools
from pathlib import Path

from figures._style import label

__all__ = ["FIELDS", "page", "table_of"]

TITLE = "EnResNet: figures and tables"
# Columns that a table's CSV must have.
FIELDS = ("row", "attack", "paper", "ours", "stderr", "n", "difference", "recipe", "data", "command")
HEADS = ("model", "attack", "paper", "ours ± s.e. (n)", "difference")
MISSING = "missing"
# With this policy a browser requests nothing, whatever the page contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@functools.cache
def _template():
    # Imported late: the figures themselves do without it.
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("gallery.html.j2")


def page(sections):
    """Return the page of all figures: those that are made, and in one fold those that are missing."""
    made = [section for section in sections if not section.is_missing]
    missing = [section for section in sections if section.is_missing]
    return _template().render(title=TITLE, policy=POLICY, heads=HEADS, made=made, missing=missing)


def table_of(title, rows):
    """A table of the paper on the page, from the rows of its CSV file."""
    shown = [
        {
            "model": label(row["row"]),
            "attack": row["attack"],
            "paper": row["paper"] or "–",
            "ours": _ours(row),
            "difference": _number(row["difference"], "{:+.2f}").replace("-", "−"),
        }
        for row in rows
    ]
    sources = {"; ".join(filter(None, (row["recipe"], row["data"]))): None for row in rows if row["ours"]}
    return {
        "title": title,
        "n_rows": len(rows),
        "measured": [row for row in shown if row["ours"] != MISSING],
        "missing": [row for row in shown if row["ours"] == MISSING],
        "sources": list(sources),
        "commands": list(dict.fromkeys(one for row in rows for one in row["command"].split(" && ") if one)),
    }


def _ours(row):
    if not row["ours"]:
        return MISSING
    error = f" ± {_number(row['stderr'], '{:.2f}')} ({row['n']})" if row["stderr"] else ""
    return _number(row["ours"], "{:.2f}") + error


def _number(text, form):
    try:
        return form.format(float(text)) if text else "–"
    except ValueError:
        return text
