"""Time PGD-20 on ResNet-20 beside torchattacks, foolbox and the Adversarial Robustness Toolbox.

    python benchmarks/attacks.py --setup       an environment for the toolbox, once; it borrows PyTorch from this one
    python benchmarks/attacks.py [--quick] [--out results/benchmark_attacks.json]

The case: 128 images of 32 x 32, ResNet-20 in evaluation mode, the paper's IFGSM (20 steps of 2/255, eps = 8/255, no
random start). The peers attack the network as one writes it down; "prepared" is what a user of torchattacks could do to
it by hand, frozen parameters and channels-last order. Ours are `nets.attacks.ifgsm` on `nets.build("resnet20")` in
single precision and under `torch.autocast` in bfloat16; "same model" is the very network of the peers. Every tool runs
in a process of its own that warms up outside the timer, once with one thread and once with two; the tools
take turns. "ratio" is the median over the rounds of torchattacks' time over the tool's in the same round, "core" that
of their least processor times, which a busy machine changes less. Rates want the machine for themselves.

The numbers of all tools are the same network's, with calibrated statistics of the batch normalisations. That all make
the same images is seen twice. "step 1": the share of pixels that differ after one step from the step computed in
double precision. "loss": cross-entropy at the images after all steps, in double precision, over that of the images of
an attack computed in double precision. In single precision rounding turns the sign of gradients near 0, so that after
20 steps pixels differ by far more than rounding, at no cost to the loss. In bfloat16 about a sixth of the signs differ:
that is for crafting images to train on, not for evaluation.

About ten minutes on two cores; `--quick` one or two.
"""

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import _driver
import numpy as np
import torch
from torch.nn import functional

import nets

EPS, STEP_SIZE, N_ITER, N_ITER_QUICK, BATCH = 8 / 255, 2 / 255, 20, 3, 128
# Share of the pixels whose first step may differ: gradients that rounding turns; and how far the loss may be off.
SINGLE, HALF = {"step": 2e-3, "loss": 0.01}, {"step": 0.25, "loss": 0.2}

OURS = _driver.Tool("ours", "ours_pgd.py")
TORCHATTACKS = _driver.Tool("torchattacks", "torchattacks_pgd.py")
FOOLBOX = _driver.Tool("foolbox", "foolbox_pgd.py")
ART = _driver.Tool("ART", "art_pgd.py", "art")
TOOLS = (OURS, TORCHATTACKS, FOOLBOX, ART)


@dataclass(frozen=True)
class Case:
    """A line of the table before it is measured."""

    tool: _driver.Tool
    method: str
    options: dict = field(default_factory=dict)
    tolerance: dict = field(default_factory=lambda: SINGLE)


BASE = Case(TORCHATTACKS, "PGD")
CASES = (
    BASE,
    Case(TORCHATTACKS, "PGD, prepared", {"prepared": True}),
    Case(FOOLBOX, "LinfPGD"),
    Case(ART, "PGD, PyTorch"),
    Case(OURS, "float32, same model", {"same": True}),
    Case(OURS, "float32"),
    Case(OURS, "bfloat16", {"bf16": True}, HALF),
)


@dataclass
class Row:
    """One line of the table, with every single timing."""

    tool: str
    method: str
    threads: int
    n_iter: int
    step: float
    loss: float
    right: bool
    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)

    @property
    def rate(self):
        """Images times steps per second, from the fastest run."""
        return BATCH * self.n_iter / min(self.seconds)

    def ratio(self, base):
        """How many times faster than another row, round by round."""
        return median(theirs / mine for mine, theirs in zip(self.seconds, base.seconds, strict=True))

    def core_ratio(self, base):
        """The same in processor time, each row's least."""
        return min(base.cpu_seconds) / min(self.cpu_seconds)


def make_network():
    """ResNet-20 with random weights and normalisations calibrated on the images; the images; its predictions."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(BATCH, 3, 8, 8, generator=generator)
    x = functional.interpolate(coarse, scale_factor=4, mode="bilinear").clamp(0, 1)
    model = nets.build("resnet20", seed=0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
        return model.eval(), x, model(x).argmax(1)


class Judge:
    """The attack in double precision, and how far from it the images of a tool are."""

    def __init__(self, model, x, y, n_iter):
        self.model, self.x, self.y = model.double(), x.double(), y
        self.first = self.attack(1)
        self.loss = self.mean_loss(self.attack(n_iter))

    def attack(self, n_iter):
        return nets.attacks.ifgsm(self.model, self.x, self.y, eps=EPS, step_size=STEP_SIZE, n_iter=n_iter)

    def mean_loss(self, x_adv):
        with torch.no_grad():
            return functional.cross_entropy(self.model(x_adv), self.y).item()

    def __call__(self, first, x_adv, tolerance):
        """Share of pixels that differ after a step, loss over ours in double precision, and whether that is right."""
        # A step is 2/255; rounding in single precision far less than 1e-5.
        step = ((torch.from_numpy(first).double() - self.first).abs() > 1e-5).double().mean().item()
        x_adv = torch.from_numpy(x_adv).double()
        loss = self.mean_loss(x_adv) / self.loss
        inside = (x_adv - self.x).abs().max() <= EPS + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
        return step, loss, bool(inside and step <= tolerance["step"] and abs(loss - 1) <= tolerance["loss"])


def measure(workers, cases, path, judge, *, n_iter, rounds, threads):
    """The rows: first a run each to warm up and check, then the tools in turn."""
    turns = []
    for case in cases:
        if case.tool.name not in workers:
            continue
        worker = workers[case.tool.name]
        setting = {"n_iter": n_iter, "eps": EPS, "step_size": STEP_SIZE, **case.options}
        first = worker.solve(path, BATCH, setting | {"n_iter": 1}, repeats=0, save=True)["u"]
        x_adv = worker.solve(path, BATCH, setting, repeats=0, save=True)["u"]
        row = Row(case.tool.name, case.method, threads, n_iter, *judge(first, x_adv, case.tolerance))
        turns.append((worker, setting, row))
    for _ in range(rounds):
        for worker, setting, row in turns:
            reply = worker.solve(path, BATCH, setting, repeats=1)
            row.seconds += reply["seconds"]
            row.cpu_seconds += reply["cpu_seconds"]
    return [row for *_, row in turns]


def base_of(rows, threads):
    return next(r for r in rows if (r.tool, r.method, r.threads) == (BASE.tool.name, BASE.method, threads))


def table(rows):
    lines = [
        f"{'tool':16}{'method':20}{'threads':>8}{'min s':>8}{'median s':>10}{'image steps/s':>15}{'ratio':>7}"
        f"{'core':>6}{'step 1':>9}{'loss':>8}"
    ]
    for row in rows:
        base = base_of(rows, row.threads)
        lines.append(
            f"{row.tool:16}{row.method:20}{row.threads:8}{min(row.seconds):8.2f}{median(row.seconds):10.2f}"
            f"{row.rate:15.0f}{row.ratio(base):7.2f}{row.core_ratio(base):6.2f}{row.step:9.5f}{row.loss:8.4f}"
        )
    return "\n".join(lines)


def set_up(envs):
    """An environment for the toolbox; PyTorch, which is large, and what this environment has are borrowed."""
    folder = envs / ART.env
    print(f"{ART.env}: {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    python = _driver.environment_python(folder)
    query = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    # The name sorts last, so that what is installed there goes first.
    (Path(site) / "zz_borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, "-r", str(_driver.PEERS / f"{ART.env}.txt")], check=True)


def main():
    threads = {"type": int, "nargs": "+", "default": [1, 2], "help": "(default: 1 2)"}
    args = _driver.parse_arguments(__doc__, quick="three steps, two rounds", rounds=(7, 2), threads=threads)
    if args.setup:
        set_up(args.envs)
        return
    where = _driver.machine()
    n_iter = N_ITER_QUICK if args.quick else N_ITER
    cases = list(CASES)
    model, x, y = make_network()
    numbers = {f"weight{i:03}": value.numpy() for i, value in enumerate(model.state_dict().values())}
    judge = Judge(model, x, y, n_iter)
    load = f", load {where['load_average'][0]:.1f}" if where["load_average"] else ""
    print(f"{where['cpu']}, {os.cpu_count()} cores{load}; PGD of {n_iter} steps, {BATCH} images, {args.rounds} rounds")
    rows, versions = [], {}
    for threads in args.threads:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(folder) / "attacks.npz"
            np.savez(path, x=x.numpy(), y=y.numpy(), **numbers)
            limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
            workers = {w.tool.name: w for w in _driver.start_workers(stack, TOOLS, args.envs, folder, limits)}
            rows += measure(workers, cases, path, judge, n_iter=n_iter, rounds=args.rounds, threads=threads)
            versions |= {name: worker.versions for name, worker in workers.items()}
    print(table(rows))
    for row in rows:
        if not row.right:
            print(f"{row.tool}, {row.method}: not the same attack (step 1 {row.step:.4f}, loss {row.loss:.4f})")
    if args.out:
        problem = {"batch": BATCH, "n_iter": n_iter, "eps": EPS, "step_size": STEP_SIZE, "network": "resnet20"}
        provenance = {"machine": where, "versions": versions, "arguments": sys.argv[1:]}
        pairs = [(row, base_of(rows, row.threads)) for row in rows]
        derived = [{"rate": r.rate, "ratio": r.ratio(b), "core_ratio": r.core_ratio(b)} for r, b in pairs]
        results = [asdict(row) | more for row, more in zip(rows, derived, strict=True)]
        tolerances = {"float32": SINGLE, "bfloat16": HALF}
        _driver.write_json(args.out, provenance | {"problem": problem, "tolerances": tolerances, "rows": results})
    if not all(row.right for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
