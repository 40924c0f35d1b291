"""The recipes by name, one per row of the paper's tables: `recipe("table2/en5_resnet20")`.

`cpu/...` are the same experiments for two cores, with 30 epochs of two-step adversarial training; `cpu/digits` takes
seconds.
"""

import difflib
from dataclasses import replace

from nets.published import ROWS, Row
from nets.training._recipe import Recipe

__all__ = ["RECIPES", "as_released", "published", "recipe"]


def as_released(recipe):
    """Return the recipe with the released code's deviations from the paper's text, where they are fields.

    These are eps 0.031 and step 0.007, adversarial images crafted with the statistics of the batch, momentum reset at
    each epoch, training on all training images, and the best epoch chosen on the test set.

    Parameters
    ----------
    recipe : Recipe
        Recipe by the paper's text.

    Returns
    -------
    Recipe

    References
    ----------
    .. [1] https://github.com/BaoWangMath/EnResNet, ResNet20.
    """
    changes = {"crafting_batch_norm": "batch", "reset_momentum": True, "select_on": "test"}
    return replace(recipe, eps=0.031, step_size=0.007, **changes)


def recipe(name):
    """Return a recipe by name.

    Parameters
    ----------
    name : str
        A key of RECIPES, such as "table2/en5_resnet20".

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If there is no such recipe; the message lists similar names.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise ValueError(f"there is no recipe {name!r}{hint}: python -m nets.train --list names them all")
    return RECIPES[name]


def _from_tables():
    """One recipe per row; those of blind attacks also have an oracle."""
    settings = {
        "table1": {"method": "natural"},
        "table4": {"method": "natural", "data": "cifar100"},
        "table5": {"data": "cifar100"},
        "table6": {"data": "cifar100"},
        "table10": {"data": "cifar100"},
        "table11": {"noise": "laplace"},
        "section4.4": {"noise": "none"},
    }
    sources = {"table3": "table2", "table6": "table5", "table7": "table2", "section4.4": "table2"}
    recipes = {}
    for table, rows in ROWS.items():
        for row in rows:
            options = dict(settings.get(table, {}))
            if row.oracle:
                options["oracle"] = f"{sources[table]}/{row.oracle}"
            if table in ("table9", "table10") and "+" in row.model:
                options["weights"] = "learned"
            elif "+" in row.model:
                options |= {"members": tuple(f"{sources[table]}/{term}" for term in row.model.split("+")), "epochs": 0}
            recipes[f"{table}/{row.model}"] = Recipe(row.model, **options)
    return recipes


def _for_two_cores():
    """Our own recipes; docs/training-recipe.md has the measurements behind them."""
    shared = {"schedule": "cyclic", "lr": 0.2, "epochs": 30, "n_validation": 500}
    # As the rate falls to 0, the best accuracy on 500 images would choose among the last epochs by chance.
    shared |= {"keep": "average", "average": 0.999}
    # Two steps of 5/255 for 8/255. One step collapsed for some seeds, also with more noise and without projection.
    fast = shared | {"method": "fast", "fast_n_iter": 2, "fast_step": 5 / 8}
    natural = shared | {"method": "natural"}
    recipes = {f"cpu/{model}": Recipe(model, **fast) for model in ("resnet20", "en1_resnet20", "en2_resnet20")}
    # Section 4.4's control: the mean of two networks without noise.
    recipes["cpu/en2_resnet20-without-noise"] = Recipe("en2_resnet20", noise="none", **fast)
    recipes |= {f"cpu/{model}-natural": Recipe(model, **natural) for model in ("resnet20", "en1_resnet20")}
    variants = {"laplace": {"noise": "laplace"}, "std-sample": {"std_over": "sample"}}
    variants |= {f"coef{coef:g}": {"coef": coef} for coef in (0.05, 0.2)}
    recipes |= {
        f"cpu/en1_resnet20-{name}": Recipe("en1_resnet20", **fast, **options) for name, options in variants.items()
    }
    digits = {"data": "digits", "epochs": 10, "batch_size": 64, "eps": 0.15, "step_size": 0.05, "validation_n_iter": 5}
    # Digits are not symmetric, and so small that a second thread costs more time than it saves.
    digits |= {"n_train": None, "n_validation": None, "padding": 1, "flip": False, "n_threads": 1}
    # One step, which takes seconds; a collapse would be detected, as in all adversarial recipes.
    digits |= {"keep": "best", "average": 0.0, "fast_n_iter": 1, "fast_step": 1.25}
    recipes["cpu/digits"] = Recipe("en1_resnet20", **(fast | digits))
    return recipes


RECIPES = _from_tables() | _for_two_cores()


def published(name):
    """Return the paper's row of a recipe.

    Parameters
    ----------
    name : str
        Name of a recipe.

    Returns
    -------
    Row or None
        None for recipes that are not in the paper.
    """
    table, _, model = name.partition("/")
    rows: list[Row] = ROWS.get(table, [])
    return next((row for row in rows if row.model == model), None)
