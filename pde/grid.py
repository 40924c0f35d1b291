"""The periodic grid: its points, its wavenumbers, and the passage between grids.

A grid function of shape (..., n, n) is indexed [i, j] for the point (x_i, y_j) = (i, j) * length / n. It stands for
the trigonometric polynomial

    u(x) = sum_k c_k exp(2 pi i k . x / length),   -n/2 <= k_1, k_2 <= n/2

whose coefficients at k_i = n/2 and -n/2 are equal when n is even (half of the transform's entry each), so that u is
real everywhere and not on the grid points alone.
"""

import numpy as np
import scipy.fft

from pde import checks
from pde.transforms import both_halves, to_spectrum, to_values

__all__ = ["coefficients", "dealiased_modes", "fast_size", "from_coefficients", "points", "resample"]


def points(n: int, length: float = 1.0) -> np.ndarray:
    """Return the grid points (x_i, y_j) = (i, j) * length / n.

    Parameters
    ----------
    n : int
        Points per side, >= 1.
    length : float, default=1.0
        Period.

    Returns
    -------
    ndarray of shape (n, n, 2)

    Raises
    ------
    ValueError
        If n < 1 or length <= 0.

    Examples
    --------
    >>> points(4)[1, 3]
    array([0.25, 0.75])
    """
    n = checks.integer("n", n, at_least=1)
    side = np.arange(n) * (checks.real("length", length, positive=True) / n)
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1)


def dealiased_modes(n: int) -> int:
    """Return the largest K of the 2/3 rule: modes -K..K whose products alias only onto modes beyond K (3 K < n).

    Parameters
    ----------
    n : int
        Points per side, >= 1.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If n < 1.

    Examples
    --------
    >>> dealiased_modes(128)
    42
    """
    return (checks.integer("n", n, at_least=1) - 1) // 3


def fast_size(n: int) -> int:
    """Return the smallest even size >= n whose real Fourier transform is fast.

    Parameters
    ----------
    n : int
        Least number of points per side, >= 1.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If n < 1.
    """
    n = checks.integer("n", n, at_least=1)
    size = scipy.fft.next_fast_len(n, real=True)
    while size % 2:
        size = scipy.fft.next_fast_len(size + 1, real=True)
    return size


def coefficients(values: np.ndarray, n_modes: int | None = None) -> np.ndarray:
    """Return the Fourier coefficients c_k of grid functions, k_1 and k_2 from -n_modes to n_modes.

    c_k = n**-2 sum_x values(x) exp(-2 pi i k . x / length)

    Parameters
    ----------
    values : ndarray of shape (..., n, n)
        Real grid functions.
    n_modes : int, optional
        Keep the modes |k_i| <= n_modes; by default all of them, n_modes = n // 2. Modes beyond n // 2 are zero.

    Returns
    -------
    ndarray of shape (..., 2 n_modes + 1, 2 n_modes + 1)
        Complex; the entry [n_modes + k_1, n_modes + k_2] belongs to k.

    Raises
    ------
    ValueError
        If values are masked, complex or of another shape, or n_modes < 0.
    """
    values = checks.square_array("values", values)
    n = values.shape[-1]
    n_modes = n // 2 if n_modes is None else checks.integer("n_modes", n_modes, at_least=0)
    return both_halves(to_spectrum(values), n, n_modes)


def from_coefficients(c: np.ndarray, n: int) -> np.ndarray:
    """Evaluate trigonometric polynomials on the points of the grid of n per side.

    u(x_i, y_j) = sum_k c_k exp(2 pi i (k_1 i + k_2 j) / n)

    Parameters
    ----------
    c : ndarray of shape (..., 2 m + 1, 2 m + 1)
        Coefficients as `coefficients` returns them, with c_(-k) the conjugate of c_k. Modes that alias
        on the grid add up, so the values are those of the polynomial whatever n is.
    n : int
        Points per side, >= 1.

    Returns
    -------
    ndarray of shape (..., n, n)

    Raises
    ------
    ValueError
        If c is masked or of another shape, or n < 1.
    """
    c, n = checks.square_array("c", c, complex_too=True), checks.integer("n", n, at_least=1)
    if c.shape[-1] % 2 == 0:
        raise ValueError(f"c must have shape (..., 2 m + 1, 2 m + 1), got {c.shape}")
    m = c.shape[-1] // 2
    if n > 2 * m:
        half = np.zeros(c.shape[:-2] + (n, n // 2 + 1), dtype=complex)
        half[..., : m + 1, : m + 1] = c[..., m:, m:]
        half[..., n - m :, : m + 1] = c[..., :m, m:]
    else:
        places = np.arange(-m, m + 1) % n
        folded = np.zeros(c.shape[:-2] + (n, c.shape[-1]), dtype=complex)
        np.add.at(folded, (..., places, slice(None)), c)  # type: ignore[arg-type]
        spectrum = np.zeros(c.shape[:-2] + (n, n), dtype=complex)
        np.add.at(spectrum, (..., places), folded)  # type: ignore[arg-type]
        half = spectrum[..., : n // 2 + 1]
    return to_values(half, n)


def resample(values: np.ndarray, n: int) -> np.ndarray:
    """Evaluate the trigonometric interpolant of grid functions on the points of another grid.

    Parameters
    ----------
    values : ndarray of shape (..., m, m)
        Real grid functions.
    n : int
        Points per side of the new grid; smaller, equal or larger than m.

    Returns
    -------
    ndarray of shape (..., n, n)

    Raises
    ------
    ValueError
        If values are masked, complex or of another shape, or n < 1.
    """
    values, n = checks.square_array("values", values), checks.integer("n", n, at_least=1)
    return values.copy() if n == values.shape[-1] else from_coefficients(coefficients(values), n)
