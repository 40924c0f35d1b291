"""Advice for a spectral solution that is not resolved."""

import math

import numpy as np

# Points per side out of reach.
_ABSURD = 2**16


def remedy(problem, n):
    """How to resolve the solution, by the width sqrt(nu / max |grad v|) of its boundary layers."""
    if problem.nu == 0:
        return "sigma = 0 has no smallest scale: follow the characteristics with pde.feynman_kac.estimate"
    times = [problem.horizon * (j + 0.5) / (problem.n_layers or 8) for j in range(problem.n_layers or 8)]
    with np.errstate(over="ignore", invalid="ignore"):
        steepest = max(problem.velocity_field(t, n).jacobian_sup_norm() for t in times)
    if not math.isfinite(steepest) or not math.isfinite(problem.nu):
        return "choose units of length and time in which sigma and v are near 1"
    width = math.sqrt(problem.nu / steepest) if steepest else problem.length
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
