"""Solutions and maps on the torus, for the figures of problems in the plane."""

import numpy as np

import pde
from figures._style import BLACK

__all__ = ["draw_map", "resolved"]


def resolved(problem, sizes, resolution):
    """The spectral solution on the first of these numbers of points per side that resolves it; else UnresolvedError."""
    for n in sizes[:-1]:
        solution = pde.spectral.solve(problem, n, rtol=1e-6, resolution=resolution, check=False)
        if solution.resolved:
            return solution
    return pde.spectral.solve(problem, sizes[-1], rtol=1e-6, resolution=resolution)


def draw_map(axes, values, u, norm, colours, title, *, unit="length", line=BLACK):
    """Draw a grid function (m, m) of period 1 in colours, and the zero line of u (m, m)."""
    side = np.arange(len(u) + 1) / len(u)
    closed, u = (np.pad(array, (0, 1), mode="wrap").T for array in (values, u))
    image = axes.pcolormesh(side, side, closed, norm=norm, cmap=colours, shading="gouraud", rasterized=True)
    axes.contour(side, side, u, levels=[0.0], colors=line, linewidths=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
    axes.set(xlabel=f"$x$ ({unit})", ylabel=f"$y$ ({unit})", title=title)
    return image
