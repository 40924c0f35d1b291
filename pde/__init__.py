"""The periodic convection-diffusion equation in two dimensions, solved two ways.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: (2.8))
    u(x, t) = E[f(X_T) | X_t = x],  dX = v(X, t) dt + sigma dB  (Ito)               (paper: (3.1))

Time runs from 0 to T = `horizon`; the data are given at T and the solution is sought at 0. The torus has period
`length` in both directions. Points have shape (..., 2); grid functions have shape (n, n) and are indexed [i, j] for
(x_i, y_j) = (i, j) * length / n; vector fields have shape (2, n, n), component first. At points, components come
last: a velocity at points of shape (..., 2) has shape (..., 2). `sigma` is the diffusion coefficient of the SDE,
`nu = sigma**2 / 2` the diffusivity.

The solvers are `spectral.solve` (for velocities that a grid resolves) and `feynman_kac.estimate` (for all).
"""

from _enresnet import __version__, check_pde

check_pde()

from pde import bounds, convergence, density, feynman_kac, fields, grid, problems, random_fields, spectral
from pde.equation import ConvectionDiffusion
from pde.feynman_kac import control_variates, quasi
from pde.fields import PeriodicField
from pde.spectral import UnresolvedError

__all__ = [
    "ConvectionDiffusion",
    "PeriodicField",
    "UnresolvedError",
    "__version__",
    "bounds",
    "control_variates",
    "convergence",
    "density",
    "feynman_kac",
    "fields",
    "grid",
    "problems",
    "quasi",
    "random_fields",
    "spectral",
]
