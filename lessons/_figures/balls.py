"""The pictures of lesson 6: certified balls about an input, and the radii of randomized smoothing from few draws."""

import numpy as np
from matplotlib.patches import Circle
from scipy.special import ndtr
from scipy.stats import beta

import pde
from lessons._drawing import BLUE, GREEN, GREY, RED, new_figure

__all__ = ["DISTANCE", "INPUTS", "SPACING", "draw_balls", "draw_noise", "problem_of"]

# Positions of the input, x[i] and y[j] at [i, j]: shape (51, 51, 2).
SPACING = 0.02
INPUTS = np.stack(np.meshgrid(*[np.arange(51) * SPACING] * 2, indexing="ij"), axis=-1)
# Side of the squares that cover the decision boundary.
DISTANCE = 2.0**-10
# Randomized smoothing: distance of the input to the half-plane's edge, noise, number of runs, risk of a bound.
EDGE, NOISE, N_RUNS, ALPHA = 0.1, 0.2, 400, 1e-3


def problem_of(sigma, speed):
    """Figure 4's problem with a smooth velocity, slowed down by a factor."""
    problem = pde.problems.figure4(seed=0, n=64, sigma=sigma, velocity="band-limited")
    velocity = pde.PeriodicField(speed * problem.velocity.values, 1.0, problem.velocity.interpolation)
    return pde.ConvectionDiffusion(velocity, problem.terminal, sigma=sigma)


def draw_balls(field, point, radii):
    """The map of u with its boundary, and the balls about the input; beside it the radii as bars.

    `radii` are numbers: true, local, smoothing and sharp.
    """
    figure, (left, right) = new_figure(2, width=9.6, height=4.2)
    n = 192
    side, closed = np.arange(n + 1) / n, np.pad(field.on_grid(n), (0, 1), mode="wrap").T
    most = max(np.abs(closed).max(), 0.01)
    # Steps of one colour each, as the palette of the page's pictures has 256.
    shades = left.contourf(side, side, closed, levels=np.linspace(-most, most, 22), cmap="PuOr")
    left.contour(side, side, closed, levels=[0], colors="black", linewidths=1.2)
    balls = (("local", GREEN, "-", 3.5), ("smoothing", BLUE, "-", 2), ("true", "black", "--", 1.2))
    for name, colour, dashes, width in balls:
        if 0 < radii[name] < 1:
            left.add_patch(Circle(point, radii[name], fill=False, color=colour, ls=dashes, lw=width))
    left.plot(*point, "o", mfc="white", mec="black", ms=5)
    left.set(xlabel="x", ylabel="y", aspect="equal", xlim=(0, 1), ylim=(0, 1), title="u(·, 0); boundary black")
    figure.colorbar(shades, ax=left, label="u", ticks=np.linspace(-most, most, 5), format="%.3g")
    names = ["true distance", "local", "smoothing", "slope (sharp)"]
    lengths = [radii[name] for name in ("true", "local", "smoothing", "sharp")]
    right.barh(names[::-1], lengths[::-1], color=[GREY, BLUE, GREEN, "black"])
    for place, length in enumerate(lengths[::-1]):
        right.annotate(f" {length:.3f}", (length, place), va="center")
    right.set(xlabel="radius", xlim=(0, 1.25 * max(lengths)), title="radii about the input")
    return figure


def draw_noise(n_draws):
    """Radii of many runs of n draws each, and the shares of runs that claim too much without and with an interval.

    f = sign of the first coordinate, whose mean is Phi(d / s): s Phi^-1(p) is the distance d.
    """
    rng = np.random.default_rng(0)
    right = rng.binomial(n_draws, ndtr(EDGE / NOISE), N_RUNS)
    low = beta.ppf(ALPHA, right, n_draws - right + 1)
    naive, safe = (
        pde.bounds.smoothing_radius(np.clip(2 * p - 1, 0, 1 - 1e-12), -1.0, 1.0, NOISE) for p in (right / n_draws, low)
    )
    figure, axes = new_figure(width=5.2, height=3.2)
    bins = np.linspace(0, 3 * EDGE, 46)
    for radii, colour, name in ((naive, RED, "the share of draws taken as p"), (safe, BLUE, "99.9 % lower bound on p")):
        axes.hist(np.minimum(radii, bins[-1]), bins=bins, color=colour, alpha=0.6, label=name)
    axes.axvline(EDGE, color="black", ls="--", label="true distance")
    axes.set(xlabel="certified radius", ylabel=f"runs of {N_RUNS}", title=f"{n_draws} draws each")
    axes.legend()
    return figure, float((naive > EDGE).mean()), float((safe > EDGE).mean())
