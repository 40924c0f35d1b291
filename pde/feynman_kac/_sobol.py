"""Scrambled Sobol sequences that can be continued, as Brownian increments in the order of a bridge."""

from functools import lru_cache

import numpy as np
import scipy.special

from pde.feynman_kac._kernels_coupled import bridge
from pde.feynman_kac._kernels_shared import scramble, sobol_uniforms

# The largest dimension for which direction numbers are tabulated (Joe & Kuo 2008).
LARGEST_DIMENSION = 21201
_BITS = 30


def sobol_engine(n_dims, **options):
    """SciPy's sequence of n_dims dimensions; its module takes nearly as long to import as the rest of pde."""
    from scipy.stats import qmc

    return qmc.Sobol(n_dims, **options)


@lru_cache(maxsize=8)
def _directions(n_dims, m):
    """Direction numbers (n_dims, m) of the unscrambled sequence: x_(2**k) = x_(2**k - 1) xor v_k (Gray code)."""
    engine = sobol_engine(n_dims, scramble=False, bits=_BITS)
    columns = []
    for k in range(m):
        engine.reset()
        if k:
            engine.fast_forward(2**k - 1)
        before, after = (engine.random(2) * 2**_BITS).astype(np.uint64)
        columns.append(before ^ after)
    return np.stack(columns, axis=1)


class ScrambledPaths:
    """Independent scrambles of a Sobol sequence: paths of Brownian motion over [0, 1] in n_steps equal steps.

    Each call of `increments` takes the next points of all scrambles; numbers depend on rng and n_scrambles alone.
    """

    def __init__(self, rng, n_scrambles, n_steps, order, weights):
        self.n_steps, self.order, self.weights = n_steps, order, weights
        # Uniform integers of 30 bits; the last word of a dimension is its digital shift.
        self._words = rng.integers(0, 2**_BITS, (n_scrambles, 2 * n_steps, _BITS + 1), dtype=np.uint64)
        self._jitter = rng.random((n_scrambles, 2 * n_steps)) * (1 - 2.0**-20) + 2.0**-21
        self.n_points, self._m, self._scrambled = 0, 0, None

    def increments(self, n_points):
        """The next increments, of variance 1 / n_steps: (n_steps, 2, n_scrambles * n_points), scramble by scramble."""
        m = max(1, int(self.n_points + n_points - 1).bit_length())
        if m > self._m:
            self._scrambled, self._m = scramble(_directions(2 * self.n_steps, m), self._words), m
        u = np.empty((len(self._words), n_points, 2 * self.n_steps))
        sobol_uniforms(self._scrambled, self._words, self._jitter, self.n_points, u)
        self.n_points += n_points
        normals = scipy.special.ndtri(u.reshape(-1, 2 * self.n_steps))
        increments = np.empty((self.n_steps, 2, len(normals)))
        bridge(normals, self.order, self.weights, self.n_steps**-0.5, increments)
        return increments
