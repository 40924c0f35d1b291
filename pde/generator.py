"""The generator of the equation on Fourier modes: w -> v . grad w + nu lap w, by pseudospectral products.

In time-to-go s = T - t the terminal-value problem is the initial-value problem w_s = v . grad w + nu lap w, w(., 0) = f.
A state holds the coefficients of the modes |k_1|, |k_2| <= K as a complex array of shape (2 K + 1, K + 1): k_1 in FFT
order, k_2 = 0..K (w is real). The product is formed on a grid large enough that no alias reaches these modes:
m >= 2 K + K_v + 1 points for a velocity of bandwidth K_v.
"""

import numba
import numpy as np
import scipy.fft

from pde import grid

__all__ = ["Generator", "from_state", "restrict", "to_state"]


def to_state(values, n_modes):
    """Return the coefficients of the modes |k_i| <= n_modes of a grid function.

    Parameters
    ----------
    values : ndarray of shape (n, n)
        Real grid function, n > 2 n_modes.
    n_modes : int
        K.

    Returns
    -------
    ndarray of shape (2 n_modes + 1, n_modes + 1)
    """
    spectrum = scipy.fft.rfft2(values, norm="forward")
    columns = spectrum[:, : n_modes + 1]
    return np.concatenate([columns[: n_modes + 1], columns[values.shape[0] - n_modes :]])


def from_state(state, n):
    """Evaluate a state on the points of the grid of n per side, n > 2 K.

    Parameters
    ----------
    state : ndarray of shape (2 K + 1, K + 1)
        Coefficients.
    n : int
        Points per side.

    Returns
    -------
    ndarray of shape (n, n)
    """
    k_max = state.shape[1] - 1
    spectrum = np.zeros((n, n // 2 + 1), dtype=complex)
    spectrum[: k_max + 1, : k_max + 1] = state[: k_max + 1]
    spectrum[n - k_max :, : k_max + 1] = state[k_max + 1 :]
    return scipy.fft.irfft2(spectrum, s=(n, n), norm="forward")


def restrict(state, n_modes):
    """Return the state on more or fewer modes: new ones are zero, surplus ones are dropped.

    Parameters
    ----------
    state : ndarray of shape (2 K + 1, K + 1)
        Coefficients.
    n_modes : int
        New K.

    Returns
    -------
    ndarray of shape (2 n_modes + 1, n_modes + 1)
    """
    kept = min(n_modes, state.shape[1] - 1)
    out = np.zeros((2 * n_modes + 1, n_modes + 1), dtype=complex)
    out[: kept + 1, : kept + 1] = state[: kept + 1, : kept + 1]
    out[2 * n_modes + 1 - kept :, : kept + 1] = state[state.shape[0] - kept :, : kept + 1]
    return out


class Generator:
    """The linear operator w -> v . grad w + nu lap w on the modes |k_i| <= n_modes.

    Parameters
    ----------
    velocity : PeriodicField
        v, values of shape (2, n, n).
    nu : float
        Diffusivity, >= 0.
    n_modes : int
        K.
    n_grid : int, optional
        Points per side of the grid of products; by default enough that no alias reaches the modes kept. With fewer,
        products alias.
    radius : float, optional
        Keep the modes of Euclidean length |k| <= radius alone: smooth solutions have round spectra, and the corners
        of the square are the stiffest modes.
    """

    def __init__(self, velocity, nu, n_modes, n_grid=None, radius=None):
        self.nu, self.n_modes = nu, n_modes
        self.field = velocity
        self.n_grid = n_grid or grid.fast_size(2 * n_modes + velocity.n_modes + 1)
        self._velocity = velocity.on_grid(self.n_grid)
        scale = 2 * np.pi / velocity.length
        k1 = np.concatenate([np.arange(n_modes + 1), np.arange(-n_modes, 0)]) * scale
        k2 = np.arange(n_modes + 1) * scale
        self._k1, self._k2 = k1, k2
        self.k_squared = k1[:, None] ** 2 + k2[None, :] ** 2
        self.radius = radius
        largest = np.inf if radius is None else (radius * scale) ** 2 * (1 + 1e-12)
        self._decay = np.where(self.k_squared <= largest, nu * self.k_squared, np.inf)
        self._spectra = np.zeros((2, self.n_grid, self.n_grid // 2 + 1), dtype=complex)
        # Largest |v_1 k_1| + |v_2 k_2| of a mode kept: the imaginary reach of the spectrum.
        self.transport_rate = float(np.abs(self._velocity).sum(axis=0).max() * scale * n_modes)

    def __call__(self, state):
        """Return v . grad w + nu lap w.

        Parameters
        ----------
        state : ndarray of shape (2 K + 1, K + 1)
            Coefficients of w.

        Returns
        -------
        ndarray of shape (2 K + 1, K + 1)
        """
        return self._gather(state, diffusion=1.0)

    def convection(self, state):
        """Return v . grad w.

        Parameters
        ----------
        state : ndarray of shape (2 K + 1, K + 1)
            Coefficients of w.

        Returns
        -------
        ndarray of shape (2 K + 1, K + 1)
        """
        return self._gather(state, diffusion=0.0)

    def keep(self, state):
        """Return the state without the modes beyond the radius.

        Parameters
        ----------
        state : ndarray of shape (2 K + 1, K + 1)
            Coefficients.

        Returns
        -------
        ndarray of shape (2 K + 1, K + 1)
        """
        return np.where(np.isfinite(self._decay), state, 0)

    def _product(self, state):
        """v . grad w on the grid of products."""
        m = self.n_grid
        _fill_gradient(state, self._k1, self._k2, self._spectra)
        slopes = scipy.fft.irfft2(self._spectra, s=(m, m), norm="forward")
        return _dot(slopes, self._velocity)

    def _gather(self, state, diffusion):
        spectrum = scipy.fft.rfft2(self._product(state), norm="forward")
        out = np.empty_like(state)
        _combine(spectrum, state, self._decay, diffusion, out)
        return out

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
        return Generator(velocity, self.nu, self.n_modes, self.n_grid, self.radius)

    def residual(self, state, velocity):
        """Return what truncation and the sampling of the velocity leave out of v . grad w.

        Parameters
        ----------
        state : ndarray of shape (2 K + 1, K + 1)
            Coefficients of w.
        velocity : PeriodicField
            The velocity itself, of which the operator's may be a sample.

        Returns
        -------
        ndarray of shape (2 M + 1, M + 1)
            Coefficients on M > K modes: all that v . grad w holds where v is band-limited, else those of twice as
            fine a grid.
        """
        if velocity.interpolation == "trigonometric":
            n_grid = grid.fast_size(2 * (self.n_modes + velocity.n_modes) + 1)
        else:
            n_grid = 2 * self.n_grid
        fine = Generator(velocity, self.nu, self.n_modes, n_grid)
        m = (n_grid - 1) // 2
        return to_state(fine._product(state), m) - restrict(self.convection(state), m)


# Each of these is one pass over arrays that fit the cache, where NumPy would make three or four.
@numba.njit(cache=True, nogil=True)
def _fill_gradient(state, k1, k2, spectra):
    n_rows, n_columns = state.shape
    shift = spectra.shape[1] - n_rows
    for i in range(n_rows):
        row = i if i < n_columns else i + shift
        for j in range(n_columns):
            w = 1j * state[i, j]
            spectra[0, row, j] = k1[i] * w
            spectra[1, row, j] = k2[j] * w


@numba.njit(cache=True, nogil=True)
def _dot(slopes, velocity):
    out = np.empty(slopes.shape[1:])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = slopes[0, i, j] * velocity[0, i, j] + slopes[1, i, j] * velocity[1, i, j]
    return out


@numba.njit(cache=True, nogil=True)
def _combine(spectrum, state, decay, diffusion, out):
    n_rows, n_columns = state.shape
    shift = spectrum.shape[0] - n_rows
    for i in range(n_rows):
        row = i if i < n_columns else i + shift
        for j in range(n_columns):
            if decay[i, j] == np.inf:
                out[i, j] = 0.0
            else:
                out[i, j] = spectrum[row, j] - (diffusion * decay[i, j]) * state[i, j]
