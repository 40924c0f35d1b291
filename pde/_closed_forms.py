"""Solutions and velocities of the problems in closed form, at the level of a module so that problems pickle."""

import math

import numpy as np

from pde import checks

# To which samples hold a closed form, and most points per side.
_ACCURACY, _MOST_POINTS = 1e-10, 4096


def moving_wave(x, t, *, c, q, nu, horizon):
    return np.exp(-nu * (q @ q) * (horizon - t)) * np.cos((x + c * (horizon - t)) @ q)


def crossed_waves(points, t, *, a, b, q, horizon):
    x, y = points[..., 0], points[..., 1]
    x = x + a * np.sin(q * y) * max(horizon / 2 - t, 0.0)
    y = y + b * np.sin(q * x) * min(horizon / 2, horizon - t)
    return np.cos(q * x) + np.sin(2 * q * y)


def decaying_product(points, t, *, shape, q, rate, horizon):
    factors = [np.sin(q * points[..., i]) + b * np.sin(3 * q * points[..., i]) for i, b in enumerate(shape)]
    return np.exp(-rate * (horizon - t)) * factors[0] * factors[1]


def doob_h(points, decay, weight, q):
    return 1 + weight * np.cos(q * points.sum(axis=-1)) * decay


def doob_velocity(points, t, *, weight, q, nu, horizon):
    decay = np.exp(-2 * nu * q**2 * (horizon - t))
    slope = -weight * q * np.sin(q * points.sum(axis=-1)) * decay
    return np.stack([2 * nu * slope / doob_h(points, decay, weight, q)] * 2, axis=-1)


def doob_solution(points, t, *, weight, q, nu, horizon):
    decay = np.exp(-2 * nu * q**2 * (horizon - t))
    return np.cos(q * points[..., 0]) * np.sin(q * points[..., 1]) * decay / doob_h(points, decay, weight, q)


def points_that_hold(n, least, usual, for_what):
    """n points per side or, where n is None, the usual ones; a ValueError if they hold too little of the data."""
    if n is not None and checks.integer("n", n, at_least=1) < least:
        raise ValueError(f"n must be >= {least} to hold the closed form to 1e-10 for {for_what}, got n={n}")
    if least > _MOST_POINTS:
        raise ValueError(f"{for_what} needs {least} points per side, more than {_MOST_POINTS}: choose a smaller one")
    return max(usual, least) if n is None else n


def _ratio(weight):
    """r of 1 / (1 + weight cos z) = (1 + 2 sum_m (-r)**m cos(m z)) / sqrt(1 - weight**2)."""
    return abs(weight) / (1 + math.sqrt(1 - weight**2))


def _first_below(bound, r):
    """The least m with r**m <= bound."""
    # A bound below all numbers is that of an r as small.
    return math.ceil(math.log(bound) / math.log(r)) if r > 0 and bound > 0 else 0


def least_for_wave(weight):
    """Least n for (cos x sin y) / (1 + weight cos(x + y)), of modes m +- 1.

    Those from n / 2 on are left out and aliased: 4 r**(n / 2 - 1) / ((1 - r) sqrt(1 - weight**2)) at most.
    """
    r = _ratio(weight)
    return max(3, 2 * (1 + _first_below(_ACCURACY * (1 - r) * math.sqrt(1 - weight**2) / 4, r)))


def least_for_pole(b):
    """Least n for sin z / (1 + w cos z) = (2 / w) sum_m -(-r)**m sin(m z), z = 2 x, w = 6 b / (1 - 3 b).

    Its maximum is more than 1; modes 2 m from n / 2 on are left out and aliased: (4 / w) r**m / (1 - r) at most.
    """
    w = 6 * b / (1 - 3 * b)
    r = _ratio(w)
    return max(7, 4 * (_first_below(_ACCURACY * (1 - r) * abs(w) / 4, r) - 1) + 1)
