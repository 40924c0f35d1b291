"""The setup of an evaluation, read from a run's directory and checked: the model, its images, and the attacks."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from bridge import checks
from nets import data, zoo
from nets.attacks import is_noisy
from nets.data import balanced_order
from nets.evaluation._attack_specs import attacks_of
from nets.evaluation._controls import control_of, inject
from nets.evaluation._presets import PRESETS, Preset
from nets.evaluation._radius import EPS_L2, radius, step_of
from nets.evaluation._runner import AttackRunner
from nets.provenance import load_run
from nets.training import device_of

__all__ = ["Options", "Setup", "exact", "prepare"]

DIRECTORY = "evaluation"
BATCH_SIZES = {"cpu": 128, "cuda": 1000}


@dataclass(frozen=True)
class Options:
    """Command-line options.

    Parameters
    ----------
    data : str or None
        Images: digits, cifar10, cifar100, or the path of a folder or archive. Default: those the run was trained on.
    preset : str
        Attacks and their sizes: quick, cpu or full; auto: cpu, or full on a GPU.
    quick : bool
        Short for --preset quick.
    n_images : int or None
        Number of test images, at most as many as there are. Default: 1000.
    attacks : tuple of str
        Names of the attacks, see --list. Default: those of the preset.
    also : tuple of str
        Names of further attacks. If an attack is named twice, it runs on the larger number of images.
    oracle : Path or None
        Run of the network on which the images of blind attacks are made.
    inject : str or None
        Control: noise that the network was not trained with, in its blocks (blocks) or on its input (input).
    coef : float or None
        Strength of that noise, in standard deviations of what it is added to; 0.1 by default. Only with inject.
    draws : int
        Number of passes whose mean logits make a prediction, if the model is noisy.
    repeats : int or None
        Number of such predictions per image; with 1 there is no worst case. Default: 5.
    norm : str
        Norm of the attacks: linf or l2.
    eps : float or None
        Radius, in units of images in [0, 1], such as 8/255. Default: the run's or 8/255; 0.5 in l2.
    step_size : float or None
        Step size of IFGSM and PGD, in the same units. Default: the run's, scaled as
        eps is; a quarter of eps in l2.
    n_iter : int or None
        Number of steps of APGD and FAB. Default: 20 (cpu) or 100 (full).
    n_queries : int or None
        Number of queries of Square. Default: 500 (cpu) or 5000 (full).
    version : str
        Version of autoattack: auto, standard or rand.
    batch_size : int or None
        Number of images per batch. Default: 128, or 1000 on a GPU. It is recorded, since noise that is scaled over the
        batch couples its images.
    device : str
        Device: cpu, cuda, cuda:1; auto: a GPU, if there is one.
    seed : int
        Seed of attacks and noise.
    subset_seed : int
        Seed of the order of the test images.
    n_threads : int or None
        Number of threads on a CPU. Default: the run's, or PyTorch's choice.
    out : Path or None
        File of the results, by default RUN/evaluation.json, or RUN/evaluation-INJECT-noise.json with --inject; for
        MODULE:CALLABLE their directory, by default none.
    list : bool
        Print the names of all attacks and exit.
    """

    data: str | None = None
    preset: str = "auto"
    quick: bool = False
    n_images: int | None = None
    attacks: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    oracle: Path | None = None
    inject: str | None = None
    coef: float | None = None
    draws: int = 10
    repeats: int | None = None
    norm: str = "linf"
    eps: float | None = None
    step_size: float | None = None
    n_iter: int | None = None
    n_queries: int | None = None
    version: str = "auto"
    batch_size: int | None = None
    device: str = "auto"
    seed: int = 0
    subset_seed: int = 0
    n_threads: int | None = None
    out: Path | None = None
    list: bool = False


class Network(NamedTuple):
    """A trained network, its record, and the digests of its weights."""

    model: nn.Module
    record: dict
    weights: dict


@dataclass(frozen=True, eq=False)
class Setup:
    """A run that can be evaluated: the options as given, the networks of the run and of the oracle, the images on the
    CPU and their provenance, the attacks, "natural" first, and their runner.
    """

    options: Options
    preset_name: str
    preset: Preset
    device: torch.device
    network: Network
    oracle: Network | None
    images: data.Dataset
    provenance: dict
    eps: float
    attacks: list
    runner: AttackRunner


def prepare(run, options=None, *, progress=True):
    """Read a run and its images, and check the options; ValueError where something does not fit.

    `run` is a directory, or zoo:NAME, whose results are kept in runs/zoo/NAME of the working directory.
    """
    options = Options() if options is None else options
    device = device_of(options.device)
    preset_name, preset = preset_of(options, device)
    n_images, numbers = counts(options, preset)
    control = control_of(options)
    network = load_network(run, device)
    if control:
        inject(network.model, control["inject"], control["coef"])
    oracle = load_network(options.oracle, device) if options.oracle else None
    recipe = network.record["recipe"]
    set_threads(given(options.n_threads, recipe.get("n_threads")))
    if options.data is None and zoo.of_the_zoo(run):
        raise ValueError(f"data must be given for {run}, which came without the images of its training: --data PATH")
    eps = radius(given(options.eps, recipe["eps"] if options.norm == "linf" else EPS_L2), options.norm)
    images = data.load(options.data or recipe["data"], progress=progress)
    provenance = _check_data(images, network, oracle, options)
    runner = AttackRunner(
        network.model,
        data.Batches(images.test_images.to(device), images.test_labels.to(device), images.white),
        balanced_order(images.test_labels, options.subset_seed)[:n_images],
        directory_of(run) / DIRECTORY,
        {"weights": network.weights["digest"], "data": provenance["digest"], **control},
        norm=options.norm,
        oracle=None if oracle is None else (oracle.model, oracle.weights["digest"]),
        **numbers,
        batch_size=checks.integer("batch_size", given(options.batch_size, BATCH_SIZES[device.type]), at_least=1),
        progress=progress,
    )
    return Setup(
        options=options,
        preset_name=preset_name,
        preset=preset,
        device=device,
        network=network,
        oracle=oracle,
        images=images,
        provenance=provenance,
        eps=eps,
        attacks=_attacks(runner, options, preset, eps, recipe),
        runner=runner,
    )


def load_network(run, device):
    """Load the network of a directory, a file, or zoo:NAME."""
    return Network(*load_run(zoo.path(run) if zoo.of_the_zoo(run) else run, device))


def directory_of(run):
    """Return where the results of a run are kept: in it, or in runs/zoo/NAME of the working directory for zoo:NAME.

    Parameters
    ----------
    run : Path or str
        Directory of a run, or zoo:NAME.

    Returns
    -------
    Path
    """
    return Path("runs", "zoo", str(run).removeprefix(zoo.PREFIX)) if zoo.of_the_zoo(run) else Path(run)


def _attacks(runner, options, preset, eps, recipe):
    """The attacks of the options or, if they name none, of the preset."""
    oracle = runner.oracle
    names = options.attacks or (
        *(preset.noisy if runner.is_noisy else preset.plain),
        *(preset.blind if oracle is not None else ()),
    )
    return attacks_of(
        (*names, *options.also),
        is_noisy=runner.is_noisy,
        has_oracle=oracle is not None,
        oracle_is_noisy=oracle is not None and is_noisy(oracle, runner.images.take(runner.order[:16])[0]),
        eps=eps,
        norm=options.norm,
        step_size=given(options.step_size, step_of(recipe, options.norm, eps)),
        n_images=len(runner.order),
        n_iter=given(options.n_iter, preset.n_iter),
        n_queries=given(options.n_queries, preset.n_queries),
        version=options.version,
    )


def preset_of(options, device):
    """The preset of the options, as its name and `Preset`; "auto" depends on the device."""
    if options.quick and options.preset not in ("auto", "quick"):
        raise ValueError(f"quick must stand alone: it is short for preset=quick, got preset={options.preset}")
    name = "quick" if options.quick else options.preset
    if name == "auto":
        name = "full" if device.type == "cuda" else "cpu"
    return name, PRESETS[checks.one_of("preset", name, tuple(PRESETS))]


def counts(options, preset):
    """The number of images, and a dict of the numbers of draws and repeats and the seed, checked as the attacks' names.

    Before the images are read, which may have to be downloaded.
    """
    attacks_of((*options.attacks, *options.also), is_noisy=True, has_oracle=options.oracle is not None)
    return checks.integer("n_images", given(options.n_images, preset.n_images), at_least=1), {
        "n_draws": checks.integer("draws", options.draws, at_least=1),
        "n_repeats": checks.integer("repeats", given(options.repeats, preset.n_repeats), at_least=1),
        "seed": checks.integer("seed", options.seed, at_least=0),
    }


def set_threads(n_threads):
    """Set the number of PyTorch's threads, unless it is None."""
    if n_threads is not None:
        torch.set_num_threads(checks.integer("n_threads", n_threads, at_least=1))


@contextlib.contextmanager
def exact(device):
    """Disable TF32, which rounds float32 products on GPUs, inside a `with` block."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def given(value, default):
    return default if value is None else value


def _check_data(images, network, oracle, options):
    provenance = images.provenance()
    trained_on = network.record["data"]
    if provenance["n_classes"] != trained_on["n_classes"] or provenance["shape"][0] != trained_on["shape"][0]:
        raise ValueError(
            f"the run was trained on {trained_on['n_classes']} classes of images with {trained_on['shape'][0]} "
            f"channels, {images.name} has {provenance['n_classes']} and {provenance['shape'][0]}"
        )
    if options.data is None and provenance["digest"] != trained_on["digest"]:
        raise ValueError(f"{images.name} is no longer what the run was trained on: give --data to evaluate on it")
    if oracle is not None and oracle.record["data"]["n_classes"] != trained_on["n_classes"]:
        raise ValueError(f"the oracle {options.oracle} has other classes than the run")
    return provenance
