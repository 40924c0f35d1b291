"""The gradient of u by Monte Carlo: by Bismut, Elworthy and Li without a derivative of f, or path by path."""

import math

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments, _spline_tables
from pde.feynman_kac._general_paths import Ways, moments_of
from pde.feynman_kac._kernels_general import advance_jacobian, terminal_slopes
from pde.feynman_kac._level_paths import level_key
from pde.feynman_kac._moments import Moments, refuse_unless_finite, standard_error
from pde.feynman_kac._random import key_from
from pde.feynman_kac._result import GradientEstimate
from pde.feynman_kac._sobol import LARGEST_DIMENSION, ScrambledPaths
from pde.feynman_kac._tails import Tails
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables
from pde.feynman_kac.quasi import bridge_order
from pde.fields import PeriodicField

METHODS = ("bismut", "pathwise")
# Particles advanced together: memory does not grow with the number of paths.
_BATCH = 2**18
_N_SCRAMBLES = 32
# Paths per point of the pilot that estimates what to subtract from f, and the size up to which a callable f is sampled.
_PILOT_PATHS, _LARGEST = 64, 512
# Of the pilot that chooses the window: candidates, points, paths in all. The variance is flat near its least value and
# heavy-tailed beyond: the shortest window within a tenth of it.
_N_WINDOWS, _WINDOW_POINTS, _WINDOW_PATHS, _FLAT = 32, 64, 2048, 1.1
_NOT_GIVEN = np.empty((0, 2, 0))


def gradient(
    problem,
    points,
    method="bismut",
    n_paths=4096,
    n_steps=256,
    rng=0,
    *,
    window=None,
    antithetic=True,
    sobol=False,
    scheme="euler",
    n=None,
):
    """Estimate the gradient of u(x, 0) = E[f(X_T) | X_0 = x] at points.

    bismut:    grad u = E[(f(X_T) - b) (sigma tau)**-1 integral_0^tau J^T dB],  J' = grad v(X, t) J,  J_0 = I
    pathwise:  grad u = E[J_T^T grad f(X_T)]

    The first needs no derivative of f, which may jump; b, a rough u(x, 0) from paths of its own, takes off variance
    and no mean. For Euler-Maruyama it is exact for the discrete path. The weight's variance grows as exp(2 lambda tau)
    with lambda the rate at which the flow stretches, and as 1 / tau for short windows; docs/gradients.md has the
    variance of a path against sigma and T.

    Parameters
    ----------
    problem : ConvectionDiffusion
        With one constant sigma; > 0 for "bismut".
    points : array_like of shape (..., 2)
        Starting points.
    method : {"bismut", "pathwise"}
        Which formula.
    n_paths : int, default=4096
        Number of paths per point, >= 2; even with antithetic; 32 times a power of two with sobol.
    n_steps : int, default=256
        Number of steps per path, at least one per layer of the velocity, which steps end on.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. The result depends on it alone, not on the number of threads.
    window : float, optional
        tau, in (0, T], rounded to a step; by default the one of least variance among 32, by a pilot of other paths.
        For "bismut".
    antithetic : bool, default=True
        Paths in pairs with opposite increments; not with sobol.
    sobol : bool, default=False
        32 scrambles of Sobol points along Brownian bridges, shared by all starting points.

    Other Parameters
    ----------------
    scheme : {"euler", "heun"}
        "heun", of weak order 2, for "pathwise" alone.
    n : int, optional
        Points per side on which callables of x are sampled at each step, as for `estimate`.

    Returns
    -------
    GradientEstimate
        `mean` and `stderr` of shape (..., 2).

    Raises
    ------
    ValueError
        If an argument is out of range, an option does not go with the method, the problem has a potential, a source,
        several terminal data or a sigma that is not one constant (for "bismut", one of which positions show each
        step), or f is not smooth enough for "pathwise": a callable that 512 points per side do not resolve.
    FloatingPointError
        If the result or its standard error is not finite.

    Warns
    -----
    RuntimeWarning
        If the samples may have missed large values of the terminal data, whose share stderr does not show.

    References
    ----------
    .. [1] Elworthy & Li 1994, Formulae for the derivatives of heat semigroups, J. Funct. Anal. 125.
    .. [2] Fournie et al. 1999, Applications of Malliavin calculus to Monte Carlo methods in finance.

    Examples
    --------
    >>> import numpy as np, pde
    >>> problem = pde.problems.constant_velocity(k=(1, 0), sigma=0.3)
    >>> g = gradient(problem, [0.1, 0.2], n_paths=20000, n_steps=8)
    >>> h = 1e-5
    >>> slope = (problem.exact([0.1 + h, 0.2]) - problem.exact([0.1 - h, 0.2])) / (2 * h)
    >>> bool(abs(g.mean[0] - slope) < 5 * g.stderr[0])
    True
    """
    points, starts = _arguments.places(problem, points)
    antithetic = bool(antithetic) and not sobol
    n_paths, n_steps = _arguments.counts(n_paths, n_steps, points, fewest_paths=2, antithetic=antithetic)
    bismut = checks.one_of("method", method, METHODS) == "bismut"
    checks.one_of("scheme", scheme, ("euler", "heun"))
    problem.refuse("gradient")
    if bismut:
        _arguments.needs_visible_noise(problem, n_steps)
        if scheme == "heun":
            raise ValueError("scheme='heun' does not go with method='bismut', whose formula is that of Euler-Maruyama")
    if window is not None:
        window = checks.real("window", window, positive=True)
        if not bismut or window > problem.horizon:
            raise ValueError(f"window must lie in (0, {problem.horizon:g}] and is for method='bismut', got {window:g}")
    loop = _Loop(problem, n_steps, n, bismut, window, scheme == "heun")
    if sobol:
        samples = _scrambled(loop, starts, n_paths, _arguments.random_numbers(rng))
    else:
        samples = _drawn(loop, starts, n_paths, antithetic, key_from(rng))
    mean, stderr, n_samples = samples
    mean, stderr = mean / loop.unit, stderr / loop.unit
    refuse_unless_finite(mean, stderr, n_samples)
    tails = Tails(problem, starts, loop.velocity.n)
    # A change of f over the distance that the noise goes is one of the gradient.
    tails.warn(stderr.T, n_paths, per=max(tails.reach, np.finfo(float).tiny))
    shape = *points.shape[:-1], 2
    return GradientEstimate(mean.T.reshape(shape), stderr.T.reshape(shape), n_paths, n_steps, loop.window, n_samples)


class _Loop:
    """Samples of the gradient along paths of one problem."""

    def __init__(self, problem, n_steps, n, bismut, window, heun):
        self.problem, self.bismut, self.heun = problem, bismut, heun
        self.steps = TimeSteps(problem, n_steps)
        self.velocity = VelocityTables(problem, n)
        # f is taken times this: the formulas are linear in f, and variances are not to underflow.
        self.unit = _arguments.unit_of(problem, self.velocity.n)
        # None: to be chosen.
        self.n_window = None
        if bismut and window is not None:
            self.n_window = max(1, int(np.argmin(np.abs(self.steps.t - window))))
        elif not bismut:
            self.n_window = 0
            self.table = _spline_tables.make_table(_smooth_terminal(problem), 1.0, tolerance=1e-8)

    @property
    def window(self):
        """tau, or T for "pathwise"."""
        return float(self.steps.t[self.n_window]) if self.bismut else self.problem.horizon

    def choose_window(self, starts, key):
        """Set the window by a pilot, if none was given: that of the least mean of (f - b)**2 |W|**2 / tau**2."""
        if self.n_window is None and not len(starts):
            self.n_window = self.steps.n_steps
        if self.n_window is not None:
            return
        n_steps = self.steps.n_steps
        stops = np.unique(np.round(np.geomspace(1, n_steps, _N_WINDOWS)).astype(int))
        chosen = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), _WINDOW_POINTS)).astype(int))
        n_paths = max(_PILOT_PATHS, _WINDOW_PATHS // len(chosen))
        x, y, _, weights = self._run(starts[chosen], n_paths, Ways(), key, n_steps, stops)
        f = self._terminal(x, y)
        f -= f.mean(axis=1, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = ((f * weights) ** 2).sum(axis=1).mean(axis=(1, 2)) / self.steps.t[stops] ** 2
        squares = np.where(np.isfinite(squares), squares, np.inf)
        self.n_window = int(stops[np.argmax(squares <= _FLAT * squares.min())])

    def _run(self, starts, n_paths, ways, key, n_window, stops, given=None):
        """Paths to T: positions x, y (n_points, n_paths), J, and the weight W (n_stops, 2, ...) after the stops.

        Along drawn increments or given ones (n_steps, 2, n_paths); the weight is that of the first n_window steps.
        """
        problem = self.problem
        x, y = (np.repeat(starts[:, i, None], n_paths, axis=1) for i in (0, 1))
        jacobian = np.zeros((2, 2, *x.shape))
        jacobian[0, 0], jacobian[1, 1] = 1.0, 1.0
        weight, weights = np.zeros((2, *x.shape)), []
        for piece in self.velocity.pieces(self.steps, 2 if self.heun else 1):
            layers = piece.layers if self.heun else np.repeat(piece.layers, 2, axis=1)
            last = piece.first + len(layers)
            ends = [stop for stop in stops if piece.first < stop < last] + [last]
            for begin, end in zip([piece.first, *ends], ends, strict=False):
                chosen = slice(begin, end)
                tables = piece.tables, layers[begin - piece.first : end - piece.first], *self.velocity.size
                dts = self.steps.dt[chosen]
                scales = np.full(len(dts), problem.sigma / problem.length)
                scales = scales if given is not None else scales * np.sqrt(dts)
                increments = _NOT_GIVEN if given is None else given[chosen]
                counters, left = self.steps.counters[chosen], max(0, n_window - begin)
                advance_jacobian(
                    x, y, jacobian, weight, tables, dts, scales, counters, increments, left, tuple(ways), key
                )
                if end in stops:
                    weights.append(weight.copy())
        return x, y, jacobian, np.array(weights)

    def samples(self, starts, n_paths, ways, key, baseline, given=None):
        """Samples (2, n_points, n_paths) along drawn increments or given ones (n_steps, 2, n_paths)."""
        problem = self.problem
        x, y, jacobian, weights = self._run(starts, n_paths, ways, key, self.n_window, (self.steps.n_steps,), given)
        if self.bismut:
            values = self._terminal(x, y) - baseline[:, None]
            return values * weights[0] * (problem.length / (problem.sigma**2 * self.window))
        values, slopes = np.empty_like(x), np.empty((2, *x.shape))
        terminal_slopes(x, y, self.table.coefficients, self.table.degree, self.table.n, values, slopes)
        return np.einsum("abpm,apm->bpm", jacobian, slopes * self.unit) / problem.length

    def _terminal(self, x, y):
        """f at positions x, y, in periods, times the unit."""
        return self.velocity.terminal.values(x, y) * self.unit

    def baseline(self, starts, key):
        """A rough u at the starting points, from other paths than those of the samples."""
        if not self.bismut:
            return np.zeros(len(starts))
        x, y, *_ = self._run(starts, _PILOT_PATHS, Ways(antithetic=1), key, 0, ())
        return self._terminal(x, y).mean(axis=1)


def _drawn(loop, starts, n_paths, antithetic, key):
    """Means and standard errors (2, n_points) over drawn paths, and the number of samples."""
    loop.choose_window(starts, level_key(key, 1))
    baseline = loop.baseline(starts, level_key(key, 0))
    paths = min(n_paths, _BATCH)
    block = max(1, _BATCH // paths)
    mean, stderr = np.empty((2, 2, len(starts)))
    for point in range(0, len(starts), block):
        here = slice(point, point + block)
        moments = Moments(*np.zeros((2, 2, len(starts[here]))))
        for first in range(0, n_paths, paths):
            ways = Ways(first_path=first, first_point=point, antithetic=int(antithetic), heun=loop.heun)
            count = min(paths, n_paths - first)
            samples = loop.samples(starts[here], count, ways, key, baseline[here])
            moments.merge(*moments_of(samples, antithetic))
        mean[:, here], stderr[:, here] = moments.mean, moments.stderr
    return mean, stderr, n_paths // (1 + antithetic)


def _scrambled(loop, starts, n_paths, rng):
    """The same over scrambled Sobol paths."""
    per_scramble, rest = divmod(n_paths, _N_SCRAMBLES)
    n_steps = loop.steps.n_steps
    if rest or per_scramble & (per_scramble - 1) or not per_scramble:
        raise ValueError(f"n_paths must be {_N_SCRAMBLES} times a power of two with sobol=True, got n_paths={n_paths}")
    if 2 * n_steps > LARGEST_DIMENSION:
        raise ValueError(f"n_steps must be <= {LARGEST_DIMENSION // 2} for Sobol points, got n_steps={n_steps}")
    key = key_from(rng)
    loop.choose_window(starts, level_key(key, 1))
    baseline = loop.baseline(starts, level_key(key, 0))
    order, weights = bridge_order(n_steps, loop.steps.dt / loop.problem.horizon * n_steps)
    sequences = ScrambledPaths(rng, _N_SCRAMBLES, n_steps, order, weights)
    batch = min(per_scramble, max(1, 2 ** int(math.log2(2**22 // (2 * n_steps * _N_SCRAMBLES) + 1))))
    means = np.zeros((2, len(starts), _N_SCRAMBLES))
    for _ in range(per_scramble // batch):
        given = sequences.increments(batch) * math.sqrt(loop.problem.horizon)
        block = max(1, _BATCH // given.shape[-1])
        for point in range(0, len(starts), block):
            here = slice(point, point + block)
            ways = Ways(heun=loop.heun)
            samples = loop.samples(starts[here], given.shape[-1], ways, key, baseline[here], given)
            means[:, here] += samples.reshape(2, -1, _N_SCRAMBLES, batch).mean(axis=-1) * (batch / per_scramble)
    return means.mean(axis=-1), standard_error(means, axis=-1), _N_SCRAMBLES


def _smooth_terminal(problem):
    """The terminal data as a field; a ValueError for a callable that a grid does not resolve."""
    if isinstance(problem.terminal, PeriodicField):
        return problem.terminal
    tried = np.random.default_rng(0).random((4096, 2)) * problem.length
    values = problem.terminal_at(tried)
    for size in (64, 128, 256, _LARGEST):
        field = PeriodicField(problem.terminal_on_grid(size), problem.length, "bicubic")
        if np.abs(field(tried) - values).max() <= 1e-6 * np.abs(values).max():
            return field
    raise ValueError(
        f"method='pathwise' needs terminal data with a gradient: {_LARGEST} points per side do not resolve terminal, "
        "which jumps or is very steep; method='bismut' needs no gradient"
    )
