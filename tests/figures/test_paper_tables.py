"""The paper's tables with ours beside them: cells of made-up evaluations, what may stand in a row, commands, texts."""

import csv
import json
import math
import re
import shlex
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

import nets
import nets.train
from figures import tables
from figures.tables import _text as _tables_text
from figures.tables._commands import Places, commands
from figures.tables._library import Score, read
from figures.tables._matching import trained_by
from figures.tables._numbers import make_lines, pooled, targets
from nets.evaluation import _assessment as assessment
from nets.evaluation import _report as reports
from nets.published import MASK, NOTES, PARAMETERS, ROWS
from nets.training import RECIPES

RESULTS = Path(__file__).resolve().parents[2] / "results"
EPS, STEP = 8 / 255, 2 / 255
N_CPU_EPOCHS = RECIPES["cpu/resnet20"].epochs


def row_of(table, model):
    return next(row for row in ROWS[table] if row.model == model)


# ---- The paper's numbers


def test_rows_that_the_paper_prints_twice_are_the_same():
    assert row_of("table8", "en2_resnet20") == row_of("table2", "en2_resnet20")
    assert row_of("table11", "resnet20") == row_of("table2", "resnet20")


def test_every_row_orders_its_attacks_alike():
    # A transposed digit or exchanged columns would break it.
    for table, rows in ROWS.items():
        for row in rows:
            printed = [x for x in (row.natural, row.cw, row.fgsm, row.ifgsm20) if x is not None]
            assert printed == sorted(printed, reverse=True), (table, row)
            assert all(0 < x < 100 and round(x, 2) == x for x in printed)


def test_blind_attacks_come_in_pairs():
    for table in ("table3", "table6"):
        pairs = {(row.model, row.oracle) for row in ROWS[table]}
        assert pairs == {(oracle, model) for model, oracle in pairs}


def test_networks_put_together_are_more_robust_than_each_as_section_4_2_says():
    for row in ROWS["table7"]:
        for name in row.model.split("+"):
            term = row_of("table2", name)
            assert row.fgsm > term.fgsm and row.ifgsm20 > term.ifgsm20 and row.cw > term.cw


def test_the_check_for_masked_gradients_is_quoted_by_evaluations_of_natural_training():
    for method, printed in (("natural", 0.0002), ("pgd", None)):
        mask = reports.gradient_mask([], {"recipe": {"model": "en2_resnet20", "method": method}})
        assert mask["paper"] == pytest.approx(printed)


def numbers(text):
    return [float(x) for x in re.findall(r"\b\d\d\.\d\d\b", text)]


def test_what_a_note_says_of_a_table_stands_there():
    printed = {
        key: {x for row in rows for x in (row.natural, row.fgsm, row.ifgsm20, row.cw)} for key, rows in ROWS.items()
    }
    n_checked = 0
    for note in NOTES:
        assert note.tables and set(note.tables) <= set(ROWS)
        named = [f"table{k}" for k in re.findall(r"Table (\d+)", note.other)]
        here = set().union(*(printed[table] for table in {*named, *note.tables}))
        assert set(numbers(note.other)) <= here, note
        n_checked += len(numbers(note.other))
    assert n_checked > 15


def test_the_disagreements_are_there():
    two, natural = (lambda name: row_of("table2", name)), (lambda name: row_of("table1", name).natural)
    assert natural("en2_resnet110") < natural("resnet110")
    assert two("en2_resnet110").natural < two("en2_resnet44").natural
    assert two("en2_resnet110").ifgsm20 != 53.05
    assert row_of("table4", "en5_resnet20").natural < row_of("table4", "resnet44").natural
    assert row_of("section4.4", "resnet20+resnet44").ifgsm20 > two("en2_resnet20").ifgsm20
    pair, same = row_of("table9", "en1_resnet20+en1_resnet32"), row_of("table9", "en2_resnet32")
    assert pair.natural > same.natural and pair.cw > same.cw
    for row in ROWS["table11"][1:]:
        gaussian = two(row.model)
        assert row.natural > gaussian.natural
        assert row.fgsm < gaussian.fgsm and row.ifgsm20 < gaussian.ifgsm20 and row.cw < gaussian.cw


@pytest.mark.parametrize("model", PARAMETERS)
def test_table_4_counts_parameters_of_networks_with_ten_outputs(model):
    count = {k: sum(p.numel() for p in nets.build(model, n_classes=k, seed=0).parameters()) / 1e6 for k in (10, 100)}
    # Of the ensembles the paper prints the number of members times that of one, rounded.
    n_members = int(re.match(r"(?:en(\d))?", model)[1] or 1)
    assert PARAMETERS[model] == pytest.approx(n_members * round(count[10] / n_members, 2))
    assert f"{count[100]:.2f}M" in next(note.other for note in NOTES if note.one.startswith("Table 4: 0.27M"))
    (line,) = (x for x in made("table4")[0] if x.attack.startswith("par") and x.target.row.model == model)
    assert (line.paper, line.ours) == (PARAMETERS[model], pytest.approx(count[100]))


# ---- Made-up evaluations


def attacked(name, accuracy, n, *, stderr=None, robust=None, eps=EPS, step_size=STEP, everywhere=True):
    """A row as `nets.evaluation._report.make_row` gives it."""
    base = re.sub(r"^blind-|-eot\d+$", "", name)
    base = "ifgsm" if base.startswith("ifgsm") else base
    settings = {"base": base, "n_images": n, "eps": eps, "step_size": step_size}
    if name == "natural":
        settings |= {"eps": 0.0, "step_size": 0.0}
    robust = accuracy if robust is None else robust
    error = {p: math.sqrt(p * (1 - p) / n) for p in (accuracy, robust)}
    single = {"accuracy": accuracy, "stderr": error[accuracy] if stderr is None else stderr}
    return {
        "name": name, "accuracy": robust, "stderr": error[robust], "n": n, "one_draw": single,
        "n_attacked": n if everywhere else n - 1, "settings": settings,
    }  # fmt: skip


def report(
    name="table2/en1_resnet20", *, accuracies=None, n=1000, weights="w", data=None, trained_on=None, done=None,
    oracle=None, path="nowhere", date="2026-01-01T00:00:00+00:00", encoding="raw", rows=None, **changes,
):  # fmt: skip
    """What `nets.evaluate` would write of a run; `changes` are to its recipe."""
    recipe = replace(RECIPES[name], **changes)
    accuracies = {"natural": 0.8, "fgsm": 0.5, "ifgsm20": 0.4, "cw": 0.6} if accuracies is None else accuracies
    n_classes = 100 if "cifar100" in (data, recipe.data) else 10
    return {
        "run": {
            "path": path, "name": name, "recipe": json.loads(json.dumps(asdict(recipe))), "seed": 0,
            "epochs_done": None if recipe.members else recipe.epochs if done is None else done,
            "weights": {"digest": weights, "sha256": sha256(weights.encode()).hexdigest()},
        },
        "oracle": oracle and {"path": "", "name": "", "seed": 0, "weights": {"digest": oracle}},
        "data": {
            "name": data or recipe.data, "encoding": encoding, "n_train": 50000, "n_test": 10000,
            "shape": [3, 32, 32], "n_classes": n_classes, "digest": "d", "trained_on": trained_on or "d",
        },
        "protocol": {"is_noisy": True, "n_draws": 10, "subset_seed": 0},
        "rows": rows or [attacked(name, accuracy, n) for name, accuracy in accuracies.items()],
        "date": date,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place of its own; `folder(report, ...)` puts reports into results/."""
    monkeypatch.chdir(tmp_path)
    for name in ("results", "runs"):
        (tmp_path / name).mkdir()

    def put(*reports, where="results"):
        for made_up in reports:
            number = len(list((tmp_path / "results").iterdir()))
            (tmp_path / where / f"{number}.json").write_text(json.dumps(made_up), encoding="utf-8")

    return put


def made(table, root=Path("nowhere")):
    return make_lines(table, read(root / "results", root / "runs"), Places())


def cell(table, model, attack, lines=None):
    lines = made(table, Path())[0] if lines is None else lines
    (line,) = (x for x in lines if x.target.row.model == model and x.attack == attack)
    return line


def test_made_up_reports_look_like_real_ones(folder):
    real = sorted(RESULTS.glob("cifar10-*resnet*-seed[0-9].json"))
    theirs, ours = json.loads(real[0].read_text(encoding="utf-8")), report()
    assert ours.keys() <= theirs.keys()
    for part in ("run", "data", "protocol"):
        assert ours[part].keys() <= theirs[part].keys()
    # The fields of a real recipe are those of today, or some were added since: those of a real row likewise.
    assert theirs["run"]["recipe"].keys() <= ours["run"]["recipe"].keys()
    pairs = [(a, b) for a in ours["rows"] for b in theirs["rows"] if a["name"] == b["name"]]
    assert {"natural", "fgsm", "ifgsm20"} <= {a["name"] for a, _ in pairs}
    for row, their_row in pairs:
        assert row.keys() <= their_row.keys()
        assert row["settings"].keys() <= their_row["settings"].keys()
    assert {e.path for e in read(RESULTS, Path("runs")).evaluations} >= set(real)


# ---- Cells


def test_one_network_of_the_rows_own_recipe(folder):
    folder(report(rows=[attacked("natural", 0.8, 1000), attacked("ifgsm20", 0.4, 1000, stderr=0.02, robust=0.3)]))
    line = cell("table2", "en1_resnet20", "ifgsm20")
    # The paper's measure is the single pass on attacked images.
    assert (line.kind, line.ours, line.stderr, line.n) == ("own", pytest.approx(40), pytest.approx(2), "1000 × 1")
    assert line.difference == pytest.approx(40 - 49.06)
    assert (line.command, line.remarks) == ((), ())
    assert (line.recipe, line.data) == ("table2/en1_resnet20: pgd, 200 epochs", "cifar10 (raw)")
    assert cell("table2", "en1_resnet20", "cw").kind == "missing"


def test_several_networks_are_averaged_with_an_error_for_images_and_seeds(folder):
    for seed, accuracy in enumerate((0.4, 0.5, 0.6)):
        folder(report(weights=f"w{seed}", n=500, accuracies={"fgsm": accuracy}))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert (line.n, line.ours) == ("500 × 3", pytest.approx(50))
    # p (1 - p) / n + s**2 / K, the variance of 0.4, 0.5, 0.6 being 0.01.
    assert line.stderr == pytest.approx(100 * math.sqrt(0.25 / 500 + 0.01 / 3))


def test_the_standard_error_is_that_of_repeated_experiments_or_above_by_what_is_derived():
    # Images are easy or hard for all networks; networks are good or bad on all images; answers are 0 or 1.
    n, k, n_trials, rng = 150, 3, 8000, np.random.default_rng(0)
    image, network = np.array([0.25, -0.25]), np.array([0.08, -0.08])
    squares, means = np.empty(n_trials), np.empty(n_trials)
    for trial in range(n_trials):
        right = 0.5 + rng.choice(image, n)[:, None] + rng.choice(network, k) > rng.random((n, k))
        accuracies = right.mean(0)
        scores = [Score(p, math.sqrt(p * (1 - p) / n), n, {}) for p in accuracies]
        means[trial], stderr = pooled(scores)
        squares[trial] = stderr**2
    assert means.mean() == pytest.approx(0.5, abs=5 * means.std() / math.sqrt(n_trials))
    var_a, var_b, total = 0.25**2, 0.08**2, 0.25
    var_e = total - var_a - var_b
    exact = var_a / n + var_b / k + var_e / (n * k)
    # Five standard errors of a variance of Gaussian means, of a mean of squares: false alarms below 1e-6 each.
    assert means.var() == pytest.approx(exact, rel=5 * math.sqrt(2 / n_trials))
    # p (1 - p) is taken at the mean found, whose own variance it lacks.
    wanted = exact + (total - var_a) / n - exact / n
    assert squares.mean() == pytest.approx(wanted, abs=5 * squares.std() / math.sqrt(n_trials))


def test_what_is_found_twice_counts_once(folder):
    # In results/ and in runs/, the name of the file, the date and the directory being others.
    same = {"weights": "w", "accuracies": {"fgsm": 0.5}}
    folder(report(**same), report(**same, date="2026-02-02T00:00:00+00:00", path="elsewhere"))
    Path("runs/copy").mkdir()
    Path("runs/copy/evaluation.json").write_text(json.dumps(report(**same)), encoding="utf-8")
    assert len(read(Path("results"), Path("runs")).evaluations) == 3
    assert cell("table2", "en1_resnet20", "fgsm").n == "1000 × 1"
    # Of one network on few and on many images, it is the many.
    few = report(weights="w", n=20, accuracies={"fgsm": 1.0}, date="2026-03-03T00:00:00+00:00")
    folder(few)
    # Read after all others.
    Path("runs/few").mkdir()
    Path("runs/few/evaluation.json").write_text(json.dumps(few), encoding="utf-8")
    line = cell("table2", "en1_resnet20", "fgsm")
    assert (line.n, line.ours) == ("1000 × 1", pytest.approx(50))
    # Another network is another one.
    folder(report(weights="v", accuracies={"fgsm": 0.6}))
    assert cell("table2", "en1_resnet20", "fgsm").n == "1000 × 2"


def test_networks_are_averaged_on_the_same_images_alone(folder):
    folder(report(weights="v", n=20), report(weights="w", n=1000))
    lines, _, left_out = made("table2", Path())
    assert cell("table2", "en1_resnet20", "cw", lines).n == "1000 × 1"
    assert any("cw on 20 images" in said for said in left_out)


def test_a_stand_in_is_marked_and_only_shown_where_there_is_nothing_better(folder):
    folder(report("cpu/en1_resnet20", weights="s", accuracies={"fgsm": 0.3}, data="images.tar", encoding="JPEG"))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert (line.kind, line.ours) == ("stand-in", pytest.approx(30))
    assert (line.recipe, line.data) == (f"cpu/en1_resnet20: 2 steps, {N_CPU_EPOCHS} epochs", "images.tar (JPEG)")
    assert {f"epochs={N_CPU_EPOCHS} (here 200)", "method=fast (here pgd)", "JPEG images"} <= set(line.remarks)
    assert "python -m nets.train table2/en1_resnet20 --resume" in line.command
    (document,) = tables.documents(["table2"], read(Path("results"), Path("runs")), Places())
    text = _tables_text.markdown(document)
    assert f"stand-in, cpu/en1\\_resnet20: 2 steps, {N_CPU_EPOCHS} epochs; images.tar (JPEG)" in text
    assert "python -m nets.train table2/en1_resnet20 --resume" in text
    # Not even averaged with the row's own.
    folder(report(weights="w", accuracies={"fgsm": 0.5}))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert (line.kind, line.ours, line.n) == ("own", pytest.approx(50), "1000 × 1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 100}, "epochs=100 (here 200)"),
        ({"select_on": "test"}, "select_on=test (here validation)"),
        ({"encoding": "JPEG"}, "JPEG images"),
        ({"eps": 0.031, "step_size": 0.007}, "eps=0.031"),
    ],
)
def test_the_name_of_the_rows_own_recipe_is_no_proof(folder, changes, said):
    folder(report(**changes))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert line.kind == "stand-in"
    assert any(remark.startswith(said) for remark in line.remarks)


def test_what_changes_speed_alone_changes_nothing(folder):
    folder(report(n_threads=1, training_dtype="bfloat16", encoding="PNG", data="cifar10-png"))
    assert cell("table2", "en1_resnet20", "fgsm").kind == "own"


def test_the_released_codes_radius_is_a_stand_in_and_no_other_radius_is_the_papers(folder):
    released, half = {"eps": 0.031, "step_size": 0.007}, {"eps": 4 / 255}
    folder(report(rows=[attacked("fgsm", 0.5, 100, **released), attacked("ifgsm20", 0.4, 100, **half)]))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert line.kind == "stand-in" and "released code" in line.remarks[0]
    assert cell("table2", "en1_resnet20", "ifgsm20").kind == "missing"


def test_of_one_attack_on_few_and_on_many_images_it_is_the_many(folder):
    # As `nets.evaluation._attack_specs` tells them apart.
    rows = [attacked("fgsm", 1.0, 20), attacked("fgsm", 0.5, 1000), attacked("fgsm", 0.9, 100)]
    folder(report(rows=[row | {"name": f"fgsm@{row['n']}"} for row in rows]))
    line = cell("table2", "en1_resnet20", "fgsm")
    assert (line.ours, line.n) == (pytest.approx(50), "1000 × 1")


def test_attacks_on_a_part_of_the_images_are_not_the_papers(folder):
    folder(report(rows=[attacked("fgsm", 0.5, 100, everywhere=False)]))
    assert cell("table2", "en1_resnet20", "fgsm").kind == "missing"


# (row that must stay empty, evaluation that is none of it)
STRANGERS = {
    "adversarial for natural": ("table1", "en1_resnet20", {"name": "table2/en1_resnet20"}),
    "natural for adversarial": ("table2", "en1_resnet20", {"name": "table1/en1_resnet20"}),
    "fast for natural": ("table1", "en1_resnet20", {"name": "cpu/en1_resnet20"}),
    "trades": ("table2", "en1_resnet20", {"name": "table2/en1_resnet20", "method": "trades"}),
    "cifar10 for cifar100": ("table5", "en2_resnet20", {"name": "table2/en2_resnet20"}),
    "cifar100 for cifar10": ("table2", "en2_resnet20", {"name": "table5/en2_resnet20"}),
    "natural on cifar10 for cifar100": ("table4", "resnet20", {"name": "table1/resnet20"}),
    "gaussian for laplace": ("table11", "en1_resnet20", {"name": "table2/en1_resnet20"}),
    "laplace for gaussian": ("table2", "en1_resnet20", {"name": "table11/en1_resnet20"}),
    "noise for none": ("section4.4", "en2_resnet20", {"name": "table2/en2_resnet20"}),
    "none for noise": ("table2", "en2_resnet20", {"name": "section4.4/en2_resnet20"}),
    "other strength of noise": ("table2", "en1_resnet20", {"name": "table2/en1_resnet20", "coef": 0.2}),
    "other radius in training": ("table2", "en1_resnet20", {"name": "table2/en1_resnet20", "eps": 4 / 255}),
    "other model": ("table2", "en2_resnet20", {"name": "table2/en1_resnet20"}),
    "equal weights for learned": (
        "table9", "en1_resnet20+en1_resnet32", {"name": "table9/en1_resnet20+en1_resnet32", "weights_": "equal"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS)
def test_another_experiment_is_never_used(folder, stranger):
    table, model, options = STRANGERS[stranger]
    options = dict(options)
    weights = options.pop("weights_", None)
    made_up = report(**options)
    if weights:
        made_up["run"]["recipe"]["weights"] = weights
    folder(made_up)
    lines, honest, left_out = made(table, Path())
    mine = [x for x in (*lines, *honest) if x.target.row.model == model and not x.attack.startswith("par")]
    if table == "section4.4":
        mine = [x for x in mine if "without noise" in x.target.label]
    assert mine and {x.kind for x in mine} == {"missing"}
    assert not left_out


def test_the_same_training_fills_every_row_that_asks_for_it(folder):
    # Without noise its law says nothing; and Table 8 repeats a row of Table 2.
    folder(report("table2/resnet20", weights="a"), report("table2/en2_resnet20", weights="b"))
    assert cell("table11", "resnet20", "fgsm").kind == "own"
    assert cell("table8", "en2_resnet20", "fgsm").kind == "own"
    assert trained_by("table11/resnet20") == trained_by("table3/resnet20") == "table2/resnet20"
    assert trained_by("table6/resnet20") == "table5/resnet20"
    assert trained_by("table11/en1_resnet20") == "table11/en1_resnet20"


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"done": 149}, "not finished, 149 epochs of 200"), ({"trained_on": "e"}, "trained on other images")],
)
def test_what_is_not_sound_is_left_out_and_said_so(folder, changes, why):
    folder(report(**changes))
    lines, _, left_out = made("table2", Path())
    assert cell("table2", "en1_resnet20", "fgsm", lines).kind == "missing"
    assert len(left_out) == 1 and why in left_out[0] and "results/0.json" in left_out[0]


def test_networks_whose_training_ended_early_stand_in_together_with_their_epochs(folder):
    # Two trainings by N-FGSM, as the records of older runs have them, without the number of steps.
    plan = {"method": "fast", "fast_start": 2.0, "fast_step": 1.0, "fast_projection": False}
    made_up = [report(weights=str(n), done=n, **plan) for n in (150, 199)]
    for each in made_up:
        del each["run"]["recipe"]["fast_n_iter"]
    folder(*made_up)
    line = cell("table2", "en1_resnet20", "ifgsm20")
    assert (line.kind, line.n) == ("stand-in", "1000 × 2")
    assert line.recipe == "table2/en1_resnet20: N-FGSM, 150 and 199 of 200 epochs"
    assert line.remarks[-1] == "its training ended before the last epoch"


def test_naturally_trained_networks_fill_the_check_for_masked_gradients(folder):
    folder(report("table1/en2_resnet20", accuracies={"natural": 0.9, "ifgsm20": 0.001}))
    (line,) = (x for x in made("section4.4", Path())[0] if x.target.label == "en2_resnet20 trained naturally")
    assert (line.kind, line.paper, line.ours) == ("own", 0.02, pytest.approx(0.1))
    assert cell("table1", "en2_resnet20", "natural").kind == "own"


def test_blind_attacks_need_the_oracle_of_the_row(folder):
    blind = {"natural": 0.8, "fgsm": 0.5, "blind-fgsm": 0.6}
    folder(report("table2/en5_resnet20", weights="t", oracle="o", accuracies=blind))
    lines, _, left_out = made("table3", Path())
    assert cell("table3", "en5_resnet20", "blind-fgsm", lines).kind == "missing"
    assert "no evaluation of the oracle" in left_out[0]
    # Of another model than the row's oracle.
    folder(report("table2/resnet44", weights="o"))
    assert cell("table3", "en5_resnet20", "blind-fgsm").kind == "missing"
    Path("results/1.json").unlink()
    folder(report("table2/resnet20", weights="o"))
    line = cell("table3", "en5_resnet20", "blind-fgsm")
    assert (line.kind, line.ours) == ("own", pytest.approx(60))
    assert line.difference == pytest.approx(60 - 64.07)
    # The other way round nothing was evaluated, and white-box rows are not blind ones.
    assert {x.kind for x in made("table3", Path())[0] if x.target.row.model == "resnet20"} == {"missing"}
    assert cell("table2", "en5_resnet20", "fgsm").ours == pytest.approx(50)


def test_a_small_oracle_makes_a_stand_in(folder):
    folder(report("table2/en2_resnet44", weights="t", oracle="o", accuracies={"blind-cw": 0.6}))
    folder(report("table2/resnet44", weights="o", epochs=3))
    line = cell("table3", "en2_resnet44", "blind-cw")
    assert line.kind == "stand-in" and line.remarks == ("oracle: epochs=3 (here 200)",)


def integrated(members, weights="w", **options):
    """A network put together, with the records of its members."""
    name = "table7/en2_resnet20+en5_resnet20"
    told = []
    for number, (member, changes) in enumerate(members):
        directory = Path(f"runs/member{number}")
        directory.mkdir(exist_ok=True)
        recipe = asdict(replace(RECIPES[member], **changes))
        config = {"name": member, "seed": number, "recipe": recipe}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (directory / "metrics.csv").write_text("epoch\n" + "1\n" * recipe["epochs"], encoding="utf-8")
        told.append({"run": str(directory), "name": member, "seed": number})
    Path("runs/whole").mkdir(exist_ok=True)
    Path("runs/whole/config.json").write_text(json.dumps({"members": told}), encoding="utf-8")
    Path("runs/whole/best.safetensors").write_bytes(weights.encode())
    return report(name, weights=weights, path="elsewhere/whole", **options)


def test_networks_put_together_are_judged_by_their_members(folder):
    own = [("table2/en2_resnet20", {}), ("table2/en5_resnet20", {})]
    model = "en2_resnet20+en5_resnet20"
    folder(integrated(own))
    assert cell("table7", model, "fgsm").kind == "own"
    integrated([own[0], ("table2/en5_resnet20", {"epochs": 4})])
    line = cell("table7", model, "fgsm")
    assert line.kind == "stand-in" and line.remarks == ("members: epochs=4 (here 200)",)
    integrated([own[0], ("table2/en5_resnet20", {"method": "natural"})])
    assert cell("table7", model, "fgsm").kind == "missing"
    # Records of another network, or of a member that is not finished.
    integrated(own)
    Path("runs/member1/metrics.csv").write_text("epoch\n1\n", encoding="utf-8")
    assert cell("table7", model, "fgsm").kind == "missing"
    integrated(own)
    Path("runs/whole/best.safetensors").write_bytes(b"v")
    lines, _, left_out = made("table7", Path())
    assert cell("table7", model, "fgsm", lines).kind == "missing"
    assert "records of its members' training" in left_out[0]


def test_honest_attacks_below_table_2_are_ours_alone(folder):
    noisy = {"ifgsm20": 0.4, "ifgsm20-eot20": 0.3, "apgd-ce-eot20": 0.2, "apgd-dlr-eot20": 0.1}
    rows = [attacked(name, p + 0.05, 200, robust=p, everywhere=name == "ifgsm20") for name, p in noisy.items()]
    folder(report(rows=rows))
    folder(report("table2/resnet20", weights="v", accuracies={"ifgsm20": 0.36, "apgd-ce": 0.35, "apgd-dlr": 0.34}))
    _, honest, _ = made("table2", Path())
    ours = {(x.target.row.model, x.attack): (x.ours, x.n) for x in honest if x.ours is not None}
    assert ours == {
        ("en1_resnet20", "ifgsm20-eot20"): (pytest.approx(30), "200 × 1"),
        ("en1_resnet20", "apgd-ce-eot20"): (pytest.approx(20), "200 × 1"),
        ("en1_resnet20", "apgd-dlr-eot20"): (pytest.approx(10), "200 × 1"),
        ("resnet20", "ifgsm20-eot20"): (pytest.approx(36), "1000 × 1"),
        ("resnet20", "apgd-ce-eot20"): (pytest.approx(35), "1000 × 1"),
        ("resnet20", "apgd-dlr-eot20"): (pytest.approx(34), "1000 × 1"),
    }
    assert {x.paper for x in honest} == {None} and len(honest) == 3 * len(ROWS["table2"])


# ---- Commands


def test_every_missing_number_has_commands_that_train_and_evaluate_its_recipe():
    for table in ROWS:
        lines, honest, _ = made(table)
        for line in (*lines, *honest):
            assert (line.kind, bool(line.command)) in (("missing", True), ("own", False))
        for target in targets(table):
            wanted, said = RECIPES[target.recipe], [shlex.split(line) for line in commands(target.recipe, Places())]
            trained = {words[3] for words in said if words[2] == "nets.train"}
            names = {target.recipe} | set(wanted.members) if wanted.members else {trained_by(target.recipe)}
            assert trained == names | ({trained_by(wanted.oracle)} if wanted.oracle else set())
            assert trained <= RECIPES.keys()
            # What is evaluated was made by a line before it.
            runs = []
            for words in said:
                if words[2] == "nets.train":
                    seed = words[words.index("--seed") + 1] if "--seed" in words else "0"
                    runs.append(f"runs/{words[3].replace('/', '-')}-seed{seed}")
                    members = words[words.index("--integrate") + 1 :] if "--integrate" in words else []
                else:
                    members = [words[3], *(words[words.index("--oracle") + 1 :][:1] if "--oracle" in words else [])]
                assert set(members) <= set(runs)
            assert len(set(runs)) == len(runs)
            assert said[-1][2:4] == ["nets.evaluate", f"runs/{trained_by(target.recipe).replace('/', '-')}-seed0"]


def test_no_command_writes_over_what_another_one_wrote():
    written = {}
    for table in ROWS:
        for target in targets(table):
            for line in commands(target.recipe, Places()):
                out = re.search(r"--out (\S+)", line)
                if out:
                    assert written.setdefault(out[1], line) == line
    assert len(written) > len(ROWS["table2"])


@pytest.mark.parametrize("name", ["table2/en5_resnet20", "table6/resnet20", "section4.4/resnet20+resnet20"])
@pytest.mark.parametrize("places", [Places(), Places(Path("some results"), Path("all/runs"), 3)])
def test_the_commands_own_parsers_accept_them(name, places):
    import tyro

    outs = []
    for words in map(shlex.split, commands(name, places)):
        assert words[:2] == ["python", "-m"]
        if words[2] == "nets.train":
            named, options = nets.train._parse(words[3:])
            assert options.recipe == RECIPES[named]
            outs.append(options.out or Path("runs") / f"{named.replace('/', '-')}-seed{options.seed}")
            assert set(options.integrate) <= set(outs) and bool(options.integrate) == bool(RECIPES[named].members)
        else:
            assert words[2] == "nets.evaluate"
            options = tyro.cli(assessment.Options, args=words[4:])
            assert Path(words[3]) in outs and options.out.parent == places.results
            assert options.oracle is None or options.oracle in outs
    assert len(set(outs)) == len(outs)


# ---- Texts


def documents(*names):
    return tables.documents(list(names), read(Path("results"), Path("runs")), Places())


def test_markdown_keeps_its_columns(folder):
    folder(report(data="a|b_c*d`e", encoding="JPEG"))
    for document in documents(*ROWS):
        text = _tables_text.markdown(document)
        blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert len(blocks) == 1 + (document.table == "table2")
        for block in blocks:
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block
        assert len(blocks[0].splitlines()) == 2 + len(document.lines)
        assert text.count("```") in (0, 2)
        for note in NOTES:
            assert (tables_note(note) in text) == (document.table in note.tables)


def test_what_the_paper_leaves_open_stands_below_the_tables(folder):
    """Batch, momentum and weight decay below each; of attacks below those with attacks; of C-W where it is a column."""
    texts = {document.table: _tables_text.markdown(document) for document in documents(*ROWS)}
    for table, text in texts.items():
        assert all(f"- {name}: " in text.replace("\\_", "_") for name in ("batch_size", "momentum", "weight_decay"))
        assert ("the iterate of C-W" in text) == any(row.cw is not None for row in ROWS[table])
    assert "validation\\_n\\_iter" in texts["table2"] and "validation\\_n\\_iter" not in texts["table1"]
    learned = {table for table, text in texts.items() if "weights\\_step\\_size" in text}
    assert learned == {name.partition("/")[0] for name, one in RECIPES.items() if one.weights == "learned"} & {*ROWS}


def tables_note(note):
    return re.sub(r"([_*`\[<])", r"\\\1", note.other)


def test_latex_is_escaped(folder):
    folder(report(data=r"50%_of #1 & {more} ~$^\x", encoding="JPEG"))
    plain = _tables_text.TEX.keys() - {"\\", "{", "}", "$", "&"}
    for document in documents(*ROWS):
        text = _tables_text.latex(document)
        outside = re.sub(r"\\begin\{verbatim\}.*?\\end\{verbatim\}", "", text, flags=re.DOTALL).partition("\n")[2]
        outside.encode("ascii")
        # Every special sign has its backslash; braces close, dollars come in twos.
        bare = re.sub(r"\\([A-Za-z]+\*?|.)", "", outside)
        assert not set(bare) & plain, set(bare) & plain
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        for block in re.findall(r"\\endhead\n(.*?)\\hline", outside, re.DOTALL):
            widths = {re.sub(r"\\&", "", line).count("&") for line in block.splitlines()}
            assert widths <= {4, 5} and len(widths) == 1
        for begin in ("longtable", "itemize", "verbatim"):
            assert text.count(f"\\begin{{{begin}}}") == text.count(f"\\end{{{begin}}}")
    assert r"50\%\_of \#1 \& \{more\} \textasciitilde{}\$\textasciicircum{}\textbackslash{}x" in _tables_text.latex(
        documents("table2")[0]
    )


def test_csv_holds_every_number_once_and_as_it_is(folder):
    folder(report(weights="a", accuracies={"fgsm": 0.4}), report(weights="b", accuracies={"fgsm": 0.5}))
    text = _tables_text.tidy(documents(*ROWS))
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == _tables_text.FIELDS
    assert ",".join(_tables_text.FIELDS) == "table,row,attack,paper,ours,stderr,n,difference,recipe,data,command"
    keys = [(row["table"], row["row"], row["attack"]) for row in rows]
    assert len(set(keys)) == len(keys)
    # All that the paper prints: its rows' numbers, the check for masked gradients, the parameters.
    printed = sum(x is not None for rows_ in ROWS.values() for r in rows_ for x in r[1:5]) + len(MASK) + len(PARAMETERS)
    assert sum(row["paper"] != "" for row in rows) == printed == 157 + 3 + 4
    (mine,) = (row for row in rows if row["ours"] and row["attack"] == "fgsm")
    assert [mine[key] for key in ("table", "row", "paper", "ours", "n", "difference", "command")] == [
        "table2", "en1_resnet20", "55.35", "45.0000", "1000 × 2", "-10.3500", "",
    ]  # fmt: skip
    assert float(mine["stderr"]) == pytest.approx(100 * math.sqrt(0.45 * 0.55 / 1000 + 0.005 / 2), abs=1e-4)
    missing = next(row for row in rows if row["row"] == "en5_resnet20")
    assert missing["ours"] == "" and missing["command"].startswith("python -m nets.train table1/en5_resnet20")


def test_labels_are_the_papers():
    assert _tables_text.label("en2_resnet20+en5_resnet20") == "En2ResNet20 & En5ResNet20"
    assert _tables_text.label("resnet20 attacked through en5_resnet20") == "ResNet20 attacked through En5ResNet20"
    assert _tables_text.label("resnet20", prime=True) == "ResNet20"


# ---- The command


def run(*arguments):
    tables.main([str(argument) for argument in arguments])


def test_tables_are_printed_and_written_with_and_without_quick(folder, capsys):
    folder(report())
    run("--quick", "--out", "quick")
    printed = capsys.readouterr().out
    run("--out", "out")
    assert capsys.readouterr().out == printed
    stems = [table.replace(".", "-") for table in ROWS]
    assert {path.name for path in Path("out").iterdir()} == {
        f"{s}.{kind}" for s in stems for kind in ("md", "csv", "tex")
    }
    assert printed == "\n".join(Path(f"out/{stem}.md").read_text(encoding="utf-8") for stem in stems)
    for path in Path("out").iterdir():
        assert path.read_bytes() == (Path("quick") / path.name).read_bytes()


def test_single_tables_by_number(folder, capsys):
    run(2, "4.4", 2, "--seed", 5)
    assert sorted(path.name for path in Path("out").glob("*.md")) == ["section4-4.md", "table2.md"]
    assert "nets.train table2/en5_resnet20 --seed 5 --resume" in capsys.readouterr().out


def complaint(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("python -m figures.tables: error: ")
    assert not Path("out").exists()
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["12"], "no table 12; there are 1 to 11, and 4.4"),
        (["2", "two"], "no table two"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--results", "elsewhere"], "--results elsewhere is not a directory"),
        (["--runs", "elsewhere"], "--runs elsewhere is not a directory"),
    ],
)
def test_mistakes_are_answered_in_one_line(folder, capsys, arguments, said):
    assert said in complaint(capsys, *arguments)


def _without(*keys):
    def damage(made_up):
        part = made_up
        for key in keys[:-1]:
            part = part[key]
        del part[keys[-1]]
        return json.dumps(made_up)

    return damage


def _with_accuracy(value):
    return lambda made_up: json.dumps(made_up).replace('"accuracy": 0.8', f'"accuracy": {value}')


DAMAGE = {
    "cut": lambda made_up: json.dumps(made_up)[:400],
    "empty": lambda made_up: "",
    "no weights": _without("run", "weights", "digest"),
    "no recipe": _without("run", "recipe"),
    "no method": _without("run", "recipe", "method"),
    "no data": _without("data", "digest"),
    "no rows": _without("rows"),
    "no protocol": _without("protocol"),
    "no name": _without("rows", 0, "name"),
    "no draws": _without("rows", 0, "one_draw"),
    "a list": lambda made_up: json.dumps(made_up | {"rows": {"a": 1}, "run": []}),
    "above one": _with_accuracy(80),
    "not a number": _with_accuracy("NaN"),
    "a word": _with_accuracy('"much"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_evaluation_is_named_and_nothing_is_written(folder, capsys, damage):
    folder(report(weights="v"))
    Path("results/bad.json").write_text(DAMAGE[damage](report()), encoding="utf-8")
    said = complaint(capsys)
    assert "results/bad.json is damaged" in said and said.rstrip().endswith("remove it, or evaluate again")


def test_other_files_in_results_are_left_alone(folder):
    Path("results/benchmark.json").write_text('{"rows": [1, 2]}', encoding="utf-8")
    Path("results/list.json").write_text("[1, 2]", encoding="utf-8")
    folder(report())
    assert len(read(Path("results"), Path("runs")).evaluations) == 1


def test_nothing_is_written_unless_everything_is(folder, monkeypatch):
    def fail(document):
        raise ValueError("no LaTeX")

    monkeypatch.setattr(tables, "latex", fail)
    with pytest.raises(SystemExit):
        run("--out", "out")
    assert not Path("out").exists()


def test_every_column_of_the_paper_is_a_line():
    for table in ROWS:
        lines = [x for x in made(table)[0] if not x.attack.startswith("par")]
        printed = sum(x is not None for row in ROWS[table] for x in row[1:5])
        assert len(lines) == printed + (len(MASK) if table == "section4.4" else 0)
        for line in lines:
            column = line.attack.removeprefix("blind-")
            assert line.paper == getattr(line.target.row, column)
            assert line.attack.startswith("blind-") == bool(line.target.row.oracle)


def test_a_recipe_of_the_readers_own_is_judged_by_its_fields(folder):
    made_up = report("cpu/resnet20", method="natural", weights="n")
    made_up["run"]["name"] = "mine"
    folder(made_up)
    line = cell("table1", "resnet20", "natural")
    assert line.kind == "stand-in" and line.recipe == f"mine: natural, {N_CPU_EPOCHS} epochs"
