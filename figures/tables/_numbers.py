"""The cells of the paper's tables: the paper's number, ours with its error, and the commands that would make it.

Of K networks trained with different seeds and evaluated on the same n images, let c_ik be the expectation over the
draws of "network k classifies image i correctly":

    c_ik = mu + a_i + b_k + e_ik,   p = mean over i, k of c_ik,   var p = var a / n + var b / K + var e / (n K)

The a_i are common to all networks, so the K accuracies p_k do not show them; s**2, the variance of the p_k,
estimates var b + var e / n, with the draws' noise in it. One network's binomial variance p (1 - p) is at least
var a + var e. Hence

    stderr**2 = p (1 - p) / n + s**2 / K,   s**2 = sum_k (p_k - p)**2 / (K - 1)

exceeds var p on average by (p (1 - p) - var a) / n, which is at least var e / n: files hold accuracies, not the
predictions of single images, from which var a could be estimated. For K = 2 networks s**2 is a poor estimate; for one
there is none, and the standard error is that of images and draws alone.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

from figures.tables._commands import commands
from figures.tables._matching import is_noisy, judge
from nets import proportions
from nets.models import build
from nets.published import MASK, PARAMETERS, ROWS, Row
from nets.training import RECIPES

__all__ = ["HONEST", "Line", "Target", "make_lines", "pooled", "targets"]

ATTACKS = ("natural", "fgsm", "ifgsm20", "cw")
# Attacks averaged over 20 draws of a noisy network, and the same attacks on a deterministic one.
HONEST = {"ifgsm20-eot20": "ifgsm20", "apgd-ce-eot20": "apgd-ce", "apgd-dlr-eot20": "apgd-dlr"}


class Target(NamedTuple):
    """A row of a table: its label, unique in the table, the paper's numbers, and the recipe of the network."""

    label: str
    row: Row
    recipe: str


@dataclass(frozen=True)
class Line:
    """A number of a table: of row `target`, column `attack` (named as in `nets.evaluation`), in per cent.

    `n` is images × networks. `kind`: ours comes from the row's "own" recipe and data, from a "stand-in" that `remarks`
    describe, or is "missing"; `command` has the lines that compute the number by the row's own recipe.
    """

    target: Target
    attack: str
    paper: float | None
    ours: float | None = None
    stderr: float | None = None
    n: str = ""
    kind: str = "missing"
    recipe: str = ""
    data: str = ""
    remarks: tuple = ()
    command: tuple = ()

    @property
    def difference(self):
        """Ours less the paper's, in points; None where one of them is missing."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper


def targets(table):
    """Return the rows (list of `Target`) of a table, a key of `published.ROWS`."""
    found = []
    for row in ROWS[table]:
        label = row.model + (f" attacked through {row.oracle}" if row.oracle else "")
        found.append(Target(label, row, f"{table}/{row.model}"))
    if table == "section4.4":
        found = [row._replace(label=f"{row.label} without noise") for row in found]
        found += [Target(f"{row.model} trained naturally", row, f"table1/{row.model}") for row in MASK]
    return found


def make_lines(table, library, places):
    """Return the lines of a table that the paper prints, honest lines, and the evaluations left out, with the reasons.

    The honest lines are those of Table 2 under attacks averaged over 20 draws, by the mean of the draws; the paper has
    none.
    """
    lines, honest, left_out = [], [], {}
    for target in targets(table):
        wanted = RECIPES[target.recipe]
        judged = [(evaluation, judge(evaluation, wanted, library)) for evaluation in library.evaluations]
        left_out |= {f"{e.path}: {verdict.remarks[0]}": None for e, verdict in judged if verdict.kind == "refused"}
        command = commands(target.recipe, places)
        for attack in ATTACKS:
            paper = getattr(target.row, attack)
            if paper is not None:
                name = f"blind-{attack}" if target.row.oracle else attack
                lines.append(_line(target, name, name, paper, judged, command, left_out))
        if table == "table2":
            for name, plain in HONEST.items():
                source = name if is_noisy(wanted.model) else plain
                honest.append(_line(target, name, source, None, judged, command, left_out))
        if table == "table4":
            lines.append(_parameters(target))
    return lines, honest, list(left_out)


def _parameters(target):
    """The paper's last column, and the number of parameters of our network."""
    count = sum(parameter.numel() for parameter in build(target.row.model, n_classes=100, seed=0).parameters())
    paper = PARAMETERS[target.row.model]
    return Line(target, "parameters (millions)", paper, count / 1e6, kind="own", recipe="nets.build, 100 outputs")


def _line(target, attack, source, paper, judged, command, left_out):
    found = {}
    for evaluation, verdict in judged:
        score = evaluation.score(source, one_draw=attack not in HONEST) if verdict.kind in ("own", "stand-in") else None
        if score is not None:
            remarks = verdict.remarks + score.remarks
            rank = not remarks, score.n, evaluation.date
            # A network that was evaluated twice counts once.
            if evaluation.weights not in found or rank > found[evaluation.weights][0]:
                found[evaluation.weights] = rank, evaluation, score, remarks
    if not found:
        return Line(target, attack, paper, command=command)
    # No stand-in beside the row's own; and what is averaged has everything but the seed in common.
    groups = {}
    for (is_own, *_), evaluation, score, remarks in found.values():
        data, protocol = evaluation.data, evaluation.protocol
        settings = json.dumps([score.settings, protocol["subset_seed"], protocol.get("n_draws")], sort_keys=True)
        key = is_own, remarks, data["digest"], score.n, settings
        groups.setdefault(key, []).append((evaluation, score))
    best = max(groups, key=lambda key: (key[0], key[3] * len(groups[key]), key[3], key))
    for key, members in groups.items():
        if key[0] == best[0] and key != best:
            reason = "other images, settings or training than what is shown"
            left_out |= {f"{e.path}: {attack} on {score.n} images, {reason}": None for e, score in members}
    members = groups[best]
    accuracy, stderr = pooled([score for _, score in members])
    first = members[0][0]
    return Line(
        target,
        attack,
        paper,
        100 * accuracy,
        100 * stderr,
        f"{best[3]} × {len(members)}",
        "own" if best[0] else "stand-in",
        _recipe([evaluation for evaluation, _ in members]),
        f"{first.data['name']} ({first.data['encoding']})",
        best[1],
        () if best[0] else command,
    )


def pooled(scores):
    """Return mean and standard error of scores, one per network, on the same images: see the head of this module.

    >>> from figures.tables._library import Score
    >>> accuracy, stderr = pooled([Score(0.4, 0.049, 100, {}), Score(0.6, 0.049, 100, {})])
    >>> accuracy, round(stderr**2, 6)  # 0.5 * 0.5 / 100 + 0.02 / 2
    (0.5, 0.0125)
    """
    return proportions.pooled([score.accuracy for score in scores], [score.stderr for score in scores], scores[0].n)


def _recipe(evaluations):
    names, plan = ", ".join(sorted({e.run["name"] for e in evaluations})), evaluations[0].recipe
    if plan["members"]:
        return f"{names}: mean of members"
    done = sorted({e.run["epochs_done"] or plan["epochs"] for e in evaluations})
    cut = "" if done == [plan["epochs"]] else " and ".join(map(str, done)) + " of "
    return f"{names}: {_method(plan)}, {cut}{plan['epochs']} epochs"


def _method(plan):
    if plan["method"] != "fast":
        return plan["method"]
    # Records of one step have no number of them; one without a projection is de Jorge et al. 2022.
    n = plan.get("fast_n_iter", 1)
    return f"{n} step{'s' * (n > 1)}" if plan.get("fast_projection", True) else "N-FGSM"
