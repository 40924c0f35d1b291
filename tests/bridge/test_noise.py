"""The noise of the blocks: its laws, its order in memory, its generator."""

import math

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from bridge.noise import NOISES, standard_noise
from pde import convergence

FALSE_ALARM = 1e-6

# E z**2, E z**4, E z**6 and E z**8 of the laws of variance 1: (2 k - 1)!!, and (2 k)! / 2**k.
EVEN_MOMENTS = {"gaussian": (1, 3, 15, 105), "laplace": (1, 6, 90, 2520)}
LAWS = {"gaussian": scipy.stats.norm(), "laplace": scipy.stats.laplace(scale=math.sqrt(0.5))}


def draw(noise, *shape, seed=0, dtype=torch.float64):
    return standard_noise(torch.empty(shape, dtype=dtype), noise, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noise", NOISES)
def test_moments_are_those_of_the_law(noise, dtype):
    n = 10**6
    z = draw(noise, n, dtype=dtype).double().numpy()
    second, fourth, sixth, eighth = EVEN_MOMENTS[noise]
    exact = {1: (0, second), 2: (second, fourth), 3: (0, sixth), 4: (fourth, eighth)}
    threshold = convergence.z_threshold(len(exact), FALSE_ALARM)
    for power, (value, of_square) in exact.items():
        stderr = math.sqrt((of_square - value**2) / n)
        # Rounding to u = 2**-9 (bfloat16) is symmetric: a factor of mean square 1 + u**2 / 3 at most, and less than
        # power**2 u**2 in a moment.
        rounding = (power * torch.finfo(dtype).eps / 2) ** 2 * max(value, 1)
        assert abs((z**power).mean() - value) < threshold * stderr + rounding


@pytest.mark.parametrize("noise", NOISES)
def test_distribution_is_that_of_the_law_into_the_tails(noise):
    z = draw(noise, 2 * 10**5, seed=1, dtype=torch.float32).double().numpy()
    # False-alarm rates of 1e-6: Kolmogorov-Smirnov, and binomial counts beyond points of the tails.
    assert scipy.stats.kstest(z, LAWS[noise].cdf).pvalue > FALSE_ALARM
    for probability in (1e-2, 1e-3, 1e-4):
        for sign in (-1, 1):
            count = int((sign * z > LAWS[noise].isf(probability)).sum())
            assert scipy.stats.binomtest(count, len(z), probability).pvalue > FALSE_ALARM / 6


@pytest.mark.parametrize("noise", NOISES)
def test_numbers_are_independent(noise):
    z = draw(noise, 4, 250_000, seed=2).numpy()
    # Products of independent numbers of variance 1 have variance 1; neighbours along both axes.
    products = [(z[:, 1:] * z[:, :-1]).mean(), (z[1:] * z[:-1]).mean()]
    stderrs = [1 / math.sqrt(4 * 249_999), 1 / math.sqrt(3 * 250_000)]
    assert (np.abs(products) / stderrs).max() < convergence.z_threshold(2, FALSE_ALARM)


@pytest.mark.parametrize("noise", NOISES)
def test_numbers_lie_in_memory_as_the_tensor_does(noise):
    like = torch.empty(3, 5, 4, 2)
    channels_last = like.to(memory_format=torch.channels_last)
    z = standard_noise(channels_last, noise, torch.Generator().manual_seed(3))
    assert z.shape == like.shape
    assert z.is_contiguous(memory_format=torch.channels_last)
    # The same numbers in the order of memory, whatever the layout.
    flat = standard_noise(like, noise, torch.Generator().manual_seed(3)).flatten()
    assert torch.equal(z.permute(0, 2, 3, 1).flatten(), flat)
    # Neither contiguous nor channels-last: as a contiguous tensor of that shape.
    odd = torch.empty(5, 3, 4, 2).transpose(0, 1)
    assert torch.equal(standard_noise(odd, noise, torch.Generator().manual_seed(3)).flatten(), flat)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noise", NOISES)
def test_a_seed_gives_the_numbers_on_any_number_of_threads(noise, dtype):
    before = torch.get_num_threads()
    try:
        drawn = []
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            drawn.append(draw(noise, 64, 1000, seed=5, dtype=dtype))
    finally:
        torch.set_num_threads(before)
    assert drawn[0].dtype == dtype
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], draw(noise, 64, 1000, seed=6, dtype=dtype))


@pytest.mark.parametrize("noise", NOISES)
def test_a_generator_of_its_own_leaves_the_global_one_alone_and_goes_on(noise):
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(7)
    first, second = (standard_noise(torch.empty(100), noise, generator) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first, second)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        assert torch.equal(standard_noise(torch.empty(100), noise), first)


def test_laplace_noise_is_finite_at_the_ends_of_the_uniform_numbers(monkeypatch):
    for value in (0.0, 0.5, 1 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda *_, value=value, **__: torch.full((2,), value))
        assert standard_noise(torch.empty(2), "laplace").isfinite().all()


def test_no_numbers_and_no_such_law():
    assert draw("gaussian", 0, 3).shape == draw("laplace", 0, 3, dtype=torch.float32).shape == (0, 3)
    with pytest.raises(ValueError, match="noise must be one of 'gaussian', 'laplace', got noise='uniform'"):
        draw("uniform", 3)
