"""The figure of the effective diffusion: sigma against hooks on the blocks, its scaling, the files, the errors."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bridge import NoisyResidual, noise_from, noise_off
from figures import _runs, _style, effective_diffusion
from figures._runs import Wanted
from nets import models

COEF = 0.3
QUANTITIES = ("sigma", "relative_noise", "relative_drift", "peclet", "drift", "state", "jump_sigma")
TEXTS = ("training", "model", "run", "run_model")
# One letter for each axis; arrays with a letter in common have that length in common. Axis q: mean, 10 %, 90 %.
SHAPES = {
    "training": "", "model": "m", "n_networks": "m", "n_untrained": "", "n_images": "", "coef": "m", "run": "r",
    "run_model": "r", "time": "s", "stage": "s", "jump_time": "j", "network_model": "k", "network_sigma": "ks",
} | {
    f"{who}_{key}": axes + ("j" if key == "jump_sigma" else "s") + "q"
    for who, axes in (("trained", "m"), ("untrained", "")) for key in QUANTITIES
}  # fmt: skip


@pytest.fixture(scope="module")
def data(quick_runs):
    return effective_diffusion.compute(quick=True, seed=0, runs=quick_runs)


def made_up(**changed):
    """Data of the right shapes, of which the answers are known."""
    sizes = {"m": 1, "r": 1, "k": 2, "s": 4, "j": 1, "q": 3}
    made = {key: np.full([sizes[axis] for axis in axes], 2.0) for key, axes in SHAPES.items() if key not in TEXTS}
    return made | {
        "training": np.array("made up"), "model": np.array(["en1_resnet20"]), "run": np.array(["run"]),
        "run_model": np.array(["en1_resnet20"]), "time": np.arange(4) / 4, "stage": np.array([0.0, 0, 1, 1]),
        "jump_time": np.array([0.5]), "network_model": np.zeros(2), "network_sigma": np.array([[1.0] * 4, [3.0] * 4]),
        "untrained_sigma": np.full((4, 3), 4.0), "trained_peclet": np.array([[[0.5] * 3] + [[2.0] * 3] * 3]),
    } | changed  # fmt: skip


def member(std_over="batch"):
    return models.build("en1_resnet20", coef=COEF, std_over=std_over, seed=0).eval().net.members[0]


@pytest.mark.parametrize("std_over", ["batch", "sample"])
def test_sigma_and_drift_are_what_hooks_on_the_blocks_see(std_over):
    net, x = member(std_over), torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    seen = {"sigma": [], "drift": [], "state": [], "jump_sigma": []}

    def hook(block, arguments, _):
        # a * s * sqrt(L), L = 7 of ResNet-20's nine blocks: two are stage changes.
        with noise_off(block):
            y = torch.add(block.shortcut(arguments[0]), block.branch(arguments[0]))
        std = y.std() if std_over == "batch" else y.flatten(1).std(1)
        a_s = (COEF * std * math.sqrt(7)).expand(len(y))
        if not block.is_time_step:
            seen["jump_sigma"].append(a_s)
            return
        seen["sigma"].append(a_s)
        for key, tensor in (("drift", y - arguments[0]), ("state", arguments[0])):
            seen[key].append(tensor.flatten(1).norm(dim=1) / math.sqrt(tensor[0].numel()))

    hooks = [module.register_forward_hook(hook) for module in net.modules() if isinstance(module, NoisyResidual)]
    with torch.no_grad(), noise_from(net, torch.Generator().manual_seed(5)):
        net(x)
    for handle in hooks:
        handle.remove()
    found = effective_diffusion.walk(net, x, generator=torch.Generator().manual_seed(5))
    assert [len(seen[key]) for key in seen] == [7, 7, 7, 2]
    for key, rows in seen.items():
        # Single precision, sums over at most 25 000 numbers, and y + a s - y of a stage change: 1e-7 y / (a s).
        assert found[key] == pytest.approx(torch.stack(rows).double().numpy(), rel=1e-4), key
    assert found["time"] == pytest.approx(np.arange(7) / 7)
    assert found["jump_time"] == pytest.approx([3 / 7, 5 / 7])
    assert found["stage"].tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_with_a_vanishing_coef_sigma_is_in_proportion_to_it():
    # The path changes with the noise, by a part of about coef: so small that the ratio is 2 to 1e-3.
    net, x = member(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for coef in (1e-5, 2e-5):
        for module in net.modules():
            if isinstance(module, NoisyResidual):
                module.coef = coef
        found.append(effective_diffusion.walk(net, x, generator=torch.Generator().manual_seed(5)))
    assert found[1]["sigma"] / found[0]["sigma"] == pytest.approx(np.full((7, 4), 2.0), rel=1e-3)
    assert found[1]["drift"] == pytest.approx(found[0]["drift"], rel=1e-3)


def test_a_network_without_noise_has_no_diffusion():
    net = models.build("resnet20", seed=0).eval().net
    with pytest.raises(ValueError, match="every time step must draw noise"):
        effective_diffusion.walk(net, torch.rand(2, 3, 8, 8))


def test_quick_run_is_sound_and_its_numbers_fit_together(data, quick_runs):
    assert data["model"].tolist() == ["en1_resnet20", "en2_resnet20"]
    # A run each: one member, two members.
    assert data["n_networks"].tolist() == [1, 2]
    assert data["network_model"].tolist() == [0, 1, 1]
    # Noise scaled over the batch: one sigma for all images, so that the mean over networks is all there is.
    for row in range(2):
        own = data["network_sigma"][data["network_model"] == row]
        assert data["trained_sigma"][row, :, 0] == pytest.approx(own.mean(0))
        assert (data["trained_sigma"][row, :, 2] <= own.max(0) * (1 + 1e-6)).all()
    # What varies over images does.
    assert (data["trained_relative_noise"][..., 1] < data["trained_relative_noise"][..., 2]).all()
    # The mean of ratios of positive numbers is at least the ratio of the means of the two kinds only without spread;
    # for the only network of the first model sigma is a constant: Pe's mean is exactly the mean drift over it.
    noise = data["trained_sigma"][0, :, 0] / math.sqrt(7)
    assert data["trained_peclet"][0, :, 0] == pytest.approx(data["trained_drift"][0, :, 0] / noise)
    # The untrained networks are others.
    assert (abs(data["trained_sigma"][0, :, 0] / data["untrained_sigma"][:, 0] - 1) > 1e-3).all()


def test_the_adapted_network_normalises_its_batch():
    model = models.build("en1_resnet20", seed=0)
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    effective_diffusion._adapt(model, x, torch.Generator().manual_seed(2))
    first = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    with torch.no_grad():
        out = first(model.net.members[0].stem((x - model.mean) / model.std))
    assert not model.training
    # The stem draws nothing: its channels have mean 0 and variance n / (n + eps / var), eps = 1e-5.
    assert out.mean((0, 2, 3)).abs().max() < 1e-4
    assert out.var((0, 2, 3)).sub(1).abs().max() < 1e-2


def test_findings_of_made_up_data():
    found = effective_diffusion.findings(made_up())
    told = found["models"]["en1_resnet20"]
    assert told["sigma_over_untrained"] == [0.5] * 4
    assert told["sigma_range_over_networks"] == [[1.0] * 4, [3.0] * 4]
    assert told["steps_led_by_noise"] == [0]
    assert found["untrained"]["sigma"]["q90"] == [4.0] * 4


def test_command_writes_files_and_replot_draws_the_same_picture(data, tmp_path, check_command):
    record, _, picture = check_command(effective_diffusion, "--quick", "--runs", tmp_path, data=data)
    assert record["n_steps"] == 7
    assert 20_000 < len(picture) < 200_000


def test_made_up_data_are_sound_and_drawn():
    _style.use_style()
    assert len(effective_diffusion.plot(made_up()).axes) == 4


def test_without_runs_the_command_that_makes_them_is_named(tmp_path, refused):
    line = refused(effective_diffusion.main, "--runs", tmp_path, "--out", tmp_path)
    assert "python -m nets.train cpu/en1_resnet20" in line


def test_the_walk_goes_through_the_trained_member_itself(quick_runs):
    trained = _runs.find(quick_runs, {"one": Wanted(("en1_resnet20",))})["one"][0]
    model = trained.load()
    x, _ = _runs.test_images(_runs.load_data(trained), effective_diffusion.N_QUICK)
    found = effective_diffusion.walk(model.net.members[0], (x - model.mean) / model.std)
    # The state after the stem, which draws nothing.
    with torch.no_grad():
        start = model.net.members[0].stem((x - model.mean) / model.std)
    assert found["state"][0] == pytest.approx(start.flatten(1).square().mean(1).sqrt().double().numpy(), rel=1e-5)


def test_the_spread_is_the_mean_and_the_tenths_of_all_images_and_networks():
    found = [{"sigma": np.arange(51.0)[None]}, {"sigma": np.arange(51.0, 101)[None]}]
    assert effective_diffusion._spread(found, "sigma") == pytest.approx(np.array([[50.0, 10, 90]]))
