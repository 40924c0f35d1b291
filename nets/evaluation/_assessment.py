"""The evaluation of a run, from its directory to a report: attacks, rows, red flags, and their provenance."""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

import _enresnet
from nets import red_flags, seeds, zoo
from nets.evaluation._controls import control_of
from nets.evaluation._report import gradient_mask, notes
from nets.evaluation._rows import BY_LUCK, accuracies_for_flags, differing_flags, has_worst_case, make_row, worst_rows
from nets.evaluation._setup import Options, exact, prepare
from nets.provenance import environment, epochs_done
from nets.training import published

__all__ = ["Options", "evaluate"]


def evaluate(run, options=None, *, progress=True):
    """Evaluate a run, resuming from the results in its directory.

    Parameters
    ----------
    run : Path or str
        Directory of the run, as `python -m nets.train` writes it, or zoo:NAME.
    options : Options, optional
        Options of the evaluation; by default those of the command.
    progress : bool, default=True
        Whether to show progress bars, if standard error is a terminal.

    Returns
    -------
    dict
        "rows", "red_flags", "notes" and provenance, as written to the file of results.

    Raises
    ------
    ValueError
        If the run, the oracle or the data do not exist or do not fit together, or an option is out of range.
    ArithmeticError
        If an attack leaves its ball, or a number is not finite.
    """
    began = time.perf_counter()
    setup = prepare(run, options, progress=progress)
    runner, record = setup.runner, setup.network.record
    with exact(setup.device):
        bar = tqdm(setup.attacks, unit="attack", disable=None if progress else True)
        outcomes = [runner.run(attack) for attack in bar]
        # The paper has no row for a network with noise that it was not trained with.
        paper = published(record["name"]) if setup.options.inject is None else None
        rows = [make_row(o, runner.natural(o.attack), paper) for o in outcomes]
        rows += worst_rows(outcomes[1:], outcomes[0], setup.eps) if has_worst_case(runner) else []
        flags = _red_flags(setup, outcomes)
    mask, n_epochs = gradient_mask(rows, record), _epochs_done(run)
    return {
        "run": _run(run, setup, n_epochs),
        "oracle": _oracle(setup),
        "control": control_of(setup.options) or None,
        "data": _data(setup),
        "protocol": _protocol(setup),
        "rows": rows,
        "red_flags": flags,
        "gradient_mask": mask,
        "notes": notes(mask, record, setup.provenance, n_epochs, is_noisy=runner.is_noisy)
        + ([] if has_worst_case(runner) else [BY_LUCK]),
        **environment(setup.device, "nets.evaluate"),
        "options": {
            k: _enresnet.portable(str(v)) if isinstance(v, (str, Path)) else v for k, v in asdict(setup.options).items()
        },
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_of_attacks": round(sum(outcome.seconds for outcome in outcomes), 2),
    }


def _epochs_done(run):
    return len(zoo.card(run)["history"]) if zoo.of_the_zoo(run) else epochs_done(run)


def _run(run, setup, n_epochs):
    record = setup.network.record
    return {
        "path": str(run),
        **{name: record[name] for name in ("name", "recipe", "model", "seed", "epoch")},
        "epochs_done": n_epochs,
        "validation": record["accuracy"],
        "weights": setup.network.weights,
        "versions": record["versions"],
    }


def _oracle(setup):
    if setup.oracle is None:
        return None
    record = {name: setup.oracle.record[name] for name in ("name", "recipe", "seed")}
    return {"path": str(setup.options.oracle), **record, "weights": setup.oracle.weights}


def _data(setup):
    order, labels = setup.runner.order.cpu(), setup.images.test_labels
    return setup.provenance | {
        "trained_on": setup.network.record["data"]["digest"],
        "subset": f"the first {len(order)} of the {len(labels)} test images in a random order in which "
        f"the classes take turns, subset_seed={setup.options.subset_seed}",
        "n_each_class": torch.bincount(labels[order], minlength=len(setup.images.classes)).tolist(),
    }


def _protocol(setup):
    runner = setup.runner
    return {
        "preset": setup.preset_name,
        "robust": "right before and after the attack, repeat by repeat; images wrong in every repeat are attacked only "
        "where settings.everywhere is true, and count as wrong",
        "stderr": "sqrt(p (1 - p) / n + spread**2 / n_repeats); of none or all of n, (1 - 0.05**(1 / n)) / 2",
        "is_noisy": runner.is_noisy,
        "n_draws": runner.n_draws if runner.is_noisy else 1,
        "n_repeats": runner.n_repeats if runner.is_noisy else 1,
        "batch_size": runner.batch_size,
        "std_over": setup.network.record["model"]["std_over"] if runner.is_noisy else None,
        "dtype": "float32",
        "norm": setup.options.norm,
        "eps": setup.eps,
        "seed": runner.seed,
        "subset_seed": setup.options.subset_seed,
    }


def _red_flags(setup, outcomes):
    """Return what `red_flags.check` finds, or found in an earlier call, and the flags of the outcomes, first."""
    runner = setup.runner
    n_eot = setup.preset.n_eot_flagged if runner.is_noisy else 1
    accuracies, n_compared = accuracies_for_flags(outcomes[1:], outcomes[0], setup.eps)
    compared = {"accuracies": accuracies, "n_compared": n_compared}
    x, y = runner.images.take(runner.order[: setup.preset.n_flagged])
    depends = {"identity": runner.identity, "eps": setup.eps, "n_eot": n_eot, "n": len(x), **compared}
    key = hashlib.sha256(json.dumps(depends, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]
    path = runner.directory / f"red-flags-{key}.json"
    flags = None
    with contextlib.suppress(OSError, ValueError):
        flags = _enresnet.read_record(path)
    if flags is None:
        options = {"eps": setup.eps, "norm": runner.norm, "n_eot": n_eot, "accuracies": accuracies}
        generator = seeds.make_generator(runner.seed, "red flags", device=x.device)
        found = red_flags.check(runner.model, x, y, **options, generator=generator)
        flags = {"n_images": len(x), "n_eot": n_eot, **compared, "found": [asdict(flag) for flag in found]}
        path.parent.mkdir(parents=True, exist_ok=True)
        _enresnet.write_record(path, flags)
    return flags | {"found": [asdict(flag) for flag in differing_flags(outcomes)] + flags["found"]}
