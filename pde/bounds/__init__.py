"""The paper's two theorems as functions: what was printed, what is true, and what is sharp.

For u_t + v . grad u + (sigma**2 / 2) lap u = 0, u(x, T) = f(x), on the torus (paper: Theorems 2.1 and 2.2, Remark 2.3):

    printed      ||grad u(., 0)|| <= exp((gamma - sigma**2) T) (||f|| + ||grad f||)         false: `counterexample`
    corrected    ||grad u(., 0)|| <= exp(lam T) sqrt(mu M**2 + G**2),  lam = max(0, gamma - mu sigma**2 / 2),  mu >= 0
    sharp        ||grad u(., 0)|| <= exp(gamma T) G erf(osc f / (sqrt(2) G S)),
                 S**2 = 2 sigma**2 (exp(2 gamma T) - 1) / gamma

with ||.|| the supremum over x, of the Euclidean length where it is a vector; G = ||grad f||; osc f = max f - min f;
M = osc f / 2, the smallest ||f - c||, because constants solve the equation; gamma = max lambda_max(sym grad v), the
largest rate at which two paths part. Time runs backwards here: the printed theorem, for the initial-value problem,
has -min lambda_min. Proofs: docs/theorem-2-2.md.
"""

from pde.bounds._certificates import (
    Certificates,
    certificates,
    certified_radius,
    smoothing_radius,
)
from pde.bounds._certified_maxima import largest_gradient, value_range
from pde.bounds._counterexamples import (
    counterexample,
    counterexample_gradient,
    counterexample_threshold,
    published_threshold,
)
from pde.bounds._gradient import (
    GradientBound,
    SharpBound,
    gradient_bound,
    gradient_bound_as_published,
    hoelder_bound,
    sharp_gradient_bound,
)
from pde.bounds._hoelder import HoelderConstant, hoelder_constant, hoelder_exponent, largest_differences
from pde.bounds._rates import network_spread, stretching
from pde.bounds._zero_set import boundary_distance

__all__ = [
    "Certificates",
    "GradientBound",
    "HoelderConstant",
    "SharpBound",
    "boundary_distance",
    "certificates",
    "certified_radius",
    "counterexample",
    "counterexample_gradient",
    "counterexample_threshold",
    "gradient_bound",
    "gradient_bound_as_published",
    "hoelder_bound",
    "hoelder_constant",
    "hoelder_exponent",
    "largest_differences",
    "largest_gradient",
    "network_spread",
    "published_threshold",
    "sharp_gradient_bound",
    "smoothing_radius",
    "stretching",
    "value_range",
]
