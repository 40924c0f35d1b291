"""Network and equation: agreement where both are known, orders, the equal parts of the picture, the command."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import bridge
import pde
from figures import _style, way_back

SHIFT, SIGMA = 0.3, 0.2


class Wave(torch.nn.Module):
    """cos(2 pi x), of the first coordinate."""

    def forward(self, x):
        return torch.cos(2 * torch.pi * x[:, 0])


class Constant(torch.nn.Module):
    """The velocity (SHIFT, 0)."""

    def forward(self, x):
        return torch.tensor([SHIFT, 0.0], dtype=x.dtype).expand(len(x), 2)


@pytest.fixture(scope="module")
def shifted():
    """What is found for a network whose steps are exact: a constant velocity."""
    options = {"dt": 0.5, "coef": SIGMA, "scale": "additive", "noise": "gaussian"}
    net = bridge.ResidualNetwork([bridge.NoisyResidual(Constant(), **options) for _ in range(2)], Wave()).double()
    return way_back.compare(net, 12, 1024, (1, 2), seed=3)


def test_network_of_a_constant_velocity_is_its_equation(shifted):
    x = pde.grid.points(12)[..., 0]
    exact = np.exp(-2 * (np.pi * SIGMA) ** 2) * np.cos(2 * np.pi * (x + SHIFT))
    # Layers sampled to 1e-4, the solution and the mean field to 1e-4 and 1e-3 of max |f|.
    assert shifted["u"] == pytest.approx(exact, abs=5e-4)
    assert (shifted["gap"] < 3e-3).all()
    # 144 scores of 1024 independent draws each: one false alarm in a thousand runs by Bonferroni at 4.5.
    for name in ("trained", "finest"):
        assert np.abs(shifted[f"z_{name}"]).max() < 4.5
        # Draws are shared by no two points: the mean square of 144 scores is 1 to within 5 sqrt(2 / 144).
        assert abs(np.mean(shifted[f"z_{name}"] ** 2) - 1) < 0.6
    # The mean over n draws has the variance of one draw over n.
    variance = np.mean((1 + np.exp(-8 * (np.pi * SIGMA) ** 2) * np.cos(4 * np.pi * (x + SHIFT))) / 2 - exact**2)
    assert float(shifted["stderr"]) * np.abs(shifted["u"]).max() == pytest.approx(np.sqrt(variance / 1024), rel=0.05)


def made_up():
    layers, draws = np.array([4.0, 8.0, 16.0]), np.array([16.0, 64.0, 256.0])
    z = np.zeros((10, 10))
    z[0, :3] = 5.0
    u = np.ones((10, 10))
    u[:5] = -1
    return {
        "network": u, "u": u, "z_trained": z, "z_finest": 0 * z, "layers": layers, "gap": 0.8 / layers,
        "draws": draws, "error": 2 / np.sqrt(draws), "stderr": np.array(0.1), "other_class": np.array(0.25),
    }  # fmt: skip


def test_findings_of_made_up_data():
    found = way_back.findings(made_up())
    assert found["order_in_layers"]["order"] == pytest.approx(1)
    assert found["order_in_draws"]["order"] == pytest.approx(0.5)
    assert found["lines"] == pytest.approx({"layers": 0.8, "draws": 2.0})
    assert found["share_beyond_3_standard_errors"] == pytest.approx({"trained": 0.03, "finest": 0.0})
    assert found["gap_of_the_trained_network"] == pytest.approx(0.2)


def test_picture_shows_the_arrays():
    _style.use_style()
    data = made_up()
    axes = [one for one in way_back.plot(data).axes if one.get_title(loc="left")]
    assert [one.get_title(loc="left")[:3] for one in axes] == [f"({letter})" for letter in "abcdef"]
    for one, x, y in ((axes[4], "layers", "gap"), (axes[5], "draws", "error")):
        (line,) = [line for line in one.lines if line.get_marker() == "o"]
        assert (line.get_xdata() == data[x]).all()
        assert (line.get_ydata() == data[y]).all()


def test_quick_run_converges_to_the_equation(tmp_path):
    way_back.main(["--quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "way_back.json").read_text())
    # Three networks of finite steps: the slope is that of the first order up to the next term.
    assert found["order_in_layers"]["order"] == pytest.approx(1, abs=0.25)
    assert found["gap_of_the_finest_network"] < 0.5 * found["gap_of_the_trained_network"]
    shares = found["share_beyond_3_standard_errors"]
    assert shares["finest"] < shares["trained"]
