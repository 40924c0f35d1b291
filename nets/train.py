"""Train a network of the paper by a recipe, into a directory that survives interruptions.

    python -m nets.train                                    handwritten digits: the recipe cpu/digits, under a minute
    python -m nets.train --list                             names of all recipes
    python -m nets.train table2/en5_resnet20                Table 2 on CIFAR-10, which is downloaded; for a GPU
    python -m nets.train cpu/en1_resnet20 --data PATH       two CPU cores; images in a folder or .tar archive
    python -m nets.train table7/en2_resnet20+en5_resnet20 --integrate RUN RUN     the mean of finished runs
    torchrun --nproc-per-node 2 -m nets.train RECIPE        several GPUs, or processes

Every field of the recipe can be overridden. A run that is interrupted at any moment loses at most the current epoch,
and resumes with --resume: on a CPU with the same number of threads, bit by bit as without the interruption.
"""

import contextlib
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from tqdm import tqdm

from _enresnet import counted
from bridge import checks
from nets import _cli, data, seeds, training
from nets.training import (
    RECIPES,
    PeerLostError,
    Recipe,
    Run,
    check_collapse,
    check_directory,
    configuration,
    connect,
    integrate,
    make_training,
    precisions,
)

__all__ = ["main", "train"]

PROG = "python -m nets.train"
DEFAULT = "cpu/digits"
# Reading the loss synchronises with the GPU.
SECONDS_BETWEEN_READS = 0.5


class Terminated(KeyboardInterrupt):
    """Termination by SIGTERM."""

    status = 128 + signal.SIGTERM


def train(name, recipe, *, out, seed=0, resume=False, device="auto", progress=True):
    """Train by a recipe into the directory `out`, in one process or in those of torchrun; see `Options`.

    Returns the metrics of the epoch whose weights are kept; None in all processes except the first.
    """
    with threads(recipe.n_threads), connect(device) as world, contextlib.ExitStack() as stack:
        first = world.rank == 0
        if not first:
            # The first process decodes the images into the cache, from which the others read them.
            world.wait()
        else:
            check_directory(out)
        images = data.load(recipe.data, progress=progress and first)
        if first:
            world.wait()
        mean, std = images.statistics()
        arguments = recipe.model_arguments(len(images.classes), mean, std)
        config = configuration(name, recipe, seed, arguments, images.provenance(), world)
        # Before the directory is written, so that a refused training leaves nothing behind.
        model = recipe.build(len(images.classes), mean, std, seeds.derive(seed, "weights"))
        training = make_training(model, images, recipe, world, seed=seed)
        # Only the first process writes; all read the state to resume from, once the first holds the directory.
        run = stack.enter_context(Run(out, config, recipe, resume=resume)) if first else None
        history = _synchronised(run, out, training, world)
        if first:
            _announce(run, out, recipe, training, world)
        _epochs(training, run, recipe, history, progress=progress and first)
        return run.kept if first else None


@contextlib.contextmanager
def threads(number):
    """Use this number of PyTorch's threads inside a `with` block; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _synchronised(run, out, training, world):
    """Restore the state of the run in every process; return the number of finished epochs."""
    n_done = torch.zeros((), dtype=torch.int64, device=world.device)
    if run is not None:
        n_done += len(run.history)
    n_done = world.sum(n_done).item()
    if n_done:
        state = run.state if run is not None else Run.read_state(out)
        training.restore(state)
    # The first process writes only after all have read.
    world.wait()
    return n_done


def _epochs(training, run, recipe, n_done, *, progress):
    size = training.n_steps * recipe.batch_size
    total, hidden = recipe.epochs * size, None if progress else True
    bar = tqdm(total=total, initial=n_done * size, unit="img", unit_scale=True, smoothing=0.05, disable=hidden)
    with bar:
        _watch(run, recipe, training)
        for number in range(n_done + 1, recipe.epochs + 1):
            row = training.epoch(number, _advance(bar, recipe, number))
            if run is not None:
                run.save(training.state(), row, training.kept)
                _show(bar, recipe, row)
                _watch(run, recipe, training)


def _watch(run, recipe, training):
    if run is not None and recipe.is_adversarial and recipe.stop_at_collapse:
        check_collapse(run.history, training.n_held_out)


def _advance(bar, recipe, number):
    last_read = -SECONDS_BETWEEN_READS

    def advance(total_loss, n_steps):
        nonlocal last_read
        bar.update(recipe.batch_size)
        if not bar.disable and bar.format_dict["elapsed"] - last_read >= SECONDS_BETWEEN_READS:
            last_read = bar.format_dict["elapsed"]
            bar.set_description(f"epoch {number}/{recipe.epochs} loss {total_loss.item() / n_steps:.3f}", refresh=False)

    return advance


def _show(bar, recipe, row):
    accuracies = {"train": row["accuracy"], "val": row["validation"]}
    if recipe.is_adversarial:
        accuracies["val adv"] = row["validation_adversarial"]
    bar.set_postfix({name: f"{value:.3f}" for name, value in accuracies.items()})


def _announce(run, out, recipe, training, world):
    types = precisions(recipe, world.device)
    print(
        f"{recipe.model} by {recipe.method}: {counted(len(training.chosen), 'image')}, {training.n_held_out} held out, "
        f"{counted(recipe.epochs, 'epoch')} of {counted(training.n_steps, 'step')} on {world.device}"
        f"{f' in {world.n_ranks} processes' if world.n_ranks > 1 else ''}, {types['training']}, into {out}",
        flush=True,
    )
    for note in run.notes:
        print(f"not bit by bit as before: {note}", flush=True)
    for change in run.changes:
        print(f"different schedule: {change}", flush=True)
    if run.history:
        print(f"resuming after epoch {len(run.history)}", flush=True)


@dataclass(frozen=True)
class Options:
    """Command-line options."""

    recipe: Recipe
    """Fields of the recipe."""
    out: Path | None = None
    """Directory of the run. Default: runs/NAME-seedS."""
    seed: int = 0
    """Seed of all random numbers: weights, split, order, crops, attacks, noise."""
    resume: bool = False
    """Resume the run in the directory, or start one; --epochs and --milestones may differ where finished rates stay."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1; auto: a GPU, if there is one."""
    integrate: tuple[Path, ...] = ()
    """Directories of finished runs whose mean is taken, for recipes with members."""
    as_released: bool = False
    """Use the released code's deviations from the paper's text as defaults: eps 0.031, step 0.007, and others."""
    list: bool = False
    """Print the names of all recipes and exit."""


def _parse(argv):
    """Return (name, Options): the first word names the recipe, whose fields are the defaults of the options."""
    import tyro

    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (DEFAULT, argv)
    recipe = training.recipe(name)
    if "--as-released" in rest:
        recipe = training.as_released(recipe)
    kind = Annotated[Options, tyro.conf.OmitArgPrefixes]
    options = _cli.parse(kind, f"{PROG} {name}", __doc__, rest, Options(recipe))
    if recipe.eps and not any(word.replace("_", "-").startswith("--step-size") for word in rest):
        # By steps of the old radius, the attack may not cross the new ball.
        step = recipe.step_size * (options.recipe.eps / recipe.eps or 1.0)
        options = replace(options, recipe=replace(options.recipe, step_size=step))
    return name, options


def main(argv=None):
    """Run the command with a list of arguments, by default those of the process."""
    argv = sys.argv[1:] if argv is None else argv
    _cli.on_sigterm(_terminate)
    _cli.run(
        lambda: _print_list() if "--list" in argv else _run(*_parse(argv)),
        PROG,
        options=(Recipe, Options),
        others={"name": "--model"},
        interrupted="interrupted: --resume continues after the last finished epoch",
        also=[(PeerLostError, ": --resume continues after the last finished epoch")],
    )


def _run(name, options):
    checks.integer("seed", options.seed, at_least=0)
    if options.integrate and not options.recipe.members:
        raise ValueError(f"--integrate is for recipes that are means of finished runs, and {name} is trained")
    out = options.out or Path("runs") / f"{name.replace('/', '-')}-seed{options.seed}"
    if options.recipe.members:
        _integrate(name, options, out)
        return
    best = train(name, options.recipe, out=out, seed=options.seed, resume=options.resume, device=options.device)
    if best is not None:
        kind = "adversarial validation" if options.recipe.is_adversarial else "validation"
        which = {"best": "best epoch", "last": "epoch", "average": "average up to epoch"}[options.recipe.keep]
        print(f"{which} {best['epoch']}: {kind} accuracy {best['selected']:.4f}; python -m nets.evaluate {out}")


def _integrate(name, options, out):
    runs = options.integrate
    if not runs:
        raise ValueError(
            f"{name} is the mean of finished runs of {' and '.join(options.recipe.members)}: "
            "give their directories by --integrate"
        )
    integrate(name, options.recipe, runs, out)
    print(f"the mean of {' and '.join(map(str, runs))} is in {out}; python -m nets.evaluate {out}")


def _print_list():
    for name, recipe in RECIPES.items():
        notes = [recipe.data, recipe.method, counted(recipe.epochs, "epoch")]
        if recipe.members:
            notes = [recipe.data, f"mean of {', '.join(recipe.members)}"]
        if recipe.oracle:
            notes.append(f"attacked through {recipe.oracle}")
        print(f"{name:34s} {', '.join(notes)}")


def _terminate(signum, frame):
    raise Terminated


if __name__ == "__main__":
    main()
