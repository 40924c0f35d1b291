"""B-splines on the periodic grid: weights, prefilter, Fourier transform; and maxima of grid functions."""

import math

import numpy as np
import scipy.fft


def bspline_weights(fraction, degree, derivative=False):
    """Weights (..., degree + 1) of the B-spline of degree 1 or 3 at the fraction of a cell, or their derivatives."""
    t = np.asarray(fraction)[..., None]
    if degree == 1:
        parts = (-1.0 + 0 * t, 1.0 + 0 * t) if derivative else (1 - t, t)
    elif derivative:
        parts = (-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2)
    else:
        parts = (
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        )
    return np.concatenate(parts, axis=-1)


def cubic_prefilter(values):
    """Solve (a_(i-1) + 4 a_i + a_(i+1)) / 6 = values_i, periodic, along both axes."""
    n = values.shape[-1]
    row = (4 + 2 * np.cos(2 * np.pi * np.arange(n) / n)) / 6
    column = row[: n // 2 + 1]
    return scipy.fft.irfft2(scipy.fft.rfft2(values) / (row[:, None] * column), s=(n, n))


def fourier_coefficients(a, power, n_modes):
    """c_k, |k_i| <= n_modes, of sum_ij a_ij B(x - i) B(y - j): the transform of B is sinc(k / n)**power."""
    n = a.shape[-1]
    k = np.arange(-n_modes, n_modes + 1)
    spectrum = scipy.fft.fft2(a, norm="forward")[..., k[:, None] % n, k % n]
    attenuation = np.sinc(k / n) ** power
    return spectrum * attenuation[:, None] * attenuation


def lengths(values, axis=0):
    """Root of the sum of squares along an axis (None: all), scaled, so that squares neither underflow nor overflow."""
    exponent = np.frexp(np.abs(values).max(initial=0.0))[1]
    return np.ldexp(np.sqrt((np.ldexp(values, -exponent) ** 2).sum(axis=axis)), exponent)


def largest_singular_value(along_x, along_y, scalar):
    """Largest singular value of the Jacobians whose columns (..., a, i, j) are one of along_x and one of along_y each.

    For a scalar field, columns (..., i, j), the length of the gradient.
    """
    exponent = np.frexp(max(np.abs(column).max(initial=0.0) for column in (*along_x, *along_y)))[1]
    along_x, along_y = (
        [np.ldexp(column[None] if scalar else column, -exponent) for column in columns]
        for columns in (along_x, along_y)
    )
    squares_x, squares_y = ([(column**2).sum(axis=-3) for column in columns] for columns in (along_x, along_y))
    largest = 0.0
    for x, xx in zip(along_x, squares_x, strict=True):
        for y, yy in zip(along_y, squares_y, strict=True):
            # The largest eigenvalue of the 2 x 2 matrix J^T J.
            xy = (x * y).sum(axis=-3)
            largest = max(largest, float((xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy**2)).max()))
    return float(np.ldexp(math.sqrt(largest / 2), exponent))
