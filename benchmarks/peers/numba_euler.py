"""Numba as one writes it first: a loop over paths in parallel, `np.random.normal` in a loop over steps."""

import math

import numba
import numpy as np
from particles import means, starts, step_sizes
from worker import serve


@numba.njit(parallel=True)
def advance(begin, velocity, dt, scale, n_steps):
    n = velocity.shape[1]
    end = np.empty_like(begin)
    for path in numba.prange(begin.shape[1]):
        x, y = begin[0, path], begin[1, path]
        for _ in range(n_steps):
            floor_x, floor_y = math.floor(x * n), math.floor(y * n)
            gx, gy = x * n - floor_x, y * n - floor_y
            i, j = int(floor_x) % n, int(floor_y) % n
            i1, j1 = (i + 1) % n, (j + 1) % n
            a, b, c, d = (1 - gx) * (1 - gy), (1 - gx) * gy, gx * (1 - gy), gx * gy
            v = a * velocity[0, i, j] + b * velocity[0, i, j1] + c * velocity[0, i1, j] + d * velocity[0, i1, j1]
            w = a * velocity[1, i, j] + b * velocity[1, i, j1] + c * velocity[1, i1, j] + d * velocity[1, i1, j1]
            x += v * dt + scale * np.random.normal()  # noqa: NPY002
            y += w * dt + scale * np.random.normal()  # noqa: NPY002
        end[0, path], end[1, path] = x, y
    return end


def make_solve(fields, n_paths, n_steps):
    dt, scale = step_sizes(fields, n_steps)
    velocity = fields["velocity"] / float(fields["length"])
    begin = starts(fields, n_paths, float)

    def solve():
        return means(fields, advance(begin, velocity, dt, scale, n_steps), n_paths), n_steps

    return solve


if __name__ == "__main__":
    serve("Euler-Maruyama", make_solve, "numba")
