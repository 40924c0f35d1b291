"""Bounds of ||grad u(., 0)||: printed, corrected, sharp."""

import math
from dataclasses import dataclass

from pde import checks
from pde.bounds import _certified_maxima
from pde.bounds._rates import rates, stretching
from pde.equation import admit
from pde.fields import PeriodicField


@dataclass(frozen=True)
class GradientBound:
    """A bound of ||grad u(., 0)|| and what went into it.

    Attributes
    ----------
    bound : float
        In units of u / length.
    gamma : float
        max lambda_max(sym grad v) over x and t, in 1 / time.
    lam : float
        lambda, in 1 / time.
    mu : float
        Weight of u**2, in 1 / length**2.
    sup_norm : float
        M = osc f / 2 of the corrected bound, ||f|| of the printed one.
    sup_gradient : float
        G = ||grad f||.
    """

    bound: float
    gamma: float
    lam: float
    mu: float
    sup_norm: float
    sup_gradient: float


@dataclass(frozen=True)
class SharpBound:
    """The sharp bound of ||grad u(., 0)|| and what went into it.

    Attributes
    ----------
    bound : float
        In units of u / length.
    gamma : float
        Mean over time of max_x lambda_max(sym grad v), in 1 / time.
    spread : float
        S exp(-gamma T): how far apart two points may start and still be brought together by the noise, in length.
    oscillation : float
        max f - min f.
    sup_gradient : float
        G = ||grad f||.
    """

    bound: float
    gamma: float
    spread: float
    oscillation: float
    sup_gradient: float


def gradient_bound(problem, *, mu=None):
    """Bound ||grad u(., 0)|| by Theorem 2.2, corrected.

    ||grad u(., 0)|| <= exp(lam T) sqrt(mu M**2 + G**2),  lam = max(0, gamma - mu sigma**2 / 2)

    The logarithm is concave in mu for mu <= 2 gamma / sigma**2 and grows beyond, so the best mu is 0 or
    2 gamma / sigma**2.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields.
    mu : float, optional
        In 1 / length**2, >= 0; by default the best one.

    Returns
    -------
    GradientBound

    Raises
    ------
    ValueError
        If mu is negative, or velocity or terminal data are callables.
    OverflowError
        If the bound overflows.
    """
    admit(problem).refuse("gradient_bound")
    gamma = float(stretching(problem).max())
    low, high, slope = terminal_range(problem)
    half = (high - low) / 2
    if mu is not None:
        mu = checks.real("mu", mu, positive=False)
        choices = [(max(0.0, gamma - mu * problem.sigma**2 / 2), mu)]
    else:
        choices = [(gamma, 0.0)] + ([(0.0, 2 * gamma / problem.sigma**2)] if problem.sigma**2 else [])
    logarithm, lam, mu = min(
        (lam * problem.horizon + _log(math.hypot(math.sqrt(mu) * half, slope)), lam, mu) for lam, mu in choices
    )
    return GradientBound(_exp(logarithm, gamma), gamma, lam, mu, half, slope)


def gradient_bound_as_published(problem):
    """Evaluate the bound that Theorem 2.2 states. It is false: see `counterexample`.

    exp((gamma - sigma**2) T) (||f|| + ||grad f||)                         (paper: (2.11), there with T = 1)

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields. Lengths are pure numbers here: the printed bound adds a value to a slope.

    Returns
    -------
    GradientBound
        With mu = 1 and lam = gamma - sigma**2, as printed.

    Raises
    ------
    ValueError
        If velocity or terminal data are callables.
    OverflowError
        If the bound overflows.
    """
    admit(problem).refuse("gradient_bound_as_published")
    gamma = float(stretching(problem).max())
    low, high, slope = terminal_range(problem)
    sup_norm, lam = max(-low, high), gamma - problem.sigma**2
    logarithm = lam * problem.horizon + _log(sup_norm + slope)
    return GradientBound(_exp(logarithm, gamma), gamma, lam, 1.0, sup_norm, slope)


def sharp_gradient_bound(problem):
    """Bound ||grad u(., 0)|| by the best constant in terms of gamma, osc f and ||grad f||.

    ||grad u(., 0)|| <= exp(g(T)) G erf(osc f / (sqrt(2) G S)),  g(t) = integral of gamma from 0 to t
    S**2 = 4 sigma**2 integral from 0 to T of exp(2 (g(T) - g(t))) dt

    with gamma(t) = max_x lambda_max(sym grad v(x, t)); for sigma a field, min sigma and gamma + Lip(sigma)**2 / 2 take
    the places of sigma and gamma. As sigma falls to 0 the bound becomes exp(g(T)) G; it never exceeds the smoothing
    bound (osc f / 2) sqrt(2 gamma / (sigma**2 (1 - exp(-2 gamma T)))), nor `gradient_bound`. A ramp
    carried by v = gamma x attains it.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields.

    Returns
    -------
    SharpBound

    Raises
    ------
    ValueError
        If velocity or terminal data are callables.
    OverflowError
        If the bound overflows, which only happens with sigma = 0.

    References
    ----------
    .. [1] Lindvall & Rogers 1986, Coupling of multidimensional diffusions by reflection, Ann. Probab. 14.
    .. [2] Andrews & Clutterbuck 2009, Time-interior gradient estimates for quasilinear parabolic equations, Indiana
       Univ. Math. J. 58.
    """
    admit(problem).refuse("sharp_gradient_bound", "potential", "source")
    found = rates(problem)
    low, high, slope = terminal_range(problem)
    oscillation, spread, total = high - low, 2 * found.spread, found.growth
    # In logarithms, as exp(gamma T) may overflow where the bound does not.
    logarithm = total + _log(slope)
    if spread > 0 and slope > 0:
        log_ratio = _log(oscillation) - math.log(math.sqrt(2) * spread)
        log_x = log_ratio - logarithm
        if log_x < math.log(1e-8):
            # erf(x) = 2 x / sqrt(pi) to 1e-17: the growth cancels, whose digits would be lost beside it.
            logarithm = math.log(2 / math.sqrt(math.pi)) + log_ratio
        else:
            logarithm += math.log(math.erf(math.exp(min(log_x, 5.0))))
    return SharpBound(_exp(logarithm, total), total / problem.horizon, spread, oscillation, slope)


def hoelder_bound(problem, alphas=(0.25, 0.5, 0.75, 1.0)):
    """Bound the constant of Theorem 2.1, corrected.

    |u(x + delta, 0) - u(x, 0)| <= C (|delta| / sigma)**alpha,  C = (osc f)**(1 - alpha) (sigma B)**alpha

    with B the sharp gradient bound, for every alpha in (0, 1] and every sigma > 0. C does not grow as sigma falls to
    0: sigma B <= osc f sqrt(gamma / (pi (1 - exp(-2 gamma T)))). It grows with gamma, and must (docs/theorem-2-2.md).

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields; sigma > 0.
    alphas : sequence of float
        Exponents, > 0 and <= 1.

    Returns
    -------
    ndarray of shape (m,)
        C, in units of u.

    Raises
    ------
    ValueError
        If sigma is 0, an alpha is not in (0, 1], or velocity or terminal data are callables.
    """
    admit(problem).refuse("hoelder_bound", "sigma")
    alphas = checks.finite_array("alphas", alphas)
    if problem.sigma == 0 or alphas.ndim != 1 or not ((alphas > 0) & (alphas <= 1)).all():
        raise ValueError(f"sigma must be > 0 and alphas in (0, 1], got sigma={problem.sigma:g}, alphas={alphas}")
    sharp = sharp_gradient_bound(problem)
    return sharp.oscillation ** (1 - alphas) * (problem.sigma * sharp.bound) ** alphas


def terminal_range(problem):
    """min f, max f and ||grad f||, each rounded outwards."""
    problem.refuse("pde.bounds", "terminals")
    f = problem.terminal
    if not isinstance(f, PeriodicField):
        raise ValueError("terminal must be a field for its slope to be bounded; use problem.terminal_on_grid(n)")
    return *_certified_maxima.value_range(f), _certified_maxima.largest_gradient(f).at_most


def _log(x):
    return math.log(x) if x > 0 else -math.inf


def _exp(logarithm, growth):
    """The bound from its logarithm; float range ends at exp(709)."""
    if logarithm > 709:
        raise OverflowError(
            f"the bound exp({logarithm:.4g}) overflows (growth {growth:.4g}): "
            "shorten the horizon, or smooth the velocity"
        )
    return math.exp(logarithm)
