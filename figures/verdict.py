"""The verdict: which claims of the paper hold, by the numbers in results/ and the rules of figures/_claims.py.

A row per claim: what the paper prints, what was measured here with its standard error and number of images and seeds,
and "holds", "holds in part", "does not hold" or "not reached". figures/_claims.py says what of the rules was fixed
before the numbers were read, and what was added.

Read are the comparisons of `nets.compare` (results/*.json with "runs" and "rows"), whose differences are paired image
by image; where there is none, the evaluations of `nets.evaluate`, whose difference is then one of independent
accuracies and has a larger error; and the JSON files of the figures sparsity, fig4, fig4_forensics and theorems.
Networks are identified by the recipes in the evaluations; of several trainings the one on the most images counts.

    python -m figures.verdict --results DIR

Prints the table in Markdown. Seconds, with --quick or without; nothing is computed.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from figures import _io
from figures._claims import CLAIMS, LEFT, WORDS, Gain, Left, decide, decide_at_most
from figures._cli import make_main
from figures._results import (
    count,
    damaged,
    flag,
    fraction,
    get,
    items,
    kind_of,
    mapping,
    nonnegative,
    number,
    optional,
    positive,
    read,
    word,
)
from figures._style import BLACK, BLUE, GREEN, GREY, ORANGE, RED
from nets.proportions import pooled

__all__ = ["compute", "findings", "kind_of", "main", "plot", "table"]

HOLDS, IN_PART, FAILS, NOT_REACHED = WORDS
COLOURS = {HOLDS: GREEN, IN_PART: BLUE, FAILS: RED, NOT_REACHED: GREY}
# Reading of the recipe as it is printed, in the figure of the readings.
AS_PRINTED = ("grid noise (as printed)", "ν = σ²/2, T = 1")


class Measured(NamedTuple):
    """Result of a row: a number with its error, if any, a text, and its source."""

    verdict: str
    text: str = "–"
    value: float = math.nan
    stderr: float = math.nan
    n: str = "–"


MISSING = Measured(NOT_REACHED)


def _row(rows, attacks, key="name"):
    """The row on the most images, of these the first available attack; the worst case of the most attacks."""
    found = []
    for attack in attacks:
        found += [row for row in rows if row[key] == attack or (attack == "worst case" and row[key].startswith(attack))]
    return max(found, key=lambda row: (_n_attacks(row[key]), row["n"]), default=None)


def _n_attacks(name):
    """4 of "worst case of 4", and 1 of every attack itself."""
    return int(name.rpartition(" ")[2]) if name.startswith("worst case of ") else 1


def _measure_gain(claim, library):
    for sign, pair in ((1, (claim.first, claim.second)), (-1, (claim.second, claim.first))):
        key = "attack" if sign == 1 else "attack_on_first"
        # At a tie, the comparison by the most attacks.
        reports = sorted(library.comparisons.get(pair, ()), key=lambda report: -len(report["rows"]))
        rows = [_row(report["rows"], claim.attacks, key) for report in reports]
        row = max(
            filter(None, rows),
            key=lambda row: (_n_attacks(row[key]), row["n_first"] + row["n_second"], row["n"]),
            default=None,
        )
        if row:
            sides = (row["n_first"], row["n_second"])[::sign]
            return _gained(claim, sign * row["difference"], row["stderr"], row["n"], sides)
    sides = [_pooled(library.evaluations.get(kind, ()), claim.attacks) for kind in (claim.first, claim.second)]
    if None in sides:
        return MISSING
    (p, s, n, k), (q, t, m, j) = sides
    return _gained(claim, q - p, math.hypot(s, t), min(n, m), (k, j), ", unpaired")


def _gained(claim, gain, stderr, n, networks, paired=""):
    word = decide(gain, stderr, claim.published) if min(networks) > 1 else NOT_REACHED
    n = f"{n} × {networks[0]} and {networks[1]}{paired}"
    return Measured(word, f"{100 * gain:+.2f} ± {100 * stderr:.2f}", 100 * gain, 100 * stderr, n)


def _pooled(reports, attacks):
    """Mean over the seeds, standard error of images and seeds, images, seeds: see figures.tables for the error."""
    rows = [row for row in (_row(report["rows"], attacks) for report in reports) if row]
    if not rows:
        return None
    # Of worst cases, those of the most attacks.
    _, n = best = max((_n_attacks(row["name"]), row["n"]) for row in rows)
    rows = [row for row in rows if (_n_attacks(row["name"]), row["n"]) == best]
    p, stderr = pooled([row["accuracy"] for row in rows], [row["stderr"] for row in rows], n)
    return p, stderr, n, len(rows)


def _measure_left(claim, library):
    found = _pooled(library.evaluations.get(claim.kind, ()), claim.attacks)
    if found is None:
        return MISSING
    p, s, n, k = found
    return Measured(decide_at_most(p, s, LEFT), f"{100 * p:.2f} ± {100 * s:.2f}", 100 * p, 100 * s, f"{n} × {k}")


def _measure_record(claim, library):
    record = library.figures.get(claim.figure)
    try:
        return MISSING if record is None else MEASURES[claim.measure](record)
    except ValueError as error:
        raise damaged(library.directory / f"{claim.figure}.json", error) from None


def _difference(network, key, sign=1, *, percent=True, published=None):
    def measure(record):
        if network not in get(record, "networks", mapping()):
            # Not all kinds of networks were trained.
            return MISSING
        place = f"networks.{network}.difference.{key}"
        gain, factor = sign * get(record, f"{place}.mean", number), 100 if percent else 1
        stderr, reach = (get(record, f"{place}.{name}", optional(nonnegative)) for name in ("stderr", "reach"))
        seeds = [get(record, f"networks.{name}.{key}.n", count) for name in ("adversarial", network)]
        n = f"{seeds[0]} and {seeds[1]} seeds"
        if stderr is None or reach is None:
            return Measured(NOT_REACHED, f"{factor * gain:+.2f}", factor * gain, n=n)
        text = f"{factor * gain:+.2f} ± {factor * stderr:.2f}" + " points" * percent
        # Few seeds: the reach of an interval of 95 % for two standard errors.
        return Measured(decide(gain, reach / 2, published), text, factor * gain, factor * stderr, n)

    return measure


def _literal(record):
    # A maximum that is not finite is kept as null.
    sups = [
        get(one, "literal_recipe_sup_norm", optional(nonnegative))
        for one in get(record, "solutions", items(mapping(), least=1))
    ]
    worst = math.inf if None in sups else max(sups)
    return Measured(HOLDS if worst <= 1.01 else FAILS, f"{worst:.0e}", n=f"{len(sups)} σ")


def _printed(record):
    readings = get(record, "readings", items(mapping()))
    found = [one for one in readings if (get(one, "group", word), get(one, "name", word)) == AS_PRINTED]
    if len(found) != 1:
        raise ValueError(f"readings must have one of {AS_PRINTED}, got {len(found)}")
    fitting = sum(get(panel, "compatible", flag) for panel in get(found[0], "panels", items(mapping())))
    verdict = HOLDS if fitting == 3 else IN_PART if fitting == 2 else FAILS
    text = f"{fitting} of 3 panels; {len(get(record, 'compatible', items(word)))} of {len(readings)} readings fit all"
    return Measured(verdict, text, n=f"{get(record, 'n_seeds', count)} seeds")


def _hoelder(record):
    bounds = get(record, "hoelder.bound", items(positive, least=1))
    rows = get(record, "hoelder.constant", items(items(nonnegative, n=len(bounds)), least=1))
    ratio = max(c / b for row in rows for c, b in zip(row, bounds, strict=True))
    # Kept by the constant of docs/theorem-2-2.md, section 6, which also shows that the printed one cannot exist.
    text = f"{ratio:.2f} of the bound; C must depend on ∇v"
    n = len(get(record, "hoelder.sigma", items(number)))
    return Measured(IN_PART if ratio <= 1 else FAILS, text, n=f"{n} σ")


def _gradient(record):
    measured, published = (get(record, f"counterexample.{key}", nonnegative) for key in ("measured", "published"))
    text = f"{measured:.3f}, bound {published:.3f}"
    return Measured(HOLDS if measured <= published else FAILS, text, n="closed form")


def _natural(record):
    networks = get(record, "networks", mapping())
    if not {"natural", "adversarial"} <= networks.keys():
        return MISSING
    natural, adversarial = (
        get(record, f"networks.{name}.paper_below", fraction) for name in ("natural", "adversarial")
    )
    return _difference("natural", "below", published=natural - adversarial)(record)


MEASURES = {
    "natural_less_adversarial": _natural,
    "en2_below": _difference("en2", "below"),
    "en2_relative": _difference("en2", "relative"),
    "en2_smoother": _difference("en2", "smoothness", -1, percent=False),
    "literal": _literal,
    "printed": _printed,
    "hoelder": _hoelder,
    "gradient": _gradient,
}


def compute(*, quick=False, seed=0, results=None):
    """Columns of the table (c,): texts, `value` and `stderr` in points, NaN where the measure is none, `verdict`."""
    results = _io.results_directory() if results is None else results
    if not Path(results).is_dir():
        raise ValueError(f"--results {results} is not a directory")
    library = read(results)
    rows = []
    for claim in CLAIMS:
        measure = {Gain: _measure_gain, Left: _measure_left}.get(type(claim), _measure_record)
        published = claim.published
        if isinstance(claim, Gain):
            text, number = ("–", math.nan) if published is None else (f"{100 * published:+.2f}", 100 * published)
        elif isinstance(claim, Left):
            text, number = f"{100 * published:.2f}", 100 * published
        else:
            text, number = published, math.nan
        found = measure(claim, library)
        rows.append((claim.claim, claim.what, claim.section, text, number, *found, isinstance(claim, Gain)))
    names = ("claim", "what", "section", "paper", "published", "verdict", "measured", "value", "stderr", "n", "is_gain")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def findings(data):
    """Return the contents of the JSON file: the rows, and the number of each verdict."""
    verdicts = data["verdict"].tolist()
    keys = ("claim", "what", "section", "paper", "measured", "n", "verdict")
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*(data[key].tolist() for key in keys), strict=True)]
    caption = (
        "Points: gain measured here, in points of accuracy, with two standard errors; stars: the paper's gain. "
        "The rules, and what was added to them after the first numbers: figures/_claims.py."
    )
    return {"count": {word: verdicts.count(word) for word in WORDS}, "rows": rows, "captions": {"": caption}}


def table(found):
    """Write the verdict as a Markdown table."""
    lines = ["| claim | test | paper | here ± s.e. | n: images × seeds | verdict |", "|---|---|---:|---:|---|---|"]
    before = None
    for row in found["rows"]:
        claim = "" if row["claim"] == before else f"{row['claim']} ({row['section']})"
        before = row["claim"]
        cells = (claim, row["what"], row["paper"], row["measured"], row["n"], f"**{row['verdict']}**")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    counts = ", ".join(f"{word}: {n}" for word, n in found["count"].items())
    return "\n".join([*lines, "", f"{counts}. Gains in points of accuracy; a minus sign is a loss."]).replace(
        " -", " −"
    )


def plot(data):
    """Draw a heading per claim, and a row per test: the gain and the paper's, the number, the verdict."""
    places, heads, last = [], {}, 0.0
    for claim in data["claim"].tolist():
        if claim not in heads:
            heads[claim], last = last + 0.2, last + 1.1
        places.append(last)
        last += 0.9
    figure = Figure(figsize=(11.5, 0.9 + 0.27 * last), layout="constrained")
    words, axes, right = figure.subplots(1, 3, sharey=True, width_ratios=(1.0, 1.0, 1.25))
    axes.set_ylim(last, -0.6)
    # Rules through the whole picture, not through each panel.
    across = blended_transform_factory(figure.transFigure, axes.transData)
    for claim, place in heads.items():
        words.text(0, place, claim, va="center", fontsize=9.5, fontweight="bold")
        figure.add_artist(Line2D((0, 1), (place - 0.6,) * 2, transform=across, color=GREY, lw=0.4, alpha=0.6))
    for row, place in enumerate(places):
        verdict = str(data["verdict"][row])
        words.text(0.04, place, str(data["what"][row]), va="center", fontsize=8.5)
        right.text(0, place, _minus(data["measured"][row]), va="center", fontsize=8.5)
        right.text(0.74, place, verdict, va="center", fontsize=9, color=COLOURS[verdict], fontweight="bold")
        _gains(axes, data, row, place, COLOURS[verdict])
    for part in (words, right):
        part.set(xlim=(0, 1))
        part.axis("off")
    axes.axvline(0, color=BLACK, lw=0.8)
    axes.tick_params(left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gain in accuracy (points)\ndots: here ± 2 standard errors; stars: the paper")
    return figure


def _gains(axes, data, row, place, colour):
    if not data["is_gain"][row]:
        return
    if np.isfinite(data["value"][row]):
        axes.errorbar(data["value"][row], place, xerr=2 * data["stderr"][row], fmt="o", color=colour, ms=6, capsize=3)
    if np.isfinite(data["published"][row]):
        axes.plot(data["published"][row], place, "*", color=ORANGE, mec=BLACK, ms=11, mew=0.6)


def _minus(text):
    return str(text).replace("-", "−")


main = make_main(
    "verdict", __doc__, compute=compute, plot=plot, findings=findings, table=table,
    options={"results": {"type": Path, "help": "directory of comparisons and evaluations (default results)"}},
)  # fmt: skip


if __name__ == "__main__":
    main()
