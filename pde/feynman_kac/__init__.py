"""Monte-Carlo solution of the convection-diffusion equation by the Feynman-Kac formula.

u(x, 0) = E[f(X_T) | X_0 = x],  dX = v(X, t) dt + sigma dB                                (paper: (3.1))

`estimate` averages over Euler-Maruyama or stochastic Heun paths, compiled and on all cores; `solve_to` takes the
cheapest route to a prescribed error; `multilevel` is Giles's method; `gradient` estimates the gradient of u, and
`paths` returns the paths themselves. Control variates and Sobol points have modules of their own: `control_variates`,
`quasi`.

Steps end wherever a layer of the velocity ends. A result depends on the seed alone: not on threads, shards or workers,
nor on interruptions.
"""

from pde.feynman_kac._estimate import estimate
from pde.feynman_kac._gradient import gradient
from pde.feynman_kac._level_paths import level_key, level_samples
from pde.feynman_kac._levels import NotConvergedError
from pde.feynman_kac._multilevel import MultilevelEstimate, multilevel
from pde.feynman_kac._normals import standard_normals
from pde.feynman_kac._precompile import precompile
from pde.feynman_kac._random import key_from
from pde.feynman_kac._reference import brownian_increments, euler_maruyama, stochastic_heun
from pde.feynman_kac._result import Estimate, GradientEstimate, Solution
from pde.feynman_kac._solve_to import solve_to
from pde.feynman_kac._table_errors import table_errors
from pde.feynman_kac._time_steps import time_steps
from pde.feynman_kac._trajectories import paths

__all__ = [
    "Estimate",
    "GradientEstimate",
    "MultilevelEstimate",
    "NotConvergedError",
    "Solution",
    "brownian_increments",
    "estimate",
    "euler_maruyama",
    "gradient",
    "key_from",
    "level_key",
    "level_samples",
    "multilevel",
    "paths",
    "precompile",
    "solve_to",
    "standard_normals",
    "stochastic_heun",
    "table_errors",
    "time_steps",
]
