"""Paths in the plane: followed over the edges of the cell, or refused."""

import numpy as np
import pytest

import pde
from pde import feynman_kac


def pulse(t):
    values = np.zeros((2, 4, 4))
    values[0] = 100 * np.exp(-(((t - 0.5) / 0.02) ** 2))
    return values


def pulse_of_points(x, t):
    return np.stack([x[..., 0] * 0 + pulse(t)[0, 0, 0], 0 * x[..., 0]], axis=-1)


ODD_LAYERS = np.zeros((51, 2, 4, 4))
ODD_LAYERS[7, 1] = -90.0
# (problem without noise, way along each axis up to 1)
FAST = {
    "v(t)": (pulse, (2 * np.sqrt(np.pi), 0.0)),
    "v(x, t)": (pulse_of_points, (2 * np.sqrt(np.pi), 0.0)),
    "one layer of many": (ODD_LAYERS, (0.0, -90 / 51)),
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_steps_over_half_a_period_are_refused_and_shorter_ones_followed(name, sigma):
    velocity, way = FAST[name]
    problem = pde.ConvectionDiffusion(velocity, np.zeros((4, 4)), sigma=sigma)
    with pytest.raises(ValueError, match=r"n_steps must be >= \d+: a step may cross half a period"):
        feynman_kac.paths(problem, [[0.1, 0.2]], 2, [1.0], n_steps=102)
    x = feynman_kac.paths(problem, [[0.1, 0.2]], 2, [0.0, 1.0], n_steps=1020)
    assert (x[0] == [0.1, 0.2]).all()
    # Sums over a Gaussian of 20 steps and more are exact to rounding, tables to 1e-9; noise within five deviations.
    assert np.abs(x[1, 0] - [0.1, 0.2] - way).max() < 1e-6 + 5 * sigma


def test_noise_counts_towards_half_a_period():
    still = np.zeros((2, 4, 4))
    field = pde.PeriodicField(np.full((4, 4), 0.1) + np.diag([0.9, 0, 0, 0]), interpolation="bilinear")
    layers = np.full(5, 1e-3)
    layers[3] = 1.0
    for sigma in (1.0, field, layers):
        problem = pde.ConvectionDiffusion(still, np.zeros((4, 4)), sigma=sigma)
        with pytest.raises(ValueError, match="a step may cross half a period"):
            feynman_kac.paths(problem, [[0.1, 0.2]], 2, [1.0], n_steps=150)
        # 6.8 sqrt(dt) < 1 / 2.
        feynman_kac.paths(problem, [[0.1, 0.2]], 2, [1.0], n_steps=190)


def test_a_callable_is_sampled_once_per_step():
    calls = []

    def velocity(x, t):
        calls.append(t)
        return np.stack([0.1 * np.sin(2 * np.pi * x[..., 1]), 0 * x[..., 0]], axis=-1)

    # Tables of 1000 steps do not fit the memory that is kept.
    problem = pde.ConvectionDiffusion(velocity, np.zeros((128, 128)), sigma=0.01)
    before = feynman_kac.paths(problem, [[0.1, 0.2]], 2, [1.0], n_steps=1)
    assert before.shape == (1, 1, 2, 2)
    calls.clear()
    feynman_kac.paths(problem, [[0.1, 0.2]], 2, [1.0], n_steps=1000)
    # One call for each step, those by which the size of tables is chosen, and those at the door.
    assert len(calls) < 1000 + 300
