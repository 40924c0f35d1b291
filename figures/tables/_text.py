"""The paper's tables as text: Markdown, CSV in tidy form, LaTeX."""

import csv
import io
import re
from typing import NamedTuple

from figures.tables._numbers import HONEST

__all__ = ["Document", "label", "latex", "markdown", "tidy"]

FIELDS = ("table", "row", "attack", "paper", "ours", "stderr", "n", "difference", "recipe", "data", "command")
HEADS = ("model", "attack", "paper", "ours ± s.e. (n)", "difference", "recipe and data")
HONEST_HEADS = ("model", *HONEST, "recipe and data")
# Width of a line of commands in LaTeX.
WIDTH = 100
NAMES = {"natural": "natural", "fgsm": "FGSM", "ifgsm20": "IFGSM^20", "cw": "C-W"}
TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "§": r"\S{}",
} | {sign: rf"\{sign}" for sign in "%_&#${}"}  # fmt: skip


class Document(NamedTuple):
    """The contents of a table, a key of `published.ROWS`.

    `head`: sentences that explain the columns; `lines`: the paper's numbers and ours; `honest`: ours alone; `notes`:
    on the paper; `unsaid`: settings that the paper does not state, and our choices; `left_out`: evaluations not used.
    """

    table: str
    title: str
    head: tuple
    lines: list
    honest: list
    notes: list
    unsaid: list
    left_out: list

    @property
    def name(self):
        """Name in the paper."""
        return f"Table {self.table[5:]}" if self.table.startswith("table") else f"Section {self.table[7:]}"


def label(text, *, prime=False):
    """Return a row's label as the paper writes it.

    Parameters
    ----------
    text : str
        Label of a target, which holds names of `nets.build`.
    prime : bool, default=False
        Laplace noise, which the paper marks so.

    Returns
    -------
    str

    Examples
    --------
    >>> label("en2_resnet110+en1_wrn34_10"), label("wrn14_2"), label("en1_resnet20", prime=True)
    ('En2ResNet110 & En1WideResNet34-10', 'WRN-14-2', "En1ResNet20'")
    """

    def name(match):
        members = f"En{match['k']}" if match["k"] else ""
        base = f"ResNet{match['depth']}"
        if match["wide"]:
            # The paper has both ways to write them.
            base = f"{'WideResNet' if members else 'WRN-'}{match['depth']}-{match['wide']}"
        return members + base + ("'" if prime and members else "")

    pattern = r"(?:en(?P<k>\d+)_)?(?:resnet|wrn)(?P<depth>\d+)(?:_(?P<wide>\d+))?"
    return re.sub(pattern, name, text).replace("+", " & ")


def attack_name(attack):
    blind = attack.startswith("blind-")
    name = attack.removeprefix("blind-")
    return NAMES.get(name, name) + (", blind" if blind else "")


def _paper(line):
    return "–" if line.paper is None else f"{line.paper:.2f}"


def _ours(line):
    if line.ours is None:
        return "missing"
    return f"{line.ours:.2f}" if line.stderr is None else f"{line.ours:.2f} ± {line.stderr:.2f} ({line.n})"


def _difference(line):
    return "–" if line.difference is None else f"{line.difference:+.2f}".replace("-", "−")


def _source(line):
    if line.kind == "missing":
        return "–"
    return ("stand-in, " if line.kind == "stand-in" else "") + "; ".join(filter(None, (line.recipe, line.data)))


def _label(document, line):
    return label(line.target.label, prime=document.table == "table11")


def rows_of(document):
    return [
        (_label(document, line), attack_name(line.attack), _paper(line), _ours(line), _difference(line), _source(line))
        for line in document.lines
    ]


def honest_rows(document):
    """One row per model; several of its columns may come from one recipe."""
    rows = {}
    for line in document.honest:
        rows.setdefault(_label(document, line), []).append(line)
    return [
        (
            name,
            *map(_ours, lines),
            ", ".join(dict.fromkeys(_source(line) for line in lines if line.kind != "missing")) or "–",
        )
        for name, lines in rows.items()
    ]


def stand_ins(document):
    """Sentences: how what is shown differs from what the row requires."""
    sentences = {}
    for line in (*document.lines, *document.honest):
        if line.kind == "stand-in":
            name = line.recipe.partition(":")[0]
            sentences[
                f"{_label(document, line)}: {name} stands in for {line.target.recipe}: {', '.join(line.remarks)}"
            ] = None
    return list(sentences)


def command_lines(document):
    """All commands, each once, in an order in which they can be run."""
    return list(dict.fromkeys(one for line in (*document.lines, *document.honest) for one in line.command))


def markdown(document):
    """Return a table and its notes in Markdown."""
    lines = [f"## {document.name}: {document.title}", "", _plain(" ".join(document.head)), ""]
    lines += _grid(HEADS, rows_of(document), right=(2, 3, 4))
    if document.honest:
        lines += ["", _plain(HONEST_NOTE), "", *_grid(HONEST_HEADS, honest_rows(document), right=(1, 2, 3))]
    for title, items in _below(document):
        lines += ["", f"{title}:", "", *(f"- {_plain(one)}" for one in items)]
    commands = command_lines(document)
    if commands:
        lines += ["", f"{COMMANDS_NOTE}:", "", "```sh", *commands, "```"]
    return "\n".join(lines) + "\n"


HONEST_NOTE = (
    "Ours alone, in per cent: images classified correctly before and after the attack, by the mean of the draws; the "
    "attack averages gradients over 20 draws where the network draws."
)
COMMANDS_NOTE = "Commands for what is missing or has only a stand-in"


def _below(document):
    parts = (
        ("Stand-ins, with what the row requires in brackets", stand_ins(document)),
        ("Where the paper contradicts itself; nothing is corrected", document.notes),
        ("Not in the paper's text, and what is taken here", document.unsaid),
        ("Found, and left out", document.left_out),
    )
    return [part for part in parts if part[1]]


def _grid(heads, rows, *, right):
    cells = [[_plain(cell).replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    rule = ["---:" if number in right else "---" for number in range(len(heads))]
    return ["| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:])]


def _plain(text):
    """Text with the special characters of Markdown escaped."""
    return re.sub(r"([\\`*_<\[])", r"\\\1", " ".join(text.split()))


def tidy(documents):
    """Return one line per number, in CSV: accuracies, errors and differences in per cent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for document in documents:
        for line in (*document.lines, *document.honest):
            numbers = ["" if x is None else f"{x:.4f}" for x in (line.ours, line.stderr)]
            difference = "" if line.difference is None else f"{line.difference:.4f}"
            paper = "" if line.paper is None else f"{line.paper:.2f}"
            recipe = ("stand-in " if line.kind == "stand-in" else "") + line.recipe
            rest = [line.n, difference, recipe, line.data, " && ".join(line.command)]
            writer.writerow([document.table, line.target.label, line.attack, paper, *numbers, *rest])
    return text.getvalue()


def latex(document):
    """Return a table and its notes in LaTeX, for the package longtable."""
    title = f"{document.name} of the paper: {document.title}. {' '.join(document.head)}"
    lines = [r"% \usepackage{longtable}", r"\begingroup\footnotesize\setlength{\tabcolsep}{4pt}"]
    lines += _longtable(title, "llrrrp{0.2\\linewidth}", HEADS, rows_of(document))
    if document.honest:
        lines += _longtable(HONEST_NOTE, "lrrrp{0.2\\linewidth}", HONEST_HEADS, honest_rows(document))
    for title, items in _below(document):
        lines += [r"\par\noindent " + _tex(title) + ":", r"\begin{itemize}"]
        lines += [*(rf"\item {_tex(one)}" for one in items), r"\end{itemize}"]
    commands = command_lines(document)
    if commands:
        lines += [
            r"\par\noindent " + _tex(COMMANDS_NOTE) + ":",
            r"\begin{verbatim}",
            *map(_wrapped, commands),
            r"\end{verbatim}",
        ]
    return "\n".join([*lines, r"\endgroup"]) + "\n"


def _longtable(title, columns, heads, rows):
    heads, *rows = [[*map(_tex, row)] for row in (heads, *rows)]
    # The last column breaks lines; \raggedright takes \\ for itself.
    heads, *rows = [" & ".join([*row[:-1], rf"\raggedright {row[-1]}"]) + r" \tabularnewline" for row in (heads, *rows)]
    begin = [rf"\begin{{longtable}}{{{columns}}}", rf"\caption*{{{_tex(title)}}} \\", r"\hline", heads, r"\hline"]
    return [*begin, r"\endhead", *rows, r"\hline", r"\end{longtable}"]


def _wrapped(command):
    """A command in lines that fit a page, as a shell reads them too."""
    return command if len(command) <= WIDTH else command.replace(" --", " \\\n    --")


def _tex(text):
    return "".join(TEX.get(sign, sign) for sign in " ".join(text.split()))
