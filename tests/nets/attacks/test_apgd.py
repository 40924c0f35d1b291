"""APGD: a second implementation, torchattacks', closed forms, and what holds for every image."""

import math
import warnings
from fractions import Fraction
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from attack_models import N_CLASSES, Linear, accuracy, distance, generator, images, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.attacks import NoisyModelWarning, apgd, pgd
from nets.attacks import _apgd as module
from nets.attacks._balls import make_ball
from nets.attacks._image_rng import ImageStreams
from nets.attacks._losses import LOSSES, dlr, dlr_targeted
from nets.attacks._objective import Objective

EPS = {"linf": 0.1, "l2": 0.5}
NORM = pytest.mark.parametrize("norm", ["linf", "l2"])


class Bar:
    def update(self):
        pass


def run(model, x, y, start, norm, n_iter, eps=None):
    """One run from a given start: points of the greatest loss, and the misclassified ones."""
    return module._ascend(Objective(model, y), make_ball(norm, eps or EPS[norm]), x, start, n_iter, Bar())


def start_of(x, norm, seed=3):
    ball = make_ball(norm, EPS[norm])
    direction = ball.random_direction(ImageStreams(len(x), generator(seed)), torch.arange(len(x)), x)
    return ball.around(x)(x + ball.eps * direction)


# ---------------------------------------------------------------------------------------------- checkpoints, losses


@pytest.mark.parametrize("n_iter", [1, 2, 5, 10, 40, 100, 101, 1000])
def test_checkpoints_are_those_of_the_paper(n_iter):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    assert module.checkpoints(n_iter) == sorted({math.ceil(q * n_iter) for q in p[1:]} & set(range(1, n_iter)))


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 99))
def test_neither_scale_nor_shift_of_the_logits_changes_dlr(scale, shift, seed):
    z = torch.randn(5, 6, generator=generator(seed), dtype=torch.float64)
    y, target = torch.arange(5), torch.tensor([5, 0, 1, 2, 3])
    # Rounding of shift + scale z, relative to the differences of the logits, which are above 1e-3 scale mostly; the
    # 1e-12 in the denominator weighs 1e-9 for the smallest scale.
    for loss in (dlr, lambda z, y: dlr_targeted(z, y, target)):
        torch.testing.assert_close(loss(scale * z + shift, y), loss(z, y), rtol=1e-6, atol=1e-6)


def test_dlr_is_positive_where_the_prediction_is_wrong_and_nowhere_else():
    z = torch.randn(500, 5, generator=generator(0))
    y = torch.randint(5, (500,), generator=generator(1))
    assert torch.equal(dlr(z, y) > 0, z.argmax(1) != y)


def test_dlr_equals_torchattacks():
    torchattacks = import_torchattacks()
    z = torch.randn(50, 7, generator=generator(0), dtype=torch.float64)
    y, target = torch.arange(50) % 7, (torch.arange(50) + 3) % 7
    torch.testing.assert_close(dlr(z, y), torchattacks.APGD.dlr_loss(None, z, y), rtol=1e-12, atol=0)
    theirs = torchattacks.APGDT.dlr_loss_targeted(None, z, y, target)
    torch.testing.assert_close(dlr_targeted(z, y, target), theirs, rtol=1e-12, atol=0)


# ----------------------------------------------------------------------------------------------- second implementations


def import_torchattacks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torchattacks")


def straightforward(model, x, y, start, norm, eps, n_iter, checks):
    """APGD of one image, with lists for memory, as the paper tells it; also how often each condition fired."""

    def project(z):
        if norm == "linf":
            return torch.maximum(torch.minimum(z, x + eps), x - eps).clamp(0, 1)
        return (x + (z - x) * min(1, eps / max((z - x).norm().item(), 1e-300))).clamp(0, 1)

    def look(z):
        z = z.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(z[None]), y[None])
        return loss.item(), torch.autograd.grad(loss, z)[0]

    points, (loss, gradient) = [start], look(start)
    losses, best = [loss], (loss, start, gradient)
    eta, etas, bests, window, fired = 2 * eps, [], [loss], 0, [0, 0]
    for k in range(n_iter):
        direction = gradient.sign() if norm == "linf" else gradient / gradient.norm()
        z = project(points[-1] + eta * direction)
        momentum = 0 if k == 0 else 0.25 * (points[-1] - points[-2])
        points.append(project(points[-1] + (1 if k == 0 else 0.75) * (z - points[-1]) + momentum))
        loss, gradient = look(points[-1])
        losses.append(loss)
        if loss > best[0]:
            best = loss, points[-1], gradient
        if k + 1 in checks:
            rises = sum(losses[i + 1] > losses[i] for i in range(window, k + 1))
            first = rises <= 0.75 * (k + 1 - window)
            unchanged = not etas or etas[-1] == eta
            second = unchanged and bests[-1] == best[0]
            etas.append(eta)
            bests.append(best[0])
            if first or second:
                eta, points[-1], gradient = eta / 2, best[1], best[2]
            fired[0] += first
            fired[1] += second and not first
            window = k + 1
    return best, eta, fired


class Wavy(torch.nn.Module):
    """Logits with many maxima in the ball, so that the step size has to come down."""

    def forward(self, x):
        x = x.flatten(1)
        weight = torch.randn(x.shape[1], 4, generator=generator(5), dtype=x.dtype)
        return torch.sin(4 * x @ weight) + x @ weight


@NORM
def test_the_ascent_equals_a_straightforward_one(norm):
    """Image by image in double precision; the step size comes down on the way."""
    x, n_iter = torch.rand(20, 1, 3, 2, generator=generator(0), dtype=torch.float64), 20
    y = torch.arange(20) % 4
    start = start_of(x, norm)
    x_best, _ = run(Wavy(), x, y, start, norm, n_iter)
    checks = [math.ceil(p * n_iter / 100) for p in (22, 41, 57, 70, 80, 87, 93, 99)]
    total = 0
    for i in range(len(x)):
        (_, point, _), eta, fired = straightforward(Wavy(), x[i], y[i], start[i], norm, EPS[norm], n_iter, checks)
        # The same operations up to the order of sums of 6 terms, 1e-16; a step multiplies it by 1 + eta |Hessian| /
        # |gradient|, about 2 where the point has not settled: 2^20 1e-16.
        torch.testing.assert_close(x_best[i], point, rtol=0, atol=1e-9)
        total += sum(fired)
        assert eta == 2 * EPS[norm] / 2 ** sum(fired)
    assert total > 20


class Script:
    """An objective whose values are told beforehand; points and steps go up a line without end."""

    eps, sign = 1.0, 1

    def __init__(self, values):
        self.values, self.points, self.y = iter(values), [], torch.zeros(1, dtype=torch.long)

    def gradient(self, x):
        self.points.append(x.item())
        value = torch.full((1,), float(next(self.values)), dtype=torch.float64)
        return torch.ones_like(x), value, torch.tensor([[1.0, 0.0]])

    def around(self, x):
        return lambda z: z

    def ascent(self, gradient):
        return gradient

    def step_sizes(self, n_iter):
        """The step size in each window, from its third step: x_(k+1) = x_k + 0.75 eta + 0.25 (x_k - x_(k-1))."""
        module._ascend(
            self, self, torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), n_iter, Bar()
        )
        step = [b - a for a, b in pairwise(self.points)]
        return [(step[k + 2] - 0.25 * step[k + 1]) / 0.75 for k in [0, *module.checkpoints(n_iter)] if k + 2 < n_iter]


def test_a_loss_that_rises_without_a_new_best_halves_the_step_size_at_every_second_checkpoint():
    """Condition 2: the loss falls once, then rises in every step, and never gets back to where it was."""
    script = Script([1000, *range(100)])
    # The best point is the start's: no rise of it in the first window, halved; then not, as it was just halved; ...
    assert script.step_sizes(100) == pytest.approx([2, 1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8], rel=1e-12)


def test_a_loss_that_falls_in_a_quarter_of_the_steps_halves_the_step_size():
    """Condition 1, with a new best in every window, so that condition 2 is never met."""
    # 17 rises of 22, more than 16.5; 14 of 19, not more than 14.25; 12 of 16, exactly; 10 of 13, more than 9.75;
    # 7 of 10; 6 of 7; 4 of 6; the last window ends with the run.
    ends, falls = [22, 41, 57, 70, 80, 87, 93, 99], [5, 5, 4, 3, 3, 1, 2, 0]
    values, start = [0], 0
    for end, n_falls in zip(ends, falls, strict=True):
        # Falls in every second step from the window's second on: by a half, and the rise after it is to a new best.
        drops = {start + 2 + 2 * i for i in range(n_falls)}
        values += [k - 1.5 if k in drops else k for k in range(start + 1, end + 1)]
        start = end
    script = Script([*values, 100])
    assert script.step_sizes(100) == pytest.approx([2, 2, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8], rel=1e-9)


class Quiet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = trained()

    def forward(self, x):
        return 0.1 * self.model(x)


@NORM
def test_the_best_points_equal_those_of_torchattacks(norm):
    """100 steps in double precision from its start.

    It counts the first step as a rise whatever it brings, the paper if the loss rose, which it does here. The logits
    are scaled down, since it adds 1e-12 to the length of a gradient, which of a confident net is not much longer.
    """
    torchattacks = import_torchattacks()
    model, (x, y) = Quiet(), images(20, seed=11)
    attack = torchattacks.APGD(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=EPS[norm], steps=100)
    default = torch.get_default_dtype()
    with torch.random.fork_rng():
        try:
            # It draws in the default precision.
            torch.set_default_dtype(torch.float64)
            torch.manual_seed(0)
            drawn = torch.rand(x.shape) * 2 - 1 if norm == "linf" else torch.randn(x.shape)
            torch.manual_seed(0)
            theirs, _, loss, _ = attack.attack_single_run(x, y)
        finally:
            torch.set_default_dtype(default)
    step = drawn / distance(norm, drawn, 0 * drawn).view(-1, 1, 1, 1)
    ours, _ = run(model, x, y, (x + EPS[norm] * step).clamp(0, 1), norm, 100)
    with torch.no_grad():
        # 1e-12 beside gradients above 1e-3, and a stationary loss at the end.
        torch.testing.assert_close(LOSSES["ce"](model(ours), y), loss, rtol=1e-9, atol=1e-12)
    # Where rounding decides which of two equal losses is the greater, at most.
    assert ((ours - theirs).abs().flatten(1).amax(1) < 1e-7).double().mean() >= 0.9


def test_it_is_as_strong_as_torchattacks_on_targets():
    """APGD-T with its own starts: of 60 images, the two may differ in those at the edge of the ball, 3 say."""
    torchattacks = import_torchattacks()
    model, (x, y) = trained(), images(60, seed=13)
    attack = torchattacks.APGDT(model, eps=0.1, steps=20, n_classes=N_CLASSES)
    with torch.random.fork_rng():
        theirs = accuracy(model, attack.perturb(x, y)[1], y)
    ours = accuracy(model, apgd(model, x, y, eps=0.1, n_iter=20, loss="dlr-targeted", generator=generator(0)), y)
    assert abs(ours - theirs) <= 3 / 60


# ----------------------------------------------------------------------------------------------------------- strength


def test_a_linear_model_is_brought_to_its_corner_by_one_step():
    x = torch.rand(4, 2, 3, 3, generator=generator(1), dtype=torch.float64)
    model, y = Linear(x.shape[1:]), torch.zeros(4, dtype=torch.long)
    slope = (model.weight[1] - model.weight[0]).detach().view(x.shape[1:])
    # A step of 2 eps from anywhere in the ball, projected, is the corner: exact.
    expected = (x + 0.1 * slope.sign()).clamp(0, 1)
    for loss in ("ce", "margin"):
        x_adv = apgd(model, x, y, eps=0.1, n_iter=1, loss=loss, generator=generator(0))
        torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-15)


def test_a_linear_model_is_brought_to_the_pole_of_the_sphere():
    x = 0.3 + 0.4 * torch.rand(4, 2, 3, 3, generator=generator(1), dtype=torch.float64)
    model, y = Linear(x.shape[1:]), torch.zeros(4, dtype=torch.long)
    slope = (model.weight[1] - model.weight[0]).detach().view(x.shape[1:])
    x_adv = apgd(model, x, y, eps=0.25, norm="l2", n_iter=60, loss="margin", generator=generator(0))
    # A step of 2 eps along the slope divides the angle to the pole by 3, with momentum by 2 at least: 2^-60 in the end,
    # far below the square root of rounding at which the best point, chosen by a loss that is flat there, settles.
    torch.testing.assert_close(x_adv, x + 0.25 * slope / slope.norm(), rtol=0, atol=1e-6)


@NORM
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_it_returns_the_greatest_loss_that_it_saw(norm, loss):
    model, (x, y) = trained(), images(30, seed=5)
    seen, function = [], module.APGD_LOSSES[loss]

    def spy(logits, labels):
        value = function(logits, labels)
        seen.append(value.detach())
        return value

    with torch.no_grad():
        right = model(x).argmax(1) == y
    x_adv = apgd(model, x, y, eps=EPS[norm] / 2, norm=norm, n_iter=15, loss=spy, generator=generator(0))
    with torch.no_grad():
        logits = model(x_adv)
    stays = logits.argmax(1)[right] == y[right]
    assert 0 < stays.sum() < right.sum()
    best = torch.stack(seen).amax(0)
    # The same passes in batches of another size: rounding alone.
    torch.testing.assert_close(function(logits, y)[right][stays], best[stays], rtol=1e-10, atol=1e-12)


def test_more_steps_bring_more_loss():
    """Of the mean over 60 images; the step sizes differ, so of a single image it need not hold."""
    model, (x, y) = trained(), images(60, seed=5)
    means = []
    for n_iter in (1, 4, 16, 64):
        x_adv = apgd(model, x, y, eps=0.05, n_iter=n_iter, generator=generator(0))
        with torch.no_grad():
            means.append(LOSSES["ce"](model(x_adv), y).mean().item())
    assert means == sorted(means)


@NORM
def test_it_is_no_weaker_than_pgd(norm):
    """Both with 30 steps. Images at the edge of the ball may fall to one and not to the other: 2 of 60 are allowed."""
    model, (x, y) = trained(), images(60, seed=7)
    by_pgd = pgd(model, x, y, eps=EPS[norm], norm=norm, step_size=EPS[norm] / 4, n_iter=30, generator=generator(0))
    limit = accuracy(model, by_pgd, y) + 2 / 60
    assert 0.1 < limit < 0.9
    for loss in ("ce", "dlr", "dlr-targeted"):
        x_adv = apgd(model, x, y, eps=EPS[norm], norm=norm, n_iter=30, loss=loss, generator=generator(0))
        assert accuracy(model, x_adv, y) <= limit


def test_dlr_sees_through_logits_so_large_that_cross_entropy_has_no_gradient():
    """A thousand times the logits change no prediction; in single precision, the softmax is 0 or 1 exactly."""
    model, (x, y) = trained(), images(60, seed=7)

    def loud(x):
        return 1e4 * model(x.double()).float()

    wrapped = torch.nn.Module()
    wrapped.forward = loud
    x = x.float()
    options = {"eps": 0.1, "n_iter": 20, "generator": generator(0)}
    by_dlr = accuracy(wrapped, apgd(wrapped, x, y, loss="dlr", **options), y)
    by_ce = accuracy(wrapped, apgd(wrapped, x, y, loss="ce", **options), y)
    plain = accuracy(model, apgd(model, x.double(), y, loss="dlr", **options), y)
    assert abs(by_dlr - plain) <= 2 / 60
    assert by_ce > by_dlr + 0.3


# ------------------------------------------------------------------------------------------------ what always holds


@settings(deadline=None, max_examples=40)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 1),
    n_iter=st.integers(1, 6),
    loss=st.sampled_from(["ce", "dlr", "dlr-targeted", "margin"]),
    shape=st.sampled_from([(1, 1, 1), (3, 2, 5), (7,)]),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_the_result_lies_in_the_ball_and_in_the_cube(norm, eps, n_iter, loss, shape, n, seed):
    x = torch.rand(n, *shape, generator=generator(seed))
    x = x.round() if seed % 3 == 0 else x
    model = Linear(shape, n_classes=4, bias=0, seed=seed).float()
    y = torch.randint(4, (n,), generator=generator(seed))
    x_adv = apgd(model, x, y, eps=eps, norm=norm, n_iter=n_iter, loss=loss, n_target_classes=2, generator=generator(1))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    if n:
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        # Rounding of x + eps in single precision, in each of up to 30 pixels.
        assert distance(norm, x_adv, x).max() <= eps + 1e-6


@NORM
def test_eps_0_returns_the_images(norm):
    x, y = images(5, seed=1)
    assert torch.equal(apgd(trained(), x, y, eps=0, norm=norm, n_iter=3), x)


def test_misclassified_images_are_returned_as_they_are():
    model, (x, y) = trained(), images(20, seed=1)
    with torch.no_grad():
        prediction = model(x).argmax(1)
    y = torch.where(torch.arange(20) % 2 == 0, prediction, (prediction + 1) % N_CLASSES)
    x_adv = apgd(model, x, y, eps=0.1, n_iter=3)
    changed = (x_adv != x).flatten(1).any(1)
    assert torch.equal(changed, torch.arange(20) % 2 == 0)


def test_a_broken_image_is_left_alone_by_the_next_runs():
    model, (x, y) = trained(), images(20, seed=1)
    n_seen = []
    handle = model.register_forward_hook(
        lambda module, inputs, output: n_seen.append((len(output), output.requires_grad))
    )
    try:
        apgd(model, x, y, eps=0.1, n_iter=5, n_restarts=4, generator=generator(0))
    finally:
        handle.remove()
    sizes = [n for n, attacks in n_seen if attacks]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]


def test_restarts_keep_what_is_best():
    model, (x, y) = trained(), images(60, seed=2)
    accuracies = [
        accuracy(model, apgd(model, x, y, eps=0.1, n_iter=2, n_restarts=n, generator=generator(0)), y) for n in (1, 5)
    ]
    # The first run is the same: an image that it breaks stays broken.
    assert accuracies[1] <= accuracies[0]


def test_with_few_classes_there_are_fewer_targets():
    model, (x, y) = trained(), images(10, seed=1)
    options = {"eps": 0.05, "n_iter": 3, "loss": "dlr-targeted"}
    nine, five = (apgd(model, x, y, n_target_classes=n, generator=generator(0), **options) for n in (9, N_CLASSES - 1))
    assert torch.equal(nine, five)


@pytest.mark.parametrize(("loss", "enough"), [("ce", 2), ("margin", 2), ("dlr", 3), ("dlr-targeted", 4)])
def test_a_loss_asks_for_its_classes(loss, enough):
    x, y = torch.rand(3, 1, 2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    apgd(Linear(x.shape[1:], enough), x, y, n_iter=1, loss=loss)
    if enough > 2:
        with pytest.raises(ValueError, match=f"at least {enough} classes, got {enough - 1}"):
            apgd(Linear(x.shape[1:], enough - 1), x, y, n_iter=1, loss=loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -1}, "eps"),
        ({"norm": "l1"}, "norm"),
        ({"n_iter": 0}, "n_iter"),
        ({"n_restarts": 0}, "n_restarts"),
        ({"loss": "hinge"}, "loss"),
        ({"n_target_classes": 0}, "n_target_classes"),
        ({"n_eot": 0}, "n_eot"),
        ({"eot": "labels"}, "eot"),
        ({"n_draws": 0}, "n_draws"),
        ({"x": 2 * torch.ones(2, 1, 8, 8)}, "x must lie"),
        ({"y": torch.tensor([0, 6])}, "y must lie in 0, ..., 5"),
        ({"y": torch.tensor([-1, 2])}, "y must lie in 0, ..., 5"),
    ],
)
def test_errors_at_the_door(options, message):
    x, y = images(2, seed=0)
    given_x, given_y = options.pop("x", x), options.pop("y", y)
    with pytest.raises(ValueError, match=message):
        apgd(trained(), given_x, given_y, **({"n_iter": 1} | options))


def test_weights_that_are_not_finite_are_an_error():
    x, y = torch.rand(2, 1, 2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.long)
    model = Linear(x.shape[1:])
    model.bias.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="weights"):
        apgd(model, x, y, n_iter=1)


# ----------------------------------------------------------------------------------------------- random numbers, noise


@NORM
@pytest.mark.parametrize("loss", ["ce", "dlr-targeted"])
def test_splitting_the_batch_changes_nothing(norm, loss):
    model, (x, y) = trained(), images(12, seed=3)
    options = {"eps": EPS[norm] / 2, "norm": norm, "n_iter": 4, "n_restarts": 2, "loss": loss}
    whole = apgd(model, x, y, generator=generator(0), **options)
    source = generator(0)
    parts = [apgd(model, a, b, generator=source, **options) for a, b in zip(x.split(5), y.split(5), strict=True)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-10)


def test_the_generator_is_the_only_source():
    model, (x, y) = trained(coef=0.3), images(6, seed=3)
    options = {"eps": 0.1, "n_iter": 3, "n_eot": 2}
    before = torch.get_rng_state()
    first, second, third = (apgd(model, x, y, generator=generator(seed), **options) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_model_is_left_as_it_was():
    model, (x, y) = trained(coef=0.3), images(3, seed=3)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        apgd(model, x, y, n_iter=2, n_eot=2)
        assert all(module_.training for module_ in model.modules())
    finally:
        model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_noisy_model_attacked_by_one_draw_warns():
    x, y = images(2, seed=3)
    with pytest.warns(NoisyModelWarning):
        apgd(trained(coef=0.3), x, y, n_iter=1)


@pytest.mark.parametrize("eot", ["gradients", "logits"])
def test_a_step_takes_n_eot_passes(eot):
    model, (x, y) = trained(coef=0.3), images(4, seed=3)
    n_passes = []
    handle = model.register_forward_hook(lambda module, inputs, output: n_passes.append(output.requires_grad))
    try:
        apgd(model, x, y, eps=0.01, n_iter=3, n_eot=5, eot=eot, n_draws=7)
    finally:
        handle.remove()
    # The start and three steps, 5 passes each; the images and two candidates, 7 passes each.
    assert (sum(n_passes), len(n_passes) - sum(n_passes)) == (20, 21)


class Jittered(torch.nn.Module):
    """Logits (40 - (w + 4 xi) . x, 0), w of +1 and -1, xi normal and new for each image: w drowns in it."""

    def __init__(self):
        super().__init__()
        self.w = torch.where(torch.arange(16) % 3 == 0, 1.0, -1.0)

    def forward(self, x):
        x = x.flatten(1)
        score = (x * (self.w + 4 * torch.randn(x.shape))).sum(1)
        return torch.stack([40 - score, torch.zeros_like(score)], 1)


@pytest.mark.parametrize("eot", ["gradients", "logits"])
def test_averaging_over_draws_finds_the_gradient_under_the_noise(eot):
    """A sign of the mean over n draws is right with probability Phi(sqrt(n) / 4): 0.60 for 1, 0.87 for 20.

    So the mean margin w . x_adv, with 16 pixels in each of 50 images, gains 2 eps 16 (0.87 - 0.60) = 0.43 in the first
    step alone. The difference is asked to be three standard errors above 0, the false alarms one in 740 without a gain.
    """
    model, x = Jittered(), torch.rand(50, 1, 4, 4, generator=generator(0)) * 0.8 + 0.1
    y, gained = torch.zeros(50, dtype=torch.long), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for n_eot in (1, 20):
            x_adv = apgd(model, x, y, eps=0.1, n_iter=5, loss="margin", n_eot=n_eot, eot=eot, n_draws=100)
            gained.append((x_adv.flatten(1) - x.flatten(1)) @ model.w)
    gain = gained[1] - gained[0]
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain)) and gain.mean() > 0.2
