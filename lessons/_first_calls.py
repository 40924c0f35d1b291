"""Small calls of the compiled functions that lessons wait for: later calls find them compiled, or in Numba's cache."""

import functools

import pde
from lessons._figures import boundary

__all__ = ["begin", "call"]

# Smooth and rough, with and without noise: the spectral solver, and both kinds of paths.
CASES = (("band-limited", 0), ("band-limited", 0.1), ("grid-noise", 0), ("grid-noise", 0.02))


@functools.cache
def begin():
    """Begin with the loops over paths, in a process of their own; what is returned waits for its end."""
    return pde.feynman_kac.precompile(scheme="heun")


def call():
    """Compile, or load from the cache: the spectral solver, while the loops over paths are compiled beside it."""
    wait = begin()
    pde.spectral.solve(pde.problems.figure4(seed=0, n=64, sigma=0.1, velocity="band-limited"), rtol=1e-6, check=False)
    wait()
    for velocity, sigma in CASES:
        boundary.field_at_zero(pde.problems.figure4(seed=0, n=32, sigma=sigma, velocity=velocity))
