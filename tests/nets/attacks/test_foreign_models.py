"""Models that are not ours: any callable, any modes, any noise; and what is refused on entry in one line."""

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import generator
from torch import nn
from torch.autograd import grad as imported_grad
from torch.utils.checkpoint import checkpoint

from nets import evaluate_model, red_flags
from nets.attacks import (
    ModelError,
    NoGradientError,
    NoisyModelWarning,
    apgd,
    attacked,
    autoattack,
    cw,
    cw_as_released,
    draw_logits,
    fab,
    fgsm,
    ifgsm,
    is_noisy,
    mean_logits,
    pgd,
    square,
)

SHAPE, N_CLASSES, N = (3, 4, 4), 5, 12
SHORT = {"n_iter": 3}
ATTACKS = {
    "fgsm": fgsm,
    "ifgsm": lambda *a, **o: ifgsm(*a, **SHORT, **o),
    "pgd": lambda *a, **o: pgd(*a, **SHORT, **o),
    "cw": lambda *a, **o: cw(*a, **SHORT, lr=0.1, **o),
    "apgd": lambda *a, **o: apgd(*a, **SHORT, **o),
    "fab": lambda *a, **o: fab(*a, **SHORT, **o),
    "square": lambda *a, **o: square(*a, n_queries=5, **o),
    "autoattack": lambda *a, **o: autoattack(*a, **SHORT, n_queries=5, **o)[0],
}


def linear():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, N_CLASSES))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(i)) / 3)
    return model.eval()


def batch(model=None, n=N):
    x = torch.rand(n, *SHAPE, generator=generator(5))
    with torch.no_grad():
        return x, (model or linear())(x).argmax(1)


class InputNoise(nn.Module):
    """Noise of its own, from PyTorch's default generator."""

    def __init__(self):
        super().__init__()
        self.net = linear()
        self.eval()

    def forward(self, x):
        return self.net(x + 0.3 * torch.randn_like(x))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_function_is_attacked_as_the_module_is(name):
    model, (x, y) = linear(), batch()
    before = x.clone()
    expected = ATTACKS[name](model, x, y, generator=generator(1))
    found = ATTACKS[name](lambda images: model(images), x, y, generator=generator(1))
    # Folding and layout do nothing to a linear model.
    assert torch.equal(found, expected)
    assert not torch.equal(found, x)
    assert torch.equal(x, before)


def test_an_exported_program_is_attacked():
    model, (x, y) = linear(), batch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (x,))
    for exported in (program, program.module()):
        assert torch.equal(ifgsm(exported, x, y, n_iter=2), ifgsm(model, x, y, n_iter=2))


class Overwrites(nn.Module):
    """Subtracts the mean from its input in place."""

    def __init__(self):
        super().__init__()
        self.net = linear()
        self.eval()

    def forward(self, x):
        return self.net(x.sub_(0.5))


@pytest.mark.parametrize("name", ATTACKS)
def test_images_stay_as_they_are_whatever_the_model_does_to_its_input(name):
    x, y = batch()
    before = x.clone()
    x_adv = ATTACKS[name](Overwrites(), x, y, generator=generator(1))
    assert torch.equal(x, before)
    assert name == "cw" or (x_adv - x).abs().max() <= 8 / 255 + 1e-6


def test_a_dropout_that_was_left_on_stays_on():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(48), nn.Linear(48, N_CLASSES)).eval()
    model[1].train()
    model[2].train()
    with torch.no_grad():
        # Right whatever the noise, so that all images are attacked to the end: a batch of one cannot be normalised.
        model[3].bias[0] = 100
    state = {key: value.clone() for key, value in model.state_dict().items()}
    seen = []
    handle = model[1].register_forward_hook(lambda module, args, output: seen.append(module.training))
    x, y = torch.rand(N, *SHAPE, generator=generator(5)), torch.zeros(N, dtype=torch.long)
    _, result = autoattack(model, x, y, n_iter=2, n_queries=3, n_eot=2)
    handle.remove()
    assert all(seen) and seen
    assert result.n_draws == 10 and "square" not in result.version
    assert [module.training for module in model] == [False, True, True, False]
    # The statistics of a normalisation in training mode, too.
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert is_noisy(model, x)


def test_a_normalisation_by_the_batch_cannot_take_a_single_image():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, N_CLASSES)).eval()
    model[1].train()
    with pytest.raises(ValueError, match="cannot take a single image: call eval"):
        ifgsm(model, torch.rand(1, *SHAPE), torch.zeros(1, dtype=torch.long))


def test_a_model_in_training_mode_is_attacked_in_evaluation_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, N_CLASSES))
    with attacked(model):
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())


class Switched(nn.Module):
    """Noise of a size that can be set in many ways, at first 0."""

    def __init__(self):
        super().__init__()
        self.net, self.dropout, self.size, self.tensor = linear(), nn.Dropout(0.0), 0.0, torch.zeros(())
        self.register_buffer("buffer", torch.zeros(()))
        self.settings, self.options, self.names = SimpleNamespace(size=0.0), {"noise": [0.0]}, {"x"}
        # Of which a sample is looked at.
        self.large, self.odd = torch.zeros(100_000), torch.zeros(100_001)
        self.handle = self.net.register_forward_hook(lambda *_: None)
        self.training = False

    def forward(self, x):
        size = self.size + self.tensor + self.buffer + self.settings.size + sum(self.options["noise"])
        size = size + self.large.mean() + self.odd.mean() + ("noise" in self.names)
        return self.net(self.dropout(x) + size * torch.randn(x.shape))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn(x.shape)


def hook(module, inputs, output):
    return output + torch.randn(output.shape)


@pytest.mark.parametrize(
    "switch_on",
    [
        lambda m: setattr(m, "size", 1.0),
        lambda m: m.tensor.fill_(1.0),
        lambda m: m.buffer.fill_(1.0),
        lambda m: m.buffer.data.fill_(1.0),
        lambda m: m.tensor.numpy().fill(1.0),
        lambda m: m.large.data.fill_(1.0),
        lambda m: m.odd.numpy().fill(1.0),
        lambda m: m.names.add("noise"),
        lambda m: setattr(m, "size", np.float64(1.0)),
        lambda m: setattr(m, "buffer", torch.ones(())),
        lambda m: setattr(m, "settings", SimpleNamespace(size=1.0)),
        lambda m: setattr(m.settings, "size", 1.0),
        lambda m: m.options["noise"].append(1.0),
        lambda m: (m.dropout.train(), setattr(m.dropout, "p", 0.5)),
        lambda m: m.net.insert(0, Noise()),
        lambda m: m.net.register_forward_hook(hook),
        lambda m: (m.handle.remove(), m.net.register_forward_hook(hook)),
        lambda m: setattr(m, "forward", lambda x: m.net(x + torch.randn(x.shape))),
    ],
)
def test_noise_that_is_switched_on_after_a_first_attack_brings_the_warning(switch_on):
    model, (x, y) = Switched(), batch()
    fgsm(model, x, y)
    fgsm(model, x, y)
    switch_on(model)
    with pytest.warns(NoisyModelWarning):
        fgsm(model, x, y)


def test_a_deterministic_module_is_tried_once():
    model, (x, y), calls = linear(), batch(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    n_calls = []
    for _ in range(3):
        fgsm(model, x, y)
        n_calls.append(len(calls))
    # Five passes, and one of the attack.
    assert n_calls == [6, 7, 8]
    fgsm(model, x[:5], y[:5])
    assert len(calls) == 14


def test_foreign_noise_comes_from_the_generator_and_brings_a_warning():
    model, (x, y) = InputNoise(), batch()
    state = torch.get_rng_state()
    with pytest.warns(NoisyModelWarning):
        one = pgd(model, x, y, n_iter=2, generator=generator(1))
    with pytest.warns(NoisyModelWarning):
        same = pgd(model, x, y, n_iter=2, generator=generator(1))
    other = pgd(model, x, y, n_iter=2, n_eot=2, generator=generator(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    # Two calls with one generator see two noises.
    source = generator(3)
    assert not torch.equal(*(ifgsm(model, x, y, n_iter=1, n_eot=2, generator=source) for _ in range(2)))


def test_five_passes_show_what_one_in_two_hides():
    # A pass that is disturbed with probability 1/2: five equal ones occur once in 16 times, of 200 models in at most 32
    # but for one case in 10^6; two equal ones would occur in 100.
    class Sometimes(nn.Module):
        def forward(self, x):
            return x.flatten(1) + torch.randint(2, (), generator=self.source) * torch.eye(5)[0]

    found = 0
    for seed in range(200):
        model = Sometimes().eval()
        model.source = generator(seed)
        found += is_noisy(model, torch.rand(2, 5, generator=generator(seed)) + 0.1)
    assert found >= 168


@pytest.mark.parametrize("constant", [0.0, 1e3, -1e5])
def test_noise_is_seen_whatever_is_added_to_all_logits(constant):
    net, (x, y) = linear(), batch()

    def energies(x):
        return net(x) + 0.3 * torch.randn(len(x), N_CLASSES) + constant

    # Missed if in 4 comparisons of passes all 12 images differ by less than 0.22, the rounding of 1e5, where the
    # differences have standard deviation 0.42 in 4 directions: with a probability of 0.01^48.
    assert is_noisy(energies, x)
    with pytest.warns(NoisyModelWarning):
        fgsm(energies, x, y)
    assert not is_noisy(lambda x: net(x) + constant, x)
    # What is common to all classes decides nothing.
    assert not is_noisy(lambda x: net(x) + torch.randn(len(x), 1), x)


def test_a_model_that_returns_the_same_memory_is_averaged_over_its_draws():
    net, (x, _) = linear(), batch()
    memory = torch.zeros(N, N_CLASSES)

    def noisy(x):
        return net(x) + torch.randn(len(x), N_CLASSES)

    def reusing(x):
        return memory.copy_(noisy(x))

    results = []
    for model in (noisy, reusing):
        torch.manual_seed(0)
        results.append(draw_logits(model, x, 4))
    assert torch.equal(*results)
    assert not torch.equal(results[0][0], results[0][1])


def of_inference_mode(frozen):
    with torch.inference_mode():
        model = copy.deepcopy(convolutional())
    return model.requires_grad_(not frozen) if frozen else model


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_made_in_inference_mode_is_named_or_attacked_without_gradients(name, frozen):
    model, (x, y) = of_inference_mode(frozen), batch(convolutional())
    if name == "square":
        expected = square(convolutional(), x, y, n_queries=5, generator=generator(1))
        assert torch.equal(ATTACKS[name](model, x, y, generator=generator(1)), expected)
    else:
        with pytest.raises(ModelError, match=r"made inside torch.inference_mode .* load it outside"):
            ATTACKS[name](model, x, y)
    assert all(parameter.requires_grad != frozen for parameter in model.parameters())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack"])
def test_no_images_are_no_images(name, norm):
    x, y = batch()
    # Models that take a view of their images, as many networks do, do not take an empty batch.
    for model in (linear(), lambda x: linear()[1](x.view(len(x), -1))):
        assert ATTACKS[name](model, x[:0], y[:0], norm=norm).shape == (0, *SHAPE)
        assert pgd(model, x[:0], y[:0], norm=norm, n_restarts=2).shape == (0, *SHAPE)
        assert cw_as_released(model, x[:0], y[:0]).shape == (0, *SHAPE)


def rounding(x):
    return linear()((x.detach() * 15).round() / 15)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ("square", "autoattack")])
def test_a_model_without_a_gradient_is_named(name):
    with pytest.raises(NoGradientError, match=r"no gradient .* square"):
        ATTACKS[name](rounding, *batch(rounding))


def test_autoattack_goes_on_to_square_where_there_is_no_gradient():
    x, y = batch(rounding)
    _, result = autoattack(rounding, x, y, eps=0.2, n_iter=2, n_queries=60, generator=generator(1))
    assert result.version == "square"
    assert result.accuracies["square"] < 1
    flags = red_flags.check(rounding, x, y)
    assert [flag.name for flag in flags] == ["zero-gradients"]
    assert "at all" in flags[0].what


@pytest.mark.parametrize("grad", [lambda *a: torch.autograd.grad(*a), imported_grad], ids=["attribute", "imported"])
def test_a_defence_that_optimises_is_flagged(grad):
    def tuned(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = grad(model(leaf).square().sum(), leaf)
        return model(x - 0.01 * slope)

    model, (x, y) = linear(), batch()
    assert "optimises" in [flag.name for flag in red_flags.check(tuned, x, y)]
    assert "optimises" not in [flag.name for flag in red_flags.check(model, x, y)]
    assert torch.autograd.grad is imported_grad


def test_eps_of_0_to_255_is_noticed():
    model, (x, y) = linear(), batch()
    for name in ("fgsm", "apgd", "square"):
        with pytest.warns(UserWarning, match=r"eps=8 is larger than the cube .* 8/255 and not 8"):
            ATTACKS[name](model, x, y, eps=8)
    assert "eps-range" in [flag.name for flag in red_flags.check(model, x, y, eps=8)]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_masked_class_is_never_predicted(name):
    model = linear()

    def masked(x):
        return model(x).masked_fill(torch.arange(N_CLASSES) == 4, -torch.inf)

    x, y = batch(masked)
    x_adv = ATTACKS[name](masked, x, y, generator=generator(1))
    assert x_adv.isfinite().all()
    assert (masked(x_adv).argmax(1) != 4).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_images_of_inference_mode_are_attacked(name):
    model = linear()
    with torch.inference_mode():
        x, y = torch.rand(4, *SHAPE, generator=generator(5)), torch.arange(4)
    assert ATTACKS[name](model, x, y, generator=generator(1)).shape == x.shape


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0] * N}, "y must be a torch.Tensor, got list"),
        ({"x": np.zeros((N, *SHAPE), np.float32)}, "x must be a torch.Tensor, got ndarray"),
        ({"model": nn.Linear}, "model must be a function of images"),
        ({"model": "resnet"}, "model must be a function of images"),
        ({"model": lambda x: x.flatten(1).numpy(force=True)}, "must return a Tensor of logits, got ndarray"),
        ({"model": lambda x: x.flatten(1).argmax(1)}, r"logits of shape \(12, n_classes\)"),
        ({"model": lambda x: (x.flatten(1) * 9).long()}, "of torch.int64"),
        ({"model": lambda x: (x.flatten(1), None)}, r"got tuple: give the function lambda x: model\(x\)\[i\]"),
        (
            {"model": lambda x: {"loss": 0, "logits": x}},
            r'got dict: .* lambda x: model\(x\)\["logits"\], .* loss, logits',
        ),
        ({"model": lambda x: x.sum((1, 2, 3))}, r"torch.stack\(\[0 \* z, z\], 1\)"),
        (
            {"model": lambda x: x.sum((2, 3))[:, :1], "y": torch.zeros(N).long()},
            "at least 2 classes, got 1: of one logit",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name, change, message):
    x, y = batch()
    given = {"model": linear(), "x": x, "y": y} | change
    with pytest.raises(ValueError, match=message):
        ATTACKS[name](given["model"], given["x"], given["y"])


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_that_fails_on_the_images_is_named(name):
    x, y = batch()
    with pytest.raises(ModelError, match=r"the model fails on images of shape \(12, 1, 4, 4\) in torch.float32"):
        ATTACKS[name](linear(), x[:, :1], y)
    with pytest.raises(ModelError, match="KeyError: 'a'"):
        ATTACKS[name](lambda x: {}["a"], x, y)

    class OwnError(RuntimeError):
        pass

    def stops(x):
        raise OwnError

    # What a user raises to stop everything arrives.
    with pytest.raises(OwnError):
        ATTACKS[name](stops, x, y)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "pgd", "cw", "apgd"])
def test_a_gradient_that_fails_is_named(name):
    network, (x, y), kept = linear(), batch(), []

    def remembers(x):
        # The mean with the logits before, and their graph, through which PyTorch goes once.
        with torch.enable_grad():
            logits = network(x).tanh()
        before = [each for each in kept if len(each) == len(x)]
        kept.append(logits)
        return torch.stack([logits, *before[-1:]]).mean(0)

    with pytest.raises(ModelError, match="gradient of the model fails: let it keep no logits of earlier passes"):
        ATTACKS[name](remembers, x, y, n_eot=2)
    with pytest.raises(ModelError, match=r"gradient of the model fails .*use_reentrant"):
        ATTACKS[name](lambda x: checkpoint(network, x, use_reentrant=True), x, y)


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated")
@pytest.mark.parametrize("name", ATTACKS)
def test_a_frozen_script_has_no_modes_and_is_attacked(name):
    model, (x, y) = torch.jit.freeze(torch.jit.script(linear())), batch()
    assert not hasattr(model, "training")
    x_adv = ATTACKS[name](model, x, y, generator=generator(1))
    assert torch.equal(x_adv, ATTACKS[name](linear(), x, y, generator=generator(1)))


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated")
def test_a_frozen_script_is_evaluated():
    x, y = batch()
    models = torch.jit.freeze(torch.jit.script(linear())), linear()
    reports = [evaluate_model(model, x, y, attacks=["fgsm", "ifgsm20"], progress=False) for model in models]
    assert [row["accuracy"] for row in reports[0].rows] == [row["accuracy"] for row in reports[1].rows]
    assert reports[0].rows[1]["accuracy"] < 1


def test_an_exported_program_of_a_fixed_size_is_named():
    x, y = batch()
    program = torch.export.export(linear(), (x[:4],))
    with pytest.raises(ModelError, match="export it with dynamic_shapes"):
        fgsm(program, x, y)
    assert fgsm(program, x[:4], y[:4]).shape == x[:4].shape


def test_a_loss_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"loss must return values of shape \(12,\), one per image, got \(\)"):
        pgd(linear(), *batch(), loss=nn.functional.cross_entropy)


def test_a_forward_pass_that_differentiates_its_weights_is_named():
    model = linear()

    def tuned(x):
        with torch.enable_grad():
            torch.autograd.grad(model(x).sum(), model[1].weight)
        return model(x)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
            self.eval()

        def forward(self, x):
            return tuned(x)

    x, y = batch()
    # The function's weights are out of reach and stay as they are; those of a Module are frozen.
    fgsm(tuned, x, y)
    with pytest.raises(RuntimeError, match="gradients of its own weights"):
        square(Holder(), x, y, n_queries=2)


@pytest.mark.parametrize(("dtype", "slack"), [(torch.bfloat16, 0.002), (torch.float16, 0.0003)])
def test_half_precision_leaves_the_ball_by_less_than_documented(dtype, slack):
    x, y = torch.rand(200, *SHAPE, generator=generator(5)).to(dtype), torch.zeros(200, dtype=torch.long)
    x_adv = ifgsm(linear().to(dtype), x, y)
    far = (x_adv.double() - x.double()).abs().max().item()
    # Half a unit in the last place of a number just below 1.
    assert 8 / 255 < far <= 8 / 255 + slack


class Layered(nn.Module):
    """A convolution whose result is taken apart by `view`, which needs it contiguous."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(128, N_CLASSES)

    def forward(self, x):
        return self.head(self.conv(x).relu().view(len(x), -1))


def test_a_view_of_channels_last_is_no_error_and_nothing_is_left_changed():
    torch.manual_seed(0)
    for model in (Layered().eval(), nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 5)).eval()):
        weight = next(model.parameters())
        pointer, strides = weight.data_ptr(), weight.stride()
        x, y = batch(model)
        with attacked(model, fold=False):
            expected = ifgsm(lambda images, model=model: model(images), x, y, n_iter=1)
        found = ifgsm(model, x, y, n_iter=1)
        # Rounding may turn the sign of a gradient near 0.
        assert ((found - expected).abs() > 1e-6).double().mean() < 0.02
        assert (weight.data_ptr(), weight.stride()) == (pointer, strides)
        assert "forward" not in vars(model) and weight.requires_grad
        assert torch.isfinite(mean_logits(model, x)).all()


def convolutional():
    """Convolutions and normalisations that attacks fold, one of them with more weights than it sees pixels."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 64, 3, padding=1, stride=2), nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, N_CLASSES),
    )  # fmt: skip
    for norm in (module for module in model if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model.eval()


def with_other_weights(net, x):
    return torch.func.functional_call(net, {name: 1.5 * p for name, p in net.named_parameters()}, (x,))


def with_weights_drawn_in_parallel(net, x):
    weights = dict(net.named_parameters())
    one = torch.vmap(lambda e: torch.func.functional_call(net, {k: v * (1 + e) for k, v in weights.items()}, (x,)))
    return one(torch.tensor([0.0, 0.5])).mean(0)


def with_noise_in_parallel(net, x):
    noisy = torch.vmap(lambda e: net(x + 0.1 * torch.randn_like(x)), randomness="different")
    return noisy(torch.zeros(3)).mean(0)


def by_a_changed_copy(net, x):
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1.5)
    return copied(x)


def with_weights_written_in_place(net, x):
    kept = [parameter.detach().clone() for parameter in net.parameters()]
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    logits = net(x)
    for parameter, value in zip(net.parameters(), kept, strict=True):
        parameter.data = value
    return logits


def with_weights_that_change_places(net, x):
    # In the middle of each tensor, whose ends and sum stay.
    middles = [parameter.data.flatten()[1:-1] for parameter in net.parameters()]
    for middle in middles:
        middle.copy_(middle.flip(0))
    logits = net(x)
    for middle in middles:
        middle.copy_(middle.flip(0))
    return logits


def with_weights_written_through_arrays(net, x):
    arrays = [parameter.detach().numpy().reshape(-1)[1:-1] for parameter in net.parameters()]
    arrays += [net[1].running_var.numpy()[1:-1]]
    for array in arrays:
        array *= 2
    logits = net(x)
    for array in arrays:
        array /= 2
    return logits


def by_a_step_that_is_differentiated(net, x):
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(net(leaf).logsumexp(1).sum(), leaf, create_graph=True)
    return net(x - 0.5 * slope)


def with_a_directional_derivative(net, x):
    return net(x) + torch.func.jvp(net, (x,), (torch.ones_like(x),))[1]


# PyTorch's own, at its first derivative forward.
@pytest.mark.filterwarnings("ignore:.torch.jit:")
@pytest.mark.parametrize(
    "defence",
    [
        with_other_weights, with_weights_drawn_in_parallel, with_noise_in_parallel, by_a_changed_copy,
        with_weights_written_in_place, with_weights_that_change_places, with_weights_written_through_arrays,
        by_a_step_that_is_differentiated, with_a_directional_derivative,
    ],
)  # fmt: skip
def test_what_a_defence_does_to_its_network_is_what_is_attacked(defence):
    class Defence(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = convolutional()

        def forward(self, x):
            return defence(self.net, x)

    def passes(model):
        leaf = torch.rand(6, *SHAPE, generator=generator(5)).requires_grad_()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            logits = model(leaf)
        return logits.detach(), torch.autograd.grad(logits[:, 0].sum(), leaf)[0]

    model = Defence().eval()
    expected = passes(model)
    with attacked(model):
        found = passes(model)
    for one, other in zip(found, expected, strict=True):
        # Rounding, some hundred operations deep.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("training", [False, True])
def test_a_state_in_buffers_is_restored(training):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear()
            self.register_buffer("written", torch.zeros(()))
            self.register_buffer("replaced", torch.zeros(()))
            self.register_buffer("sparse", torch.eye(2).to_sparse())

        def forward(self, x):
            self.written += 1
            self.replaced = self.replaced + 1
            return self.net(x)

    model = Counting().train(training)
    buffers = dict(model.named_buffers())
    ifgsm(model, *batch(), n_iter=2)
    assert all(dict(model.named_buffers())[name] is buffer for name, buffer in buffers.items())
    assert (model.written, model.replaced) == (0, 0)


def test_a_hook_on_all_modules_is_called():
    model, calls = convolutional().eval(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(type(module)))
    try:
        with attacked(model):
            model(batch()[0])
    finally:
        handle.remove()
    assert {nn.Conv2d, nn.BatchNorm2d} <= set(calls)
