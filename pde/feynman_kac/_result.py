"""What plain Monte Carlo, `solve_to` and `gradient` return."""

from dataclasses import dataclass

import numpy as np

from pde import checks
from pde.feynman_kac import _arguments
from pde.feynman_kac._moments import quantile_factor, refuse_unless_finite, warn_if_rare


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte-Carlo estimate of u(x, 0).

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f; (..., k) for k terminal data.
    stderr : ndarray of shape (...)
        Its standard error, of the sampling alone: the bias of the steps is not in it. It comes from `n_samples`
        samples, so an interval takes Student's quantile with n_samples - 1 degrees of freedom: see `half_width`. 0
        without diffusion, inf where one sample leaves it unknown.
    n_paths : int
        Number of paths per point.
    n_steps : int
        Number of steps per path.
    n_samples : int
        Number of independent samples per point: n_paths, or the pairs of antithetic paths.
    bias_estimate : ndarray of shape (...) or None
        With bias=True, the estimate of |bias| that the steps leave: |mean - mean with twice the step| on the same
        paths, over 2**order - 1, and what both miss of callables in time. The order is 1, and that of the scheme - 2 of
        "heun", 4 of characteristics - where velocity, potential and source are smooth fields in layers, trigonometric
        or bicubic.
    bias_stderr : ndarray of shape (...) or None
        Standard error of `bias_estimate`.
    """

    mean: np.ndarray
    stderr: np.ndarray
    n_paths: int
    n_steps: int
    n_samples: int = 1
    bias_estimate: np.ndarray | None = None
    bias_stderr: np.ndarray | None = None

    def half_width(self, confidence=0.95):
        """Return half the width of the interval around `mean` that holds E[f(X_T)] at this confidence: shape (...)."""
        return half_width(self.stderr, confidence, self.n_samples)


@dataclass(frozen=True, eq=False)
class Solution:
    """An estimate of u(x, 0) to a prescribed error.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Estimate at each point, in units of f.
    stderr : ndarray of shape (...)
        Standard error of the sampling at each point; 0 without diffusion.
    bias_estimate : float
        Estimate of the root mean square over the points of the bias that the steps leave.
    method : str
        "sobol-heun" (or "sobol-euler" for a sigma that depends on x), "independent-heun" (or "independent-euler"),
        or "characteristics".
    n_paths : int
        Number of paths per point.
    n_steps : int
        Number of steps per path.
    n_samples : int
        Number of independent samples behind stderr: scrambles, or pairs of antithetic paths.
    """

    mean: np.ndarray
    stderr: np.ndarray
    bias_estimate: float
    method: str
    n_paths: int
    n_steps: int
    n_samples: int

    @property
    def error_estimate(self):
        """Root-mean-square error over the points, bias and sampling together."""
        return float(np.sqrt(self.bias_estimate**2 + np.mean(self.stderr**2)))

    def half_width(self, confidence=0.95):
        """Return half the width of the interval around `mean` that holds E[f(X_T)], bias apart: shape (...)."""
        return half_width(self.stderr, confidence, self.n_samples)


@dataclass(frozen=True, eq=False)
class GradientEstimate:
    """A Monte-Carlo estimate of the gradient of u(x, 0).

    Attributes
    ----------
    mean : ndarray of shape (..., 2)
        Estimate at each point, in units of f / length.
    stderr : ndarray of shape (..., 2)
        Its standard error, of the sampling alone, from n_samples samples: see `half_width`.
    n_paths : int
        Number of paths per point.
    n_steps : int
        Number of steps per path.
    window : float
        Time tau over which Bismut's weight is taken; the horizon with "pathwise".
    n_samples : int
        Number of independent samples: paths, pairs or scrambles.
    """

    mean: np.ndarray
    stderr: np.ndarray
    n_paths: int
    n_steps: int
    window: float
    n_samples: int

    def half_width(self, confidence=0.95):
        """Return half the width of the interval around `mean` that holds the gradient: shape (..., 2)."""
        return half_width(self.stderr, confidence, self.n_samples)


def half_width(stderr, confidence, n_samples):
    """Standard errors times Student's quantile."""
    factor = quantile_factor(checks.share("confidence", confidence), n_samples)
    # One sample of characteristics is exact; the error of one path is unknown.
    return np.multiply(stderr, factor, out=np.zeros_like(stderr), where=stderr != 0)


def result_of(problem, moments, shape, n_paths, n_steps, ways, n, unseen=None):
    """The Estimate of moments (n_results, n_points) at points of a shape; refused unless finite.

    `unseen` (k,): the bias of the steps that differences from steps twice as long do not show.
    """
    mean, n_samples = moments.mean, moments.count
    noiseless = _arguments.is_noiseless(problem)
    stderr = np.zeros_like(mean) if noiseless else moments.stderr
    refuse_unless_finite(mean, stderr, n_samples)
    bias, bias_stderr = None, None
    if ways.bias:
        k = len(mean) // 2
        order = _known_order(problem, ways)
        bias, bias_stderr = np.abs(mean[k:]) / (2**order - 1), stderr[k:] / (2**order - 1)
        bias = bias + unseen[:, None]
        mean, stderr = mean[:k], stderr[:k]
    if not noiseless:
        warn_if_rare(mean, stderr, n_samples, *_arguments.sample_range(problem, n), pairs=ways.antithetic)
    several = problem.n_terminals is not None

    def shaped(values):
        return None if values is None else values.T.reshape(*shape, -1) if several else values[0].reshape(shape)

    return Estimate(shaped(mean), shaped(stderr), n_paths, n_steps, n_samples, shaped(bias), shaped(bias_stderr))


def _known_order(problem, ways):
    """The order by which halved steps divide the bias, as far as the problem's data guarantee it."""
    if not _arguments.is_noiseless(problem) and (ways.scheme != "heun" or ways.increments == "two-point"):
        return 1
    parts = [part for part in (problem.velocity, problem.potential, problem.source) if part is not None]
    # A callable may jump in time or have kinks, where no scheme has a higher order.
    if not all(_arguments.is_field(part) and part.interpolation != "bilinear" for part in parts):
        return 1
    return 4 if _arguments.is_noiseless(problem) else 2
