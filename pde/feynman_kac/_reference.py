"""Paths along given increments in plain NumPy, the reference of the compiled loops, and the increments of those."""

import numpy as np

from pde import checks
from pde.equation import admit
from pde.feynman_kac import _arguments
from pde.feynman_kac._increments import increments_of
from pde.feynman_kac._time_steps import TimeSteps, runs_of


def brownian_increments(
    rng, n_steps, n_paths, dt, *, point=0, antithetic=False, increments="gaussian", dtype="float64"
):
    """Return the increments that the compiled path loops use for one starting point.

    increments[k, p] ~ N(0, dt_k I), or +-sqrt(dt_k) in each component,  k-th step of path p

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        As given to `estimate`.
    n_steps : int
        Number of steps.
    n_paths : int
        Number of paths.
    dt : float or array_like of shape (n_steps,)
        Size of each step, as from `time_steps` where layers do not divide the steps.
    point : int, default=0
        Index of the starting point in the flattened points; 0 for common paths.
    antithetic : bool, default=False
        Paths 2 i and 2 i + 1 have opposite increments.
    increments : {"gaussian", "two-point"}
        Their law.
    dtype : {"float64", "float32"}
        Precision of the loop: the two loops draw different numbers.

    Returns
    -------
    ndarray of shape (n_steps, n_paths, 2)

    Raises
    ------
    ValueError
        If rng is not a seed, a number is out of range, dt has another shape, or increments or dtype is unknown.
    """
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    n_paths, point = checks.integer("n_paths", n_paths, at_least=1), checks.integer("point", point, at_least=0)
    sizes = _sizes(dt, n_steps)
    runs = runs_of(sizes)
    last = runs[-1]
    options = {"point": point, "antithetic": bool(antithetic), "increments": increments, "dtype": dtype}
    if len(runs) == 1:
        return increments_of(rng, n_steps, n_paths, float(sizes[0]), **options)
    drawn = increments_of(rng, last.counter + last.count, n_paths, 1.0, **options)
    places = np.concatenate([run.counter + np.arange(run.count) for run in runs])
    return drawn[places] * np.sqrt(sizes)[:, None, None]


def _sizes(dt, n_steps):
    sizes = checks.finite_array("dt", dt)
    if sizes.shape not in ((), (n_steps,)):
        raise ValueError(f"dt must be a number or have shape ({n_steps},), one per step, got {sizes.shape}")
    if not (sizes > 0).all():
        raise ValueError("dt must be > 0")
    return np.broadcast_to(sizes, (n_steps,))


def euler_maruyama(problem, points, increments, *, dt=None):
    """Follow Euler-Maruyama paths along given Brownian increments, in plain NumPy: the reference of the compiled loop.

    X_(k+1) = X_k + v(X_k, t_k) dt_k + sigma dB_k,  t_(k+1) = t_k + dt_k

    Parameters
    ----------
    problem : ConvectionDiffusion
        Fields are evaluated by their own rule, exactly; callables at points of the cell.
    points : array_like of shape (..., 2)
        Starting points.
    increments : array_like of shape (n_steps, ..., 2)
        dB_k, of variance dt_k; the shapes of increments[0] and points are broadcast.
    dt : float or array_like of shape (n_steps,), optional
        Sizes of the steps, with sum T; by default those of `time_steps`.

    Returns
    -------
    ndarray of shape (..., 2)
        X_T, not reduced to one period.

    Raises
    ------
    ValueError
        If points, increments or dt has another shape or is not finite, dt does not sum to T, or a layer of the velocity
        has no step.
    """
    return _follow(problem, points, increments, dt, heun=False)


def stochastic_heun(problem, points, increments, *, dt=None):
    """Follow paths of the stochastic Heun method along given increments, in plain NumPy: the reference of that loop.

    Y = X_k + v(X_k, t_k) dt_k + sigma dB_k,  X_(k+1) = X_k + (v(X_k, t_k) + v(Y, t_(k+1))) dt_k / 2 + sigma dB_k

    Parameters
    ----------
    problem : ConvectionDiffusion
        Fields are evaluated by their own rule, exactly; within a step the layer of a velocity piecewise constant in
        time does not change.
    points : array_like of shape (..., 2)
        Starting points.
    increments : array_like of shape (n_steps, ..., 2)
        dB_k, of variance dt_k; the shapes of increments[0] and points are broadcast.
    dt : float or array_like of shape (n_steps,), optional
        Sizes of the steps, with sum T; by default those of `time_steps`.

    Returns
    -------
    ndarray of shape (..., 2)
        X_T, not reduced to one period.

    Raises
    ------
    ValueError
        If points, increments or dt has another shape or is not finite, dt does not sum to T, or a layer of the velocity
        has no step, or sigma depends on x.
    """
    return _follow(problem, points, increments, dt, heun=True)


def _follow(problem, points, increments, dt, heun):
    problem, points = admit(problem), checks.points_array(points)
    if heun:
        _arguments.refuse_varying_sigma(problem, "stochastic_heun")
    increments = checks.finite_array("increments", increments)
    if increments.ndim < 2 or increments.shape[-1] != 2 or not len(increments):
        raise ValueError(f"increments must have shape (n_steps, ..., 2), got {increments.shape}")
    sizes = TimeSteps(problem, len(increments)).dt if dt is None else _sizes(dt, len(increments))
    ends = np.cumsum(sizes)
    if abs(ends[-1] - problem.horizon) > 1e-9 * problem.horizon:
        raise ValueError(f"dt must sum to the horizon {problem.horizon:g}, got {ends[-1]:g}")
    begins = ends - sizes

    def velocity(x, k, t):
        if problem.n_layers is None:
            return problem.velocity_at(x, min(t, problem.horizon))
        return problem.layer_field(problem.layer(begins[k] + sizes[k] / 2))(x)

    def sigma(x, k):
        layer = problem.layer(begins[k] + sizes[k] / 2) if problem.n_layers else 0
        value = problem.sigma_layer(layer)
        return value(x)[..., None] if _arguments.is_field(value) else value

    x = np.broadcast_to(points, np.broadcast_shapes(points.shape, increments.shape[1:]))
    for k, increment in enumerate(increments):
        noise = sigma(x, k) * increment
        v = velocity(x, k, begins[k])
        if heun:
            v = (v + velocity(x + v * sizes[k] + noise, k, ends[k])) / 2
        x = x + v * sizes[k] + noise
    return x
