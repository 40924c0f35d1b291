"""Shared by the benchmarks: the peers' environments, a process for each tool, the machine, the result file."""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PEERS, ENVS = HERE / "peers", HERE / ".envs"


@dataclass(frozen=True)
class Tool:
    """A tool to be timed: a script of `peers/`, the environment it runs in (None: this one) and its fixed options."""

    name: str
    script: str
    env: str | None = None
    options: dict = field(default_factory=dict)


class SolveError(RuntimeError):
    """The tool refused this setting or its solution blew up."""


class Worker:
    """A tool's process, kept alive between turns."""

    def __init__(self, tool, python, folder, threads):
        self.tool = tool
        self.folder = Path(folder)
        self.log = self.folder / f"{tool.name}.log"
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | threads
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
        self.method = self.versions = None

    def greet(self):
        """Wait until the tool has been imported."""
        hello = self._receive()
        self.method, self.versions = hello["method"], hello["versions"]

    def _receive(self):
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{self.tool.name} ended unexpectedly; the end of its log:\n{tail}")
        return json.loads(line)

    def solve(self, fields, setting, *, repeats, save=False, cold=False):
        """Seconds of each solve of the problem in the file `fields` and, if saved, the solution.

        cold: without a first solve outside the timer, for solves that take minutes.
        """
        path = self.folder / f"{self.tool.name}.npy"
        request = {
            "fields": str(fields),
            "setting": self.tool.options | setting,
            "repeats": repeats,
            "cold": cold,
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


def make_parser(doc, *, quick):
    """Parser of a benchmark's command line, with --quick and --out; `doc` is its help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, help="write the numbers and their provenance to this JSON file")
    return parser


def parse_arguments(doc, tools, *, quick, rounds, borrow=False, **options):
    """Arguments of a benchmark of peers; `rounds` without and with --quick, `options` more of `add_argument`.

    With --setup, make the environments of the tools and exit.
    """
    parser = make_parser(doc, quick=quick)
    parser.add_argument("--setup", action="store_true", help="make the peers' environments and exit")
    parser.add_argument("--envs", type=Path, default=ENVS, help="folder of these environments (default: %(default)s)")
    full, short = rounds
    parser.add_argument("--rounds", type=int, help=f"turns of each tool (default: {full}, quick: {short})")
    for name, keywords in options.items():
        parser.add_argument(f"--{name}", **keywords)
    args = parser.parse_args()
    args.envs = args.envs.resolve()
    if args.setup:
        set_up(tools, args.envs, borrow=borrow)
        parser.exit()
    args.rounds = args.rounds or (short if args.quick else full)
    return args


def environment_python(folder):
    return Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(tools, envs, *, borrow=False):
    """Make one virtual environment per peer, with the pinned versions of peers/NAME.txt.

    borrow: let them import the packages of this environment as well, such as PyTorch, which is large.
    """
    for name in sorted({tool.env for tool in tools if tool.env}):
        print(f"{name}: {envs / name}", flush=True)
        venv.create(envs / name, with_pip=True, clear=True)
        python = str(environment_python(envs / name))
        if borrow:
            query = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
            site = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
            # The name sorts last, so that packages installed there take precedence.
            (Path(site) / "zz_borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, "-r", str(PEERS / f"{name}.txt")], check=True)


def machine():
    """The machine, and the commit, on which the numbers depend."""
    cpu, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        lines = [line.partition(":") for line in file]
        cpu = next((value.strip() for key, _, value in lines if key.startswith("model name")), cpu)
        flags = next((value for key, _, value in lines if key.startswith("flags")), flags)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {
        "cpu": cpu,
        # The path kernels depend on it most.
        "avx512": "avx512f" in flags.split(),
        "n_cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
    }


def headline(where):
    """Processor, cores and load of a `machine`."""
    load = f", load {where['load_average'][0]:.1f}" if where["load_average"] else ""
    return f"{where['cpu']}, {where['n_cores']} cores{load}"


def write_result(path, where, versions, **data):
    """Write a result file: the data, and the machine, versions and command line that they come from."""
    # Absolute paths by their last name: the rest means nothing on another machine.
    arguments = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    write_json(path, {"machine": where, "versions": versions, "arguments": arguments} | data)


def write_json(path, data):
    """Write a file as a whole, so that an interrupted run never leaves half a result."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    # Temporary files are private by default, which a result is not.
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def start_workers(stack, tools, envs, folder, threads):
    """A process for every tool whose environment exists, by the tool's name."""
    workers = []
    for tool in tools:
        python = sys.executable if tool.env is None else environment_python(envs / tool.env)
        if not Path(python).exists():
            print(f"{tool.name}: no environment at {envs / tool.env}; --setup makes it", file=sys.stderr)
            continue
        worker = Worker(tool, python, folder, threads)
        stack.callback(worker.close)
        workers.append(worker)
    for worker in workers:
        worker.greet()
    return {worker.tool.name: worker for worker in workers}


def take_turns(turns, rounds):
    """Time the tools in turn and return their rows; `turns` are pairs of a row and a call of `Worker.solve`."""
    for _ in range(rounds):
        for row, solve in turns:
            reply = solve()
            row.seconds += reply["seconds"]
            row.cpu_seconds += reply["cpu_seconds"]
    return [row for row, _ in turns]


def weights_of(model):
    """The numbers of a PyTorch model, in sequence, as `plain_networks.load` reads them from a file."""
    return {f"weight{i:03}": value.numpy() for i, value in enumerate(model.state_dict().values())}
