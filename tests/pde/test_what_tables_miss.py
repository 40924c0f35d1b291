"""Callables as samples and fields as tables: what these miss is less than is said, or there is a warning."""

import warnings

import numpy as np
import pytest

import pde
from pde import feynman_kac


def along_x(values):
    """A velocity of shape (..., 2) whose second component is zero."""
    return np.stack([values, 0 * values], axis=-1)


def front(x, t):
    return along_x(np.tanh(60 * np.sin(2 * np.pi * x[..., 0])))


def wave(x):
    return np.sin(2 * np.pi * x[..., 0])


def test_a_steep_callable_is_sampled_on_the_points_that_were_judged():
    problem, x = pde.ConvectionDiffusion(front, wave, sigma=0.1, horizon=0.1), np.array([0.005, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = feynman_kac.estimate(problem, [x], 2048, 100, rng=1)
    # The same paths by the velocity itself, whose samples of 512 points miss 3e-5 on average, and 3e-3 on a front of a
    # 200th of the period: it keeps paths apart by less than 3e-3 sqrt(T) or 1e-3, f' = 2 pi; 128 points miss by 0.03.
    increments = feynman_kac.brownian_increments(1, 100, 2048, 1e-3)
    exact = wave(feynman_kac.euler_maruyama(problem, x, increments)).mean()
    assert abs(e.mean[0] - exact) < 1e-3


def jet(width):
    return lambda x, t: along_x(np.exp(-((x[..., 0] - 0.377) ** 2 + (x[..., 1] - 0.511) ** 2) / (2 * width**2)))


# Narrower than the gaps between a few hundred points at random; of modes beyond 256; on average more than at its peak.
UNRESOLVED = {
    "a jet of a cell": jet(1e-3),
    "a jet within a cell": jet(3e-4),
    "a wave of one cell": lambda x, t: along_x(np.sin(2 * np.pi * 512 * x[..., 0])),
    "a jump": lambda x, t: along_x(np.sign(np.sin(2 * np.pi * x[..., 0]))),
    "a stripe": lambda x, t: along_x(np.exp(-((x[..., 0] - 0.377) ** 2) / (2 * 1e-3**2))),
}


@pytest.mark.parametrize("name", UNRESOLVED)
@pytest.mark.filterwarnings("ignore:velocity.* jumps by")
def test_what_no_samples_resolve_is_said(name):
    problem = pde.ConvectionDiffusion(UNRESOLVED[name], np.zeros((4, 4)), sigma=0.1)
    with pytest.warns(RuntimeWarning, match="the velocity is not resolved by 512 points per side"):
        feynman_kac.estimate(problem, [[0.1, 0.2]], 2, 1)


@pytest.mark.parametrize("velocity", [jet(3e-3), lambda x, t: along_x(np.abs(wave(x)))])
def test_what_samples_resolve_is_not_warned_of(velocity):
    # A width of 1.5 cells of 512, which Gaussians need; a kink, whose samples miss 1e-5 on average.
    problem = pde.ConvectionDiffusion(velocity, np.ones((4, 4)), sigma=0.1)
    assert feynman_kac.estimate(problem, [[0.1, 0.2]], 2, 1).mean == pytest.approx([1.0], abs=1e-12)
