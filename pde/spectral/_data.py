"""Terminal data as Fourier coefficients, exact or with an estimate of their error.

Coefficients of fields are exact. Those of a callable come from samples, whose aliases fall onto all modes, low ones
included. Grids of several sizes are compared on the modes kept: the finest is used, and the largest difference is its
error, as aliases differ from size to size.
"""

from typing import NamedTuple

import numpy as np

from pde import grid
from pde.fields import PeriodicField

# Largest grid on which a callable is sampled.
_FINEST = 2048
_OTHER_SIZES = (0.61, 0.43, 0.29)
# Rows of a grid whose values are held at a time, where only few modes of them are wanted.
_SLAB = 64
# Most shells beyond the modes kept that are treated one by one.
_FARTHEST = 1024


class Data(NamedTuple):
    """Coefficients c[R + k_1, k_2] of scalar data, k_2 >= 0, shape (2 R + 1, R + 1), with their errors.

    `aliases` of the shape of c, limited to the modes kept, estimates their error (None: exact); `coarser` are those
    modes from half as fine a grid; `rest` bounds the root mean square of what lies beyond R; `values` are on a fine
    grid.
    """

    c: np.ndarray
    aliases: np.ndarray | None
    rest: float
    values: np.ndarray
    coarser: np.ndarray | None = None

    def scaled(self, exponent):
        """The data times 2**exponent."""
        # In two factors, each within the range of the numbers.
        first, second = 2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)
        return Data(*(part if part is None else part * first * second for part in self))


def terminal_data(problem, n, k_max, negligible):
    """Data of f; a callable is sampled until the aliases on the modes kept are negligible, relative to max |f|."""
    f = problem.terminal
    if isinstance(f, PeriodicField):
        trigonometric = f.interpolation == "trigonometric"
        r = f.n_modes if trigonometric else min(max(2 * f.n, 2 * k_max), max(_FARTHEST, k_max))
        r = max(r, k_max)
        c = f.fourier_coefficients(r)[:, r:]
        if trigonometric and f.n <= n:
            # 32 points per wavelength: the largest value on them is within half a per cent of the largest of all.
            fine = n if 32 * f.n_modes <= n else min(2 * n, grid.fast_size(32 * f.n_modes))
        else:
            fine = min(max(2 * n, grid.fast_size(2 * r + 1)), 2 * _FARTHEST)
        return Data(c, None, 0.0 if trigonometric else float(np.abs(f.values).max()), f.on_grid(fine))
    return sampled_data(problem.terminal_on_grid, max(n, 64), k_max, negligible)


def sampled_data(on_grid, n, k_max, negligible):
    """Data of a callable, from its values on_grid(m) on grids of several sizes m."""
    m = grid.fast_size(max(n, 4 * k_max + 2, 64))
    half = _coefficients(on_grid(m), k_max)
    while True:
        m *= 2
        values = on_grid(m)
        c = _coefficients(values, k_max)
        error = np.abs(c - half)
        last = 2 * m > _FINEST
        if last or error.sum() <= negligible * np.abs(values).max():
            # Sizes that share few points show what falls between those of m and m / 2; one of the differences may be
            # small by accident, as at an edge of f, but hardly all of them.
            for size in _other_sizes(m, k_max):
                error = np.maximum(error, np.abs(c - _coefficients(on_grid(size), k_max)))
            if last or error.sum() <= negligible * np.abs(values).max():
                break
        half = c
    r = m // 2 - 1
    return Data(grid.coefficients(values, r)[:, r:], _aliases(error, r), float(np.abs(values).max()), values, half)


def refined(data, problem, k_max):
    """The data of a callable f, the modes kept from grids of twice as many points per side."""
    m, r = 2 * len(data.values), data.c.shape[1] - 1
    best, *others = (_from_slabs(problem, size, k_max) for size in (m, *_other_sizes(m, k_max)))
    coarser, c = low_modes(data.c, k_max), data.c.copy()
    low_modes(c, k_max)[:] = best
    error = np.max([np.abs(best - other) for other in (*others, coarser)], axis=0)
    return data._replace(c=c, aliases=_aliases(error, r), coarser=coarser)


def _other_sizes(m, k_max):
    """Points per side of the grids with which that of m is compared."""
    return [grid.fast_size(max(4 * k_max + 2, round(part * m))) + 1 for part in _OTHER_SIZES]


def _aliases(error, r):
    """Errors of the modes kept, beside zeros for all others up to r."""
    aliases = np.zeros((2 * r + 1, r + 1))
    # A difference may vanish by accident, in one mode and not in all.
    low_modes(aliases, error.shape[1] - 1)[:] = np.maximum(error, np.sqrt((error**2).mean()))
    return aliases


def _from_slabs(problem, m, k_max):
    """Half a plane of coefficients of f, |k_i| <= k_max, from its values on the grid of m, slab after slab."""
    x, k = np.arange(m) * (problem.length / m), np.arange(-k_max, k_max + 1)
    c = np.zeros((2 * k_max + 1, k_max + 1), dtype=complex)
    for first in range(0, m, _SLAB):
        rows = np.arange(first, min(first + _SLAB, m))
        points = np.stack(np.meshgrid(x[rows], x, indexing="ij"), axis=-1)
        spectra = np.fft.rfft(problem.terminal_at(points), norm="forward")[:, : k_max + 1]
        c += np.exp(-2j * np.pi * (np.outer(k, rows) % m) / m) @ spectra / m
    return c


def _coefficients(values, k_max):
    return grid.coefficients(values, k_max)[:, k_max:]


def shells(c):
    """(Sums of |c_k|, sums of |c_k|**2) over r <= |k| < r + 1, k and -k, of half a plane of coefficients."""
    r = c.shape[1] - 1
    size = np.abs(c)
    size[:, 1:] *= 2
    shell = np.hypot(np.arange(-r, r + 1)[:, None], np.arange(r + 1)).astype(np.intp).ravel()
    squares = np.abs(c) ** 2
    squares[:, 1:] *= 2
    return np.bincount(shell, size.ravel()), np.bincount(shell, squares.ravel())


def weighted_shells(c):
    """Sums of |c_k| / k**2 over max |k_i| = r, of half a plane of coefficients: what modes do until they decay."""
    r = c.shape[1] - 1
    k1, k2 = np.arange(-r, r + 1)[:, None], np.arange(r + 1)
    size = np.abs(c) / np.maximum(k1**2 + k2**2, 1)
    return np.bincount(np.maximum(np.abs(k1), k2).ravel(), size.ravel())


def product(c, velocity, length):
    """Half a plane of coefficients of v . grad w; w has the coefficients c."""
    r = c.shape[1] - 1
    reach = r + velocity.n_modes
    m = grid.fast_size(2 * reach + 1)
    q = 2j * np.pi / length * np.arange(-r, r + 1)
    full = np.concatenate([np.conj(c[::-1, :0:-1]), c], axis=1)
    slopes = grid.from_coefficients(np.stack([full * q[:, None], full * q]), m)
    return grid.coefficients((velocity.on_grid(m) * slopes).sum(axis=0), reach)[:, reach:].copy()


def low_modes(c, k_max):
    """The part |k_i| <= k_max of half a plane of coefficients, as a view."""
    r = c.shape[1] - 1
    return c[r - k_max : r + k_max + 1, : k_max + 1]


def without_low_modes(c, k_max):
    """The coefficients c, those of |k_i| <= k_max set to zero."""
    c = c.copy()
    low_modes(c, k_max)[:] = 0
    return c
