"""Path-steps per second of the CUDA kernel against the limit of the chip, and Figure 4 on 512**2 points.

    python benchmarks/feynman_kac_gpu.py [--quick] [--out results/benchmark_feynman_kac_gpu.json]

Needs one CUDA device and `pip install -e ".[gpu]"`. Seconds are of the whole call, tables, copies and merging
included, after one call that compiles. By the counts below the whole takes about two minutes on an H200.

The yardstick, counted by hand for one step of one path, velocity bilinear and increments Gaussian, in float32:

    multiplications of integers   22   Philox 19 (10 rounds of 2; one does not change from step to step), cells 2, row 1
    other operations of integers  30   Philox 20 (xor of three), its half 3, addresses 2, position 2, loop 3
    floating point                32   normals 8, fractions 2, bilinear 12, scaled noise 2, whole periods and units 8
    conversions                    6   normals 2, fractions 2, positions 2
    special functions              4   log2, rsqrt, sin, cos
    loads of 8 bytes               4   the corners, both components each
                                  98

A multiprocessor of an H200 (compute capability 9.0) starts 128 of these per clock, of which at most 64 integer
multiplications, 64 other integer operations, and 16 special functions (into which the two conversions of positions
fall): the bound is 98 / 128 = 0.77 clocks, where the parts alone would take 0.34, 0.47 and 0.38. 132 multiprocessors
at 1.98 GHz then do 3.4e11 path-steps per second. Shared memory comes to the same: of 16 lanes that read 8 bytes at
random the fullest of the 16 pairs of banks serves 3.1, so 4 loads of a warp take 25 clocks, 0.77 per path. The
compiler's inner loop for this kernel has 134 instructions and no spills within it (sm_90), 1.05 clocks: 2.5e11 is
what it can reach. It takes the low and the high half of most of Philox's products apart, 17 instructions that a better
compiler would save.

Float64: 90 operations at 64 per clock are 1.4 clocks (1.9e11 per second) in the compiler's loop; but a table of 128**2
does not fit in shared memory, and through the cache 8 loads of 32 lanes touch up to 256 lines, at one per clock 8
clocks per path: 3.3e10. Common paths: with the increments shared by a block 43 operations and two more loads remain,
0.35 clocks: 7.5e11.
"""

import importlib.metadata
import sys
import time
from dataclasses import asdict, dataclass, field
from statistics import median

import _driver
import numpy as np
from numba import cuda

from pde import convergence, feynman_kac, grid, problems

# Clocks of one multiprocessor for one path-step, as counted in the docstring.
CLOCKS = {
    ("float32", "independent"): 96 / 128,
    ("float32", "antithetic"): 96 / 128,
    ("float32", "common"): 45 / 128,
    ("float64", "independent"): 8.0,
    ("float64", "antithetic"): 8.0,
    ("float64", "common"): 8.0,
}
OPTIONS = {"independent": {}, "antithetic": {"antithetic": True}, "common": {"common_paths": True}}


@dataclass
class Row:
    """One line of the table, with every single timing."""

    dtype: str
    paths: str
    n_points: int
    n_paths: int
    n_steps: int
    limit: float
    seconds: list = field(default_factory=list)

    @property
    def rate(self):
        return self.n_points * self.n_paths * self.n_steps / median(self.seconds)


def device_facts():
    """Facts on which the limit depends: name, multiprocessors, clock in Hz."""
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    return {
        "name": name,
        "compute_capability": list(device.compute_capability),
        "n_multiprocessors": device.MULTIPROCESSOR_COUNT,
        "clock_hz": device.CLOCK_RATE * 1000,
        "shared_memory": device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
    }


def timed(problem, points, n_paths, n_steps, seed, **options):
    start = time.perf_counter()
    e = feynman_kac.estimate(problem, points, n_paths, n_steps, rng=seed, device="cuda", **options)
    return time.perf_counter() - start, e


def measure(facts, *, quick, seed):
    """Rates on the pinned problem: Figure 4's velocity on 128**2 points, sigma = 0.1, 1000 steps."""
    problem = problems.figure4(seed=seed, sigma=0.1)
    per_second = facts["n_multiprocessors"] * facts["clock_hz"]
    rows = []
    for (dtype, paths), clocks in CLOCKS.items():
        # The case of the CPU benchmark, and one that lasts.
        for n_side, n_paths in [(64, 256)] if quick else [(64, 256), (256, 1024)]:
            points = grid.points(n_side).reshape(-1, 2)
            row = Row(dtype, paths, len(points), n_paths, 1000, per_second / clocks)
            options = {"dtype": dtype} | OPTIONS[paths]
            timed(problem, points, n_paths, 1000, seed, **options)
            row.seconds = [timed(problem, points, n_paths, 1000, seed, **options)[0] for _ in range(5)]
            rows.append(row)
            print(
                f"{dtype:8}{paths:12}{len(points):7}{n_paths:6}{median(row.seconds):9.4f} s {row.rate:9.2e} "
                f"path-steps/s{100 * row.rate / row.limit:6.1f} % of {row.limit:.1e}",
                flush=True,
            )
    return rows


def check(*, seed):
    """Largest difference from the CPU: in units of f for equal seeds in float64, in standard errors for others."""
    problem, points = problems.figure4(seed=seed, sigma=0.1), np.random.default_rng(seed).random((256, 2))
    cpu = feynman_kac.estimate(problem, points, 1024, 200, rng=seed)
    other = feynman_kac.estimate(problem, points, 1024, 200, rng=seed + 1)
    found = {}
    for dtype in ("float64", "float32"):
        e = feynman_kac.estimate(problem, points, 1024, 200, rng=seed, dtype=dtype, device="cuda")
        z = (e.mean - other.mean) / np.hypot(e.stderr, other.stderr)
        found[dtype] = {
            "max_difference_same_seed": float(np.abs(e.mean - cpu.mean).max()),
            "max_z_other_seed": float(np.abs(z).max()),
            "z_threshold": float(convergence.z_threshold(len(points), 1e-6)),
        }
        print(dtype, found[dtype], flush=True)
    return found


def figure4(*, quick, seed):
    """Figure 4 on 512**2 points with 4096 paths each; 64 of its points against the CPU."""
    n, n_paths = (128, 512) if quick else (512, 4096)
    points = grid.points(n)
    some = np.random.default_rng(seed).integers(0, n, (2, 64))
    found = []
    for sigma in (0.01, 0.1):
        problem = problems.figure4(seed=seed, sigma=sigma)
        for paths in ("common", "independent"):
            seconds, e = timed(problem, points, n_paths, 1000, seed, dtype="float32", **OPTIONS[paths])
            cpu = feynman_kac.estimate(problem, points[some[0], some[1]], 1024, 1000, rng=seed + 1)
            z = (e.mean[some[0], some[1]] - cpu.mean) / np.hypot(e.stderr[some[0], some[1]], cpu.stderr)
            found.append(
                {
                    "sigma": sigma,
                    "paths": paths,
                    "n": n,
                    "n_paths": n_paths,
                    "seconds": seconds,
                    "path_steps_per_second": points.size // 2 * n_paths * 1000 / seconds,
                    "range": [float(e.mean.min()), float(e.mean.max())],
                    "rms_stderr": float(np.sqrt((e.stderr**2).mean())),
                    "max_z_against_cpu": float(np.abs(z).max()),
                }
            )
            print(found[-1], flush=True)
    return found


def versions():
    """Versions of the packages that compile the kernel; None for a missing one."""
    installed = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    return {name: installed.get(name) for name in ("numpy", "numba", "numba-cuda", "cuda-bindings", "cuda-core")}


def main():
    parser = _driver.make_parser(__doc__, quick="small cases")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not cuda.is_available():
        sys.exit("nothing to measure: numba finds no CUDA device")
    facts = device_facts()
    print(facts, flush=True)
    where, data = _driver.machine(), {"device": facts, "check": check(seed=args.seed)}
    rows = measure(facts, quick=args.quick, seed=args.seed)
    data["rows"] = [asdict(row) | {"path_steps_per_second": row.rate, "share": row.rate / row.limit} for row in rows]
    data["figure4"] = figure4(quick=args.quick, seed=args.seed)
    if args.out:
        _driver.write_result(args.out, where, versions(), **data)


if __name__ == "__main__":
    main()
