"""The two integrators of the spectral solution; both move a march and keep its account of errors.

An error of truncation is the residual, what the modes kept cannot hold of v . grad u, a mode k of which lives for
1 / (nu |k|**2). That of a band-limited velocity sits at the edge of the spectrum, at wavenumbers of `radius` and more;
the strain max |grad v| needs a time log(2) / strain to bring it to half of that, so it fades at the rate
nu (radius / 2)**2 - strain, if that is positive. That of a velocity known by samples has all wavenumbers, and each
fades by diffusion at its own rate.
"""

import math
from itertools import pairwise

import numpy as np

from pde import grid
from pde.spectral._events import events_of_steps
from pde.spectral._generator import Generator, product_grid
from pde.spectral._krylov import exponential_step

# The sup norm of an error field is about ten times the norm of its state (measured: 8 to 12).
_SUP_PER_NORM = 10.0
# A step is accounted for as one if its early losses have faded to this at its end; else in parts, at most so many, of
# so many radians of the fastest mode.
_FADED, _PARTS, _RADIANS_PER_PART = 1e-3, 3, 50.0
# Share of the tolerance.
_SHARE_GIVEN_BACK = 0.1
# RK4's stability limit on the imaginary axis is 2 sqrt(2).
_RK4_LIMIT = 2.8
# Nodes of polynomials that are to agree ever better where v is smooth, by this factor at least.
_N_NODES, _BETTER = (5, 7), 0.5


def krylov(march, rtol):
    """Take the march to T by adaptive Krylov steps, piece by piece of constant velocity."""
    # Rounding leaves about 1e-13 on all modes together.
    radius = march.radius_of(march.state, max(1e-2 * rtol, 1e-13) * march.sup_f)
    try:
        for piece in march.pieces():
            before = march.look_ahead(piece.duration, piece.layer)
            radius = krylov_layer(march, march.velocity_field(piece.end, piece.layer), piece.duration, rtol, radius)
            if not march.goes_on:
                return
            march.count_missed(piece.duration, before, piece.layer)
            march.arrive(piece)
    except FloatingPointError:
        # Overflow: only check=False returns it.
        march.overflow()


def krylov_layer(march, velocity, duration, rtol, radius):
    """Cross one layer on the modes |k| <= radius, as many as the residual requires; return the radius."""
    velocity, sampled = march.sample(velocity)
    if velocity.n_modes == 0:
        _translate(march, velocity, duration)
        return radius
    return _krylov_steps(march, velocity, sampled, duration, rtol, radius)


def _krylov_steps(march, velocity, sampled, duration, rtol, radius):
    """`krylov_layer` for a velocity that couples the modes; `sampled` is what moves the state."""
    problem = march.problem
    strain = _strain(sampled)
    if march.s == 0:
        radius = max(radius + 2, _expected_radius(sampled, strain, problem.nu, rtol))
    radius = min(radius, march.largest_radius)
    left, generator, trials, proven = duration, None, [], set()

    def allowed(tau):
        fading = _fading(march, radius, strain)
        return rtol * scale * max(tau / problem.horizon, -math.expm1(-fading * tau)), math.exp(-fading * tau)

    def peak(state, tau):
        return float(np.abs(generator.residual(state, velocity, tau)).max())

    def probe(at, tau):
        # Too few modes are found out before the whole basis is made, unless the residual is on its way down.
        if radius in proven or radius >= march.largest_radius or peak(at(tau), tau) <= 2 * allowed(tau)[0]:
            return True
        return peak(at(tau), tau) < peak(at(tau / 2), tau)

    def accept(at, tau):
        # What was lost long before the end of a step has faded; where it has not, the account is kept on the way.
        n_parts = min(_PARTS, max(1, round(tau * generator.transport_rate / _RADIANS_PER_PART)))
        n_parts = 1 if allowed(tau)[1] <= _FADED else n_parts
        part = tau / n_parts
        states = [at(part * (i + 1)) for i in range(n_parts)]
        lost = [peak(state, part) for state in states]
        excess = max(lost) / allowed(part)[0]
        trials.append((states, lost, part, excess))
        # One step may spend twice its share: the next has more modes.
        return excess <= 2 or radius >= march.largest_radius

    while left > 0 and march.goes_on:
        if march.has_settled():
            march.s += left
            march.record()
            break
        # A field that blows up is followed at its own scale: only check=False returns it.
        scale = max(march.sup_f, march.sup_norms[-1])
        if generator is None or march.modes.radius != radius:
            march.change_modes(radius)
            # Aliases are allowed where more modes can make up for them.
            n_grid = product_grid(sampled, march.modes.k_max) if march.modes.k_max < march.k_max else None
            generator = Generator(sampled, problem.nu, march.modes, n_grid)
        trials.clear()
        rate = rtol * scale / (_SUP_PER_NORM * problem.horizon)
        # The generator maps constants to 0: without the mean, rounding is relative to what still moves.
        mean, moving = march.state[0], march.state.copy()
        moving[0] = 0.0
        step = exponential_step(generator, moving, left, rate, accept=accept, probe=probe)
        march.n_products += step.n_products
        if step.tau > 0:
            left = 0.0 if step.tau >= left else left - step.tau
            # A state that is zero without its mean is not tested.
            states, lost, part, _ = trials[-1] if trials else ([step.state], [0.0], step.tau, 0.0)
            for state, residual in zip(states, lost, strict=True):
                march.state = state.copy()
                march.state[0] += mean
                march.s += part
                march.error = march.error * allowed(part)[1] + residual
                march.record()
            proven.add(radius)
            march.n_steps += 1
            march.time_error += _SUP_PER_NORM * step.error
        if left > 0:
            states, _, _, excess = trials[0]
            radius = _next_radius(march, sampled, states[-1], excess, 0.1 * rtol * scale)
    if sampled.n_modes:
        # Modes lost early in a step have faded at its end, not what they gave back: as much as the tolerance let pass.
        march.is_at_limit |= radius >= march.largest_radius
        march.error += _SHARE_GIVEN_BACK * rtol * march.sup_f * duration / problem.horizon
    return radius


def _translate(march, velocity, duration):
    """Cross a layer of constant velocity, where the modes do not couple: exact but for rounding."""
    modes, speed = march.modes, velocity.on_grid(1)[:, 0, 0]
    phase = duration * modes.unit * (speed[0] * modes.k[0] + speed[1] * modes.k[1])
    # The phase is rounded relative to itself, at both ends of the product.
    march.error += 4 * np.finfo(float).eps * float((np.abs(phase) * np.abs(march.state)).sum())
    march.state = march.state * np.exp(1j * phase - duration * march.problem.nu * modes.k_squared)
    march.s += duration
    march.n_steps += 1
    march.record()


def _strain(velocity):
    """Largest |grad v|, on four points per wavelength."""
    return velocity.jacobian_sup_norm(max(8, 4 * velocity.n_modes))


def _fading(march, radius, strain):
    """Rate at which errors committed at wavenumber `radius` decay."""
    return max(0.0, march.problem.nu * (march.modes.unit * radius / 2) ** 2 - strain)


def _expected_radius(velocity, strain, nu, rtol):
    """Where the spectrum of a steady boundary layer has fallen to rtol, three quarters of it.

    With v = (V sin(q x), 0), q = strain / V, the layer's slope exp(-(V / nu q) (1 - cos(q x))) has the modes
    I_m(z) exp(-z), z = V / (nu q), at wavenumbers m q: a Gaussian up to m = z, and a slower fall beyond.
    """
    if nu == 0 or strain == 0:
        return 2 * velocity.n_modes
    speed = velocity.sup_norm(max(8, 4 * velocity.n_modes))
    z, m = max(speed / strain * (speed / nu), np.finfo(float).tiny), 1.0
    while math.hypot(m, z) - z - m * math.asinh(m / z) > math.log(rtol):
        m *= 1.05
    return 0.75 * m * strain / speed * velocity.length / (2 * math.pi)


def _next_radius(march, velocity, state, excess, negligible):
    """Return the radius at which the residual, `excess` times what is allowed, should fit, by extrapolation."""
    radius = march.modes.radius
    if 0.3 <= excess <= 0.8 or not math.isfinite(excess):
        return radius
    shells = march.modes.shells(state)
    last = min(math.floor(radius), march.k_max) - 1
    span = max(2, last // 8)
    decay = math.log(max(shells[max(last - span, 0)] / max(shells[last], 1e-300), 1.1)) / span
    least, ample = (radius + math.log(max(excess, 1e-8) / target) / decay for target in (0.6, 0.3))
    if excess > 0.8:
        least, ample = max(least, 1.03 * radius), max(ample, 1.05 * radius)
    else:
        # A spectrum still on its way outwards is not to be cut too soon.
        floor = max(min(radius, march.radius_of(state, negligible)), 0.75 * radius)
        least, ample = max(floor, least), max(floor, (ample + radius) / 2)
    wanted = min(_filling(velocity, least, ample), 1.6 * radius, march.largest_radius)
    # New modes cost about three products.
    return radius if 0.96 * radius < wanted < radius else wanted


def _filling(velocity, least, ample):
    """Return the largest radius up to `ample` that needs no finer grid of products than `least` does."""
    k_max, size = math.floor(ample), product_grid(velocity, math.floor(least))
    while k_max > least and product_grid(velocity, k_max) > size:
        k_max -= 1
    return min(ample, k_max + 0.999)


def richardson(march, coarse, coarsest):
    """Estimate the error in time from the same solution with steps twice and four times as long."""
    grids = [part.modes.to_grid(part.state, part.n) for part in (march, coarse, coarsest)]
    fine, rough = (float(np.abs(a - b).max()) for a, b in pairwise(grids))
    # On stiff modes the integrating factor costs Runge-Kutta 4 up to three orders.
    order = math.log2(rough / fine) if 0 < fine < rough < math.inf else 0.0
    return fine / ((march.n_steps / coarse.n_steps) ** min(order, 3.0) - 1) if order > 1.5 else 2 * fine


def ifrk4(march, n_steps, dealias, *, counts_events=False):
    """Take the march to T by Runge-Kutta 4 in an integrating factor (Lawson 1967), n_steps[i] steps in piece i.

    counts_events: what a callable velocity does between the nodes of the steps is counted as an error in time.
    """
    problem, n, k_max = march.problem, march.n, march.k_max
    events = None
    if counts_events and problem.n_layers is None:
        events = events_of_steps(problem, [p.duration / m for p, m in zip(march.pieces(), n_steps, strict=True)])
    n_grid = None
    if not dealias:
        n_grid = n
    elif problem.n_layers is None:
        # The bandwidth of a callable velocity may change from step to step: room for all that couples the modes kept.
        n_grid = grid.fast_size(4 * k_max + 1)
    for piece, steps in zip(march.pieces(), n_steps, strict=True):
        dt = piece.duration / steps
        velocity, sampled = march.sample(march.velocity_field(piece.end, piece.layer))
        stages = (Generator(sampled, problem.nu, march.modes, n_grid),) * 3
        decay = np.exp(-0.5 * dt * problem.nu * march.modes.k_squared)
        each, measured, strain = max(1, steps // 100), None, 0.0
        before, counted, slope = march.look_ahead(each * dt, piece.layer), 0, march.slope() if events else 0.0
        for step in range(steps):
            if problem.n_layers is None:
                times = (piece.end - (step + c) * dt for c in (0.5, 1.0))
                pairs = [march.sample(march.velocity_field(max(t, 0.0), None)) for t in times]
                stages = (stages[2], *(stages[2].with_velocity(sampled) for _, sampled in pairs))
                velocity = pairs[1][0]
            courant = dt * max(stage.transport_rate for stage in stages)
            if courant > _RK4_LIMIT and not march.violation:
                march.violation = (
                    f"unresolved: dt = {dt:.3g} exceeds the stability limit {_RK4_LIMIT * dt / courant:.3g} of "
                    f"Runge-Kutta 4 on {k_max} modes"
                )
            march.state = _lawson_step(march.state, stages, decay, dt)
            march.n_steps += 1
            march.n_products += 4
            if (step + 1) % each == 0 or step + 1 == steps:
                march.s = problem.horizon - piece.end + (step + 1) * dt
                march.record()
                elapsed = march.times[-2] - march.times[-1]
                residual = stages[2].residual(march.state, velocity, elapsed)
                # Aliases of a product that is not dealiased are low modes, too.
                if dealias and measured is not stages[2]:
                    measured, strain = stages[2], _strain(stages[2].field)
                fading = _fading(march, k_max, strain) if dealias else 0.0
                march.error = march.error * math.exp(-fading * elapsed) + float(np.abs(residual).max())
                march.count_missed(elapsed, before, piece.layer)
                before = march.look_ahead(each * dt, piece.layer)
                if events:
                    slope, earlier = march.slope(), slope
                    missed = sum(_missed(events, piece, k, steps) for k in range(counted, step + 1))
                    march.time_error += missed * max(slope, earlier)
                    counted = step + 1
                if not march.goes_on:
                    return
        march.arrive(piece)


def _missed(events, piece, step, n_steps):
    """Distance that step number `step` of a piece does not see: RK4 reads at its ends and its middle.

    What is smooth in time is left to `richardson`: polynomials through more nodes, of neighbouring steps, hold it.
    """
    dt = piece.duration / n_steps
    # Half steps from the end of the piece back to t = T and on to t = 0.
    lowest, highest = (math.floor(2 * each / dt + 1e-6) for each in (events.horizon - piece.end, piece.end))
    nodes = []
    for count in (3, *_N_NODES):
        first = max(-lowest, min(2 * step + 1 - count // 2, highest + 1 - count))
        times = piece.end - 0.5 * dt * np.arange(first, min(first + count, highest + 1))
        nodes.append(np.clip(times, 0.0, events.horizon))
    own, fewer, more = events.missed(piece.end - (step + 1) * dt, piece.end - step * dt, *nodes)
    return own if more > _BETTER * fewer else 0.0


def _lawson_step(w, stages, decay, dt):
    """One step of the classical Runge-Kutta method for exp(-s nu lap) w; decay belongs to half a step."""
    begin, middle, end = stages
    half, k1 = decay * w, decay * begin.convection(w)
    k2 = middle.convection(half + (0.5 * dt) * k1)
    k3 = middle.convection(half + (0.5 * dt) * k2)
    k4 = end.convection(decay * (half + dt * k3))
    return decay * (half + (dt / 6) * (k1 + 2 * (k2 + k3))) + (dt / 6) * k4
