"""Solutions and velocities of the problems in closed form, at the level of a module so that problems pickle."""

import numpy as np


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
