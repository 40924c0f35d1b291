"""The action of a matrix exponential by Arnoldi's method, with an error estimate and its own step size.

w(tau) = exp(tau A) w(0) ~ beta V_(m+1) exp(tau Hbar) e_1,  A V_m = V_(m+1) H    (Saad 1992; Sidje 1998, "Expokit")

The matrix is known by its products only. One basis serves every tau: the step is chosen after the basis, on small
matrices, so no product is spent on a step that is refused.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

__all__ = ["KrylovStep", "exponential_step"]

# Basis sizes at which the estimate is evaluated, to end early where the interval is short.
_CHECKED_SIZES = (6, 10, 14, 18, 22, 26)
_TAYLOR = np.array([1 / math.factorial(k) for k in range(17)])


class KrylovStep(NamedTuple):
    """A step of the exponential.

    Attributes
    ----------
    state : ndarray
        w(tau), of the shape of w(0).
    tau : float
        Length of the step, at most what was asked.
    error : float
        Estimate of the error of w(tau) in the Euclidean norm.
    n_products : int
        Products with the matrix.
    """

    state: np.ndarray
    tau: float
    error: float
    n_products: int


def exponential_step(apply, state, tau_max, error_rate, *, tau_guess=None, n_basis=30, accept=None):
    """Advance w' = A w from w(0) = state by the largest tau <= tau_max whose error estimate is <= error_rate * tau.

    Parameters
    ----------
    apply : callable
        w -> A w, arrays of the shape of state; A real-linear.
    state : ndarray
        w(0), complex, of any shape.
    tau_max : float
        Time left. A shorter step divides it evenly.
    error_rate : float
        Error allowed per unit of time, in the Euclidean norm of the entries.
    tau_guess : float, optional
        Where to begin the search for tau; the length of the step before is a good guess.
    n_basis : int, default=30
        Largest dimension of the Krylov space.
    accept : callable, optional
        (w(tau), tau) -> bool. Steps refused are halved, twice at most; then w(0) is returned with tau = 0.

    Returns
    -------
    KrylovStep
        Its `state` has the shape of state.

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    """
    shape, w = state.shape, np.ascontiguousarray(state).view(float).reshape(-1)
    beta = float(np.linalg.norm(w))
    if beta == 0:
        return KrylovStep(state.copy(), tau_max, 0.0, 0)
    basis = np.empty((n_basis + 1, w.size))
    basis[0] = w / beta
    h = np.zeros((n_basis + 2, n_basis + 2))
    first_try = tau_max if tau_guess is None else min(tau_max, 2 * tau_guess)
    search = None
    for j in range(n_basis):
        v = apply(basis[j].view(complex).reshape(shape)).view(float).reshape(-1)
        h[j + 1, j] = _orthogonalise(basis, j + 1, v, h[:, j])
        if not np.isfinite(h[j + 1, j]):
            raise FloatingPointError("the product with the matrix is not finite")
        # Below this the space is invariant and the exponential exact in it.
        invariant = h[j + 1, j] <= 1e-14 * np.linalg.norm(h[: j + 2, j])
        if invariant:
            h[j + 1, j] = 0.0
        basis[j + 1] = 0.0 if invariant else v / h[j + 1, j]
        short = j + 1 in _CHECKED_SIZES and first_try == tau_max
        if invariant or short or j + 1 == n_basis:
            search = _Search(h, j + 1, beta, error_rate)
            if invariant or (short and search(tau_max) <= 1):
                break
    tau = search.largest(first_try, tau_max)
    for _ in range(3):
        new = _weighted_sum(basis, search.weights(tau)).view(complex).reshape(shape)
        if accept is None or accept(new, tau):
            return KrylovStep(new, tau, search.error(tau), search.size)
        tau /= 2
    return KrylovStep(state, 0.0, 0.0, search.size)


class _Search:
    """The step as a function of tau, on the small matrix (Sidje 1998, section 3.2)."""

    def __init__(self, h, size, beta, error_rate):
        self.size, self.beta, self.error_rate = size, beta, error_rate
        self.a = np.zeros((size + 2, size + 2))
        self.a[: size + 1, :size] = h[: size + 1, :size]
        self.a[size + 1, size] = 1.0
        # ||A v_(m+1)|| is taken from the vector before it, which saves a product.
        self.growth = float(np.linalg.norm(h[: size + 1, size - 1]))
        self._columns = {}

    def column(self, tau):
        if tau not in self._columns:
            self._columns[tau] = _exponential_column(tau * self.a) * self.beta
        return self._columns[tau]

    def weights(self, tau):
        return self.column(tau)[: self.size + 1]

    def error(self, tau):
        column = self.column(tau)
        if not np.isfinite(column).all():
            return np.inf
        uncorrected, corrected = abs(column[self.size]), abs(column[self.size + 1]) * self.growth
        if uncorrected > 10 * corrected:
            error = corrected
        elif uncorrected > corrected:
            error = uncorrected * corrected / (uncorrected - corrected)
        else:
            error = uncorrected
        return float(max(error, 4 * np.finfo(float).eps * self.beta))

    def __call__(self, tau):
        """Estimated error over the error allowed."""
        return self.error(tau) / (self.error_rate * tau)

    def largest(self, tau, tau_max):
        """Largest tau, to about a tenth, whose error is allowed, dividing tau_max evenly."""
        floor = 4 * np.finfo(float).eps * self.beta / self.error_rate
        while self(tau) > 1 and tau > floor:
            # The ratio behaves like tau**size for small tau and worse for large.
            factor = self(tau) ** (-1 / self.size) if np.isfinite(self(tau)) else 0.1
            tau *= min(max(0.95 * factor, 0.1), 0.9)
        return tau_max / float(np.ceil(tau_max / tau * (1 - 1e-12)))


def _exponential_column(a):
    """First column of exp(a), by Taylor's series of degree 16 with scaling and squaring."""
    norm = np.abs(a).sum(axis=0).max()
    if not np.isfinite(norm):
        return np.full(len(a), np.nan)
    # The remainder is below 0.7**17 / 17! = 7e-18 of the whole.
    squarings = max(0, int(np.ceil(np.log2(max(norm, 1e-300) / 0.7))))
    return _taylor_exponential(a / 2.0**squarings, squarings, _TAYLOR)


# Plain loops: the BLAS would wake its threads for these small matrices and wait for them.
@numba.njit(cache=True, nogil=True)
def _multiply(a, b):
    out = np.zeros_like(a)
    for i in range(a.shape[0]):
        for k in range(a.shape[0]):
            for j in range(a.shape[0]):
                out[i, j] += a[i, k] * b[k, j]
    return out


@numba.njit(cache=True, nogil=True)
def _taylor_exponential(a, squarings, c):
    # Paterson and Stockmeyer: a polynomial of degree 16 in six products.
    one, a2 = np.eye(a.shape[0]), _multiply(a, a)
    a3, a4 = _multiply(a2, a), _multiply(a2, a2)
    result = c[16] * a4 + c[15] * a3 + c[14] * a2 + c[13] * a + c[12] * one
    for k in (8, 4, 0):
        result = _multiply(result, a4) + c[k + 3] * a3 + c[k + 2] * a2 + c[k + 1] * a + c[k] * one
    for _ in range(squarings):
        result = _multiply(result, result)
    return result[:, 0].copy()


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _orthogonalise(basis, size, v, column):
    """Take from v its parts along the first rows of basis (modified Gram-Schmidt); return the norm left."""
    for i in range(size):
        row = basis[i]
        dot = 0.0
        for k in range(v.size):
            dot += row[k] * v[k]
        for k in range(v.size):
            v[k] -= dot * row[k]
        column[i] = dot
    total = 0.0
    for k in range(v.size):
        total += v[k] * v[k]
    return np.sqrt(total)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _weighted_sum(basis, weights):
    out = np.zeros(basis.shape[1])
    for i in range(weights.size):
        row = basis[i]
        weight = weights[i]
        for k in range(out.size):
            out[k] += weight * row[k]
    return out
