"""Independent paths for every point, to a prescribed error."""

import math

import numpy as np

from pde.feynman_kac._estimate import estimate
from pde.feynman_kac._moments import student_variance
from pde.feynman_kac._result import Solution
from pde.feynman_kac._shared_paths import SharedMeans
from pde.feynman_kac._tails import HIDDEN
from pde.feynman_kac._time_steps import TimeSteps


def independent(problem, points, route, n):
    """Independent antithetic paths, with the steps of the route, and paths for the rest of the error."""
    target = route.stderr**2 - route.bias**2
    scheme = "heun" if route.means.order == 2 else "euler"
    options = {"scheme": scheme, "antithetic": True, "n": n}
    # Its steps are as short as single precision needs them.
    if isinstance(route.means, SharedMeans):
        options["dtype"] = "float32"
    seeds = route.rng.spawn(64)
    n_paths = 2 * route.tails.enough(HIDDEN * route.stderr, 32)
    problem = route.in_time.problem_of(TimeSteps(problem, route.n_steps))
    for seed in seeds:
        route.afford(n_paths * len(route.starts) * route.n_steps, 1)
        e = estimate(problem, points, n_paths, route.n_steps, seed, **options)
        # A variance of few pairs decides when to stop: a low one would stop too early.
        widened = student_variance(e.n_samples)
        variance = widened * np.mean(e.stderr**2)
        if not variance > target:
            break
        n_paths = 2 * math.ceil(min(64.0, 1.05 * variance / target) * n_paths / 2)
    hidden = route.tails.hidden(n_paths // 2).reshape(e.mean.shape)
    error = np.hypot(math.sqrt(widened) * e.stderr, hidden)
    return Solution(e.mean, error, route.bias, f"independent-{scheme}", n_paths, route.n_steps, n_paths // 2)
