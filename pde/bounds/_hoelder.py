"""The smallest Hölder constant of a solution over all pairs of grid points, and its exponent.

|u(x + delta, 0) - u(x, 0)| <= C (|delta| / sigma)**alpha                            (paper: Theorem 2.1)
"""

from dataclasses import dataclass

import numpy as np

# As a module: the loop compiled here depends on no name of it.
import pde.equation
from pde import checks, convergence, spectral
from pde._compiled import threaded


@dataclass(frozen=True, eq=False)
class HoelderConstant:
    """The smallest C for each alpha, and the differences that it comes from.

    Attributes
    ----------
    alpha : ndarray of shape (m,)
        Exponents.
    constant : ndarray of shape (m,)
        C(alpha), in units of u.
    sigma : float
        Diffusion coefficient of the problem.
    distance : ndarray of shape (p,)
        The distances |delta| on the torus, ascending.
    difference : ndarray of shape (p,)
        max |u(x + delta) - u(x)| over x and over all delta of that length.
    """

    alpha: np.ndarray
    constant: np.ndarray
    sigma: float
    distance: np.ndarray
    difference: np.ndarray


def hoelder_constant(problem, u=None, *, alphas=(0.25, 0.5, 0.75, 1.0), n=None):
    """Return the smallest C over all pairs of grid points, for each alpha.

    C(alpha) = max_delta max_x |u(x + delta, 0) - u(x, 0)| (sigma / |delta|)**alpha    (paper: Theorem 2.1)

    with |delta| the distance on the torus. Pairs closer than length / n are not seen: where u varies within a cell,
    C is that of the grid.

    Parameters
    ----------
    problem : ConvectionDiffusion
        sigma > 0.
    u : array_like of shape (n, n), optional
        u(., 0) on the grid, from whichever solver; by default solved spectrally.
    alphas : sequence of float
        Exponents, > 0 and <= 1.
    n : int, optional
        Points per side of the spectral solution; not used with u.

    Returns
    -------
    HoelderConstant
        `constant` of shape (m,).

    Raises
    ------
    ValueError
        If sigma is 0, an alpha is not in (0, 1], or u is not finite, not square or a single point.
    """
    pde.equation.admit(problem).refuse("hoelder_constant", "sigma", "terminals")
    if problem.sigma == 0:
        raise ValueError("sigma must be > 0: |delta| / sigma has no meaning, got sigma=0")
    alphas = checks.finite_array("alphas", alphas)
    if alphas.ndim != 1 or not alphas.size or not ((alphas > 0) & (alphas <= 1)).all():
        raise ValueError(f"alphas must be numbers in (0, 1], got alphas={alphas.tolist()}")
    values = spectral.solve(problem, n).u if u is None else u
    distance, difference = largest_differences(values, length=problem.length)
    constant = (difference * (problem.sigma / distance) ** alphas[:, None]).max(axis=1)
    return HoelderConstant(alphas, constant, problem.sigma, distance, difference)


def hoelder_exponent(constants, *, distance=None):
    """Fit the exponent over sigma, at one distance.

    max |u(x + delta) - u(x)| = C (|delta| / sigma)**alpha,  |delta| fixed

    Parameters
    ----------
    constants : sequence of HoelderConstant
        Of one grid, for at least two different sigma.
    distance : float, optional
        |delta|, rounded to the next one of the grid; by default between neighbours.

    Returns
    -------
    Order
        alpha as `order`, its standard error, and C as `constant`.

    Raises
    ------
    ValueError
        If the grids differ, or there are fewer than two sigma (raised by `convergence.observed_order`).
    """
    constants = list(constants) if np.iterable(constants) else [constants]
    if not constants or not all(isinstance(c, HoelderConstant) for c in constants):
        raise ValueError("constants must be a sequence of results of hoelder_constant, on one grid")
    if any(len(c.distance) != len(constants[0].distance) for c in constants):
        raise ValueError("constants must be a sequence of results on one grid")
    distances = constants[0].distance
    place = 0 if distance is None else int(np.abs(distances - distance).argmin())
    relative = np.array([distances[place] / c.sigma for c in constants])
    return convergence.observed_order(relative, [c.difference[place] for c in constants])


def largest_differences(u, *, length=1.0):
    """Return the largest difference of u between points of each distance, over all pairs of grid points.

    max |u(x + delta) - u(x)| over x and |delta| = r

    Parameters
    ----------
    u : array_like of shape (n, n)
        Grid function, n >= 2.
    length : float, default=1.0
        Period.

    Returns
    -------
    distance : ndarray of shape (p,)
        r, the distances on the torus, ascending and > 0.
    difference : ndarray of shape (p,)

    Raises
    ------
    ValueError
        If u is not finite, not square or a single point, or length <= 0.
    """
    u = checks.finite_array("u", u)
    length = checks.real("length", length, positive=True)
    if u.ndim != 2 or u.shape[0] != u.shape[1] or u.shape[0] < 2:
        raise ValueError(f"u must have shape (n, n) with n >= 2, got {u.shape}")
    n = len(u)
    # Half of the shifts: delta and -delta compare the same pairs.
    differences = np.empty((n // 2 + 1, n))
    _over_shifts(np.concatenate([u, u], axis=1), differences)
    steps = np.minimum(np.arange(n), n - np.arange(n))
    squares = steps[: n // 2 + 1, None] ** 2 + steps**2
    # Exact in integers: equal distances are the same distance.
    found, place = np.unique(squares.ravel(), return_inverse=True)
    largest = np.zeros(len(found))
    np.maximum.at(largest, place.ravel(), differences.ravel())
    return np.sqrt(found[1:]) * (length / n), largest[1:]


@threaded(error_model="numpy")
def _over_shifts(part, doubled, out):
    """out[a, b] <- max_x |u(x + (a, b)) - u(x)| for 0 <= a <= n / 2, 0 <= b < n; `doubled` is u twice, (n, 2 n)."""
    n = doubled.shape[0]
    for shift in range(part[0], out.size, part[1]):
        a, b = shift // n, shift % n
        largest = 0.0
        for i in range(n):
            row_i, shifted = doubled[i], doubled[(i + a) % n, b:]
            row = 0.0
            for j in range(n):
                row = max(row, abs(shifted[j] - row_i[j]))
            largest = max(largest, row)
        out[a, b] = largest
