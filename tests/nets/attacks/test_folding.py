"""Batch normalisation folded into its neighbours: the same model, and the model put back."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import generator, images
from attack_nets import residual_net, same, state
from torch import nn

from nets.attacks import attacked, ifgsm
from nets.attacks._folding import folded


def randomised(sequence, dtype=torch.float64):
    """Frozen, in evaluation mode, with statistics, scales (some negative) and shifts that all matter."""
    for norm in sequence.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            norm.running_mean.normal_(generator=generator(1))
            norm.running_var.uniform_(0.5, 2, generator=generator(2))
            if norm.affine:
                norm.weight.data.normal_(generator=generator(3))
                norm.bias.data.normal_(generator=generator(4))
    return sequence.eval().requires_grad_(False).to(dtype)


def passes(model, x):
    """Result and gradient of the sum of its squares."""
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    return y.detach(), torch.autograd.grad(y.square().sum(), leaf)[0]


SEQUENCES = {
    "conv-bn": lambda: (nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)),
    "conv-bias-bn-relu": lambda: (nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
    "bn-relu-conv": lambda: (nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Conv2d(2, 4, 3, dilation=2)),
    "no affine": lambda: (nn.BatchNorm2d(2, affine=False), nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2), nn.BatchNorm2d(2)),
    "bn-relu twice": lambda: (nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2), nn.ReLU()),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folding_changes_neither_results_nor_gradients(name, dtype):
    model = randomised(nn.Sequential(*SEQUENCES[name]()), dtype)
    x = torch.randn(3, 2, 9, 9, generator=generator(5), dtype=dtype)
    plain = passes(model, x)
    with folded(model):
        assert "forward" in vars(model)
        found = passes(model, x)
    assert "forward" not in vars(model)
    # Sums of at most 36 products, twice, and a square.
    for one, other in zip(found, plain, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=200 * torch.finfo(dtype).eps * plain[1].abs().max())


@pytest.mark.parametrize(("channels", "is_folded"), [(4, True), (200, False)])
def test_for_few_passes_only_sequences_of_small_layers_are_folded(channels, is_folded):
    last = nn.Conv2d(4, channels, 9), nn.Conv2d(channels, channels, 2)
    norm = nn.BatchNorm2d(channels)
    model = randomised(
        nn.ModuleList([nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)), *last, norm]), torch.float32
    )
    with folded(model, small_only=True):
        assert ("forward" in vars(model[0])) == is_folded
        assert "forward" not in vars(norm)
    # 8 images and two steps, which are prepared in this way.
    x, _ = images(8, seed=1)
    net = residual_net().requires_grad_(False)
    with attacked(net, fold="small"):
        few = passes(net, x)
    for one, other in zip(few, passes(net, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_the_networks_of_the_paper_fold_all_their_normalisations():
    model = residual_net().requires_grad_(False)
    x, _ = images(4, seed=1)
    plain = passes(model, x)
    with folded(model):
        # Through `Sequential` they would be called as modules.
        modules = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        norms = {id(m): m.forward for m in modules}
        for module in modules:
            module.forward = None
        found = passes(model, x)
        for module in modules:
            del module.forward
    assert len(norms) == 7
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * max(1, other.abs().max()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m[1].train(),
        lambda m: m[1].weight.requires_grad_(),
        lambda m: m[0].weight.requires_grad_(),
        lambda m: m[0].register_forward_hook(lambda *_: None),
        lambda m: m[1].register_forward_pre_hook(lambda *_: None),
        lambda m: m.__setitem__(1, nn.BatchNorm2d(4, track_running_stats=False).eval().requires_grad_(False)),
        lambda m: m.__setitem__(0, nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular").requires_grad_(False)),
        lambda m: m.bfloat16(),
    ],
    ids=["training", "norm learns", "conv learns", "hook", "pre-hook", "no statistics", "circular", "bfloat16"],
)
def test_what_cannot_be_folded_is_left_alone(spoil):
    model = randomised(nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)), torch.float32)
    spoil(model)
    before = state(model)
    with folded(model):
        # A normalisation alone may still become an affine map.
        assert "forward" not in vars(model)
        assert "forward" not in vars(model[0])
    assert same(state(model), before)


def test_a_hook_still_sees_its_module():
    model = randomised(nn.Sequential(*SEQUENCES["bn-relu-conv"]()))
    seen = []
    model[1].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    with folded(model):
        model(torch.zeros(1, 2, 9, 9, dtype=torch.float64))
    assert len(seen) == 1


def test_a_subclass_keeps_its_own_forward():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    model = randomised(Doubled(*SEQUENCES["conv-bn"]()))
    x = torch.randn(3, 2, 9, 9, generator=generator(6), dtype=torch.float64)
    plain = model(x)
    with folded(model):
        assert torch.equal(model(x), plain)


def test_the_parts_of_a_sequence_can_still_be_called_alone():
    model = randomised(nn.Sequential(*SEQUENCES["bn-relu-conv"]()))
    x = torch.randn(3, 2, 9, 9, generator=generator(7), dtype=torch.float64)
    plain = model[0](x)
    with folded(model):
        assert torch.equal(model[0](x), plain)


def test_the_model_is_put_back_after_an_exception():
    model = residual_net().requires_grad_(False)
    before = state(model)
    with pytest.raises(ArithmeticError), folded(model):
        raise ArithmeticError
    assert same(state(model), before)


def test_a_folded_model_within_a_folded_model():
    model = residual_net()
    x, y = images(3, seed=2)
    before = state(model)
    expected = ifgsm(model, x, y, n_iter=2)
    with attacked(model):
        assert torch.equal(ifgsm(model, x, y, n_iter=2), expected)
    assert same(state(model), before)


def test_weights_that_change_between_two_attacks_are_seen():
    model = residual_net()
    x, y = images(3, seed=3)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data.mul_(-1)
    ifgsm(model, x, y, n_iter=1)
    model.load_state_dict(other.state_dict())
    assert torch.equal(ifgsm(model, x, y, n_iter=1), ifgsm(other, x, y, n_iter=1))
