"""PGD and its settings FGSM and IFGSM: peers, closed forms, the noise, and what an attack must leave alone."""

import copy
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from attack_models import Linear, accuracy, distance, generator, images, trained
from attack_nets import mixed, residual_net, same, state
from torch import nn
from torch.nn import functional

from bridge import noise_off
from nets.attacks import NoisyModelWarning, cw, cw_as_released, fgsm, ifgsm, mean_logits, pgd
from nets.attacks._balls import make_ball
from nets.attacks._objective import Objective
from nets.attacks._state import attacked

# Two computations in double precision of sums of some hundred terms of order 1.
ROUNDING = 1e-12
EPS = {"linf": 8 / 255, "l2": 0.5}
STEP = {"linf": 2 / 255, "l2": 0.1}


def peer(name):
    """A test's oracle; what it warns of when it is imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def foolbox_model(foolbox, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return foolbox.PyTorchModel(model, bounds=(0, 1))


def assert_close(x_adv, expected, atol=ROUNDING):
    np.testing.assert_allclose(x_adv.numpy(), expected.detach().numpy(), rtol=0, atol=atol)


# Peers


def test_fgsm_is_that_of_torchattacks_and_foolbox():
    torchattacks, foolbox = peer("torchattacks"), peer("foolbox")
    model = residual_net()
    x, y = images(24, seed=3)
    x_adv = fgsm(model, x, y, eps=EPS["linf"])
    assert_close(x_adv, torchattacks.FGSM(model, eps=EPS["linf"])(x, y))
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    assert_close(x_adv, attack.run(foolbox_model(foolbox, model), x, y, epsilon=EPS["linf"]))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 0.3), ("l2", 2.0), ("l2", 0.0)])
def test_default_step_is_a_quarter_of_the_radius(norm, eps):
    model, (x, y) = residual_net(), images(4, seed=4)
    for attack, options in ((ifgsm, {}), (pgd, {"generator": generator(0)})):
        x_adv = attack(model, x, y, norm=norm, eps=eps, n_iter=3, **options)
        options = {"generator": generator(0)} if options else {}
        assert_close(x_adv, attack(model, x, y, norm=norm, eps=eps, n_iter=3, step_size=eps / 4 or 9.0, **options), 0)
    moved = (ifgsm(model, x, y, norm=norm, eps=eps) - x).flatten(1)
    # Twenty steps cross the ball five times.
    assert moved.abs().max() >= 0.99 * eps if norm == "linf" else moved.norm(dim=1).max() >= 0.9 * eps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_from_the_image_is_that_of_torchattacks_and_foolbox(norm):
    torchattacks, foolbox = peer("torchattacks"), peer("foolbox")
    # torchattacks takes norms through `view`, which asks for contiguous gradients.
    model = residual_net().to(memory_format=torch.contiguous_format)
    x, y = images(24, seed=4)
    x_adv = pgd(model, x, y, norm=norm, eps=EPS[norm], step_size=STEP[norm], n_iter=20, random_start=False)
    theirs = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    options = {"eps": EPS[norm], "alpha": STEP[norm], "steps": 20, "random_start": False}
    # torchattacks adds 1e-10 to the length of a gradient, which here is not below 1e-4: 1e-6 of each of 20 steps.
    assert_close(x_adv, theirs(model, **options)(x, y), ROUNDING if norm == "linf" else 20 * STEP[norm] * 1e-6)
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    attack = theirs(abs_stepsize=STEP[norm], steps=20, random_start=False)
    assert_close(x_adv, attack.run(foolbox_model(foolbox, model), x, y, epsilon=EPS[norm]))


def test_a_targeted_attack_is_that_of_torchattacks():
    torchattacks = peer("torchattacks")
    model = residual_net()
    x, y = images(24, seed=5)
    target = (y + 2) % 6
    theirs = torchattacks.PGD(model, eps=EPS["linf"], steps=10, random_start=False)
    theirs.set_mode_targeted_by_label(quiet=True)
    x_adv = ifgsm(model, x, target, n_iter=10, targeted=True)
    assert_close(x_adv, theirs(x, target))
    assert loss_of(model, x_adv, target).sum() < loss_of(model, x, target).sum()


def test_the_random_start_is_that_of_torchattacks():
    torchattacks = peer("torchattacks")
    model = residual_net()
    x, y = images(24, seed=6)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        expected = torchattacks.PGD(model, eps=EPS["linf"], steps=5, random_start=True)(x, y)
    assert_close(pgd(model, x, y, n_iter=5, generator=generator(11)), expected)


def test_averaging_over_noise_is_that_of_torchattacks():
    torchattacks = peer("torchattacks")
    model = residual_net(coef=0.3)
    x, y = images(24, seed=7)
    with torch.random.fork_rng():
        torch.manual_seed(12)
        expected = torchattacks.EOTPGD(model, eps=EPS["linf"], steps=5, eot_iter=4, random_start=False)(x, y)
    assert_close(ifgsm(model, x, y, n_iter=5, n_eot=4, generator=generator(12)), expected)


# Closed forms


def loss_of(model, x, y):
    with torch.no_grad():
        return functional.cross_entropy(model(x), y, reduction="none")


@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_reaches_the_optimum_of_a_linear_model(random_start):
    # Of two classes the loss grows along w = w_1 - w_0 wherever it is evaluated. 2 eps / step_size = 8 steps from
    # anywhere; in l2 each step of length eps turns a point of the sphere at least half the way to the pole.
    x, _ = images(8, seed=8)
    y = torch.zeros(8, dtype=torch.long)
    model = Linear(x.shape[1:])
    w = (model.weight[1] - model.weight[0]).detach().view(x.shape[1:])
    x_adv = pgd(model, x, y, n_iter=8, random_start=random_start, generator=generator(1))
    assert_close(x_adv, (x + 8 / 255 * w.sign()).clamp(0, 1), 1e-15)
    # The cube is out of reach: 0.3 + 0.2 < 1.
    x = 0.3 + 0.4 * x
    options = {"norm": "l2", "eps": 0.2, "step_size": 0.2, "n_iter": 60}
    x_adv = pgd(model, x, y, random_start=random_start, generator=generator(1), **options)
    # The last bits of the length turn into an angle of its square root.
    assert_close(x_adv, x + 0.2 * w / torch.linalg.vector_norm(w), 1e-8)


def test_a_targeted_attack_goes_the_other_way_on_a_linear_model():
    x, _ = images(8, seed=9)
    model = Linear(x.shape[1:])
    target = torch.ones(8, dtype=torch.long)
    w = (model.weight[1] - model.weight[0]).detach().view(x.shape[1:])
    assert_close(fgsm(model, x, target, eps=0.1, targeted=True), (x + 0.1 * w.sign()).clamp(0, 1), 1e-15)


@given(
    norm=st.sampled_from(["linf", "l2"]), eps=st.floats(0, 1), step_size=st.floats(1e-3, 3), n_iter=st.integers(1, 3),
    random_start=st.booleans(), targeted=st.booleans(), seed=st.integers(0, 2**30),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_an_attack_stays_in_the_ball_and_the_cube(norm, eps, step_size, n_iter, random_start, targeted, seed):
    x, y = images(3, seed=seed, spread=0.5)
    x = x.float()
    x_adv = pgd(
        single(), x, y, norm=norm, eps=eps, step_size=step_size, n_iter=n_iter, random_start=random_start,
        targeted=targeted, generator=generator(seed),
    )  # fmt: skip
    assert x_adv.dtype == torch.float32
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    # Rounding as derived in test_geometry.tolerance.
    u, d = 2**-24, x[0].numel()
    slack = u * (1 + 2 * eps) if norm == "linf" else u * ((d + 8) * eps + math.sqrt(d) * (1 + eps))
    assert (distance(norm, x_adv.double(), x.double()) <= eps + slack).all()


def single():
    return copy.deepcopy(trained()).float()


def test_a_radius_of_zero_returns_the_images():
    x, y = images(6, seed=10)
    for attack in (fgsm, ifgsm, pgd):
        assert torch.equal(attack(trained(), x, y, eps=0), x)


def test_more_steps_and_restarts_are_stronger():
    model = trained()
    x, y = images(100, seed=11)
    fast, slow = (loss_of(model, attack(model, x, y), y).mean() for attack in (fgsm, ifgsm))
    assert loss_of(model, x, y).mean() < fast <= slow
    runs = [pgd(model, x, y, n_iter=2, n_restarts=n, generator=generator(13)) for n in (1, 2, 4)]

    def rank(x_adv):
        # A misclassified image before any loss.
        with torch.no_grad():
            hit = model(x_adv).argmax(1) != y
        return loss_of(model, x_adv, y) + 1e6 * hit

    one, two, four = map(rank, runs)
    assert (one <= two).all()
    assert (two <= four).all()
    assert (one < four).any()


def test_restarts_of_a_targeted_attack_keep_the_one_that_reaches_the_target():
    model = trained()
    x, y = images(100, seed=12)
    target = (y + 1) % 6

    def reached(n):
        options = {"eps": 0.15, "n_iter": 3, "step_size": 0.07, "targeted": True}
        with torch.no_grad():
            return model(pgd(model, x, target, n_restarts=n, generator=generator(2), **options)).argmax(1) == target

    one, four = reached(1), reached(4)
    assert (one <= four).all()
    assert four.sum() > one.sum()


# The noise


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eot", ["gradients", "logits"])
def test_averaging_changes_nothing_without_noise(norm, eot):
    model = residual_net()
    x, y = images(12, seed=13)
    options = {"norm": norm, "eps": EPS[norm], "step_size": STEP[norm], "n_iter": 5}
    assert_close(ifgsm(model, x, y, n_eot=3, eot=eot, **options), ifgsm(model, x, y, **options))


def test_gradients_are_averaged_outside_the_loss_and_logits_inside():
    model = residual_net(coef=0.5)
    x, y = images(12, seed=14)

    def passes():
        # The same three draws whenever it is called.
        with attacked(model, generator=generator(3), fold=False):
            leaf = x.clone().requires_grad_()
            return leaf, [model(leaf) for _ in range(3)]

    def ours(eot):
        with attacked(model, generator=generator(3)):
            return Objective(model, y, n_eot=3, eot=eot).gradient(x)

    def cross_entropy(logits):
        return functional.cross_entropy(logits, y, reduction="none")

    leaf, draws = passes()
    outside = sum(map(cross_entropy, draws)) / 3
    outside_gradient = torch.autograd.grad(outside.sum(), leaf)[0]
    leaf, draws = passes()
    inside = cross_entropy(sum(draws) / 3)
    inside_gradient = torch.autograd.grad(inside.sum(), leaf)[0]
    for eot, value, gradient in (("gradients", outside, outside_gradient), ("logits", inside, inside_gradient)):
        found_gradient, found_value, found_logits = ours(eot)
        assert_close(found_gradient, gradient)
        assert_close(found_value, value)
        assert_close(found_logits, sum(draws) / 3)
    # Cross-entropy is convex in the logits (Jensen), and here the draws do differ.
    assert (inside < outside).all()
    assert (inside_gradient - outside_gradient).abs().max() > 1e-3 * outside_gradient.abs().max()


def test_averaging_brings_the_gradient_nearer_to_its_mean():
    model = residual_net(coef=0.5)
    x, y = images(12, seed=15)

    def gradient(n_eot, seed):
        with attacked(model, generator=generator(seed)):
            return Objective(model, y, n_eot=n_eot).gradient(x)[0]

    mean = gradient(100, 1)
    errors = [(gradient(n_eot, 2) - mean).square().mean().item() for n_eot in (1, 25)]
    # Variances of 1 and 1/25, each plus the reference's 1/100: a ratio of 20, of 768 numbers of 12 independent images.
    assert errors[0] > 5 * errors[1]


def attacks_of(model, x, y, **options):
    """Every attack of these files, with few steps."""
    yield fgsm(model, x, y, **options)
    yield ifgsm(model, x, y, n_iter=2, **options)
    yield pgd(model, x, y, n_iter=2, n_restarts=2, **options)
    yield cw(model, x, y, n_iter=2, **options)
    yield cw_as_released(model, x, y, n_iter=2, **options)


ATTACKS = [fgsm, ifgsm, pgd, cw, cw_as_released]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_noisy_model_that_is_attacked_by_one_draw_warns(attack):
    x, y = images(2, seed=16)
    with pytest.warns(NoisyModelWarning, match="n_eot=20"):
        attack(residual_net(coef=0.1), x, y)


def test_nothing_else_warns():
    # Warnings are errors here.
    x, y = images(2, seed=16)
    noisy = residual_net(coef=0.1)
    list(attacks_of(residual_net(), x, y))
    list(attacks_of(noisy, x, y, n_eot=2))
    list(attacks_of(residual_net(coef=0.1).train(), x, y))
    with noise_off(noisy):
        list(attacks_of(noisy, x, y))


def test_everything_random_comes_from_the_generator():
    x, y = images(4, seed=17)
    model = residual_net(coef=0.3)
    before = torch.get_rng_state()
    one = list(attacks_of(model, x, y, n_eot=2, generator=generator(4)))
    other = list(attacks_of(model, x, y, n_eot=2, generator=generator(4)))
    third = list(attacks_of(model, x, y, n_eot=2, generator=generator(5)))
    assert all(map(torch.equal, one, other))
    assert not any(map(torch.equal, one, third))
    assert torch.equal(torch.get_rng_state(), before)


# What an attack leaves alone


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_the_model_is_left_as_it_was(batch_norm):
    x, y = images(4, seed=18)
    model = mixed(residual_net(coef=0.3))
    before = state(model)
    for x_adv in attacks_of(model, x, y, n_eot=2, batch_norm=batch_norm, generator=generator(6)):
        assert not x_adv.requires_grad
        assert same(state(model), before)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_the_model_is_left_as_it_was_after_an_exception(batch_norm):
    x, y = images(4, seed=18)
    model = mixed(residual_net(coef=0.3))
    before = state(model)

    def breaks(logits, y):
        raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError, match="on purpose"):
        pgd(model, x, y, loss=breaks, batch_norm=batch_norm, generator=generator(6))
    assert same(state(model), before)


def test_the_images_are_left_as_they_were():
    x, y = images(4, seed=19)
    x.requires_grad_()
    before = x.detach().clone()
    list(attacks_of(residual_net(), x, y))
    assert torch.equal(x, before)
    assert x.requires_grad
    assert x.grad is None


def test_the_statistics_of_the_batch_are_those_of_training():
    model = residual_net()
    x, y = images(12, seed=20)
    training = copy.deepcopy(model).train()
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(functional.cross_entropy(training(leaf), y, reduction="sum"), leaf)[0]
    with attacked(model, batch_norm="batch"):
        gradient = Objective(model, y).gradient(x)[0]
        # Inside a block that folds the running statistics as well.
        with attacked(model), attacked(model, batch_norm="batch"):
            nested = Objective(model, y).gradient(x)[0]
        running = Objective(model, y)
    assert_close(gradient, expected)
    assert_close(nested, expected)
    with attacked(model):
        assert (running.gradient(x)[0] - expected).abs().max() > 1e-3 * expected.abs().max()


# Circumstances


def test_the_memory_order_of_the_images_does_not_matter():
    model = residual_net()
    x, y = images(6, seed=21)
    permuted = x.expand(-1, 1, -1, -1).to(memory_format=torch.channels_last)
    assert_close(ifgsm(model, permuted, y), ifgsm(model, x, y))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_are_of_any_integers(dtype):
    x, y = images(4, seed=22)
    assert torch.equal(ifgsm(trained(), x, y.to(dtype), n_iter=2), ifgsm(trained(), x, y, n_iter=2))


def test_no_images_give_no_images():
    x, y = images(4, seed=22)
    assert all(x_adv.shape == (0, 1, 8, 8) for x_adv in attacks_of(residual_net(), x[:0], y[:0]))


@pytest.mark.parametrize("attack", [fgsm, ifgsm, cw, cw_as_released])
def test_an_image_is_attacked_by_itself(attack):
    model = residual_net()
    x, y = images(6, seed=23)
    assert_close(attack(model, x, y)[2:4], attack(model, x[2:4], y[2:4]))


def test_a_caller_without_gradients_is_no_hindrance():
    x, y = images(4, seed=24)
    with torch.no_grad():
        inside = list(attacks_of(trained(), x, y, generator=generator(1)))
    assert all(map(torch.equal, inside, attacks_of(trained(), x, y, generator=generator(1))))
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"leave torch\.inference_mode"):
        pgd(trained(), x, y)


def test_attacks_run_in_bfloat16():
    model = residual_net(dtype=torch.float32)
    x, y = images(100, seed=25)
    x = x.float()
    with torch.autocast("cpu", torch.bfloat16):
        low = ifgsm(model, x, y)
        others = list(attacks_of(model, x, y))
    high = ifgsm(model, x, y)
    assert low.dtype == torch.float32
    assert all(other.isfinite().all() and other.dtype == torch.float32 for other in others)
    assert distance("linf", low.double(), x.double()).max() <= 8 / 255 + 2**-24 * 2
    # A tenth or so of the signs differ, those of small gradients: of what the attack adds to the loss, most remains.
    natural, exact, rough = (loss_of(model, images, y).mean() for images in (x, high, low))
    assert 0.8 * (exact - natural) < rough - natural < 1.2 * (exact - natural)


def test_progress_is_silent_off_a_terminal(capfd):
    x, y = images(2, seed=26)
    list(attacks_of(trained(), x, y))
    pgd(trained(), x, y, n_iter=1, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_compiled_model_is_attacked_as_it_is():
    model = residual_net(dtype=torch.float32)
    x, y = images(16, seed=27)
    x = x.float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = torch.compile(model, dynamic=False, options={"fallback_random": True})
        with attacked(model, fold=False), attacked(fast):
            gradient, expected = Objective(fast, y).gradient(x)[0], Objective(model, y).gradient(x)[0]
    # Single precision through a dozen layers.
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * expected.abs().max())


@pytest.mark.slow
def test_a_compiled_model_draws_its_noise_from_the_generator():
    model = residual_net(coef=0.3, dtype=torch.float32)
    x, y = images(64, seed=28)
    x = x.float()

    def mean_logits(net, n):
        with attacked(net, generator=generator(9)), torch.no_grad():
            draws = torch.stack([net(x) for _ in range(n)])
        return draws.mean(0), draws.var(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = torch.compile(model, dynamic=False, options={"fallback_random": True})
        before = torch.get_rng_state()
        one, other = (ifgsm(fast, x, y, n_iter=2, n_eot=2, generator=generator(9)) for _ in range(2))
        third = ifgsm(fast, x, y, n_iter=2, n_eot=2, generator=generator(8))
        mean, variance = mean_logits(fast, 200)
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert torch.equal(torch.get_rng_state(), before)
    # The same law: 384 differences of means of 200 draws, none beyond six standard errors (false alarm 1e-6), and
    # variances that agree on average, each within a tenth and so their mean far better.
    expected, expected_variance = mean_logits(model, 200)
    assert ((mean - expected).abs() < 6 * ((variance + expected_variance) / 200).sqrt()).all()
    assert abs(variance.mean() / expected_variance.mean() - 1) < 0.1


# Bad input


def test_weights_that_are_not_finite_are_refused():
    x, y = images(2, seed=29)
    model = residual_net()
    next(model.parameters()).data[0] = math.nan
    for attack in ATTACKS:
        with pytest.raises(FloatingPointError, match="not finite"):
            attack(model, x, y)


def test_gradients_that_are_not_finite_are_refused():
    class Rooted(nn.Module):
        """Finite logits whose gradient is infinity times zero: sqrt((x - x)**2)."""

        def forward(self, x):
            x = x.flatten(1)
            return x[:, :6] + (x[:, :6] - x[:, :6].detach()).square().sqrt()

    x, y = images(2, seed=29)
    with pytest.raises(FloatingPointError, match="loss or its gradient is not finite"):
        pgd(Rooted(), x, y, n_iter=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -1}, "eps must be finite and >= 0, got eps=-1"),
        ({"step_size": 0}, "step_size must be finite and > 0, got step_size=0"),
        ({"n_iter": 0}, "n_iter must be an integer >= 1, got n_iter=0"),
        ({"n_iter": 2.5}, "n_iter must be an integer, got n_iter=2.5"),
        ({"n_restarts": 0}, "n_restarts must be an integer >= 1"),
        ({"n_restarts": 2, "random_start": False}, "n_restarts must be 1 without a random start, got n_restarts=2"),
        ({"norm": "l1"}, "norm must be one of 'linf', 'l2'"),
        ({"n_eot": 0}, "n_eot must be an integer >= 1"),
        ({"eot": "mean"}, "eot must be one of 'gradients', 'logits', got eot='mean'"),
        ({"loss": "hinge"}, "loss must be one of 'ce', 'margin', got loss='hinge'"),
        ({"batch_norm": "train"}, "batch_norm must be one of 'running', 'batch'"),
    ],
)
def test_a_bad_option_is_refused(options, message):
    x, y = images(2, seed=30)
    with pytest.raises(ValueError, match=message):
        pgd(trained(), x, y, **options)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x + 1, y), r"x must lie in \[0, 1\], got values from"),
        (lambda x, y: (x * math.nan, y), r"x must lie in \[0, 1\], got values from nan"),
        (lambda x, y: ((255 * x).to(torch.uint8), y), "x must be floating-point images .*, got .* torch.uint8"),
        (lambda x, y: (x, y[:1]), "y must be 2 integers, one per image, got"),
        (lambda x, y: (x, y.double()), "y must be 2 integers, one per image, got"),
        (lambda x, y: (x, y[:, None]), "y must be 2 integers, one per image, got"),
        (lambda x, y: (x[0], y[0]), r"x must be a batch of images, x\[None\] and y\[None\] of one, got \(1, 8, 8\)"),
    ],
)
def test_bad_images_and_labels_are_refused(attack, change, message):
    with pytest.raises(ValueError, match=message):
        attack(trained(), *change(*images(2, seed=31)))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("generator", [3, np.random.default_rng(0)])
def test_a_seed_is_no_generator(attack, generator):
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or None, got .*: for a seed"):
        attack(trained(), *images(2, seed=31), generator=generator)


@pytest.mark.parametrize("n_draws", [0, 1.5])
def test_logits_are_those_of_one_draw_or_more(n_draws):
    with pytest.raises(ValueError, match="n_draws must be an integer"):
        mean_logits(trained(), images(2, seed=31)[0], n_draws)


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_that_is_no_class_is_refused(label):
    x, y = images(2, seed=32)
    with pytest.raises(ValueError, match=r"y must be in 0, \.\.\., 5, got"):
        pgd(trained(), x, torch.full_like(y, label))


def test_an_answer_that_is_no_logits_is_refused():
    x, y = images(2, seed=33)
    with pytest.raises(ValueError, match=r"model must return logits of shape \(2, n_classes\), got \(2, 1, 8, 8\)"):
        pgd(torch.nn.ReLU(), x, y)


def test_a_trained_model_gives_way():
    x, y = images(100, seed=34)
    model = trained()
    assert accuracy(model, ifgsm(model, x, y), y) < accuracy(model, x, y) - 0.05
    assert make_ball("linf", 8 / 255).distance(ifgsm(model, x, y), x).max() <= 8 / 255 + 2**-53 * 2


class _Wavering(nn.Module):
    """Two classes, z = (w . x + b + s g, 0), g normal."""

    def __init__(self, n, noise):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, generator=generator(3), dtype=torch.float64))
        self.noise = noise

    def forward(self, x):
        z = x @ self.weight + 10 + self.noise * torch.randn(len(x), dtype=x.dtype)
        return torch.stack([z, torch.zeros_like(z)], 1)


def test_fresh_draws_choose_among_the_restarts():
    # Steps are of no length: six uniform points of the ball, whose mean margins are normal with spread t. The best of
    # six is at -1.267 t, found through noise t / sqrt(10) at -1.267 / sqrt(1.1) = -1.21 t, through noise t at -0.90 t;
    # the mean of 400 images has standard error 0.035 t at most, so that -1.05 t is four of them from both.
    n, eps = 50, 0.1
    model = _Wavering(n, 0.0)
    spread = eps * (model.weight.detach().square().sum().item() / 3) ** 0.5
    model.noise = spread
    x, y = torch.full((400, n), 0.5, dtype=torch.float64), torch.zeros(400, dtype=torch.long)
    options = {"eps": eps, "step_size": 1e-12, "n_iter": 1, "n_restarts": 6, "loss": "margin"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoisyModelWarning)
        x_adv = pgd(model, x, y, **options, generator=generator(4))
    assert ((x_adv - x) @ model.weight.detach()).mean() < -1.05 * spread
