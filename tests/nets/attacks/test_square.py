"""Square: closed forms, the paper's pattern, torchattacks' strength, and what holds for every image."""

import math
import warnings

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from attack_models import Linear, Lucky, accuracy, distance, generator, images, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.attacks import NoisyModelWarning, apgd, square
from nets.attacks import _square as module
from nets.attacks._balls import make_ball
from nets.attacks._image_rng import ImageStreams
from nets.attacks._losses import LOSSES

EPS = {"linf": 0.1, "l2": 0.5}
NORM = pytest.mark.parametrize("norm", ["linf", "l2"])


def margins(model, x, y):
    with torch.no_grad():
        return LOSSES["margin"](model(x), y)


def inside(n, seed=0):
    """Images that no perturbation of these tests brings out of the cube."""
    return 0.4 + 0.2 * torch.rand(n, 3, 7, 6, generator=generator(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------------- schedule and patterns


def test_windows_shrink_as_in_the_paper():
    p_init, changes = 0.8, {10: 2, 50: 4, 200: 8, 500: 16, 1000: 32, 2000: 64, 4000: 128, 6000: 256, 8000: 512}
    for after, factor in changes.items():
        assert 2 ** module._n_halvings(after, 10_000, True) == factor / 2
        assert 2 ** module._n_halvings(after + 1, 10_000, True) == factor
        # Half the queries, half the way; unless the schedule is left as it is.
        assert 2 ** module._n_halvings(after // 2 + 1, 5000, True) == factor
        assert 2 ** module._n_halvings(after + 1, 5000, False) == factor
    for p in (p_init / 2**k for k in range(10)):
        side = module.window_side(p, 32, 32)
        assert side == max(1, round(math.sqrt(p) * 32))
        odd = module.window_side(p, 32, 32, odd=True)
        assert odd % 2 == 1 and odd >= 3 and 0 <= odd - max(side, 3) <= 1


def test_windows_reach_every_place_of_the_image_and_no_other():
    x = torch.zeros(2, 1, 7, 5)
    search = module._LinfSearch(make_ball("linf", 0.1), x, ImageStreams(2))
    uniform = torch.tensor([[0.0, 0.0], [1 - 1e-9, 1 - 1e-9]], dtype=torch.float64)
    for side in (1, 3, 5):
        window = search.window(search.corner(uniform, side), side)
        assert window.shape == (2, 1, 7, 5) and (window.sum((1, 2, 3)) == side**2).all()
        assert window[0, 0, 0, 0] and window[1, 0, 6, 4]


def bump(height, width):
    """The paper's formula (section 3.4), term by term."""
    rows = torch.zeros(height, width, dtype=torch.float64)
    n = max(height, width) // 2
    for r in range(1, height + 1):
        for s in range(1, width + 1):
            last = n - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
            rows[r - 1, s - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(last + 1))
    return rows / rows.norm()


@pytest.mark.parametrize("side", [3, 5, 9, 12])
def test_the_pattern_of_l2_is_the_papers(side):
    pattern = module._two_bumps(side, torch.zeros((), dtype=torch.float64))
    half = side // 2
    expected = torch.cat([bump(half, side), -bump(side - half, side)]) / math.sqrt(2)
    torch.testing.assert_close(pattern, expected, rtol=1e-13, atol=1e-14)


def test_a_step_of_l2_is_algorithm_3():
    """Image by image and channel by channel; it uses up the radius, whatever of it the cube had taken before."""
    x, eps, side = inside(6), 0.3, 3
    search = module._L2Search(make_ball("l2", eps), x, ImageStreams(6, generator(0)))
    images_ = torch.arange(6)
    step = torch.randn(x.shape, generator=generator(1), dtype=torch.float64)
    # Of half the images, as long as the ball allows; of the others, shorter.
    lengths = torch.tensor([eps] * 3 + [0.7 * eps] * 3, dtype=torch.float64).view(-1, 1, 1, 1)
    x_adv = x + step * lengths / torch.linalg.vector_norm(step, dim=(1, 2, 3), keepdim=True)
    uniform = torch.rand(6, 8, generator=generator(2), dtype=torch.float64)
    search.draw = lambda query, chosen, n: uniform[chosen, :n]
    found = search.step(1, images_, x_adv, side**2 / 42)
    pattern = torch.cat([bump(side // 2, side), -bump(side - side // 2, side)]) / math.sqrt(2)
    for i in range(6):
        delta, u = (x_adv - x)[i].clone(), uniform[i].tolist()
        row, column, old_row, old_column = (int(u[k] * (n - side + 1)) for k, n in enumerate((7, 6, 7, 6)))
        new = slice(row, row + side), slice(column, column + side)
        old = slice(old_row, old_row + side), slice(old_column, old_column + side)
        union = torch.zeros(7, 6, dtype=torch.bool)
        union[new] = union[old] = True
        unused = eps**2 - (delta**2).sum()
        for c in range(3):
            available = ((delta[c][union] ** 2).sum() + unused.clamp(min=0) / 3).sqrt()
            turned = pattern if u[4] < 0.5 else pattern.T
            bumped = (-1 if u[5 + c] < 0.5 else 1) * turned + delta[c][new] / delta[c][new].norm()
            delta[c][old] = 0
            delta[c][new] = bumped / bumped.norm() * available
        assert delta.norm() == pytest.approx(eps, rel=1e-12)
        torch.testing.assert_close(found[i], x[i] + delta, rtol=0, atol=1e-13)


# --------------------------------------------------------------------------------------------------------- strength


def test_a_linear_model_is_brought_to_its_corner():
    """The random search ends at the maximum, x + eps sign(slope), since single pixels are tried at the end.

    A pixel of 25 is wrong after the 950 queries with windows of one pixel with probability (1 - 1 / 50)^950 = 5e-9.
    """
    x = torch.rand(3, 1, 5, 5, generator=generator(1), dtype=torch.float64)
    model, y = Linear(x.shape[1:]), torch.zeros(3, dtype=torch.long)
    slope = (model.weight[1] - model.weight[0]).detach().view(x.shape[1:])
    x_adv = square(model, x, y, eps=0.1, n_queries=1000, generator=generator(0))
    torch.testing.assert_close(x_adv, (x + 0.1 * slope.sign()).clamp(0, 1), rtol=0, atol=1e-15)


@NORM
def test_more_queries_never_lose_margin(norm, monkeypatch):
    """The search of few queries is the beginning of that of many, where the schedule is the same."""
    monkeypatch.setattr(module, "BLOCK", 16)
    model, (x, y) = trained(), images(30, seed=5)
    options = {"eps": EPS[norm] / 2, "norm": norm, "rescale": False}
    previous = None
    for n_queries in (1, 10, 17, 40):
        margin = margins(model, square(model, x, y, n_queries=n_queries, generator=generator(0), **options), y)
        if previous is not None:
            # Batches of another size round differently.
            assert (margin >= previous - 1e-12).all() and (margin > previous).any()
        previous = margin


@NORM
def test_it_is_as_strong_as_torchattacks(norm):
    """On 100 images with 100 queries: both break an image by chance p_i, so the difference of the accuracies has a
    variance of 2 sum p_i (1 - p_i) / 100^2 <= 1 / 200; three standard deviations are 0.21. Its windows are the same for
    all images, which adds to its share of that, so five are allowed for it: false alarms below one in 1000.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = pytest.importorskip("torchattacks")
    model, (x, y) = trained(), images(100, seed=7)
    # Between all and nothing.
    eps = {"linf": 0.08, "l2": 1.0}[norm]
    attack = torchattacks.Square(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, n_queries=100)
    with torch.random.fork_rng():
        theirs = accuracy(model, attack.perturb(x.float().double(), y), y)
    ours = accuracy(model, square(model, x, y, eps=eps, norm=norm, n_queries=100, generator=generator(0)), y)
    assert 0.05 < theirs < 0.95
    assert abs(ours - theirs) < 0.21


def test_it_is_no_stronger_than_the_gradient_on_a_sound_model():
    model, (x, y) = trained(), images(60, seed=7)
    blind = accuracy(model, square(model, x, y, eps=0.07, n_queries=150, generator=generator(0)), y)
    white = accuracy(model, apgd(model, x, y, eps=0.07, n_iter=30, generator=generator(0)), y)
    # Images at the edge of the ball, one say.
    assert white - 1 / 60 <= blind < accuracy(model, x, y)


# ------------------------------------------------------------------------------------------------ what always holds


def test_perturbations_of_linf_are_corners_of_the_ball():
    model, y = Linear((3, 7, 6), bias=20.0), torch.zeros(5, dtype=torch.long)
    for x in (inside(5), torch.rand(5, 3, 7, 6, generator=generator(1), dtype=torch.float64)):
        for n_queries in (1, 3, 40):
            x_adv = square(model, x, y, eps=0.1, n_queries=n_queries, generator=generator(0))
            corners = torch.stack([(x + 0.1).clamp(0, 1), (x - 0.1).clamp(0, 1)])
            assert ((x_adv - corners).abs().amin(0) < 1e-15).all()
    # At the start, stripes down the columns.
    x_adv = square(model, inside(5), y, eps=0.1, n_queries=1, generator=generator(0))
    step = (x_adv - inside(5)).sign()
    assert (step == step[:, :, :1]).all() and not (step == step[:, :, :, :1]).all()


def test_perturbations_of_l2_are_on_the_sphere():
    model, y, x = Linear((3, 7, 6), bias=20.0), torch.zeros(5, dtype=torch.long), inside(5)
    for n_queries in (1, 3, 40):
        x_adv = square(model, x, y, eps=0.3, norm="l2", n_queries=n_queries, generator=generator(0))
        torch.testing.assert_close(distance("l2", x_adv, x), torch.full((5,), 0.3, dtype=x.dtype), rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=40)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 1),
    n_queries=st.integers(1, 12),
    p_init=st.floats(0.01, 1),
    shape=st.sampled_from([(1, 1, 1), (3, 2, 5), (2, 9, 4)]),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_the_result_lies_in_the_ball_and_in_the_cube(norm, eps, n_queries, p_init, shape, n, seed):
    x = torch.rand(n, *shape, generator=generator(seed))
    x = x.round() if seed % 3 == 0 else x
    model = Linear(shape, bias=3, seed=seed).float()
    y = torch.zeros(n, dtype=torch.long)
    x_adv = square(model, x, y, eps=eps, norm=norm, n_queries=n_queries, p_init=p_init, generator=generator(1))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    if n:
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        # Rounding of x + eps in single precision, in each of up to 72 pixels.
        assert distance(norm, x_adv, x).max() <= eps + 1e-6


def test_no_gradient_is_asked_for_and_a_broken_image_is_asked_no_more():
    model, (x, y) = trained(), images(30, seed=5)
    sizes = []

    def hook(module_, inputs, output):
        assert not output.requires_grad
        sizes.append(len(output))

    handle = model.register_forward_hook(hook)
    try:
        square(model, x, y, eps=0.1, n_queries=40, generator=generator(0))
    finally:
        handle.remove()
    # Five passes of 16 images show that the model does not draw, on entry and for the choice of n_draws; one finds the
    # images that are right; the rest are queries.
    assert sizes[:11] == [16] * 10 + [30]
    assert sizes[11:] == sorted(sizes[11:], reverse=True) and sizes[-1] < sizes[11]
    assert len(sizes) <= 11 + 40


@NORM
def test_eps_0_returns_the_images(norm):
    x, y = images(5, seed=1)
    assert torch.equal(square(trained(), x, y, eps=0, norm=norm, n_queries=3), x)


def test_misclassified_images_are_returned_as_they_are():
    x, _ = images(20, seed=1)
    with torch.no_grad():
        wrong = (trained()(x).argmax(1) + 1) % 6
    assert torch.equal(square(trained(), x, wrong, eps=0.1, n_queries=3), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": math.nan}, "eps"),
        ({"norm": "l1"}, "norm"),
        ({"n_queries": 0}, "n_queries"),
        ({"p_init": 0}, "p_init"),
        ({"p_init": 1.5}, "p_init"),
        ({"n_eot": 0}, "n_eot"),
        ({"n_draws": 0}, "n_draws"),
        ({"x": torch.rand(2, 64)}, "n_channels, height, width"),
        ({"y": torch.tensor([0, 6])}, "y must lie in 0, ..., 5"),
    ],
)
def test_errors_at_the_door(options, message):
    x, y = images(2, seed=0)
    given_x, given_y = options.pop("x", x), options.pop("y", y)
    with pytest.raises(ValueError, match=message):
        square(trained(), given_x, given_y, **({"n_queries": 1} | options))


# ----------------------------------------------------------------------------------------------- random numbers, noise


@NORM
def test_splitting_the_batch_changes_nothing(norm, monkeypatch):
    """More queries than numbers are drawn at once, and images that fall on the way."""
    monkeypatch.setattr(module, "BLOCK", 16)
    model, (x, y) = trained(), images(12, seed=3)
    options = {"eps": 1.5 * EPS[norm], "norm": norm, "n_queries": 40}
    whole = square(model, x, y, generator=generator(0), **options)
    source = generator(0)
    parts = [square(model, a, b, generator=source, **options) for a, b in zip(x.split(5), y.split(5), strict=True)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    assert 0 < accuracy(model, whole, y) < 1


def test_the_generator_is_the_only_source():
    model, (x, y) = trained(coef=0.3), images(6, seed=3)
    before = torch.get_rng_state()
    first, second, third = (
        square(model, x, y, eps=0.1, n_queries=5, n_eot=2, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_a_noisy_model_attacked_by_one_draw_warns():
    x, y = images(2, seed=3)
    with pytest.warns(NoisyModelWarning):
        square(trained(coef=0.3), x, y, n_queries=1)


def test_a_lucky_draw_breaks_no_image():
    """One draw in three is wrong; the mean of 400 with probability Phi(-0.52 * 20) = 1e-25."""
    model, x, y = Lucky(), torch.rand(30, 1, 4, 4), torch.zeros(30, dtype=torch.long)
    n_asked = []

    def hook(module_, inputs, output):
        n_asked.append(len(output))

    handle = model.register_forward_hook(hook)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            square(model, x, y, n_queries=20, n_draws=400)
    finally:
        handle.remove()
    # Whoever was thought broken was asked again, and stayed in the search: the last query is of all images.
    queries = [n for n in n_asked[400:] if n == 30]
    assert len(queries) == 20 and len(n_asked) > 400 * 3


def test_the_draws_that_guide_break_no_image_however_many_they_are():
    """The mean of 10 is wrong with probability Phi(-0.52 * sqrt(10)) = 0.05, that of 10 others as well 0.0025.

    Of 30 images 0.95 * 0.9975**39 = 86 % are in the last of 40 queries, and 15 or more but once in 10**6 times; if the
    guiding draws decided, 0.95**40 = 13 %, and 15 or more once in 10**6 times.
    """
    model, x, y = Lucky(), torch.rand(30, 1, 4, 4, generator=generator(1)), torch.zeros(30, dtype=torch.long)
    n_asked = []
    model.register_forward_hook(lambda module_, inputs, output: n_asked.append(len(output)))
    square(model, x, y, n_queries=40, n_eot=10, n_draws=10, generator=generator(2))
    # Before the first query: five passes that show the noise, and ten that decide about the images as they are.
    assert max(n_asked[-20:]) >= 15
