"""The heat semigroup of terminal data: their expectation under Brownian motion, with the error to which it is known."""

import math

import numpy as np
import scipy.special

from pde import checks, grid
from pde._coefficients import to_cell
from pde.equation import admit
from pde.fields import PeriodicField

# The control's expectation must be known to far less than any standard error: of sums in double precision, relative
# to max |f|, and of samples.
_ROUNDING, _HEAT_TOLERANCE = 1e-12, 1e-10
# Largest mode of a spline that is summed.
_LARGEST_MODE = 2**10
# Modes that diffusion has damped by exp(-37) = 1e-16, and standard deviations beyond which a Gaussian is below that.
_DAMPED, _FAR = 37.0, 9.0
# Points per side on which a callable is sampled, and of two more grids, whose errors have nothing in common.
_SIZES, _SHARES = (256, 512, 1024, 2048), (1.0, 0.83, 0.61)
# Entries of the stencils of a block of points.
_BLOCK_ENTRIES = 2**22


def heat_semigroup(problem, t):
    """Return exp(t nu lap) f, the expectation of f under Brownian motion.

    (exp(t nu lap) f)(x) = E[f(x + sigma B_t)] = sum_k f_k exp(-nu |q|**2 t) exp(i q . x),  q = 2 pi k / length

    Parameters
    ----------
    problem : ConvectionDiffusion
        f as a field, whatever its rule of interpolation, or as a callable, sampled on three grids without common points
        that are refined until the results differ by less than 1e-10 max |f|.
    t : float
        Time, > 0.

    Returns
    -------
    PeriodicField
        Trigonometric.

    Raises
    ------
    ValueError
        If t is not positive, 2048 points per side do not hold f (a callable that is not smooth), or f is a spline of
        which modes beyond 1024 remain.
    """
    t = checks.real("t", t, positive=True)
    admit(problem).refuse("heat_semigroup")
    f = problem.terminal
    if not isinstance(f, PeriodicField):
        return _sampled_heat(problem, t)[0]
    rate = _rate(problem, t)
    if f.interpolation == "trigonometric":
        k_max = f.n_modes
    else:
        # A spline has infinitely many modes.
        k_max = min(_last_mode(rate), _LARGEST_MODE)
        left = _beyond(f, k_max, rate)
        if left > _HEAT_TOLERANCE * np.abs(f.values).max():
            raise ValueError(
                f"t must be larger: modes of terminal, a {f.interpolation} spline, beyond {k_max} still add up to "
                f"{left:.2g}; or give terminal.band_limited({f.n // 2})"
            )
    return _damped_field(f.fourier_coefficients(k_max), rate, problem.length)


def heat_at(problem, t, points):
    """E[f(x + sigma B_t)] at points (n_points, 2), and how far from it these values may be."""
    f = problem.terminal
    if not isinstance(f, PeriodicField):
        field, error = _sampled_heat(problem, t)
        return field(to_cell(points, problem.length)), error
    error = _ROUNDING * float(np.abs(f.values).max())
    if f.interpolation != "trigonometric" and _last_mode(_rate(problem, t)) > _LARGEST_MODE:
        return _smoothed_spline(f, problem.sigma * math.sqrt(t), points), error
    return heat_semigroup(problem, t)(to_cell(points, problem.length)), error


def _rate(problem, t):
    """nu t (2 pi / length)**2: mode k is damped by exp(-rate |k|**2)."""
    return problem.nu * t * (2 * np.pi / problem.length) ** 2


def _last_mode(rate):
    """The mode beyond which all are damped away."""
    return int(min(math.sqrt(_DAMPED / rate) if rate else np.inf, 2.0**40)) + 1


def _damped(c, rate):
    k = np.arange(-(c.shape[-1] // 2), c.shape[-1] // 2 + 1)
    return c * np.exp(-rate * (k[:, None] ** 2 + k[None, :] ** 2))


def _damped_field(c, rate, length):
    return PeriodicField(grid.from_coefficients(_damped(c, rate), c.shape[-1] + 1), length)


def _beyond(f, k_max, rate):
    """Bound of the sum of all damped modes of a spline with |k_i| > k_max."""
    n, power = f.n, 2 if f.interpolation == "bilinear" else 4
    last = min(_last_mode(rate), 64 * max(k_max, n))
    k = np.arange(-last, last + 1)
    sizes = np.abs(np.sinc(k / n)) ** power * np.exp(-rate * k.astype(float) ** 2)
    total, kept = (np.bincount(k[chosen] % n, sizes[chosen], n) for chosen in (k == k, np.abs(k) <= k_max))
    if last < _last_mode(rate):
        # |sinc(k / n)| <= n / (pi k), summed over one residue and both signs.
        total = total + 2 * (n / np.pi) ** power * (last**-power + 1 / (n * (power - 1) * last ** (power - 1)))
    a = np.abs(np.fft.fft2(f.spline_coefficients, norm="forward"))
    return float(total @ a @ total - kept @ a @ kept)


def _sampled_heat(problem, t):
    """The damped interpolant of a callable as a field, and how far it is from those on two other grids."""
    rate, rng = _rate(problem, t), np.random.default_rng(3)
    for size in _SIZES:
        spectra, largest = [], 0.0
        for share in _SHARES:
            m, shift = grid.fast_size(int(share * size)), rng.random(2)
            # From a corner of its own: no multiple of one spacing is one of another.
            values = problem.terminal_at(grid.points(m, problem.length) + shift / m * problem.length)
            wave = np.exp(-2j * np.pi / m * np.arange(-(m // 2), m // 2 + 1)[:, None] * shift)
            spectra.append(_damped(grid.coefficients(values) * wave[:, :1] * wave[:, 1], rate))
            largest = max(largest, float(np.abs(values).max()))
        first, *others = spectra
        gaps = []
        for other in others:
            low = (len(first) - len(other)) // 2
            apart = first.copy()
            apart[low : low + len(other), low : low + len(other)] -= other
            gaps.append(float(np.abs(apart).sum()))
        if max(gaps) <= _HEAT_TOLERANCE * largest:
            field = PeriodicField(grid.from_coefficients(first, len(first) + 1), problem.length)
            return field, max(gaps) + _ROUNDING * largest
    raise ValueError(
        f"terminal is not smooth enough for its heat semigroup: samples of {_SIZES[-1]} points per side differ by "
        f"{max(gaps):.2g}; give it as a PeriodicField, or take control='spectral'"
    )


def _smoothed_spline(f, spread, points):
    """E[f(x + spread Z)] of a spline at points (n_points, 2): its B-splines, convolved with a Gaussian, in closed form.

    With B(u) = sum_j (-1)**j C(p + 1, j) (u + (p + 1) / 2 - j)_+**p / p! and W = z + s Z normal, s in cells,

    E[W_+] = z_+ + T(|z|),  E[W_+**3] = (z**3 + 3 z s**2) [z > 0] + T(|z|),  T(a) = E[(s Z - a)_+**p]
    """
    n, degree = f.n, 1 if f.interpolation == "bilinear" else 3
    s = spread * n / f.length
    reach = math.ceil((degree + 1) / 2 + _FAR * s)
    z = to_cell(points, f.length) * (n / f.length)
    taps = np.arange(-reach, reach + 2)
    out = np.empty(len(points))
    block = max(1, _BLOCK_ENTRIES // len(taps) ** 2)
    for first in range(0, len(points), block):
        part = z[first : first + block]
        cells = np.floor(part).astype(np.int64)
        near = cells[:, None, :] + taps[:, None]
        weights = _smoothed_bspline(part[:, None, :] - near, degree, s)
        near %= n
        values = f.spline_coefficients[near[:, :, None, 0], near[:, None, :, 1]]
        out[first : first + block] = np.einsum("mi,mij,mj->m", weights[..., 0], values, weights[..., 1])
    return out


def _smoothed_bspline(u, degree, s):
    def hat(u):
        return np.maximum(1 - np.abs(u), 0.0)

    if degree == 1:
        total, binomials = hat(u), (1, -2, 1)
    else:
        total, binomials = _cubic(u) + s**2 / 2 * (hat(u + 1) - 2 * hat(u) + hat(u - 1)), (1, -4, 6, -4, 1)
    if s == 0:
        return total
    for j, binomial in enumerate(binomials):
        a = np.abs(u + (degree + 1) / 2 - j)
        tail, density = scipy.special.ndtr(-a / s), np.exp(-((a / s) ** 2) / 2) / math.sqrt(2 * np.pi)
        moment = s * density - a * tail
        if degree == 3:
            moment = (a * a + 2 * s * s) * s * density - (a * a + 3 * s * s) * a * tail
        total = total + binomial / math.factorial(degree) * moment
    return total


def _cubic(u):
    """The cubic B-spline."""
    a = np.abs(u)
    inner, outer = (4 - 6 * a**2 + 3 * a**3) / 6, (2 - np.minimum(a, 2.0)) ** 3 / 6
    return np.where(a < 1, inner, outer)
