"""Figure 3: the block against its formula, curves against closed forms, states against the network's own."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

import nets
import pde
from bridge import NoisyResidual, ResNetSDE, noise_off
from figures import _architecture as _network
from figures import fig3
from nets.train import train
from nets.training import recipe


@pytest.fixture(scope="module")
def data(runs):
    return fig3.compute(quick=True, seed=0, runs=runs)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory with one finished run, of a noisy network."""
    root = tmp_path_factory.mktemp("runs")
    small = {"epochs": 1, "n_train": 64, "n_validation": 32, "batch_size": 32}
    made = replace(recipe("cpu/digits"), model="en1_resnet20", method="fast", **small)
    train("cpu/digits", made, out=root / "one", seed=0, device="cpu", progress=False)
    return root


def network(name, **options):
    """A network with statistics and scales as training leaves them, in double precision."""
    model = nets.build(name, seed=0, **options).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var, module.bias, module.running_mean):
                    values.copy_(torch.rand(values.shape, generator=generator, dtype=torch.float64) + 0.5)
    return model


def images(n=6):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_solution_is_constant_along_the_curves_and_the_network_follows_them_with_order_one(data):
    found = fig3.findings(data)
    # The solver's tolerance, 1e-8, and that of the curves, 1e-9 times slopes below 100, are smaller than this.
    assert found["largest_deviation_along_curves"] < 10 * found["spectral_error_estimate"] + 1e-6
    # It could have been seen: on the fixed starts u changes, and by far more.
    assert np.ptp(data["along"][0]) > 0.5
    moved = np.abs(data["curve"][-1] - data["curve"][0]).max()
    assert 0.1 < moved < 1
    # Euler's error, C dt (1 + r dt) with dt = 1/16 ... 1/256, in the sup norm: 0.1 allows |r| = 3.
    assert abs(found["network"]["order"]["order"] - 1) < 0.1
    np.testing.assert_allclose(data["network_state"][0], data["curve"][0], rtol=0, atol=0)
    assert len(data["network_state"]) == data["n_layers"][0] + 1


def test_curves_of_a_constant_velocity_and_of_a_shear_are_closed_forms():
    starts, time = np.array([[0.1, 0.2], [0.9, 0.4]]), np.linspace(0, 0.7, 5)
    constant = pde.problems.constant_velocity((0.7, -0.4)).velocity
    exact = starts + time[:, None, None] * np.array([0.7, -0.4])
    np.testing.assert_allclose(fig3._follow(constant, starts, time), exact, rtol=0, atol=1e-9)
    x = np.arange(8) / 8
    shear = pde.PeriodicField(np.stack([np.zeros((8, 8)), np.sin(2 * np.pi * x)[:, None] * np.ones(8)]))
    exact = starts + time[:, None, None] * np.stack([0 * starts[:, 0], np.sin(2 * np.pi * starts[:, 0])], axis=-1)
    np.testing.assert_allclose(fig3._follow(shear, starts, time), exact, rtol=0, atol=1e-9)


def test_boxes_are_the_papers_formula():
    block = network("resnet20").net.stages[2][1]
    x = torch.rand(2, 64, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    boxes = [box for box in _network.inside(block, block, x) if box.role == "branch"]
    assert [box.label for box in boxes] == ["batch norm", "ReLU", "convolution 3×3"] * 2
    layers = list(block.branch)
    y = x
    for norm, convolution in ((layers[0], layers[2]), (layers[3], layers[5])):
        y = (y - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
        y = (y * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        y = functional.conv2d(y, convolution.weight, padding=1)
    torch.testing.assert_close(block(x), x + y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "noisy"), [("resnet20", False), ("en1_resnet20", True)])
def test_states_are_those_of_the_network_and_their_projection_keeps_the_largest_part(name, noisy):
    model, x = network(name), images()
    hidden = fig3._hidden(model, x, np.arange(6) % 2, ["one", "other"])
    net = _network.members(model.net)[0][0]
    blocks = [block for block in net.stages[2] if isinstance(block, NoisyResidual)]
    assert [block.is_time_step for block in blocks] == [True, True]
    own = fig3._states(ResNetSDE(blocks).refined(1), fig3._input_of(blocks[0], model, x))
    # What the stage hands on is what the head is given.
    np.testing.assert_allclose(own[-1], fig3._input_of(net.head[0], model, x).flatten(1).numpy(), rtol=1e-12)
    flat = own.reshape(18, -1) - own.reshape(18, -1).mean(axis=0)
    projected = hidden["block_state"].reshape(18, 2)
    np.testing.assert_allclose((projected**2).sum(axis=0) / (flat**2).sum(), hidden["explained"], rtol=1e-10)
    # No direction has more of it than the first: Rayleigh's quotient, at the eigenvalue itself.
    eigenvalues = np.linalg.eigvalsh(flat @ flat.T)[::-1]
    np.testing.assert_allclose(hidden["explained"], eigenvalues[:2] / eigenvalues.sum(), rtol=1e-8)
    # The lines start where the blocks do, and the noise is drawn in the block alone.
    np.testing.assert_allclose(hidden["state"][0], hidden["block_state"][0], rtol=0, atol=1e-12)
    assert len(hidden["state"]) == 2 * fig3.N_SUBSTEPS + 1
    assert ("noise" in hidden["block_role"]) == noisy
    assert all(block.is_noisy == noisy for block in blocks)


def test_distance_to_the_equation_is_that_of_finer_steps():
    model, x = network("resnet20"), images()
    hidden = fig3._hidden(model, x, np.zeros(6, dtype=int), ["one"])
    blocks = list(model.net.stages[2])[1:]
    with torch.no_grad(), noise_off(model):
        start = fig3._input_of(blocks[0], model, x)
        ends = [start, start]
        for block in blocks:
            ends[0] = block(ends[0])
            for _ in range(8):
                ends[1] = ends[1] + block.branch(ends[1]) / 8
    apart = (ends[1] - ends[0]).flatten(1).norm(dim=1) / (ends[0] - start).flatten(1).norm(dim=1)
    np.testing.assert_allclose(hidden["apart"], apart.numpy(), rtol=1e-10)


def test_a_directory_that_was_asked_for_must_hold_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"lacks finished runs for this figure \(network\)"):
        fig3._pictured(tmp_path, None, True)


def test_command_shows_a_run_and_replot_draws_the_same_picture(runs, check_command):
    record, _, _ = check_command(fig3, "--quick", "--runs", runs)
    assert record["stage"]["model"] == "en1_resnet20"
    assert record["stage"]["source"].startswith("fast adversarial training, 1 epoch, digits; ")
