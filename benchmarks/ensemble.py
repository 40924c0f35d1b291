"""Images per second of EnResNet-20 in training and under attack, beside the released design, in one run.

    python benchmarks/ensemble.py [--quick] [--device cpu|cuda] [--out results/benchmark_ensemble.json]

Designs: `released` (peers/released_ensemble.py); `ours`, `nets.build` in single precision; `ours bf16`, the same under
`torch.autocast`; on a GPU also both under `torch.compile(mode="reduce-overhead")`, which is CUDA graphs. Work, on
batches of 128 images of 32 x 32: `train` is forward, backward and a step of SGD; `attack` is one step of PGD;
`adversarial` is ten of these and one of those, the iteration of the paper's Algorithm 3.1. The designs take turns, so
that ratios hold on a busy machine. Before anything is timed they are shown to be one network: equal logits and
gradients with equal parameters without noise, and noise of one size. About ten minutes on two cores.
"""

import statistics
import time

import torch
from _driver import machine, make_parser, write_json
from peers.released_ensemble import Ensemble
from torch.nn import functional

import nets
from bridge import noise_off, noisy_blocks

BATCH, COEF, EPS, STEP_SIZE, N_ATTACK = 128, 0.1, 8 / 255, 2 / 255, 10
WORK = ("train", "attack", "adversarial")


class Design:
    """A way to run the ensemble: `train` and `attack` do one step."""

    def __init__(self, model, x, y, *, ours, bf16=False, compiled=False):
        self.model, self.x, self.y, self.ours = model, x, y, ours
        self.run = torch.compile(model, mode="reduce-overhead") if compiled else model
        self.bf16 = bf16
        self.optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def autocast(self):
        return torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.bf16)

    def train(self, x_adv=None):
        self.model.train()
        with self.autocast():
            loss = functional.cross_entropy(self.run(self.x if x_adv is None else x_adv).float(), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def attack(self, n_iter=1):
        """`n_iter` steps of PGD: ours by `nets.attacks.pgd`, the released design as it is written there."""
        self.model.train()
        if self.ours:
            with self.autocast():
                return nets.attacks.pgd(
                    self.run, self.x, self.y, eps=EPS, step_size=STEP_SIZE, n_iter=n_iter, random_start=True
                )
        x_adv = self.x + torch.empty_like(self.x).uniform_(-EPS, EPS)
        for _ in range(n_iter):
            x_adv.requires_grad_()
            with torch.enable_grad():
                loss = functional.cross_entropy(self.model(x_adv), self.y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, [x_adv])
            x_adv = x_adv.detach() + STEP_SIZE * torch.sign(gradient.detach())
            x_adv = torch.min(torch.max(x_adv, self.x - EPS), self.x + EPS)
            x_adv = torch.clamp(x_adv, 0, 1)
        return x_adv

    def adversarial(self):
        self.train(self.attack(N_ATTACK))


def copy_parameters(ours, released):
    """Give the released design our parameters: both have the same tensors, each in its own order."""
    pairs = []
    for mine, theirs in zip(ours.net.members, released.members, strict=True):
        blocks = [module for stage in mine.stages for module in stage]
        pairs += [(mine.stem, theirs.stem), (mine.head[0], theirs.bn), (mine.head[4], theirs.linear)]
        for block, other in zip(blocks, theirs.blocks, strict=True):
            # A stage change is BN, ReLU, NoisyResidual(conv, BN, ReLU, conv; projection).
            change = isinstance(block, torch.nn.Sequential)
            branch = [block[0], block[1], *block[2].branch] if change else list(block.branch)
            pairs += zip(branch, [other.bn1, other.relu, other.conv1, other.bn2, other.relu, other.conv2], strict=True)
            pairs += [(block[2].shortcut, other.projection)] if change else []
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())


def check_same(ours, released, x, y):
    """Differences of logits and input gradients without noise, relative to the largest, and the ratio of the noises."""
    copy_parameters(ours, released)
    blocks = [module for module in released.modules() if hasattr(module, "coef")]
    assert len(noisy_blocks(ours)) == len(blocks)
    z = (x - ours.mean) / ours.std
    for module in blocks:
        module.coef = 0.0
    ours.eval(), released.eval()

    def gradient(model, bf16=False, normalise=lambda x: x):
        a = x.clone().requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = model(normalise(a)).float()
        return logits.detach(), torch.autograd.grad(functional.cross_entropy(logits, y), a)[0]

    with noise_off(ours):
        logits, slope = gradient(ours)
        coarse_logits, coarse_slope = gradient(ours, bf16=True)
    their_logits, their_slope = gradient(released, normalise=lambda a: (a - ours.mean) / ours.std)
    for module in blocks:
        module.coef = COEF
    with torch.no_grad():
        passes = [[net(inputs) for _ in range(24)] for net, inputs in ((ours, x), (released, z))]
    spread = [torch.stack(draws).std(0).mean() for draws in passes]
    return {
        "logits": relative_gap(logits, their_logits),
        "input_gradients": relative_gap(slope, their_slope),
        "bf16_logits": relative_gap(coarse_logits, logits),
        "bf16_signs_that_differ": float((coarse_slope.sign() != slope.sign()).float().mean()),
        "noise_ratio": float(spread[0] / spread[1]),
    }


def relative_gap(a, b):
    return float((a - b).abs().max() / b.abs().max())


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(designs, work, repeats, device):
    """Wall and process seconds of each design, taking turns; the first turn warms up."""
    wall, cpu = ({name: [] for name in designs} for _ in range(2))
    for turn in range(repeats + 1):
        for name, design in designs.items():
            synchronise(device)
            start, start_cpu = time.perf_counter(), time.process_time()
            getattr(design, work)()
            synchronise(device)
            if turn:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    return wall, cpu


def main(argv=None):
    parser = make_parser(__doc__, quick="En1 alone, two repeats")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    sizes, repeats = ([1], 2) if arguments.quick else (arguments.members, arguments.repeats)
    rows, sameness = [], {}
    for n_members in sizes:
        torch.manual_seed(0)
        x = torch.rand(BATCH, 3, 32, 32, device=device)
        y = torch.randint(0, 10, (BATCH,), device=device)

        def ours(n_members=n_members):
            return nets.build(f"en{n_members}_resnet20", coef=COEF, seed=0).to(device)

        released = Ensemble(n_members, COEF).to(device)
        sameness[n_members] = check_same(ours(), released, x, y)
        print(f"En{n_members}: {sameness[n_members]}", flush=True)
        designs = {
            "released": Design(released, x, y, ours=False),
            "ours": Design(ours(), x, y, ours=True),
            "ours bf16": Design(ours(), x, y, ours=True, bf16=True),
        }
        if device.type == "cuda":
            designs["ours compiled"] = Design(ours(), x, y, ours=True, compiled=True)
            designs["ours bf16 compiled"] = Design(ours(), x, y, ours=True, bf16=True, compiled=True)
        for threads in arguments.threads if device.type == "cpu" else [1]:
            torch.set_num_threads(threads)
            for work in WORK:
                # An iteration of adversarial training is eleven steps: a few of them show as much.
                wall, cpu = measure(designs, work, repeats if work != "adversarial" else max(2, repeats // 3), device)
                for name in designs:
                    row = {
                        "n_members": n_members, "work": work, "design": name, "threads": threads,
                        "seconds": wall[name], "cpu_seconds": cpu[name],
                        "images_per_second": BATCH / min(wall[name]),
                        "ratio": min(wall["released"]) / min(wall[name]),
                        "median_ratio": statistics.median(wall["released"]) / statistics.median(wall[name]),
                        "cpu_ratio": min(cpu["released"]) / min(cpu[name]),
                    }  # fmt: skip
                    rows.append(row)
                    print(
                        f"En{n_members} {work:12s}{threads} threads  {name:20s}{row['images_per_second']:8.1f} images/s"
                        f"{row['ratio']:7.2f} x (median {row['median_ratio']:.2f}, CPU {row['cpu_ratio']:.2f})",
                        flush=True,
                    )
    if arguments.out:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        facts = {"machine": machine() | {"device": name}, "torch": torch.__version__, "batch": BATCH}
        write_json(arguments.out, facts | {"quick": arguments.quick, "sameness": sameness, "rows": rows})


if __name__ == "__main__":
    main()
