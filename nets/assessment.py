"""The evaluation of a run from its directory to a report: attacks, rows, red flags, and where they come from."""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from bridge import _checks
from nets import checkpoint, data, red_flags, seeds
from nets.answers import balanced_order
from nets.evaluation import Evaluation
from nets.predictions import is_noisy
from nets.presets import PRESETS
from nets.protocol import attacks_of
from nets.provenance import epochs_done, load_run, machine
from nets.recipes import published
from nets.reports import accuracies_for_flags, gradient_mask, make_row, notes, worst_rows

__all__ = ["Options", "evaluate"]

DIRECTORY = "evaluation"
BATCH_SIZES = {"cpu": 128, "cuda": 1000}


@dataclass(frozen=True)
class Options:
    """Of the command.

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
    oracle : Path or None
        Run whose network makes the images of blind attacks.
    draws : int
        Passes whose mean logits are an answer of a model that draws.
    repeats : int or None
        Such answers to every image. By default 5.
    eps : float or None
        Radius, in units of images in [0, 1]; 8/255 is understood. By default the run's.
    step_size : float or None
        Of IFGSM and PGD, in the same units. By default the run's.
    n_iter : int or None
        Steps of APGD. By default 20 (cpu) or 100 (full).
    n_queries : int or None
        Of Square. By default 500 (cpu) or 5000 (full).
    version : str
        Of autoattack: auto, standard, rand.
    batch_size : int or None
        Images at once. By default 128, on a GPU 1000. It is recorded: noise scaled over the batch couples its images.
    device : str
        cpu, cuda, cuda:1; auto: a GPU, if there is one.
    seed : int
        Of attacks and noise.
    subset_seed : int
        Of the order of the test images.
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
    oracle: Path | None = None
    draws: int = 10
    repeats: int | None = None
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


def evaluate(run, options=None, *, progress=True):
    """Evaluate a run, going on with what there is in its directory.

    Parameters
    ----------
    run : Path
        The run's directory, see `nets.runs`.
    options : Options, optional
        See there.
    progress : bool, default=True
        Show progress bars, if standard error is a terminal.

    Returns
    -------
    dict
        "rows", "red_flags", "notes" and provenance, as written to the file.

    Raises
    ------
    ValueError
        If the run, the oracle or the data are not there or do not fit, or an option is out of range.
    ArithmeticError
        If an attack leaves its ball, or a number is not finite.
    """
    options = Options() if options is None else options
    began = time.perf_counter()
    run = Path(run)
    device = _device(options.device)
    preset_name = "quick" if options.quick else options.preset
    if preset_name == "auto":
        preset_name = "full" if device.type == "cuda" else "cpu"
    preset = PRESETS[_checks.one_of("preset", preset_name, tuple(PRESETS))]
    model, record, weights = load_run(run, device)
    oracle, oracle_record, oracle_weights = load_run(options.oracle, device) if options.oracle else (None, None, None)
    recipe = record["recipe"]
    n_threads = _given(options.n_threads, recipe.get("n_threads"))
    if n_threads is not None:
        torch.set_num_threads(_checks.integer("n_threads", n_threads, at_least=1))
    images = data.load(options.data or recipe["data"], progress=progress)
    provenance = _check_data(images, record, oracle_record, options)
    n_draws = _checks.integer("draws", options.draws, at_least=1)
    n_repeats = _checks.integer("repeats", _given(options.repeats, preset.n_repeats), at_least=1)
    batch_size = _checks.integer("batch_size", _given(options.batch_size, BATCH_SIZES[device.type]), at_least=1)
    n_images = _checks.integer("n_images", _given(options.n_images, preset.n_images), at_least=1)
    seed = _checks.integer("seed", options.seed, at_least=0)
    eps = _checks.real("eps", _given(options.eps, recipe["eps"]), positive=True)
    order = balanced_order(images.test_labels, options.subset_seed)[:n_images]
    batches = data.Batches(images.test_images.to(device), images.test_labels.to(device), images.white)
    x, y = batches.take(order[: preset.n_flagged].to(device))
    noisy = is_noisy(model, x[:2])
    names = options.attacks or (*(preset.noisy if noisy else preset.plain), *(preset.blind if oracle else ()))
    attacks = attacks_of(
        names,
        is_noisy=noisy,
        has_oracle=oracle is not None,
        oracle_is_noisy=oracle is not None and is_noisy(oracle, x[:2]),
        eps=eps,
        step_size=_given(options.step_size, recipe["step_size"]),
        n_images=len(order),
        n_iter=_given(options.n_iter, preset.n_iter),
        n_queries=_given(options.n_queries, preset.n_queries),
        version=options.version,
    )
    evaluation = Evaluation(
        model,
        batches,
        order,
        run / DIRECTORY,
        {"weights": weights["digest"], "data": provenance["digest"]},
        oracle=oracle,
        oracle_identity=None if oracle is None else oracle_weights["digest"],
        seed=seed,
        n_draws=n_draws,
        n_repeats=n_repeats,
        batch_size=batch_size,
        progress=progress,
    )
    with _exact(device):
        bar = tqdm(attacks, unit="attack", disable=None if progress else True)
        outcomes = [evaluation.run(attack) for attack in bar]
        natural = outcomes[0]
        rows = [make_row(o, evaluation.natural(o.attack), published(record["name"])) for o in outcomes]
        rows += worst_rows(outcomes[1:], natural, eps)
        accuracies, n_compared = accuracies_for_flags(outcomes[1:], natural, eps)
        compared = {"accuracies": accuracies, "n_compared": n_compared}
        n_eot = preset.n_eot_flagged if noisy else 1
        flags = _red_flags(model, x, y, evaluation, n_eot, eps, compared)
        mask = gradient_mask(rows, record)
    n_epochs = epochs_done(run)
    return {
        "run": {
            "path": str(run),
            "name": record["name"],
            "recipe": recipe,
            "model": record["model"],
            "seed": record["seed"],
            "epoch": record["epoch"],
            "epochs_done": n_epochs,
            "validation": record["accuracy"],
            "weights": weights,
            "versions": record["versions"],
        },
        "oracle": None
        if oracle is None
        else {
            "path": str(options.oracle),
            "name": oracle_record["name"],
            "seed": oracle_record["seed"],
            "weights": oracle_weights,
        },
        "data": provenance
        | {
            "trained_on": record["data"]["digest"],
            "subset": f"the first {len(order)} of the {len(images.test_labels)} test images in a random order in which "
            f"the classes take turns, subset_seed={options.subset_seed}",
            "n_each_class": torch.bincount(images.test_labels[order], minlength=len(images.classes)).tolist(),
        },
        "protocol": {
            "preset": preset_name,
            "robust": "right before and after the attack, repeat by repeat; images wrong in every repeat are attacked "
            "only where settings.everywhere is true, and count as wrong",
            "stderr": "sqrt(p (1 - p) / n + spread**2 / n_repeats)",
            "is_noisy": noisy,
            "n_draws": n_draws if noisy else 1,
            "n_repeats": n_repeats if noisy else 1,
            "batch_size": batch_size,
            "std_over": record["model"]["std_over"] if noisy else None,
            "dtype": "float32",
            "norm": "linf",
            "eps": eps,
            "seed": seed,
            "subset_seed": options.subset_seed,
        },
        "rows": rows,
        "red_flags": flags,
        "gradient_mask": mask,
        "notes": notes(mask, record, provenance, n_epochs, is_noisy=noisy),
        **machine(device),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_of_attacks": round(sum(outcome.seconds for outcome in outcomes), 2),
    }


def _given(value, default):
    return default if value is None else value


def _device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in BATCH_SIZES or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {name} is not there: give --device cpu")
    return device


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


@contextlib.contextmanager
def _exact(device):
    """Float32 as it is, on GPUs that would round products to TF32."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _red_flags(model, x, y, evaluation, n_eot, eps, compared):
    """What `red_flags.check` finds, or found before."""
    told = {"identity": evaluation.identity, "eps": eps, "n_eot": n_eot, "n": len(x), **compared}
    key = hashlib.sha256(json.dumps(told, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]
    path = evaluation.directory / f"red-flags-{key}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    generator = seeds.make_generator(evaluation.seed, "red flags", device=x.device)
    found = red_flags.check(model, x, y, eps=eps, n_eot=n_eot, accuracies=compared["accuracies"], generator=generator)
    flags = {"n_images": len(x), "n_eot": n_eot, **compared, "found": [asdict(flag) for flag in found]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.renamed(path) as draft:
        draft.write_text(json.dumps(flags, allow_nan=False), encoding="utf-8")
    return flags
