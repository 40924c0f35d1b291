"""Where Theorem 2.2 fails as printed: a Gaussian, in closed form, and for which sigma it fails at all.

In the absence of a velocity (gamma = 0) the printed bound is exp(-sigma**2 T) (||f|| + ||grad f||). No solution of the
heat equation fades like that if its data are wide enough: docs/theorem-2-2.md.
"""

import math

import numpy as np
import scipy

from pde import checks, grid
from pde.equation import ConvectionDiffusion

# In radii; beyond the first the Gaussian is below exp(-32) = 1.3e-14.
_CUT_FROM, _CUT_TO = 8, 9
# Of the Gaussian on its torus, for grids of 3000 points per side.
_MOST_MODES = 1000


def counterexample(radius=2.0, *, sigma=2.0, horizon=1.0, length=None, n=None):
    """Return the problem without velocity whose terminal datum is a Gaussian, cut off smoothly to compact support.

    f(x) = exp(-|x|**2 / (2 R**2)),  u(x, t) = R**2 / w**2 exp(-|x|**2 / (2 w**2)),  w**2 = R**2 + sigma**2 (T - t)

    The Gaussian stands in the middle of a torus long enough to be the plane: 18 w, at which neither the cut, between
    8 R and 9 R, nor the other periods change u by more than 2e-14.

    Parameters
    ----------
    radius : float, default=2.0
        R, > 0.
    sigma : float, default=2.0
        Diffusion coefficient, >= 0.
    horizon : float, default=1.0
        T.
    length : float, optional
        Period, >= 18 w(0).
    n : int, optional
        Points per side; by default enough for 2e-14.

    Returns
    -------
    ConvectionDiffusion
        With `exact`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    radius = checks.real("radius", radius, positive=True)
    sigma = checks.real("sigma", sigma, positive=False)
    horizon = checks.real("horizon", horizon, positive=True)
    width = math.hypot(radius, sigma * math.sqrt(horizon))
    if not 1e-100 < width < 1e100 or radius > 1e100 or radius < 1e-100:
        raise ValueError(f"radius and sigma horizon**0.5 must lie between 1e-100 and 1e100, got {radius:g}, {width:g}")
    least = 2 * _CUT_TO * width
    length = least if length is None else checks.real("length", length, positive=True)
    if length < least:
        raise ValueError(
            f"length must be >= {2 * _CUT_TO} (radius**2 + sigma**2 horizon)**0.5 = {least:.6g}, where the torus is "
            f"the plane, got length={length:g}"
        )
    # The spectrum exp(-R**2 k**2 / 2) ends at k = 8 / R, which the 2/3 rule must keep.
    wanted = 8 * length / (2 * math.pi * radius)
    if wanted > _MOST_MODES:
        raise ValueError(
            f"the Gaussian has {wanted:.3g} modes, more than {_MOST_MODES}: take a shorter length, or radius larger "
            "beside sigma horizon**0.5"
        )
    n = grid.fast_size(math.ceil(3 * wanted) + 1) if n is None else checks.integer("n", n, at_least=1)
    if n < 1.7 * wanted:
        # exp(-0.85**2 8**2 / 2) = 1e-10.
        raise ValueError(f"n must be >= {math.ceil(1.7 * wanted)} to hold the Gaussian to 1e-10, got n={n}")

    def gaussian(points, spread):
        x = np.mod(points, length) - length / 2
        return radius**2 / spread * np.exp(-(x**2).sum(axis=-1) / (2 * spread))

    def solution(points, t):
        return gaussian(points, radius**2 + sigma**2 * (horizon - t))

    points = grid.points(n, length)
    distance = np.sqrt(((points - length / 2) ** 2).sum(axis=-1)) / radius
    terminal = gaussian(points, radius**2) * _smooth_step((_CUT_TO - distance) / (_CUT_TO - _CUT_FROM))
    velocity = np.zeros((2, n, n))
    return ConvectionDiffusion(velocity, terminal, sigma=sigma, horizon=horizon, length=length, solution=solution)


def _smooth_step(x):
    """Infinitely differentiable, 0 for x <= 0 and 1 for x >= 1."""
    x = np.clip(x, 1e-3, 1 - 1e-3)
    # exp(-1/x) / (exp(-1/x) + exp(-1/(1 - x))); at 1e-3 it is below the smallest number that counts.
    return scipy.special.expit(1 / (1 - x) - 1 / x)


def counterexample_gradient(radius, sigma, time):
    """Return the largest slope of the Gaussian's solution after a time.

    ||grad u|| = exp(-1/2) R**2 / (R**2 + sigma**2 time)**(3/2)

    Parameters
    ----------
    radius, sigma, time : array_like of shape (...)
        R > 0, the diffusion coefficient, and T - t >= 0.

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    ValueError
        If a number is masked or not finite, a radius not positive or a time negative.
    """
    parts = ("radius", radius), ("sigma", sigma), ("time", time)
    radius, sigma, time = (checks.finite_array(name, part) for name, part in parts)
    if not ((radius > 0).all() and (time >= 0).all()):
        raise ValueError(f"radius must be > 0 and time >= 0, got {radius.min():g} and {time.min():g} among them")
    # Without squares, which leave the range of the numbers first.
    width = np.hypot(radius, sigma * np.sqrt(time))
    return math.exp(-0.5) * (radius / width) ** 2 / width


def counterexample_threshold(radius, *, horizon=1.0):
    """Return the sigma beyond which, and only beyond which, the Gaussian violates the printed bound.

    sigma**2 T = -R**2 - (3/2) W_(-1)(-(2/3) R**2 (1 + exp(1/2) R)**(-2/3) exp(-2 R**2 / 3))

    with W_(-1) the lower branch of Lambert's function (docs/theorem-2-2.md).

    Parameters
    ----------
    radius : float
        R, > 0. The printed bound is not a statement about lengths: R counts in the unit of length that makes mu = 1.
    horizon : float, default=1.0
        T.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is not positive, or R > 30 or R < 1e-100, where the argument of W_(-1) underflows.

    Examples
    --------
    >>> round(counterexample_threshold(2.0), 3)
    1.445
    """
    radius = checks.real("radius", radius, positive=True)
    horizon = checks.real("horizon", horizon, positive=True)
    if not 1e-100 <= radius <= 30:
        raise ValueError(f"radius must be <= 30 and >= 1e-100, got radius={radius:g}")
    argument = -2 / 3 * radius**2 * (1 + math.exp(0.5) * radius) ** (-2 / 3) * math.exp(-2 / 3 * radius**2)
    y = -1.5 * float(scipy.special.lambertw(argument, -1).real)
    return math.sqrt((y - radius**2) / horizon)


def published_threshold(gamma=0.0, *, horizon=1.0):
    """Return the largest sigma for which the printed bound holds for every datum and every velocity of this gamma.

    erf(x) exp(sigma**2 T) <= 1 + sigma k x / sqrt(2)  for all x > 0,  k**2 = 2 (exp(2 gamma T) - 1) / gamma

    Below it the printed bound follows from `sharp_gradient_bound`; above it the ramp for which that one is attained
    violates the printed one (docs/theorem-2-2.md).

    Parameters
    ----------
    gamma : float, default=0.0
        max lambda_max(sym grad v), >= 0, in 1 / time.
    horizon : float, default=1.0
        T.

    Returns
    -------
    float
        In the unit of length that makes mu = 1, over sqrt(time).

    Raises
    ------
    ValueError
        If gamma is negative, horizon not positive or gamma horizon not finite.

    Examples
    --------
    >>> round(published_threshold(), 4)
    1.0325
    """
    gamma = checks.real("gamma", gamma, positive=False)
    horizon = checks.real("horizon", horizon, positive=True)
    # In the unit of time T: sigma T**(1/2) is near 1 whatever T is.
    rate = 2 * gamma * horizon
    if not math.isfinite(rate):
        raise ValueError(f"gamma must be less than 1e307 / horizon, got gamma={gamma:g}, horizon={horizon:g}")
    # (1 - exp(-rate)) / rate, and its limit.
    fraction = -math.expm1(-rate) / rate if rate else 1.0
    log_k = (rate + math.log(4 * fraction)) / 2

    def excess(sigma):
        """Maximum over x of the left side's logarithm less the right side's; unimodal in log x."""
        log_scale = math.log(sigma) + log_k - math.log(2) / 2

        def slope(log_x):
            x = math.exp(log_x)
            left = 2 / math.sqrt(math.pi) * x * math.exp(-(x**2)) / math.erf(x)
            return left - scipy.special.expit(log_scale + log_x)

        log_x = scipy.optimize.brentq(slope, max(min(-log_scale, 0.0) - 40, -300.0), math.log(20.0), xtol=1e-12)
        return sigma**2 + math.log(math.erf(math.exp(log_x))) - np.logaddexp(0, log_scale + log_x)

    low = high = 1.0
    while excess(low) > 0:
        low /= 2
    while excess(high) < 0:
        high *= 2
    found = low if low == high else float(scipy.optimize.brentq(excess, low, high, xtol=1e-13))
    return found / math.sqrt(horizon)
