"""The Fourier modes of a real field that a computation keeps: a disc |k| <= radius, one of each pair k, -k.

    u(x) = c_0 + sum_k (c_k exp(2 pi i k . x / length) + conjugate),  k_2 > 0, or k_2 = 0 and k_1 > 0

A state is the complex vector of these coefficients, row of k_1 after row of k_1 (in the order 0, 1, ..., K, -K, ...,
-1), each with consecutive k_2. Smooth solutions have round spectra, and the corners of the square |k_i| <= K would
be the stiffest modes.
"""

import math

import numpy as np

from pde._compiled import njit
from pde.transforms import to_values


class Modes:
    """The modes |k| <= radius, |k_i| <= k_max; k_max is below the radius where the grid sets the limit."""

    def __init__(self, radius, k_max, length=1.0):
        self.radius, self.length = radius, length
        self.k_max = k_max = min(k_max, math.floor(radius))
        self.rows = np.concatenate([np.arange(k_max + 1), np.arange(-k_max, 0)])
        width = np.sqrt(np.maximum(radius**2 * (1 + 1e-12) - self.rows.astype(float) ** 2, 0)).astype(int)
        first, stop = np.where(self.rows < 0, 1, 0), np.minimum(width, k_max) + 1
        ends = np.cumsum(stop - first)
        # Columns: k_1, first k_2, end of k_2, place of the first in a state.
        self.layout = np.stack([self.rows, first, stop, ends - (stop - first)], axis=1)
        self.size = int(ends[-1])
        self.k = np.stack(
            [
                np.repeat(self.rows, stop - first),
                np.arange(self.size) - np.repeat(self.layout[:, 3] - first, stop - first),
            ]
        )
        self.unit, self._last = 2 * math.pi / length, (None, None)
        self.k_squared = self.unit**2 * (self.k**2).sum(axis=0)

    def gather(self, spectrum):
        """Return the state (size,) in a spectrum (n, n // 2 + 1) as from rfft2 with norm="forward", n > 2 k_max."""
        state = np.empty(self.size, dtype=complex)
        _gather(spectrum, self.layout, state)
        return state

    def scatter(self, state, spectrum):
        """Write a state (size,) into a spectrum as in `gather`, in place; entries of other modes stay as they are."""
        _scatter(state, self.layout, spectrum)

    def to_grid(self, state, n):
        """Evaluate a state (size,) on the grid of n points per side: (n, n), n > 2 k_max, not to be written to."""
        # Several callers want the same values: the last ones are kept. A state is never changed in place.
        last, values = self._last
        if last is not state or len(values) != n:
            spectrum = np.zeros((n, self.k_max + 1), dtype=complex)
            self.scatter(state, spectrum)
            values = to_values(spectrum, n)
            values.flags.writeable = False
            self._last = state, values
        return values

    def change(self, state, modes):
        """Return a state (size,) on other modes, (modes.size,): new ones are zero, surplus ones are dropped."""
        largest = max(self.k_max, modes.k_max)
        spectrum = np.zeros((2 * largest + 1, largest + 1), dtype=complex)
        self.scatter(state, spectrum)
        return modes.gather(spectrum)

    def shells(self, state):
        """Return the sums of |coefficient| over r <= |k| < r + 1, k and -k, for r = 0, 1, ... up to the largest |k|."""
        shell = np.sqrt((self.k**2).sum(axis=0)).astype(int)
        return np.bincount(shell, 2 * np.abs(state))


@njit()
def _gather(spectrum, layout, state):
    for k1, first, stop, place in layout:
        row = spectrum[k1 % spectrum.shape[0]]
        for j in range(first, stop):
            state[place + j - first] = row[j]


@njit()
def _scatter(state, layout, spectrum):
    n = spectrum.shape[0]
    for k1, first, stop, place in layout:
        row = spectrum[k1 % n]
        for j in range(first, stop):
            row[j] = state[place + j - first]
        if k1 > 0:
            spectrum[n - k1, 0] = np.conj(state[place])
