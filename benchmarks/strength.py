"""Count the images that FAB and APGD break, ours beside the authors' own code, at equal budgets.

    python benchmarks/attacks.py --setup       an environment for auto-attack, once
    python benchmarks/strength.py --data PATH [--quick] [--out results/benchmark_strength.json]

Two trained ResNet-20 of the zoo, the first 200 test images of PATH in balanced order, the maximum norm (eps = 8/255)
and the Euclidean norm (eps = 0.5). FAB makes 10 steps with all class boundaries, FAB-T 10 steps towards each of 9
classes, APGD-CE 20 steps; no restarts, deterministic networks, so equal steps are equal numbers of passes. An image
counts as broken if the network in single precision, as its owner hands it over, misclassifies it and it lies in the
ball. "apart" is the difference of the broken images over its standard error, the root of the number of those that one
tool alone breaks (McNemar): beyond -2 ours would be the weaker one. Each tool runs in a process of its own, in turns;
the ratio of processor times holds on a busy machine as well.

About 20 minutes on two busy cores; `--quick`, on the 100 images that come with the zoo and one network, three.
"""

import contextlib
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import _driver
import numpy as np
import torch

import nets

sys.path.append(str(_driver.PEERS))
from plain_networks import ResNet20, load

NETWORKS = ("cifar10/resnet20-seed0", "cifar10/resnet20-seed1")
RADII = {"linf": 8 / 255, "l2": 0.5}
N_ITER, N_ITER_QUICK = {"fab": 10, "fab-t": 10, "apgd": 20}, {"fab": 5, "fab-t": 5, "apgd": 10}
N_IMAGES, BATCH = 200, 100

OURS = _driver.Tool("ours", "ours_attacks.py")
OFFICIAL = _driver.Tool("official", "official_attacks.py", "autoattack")


@dataclass
class Row:
    """One line of the table: numbers of images, and processor seconds."""

    network: str
    norm: str
    eps: float
    attack: str
    n_iter: int
    n: int
    right: int
    ours: int
    official: int
    ours_alone: int
    official_alone: int
    cpu_seconds_ours: float
    cpu_seconds_official: float

    @property
    def apart(self):
        """Images that ours breaks more, in standard errors of the difference; 0 where no image differs."""
        differing = self.ours_alone + self.official_alone
        return (self.ours_alone - self.official_alone) / differing**0.5 if differing else 0.0


def images(source, n_images):
    """The first images of the test set in balanced order, or those that come with the zoo."""
    if source is None:
        sample = nets.zoo.sample()
        return sample.x.contiguous()[:n_images], sample.y[:n_images]
    loaded = nets.data.load(source)
    order = nets.data.balanced_order(loaded.test_labels, 0)[:n_images]
    x, y = nets.data.Batches(loaded.test_images, loaded.test_labels, loaded.white, channels_last=False).take(order)
    return x.contiguous(), y


class Attacked:
    """A network of the zoo, with its images in files that workers read."""

    def __init__(self, name, x, y, folder):
        weights = _driver.weights_of(nets.load(name))
        self.model, self.x, self.y, self.paths = load(ResNet20(), weights), x, y, []
        for first in range(0, len(x), BATCH):
            self.paths.append(folder / f"{name.replace('/', '-')}-{first}.npz")
            part = slice(first, first + BATCH)
            np.savez(self.paths[-1], x=x[part].numpy(), y=y[part].numpy(), **weights)

    def wrong(self, x):
        with torch.no_grad():
            return self.model(x).argmax(1) != self.y

    def broken(self, worker, setting):
        """The images that a tool breaks (n_images,), and its processor seconds."""
        replies = [worker.solve(path, setting, repeats=1, save=True, cold=True) for path in self.paths]
        x_adv = torch.cat([torch.from_numpy(reply["u"]) for reply in replies])
        step = (x_adv - self.x).flatten(1)
        far = step.abs().amax(1) if setting["norm"] == "linf" else step.norm(dim=1)
        inside = (
            (far <= setting["eps"] * (1 + 1e-5)) & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)
        )
        return self.wrong(x_adv) & inside, sum(sum(reply["cpu_seconds"]) for reply in replies)


def setting_of(norm, attack, n_iter):
    return {"network": "resnet20", "attack": attack, "n_iter": n_iter, "eps": RADII[norm], "norm": norm}


def compare(attacked, name, workers, norm, attack, n_iter):
    """One row."""
    setting = setting_of(norm, attack, n_iter)
    natural = attacked.wrong(attacked.x)
    (ours, mine), (official, theirs) = (attacked.broken(workers[tool.name], setting) for tool in (OURS, OFFICIAL))
    ours, official = ours & ~natural, official & ~natural
    counts = [int(mask.sum()) for mask in (~natural, ours, official, ours & ~official, official & ~ours)]
    return Row(name, norm, RADII[norm], attack, n_iter, len(attacked.x), *counts, mine, theirs)


def table(rows):
    head = ("network", "norm", "attack", "right", "ours", "official", "ours alone", "official alone", "apart", "time")
    lines = ["".join(f"{word:>16}" for word in head)]
    for row in rows:
        cells = (row.network[-16:], row.norm, f"{row.attack}, {row.n_iter}", row.right, row.ours, row.official)
        ratio = row.cpu_seconds_official / row.cpu_seconds_ours
        cells += (row.ours_alone, row.official_alone, f"{row.apart:+.1f}", f"{ratio:.2f}")
        lines.append("".join(f"{cell!s:>16}" for cell in cells))
    return "\n".join(lines)


def write(args, machine, rows, versions):
    """Called after each row, so that an interruption loses none."""
    results = [asdict(row) | {"apart": row.apart} for row in rows]
    _driver.write_result(args.out, machine, versions, rows=results)


def main():
    data = {"help": "folder or archive of images, as nets.train --data (default: 100 images of the zoo)"}
    threads = {"type": int, "default": 1, "help": "(default: 1)"}
    options = {"quick": "one network, few steps", "data": data, "threads": threads}
    args = _driver.parse_arguments(__doc__, (OURS, OFFICIAL), rounds=(1, 1), borrow=True, **options)
    n_iter = N_ITER_QUICK if args.quick else N_ITER
    machine = {**_driver.machine(), "threads": args.threads}
    x, y = images(None if args.quick else args.data, N_IMAGES)
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
        workers = _driver.start_workers(stack, (OURS, OFFICIAL), args.envs, folder, limits)
        if OFFICIAL.name not in workers:
            sys.exit("nothing to compare with: python benchmarks/attacks.py --setup makes the environment")
        for name in NETWORKS[: 1 if args.quick else None]:
            attacked = Attacked(name, x, y, folder)
            for worker in workers.values():
                # A warm-up: the solves timed below are the first ones of their settings.
                attacked.broken(worker, setting_of("linf", "apgd", 1))
            for norm in RADII:
                for attack, n in n_iter.items():
                    rows.append(compare(attacked, name, workers, norm, attack, n))
                    print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[1], flush=True)
                    if args.out:
                        write(args, machine, rows, {tool: worker.versions for tool, worker in workers.items()})
    if any(row.apart < -2 for row in rows):
        sys.exit("ours breaks fewer images than the official code")


if __name__ == "__main__":
    main()
