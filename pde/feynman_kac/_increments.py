"""The Brownian increments of the compiled path loops, as arrays: for second implementations of the paths."""

import math

import numpy as np

from pde import checks
from pde._compiled import copy, njit
from pde.feynman_kac._kernels32 import increments32
from pde.feynman_kac._random import INCREMENTS, dtype_name, fill_increments, key_from


@njit()
def _increments(n_steps, n_paths, scale, antithetic, point, key, two_point=False):
    out = np.empty((n_steps, n_paths, 2))
    z, words = np.empty((4, n_paths)), np.empty((4, n_paths), np.uint32)
    for step in range(n_steps):
        half = step % 2
        if half == 0:
            fill_increments(z, words, n_paths, scale, step // 2, 0, 0, 1, antithetic, point, two_point, key)
        copy(out[step, :, 0], z[2 * half])
        copy(out[step, :, 1], z[2 * half + 1])
    return out


def increments_of(rng, n_steps, n_paths, dt, *, point=0, antithetic=False, increments="gaussian", dtype="float64"):
    """Increments (n_steps, n_paths, 2) of variance dt of one starting point, as the loops of this dtype draw them."""
    two_point = checks.one_of("increments", increments, INCREMENTS) == "two-point"
    key, scale = key_from(rng), math.sqrt(dt)
    if dtype_name(dtype) == "float32":
        return increments32(key, n_steps, n_paths, dt, point, int(antithetic), two_point)
    return _increments(n_steps, n_paths, scale, int(antithetic), point, key, two_point)
