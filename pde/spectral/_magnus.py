"""Velocities that are callables of time: commutator-free Magnus steps of order 4, each a pair of layers.

w_s = A(s) w,  w(s + h) ~ exp(h (a_2 A_1 + a_1 A_2)) exp(h (a_1 A_1 + a_2 A_2)) w(s),  a_1, a_2 = 1/4 +- sqrt(3)/6,

A_1, A_2 at the Gauss points s + (1/2 -+ sqrt(3)/6) h (Blanes, Moan 2006). Since a_1 + a_2 = 1/2, each factor is a
layer of length h / 2 with a velocity of its own, and obeys the maximum principle: the account of errors is that of
layers. The step is halved to estimate its error, and the velocity's mean by Gauss is compared with Simpson's, which
sees what changes between the Gauss points. Events between all these nodes are found by comparing the velocity at some
points and many irregular times with the polynomial through its values at the nodes.
"""

import math

import numpy as np

from pde.spectral._events import Events
from pde.spectral._integrators import krylov_layer
from pde.spectral._velocity import combine

_GAUSS = (0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6)
_A = (0.25 + math.sqrt(3) / 6, 0.25 - math.sqrt(3) / 6)
# Error of the halved step over the difference: 1/15 where order 4 is seen, up to 1 where it is not.
_PART = 0.3
_LARGEST_STEP = 1 / 6
# Share of rtol that any step may spend: modes that are dropped contribute to the difference as well.
_LEAST = 0.01
# Tolerance of the exponentials, relative to rtol: it must not show in the difference of steps.
_INNER = 0.1
# Times at which a velocity of points is read beside the nodes, and one whose values are whole fields.
_N_TIMES, _FEW_TIMES = 1024, 256
# Nodes of a step, as parts of it.
_NODES = np.concatenate([[0.0, 0.5, 1.0], *(0.5 * (k + np.array(_GAUSS)) for k in (0, 1))])


def magnus(march, rtol):
    """Take the march to T by adaptive steps in time."""
    horizon = march.problem.horizon
    events = Events(march.problem, _N_TIMES if march.problem.velocity_is_of_points else _FEW_TIMES)
    radius = march.radius_of(march.state, max(1e-2 * rtol, 1e-13) * march.sup_f)
    h, errors = _LARGEST_STEP * horizon, np.zeros(math.ceil(march.largest_radius) + 2)
    try:
        for piece in march.pieces():
            t = piece.end
            while t > piece.begin:
                if march.has_settled():
                    march.s += t - piece.begin
                    march.record()
                    break
                n_steps = max(1, math.ceil((t - piece.begin) / h * (1 - 1e-9)))
                h = (t - piece.begin) / n_steps
                begin = piece.begin if n_steps == 1 else t - h
                before = march.look_ahead(t - begin)
                step, radius_after, difference, gap = _try(march, t, t - begin, rtol, radius)
                gap += events.missed(begin, t, t - _NODES * (t - begin))[0] * march.slope()
                fading = -np.expm1(-_rates(march, t, len(errors)) * h)
                # Errors of a mode that come again in each step add up to as many as live at a time.
                lasting = np.minimum(1.0, h / horizon / np.maximum(fading, h / horizon))
                ratio = (gap + float(lasting @ difference)) / (rtol * march.sup_f * max(h / horizon, _LEAST))
                if ratio <= 1 or h < 1e-12 * horizon:
                    march.__dict__.update(step.__dict__)
                    errors = errors * (1 - fading) + difference
                    errors[0] += gap
                    t, radius = begin, radius_after
                    march.count_missed(h, before)
                march.n_products = step.n_products
                if not march.goes_on:
                    march.time_error += float(errors.sum())
                    return
                h = min(h * min(3.0, max(0.2, 0.85 * max(ratio, 1e-6) ** -0.25)), _LARGEST_STEP * horizon)
            march.arrive(piece, float(errors.sum()))
    except FloatingPointError:
        march.overflow()
    march.time_error += float(errors.sum())


def _rates(march, t, n_shells):
    """Rate at which an error decays, by its wavenumber: half the wavenumber, less the strain, as for the residual."""
    strain = march.velocity_field(t, None).jacobian_sup_norm()
    return np.maximum(0.0, march.problem.nu * (march.modes.unit * np.arange(n_shells) / 2) ** 2 - strain)


def _try(march, t, h, rtol, radius):
    """(The march after two steps of h / 2, its radius, the error in each shell, that of the velocity's mean)."""
    whole, halves, after = march.fork(), march.fork(), radius
    _cross(whole, _nodes(march, t, h), h, rtol, radius)
    halves.n_products = whole.n_products
    nodes = _nodes(march, t, h / 2), _nodes(march, t - h / 2, h / 2)
    for pair in nodes:
        after = _cross(halves, pair, h / 2, rtol, after)
    shells = np.zeros(math.ceil(march.largest_radius) + 2)
    if not (whole.goes_on and halves.goes_on):
        return halves, after, shells + math.inf, 0.0
    larger, smaller = sorted((whole, halves), key=lambda part: -part.modes.radius)
    difference = larger.state - smaller.modes.change(smaller.state, larger.modes)
    sums = larger.modes.shells(difference)
    shells[: len(sums)] = _PART * sums
    fields = [*nodes[0], *nodes[1], *(march.velocity_field(max(s, 0.0), None) for s in (t, t - h / 2, t - h))]
    gap = combine(fields, (0.25, 0.25, 0.25, 0.25, -1 / 6, -4 / 6, -1 / 6))
    return halves, after, shells, 0.5 * h * float(np.sqrt((gap.values**2).sum(axis=0)).max()) * march.slope()


def _nodes(march, t, h):
    """The velocity at the two Gauss points of a step from t down to t - h."""
    return [march.velocity_field(max(t - c * h, 0.0), None) for c in _GAUSS]


def _cross(march, fields, h, rtol, radius):
    """One step, as two layers; return the radius."""
    # Rounding leaves 1e-14 in each step.
    rtol = max(_INNER * rtol, 1e-13 * march.problem.horizon / h)
    for first, second in ((_A[0], _A[1]), (_A[1], _A[0])):
        if not march.goes_on:
            break
        radius = krylov_layer(march, combine(fields, (2 * first, 2 * second)), h / 2, rtol, radius)
    return radius
