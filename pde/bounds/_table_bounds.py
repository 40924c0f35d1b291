"""Bound of the error of u by paths that read tables instead of the fields themselves."""

import math

from pde import feynman_kac

# `feynman_kac.table_errors` are those at the centres of cells: elsewhere at most half as large again.
_BETWEEN = 1.5
# Rounding, relative to max |f|.
_ROUNDING = 1e-12


def error_of_tables(problem, rates, slope, value_range, stretching):
    """Bound of the error of u by what paths read instead of v, sigma and f, for a problem without other terms.

    `slope` of f; `stretching`, by which paths part at most. A drift that is wrong by e shifts u by e T |grad u|, and
    changes it by osc(f) times the distance of the laws in total variation, e sqrt(T) / (2 sigma) at most (Girsanov,
    Pinsker): the smaller counts. A sigma that is wrong by e shifts u by 2 e sqrt(2 T) |grad u|.
    """
    missed, horizon = feynman_kac.table_errors(problem), problem.horizon
    low, high = value_range
    rough, lowest, error = slope * max(1.0, stretching), float(rates.sigmas.min()), 0.0
    if missed["velocity"] > 0:
        speed = max(problem.layer_field(layer).sup_norm() for layer in range(problem.n_layers))
        drift = math.sqrt(2) * missed["velocity"] * speed
        error = drift * horizon * rough
        if lowest > 0:
            error = min(error, (high - low) * drift * math.sqrt(horizon) / (2 * lowest))
    if missed.get("sigma", 0.0) > 0:
        error += 2 * missed["sigma"] * problem.sigma.sup_norm() * math.sqrt(2 * horizon) * rough
    largest = max(abs(low), abs(high))
    return _BETWEEN * (error + missed.get("terminal", 0.0) * largest) + _ROUNDING * largest
