"""Noise switched on for the evaluation alone: the same as En1's with these weights, of the size that is stated."""

import json
import math
import shutil

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

import nets
from bridge import noise_from, noise_off
from nets import compare, evaluate
from nets.evaluation._controls import inject
from nets.models import ImageClassifier


def generator():
    return torch.Generator().manual_seed(5)


def test_noise_in_the_blocks_of_a_plain_network_makes_it_the_noisy_one_with_its_weights():
    plain, noisy = nets.build("resnet20", seed=0).eval(), nets.build("en1_resnet20", coef=0.2).eval()
    noisy.net.members[0].load_state_dict(plain.net.state_dict())
    x = torch.rand(4, 3, 32, 32, generator=generator())
    without = plain(x)
    inject(plain, "blocks", 0.2)
    with noise_from(plain, generator()):
        first = plain(x)
    with noise_from(noisy, generator()):
        torch.testing.assert_close(first, noisy(x))
    assert not torch.allclose(first, without)
    with noise_off(plain):
        torch.testing.assert_close(plain(x), without)


def test_noise_on_the_input_has_the_stated_standard_deviation():
    """Of N = 2 * 3 * 64**2 numbers the estimated deviation errs by 1 / sqrt(2 N) relatively; five of these: 6e-7."""
    model = inject(ImageClassifier(torch.nn.Flatten(), (0.5,) * 3, (0.2,) * 3), "input", 0.3)
    x = torch.rand(2, 3, 64, 64, generator=generator())
    clean = ((x - 0.5) / 0.2).flatten(1)
    with noise_from(model, generator()):
        noise = model(x) - clean
    assert noise.std().item() == pytest.approx(0.3 * clean.std().item(), rel=5 / math.sqrt(2 * noise.numel()))


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("en1_resnet20", "blocks", "is already noisy"),
        ("en1_resnet20", "input", "is already noisy"),
        ("resnet20", "head", "inject must be"),
    ],
)
def test_noise_where_there_is_some_and_unknown_places_are_refused(name, place, message):
    with pytest.raises(ValueError, match=message):
        inject(nets.build(name, seed=0), place)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="the model is not a network of this package"):
        inject(torch.nn.Flatten(), "blocks")


@pytest.mark.parametrize("command", [["evaluate"], ["compare", "--first", "--second"]])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coef", "0.5"], "--coef must come with --inject"),
        (["--quick", "--preset", "full"], "--quick must stand alone: it is short for --preset=quick"),
    ],
)
def test_options_that_would_be_ignored_are_refused(command, words, message, quick_runs, capsys):
    name, *sides = command
    runs = [str(quick_runs / "resnet20-fast-seed0"), str(quick_runs / "en1_resnet20-fast-seed0")]
    given = [word for pair in zip(sides, runs, strict=False) for word in pair] or runs[:1]
    with pytest.raises(SystemExit) as stop:
        {"evaluate": evaluate, "compare": compare}[name].main([*given, *words])
    assert stop.value.code not in (0, None)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("place", ["blocks", "input"])
def test_the_control_is_evaluated_beside_the_network_and_compared_with_it(place, quick_runs, tmp_path):
    run = shutil.copytree(quick_runs / "resnet20-fast-seed0", tmp_path / "run")
    same = ["--quick", "--device", "cpu", "--attacks", "fgsm"]
    evaluate.main([str(run), *same])
    evaluate.main([str(run), *same, "--inject", place, "--coef", "0.5"])
    plain = json.loads((run / "evaluation.json").read_text())
    noisy = json.loads((run / f"evaluation-{place}-noise.json").read_text())
    assert plain["control"] is None and noisy["control"] == {"inject": place, "coef": 0.5}
    assert not plain["protocol"]["is_noisy"] and noisy["protocol"]["is_noisy"]
    assert plain["run"]["weights"] == noisy["run"]["weights"]
    done = sorted((run / "evaluation").glob("*.safetensors"))
    out = tmp_path / "comparison.json"
    sides = ["--first", str(run), "--second", str(run)]
    compare.main([*sides, *same, "--inject", place, "--coef", "0.5", "--out", str(out)])
    # Nothing is computed anew, and the accuracies are those of the two reports.
    assert sorted((run / "evaluation").glob("*.safetensors")) == done
    rows = {row["attack"]: row for row in json.loads(out.read_text())["rows"]}
    for name in ("natural", "fgsm"):
        (p,) = (row["accuracy"] for row in plain["rows"] if row["name"] == name)
        (q,) = (row["accuracy"] for row in noisy["rows"] if row["name"] == name)
        assert (rows[name]["first"], rows[name]["second"]) == (pytest.approx(p), pytest.approx(q))
