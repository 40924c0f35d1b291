"""Checks of arguments shared by the estimators of an expectation."""

import math

import numpy as np

from pde import checks
from pde.equation import admit
from pde.fields import PeriodicField

# Squares of smaller terminal data lose digits.
_TINY = 1e-130
# Periods that a displacement may cross: 1.5e-8 of a period remains of 53 bits, and 6e-5 of 24.
_FARTHEST, _FARTHEST_SINGLE = 2**26, 2**10
# Logarithm of a weight beyond which a range is not followed: the largest weights are those of paths that hardly occur.
# And times at which callables are looked at for it.
_LARGEST_LOG, _N_TIMES = 10.0, 17
# Standard deviation of the noise of a step, in periods: 64 units in the last place of a position.
_LEAST_STEP = 2.0**-47


def places(problem, points):
    """The points, checked, and as fractions (n_points, 2) of the period; a ValueError if paths lose their place."""
    points = checks.points_array(points)
    if not (reach := _reach(admit(problem))) <= _FARTHEST:
        raise ValueError(
            f"sigma sqrt(horizon) must be <= {_FARTHEST:.2g} periods, beyond which rounding moves paths; u is the mean "
            f"of the terminal data long before; got {reach:.2g} periods"
        )
    return points, np.mod(points.reshape(-1, 2) / problem.length, 1.0)


def _reach(problem):
    """Largest sigma sqrt(T), in periods."""
    sigma = problem.sigma.values if sigma_varies(problem) else problem.sigma
    return float(np.max(sigma)) * math.sqrt(problem.horizon) / problem.length


def smallest_sigma(problem):
    """Smallest sigma, over places and layers."""
    return float(np.min(problem.sigma.values if sigma_varies(problem) else problem.sigma))


def rms_sigma(problem):
    """Root mean square of sigma, over places and layers."""
    sigma = problem.sigma.values if sigma_varies(problem) else problem.sigma
    return float(np.sqrt(np.mean(np.square(sigma))))


def fits_single(problem):
    """Whether 24 bits of a displacement by the noise are precise enough."""
    return _reach(problem) <= _FARTHEST_SINGLE


def needs_single(problem):
    """Raise a ValueError where single precision does not hold displacements."""
    if not fits_single(problem):
        raise ValueError(
            f"dtype='float32' needs sigma sqrt(horizon) <= {_FARTHEST_SINGLE} periods, got {_reach(problem):.3g}: take "
            "dtype='float64'"
        )


def counts(n_paths, n_steps, points, *, fewest_paths=1, antithetic=False):
    """n_paths, even if antithetic, and n_steps as integers that the counters of the generator can hold."""
    n_paths = checks.integer("n_paths", n_paths, at_least=fewest_paths)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    if max(n_paths, n_steps, points.size) >= 2**32:
        raise ValueError("n_paths, n_steps and the number of points must be < 2**32, the range of the counters")
    if antithetic and n_paths % 2:
        raise ValueError(f"n_paths must be even with antithetic pairs, got n_paths={n_paths}")
    return n_paths, n_steps


def is_field(part):
    """Whether a coefficient is given as a field, not as a callable."""
    return isinstance(part, PeriodicField)


def sigma_varies(problem):
    """Whether sigma depends on x."""
    return is_field(problem.sigma)


def is_noiseless(problem):
    """Whether there is no diffusion at all."""
    return not sigma_varies(problem) and not np.any(problem.sigma)


def is_plain(problem):
    """Whether the fast loops support the problem: one sigma, neither potential nor source."""
    return problem.has_constant_sigma and problem.potential is None and problem.source is None


def needs_noise(problem):
    """Raise a ValueError if there is no diffusion."""
    if is_noiseless(problem):
        raise ValueError("sigma must be > 0: without noise one characteristic gives u, see feynman_kac.estimate")


def needs_visible_noise(problem, n_steps):
    """Raise a ValueError if there is no diffusion, or if positions of double precision do not show that of a step."""
    needs_noise(problem)
    if (step := _reach(problem) / math.sqrt(n_steps)) < _LEAST_STEP:
        raise ValueError(
            f"sigma sqrt(horizon / n_steps) must be >= {_LEAST_STEP:.2g} periods, or rounding hides the noise that "
            f"method='bismut' needs, got {step:.2g}: take method='pathwise'"
        )


def refuse_varying_sigma(problem, consumer):
    """Raise a ValueError if sigma depends on x; one constant per layer is allowed."""
    if sigma_varies(problem):
        raise ValueError(f"{consumer} does not support a sigma that depends on x")


def steepness(problem, n):
    """Largest |grad v| over grid points and layers or, for a callable, four times."""
    n_times = problem.n_layers or 4
    times = (np.arange(n_times) + 0.5 * (problem.n_layers is not None)) * (problem.horizon / n_times)
    fields = {id(field): field for field in (problem.velocity_field(float(t), n) for t in times)}
    return max(field.jacobian_sup_norm() for field in fields.values())


def terminal_range(problem, n):
    """Smallest and largest of the terminal data, on the grid of a field or of n points per side."""
    values = problem.terminal.values if is_field(problem.terminal) else problem.terminal_on_grid(n)
    return float(values.min()), float(values.max())


def sample_range(problem, n):
    """About the smallest and largest value of a path: of f, times its weight by a potential, and a source."""
    low, high = terminal_range(problem, n)
    if problem.potential is None and problem.source is None:
        return low, high
    logs, (least, most) = (integral_range(problem, name, n) for name in ("potential", "source"))
    if low == high and logs[0] == logs[1] and least == most:
        return low, high
    # exp(C) at the end, and on the way there from 1.
    ends = [math.exp(min(max(c, -_LARGEST_LOG), _LARGEST_LOG)) for c in logs]
    on_the_way = min(ends[0], 1.0), max(ends[1], 1.0)
    low = min(low * e for e in ends) + min(least * e for e in on_the_way)
    return low, max(high * e for e in ends) + max(most * e for e in on_the_way)


def integral_range(problem, name, n):
    """Bounds of the integral of "potential" or "source" over time, as values at some times show them."""
    value = getattr(problem, name)
    if value is None:
        return 0.0, 0.0
    if is_field(value):
        values = value.values
    else:
        times = np.linspace(0.0, problem.horizon, _N_TIMES) if problem.scalar_varies(name) else (0.0,)
        values = np.stack([problem.scalar_field(name, float(t), n).values for t in times])
    # What depends on time alone is the same for all paths.
    least, most = (float(extreme(values, axis=(-2, -1)).mean()) for extreme in (np.min, np.max))
    return problem.horizon * least, problem.horizon * most


def unit_of(problem, n):
    """A power of two by which terminal data may be multiplied so that squares do not underflow; 1.0 if they do not."""
    size = max(map(abs, terminal_range(problem, n)), default=0.0)
    # At most 2**1000: the least numbers times it are near 1e-22.
    return math.ldexp(1.0, min(-math.frexp(size)[1], 1000)) if 0 < size < _TINY else 1.0


def random_numbers(rng):
    """A new NumPy generator of a seed, of a SeedSequence, which stays as it is, or of a generator, which moves on."""
    if isinstance(rng, np.random.SeedSequence):
        # Spawning counts the children of the original.
        return checks.generator(np.random.SeedSequence(**rng.state))
    if isinstance(rng, np.random.Generator):
        # By its state: `spawn` goes by the seed alone, if there is one.
        return checks.generator(rng.integers(0, 2**32, size=4, dtype=np.uint64))
    return checks.generator(checks.integer("rng", rng, at_least=0))
