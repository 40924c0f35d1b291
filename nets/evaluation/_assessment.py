"""The evaluation of a run from its directory to a report: attacks, rows, red flags, and where they come from."""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from nets import checkpoint, red_flags, seeds
from nets.evaluation._report import gradient_mask, notes
from nets.evaluation._rows import accuracies_for_flags, differing_flags, make_row, worst_rows
from nets.evaluation._setup import Options, exact, prepare
from nets.provenance import environment, epochs_done
from nets.training import published

__all__ = ["Options", "evaluate"]


def evaluate(run, options=None, *, progress=True):
    """Evaluate a run, going on with what there is in its directory.

    Parameters
    ----------
    run : Path
        The run's directory, see `nets.training._run_directory`.
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
    began = time.perf_counter()
    ready = prepare(run, options, progress=progress)
    options, evaluation, record, provenance = ready.options, ready.evaluation, ready.record, ready.provenance
    with exact(ready.device):
        bar = tqdm(ready.attacks, unit="attack", disable=None if progress else True)
        outcomes = [evaluation.run(attack) for attack in bar]
        natural = outcomes[0]
        # The paper has no row for a network with noise that it was not trained with.
        paper = published(record["name"]) if options.inject is None else None
        rows = [make_row(o, evaluation.natural(o.attack), paper) for o in outcomes]
        rows += worst_rows(outcomes[1:], natural, ready.eps)
        accuracies, n_compared = accuracies_for_flags(outcomes[1:], natural, ready.eps)
        flags = _red_flags(ready, {"accuracies": accuracies, "n_compared": n_compared})
        flags["found"] = [asdict(flag) for flag in differing_flags(outcomes)] + flags["found"]
        mask = gradient_mask(rows, record)
    n_epochs, order, labels = epochs_done(run), evaluation.order.cpu(), ready.images.test_labels
    noisy = evaluation.is_noisy
    return {
        "run": {
            "path": str(run),
            "name": record["name"],
            "recipe": record["recipe"],
            "model": record["model"],
            "seed": record["seed"],
            "epoch": record["epoch"],
            "epochs_done": n_epochs,
            "validation": record["accuracy"],
            "weights": ready.weights,
            "versions": record["versions"],
        },
        "oracle": None
        if ready.oracle_record is None
        else {
            "path": str(options.oracle),
            "name": ready.oracle_record["name"],
            "recipe": ready.oracle_record["recipe"],
            "seed": ready.oracle_record["seed"],
            "weights": ready.oracle_weights,
        },
        "control": None if options.inject is None else {"inject": options.inject, "coef": options.coef},
        "data": provenance
        | {
            "trained_on": record["data"]["digest"],
            "subset": f"the first {len(order)} of the {len(labels)} test images in a random order in which "
            f"the classes take turns, subset_seed={options.subset_seed}",
            "n_each_class": torch.bincount(labels[order], minlength=len(ready.images.classes)).tolist(),
        },
        "protocol": {
            "preset": ready.preset_name,
            "robust": "right before and after the attack, repeat by repeat; images wrong in every repeat are attacked "
            "only where settings.everywhere is true, and count as wrong",
            "stderr": "sqrt(p (1 - p) / n + spread**2 / n_repeats)",
            "is_noisy": noisy,
            "n_draws": evaluation.n_draws if noisy else 1,
            "n_repeats": evaluation.n_repeats if noisy else 1,
            "batch_size": evaluation.batch_size,
            "std_over": record["model"]["std_over"] if noisy else None,
            "dtype": "float32",
            "norm": options.norm,
            "eps": ready.eps,
            "seed": evaluation.seed,
            "subset_seed": options.subset_seed,
        },
        "rows": rows,
        "red_flags": flags,
        "gradient_mask": mask,
        "notes": notes(mask, record, provenance, n_epochs, is_noisy=noisy),
        **environment(ready.device, "nets.evaluate"),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_of_attacks": round(sum(outcome.seconds for outcome in outcomes), 2),
    }


def _red_flags(ready, compared):
    """What `red_flags.check` finds, or found before."""
    evaluation, eps = ready.evaluation, ready.eps
    n_eot = ready.preset.n_eot_flagged if evaluation.is_noisy else 1
    x, y = evaluation.images.take(evaluation.order[: ready.preset.n_flagged])
    told = {"identity": evaluation.identity, "eps": eps, "n_eot": n_eot, "n": len(x), **compared}
    key = hashlib.sha256(json.dumps(told, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]
    path = evaluation.directory / f"red-flags-{key}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    generator = seeds.make_generator(evaluation.seed, "red flags", device=x.device)
    found = red_flags.check(
        evaluation.model,
        x,
        y,
        eps=eps,
        norm=evaluation.norm,
        n_eot=n_eot,
        accuracies=compared["accuracies"],
        generator=generator,
    )
    flags = {"n_images": len(x), "n_eot": n_eot, **compared, "found": [asdict(flag) for flag in found]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.renamed(path) as draft:
        draft.write_text(json.dumps(flags, allow_nan=False), encoding="utf-8")
    return flags
