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

# The estimate is evaluated whenever the basis has grown by as much.
_CHECKED = 3
# With so few steps to go one less is rarely possible, and a smaller basis saves more.
_FEW = 3
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


def exponential_step(apply, state, tau_max, error_rate, *, tau_guess=None, n_basis=36, accept=None):
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
    n_basis : int, default=36
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
        If the norm of the state or a product is not finite.
    """
    shape, w = state.shape, np.ascontiguousarray(state).view(float).reshape(-1)
    beta = math.sqrt(_dot(w, w))
    if not math.isfinite(beta):
        raise FloatingPointError("the norm of the state is not finite")
    if beta == 0:
        return KrylovStep(state.copy(), tau_max, 0.0, 0)
    basis = np.empty((n_basis + 1, w.size))
    np.multiply(w, 1 / beta, out=basis[0])
    h = np.zeros((n_basis + 2, n_basis + 2))
    search = None
    n_parts = max(1, round(tau_max / tau_guess)) if tau_guess else 1
    planned = tau_max / n_parts
    for j in range(n_basis):
        v = apply(basis[j].view(complex).reshape(shape)).view(float).reshape(-1)
        h[j + 1, j] = _orthogonalise(basis, j + 1, v, h[:, j])
        if not math.isfinite(h[j + 1, j]):
            raise FloatingPointError("the product with the matrix is not finite")
        # Below this the space is invariant and the exponential exact in it.
        invariant = h[j + 1, j] <= 1e-14 * math.sqrt(_dot(h[: j + 2, j], h[: j + 2, j]))
        if invariant:
            h[j + 1, j] = 0.0
        np.multiply(v, 0.0 if invariant else 1 / h[j + 1, j], out=basis[j + 1])
        short = (j + 1) % _CHECKED == 0 and n_parts <= _FEW
        if invariant or short or j + 1 == n_basis:
            search = _Search(h, j + 1, beta, error_rate)
            if invariant or (short and search.within_reach(planned) and search(planned) <= 1):
                break
    tau = search.largest(planned, tau_max)
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

    def within_reach(self, tau):
        """Whether a space of this size can be expected to hold the exponential: size >= tau ||A|| / 4."""
        return self.growth * tau <= 4 * self.size

    def largest(self, guess, tau_max):
        """Largest tau, to about a tenth, whose error is allowed, dividing tau_max evenly."""
        floor = 4 * np.finfo(float).eps * self.beta / self.error_rate
        n_parts = max(1, round(tau_max / min(guess, 2 * self.size / max(self.growth, 1 / tau_max))))
        ratio = self(tau_max / n_parts)
        # For small tau the ratio behaves like tau**size, for large tau like a smaller power.
        while ratio <= 1 and n_parts > 1:
            fewer = max(1, min(n_parts - 1, math.ceil(0.95 * n_parts * ratio ** (1 / self.size))))
            if not self(tau_max / fewer) <= 1:
                break
            n_parts, ratio = fewer, self(tau_max / fewer)
        while not ratio <= 1 and tau_max / n_parts > floor:
            factor = min(ratio ** (1 / self.size), 10.0) if math.isfinite(ratio) else 10.0
            n_parts = max(n_parts + 1, math.ceil(n_parts * factor))
            ratio = self(tau_max / n_parts)
        return tau_max / n_parts


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
def _dot(a, b):
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _orthogonalise(basis, size, v, column):
    """Take from v its parts along the first rows of basis; return the norm left.

    Gram-Schmidt, classical within four rows and modified from four to four: v passes through the cache half as often.
    """
    whole = size - size % 4
    for i in range(0, whole, 4):
        a, b, c, d = basis[i], basis[i + 1], basis[i + 2], basis[i + 3]
        p, q, r, s = 0.0, 0.0, 0.0, 0.0
        for k in range(v.size):
            p += a[k] * v[k]
            q += b[k] * v[k]
            r += c[k] * v[k]
            s += d[k] * v[k]
        for k in range(v.size):
            v[k] -= p * a[k] + q * b[k] + r * c[k] + s * d[k]
        column[i], column[i + 1], column[i + 2], column[i + 3] = p, q, r, s
    for i in range(whole, size):
        a = basis[i]
        p = _dot(a, v)
        for k in range(v.size):
            v[k] -= p * a[k]
        column[i] = p
    return np.sqrt(_dot(v, v))


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _weighted_sum(basis, weights):
    out = np.zeros(basis.shape[1])
    for i in range(weights.size):
        row, weight = basis[i], weights[i]
        for k in range(out.size):
            out[k] += weight * row[k]
    return out
