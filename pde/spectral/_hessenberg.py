"""The exponential of a small upper Hessenberg matrix, as an action on the first unit vector, for many times at once.

A matrix is given by its columns: row j of `a` is column j. Taylor steps cost a product of the matrix and a vector per
term, where scaling and squaring costs products of matrices, and pass all times on the way (Al-Mohy & Higham 2011).
Plain loops and einsum: the BLAS would wake its threads for these small matrices and wait for them. Squares are seldom
needed, and not worth their compilation.
"""

import math

import numpy as np

from pde._compiled import copy, inlined, njit
from pde.spectral._arnoldi import dot

_FAST = {"reassoc", "contract", "nsz"}
_EPS = float(np.finfo(float).eps)
# Taylor steps of this many norms: terms reach exp(4) eps / 2 = 6e-15 before they fall.
_NORMS_PER_STEP = 4.0
# With more steps than this many columns, squaring a matrix is cheaper, and bounded where a norm is not.
_STEPS_PER_COLUMN = 8


@njit()
def two_norm(a):
    """2-norm of the upper Hessenberg matrix with the columns a, to a few per cent from below, by power iteration."""
    n = len(a)
    x, y, norm = np.empty(n), np.empty(n), 0.0
    x[:] = 1.0
    for _ in range(6):
        size = np.sqrt(dot(x, x))
        y[:] = 0.0
        for j in range(n):
            x[j] /= size
            for i in range(min(j + 2, n)):
                y[i] += a[j, i] * x[j]
        norm = np.sqrt(dot(y, y))
        if not norm > 0.0:
            break
        for j in range(n):
            x[j] = dot(a[j, : min(j + 2, n)], y[: min(j + 2, n)])
    return norm


@inlined(fastmath=_FAST)
def _taylor_step(columns, h, x, term, other):
    """x <- exp(h a) x, for an upper Hessenberg a given by its columns."""
    n = x.size
    for k in range(n):
        term[k] = x[k]
    for degree in range(1, 60):
        scale = h / degree
        for k in range(n):
            other[k] = 0.0
        j = 0
        while j + 4 <= n:
            p, q, r, s = term[j] * scale, term[j + 1] * scale, term[j + 2] * scale, term[j + 3] * scale
            a, b, c, d = columns[j], columns[j + 1], columns[j + 2], columns[j + 3]
            for k in range(min(j + 5, n)):
                other[k] += p * a[k] + q * b[k] + r * c[k] + s * d[k]
            j += 4
        while j < n:
            p, a = term[j] * scale, columns[j]
            for k in range(min(j + 2, n)):
                other[k] += p * a[k]
            j += 1
        size, total = 0.0, 0.0
        for k in range(n):
            x[k] += other[k]
            size += other[k] * other[k]
            total += x[k] * x[k]
            term[k] = other[k]
        # Accuracy is absolute, and e_1 has norm one.
        if size <= 1e-34 * max(total, 1.0):
            break


def _exponential(a, h):
    """Columns of exp(h a), for h of a few norms."""
    total = term = np.identity(len(a))
    for degree in range(1, 60):
        term = _product(a, term) * (h / degree)
        total = total + term
        # As in `_taylor_step`, column by column.
        if ((term**2).sum(1) <= 1e-34 * np.maximum((total**2).sum(1), 1.0)).all():
            break
    return total


def _product(p, q):
    """Columns of P Q, of the columns of P and of Q."""
    return np.einsum("jk,ki->ji", q, p)


def exponential_column(a, norm, tau):
    """First column of the exponential of tau times the Hessenberg matrix with columns a and 2-norm `norm`."""
    n_steps = max(1.0, np.ceil(tau * norm / _NORMS_PER_STEP))
    if n_steps > _STEPS_PER_COLUMN * len(a):
        return _column_by_squares(a, tau, n_steps)
    return _longest_by_steps(a, tau, n_steps, np.inf, 1.0)[1]


def _column_by_squares(a, tau, n_steps):
    n_squares = math.ceil(math.log2(n_steps))
    power = _exponential(a, tau / 2.0**n_squares)
    for _ in range(n_squares):
        power = _product(power, power)
    return power[0].copy()


@njit(forceinline=True)
def estimate(uncorrected, corrected, growth):
    """Error of the exponential by the first two terms of its expansion, relative to the norm of w(0)."""
    uncorrected, corrected = abs(uncorrected), abs(corrected) * growth
    if not np.isfinite(uncorrected + corrected):
        return np.inf
    if uncorrected > 10 * corrected:
        error = corrected
    elif uncorrected > corrected:
        error = uncorrected * corrected / (uncorrected - corrected)
    else:
        error = uncorrected
    return max(error, 4 * _EPS)


def longest_time(a, norm, tau_max, allowed, growth):
    """Largest tau <= tau_max with estimate <= allowed * tau, to 1 / 16 of a Taylor step; and its column."""
    n_steps = max(1.0, np.ceil(tau_max * norm / _NORMS_PER_STEP))
    if n_steps > _STEPS_PER_COLUMN * len(a):
        tau, x = _longest_by_squares(a, tau_max, n_steps, allowed, growth)
        if tau > 0.0:
            return tau, x
        tau_max, n_steps = tau_max / n_steps, 1.0
    return _longest_by_steps(a, tau_max, n_steps, allowed, growth)


def _longest_by_squares(a, tau_max, n_steps, allowed, growth):
    """`longest_time` by the exponentials of h, 2 h, 4 h, ..., tau_max, to 1 / 32; 0 if h itself is too long."""

    def passes(column, tau):
        return estimate(column[-2], column[-1], growth) <= max(allowed * tau, 32 * _EPS)

    n_squares = math.ceil(math.log2(n_steps))
    h, powers = tau_max / 2.0**n_squares, []
    for k in range(n_squares + 1):
        power = _product(powers[-1], powers[-1]) if powers else _exponential(a, h)
        if not passes(power[0], h * 2.0**k):
            break
        powers.append(power)
    if not powers:
        return 0.0, np.zeros(len(a))
    reached = len(powers) - 1
    if reached == n_squares:
        return tau_max, powers[reached][0].copy()
    tau, x = h * 2.0**reached, powers[reached][0].copy()
    for k in range(reached - 1, max(reached - 6, -1), -1):
        trial, longer = np.einsum("j,ji->i", x, powers[k]), tau + h * 2.0**k
        if passes(trial, longer):
            tau, x = longer, trial
    return tau, x


@njit()
def _longest_by_steps(a, tau_max, n_steps, allowed, growth):
    n = len(a)
    left = int(n_steps)
    h, tau, halvings, ceiling = tau_max / n_steps, 0.0, 0, np.inf
    x, trial, term, other = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for k in range(n):
        x[k] = 1.0 if k == 0 else 0.0
    while left > 0:
        # A time that was refused is not tried again: the estimate of a state at rest falls below rounding.
        passes = tau + h < ceiling * (1 - 1e-12)
        if passes:
            copy(trial, x)
            _taylor_step(a, h, trial, term, other)
            # Below 32 eps the estimate is rounding, which no shorter step would lessen.
            passes = estimate(trial[n - 2], trial[n - 1], growth) <= max(allowed * (tau + h), 32 * _EPS)
            if not passes:
                ceiling = tau + h
        if passes:
            x, trial = trial, x
            tau += h
            if halvings == 0:
                left -= 1
                if left == 0:
                    tau = tau_max
        elif (halvings >= 4 and tau > 0.0) or halvings == 60:
            break
        else:
            h /= 2
            halvings += 1
    return tau, x
