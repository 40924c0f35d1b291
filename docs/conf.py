"""The documentation: `make docs`. Nothing is fetched; pictures and numbers are the committed ones."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from _results import LESSON_PAGES

import _enresnet

project = "EnResNet"
author = "The EnResNet toolkit authors"
copyright = author
version = release = _enresnet.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "_results"]
# Types in docstrings are words such as `n` and `PeriodicField`, which more than one module knows.
suppress_warnings = ["ref.python"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
templates_path = []
html_extra_path = [str(LESSON_PAGES.parent)] if LESSON_PAGES.is_dir() else []
html_theme = "furo"
html_title = "EnResNet"
html_copy_source = False
html_show_sphinx = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def _as_text(app, what, name, obj, options, lines):
    """Docstrings are written to be read in the source: a star or a bar in them is a sign of mathematics, not markup."""
    text = re.sub(r"^\.\. \[(\d+)\]", r"-  [\1]", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"^( *)\* ", r"\1- ", text, flags=re.MULTILINE)
    parts = text.split("`")
    # Between back-ticks the text is code; **A sentence.** is a heading.
    escape = re.compile(r"(\*\*[A-Z][^*]*\*\*)|([*|]|_(?=\W))")
    parts[::2] = [escape.sub(lambda match: match[1] or f"\\{match[2]}", part) for part in parts[::2]]
    lines[:] = _with_formulas("``".join(parts).replace("``````", "``").splitlines())


def _with_formulas(lines):
    """Indented lines before the first section are formulas: a literal block each."""
    end = next((i for i, line in enumerate(lines) if re.fullmatch(r"-{3,}\s*", line)), len(lines) + 1) - 1
    made, inside = [], False
    for line in lines[:end]:
        if line.startswith("    ") and not inside:
            made += ["", "::", ""]
        elif line.strip() and not line.startswith("    ") and inside:
            made.append("")
        inside = line.startswith("    ") or (inside and not line.strip())
        # Inside a literal block nothing is escaped.
        made.append(re.sub(r"\\([*|_])", r"\1", line) if inside else line)
    return made + lines[end:]


def setup(app):
    """Prepare docstrings before napoleon, which reads sections from the lines."""
    app.connect("autodoc-process-docstring", _as_text, priority=100)
