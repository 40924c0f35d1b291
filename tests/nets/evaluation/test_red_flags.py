"""Each red flag on a model made to raise it, and none on a sound one."""

import copy
import math

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from attack_models import N_CLASSES, Linear, accuracy, generator, images, trained
from torch import nn

from bridge import NoisyResidual
from nets import red_flags
from nets.attacks import apgd, square

EPS = 0.07


def names(model, n=30, eps=EPS, **options):
    x, y = images(n, seed=7)
    return {flag.name for flag in red_flags.check(model, x, y, eps=eps, generator=generator(0), **options)}


class Quantised(nn.Module):
    """Pixels are rounded to eight levels, which has no gradient (Guo et al. 2018 defend so)."""

    def forward(self, x):
        return trained()((7 * x).round() / 7 + 0 * x)


class Uphill(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Misled(nn.Module):
    """The gradient is that of the loss with the wrong sign."""

    def forward(self, x):
        return trained()(Uphill.apply(x))


class Probabilities(nn.Module):
    def forward(self, x):
        return trained()(x).softmax(1)


class Stubborn(nn.Module):
    """Class 0 by a wide margin for every image, and yet a loss that climbs with every step."""

    def forward(self, x):
        slope = torch.linspace(-1, 1, 64, dtype=x.dtype)
        score = x.flatten(1) @ slope
        return torch.stack([100 - score, score], 1) / 10


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sound_model_raises_none(norm):
    """The images are drawn once; the two flags that compare accuracies are raised by chance once in 740."""
    eps = {"linf": EPS, "l2": 0.4}[norm]
    model, (x, y) = trained(), images(60, seed=7)
    options = {"eps": eps, "norm": norm, "generator": generator(0)}
    accuracies = {
        "apgd-ce": accuracy(model, apgd(model, x, y, n_iter=20, **options), y),
        "square": accuracy(model, square(model, x, y, n_queries=60, **options), y),
    }
    assert names(model, norm=norm, eps=eps, accuracies=accuracies) == set()


@pytest.mark.parametrize("seed", range(2))
def test_other_images_of_a_sound_model_raise_none(seed):
    x, y = images(30, seed=100 + 2 * seed)
    assert red_flags.check(trained(), x, y, eps=EPS, generator=generator(seed)) == []


def test_a_model_that_draws_is_randomised_unless_draws_are_averaged():
    assert names(trained(coef=0.3), n=20) == {"randomised"}
    assert names(trained(coef=0.3), n=20, n_eot=2) == set()


def test_probabilities_in_place_of_logits():
    assert names(Probabilities()) == {"probabilities"}


def by_hand(logits):
    powers = (logits - logits.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [2, 10, 1000])
@pytest.mark.parametrize("softmax", [lambda logits: logits.softmax(1), by_hand])
def test_probabilities_in_any_precision(dtype, n_classes, softmax):
    """The sum of 16 images' classes is off by up to eps, eps of half precision being 100 and 800 times 1e-5."""
    logits = 3 * torch.randn(16, n_classes, generator=generator(0))
    p = softmax(logits.to(dtype))
    assert red_flags._probabilities(p) is not None
    assert red_flags._probabilities(p.float()) is not None
    # The mean of an ensemble's probabilities is one as well; logits are none, whatever their precision.
    for other in (logits.to(dtype), p.log(), 1.05 * p, p - p.mean()):
        assert red_flags._probabilities(other.float()) is None


def test_probabilities_of_a_network_under_autocast():
    (x, y), net = images(20, seed=7), copy.deepcopy(trained()).float()

    def model(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(x).softmax(1).bfloat16()

    flags = red_flags.check(model, x.float(), y, eps=EPS, generator=generator(0))
    assert "probabilities" in {flag.name for flag in flags}


def test_gradients_that_vanish():
    assert names(Quantised()) == {"zero-gradients"}
    assert names(Quantised(), zero_share=1.0) == set()
    (flag,) = red_flags.check(Quantised(), *images(20, seed=7), eps=EPS)
    assert "100.0%" in flag.what and str(flag).startswith("zero-gradients: ")


def test_gradients_that_lead_downhill_neither_raise_the_loss_nor_reach_0_without_bounds():
    """The second follows from the first."""
    assert names(Misled()) == {"loss-stalls", "unbounded-attack-fails"}


def test_a_model_that_no_perturbation_changes():
    """Of class 0 are these images alone, and the loss climbs, so that nothing else is amiss."""
    x = torch.rand(40, 1, 8, 8, generator=generator(0), dtype=torch.float64)
    flags = red_flags.check(Stubborn(), x, torch.zeros(40, dtype=torch.long), eps=EPS, generator=generator(0))
    assert [flag.name for flag in flags] == ["unbounded-attack-fails"]


def test_noise_scaled_over_a_batch_couples_its_images():
    """The same noise and other neighbours: only noise scaled by each image alone gives the same answer."""
    found = {}
    for std_over in ("batch", "sample"):
        block = NoisyResidual(nn.Identity(), coef=0.5, std_over=std_over)
        found[std_over] = names(nn.Sequential(block, trained()), n=20, n_eot=2)
    # Through the shared deviation, the gradient of a confident image is that of its neighbours' losses: a consequence.
    assert found["batch"] - {"loss-stalls"} == {"batch-coupling"}
    assert found["sample"] == set()


def test_statistics_of_the_batch_couple_its_images_without_noise():
    class Centred(nn.Module):
        def forward(self, x):
            # Detached: else the gradient of a confident image would be that of its neighbours' losses, another flag.
            return trained()(x - 0.2 * (x.mean().detach() - 0.5))

    assert names(Centred()) == {"batch-coupling"}


class Moat(nn.Module):
    """For images that are multiples of 0.25, the gradient of the opposite loss at distances between two radii."""

    def __init__(self, inner, outer):
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, x):
        distance = ((4 * x).round() / 4 - x).abs().flatten(1).amax(1)
        moat = (distance > self.inner) & (distance < self.outer)
        return trained()(torch.where(moat[:, None, None, None], Uphill.apply(x), x))


@pytest.mark.parametrize(("inner", "outer", "name"), [(0.02, 0.06, "weak-iterations"), (-1, 0.08, "loss-stalls")])
def test_gradients_that_mislead_near_the_image(inner, outer, name):
    """Twenty small steps turn back at 0.02 where one of 0.07 gets across; from within the moat, all lead downhill."""
    x = (4 * images(60, seed=7)[0]).round() / 4
    with torch.no_grad():
        y = trained()(x).argmax(1)
    flags = red_flags.check(Moat(inner, outer), x, y, eps=EPS, generator=generator(0))
    assert [flag.name for flag in flags] == [name]


@pytest.mark.parametrize("black", ["square", "transfer", "blind"])
def test_a_black_box_that_beats_the_white_one(black):
    """On a quantised net the gradient is blind and Square is not; and by figures of an evaluation."""
    assert names(trained(), accuracies={black: 0.0}) == {"black-box-wins"}
    assert names(trained(), accuracies={black: 0.0, "apgd-t": 0.0}) == set()


def test_square_sees_through_a_quantised_net():
    x, y = images(60, seed=7)
    x_adv = square(Quantised(), x, y, eps=0.12, n_queries=150, generator=generator(0))
    by_square = {"square": accuracy(Quantised(), x_adv, y)}
    assert names(Quantised(), eps=0.12, accuracies=by_square) == {"zero-gradients", "black-box-wins"}


def test_a_gap_of_three_standard_errors_is_the_threshold():
    p, n = 0.5, 30
    for white, black, name in (("ifgsm", "fgsm", "weak-iterations"), ("apgd-ce", "square", "black-box-wins")):
        raised = set()
        for q in (i / 1000 for i in range(500)):
            accuracies = {"fgsm": p, "ifgsm": p, white: p, black: q}
            found = red_flags._weak_iterations(accuracies, n), red_flags._black_box_wins(accuracies, n)
            error = math.sqrt((p * (1 - p) + q * (1 - q)) / n)
            assert {flag.name for flag in found if flag} == ({name} if p - q > 3 * error else set())
            raised.add(p - q > 3 * error)
        assert raised == {True, False}


def test_a_saturated_model_has_no_gradient_in_single_precision():
    class Loud(nn.Module):
        def forward(self, x):
            return 1e4 * trained()(x.double()).float()

    x, y = images(30, seed=7)
    flags = {flag.name for flag in red_flags.check(Loud(), x.float(), y, eps=EPS, generator=generator(0))}
    assert "zero-gradients" in flags


def test_the_generator_is_the_only_source():
    before = torch.get_rng_state()
    names(trained(coef=0.3), n=6)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_left_as_it_was():
    model = trained(coef=0.3)
    before = [block.generator for block in model.modules() if isinstance(block, NoisyResidual)]
    names(model, n=6)
    assert not model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert [block.generator for block in model.modules() if isinstance(block, NoisyResidual)] == before


def test_one_image_is_enough():
    x, y = images(1, seed=7)
    with torch.no_grad():
        y = trained()(x).argmax(1)
    assert red_flags.check(trained(), x, y, eps=EPS, generator=generator(0)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0}, "eps"),
        ({"norm": "l1"}, "norm"),
        ({"n_eot": 0}, "n_eot"),
        ({"n_draws": 0}, "n_draws"),
        ({"zero_share": 1.5}, "zero_share"),
        ({"x": torch.rand(0, 1, 8, 8), "y": torch.zeros(0).long()}, "at least one image"),
        ({"y": torch.tensor([0, N_CLASSES])}, "y must lie"),
    ],
)
def test_errors_at_the_door(options, message):
    x, y = images(2, seed=0)
    with pytest.raises(ValueError, match=message):
        red_flags.check(trained(), options.pop("x", x), options.pop("y", y), **options)


def test_a_linear_model_raises_none():
    x = torch.rand(40, 1, 5, 5, generator=generator(0), dtype=torch.float64)
    model = Linear(x.shape[1:], bias=3.0)
    with torch.no_grad():
        y = model(x).argmax(1)
    assert red_flags.check(model, x, y, eps=EPS, generator=generator(0)) == []


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["randn_like", "dropout", "rand_like", "permuted"])
def test_noise_drawn_in_the_order_of_the_memory_couples_nothing(kind, order, n):
    draw = {
        "randn_like": lambda x: x + 0.5 * torch.randn_like(x),
        "rand_like": lambda x: x + 0.5 * torch.rand_like(x),
        "dropout": nn.Dropout(0.5).train(),
        "permuted": lambda x: x + 0.5 * torch.randn_like(x.transpose(2, 3)).transpose(2, 3),
    }[kind]
    weight = torch.randn(5, 48, generator=generator(0))
    x = torch.rand(n, 3, 4, 4, generator=generator(1)).to(memory_format=order)
    flag = red_flags._batch_coupling(lambda images: draw(images).flatten(1) @ weight.T, x)
    assert flag is None


class Drawing(nn.Module):
    """Noise on every image from a generator of its own, or the same numbers in every pass."""

    def __init__(self, seed=None):
        super().__init__()
        self.seed, self.own = seed, torch.Generator().manual_seed(0)

    def forward(self, x):
        if self.seed is not None:
            self.own.manual_seed(self.seed)
        return trained()(x + 0.3 * torch.randn(x.shape, dtype=x.dtype, generator=self.own))


def test_noise_that_no_seed_governs_is_not_taken_for_coupling():
    assert "batch-coupling" not in names(Drawing(), n_eot=20)


def test_numbers_that_are_the_same_in_every_pass_couple_an_image_to_its_place():
    x, y = images(30, seed=7)
    flags = red_flags.check(Drawing(seed=0), x, y, eps=EPS, generator=generator(0))
    assert any(flag.name == "batch-coupling" and "its place in the batch" in flag.what for flag in flags)
