"""Convection-diffusion problems: Figure 4, and those whose solution is known in closed form."""

import numbers
from functools import partial

import numpy as np

from pde import checks, grid, random_fields
from pde._closed_forms import (
    crossed_waves,
    decaying_product,
    doob_solution,
    doob_velocity,
    least_for_pole,
    least_for_wave,
    moving_wave,
    points_that_hold,
)
from pde.equation import ConvectionDiffusion

__all__ = [
    "constant_velocity",
    "crossed_shears",
    "doob",
    "eigenfunction",
    "figure4",
    "fourier_mode",
]

VELOCITIES = ("grid-noise", "band-limited", "divergence-free")


def figure4(seed: int = 0, n: int = 128, sigma: float = 0.01, velocity: str = "grid-noise") -> ConvectionDiffusion:
    """Return the problem of the paper's Figure 4: unit square, T = 1, random velocity and terminal data.

    Parameters
    ----------
    seed : int, default=0
        Seed of the velocity and the terminal datum (two independent streams).
    n : int, default=128
        Points per side.
    sigma : float, default=0.01
        Diffusion coefficient.
    velocity : {"grid-noise", "band-limited", "divergence-free"}
        The paper's velocity (independent uniform numbers on each grid point, bilinear between them), or a smooth one
        of the same kind, resolved by the grid.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If velocity is unknown or another argument is out of range.
    """
    checks.one_of("velocity", velocity, VELOCITIES)
    draw = getattr(random_fields, velocity.replace("-", "_"))
    v_rng, f_rng = np.random.default_rng(checks.integer("seed", seed, at_least=0)).spawn(2)
    return ConvectionDiffusion(draw(n, v_rng), random_fields.terminal_datum(n, f_rng), sigma=sigma)


def fourier_mode(
    k=(1, 2), *, sigma: float = 0.2, n: int = 16, horizon: float = 1.0, length: float = 1.0
) -> ConvectionDiffusion:
    """Return the problem without velocity whose terminal datum is one Fourier mode.

    u(x, t) = exp(-nu |q|**2 (T - t)) cos(q . x),  q = 2 pi k / length

    Parameters
    ----------
    k : pair of int
        Mode.
    sigma : float, default=0.2
        Diffusion coefficient.
    n : int, default=16
        Points per side, > 2 max |k_i|.
    horizon, length : float, default=1.0
        T, and the period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    return constant_velocity((0.0, 0.0), k, sigma=sigma, n=n, horizon=horizon, length=length)


def constant_velocity(
    velocity=(0.7, -0.4), k=(1, 2), *, sigma: float = 0.2, n: int = 16, horizon: float = 1.0, length: float = 1.0
) -> ConvectionDiffusion:
    """Return the problem with a constant velocity c; Euler-Maruyama is exact in law for it.

    u(x, t) = exp(-nu |q|**2 (T - t)) cos(q . (x + c (T - t))),  q = 2 pi k / length

    Parameters
    ----------
    velocity : pair of float
        c.
    k : pair of int
        Mode of the terminal datum.
    sigma : float, default=0.2
        Diffusion coefficient.
    n : int, default=16
        Points per side, > 2 max |k_i|.
    horizon, length : float, default=1.0
        T, and the period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    c, k = _pair("velocity", velocity), _pair("k", k)
    if (k % 1).any():
        raise ValueError(f"k must be a pair of integers, got k={tuple(k.tolist())}")
    n, sigma, horizon, length = _checked(n, 2 * int(np.abs(k).max()) + 1, sigma, horizon, length)
    q = 2 * np.pi * k / length
    nu = sigma**2 / 2

    solution = partial(moving_wave, c=c, q=q, nu=nu, horizon=horizon)
    values = np.broadcast_to(c[:, None, None], (2, n, n))
    return _with_solution(values, n, solution, sigma, horizon, length)


def crossed_shears(
    amplitudes=(0.4, -0.3), *, n: int = 64, horizon: float = 1.0, length: float = 1.0
) -> ConvectionDiffusion:
    """Return two crossed shears, one after the other, without diffusion: a wrong direction of time shows.

    v = (A sin(q y), 0) for t < T / 2, then (0, B sin(q x)),  q = 2 pi / length
    u(x, 0) = f(x + A s T / 2, y + B sin(q (x + A s T / 2)) T / 2),  s = sin(q y),  f = cos(q x) + sin(2 q y)

    Parameters
    ----------
    amplitudes : pair of float
        A and B, in length / time.
    n : int, default=64
        Points per side, >= 5.
    horizon, length : float, default=1.0
        T, and the period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    a, b = _pair("amplitudes", amplitudes)
    n, _, horizon, length = _checked(n, 5, 0.0, horizon, length)
    q = 2 * np.pi / length

    solution = partial(crossed_waves, a=a, b=b, q=q, horizon=horizon)
    x, y = np.moveaxis(grid.points(n, length), -1, 0)
    layers = np.stack([[a * np.sin(q * y), 0 * x], [0 * x, b * np.sin(q * x)]])
    return _with_solution(layers, n, solution, 0.0, horizon, length)


def eigenfunction(
    shape=(0.05, -0.03), *, sigma: float = 0.4, n: int | None = None, horizon: float = 1.0, length: float = 1.0
) -> ConvectionDiffusion:
    """Return a steady velocity for which the terminal datum is an eigenfunction of the generator.

    f = phi_b(x) phi_d(y),  phi_b(x) = sin(q x) + b sin(3 q x),  q = 2 pi / length,  (b, d) = shape
    u(x, t) = exp(-(lambda_b + lambda_d) (T - t)) f(x),  lambda_b = nu q**2 (1 - 9 b) / (1 - b)

    The velocity (a_b(x), a_d(y)) solves a phi' + nu phi'' = -lambda phi; the zeros of phi' cancel, so that

    a_b(x) = 4 b (9 nu q**2 - lambda_b) sin(q x) cos(q x) / (q (1 + 3 b (1 - 4 sin(q x)**2)))

    Parameters
    ----------
    shape : pair of float, default=(0.05, -0.03)
        b and d, each of absolute value < 1/9 so that the denominator has no zero.
    sigma : float, default=0.4
        Diffusion coefficient.
    n : int, optional
        Points per side, which hold the velocity to 1e-10 of its maximum: 61 for the default shape, ever more towards
        1/9. By default the least number, and at least 64.
    horizon, length : float, default=1.0
        T, and the period.

    Returns
    -------
    ConvectionDiffusion

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    shape = _pair("shape", shape)
    if not np.abs(shape).max() < 1 / 9:
        raise ValueError(f"shape must have two entries of absolute value < 1/9, got shape={tuple(shape.tolist())}")
    n = points_that_hold(n, max(map(least_for_pole, shape)), 64, f"shape={tuple(shape.tolist())}")
    n, sigma, horizon, length = _checked(n, 7, sigma, horizon, length)
    q, nu = 2 * np.pi / length, sigma**2 / 2
    rates = [nu * q**2 * (1 - 9 * b) / (1 - b) for b in shape]

    solution = partial(decaying_product, shape=shape, q=q, rate=sum(rates), horizon=horizon)

    def component(x, b, rate):
        s, c = np.sin(q * x), np.cos(q * x)
        return 4 * b * (9 * nu * q**2 - rate) * s * c / (q * (1 + 3 * b * (1 - 4 * s**2)))

    x = np.moveaxis(grid.points(n, length), -1, 0)
    values = np.stack([component(x[i], b, rates[i]) for i, b in enumerate(shape)])
    return _with_solution(values, n, solution, sigma, horizon, length)


def doob(
    weight: float = 0.6, *, sigma: float = 0.5, n: int | None = None, horizon: float = 1.0, length: float = 1.0
) -> ConvectionDiffusion:
    """Return a problem with a velocity that varies in space and time, by Doob's h-transform of the heat equation.

    h_t + nu lap h = 0 and w_t + nu lap w = 0  imply  u = w / h solves the problem with v = 2 nu grad(h) / h:
    h = 1 + weight m(x + y) exp(-2 nu q**2 (T - t)),  w = cos(q x) sin(q y) exp(-2 nu q**2 (T - t)),
    m(z) = cos(q z),  q = 2 pi / length

    Parameters
    ----------
    weight : float, default=0.6
        Amplitude of the wave in h, of absolute value < 1 so that h > 0.
    sigma : float, default=0.5
        Diffusion coefficient.
    n : int, optional
        Points per side on which the terminal datum is sampled, which hold it to 1e-10: 48 for the default weight, ever
        more towards 1. By default the least number, and at least 48.
    horizon, length : float, default=1.0
        T, and the period.

    Returns
    -------
    ConvectionDiffusion
        Its velocity is a callable v(x, t).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if not isinstance(weight, numbers.Real) or not abs(weight) < 1:
        raise ValueError(f"weight must have absolute value < 1, got weight={weight}")
    n = points_that_hold(n, least_for_wave(weight), 48, f"weight={weight:g}")
    n, sigma, horizon, length = _checked(n, 3, sigma, horizon, length)
    q, nu = 2 * np.pi / length, sigma**2 / 2

    constants = {"weight": weight, "q": q, "nu": nu, "horizon": horizon}
    velocity, solution = partial(doob_velocity, **constants), partial(doob_solution, **constants)
    return _with_solution(velocity, n, solution, sigma, horizon, length)


def _checked(n, smallest, sigma, horizon, length):
    """The arguments that the closed forms share; a grid of the smallest n distinguishes the modes of f."""
    return (
        checks.integer("n", n, at_least=smallest),
        _squarable("sigma", sigma),
        checks.real("horizon", horizon, positive=True),
        checks.real("length", length, positive=True),
    )


def _squarable(name, value):
    if (value := checks.real(name, value, positive=False)) > 1e150:
        raise ValueError(f"{name} must be <= 1e150, so that its square does not overflow, got {name}={value:g}")
    return value


def _pair(name, values):
    pair = checks.finite_array(name, values)
    if pair.shape != (2,):
        raise ValueError(f"{name} must hold two numbers, got shape {pair.shape}")
    return pair


def _with_solution(velocity, n, solution, sigma, horizon, length):
    terminal = solution(grid.points(n, length), horizon)
    return ConvectionDiffusion(velocity, terminal, sigma=sigma, horizon=horizon, length=length, solution=solution)
