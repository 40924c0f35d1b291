"""The decision boundary u = 0 seen from an input: how far it is, in which direction, and the picture of lesson 3."""

from typing import NamedTuple

import numpy as np

import pde
from lessons._drawing import BLUE, GREEN, GREY, new_figure

__all__ = ["FINE", "Crossing", "crossing", "draw", "field_at_zero", "in_units"]

# Points per side of the grid on which the other class is sought.
FINE = 384


class Crossing(NamedTuple):
    """The way from an input to the other class, along the slope: down where u > 0, up where u < 0.

    `height` is u at the input; `steps` (m,) are lengths along `direction` (2,), of length 1, and `line` (m,) is u after
    each. `step` is the first that changes the sign, `distance` that to the nearest of FINE x FINE points of the other
    sign, around the torus; both are infinite if there is none.
    """

    height: float
    steps: np.ndarray
    line: np.ndarray
    direction: np.ndarray
    step: float
    distance: float


def field_at_zero(problem):
    """Return u(., 0) as a field, and the name of the method: paths where 128 points per side do not resolve it."""
    try:
        return pde.spectral.solve(problem, n=128, rtol=1e-6).field, "spectral"
    except pde.UnresolvedError:
        # Common noise for all points, so that the error is smooth in space; half a cell per step for a rough velocity.
        n_steps = 20 if problem.velocity.interpolation == "trigonometric" else 128
        options = {"scheme": "heun"} if problem.sigma else {}
        e = pde.feynman_kac.estimate(problem, pde.grid.points(64), 32, n_steps, 0, common_paths=True, **options)
        return pde.PeriodicField(e.mean, interpolation="bilinear"), "mean of 32 paths" if problem.sigma else "paths"


def crossing(u, point):
    """Find the other class along the slope, and everywhere, from a point (2,) on the torus of period 1."""
    height, slope = float(u(point)), u.jacobian(point)
    direction = -np.sign(height) * slope / max(np.linalg.norm(slope), np.finfo(float).tiny)
    steps = np.linspace(0, 0.5, 2001)
    line = u(point + steps[:, None] * direction)
    crossed = line * height < 0
    step = float(steps[crossed.argmax()]) if crossed.any() else np.inf
    offset = np.abs(pde.grid.points(FINE) - point)
    far = np.linalg.norm(np.minimum(offset, 1 - offset), axis=-1)
    return Crossing(height, steps, line, direction, step, float(far[u.on_grid(FINE) * height < 0].min(initial=np.inf)))


def in_units(problem, c):
    """Return the same problem with lengths in a unit c times as small: sigma, v and the period grow by the factor c."""
    length = c * problem.length
    velocity = pde.PeriodicField(c * problem.velocity.values, length, problem.velocity.interpolation)
    terminal = pde.PeriodicField(problem.terminal.values, length, problem.terminal.interpolation)
    return pde.ConvectionDiffusion(velocity, terminal, sigma=c * problem.sigma, horizon=problem.horizon, length=length)


def draw(u, point, way, bound, title):
    """Draw the map with its boundary and the step, and u along the step and the least that `bound` allows."""
    figure, (left, right) = new_figure(2, width=9.6, height=4.2)
    side, values = np.arange(FINE + 1) / FINE, u.on_grid(FINE)
    closed = np.pad(values, ((0, 1), (0, 1)), mode="wrap").T
    # Purple to orange, distinguishable with every kind of colour blindness; between grid points |f| exceeds 1 a little.
    shades = left.contourf(side, side, np.clip(closed, -1, 1), levels=np.linspace(-1, 1, 21), cmap="PuOr")
    if values.min() < 0 < values.max():
        left.contour(side, side, closed, levels=[0], colors="black", linewidths=1.2)
    left.plot(*point, "o", mfc="white", mec="black", ms=6)
    if np.isfinite(way.step):
        # Cut off by the frame where the step leaves the square.
        style = {"length_includes_head": True, "width": 0.004, "head_width": 0.02, "color": "black", "zorder": 2.5}
        left.arrow(*point, *(way.step * way.direction), **style)
    left.set(xlabel="x", ylabel="y", aspect="equal", xlim=(0, 1), ylim=(0, 1), title=title)
    figure.colorbar(shades, ax=left, ticks=np.linspace(-1, 1, 5), label="u")
    shown = way.steps <= (max(2 * way.step, 0.05) if np.isfinite(way.step) else 0.5)
    s, toward = way.steps[shown], np.sign(way.height) * way.line[shown]
    right.plot(s, toward, color=BLUE, label="u along the arrow; < 0: other class")
    last = min(s[-1], (abs(way.height) - min(toward.min(), 0)) / bound)
    least = [abs(way.height), abs(way.height) - bound * last]
    right.plot([0, last], least, "--", color=GREEN, label="the least possible, |u| − B s")
    right.axhline(0, color=GREY)
    right.set(xlabel="step s", ylabel="u × (its sign at the input)")
    right.set_title(f"no step below |u| / B = {abs(way.height) / bound:.2g} crosses")
    right.legend()
    return figure
