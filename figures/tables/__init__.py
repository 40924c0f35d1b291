"""The paper's Tables 1 to 11 and the numbers of section 4.4, with ours beside them.

    python -m figures.tables                 all of them: printed in Markdown, and OUT/tableN.md, .csv, .tex
    python -m figures.tables 2 3 4.4         some of them
    python -m figures.tables 2 --results DIR --runs DIR     directories of the evaluations

Nothing is computed: the evaluations that `nets.evaluate` wrote into results/*.json and runs/*/evaluation.json are read,
in seconds, with --quick or without. A missing number is reported as missing, with the commands that compute it for the
seed of --seed. A network trained by a smaller recipe than that of its row, or on lossily compressed images, is shown
if there is no better one, and called a stand-in. Networks of another kind of training, data set or noise are not
shown.
"""

import sys
from pathlib import Path

from figures import _io
from figures._cli import OneLineParser, run
from figures.tables._commands import Places
from figures.tables._library import read
from figures.tables._numbers import make_lines
from figures.tables._text import Document, label, latex, markdown, tidy
from nets.published import NOTES, ROWS
from nets.training import NOT_IN_THE_PAPER, RECIPES

__all__ = ["documents", "label", "main"]

PROG = "python -m figures.tables"
PGD, BLIND = "adversarially trained networks", "on images made by attacking another network (the oracle)"
TITLES = {
    "table1": "naturally trained networks on natural images of CIFAR10",
    "table2": f"{PGD} on CIFAR10",
    "table3": f"{PGD} on CIFAR10, {BLIND}",
    "table4": "naturally trained networks on natural images of CIFAR100",
    "table5": f"{PGD} on CIFAR100",
    "table6": f"{PGD} on CIFAR100, {BLIND}",
    "table7": "averages of separately trained networks, on CIFAR10",
    "table8": f"{PGD} on CIFAR10, an ensemble against a wide network",
    "table9": f"{PGD} on CIFAR10, an ensemble of different networks with learned weights",
    "table10": f"{PGD} on CIFAR100, an ensemble of different networks with learned weights",
    "table11": f"{PGD} on CIFAR10, with Laplace noise",
    "section4.4": "ensembles without noise, and the check for masked gradients, on CIFAR10",
}
HEAD = (
    "Accuracies in per cent; difference: ours less the paper's, in points.",
    "Ours uses the paper's measure: all images are attacked, and a single pass decides whether an attacked image is "
    "classified correctly; means over all passes.",
    "n: test images × networks trained with different seeds; the standard error covers images, draws and, for two or "
    "more networks, seeds; for one network it does not cover the seed.",
)
ATTACKED = (
    "FGSM and IFGSM^20 by the paper's text, eps 8/255 and step 2/255; C-W as printed, not as released; the gradient "
    "of a noisy network is the mean of 5 draws.",
)
NATURAL = ("table1", "table4")
CW_KEEPS = (
    "the iterate of C-W that counts: the nearest that deceives; for a noisy network, the one with the greatest margin "
    "over fresh draws"
)
COUNTED = "Parameters in millions: ours are counted in nets.build's networks with 100 outputs."


def documents(tables, library, places):
    """Assemble tables from the evaluations found.

    Parameters
    ----------
    tables : list of str
        Keys of `published.ROWS`.
    library : Library
        Evaluations, see `figures.tables._library.read`.
    places : Places
        Directories and seed in the commands.

    Returns
    -------
    list of Document
    """
    made = []
    for table in tables:
        lines, honest, left_out = make_lines(table, library, places)
        notes = [f"{note.one}. But {note.other}." for note in NOTES if table in note.tables]
        head = HEAD if table in NATURAL else HEAD + ATTACKED
        head += (COUNTED,) * (table == "table4")
        made.append(Document(table, TITLES[table], head, lines, honest, notes, _unsaid(table), left_out))
    return made


def _unsaid(table):
    """Settings of a table's training and attacks that the paper does not state."""
    recipes = [made for name, made in RECIPES.items() if name.startswith(f"{table}/")]
    left_out = set()
    if not any(made.is_adversarial for made in recipes):
        left_out |= {"crafting_batch_norm", "validation_n_iter"}
    if not any(made.weights == "learned" for made in recipes):
        left_out |= {"weights_step_size"}
    unsaid = [f"{name}: {what}" for name, what in NOT_IN_THE_PAPER.items() if name not in left_out]
    return unsaid + [CW_KEEPS] * any(row.cw is not None for row in ROWS[table])


def _table(parser, word):
    for table in (f"table{word}", f"section{word}", word):
        if table in ROWS:
            return table
    return parser.error(f"no table {word}; there are 1 to 11, and 4.4 for section 4.4")


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    parser = OneLineParser(PROG, __doc__)
    parser.add_argument("numbers", nargs="*", metavar="N", help="tables: 1 to 11, 4.4 (default: all)")
    parser.add_argument(
        "--results", type=Path, help="directory of evaluations, *.json (default results, or those of the package)"
    )
    parser.add_argument("--runs", type=Path, help="directory of runs, */evaluation.json (default runs)")
    arguments = parser.parse_args(argv)
    tables = list(dict.fromkeys(_table(parser, word) for word in arguments.numbers)) or list(ROWS)
    if arguments.seed < 0:
        parser.error(f"--seed must be >= 0, got {arguments.seed}")

    def write():
        for option in ("results", "runs"):
            directory = getattr(arguments, option)
            if directory is not None and not directory.is_dir():
                raise ValueError(f"--{option} {directory} is not a directory")
        places = Places(arguments.results or Path("results"), arguments.runs or Path("runs"), arguments.seed)
        library = read(arguments.results or _io.results_directory(), places.runs)
        texts = {}
        for document in documents(tables, library, places):
            # A dot would begin a suffix for LaTeX.
            stem = document.table.replace(".", "-")
            made = {"md": markdown(document), "csv": tidy([document]), "tex": latex(document)}
            texts |= {f"{stem}.{kind}": text for kind, text in made.items()}
        with _io.output_directory(arguments.out) as directory:
            written = _io.save_all(directory, {name: _writer(text) for name, text in texts.items()})
        print("\n".join(text for name, text in texts.items() if name.endswith(".md")), end="")
        # What is printed is Markdown, and can go into a file as it is.
        sys.stderr.write(f"{len(written)} files in {arguments.out}\n")

    run(write, PROG, arguments)


def _writer(text):
    return lambda path: path.write_text(text, encoding="utf-8", newline="")
