"""Carlini and Wagner's attack as printed and as released: peer, closed forms, what is kept, how far it goes."""

import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import Linear, accuracy, distance, generator, images, trained
from attack_nets import residual_net
from torch import nn

from bridge import noise_from
from nets.attacks import NoisyModelWarning, cw, cw_as_released, ifgsm
from nets.attacks._carlini_wagner import _Kept
from nets.attacks._objective import Objective

N_ITER, LR = 50, 6e-4
# Kingma & Ba 2015, section 2.1: no step of Adam exceeds lr (1 - beta_1) / sqrt(1 - beta_2).
ADAM = 0.1 / math.sqrt(0.001)


class Raised(nn.Module):
    """Logits plus 1000: no attack on differences notices, and torchattacks takes no 0 of its own for a logit."""

    def __init__(self, model):
        super().__init__()
        self.model, self.n_passes = model, 0
        # torchattacks puts what was in training mode back into it as a whole, the shared network with it.
        self.eval()

    def forward(self, x):
        self.n_passes += 1
        return self.model(x) + 1000


def deceived(model, x_adv, y, targeted=False):
    with torch.no_grad():
        return (model(x_adv).argmax(1) == y) == targeted


# As printed


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("c", "n_iter", "lr"), [(10, 51, LR), (10, 51, 5e-3), (1, 20, 0.3)])
def test_the_euclidean_attack_is_that_of_torchattacks(targeted, c, n_iter, lr):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = pytest.importorskip("torchattacks")
    model = Raised(trained())
    x, y = images(60, seed=3)
    # Their map sends 0 and 1 to infinity.
    x, y = x.clamp(0.02, 0.98), (y + 1) % 6 if targeted else y
    theirs = torchattacks.CW(model, c=c, kappa=0, steps=n_iter, lr=lr)
    if targeted:
        theirs.set_mode_targeted_by_label(quiet=True)
    expected = theirs(x, y)
    # Theirs stops when the loss of the batch rises, and does not look at the image after its last step: one step less.
    n_steps = model.n_passes - 1
    assert n_steps == n_iter - 1 or lr == 0.3
    x_adv = cw(model, x, y, norm="l2", c=c, n_iter=n_steps, lr=lr, targeted=targeted)
    hit = deceived(model, expected, y, targeted)
    assert torch.equal(deceived(model, x_adv, y, targeted), hit)
    assert hit.any() or lr == LR
    # Where nothing deceives, theirs returns the image, ours the last iterate. The step of Adam is g / sqrt(g**2): the
    # rounding of the logits, 1e-13, over the gradient, some 1e-3, a step.
    np.testing.assert_allclose(x_adv[hit], expected[hit], rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_lie_in_the_cube_and_begin_at_the_image(norm):
    x, y = images(40, seed=4, spread=0.5)
    assert (x == 0).any()
    assert (x == 1).any()
    x_adv = cw(trained(), x, y, norm=norm, n_iter=30, lr=0.2)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    # An image that is wrong from the start is returned: but for pixels at 0 and 1, which no u has, to 5e-7.
    wrong = deceived(trained(), x, y)
    assert wrong.any()
    np.testing.assert_allclose(x_adv[wrong], x[wrong], rtol=0, atol=5.1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_between_are_reproduced(dtype):
    # One step of a length that rounds away.
    x, y = images(5, seed=5)
    x = x.clamp(0.01, 0.99).to(dtype)
    x_adv = cw(trained().to(dtype), x, y, n_iter=1, lr=1e-30, keep="last")
    trained().to(torch.float64)
    np.testing.assert_allclose(x_adv, x, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_nearest_deceiving_iterate_is_kept(norm):
    # A linear model: the way back from beyond the boundary is part of the run, and a step costs nothing.
    model = Linear((40,), bias=12.0)
    x = 0.4 + 0.2 * torch.rand(20, 40, generator=generator(6), dtype=torch.float64)
    y = torch.zeros(20, dtype=torch.long)
    right = ~deceived(model, x, y)
    assert right.any()
    nearest = torch.full((20,), math.inf, dtype=torch.float64)
    n_returns, options = 0, {"c": 0.3, "lr": 0.02}
    # The iterates are the last ones of shorter runs.
    for n_iter in range(1, 50):
        last = cw(model, x, y, norm=norm, n_iter=n_iter, **options, keep="last")
        best = cw(model, x, y, norm=norm, n_iter=n_iter, **options)
        reached = nearest.isfinite()
        nearer = deceived(model, last, y) & (distance(norm, last, x) < nearest)
        nearest = torch.where(nearer, distance(norm, last, x), nearest)
        n_returns += int((nearer & reached).sum())
        hit = right & nearest.isfinite()
        assert deceived(model, best, y)[hit].all()
        np.testing.assert_allclose(distance(norm, best, x)[hit], nearest[hit], rtol=1e-12)
        # Where nothing deceives: the last.
        miss = ~nearest.isfinite()
        np.testing.assert_array_equal(best[miss], last[miss])
    assert hit.any()
    # In the Euclidean norm the last step is often nearer than all that deceived before.
    assert n_returns > 0 or norm == "linf"


def test_a_tie_deceives_nobody():
    # Logits on the diagonal: both gaps are exactly 0; then the wrong class is ahead by 1.
    x, y = torch.zeros(2, 1), torch.tensor([0, 1])
    kept = _Kept(Objective(nn.Identity(), y), x, kappa=0.0)
    kept.offer(x + 1, torch.ones(2), torch.full((2, 2), 0.5))
    assert torch.equal(kept.or_else(x + 9), x + 9)
    kept.offer(x + 2, torch.ones(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert torch.equal(kept.or_else(x + 9), x + 2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_weight_deceives_more(norm):
    model = trained()
    x, y = images(100, seed=7)
    shares = [deceived(model, cw(model, x, y, norm=norm, c=c, lr=0.02), y).sum().item() for c in (1e-4, 0.03, 10)]
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[2] > 90
    # The maximum norm holds back the farthest pixel alone, and Adam forgets the scale of the gradient of the others:
    # there c decides little. The Euclidean norm outweighs the margin for all images, for some, and for none.
    assert (shares[0] > 90) == (norm == "linf")
    assert (shares[0] + 10 < shares[1] < shares[2] - 10) == (norm == "l2")


def test_a_linear_model_in_the_maximum_norm():
    # From grey, where tanh has one slope for all pixels, the way leads along sign(w), w the gradient of the margin, and
    # the nearest image across the boundary is x + m sign(w) / |w|_1, m the margin. Steps are of lr / 2.
    n, lr = 40, 2e-3
    x = torch.full((3, n), 0.5, dtype=torch.float64)
    y = torch.zeros(3, dtype=torch.long)
    model = Linear((n,), bias=12.0)
    w = (model.weight[1] - model.weight[0]).detach()
    with torch.no_grad():
        m = model(x) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    least = m / w.abs().sum()
    assert (least > 0.05).all()
    x_adv = cw(model, x, y, lr=lr, n_iter=200)
    assert deceived(model, x_adv, y).all()
    found = distance("linf", x_adv, x)
    assert (found > least).all()
    # The pixel that is farthest is held back a little by the distance: three steps.
    assert (found < least + 3 * lr / 2).all()
    # Across the boundary nothing drives it farther but Adam's memory of some ten steps; else it would be at 0.19.
    last = distance("linf", cw(model, x, y, lr=lr, n_iter=200, keep="last"), x)
    assert (last < least + 20 * lr / 2).all()
    assert (least + 40 * lr / 2 < 0.19).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_in_the_euclidean_norm(targeted):
    # While c |w|**2 / 2 is less than the margin, |delta|**2 - c w . delta is least at delta = c w / 2.
    n, c = 40, 0.01
    x = torch.full((3, n), 0.5, dtype=torch.float64)
    model = Linear((n,))
    w = (model.weight[1] - model.weight[0]).detach()
    y = torch.full((3,), int(targeted))
    x_adv = cw(model, x, y, norm="l2", c=c, lr=2e-3, n_iter=600, keep="last", targeted=targeted)
    np.testing.assert_allclose(x_adv, x + c * w / 2, rtol=0, atol=1e-6)


def test_the_margin_that_is_asked_for_is_kept():
    model = trained()
    x, y = images(60, seed=8)

    def margins(kappa):
        with torch.no_grad():
            logits = model(cw(model, x, y, kappa=kappa, lr=0.05))
        others = logits.scatter(1, y[:, None], -math.inf).amax(1)
        return others - logits.gather(1, y[:, None]).squeeze(1)

    barely, well = margins(0), margins(3)
    right = ~deceived(model, x, y)
    assert (barely[right] > 0).all()
    assert (barely[right] < 3).any()
    assert (well[right] >= 3).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_is_an_option(norm):
    x, y = images(20, seed=9)
    free = cw(trained(), x, y, norm=norm, lr=0.05)
    held = cw(trained(), x, y, norm=norm, lr=0.05, eps=0.02)
    assert distance(norm, free, x).max() > 0.05
    # Rounding as derived in test_geometry.tolerance.
    assert distance(norm, held, x).max() <= 0.02 + 1e-15


def test_the_papers_settings_move_a_pixel_by_less_than_half_of_eps():
    x, y = images(60, seed=10)
    model = trained()
    for norm in ("linf", "l2"):
        moved = (cw(model, x, y, norm=norm, keep="last") - x).abs().max()
        # dx / du <= 1 / 2; the first steps are of lr, and none is more than ADAM lr.
        assert moved <= N_ITER * ADAM * LR / 2
        assert 0.5 * N_ITER * LR / 2 < moved < 1.2 * N_ITER * LR / 2 < 0.6 * 8 / 255


def test_a_noisy_model_deceives_on_the_mean_of_its_draws():
    model = residual_net(coef=0.5)
    x, y = images(20, seed=11)
    options = {"lr": 0.02, "n_iter": 15, "n_eot": 4}
    one = cw(model, x, y, generator=generator(1), **options)
    assert torch.equal(one, cw(model, x, y, generator=generator(1), **options))
    with noise_from(model, generator(2)), torch.no_grad():
        mean = torch.stack([model(one) for _ in range(40)]).mean(0)
        natural = torch.stack([model(x) for _ in range(40)]).mean(0)
    # What deceived the mean of 4 draws may lie just across the boundary, and miss that of 40.
    assert (mean.argmax(1) != y).sum() >= (natural.argmax(1) != y).sum() + 5


class NoisyLinear(nn.Module):
    """Two classes, z = (w . x + b + s g, 0), g normal: the mean logits, and so the right answer, are known."""

    def __init__(self, n, bias, noise):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, generator=generator(3), dtype=torch.float64))
        self.bias, self.noise = bias, noise

    def mean(self, x):
        return x @ self.weight.detach() + self.bias

    def forward(self, x):
        z = x @ self.weight + self.bias + self.noise * torch.randn(len(x), dtype=x.dtype)
        return torch.stack([z, torch.zeros_like(z)], 1)


@pytest.mark.parametrize("n_eot", [1, 4])
def test_a_noisy_linear_model_is_deceived_in_the_mean_of_its_noise(n_eot):
    # From m = 2, steps of about lr / 2 per pixel change m by lr |w|_1 / 2 = 1/4 each, until the draws that guide stop
    # pushing, at m = -2 s / sqrt(n_eot) or so. The margin over 10 fresh draws has error 0.32 s: to be kept with m above
    # -s / (2 sqrt(n_eot)), an iterate has to win against later ones by three standard errors or more.
    n, noise = 40, 0.7
    x = torch.full((60, n), 0.5, dtype=torch.float64)
    y = torch.zeros(60, dtype=torch.long)
    model = NoisyLinear(n, 0.0, noise)
    model.bias = 2 - model.mean(x)[0].item()
    lr = 10 / (20 * model.weight.detach().abs().sum().item())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoisyModelWarning)
        x_adv = cw(model, x, y, lr=lr, n_eot=n_eot, generator=generator(4))
    # The nearest iterate that deceives the draws that guided it would be on this side for most images.
    assert (model.mean(x_adv) < -noise / n_eot**0.5 * 0.5).all()


class Disturbed(nn.Module):
    """A model whose logits have noise added: the mean, and so what an attack has to deceive, is the model itself."""

    def __init__(self, model, noise):
        super().__init__()
        self.model, self.noise = model, noise

    def forward(self, x):
        z = self.model(x)
        return z + self.noise * torch.randn(z.shape, dtype=z.dtype)


def test_noise_added_to_the_logits_gains_nothing():
    # Paired, 150 images: chance moves the difference by less than sqrt(2 * 0.1 / 150) = 0.04, one standard error.
    model = trained()
    x, y = images(150, seed=21)
    options = {"lr": 0.01, "n_iter": 25, "generator": generator(6)}
    plain = accuracy(model, cw(model, x, y, **options), y)
    assert 0.1 < plain < 0.7
    for n_eot in (1, 5):
        noisy = Disturbed(model, 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoisyModelWarning)
            kept = cw(noisy, x, y, **options, n_eot=n_eot)
        assert accuracy(model, kept, y) < plain + 0.05


# As released


def released(model, x, *, eps, c, kappa, n_iter, lr):
    """What the released script does to one image, line by line, written again."""
    with torch.no_grad():
        logits = model(x[None])[0]
    p = int(logits.argmax())
    logits[p] = -1
    q = int(logits.argmax())
    w, best, least = x.clone(), x.clone(), math.inf
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, n_iter + 1):
        leaf = w.clone().requires_grad_()
        z = model(leaf[None])[0]
        total = (leaf - x).pow(2).sum() + c * torch.clamp(z[p] - z[q] + kappa, min=0)
        g = torch.autograd.grad(total, leaf)[0]
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        w = w - lr * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8)
        if total.item() < least:
            least, best = total.item(), w.clone()
    return x + eps * (best - x)


@pytest.mark.parametrize(("lr", "kappa", "n_iter"), [(LR, 0.0, 50), (0.05, 0.0, 20), (0.05, 0.5, 20)])
def test_a_batch_is_attacked_as_the_script_attacks_each_image(lr, kappa, n_iter):
    model = residual_net()
    x, y = images(6, seed=12)
    options = {"eps": 0.031, "c": 10.0, "kappa": kappa, "n_iter": n_iter, "lr": lr}
    expected = torch.stack([released(model, image, **options) for image in x])
    x_adv = cw_as_released(model, x, y, **options)
    # Rounding 1e-13 of a gradient of 1e-3 or more, times lr a step.
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=1e-9)
    # The labels play no part.
    assert torch.equal(cw_as_released(model, x, **options), x_adv)


def test_nothing_happens_where_all_other_logits_are_below_minus_one():
    # The script sets the first logit to -1, which is then the greatest again.
    x, _ = images(6, seed=13)
    model = Linear(x.shape[1:], n_classes=3, bias=0.0)
    model.weight.data.mul_(1e-3)
    model.bias.data.copy_(torch.tensor([0.0, -5.0, -6.0]))
    assert torch.equal(cw_as_released(model, x), x)
    model.bias.data.copy_(torch.tensor([0.0, -0.5, -6.0]))
    assert not torch.equal(cw_as_released(model, x), x)


def test_a_thousandth_of_the_cube_is_left_of_its_perturbation():
    model = trained()
    x, y = images(60, seed=14)
    x_adv = cw_as_released(model, x, y)
    moved = (x_adv - x).abs().max()
    assert 0 < moved <= 0.031 * N_ITER * ADAM * LR
    # Of one grey level, a quarter and a little.
    assert moved < 0.3 / 255
    clipped = cw_as_released(model, x, y, clip=True)
    assert x_adv.min() < 0
    assert torch.equal(clipped, x_adv.clamp(0, 1))


def test_labels_that_are_not_used_are_checked_all_the_same():
    x, y = images(2, seed=7)
    for wrong in (y - 6, y + 6):
        with pytest.raises(ValueError, match=r"y must lie in 0, \.\.\., 5"):
            cw_as_released(trained(), x, wrong)


def test_the_released_attack_is_far_weaker_than_ifgsm():
    model = trained()
    x, y = images(200, seed=15)
    natural, released_, printed, strong = (
        accuracy(model, images, y) for images in (x, cw_as_released(model, x), cw(model, x, y), ifgsm(model, x, y))
    )
    # Paired on the same images: printed constants keep the order.
    assert strong < printed <= released_ <= natural
    assert natural - released_ < 0.1 * (natural - strong)


@pytest.mark.parametrize("attack", [cw, cw_as_released])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": 0}, "c must be finite and > 0, got c=0"),
        ({"kappa": -1}, "kappa must be finite and >= 0, got kappa=-1"),
        ({"n_iter": 0}, "n_iter must be an integer >= 1, got n_iter=0"),
        ({"lr": math.inf}, "lr must be finite and > 0, got lr=inf"),
        ({"eps": -1}, "eps must be finite and >= 0, got eps=-1"),
        ({"n_eot": 0}, "n_eot must be an integer >= 1"),
    ],
)
def test_a_bad_option_is_refused(attack, options, message):
    x, y = images(2, seed=16)
    with pytest.raises(ValueError, match=message):
        attack(trained(), x, y, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm must be one of 'linf', 'l2', got norm='l1'"),
        ({"keep": "first"}, "keep must be one of 'best', 'last', got keep='first'"),
        ({"eot": "mean"}, "eot must be one of 'gradients', 'logits'"),
    ],
)
def test_a_bad_option_of_the_printed_attack_is_refused(options, message):
    x, y = images(2, seed=16)
    with pytest.raises(ValueError, match=message):
        cw(trained(), x, y, **options)
    with pytest.raises(ValueError, match=r"x must be float32 or float64.*got torch\.float16"):
        cw(trained(), x.half(), y)
