"""Recipes: one for each row of the paper, its text in every field, and fields that are refused."""

import re
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from bridge import noisy_blocks
from nets import published
from nets.training import NOT_IN_THE_PAPER, RECIPES, Recipe, as_released, recipe
from nets.training import published as published_row
from nets.training._schedule import learning_rate

PAPER = [(table, row) for table, rows in published.ROWS.items() for row in rows]


def test_every_row_of_every_table_has_a_recipe():
    assert [f"table{k}" for k in range(1, 12)] == [table for table in published.ROWS if table.startswith("table")]
    assert {f"{table}/{row.model}" for table, row in PAPER} == {name for name in RECIPES if not name.startswith("cpu/")}
    for table, row in PAPER:
        assert published_row(f"{table}/{row.model}") == row
    assert published_row("cpu/digits") is None


def test_recipes_build_the_models_of_their_rows_on_the_data_and_with_the_noise_of_their_tables():
    # By the captions of the tables: what they train on, how, and with which noise.
    on_cifar100, natural = {"table4", "table5", "table6", "table10"}, {"table1", "table4"}
    for table, row in PAPER:
        made = recipe(f"{table}/{row.model}")
        assert made.model == row.model
        assert made.data == ("cifar100" if table in on_cifar100 else "cifar10")
        assert made.method == ("natural" if table in natural else "pgd")
        assert made.noise == {"table11": "laplace", "section4.4": "none"}.get(table, "gaussian")
        assert bool(made.oracle) == bool(row.oracle) == (table in {"table3", "table6"})
        assert bool(made.members) == (table == "table7" or (table == "section4.4" and "+" in row.model))
        assert (made.weights == "learned") == (table in {"table9", "table10"} and "+" in row.model)
        for other in (*made.members, *filter(None, [made.oracle])):
            assert (recipe(other).data, recipe(other).method) == (made.data, "pgd")
        assert "+".join(recipe(other).model for other in made.members) in ("", made.model)


@pytest.mark.parametrize(
    "name", ["table9/en1_resnet20+en1_resnet32", "table11/en2_resnet20", "section4.4/en2_resnet20"]
)
def test_model_is_what_the_recipe_says(name):
    made = recipe(name)
    model = made.build(10, (0.5,) * 3, (0.2,) * 3, seed=0)
    law = {"gaussian": "gaussian", "laplace": "laplace", "none": None}[made.noise]
    assert {(block.noise, block.coef, block.std_over) for block in noisy_blocks(model)} == {(law, 0.1, "batch")}
    assert model.net.learned == (made.weights == "learned")


def test_defaults_are_the_papers_text():
    # Section 4.1 and Algorithm 3.1. Batch, weight decay and momentum: the released code, the paper is silent.
    ours = recipe("table2/en5_resnet20")
    assert (ours.eps, ours.step_size, ours.n_iter, ours.random_start) == (8 / 255, 2 / 255, 10, True)
    assert (ours.epochs, ours.lr, ours.batch_size, ours.weight_decay) == (200, 0.1, 128, 5e-4)
    assert (ours.momentum, ours.nesterov, ours.validation, ours.select_on) == (0.9, True, 0.1, "validation")
    rates = [learning_rate(ours, epoch * 351 + step, 200 * 351) for epoch in range(200) for step in (0, 350)]
    wanted = [0.1 * 0.1 ** ((epoch >= 80) + (epoch >= 120) + (epoch >= 160)) for epoch in range(200) for _ in range(2)]
    assert rates == pytest.approx(wanted, rel=1e-15)


def test_cyclic_rate_rises_to_its_peak_and_falls_to_zero_linearly():
    ours = replace(recipe("cpu/resnet20"), lr=0.2, peak=0.4)
    rates = [learning_rate(ours, step, 1000) for step in range(1000)]
    assert rates == pytest.approx([0.2 * min((s + 0.5) / 400, (999.5 - s) / 600) for s in range(1000)], rel=1e-12)
    assert max(rates) <= 0.2
    # The mean of a triangle is half its height; the midpoint rule is exact but at the peak.
    assert sum(rates) / 1000 == pytest.approx(0.1, rel=1e-5)


def test_released_deviations_are_those_of_the_released_code():
    text, code = recipe("table2/en5_resnet20"), as_released(recipe("table2/en5_resnet20"))
    differing = {name for name, value in asdict(code).items() if value != asdict(text)[name]}
    assert differing == {"eps", "step_size", "crafting_batch_norm", "reset_momentum", "select_on"}
    assert (code.eps, code.step_size) == (0.031, 0.007)


def test_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"no recipe 'table2/en5_resnet2'; similar names: table2/en5_resnet20"):
        recipe("table2/en5_resnet2")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("method", "pdg", "method must be one of 'natural', 'pgd', 'fast', 'trades', got method='pdg'"),
        ("noise", None, "noise must be one of"),
        ("eps", -1, "eps must be finite and >= 0, got eps=-1"),
        ("lr", 0, "lr must be finite and > 0, got lr=0"),
        ("n_iter", 0, "n_iter must be an integer >= 1"),
        ("epochs", 0, "epochs must be an integer >= 1"),
        ("n_train", 0, "n_train must be an integer >= 1"),
        ("milestones", (0.6, 0.4), "milestones must increase within"),
        ("milestones", (80, 120), "milestones must increase within"),
        ("validation", 1.0, r"validation must be in \(0, 1\)"),
        ("momentum", 1.0, r"momentum must be in \[0, 1\)"),
        ("momentum", 0.0, "momentum must be > 0 for nesterov"),
    ],
)
def test_field_out_of_range_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe("resnet20", **{field: value})


def test_recipes_are_frozen_and_their_differences_named():
    ours = recipe("cpu/digits")
    with pytest.raises(FrozenInstanceError):
        ours.lr = 1.0
    other = replace(ours, lr=0.3, compile="default", milestones=(0.5,))
    assert ours.differences(other, execution=False) == ["lr=0.3 (here 0.2)", "milestones=[0.5] (here [0.4, 0.6, 0.8])"]
    assert "compile=default (here off)" in ours.differences(other)
    # As it comes back from JSON.
    assert ours.differences(asdict(ours) | {"milestones": [0.4, 0.6, 0.8]}) == []


def test_no_recipe_names_a_path_of_this_machine():
    assert {made.data for made in RECIPES.values()} == {"cifar10", "cifar100", "digits"}


def test_recipes_of_ours_take_two_steps_and_keep_the_average():
    ours = {name: made for name, made in RECIPES.items() if name.startswith("cpu/") and name != "cpu/digits"}
    for name, made in ours.items():
        assert (made.epochs, made.keep, made.validation_n_iter, made.step_size) == (30, "average", 10, 2 / 255)
        if "natural" not in name:
            assert (made.method, made.fast_n_iter, made.fast_step * made.eps) == ("fast", 2, pytest.approx(5 / 255))


def test_fields_without_a_text_in_the_paper_are_marked_where_they_are_described():
    assert {"batch_size", "momentum", "weight_decay"} <= set(NOT_IN_THE_PAPER) <= set(asdict(recipe("cpu/digits")))
    # Of the help's lines, too: the docstring is what `nets.train --help` shows.
    described = re.split(r"\n    (\w+(?:, \w+)*) : .*\n", Recipe.__doc__)
    texts = dict(zip(described[1::2], (" ".join(text.split()) for text in described[2::2]), strict=True))
    assert {name for name, text in texts.items() if "Not in the paper" in text} == set(NOT_IN_THE_PAPER)


def test_record_without_a_field_that_came_later_has_its_default():
    made = recipe("table2/resnet20")
    older = {key: value for key, value in asdict(made).items() if key != "fast_n_iter"}
    assert made.differences(older) == []
    assert replace(made, fast_n_iter=2).differences(older) == ["fast_n_iter=1 (here 2)"]
