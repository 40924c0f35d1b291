"""The state on its way from T to 0, with the account of its error on which the spectral solution rests.

The exact solution operator does not increase the sup norm (maximum principle), so errors committed along the way add
up and do not grow.
"""

import math

import numpy as np
import scipy.fft

from pde import grid
from pde.fields import PeriodicField
from pde.spectral._modes import Modes


class March:
    """The state on its way from s = 0 to T, with the account of its error."""

    def __init__(self, problem, n, k_max, resolution, to_the_end):
        self.problem, self.n, self.k_max, self.to_the_end = problem, n, k_max, to_the_end
        values = problem.terminal_on_grid(n)
        self.modes = Modes(self.largest_radius, k_max, problem.length)
        self.state = self.modes.from_grid(values)
        # Max over all x against max over the grid of m: 1 / cos(pi K / m) for each direction.
        reach = min(self.radius_of(self.state, 1e-12 * np.abs(values).max()), n)
        n_fine = min(2 * n, grid.fast_size(max(32 * reach, n)))
        fine = problem.terminal_on_grid(n_fine)
        self.sup_f = float(np.abs(fine).max())
        self.tolerance = resolution * self.sup_f
        self.centre, self.half_range = (fine.max() + fine.min()) / 2, (fine.max() - fine.min()) / 2
        self.half_range /= math.cos(math.pi * reach / n_fine) ** 2
        self.error = float(np.abs(self.modes.to_grid(self.state, n_fine) - fine).max())
        self.time_error, self.sampling_error = 0.0, 0.0
        self._sampling_shells = np.zeros(0)
        self.s, self.n_steps, self.n_products, self.violation = 0.0, 0, 0, ""
        self.times, self.sup_norms = [], []
        self.record()

    @property
    def goes_on(self):
        """False once the state has left the range of the numbers, or a violation is all that is to be found."""
        return math.isfinite(self.sup_norms[-1]) and (self.to_the_end or not self.violation)

    @property
    def largest_radius(self):
        """Length of the longest mode within the square |k_i| <= k_max."""
        return math.sqrt(2) * self.k_max

    def radius_of(self, state, tolerance):
        """Smallest r >= 1 such that the coefficients with |k| >= r add up to <= tolerance."""
        beyond = self.modes.shells(state)[::-1].cumsum()[::-1]
        return max(1, int(np.count_nonzero(beyond > tolerance)))

    def change_modes(self, radius):
        """Go on with the modes |k| <= radius."""
        modes = Modes(radius, self.k_max, self.problem.length)
        state = self.modes.change(self.state, modes)
        # What is dropped, each coefficient and its conjugate, at the worst point.
        self.error += 2 * max(0.0, float(np.abs(self.state).sum() - np.abs(state).sum()))
        self.modes, self.state = modes, state

    def add_at_all_wavenumbers(self, residual, tau):
        """Let the errors of sampling fade for a time tau, each wavenumber at its rate, and add the residual."""
        spectrum = np.abs(scipy.fft.rfft2(residual, norm="forward")) ** 2
        n = len(residual)
        k1, k2 = scipy.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
        shell = np.hypot(k1[:, None], k2).astype(int)
        energy = np.bincount(shell.ravel(), (spectrum * np.where(k2 > 0, 2, 1)).ravel())
        old = np.zeros(max(len(energy), len(self._sampling_shells)))
        old[: len(self._sampling_shells)] = self._sampling_shells
        old *= np.exp(-self.problem.nu * (self.modes.unit * np.arange(len(old))) ** 2 * tau)
        old[: len(energy)] += np.sqrt(energy)
        self._sampling_shells = old
        # The last residual tells how the sup norm of such a field compares with its root mean square.
        peak = np.abs(residual).max() / max(math.sqrt(energy.sum()), 1e-300)
        self.sampling_error = float(peak * math.sqrt((old**2).sum()))

    def sample(self, field):
        """The velocity as the solver knows it: exact if trigonometric, else by its values on the n-grid."""
        if field.interpolation == "trigonometric":
            return field
        return PeriodicField(field.on_grid(self.n), field.length)

    def record(self):
        """Note the time and max |u|, and whether the maximum principle holds."""
        u = self.modes.to_grid(self.state, self.n)
        self.times.append(self.problem.horizon - self.s)
        low, high = float(u.min()), float(u.max())
        self.sup_norms.append(max(-low, high))
        excess = max(high - self.centre, self.centre - low) - self.half_range
        if not self.violation and not excess <= self.tolerance:
            self.violation = (
                f"unresolved: max |u| = {self.sup_norms[-1]:.3g} at t = {self.times[-1]:.3g} violates the maximum "
                f"principle, max |f| = {self.sup_f:.3g}"
            )
