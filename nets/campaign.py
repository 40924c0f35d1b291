"""Train and evaluate several recipes in a given time: as many epochs as fit, the same for all, schedules scaled.

    python -m nets.campaign --data PATH                     half an hour on a GPU: Table 2's ResNet-20, En1, En2, En5
    python -m nets.campaign cpu/resnet20 cpu/en1_resnet20 --minutes 60 --data PATH
    python -m nets.campaign --quick                         a rehearsal on the handwritten digits, about a minute

A few steps of each recipe are timed on the device, eager and, on a GPU, compiled. The number of epochs follows from
these times and the share of the time for the evaluation. The plan is kept in RUNS/plan.json: after an interruption, the
same command continues with it and repeats nothing that is finished. RESULTS/NAME-seedS.json are the evaluations, as
from `nets.evaluate`; RESULTS/campaign.json contains device, images/s and epochs. The time is an estimate, not a limit.
"""

import csv
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

import _enresnet
from bridge import checks
from nets import _cli, data, evaluation, seeds
from nets.evaluation import attacks_of, markdown
from nets.provenance import environment
from nets.train import threads, train
from nets.training import METRICS, Training, World, device_of
from nets.training import recipe as look_up

__all__ = ["Plan", "main", "make_plan"]

PROG = "python -m nets.campaign"
TABLE2 = ("table2/resnet20", "table2/en1_resnet20", "table2/en2_resnet20", "table2/en5_resnet20")
PLAN, RESULT = "plan.json", "campaign.json"
COMPILED = ("off", "reduce-overhead", "default")
# --quick rehearses the commands; its accuracies mean nothing.
QUICK = {"data": "digits", "eps": 0.15, "step_size": 0.05, "n_iter": 2, "validation_n_iter": 2, "batch_size": 64}
QUICK |= {"padding": 1, "flip": False, "n_threads": 1, "n_train": 256, "n_validation": 64}
N_QUICK_EPOCHS = 2


@dataclass(frozen=True)
class Options:
    """Command-line options."""

    recipes: tyro.conf.Positional[tuple[str, ...]] = TABLE2
    """Names of the recipes, see `python -m nets.train --list`."""
    minutes: float = 30.0
    """Total time in minutes."""
    evaluation: float = 0.35
    """Share of the time that is reserved for the evaluations."""
    data: str | None = None
    """Images: cifar10, or the path of a folder or archive. Default: those of the recipes."""
    runs: Path = Path("runs/campaign")
    """Directory of the plan and of the runs."""
    results: Path = Path("results")
    """Directory of the results."""
    seed: int = 0
    """Seed of all random numbers of the trainings."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1; auto: a GPU, if there is one."""
    n_threads: int | None = None
    """Number of threads on a CPU. Default: the recipe's, or PyTorch's choice."""
    compile: Literal["auto", "off", "default", "reduce-overhead"] = "auto"
    """Mode of torch.compile; auto: off on a CPU, and the fastest mode for the first recipe on a GPU."""
    preset: Literal["quick", "cpu", "full"] = "cpu"
    """Preset of the evaluations."""
    also: tuple[str, ...] = ("apgd-ce-eot20", "apgd-dlr-eot20")
    """Attacks in addition to those of the preset, as for `nets.evaluate`."""
    quick: bool = False
    """Rehearse the commands on the digits, with few steps."""


@dataclass(frozen=True)
class Plan:
    """The number of epochs of every recipe, and the measured times from which it follows."""

    epochs: int
    minutes: float
    # Mode of torch.compile.
    compile: str
    # By the name of the recipe: rate of training steps, time of an epoch with validation, time of the first step.
    images_per_second: dict
    epoch_seconds: dict
    setup_seconds: dict
    # Settings that another call must share to continue with this plan.
    identity: dict = field(default_factory=dict)


def make_plan(recipes, images, device, *, minutes, evaluation, compile="auto", seed=0, identity=None):
    """Time a few steps of every recipe (a dict by name) and plan as many epochs as fit, see `Options`.

    epochs = (60 minutes (1 - evaluation) - sum of set-up times) / (sum of the recipes' seconds per epoch)
    """
    _check_times(minutes, evaluation)
    if compile == "auto":
        compile = _fastest(next(iter(recipes.values())), images, device, seed) if device.type == "cuda" else "off"
    rates, epochs, setups = {}, {}, {}
    for name, recipe in recipes.items():
        rates[name], epochs[name], setups[name] = _time(replace(recipe, compile=compile), images, device, seed)
    for_setup, for_epoch = sum(setups.values()), sum(epochs.values())
    n_epochs = int((60 * minutes * (1 - evaluation) - for_setup) / for_epoch)
    if n_epochs < 1:
        needed = (for_setup + for_epoch) / (60 * (1 - evaluation))
        raise ValueError(f"minutes must be >= {needed:.1f} for one epoch of each recipe here, got {minutes:g}")
    return Plan(n_epochs, minutes, compile, rates, epochs, setups, identity or {})


def _check_times(minutes, evaluation):
    checks.real("minutes", minutes, positive=True)
    if not 0 < evaluation < 1:
        raise ValueError(f"evaluation must be in (0, 1), got {evaluation}")


def _time(recipe, images, device, seed):
    """Images per second, seconds per epoch, and extra seconds of the first step."""
    mean, std = images.statistics()
    model = recipe.build(len(images.classes), mean, std, seeds.derive(seed, "weights"))
    training = Training(model, images, recipe, World(device), seed=seed)
    with threads(recipe.n_threads):
        first, later = training.seconds_per_step()
    # Validation takes about as many gradients per image as a step.
    n_steps = training.n_steps + training.n_held_out / recipe.batch_size
    return recipe.batch_size / later, later * n_steps, max(0.0, first - later)


def _fastest(recipe, images, device, seed):
    rates = {}
    for mode in COMPILED:
        try:
            rates[mode] = _time(replace(recipe, compile=mode), images, device, seed)[0]
        except RuntimeError as error:
            # Compilers fail in many ways; the eager mode always works.
            print(f"compile={mode} fails here: {str(error).splitlines()[0]}", flush=True)
    print(
        "images/s of the first recipe: " + ", ".join(f"{mode} {rate:.0f}" for mode, rate in rates.items()), flush=True
    )
    return max(rates, key=rates.get)


def _run(options):
    for name in options.recipes:
        if look_up(name).members:
            raise ValueError(f"recipes must be trained, and {name} is a mean of others")
    # Reported now, not after the images are downloaded or the networks trained.
    _check_times(options.minutes, options.evaluation)
    checks.integer("seed", options.seed, at_least=0)
    attacks_of(options.also, is_noisy=True)
    recipes = {name: _adapted(look_up(name), options) for name in options.recipes}
    sets = {recipe.data for recipe in recipes.values()}
    if len(sets) != 1:
        raise ValueError(f"recipes must share one data set, got {', '.join(sorted(sets))}: give --data")
    device = device_of(options.device)
    images = data.load(sets.pop())
    plan = _plan(recipes, images, device, options)
    print(
        f"{_enresnet.counted(plan.epochs, 'epoch')} each in {plan.minutes:g} minutes: "
        + ", ".join(f"{name} {rate:.0f} images/s" for name, rate in plan.images_per_second.items()),
        flush=True,
    )
    began, record = time.perf_counter(), {}
    for name, recipe in recipes.items():
        recipe = replace(recipe, epochs=plan.epochs, compile=plan.compile)
        best = train(name, recipe, out=_out(name, options), seed=options.seed, resume=True, device=str(device))
        record[name] = {"validation": best["selected"], "images_per_second": _trained_rate(_out(name, options))}
    trained = time.perf_counter() - began
    preset = "quick" if options.quick else options.preset
    shared = {"also": options.also, "data": options.data, "n_threads": options.n_threads}
    settings = evaluation.Options(preset=preset, device=str(device), **shared)
    for name in recipes:
        report = evaluation.evaluate(_out(name, options), settings)
        _cli.write_json(options.results / f"{name.replace('/', '-')}-seed{options.seed}.json", report)
        print(f"\n{name}, {_enresnet.counted(plan.epochs, 'epoch')}:\n\n{markdown(report)}", flush=True)
    seconds = {"training": trained, "evaluation": time.perf_counter() - began - trained}
    result = {"plan": asdict(plan), "runs": record, "seconds_of_this_call": seconds}
    result |= environment(device, "nets.campaign")
    _cli.write_json(options.results / RESULT, result)
    print(options.results / RESULT)


def _adapted(recipe, options):
    if options.quick:
        recipe = replace(recipe, **QUICK)
    if options.n_threads is not None:
        recipe = replace(recipe, n_threads=options.n_threads)
    return replace(recipe, data=options.data) if options.data else recipe


def _out(name, options):
    return options.runs / f"{name.replace('/', '-')}-seed{options.seed}"


def _plan(recipes, images, device, options):
    """The plan of an earlier call, or a new one."""
    path = options.runs / PLAN
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    identity = {"recipes": list(recipes), "seed": options.seed, "minutes": options.minutes, "quick": options.quick}
    identity |= {"data": images.provenance()["digest"], "device": device_name}
    if path.is_file():
        try:
            plan = Plan(**_enresnet.read_record(path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, or give another --runs") from None
        if plan.identity != identity:
            raise ValueError(f"{path} is the plan of another campaign: give another --runs")
        return plan
    limits = {"minutes": options.minutes, "evaluation": options.evaluation, "compile": options.compile}
    plan = make_plan(recipes, images, device, **limits, seed=options.seed, identity=identity)
    if options.quick:
        plan = replace(plan, epochs=min(plan.epochs, N_QUICK_EPOCHS))
    _cli.write_json(path, asdict(plan))
    return plan


def _trained_rate(run):
    """Images per second of each epoch, from the metrics of the run."""
    with (run / METRICS).open(encoding="utf-8", newline="") as file:
        return [round(float(row["images_per_second"]), 1) for row in csv.DictReader(file)]


def main(argv=None):
    """Run the command with a list of arguments, by default those of the process."""
    argv = sys.argv[1:] if argv is None else argv
    _cli.on_sigterm()
    _cli.run(
        lambda: _run(_cli.parse(Options, PROG, __doc__, argv)),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command continues after the last finished epoch",
    )


if __name__ == "__main__":
    main()
