"""The forward (Fokker-Planck) equation: the density of X_t, dX = v(X, t) dt + sigma dB."""

from dataclasses import dataclass

import numpy as np

from pde import checks, spectral
from pde.equation import ConvectionDiffusion
from pde.fields import PeriodicField

__all__ = ["Density", "solve"]


@dataclass(frozen=True, eq=False)
class Density:
    """The density at t = T, with estimates of its error.

    Attributes
    ----------
    rho : ndarray of shape (n, n)
        rho(x_i, y_j, T), in units of the initial density.
    error_estimate : float
        Estimate of the integral of |error| over the cell.
    mass_error : float
        | int rho(T) - int rho(0) |, which is 0 for the equation.
    initial_mass : float
        int rho(0).
    length : float
        Period.
    """

    rho: np.ndarray
    error_estimate: float
    mass_error: float
    initial_mass: float
    length: float

    @property
    def field(self):
        """rho(., T) as a trigonometric PeriodicField."""
        return PeriodicField(self.rho, self.length)


def solve(velocity, density, *, sigma, horizon, length=1.0, n=None, rtol=1e-8):
    """Solve the Fokker-Planck equation for the density of X_T from that of X_0, spectrally in space.

    rho_t + div(v rho) = (sigma**2 / 2) lap rho,  rho(x, 0) = rho_0(x)

    It is the adjoint of `spectral.solve`: int u(x, 0) rho_0 = int f rho(x, T). It is solved as a backward equation in
    T - t with the velocity -v and the potential -div v. There is no maximum principle, but int |rho| does not grow, so
    errors add up in that norm.

    Parameters
    ----------
    velocity : PeriodicField or array_like
        v, in length / time: shape (2, n, n), steady, or (n_t, 2, n, n), layers as in `ConvectionDiffusion`;
        trigonometric.
    density : PeriodicField, array_like or callable
        rho_0: field or array of shape (n, n), or a callable of points of shape (..., 2). Its integral need not be 1.
    sigma : float
        Diffusion coefficient, in length / sqrt(time); >= 0.
    horizon : float
        T; > 0.
    length : float, default=1.0
        Period; > 0.
    n : int, optional
        Points per side, >= 4; by default those of the fields.
    rtol : float, default=1e-8
        Tolerance of the integration in time.

    Returns
    -------
    Density
        `rho` of shape (n, n); `error_estimate` in the L1 norm; `mass_error`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the velocity is a callable or not trigonometric.
    UnresolvedError
        If the estimated error exceeds a thousandth of int |rho_0|.

    Examples
    --------
    >>> import numpy as np, pde
    >>> x = np.arange(16) / 16
    >>> d = solve(np.zeros((2, 16, 16)), 1 + np.cos(2 * np.pi * x)[:, None] * np.ones(16), sigma=0.3, horizon=1.0)
    >>> bool(abs(d.rho[0, 0] - 1 - np.exp(-0.045 * 4 * np.pi**2)) < 1e-8 and d.mass_error < 1e-12)
    True
    """
    if callable(velocity) and not isinstance(velocity, PeriodicField):
        raise ValueError("velocity must be a field, steady or in layers, got a callable")
    forward = ConvectionDiffusion(velocity, density, sigma=sigma, horizon=horizon, length=length)
    forward.refuse("pde.density.solve", "sigma", "terminals")
    layers = [forward.layer_field(j) for j in range(forward.n_layers)]
    if layers[0].interpolation != "trigonometric":
        raise ValueError(f"velocity must be trigonometric, got interpolation={layers[0].interpolation!r}")
    # Twice the grid of the velocity holds the derivative of its highest mode, too.
    size = 2 * layers[0].n + 1
    divergences = np.array([_divergence(field, size) for field in layers])
    values = np.array([field.values for field in layers])
    backward = ConvectionDiffusion(
        -values[::-1], forward.terminal, sigma=sigma, horizon=horizon, length=length, potential=-divergences[::-1]
    )
    n = checks.integer("n", forward.n if n is None else n, at_least=4)
    solution = spectral.solve(backward, n, rtol, check=False, norm="l1")
    area = forward.length**2
    initial = _integral(forward, 0)
    mass_error = abs(float(solution.u.mean()) * area - initial)
    error = float(solution.error_estimate) * area + mass_error
    total = _integral(forward, 1)
    if not error <= 1e-3 * total:
        raise spectral.UnresolvedError(
            f"unresolved: estimated error {error:.2g} > 0.001 int |rho| = {1e-3 * total:.2g}: raise n above {n}"
        )
    return Density(solution.u, error, mass_error, initial, forward.length)


def _divergence(field, size):
    jacobian = field.jacobian_on_grid(size)
    return jacobian[0, ..., 0] + jacobian[1, ..., 1]


def _integral(problem, power):
    """int rho_0, or int |rho_0| with power = 1, on a fine grid; the mean of a field is its exact coefficient."""
    if power == 0 and isinstance(problem.terminal, PeriodicField):
        return float(problem.terminal.fourier_coefficients(0)[0, 0].real) * problem.length**2
    values = problem.terminal_on_grid(1024)
    return float((np.abs(values) if power else values).mean()) * problem.length**2
