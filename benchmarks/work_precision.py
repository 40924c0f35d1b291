"""Time to a prescribed error: `solve_to`, multilevel and plain Monte Carlo, and Euler-Maruyama of diffrax and torchsde.

    python benchmarks/feynman_kac.py --setup       environments for the peers, once
    python benchmarks/work_precision.py [--quick] [--out results/benchmark_work_precision.json]
    python -m figures.mlmc                         draws the recorded result, panel (d)

The problem is that of `feynman_kac.py`: sigma = 0.1, T = 1, here from 64 points and with a velocity that is bilinear
on 512 x 512, 3e-5 from the smooth one of the reference. For each error requested the Euler-Maruyama rows take the
numbers of steps and of paths that are best for them (Giles 2015):

    c / n_steps = eps / sqrt(3),  n_paths = 1.5 Var f(X_T) / eps**2

with the constant c of the bias and the variance measured here beforehand and given to them; `solve_to` and `multilevel`
are given the error alone. "error" is the root-mean-square error over the points against the spectral solution. A row is
left out where, by the one before, it would take more than 40 seconds. Compilation is outside of the timer; tools
take turns, and the time is the median of three rounds, or one of more than a second. Five minutes on two cores.
"""

import contextlib
import math
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from statistics import median

import _driver
import feynman_kac as rates
import numpy as np
import pinned

import pde

ERRORS, ERRORS_QUICK = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4), (3e-2, 1e-2)
# Of a solve, which is made twice at least: to compile, and in the timer.
MOST_SECONDS, LONG = 40.0, 1.0
# Points per side, fewer than there, so that `solve_to` reaches 1e-4 in seconds; and of the velocity's grid.
SIDE, N = 8, 512
PILOT_STEPS, PILOT_PATHS = 32, 8192
TOOLS = (rates.OURS, rates.TORCHSDE, rates.DIFFRAX)


@dataclass(frozen=True)
class Method:
    """A line of the picture; with `options` of an Euler-Maruyama, or given the error alone."""

    tool: _driver.Tool
    name: str
    options: dict = field(default_factory=dict)
    is_plain: bool = True


METHODS = (
    Method(rates.OURS, "solve_to", {"way": "solve_to"}, is_plain=False),
    Method(rates.OURS, "multilevel", {"way": "multilevel"}, is_plain=False),
    Method(rates.OURS, "plain", {"dtype": "float32"}),
    Method(rates.DIFFRAX, "Euler, UnsafeBrownianPath", {"brownian": "UnsafeBrownianPath"}),
    Method(rates.TORCHSDE, "euler, BrownianInterval"),
)


@dataclass
class Row:
    """A solve to one error; n_paths and n_steps are None where the method chooses."""

    tool: str
    method: str
    requested: float
    n_paths: int | None
    n_steps: int | None
    error: float
    seconds: list

    @property
    def time(self):
        """Median over the rounds, in seconds."""
        return median(self.seconds)


def bias_constant(path, u):
    """The constant c of Euler's bias c / n_steps, root mean square over the points, without the noise of its means."""
    fields = np.load(path)
    velocity = pde.PeriodicField(fields["velocity"], interpolation="bilinear")
    problem = pde.ConvectionDiffusion(velocity, fields["terminal"], sigma=pinned.SIGMA, horizon=pinned.HORIZON)
    e = pde.feynman_kac.estimate(problem, fields["points"], PILOT_PATHS, PILOT_STEPS, 0, antithetic=True)
    return PILOT_STEPS * math.sqrt(max(np.mean((e.mean - u) ** 2 - e.stderr**2), 0.0))


def plan(method, eps, c, variance):
    """The setting of a method for an error."""
    if not method.is_plain:
        return {"n_paths": 0, "n_steps": 0, "stderr": eps, **method.options}
    n_steps = max(1, math.ceil(math.sqrt(3) * c / eps))
    return {"n_paths": max(2, math.ceil(1.5 * variance / eps**2)), "n_steps": n_steps, **method.options}


def measure(workers, errors, path, u, c, variance, rounds):
    """The rows, tools in turn for each error; a method ends where its next row would take too long."""
    rows, last = [], {}
    for eps in errors:
        turns = []
        for method in METHODS:
            setting = plan(method, eps, c, variance)
            cost = setting["n_paths"] * setting["n_steps"] if method.is_plain else eps**-2
            before = last.get(method.name, (cost, 0.0))
            expected = cost / before[0] * before[1]
            if method.tool.name not in workers or expected > MOST_SECONDS:
                continue
            worker = workers[method.tool.name]
            reply = worker.solve(path, setting, repeats=0, save=True)
            error = float(np.sqrt(np.mean((reply["u"] - u) ** 2)))
            shape = (setting["n_paths"], setting["n_steps"]) if method.is_plain else (None, None)
            row = Row(method.tool.name, method.name, eps, *shape, error, [])
            turns.append((method, cost, row, setting, 1 if expected > LONG else rounds))
        for number in range(rounds):
            for method, _, row, setting, most in turns:
                if number < most:
                    row.seconds += workers[method.tool.name].solve(path, setting, repeats=1)["seconds"]
        for method, cost, row, *_ in turns:
            last[method.name] = cost, row.time
            rows.append(row)
    return rows


def table(rows):
    """The rows as text; the last column is the time over that of `solve_to` at the same error requested."""
    base = {row.requested: row.time for row in rows if row.method == "solve_to"}
    lines = [
        f"{'requested':>10}  {'tool':10}{'method':28}{'paths':>8}{'steps':>7}{'error':>10}{'s':>9}{'/ solve_to':>12}"
    ]
    for row in rows:
        lines.append(
            f"{row.requested:10.0e}  {row.tool:10}{row.method:28}{row.n_paths or '-':>8}{row.n_steps or '-':>7}"
            f"{row.error:10.1e}{row.time:9.3f}{row.time / base[row.requested]:12.1f}"
        )
    return "\n".join(lines)


def main():
    args = _driver.parse_arguments(__doc__, TOOLS, quick="two errors, one round", rounds=(3, 1))
    where = _driver.machine()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path, u, variance = rates.save_fields(folder, SIDE, N)
        workers = _driver.start_workers(stack, TOOLS, args.envs, folder, rates.ALL_CORES)
        c = bias_constant(path, u)
        print(f"{_driver.headline(where)}; {args.rounds} rounds, tools in turn; bias of Euler {c:.3g} / n_steps")
        errors = ERRORS_QUICK if args.quick else ERRORS
        rows = measure(workers, errors, path, u, c, float(variance.mean()), args.rounds)
        versions = {name: worker.versions for name, worker in workers.items()}
    print(table(rows))
    for row in rows:
        if not row.error <= 1.2 * row.requested:
            print(f"{row.tool}, {row.method}: error {row.error:.2g} > {row.requested:g}", file=sys.stderr)
    if args.out:
        problem = {"sigma": pinned.SIGMA, "horizon": pinned.HORIZON, "n": N, "bias_constant": c}
        problem |= {"n_points": SIDE**2, "variance": float(variance.mean())}
        results = [asdict(row) | {"time": row.time} for row in rows]
        _driver.write_result(args.out, where, versions, threads=rates.N_CORES, problem=problem, rows=results)


if __name__ == "__main__":
    main()
