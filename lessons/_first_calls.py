"""Small calls of all compiled functions that the lessons use: later calls find them compiled, or in Numba's cache."""

import numpy as np
import torch

import bridge
import pde
from lessons._figures import boundary

__all__ = ["call"]


def call():
    """Compile, or load from the cache, what lessons 1 to 3 and 6 wait for."""
    point = np.array([0.4, 0.3])
    for velocity, sigma in (("band-limited", 0.1), ("grid-noise", 0.02), ("grid-noise", 0)):
        problem = pde.problems.figure4(seed=0, n=64, sigma=sigma, velocity=velocity)
        u, _ = boundary.field_at_zero(problem)
        boundary.crossing(u, point)
        u.jacobian_sup_norm(32)
        pde.bounds.sharp_gradient_bound(problem)
    for problem in (pde.problems.figure4(seed=0, n=64, sigma=0, velocity="band-limited"), pde.problems.doob(n=8)):
        with torch.no_grad():
            bridge.network_from_velocity(problem, n_layers=1)(torch.as_tensor(point[None]))
