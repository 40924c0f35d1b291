"""Potential and source: the march of u_s = v . grad u + nu lap u + c u + g, layer by layer, by Krylov steps.

The source is a component of the state that stays 1: (w, 1)' = (A w + g, 0). With C = max c the solution operator
multiplies sup norms by exp(C s) at most, so errors committed at s grow by exp(max(C, 0) (T - s)) at most, and the
earlier they are, the smaller they have to be.
"""

import math

import numpy as np
import scipy.fft

from pde import grid
from pde.spectral import _data
from pde.spectral._krylov import exponential_step

# Modes of u lengthen the lives of some modes of what is left out, as in `_tail`.
_MARGIN = 1.5
# Largest growth within a step: what is lost at its end is counted as if at its beginning.
_MOST_GROWTH = 1.0
# The square of exp of more comes near the end of the range of the numbers.
LARGEST_GROWTH = 300.0


class Reaction:
    """Potential and source of a problem on the modes |k_i| <= k_max: their fields by layer, sizes, and errors.

    In the norm "l1" of an equation in conservation form nothing grows.

    `growth` is max(c, 0) T, `strength` max |c| T, `size` T max |g|, `missed` what the samples of callables miss,
    relative to sup |u| and absolute; `left_out`, by layer as `_left_out`, modes that no product with those kept holds.
    """

    def __init__(self, problem, k_max, negligible, norm="sup"):
        self.problem, self.k_max, self.negligible, self.norm = problem, k_max, negligible, norm
        self.missed = {"potential": 0.0, "source": 0.0}
        fields = [{name: self._field(name, j) for name in self.missed} for j in range(problem.n_layers)]
        known = {field: _left_out(field, 3 * k_max, problem) for part in fields for field in part.values() if field}
        self.left_out = [{name: known.get(field, (0.0, 0.0)) for name, field in part.items()} for part in fields]
        self.layers = [{name: f and f.band_limited(3 * k_max) for name, f in part.items()} for part in fields]
        potentials = [part["potential"] for part in self.layers if part["potential"]]
        tops = [float(potential.on_grid(4 * potential.n).max()) for potential in potentials]
        self.growth = problem.horizon * max(0.0, *tops) if tops and norm == "sup" else 0.0
        self.strength = problem.horizon * max([potential.sup_norm() for potential in potentials], default=0.0)
        sizes = [part["source"].sup_norm() for part in self.layers if part["source"]]
        self.size = problem.horizon * max(sizes, default=0.0) * math.exp(min(self.growth, LARGEST_GROWTH))

    def _field(self, name, layer):
        if getattr(self.problem, name) is None:
            return None
        t = self.problem.horizon * (layer + 0.5) / self.problem.n_layers
        if not self.problem.scalar_is_of_points(name):
            return self.problem.scalar_field(name, t)
        m = grid.fast_size(6 * self.k_max + 2)
        data = _data.sampled_data(
            lambda n: self.problem.scalar_field(name, t, n).values, m, self.k_max, self.negligible
        )
        self.missed[name] = max(self.missed[name], 2 * float(data.aliases.sum()))
        return self.problem.scalar_field(name, t, len(data.values))

    def spectra(self):
        """Coefficients of the potentials that occur."""
        fields = [part["potential"] for part in self.layers if part["potential"]]
        return [field.fourier_coefficients(min(2 * self.k_max, field.n // 2)) for field in fields]


def _left_out(field, least, problem):
    """(max |r|, max |w|) of the modes |q_i| > least of a field: r itself, and w_q = r_q min(T, 1 / (nu |q|**2)).

    w is what r leaves behind as a source.
    """
    # Of a spline, whose modes fall like |q|**-2 at least, what lies beyond is within the margin of safety.
    reach = field.n_modes if field.interpolation == "trigonometric" else 2 * max(least, field.n)
    if reach <= least:
        return 0.0, 0.0
    c, k = field.fourier_coefficients(reach), np.arange(-reach, reach + 1) * (2 * math.pi / field.length)
    c[reach - least : reach + least + 1, reach - least : reach + least + 1] = 0
    lives = problem.horizon / np.maximum(1.0, problem.horizon * problem.nu * (k[:, None] ** 2 + k**2))
    n = grid.fast_size(2 * reach + 1)
    return tuple(float(np.abs(grid.from_coefficients(part, n)).max()) for part in (c, c * lives))


class _LeftOut:
    """Error by the modes that are left out: w follows u at once, and w times what is left out of c is fed back.

    By the maximum principle it is no more than the integral of |r| over time. Both grow as u would by such a c.
    """

    def __init__(self):
        self.error, self._forced, self._response, self._fed_back, self._growth = 0.0, 0.0, 0.0, 0.0, np.zeros(2)

    def count(self, parts, tau, sup_u, unit):
        """Add a piece of length tau; return by how much the error has grown."""
        (c, response_to_c), (g, response_to_g) = parts["potential"], parts["source"]
        self._forced += (c * sup_u + g * unit) * tau
        self._response = max(self._response, _MARGIN * (response_to_c * sup_u + response_to_g * unit))
        self._fed_back += c * self._response * tau
        self._growth += c * tau * np.array([1.0, _MARGIN * response_to_c])
        grown, grown_back = np.exp(np.minimum(self._growth, LARGEST_GROWTH))
        before, self.error = self.error, min(self._forced * grown, self._response + self._fed_back * grown_back)
        return max(0.0, float(self.error - before))


class _Operator:
    """(w, 1) -> (v . grad w + c w + g + nu lap w, 0) on the modes of a march, and what these cannot hold of it."""

    def __init__(self, march, velocity, terms, nu):
        self.modes, self.nu, self._fields = march.modes, nu, (velocity, terms["potential"])
        self._source = terms["source"] and terms["source"].band_limited(3 * march.k_max)
        self._unit = math.ldexp(1.0, -march.exponent)
        bands = [field.n_modes for field in self._fields if field]
        self._tables = {}
        self._small = grid.fast_size(2 * self.modes.k_max + max([*bands, self.modes.k_max]) + 1)
        self._large = grid.fast_size(
            2 * (self.modes.k_max + max([*bands, self._source.n_modes if self._source else 0])) + 1
        )

    def _spectrum(self, state, m):
        """Transform of v . grad w + c w + g on the grid of m."""
        if m not in self._tables:
            # On the small grid the modes of the velocity beyond those that matter alias onto modes that are dropped.
            limit = m - 1 - 2 * self.modes.k_max
            fields = [field and field.band_limited(limit).on_grid(m) for field in self._fields]
            source = self._source and self._source.band_limited(limit).on_grid(m) * self._unit
            self._tables[m] = (*fields, source)
        velocity, potential, source = self._tables[m]
        w, one = state[:-1], state[-1].real
        k = 1j * self.modes.unit * self.modes.k
        total = sum(v * self.modes.to_grid(part * w, m) for v, part in zip(velocity, k, strict=True))
        if potential is not None:
            total = total + potential * self.modes.to_grid(w, m)
        if source is not None:
            total = total + one * source
        return scipy.fft.rfft2(total, norm="forward")

    def __call__(self, state):
        out = np.zeros_like(state)
        out[:-1] = self.modes.gather(self._spectrum(state, self._small)) - self.nu * self.modes.k_squared * state[:-1]
        return out

    def lost(self, state, tau):
        """max |r|, r = min(tau, 1 / (nu k**2)) times what the modes cannot hold, mode by mode."""
        m = self._large
        spectrum = self._spectrum(state, m)
        self.modes.scatter(np.zeros(self.modes.size, dtype=complex), spectrum)
        k1, k2 = scipy.fft.fftfreq(m, 1 / m), np.arange(m // 2 + 1)
        k_squared = (k1[:, None] ** 2 + k2**2) * self.modes.unit**2
        return float(np.abs(scipy.fft.irfft2(spectrum * tau / np.maximum(1.0, tau * self.nu * k_squared), s=(m, m),
                                             norm="forward")).max())  # fmt: skip


def react(march, rtol):
    """Take a march with a potential or a source to T, on all modes."""
    problem, reaction = march.problem, march.reaction
    longest = problem.horizon * min(1.0, _MOST_GROWTH / max(reaction.growth, _MOST_GROWTH))
    unit, left_out = math.ldexp(1.0, -march.exponent), _LeftOut()
    missed = reaction.missed["potential"] * march.sup_f + reaction.missed["source"] * unit
    try:
        for piece in march.pieces():
            velocity = march.sample(march.velocity_field(piece.end, piece.layer))[0]
            operator = _Operator(march, velocity, reaction.layers[piece.layer], problem.nu)
            left, ahead = piece.duration, march.look_ahead(piece.duration, piece.layer)
            while left > 0:
                # What is committed now grows until T.
                later = reaction.growth * max(0.0, 1 - march.s / problem.horizon)
                rate = rtol * march.sup_f * math.exp(-later) / (10 * problem.horizon)
                part = left / math.ceil(left / longest * (1 - 1e-12))
                step = exponential_step(operator, np.append(march.state, 1.0), part, rate)
                march.n_products += step.n_products
                growth = math.exp(reaction.growth * step.tau / problem.horizon)
                lost = max(operator.lost(state, step.tau) for state in (np.append(march.state, 1.0), step.state))
                march.state = step.state[:-1]
                left = 0.0 if step.tau >= left else left - step.tau
                march.s += step.tau
                march.n_steps += 1
                march.error = (march.error + lost + missed * step.tau) * growth
                march.time_error = (march.time_error + 10 * step.error) * growth
                march.record()
                if not march.goes_on:
                    return
            before = march.tail_error
            march.count_missed(piece.duration, ahead, piece.layer)
            more = left_out.count(reaction.left_out[piece.layer], piece.duration, march.sup_f, unit)
            march.tail_error = before + (march.tail_error - before + more) * math.exp(reaction.growth)
            march.arrive(piece)
    except FloatingPointError:
        march.overflow()
