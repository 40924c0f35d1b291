"""Files of results as the verdict needs them: evaluations, comparisons and records of figures, checked key by key.

A file that can be read and holds something else than a result - no rows, a word for a number, NaN, an accuracy of 1.2 -
is refused with its name and the key: as a missing result it would change the verdict without a trace.
"""

import math
from pathlib import Path
from typing import NamedTuple

import _enresnet

__all__ = [
    "Library",
    "count",
    "damaged",
    "flag",
    "fraction",
    "get",
    "items",
    "kind_of",
    "mapping",
    "nonnegative",
    "number",
    "optional",
    "positive",
    "read",
    "word",
]

WORST = "worst case of "
EVALUATE, COMPARE = "python -m nets.evaluate ", "python -m nets.compare "


class Library(NamedTuple):
    """Evaluations by kind of network, comparisons by pairs of kinds, records of figures by name; where they lie."""

    evaluations: dict
    comparisons: dict
    figures: dict
    directory: Path = Path()


def kind_of(recipe, *, oracle=None, inject=None):
    """Name a kind of network by its recipe: "en1_resnet20", "resnet20, natural", "en2_resnet20, no noise", ...

    `inject` is the place of a control's noise, which the network was not trained with.

    >>> kind_of({"model": "en1_resnet20", "method": "fast", "noise": "laplace", "coef": 0.1, "std_over": "batch"})
    'en1_resnet20, laplace'
    """
    parts = [recipe["model"]]
    if recipe["method"] == "natural":
        parts.append("natural")
    if "en" in recipe["model"][:2]:
        noise, coef = recipe.get("noise", "gaussian"), recipe.get("coef", 0.1)
        if noise == "none" or coef == 0:
            parts.append("no noise")
        else:
            parts += [noise] * (noise != "gaussian") + [f"coef {coef:g}"] * (coef != 0.1)
            parts += [f"std over {recipe['std_over']}"] * (recipe.get("std_over", "batch") != "batch")
    parts += [f"noise in {inject}"] * (inject is not None)
    return ", ".join(parts + ["blind"] * (oracle is not None))


# ---- One value of a record, which is as it should be, or a ValueError with its key


def word(key, value):
    """Return value if it is a string."""
    return _if(isinstance(value, str), key, "a word", value)


def number(key, value, low=-math.inf, high=math.inf):
    """Return value if it is a finite number within [low, high]."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    bounds = f" in [{low:g}, {high:g}]" if math.isfinite(high) else f" >= {low:g}" if math.isfinite(low) else ""
    return _if(is_number and low <= value <= high, key, f"a finite number{bounds}", value)


def nonnegative(key, value):
    """Return value if it is a finite number >= 0."""
    return number(key, value, 0)


def positive(key, value):
    """Return value if it is a finite number > 0."""
    return _if(nonnegative(key, value) > 0, key, "> 0", value)


def fraction(key, value):
    """Return value if it is an accuracy."""
    return number(key, value, 0, 1)


def count(key, value):
    """Return value if it is a whole number >= 1."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return _if(is_whole and value >= 1, key, "a whole number >= 1", value)


def flag(key, value):
    """Return value if it is true or false."""
    return _if(isinstance(value, bool), key, "true or false", value)


def _if(is_right, key, wanted, value):
    if not is_right:
        raise ValueError(f"{key} must be {wanted}, got {value!r:.60}")
    return value


def get(record, key, check):
    """Return check(key, value) of the value at a key such as "run.recipe.model"; ValueError where there is none."""
    value, seen = record, ""
    for part in key.split("."):
        _if(isinstance(value, dict), seen or "the file", "an object", value)
        seen = f"{seen}.{part}" if seen else part
        if part not in value:
            raise ValueError(f"{seen} is missing")
        value = value[part]
    return check(key, value)


def optional(check):
    """Return the check of a value that may be null."""
    return lambda key, value: None if value is None else check(key, value)


def items(check, *, least=0, n=None):
    """Return the check of a list of at least `least` or of exactly n items, every one by `check`."""
    wanted = f"a list of {n}" if n is not None else f"a list of at least {least}" if least else "a list"

    def check_all(key, value):
        is_long_enough = isinstance(value, list) and len(value) >= least and n in (None, len(value))
        _if(is_long_enough, key, wanted, value)
        return [check(f"{key}[{i}]", one) for i, one in enumerate(value)]

    return check_all


def mapping(checks=None):
    """Return the check of an object, and of its values by key."""

    def check(key, value):
        _if(isinstance(value, dict), key, "an object", value)
        for name, one in (checks or {}).items():
            try:
                get(value, name, one)
            except ValueError as error:
                raise ValueError(f"{key}.{error}") from None
        return value

    return check


def _difference(key, value):
    return number(key, value, -1, 1)


def _attack(key, value):
    """An attack's name; that of a worst case ends with how many attacks it is of."""
    is_right = not word(key, value).startswith(WORST) or value.removeprefix(WORST).isdecimal()
    return _if(is_right, key, f'"{WORST}" and a number', value)


EVALUATION = {
    "run.path": word,
    "run.recipe.model": word,
    "run.recipe.method": word,
    "run.recipe.epochs": count,
    "data.n_train": count,
    "rows": items(mapping({"name": _attack, "accuracy": fraction, "stderr": nonnegative, "n": count})),
}
COMPARISON = {
    "runs.first": items(word),
    "runs.second": items(word),
    "rows": items(
        mapping(
            {
                "attack": _attack, "attack_on_first": _attack, "difference": _difference, "stderr": nonnegative,
                "n": count, "n_first": count, "n_second": count,
            }
        )
    ),
}  # fmt: skip
# Where a recipe has them: `kind_of` reads them.
OPTIONAL = {"noise": word, "coef": number, "std_over": word}


def _kind(report):
    """What a file is by its command or, where that is not known, by its keys."""
    command = report.get("command")
    command = command if isinstance(command, str) else ""
    if command.startswith(EVALUATE) or "run" in report:
        return "evaluation"
    runs = report.get("runs")
    if command.startswith(COMPARE) or (isinstance(runs, dict) and {"first", "second"} & runs.keys()):
        return "comparison"
    return "figure"


def read(directory):
    """Read the files of a directory into a `Library`; ValueError, of one line, if one of them is damaged.

    Other JSON files are left alone.
    """
    directory = Path(directory)
    evaluations, comparisons, figures, by_path, compared = {}, {}, {}, {}, {}
    for path in sorted(directory.glob("[!.]*.json")):
        try:
            report = _enresnet.read_record(path)
            kind = _kind(report) if isinstance(report, dict) else None
            if kind == "evaluation":
                name = _evaluated(report)
                run = report["run"]
                # The network in the zoo has the name of its report: zoo:cifar10/NAME of cifar10-NAME.json.
                by_path[run["path"]] = by_path["zoo:" + path.stem.replace("-", "/", 1)] = run["recipe"]
                evaluations.setdefault(name, []).append(report)
            elif kind == "comparison":
                for key, check in COMPARISON.items():
                    get(report, key, check)
                compared[path] = report
            elif kind == "figure":
                figures[path.stem] = report
        except ValueError as error:
            raise damaged(path, error) from None
    for report in compared.values():
        recipes = [[by_path.get(path) for path in report["runs"][side]] for side in ("first", "second")]
        if None in recipes[0] + recipes[1]:
            continue
        placed = zip(recipes, (None, report.get("inject")), strict=True)
        sides = [{kind_of(recipe, inject=inject) for recipe in side} for side, inject in placed]
        if all(len(side) == 1 for side in sides):
            comparisons.setdefault((sides[0].pop(), sides[1].pop()), []).append(report)
    return Library({kind: _longest(found) for kind, found in evaluations.items()}, comparisons, figures, directory)


def _evaluated(report):
    """Check an evaluation, and return the kind of its network."""
    for key, check in EVALUATION.items():
        get(report, key, check)
    recipe, control = report["run"]["recipe"], report.get("control")
    for key, check in OPTIONAL.items():
        if key in recipe:
            check(f"run.recipe.{key}", recipe[key])
    inject = None if control is None else get(report, "control.inject", word)
    return kind_of(recipe, oracle=report.get("oracle"), inject=inject)


def _longest(reports):
    """The evaluations of one kind of network that were trained on the most images."""
    seen = [report["data"]["n_train"] * report["run"]["recipe"]["epochs"] for report in reports]
    return [report for report, n in zip(reports, seen, strict=True) if n == max(seen)]


def damaged(path, error):
    """The error of a file that cannot be read, or holds something else than it should."""
    return ValueError(f"{path} is damaged ({error}): remove it, or make it again")
