"""How far a point may move before the sign of the solution changes: certificates of three kinds.

    sharp       (|u(x)| - e) / B                    |grad u| <= B, `sharp_gradient_bound`
    local       the ball about x in which the computed |u| > 2 e, enclosed
    smoothing   s (Phi^-1(p) - Phi^-1(p_0)),  p = (|u(x)| - e - a) / (b - a),  p_0 = -a / (b - a),
                s**2 = integral from 0 to T of sigma**2 exp(-2 g(t)) dt,  g(t) = integral of gamma from 0 to t

e is the error of u(x), a <= f <= b (of -f where u < 0), Phi the normal distribution function. Proofs:
docs/certificates.md.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from pde import checks, feynman_kac, spectral
from pde.bounds import _gradient, _rates
from pde.bounds._table_bounds import error_of_tables
from pde.bounds._zero_set import distance_to_zeros
from pde.equation import admit

METHODS = ("auto", "spectral", "monte-carlo")
# Relative error of the solution above which twice as many points per side are seldom enough.
_HOPELESS = 0.02
# Of one step and of f, relative: the trigonometric sum loses some hundred units of the last place.
_ROUNDING = 1e-13
_STEPS = 64


@dataclass(frozen=True, eq=False)
class Certificates:
    """Radii of balls in which u(., 0) keeps its sign, and the values they come from.

    Attributes
    ----------
    radius : ndarray of shape (...)
        The largest of the three, in units of length; inf where no point has another sign.
    sharp, local, smoothing : ndarray of shape (...)
        Each certificate by itself; 0 where it certifies nothing.
    u : ndarray of shape (...)
        u(x, 0) as computed.
    error : ndarray of shape (...)
        Its error, at most: the solver's estimate, or half the width of the confidence interval.
    spread : float
        s, in length.
    method : str
        "spectral" or "monte-carlo".
    confidence : float
        Probability with which all radii hold together, given `error`; 1 for "spectral".
    """

    radius: np.ndarray
    sharp: np.ndarray
    local: np.ndarray
    smoothing: np.ndarray
    u: np.ndarray
    error: np.ndarray
    spread: float
    method: str
    confidence: float


def certified_radius(problem, points, **options):
    """Return radii of balls about points in which the sign of u(x, 0) does not change.

    |y - x| < r(x)  =>  u(x, 0) u(y, 0) > 0              Euclidean distance, on the torus

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields; sigma constant, per layer or a field.
    points : array_like of shape (..., 2)
        Anywhere in the plane.
    **options
        Options of `certificates`, which returns the parts as well.

    Returns
    -------
    ndarray of shape (...)
        In units of length; 0 where nothing is certified.

    Raises
    ------
    ValueError
        If velocity or terminal data are callables, which samples do not bound, or an option is out of range.

    Examples
    --------
    >>> import pde
    >>> problem = pde.problems.fourier_mode((1, 0), sigma=0.2)
    >>> bool(abs(certified_radius(problem, [0.0, 0.3]) - 0.25) < 1e-3)  # u ~ cos(2 pi x)
    True
    """
    return certificates(problem, points, **options).radius


def certificates(problem, points, *, method="auto", n_layers=None, n_paths=4096, alpha=1e-3, rng=0):
    """Certify the sign of u(x, 0) by three bounds, and take the largest radius for each point.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity and terminal data fields. A potential or source leaves the local certificate alone, sigma as a field
        the local and the sharp one.
    points : array_like of shape (..., 2)
        Anywhere in the plane.
    method : {"auto", "spectral", "monte-carlo"}
        "spectral": u and its error from `spectral.solve`; the radii hold if its error estimate does. "monte-carlo":
        u from paths, without the local certificate; the radii hold for all points together with probability
        1 - alpha, if the step's error is no larger than the change from steps of twice the size (for v constant in
        space it is 0). "auto": the former, where the solution is resolved.
    n_layers : int, optional
        Certify the network of n_layers Gaussian steps x + dt v(x) + sigma dB (`bridge.network_from_velocity`)
        instead of the equation, by Monte Carlo. exp(g) becomes the product of the largest |I + dt grad v|, and the
        step has no error.
    n_paths : int, default=4096
        Paths per point of "monte-carlo".
    alpha : float, default=1e-3
        In (0, 1).
    rng : int or numpy.random.Generator, default=0
        Seed of the paths.

    Returns
    -------
    Certificates
        Arrays of shape (...).

    Raises
    ------
    ValueError
        If velocity or terminal data are callables, points has another shape, or an option is out of range; n_layers
        must be a multiple of the velocity's layers.
    UnresolvedError
        If method is "spectral" and the solution is not resolved (raised by a helper).

    References
    ----------
    .. [1] Bakry & Ledoux 1996, Lévy-Gromov's isoperimetric inequality for an infinite dimensional diffusion generator.
    .. [2] Cohen, Rosenfeld & Kolter 2019, Certified adversarial robustness via randomized smoothing.
    """
    problem, points = admit(problem), checks.points_array(points)
    checks.one_of("method", method, METHODS)
    alpha = checks.real("alpha", alpha, positive=True)
    if alpha >= 1:
        raise ValueError(f"alpha must be < 1, got alpha={alpha:g}")
    n_paths = checks.integer("n_paths", n_paths, at_least=2)
    if n_layers is not None:
        n_layers = checks.integer("n_layers", n_layers, at_least=1)
        if method == "spectral" or (problem.n_layers and n_layers % problem.n_layers):
            raise ValueError(
                f"n_layers must be a multiple of the velocity's {problem.n_layers} layers and goes with "
                f"method='monte-carlo', got n_layers={n_layers}, method={method!r}"
            )
        method = "monte-carlo"
    low, high, slope = _gradient.terminal_range(problem)
    rates = _rates.rates(problem)
    if n_layers:
        spread, stretching = _rates.network_spread(problem, n_layers)
        lipschitz, exact = slope * stretching, True
    else:
        lipschitz, spread, exact = _of_equation(problem, rates)
        stretching = math.exp(min(rates.growth, 700.0))
    local, solution = np.zeros(points.shape[:-1]), None
    if method == "spectral" or (method == "auto" and problem.has_constant_sigma):
        solution = _resolved(problem, raises=method == "spectral")
    if solution is not None:
        field, error = solution.field, float(solution.error_estimate)
        u, errors = field(points), np.full(points.shape[:-1], error)
        local = np.where(np.abs(u) > 2 * error, distance_to_zeros(field, 2 * error, points), 0.0)
    elif n_layers and not np.any(problem.sigma):
        # Without noise `estimate` follows the characteristics, which a network of few steps does not.
        u, errors = _by_one_path(problem, points, n_layers, lipschitz)
    else:
        u, errors = _by_paths(problem, points, n_layers, n_paths, alpha, rng, (low, high), exact)
        if rates.only_transport:
            errors = errors + error_of_tables(problem, rates, slope, (low, high), stretching)
    certain = np.maximum(np.abs(u) - errors, 0.0)
    sharp = certain / lipschitz if lipschitz > 0 else np.where(certain > 0, np.inf, 0.0)
    above, below = (smoothing_radius(certain, *ends, spread) for ends in ((low, high), (-high, -low)))
    smoothing = np.where(u > 0, above, below)
    # The range of f bounds u only without a potential and a source.
    smoothing = np.where((certain > 0) & rates.only_transport, smoothing, 0.0)
    radius = np.maximum(np.maximum(sharp, smoothing), local)
    kind = ("monte-carlo", 1 - alpha) if solution is None else ("spectral", 1.0)
    return Certificates(radius, sharp, local, smoothing, u, errors, spread, *kind)


def smoothing_radius(u, low, high, spread):
    """Return the radius within which a mean u > 0 of values between low and high stays > 0, by Theorem F or G.

    s (Phi^-1(p) - Phi^-1(p_0)),  p = (u - low) / (high - low),  p_0 = -low / (high - low)

    Parameters
    ----------
    u : array_like of shape (...)
        Lower bounds of the mean.
    low, high : float
        Range of the values, low < high.
    spread : float
        s, in length: of `Certificates`, or `network_spread`.

    Returns
    -------
    ndarray of shape (...)
        In length, >= 0; inf where low > 0, and where low = 0 < u.

    Raises
    ------
    ValueError
        If u is masked or not finite, another argument is not a number, or low > high.
    """
    u, low, high = checks.finite_array("u", u), checks.number("low", low), checks.number("high", high)
    spread = checks.real("spread", spread, positive=False)
    if low > high:
        raise ValueError(f"low must be <= high, got low={low:g}, high={high:g}")
    if low > 0:
        return np.full(u.shape, np.inf)
    if high <= 0 or not spread > 0:
        return np.zeros(u.shape)
    if low == 0:
        return np.where(u > 0, np.inf, 0.0)
    return np.maximum(spread * (_quantile(u - low, high - u) - _quantile(-low, high)), 0.0)


def _quantile(above, below):
    """Phi^-1(above / (above + below)), by the smaller share; finite where `below` vanishes, by rounding only."""
    share = np.minimum(above, below) / (above + below)
    return np.where(below < above, -ndtri(np.maximum(share, 1e-15)), ndtri(np.maximum(share, 0.0)))


def _of_equation(problem, rates):
    """Bound of |grad u|, s, and whether Euler's steps are exact in law."""
    try:
        lipschitz = _gradient.sharp_gradient_bound(problem).bound if rates.only_transport else math.inf
    except OverflowError:
        lipschitz = math.inf
    spread = rates.spread if rates.only_transport and rates.constant_sigma else 0.0
    return lipschitz, spread, rates.only_transport and rates.constant_sigma and not rates.gammas.any()


def _resolved(problem, *, raises):
    """The spectral solution on the smallest grid that resolves it, or None where up to four times the data's do not."""
    n = max(32, problem.n)
    for refine in (1, 2, 4):
        solution = spectral.solve(problem, refine * n, check=raises and refine == 4)
        if solution.resolved:
            return solution
        scale = float(np.abs(problem.terminal.values).max())
        if refine == 2 and not raises and solution.error_estimate > _HOPELESS * scale:
            return None
    return None


def _by_paths(problem, points, n_layers, n_paths, alpha, rng, value_range, exact):
    """Means, and half widths that hold for all points together with probability 1 - alpha."""
    n_points, oscillation = max(points[..., 0].size, 1), value_range[1] - value_range[0]
    scheme = "heun" if problem.has_constant_sigma else "euler"
    unit, rates = problem.n_layers, _rates.rates(problem)
    # An even number of steps per layer, so that half as many end on the layers too.
    n_steps = n_layers or (unit if exact else 2 * unit * -(-_STEPS // (2 * unit)))
    run = _estimate(problem, points, n_paths, n_steps, rng, "euler" if n_layers or exact else scheme)
    if not rates.only_transport:
        # A potential or a source takes the samples out of the range of f.
        return run.mean, np.full(run.mean.shape, np.inf)
    width = np.zeros(run.mean.shape)
    if rates.sigmas.any():
        width = _half_width(run.stderr, n_paths, oscillation, alpha / n_points)
    if not exact:
        # The change from half as many steps, its noise included, is larger than the error of any order >= 1.
        coarse = _estimate(problem, points, n_paths, n_steps // 2, rng, scheme)
        width = width + float(np.abs(run.mean - coarse.mean).max(initial=0.0))
    return run.mean, width


def _by_one_path(problem, points, n_layers, lipschitz):
    """Output of the network of n_layers steps x + dt v(x), without noise, and its error: rounding, amplified."""
    dt, repeat = problem.horizon / n_layers, n_layers // problem.n_layers
    farthest = problem.length
    for layer in range(n_layers):
        points = points + dt * problem.layer_field(layer // repeat)(points)
        farthest = max(farthest, float(np.abs(points).max(initial=0.0)))
    error = _ROUNDING * (float(np.abs(problem.terminal.values).max()) + n_layers * lipschitz * farthest)
    return problem.terminal_at(points), np.full(points.shape[:-1], error)


def _estimate(problem, points, n_paths, n_steps, rng, scheme):
    # Few samples skew a standard error: the bounds below hold for any number.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return feynman_kac.estimate(problem, points, n_paths, n_steps, rng, scheme=scheme)


def _half_width(stderr, n, oscillation, alpha):
    """The smaller of Hoeffding's and the empirical Bernstein bound (Maurer & Pontil 2009), at alpha / 2 each."""
    hoeffding = oscillation * math.sqrt(math.log(4 / alpha) / (2 * n))
    logarithm = math.log(8 / alpha)
    bernstein = stderr * math.sqrt(2 * logarithm) + 7 * oscillation * logarithm / (3 * (n - 1))
    return np.minimum(hoeffding, bernstein)
