"""Time the spectral solver beside exponax and fluidsim on the pinned problem, at the paper's step and at equal error.

    python benchmarks/spectral.py --setup       environments for the peers, once
    python benchmarks/spectral.py [--quick] [--out results/benchmark_spectral.json]

Two comparisons on each grid. "paper": the peers take the paper's step 1e-3, ours its default rtol. "tuned": the peers
take the largest step whose error is at most 1e-8, found here for each, ours the loosest rtol that reaches it.
Every tool solves in float64, in one thread, in a process of its own that plans, compiles and warms up outside the
timer; the tools take turns, so that what else the machine does hits all alike. Errors are maxima over the grid
against a reference computed by `pinned.py`. The whole takes about five minutes and `--quick` (n = 128, fewer repeats)
half a minute on two cores, plus a minute the first time for the reference.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import pinned

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
PAPER_DT = 1e-3
DEFAULT_RTOL = 1e-8
TARGET = 1e-8
# Candidates from loose to tight. Steps divide T, 5 % apart at most from 40 on.
RTOLS = (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9, 3e-10, 1e-10)
N_STEPS = (*range(20, 100, 2), *range(100, 200, 4), *range(200, 400, 8), *range(400, 1001, 20))
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True)
class Tool:
    """What is timed: a script of `peers/`, the environment it runs in (None: this one) and its fixed options."""

    name: str
    script: str
    env: str | None = None
    options: dict = field(default_factory=dict)

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

    comparison: str
    n: int
    tool: str
    method: str
    setting: dict
    n_steps: int
    error: float
    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)


class SolveError(RuntimeError):
    """The tool refused this setting or its solution blew up."""


class Worker:
    """A tool's process, kept alive between turns."""

    def __init__(self, tool, python, folder):
        self.tool = tool
        self.folder = Path(folder)
        self.log = self.folder / f"{tool.name}.log"
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ONE_THREAD
        if tool.env is None:
            env["PYTHONPATH"] = str(HERE.parent)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [str(python), str(PEERS / tool.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
                cwd=folder,
            )
        hello = self._receive()
        self.method, self.versions = hello["method"], hello["versions"]

    def _receive(self):
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{self.tool.name} ended unexpectedly; the end of its log:\n{tail}")
        return json.loads(line)

    def solve(self, n, setting, *, repeats, save=False):
        """Seconds of each solve and, if saved, the solution."""
        path = self.folder / f"{self.tool.name}-{n}.npy"
        request = {
            "fields": str(self.folder / f"pinned-{n}.npz"),
            "n": n,
            "setting": self.tool.options | setting,
            "repeats": repeats,
            "save": str(path) if save else None,
        }
        print(json.dumps(request), file=self.process.stdin, flush=True)
        reply = self._receive()
        if "error" in reply:
            raise SolveError(reply["error"])
        return reply | ({"u": np.load(path)} if save else {})

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def environment_python(folder):
    return Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(envs):
    """Make one virtual environment per peer, with the pinned versions of peers/NAME.txt."""
    for name in sorted({tool.env for tool in TOOLS if tool.env}):
        print(f"{name}: {envs / name}", flush=True)
        venv.create(envs / name, with_pip=True, clear=True)
        pip = [str(environment_python(envs / name)), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, "-r", str(PEERS / f"{name}.txt")], check=True)


def max_error(worker, n, setting, reference):
    """Error and number of steps of one solve; infinite where it fails."""
    try:
        reply = worker.solve(n, setting, repeats=0, save=True)
    except SolveError:
        return np.inf, 0
    error = float(np.abs(reply["u"] - reference).max())
    return (error if np.isfinite(error) else np.inf), reply["n_steps"]


def tune(worker, n, reference):
    """The loosest candidate with error <= TARGET, its error and steps; None if none of them reaches it."""
    candidates = worker.tool.candidates
    low, high, best = 0, len(candidates), None
    # Bisection: the error falls along the list.
    while low < high:
        middle = (low + high) // 2
        error, n_steps = max_error(worker, n, candidates[middle], reference)
        if error <= TARGET:
            high, best = middle, (candidates[middle], error, n_steps)
        else:
            low = middle + 1
    return best


def compare(workers, comparison, n, reference, *, rounds, repeats):
    """The rows of one comparison: settings first, then the tools in turn."""
    rows = []
    for worker in workers:
        if comparison == "paper":
            setting = worker.tool.paper_setting
            found = (setting, *max_error(worker, n, setting, reference))
        else:
            found = tune(worker, n, reference)
        if found is None or not np.isfinite(found[1]):
            print(f"{worker.tool.name} has no solution for '{comparison}' at n = {n}", file=sys.stderr)
            continue
        setting, error, n_steps = found
        rows.append((worker, Row(comparison, n, worker.tool.name, worker.method, setting, n_steps, error)))
    for _ in range(rounds):
        for worker, row in rows:
            reply = worker.solve(n, row.setting, repeats=repeats)
            row.seconds += reply["seconds"]
            row.cpu_seconds += reply["cpu_seconds"]
    return [row for _, row in rows]


def machine():
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {
        "cpu": cpu,
        "n_cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
    }


def table(rows):
    """The rows as text; the ratio is to ours, of the minima, within the same comparison and grid."""
    ours = {(row.comparison, row.n): min(row.seconds) for row in rows if row.tool == "ours"}
    lines = [
        f"{'':7}{'n':>5}  {'tool':17}{'method':24}{'setting':>13}{'steps':>7}"
        f"{'min s':>9}{'median s':>10}{'max error':>11}{'/ ours':>8}"
    ]
    for row in rows:
        setting = ", ".join(f"{k}={v:.3g}" for k, v in row.setting.items())
        base = ours.get((row.comparison, row.n))
        ratio = f"{min(row.seconds) / base:.1f}" if base else "-"
        lines.append(
            f"{row.comparison:7}{row.n:5}  {row.tool:17}{row.method:24}{setting:>13}{row.n_steps:7}"
            f"{min(row.seconds):9.4f}{median(row.seconds):10.4f}{row.error:11.1e}{ratio:>8}"
        )
    return "\n".join(lines)


def write_json(path, data):
    """Whole or not at all, so that an interrupted run never leaves half a result."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    # Temporary files are private by default, which a result is not.
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def start_workers(stack, tools, envs, folder):
    """A process for every tool whose environment exists."""
    workers = []
    for tool in tools:
        python = sys.executable if tool.env is None else environment_python(envs / tool.env)
        if not Path(python).exists():
            print(f"{tool.name}: no environment at {envs / tool.env}; --setup makes it", file=sys.stderr)
            continue
        worker = Worker(tool, python, folder)
        stack.callback(worker.close)
        workers.append(worker)
    return workers


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make the peers' environments and stop")
    parser.add_argument("--envs", type=Path, default=HERE / ".envs", help="where they are (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="n = 128, two rounds, no variants of a peer")
    parser.add_argument("--rounds", type=int, help="turns of each tool (default: 5, quick: 2)")
    parser.add_argument("--repeats", type=int, default=2, help="solves in a turn (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the numbers and their provenance to this JSON file")
    args = parser.parse_args()
    args.envs = args.envs.resolve()
    args.rounds = args.rounds or (2 if args.quick else 5)
    return args


def main():
    args = parse_arguments()
    if args.setup:
        set_up(args.envs)
        return
    if not pinned.reference_path().exists():
        print("computing the reference, which takes a minute once", file=sys.stderr)
    reference = pinned.reference()
    where = machine()
    rows = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tools = [tool for tool in TOOLS if not (args.quick and tool.options)]
        workers = start_workers(stack, tools, args.envs, folder)
        print(
            f"{where['cpu']}, {where['n_cores']} cores, load {where['load_average'][0]:.1f}; float64, 1 thread; "
            f"{args.rounds} rounds x {args.repeats} solves, tools in turn\n"
            f"sigma = {pinned.SIGMA}, T = {pinned.HORIZON}; reference n = {pinned.REFERENCE_N}, "
            f"{pinned.REFERENCE_STEPS} steps, error {reference.time_error:.0e} in time, "
            f"{reference.space_error:.0e} in space"
        )
        for n in (128,) if args.quick else (128, 256):
            pinned.save_fields(folder, n)
            for comparison in ("paper", "tuned"):
                rows += compare(workers, comparison, n, reference.on_grid(n), rounds=args.rounds, repeats=args.repeats)
        versions = {worker.tool.name: worker.versions for worker in workers}
    print(table(rows))
    for row in rows:
        if sum(row.cpu_seconds) > 1.1 * sum(row.seconds):
            print(f"{row.tool} at n = {row.n} used more than one thread", file=sys.stderr)
    if args.out:
        problem = {"sigma": pinned.SIGMA, "horizon": pinned.HORIZON, "target_error": TARGET}
        vouchers = {"time_error": reference.time_error, "space_error": reference.space_error}
        provenance = {"machine": where, "versions": versions, "threads": 1, "arguments": sys.argv[1:]}
        data = provenance | {"problem": problem, "reference": vouchers, "rows": [asdict(row) for row in rows]}
        write_json(args.out, data)


if __name__ == "__main__":
    main()
