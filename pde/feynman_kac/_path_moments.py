"""Moments of what a path brings, by a coarse recursion backward in time: rare paths may bring most of the mean.

Z(t) = exp(c dt) Z(t + dt) + g dt,  Z(T) = f
m_k(x, t) = E Z(t)**k = sum_j binom(k, j) (g dt)**j exp((k - j) c dt) E m_(k-j)(x + v dt + sigma dB, t + dt)
"""

import math

import numpy as np

from pde import grid
from pde.feynman_kac import _arguments

# Steps, points per side, and how many of the steps are looked at to say whether the recursion is needed.
_N_STEPS, _N, _N_SEEN = 48, 128, 9
# Weights of all paths within this factor, and sources whose range is so many deviations, hide nothing.
_ORDINARY_LOG, _ORDINARY_RANGE = 2.0, 7.0
# Its exponential is still a number.
_LARGEST_LOG = 700.0


def is_extreme(problem, n):
    """Whether a potential or a source is so uneven that few paths may bring most of the mean."""
    low, high = _arguments.integral_range(problem, "potential", n)
    if high - low > _ORDINARY_LOG:
        return True
    if problem.source is None:
        return False
    times = (np.arange(_N_SEEN) + 0.5) * (problem.horizon / _N_SEEN)
    values = np.stack([_on_grid(problem, "source", float(t), _N) for t in times])
    return bool(np.ptp(values) > _ORDINARY_RANGE * values.std())


def path_moments(problem, n, count=4):
    """The first moments of Z / (s exp(a)) at t = 0 on a grid, (count, n, n), the size s of data and source, and a."""
    # It takes long to import.
    from scipy.ndimage import map_coordinates

    m, dt = min(max(_N, problem.n or 0), 2 * _N), problem.horizon / _N_STEPS
    f = problem.terminal_on_grid(m)
    top = max(0.0, _arguments.integral_range(problem, "potential", n)[1])
    low, high = _arguments.integral_range(problem, "source", n)
    size = max(float(np.abs(f).max()), abs(low), abs(high))
    if size == 0:
        return np.zeros((count, m, m)), 0.0, 0.0
    moments = np.stack([np.ones_like(f), *((f / size) ** k for k in range(1, count + 1))])
    x = grid.points(m, problem.length)
    k = np.fft.fftfreq(m, 1 / m)
    for step in reversed(range(_N_STEPS)):
        t = (step + 0.5) * dt
        sigma = math.sqrt(np.mean(np.square(problem.sigma_at(x, t))))
        damped = np.exp(-0.5 * dt * (sigma * 2 * np.pi / problem.length * k) ** 2)
        spread = np.fft.irfft2(np.fft.rfft2(moments[1:]) * (damped[:, None] * damped[: m // 2 + 1]), s=(m, m))
        v = problem.velocity_at(x, t) if problem.velocity_is_of_points else problem.velocity_field(t, n)(x)
        ends = np.moveaxis((x + dt * v) * (m / problem.length), -1, 0)
        moved = [moments[0], *(map_coordinates(part, ends, order=1, mode="grid-wrap") for part in spread)]
        # Less the largest weight, so that the fourth power of the others is all that may vanish.
        weight = np.exp(dt * _on_grid(problem, "potential", t, m) - top / _N_STEPS)
        g = dt / size * _on_grid(problem, "source", t, m) * math.exp(-top * (_N_STEPS - step) / _N_STEPS)
        moments = np.stack(
            [
                sum(math.comb(k, j) * g**j * weight ** (k - j) * moved[k - j] for j in range(k + 1))
                for k in range(count + 1)
            ]
        )
    return moments[1:], size, min(top, _LARGEST_LOG)


def _on_grid(problem, name, t, m):
    if problem.scalar_is_of_points(name):
        return problem.scalar_field(name, t, m).values
    field = problem.scalar_field(name, t)
    return 0.0 if field is None else field.on_grid(m)
