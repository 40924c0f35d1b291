"""Time the Monte-Carlo solver beside torchsde, diffrax, JAX, NumPy and numba on the pinned problem.

    python benchmarks/feynman_kac.py --setup       environments for the peers, once
    python benchmarks/feynman_kac.py [--quick] [--out results/benchmark_feynman_kac.json]

The case: Euler-Maruyama paths in the velocity of `pinned.py` on 128 x 128 points, bilinear between them, sigma = 0.1,
T = 1, from 64 x 64 points, 256 paths per point, 1000 steps per path: 1.05e9 path-steps. The peers take fewer paths per
point, 16384 to 65536 in all, because more no longer change their rates (seen up to four times as many); "full s" is the
time of the whole case at the rate measured. All tools may use all cores; "cores" is processor time over wall time.
"M/core s", millions of path-steps per second of one core, holds on a busy machine where "M/s" does not; but not for
torchsde, whose threads spin while they wait for each other. Every tool goes from arrays to the means of f(X_T) inside
the timer, in a process of its own that compiles and warms up outside; the tools take turns.

The last rows are the same result by other routes, and their "full s" is the measured time of the whole result:
stochastic Heun, of weak order 2, with 20 steps; and one call of `solve_to` for the error that the whole case has, pilot
and standard errors included, which chooses paths and steps itself (those in the table are nominal).

chi2 proves that all solve the same problem: the mean over the points of (error / noise)**2, with the error against the
spectral solution u and the noise sqrt((E f**2 - u**2) / n_paths), E f**2 being a spectral solution too. It is 1 for an
unbiased estimate, give or take 0.03, and at most 1 for `solve_to`, which may do better than the error it was given.
The whole takes about three minutes, `--quick` 20 seconds.
"""

import contextlib
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import _driver
import numpy as np
import pinned

import pde

N, N_POINTS_SIDE, N_PATHS, N_STEPS, HEUN_STEPS = 128, 64, 256, 1000, 20
# Where the peers read f: between its points the error is a thousandth of max |f|.
TERMINAL_N = 512
# Five standard errors of chi2 (0.02 for normal estimates, more for the few paths of the peers).
CHI2_TOLERANCE = 0.2
N_CORES = os.cpu_count()
ALL_CORES = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(N_CORES)),
    # A CPU is one device however many cores it has, and a loop of small operations keeps one core busy.
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={N_CORES}",
    "JAX_PLATFORMS": "cpu",
}

OURS = _driver.Tool("ours", "ours_feynman_kac.py")
TORCHSDE = _driver.Tool("torchsde", "torchsde_euler.py", "torchsde")
DIFFRAX = _driver.Tool("diffrax", "diffrax_euler.py", "diffrax")
JAX = _driver.Tool("JAX, by hand", "jax_euler.py", "jax")
NUMPY = _driver.Tool("NumPy, by hand", "numpy_euler.py", "numpy")
NUMBA = _driver.Tool("numba, naive", "numba_euler.py")
TOOLS = (OURS, TORCHSDE, DIFFRAX, JAX, NUMPY, NUMBA)


@dataclass(frozen=True)
class Case:
    """A line of the table before it is measured; without quick paths, `--quick` leaves it out."""

    tool: _driver.Tool
    method: str
    dtype: str
    n_paths: int
    n_paths_quick: int
    options: dict = field(default_factory=dict)
    n_steps: int = N_STEPS
    repeats: int = 1


def ours(method, dtype, n_paths_quick=N_PATHS, n_steps=N_STEPS, repeats=1, **options):
    return Case(OURS, method, dtype, N_PATHS, n_paths_quick, {"dtype": dtype, **options}, n_steps, repeats)


SINGLE = ours("Gaussian", "float32", n_paths_quick=128)
CHEAPEST = ours(f"Heun, {HEUN_STEPS} steps", "float32", n_steps=HEUN_STEPS, repeats=5, scheme="heun")
# The root-mean-square error of the whole case: 256 paths of a datum whose standard deviation is 0.197.
SOLVE_TO = ours("solve_to, rms 0.0123", "float32", n_steps=HEUN_STEPS, repeats=5, stderr=1.23e-2)
CASES = (
    ours("Gaussian", "float64", n_paths_quick=32),
    SINGLE,
    ours("two-point", "float32", n_paths_quick=128, increments="two-point"),
    Case(TORCHSDE, "BrownianInterval", "float32", 4, 1),
    Case(DIFFRAX, "UnsafeBrownianPath", "float32", 16, 2, {"brownian": "UnsafeBrownianPath"}),
    Case(DIFFRAX, "VirtualBrownianTree", "float32", 4, 0, {"brownian": "VirtualBrownianTree"}),
    Case(JAX, "fori_loop", "float32", 16, 2),
    Case(NUMPY, "chunks of 8192", "float32", 16, 4, {"dtype": "float32"}),
    Case(NUMBA, "np.random.normal", "float64", 16, 4),
    CHEAPEST,
    SOLVE_TO,
)


@dataclass
class Row:
    """One line of the table, with every single timing."""

    tool: str
    method: str
    dtype: str
    n_paths: int
    n_steps: int
    chi2: float
    noise: float
    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)

    @property
    def rate(self):
        """Path-steps per second, from the fastest solve."""
        return N_POINTS_SIDE**2 * self.n_paths * self.n_steps / min(self.seconds)

    @property
    def cores(self):
        """Cores in use, on average."""
        return sum(self.cpu_seconds) / sum(self.seconds)

    @property
    def core_rate(self):
        """Path-steps per second of one core, from the solve that took the least processor time."""
        return N_POINTS_SIDE**2 * self.n_paths * self.n_steps / min(self.cpu_seconds)

    @property
    def full_seconds(self):
        """The whole case, all its paths and as many steps as the row takes, at this rate."""
        return N_POINTS_SIDE**2 * N_PATHS * self.n_steps / self.rate


def save_fields(folder, side=N_POINTS_SIDE, n=N):
    """Write the problem for every tool to read; returns the path, u and the variance of f(X_T) at side**2 points."""
    velocity, terminal = pinned.make_fields(n)
    points, stride = pde.grid.points(side).reshape(-1, 2), n // side

    def at_points(values):
        problem = pde.ConvectionDiffusion(velocity, values, sigma=pinned.SIGMA, horizon=pinned.HORIZON)
        return pde.spectral.solve(problem).u[::stride, ::stride].ravel()

    u = at_points(terminal)
    path = Path(folder) / "feynman_kac.npz"
    np.savez(
        path, velocity=velocity, terminal=terminal, terminal_fine=pinned.make_fields(TERMINAL_N)[1], points=points,
        sigma=pinned.SIGMA, horizon=pinned.HORIZON, length=1.0,
    )  # fmt: skip
    return path, u, at_points(terminal**2) - u**2


def measure(workers, cases, path, u, variance, *, rounds, quick):
    """The rows: first a solve each to compile, warm up and judge, then the tools in turn."""
    turns = []
    for case in cases:
        n_paths = case.n_paths_quick if quick else case.n_paths
        if case.tool.name not in workers or not n_paths:
            continue
        setting = {"n_paths": n_paths, "n_steps": case.n_steps, **case.options}
        worker = workers[case.tool.name]
        mean = worker.solve(path, setting, repeats=0, save=True)["u"]
        chi2 = float(np.mean((mean - u) ** 2 / (variance / n_paths)))
        noise = float(np.sqrt(variance.mean() / n_paths))
        row = Row(case.tool.name, case.method, case.dtype, n_paths, case.n_steps, chi2, noise)
        turns.append((row, partial(worker.solve, path, setting, repeats=case.repeats)))
    return _driver.take_turns(turns, rounds)


def base_of(rows, case):
    return next(row for row in rows if (row.tool, row.method, row.dtype) == (case.tool.name, case.method, case.dtype))


def table(rows):
    """The rows as text; the ratios are of the times of the whole case, to our float32 and to our cheapest row."""
    single, cheapest = (base_of(rows, case).full_seconds for case in (SINGLE, CHEAPEST))
    lines = [
        f"{'tool':16}{'method':20}{'dtype':9}{'paths':>6}{'steps':>6}{'min s':>8}{'median s':>10}{'cores':>6}"
        f"{'M/s':>8}{'M/core s':>10}{'full s':>8}{'/ ours32':>9}{'/ Heun':>8}{'noise':>8}{'chi2':>7}"
    ]
    for row in rows:
        lines.append(
            f"{row.tool:16}{row.method:20}{row.dtype:9}{row.n_paths:6}{row.n_steps:6}{min(row.seconds):8.3f}"
            f"{median(row.seconds):10.3f}{row.cores:6.1f}{row.rate / 1e6:8.1f}{row.core_rate / 1e6:10.1f}"
            f"{row.full_seconds:8.2f}{row.full_seconds / single:9.1f}{row.full_seconds / cheapest:8.0f}"
            f"{row.noise:8.4f}{row.chi2:7.3f}"
        )
    return "\n".join(lines)


def main():
    args = _driver.parse_arguments(__doc__, TOOLS, quick="fewer paths, one round", rounds=(3, 1))
    where = _driver.machine()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path, u, variance = save_fields(folder)
        workers = _driver.start_workers(stack, TOOLS, args.envs, folder, ALL_CORES)
        print(
            f"{_driver.headline(where)}; up to {N_CORES} threads for every tool; {args.rounds} rounds, tools in turn\n"
            f"sigma = {pinned.SIGMA}, T = {pinned.HORIZON}, velocity {N} x {N}, bilinear; whole case: "
            f"{N_POINTS_SIDE**2} points x {N_PATHS} paths x {N_STEPS} steps"
        )
        rows = measure(workers, CASES, path, u, variance, rounds=args.rounds, quick=args.quick)
        versions = {name: worker.versions for name, worker in workers.items()}
    print(table(rows))
    for row in rows:
        # A call with a prescribed error may have a smaller one.
        least = 0 if row.method == SOLVE_TO.method else 1 - CHI2_TOLERANCE
        if not least <= row.chi2 <= 1 + CHI2_TOLERANCE:
            print(f"{row.tool}, {row.method}: chi2 = {row.chi2:.3f}, not the same problem", file=sys.stderr)
    if args.out:
        sizes = {"n": N, "n_points": N_POINTS_SIDE**2, "n_paths": N_PATHS, "n_steps": N_STEPS}
        problem = {"sigma": pinned.SIGMA, "horizon": pinned.HORIZON, **sizes}
        derived = ("rate", "core_rate", "cores", "full_seconds")
        results = [asdict(row) | {name: getattr(row, name) for name in derived} for row in rows]
        _driver.write_result(args.out, where, versions, threads=N_CORES, problem=problem, rows=results)


if __name__ == "__main__":
    main()
