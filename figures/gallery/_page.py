"""The page of the gallery as HTML: everything in one file, no script, nothing asked from anywhere."""

import base64
import shlex
from html import escape

from figures.gallery._summary import lines_of

__all__ = ["FIELDS", "command", "page"]

TITLE = "EnResNet: figures and tables"
# Columns that a table's CSV must have.
FIELDS = ("row", "attack", "paper", "ours", "stderr", "n", "difference", "recipe", "data", "command")
# Findings that are shown at once; the others open.
N_FIRST, N_MOST = 20, 150
# A browser that obeys it could not ask for anything, whatever stood in the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1a1a1a; --soft: #555; --line: #ccc; --card: #f6f6f4;
        --link: #0b57a4; --warn: #9a3d00; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15171a; --text: #e8e8e6; --soft: #b0b0ad; --line: #44474c; --card: #1e2125; --link: #8ec5ff;
          --warn: #ffb07a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--back); color: var(--text);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link); }
.skip { position: absolute; left: -100vw; }
.skip:focus { position: static; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 0.5rem; scroll-margin-top: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; } h3 { font-size: 1.05rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; padding: 0.25rem; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.5rem 0; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.25rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.2rem 0.7rem 0.2rem 0; text-align: left; vertical-align: top;
         min-width: 4rem; }
thead th, td.number { white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody th { font-weight: normal; color: var(--soft); }
pre, code { font-family: ui-monospace, monospace; font-size: 0.875rem; }
pre { white-space: pre-wrap; background: var(--card); padding: 0.6rem; border-radius: 4px; margin: 0.5rem 0; }
summary { cursor: pointer; }
.soft { color: var(--soft); font-size: 0.9rem; }
.warn { color: var(--warn); font-weight: 600; }
""".strip()


def page(sections):
    """Return the page.

    Parameters
    ----------
    sections : list of gallery.Section
        Of all figures.

    Returns
    -------
    str
        HTML.
    """
    made = [section for section in sections if not section.is_missing]
    links = "".join(
        f'<li><a href="#{section.name}">{escape(section.name)}</a>{" (missing)" if section.is_missing else ""}</li>'
        for section in sections
    )
    count = f"{len(made)} of {len(sections)} figures and collections of tables are here."
    body = "\n".join(map(_section, sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>{escape(TITLE)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the figures</a>
<header>
<h1>{escape(TITLE)}</h1>
<p>Each figure and table of Wang, Yuan, Shi and Osher, <cite>EnResNet: ResNets Ensemble via the Feynman–Kac Formalism
for Adversarial Defense and Beyond</cite> (SIAM J. Math. Data Sci., 2020), made anew, and some beyond the paper, with
the command that makes it. {count}</p>
</header>
<nav aria-label="Figures"><ul>{links}</ul></nav>
<main id="main" tabindex="-1">
{body}
</main>
</body>
</html>
"""


def command(name, directory):
    """Return the command that makes a figure.

    Parameters
    ----------
    name : str
        Of the module.
    directory : Path
        Where it is to be.

    Returns
    -------
    str
    """
    return shlex.join(["python", "-m", f"figures.{name}", "--out", str(directory)])


def _section(section):
    parts = [f"<h2>{escape(section.title.rstrip('.'))}</h2>"]
    if section.is_missing:
        parts.append('<p class="warn">missing</p>')
    parts += [f'<p class="warn">{escape(fault)}</p>' for fault in section.faults]
    if section.is_missing:
        parts.append(f"<p>It is made by</p>\n<pre>{escape(section.command)}</pre>")
    if section.record.get("arguments", {}).get("quick") and section.pictures:
        parts.append('<p class="warn">A quick look: a small problem, or tiny networks of handwritten digits.</p>')
    parts += [_figure(section, picture) for picture in section.pictures]
    parts += [_table(table) for table in section.tables]
    if section.record:
        parts.append(_findings(section))
    if section.text:
        parts.append(f"<details><summary>What is shown, and how</summary><pre>{escape(section.text)}</pre></details>")
    if not section.is_missing:
        parts.append(_provenance(section))
    return f'<section id="{section.name}" aria-label="{escape(section.name)}">\n' + "\n".join(parts) + "\n</section>"


def _figure(section, picture):
    part = picture.name.removesuffix(".png").removeprefix(section.name).strip("-")
    alternative = f"{section.title.rstrip('.')}{f': {part}' if part else ''}. Its numbers stand below the picture."
    content = base64.b64encode(picture.content).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{content}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(alternative)}"></figure>'
    )


def _findings(section):
    found = lines_of(section.record)
    if not found:
        return ""
    n_first = min(N_FIRST, sum(not line.is_item for line in found))
    first, rest = found[:n_first], found[n_first:N_MOST]
    html = _rows(f"Findings, from {section.name}.json", first, section.name) if first else ""
    if rest:
        left = len(found) - N_MOST
        more = f" ({left} more in {section.name}.json)" if left > 0 else ""
        caption = f"Further findings, from {section.name}.json"
        html += (
            f"<details><summary>{len(rest)} further numbers{escape(more)}</summary>"
            f"{_rows(caption, rest, section.name)}</details>"
        )
    return html


def _rows(caption, lines, name):
    body = "".join(f'<tr><th scope="row">{escape(line.name)}</th><td>{escape(line.value)}</td></tr>' for line in lines)
    return _wide(f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>", f"{name}: {caption}")


def _wide(table, name):
    """A table that scrolls by itself where it is too wide, by keyboard as well, so that the page need not."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(name)}">{table}</div>'


def _provenance(section):
    record = section.record
    if not record:
        how = f"{escape(section.name)}.json, which says how it was made, is not there. " if section.pictures else ""
        return f'<p class="soft">{how}Command: <code>{escape(section.command)}</code></p>'
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    said = [
        record.get("date"),
        f"{record['seconds']} s" if "seconds" in record else None,
        f"commit {record.get('commit') or 'unknown'}",
        versions,
    ]
    line = "; ".join(str(part) for part in said if part)
    typed = record.get("command") or section.command
    return f'<p class="soft">{escape(line)}</p>\n<pre>{escape(str(typed))}</pre>'


def _table(table):
    measured = sum(bool(row["ours"]) for row in table.rows)
    heads = ("model", "attack", "paper", "ours ± s.e. (n)", "difference", "recipe and data")
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(map(_table_row, table.rows))
    commands = list(dict.fromkeys(one for row in table.rows for one in row["command"].split(" && ") if one))
    content = _wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", table.title)
    if commands:
        listed = escape("\n".join(commands))
        content += (
            f"<details><summary>What is missing, or a stand-in, is made by</summary><pre>{listed}</pre></details>"
        )
    summary = f"{table.title} ({measured} of {len(table.rows)} numbers are ours)"
    # Those that have something to compare lie open.
    return f"<details{' open' if measured else ''}><summary>{escape(summary)}</summary>{content}</details>"


def _table_row(row):
    ours = "missing"
    if row["ours"]:
        ours = _number(row["ours"], "{:.2f}")
        if row["stderr"]:
            ours += f" ± {_number(row['stderr'], '{:.2f}')} ({row['n']})"
    difference = _number(row["difference"], "{:+.2f}").replace("-", "−")
    source = "; ".join(filter(None, (row["recipe"], row["data"]))) if row["ours"] else "–"
    numbers = "".join(f'<td class="number">{escape(text)}</td>' for text in (row["paper"] or "–", ours, difference))
    return (
        f'<tr><th scope="row">{escape(row["row"])}</th><td>{escape(row["attack"])}</td>{numbers}'
        f"<td>{escape(source)}</td></tr>"
    )


def _number(text, form):
    try:
        return form.format(float(text)) if text else "–"
    except ValueError:
        return text
