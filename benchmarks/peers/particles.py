"""Shared by the particle tools: where paths begin, and the mean of f where they end. NumPy alone, as `worker.py`."""

import numpy as np


def starts(fields, n_paths, dtype):
    """Starting points in fractions of the period, shape (2, n_points * n_paths), the paths of a point side by side."""
    points = fields["points"] / float(fields["length"])
    return np.repeat(points, n_paths, axis=0).T.astype(dtype)


def step_sizes(fields, n_steps):
    """The step dt and the scale of its noise sigma sqrt(dt), both for a period of 1."""
    dt, length = float(fields["horizon"]) / n_steps, float(fields["length"])
    return dt, float(fields["sigma"]) * dt**0.5 / length


def bilinear_weights(x, n):
    """Lower and upper index and the fraction between them, of one coordinate x, on a grid of period 1."""
    scaled = x * x.dtype.type(n)
    floor = np.floor(scaled)
    low = floor.astype(np.int32) % n
    return low, (low + 1) % n, scaled - floor


def bilinear(values, x, y):
    """Values (n, n), or (n, n, c), between their grid points."""
    n = values.shape[0]
    i, i1, gx = bilinear_weights(x, n)
    j, j1, gy = bilinear_weights(y, n)
    if values.ndim == 3:
        gx, gy = gx[:, None], gy[:, None]
    lower = values[i, j] * (1 - gy) + values[i, j1] * gy
    return lower + gx * (values[i1, j] * (1 - gy) + values[i1, j1] * gy - lower)


def means(fields, positions, n_paths):
    """Mean of f(X_T) over the paths of each point; f from a fine grid, far below the noise."""
    x, y = np.asarray(positions)
    return bilinear(fields["terminal_fine"], x, y).reshape(-1, n_paths).mean(axis=1)
