"""Time PGD, APGD and FAB beside torchattacks, auto-attack, foolbox and the Adversarial Robustness Toolbox.

    python benchmarks/attacks.py --setup       environments for the toolbox and auto-attack, which borrow PyTorch, once
    python benchmarks/attacks.py [--quick] [--out results/benchmark_attacks.json]

PGD-20 (the paper's IFGSM: 20 steps of 2/255, eps = 8/255, no random start) of 128 images of 32 x 32 on ResNet-20 and on
torchvision's ResNet-18, and APGD-CE of 20 and FAB of 5 steps on a trained ResNet-20 of the zoo and the 100 images that
come with it. All tools attack the network as its owner hands it over, NCHW and with weights that require gradients;
"prepared" is what a user of torchattacks could do to it by hand, frozen parameters and channels-last order. Ours are
plain calls of `nets.attacks`, on the network of the peers ("same model") and on `nets.build("resnet20")`, in single
precision and under `torch.autocast` in bfloat16. Every tool runs in a process of its own that warms up outside the
timer, once with one thread and once with two; the tools take turns. "ratio" is the median over the rounds of
torchattacks' time over the tool's in the same round, "core" the ratio of their least processor times, which a busy
machine changes less. Rates need an idle machine.

All tools attack the same weights, with calibrated statistics of the batch normalisations. Two columns show that all
make the same images by PGD. "step 1": the share of pixels that differ after one step from the step computed in double
precision. "loss": cross-entropy at the images after all steps, over that of an attack computed in double precision. In
single precision rounding flips the sign of gradients near 0, so that after 20 steps pixels differ by far more than
rounding, at no cost to the loss. In bfloat16 about a sixth of the signs differ: that is for crafting images to train
on, not for evaluation; the row is left out where the processor only emulates it. Images of APGD and FAB must lie in the
ball, and "broken", the share that is misclassified, must be that of ours in double precision up to 5 images;
`strength.py` compares more closely.

About 15 minutes on two cores with --threads 2 --rounds 5; `--quick` two or three.
"""

import contextlib
import copy
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import _driver
import numpy as np
import torch
from torch.nn import functional
from torchvision.models import resnet18

import nets

EPS, STEP_SIZE, BATCH = 8 / 255, 2 / 255, 128
N_ITER, N_ITER_QUICK = {"pgd": 20, "apgd": 20, "fab": 5}, {"pgd": 3, "apgd": 5, "fab": 1}
# Largest share of pixels whose first step differs, by gradients of either sign up to rounding; and error of the loss.
SINGLE, HALF = {"step": 2e-3, "loss": 0.01}, {"step": 0.25, "loss": 0.2}
# Largest difference of the numbers of images that APGD and FAB break, whose starts and draws differ.
N_APART = 5

OURS = _driver.Tool("ours", "ours_attacks.py")
TORCHATTACKS = _driver.Tool("torchattacks", "torchattacks_attacks.py")
FOOLBOX = _driver.Tool("foolbox", "foolbox_pgd.py")
ART = _driver.Tool("ART", "art_attacks.py", "art")
OFFICIAL = _driver.Tool("auto-attack", "official_attacks.py", "autoattack")
TOOLS = (OURS, TORCHATTACKS, FOOLBOX, ART, OFFICIAL)


@dataclass(frozen=True)
class Case:
    """A line of the table before it is measured; `problem` is a key of `make_problems`."""

    problem: str
    tool: _driver.Tool
    method: str
    attack: str = "pgd"
    options: dict = field(default_factory=dict)
    tolerance: dict = field(default_factory=lambda: SINGLE)


CASES = (
    Case("ResNet-20", TORCHATTACKS, "PGD"),
    Case("ResNet-20", TORCHATTACKS, "PGD, prepared", options={"prepared": True}),
    Case("ResNet-20", FOOLBOX, "LinfPGD"),
    Case("ResNet-20", ART, "PGD, PyTorch"),
    Case("ResNet-20", OURS, "float32, same model"),
    Case("ResNet-20", OURS, "float32", options={"same": False}),
    Case("ResNet-20", OURS, "bfloat16", options={"same": False, "bf16": True}, tolerance=HALF),
    Case("ResNet-18", TORCHATTACKS, "PGD"),
    Case("ResNet-18", FOOLBOX, "LinfPGD"),
    Case("ResNet-18", ART, "PGD, PyTorch"),
    Case("ResNet-18", OURS, "float32, same model"),
    Case("trained ResNet-20", TORCHATTACKS, "APGD", "apgd"),
    Case("trained ResNet-20", OFFICIAL, "APGD", "apgd"),
    Case("trained ResNet-20", ART, "Auto-PGD", "apgd"),
    Case("trained ResNet-20", OURS, "APGD, same model", "apgd"),
    Case("trained ResNet-20", TORCHATTACKS, "FAB", "fab"),
    Case("trained ResNet-20", OFFICIAL, "FAB", "fab"),
    Case("trained ResNet-20", OURS, "FAB, same model", "fab"),
)


@dataclass
class Row:
    """One line of the table, with every single timing."""

    network: str
    attack: str
    tool: str
    method: str
    threads: int
    n_images: int
    n_iter: int
    right: bool
    step: float | None = None
    loss: float | None = None
    broken: float | None = None
    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)

    @property
    def rate(self):
        """Images times steps per second, from the fastest run."""
        return self.n_images * self.n_iter / min(self.seconds)

    def ratio(self, base):
        """How many times faster than another row, round by round."""
        return median(theirs / mine for mine, theirs in zip(self.seconds, base.seconds, strict=True))

    def core_ratio(self, base):
        """The same in processor time, each row's least."""
        return min(base.cpu_seconds) / min(self.cpu_seconds)


class Problem(NamedTuple):
    """The name of a network in `plain_networks`, the network, images, and their labels."""

    name: str
    model: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor

    def fields(self):
        """The arrays that a worker reads."""
        return {"x": self.x.numpy(), "y": self.y.numpy()} | _driver.weights_of(self.model)


def make_problems():
    """Random weights with normalisations calibrated on the images and their predictions; a trained network."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(BATCH, 3, 8, 8, generator=generator)
    x = functional.interpolate(coarse, scale_factor=4, mode="bilinear").clamp(0, 1)
    torch.manual_seed(0)
    networks = {"ResNet-20": nets.build("resnet20", seed=0), "ResNet-18": resnet18(num_classes=10)}
    problems = {}
    for name, model in networks.items():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(x)
            problems[name] = Problem(name.lower().replace("-", ""), model.eval(), x, model(x).argmax(1))
    images = nets.zoo.sample()
    trained = nets.load("cifar10/resnet20-seed0")
    return problems | {"trained ResNet-20": Problem("resnet20", trained, images.x.contiguous(), images.y)}


class Judge:
    """Attacks in double precision, and how far from them the images of a tool are."""

    def __init__(self, problem, n_iter):
        self.model, self.y = copy.deepcopy(problem.model).double(), problem.y
        self.x, self.n_iter, self._known = problem.x.double(), n_iter, {}

    def known(self, name, make):
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def ifgsm(self, n_iter):
        return nets.attacks.ifgsm(self.model, self.x, self.y, eps=EPS, step_size=STEP_SIZE, n_iter=n_iter)

    def mean_loss(self, x_adv):
        with torch.no_grad():
            return functional.cross_entropy(self.model(x_adv), self.y).item()

    def broken(self, x_adv):
        with torch.no_grad():
            return (self.model(x_adv).argmax(1) != self.y).double().mean().item()

    def __call__(self, case, first, x_adv):
        """The entries of a row on the images after one step and after all, and whether they are right."""
        x_adv = torch.from_numpy(x_adv).double()
        inside = (x_adv - self.x).abs().max() <= EPS + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
        if case.attack != "pgd":
            attack = getattr(nets.attacks, case.attack)
            ours = self.known(
                case.attack,
                lambda: self.broken(attack(self.model, self.x, self.y, eps=EPS, n_iter=self.n_iter[case.attack])),
            )
            broken = self.broken(x_adv)
            return {"broken": broken, "right": bool(inside and abs(broken - ours) * len(self.y) <= N_APART + 0.5)}
        # A step is 2/255; rounding in single precision far less than 1e-5.
        exact = self.known("first", lambda: self.ifgsm(1))
        step = ((torch.from_numpy(first).double() - exact).abs() > 1e-5).double().mean().item()
        loss = self.mean_loss(x_adv) / self.known("loss", lambda: self.mean_loss(self.ifgsm(self.n_iter["pgd"])))
        right = inside and step <= case.tolerance["step"] and abs(loss - 1) <= case.tolerance["loss"]
        return {"step": step, "loss": loss, "right": bool(right)}


def measure(workers, problems, judges, folder, *, n_iter, rounds, threads):
    """The rows: first a run each to warm up and check, then the tools in turn."""
    turns = []
    for case in CASES:
        if case.tool.name not in workers or (case.options.get("bf16") and not torch.cpu._is_avx512_bf16_supported()):
            continue
        worker, problem = workers[case.tool.name], problems[case.problem]
        n_images = len(problem.x)
        path = folder / f"{case.problem.replace(' ', '-')}.npz"
        if not path.exists():
            np.savez(path, **problem.fields())
        common = {"network": problem.name, "attack": case.attack, "n_iter": n_iter[case.attack], "eps": EPS}
        setting = common | ({"step_size": STEP_SIZE} if case.attack == "pgd" else {}) | case.options
        first = None
        if case.attack == "pgd":
            first = worker.solve(path, setting | {"n_iter": 1}, repeats=0, save=True)["u"]
        x_adv = worker.solve(path, setting, repeats=0, save=True)["u"]
        judged = judges[case.problem](case, first, x_adv)
        names = case.problem, case.attack, case.tool.name, case.method
        row = Row(*names, threads, n_images, setting["n_iter"], **judged)
        turns.append((row, partial(worker.solve, path, setting, repeats=1)))
    return _driver.take_turns(turns, rounds)


def base_of(rows, row):
    """The first row of torchattacks on the same network, by the same attack, in as many threads."""
    keys = ("network", "attack", "threads")
    like = [r for r in rows if all(getattr(r, key) == getattr(row, key) for key in keys)]
    return next(r for r in like if r.tool == TORCHATTACKS.name)


def table(rows):
    lines = [
        f"{'network':18}{'tool':14}{'method':20}{'threads':>8}{'min s':>8}{'median s':>10}{'image steps/s':>15}"
        f"{'ratio':>7}{'core':>6}{'step 1':>9}{'loss':>8}{'broken':>8}"
    ]
    for row in rows:
        base, checked = base_of(rows, row), [(row.step, "9.5f"), (row.loss, "8.4f"), (row.broken, "8.2f")]
        lines.append(
            f"{row.network:18}{row.tool:14}{row.method:20}{row.threads:8}{min(row.seconds):8.2f}"
            f"{median(row.seconds):10.2f}{row.rate:15.0f}{row.ratio(base):7.2f}{row.core_ratio(base):6.2f}"
            + "".join(format(value, width) if value is not None else " " * int(width[0]) for value, width in checked)
        )
    return "\n".join(lines)


def main():
    threads = {"type": int, "nargs": "+", "default": [1, 2], "help": "(default: 1 2)"}
    quick = "fewer steps, two rounds"
    args = _driver.parse_arguments(__doc__, TOOLS, quick=quick, rounds=(7, 2), borrow=True, threads=threads)
    where = _driver.machine()
    n_iter = N_ITER_QUICK if args.quick else N_ITER
    problems = make_problems()
    judges = {name: Judge(problem, n_iter) for name, problem in problems.items()}
    print(f"{_driver.headline(where)}; {args.rounds} rounds")
    rows, versions = [], {}
    for threads in args.threads:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
            workers = _driver.start_workers(stack, TOOLS, args.envs, folder, limits)
            rows += measure(workers, problems, judges, folder, n_iter=n_iter, rounds=args.rounds, threads=threads)
            versions |= {name: worker.versions for name, worker in workers.items()}
    print(table(rows))
    for row in rows:
        if not row.right:
            print(
                f"{row.network}, {row.tool}, {row.method}: not the same attack ({row.step}, {row.loss}, {row.broken})"
            )
    if args.out:
        problem = {"n_iter": n_iter, "eps": EPS, "step_size": STEP_SIZE}
        pairs = [(row, base_of(rows, row)) for row in rows]
        derived = [{"rate": r.rate, "ratio": r.ratio(b), "core_ratio": r.core_ratio(b)} for r, b in pairs]
        results = [asdict(row) | more for row, more in zip(rows, derived, strict=True)]
        tolerances = {"float32": SINGLE, "bfloat16": HALF, "n_apart": N_APART}
        _driver.write_result(args.out, where, versions, problem=problem, tolerances=tolerances, rows=results)
    if not all(row.right for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
