"""The paper's networks: their sizes, and equality with a second implementation layer by layer."""

import copy
import math

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch import nn

import nets
from bridge import FeynmanKacMean, noise_from, noise_off, noisy_blocks
from bridge.noise import standard_noise
from nets import models

# Blocks a stage and factor of the widths: He et al. 2016, 6 n + 2 layers; Zagoruyko & Komodakis 2016, WRN-depth-factor.
SIZES = {
    "resnet20": (3, 1),
    "resnet32": (5, 1),
    "resnet44": (7, 1),
    "resnet56": (9, 1),
    "resnet110": (18, 1),
    "wrn14_2": (2, 2),
    "wrn34_10": (5, 10),
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def counted_by_hand(n_blocks, factor, n_classes, n_channels):
    """Convolutions 9 c c' and c c' (projections), 2 c a batch normalisation, and the linear layer."""
    widths = [16 * factor, 32 * factor, 64 * factor]
    total, width = 9 * n_channels * 16, 16
    for index, new in enumerate(widths):
        for block in range(n_blocks):
            total += 2 * width + 9 * width * new + 2 * new + 9 * new * new
            if block == 0 and (index > 0 or new != width):
                total += width * new
            width = new
    return total + 2 * width + (width + 1) * n_classes


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", SIZES)
@pytest.mark.parametrize(("n_classes", "mean"), [(10, (0.5,) * 3), (100, (0.5,) * 3), (10, (0.5,))])
def test_parameters_are_counted_by_hand(base, n_classes, mean):
    with torch.device("meta"):
        net = models.ResNet(models.architecture(base), n_classes, n_channels=len(mean))
    assert count(net) == counted_by_hand(*SIZES[base], n_classes, len(mean))


@pytest.mark.parametrize(
    ("base", "n_classes", "printed"),
    [
        ("resnet20", 10, "0.27"),  # section 4.1
        ("resnet20", 100, "0.28"),  # Table 4 prints 0.27; 0.2781 with the linear layer of 100 classes
        ("resnet44", 10, "0.66"),
        ("resnet44", 100, "0.67"),  # Table 4 prints 0.66; 0.6670 with it
        ("wrn14_2", 10, "0.69"),  # section 4.3
        ("resnet32", 10, "0.47"),  # He et al. 2016, Table 6: 0.46 of all without the projections
        ("resnet110", 10, "1.73"),  # the same table: 1.7
        ("wrn34_10", 10, "46.16"),  # Madry et al. 2018 and TRADES: 46.2
    ],
)
def test_parameters_are_those_of_the_paper(base, n_classes, printed):
    with torch.device("meta"):
        net = models.ResNet(models.architecture(base), n_classes)
    assert f"{count(net) / 1e6:.2f}" == printed


def test_ensembles_are_multiples_and_sums():
    one = {base: count(nets.build(base)) for base in ("resnet20", "resnet32")}
    for n_members in (1, 2, 5):
        assert count(nets.build(f"en{n_members}_resnet20")) == n_members * one["resnet20"]
    # "0.27 M x 2": section 4.1.
    assert count(nets.build("en1_resnet20 + en1_resnet32")) == sum(one.values())
    assert count(nets.build("en1_resnet20+en1_resnet32", weights="learned")) == sum(one.values()) + 2


def test_number_of_time_steps_and_stage_changes():
    for base, (n_blocks, factor) in SIZES.items():
        with torch.device("meta"):
            blocks = noisy_blocks(models.ResNet(models.architecture(base)))
        assert len(blocks) == 3 * n_blocks
        # Stride 2 twice; a wide network changes its width at the first stage too.
        assert sum(not block.is_time_step for block in blocks) == (2 if factor == 1 else 3)


# --- layer by layer -----------------------------------------------------------------------------------------------


class Straightforward:
    """The network from Figure 3(a) and He et al. 2016 by functions of PyTorch, on the arrays of a state dict.

    F(x) = C2 relu(B2 C1 relu(B1 x)), x + F(x); at a stage change the released code projects h = relu(B1 x): P h + F(x).
    """

    def __init__(self, state, n_blocks, *, training, coef=0.0, noise=None):
        self.state, self.n_blocks, self.training, self.coef, self.noise = state, n_blocks, training, coef, noise
        self.layers = []

    def norm(self, x, name):
        w = {key: self.state[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        if self.training:
            mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        else:
            mean, variance = w["running_mean"], w["running_var"]
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-5)
        return x * w["weight"].view(shape) + w["bias"].view(shape)

    def conv(self, x, name, stride=1):
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def noisy(self, x):
        if self.noise is not None:
            x = x + self.coef * torch.std(x) * self.noise(x)
        self.layers.append(x)
        return x

    def __call__(self, x):
        x = self.conv(x, "stem")
        self.layers.append(x)
        for stage in range(3):
            for block in range(self.n_blocks):
                name, stride = f"stages.{stage}.{block}", 2 if stage and not block else 1
                if f"{name}.2.shortcut.weight" in self.state:
                    h = F.relu(self.norm(x, f"{name}.0"))
                    shortcut, name = self.conv(h, f"{name}.2.shortcut", stride), f"{name}.2.branch"
                    inner = F.relu(self.norm(self.conv(h, f"{name}.0", stride), f"{name}.1"))
                    x = self.noisy(shortcut + self.conv(inner, f"{name}.3"))
                else:
                    name = f"{name}.branch"
                    inner = self.conv(F.relu(self.norm(x, f"{name}.0")), f"{name}.2")
                    x = self.noisy(x + self.conv(F.relu(self.norm(inner, f"{name}.3")), f"{name}.5"))
        x = F.relu(self.norm(x, "head.0")).mean(dim=(2, 3))
        return x @ self.state["head.4.weight"].T + self.state["head.4.bias"]


def as_if_trained(net, seed=5):
    """Statistics and scales of batch normalisation that are not those of a start."""
    generator = torch.Generator().manual_seed(seed)

    def draw(values, low, high):
        values.copy_(torch.rand(values.shape, generator=generator, dtype=values.dtype) * (high - low) + low)

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                draw(module.weight, 0.5, 1.5)
                draw(module.running_var, 0.5, 1.5)
                draw(module.bias, -0.3, 0.3)
                draw(module.running_mean, -0.3, 0.3)
    return net


def small_resnet(base, **options):
    """One of the paper's networks in double precision; the widest a tenth as wide."""
    n_blocks, factor = SIZES[base]
    sizes = models.Architecture(n_blocks, tuple(w * min(factor, 2) for w in (16, 32, 64)))
    assert models.architecture(base).n_blocks == n_blocks
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return as_if_trained(models.ResNet(sizes, 7, **options).double())


def layers_of(net, x):
    """Outputs of the stem and of all blocks, and the logits."""
    outputs = []
    parts = [net.stem, *noisy_blocks(net)]
    handles = [part.register_forward_hook(lambda _, __, out: outputs.append(out.clone())) for part in parts]
    logits = net(x)
    for handle in handles:
        handle.remove()
    return outputs, logits


@pytest.mark.parametrize("base", ["resnet20", "resnet32", "wrn14_2", "wrn34_10"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("noise", [None, "gaussian", "laplace"])
def test_layers_equal_those_of_a_second_implementation(base, training, noise):
    net = small_resnet(base, noise=noise, coef=0.2).train(training)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state, generator = copy.deepcopy(net.state_dict()), torch.Generator()
    # The same numbers again, drawn as the blocks draw them.
    replay = None if noise is None else (lambda y: standard_noise(y, noise, generator))
    second = Straightforward(state, SIZES[base][0], training=training, coef=0.2, noise=replay)
    with torch.no_grad():
        with noise_from(net, generator.manual_seed(9)):
            layers, logits = layers_of(net, x)
        generator.manual_seed(9)
        expected = second(x)
    assert len(layers) == len(second.layers) == 3 * SIZES[base][0] + 1
    for layer, other in zip([*layers, logits], [*second.layers, expected], strict=True):
        # Sums of some hundred terms in two orders, passed on through some thirty layers of slopes of size 1 to 2.
        torch.testing.assert_close(layer, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))


def test_switched_off_noise_is_no_noise():
    noisy, quiet = small_resnet("resnet20", noise="gaussian"), small_resnet("resnet20", noise=None)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with noise_off(noisy):
        assert torch.equal(noisy.eval()(x), quiet.eval()(x))
    assert not torch.equal(noisy(x), quiet(x))


def test_normalisation_is_inside_the_model():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    model = nets.build("resnet20", mean=mean, std=std, seed=0).eval()
    images = torch.rand(2, 3, 32, 32)
    normalised = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.net(normalised), rtol=1e-4, atol=1e-5)
    # CIFAR-10's own are the default.
    default = nets.build("resnet20", seed=0)
    assert default.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    assert default.std.flatten().tolist() == pytest.approx([0.2470, 0.2435, 0.2616])


def test_logits_of_an_ensemble_are_the_mean_of_its_members():
    model = nets.build("en2_resnet20", seed=1).eval()
    x, generator = torch.rand(3, 3, 16, 16), torch.Generator()
    with torch.no_grad(), noise_from(model, generator.manual_seed(2)):
        answer = model(x)
        generator.manual_seed(2)
        members = [member((x - model.mean) / model.std) for member in model.net.members]
    torch.testing.assert_close(answer, sum(members) / 2, rtol=1e-5, atol=1e-6)


def test_weighted_sum_of_ensembles():
    model = nets.build("en1_resnet20+en2_resnet20", coef=0.0, weights=(0.75, 0.25), seed=1).eval()
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        first, second = (term((x - model.mean) / model.std) for term in model.net.members)
        torch.testing.assert_close(model(x), 0.75 * first + 0.25 * second, rtol=1e-5, atol=1e-6)
    assert isinstance(model.net.members[1], FeynmanKacMean)
    learned = nets.build("en1_resnet20+en1_resnet32", weights="learned", nonnegative=True)
    assert learned.net.learned
    assert learned.net.nonnegative


# --- build --------------------------------------------------------------------------------------------------------


def test_digits_of_one_channel_go_through():
    model = nets.build("en1_resnet20", n_classes=10, mean=(0.3,), std=(0.4,), seed=0)
    logits = model(torch.rand(5, 1, 8, 8))
    assert logits.shape == (5, 10)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_state_dict_names_the_members():
    # A mean, a network, a mean of means: checkpoints and converters rely on these names.
    for name, starts in (
        ("resnet20", {"net.stem", "net.stages", "net.head"}),
        ("en2_resnet20", {"net.members.0", "net.members.1", "net.weights"}),
        ("en1_resnet20+resnet32", {"net.members.0.members.0", "net.members.0.weights", "net.members.1", "net.weights"}),
    ):
        keys = set(nets.build(name).state_dict()) - {"mean", "std"}
        assert all(any(key.startswith(start) for start in starts) for key in keys)
        assert all(any(key.startswith(start) for key in keys) for start in starts)
    keys = nets.build("en1_resnet20").state_dict()
    for part in ("stem.weight", "stages.0.0.branch.0.running_var", "stages.1.0.2.shortcut.weight", "head.4.bias"):
        assert f"net.members.0.{part}" in keys


def test_a_seed_gives_one_network_and_leaves_the_generator_alone():
    state = torch.random.get_rng_state()
    first, second, other = (nets.build("en2_resnet20", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["net.members.0.stem.weight"], other["net.members.0.stem.weight"])
    assert not torch.equal(first["net.members.0.stem.weight"], first["net.members.1.stem.weight"])
    nets.build("resnet20")
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_weights_have_the_variance_of_he():
    # Of the largest convolution, 64 x 64 x 9 numbers: relative s.d. of the variance sqrt(2 / 36864), passed with
    # probability 1e-6 at 4.9 of it.
    weight = nets.build("resnet20", seed=0).net.stages[2][1].branch[2].weight.detach()
    assert weight.shape == (64, 64, 3, 3)
    assert abs(float(weight.var()) * 9 * 64 / 2 - 1) < 4.9 * math.sqrt(2 / weight.numel())


def test_options_reach_the_blocks_that_have_noise():
    model = nets.build("en1_resnet20+resnet20", coef=0.3, noise="laplace", std_over="sample")
    noisy, quiet = (noisy_blocks(member) for member in model.net.members)
    assert {(block.noise, block.coef, block.scale, block.std_over, block.dt) for block in noisy} == {
        ("laplace", 0.3, "std", "sample", 1.0)
    }
    assert not any(block.is_noisy for block in quiet)
    assert not any(block.is_noisy for block in noisy_blocks(nets.build("en1_resnet20", noise=None)))
    weight = model.net.members[1].stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet21",), {}, 'name must be BASE, enK_BASE or a sum of them by "[+]", BASE of resnet20, '),
        (("en0_resnet20",), {}, "got name='en0_resnet20'"),
        (("en_resnet20",), {}, "got name='en_resnet20'"),
        (("resnet20+",), {}, "got name='resnet20[+]'"),
        ((None,), {}, "got name=None"),
        (("resnet20", 1), {}, "n_classes must be an integer >= 2, got n_classes=1"),
        (("en1_resnet20",), {"coef": -1}, "coef must be finite and >= 0"),
        (("en1_resnet20",), {"noise": "uniform"}, "noise must be one of"),
        (("en1_resnet20",), {"std_over": "image"}, "std_over must be one of"),
        (("en1_resnet20",), {"weights": "learned"}, "weights must be None for name='en1_resnet20'"),
        (("resnet20+resnet20",), {"weights": (1.0,)}, "weights must be 2 finite numbers"),
        (("resnet20",), {"mean": (0.5,)}, "mean and std must be finite and of equal length, with std > 0"),
        (("resnet20",), {"mean": (), "std": ()}, "mean and std must be"),
        (("resnet20",), {"std": (0.2, 0.2, 0.0)}, "mean and std must be"),
        (("resnet20",), {"std": (0.2, 0.2, math.nan)}, "mean and std must be"),
        (("resnet20",), {"seed": -1}, "seed must be an integer >= 0"),
    ],
)
def test_names_and_options_out_of_range_are_refused(arguments, options, message):
    state = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=message):
        nets.build(*arguments, **({"seed": 0} | options))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_architectures_and_images_out_of_range_are_refused():
    with pytest.raises(ValueError, match="base must be one of 'resnet20', "):
        models.architecture("resnet18")
    model = nets.build("resnet20", seed=0)
    for shape in ((3, 32, 32), (2, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"x must have shape \(n_images, 3, height, width\), got"):
            model(torch.rand(shape))
