"""Figures 8 and 9: one layer and one scale for both, weights where the picture shows them, files, errors."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from figures import _io as common
from figures import _kernels, _style, fig8, fig9
from figures._runs import find
from nets import sparsity

LAYER = "stages.2.1.branch.2"
BOTH = pytest.mark.parametrize(("name", "figure"), [("fig8", fig8), ("fig9", fig9)])


def run(figure, *arguments):
    figure.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("seed", range(4))
def test_both_figures_show_one_layer_on_one_scale(seed, quick_runs):
    plain, noisy = (figure.compute(seed=seed, runs=quick_runs) for figure in (fig8, fig9))
    assert str(plain["layer"]) == str(noisy["layer"])
    assert plain["scale"] == noisy["scale"]
    assert (str(plain["model"]), str(noisy["model"])) == ("resnet20", "en2_resnet20")
    both = np.abs(np.stack([plain["weight"], noisy["weight"]]))
    # 0.5 % of the weights of both are outside.
    assert np.mean(both > plain["scale"]) == pytest.approx(0.005, abs=1 / both.size)


def test_layers_to_choose_from_are_all_of_that_shape_and_each_is_chosen(quick_runs):
    data = fig8.compute(runs=quick_runs)
    # Two convolutions a block in the third stage's three blocks, of which the first begins with 32 channels.
    assert len(data["layers"]) == 5
    layers = data["layers"].tolist()
    # A layer is missed by 100 draws with probability 5 * 0.8**100 = 1e-9.
    assert {_kernels.choose(layers, seed) for seed in range(100)} == set(layers)
    assert _kernels.choose(layers, 3) == _kernels.choose(layers, 3)


def test_weights_are_those_of_the_layer_and_of_the_first_member(quick_runs):
    data = fig9.compute(runs=quick_runs, layer=LAYER)
    model = find(quick_runs, _kernels.WANTED)["ensemble"][0].load()
    weight = dict(model.named_parameters())[f"net.members.0.{LAYER}.weight"].detach().numpy()
    assert (data["weight"] == weight).all()
    found = fig9.findings(data)
    assert found["numbers"] == sparsity.numbers(weight)._asdict()
    assert (found["layer"], found["n_members"]) == (LAYER, 2)


def test_colours_of_the_file_tell_the_weights(quick_runs, tmp_path):
    data = fig8.compute(runs=quick_runs, layer=LAYER)
    _style.use_style()
    common.save_picture(fig8.plot(data), tmp_path / "fig8.png")
    assert (tmp_path / "fig8.png").stat().st_size < 200_000
    pixels = np.asarray(Image.open(tmp_path / "fig8.png").convert("RGB")).astype(int)
    side, left, bottom = _kernels.SIDE, _kernels.LEFT, _kernels.BOTTOM
    top = pixels.shape[0] - bottom - 192 * side
    # The middle of each square, inside the frame.
    here = pixels[top + side // 2 : top + 192 * side : side, left + side // 2 : left + 192 * side : side]
    whole = data["weight"].transpose(0, 2, 1, 3).reshape(192, 192) / data["scale"]
    red, blue = here[..., 0], here[..., 2]
    inner = np.s_[1:-1, 1:-1]
    # Of a map from blue by white to red: red exceeds blue where the weight is positive, beyond the middle colour.
    assert ((red > blue) == (whole > 0))[inner][np.abs(whole[inner]) > 2 / _kernels.N_COLOURS].all()
    strong = np.abs(whole[inner])
    gap = np.abs(red - blue)[inner]
    # The ends of the map are darker, not more colourful: up to a half of the scale the gap grows with the weight.
    assert gap[strong < 0.05].max() < gap[(strong > 0.3) & (strong < 0.5)].min()


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(quick_runs, tmp_path, refused):
    line = refused(fig8.main, "--runs", quick_runs, "--layer", "stem", "--out", tmp_path)
    assert f"--layer must be one of stages.2.0.2.branch.3, {LAYER}" in line
    line = refused(fig8.main, "--layer")
    assert line == "python -m figures.fig8: error: argument --layer: expected one argument\n"


def test_help_tells_of_the_layer(capsys):
    with pytest.raises(SystemExit):
        run(fig8, "--help")
    assert "--layer NAME" in capsys.readouterr().out


@BOTH
def test_command_writes_files_and_replot_draws_the_same_picture(
    name, figure, quick_runs, tmp_path, capsys, check_command
):
    record, _, picture = check_command(figure, "--quick", "--runs", quick_runs, "--layer", LAYER)
    assert record["layer"] == LAYER
    assert len(picture) < 200_000
    with pytest.raises(SystemExit):
        run(figure, "--replot", "--layer", "stages.2.2.branch.2", "--out", tmp_path / "out")
    assert "--layer needs other data: run without --replot" in capsys.readouterr().err
