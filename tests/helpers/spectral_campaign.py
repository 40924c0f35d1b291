"""Random problems with a reference solution that shares nothing with the spectral solver.

Constant velocities: u = f * Gaussian, in closed form. Every datum is a sum of products p(x) q(y) (steps, triangles,
fronts, |sin|, cosines) or bilinear noise; a step, a triangle and the hat of a bilinear field convolved with a Gaussian
are differences of erf and its integral. Drifts (a(x), b(y)): u = p(x, T) q(y, T), each factor from the matrix
exponential of the one-dimensional generator on cosines, for even data and odd drifts about a random centre. Other
velocities: `plane_campaign`.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import plane_campaign
import scipy.linalg
from scipy.special import erf

import pde


class Case(NamedTuple):
    """A problem, how it is solved, its exact solution on the grid of n, and max |f|."""

    name: str
    problem: pde.ConvectionDiffusion
    n: int
    options: dict
    exact: np.ndarray
    sup_f: float
    exact_error: float = 0.0


# One dimension, period 1: each datum is (function, its convolution with a Gaussian of standard deviation s)


def _ramp(z, s):
    """The convolution of max(z, 0) with the Gaussian."""
    if s == 0:
        return np.maximum(z, 0.0)
    return z * (1 + erf(z / (s * math.sqrt(2)))) / 2 + s / math.sqrt(2 * math.pi) * np.exp(-(z**2) / (2 * s**2))


def _heaviside(z, s):
    return np.where(z >= 0, 1.0, 0.0) if s == 0 else (1 + erf(z / (s * math.sqrt(2)))) / 2


def _by_series(c, x, s, sine=False):
    m = np.arange(len(c))
    wave = np.sin if sine else np.cos
    return wave(2 * np.pi * np.multiply.outer(x, m)) @ (c * np.exp(-2 * (np.pi * m * s) ** 2))


def step_series(width, n_modes):
    """Cosine coefficients of 1 for |x| < width."""
    m = np.arange(1, n_modes)
    return np.concatenate([[2 * width], 2 * np.sin(2 * np.pi * m * width) / (np.pi * m)])


def triangle_series(n_modes):
    """Cosine coefficients of 1 - 4 |x|, |x| <= 1/2."""
    m = np.arange(1, n_modes)
    return np.concatenate([[0.0], np.where(m % 2, 8 / (np.pi * m) ** 2, 0.0)])


def abs_sin_series(n_modes):
    """Cosine coefficients of |cos(pi x)|."""
    m = np.arange(1, n_modes)
    return np.concatenate([[2 / np.pi], -4 / np.pi * (-1.0) ** m / (4.0 * m**2 - 1)])


def front_series(steepness, n_modes):
    """Cosine coefficients of tanh(steepness cos(2 pi x)), by a quadrature that converges exponentially."""
    n = 8192
    values = np.tanh(steepness * np.cos(2 * np.pi * np.arange(n) / n))
    c = np.fft.rfft(values).real / n
    return np.concatenate([c[:1], 2 * c[1:n_modes]])


class Factor(NamedTuple):
    """p(x): its values, and its cosine coefficients."""

    name: str
    values: object
    series: object


def draw_factor(rng):
    """An even function of period 1, |p| <= 1."""
    kind = rng.choice(["step", "triangle", "abs_sin", "front", "cosine", "one"], p=[0.3, 0.1, 0.15, 0.15, 0.15, 0.15])
    if kind == "step":
        width = rng.uniform(0.1, 0.4)
        return Factor(kind, lambda x: np.where(np.abs(np.mod(x + 0.5, 1) - 0.5) < width, 1.0, 0.0),
                      lambda m: step_series(width, m))  # fmt: skip
    if kind == "triangle":
        return Factor(kind, lambda x: 1 - 4 * np.abs(np.mod(x + 0.5, 1) - 0.5), triangle_series)
    if kind == "abs_sin":
        return Factor(kind, lambda x: np.abs(np.cos(np.pi * x)), abs_sin_series)
    if kind == "front":
        steepness = 10 ** rng.uniform(0.3, 1.5)
        return Factor(kind, lambda x: np.tanh(steepness * np.cos(2 * np.pi * x)), lambda m: front_series(steepness, m))
    mode = int(rng.integers(1, 6)) if kind == "cosine" else 0
    return Factor(kind, lambda x: np.cos(2 * np.pi * mode * x), lambda m: np.eye(1, m, mode)[0])


def heat(factor, x, s):
    """p convolved with a Gaussian of standard deviation s, in units of the period."""
    if factor.name == "step" and s < 0.02:
        # The width from the mean; images beyond the neighbouring cells do not matter.
        width, x = factor.series(1)[0] / 2, np.mod(x + 0.5, 1) - 0.5
        return sum(_heaviside(x + j + width, s) - _heaviside(x + j - width, s) for j in (-1, 0, 1))
    if factor.name == "triangle" and s < 0.02:
        # From -1 at x = -3/2 with slope 4, a kink of -8 at each integer and of 8 half-way between.
        x = np.mod(x + 0.5, 1) - 0.5
        kinks = sum((-8 if place % 1 == 0 else 8) * _ramp(x - place, s) for place in (-1.0, -0.5, 0.0, 0.5, 1.0))
        return -1 + 4 * (x + 1.5) + kinks
    if factor.name == "abs_sin" and s < 1e-2:
        # A kink of slope 2 pi at 1/2 on a smooth function: by many modes, which fall like m**-2 exp(-2 (pi m s)**2).
        return _by_series(factor.series(20001), x, s)
    return _by_series(factor.series(min(2001, max(60, int(8 / (2 * np.pi * max(s, 1e-9)) + 60)))), x, s)


# One dimension with a drift


def drift_matrix(a, nu, n_modes):
    """w -> a(x) w' + nu w'' on cosines 0 .. n_modes - 1; a(x) = sum_j a[j] sin(2 pi j x), in periods per time."""
    m = np.arange(n_modes)
    matrix = np.diag(-nu * (2 * np.pi * m) ** 2)
    for j in np.flatnonzero(a):
        strength = 2 * np.pi * m * a[j] / 2
        for sign, shift in ((-1.0, -j), (1.0, j)):
            rows = np.abs(m + shift)
            inside = rows < n_modes
            np.add.at(matrix, (rows[inside], m[inside]), sign * strength[inside])
    return matrix


def drifted(factor, x, layers, nu, horizon, n_modes):
    """p(x, T) for layers of drift, the last layer crossed first."""
    w = factor.series(n_modes)
    for a in layers[::-1]:
        w = scipy.linalg.expm(drift_matrix(a, nu, n_modes) * (horizon / len(layers))) @ w
    return _by_series(w, x, 0.0)


# Cases


def draw(rng, largest=8):
    """A random case with n from 8 to 2**largest; the other ranges are those of docs/error-account.md."""
    if rng.random() < 0.2:
        return Case(*plane_campaign.draw(rng, largest))
    length, n = 10 ** rng.uniform(-1, 2), round(2 ** rng.uniform(3, largest))
    spread, horizon, rtol = 10 ** rng.uniform(-3, 3), 10 ** rng.uniform(-2, 6), 10 ** rng.uniform(-10, -4)
    drift = rng.random() < 0.5
    if drift:
        spread, n = max(spread, 0.03), min(n, 128)
    sigma = spread * length / math.sqrt(horizon)
    base = {"sigma": sigma, "horizon": horizon, "length": length}
    make = _with_drift if drift else _with_constant_velocity
    return make(rng, n, spread, base, {"rtol": rtol})


def _with_constant_velocity(rng, n, spread, base, options):
    length, horizon = base["length"], base["horizon"]
    centre = rng.random(2)
    kind = rng.choice(["steady", "layers", "callable"], p=[0.5, 0.25, 0.25])
    c = rng.uniform(-1, 1, (int(rng.integers(2, 5)) if kind == "layers" else 1, 2)) * 10 ** rng.uniform(-2, 1)
    shift = c.mean(axis=0)
    unit = length / horizon
    if kind == "callable":
        # The mean of 1 + cos(w t / T) over [0, T].
        w = rng.uniform(0, 12)
        shift = c[0] * (1 + (math.sin(w) / w if w else 1.0))
        velocity = lambda x, t: c[0] * unit * (1 + math.cos(w * t / horizon)) + 0 * x  # noqa: E731
    else:
        velocity = np.broadcast_to(c[:, :, None, None] * unit, (len(c), 2, 4, 4))
    grid = np.arange(n) / n
    x, y = grid + shift[0] - centre[0], grid + shift[1] - centre[1]
    if rng.random() < 0.3:
        m = int(rng.integers(4, 24))
        values = rng.uniform(-1, 1, (m, m))
        terminal = pde.PeriodicField(values, length, "bilinear")
        exact = _hats(grid + shift[0], m, spread) @ values @ _hats(grid + shift[1], m, spread).T
        name, sup_f = "bilinear", np.abs(values).max()
    else:
        p, q = draw_factor(rng), draw_factor(rng)
        terminal = lambda z: p.values(z[..., 0] / length - centre[0]) * q.values(z[..., 1] / length - centre[1])  # noqa: E731
        exact = np.multiply.outer(heat(p, x, spread), heat(q, y, spread))
        name, sup_f = f"{p.name} {q.name}", 1.0
    if rng.random() < 0.15:
        # Within the limit of stability, 2.8 / (|v| k).
        options = {"method": "ifrk4", "dt": horizon / (int(rng.integers(20, 200)) + 3 * n * np.abs(c).max())}
    return Case(f"{kind}, {name}", _problem(velocity, terminal, base), n, options, exact, sup_f)


def _hats(x, m, s):
    """Row i: the hats of width 1 / m about j / m, convolved with the Gaussian, at x_i."""
    if s > 0.05:
        k = np.arange(1, int(8 / (2 * np.pi * s)) + 3)
        weights = 2 * np.sinc(k / m) ** 2 * np.exp(-2 * (np.pi * k * s) ** 2) / m
        z = x[:, None] - np.arange(m) / m
        return 1 / m + np.cos(2 * np.pi * z[..., None] * k) @ weights
    z = np.mod(x[:, None] - np.arange(m) / m + 0.5, 1) - 0.5
    hat = lambda z: (_ramp(z + 1 / m, s) - 2 * _ramp(z, s) + _ramp(z - 1 / m, s)) * m  # noqa: E731
    return sum(hat(z + j) for j in (-1, 0, 1))


def _with_drift(rng, n, spread, base, options):
    length, unit = base["length"], base["length"] / base["horizon"]
    centre, kind = rng.random(2), rng.choice(["steady", "layers", "callable", "bilinear", "rough callable"])
    size = 10 ** rng.uniform(-2, 1 if spread >= 1 else min(1.0, 0.5 + math.log10(spread) + 0.7))
    n_layers = int(rng.integers(2, 4)) if kind == "layers" else 1
    n_sines = 96 if "rough" in kind or kind == "bilinear" else 3
    layers = []
    for _ in range(n_layers):
        pair = np.zeros((2, n_sines + 1))
        if kind == "rough callable":
            # A triangle wave: sin coefficients 8 / pi**2 (-1)**l / (2 l + 1)**2.
            odd = np.arange(1, n_sines + 1, 2)
            pair[:, odd] = 8 / np.pi**2 * (-1.0) ** (odd // 2) / odd**2 * rng.uniform(-1, 1, (2, 1))
        elif kind == "bilinear":
            nodes = np.sin(2 * np.pi * np.arange(8) / 8)
            j = np.arange(1, n_sines + 1)
            # Odd data on 8 nodes: the transform of the nodes times sinc**2.
            nodes_hat = np.where(j % 8 == 1, 1.0, np.where(j % 8 == 7, -1.0, 0.0))
            pair[:, 1:] = nodes_hat * np.sinc(j / 8) ** 2 * rng.uniform(-1, 1, (2, 1))
            strengths = pair[:, 1] / np.sinc(1 / 8) ** 2
            centre = np.round(centre * 8) / 8
        else:
            pair[:, 1:4] = rng.uniform(-1, 1, (2, 3)) / np.arange(1, 4)
        layers.append(size * pair)
    nu = spread**2 / 2
    if kind == "bilinear":
        nodes = [np.roll(nodes, round(shift * 8)) * size * unit for shift in centre]
        values = np.stack(
            [strengths[0] * np.outer(nodes[0], np.ones(8)), strengths[1] * np.outer(np.ones(8), nodes[1])]
        )
        velocity = pde.PeriodicField(values, length, "bilinear")
    elif "callable" in kind:
        velocity = _drift_callable(layers[0], kind, centre, length, unit, size)
    else:
        z = np.arange(16) / 16
        values = []
        for pair in layers:
            parts = [_by_series(a, z - shift, 0.0, sine=True) * unit for a, shift in zip(pair, centre, strict=True)]
            values.append([np.outer(parts[0], np.ones(16)), np.outer(np.ones(16), parts[1])])
        velocity = np.array(values)
    p, q = draw_factor(rng), draw_factor(rng)
    n_modes = 48 if spread >= 1 else min(400, int(160 + 6 / spread))
    grid = np.arange(n) / n
    ends = [
        drifted(factor, grid - shift, [pair[axis] for pair in layers], nu, 1.0, n_modes)
        for axis, (factor, shift) in enumerate(zip((p, q), centre, strict=True))
    ]
    terminal = lambda z: p.values(z[..., 0] / length - centre[0]) * q.values(z[..., 1] / length - centre[1])  # noqa: E731
    name = f"drift, {kind}, {p.name} {q.name}"
    return Case(name, _problem(velocity, terminal, base), n, options, np.multiply.outer(*ends), 1.0)


def _drift_callable(pair, kind, centre, length, unit, size):
    strengths = pair[:, 1] * np.pi**2 / 8

    def velocity(x, t):
        z = x / length - centre
        if kind == "rough callable":
            # The triangle wave of slope 4 through 0.
            return unit * strengths * (1 - 4 * np.abs(np.mod(z - 0.25 + 0.5, 1) - 0.5)) + 0 * t
        parts = [_by_series(a, z[..., axis], 0.0, sine=True) for axis, a in enumerate(pair)]
        return unit * np.stack(parts, axis=-1)

    return velocity


def _problem(velocity, terminal, base):
    with warnings.catch_warnings():
        # A step may stand at the edge of the cell.
        warnings.simplefilter("ignore", UserWarning)
        return pde.ConvectionDiffusion(velocity, terminal, **base)


class Outcome(NamedTuple):
    """What a case came to."""

    case: Case
    resolved: bool
    estimate: float
    error: float

    @property
    def is_dishonest(self):
        """An answer whose error exceeds 2 estimates + 1e-12 max |f|."""
        allowed = 2 * self.estimate + 1e-12 * self.case.sup_f + 2 * self.case.exact_error
        return self.resolved and not self.error <= allowed

    @property
    def is_timid(self):
        """A refusal whose error was a tenth of `resolution` = 1e-3 or less."""
        return not self.resolved and self.error <= 1e-4 * self.case.sup_f


def run(case):
    """Solve a case."""
    s = pde.spectral.solve(case.problem, case.n, check=False, **case.options)
    return Outcome(case, s.resolved, s.error_estimate, float(np.abs(s.u - case.exact).max()))
