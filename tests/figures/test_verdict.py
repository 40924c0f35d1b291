"""The verdict: the rule at its edges, and rows from made-up comparisons and evaluations, whichever there are."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from figures import _results, verdict
from figures._claims import CLAIMS, WORDS, Gain, decide, decide_at_most

HOLDS, IN_PART, FAILS, NOT_REACHED = WORDS
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "verdict.md"


@pytest.mark.parametrize(
    ("gain", "stderr", "published", "word"),
    [
        # Two standard errors on either side, of zero and of the paper's gain.
        (0.021, 0.01, 0.04, HOLDS), (0.019, 0.01, 0.035, NOT_REACHED), (0.019, 0.01, 0.04, FAILS),
        (0.05, 0.01, 0.0299, IN_PART), (0.05, 0.01, 0.0301, HOLDS), (0.05, 0.01, 0.08, IN_PART),
        (-0.05, 0.01, 0.03, FAILS), (0.0, 0.05, 0.03, NOT_REACHED),
        # A loss: the signs are turned.
        (-0.02, 0.005, -0.016, HOLDS), (0.02, 0.005, -0.016, FAILS),
        # Without a number, the direction alone.
        (0.021, 0.01, None, HOLDS), (-0.021, 0.01, None, FAILS), (0.01, 0.01, None, NOT_REACHED),
    ],
)  # fmt: skip
def test_the_rule_at_its_edges(gain, stderr, published, word):
    assert decide(gain, stderr, published) == word


def test_a_limit_at_its_edges():
    assert decide_at_most(0.0079, 0.001, 0.01) == HOLDS
    assert decide_at_most(0.0081, 0.001, 0.01) == NOT_REACHED
    assert decide_at_most(0.0121, 0.001, 0.01) == FAILS


def recipe(model, **changed):
    return {
        "model": model,
        "method": "fast",
        "noise": "gaussian",
        "coef": 0.1,
        "std_over": "batch",
        "epochs": 30,
    } | changed


def evaluation(path, plan, rows, *, oracle=None):
    return {
        "run": {"path": path, "recipe": plan}, "oracle": oracle, "data": {"n_train": 100},
        "rows": [{"name": name, "accuracy": p, "stderr": math.sqrt(p * (1 - p) / n), "n": n} for name, p, n in rows],
    }  # fmt: skip


def compared(first, second, rows):
    return {
        "runs": {"first": first, "second": second},
        "rows": [
            {
                "attack": name, "attack_on_first": on_first, "difference": gain, "stderr": s, "n": 1000,
                "n_first": len(first), "n_second": len(second),
            }
            for name, on_first, gain, s in rows
        ],
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    reports = {
        "a": evaluation("runs/p0", recipe("resnet20"), [("natural", 0.70, 1000), ("ifgsm20", 0.4, 1000)]),
        # Sorts before the run's own evaluation, and is another kind.
        "a-blind": evaluation("runs/p0", recipe("resnet20"), [("blind-ifgsm20", 0.5, 1000)], oracle={}),
        "b": evaluation("runs/e0", recipe("en1_resnet20"), [("natural", 0.72, 1000)]),
        "c": evaluation("runs/n0", recipe("en2_resnet20", noise="none"), [("natural", 0.7, 1000)]),
        "d": evaluation("runs/m0", recipe("en1_resnet20", method="natural"), [("ifgsm20-eot20", 0.0, 1000)]),
        "e": evaluation("runs/q0", recipe("en2_resnet20"), [("natural", 0.75, 1000)]),
        # Fewer epochs: not pooled with the others of its kind.
        "f": evaluation("runs/old", recipe("resnet20", epochs=4), [("natural", 0.1, 1000)]),
        "z": compared(["runs/p0", "runs/p1"], ["runs/e0", "runs/e1"], [("natural", "natural", 0.021, 0.005),
                                                                       ("ifgsm20-eot20", "ifgsm20", -0.01, 0.004)]),
        "other": [1],
    }  # fmt: skip
    # A second network of each training, with the same numbers.
    for name in "abce":
        report = reports[name]
        run = report["run"] | {"path": report["run"]["path"].replace("0", "1")}
        reports[f"{name}1"] = report | {"run": run}
    for name, report in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    return tmp_path


def put(results, name, report):
    (results / f"{name}.json").write_text(json.dumps(report))


def rows_of(results):
    found = verdict.findings(verdict.compute(results=results))
    return {(row["claim"], row["what"]): row for row in found["rows"]}


def test_rows_are_the_paired_differences_where_there_are_some(results):
    rows = rows_of(results)
    natural = rows["Noise raises natural accuracy", "En1ResNet-20 − ResNet-20, natural images"]
    assert (natural["measured"], natural["paper"], natural["n"]) == ("+2.10 ± 0.50", "+2.10", "1000 × 2 and 2")
    assert natural["verdict"] == HOLDS
    # The attack that averages goes before the plain one.
    robust = rows["Noise raises robust accuracy", "En1ResNet-20 − ResNet-20, IFGSM²⁰"]
    assert (robust["measured"], robust["verdict"]) == ("-1.00 ± 0.40", FAILS)


def test_rows_without_a_comparison_are_differences_of_evaluations(results):
    row = rows_of(results)[
        "It is the noise, not the ensemble", "En2ResNet-20 − En2ResNet-20 without noise, natural images"
    ]
    stderr = 100 * math.sqrt(0.75 * 0.25 / 1000 + 0.7 * 0.3 / 1000)
    assert row["measured"] == f"+5.00 ± {stderr:.2f}"
    assert row["n"].endswith("unpaired")
    assert row["verdict"] == HOLDS


def test_one_network_decides_nothing(results):
    put(results, "z", compared(["runs/p0"], ["runs/e0", "runs/e1"], [("natural", "natural", 0.3, 0.001)]))
    row = rows_of(results)["Noise raises natural accuracy", "En1ResNet-20 − ResNet-20, natural images"]
    assert (row["n"], row["verdict"]) == ("1000 × 1 and 2", NOT_REACHED)


def test_the_attack_on_the_most_images_counts_then_the_first(results):
    sides = ["runs/p0", "runs/p1"], ["runs/e0", "runs/e1"]
    rows = [("ifgsm20", "ifgsm20", 0.02, 0.004), ("ifgsm20-eot20", "ifgsm20", -0.01, 0.004)]
    for n, measured in ((1000, "-1.00 ± 0.40"), (300, "+2.00 ± 0.40")):
        report = compared(*sides, rows)
        report["rows"][1]["n"] = n
        put(results, "z", report)
        row = rows_of(results)["Noise raises robust accuracy", "En1ResNet-20 − ResNet-20, IFGSM²⁰"]
        assert row["measured"] == measured


def test_the_worst_case_of_all_attacks_is_the_one_of_the_most_attacks():
    rows = [{"name": f"worst case of {k}", "n": n} for k, n in ((2, 1000), (4, 200), (3, 300), (4, 100))]
    assert verdict._row([{"name": "fgsm", "n": 2000}, *rows], ("worst case",)) == rows[1]


def test_of_several_comparisons_the_one_of_most_networks_counts_then_the_one_on_most_images(results):
    put(results, "f1", evaluation("runs/p2", recipe("resnet20"), [("natural", 0.7, 1000)]))
    first, second = ["runs/p0", "runs/p1", "runs/p2"], ["runs/e0", "runs/e1"]
    fewer = compared(first, second, [("natural", "natural", 0.5, 0.02)])
    fewer["rows"][0]["n"] = 10
    put(results, "a0", fewer)
    # As many networks and images, but fewer attacks, and first by its name.
    more = compared(first, second, [("natural", "natural", 0.01, 0.02), ("fgsm", "fgsm", 0, 0.02)])
    put(results, "y", more)
    put(results, "a2", compared(first, second, [("natural", "natural", 0.4, 0.02)]))
    row = rows_of(results)["Noise raises natural accuracy", "En1ResNet-20 − ResNet-20, natural images"]
    assert (row["measured"], row["n"]) == ("+1.00 ± 2.00", "1000 × 3 and 2")


def test_a_network_of_the_zoo_is_known_by_its_report(results):
    for name, model in (("p-seed0", "resnet20"), ("e-seed0", "en1_resnet20")):
        put(results, f"cifar10-{name}", evaluation(f"runs/{name}", recipe(model), [("natural", 0.7, 1000)]))
    sides = ["zoo:cifar10/p-seed0"] * 2, ["zoo:cifar10/e-seed0"] * 2
    report = compared(*sides, [("natural", "natural", 0.03, 0.02)])
    report["rows"][0]["n"] = 2000
    put(results, "y", report)
    row = rows_of(results)["Noise raises natural accuracy", "En1ResNet-20 − ResNet-20, natural images"]
    assert (row["measured"], row["n"]) == ("+3.00 ± 2.00", "2000 × 2 and 2")


def test_a_control_is_a_kind_of_its_own(results):
    before = rows_of(results)
    control = evaluation("runs/p0", recipe("resnet20"), [("natural", 0.1, 2000), ("ifgsm20", 0.1, 2000)])
    put(results, "p0-blocks-noise", control | {"control": {"inject": "blocks", "coef": 0.1}})
    rows = [("natural", "natural", -0.03, 0.01), ("ifgsm20", "ifgsm20", 0.0, 0.02)]
    put(results, "w", compared(["runs/p0", "runs/p1"], ["runs/p0", "runs/p1"], rows) | {"inject": "blocks"})
    after = rows_of(results)
    claim = "Noise at evaluation alone is enough"
    natural = after.pop((claim, "ResNet-20 with En1's noise − ResNet-20, natural images"))
    robust = after.pop((claim, "ResNet-20 with En1's noise − ResNet-20, IFGSM²⁰"))
    assert (natural["measured"], natural["verdict"]) == ("-3.00 ± 1.00", FAILS)
    assert (robust["measured"], robust["verdict"]) == ("+0.00 ± 2.00", NOT_REACHED)
    # The network without noise keeps its own numbers.
    assert after.items() <= before.items()


def test_none_of_n_images_is_not_taken_for_none_at_all(results):
    row = rows_of(results)["Noise masks no gradients", "En1ResNet-20 trained naturally, IFGSM²⁰"]
    # 1.5 / 1000: two of these are the 95 % limit of 3 / n.
    assert (row["measured"], row["verdict"]) == ("0.00 ± 0.15", HOLDS)


def test_what_was_not_measured_is_not_reached_and_nothing_is_left_out(results):
    rows = rows_of(results)
    assert len(rows) == len(CLAIMS)
    assert rows["Ensembling adds", "En2ResNet-20 − En1ResNet-20, IFGSM²⁰"]["verdict"] == NOT_REACHED
    text = verdict.table(verdict.findings(verdict.compute(results=results)))
    assert all(claim.what.replace("|", "\\|") in text for claim in CLAIMS)


def test_kinds_of_networks_are_told_apart_by_their_recipes():
    kinds = [
        recipe("en1_resnet20"), recipe("en1_resnet20", noise="laplace"), recipe("en1_resnet20", coef=0.2),
        recipe("en1_resnet20", std_over="sample"), recipe("en1_resnet20", method="natural"),
        recipe("en2_resnet20", noise="none"), recipe("resnet20"), recipe("resnet20", noise="none"),
    ]  # fmt: skip
    assert [verdict.kind_of(plan) for plan in kinds] == [
        "en1_resnet20", "en1_resnet20, laplace", "en1_resnet20, coef 0.2", "en1_resnet20, std over sample",
        "en1_resnet20, natural", "en2_resnet20, no noise", "resnet20", "resnet20",
    ]  # fmt: skip


def test_the_papers_gains_are_those_of_its_tables():
    gains = {(claim.what, claim.section): claim.published for claim in CLAIMS if isinstance(claim, Gain)}
    assert gains["En1ResNet-20 − ResNet-20, IFGSM²⁰", "Table 2"] == pytest.approx(0.4906 - 0.4603)
    assert gains["En2ResNet-20 − En2ResNet-20 without noise, IFGSM²⁰", "section 4.4"] == pytest.approx(0.5006 - 0.4728)
    assert gains["En1ResNet-20, Laplace − Gaussian, IFGSM²⁰", "Table 11"] == pytest.approx(0.4744 - 0.4906)


def test_command_writes_the_table_and_a_damaged_file_is_one_line(results, tmp_path, capsys):
    out = tmp_path / "out"
    verdict.main(["--results", str(results), "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["verdict.json", "verdict.npz", "verdict.png"]
    assert "| claim | test | paper |" in capsys.readouterr().out
    (results / "g.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        verdict.main(["--results", str(results), "--out", str(out)])
    assert stop.value.code == 2
    assert "g.json is damaged" in capsys.readouterr().err


def put_at(record, place, value):
    """Change the value at a place such as ("rows", 0, "n"), or remove it if the value is ..."""
    *way, last = place
    for step in way:
        record = record[step]
    if value is ...:
        del record[last]
    else:
        record[last] = value


EN2 = {
    "difference": {key: {"mean": 0.01, "stderr": 0.001, "reach": 0.002} for key in ("below", "relative", "smoothness")},
    "below": {"n": 2}, "relative": {"n": 2}, "smoothness": {"n": 2},
}  # fmt: skip
PRINTED = dict(zip(("group", "name"), verdict.AS_PRINTED, strict=True)) | {"panels": [{"compatible": True}]}
HOELDER = {"sigma": [0.1], "bound": [2.0, 2.0], "constant": [[1.0, 1.0]]}
FIGURES = {
    "sparsity": {"networks": {"adversarial": EN2, "en2": EN2}},
    "fig4": {"solutions": [{"literal_recipe_sup_norm": 1e9}]},
    "theorems": {"hoelder": HOELDER, "counterexample": {"measured": 0.1, "published": 0.02}},
    "fig4_forensics": {"n_seeds": 2, "compatible": [], "readings": [PRINTED]},
}  # fmt: skip
A_ROW = ("rows", 0)


@pytest.mark.parametrize(
    ("name", "place", "value", "key"),
    [
        *(("b", (*A_ROW, key), ..., f"rows[0].{key}") for key in ("name", "accuracy", "stderr", "n")),
        *(("b", (*A_ROW, "accuracy"), value, "rows[0].accuracy") for value in (math.nan, 1.2, -0.1, "0.7", None, True)),
        *(("b", (*A_ROW, "stderr"), value, "rows[0].stderr") for value in (math.nan, -0.1, math.inf, "x")),
        *(("b", (*A_ROW, "n"), value, "rows[0].n") for value in (0, 1.5, "1000", True)),
        ("b", (*A_ROW, "name"), "worst case of many", "rows[0].name"), ("b", (*A_ROW, "name"), 3, "rows[0].name"),
        ("b", ("rows",), ..., "rows is missing"), ("b", ("rows",), {}, "rows"), ("b", ("rows", 0), 1, "rows[0]"),
        ("b", ("run",), [], "run"), ("b", ("run", "path"), ..., "run.path"), ("b", ("run", "recipe"), 1, "run.recipe"),
        ("b", ("run", "recipe", "model"), 20, "run.recipe.model"),
        ("b", ("run", "recipe", "coef"), "0.1", "run.recipe.coef"),
        ("b", ("run", "recipe", "epochs"), "30", "run.recipe.epochs"), ("b", ("data",), ..., "data"),
        ("b", ("data", "n_train"), math.nan, "data.n_train"), ("b", ("control",), [], "control"),
        *(
            ("z", (*A_ROW, key), ..., f"rows[0].{key}")
            for key in ("attack", "attack_on_first", "difference", "stderr", "n", "n_first", "n_second")
        ),
        *(("z", (*A_ROW, "difference"), value, "rows[0].difference") for value in (math.nan, 1.2, "x", None)),
        ("z", (*A_ROW, "stderr"), math.nan, "rows[0].stderr"), ("z", (*A_ROW, "n_first"), 0, "rows[0].n_first"),
        ("z", ("rows",), ..., "rows is missing"), ("z", ("runs", "first"), "runs/p0", "runs.first"),
        ("sparsity", ("networks",), ..., "networks"),
        ("sparsity", ("networks", "en2", "difference", "relative", "mean"), math.nan, "difference.relative.mean"),
        ("sparsity", ("networks", "en2", "below", "n"), ..., "networks.en2.below.n"),
        ("fig4", ("solutions",), [], "solutions"),
        ("fig4", ("solutions", 0, "literal_recipe_sup_norm"), "x", "literal_recipe_sup_norm"),
        ("theorems", ("hoelder", "bound"), [2.0], "hoelder.constant[0]"),
        ("theorems", ("hoelder", "bound", 0), 0.0, "hoelder.bound[0]"),
        ("theorems", ("hoelder", "constant", 0, 0), math.nan, "hoelder.constant[0][0]"),
        ("theorems", ("counterexample", "published"), ..., "counterexample.published"),
        ("fig4_forensics", ("readings",), [], "readings"),
        ("fig4_forensics", ("readings", 0, "panels", 0, "compatible"), "yes", "compatible"),
    ],
)  # fmt: skip
def test_a_file_that_is_readable_but_wrong_is_one_line_with_file_and_key(results, capsys, name, place, value, key):
    for figure, record in FIGURES.items():
        put(results, figure, record)
    assert rows_of(results)
    report = json.loads((results / f"{name}.json").read_text())
    put_at(report, place, value)
    put(results, name, report)
    with pytest.raises(SystemExit) as stop:
        verdict.main(["--results", str(results), "--out", str(results / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert f"{name}.json is damaged (" in error
    assert key in error


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_result_is_known_by_its_command_where_its_first_key_is_missing(results, command):
    put(results, "x", {"command": f"python -m nets.{command} runs/p0", "rows": []})
    with pytest.raises(ValueError, match=r"x\.json is damaged \(runs? is missing\)"):
        rows_of(results)


# As the page names the sides of a comparison.
PAGE_NAMES = {
    "resnet20": "ResNet-20", "en1_resnet20": "En1ResNet-20", "en2_resnet20": "En2ResNet-20",
    "en2_resnet20, no noise": "En2ResNet-20 without noise",
    "resnet20, noise in blocks": "the same with En1's noise at evaluation",
    "resnet20, noise in input": "the same with noise on its input",
}  # fmt: skip


def test_the_page_has_the_table_that_the_committed_numbers_give():
    found = verdict.findings(verdict.compute(results=ROOT / "results"))
    assert verdict.table(found) in PAGE.read_text(encoding="utf-8")


def test_the_comparisons_on_the_page_are_the_committed_ones():
    library = _results.read(ROOT / "results")
    committed = {}
    for sides, reports in library.comparisons.items():
        for report in reports:
            for row in report["rows"]:
                numbers = [f"{100 * row[key]:.1f}" for key in ("first", "second")]
                change = f"{100 * row['difference']:+.1f} ± {100 * row['stderr']:.1f}"
                n = f"{row['n']} × {row['n_first']} and {row['n_second']}"
                names = [PAGE_NAMES.get(side, side) for side in sides]
                committed[(*names, row["attack"], *numbers, change, n)] = abs(row["difference"]) > 2 * row["stderr"]
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    start = lines.index(["comparison", "attack", "first", "second", "difference ± s.e.", "images × networks"])
    rows = list(itertools.takewhile(lambda cells: len(cells) == 6, lines[start + 2 :]))
    assert len(rows) > 20
    pair, large = None, []
    for name, *cells in rows:
        # "the same" repeats the pair above, with other seeds.
        pair = pair if name.startswith("the same, ") else name.removesuffix(", three each").split(", ", 1)
        assert (*pair, *cells) in committed, (name, cells)
        if committed[(*pair, *cells)]:
            large.append((name, cells[0], cells[3]))
    n_others = sum(cells[0] != "square" for _, *cells in rows)
    words = f"Of the {n_others} differences other than Square's, three exceed two standard errors"
    assert words in PAGE.read_text(encoding="utf-8")
    assert [cells for cells in large if cells[1] != "square"] == [
        ("the same, two each", "cw", "+1.6 ± 0.6"),
        ("ResNet-20, En2ResNet-20 without noise", "fgsm", "+1.7 ± 0.7"),
        ("En1ResNet-20, En2ResNet-20", "cw", "-2.0 ± 0.7"),
    ]


def test_the_readme_has_the_numbers_of_the_comparisons():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"<!-- verdict.*?-->(.*?)<!-- end of verdict -->", text, re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    gains = re.findall(r"[+−-]\d+\.\d ± \d\.\d", part)
    assert len(gains) >= 5
    assert not [gain for gain in gains if gain not in page]
