"""How callables vary in time, at some points, and whether time steps resolve it."""

import numpy as np

# Number of times at which callables are evaluated, the fewest per step, and the share of the variation to be missed.
_N_TIMES, _PER_STEP, _MISSED = 1024, 4, 0.25


def irregular_times(horizon, count=_N_TIMES):
    """Times (count,) without a pattern, one in each of as many equal parts of the horizon."""
    # Jittered, so that no frequency hides between them.
    return (np.arange(count) + np.random.default_rng(0).random(count)) * (horizon / count)


def velocity_reader(problem):
    """Function of t that reads a callable velocity at 64 points, as an array (64, 2); None for a velocity in layers."""
    if problem.n_layers is not None:
        return None
    points = points_everywhere(problem)
    if problem.velocity_is_of_points:
        return lambda t: problem.velocity_at(points, t)

    def read(t):
        # Points of the grid without a pattern: on every fourth one a shear may vanish.
        values = problem.velocity_field(t).values
        n = values.shape[-1]
        i, j = (points.T * (n / problem.length)).astype(int) % n
        return values[:, i, j].T

    return read


def points_everywhere(problem):
    """Points (64, 2) without a pattern, one in each of as many equal squares of the cell: a disc of a tenth has one."""
    corners = np.stack(np.meshgrid(*[np.arange(8)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    return (corners + np.random.default_rng(1).random(corners.shape)) * (problem.length / 8)


def histories(problem, count=_N_TIMES):
    """Values (count, m) of each callable that depends on time, at irregular times and some points."""
    times, points = irregular_times(problem.horizon, count), points_everywhere(problem)
    read = [velocity_reader(problem)] if problem.n_layers is None else []
    for name, at in (("potential", problem.potential_at), ("source", problem.source_at)):
        if problem.scalar_varies(name):
            read.append(lambda t, at=at: at(points, t))
    # Copies: a callable may return one array again and again, with other values.
    return [np.stack([each(float(t)).flatten() for t in times]) for each in read]


def steps_in_time(problem, n_steps, limit, read=None):
    """Steps that resolve callables in time, n_steps or more up to a limit, and whether these do.

    `read`: histories that are known.
    """
    read = histories(problem) if read is None else read
    while True:
        if read and _PER_STEP * n_steps > len(read[0]):
            # One time per step would show no variation within it.
            read = histories(problem, _PER_STEP * min(n_steps, max(limit, len(read[0]))))
        if not misses(read, n_steps):
            return n_steps, True
        if n_steps >= limit:
            return n_steps, False
        n_steps = min(2 * n_steps, limit)


def misses(histories, n_steps):
    """Whether steps that read a history at their beginning miss more than a quarter of its variation."""
    for values in histories:
        edges = np.arange(len(values)) * n_steps // len(values)
        firsts = np.searchsorted(edges, edges)
        lost = np.zeros((edges[-1] + 1, values.shape[1]))
        np.add.at(lost, edges, values - values[firsts])
        varied = np.abs(values - values.mean(axis=0)).sum()
        if np.abs(lost).sum() > _MISSED * varied and varied > 1e-9 * np.abs(values).sum():
            return True
    return False
