"""The state on its way from T to 0, with the account of its error on which the spectral solution rests.

The exact solution operator does not increase the sup norm (maximum principle), so errors committed along the way add
up and do not grow. Errors made at the beginning - modes of f that are not kept, aliases of a callable f - are bounded
by what remains of them at the end (`_fading`).
"""

import copy
import math

import numpy as np

from pde import grid
from pde.spectral import _data
from pde.spectral._fading import Fading
from pde.spectral._modes import Modes
from pde.spectral._pieces import pieces
from pde.spectral._reaction import LARGEST_GROWTH, Reaction
from pde.spectral._remedy import out_of_range
from pde.spectral._velocity import Velocity

# Most evaluations of v . grad u in one call.
MOST_PRODUCTS = 100_000


class March:
    """The state on its way from s = 0 to T, with the account of its error.

    Errors at the end: `truncation_error` from modes of f that are not kept, `alias_error` from samples of f, `error` of
    the modes kept, `given_back` from modes lost that feed back if `is_at_limit`, `time_error` of the integrator.
    """

    def __init__(self, problem, n, k_max, resolution, to_the_end, rtol=1e-8, save_at=(), norm="sup", data=None):
        self.problem, self.n, self.k_max, self.to_the_end = problem, n, k_max, to_the_end
        self.rtol, self.save_at = rtol, save_at
        self.saved, self.saved_errors = np.full((len(save_at), n, n), np.nan), np.full(len(save_at), np.inf)
        self.velocity = Velocity(problem, k_max, max(1e-13, 1e-2 * rtol))
        reacts = problem.potential is not None or problem.source is not None
        self.reaction = Reaction(problem, k_max, max(1e-12, 1e-2 * rtol), norm) if reacts else None
        data = data or _data.terminal_data(problem, n, k_max, max(1e-12, 1e-2 * rtol))
        # The equation is linear: numbers near 1 are far from the ends of the floating-point range.
        size = self.reaction.size if reacts else 0.0
        self.exponent = int(np.frexp(max(float(np.abs(data.values).max()), size))[1])
        data = data.scaled(-self.exponent)
        self.data = data
        self.modes = Modes(self.largest_radius, k_max, problem.length)
        self.state = self._kept(data.c)
        self.error, self.time_error, self.tail_error, self._follower = 0.0, 0.0, 0.0, 0.0
        self._measure(data)
        self.resolution, self.sup_norms = resolution, []
        self.spectra = [_data.weighted_shells(data.c)]
        self._bound_data_error = self._prepare(data)
        self.truncation_error, self.alias_error = self._bound_data_error(problem.horizon)
        self.largest_alias = 0.0 if data.aliases is None else 2 * float(data.aliases.max())
        self.s, self.n_steps, self.n_products, self.violation, self.times = 0.0, 0, 0, "", []
        self.is_at_limit, self.given_back = False, 0.0
        speed = max(float(np.abs(c).sum()) for c in self.velocity.spectra()[0])
        self.out_of_range = out_of_range(problem, speed, k_max, self.reaction)
        self.record()
        for j in np.flatnonzero(save_at == problem.horizon):
            self.saved[j], self.saved_errors[j] = problem.terminal_on_grid(n), 0.0

    @property
    def tolerance(self):
        """The largest error that counts as resolved: a part of max |f|, or of the largest |u| so far if u may grow.

        The bound of what may grow can exceed what does by orders of magnitude.
        """
        scale = self.sup_f
        if self.reaction and self.reaction.norm == "sup":
            found = float(np.max([self.sup_data, *self.sup_norms]))
            scale = min(scale, found) if math.isfinite(found) else scale
        return self.resolution * scale

    def _kept(self, c):
        """The modes kept, of half a plane of coefficients."""
        low = _data.low_modes(c, self.k_max)
        spectrum = np.zeros_like(low)
        spectrum[np.arange(-self.k_max, self.k_max + 1)] = low
        return self.modes.gather(spectrum)

    def _measure(self, data):
        """Range of f and of the state, over all x; sup |f|."""
        values = data.values
        reach = min(self.radius_of(self.state, 1e-12 * float(np.abs(values).max())), self.n)
        m = min(2 * self.n, grid.fast_size(max(32 * reach, self.n)))
        kept = self.modes.to_grid(self.state, m)
        self.sup_f = self.sup_data = float(np.abs(values).max())
        high, low = (max(values.max(), kept.max()), min(values.min(), kept.min()))
        self.centre, self.half_range = float(high + low) / 2, float(high - low) / 2
        if self.reaction:
            size = math.ldexp(self.reaction.size, -self.exponent)
            self.sup_f = math.exp(min(self.reaction.growth, LARGEST_GROWTH)) * self.sup_f + size
            self.centre, self.half_range = 0.0, max(self.sup_f, float(high), -float(low))
            if self.reaction.norm == "l1":
                self.sup_f, self.half_range = float(np.abs(values).mean()) + size, math.inf
        # Max over all x against max over the grid of m: 1 / cos(pi K / m) for each direction.
        self.half_range /= math.cos(math.pi * reach / m) ** 2

    def _prepare(self, data):
        """Return a function of s that bounds what remains, after a time s, of the errors made at the beginning.

        They are the modes of f that are not kept, its aliases, and the first residual, which fades like its modes.
        """
        k_max, r = self.k_max, data.c.shape[1] - 1
        beyond = _data.without_low_modes(data.c, k_max)
        dropped = 2 * float(np.abs(beyond).sum())
        rough = dropped > 1e-13 * self.sup_f or data.aliases is not None or data.rest > 0
        lost, n_modes = None, 0
        if self.sup_f > 0:
            first = self.sample(self.velocity_field(self.problem.horizon, (self.problem.n_layers or 1) - 1))[0]
            n_modes = first.n_modes
            if n_modes and self.radius_of(self.state, 1e-13 * self.sup_f) + n_modes > k_max:
                product = _data.product(_data.low_modes(data.c, k_max), first, self.problem.length)
                lost = _data.shells(_data.without_low_modes(product, k_max))
                self.spectra.append(_data.weighted_shells(product))
        if not rough and lost is None:
            return lambda s: (dropped, 0.0)
        potentials, growth = (self.reaction.spectra(), self.reaction.growth) if self.reaction else ((), 0.0)
        fading = Fading(
            self.problem.nu, self.problem.horizon, self.problem.length, *self.velocity.spectra(), potentials=potentials
        )
        kept = self.modes.to_grid(self.state, m) if (m := len(data.values)) > 2 * k_max else np.inf
        # The maximum principle: no more than it is now.
        now = 1.2 * float(np.abs(kept - data.values).max())
        beyond = _data.shells(beyond)
        aliases = None if data.aliases is None else _data.shells(data.aliases)

        def bound(s):
            later, truncation = fading.after(s), 0.0
            if rough:
                rest = data.rest and data.rest * float(later.of_the_rest(r + 1))
                truncation = min(later.bound(*beyond) + rest, now)
            if lost is not None:
                truncation += self._first_residual(later, *lost, n_modes)
            growing = math.exp(min(growth * s / self.problem.horizon, LARGEST_GROWTH))
            return growing * truncation, 0.0 if aliases is None else growing * later.bound(*aliases)

        return bound

    def _first_residual(self, fading, sums, squares, n_modes):
        """Bound what the first residual leaves: a mode k of it lives as the modes k - q of f from which it comes.

        What it did in the first half of the time fades in the second; in the second half it has faded itself.
        """
        nu, half = self.problem.nu, fading.horizon / 2
        r = np.arange(len(sums))
        rate = nu * (self.modes.unit * np.maximum(r - n_modes, r / 2)) ** 2
        life = 2 * half / np.maximum(1.0, 2 * half * rate)
        late = float((np.exp(-half * rate) * life * sums).sum())
        return fading.after(half).bound(life * sums, life**2 * squares) + late

    def velocity_field(self, t, layer):
        """v(., t) as a field: one of the layers, or a callable at time t."""
        return self.velocity.at(t) if self.problem.n_layers is None else self.problem.layer_field(layer)

    def look_ahead(self, tau, layer=None):
        """max |grad u| and |second derivatives| now, and the integral of max |grad u| over a step tau.

        All are 0 if nothing of v is missed. A mode lasts as long as an error of it would: diffusion acts on half its
        wavenumber, less the strain of v.
        """
        t, velocity = self.times[-1], self.velocity
        tail = velocity.tail(t, layer)
        if not velocity.size and tail is None:
            return 0.0, 0.0, 0.0
        shells, slope = self.modes.shells(self.state), self.slope()
        k = self.modes.unit * np.arange(1, len(shells) + 1)
        rate = self.problem.nu * (k / 2) ** 2 - self.velocity_field(t, layer).jacobian_sup_norm()
        lasting = float((shells * k / np.maximum(rate, 1 / tau)).sum())
        return slope, 0.0 if tail is None else self.slope(second=True), min(slope * tau, lasting)

    def count_missed(self, tau, before, layer=None):
        """Add what samples of v miss in a time tau, and its modes that no product holds; `before`: by `look_ahead`."""
        missed, tail = self.velocity.missed(self.times[-1]), self.velocity.tail(self.times[-1], layer)
        if not missed and tail is None:
            return
        slope, bend, lasting = before
        now = self.slope()
        self.error += missed * max(lasting, now * tau)
        if tail is not None:
            bend = max(bend, self.slope(second=True))
            itself, fed_back = tail.errors(self.problem.nu, tau, max(slope, now), bend, self.tolerance)
            # What follows the state at once does not add up; what has reached the modes kept does, and does not fade.
            self.tail_error += fed_back + max(0.0, itself - self._follower)
            self._follower = max(self._follower, itself)

    @property
    def goes_on(self):
        """False once the state is not finite, products are used up or, unless `to_the_end`, a violation is found."""
        if self.n_products > MOST_PRODUCTS and not self.violation:
            self.violation = f"unresolved: {MOST_PRODUCTS} products only led to t = {self.times[-1]:.3g}"
        within = math.isfinite(self.sup_norms[-1]) and self.n_products <= MOST_PRODUCTS
        return within and (self.to_the_end or not self.violation)

    @property
    def largest_radius(self):
        """Length of the longest mode within the square |k_i| <= k_max."""
        return math.sqrt(2) * self.k_max

    def radius_of(self, state, tolerance):
        """Smallest r >= 1 such that the coefficients with |k| >= r add up to <= tolerance."""
        beyond = self.modes.shells(state)[::-1].cumsum()[::-1]
        return max(1, int(np.count_nonzero(beyond > tolerance)))

    def change_modes(self, radius):
        """Continue with the modes |k| <= radius."""
        modes = Modes(radius, self.k_max, self.problem.length)
        state = self.modes.change(self.state, modes)
        # What is dropped, each coefficient and its conjugate, at the worst point.
        self.error += 2 * max(0.0, float(np.abs(self.state).sum() - np.abs(state).sum()))
        self.modes, self.state = modes, state

    def sample(self, field):
        """(The velocity by which the residual is measured, the velocity by which the state moves)."""
        return self.velocity.bands(field)

    def slope(self, second=False):
        """1.2 times max |grad u| on a grid, or that of all second derivatives."""
        x, y = self.modes.unit * self.modes.k
        if not self.state.any():
            return 0.0
        factors = (x * x, x * y, x * y, y * y) if second else (1j * x, 1j * y)
        parts = (self.modes.to_grid(factor * self.state, 4 * self.modes.k_max + 4) for factor in factors)
        return 1.2 * math.sqrt(sum(part**2 for part in parts).max())

    def space_error(self):
        """All but the error of the integrator."""
        return self.error + self.truncation_error + self.alias_error + self.given_back + self.tail_error

    def has_settled(self):
        """Whether u is constant up to what rtol neglects; it stays so, and the rest is counted as an error."""
        rest = 2 * float(np.abs(self.state[1:]).sum())
        settled = rest <= max(1e-3 * self.rtol, 1e-15) * self.sup_f
        self.error += rest if settled else 0.0
        return settled

    def finish(self):
        """End the march at once: f = 0 stays 0, and numbers out of range are meaningless."""
        if self.out_of_range and self.sup_f > 0:
            self.violation = "unresolved: " + self.out_of_range
            self.overflow()
        self.saved[:] = self.values()
        self.saved_errors[:] = self.error
        self.s = self.problem.horizon
        self.record()

    def pieces(self):
        """Yield the parts of the way, cut where layers and times to be saved are."""
        return pieces(self.problem, self.save_at)

    def arrive(self, piece, time_error=0.0):
        """Note that the end of a piece is reached, and save the state if that is requested."""
        self.s = self.problem.horizon - piece.begin
        self.times[-1] = piece.begin
        for j, t in enumerate(self.save_at):
            if t == piece.begin:
                left = sum(self._bound_data_error(self.s))
                self.saved[j] = self.values()
                self.saved_errors[j] = left + self.error + self.tail_error + self.time_error + time_error

    def values(self):
        """u on the grid, in units of f."""
        return np.ldexp(self.modes.to_grid(self.state, self.n), self.exponent)

    def overflow(self):
        """End the march after an overflow."""
        self.state = np.full_like(self.state, np.nan)
        self.error = math.inf
        self.record()

    def fork(self):
        """A march of its own from the present state."""
        other = copy.copy(self)
        other.times, other.sup_norms = [*self.times], [*self.sup_norms]
        return other

    def record(self):
        """Note the time and max |u|, and whether the maximum principle holds."""
        u = self.modes.to_grid(self.state, self.n)
        self.times.append(self.problem.horizon - self.s)
        low, high = float(u.min()), float(u.max())
        self.sup_norms.append(max(-low, high))
        excess = max(high - self.centre, self.centre - low) - self.half_range
        if not self.violation and not excess <= self.tolerance:
            now, then = (math.ldexp(value, self.exponent) for value in (self.sup_norms[-1], self.sup_f))
            self.violation = (
                f"unresolved: max |u| = {now:.3g} at t = {self.times[-1]:.3g} violates the maximum principle, "
                f"max |f| = {then:.3g}"
            )
