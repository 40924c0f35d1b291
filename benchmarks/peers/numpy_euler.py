"""NumPy by hand, in either precision: chunks of 8192 particles, which stay in the cache, on a pool of threads."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from particles import means, starts, step_sizes
from worker import serve

CHUNK = 8192


def make_solve(fields, n_paths, n_steps, dtype):
    n, (dt, scale) = fields["velocity"].shape[-1], step_sizes(fields, n_steps)
    # Both components in units of grid cells, row by row, so that four indices serve both.
    tables = [(dt * n * v).astype(dtype).ravel() for v in fields["velocity"] / float(fields["length"])]
    begin = starts(fields, n_paths, dtype) * np.dtype(dtype).type(n)
    noise = np.dtype(dtype).type(scale * n)
    chunks = [slice(first, first + CHUNK) for first in range(0, begin.shape[1], CHUNK)]

    def advance(chunk, rng):
        x, y = position = begin[:, chunk].copy()
        drift = np.empty_like(position)
        for _ in range(n_steps):
            floor = np.floor(position)
            gx, gy = position - floor
            i, j = floor.astype(np.int32) % n
            row, row1, j1 = i * n, (i + 1) % n * n, (j + 1) % n
            corners = row + j, row + j1, row1 + j, row1 + j1
            for component, table in enumerate(tables):
                a, b, c, d = (table[corner] for corner in corners)
                lower = a + gy * (b - a)
                drift[component] = lower + gx * (c + gy * (d - c) - lower)
            position += drift
            position += noise * rng.standard_normal(position.shape, dtype)
        return np.stack([x, y]) / n

    def solve():
        rngs = np.random.default_rng(1).spawn(len(chunks))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            end = np.concatenate(list(pool.map(advance, chunks, rngs)), axis=1)
        return means(fields, end, n_paths), n_steps

    return solve


if __name__ == "__main__":
    serve("Euler-Maruyama", make_solve)
