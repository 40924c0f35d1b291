"""How much u changes where paths are displaced: what turns a defect of steps in time into an error of u."""

import math

import numpy as np

from pde.feynman_kac import _arguments
from pde.feynman_kac._in_time import InTime
from pde.feynman_kac._levels import NotConvergedError
from pde.feynman_kac._moments import root_mean_square
from pde.feynman_kac._paths import Options, make_walk
from pde.feynman_kac._shards import Block
from pde.feynman_kac._shared_paths import make_means
from pde.feynman_kac._sobol import ScrambledPaths
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac.quasi import bridge_order
from pde.fields import PeriodicField

# Points, scrambles and paths of each, and steps with which u is followed: its slope is wanted, not its value.
_N_POINTS, _N_SCRAMBLES, _N_PATHS, _N_STEPS = 128, 32, 8, 16
# Displacements, at least so large beside the noise: paths that few points and paths show nothing of smaller ones.
_VISIBLE = 0.05
# Points per side between which f is compared at first.
_N_SLOPES = 64


class Response:
    """Changes of u at starts (n_points, 2), in periods, by what `InTime.unseen` returns."""

    def __init__(self, problem, starts, n, in_time):
        self.problem, self.n, self.in_time = problem, n, in_time
        places = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), _N_POINTS)).astype(int))
        self.starts = starts[places]
        self.size = max(map(abs, _arguments.terminal_range(problem, n)))
        self.growth = math.exp(min(max(in_time.largest("potential"), 0.0), 700.0))
        self._slope, self._turns, self._means, self._known = None, None, None, {}

    def __call__(self, unseen, ignored):
        """Root mean square over the points of the change of u; a bound of it where that is below `ignored`."""
        sizes = {name: self._size(rest) for name, rest in unseen.items()}
        change = self.growth * (sizes.get("potential", 0.0) * self.size + sizes.get("source", 0.0))
        shift = sizes.get("velocity", 0.0)
        bound = shift * self.growth * self._largest_slope()
        if bound > ignored:
            bound = min(bound, self.growth * self._of_a_shift(min(shift, self.problem.length / 2)))
        return change + bound

    def refuse_beyond(self, allowed):
        """Raise a NotConvergedError where callables vary too fast in time for any steps to be known as good enough."""
        if self.in_time and (change := self(self.in_time.uncertain(), allowed)) > allowed:
            raise NotConvergedError(
                f"the dependence on time is uncertain by {change:.2g} in u > {allowed:.2g}: {self.in_time.remedy()}"
            )

    def _size(self, rest):
        """A defect D as u feels it: grad u . D at the end, less the integral of D . d(grad u) along the path."""
        if self._turns is None:
            self._turns = 1 + self.problem.horizon * _arguments.steepness(self.problem, self.n)
        return rest.end + min(self._turns * rest.mean, rest.largest)

    def _largest_slope(self):
        """The largest difference quotient of f on a grid, which exceeds slopes after a smooth flow only by chance."""
        if self._slope is None:
            f = self.problem.terminal_on_grid(_N_SLOPES)
            rises = [np.abs(f - np.roll(f, 1, axis=axis)).max() for axis in (-1, -2)]
            self._slope = 4 * float(max(rises)) * _N_SLOPES / self.problem.length
        return self._slope

    def _of_a_shift(self, shift):
        """Largest change, root mean square over the points, by a shift of the beginning or of the end of paths."""
        length = self.problem.length
        if shift not in self._known:
            reach = 0.0
            if not _arguments.is_noiseless(self.problem):
                reach = _VISIBLE * _arguments.smallest_sigma(self.problem) * math.sqrt(self.problem.horizon)
            far = max(shift, min(reach, 0.05 * length))
            steps = far * np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
            moved = np.mod(self.starts + steps[:, None] / length, 1.0)
            base, *begun = np.split(self._u(self.problem, moved.reshape(-1, 2)), len(steps), axis=-1)
            ended = (self._u(_displaced(self.problem, step), self.starts) for step in steps[1:])
            largest = max(root_mean_square(each - base) for each in (*begun, *ended))
            self._known[shift] = largest * shift / far
        return self._known[shift]

    def _u(self, problem, starts):
        if _arguments.is_noiseless(problem):
            options = Options(
                common_paths=False, antithetic=False, scheme="euler", increments="gaussian", dtype="float64"
            )
            walk = make_walk(problem, max(_N_STEPS, problem.n_layers or 1), self.n, np.zeros(2, np.uint64), options)
            return walk.moments(starts, Block(0, len(starts), 0, 1))[1]
        if self._means is None:
            self._means = make_means(self.problem, self.n, 1e-3 * max(self.size, np.finfo(float).tiny))
            least, n_layers = max(_N_STEPS, self._means.fewest_steps), problem.n_layers or 1
            n_steps = n_layers * -(-least // n_layers)
            paths = ScrambledPaths(np.random.default_rng(0), _N_SCRAMBLES, n_steps, *bridge_order(n_steps))
            self._increments = paths.increments(_N_PATHS)
        means = self._means if problem is self.problem else self._means.with_terminal(problem)
        return means(starts, self._increments, self._increments.shape[-1])


def _displaced(problem, step):
    """The problem with terminal data f(x + step)."""
    return problem.with_terminal(lambda x: problem.terminal_at(x + step))


def unseen_bias(problem, starts, n, n_steps, rule, order):
    """What a difference from steps twice as long does not show of the bias, (k,) for k terminal data."""
    in_time = InTime(problem, rule, with_means=False)
    if not in_time:
        return np.zeros(problem.n_terminals or 1)
    coarse = TimeSteps(problem, n_steps // 2)
    fine = coarse.refined(problem)
    unseen = in_time.unseen(fine, coarse, fine, 1 / (2**order - 1))
    f, each = problem.terminal, [problem]
    if problem.n_terminals is not None:
        each = [problem.with_terminal(PeriodicField(values, f.length, f.interpolation)) for values in f.values]
    return np.array([Response(one, starts, n, in_time)(unseen, 0.0) for one in each])
