"""What an evaluation needs, read from a run's directory and checked: the model, its images, the attacks on them."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch

from bridge import checks
from nets import data
from nets.attacks import is_noisy
from nets.data import balanced_order
from nets.evaluation._attack_specs import attacks_of
from nets.evaluation._controls import inject
from nets.evaluation._presets import PRESETS, Preset
from nets.evaluation._runner import AttackRunner
from nets.provenance import load_run
from nets.training import device_of

__all__ = ["Options", "Ready", "exact", "prepare"]

DIRECTORY = "evaluation"
# RobustBench's radius in l2.
EPS_L2 = 0.5
BATCH_SIZES = {"cpu": 128, "cuda": 1000}


@dataclass(frozen=True)
class Options:
    """Command-line options.

    Parameters
    ----------
    data : str or None
        Images: digits, cifar10, cifar100, or the path of a folder or archive. By default those the run was trained on.
    preset : str
        quick, cpu or full: attacks and their sizes; auto: cpu, or full on a GPU.
    quick : bool
        Short for --preset quick.
    n_images : int or None
        Test images, at most as many as there are. By default 1000.
    attacks : tuple of str
        Names, see --list. By default those of the preset.
    also : tuple of str
        Names of attacks beside those; of one that is there already, whichever is on more images is made.
    oracle : Path or None
        Run whose network makes the images of blind attacks.
    inject : str or None
        Control: noise that the network was not trained with, in its blocks (blocks) or on its input (input).
    coef : float
        Of that noise, in standard deviations of what it is added to.
    draws : int
        Passes whose mean logits make a prediction, if the model draws.
    repeats : int or None
        Such predictions per image. By default 5.
    norm : str
        linf or l2.
    eps : float or None
        Radius, in units of images in [0, 1]; 8/255 is understood. By default the run's or 8/255; in l2 0.5.
    step_size : float or None
        Step of IFGSM and PGD, in the same units. By default the run's; in l2 a quarter of eps.
    n_iter : int or None
        Steps of APGD and FAB. By default 20 (cpu) or 100 (full).
    n_queries : int or None
        Queries of Square. By default 500 (cpu) or 5000 (full).
    version : str
        Version of autoattack: auto, standard, rand.
    batch_size : int or None
        Images at once. By default 128, on a GPU 1000. It is recorded: noise scaled over the batch couples its images.
    device : str
        cpu, cuda, cuda:1; auto: a GPU, if there is one.
    seed : int
        Seed of attacks and noise.
    subset_seed : int
        Seed of the order of the test images.
    n_threads : int or None
        Threads, on a CPU. By default the run's, or PyTorch's choice.
    out : Path or None
        File of the results. By default RUN/evaluation.json.
    list : bool
        Print the names of all attacks and end.
    """

    data: str | None = None
    preset: str = "auto"
    quick: bool = False
    n_images: int | None = None
    attacks: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    oracle: Path | None = None
    inject: str | None = None
    coef: float = 0.1
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


@dataclass(frozen=True, eq=False)
class Ready:
    """A run that can be evaluated: options as given, the run's record and the hashes of its weights, and the same of
    the oracle; images on the CPU and their provenance; attacks, "natural" first, and the runner for them.
    """

    options: Options
    preset_name: str
    preset: Preset
    device: torch.device
    record: dict
    weights: dict
    oracle_record: dict | None
    oracle_weights: dict | None
    images: data.Dataset
    provenance: dict
    eps: float
    attacks: list
    evaluation: AttackRunner


def prepare(run, options=None, *, progress=True):
    """Read a run's directory and its images, and check the options; ValueError where something does not fit."""
    options = Options() if options is None else options
    run = Path(run)
    device = device_of(options.device)
    preset_name = "quick" if options.quick else options.preset
    if preset_name == "auto":
        preset_name = "full" if device.type == "cuda" else "cpu"
    preset = PRESETS[checks.one_of("preset", preset_name, tuple(PRESETS))]
    model, record, weights = load_run(run, device)
    control = {} if options.inject is None else {"inject": options.inject, "coef": options.coef}
    if control:
        inject(model, options.inject, options.coef)
    oracle, oracle_record, oracle_weights = load_run(options.oracle, device) if options.oracle else (None, None, None)
    recipe = record["recipe"]
    n_threads = given(options.n_threads, recipe.get("n_threads"))
    if n_threads is not None:
        torch.set_num_threads(checks.integer("n_threads", n_threads, at_least=1))
    images = data.load(options.data or recipe["data"], progress=progress)
    provenance = _check_data(images, record, oracle_record, options)
    n_draws = checks.integer("draws", options.draws, at_least=1)
    n_repeats = checks.integer("repeats", given(options.repeats, preset.n_repeats), at_least=1)
    batch_size = checks.integer("batch_size", given(options.batch_size, BATCH_SIZES[device.type]), at_least=1)
    n_images = checks.integer("n_images", given(options.n_images, preset.n_images), at_least=1)
    seed = checks.integer("seed", options.seed, at_least=0)
    linf = options.norm == "linf"
    eps = radius(given(options.eps, recipe["eps"] if linf else EPS_L2), options.norm)
    order = balanced_order(images.test_labels, options.subset_seed)[:n_images]
    batches = data.Batches(images.test_images.to(device), images.test_labels.to(device), images.white)
    evaluation = AttackRunner(
        model,
        batches,
        order,
        run / DIRECTORY,
        {"weights": weights["digest"], "data": provenance["digest"], **control},
        norm=options.norm,
        oracle=None if oracle is None else (oracle, oracle_weights["digest"]),
        seed=seed,
        n_draws=n_draws,
        n_repeats=n_repeats,
        batch_size=batch_size,
        progress=progress,
    )
    noisy = evaluation.is_noisy
    names = options.attacks or (*(preset.noisy if noisy else preset.plain), *(preset.blind if oracle else ()))
    attacks = attacks_of(
        (*names, *options.also),
        is_noisy=noisy,
        has_oracle=oracle is not None,
        oracle_is_noisy=oracle is not None and is_noisy(oracle, batches.take(order[:16].to(device))[0]),
        eps=eps,
        norm=options.norm,
        step_size=given(options.step_size, recipe["step_size"] if linf else None),
        n_images=len(order),
        n_iter=given(options.n_iter, preset.n_iter),
        n_queries=given(options.n_queries, preset.n_queries),
        version=options.version,
    )
    return Ready(
        options=options,
        preset_name=preset_name,
        preset=preset,
        device=device,
        record=record,
        weights=weights,
        oracle_record=oracle_record,
        oracle_weights=oracle_weights,
        images=images,
        provenance=provenance,
        eps=eps,
        attacks=attacks,
        evaluation=evaluation,
    )


@contextlib.contextmanager
def exact(device):
    """Disable TF32 on GPUs inside a `with` block: it would round the products of float32."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def radius(eps, norm):
    """Check a radius and its norm, and return the radius."""
    checks.one_of("norm", norm, ("linf", "l2"))
    eps = checks.real("eps", eps, positive=True)
    if norm == "linf" and eps > 1:
        raise ValueError(f"eps must be at most 1, in units of images in [0, 1]: 8/255 and not 8, got eps={eps:g}")
    return eps


def given(value, default):
    return default if value is None else value


def _check_data(images, record, oracle_record, options):
    provenance = images.provenance()
    theirs = record["data"]
    if provenance["n_classes"] != theirs["n_classes"] or provenance["shape"][0] != theirs["shape"][0]:
        raise ValueError(
            f"the run was trained on {theirs['n_classes']} classes of {theirs['shape'][0]} channels, "
            f"{images.name} has {provenance['n_classes']} of {provenance['shape'][0]}"
        )
    if options.data is None and provenance["digest"] != theirs["digest"]:
        raise ValueError(f"{images.name} is not what the run was trained on any more: give --data to evaluate on it")
    if oracle_record is not None and oracle_record["data"]["n_classes"] != theirs["n_classes"]:
        raise ValueError(f"the oracle {options.oracle} tells other classes apart than the run")
    return provenance
