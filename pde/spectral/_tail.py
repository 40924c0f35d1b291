"""The effect of modes of a rough velocity that lie too far out to be multiplied with the modes kept.

Such a mode, |q_i| > 3 k_max, moves u by w = W . grad u, W_q = v_q min(tau, 1 / (nu |q|**2)), and what w feeds back to
the modes kept is that of v . grad w = (v . grad W) . grad u + v_i W_j d_i d_j u: a drift and a diffusion.
"""

import numpy as np

from pde import grid
from pde.transforms import to_spectrum, to_values

# grad u is not constant: its modes shorten the lives of some q, and lengthen those of others to (3 / 2)**2 at most.
_MARGIN = 1.5
# Crude bounds below this many units of the tolerance are not refined.
_NEGLIGIBLE = 0.01


class Tail:
    """The modes |q_i| > least of a velocity, by their coefficients c of shape (2, 2 r + 1, 2 r + 1), up to r."""

    def __init__(self, c, least, k_max, length):
        reach = c.shape[-1] // 2
        self.c = c.copy()
        self.c[:, reach - least : reach + least + 1, reach - least : reach + least + 1] = 0
        self._unit, self._k_max, self._known = 2 * np.pi / length, k_max, {}
        # No alias of a product of two of these modes reaches those kept.
        self._n = grid.fast_size(2 * reach + k_max + 1)
        k = np.arange(-reach, reach + 1)
        self._k_squared = self._unit**2 * (k[:, None] ** 2 + k**2)
        # Sums of |v_q| over squares |q_i| <= r, for the crude bound.
        ring = np.maximum(np.abs(k)[:, None], np.abs(k)).ravel()
        self._sums = np.bincount(ring, np.abs(c).sum(axis=0).ravel())[least + 1 :]
        self._q = self._unit * np.arange(least + 1, reach + 1)

    def errors(self, rate, tau, slope, bend, tolerance):
        """Estimates of the error in a time tau: (of u itself, by what is fed back to the modes kept).

        rate is nu, slope max |grad u|, bend that of its second derivatives. Together no more than |v| |grad u| tau,
        by the maximum principle.
        """
        life = tau / np.maximum(1.0, tau * rate * self._q**2)
        forcing = slope * float(self._sums.sum()) * tau
        itself, fed_back = (
            slope * float((self._sums * life).sum()),
            forcing * float((self._sums * life * self._q).sum()),
        )
        if min(itself + fed_back, forcing) > _NEGLIGIBLE * tolerance:
            speed, reach, drift, diffusion = self._sizes(rate, tau)
            itself = _MARGIN * slope * reach
            fed_back = _MARGIN * tau * (slope * drift + bend * diffusion)
            forcing = min(forcing, slope * speed * tau)
        return (itself, fed_back) if itself + fed_back <= forcing else (0.0, forcing)

    def _sizes(self, rate, tau):
        """(max |v|, max |W|, and on the modes kept max |v . grad W|, max |v_i W_j|), for a power of 2 above tau."""
        tau = 2.0 ** np.ceil(np.log2(tau))
        if (rate, tau) not in self._known:
            n, reach = self._n, self.c.shape[-1] // 2
            k = self._unit * np.arange(-reach, reach + 1)
            response = self.c * (tau / np.maximum(1.0, tau * rate * self._k_squared))
            v, w = grid.from_coefficients(self.c, n), grid.from_coefficients(response, n)
            along_x, along_y = (grid.from_coefficients(1j * q * response, n) for q in (k[:, None], k))
            drift = self._kept(v[0] * along_x + v[1] * along_y)
            diffusion = self._kept((v[:, None] * w).reshape(4, n, n))
            self._known[rate, tau] = tuple(_size(field) for field in (v, w, drift, diffusion))
        return self._known[rate, tau]

    def _kept(self, values):
        """The part of products on the modes kept, on the same grid."""
        k = self._k_max
        spectrum = to_spectrum(values)[..., : k + 1].copy()
        spectrum[..., k + 1 : -k or None, :] = 0
        return to_values(spectrum, self._n)


def _size(field):
    return float(np.sqrt((field**2).sum(axis=0)).max())
