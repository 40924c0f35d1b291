"""The balls that attacks move in: projections, directions of ascent, random points, distances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

torch = pytest.importorskip("torch")

from attack_models import generator

from nets.attacks._balls import L2Ball, LinfBall, make_ball

SHAPE = (5, 3, 4, 2)
D = math.prod(SHAPE[1:])
DTYPES = st.sampled_from([torch.float32, torch.float64])


def random_images(seed, dtype=torch.float64, shape=SHAPE):
    """In [0, 1], a third of the pixels black or white."""
    return (1.5 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 0.25).clamp(0, 1).to(dtype)


def tolerance(norm, eps, dtype, d=D):
    """How far beyond eps rounding may carry a projected point; u is the unit roundoff.

    linf: eps rounded, and x + eps <= 1 + eps rounded:  u eps + u (1 + eps).
    l2: the length is a sum of d squares, (d + 2) u, its square root, the factor, the step, two products, 6 u more, all
    relative to eps; and the sum x + step, u (1 + eps) in each of d components.
    """
    u = torch.finfo(dtype).eps / 2
    return u * (1 + 2 * eps) if norm == "linf" else u * ((d + 8) * eps + math.sqrt(d) * (1 + eps))


def exact_distance(norm, z, x):
    return make_ball(norm, 0.0).distance(z.double(), x.double())


@given(
    norm=st.sampled_from(["linf", "l2"]), eps=st.floats(0, 2), spread=st.floats(0, 100), seed=st.integers(0, 2**30),
    dtype=DTYPES,
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_projected_points_lie_in_the_ball_and_the_cube(norm, eps, spread, seed, dtype):
    x = random_images(seed, dtype)
    z = x + spread * torch.randn(SHAPE, generator=generator(seed + 1), dtype=dtype)
    projected = make_ball(norm, eps).around(x)(z)
    assert projected.dtype == dtype
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert (exact_distance(norm, projected, x) <= eps + tolerance(norm, eps, dtype)).all()


@given(norm=st.sampled_from(["linf", "l2"]), eps=st.floats(0, 2), seed=st.integers(0, 2**30), dtype=DTYPES)
@settings(max_examples=50, deadline=None)
def test_random_points_lie_in_the_ball_and_the_cube(norm, eps, seed, dtype):
    x = random_images(seed, dtype)
    z = make_ball(norm, eps).random_point(x, generator(seed))
    assert z.min() >= 0
    assert z.max() <= 1
    assert (exact_distance(norm, z, x) <= eps + tolerance(norm, eps, dtype)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_inside_stay_where_they_are(norm):
    x = random_images(1)
    ball = make_ball(norm, 0.3)
    inside = ball.random_point(x, generator(2))
    inside = x + 0.999 * (inside - x)
    # In l2 the point is made again from its step: one rounding of a sum.
    np.testing.assert_allclose(ball.around(x)(inside), inside, rtol=0, atol=0 if norm == "linf" else 2**-52)


def test_the_linf_projection_is_the_nearest_point_of_ball_and_cube():
    x = random_images(3)
    z = x + torch.randn(SHAPE, generator=generator(4), dtype=torch.float64)
    nearest = np.clip(np.clip(z.numpy(), x.numpy() - 0.2, x.numpy() + 0.2), 0, 1)
    np.testing.assert_array_equal(LinfBall(0.2).around(x)(z), nearest)


def test_the_l2_projection_is_radial_where_the_cube_is_far():
    x = 0.4 + 0.2 * random_images(5)
    step = torch.randn(SHAPE, generator=generator(6), dtype=torch.float64)
    length = np.linalg.norm(step.numpy().reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
    expected = x.numpy() + 0.3 * step.numpy() / length
    np.testing.assert_allclose(L2Ball(0.3).around(x)(x + step), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ascent_reaches_the_dual_norm(norm, scale):
    # max of g . d over |d|_inf <= 1 is |g|_1; over |d|_2 <= 1 it is |g|_2. In single precision 1e-25 squared is 0.
    g = scale * torch.randn(SHAPE, generator=generator(7), dtype=torch.float32)
    g[0] = 0
    d = make_ball(norm, 1.0).ascent(g)
    g, d = (v.double().flatten(1).numpy() for v in (g, d))
    dual = np.abs(g).sum(1) if norm == "linf" else np.linalg.norm(g, axis=1)
    # A sum of d products, each rounded to single precision.
    np.testing.assert_allclose((g * d).sum(1), dual, rtol=(D + 8) * 2**-24)
    assert (d[0] == 0).all()
    lengths = np.abs(d).max(1) if norm == "linf" else np.linalg.norm(d, axis=1)
    np.testing.assert_allclose(lengths[1:], 1, rtol=(D + 8) * 2**-24)


def test_random_points_are_uniform():
    # Kolmogorov-Smirnov; each level 1e-6, so a false alarm in 5e5 sets of seeds.
    x = torch.full((4000, 1, 2, 3), 0.5, dtype=torch.float64)
    pixels = LinfBall(0.1).random_point(x, generator(8)) - x
    assert stats.kstest(pixels.flatten().numpy(), stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-6
    # The share of a ball's volume within radius r of 6 dimensions is (r / eps)**6.
    radius = L2Ball.distance(L2Ball(0.1).random_point(x, generator(9)), x)
    assert stats.kstest((radius.numpy() / 0.1) ** 6, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_come_from_the_generator_alone(norm):
    x = random_images(10)
    ball = make_ball(norm, 0.1)
    before = torch.get_rng_state()
    one, other = ball.random_point(x, generator(1)), ball.random_point(x, generator(1))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l2", 2)])
def test_distances_are_numpys(norm, order):
    x, z = random_images(11), random_images(12)
    expected = np.linalg.norm((z - x).numpy().reshape(len(x), -1), ord=order, axis=1)
    np.testing.assert_allclose(make_ball(norm, 0.1).distance(z, x), expected, rtol=1e-14)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_are_the_same_in_every_order_of_memory(norm):
    x, ball = torch.rand(5, 3, 4, 4, generator=generator(1)), make_ball(norm, 0.1)
    expected = ball.random_point(x, generator(2))
    last = x.contiguous(memory_format=torch.channels_last)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (last, turned):
        assert not other.is_contiguous()
        assert torch.equal(ball.random_point(other, generator(2)), expected)
    # Of one image that stands for many, each its own.
    assert len(ball.random_point(x[:1].expand(5, 3, 4, 4), generator(2)).unique(dim=0)) == 5
    assert ball.random_point(x[:0], generator(2)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_order_in_memory_changes_nothing(norm):
    x = random_images(13)
    z = x + torch.randn(SHAPE, generator=generator(14), dtype=torch.float64)
    ball = make_ball(norm, 0.2)
    plain = ball.around(x)(z)
    permuted = ball.around(x.to(memory_format=torch.channels_last))(z.to(memory_format=torch.channels_last))
    np.testing.assert_allclose(permuted, plain, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("l1", 0.1, "norm must be one of 'linf', 'l2', got norm='l1'"),
        ("linf", -0.1, "eps must be finite and >= 0, got eps=-0.1"),
        ("l2", math.nan, "eps must be finite and >= 0, got eps=nan"),
        ("linf", "wide", "eps must be a number >= 0, got eps='wide'"),
    ],
)
def test_a_bad_ball_is_refused(norm, eps, message):
    with pytest.raises(ValueError, match=message):
        make_ball(norm, eps)
