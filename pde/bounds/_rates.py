"""How fast the velocity parts two paths and how strong the noise is, layer by layer, for all bounds."""

import math
from dataclasses import dataclass

import numpy as np

from pde import checks
from pde.bounds import _certified_maxima
from pde.equation import admit
from pde.fields import PeriodicField


@dataclass(frozen=True)
class Rates:
    """How fast two paths part and how strong the noise is, per layer: gammas and sigmas of shape (n_layers,).

    With sigma a field, gamma + Lip(sigma)**2 / 2 and min sigma take the places of gamma and sigma.
    """

    gammas: np.ndarray
    sigmas: np.ndarray
    dt: float
    constant_sigma: bool
    only_transport: bool

    @property
    def growth(self):
        """g(T), the integral of gamma."""
        return float(self.gammas.sum()) * self.dt

    @property
    def spread(self):
        """s, with s**2 = integral of sigma**2 exp(-2 g(t)) over t."""
        rates = 2 * self.gammas * self.dt
        # (1 - exp(-rate)) / rate, and its limit.
        fractions = np.divide(-np.expm1(-rates), rates, out=np.ones_like(rates), where=rates > 0)
        before = np.exp(-np.concatenate([[0.0], np.cumsum(rates)[:-1]]))
        return math.sqrt(float((self.sigmas**2 * before * fractions).sum()) * self.dt)


def rates(problem):
    """Return the `Rates` of a problem whose velocity is a field."""
    gammas, n = stretching(problem), problem.n_layers
    constant, only_transport = True, problem.potential is None and problem.source is None
    sigmas = np.empty(n)
    for layer in range(n):
        sigma = problem.sigma_layer(layer)
        if isinstance(sigma, PeriodicField):
            constant = False
            gammas[layer] += _certified_maxima.largest_gradient(sigma).at_most ** 2 / 2
            sigma = max(_certified_maxima.value_range(sigma)[0], 0.0)
        sigmas[layer] = sigma
    return Rates(gammas, sigmas, problem.horizon / n, constant, only_transport)


def stretching(problem):
    """Return gamma = max_x lambda_max(sym grad v), layer by layer.

    (v(x) - v(y)) . (x - y) <= gamma |x - y|**2

    Exact for a bilinear velocity; for smooth trigonometric and bicubic ones an upper bound, within 1e-7.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Its velocity a field.

    Returns
    -------
    ndarray of shape (n_layers,)
        In 1 / time, >= 0.

    Raises
    ------
    ValueError
        If the velocity is a callable, which samples do not bound.
    """
    if admit(problem).n_layers is None:
        raise ValueError(
            "velocity must be a field, steady or in layers, for gamma to bound it; sample the callable into an array "
            "of shape (n_t, 2, n, n)"
        )
    layers = (problem.layer_field(j) for j in range(problem.n_layers))
    return np.array([max(_certified_maxima.largest_stretching(layer).at_most, 0.0) for layer in layers])


def network_spread(problem, n_layers):
    """Return s and the largest stretching of a network of Gaussian steps x + dt v(x) + sigma dB.

    s**2 = sum over l of sigma_l**2 dt / (K_0 ... K_l)**2,  K_l = max |I + dt grad v_l|

    Parameters
    ----------
    problem : ConvectionDiffusion
        Velocity a field, sigma constant or per layer, as from `bridge.problem_from_network`.
    n_layers : int
        Steps, a multiple of the velocity's layers.

    Returns
    -------
    spread, stretching : float
        s, in length, and K_0 ... K_(L-1), which bounds |x_L - y_L| / |x - y|.

    Raises
    ------
    ValueError
        If the problem has a potential, a source, a callable velocity or sigma as a field, or n_layers is not a multiple
        of the velocity's.
    """
    n_layers, found = checks.integer("n_layers", n_layers, at_least=1), rates(problem)
    if n_layers % problem.n_layers:
        raise ValueError(
            f"n_layers must be a multiple of the velocity's {problem.n_layers} layers, got n_layers={n_layers}"
        )
    if not (found.only_transport and found.constant_sigma):
        raise ValueError("n_layers must be None with a potential, a source or sigma as a field: a network has none")
    dt, repeat = problem.horizon / n_layers, n_layers // problem.n_layers
    steps = [_certified_maxima.largest_step(problem.layer_field(j), dt).at_most for j in range(problem.n_layers)]
    logarithms = np.cumsum(np.repeat(np.log(steps), repeat))
    variances = np.repeat(found.sigmas**2, repeat) * dt
    spread = math.sqrt(float((variances * np.exp(-2 * logarithms)).sum()))
    return spread, math.exp(min(logarithms[-1], 700.0))
