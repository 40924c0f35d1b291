"""Points and problems for the tests of paths: fields that the compiled loops evaluate exactly, and a closed form."""

import numpy as np

import pde
from pde import problems


def random_points(count, seed=0, length=1.0):
    """Points (count, 2), uniform in the cell."""
    return np.random.default_rng(seed).random((count, 2)) * length


def rough(sigma=0.1, n=24, interpolation="bilinear", n_layers=None, seed=3, **kwargs):
    """Independent uniform numbers at the grid points, with splines between them, not trigonometric polynomials."""
    rng = np.random.default_rng(seed)
    shape = (2, n, n) if n_layers is None else (n_layers, 2, n, n)
    length = kwargs.get("length", 1.0)
    velocity = pde.PeriodicField(rng.uniform(-1, 1, shape), length, interpolation)
    terminal = pde.PeriodicField(rng.uniform(-1, 1, (n, n)), length, interpolation)
    return pde.ConvectionDiffusion(velocity, terminal, sigma=sigma, **kwargs)


def eigenfunction(sigma=0.2, n=128, **kwargs):
    """The closed form with bicubic splines for fields; they differ from it by 1e-6, for n = 64 by 2e-5."""
    problem = problems.eigenfunction(sigma=sigma, n=n, **kwargs)
    return pde.ConvectionDiffusion(
        problem.velocity.with_interpolation("bicubic"),
        problem.terminal.with_interpolation("bicubic"),
        sigma=sigma,
        horizon=problem.horizon,
        length=problem.length,
        solution=problem.exact,
    )
