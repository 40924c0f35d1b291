"""The figure of the robustness curves: they never rise, begin at the natural accuracy, and go on where they ended."""

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import _enresnet
from figures import _runs, _style, robustness_curve
from figures._runs import comparable
from nets import attacks, evaluation
from nets import data as image_sets
from nets.evaluation import balanced_order


def copy_of(quick_runs, root, *names):
    for name in names:
        shutil.copytree(quick_runs / name, root / name, ignore=shutil.ignore_patterns("evaluation", "last*"))
    return root


@pytest.fixture(scope="module")
def runs(quick_runs, tmp_path_factory):
    """Copies of three tiny runs: points are kept in a run's directory."""
    names = ("resnet20-fast-seed0", "resnet20-fast-seed1", "en1_resnet20-fast-seed0")
    return copy_of(quick_runs, tmp_path_factory.mktemp("runs"), *names)


@pytest.fixture(scope="module")
def data(runs):
    return robustness_curve.compute(quick=True, seed=0, runs=runs)


def made_up(**changed):
    """Curves of which the answers are known."""
    nan = np.nan
    accuracy = np.array([[0.6, 0.4, 0.2, 0.1], [0.6, 0.3, nan, 0.01], [0.6, 0.5, 0.4, 0.0]])
    return {
        "training": np.array("made up"), "model": np.array(["resnet20", "resnet20", "en1_resnet20"]),
        "attack": np.array(["fgsm", "pgd20", "pgd20-eot20"]), "n_eot": np.array([1.0, 1, 20]),
        "n_images": np.full(3, 100.0), "n_seeds": np.array([2.0, 2, 1]), "eps": np.array([0.0, 4, 8, 64]),
        "accuracy": accuracy, "stderr": 0 * accuracy + 0.05, "gain": 0 * accuracy, "gain_stderr": 0 * accuracy,
        "n_gradients": np.ones(3), "seconds": np.ones(3), "run": np.array(["a", "b", "c"]),
        "run_model": np.array(["resnet20", "resnet20", "en1_resnet20"]),
    } | changed  # fmt: skip


def test_no_curve_rises_and_all_begin_at_the_natural_accuracy(data, runs):
    for row in data["accuracy"]:
        assert (np.diff(row[~np.isnan(row)]) <= 0).all()
    # The plain model draws nothing: its accuracy can be counted again, here by the seeds that share the images out.
    group = comparable(runs, ("resnet20",))["resnet20"]
    images = _runs.load_data(group[0])
    order = balanced_order(images.test_labels, 0)
    right = []
    for place, trained in enumerate(group):
        chosen = order[10 * place : 10 * (place + 1)]
        x, y = image_sets.Batches(images.test_images, images.test_labels, images.white).take(chosen)
        with torch.no_grad():
            right.append(trained.load()(x).argmax(1) == y)
    plain = data["model"] == "resnet20"
    assert data["n_seeds"][plain].tolist() == [2, 2]
    assert data["accuracy"][plain, 0] == pytest.approx(torch.cat(right).double().mean().item())
    # By chance the curve could be flat; it is not: an attack that did nothing would be seen.
    assert (data["accuracy"][plain, -1] < data["accuracy"][plain, 0]).all()


def test_fgsm_of_the_plain_model_is_the_one_of_the_attacks(data, runs):
    group = comparable(runs, ("resnet20",))["resnet20"]
    images = _runs.load_data(group[0])
    order = balanced_order(images.test_labels, 0)
    batches = image_sets.Batches(images.test_images, images.test_labels, images.white)
    left = []
    for place, trained in enumerate(group):
        x, y = batches.take(order[10 * place : 10 * (place + 1)])
        model = trained.load()
        with torch.no_grad():
            right = model(x).argmax(1) == y
        for eps in (8 / 255, 64 / 255):
            # Broken at the smaller radius is broken at the larger one.
            x_adv = attacks.fgsm(model, x, y, eps=eps)
            with torch.no_grad():
                right &= model(x_adv).argmax(1) == y
            left.append(right.double().mean().item())
    row = (data["model"] == "resnet20") & (data["attack"] == "fgsm")
    expected = np.array(left).reshape(2, 2).mean(0)
    # FGSM draws nothing. A gradient within rounding of 0 may change its sign from batch to batch: one image.
    assert abs(data["accuracy"][row, 1:][0] - expected).max() <= 0.05 + 1e-9


def test_the_noisy_model_is_attacked_by_averages_and_answers_by_means(data, runs):
    noisy = data["model"] == "en1_resnet20"
    assert dict(zip(data["attack"][noisy].tolist(), data["n_eot"][noisy].tolist(), strict=True)) == {
        "pgd5-eot1": 1, "fgsm-eot5": 5, "pgd5-eot5": 5,
    }  # fmt: skip
    row, one = (np.flatnonzero(noisy & (data["attack"] == name))[0] for name in ("pgd5-eot5", "pgd5-eot1"))
    # One draw is shown at 8/255 alone: averages make the curve.
    assert np.isnan(data["accuracy"][[row, one]]).tolist() == [[False] * 3, [False, False, True]]
    # The gain over one-draw PGD is the difference of the accuracies, the images being the same.
    assert data["gain"][row, 1] == pytest.approx(data["accuracy"][one, 1] - data["accuracy"][row, 1])
    assert data["gain"][one, :2] == pytest.approx(0)


def test_a_second_call_makes_no_attack_and_gives_the_same(data, runs, monkeypatch):
    monkeypatch.setattr(evaluation.AttackRunner, "_attack", None)
    again = robustness_curve.compute(quick=True, seed=0, runs=runs)
    for key, values in data.items():
        np.testing.assert_array_equal(values, again[key])


def test_what_is_broken_in_all_answers_is_not_attacked_again(runs, data, monkeypatch):
    asked = []
    attack = evaluation.AttackRunner._attack

    def counted(self, what, x, y, generator):
        asked.append((what.name, round(255 * what.eps), len(x)))
        return attack(self, what, x, y, generator)

    monkeypatch.setattr(evaluation.AttackRunner, "_attack", counted)
    # Another seed, so that nothing is kept.
    again = robustness_curve.compute(quick=True, seed=7, runs=runs)
    row = (again["model"] == "resnet20") & (again["attack"] == "fgsm")
    accuracy = again["accuracy"][row][0]
    attacked = {eps: sum(n for name, at, n in asked if name == "fgsm" and at == eps) for eps in (8, 64)}
    # Of a model that draws nothing: those right so far.
    assert attacked == {8: round(20 * accuracy[0]), 64: round(20 * accuracy[1])}


def test_models_that_cannot_be_compared_are_left_out(quick_runs, tmp_path):
    names = ("resnet20-fast-seed0", "resnet20-natural-seed0", "en1_resnet20-fast-seed0")
    root = copy_of(quick_runs, tmp_path, *names)
    found = comparable(root, robustness_curve.MODELS)
    assert {name: [r.name for r in group] for name, group in found.items()} == {
        "resnet20": [names[0]], "en1_resnet20": [names[2]],
    }  # fmt: skip
    # Of other data: one model is left, the first.
    path = root / names[2] / "config.json"
    config = _enresnet.read_record(path)
    config["data"]["digest"] = "other"
    path.write_text(_enresnet.sealed(config))
    assert list(comparable(root, robustness_curve.MODELS)) == ["resnet20"]


def test_findings_of_made_up_data():
    found = robustness_curve.findings(made_up())
    plain = found["models"]["resnet20"]
    # FGSM's 0.1 does not count: one step of 64/255 is no test of the gradients.
    assert (plain["left"], plain["may_be_masked"], plain["natural"]) == (0.01, False, 0.6)
    assert plain["attacks"]["pgd20"]["eps"] == [0.0, 4.0, 64.0]
    # Nor does its 0 hide what PGD leaves.
    accuracy = made_up()["accuracy"]
    accuracy[:2, -1] = 0.0, 0.06
    found = robustness_curve.findings(made_up(accuracy=accuracy))["models"]["resnet20"]
    assert (found["left"], found["may_be_masked"]) == (0.06, True)
    masked = robustness_curve.findings(made_up(accuracy=np.full((3, 4), 0.6)))
    assert masked["models"]["en1_resnet20"]["may_be_masked"]


def test_command_writes_files_and_replot_draws_the_same_picture(tmp_path, monkeypatch, check_command):
    options = {}
    monkeypatch.setattr(robustness_curve, "compute", lambda **given: options.update(given) or made_up())
    _, _, picture = check_command(robustness_curve, "--n-images", 30, "--runs", tmp_path)
    assert (options["n_images"], options["quick"], options["runs"]) == ("30", False, tmp_path)
    assert 10_000 < len(picture) < 200_000


def test_picture_is_drawn_from_the_quick_data(data):
    _style.use_style()
    assert len(robustness_curve.plot(data).axes) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-images", "0"], "--n-images must be a whole number >= 1, got 0"),
        (["--n-images", "few"], "--n-images must be a whole number >= 1, got few"),
        (["--n-images"], "argument --n-images: expected one argument"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        ([], "python -m nets.train cpu/resnet20"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, message, tmp_path, refused):
    assert message in refused(robustness_curve.main, *arguments, "--runs", tmp_path, "--out", tmp_path / "new")


def test_more_images_than_there_are_are_refused(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(robustness_curve, "_panel", None)
    n_sample = len(_runs._sample().test_labels)
    group = comparable(runs, ("resnet20",))["resnet20"]
    n_own = len(_runs.load_data(group[0]).test_labels)
    for arguments, n in ((["--quick"], n_sample), ([], n_sample), (["--runs", runs], n_own)):
        with pytest.raises(SystemExit) as stop:
            robustness_curve.main([*map(str, ("--n-images", n + 1, *arguments, "--out", tmp_path / "new"))])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert f"--n-images must be at most {n}, the test images" in error and f"got {n + 1}" in error
        assert ("without --data PATH" in error) == (n == n_sample)
        assert error.count("\n") == 1
        # As many as there are are accepted.
        with pytest.raises(TypeError, match="NoneType"):
            robustness_curve.main([*map(str, ("--n-images", n, *arguments, "--out", tmp_path / "new"))])


def test_radii_are_in_units_of_the_whitest_byte():
    assert robustness_curve._radius(255) == 1
    assert robustness_curve._radius(8) == 8 / 255
