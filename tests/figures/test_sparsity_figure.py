"""The figure of section 7: numbers of the runs, which of them are compared, the table, files and errors."""

import math
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import _enresnet
from figures import _runs, sparsity
from figures._runs import most_of
from nets.evaluation import interval
from nets.sparsity import measure, members


def run(*arguments):
    sparsity.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(quick_runs):
    return sparsity.compute(quick=True, runs=quick_runs)


def test_numbers_are_those_of_the_networks(data, quick_runs):
    assert data["network"].tolist() == ["natural", "adversarial", "en1", "en2"]
    assert data["run_network"].tolist() == ["natural"] * 2 + ["adversarial"] * 2 + ["en1", "en2"]
    found = sparsity.findings(data)["networks"]
    natural = _runs.find(quick_runs, {"natural": sparsity.OPTIONAL["natural"]})["natural"]
    totals = [measure(run.load()).total for run in natural]
    for key in ("below", "relative", "smoothness"):
        assert found["natural"][key] == interval([getattr(total, key) for total in totals])._asdict()
    assert found["natural"]["paper_below"] == 0.0866
    assert found["en1"]["below"]["stderr"] is None
    model = _runs.find(quick_runs, {"en2": sparsity.OPTIONAL["en2"]})["en2"][0].load()
    layer = "stages.1.2.branch.5"
    one, two = (measure(member).layers[f"{layer}.weight"] for member in members(model))
    place = data["layer"].tolist().index(layer)
    assert found["en2"]["layers"]["smoothness"][place] == pytest.approx((one.smoothness + two.smoothness) / 2)
    assert found["en2"]["layers"]["below"][place] == pytest.approx((one.below + two.below) / 2)


def test_profile_adds_up_to_the_total(data, quick_runs):
    arrays = measure(_runs.list_runs(quick_runs)[0].load()).layers
    n = np.array([layer.n for layer in arrays.values()])
    assert data["layer_below"] @ n / n.sum() == pytest.approx(data["below"])
    known = ~np.isnan(data["layer_smoothness"][0])
    # Two projections and the linear layer have no neighbours.
    assert np.count_nonzero(~known) == 3
    assert data["layer_smoothness"][:, known] @ n[known] / n[known].sum() == pytest.approx(data["smoothness"])


def test_difference_from_the_adversarial_network_has_the_error_of_both(data):
    found = sparsity.findings(data)["networks"]
    ours, other, difference = (found[name] for name in ("natural", "adversarial", "natural"))
    below = difference["difference"]["below"]
    assert below["mean"] == ours["below"]["mean"] - other["below"]["mean"]
    assert below["stderr"] == pytest.approx(math.hypot(ours["below"]["stderr"], other["below"]["stderr"]))
    # Two seeds each: between one and two degrees of freedom.
    assert 4.3 < below["reach"] / below["stderr"] < 12.8
    assert other["difference"]["below"] is None
    assert found["en2"]["difference"]["below"]["stderr"] is None


def test_networks_that_are_not_there_are_left_out_and_named(quick_runs, tmp_path):
    for name in ("resnet20-fast-seed0", "en1_resnet20-fast-seed0"):
        shutil.copytree(quick_runs / name, tmp_path / name)
    data = sparsity.compute(runs=tmp_path)
    assert data["network"].tolist() == ["adversarial", "en1"]
    lines = sparsity.table(sparsity.findings(data)).splitlines()
    assert lines[-1] == "No run on the same images with as many epochs: natural, noiseless, en2, en5."
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_a_network_of_other_data_is_left_out_and_a_damaged_run_is_an_error(quick_runs, tmp_path):
    for name in ("resnet20-fast-seed0", "en1_resnet20-fast-seed0", "en2_resnet20-fast-seed0"):
        shutil.copytree(quick_runs / name, tmp_path / name)
    path = tmp_path / "en1_resnet20-fast-seed0" / "config.json"
    config = _enresnet.read_record(path)
    config["data"]["digest"] = "other"
    path.write_text(_enresnet.sealed(config))
    assert list(most_of(tmp_path, sparsity.REQUIRED, sparsity.OPTIONAL)) == ["adversarial", "en2"]
    path.write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        most_of(tmp_path, sparsity.REQUIRED, sparsity.OPTIONAL)


def test_without_the_adversarial_network_the_command_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"\(adversarial\): python -m nets.train cpu/resnet20"):
        sparsity.compute(runs=tmp_path)


def test_table_has_the_papers_numbers_and_ours_in_per_cent(data):
    found = sparsity.findings(data)
    natural, adversarial = (sparsity.table(found).splitlines()[row] for row in (2, 3))
    assert "| 8.66 |" in natural
    assert "| 3.64 |" in adversarial
    below = found["networks"]["natural"]["below"]
    assert f"| {100 * below['mean']:.2f} ± {100 * below['stderr']:.2f} |" in natural
    assert natural.startswith("| ResNet-20, natural training | 2 |")


def test_command_prints_the_table_and_replot_draws_the_same_picture(quick_runs, check_command):
    record, printed, picture = check_command(sparsity, "--quick", "--runs", quick_runs)
    assert printed.startswith("| network | n |")
    assert set(record["networks"]) == {"natural", "adversarial", "en1", "en2"}
    assert 15_000 < len(picture) < 200_000
