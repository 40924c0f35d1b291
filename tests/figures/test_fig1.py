"""Figures 1 and 2: boxes that are the modules of the network, whichever it is, with all of its parameters."""

import itertools

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import nets
from bridge import FeynmanKacMean, NoisyResidual
from figures import _architecture as _network
from figures import _style, fig1, fig2
from nets.models import architecture

BASES = ["resnet20", "resnet44", "wrn14_2"]


def n_parameters(name):
    return sum(parameter.numel() for parameter in nets.build(name).parameters())


@pytest.mark.parametrize("name", BASES)
def test_counts_of_the_mappings_and_of_the_rest_sum_to_the_parameters(name):
    data = fig1.compute(quick=True, model=name)
    mappings = _network.from_arrays(data, "mapping_")
    inside = sum(box.n_repeats * box.n_parameters for box in mappings)
    assert inside + data["rest_n_parameters"] == data["total_n_parameters"] == n_parameters(name)
    sizes = architecture(name)
    # A stage begins with a change of the state space, but for the first one of the width of the stem.
    n_changes = 3 - (sizes.widths[0] == 16)
    assert sum(box.n_repeats for box in mappings if box.role == "change") == n_changes
    assert sum(box.n_repeats for box in mappings if box.role == "step") == 3 * sizes.n_blocks - n_changes


def test_block_is_drawn_in_the_order_of_the_formula_and_only_the_noisy_one_has_noise():
    data = fig1.compute(model="wrn14_2")
    plain, noisy = (_network.from_arrays(data, kind) for kind in ("plain_", "noisy_"))
    # (2.2): w^C2 * relu(w^B2 - w^C1 * relu(w^B1 - x)).
    layers = ["batch norm", "ReLU", "convolution 3×3"] * 2
    assert [box.label for box in plain if box.role == "branch"] == layers
    assert [box.role for box in plain] == ["branch"] * 6 + ["shortcut", "sum"]
    assert {box.output_shape for box in plain} == {"32×32×32"}
    assert noisy[:-1] == plain
    assert (noisy[-1].role, noisy[-1].noise, noisy[-1].coef, noisy[-1].n_parameters) == ("noise", "gaussian", 0.1, 0)
    block = nets.build("wrn14_2").net.stages[0][1]
    assert sum(box.n_parameters for box in plain) == sum(p.numel() for p in block.parameters())


@pytest.mark.parametrize("name", ["resnet20", "en2_resnet20", "en3_wrn14_2", "en1_resnet20+en2_resnet44"])
def test_architecture_has_all_members_and_all_parameters(name):
    data = fig2.compute(quick=True, model=name)
    boxes = _network.from_arrays(data)
    assert sum(box.n_repeats * box.n_parameters for box in boxes) == data["total_n_parameters"] == n_parameters(name)
    bases = [term for terms in name.split("+") for term in [terms.split("_", 1)[-1] if terms[:2] == "en" else terms]]
    counts = [int(term[2]) if term[:2] == "en" else 1 for term in name.split("+")]
    members = [base for base, count in zip(bases, counts, strict=True) for _ in range(count)]
    assert len(data["weight"]) == len(members)
    assert data["weight"].sum() == pytest.approx(1)
    for k, base in enumerate(members):
        own = [box for box, member in zip(boxes, data["member"], strict=True) if member == k]
        assert sum(box.n_repeats for box in own if box.role != "layer") == 3 * architecture(base).n_blocks
        # Stem; batch norm and ReLU before a change; batch norm, ReLU, pool, flatten, linear.
        n_changes = sum(box.role == "change" for box in own)
        assert sum(box.role == "layer" for box in own) == 1 + 2 * n_changes + 5
        # Between two changes the blocks are one row.
        assert sum(box.role == "step" for box in own) == 3
        # One goes in where the last one came out.
        assert all(a.output_shape == b.input_shape for a, b in itertools.pairwise(own))
        assert (own[0].input_shape, own[-1].output_shape) == ("3×32×32", "10")
        assert {box.noise for box in own if box.role != "layer"} == {"gaussian" if "en" in name[:2] else ""}
        assert not any(box.noise for box in own if box.role == "layer")
        assert data["member_n_parameters"][k] == n_parameters(base)


def test_order_is_that_of_the_run_and_not_of_the_construction():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Linear(5, 2), nn.Linear(4, 5)

        def forward(self, x):
            return self.late(self.early(self.early(x)[:, :4]))

    model = Crossed()
    found = [box for _, box in _network.trace(model, _network.parts(model), torch.zeros(1, 4))]
    assert [(box.input_shape, box.output_shape) for box in found] == [("4", "5"), ("4", "5"), ("5", "2")]
    assert [box.n_repeats for box in _network.grouped(found)] == [2, 1]
    # Hooks are taken off again, and noise is left as it was.
    assert not model.early._forward_hooks


def test_weights_of_a_mean_of_means_are_multiplied():
    inner = FeynmanKacMean([nn.Identity(), nn.Identity()])
    pairs = _network.members(FeynmanKacMean([inner, nn.Identity()], weights=[0.8, 0.2]))
    assert [weight for _, weight in pairs] == pytest.approx([0.4, 0.4, 0.2])


def test_noise_of_another_law_is_named_and_none_is_drawn():
    model = nets.build("en1_resnet20", noise="laplace", coef=0.2, seed=0).eval()
    block = next(module for module in model.modules() if isinstance(module, NoisyResidual))
    before = torch.get_rng_state()
    noise = _network.inside(model, block, torch.zeros(1, 3, 32, 32))[-1]
    assert (noise.noise, noise.coef) == ("laplace", 0.2)
    assert torch.equal(torch.get_rng_state(), before)
    assert block.is_noisy


@pytest.mark.parametrize(("figure", "model"), [(fig1, "resnet32"), (fig2, "resnet20")])
def test_command_writes_files_and_replot_draws_the_same_picture(figure, model, check_command):
    record, _, _ = check_command(figure, "--model", model)
    assert (record["model"], record["n_parameters"]) == (model, n_parameters(model))


@pytest.mark.parametrize(
    ("figure", "model", "message"),
    [
        (fig1, "en2_resnet20", "--model must be one network without noise, such as resnet20, got en2_resnet20"),
        (fig1, "resnet21", "--model must be BASE"),
        (fig2, "en0_resnet20", "--model must be BASE"),
    ],
)
def test_bad_models_end_in_one_line(figure, model, message, tmp_path, refused):
    assert message in refused(figure.main, "--model", model, "--out", tmp_path)


def test_bars_of_colour_say_which_block_is_no_time_step():
    _style.use_style()
    texts = [text.get_text() for text in fig2.plot(fig2.compute(model="en2_resnet20")).axes[0].texts]
    assert texts.count("2 × residual mapping") == 4
    assert texts.count("residual mapping, projected") == 4
    assert "mean of the 2 members' logits, weights 0.5 each" in texts
    # One chip in each of five rows of two columns.
    assert texts.count("noise") == 10


def test_many_members_are_left_out_of_the_picture_and_not_of_the_count():
    data = fig2.compute(model="en5_resnet20")
    texts = [text.get_text() for text in fig2.plot(data).axes[0].texts]
    assert [text[:8] for text in texts if text.startswith("member ")] == ["member 1", "member 2", "member 5"]
    assert "⋯" in texts
    assert "mean of the 5 members' logits, weights 0.2 each" in texts
    assert len(fig2.findings(data)["members"]) == 5
