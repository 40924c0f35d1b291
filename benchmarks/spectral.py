"""Time the spectral solver beside exponax and fluidsim on the pinned problem, at the paper's step and at equal error.

    python benchmarks/spectral.py --setup       environments for the peers, once
    python benchmarks/spectral.py [--quick] [--out results/benchmark_spectral.json]

Two comparisons on each grid. "paper": the peers take the paper's step 1e-3, ours its default rtol. "tuned": the peers
take the largest step whose error is at most 1e-8, found here for each, ours the loosest rtol that reaches it. On 512
and 1024 points per side, and for the other problems of `pinned.py`, "tuned" alone, without variants of a peer.
Every tool solves in float64, in one thread, in a process of its own that plans, compiles and warms up outside the
timer; the tools take turns, so that other work on the machine affects all alike. Errors are maxima over the grid
against a reference computed by `pinned.py`. The whole takes about half an hour and `--quick` (n = 128, fewer repeats)
half a minute on two cores, plus ten minutes, or one, the first time for the references.
"""

import contextlib
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median

import _driver
import numpy as np
import pinned

PAPER_DT = 1e-3
DEFAULT_RTOL = 1e-8
TARGET = 1e-8
# Candidates from loose to tight. Steps divide T, 5 % apart at most from 40 on; ten tolerances per decade.
RTOLS = tuple(float(f"{10 ** (-k / 10):.2g}") for k in range(60, 101))
N_STEPS = (*range(20, 100, 2), *range(100, 200, 4), *range(200, 400, 8), *range(400, 1001, 20))
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True)
class Tool(_driver.Tool):
    """A tool and the settings it is tried with."""

    @property
    def candidates(self):
        return [{"rtol": r} for r in RTOLS] if self.env is None else [{"dt": pinned.HORIZON / m} for m in N_STEPS]

    @property
    def paper_setting(self):
        return {"rtol": DEFAULT_RTOL} if self.env is None else {"dt": PAPER_DT}


TOOLS = (
    Tool("ours", "ours.py"),
    Tool("exponax", "exponax_etdrk4.py", "exponax"),
    Tool("exponax, batched", "exponax_etdrk4.py", "exponax", {"batched": True}),
    Tool("fluidsim", "fluidsim_ifrk4.py", "fluidsim"),
)


@dataclass
class Row:
    """One line of the table, with every single timing."""

    problem: str
    comparison: str
    n: int
    tool: str
    method: str
    setting: dict
    n_steps: int
    error: float
    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)


def max_error(worker, fields, setting, reference):
    """Error and number of steps of one solve; infinite where it fails."""
    try:
        reply = worker.solve(fields, setting, repeats=0, save=True)
    except _driver.SolveError:
        return np.inf, 0
    error = float(np.abs(reply["u"] - reference).max())
    return (error if np.isfinite(error) else np.inf), reply["n_steps"]


def tune(worker, fields, reference):
    """The loosest candidate with error <= TARGET, its error and steps; None if none of them reaches it."""
    candidates = worker.tool.candidates
    low, high, best = 0, len(candidates), None
    # Bisection: the error falls along the list.
    while low < high:
        middle = (low + high) // 2
        error, n_steps = max_error(worker, fields, candidates[middle], reference)
        if error <= TARGET:
            high, best = middle, (candidates[middle], error, n_steps)
        else:
            low = middle + 1
    return best


def compare(workers, comparison, problem, n, folder, *, rounds, repeats):
    """The rows of one comparison: settings first, then the tools in turn."""
    fields, reference, turns = pinned.save_fields(folder, n, problem), pinned.reference(problem).on_grid(n), []
    for worker in workers:
        if comparison == "paper":
            setting = worker.tool.paper_setting
            found = (setting, *max_error(worker, fields, setting, reference))
        else:
            found = tune(worker, fields, reference)
        if found is None or not np.isfinite(found[1]):
            print(f"{worker.tool.name} has no solution for '{problem.name}, {comparison}' at n = {n}", file=sys.stderr)
            continue
        setting, error, n_steps = found
        row = Row(problem.name, comparison, n, worker.tool.name, worker.method, setting, n_steps, error)
        turns.append((row, partial(worker.solve, fields, setting, repeats=repeats)))
    return _driver.take_turns(turns, rounds)


def table(rows):
    """The rows as text; the ratio is to ours, of the minima, within the same comparison and grid."""
    ours = {(row.problem, row.comparison, row.n): min(row.seconds) for row in rows if row.tool == "ours"}
    lines = [
        f"{'':20}{'':7}{'n':>5}  {'tool':17}{'method':24}{'setting':>13}{'steps':>7}"
        f"{'min s':>9}{'median s':>10}{'max error':>11}{'/ ours':>8}"
    ]
    for row in rows:
        setting = ", ".join(f"{k}={v:.3g}" for k, v in row.setting.items())
        base = ours.get((row.problem, row.comparison, row.n))
        ratio = f"{min(row.seconds) / base:.1f}" if base else "-"
        lines.append(
            f"{row.problem:20}{row.comparison:7}{row.n:5}  {row.tool:17}{row.method:24}{setting:>13}{row.n_steps:7}"
            f"{min(row.seconds):9.4f}{median(row.seconds):10.4f}{row.error:11.1e}{ratio:>8}"
        )
    return "\n".join(lines)


def cases(quick):
    """Problem, comparison, points per side."""
    main = [(pinned.PINNED, comparison, n) for n in (128, 256) for comparison in ("paper", "tuned")]
    larger = [(pinned.PINNED, "tuned", n) for n in (512, 1024)]
    return main[:2] if quick else main + larger + [(problem, "tuned", problem.n) for problem in pinned.OTHERS]


def main():
    repeats = {"type": int, "default": 2, "help": "solves in a turn (default: %(default)s)"}
    quick = "n = 128, two rounds, no variants of a peer"
    args = _driver.parse_arguments(__doc__, TOOLS, quick=quick, rounds=(5, 2), repeats=repeats)
    if not pinned.reference_path().exists():
        print("computing the reference, which takes a minute once", file=sys.stderr)
    reference = pinned.reference()
    where = _driver.machine()
    rows = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tools = [tool for tool in TOOLS if not (args.quick and tool.options)]
        workers = _driver.start_workers(stack, tools, args.envs, folder, ONE_THREAD)
        print(
            f"{_driver.headline(where)}; float64, 1 thread; {args.rounds} rounds x {args.repeats} solves, "
            "tools in turn\n"
            f"sigma = {pinned.SIGMA}, T = {pinned.HORIZON}; reference n = {pinned.PINNED.reference_n}, "
            f"{pinned.PINNED.reference_steps} steps, error {reference.time_error:.0e} in time, "
            f"{reference.space_error:.0e} in space"
        )
        for problem, comparison, n in cases(args.quick):
            main_case = problem is pinned.PINNED and n <= 256
            chosen = [worker for worker in workers.values() if main_case or not worker.tool.options]
            rounds = args.rounds if n <= 256 else min(2, args.rounds)
            rows += compare(chosen, comparison, problem, n, folder, rounds=rounds, repeats=args.repeats)
        versions = {name: worker.versions for name, worker in workers.items()}
    print(table(rows))
    for row in rows:
        if sum(row.cpu_seconds) > 1.1 * sum(row.seconds):
            print(f"{row.tool} at n = {row.n} used more than one thread", file=sys.stderr)
    if args.out:
        problem = {"sigma": pinned.SIGMA, "horizon": pinned.HORIZON, "target_error": TARGET}
        problem["others"] = [other._asdict() for other in pinned.OTHERS]
        errors = {"time_error": reference.time_error, "space_error": reference.space_error}
        data = {"problem": problem, "reference": errors, "rows": [asdict(row) for row in rows]}
        _driver.write_result(args.out, where, versions, threads=1, **data)


if __name__ == "__main__":
    main()
