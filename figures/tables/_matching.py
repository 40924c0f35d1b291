"""Whether an evaluation fits a row of the paper: data, training and noise, judged field by field."""

import functools
import math
from dataclasses import asdict
from typing import NamedTuple

from figures.tables._library import NOISE, RELEASED, TEXT
from nets.training import RECIPES

__all__ = ["Verdict", "is_noisy", "judge", "trained_by"]

# Classes, shape, training and test images.
DATA_SETS = {"cifar10": (10, [3, 32, 32], 50000, 10000), "cifar100": (100, [3, 32, 32], 50000, 10000)}
LOSSLESS = ("raw", "PNG")
# One step of a greater size for ten: a cheaper kind of the same training.
STAND_INS = {"natural": ("natural",), "pgd": ("pgd", "fast")}
# Of a training that ended early, the share of its epochs from which it may stand in.
LEAST_DONE = 3 / 4


class Verdict(NamedTuple):
    """Whether an evaluation belongs in a row, and what differs or why it is refused.

    "own": the row's own recipe on its own data; "stand-in": a smaller one; "refused": one that would belong there
    without the defect in `remarks`; "other": another experiment.
    """

    kind: str
    remarks: tuple = ()


OTHER = Verdict("other")


def is_noisy(model):
    """Return whether a model, by its name for `nets.build`, has blocks with noise."""
    return any(term.startswith("en") for term in model.split("+"))


@functools.cache
def trained_by(name):
    """Return the first recipe of the same training: tables repeat rows, and blind attacks are on networks of others."""
    wanted = RECIPES[name]
    if wanted.members:
        return name
    same = (
        other
        for other, recipe in RECIPES.items()
        if recipe.data == wanted.data and _judge_recipe(asdict(recipe), wanted).kind == "own"
    )
    return next(same)


def judge(evaluation, wanted, library):
    """Return the `Verdict` on an evaluation for the row of the recipe `wanted`; `library` has oracles and members."""
    data, recipe = evaluation.data, evaluation.recipe
    size = data["n_classes"], data["shape"], data["n_train"], data["n_test"]
    if size != DATA_SETS[wanted.data]:
        return OTHER
    verdict = _judge_members(evaluation, wanted, library) if wanted.members else _judge_recipe(recipe, wanted)
    if verdict.kind in ("other", "refused"):
        return verdict
    n_done, n_epochs = evaluation.run["epochs_done"], recipe["epochs"]
    if n_done is not None and n_done < LEAST_DONE * n_epochs:
        return Verdict("refused", (f"its training is not finished, {n_done} epochs of {n_epochs}",))
    if data["digest"] != data["trained_on"]:
        return Verdict("refused", ("it was trained on other images",))
    remarks = verdict.remarks
    if n_done is None and not wanted.members:
        remarks += ("no record that its training was finished",)
    elif n_done is not None and n_done < n_epochs:
        remarks += ("its training ended before the last epoch",)
    if data["encoding"] not in LOSSLESS:
        remarks += (f"{data['encoding']} images",)
    verdict = Verdict("stand-in" if remarks else "own", remarks)
    return _judge_oracle(evaluation, wanted, verdict, library) if wanted.oracle else verdict


def _judge_recipe(recipe, wanted):
    """Judge by the fields; the name proves nothing, since every field can be overridden."""
    if recipe["model"] != wanted.model or recipe["members"]:
        return OTHER
    expected = asdict(wanted)
    identity = ["weights"] if "+" in wanted.model else []
    if is_noisy(wanted.model):
        identity += NOISE
    if any(recipe[key] != expected[key] for key in identity) or recipe["method"] not in STAND_INS[wanted.method]:
        return OTHER
    if wanted.is_adversarial and not any(math.isclose(recipe["eps"], eps, rel_tol=1e-6) for eps, _ in (TEXT, RELEASED)):
        return OTHER
    unread = {"oracle", "members", *NOISE} - set(identity)
    differing = [each for each in wanted.differences(recipe, execution=False) if each.partition("=")[0] not in unread]
    return Verdict("stand-in" if differing else "own", tuple(differing))


def _judge_members(evaluation, wanted, library):
    recipe = evaluation.recipe
    if recipe["model"] != wanted.model or not recipe["members"]:
        return OTHER
    if is_noisy(wanted.model) and any(recipe[key] != getattr(wanted, key) for key in NOISE):
        return OTHER
    recipes = library.members(evaluation)
    if recipes is None or len(recipes) != len(wanted.members):
        return Verdict("refused", (f"the records of its members' training are not in {library.runs}",))
    verdicts = [_judge_recipe(member, RECIPES[name]) for member, name in zip(recipes, wanted.members, strict=True)]
    if OTHER in verdicts:
        return OTHER
    remarks = tuple(dict.fromkeys(f"members: {remark}" for verdict in verdicts for remark in verdict.remarks))
    return Verdict("stand-in" if remarks else "own", remarks)


def _judge_oracle(evaluation, wanted, verdict, library):
    if evaluation.oracle is None:
        return OTHER
    known = library.trained(evaluation.oracle["weights"]["digest"])
    if known is None:
        return Verdict("refused", ("how its oracle was trained is unknown: there is no evaluation of the oracle",))
    oracle = judge(known, RECIPES[wanted.oracle], library)
    if oracle.kind in ("other", "refused"):
        return oracle
    if known.data["trained_on"] != evaluation.data["trained_on"]:
        return Verdict("refused", ("its oracle was trained on other images",))
    new = tuple(f"oracle: {remark}" for remark in oracle.remarks)
    return Verdict("stand-in" if verdict.remarks or new else "own", verdict.remarks + new)
