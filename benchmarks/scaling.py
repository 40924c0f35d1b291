"""Measure how the cost of the solvers grows: with the grid, the points, the paths, the steps, threads and shards.

    python benchmarks/scaling.py [--quick] [--out results/benchmark_scaling.json] [--picture docs/scaling.png]

Each line varies one number and holds the others; its values take turns, and the minimum over the rounds counts. The
exponent between two values is that of the time. Threads and shards divide one and the same work: their ideal exponent
is -1, up to the number of cores. Shards go to two workers of one thread each, of loky and of Dask.

About ten minutes on two cores, half a minute with --quick.
"""

import contextlib
import itertools
import math
import os
import time
from pathlib import Path

# One thread for each worker of loky and Dask; this process sets its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import _driver
import joblib
import numba
import numpy as np
import pinned

import pde
from pde import feynman_kac

N_WORKERS = 2


def problem(n, interpolation="trigonometric"):
    """The pinned problem, its velocity on n points per side."""
    velocity, terminal = pinned.make_fields(n)
    velocity = pde.PeriodicField(velocity, 1.0, interpolation)
    return pde.ConvectionDiffusion(velocity, terminal, sigma=pinned.SIGMA, horizon=pinned.HORIZON)


def points(count):
    return np.random.default_rng(1).random((count, 2))


def estimate(n=128, n_points=1024, n_paths=64, n_steps=20, scheme="heun", **options):
    """A call of `feynman_kac.estimate`, ready to be made; the velocity is bilinear."""
    case, x = problem(n, "bilinear"), points(n_points)
    return lambda: feynman_kac.estimate(case, x, n_paths, n_steps, 1, scheme=scheme, dtype="float32", **options)


def spectral(n):
    case = problem(n)
    # 64 points do not resolve the solution to this tolerance.
    return lambda: pde.spectral.solve(case, rtol=1e-8, check=False)


def with_threads(count):
    call = estimate(n_paths=256, n_steps=500, scheme="euler")

    def run():
        with threads(count):
            call()

    return run


def with_shards(count, backend):
    call = estimate(n_paths=1024, n_steps=500, scheme="euler", n_shards=count)

    def run():
        with joblib.parallel_config(backend, n_jobs=N_WORKERS) if count > 1 else threads(1):
            call()

    return run


@contextlib.contextmanager
def threads(count):
    """Numba's loops on `count` threads."""
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def lines(quick):
    """The lines: what is timed, the number that varies, its values, a function from a value to the call."""
    cut = 3 if quick else None
    cores = sorted({1, *(2**k for k in range(1, 8) if 2**k <= os.cpu_count()), os.cpu_count()})
    return [
        ("spectral.solve to 1e-8", "points per side", (64, 128, 256, 512, 1024)[:cut], spectral),
        ("Euler-Maruyama, 300 steps", "points per side of the velocity", (64, 128, 256, 512, 1024)[:cut],
         lambda n: estimate(n, n_steps=300, scheme="euler")),
        ("Heun, 20 steps, 256 paths", "points", (64, 256, 1024, 4096, 16384)[:cut],
         lambda count: estimate(n_points=count, n_paths=256)),
        ("Heun, 20 steps, 1024 points", "paths", (16, 64, 256, 1024, 4096)[:cut],
         lambda count: estimate(n_paths=count)),
        ("Heun, 1024 points, 64 paths", "steps", (20, 80, 320, 1280)[:cut],
         lambda count: estimate(n_steps=count)),
        ("Euler-Maruyama, 0.13 G path-steps", "threads", cores, with_threads),
        ("Euler-Maruyama, 0.5 G path-steps, loky", "shards", (1, 2, 4, 8)[:cut],
         lambda count: with_shards(count, "loky")),
        ("Euler-Maruyama, 0.5 G path-steps, Dask", "shards", (1, 2, 4, 8)[:cut],
         lambda count: with_shards(count, "dask")),
    ]  # fmt: skip


def measure(what, parameter, values, prepare, rounds):
    """Seconds of each value, the values in turn; the first call of each compiles and starts workers."""
    calls = [prepare(value) for value in values]
    for call in calls:
        call()
    seconds = [[] for _ in values]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    best = [min(taken) for taken in seconds]
    pairs = itertools.pairwise(zip(values, best, strict=True))
    exponents = [math.log(t / s) / math.log(b / a) for (a, s), (b, t) in pairs]
    return {"what": what, "parameter": parameter, "values": values, "seconds": seconds, "best": best,
            "exponents": exponents}  # fmt: skip


@contextlib.contextmanager
def dask_workers():
    """Two workers of Dask for joblib's backend "dask"."""
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": N_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster):
        yield


def table(rows):
    """The rows as text."""
    text = []
    for row in rows:
        times = " / ".join(f"{1e3 * t:.3g}" for t in row["best"])
        exponents = ", ".join(f"{p:.2f}" for p in row["exponents"])
        values = " / ".join(map(str, row["values"]))
        text.append(f"{row['what']}; {row['parameter']} {values}: {times} ms; exponents {exponents}")
    return "\n".join(text)


def draw(rows, path):
    """Time against the number that varies, each line beside its ideal slope."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    for place, (axes, row) in enumerate(zip(figure.subplots(2, -(-len(rows) // 2)).flat, rows, strict=False)):
        values, best = np.array(row["values"], dtype=float), 1e3 * np.array(row["best"])
        axes.loglog(values, best, "o-", color="#0072B2")
        # Work divided among threads or shards, points of a plane grid, or work in proportion.
        slope = {"threads": -1, "shards": -1, "points per side": 2}.get(row["parameter"], 1)
        end = 0 if slope < 0 else -1
        ideal = best[end] * (values / values[end]) ** slope
        axes.loglog(values, ideal, ":", color="#777777", label=f"slope {slope}".replace("-", "−"))
        axes.set(xlabel=row["parameter"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"({chr(ord('a') + place)}) " + row["what"].replace(", ", ",\n", 1), loc="left", fontsize=9)
        axes.set_xticks(values, [f"{v:g}" for v in values])
        low, high = axes.get_ylim()
        steps = (1, 2, 5) if high / low > 5 else (1, 1.5, 2, 3, 4, 5, 7)
        ticks = [tick for tick in np.outer(10.0 ** np.arange(-3, 7), steps).ravel() if low <= tick <= high]
        if high / low > 100:
            ticks = ticks[:: len(ticks) // 4]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, frameon=False)
    figure.supylabel("milliseconds")
    figure.savefig(path, dpi=120)


def main():
    parser = _driver.make_parser(__doc__, quick="three values of each line, one round")
    parser.add_argument("--rounds", type=int, help="turns of each value (default: 5, quick: 1)")
    parser.add_argument("--picture", type=Path, help="draw them into this file")
    args = parser.parse_args()
    where, rows = _driver.machine(), []
    with dask_workers():
        for line in lines(args.quick):
            rows.append(measure(*line, args.rounds or (1 if args.quick else 5)))
            print(table(rows[-1:]), flush=True)
    if args.picture:
        draw(rows, args.picture)
    if args.out:
        versions = {"numpy": np.__version__, "numba": numba.__version__, "joblib": joblib.__version__}
        _driver.write_result(args.out, where, versions, n_workers=N_WORKERS, rows=rows)


if __name__ == "__main__":
    main()
