"""The generator of the equation on Fourier modes: w -> v . grad w + nu lap w, by pseudospectral products.

In time-to-go s = T - t the terminal-value problem is the initial-value problem w_s = v . grad w + nu lap w,
w(., 0) = f. The product is formed on a grid large enough that no alias reaches the modes kept: m >= 2 K + K_v + 1
points for modes |k_i| <= K and a velocity of bandwidth K_v.
"""

import numpy as np

from pde import grid
from pde._compiled import njit
from pde.transforms import to_values, transforms_of


def product_grid(velocity, k_max):
    """Points per side of the grid of products: no alias of v . grad w reaches the modes below the edge.

    On 2 K + 1 points aliases reach the modes |k_i| > K - K_v, which truncation spoils by as much; the residual counts
    both. That is allowed while this edge is a quarter of the spectrum.
    """
    margin = velocity.n_modes if 4 * velocity.n_modes > k_max else 0
    return grid.fast_size(2 * k_max + margin + 1)


class Generator:
    """The linear operator w -> v . grad w + nu lap w on the modes kept.

    n_grid points per side of the grid of products; by default as many as `product_grid` requires.
    """

    def __init__(self, velocity, nu, modes, n_grid=None):
        self.field, self.nu, self.modes = velocity, nu, modes
        self.n_grid = n_grid or grid.fast_size(2 * modes.k_max + velocity.n_modes + 1)
        self._aliases = self.n_grid < 2 * modes.k_max + velocity.n_modes + 1
        self._velocity = velocity.on_grid(self.n_grid)
        self._decay = np.repeat(nu * modes.k_squared, 2)
        # Work arrays: what is returned is never one of them.
        self._spectra = np.zeros((2, self.n_grid, self.n_grid // 2 + 1), dtype=complex)
        self._slopes, self._pairs = np.empty((2, self.n_grid, self.n_grid)), self._spectra.view(float)
        self._to_values, self._to_spectrum = transforms_of(self.n_grid)
        self._fine, self._fine_velocity = None, None
        # Largest |v_1 k_1| + |v_2 k_2| of a mode kept: the imaginary reach of the spectrum.
        self.transport_rate = float(np.abs(self._velocity).sum(axis=0).max() * modes.unit * modes.k_max)

    def __call__(self, state):
        """Return v . grad w + nu lap w, from coefficients to coefficients (modes.size,)."""
        pairs, out = state.view(float), np.empty(2 * state.size)
        product = self._product(pairs).view(float)
        _gather_with_decay(product, self.modes.layout, pairs, self._decay, out)
        return out.view(complex)

    def convection(self, state):
        """Return v . grad w, from coefficients to coefficients (modes.size,)."""
        return self.modes.gather(self._product(state.view(float)))

    def _product(self, pairs):
        """The transform of v . grad w, formed on the grid of products; `pairs` is a state as pairs of reals."""
        _fill_gradient(pairs, self.modes.layout, self.modes.unit, self._pairs)
        slopes = self._to_values(self._spectra, self._slopes)
        _dot(slopes, self._velocity)
        return self._to_spectrum(slopes[0])

    def with_velocity(self, velocity):
        """Return the same operator with another velocity (2, n, n), on the same modes and grid."""
        return Generator(velocity, self.nu, self.modes, self.n_grid)

    def residual(self, state, velocity, tau):
        """Return what truncation and the sampling of `velocity` leave out of a step of length tau, as values (m, m).

        r = min(tau, life) (v . grad w - the part of it kept),  life = 1 / (nu |k|**2),  mode by mode

        The grid holds all modes of r where v is band-limited, and is twice as fine otherwise.
        """
        fine = self._fine_operator(velocity)
        lost = fine._product(state.view(float))
        if velocity is self.field and not self._aliases:
            self.modes.scatter(np.zeros_like(state), lost)
        else:
            self.modes.scatter(self.modes.gather(lost) - self.convection(state), lost)
        k = np.arange(fine.n_grid // 2 + 1)
        k1 = np.minimum(np.arange(fine.n_grid), fine.n_grid - np.arange(fine.n_grid))
        lost *= tau / np.maximum(1.0, tau * self.nu * self.modes.unit**2 * (k1[:, None] ** 2 + k**2))
        return to_values(lost, fine.n_grid)

    def _fine_operator(self, velocity):
        """The operator on a grid that holds all of v . grad w."""
        if self._fine_velocity is not velocity:
            if velocity.interpolation == "trigonometric":
                n_grid = grid.fast_size(2 * (self.modes.k_max + velocity.n_modes) + 1)
            else:
                n_grid = 2 * self.n_grid
            same = velocity is self.field and n_grid == self.n_grid
            self._fine = self if same else Generator(velocity, self.nu, self.modes, n_grid)
            self._fine_velocity = velocity
        return self._fine


# Each of these is one pass over arrays that fit the cache, where NumPy would make three or four. Complex numbers are
# taken as pairs of reals, and rows as slices, so that the loops vectorise.
@njit()
def _fill_gradient(state, layout, unit, spectra):
    """Write unit i (k_1, k_2) times a state into two real transforms (2, n, n + 2), pairs of reals like the state."""
    n = spectra.shape[1]
    for k1, first, stop, place in layout:
        row_x, row_y = spectra[0, k1 % n, 2 * first : 2 * stop], spectra[1, k1 % n, 2 * first : 2 * stop]
        w, q = state[2 * place : 2 * (place + stop - first)], unit * k1
        for j in range(stop - first):
            real, imaginary, p = w[2 * j], w[2 * j + 1], unit * (first + j)
            row_x[2 * j], row_x[2 * j + 1] = -q * imaginary, q * real
            row_y[2 * j], row_y[2 * j + 1] = -p * imaginary, p * real
        if k1 > 0:
            spectra[0, n - k1, 0], spectra[0, n - k1, 1] = row_x[0], -row_x[1]


@njit()
def _dot(slopes, velocity):
    """Leave v . slopes in the first slope."""
    for i in range(slopes.shape[1]):
        for j in range(slopes.shape[2]):
            slopes[0, i, j] = slopes[0, i, j] * velocity[0, i, j] + slopes[1, i, j] * velocity[1, i, j]


@njit()
def _gather_with_decay(spectrum, layout, state, decay, out):
    """out <- the modes of a real transform less decay * state, all of them pairs of reals."""
    n = spectrum.shape[0]
    for k1, first, stop, place in layout:
        row, here = spectrum[k1 % n, 2 * first : 2 * stop], slice(2 * place, 2 * (place + stop - first))
        w, fading, target = state[here], decay[here], out[here]
        for j in range(row.size):
            target[j] = row[j] - fading[j] * w[j]
