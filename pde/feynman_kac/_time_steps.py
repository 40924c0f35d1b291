"""Steps from 0 to T that end wherever a layer of the velocity ends, and at the times that a caller requests."""

from typing import NamedTuple

import numpy as np

from pde import checks
from pde.equation import admit

# A run's counter is a multiple of this: one call of the generator serves up to so many steps.
_ALIGNED = 64
# Two steps this close in size are of one size.
_SAME = 1e-11


class Run(NamedTuple):
    """Consecutive steps of one size: index of the first, number, size, and counter of the first for the generator."""

    first: int
    count: int
    dt: float
    counter: int


class TimeSteps:
    """n_steps steps from 0 to T; within a layer of the velocity, or between two stops, they are of one size.

    Attributes: `t` (n_steps + 1,) times, `dt` (n_steps,) sizes, `layers` (n_steps,) the velocity's layer in each step
    (None for a callable), `runs` of steps of one size, `ends` (n_stops,) indices in `t` of the stops.
    """

    def __init__(self, problem, n_steps, stops=()):
        n_layers = problem.n_layers or 1
        if n_steps < n_layers:
            raise ValueError(f"n_steps must be >= {n_layers}, one per layer of the velocity, got n_steps={n_steps}")
        wanted = np.asarray(stops, dtype=float) / problem.horizon
        # A stop that is the end of a layer up to rounding is that end.
        nearest = np.rint(wanted * n_layers) / n_layers
        wanted = np.where(np.abs(wanted - nearest) < 1e-9, nearest, wanted)
        edges = np.unique(np.concatenate([np.arange(n_layers + 1) / n_layers, wanted]))
        if n_steps < len(edges) - 1:
            raise ValueError(f"n_steps must be >= {len(edges) - 1}, one between two stops, got n_steps={n_steps}")
        self._edges, self._places = edges, _places(edges, n_steps)
        self._wanted = np.searchsorted(edges, wanted)
        self._fill(problem)

    def _fill(self, problem):
        edges, places, horizon = self._edges, self._places, problem.horizon
        counts = np.diff(places)
        sizes = np.diff(edges) * horizon / counts
        self.n_steps, self.ends = int(places[-1]), places[self._wanted]
        # Sizes that differ by rounding alone are made equal, so that the steps are one run.
        if np.ptp(sizes) <= _SAME * sizes.max():
            sizes[:] = horizon / self.n_steps
        self.dt = np.repeat(sizes, counts)
        begins = np.repeat(edges[:-1] * horizon, counts)
        self.t = np.append(begins + (np.arange(self.n_steps) - np.repeat(places[:-1], counts)) * self.dt, horizon)
        middles = (edges[:-1] + edges[1:]) / 2
        n_layers = problem.n_layers
        self.layers = None if n_layers is None else np.repeat((middles * n_layers).astype(np.int64), counts)
        self.runs = runs_of(self.dt)

    def refined(self, problem, factor=2):
        """The same steps, each cut into `factor` equal ones."""
        fine = object.__new__(TimeSteps)
        fine._edges, fine._places, fine._wanted = self._edges, self._places * factor, self._wanted
        fine._fill(problem)
        return fine

    @property
    def counters(self):
        """Counter of each step for the generator, shape (n_steps,)."""
        return np.concatenate([run.counter + np.arange(run.count) for run in self.runs])


def runs_of(dt):
    """The runs of equal steps in sizes dt of shape (n_steps,)."""
    breaks = np.flatnonzero(np.abs(np.diff(dt)) > _SAME * dt[1:]) + 1
    firsts = np.concatenate([[0], breaks])
    counts = np.diff(np.append(firsts, len(dt)))
    counters = np.concatenate([[0], np.cumsum(-(-counts[:-1] // _ALIGNED) * _ALIGNED)])
    columns = (firsts.tolist(), counts.tolist(), dt[firsts].tolist(), counters.tolist())
    return [Run(*row) for row in zip(*columns, strict=True)]


def time_steps(problem, n_steps):
    """Return the sizes of the steps that `estimate` takes: steps end where a layer of the velocity ends.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With n_t layers, each of them gets n_steps / n_t steps, rounded up or down.
    n_steps : int
        Number of steps, >= the number of layers.

    Returns
    -------
    ndarray of shape (n_steps,)
        dt_k, with sum T.

    Raises
    ------
    ValueError
        If n_steps is too small.

    Examples
    --------
    >>> import numpy as np, pde
    >>> layers = np.zeros((2, 2, 4, 4))
    >>> time_steps(pde.ConvectionDiffusion(layers, np.zeros((4, 4)), sigma=0.1), 3)
    array([0.25, 0.25, 0.5 ])
    """
    return TimeSteps(admit(problem), checks.integer("n_steps", n_steps, at_least=1)).dt


def _places(edges, n_steps):
    """Index of each edge among n_steps steps: proportional to time, with at least one step between two edges."""
    places = np.rint(edges * n_steps).astype(np.int64)
    for j in range(1, len(places)):
        places[j] = max(places[j], places[j - 1] + 1)
    places[-1] = n_steps
    for j in range(len(places) - 2, -1, -1):
        places[j] = min(places[j], places[j + 1] - 1)
    return places
