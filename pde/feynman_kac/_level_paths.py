"""Samples of one level of multilevel Monte Carlo, and the steps of the coarsest."""

import math
import warnings

import numpy as np

from pde import checks
from pde._histories import steps_in_time
from pde.equation import admit
from pde.feynman_kac import _arguments
from pde.feynman_kac._general_paths import GeneralPaths, Ways
from pde.feynman_kac._kernels_coupled import ALONE, COARSE, advance_pair
from pde.feynman_kac._random import checked_key
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables

# Largest number of steps of the coarsest level for a steep velocity; `base` may be larger.
_COARSEST_LIMIT = 1024


def level_key(key, level):
    """Return the generator's key of a level, so that levels are independent.

    Parameters
    ----------
    key : ndarray of shape (2,)
        As from `key_from`.
    level : int
        0 for the coarsest.

    Returns
    -------
    ndarray of shape (2,)

    Raises
    ------
    ValueError
        If key is not two words, or level < 0.
    """
    key, level = checked_key(key), checks.integer("level", level, at_least=0)
    return np.random.SeedSequence([*key.tolist(), level]).generate_state(2, np.uint32).astype(np.uint64)


def level_samples(problem, starts, n_steps, n_paths, key, *, coupled, first_point=0, first_path=0):
    """Draw samples of one level: f(X^l) - f(X^(l-1)), or f(X^0).

    Parameters
    ----------
    problem : ConvectionDiffusion
        Without potential and source, and with one sigma.
    starts : ndarray of shape (n_points, 2)
        Starting points.
    n_steps : int
        Number of steps of the fine paths; even if coupled.
    n_paths : int
        Number of samples per point.
    key : ndarray of shape (2,)
        As from `level_key`.
    coupled : bool
        Take off the value of the path of half as many steps.
    first_point, first_path : int, default=0
        Counters of the first point and path.

    Returns
    -------
    ndarray of shape (n_points, n_paths)

    Raises
    ------
    ValueError
        If the problem has a potential, a source, several terminal data or a sigma that is not one constant, an argument
        is out of range, or n_steps is odd for coupled samples.
    """
    admit(problem).refuse("level_samples")
    starts = checks.points_array(starts).reshape(-1, 2)
    n_paths = checks.integer("n_paths", n_paths, at_least=1)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    if coupled and n_steps % 2:
        raise ValueError(f"n_steps must be even with coupled=True, got n_steps={n_steps}")
    steps = TimeSteps(problem, n_steps // 2).refined(problem) if coupled else TimeSteps(problem, n_steps)
    counters = tuple(
        checks.integer(name, value, at_least=0)
        for name, value in (("first_path", first_path), ("first_point", first_point))
    )
    key = checked_key(key)
    starts = np.mod(starts / problem.length, 1.0)
    fine, coarse = _pair(VelocityTables(problem), steps, starts, n_paths, key, coupled, counters)
    return fine if coarse is None else fine - coarse


def _pair(velocity, steps, starts, n_paths, key, coupled, counters):
    """f at the ends of the fine and of the coarse paths, each (n_points, n_paths); None without coarse ones."""
    problem = velocity.problem
    x, y = (np.repeat(starts[:, i, None], n_paths, axis=1) for i in (0, 1))
    cx, cy = (x.copy(), y.copy()) if coupled else (x, y)
    second = COARSE if coupled else ALONE
    for piece in velocity.pieces(steps):
        tables = piece.tables, piece.layers[:, 0], *velocity.size
        scale = problem.sigma * math.sqrt(piece.dt) / problem.length
        advance_pair(x, y, cx, cy, *tables, piece.dt, scale, piece.counter, *counters, second, key)
    terminal = velocity.terminal
    return terminal.values(x, y), terminal.values(cx, cy) if coupled else None


class LevelPaths:
    """Paths of all levels of a problem: level l has `base` 2**l steps."""

    def __init__(self, problem, n, base, in_time):
        self.problem, self.n, self.in_time = problem, n, in_time
        self.base = TimeSteps(problem, base)
        self.velocity = VelocityTables(problem, n)
        self._general = {}

    def samples(self, level, starts, n_paths, key, first_point, first_path):
        """Fine samples of a level and coarse ones (None at level 0), (n_points, n_paths), from starts in periods."""
        if level not in self._general:
            self._general[level] = self._general_paths(level)
        if self._general[level] is None:
            counters = first_path, first_point
            return _pair(self.velocity, self.steps(level), starts, n_paths, key, level > 0, counters)
        ways = Ways(first_path=first_path, first_point=first_point)
        fine, coarse = self._general[level]
        values = fine.samples(starts, n_paths, ways, key)[0]
        return values, coarse.samples(starts, n_paths, ways._replace(n_sub=2), key)[0] if level else None

    def steps(self, level):
        """The steps of a level."""
        return self.base.refined(self.problem, 2**level)

    def _general_paths(self, level):
        """Fine and coarse paths by the general loop; None where the fast one will do."""
        steps, below = self.steps(level), self.steps(level - 1) if level else None
        problems = [self.in_time.problem_of(each) if each else None for each in (steps, below)]
        # A step with means in time reads other values than the two that it consists of.
        if _arguments.is_plain(self.problem) and all(each in (None, self.problem) for each in problems):
            return None
        coarse = level and GeneralPaths(problems[1], below, self.n, counters=steps.counters[::2])
        return GeneralPaths(problems[0], steps, self.n), coarse or None


def coarsest_steps(in_time, n, base=None):
    """Number of steps of the coarsest level, `base` or chosen; with a warning if they alias callables in time.

    By default three per time 1 / max |grad v|, in which neighbouring paths part, at least 4, and as many as resolve
    the callables, rounded up to a multiple of the number of layers.
    """
    problem, read = in_time.problem, in_time.histories
    n_layers = problem.n_layers or 1
    if base is None:
        steepest = _arguments.steepness(problem, n)
        base = min(max(4, math.ceil(3 * problem.horizon * steepest)), _COARSEST_LIMIT)
        base, seen = steps_in_time(problem, base, _COARSEST_LIMIT, read)
        base = n_layers * -(-base // n_layers)
    else:
        base = checks.integer("base", base, at_least=1)
        _, seen = steps_in_time(problem, base, 1, read)
    if not seen:
        warnings.warn(
            f"the velocity, potential or source varies in time within the {base} steps of the coarsest level, which "
            "alias it, as finer levels may: the bias may be underestimated; raise base",
            RuntimeWarning,
            stacklevel=3,
        )
    return base
