"""The difference of two trainings on the same images: its formula by simulation, and the command on real runs."""

import json
import math
import shutil

import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

import nets
from nets import compare, zoo
from nets.evaluate import main as evaluate_main
from nets.evaluation import _paired as comparison
from nets.evaluation._assessment import Options, evaluate
from nets.evaluation._paired import paired


def test_equal_answers_differ_by_zero_within_what_so_many_images_can_show():
    answers = torch.tensor([[1, 0, 1, 1, 0.5]])
    result = paired(answers, answers)
    assert result.difference == 0
    # Images that tell the networks apart may have a share of twice this, of which five show none with 5 %.
    assert (1 - 2 * result.stderr) ** 5 == pytest.approx(0.05, rel=1e-12)


def test_of_one_network_a_side_the_error_is_that_of_the_paired_images():
    # 8 images: two are won, one is lost; McNemar's variance of the difference of the fractions, with n - 1.
    first = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 0]])
    second = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 0]])
    result = paired(first, second)
    n, won, lost = 8, 2, 1
    assert result.difference == pytest.approx((won - lost) / n)
    assert result.stderr == pytest.approx(math.sqrt((won + lost - (won - lost) ** 2 / n) / (n - 1) / n))


def test_networks_of_different_seeds_add_the_variance_of_their_accuracies():
    # The images of each network are nearly alike, so that hardly any variance over images is left: 2e-6 / 3.
    first, second = torch.tensor([[0.2] * 4, [0.4] * 4]), torch.tensor([[0.499, 0.5, 0.5, 0.501]])
    result = paired(first, second)
    assert result.difference == pytest.approx(0.2)
    assert result.stderr == pytest.approx(math.sqrt(0.02 / 2 + 2e-6 / 3 / 4))
    assert (result.n_first, result.n_second) == (2, 1)


def test_the_standard_error_is_that_of_repeated_experiments():
    """300 images and two seeds a side, again and again: the mean of stderr**2 against the variance of the difference.

    Image i is easy for everybody or not, a seed moves all logits. Of 2000 experiments the variance has a relative
    standard error of sqrt(2 / 1999) = 0.032, the mean of stderr**2 one of sqrt(1 / 2000) = 0.022: the seeds' variances,
    of one degree of freedom a side, make nearly all of it. The noise of the images is counted in them and beside them:
    0.2 / 300 against (0.5 * 0.21)**2, 6 %. Limits of 0.06 + 5 * 0.039 leave a false alarm below 1e-6.
    """
    generator = torch.Generator().manual_seed(0)
    n, n_seeds, n_experiments = 300, 2, 2000
    logits = torch.randn(n_experiments, 1, n, generator=generator)
    sides = []
    for shift in (0.0, 0.3):
        moved = logits + shift + 0.5 * torch.randn(n_experiments, n_seeds, 1, generator=generator)
        sides.append(torch.bernoulli(torch.sigmoid(moved), generator=generator))
    results = [paired(*pair) for pair in zip(*sides, strict=True)]
    differences = torch.tensor([result.difference for result in results], dtype=torch.float64)
    claimed = sum(result.stderr**2 for result in results) / n_experiments
    assert claimed / differences.var().item() == pytest.approx(1, abs=0.06 + 5 * 0.039)


@pytest.mark.parametrize("shapes", [((1, 3), (1, 4)), ((1, 1), (1, 1)), ((3,), (3,))])
def test_images_that_do_not_match_are_refused(shapes):
    with pytest.raises(ValueError, match="n_images >= 2 the same"):
        paired(*(torch.zeros(shape) for shape in shapes))


@pytest.fixture(scope="module")
def runs(quick_runs, tmp_path_factory):
    """Copies, since an evaluation is kept in its run."""
    root = tmp_path_factory.mktemp("compared")
    names = ("resnet20-fast-seed0", "resnet20-fast-seed1", "en1_resnet20-fast-seed0")
    return [shutil.copytree(quick_runs / name, root / name) for name in names]


def test_rows_agree_with_the_evaluations_that_they_come_from(runs, tmp_path, capsys):
    sides = ["--first", *map(str, runs[:2]), "--second", str(runs[2])]
    compare.main([*sides, "--quick", "--out", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text())
    evaluations = [evaluate(run, Options(quick=True), progress=False) for run in runs]
    accuracies = [{row["name"]: row["accuracy"] for row in made["rows"]} for made in evaluations]
    rows = {row["attack"]: row for row in report["rows"]}
    for name in ("natural", "fgsm"):
        row = rows[name]
        assert row["first"] == pytest.approx((accuracies[0][name] + accuracies[1][name]) / 2)
        assert row["second"] == pytest.approx(accuracies[2][name])
        assert row["difference"] == pytest.approx(row["second"] - row["first"])
        assert row["n"] == 20
    worst = {name: row for name, row in rows.items() if name.startswith("worst")}
    # FGSM, IFGSM and APGD of what draws nothing; of the other FGSM, IFGSM, the transfer and, on 10 images, APGD.
    assert {(name, row["attack_on_first"], row["n"]) for name, row in worst.items()} == {
        ("worst case of 3", "worst case of 3", 20),
        ("worst case of 4", "worst case of 3", 10),
    }
    for name, row in worst.items():
        assert row["second"] == pytest.approx(accuracies[2][name])
    on_all = "worst case of 3"
    assert worst[on_all]["first"] == pytest.approx((accuracies[0][on_all] + accuracies[1][on_all]) / 2)
    assert report["command"].startswith("python -m nets.compare")
    assert "| natural |" in capsys.readouterr().out


def test_the_options_reach_the_evaluations_of_both_sides(runs, tmp_path, capsys, monkeypatch):
    options = ["--n-images", "7", "--draws", "3", "--seed", "5", "--attacks", "natural", "fgsm"]
    made, real = [], comparison.prepare
    monkeypatch.setattr(comparison, "prepare", lambda *words, **ways: made.append(real(*words, **ways)) or made[-1])
    out = tmp_path / "out.json"
    compare.main(["--first", str(runs[0]), "--second", str(runs[2]), "--quick", *options, "--out", str(out)])
    assert [(s.runner.n_draws, s.runner.seed, len(s.runner.order)) for s in made] == [(3, 5, 7)] * 2
    rows = {row["attack"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["fgsm"]["n"] == 7
    # The same as the command that evaluates one side.
    evaluate_main([str(runs[2]), "--quick", *options, "--out", str(tmp_path / "second.json")])
    report = json.loads((tmp_path / "second.json").read_text())
    assert {row["name"]: row["accuracy"] for row in report["rows"]}["fgsm"] == rows["fgsm"]["second"]


def test_what_has_been_evaluated_is_not_done_again(runs, monkeypatch):
    reports = []
    for run in runs[:2]:
        evaluate_main([str(run), "--quick"])
        reports.append(evaluate(run, Options(quick=True), progress=False))
    monkeypatch.setattr("nets.evaluation._runner.predictions", None)
    rows, _ = comparison.compare([runs[0]], [runs[1]], Options(quick=True), progress=False)
    first, second = ({row["name"]: row["accuracy"] for row in report["rows"]} for report in reports)
    assert all(row["difference"] == pytest.approx(second[row["attack"]] - first[row["attack"]]) for row in rows)


def test_the_same_network_on_both_sides_is_refused(runs, tmp_path, capsys):
    copied = shutil.copytree(runs[0], tmp_path / "copied")
    for second, named in ((runs[0], f"got {runs[0]} on both sides"), (copied, f"got {runs[0]} and {copied} on")):
        with pytest.raises(SystemExit):
            compare.main(["--first", str(runs[0]), "--second", str(runs[1]), str(second), "--quick"])
        written = capsys.readouterr().err
        assert "--second must name other networks than" in written and named in written and written.count("\n") == 1


def test_one_repeat_of_a_noisy_network_has_no_worst_case(runs):
    """The same draws would choose the attack on an image and score it: a minimum of lucky draws."""
    options = Options(attacks=("natural", "fgsm", "ifgsm20"), quick=True, repeats=1)
    plain, noisy = (evaluate(run, options, progress=False) for run in (runs[0], runs[2]))
    assert [row["name"] for row in plain["rows"]] == ["natural", "fgsm", "ifgsm20", "worst case of 2"]
    assert [row["name"] for row in noisy["rows"]] == ["natural", "fgsm", "ifgsm20"]
    noted = [any("no worst case" in note for note in report["notes"]) for report in (plain, noisy)]
    assert noted == [False, True]
    rows, _ = comparison.compare([runs[0]], [runs[2]], options, progress=False)
    assert [row["attack"] for row in rows] == ["natural", "fgsm", "ifgsm20"]


def test_an_attack_asked_for_on_more_images_is_compared_on_them(runs):
    options = Options(quick=True, also=("apgd-ce-eot20@15", "apgd-ce-eot20@5", "apgd-ce-eot5@12"))
    rows, _ = comparison.compare([runs[0]], [runs[2]], options, progress=False)
    assert [row["n"] for row in rows if row["attack"] == "apgd-ce-eot20"] == [15]
    # The preset's APGD with 5 draws is on 10, and left out.
    assert [row["n"] for row in rows if row["attack"].startswith("worst")] == [20, 15, 12]


def test_every_attack_of_both_sides_is_compared_once(runs):
    options = Options(attacks=("natural", "fgsm@10", "square@10"), quick=True)
    rows, _ = comparison.compare([runs[0]], [runs[2]], options, progress=False)
    names = ["natural", "fgsm", "square", "worst case of 2"]
    assert [(row["attack"], row["attack_on_first"]) for row in rows] == [(name, name) for name in names]
    accuracies = [
        {row["name"]: row["accuracy"] for row in evaluate(run, options, progress=False)["rows"]}
        for run in (runs[0], runs[2])
    ]
    square = rows[2]
    assert (square["first"], square["second"]) == tuple(each["square"] for each in accuracies)
    assert square["n"] == 10


def test_runs_of_other_images_or_none_are_one_line(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--first", str(runs[0]), "--quick"])
    assert (
        capsys.readouterr().err
        == "python -m nets.compare: error: --second must name the directories of finished runs, got none\n"
    )
    with pytest.raises(SystemExit):
        compare.main(["--first", str(runs[0]), "--second", str(tmp_path), "--quick"])
    assert "has no best.safetensors" in capsys.readouterr().err


def test_a_network_counts_once(runs, tmp_path, capsys):
    # Twice, it would have no variance over the seeds.
    copied = shutil.copytree(runs[0], tmp_path / "copy")
    for twice in (runs[0], copied):
        with pytest.raises(SystemExit):
            compare.main(["--first", str(runs[0]), str(twice), "--second", str(runs[2]), "--quick"])
        error = capsys.readouterr().err
        assert f"--first must name each network once, got {runs[0]} and {twice}" in error
        assert error.count("\n") == 1
    # On both sides it may be where noise is switched on.
    options = Options(quick=True, attacks=("natural",))
    rows, _ = comparison.compare([runs[0]], [copied], options, inject="blocks", progress=False)
    # Without an attack there is no worst case.
    assert [row["attack"] for row in rows] == ["natural"]


def test_a_side_is_one_training(runs):
    with pytest.raises(
        ValueError, match=r"second must name runs of one training: .*en1\S* has model=en1_resnet20 \(not"
    ):
        comparison.compare([runs[0]], [runs[1], runs[2]], Options(quick=True), progress=False)


def test_another_eps_is_refused(runs, monkeypatch):
    made = iter([0.1, 0.2])
    real = comparison.prepare
    monkeypatch.setattr(comparison, "prepare", lambda run, options, **_: real(run, Options(quick=True, eps=next(made))))
    with pytest.raises(ValueError, match="other images or with another eps"):
        comparison.compare([runs[0]], [runs[1]], Options(quick=True), progress=False)


def test_networks_of_the_zoo_are_compared_on_images_of_the_users_own(tmp_path, monkeypatch):
    sample = zoo.sample()
    for label in range(10):
        for k, image in enumerate(sample.x[sample.y == label][:6]):
            path = tmp_path / "images" / ("train" if k < 2 else "test") / f"class{label}" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    monkeypatch.chdir(tmp_path)
    names = [f"zoo:cifar10/{name}-seed0" for name in ("resnet20", "en2_resnet20-without-noise")]
    options = Options(data=str(tmp_path / "images"), attacks=("natural", "fgsm@20"), n_images=30)
    rows, _ = comparison.compare(names[:1], names[1:], options, progress=False)
    images = nets.data.load(tmp_path / "images", progress=False)
    batches = nets.data.Batches(images.test_images, images.test_labels, images.white)
    x, y = batches.take(nets.data.balanced_order(images.test_labels, 0)[:30])
    for row, attack in zip(rows, ("natural", "fgsm"), strict=False):
        assert (row["attack"], row["n"]) == (attack, 30 if attack == "natural" else 20)
        for side, name in zip(("first", "second"), names, strict=True):
            model, n = nets.load(name), row["n"]
            x_adv = x[:n] if attack == "natural" else nets.attacks.fgsm(model, x[:n], y[:n], eps=8 / 255)
            right = (model(x_adv).argmax(1) == y[:n]) & (model(x[:n]).argmax(1) == y[:n])
            assert row[side] == pytest.approx(right.double().mean().item())
    assert (tmp_path / "runs" / "zoo" / "cifar10" / "resnet20-seed0" / "evaluation").is_dir()
    # `nets.evaluate` resumes from the same results, and its report is that of a run.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model-*.safetensors")}
    attacks = ["--attacks", "natural", "fgsm@20", "--n-images", "30"]
    evaluate_main([names[0], "--data", str(tmp_path / "images"), *attacks, "--out", str(tmp_path / "report.json")])
    # A record holds no directory of the machine that made it.
    assert str(tmp_path / "images") not in (tmp_path / "report.json").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["accuracy"] for row in report["rows"][:2]] == [row["first"] for row in rows[:2]]
    assert (report["run"]["path"], report["run"]["name"]) == (names[0], "cpu/resnet20")
    assert report["run"]["epochs_done"] == len(zoo.card(names[0])["history"]) == 30
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model-*.safetensors")}
    with pytest.raises(ValueError, match=r"data must be given for zoo:cifar10/resnet20-seed0.*--data PATH"):
        comparison.compare(names[:1], names[1:], Options(), progress=False)
    with pytest.raises(ValueError, match="the zoo has no network 'cifar10/resnet20'"):
        comparison.compare(["zoo:cifar10/resnet20"], names[1:], options, progress=False)
