"""Random periodic fields: the paper's rough velocity, smooth ones, and the terminal datum of Figure 4(d).

Every function takes `rng` (a numpy Generator or a seed) and draws from nothing else.
"""

import numpy as np

from pde import checks, grid
from pde.fields import PeriodicField

__all__ = ["band_limited", "divergence_free", "grid_noise", "terminal_datum"]


def grid_noise(n: int, rng, *, length: float = 1.0, interpolation: str = "bilinear"):
    """Draw the velocity of the paper's Figure 4: independent uniform numbers at the grid points.

    v_a(x_i, y_j) ~ U(-1, 1)                                             (paper: section 2.2)

    Parameters
    ----------
    n : int
        Points per side, >= 1.
    rng : numpy.random.Generator or int
        Source of the numbers, or a seed.
    length : float, default=1.0
        Period.
    interpolation : {"trigonometric", "bilinear", "bicubic"}
        Rule between the grid points, on which the paper is silent; with "bilinear" |v_a| <= 1 holds everywhere.

    Returns
    -------
    PeriodicField
        Values of shape (2, n, n).

    Raises
    ------
    ValueError
        If n < 1, or length or interpolation is refused by PeriodicField.
    """
    n = checks.integer("n", n, at_least=1)
    return PeriodicField(checks.generator(rng).uniform(-1.0, 1.0, (2, n, n)), length, interpolation)


def band_limited(n: int, rng, *, n_modes: int = 4, length: float = 1.0):
    """Draw a smooth velocity with independent components.

    v_a(x) = sum_(0 < |k| <= n_modes) c_ak exp(2 pi i k . x / length),  c_ak complex normal / |k|,  max |v| = 1

    Parameters
    ----------
    n : int
        Points per side, > 2 n_modes.
    rng : numpy.random.Generator or int
        Source of the numbers, or a seed; the field does not depend on n.
    n_modes : int, default=4
        Largest |k| (Euclidean), >= 1.
    length : float, default=1.0
        Period.

    Returns
    -------
    PeriodicField
        Values of shape (2, n, n), trigonometric; its Euclidean sup norm, over a grid of 16 points per shortest
        wavelength, is 1.

    Raises
    ------
    ValueError
        If the grid does not resolve the modes, or an argument is out of range.
    """
    c = _random_coefficients(2, n, n_modes, checks.generator(rng))
    k = np.arange(-n_modes, n_modes + 1)
    c /= np.maximum(np.hypot(k[:, None], k[None, :]), 1.0)
    return _unit_velocity(c, n, length)


def divergence_free(n: int, rng, *, n_modes: int = 4, length: float = 1.0):
    """Draw a smooth velocity without divergence, from a random stream function.

    v = (d psi / dy, -d psi / dx),  psi with random coefficients of size 1 / |k|**2,  max |v| = 1

    Parameters
    ----------
    n : int
        Points per side, > 2 n_modes.
    rng : numpy.random.Generator or int
        Source of the numbers, or a seed; the field does not depend on n.
    n_modes : int, default=4
        Largest |k| (Euclidean), >= 1.
    length : float, default=1.0
        Period.

    Returns
    -------
    PeriodicField
        Values of shape (2, n, n), trigonometric; its Euclidean sup norm, over a grid of 16 points per shortest
        wavelength, is 1.

    Raises
    ------
    ValueError
        If the grid does not resolve the modes, or an argument is out of range.
    """
    psi = _random_coefficients(1, n, n_modes, checks.generator(rng))[0]
    k = np.arange(-n_modes, n_modes + 1)
    psi /= np.maximum(k[:, None] ** 2 + k[None, :] ** 2, 1)
    return _unit_velocity(np.stack([1j * k[None, :] * psi, -1j * k[:, None] * psi]), n, length)


def terminal_datum(n: int, rng, *, n_modes: int = 5, length: float = 1.0):
    """Draw the smooth terminal datum of Figure 4(d).

    f = a + b sum_(0 < |k| <= n_modes) c_k exp(2 pi i k . x / length),  c_k complex normal

    with a and b such that f runs from -1 to 1 over the grid. The paper does not say how its datum was drawn; five
    modes give bumps of the size of the published ones.

    Parameters
    ----------
    n : int
        Points per side, > 2 n_modes.
    rng : numpy.random.Generator or int
        Source of the numbers, or a seed.
    n_modes : int, default=5
        Largest |k| (Euclidean), >= 1.
    length : float, default=1.0
        Period.

    Returns
    -------
    PeriodicField
        Values of shape (n, n), trigonometric; minimum -1 and maximum 1.

    Raises
    ------
    ValueError
        If the grid does not resolve the modes, or an argument is out of range.
    """
    c = _random_coefficients(1, n, n_modes, checks.generator(rng))[0]
    values = grid.from_coefficients(c, n)
    low, high = values.min(), values.max()
    return PeriodicField((2 * values - (high + low)) / (high - low), length)


def _random_coefficients(n_fields, n, n_modes, rng):
    """Coefficients (n_fields, 2 n_modes + 1, 2 n_modes + 1) of real random fields of mean 0 with |k| <= n_modes."""
    n_modes = checks.integer("n_modes", n_modes, at_least=1)
    n = checks.integer("n", n, at_least=1)
    if n <= 2 * n_modes:
        raise ValueError(f"n must be > 2 n_modes to resolve the field, got n={n}, n_modes={n_modes}")
    size = 2 * n_modes + 1
    c = rng.standard_normal((n_fields, size, size)) + 1j * rng.standard_normal((n_fields, size, size))
    c = (c + np.conj(c[:, ::-1, ::-1])) / 2
    k = np.arange(-n_modes, n_modes + 1)
    radius_squared = k[:, None] ** 2 + k[None, :] ** 2
    return np.where((radius_squared > 0) & (radius_squared <= n_modes**2), c, 0)


def _unit_velocity(c, n, length):
    fine = grid.from_coefficients(c, 16 * (c.shape[-1] // 2))
    return PeriodicField(grid.from_coefficients(c, n) / np.sqrt((fine**2).sum(axis=0).max()), length)
