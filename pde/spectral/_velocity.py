"""The velocity in the solver: the modes that couple those kept, and an estimate of what samples miss."""

import numpy as np

from pde import grid
from pde.fields import PeriodicField
from pde.spectral._tail import Tail

_FINEST = 512
# Largest mode of a spline, which has infinitely many, that is considered beyond those kept.
_FARTHEST = 768
# A callable is compared with another grid once in each of so many parts of the time, at most.
_PARTS = 64
# Times, as fractions of the horizon without a pattern, at which a callable is sampled beforehand.
_TIMES = (0.0, 0.136, 0.3819, 0.6271, 0.8743, 1.0)


class Velocity:
    """Velocity of a problem for modes |k_i| <= k_max; v couples two of these by its modes |q_i| <= 2 k_max alone."""

    def __init__(self, problem, k_max, negligible):
        self.problem, self.k_max = problem, k_max
        self.size, self._tails, self._misses = 0, {}, {}
        if problem.velocity_is_of_points:
            self.size = self._choose_size(negligible)

    def _choose_size(self, negligible):
        """Points per side on which samples of the callable are good to negligible * max |v|, or as many as allowed."""
        m = grid.fast_size(max(16, 4 * self.k_max + 2))
        while 2 * m <= _FINEST:
            errors, sizes = zip(*(self._miss(t * self.problem.horizon, m) for t in _TIMES), strict=True)
            if max(errors) <= negligible * max(max(sizes), 1e-300):
                break
            m *= 2
        return m

    def _miss(self, t, m):
        """(Estimated error of the samples on the grid of m, max |v|): the difference from another grid."""
        other = grid.fast_size(round(1.46 * m)) + 1
        n_modes = min(3 * self.k_max, m // 2 - 1)
        c, d = (grid.coefficients(self.problem.velocity_field(t, size).values, n_modes) for size in (m, other))
        n = max(8, c.shape[-1])
        miss = np.sqrt((grid.from_coefficients(c - d, n) ** 2).sum(axis=0)).max()
        return float(miss), float(np.sqrt((grid.from_coefficients(d, n) ** 2).sum(axis=0)).max())

    def at(self, t):
        """v(., t) of a callable as a field, on the modes that matter."""
        return self.problem.velocity_field(t, self.size or None).band_limited(3 * self.k_max)

    def missed(self, t):
        """Estimated max |error| of at(t); 0 for fields. A vanishing difference of rounding counts as 0."""
        if not self.size:
            return 0.0
        key = self._part(t, _PARTS)
        if key not in self._misses:
            miss, speed = self._miss(t, self.size)
            self._misses[key] = miss if miss > 1e-13 * speed else 0.0
        return self._misses[key]

    def _part(self, t, count):
        """Number of the part of [0, T], one of `count`, in which t lies."""
        return min(count - 1, int(t / self.problem.horizon * count))

    def tail(self, t, layer):
        """What `bands` leaves out, as a `Tail`; None if nothing."""
        of_points = self.problem.n_layers is None
        key = self._part(t, _PARTS // 4) if of_points else layer
        if key in self._tails:
            return self._tails[key]
        field = self.problem.velocity_field(t, self.size or None) if of_points else self.problem.layer_field(layer)
        least, reach = 3 * self.k_max, field.n_modes
        if field.interpolation != "trigonometric":
            reach = min(max(2 * least, 2 * field.n), max(_FARTHEST, least + 1))
        tail = None
        if reach > least:
            tail = Tail(field.fourier_coefficients(reach), least, self.k_max, self.problem.length)
        self._tails[key] = tail
        return tail

    def bands(self, field):
        """(The field on 3 k_max modes, on which the residual is measured; on 2 k_max, all that is needed)."""
        reference = field.band_limited(3 * self.k_max)
        return reference, reference.band_limited(2 * self.k_max)

    def spectra(self):
        """(Coefficients of all velocities that occur, or of some; the margin of safety for the others)."""
        problem = self.problem
        if problem.n_layers is not None:
            fields, margin = [problem.layer_field(j) for j in range(problem.n_layers)], 1.0
        else:
            fields, margin = [self.at(t * problem.horizon) for t in _TIMES], 1.5
        bands = []
        for field in dict.fromkeys(self.bands(field)[1] for field in fields):
            bands.append(field.fourier_coefficients(min(2 * self.k_max, field.n_modes)))
        return bands, margin


def combine(fields, weights):
    """Weighted sum of fields of one kind, as a trigonometric field."""
    n = max(field.n for field in fields)
    values = sum(weight * field.on_grid(n) for weight, field in zip(weights, fields, strict=True))
    return PeriodicField(values, fields[0].length)
