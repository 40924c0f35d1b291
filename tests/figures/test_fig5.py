"""Figure 5: the logs as they are, seeds and their mean, errors in one line."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from figures import _style, fig5

LOG = ("accuracy", "validation", "validation_adversarial")


def make_run(root, name, model, log, *, seed=0, method="fast", **changed):
    """The files of a run, with this log of LOG's columns, one row an epoch."""
    directory = root / name
    directory.mkdir(parents=True)
    recipe = {
        "model": model, "method": method, "epochs": len(log), "data": "digits", "eps": 8 / 255, "validation": 0.1,
        "n_validation": None, "validation_n_iter": 7, "select_on": "validation",
    } | changed  # fmt: skip
    source = {"digest": "d", "name": "digits", "n_train": 1000, "n_test": 300, "encoding": "raw"}
    (directory / "config.json").write_text(json.dumps({"recipe": recipe, "seed": seed, "data": source}))
    with (directory / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *LOG])
        writer.writerows([number, *row] for number, row in enumerate(log, 1))
    (directory / "best.safetensors").touch()


@pytest.fixture
def root(tmp_path):
    """Two seeds of the plain network, one of an ensemble; a natural one, which the figure is not about."""
    make_run(tmp_path, "p1", "resnet20", [(0.3, 0.5, 0.2), (0.5, 0.7, 0.3)], seed=1)
    make_run(tmp_path, "p0", "resnet20", [(0.1, 0.3, 0.1), (0.3, 0.5, 0.2)], seed=0)
    make_run(tmp_path, "n", "en2_resnet20", [(0.2, 0.4, ""), (0.4, 0.6, "")])
    make_run(tmp_path, "natural", "resnet20", [(0.9, 0.9, ""), (0.9, 0.9, "")], method="natural")
    return tmp_path


def run(*arguments):
    fig5.main([str(argument) for argument in arguments])


def test_the_arrays_are_the_logs(root):
    data = fig5.compute(runs=root)
    assert data["model"].tolist() == ["resnet20", "en2_resnet20"]
    assert data["run"].tolist() == ["p0", "p1", "n"]
    assert data["run_model"].tolist() == ["resnet20", "resnet20", "en2_resnet20"]
    assert data["epoch"].tolist() == [1, 2]
    assert data["training"].tolist() == [[0.1, 0.3], [0.3, 0.5], [0.2, 0.4]]
    assert data["validation"].tolist() == [[0.3, 0.5], [0.5, 0.7], [0.4, 0.6]]
    assert data["adversarial"][:2].tolist() == [[0.1, 0.2], [0.2, 0.3]]
    assert np.isnan(data["adversarial"][2]).all()
    assert str(data["attack"]) == "PGD-7, ε = 8/255"


@pytest.mark.parametrize(
    ("changed", "n"),
    [({}, 100), ({"n_validation": 40}, 40), ({"n_validation": 400}, 100), ({"select_on": "test"}, 300)],
)
def test_the_number_of_validation_images_bounds_their_error(changed, n, tmp_path):
    make_run(tmp_path, "one", "resnet20", [(0.1, 0.3, 0.1)], **changed)
    data = fig5.compute(runs=tmp_path)
    assert data["n_validation"] == n
    # The deviation of a share of n images is greatest at a half.
    worst = max(math.sqrt(p * (1 - p) / n) for p in np.linspace(0, 1, 101))
    assert float(data["largest_stderr"]) == pytest.approx(worst)


def test_findings_are_means_over_the_seeds(root):
    found = fig5.findings(fig5.compute(runs=root))["models"]
    last = found["resnet20"]["last_epoch"]
    # Of a and b the standard error is |a - b| / 2.
    for key, mean, stderr in (("training", 0.4, 0.1), ("validation", 0.6, 0.1), ("adversarial", 0.25, 0.05),
                              ("training_less_adversarial", 0.15, 0.05)):  # fmt: skip
        assert last[key]["mean"] == pytest.approx(mean)
        assert last[key]["stderr"] == pytest.approx(stderr)
        assert last[key]["n"] == 2
    assert found["en2_resnet20"]["last_epoch"].keys() == {"training", "validation"}


def test_thin_lines_are_seeds_and_the_thick_one_is_their_mean(root):
    figure = fig5.plot(fig5.compute(runs=root))
    natural, adversarial = figure.axes
    blue, green = _style.BLUE, _style.GREEN

    def drawn(axes, colour, dashed):
        lines = [line for line in axes.lines if line.get_color() == colour and line.is_dashed() == dashed]
        return sorted((line.get_linewidth(), np.asarray(line.get_ydata()).tolist()) for line in lines)

    assert drawn(natural, blue, False) == [(0.7, [0.3, 0.5]), (0.7, [0.5, 0.7]), (2.0, [0.4, 0.6])]
    assert drawn(natural, blue, True) == []
    assert [line for _, line in drawn(adversarial, blue, True)][-1] == [0.2, 0.4]
    assert np.allclose(drawn(adversarial, blue, False)[-1][1], [0.15, 0.25])
    # One seed is its own mean, and is drawn once.
    assert drawn(natural, green, False) == [(2.0, [0.4, 0.6])]
    labels = [text.get_text() for text in natural.get_legend().get_texts()]
    assert labels[:2] == ["ResNet-20 (2 seeds)", "En2ResNet-20 (1 seed)"]
    assert "fast adversarial training, 2 epochs, digits" in figure.get_suptitle()


def test_each_kind_of_resnet_has_its_row(tmp_path):
    for model in ("resnet20", "en1_resnet20", "resnet44", "en2_resnet44", "en1_wrn34_10"):
        make_run(tmp_path, model, model, [(0.1, 0.3, 0.1)])
    figure = fig5.plot(fig5.compute(runs=tmp_path))
    titles = [axes.get_title() or axes.get_title("left") for axes in figure.axes]
    assert titles == [
        title
        for place, name in enumerate(("ResNet-20", "ResNet-44", "WRN-34-10"))
        for title in (
            f"({'ace'[place]}) {name} and its ensembles, natural images",
            f"({'bdf'[place]}) adversarial images",
        )
    ]


def test_real_logs_are_read(quick_runs):
    data = fig5.compute(runs=quick_runs)
    assert data["model"].tolist() == ["resnet20", "en1_resnet20", "en2_resnet20"]
    for row, name in enumerate(data["run"].tolist()):
        with (quick_runs / name / "metrics.csv").open(newline="") as file:
            log = list(csv.DictReader(file))
        assert data["training"][row].tolist() == [float(line["accuracy"]) for line in log]
        assert data["adversarial"][row].tolist() == [float(line["validation_adversarial"]) for line in log]


def test_command_writes_files_and_replot_draws_the_same_picture(root, check_command):
    record, _, _ = check_command(fig5, "--runs", root)
    assert record["models"]["resnet20"]["runs"] == ["p0", "p1"]


def test_without_runs_the_message_names_the_command(tmp_path, refused):
    message = refused(fig5.main, "--runs", tmp_path, "--out", tmp_path / "out")
    assert "lacks finished runs for this figure (resnet20): python -m nets.train cpu/resnet20" in message


def test_a_log_with_a_hole_is_named(tmp_path):
    make_run(tmp_path, "one", "resnet20", [(0.1, "", 0.1)])
    with pytest.raises(ValueError, match=r"one/metrics.csv lacks a number under validation"):
        fig5.compute(runs=tmp_path)


def test_logs_of_other_epochs_are_refused(tmp_path):
    make_run(tmp_path, "one", "resnet20", [(0.1, 0.2, 0.1)] * 2)
    make_run(tmp_path, "two", "resnet20", [(0.1, 0.2, 0.1)] * 2, seed=1)
    path = tmp_path / "two" / "metrics.csv"
    path.write_text(path.read_text().replace("2,0.1", "3,0.1"))
    with pytest.raises(ValueError, match=r"the epochs in the metrics.csv of .* differ"):
        fig5.compute(runs=tmp_path)


def test_a_training_that_was_cut_ends_where_it_was_cut(root, monkeypatch):
    cut = make_listed(root)
    monkeypatch.setattr(fig5._runs, "list_runs", lambda _: cut)
    data = fig5.compute()
    assert data["epoch"].tolist() == [1, 2]
    np.testing.assert_equal(data["training"], [[0.1, 0.3], [0.3, np.nan], [0.2, 0.4]])
    assert data["how"].tolist() == [
        "fast adversarial training, 1 to 2 of 2 epochs, digits",
        "fast adversarial training, 2 epochs, digits",
    ]
    # The last number that there is: of seeds 0 and 1 after epochs 2 and 1.
    last = fig5.findings(data)["models"]["resnet20"]["last_epoch"]["training"]
    assert last["mean"] == pytest.approx(0.3)
    figure = fig5.plot(data)
    thick = [line for line in figure.axes[0].lines if line.get_lw() == 2.0]
    # The mean over the seeds ends with the shorter of them.
    np.testing.assert_equal(thick[0].get_ydata(), [0.4, np.nan])


def make_listed(root):
    """The runs in a directory, of which seed 1 of the plain network lost its last epoch, as those that ship may."""
    return [replace(run, history=run.history[:1]) if run.name == "p1" else run for run in fig5._runs.list_runs(root)]
