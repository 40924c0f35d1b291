"""Where numbers are out of range, and what a user may do where the spectral solution is not resolved."""

import math

import numpy as np

from pde.spectral._reaction import LARGEST_GROWTH

# Points per side out of reach.
_ABSURD = 2**16
# Largest norm of the generator times T for which products mean anything.
_LARGEST = 1e15
# Longest time, of which the square is still a number.
_LONGEST = 1e150
# Tolerances below are lost in rounding.
_LEAST_RTOL = 1e-13


def out_of_range(problem, speed, k_max, reaction):
    """Why the numbers leave the range of floating point, or that of its accuracy; "" if they do not."""
    k = 2 * math.pi / problem.length * k_max
    size = speed * k * problem.horizon + problem.nu * k**2 * problem.horizon + (reaction.strength if reaction else 0.0)
    # Of T alone: where velocities are as small as 1 / T their squares vanish.
    if not size < _LARGEST or not 1 / _LONGEST <= problem.horizon <= _LONGEST:
        named = ", or max |c| T," if reaction and reaction.strength else ""
        return (
            f"T, max |v| T / length or sigma sqrt(T) / length{named} is out of range; choose units of length and time "
            "in which these are near 1"
        )
    if reaction and not reaction.growth <= LARGEST_GROWTH:
        return (
            f"u may grow by exp(max c T), max c T = {reaction.growth:.3g}, beyond the range of the numbers; c less a "
            "constant c_0 divides u by exp(c_0 T)"
        )
    return ""


def in_time(march, method, error, tolerance):
    """What would make the error in time smaller."""
    if method == "ifrk4":
        return f"shorten dt below {march.problem.horizon / march.n_steps:.3g}"
    # Half of what it should be, as the estimate is in proportion to rtol.
    wanted = 0.5 * march.rtol * tolerance / error if error > 0 else 0.0
    return f"choose rtol <= {wanted:.1g}" if wanted >= _LEAST_RTOL else "choose a larger resolution"


def remedy(problem, n):
    """How to resolve the solution, by the width sqrt(nu / max |grad v|) of its boundary layers."""
    if problem.nu == 0:
        return "sigma = 0 has no smallest scale: follow the characteristics with pde.feynman_kac.estimate"
    times = [problem.horizon * (j + 0.5) / (problem.n_layers or 8) for j in range(problem.n_layers or 8)]
    with np.errstate(over="ignore", invalid="ignore"):
        steepest = max(problem.velocity_field(t, n).jacobian_sup_norm() for t in times)
    if not math.isfinite(steepest) or not math.isfinite(problem.nu):
        return "choose units of length and time in which sigma and v are near 1"
    width = min(math.sqrt(problem.nu / steepest), problem.length) if steepest else problem.length
    # Two points per layer width.
    wanted = max(8, 2 ** math.ceil(math.log2(2 * problem.length / width)))
    if wanted > _ABSURD:
        return (
            f"boundary layers of width sqrt(nu / max |grad v|) = {width:.2g} are beyond any grid: use "
            "pde.feynman_kac.estimate"
        )
    if wanted <= n:
        return f"boundary layers of width {width:.2g} need no more than n = {wanted}: try n = {2 * n}"
    return (
        f"boundary layers of width sqrt(nu / max |grad v|) = {width:.2g} need n >= {wanted}: raise n, or use "
        "pde.feynman_kac.estimate"
    )
