"""The action of a matrix exponential in a sketched Krylov space, with an error estimate and its own step size.

w(tau) = exp(tau A) w(0) ~ beta U_(m+1) exp(tau Gbar) e_1,  A U_m = U_(m+1) G    (Saad 1992; Sidje 1998, "Expokit")

The matrix is known by its products only. Each basis vector is orthogonalised against the last four alone, so that the
cost per vector does not grow; a fixed random sketch S, a few hundred numbers per vector, gives the triangular R that
makes U = V R^-1 orthonormal in the sketched product (Nakatsukasa & Tropp 2024; Guettel & Schweitzer 2023). One basis
serves every tau: the step is chosen after the basis, on small matrices, so no product is spent on a refused step.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from pde.spectral import _arnoldi
from pde.spectral._arnoldi import back_substitute, dot, extend, extend_fully, weighted_sum
from pde.spectral._hessenberg import estimate, exponential_column, longest_time, two_norm

# Bins of the sketch per basis vector: below about 1.5 its inner products are worth little.
_BINS_PER_VECTOR = 1.5
# Dimensions at which the convergence is first observed; later ones are extrapolated from these.
_FIRST_CHECKS = (4, 9, 20, 36)
_EPS = float(np.finfo(float).eps)
# Rounding error per coefficient in the basis (measured where coefficients are large: 5 to 16).
_ROUNDING = 30.0


class KrylovStep(NamedTuple):
    """A step of the exponential: w(tau) in the shape of w(0), tau, its error estimate (2-norm), products spent."""

    state: np.ndarray
    tau: float
    error: float
    n_products: int


def exponential_step(apply, state, tau_max, error_rate, *, n_basis=110, accept=None, probe=None):
    """Advance w' = A w from w(0) = state by the largest tau <= tau_max whose error estimate is <= error_rate * tau.

    `apply` is w -> A w, real-linear; the error is the 2-norm of the entries. A shorter step divides tau_max evenly.
    accept(at, tau) -> bool, at(t) = w(t): a refused step is halved, at most twice; then w(0) is returned with tau = 0.
    probe(at, tau) -> bool, evaluated on the first third of the basis: False ends the basis there.
    """
    shape, w = state.shape, np.ascontiguousarray(state).view(float).reshape(-1)
    beta = math.sqrt(dot(w, w))
    if not math.isfinite(beta):
        raise FloatingPointError("the norm of the state is not finite")
    if beta == 0:
        return KrylovStep(state.copy(), tau_max, 0.0, 0)
    n_wasted = 0
    for sketched in (True, False):
        basis, plan = _Basis(w, beta, n_basis, sketched=sketched), _Plan(tau_max, n_basis)
        search = _grow(basis, plan, apply, shape, error_rate, probe)
        if search is not None:
            tau = plan.step(search)
            rounding = basis.rounding(search.weights(tau))
            # Nearly dependent vectors with large coefficients cancel: begin again without the sketch.
            if not sketched or rounding <= 0.5 * error_rate * tau:
                break
        n_wasted += basis.size + (search is None)
    at = functools.cache(_states(basis, search, shape))
    for _ in range(3):
        if accept is None or accept(at, tau):
            error = search.error(tau) * basis.stretch() + rounding
            return KrylovStep(at(tau), tau, error, basis.size + n_wasted)
        tau /= 2
    return KrylovStep(state, 0.0, 0.0, basis.size + n_wasted)


def _states(basis, search, shape):
    """w as a function of time."""

    def at(t):
        return basis.combine(search.weights(t)).view(complex).reshape(shape)

    return at


def _grow(basis, plan, apply, shape, error_rate, probe):
    """Extend the basis until it reaches the planned time, is full, or fails the probe; None if the sketch is blind."""
    flat = len(shape) == 1
    while True:
        last = basis.rows[basis.size]
        v = apply(last if flat else last.reshape(shape)).view(float)
        if not basis.extend(v if flat else v.reshape(-1)):
            # Too few entries differ from zero for the sketch.
            return None
        if basis.complete or basis.size == plan.next_check:
            search = _Search(basis, error_rate, plan.target)
            if basis.complete or plan.reached(basis.size, search.longest):
                return search
            early = probe is not None and basis.size == _FIRST_CHECKS[-1]
            if early and not probe(_states(basis, search, shape), search.longest):
                return search


def precompile():
    """Compile the loops that the first `spectral.solve` reaches last, those of small matrices, or load them.

    For a process of its own: the loops it reaches first can be compiled in another at the same time, as
    `feynman_kac.precompile` does.

    Examples
    --------
    >>> precompile()
    """
    a, vectors = np.diag(np.ones(3), 1), np.ones((3, 2))
    exponential_column(a, two_norm(a), 1.0)
    longest_time(a, 1.0, 1.0, 1.0, 1.0)
    weighted_sum(vectors, back_substitute(np.identity(3), np.ones(3)))


class _Basis:
    """A Krylov basis V, the sketch of it S V = Q R, and G = R H R^-1 of A V_m = V_(m+1) H.

    Without a sketch V itself is orthonormal, and R = I.
    """

    def __init__(self, w, beta, n_basis, *, sketched=True):
        # Not more vectors than the space or its sketch has dimensions.
        self.limit = min(n_basis, w.size)
        self.size, self.invariant, self._sketched = 0, False, sketched
        self._blocks = _arnoldi.blocks_of(int(_BINS_PER_VECTOR * (self.limit + 1)))
        self._signs = _arnoldi.signs_of(w.size)
        self._vectors = np.empty((self.limit + 1, w.size))
        self.rows = self._vectors.view(complex)
        self._r = np.identity(self.limit + 1)
        self.g = np.zeros((self.limit, self.limit + 1))
        if sketched:
            self._q = np.zeros((self.limit + 1, int(self._blocks.sum())))
            extend(w / beta, 0, self._blocks, self._signs, self._vectors, self._q, self._r, self.g)
        else:
            self._vectors[0] = w / beta
        # Norm of w in the sketched product.
        self.beta = beta * self._r[0, 0]

    @property
    def complete(self):
        return self.invariant or self.size == self.limit

    def extend(self, v):
        """Take v = A (the last vector) into the basis; v is overwritten. False if the sketch misses it."""
        if self._sketched:
            status = extend(v, self.size + 1, self._blocks, self._signs, self._vectors, self._q, self._r, self.g)
        else:
            status = extend_fully(v, self.size + 1, self._vectors, self.g)
        if status == _arnoldi.NOT_FINITE:
            raise FloatingPointError("the product with the matrix is not finite")
        if status == _arnoldi.BLIND:
            return False
        self.size += 1
        self.invariant = status == _arnoldi.INVARIANT
        return True

    def _coefficients(self, weights):
        """R^-1 weights: the coefficients in V."""
        size = self.size if self.invariant else self.size + 1
        return back_substitute(self._r, weights[:size])

    def combine(self, weights):
        """U weights, as a vector of the full space."""
        return weighted_sum(self._vectors, self._coefficients(weights))

    def rounding(self, weights):
        """Estimated rounding error of U weights and of G, in the 2-norm."""
        y = self._coefficients(weights)
        return _ROUNDING * _EPS * math.sqrt(dot(y, y))

    def stretch(self):
        """Length of the last vector of U, along which the error lies, if more than its length 1 in the sketch."""
        if self.invariant:
            return 1.0
        last = np.zeros(self.size + 1)
        last[-1] = 1.0
        u = self.combine(last)
        return max(1.0, math.sqrt(dot(u, u)))


class _Plan:
    """The tau to reach and the dimension of the next check, by the convergence observed.

    The tau reached by m vectors grows like m**p, p = 2 where diffusion dominates and 1 where advection does
    (Hochbruck & Lubich 1997); p falls on the way.
    """

    def __init__(self, tau_max, n_basis):
        self.tau_max, self.n_basis, self.target = tau_max, n_basis, tau_max
        self._seen = (0, 0.0)
        self.next_check = _FIRST_CHECKS[0]

    def reached(self, size, longest):
        """Note that `size` vectors reach `longest`; True if that is the target, else set target and next check."""
        if longest >= self.tau_max * (1 - 1e-12):
            return True
        (size_0, longest_0), self._seen = self._seen, (size, longest)
        power = 1.0
        if 0 < longest_0 < longest:
            # Further on, 0.65 of the excess over 1 remains (measured: 0.6 to 0.9).
            power = 1 + 0.65 * (math.log(longest / longest_0) / math.log(size / size_0) - 1)
            power = min(max(power, 1.0), 2.0)
        if size >= _FIRST_CHECKS[-1]:
            farthest = longest * (self.n_basis / size) ** power
            self.target = self.tau_max / math.ceil(self.tau_max / farthest * (1 - 1e-12))
            if longest >= self.target:
                return True
        # A few more than expected: another check costs as much as five products.
        wanted = math.ceil(1.02 * size * (self.target / longest) ** (1 / power))
        first = next((check for check in _FIRST_CHECKS if check > size), self.n_basis)
        self.next_check = min(max(wanted, size + 3), first)
        return False

    def step(self, search):
        """The longest step that divides tau_max evenly."""
        return self.tau_max / max(1, math.ceil(self.tau_max / search.longest * (1 - 1e-12)))


class _Search:
    """The error estimate as a function of tau, on the small matrix (Sidje 1998, section 3.2)."""

    def __init__(self, basis, error_rate, tau_max):
        size = basis.size
        self.size, self.beta = size, basis.beta
        # Row j is column j.
        self._a = np.zeros((size + 2, size + 2))
        self._a[:size, : size + 1] = basis.g[:size, : size + 1]
        self._a[size, size + 1] = 1.0
        # ||A u_(m+1)|| is taken from the vector before it, which saves a product.
        growth = math.sqrt(dot(self._a[size - 1], self._a[size - 1]))
        self._growth, self._norm = growth, two_norm(self._a)
        self._columns = {}
        self.longest = self._longest(error_rate, tau_max)

    def weights(self, tau):
        """Coefficients of w(tau) in the basis."""
        return self._column(tau)[: self.size + 1] * self.beta

    def error(self, tau):
        column = self._column(tau)
        return estimate(column[self.size], column[self.size + 1], self._growth) * self.beta

    def _column(self, tau):
        if tau not in self._columns:
            self._columns[tau] = exponential_column(self._a, self._norm, tau)
        return self._columns[tau]

    def _longest(self, error_rate, tau_max):
        """The largest tau <= tau_max, within a per cent or so, whose error is allowed."""
        if not math.isfinite(self._norm):
            raise FloatingPointError("the product with the matrix is not finite")
        allowed = error_rate / self.beta
        tau, column = longest_time(self._a, self._norm, tau_max, allowed, self._growth)
        if tau == tau_max:
            self._columns[tau] = column
        # Below this the estimate is rounding.
        return max(tau, min(tau_max, 4 * _EPS / allowed))
