"""Events in time that the nodes of a step pass by: a velocity at some points, read at many irregular times."""

import math

import numpy as np

from pde import _histories
from pde.spectral._state import MOST_PRODUCTS

# Of the largest value: rounding.
_ROUNDING = 1e-12
# Times at which a velocity of points is read beside the nodes, per step and at least, and one whose values are whole
# fields.
_TIMES, _FEW_TIMES = (16, 4096), (8, 1024)


class Events:
    """What a callable velocity does beside the nodes of a step, seen at n_times irregular times, one in each part."""

    def __init__(self, problem, n_times):
        self._read, self.horizon = _histories.velocity_reader(problem), problem.horizon
        self._times, self._each = _histories.irregular_times(problem.horizon, n_times), problem.horizon / n_times
        self._largest = 0.0

    def missed(self, begin, end, *nodes):
        """Distances moved in begin <= t < end beside what polynomials through v at nodes, arrays of times, make of it.

        One number for each array of nodes.
        """
        first, last = np.searchsorted(self._times, (begin, end))
        if first == last:
            return [0.0] * len(nodes)
        values = self._values(self._times[first:last])
        distinct, places = np.unique(np.concatenate(nodes), return_inverse=True)
        at_nodes, scale = self._values(distinct), end - begin
        x, y = (self._times[first:last] - begin) / scale, (distinct - begin) / scale
        each = np.split(places, np.cumsum([len(part) for part in nodes])[:-1])
        return [self._rest(values, x, at_nodes[part], y[part]) * self._each for part in each]

    def _values(self, times):
        # Copies: a callable may return one array again and again, with other values.
        values = np.stack([self._read(min(max(float(t), 0.0), self.horizon)).flatten() for t in times])
        self._largest = max(self._largest, float(np.abs(values).max()))
        return values

    def _rest(self, values, x, at_nodes, nodes):
        """Sum over the times x of what values differ by from the polynomial through those at the nodes."""
        # Lagrange's polynomials.
        apart = nodes[:, None] - nodes + np.identity(len(nodes))
        factors = (x[:, None, None] - nodes) / apart
        factors[:, np.arange(len(nodes)), np.arange(len(nodes))] = 1.0
        rest = np.abs(values - factors.prod(axis=-1) @ at_nodes)
        rest[rest < _ROUNDING * self._largest] = 0.0
        return float(rest.sum(axis=0).max())


def events_of_steps(problem, steps):
    """The `Events` of a march in steps of these lengths, one for each piece of the way."""
    each, least = _TIMES if problem.velocity_is_of_points else _FEW_TIMES
    # Pieces of dt and more halve it at most. Shorter ones need no denser times, and steps that no march reaches none.
    dt = min(step for step in steps if step >= 0.499 * max(steps))
    n_steps = min(problem.horizon / dt, MOST_PRODUCTS)
    return Events(problem, max(least, math.ceil(each * n_steps)))
