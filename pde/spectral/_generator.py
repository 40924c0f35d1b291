"""The generator of the equation on Fourier modes: w -> v . grad w + nu lap w, by pseudospectral products.

In time-to-go s = T - t the terminal-value problem is the initial-value problem w_s = v . grad w + nu lap w,
w(., 0) = f. The product is formed on a grid large enough that no alias reaches the modes kept: m >= 2 K + K_v + 1
points for modes |k_i| <= K and a velocity of bandwidth K_v.
"""

import numba
import numpy as np
import scipy.fft

from pde import grid

__all__ = ["Generator", "product_grid"]


def product_grid(velocity, k_max):
    """Return the points per side of a grid on which no alias of v . grad w reaches the modes kept.

    Parameters
    ----------
    velocity : PeriodicField
        v, of bandwidth `n_modes`.
    k_max : int
        Largest |k_i| of w.

    Returns
    -------
    int
    """
    return grid.fast_size(2 * k_max + velocity.n_modes + 1)


class Generator:
    """The linear operator w -> v . grad w + nu lap w on the modes kept.

    Parameters
    ----------
    velocity : PeriodicField
        v, values of shape (2, n, n).
    nu : float
        Diffusivity, >= 0.
    modes : Modes
        The modes kept.
    n_grid : int, optional
        Points per side of the grid of products; by default enough that no alias reaches the modes kept. With fewer,
        products alias.
    """

    def __init__(self, velocity, nu, modes, n_grid=None):
        self.field, self.nu, self.modes = velocity, nu, modes
        self.n_grid = n_grid or product_grid(velocity, modes.k_max)
        self._aliases = self.n_grid < 2 * modes.k_max + velocity.n_modes + 1
        self._velocity = velocity.on_grid(self.n_grid)
        self._decay = nu * modes.k_squared
        self._spectra = np.zeros((2, self.n_grid, self.n_grid // 2 + 1), dtype=complex)
        self._fine, self._fine_velocity, self._fine_k_squared = None, None, None
        # Largest |v_1 k_1| + |v_2 k_2| of a mode kept: the imaginary reach of the spectrum.
        self.transport_rate = float(np.abs(self._velocity).sum(axis=0).max() * modes.unit * modes.k_max)

    def __call__(self, state):
        """Return v . grad w + nu lap w.

        Parameters
        ----------
        state : ndarray of shape (modes.size,)
            Coefficients of w.

        Returns
        -------
        ndarray of shape (modes.size,)
        """
        out = np.empty_like(state)
        _gather_with_decay(self._product(state), self.modes.layout, state, self._decay, out)
        return out

    def convection(self, state):
        """Return v . grad w.

        Parameters
        ----------
        state : ndarray of shape (modes.size,)
            Coefficients of w.

        Returns
        -------
        ndarray of shape (modes.size,)
        """
        return self.modes.gather(self._product(state))

    def _product(self, state):
        """The transform of v . grad w, formed on the grid of products."""
        m = self.n_grid
        _fill_gradient(state, self.modes.layout, self.modes.unit, self._spectra)
        slopes = scipy.fft.irfft2(self._spectra, s=(m, m), norm="forward")
        _dot(slopes, self._velocity)
        return scipy.fft.rfft2(slopes[0], norm="forward", overwrite_x=True)

    def with_velocity(self, velocity):
        """Return the same operator with another velocity, on the same modes and grid.

        Parameters
        ----------
        velocity : PeriodicField
            Values of shape (2, n, n).

        Returns
        -------
        Generator
        """
        return Generator(velocity, self.nu, self.modes, self.n_grid)

    def residual(self, state, velocity, tau):
        """Return what truncation and the sampling of the velocity leave out of a step of length tau.

        r = min(tau, 1 / (nu |k|**2)) (v . grad w - the part of it kept),  mode by mode

        Parameters
        ----------
        state : ndarray of shape (modes.size,)
            Coefficients of w.
        velocity : PeriodicField
            The velocity itself, of which the operator's may be a sample.
        tau : float
            Length of the step; a mode k of the residual lives no longer than 1 / (nu |k|**2).

        Returns
        -------
        ndarray of shape (m, m)
            r on a grid that holds all modes of it where v is band-limited, else on twice as fine a grid.
        """
        fine = self._fine_operator(velocity)
        lost = fine._product(state)
        if velocity is self.field and not self._aliases:
            self.modes.scatter(np.zeros_like(state), lost)
        else:
            kept = np.zeros_like(lost)
            self.modes.scatter(self.convection(state), kept)
            lost -= kept
        lost *= tau / np.maximum(1.0, tau * self.nu * self._fine_k_squared)
        return scipy.fft.irfft2(lost, s=(fine.n_grid,) * 2, norm="forward", overwrite_x=True)

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
            k1, k2 = scipy.fft.fftfreq(n_grid, 1 / n_grid), np.arange(n_grid // 2 + 1)
            self._fine_k_squared = (k1[:, None] ** 2 + k2**2) * self.modes.unit**2
        return self._fine


# Each of these is one pass over arrays that fit the cache, where NumPy would make three or four.
@numba.njit(cache=True, nogil=True)
def _fill_gradient(state, layout, unit, spectra):
    n = spectra.shape[1]
    for k1, first, stop, place in layout:
        row_x, row_y, q = spectra[0, k1 % n], spectra[1, k1 % n], unit * k1
        for j in range(first, stop):
            w = state[place + j - first]
            row_x[j] = complex(-q * w.imag, q * w.real)
            row_y[j] = complex(-unit * j * w.imag, unit * j * w.real)
        if k1 > 0:
            spectra[0, n - k1, 0] = np.conj(row_x[0])


@numba.njit(cache=True, nogil=True)
def _dot(slopes, velocity):
    """Leave v . slopes in the first of the slopes."""
    for i in range(slopes.shape[1]):
        for j in range(slopes.shape[2]):
            slopes[0, i, j] = slopes[0, i, j] * velocity[0, i, j] + slopes[1, i, j] * velocity[1, i, j]


@numba.njit(cache=True, nogil=True)
def _gather_with_decay(spectrum, layout, state, decay, out):
    n = spectrum.shape[0]
    for k1, first, stop, place in layout:
        row = spectrum[k1 % n]
        for j in range(first, stop):
            i = place + j - first
            out[i] = row[j] - decay[i] * state[i]
