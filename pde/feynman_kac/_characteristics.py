"""Characteristics to a prescribed error, and the steps that `solve_to` begins with."""

import math

import numpy as np

from pde._histories import steps_in_time
from pde.feynman_kac import _arguments
from pde.feynman_kac._estimate import estimate
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._levels import NotConvergedError
from pde.feynman_kac._moments import root_mean_square
from pde.feynman_kac._response import Response
from pde.feynman_kac._result import Solution
from pde.feynman_kac._time_steps import TimeSteps

# Largest number of the first steps for a steep velocity, and for one that varies fast in time.
_STEEPEST, _FASTEST = 256, 1024
_FEWEST = 8
# Largest number of steps for the sake of a callable that jumps in time, and a share of the error not worth an estimate.
_MOST, _IGNORED = 2**17, 0.05


def characteristics(problem, points, stderr, n, max_cost):
    """Runge-Kutta characteristics with doubled steps, until two agree to the error requested.

    Two may agree by accident on a callable that jumps: what they make of its integral over time counts as well.
    """
    n_layers, in_time = problem.n_layers or 1, InTime(problem, "simpson")
    response = Response(problem, _arguments.places(problem, points)[1], n, in_time)
    n_steps = n_layers * math.ceil(resolving(in_time, n, _FEWEST * n_layers) / n_layers)
    response.refuse_beyond(stderr / 2)
    before, extra = None, 0.0

    def u(n_steps):
        steps = TimeSteps(problem, n_steps)
        return estimate(in_time.problem_of(steps), points, 1, n_steps, n=n).mean

    while True:
        if in_time:
            coarse, fine = (TimeSteps(problem, m) for m in (n_steps, 2 * n_steps))
            unseen = in_time.unseen(fine, coarse, fine, 1.0)
            extra = response(unseen, _IGNORED * stderr)
            if extra > stderr / 2:
                if n_steps > _MOST:
                    raise NotConvergedError(f"{n_steps} steps leave an error of {extra:.2g}: {in_time.remedy()}")
                n_steps, before = 2 * n_steps, None
                continue
        if n_steps * points.size > max_cost:
            raise NotConvergedError(f"{n_steps} steps cost more than max_cost={max_cost:.2g}: choose a larger stderr")
        before = u(n_steps) if before is None else before
        n_steps *= 2
        mean = u(n_steps)
        # Order 4 leaves a fifteenth of the difference; where f or v is rough, up to all of it.
        gap = root_mean_square(mean - before)
        if gap + extra <= stderr:
            return Solution(mean, np.zeros_like(mean), gap + extra, "characteristics", 1, n_steps, 1)
        before = mean


def resolving(in_time, n, fewest):
    """Steps that resolve callables in time, of 4 / max |grad v| at most: longer ones may agree by accident."""
    problem = in_time.problem
    n_steps = max(fewest, min(problem.horizon * _arguments.steepness(problem, n) / 4, _STEEPEST))
    return steps_in_time(problem, math.ceil(n_steps), _FASTEST, in_time.histories)[0]
