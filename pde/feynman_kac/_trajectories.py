"""Positions of paths at chosen times, from the compiled loop."""

import math
from functools import partial

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._general_paths import GeneralPaths, Ways
from pde.feynman_kac._paths import SCHEMES
from pde.feynman_kac._random import key_from
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import CHARACTERISTIC_TOLERANCE, VELOCITY_TOLERANCE


def paths(problem, points, n_paths, save_at, rng=0, *, n_steps=1000, scheme="euler", antithetic=False, n=None):
    """Return the positions of paths from points at given times.

    dX = v(X, t) dt + sigma dB,  X_0 = x

    Parameters
    ----------
    problem : ConvectionDiffusion
        Without diffusion there is one path per point, the characteristic.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int
        Number of paths per point, >= 1; even with antithetic.
    save_at : array_like of shape (n_times,)
        Times, increasing, from 0 to the horizon.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator, default=0
        Seed. With the steps of `estimate` the paths are the same as well.
    n_steps : int, default=1000
        Number of steps from 0 to the horizon; steps end at the times saved and where a layer ends.

    Other Parameters
    ----------------
    scheme : {"euler", "heun"}
        As for `estimate`.
    antithetic : bool, default=False
        Paths 2 i and 2 i + 1 have opposite increments.
    n : int, optional
        Points per side on which callables of x are sampled at each step, as for `estimate`.

    Returns
    -------
    ndarray of shape (n_times, ..., n_paths, 2)
        Positions in the plane, not reduced to one period: paths are continuous in pictures.

    Raises
    ------
    ValueError
        If an argument is out of range, save_at is not increasing or leaves [0, T], or a step may cross half a period.

    Examples
    --------
    >>> import pde
    >>> problem = pde.problems.constant_velocity()
    >>> paths(problem, [[0.1, 0.2], [0.5, 0.3]], 100, [0.0, 0.5, 1.0], n_steps=10).shape
    (3, 2, 100, 2)
    """
    antithetic = bool(antithetic)
    points, starts = _arguments.places(problem, points)
    n_paths, n_steps = _arguments.counts(n_paths, n_steps, points, antithetic=antithetic)
    if checks.one_of("scheme", scheme, SCHEMES) == "heun":
        _arguments.refuse_varying_sigma(problem, "scheme='heun'")
    times = checks.finite_array("save_at", save_at)
    if times.ndim != 1 or not (np.diff(times) > 0).all() or not ((times >= 0) & (times <= problem.horizon)).all():
        raise ValueError(f"save_at must be increasing times from 0 to {problem.horizon:g}, of shape (n_times,)")
    noiseless = _arguments.is_noiseless(problem)
    n_paths = 1 if noiseless else n_paths
    steps = TimeSteps(problem, n_steps, times)
    loop = GeneralPaths(problem, steps, n, tolerance=CHARACTERISTIC_TOLERANCE if noiseless else VELOCITY_TOLERANCE)
    ways = Ways(antithetic=int(antithetic), heun=scheme == "heun")
    state, key = loop.start(starts, n_paths), key_from(rng)
    out = np.empty((len(times), len(starts), n_paths, 2))
    # The loop wraps positions; a step moves by less than half a period, so this can be undone step by step.
    place = np.stack(state[:2], axis=-1)
    position = np.broadcast_to(points.reshape(-1, 1, 2) / problem.length, place.shape).copy()
    kept = _keep(out, position, steps.ends, 0, 0)
    for done in loop.advance_singly(state, ways, key, partial(_refuse_a_long_step, steps)):
        here = np.stack(state[:2], axis=-1)
        position += (here - place + 0.5) % 1.0 - 0.5
        place, kept = here, _keep(out, position, steps.ends, done, kept)
    out *= problem.length
    return out.reshape(len(times), *points.shape[:-1], n_paths, 2)


def _keep(out, position, ends, step, kept):
    """Write the position after `step` steps to all times that it belongs to; return how many times are written."""
    while kept < len(ends) and ends[kept] == step:
        out[kept] = position
        kept += 1
    return kept


def _refuse_a_long_step(steps, step, speed, noise):
    """Raise a ValueError if a step may cross half a period, so that wrapping could not be undone."""
    dt = steps.dt[step]
    if not (reach := speed * dt + noise) <= 0.5:
        # speed s**2 + noise / sqrt(dt) s = 1 / 2 for s the root of a step.
        rate = noise / math.sqrt(dt)
        root = 1 / (rate + math.sqrt(rate**2 + 2 * speed))
        raise ValueError(
            f"n_steps must be >= {math.ceil(1.001 * steps.n_steps * dt / root**2)}: a step may cross half a period, "
            f"beyond which it cannot be followed; that at t = {steps.t[step]:.3g} may cross {reach:.3g}, got "
            f"n_steps={steps.n_steps}"
        )
