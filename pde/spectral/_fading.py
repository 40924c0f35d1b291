"""What remains at the end of an error made at the beginning, by its wavenumber: bounds, not estimates.

Let U(T) solve w_s = v . grad w + nu lap w over a time T. Each of the following bounds |U(T) e| for e = sum_k c_k e_k,
and each part of e may use the smallest of them.

1. The maximum principle: max |U(T) e| <= max |e|.
2. Duhamel's formula about the heat semigroup that moves with the mean velocity:
   max |U(T) e| <= sum_k |c_k| (x + V (1 - x) / (nu k)), x = exp(-nu k**2 T), V = max |v - mean of v|.
   It is exact for a constant velocity, and small where V / (nu k) is.
3. A weight exp(-a(s) k) in the norm of L2, a falling from a to 0 over a time s <= T:
   |U(s) e|_2 <= |exp(-a k) e|_2 exp(a**2 / (4 nu tau) + D s / 2), tau = (1 - exp(-2 G s)) / (2 G),
   G = G(a) = sum_q |v_q| sinh(a |q|) / a, D = D(a) = sum_q |q . v_q| cosh(a |q|): the commutator of weight and velocity
   costs a G |e| |grad e|, which diffusion absorbs. At the best a it is exp(-nu k**2 tau): a wave may be stretched by
   exp(G s) before it decays. A weight that goes on to exp(b k) bounds the maximum; the maximum principle bounds the
   rest of the time.
"""

import copy
import math

import numpy as np


class Fading:
    """Bounds for one problem, shell by shell: wavenumbers `unit` r <= k < unit (r + 1).

    `spectra` are the Fourier coefficients (2, 2 m + 1, 2 m + 1) of the velocities that occur; speed, divergence and
    gradient are multiplied by `margin` where the velocity is known at some times only.
    """

    def __init__(self, nu, horizon, length, spectra, margin=1.0, *, potentials=()):
        self.nu, self.horizon, self.unit = nu, horizon, 2 * math.pi / length
        self.speed, self._shells, self._table = 0.0, [], None
        for c in spectra:
            self._add(c, margin)
        # A potential c acts in the same norm as sum_q |c_q| exp(a |q|), and in Duhamel's formula as its maximum.
        self._potentials = [np.bincount(_shell(c.shape[-1] // 2), np.abs(c).ravel()) for c in potentials]
        self.potential = max((float(sizes.sum()) for sizes in self._potentials), default=0.0)

    def _add(self, c, margin):
        m = c.shape[-1] // 2
        k = np.arange(-m, m + 1)
        size = margin * np.sqrt((np.abs(c) ** 2).sum(axis=0))
        size[m, m] = 0.0
        # The sum of the coefficients bounds the maximum.
        self.speed = max(self.speed, float(size.sum()))
        shell = _shell(m)
        divergence = margin * self.unit * np.abs(k[:, None] * c[0] + k * c[1])
        self._shells.append((np.bincount(shell, size.ravel()), np.bincount(shell, divergence.ravel())))

    def after(self, horizon):
        """The same bounds for another time T."""
        other = copy.copy(self)
        other.horizon = horizon
        return other

    def strain(self, a):
        """(G(a), D(a)), the largest over the velocities; inf beyond the range of the numbers."""
        n_shells = self._n_shells()
        x = a * self.unit * np.arange(n_shells)
        sinh, cosh = np.sinh(x) / a, np.cosh(x)
        pairs = [(sinh[: len(v)] @ v, cosh[: len(d)] @ d) for v, d in self._shells]
        g, d = map(float, np.max(pairs, axis=0))
        return g, d + 2 * max((float(np.exp(x[: len(c)]) @ c) for c in self._potentials), default=0.0)

    def _n_shells(self):
        return max(*(len(speeds) for speeds, _ in self._shells), *map(len, self._potentials), 1)

    def by_sum(self, n_shells):
        """Factor of the sum of |c_k| in each shell: bounds 1 and 2."""
        k = self.unit * np.arange(n_shells)
        x = np.exp(-self.nu * k**2 * self.horizon)
        with np.errstate(divide="ignore", invalid="ignore"):
            strength = self.speed + self.potential / k
            coupled = np.where(k > 0, strength * (1 - x) / (self.nu * k), np.inf) if self.nu > 0 else np.inf
        return x if self.speed == self.potential == 0 else np.minimum(1.0, x + coupled)

    def by_energy(self, n_shells):
        """Factor of the root of sum |c_k|**2 in each shell: bound 3."""
        k = self.unit * np.arange(n_shells)
        best = np.full(n_shells, np.inf)
        fastest = self.nu * k[-1] ** 2 * self.horizon
        if not fastest > 1:
            return best
        weights = self._weights()
        for halving in range(min(40, math.ceil(math.log2(fastest)) + 1)):
            s = self.horizon / 2**halving
            # sum over the lattice of exp(-2 b |k|), with |k| >= (|k_1| + |k_2|) / sqrt(2).
            costs = np.array([self._cost(*weight, 0.25 * s) for weight in weights])
            peaks = np.array([math.tanh(b * self.unit / math.sqrt(2)) for b, _, _ in weights])
            smooth = float((np.exp(np.minimum(costs, 700)) / peaks).min())
            for a, g, d in weights:
                cost = self._cost(a, g, d, 0.75 * s)
                if cost < 700:
                    np.minimum(best, smooth * np.exp(cost - a * k), out=best)
        return best

    def _weights(self):
        """Triples (a, G(a), D(a)), for a between 1/10 and 600 over the wavenumbers that matter."""
        if self._table is None:
            largest = 500 / (self.unit * self._n_shells())
            self._table = [(a, *self.strain(a)) for a in largest * 2.0 ** -np.arange(0, 20, 0.5)]
        return self._table

    def _cost(self, a, g, d, s):
        tau = s if g * s < 1e-8 else -math.expm1(-2 * g * s) / (2 * g)
        return a**2 / (4 * self.nu * tau) + d * s / 2

    def of_the_rest(self, shell):
        """Factor of the norm of L2 of all that has wavenumbers of the shell and beyond."""
        k, t = self.unit * shell, self.nu * self.horizon
        if self.speed == self.potential == 0:
            # By Cauchy and Schwarz, the root of the sum of exp(-2 t k**2) over the lattice beyond.
            return math.exp(-t * k**2 / 2) * (1 + math.sqrt(math.pi / t) / self.unit) if t > 0 else math.inf
        return self.by_energy(shell + 1)[-1]

    def bound(self, sums, squares):
        """Bound max |U(T) e| by the sums of |c_k| and of |c_k|**2 in each shell."""
        present = np.flatnonzero(squares)
        if not present.size:
            return 0.0
        n_shells = int(present[-1]) + 1
        by_sum = self.by_sum(n_shells)[present] * sums[present]
        by_energy = self.by_energy(n_shells)[present] * np.sqrt(squares[present])
        return float(np.minimum(by_sum, by_energy).sum())


def _shell(m):
    """Length of k, rounded up, for the coefficients -m .. m in both directions, flat."""
    k = np.arange(-m, m + 1)
    return np.ceil(np.hypot(k[:, None], k)).astype(int).ravel()
