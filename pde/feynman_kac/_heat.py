"""The heat semigroup of terminal data: their expectation under Brownian motion, exactly."""

import math

import numpy as np

from pde import checks, grid
from pde.equation import ConvectionDiffusion, admit
from pde.fields import PeriodicField

# The control's expectation must be known to far less than any standard error.
_HEAT_TOLERANCE = 1e-10
# Largest mode of a spline that is summed; the next ones are of size (n / mode)**2 for a bilinear spline.
_LARGEST_MODE = 2**10


def heat_semigroup(problem, t):
    """Return exp(t nu lap) f, the expectation of f under Brownian motion.

    (exp(t nu lap) f)(x) = E[f(x + sigma B_t)] = sum_k f_k exp(-nu |q|**2 t) exp(i q . x),  q = 2 pi k / length

    Parameters
    ----------
    problem : ConvectionDiffusion
        f as a field, whatever its rule of interpolation, or as a callable, sampled on a grid that is refined until
        the result no longer changes by more than 1e-10 max |f|.
    t : float
        Time, > 0.

    Returns
    -------
    PeriodicField
        Trigonometric.

    Raises
    ------
    ValueError
        If t is not positive, or 2048 points per side do not hold f (a callable that is not smooth).
    """
    t = checks.real("t", t, positive=True)
    admit(problem).refuse("heat_semigroup")
    f = problem.terminal
    if not isinstance(f, PeriodicField):
        return _sampled_heat(problem, t)
    rate = problem.nu * t * (2 * np.pi / problem.length) ** 2
    if f.interpolation == "trigonometric":
        k_max = f.n_modes
        c = grid.coefficients(f.values, k_max)
    else:
        # A spline has infinitely many modes; those beyond this one are damped below 1e-16 or tabulated no further.
        k_max = int(min(math.sqrt(37 / rate) if rate else np.inf, _LARGEST_MODE)) + 1
        c = _spline_coefficients(f, k_max)
    k = np.arange(-k_max, k_max + 1)
    c = c * np.exp(-rate * (k[:, None] ** 2 + k[None, :] ** 2))
    return PeriodicField(grid.from_coefficients(c, 2 * k_max + 2), problem.length)


def _spline_coefficients(f, k_max):
    """Exact Fourier coefficients of a spline field: those of its coefficients, repeated, times sinc**(degree + 1)."""
    degree = 1 if f.interpolation == "bilinear" else 3
    n, k = f.n, np.arange(-k_max, k_max + 1)
    factor = np.sinc(k / n) ** (degree + 1)
    a = np.fft.fft2(f.spline_coefficients, norm="forward")[np.ix_(k % n, k % n)]
    return a * factor[:, None] * factor[None, :]


def _sampled_heat(problem, t):
    before = None
    for size in (32, 64, 128, 256, 512, 1024, 2048):
        values = problem.terminal_on_grid(size)
        still = ConvectionDiffusion(
            np.zeros((2, 4, 4)), values, sigma=problem.sigma, horizon=problem.horizon, length=problem.length
        )
        result = heat_semigroup(still, t)
        coarse = result.on_grid(32)
        if before is not None and np.abs(coarse - before).max() <= _HEAT_TOLERANCE * np.abs(values).max():
            return result
        before = coarse
    raise ValueError("terminal is not smooth enough for its heat semigroup: give it as a PeriodicField")
