"""The protocol for any model: from a callable and images to a report, for `evaluate_model` and the command."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from bridge import checks, noisy_blocks
from nets import red_flags, seeds
from nets.attacks import admit, attacked, is_noisy, mean_logits
from nets.evaluation._attack_specs import attacks_of, parse
from nets.evaluation._foreign import (
    Foreign,
    Guided,
    ImageSet,
    digest_of,
    is_differentiable,
    warn_of_modes,
)
from nets.evaluation._identity import identify
from nets.evaluation._kept import check_kept, passes_of
from nets.evaluation._radius import radius
from nets.evaluation._report import Report
from nets.evaluation._rows import BY_LUCK, accuracies_for_flags, differing_flags, has_worst_case, make_row, worst_rows
from nets.evaluation._runner import AttackRunner
from nets.evaluation._setup import BATCH_SIZES, given
from nets.evaluation._statistics import robust, score
from nets.provenance import environment

# Attacks for deterministic, noisy and non-differentiable models: the parts of AutoAttack, and the paper's attacks.
STANDARD = ("fgsm", "ifgsm20", "apgd-ce", "apgd-t", "fab-t", "square")
RAND = ("fgsm", "ifgsm20-eot20", "apgd-ce-eot20", "apgd-dlr-eot20")
BLACK_BOX = ("square",)
# Numbers of draws per gradient up to the plateau, and the number of images on which it is sought.
N_EOTS, N_PLATEAU = (1, 2, 5, 10, 20, 40, 80), 200
N_FLAGGED = 50
UNSEEDED = (
    "passes from equal seeds differ: the model has a state, or draws from a source that no seed governs, and another "
    "evaluation gives other numbers"
)
NATURAL = ("natural", "noise-off-natural")
NO_ATTACK = "no attack was made, and no red flags were looked for, for which the model is attacked"
# Of the kinds of objects.
NOT_KEPT = (
    "no results are kept in out, where another model might find them: what the model consists of cannot be read in "
    "full ({})"
)


@dataclass(frozen=True)
class Settings:
    """Settings of `assess`, as in `evaluate_model`; `also` are attacks beside the default, `version` AutoAttack's."""

    eps: float
    norm: str
    attacks: Sequence[str] | None
    step_size: float | None
    n_draws: int
    n_repeats: int
    out: Path | str | None
    n_iter: int
    n_queries: int
    batch_size: int | None
    seed: int
    keep_images: bool = False
    progress: bool = True
    also: Sequence[str] = ()
    version: str = "auto"

    def of_attacks(self, n_images):
        """The options of `parse`, the same for all attacks."""
        names = ("norm", "eps", "step_size", "n_iter", "n_queries", "version")
        return {"n_images": n_images} | {name: getattr(self, name) for name in names}


def assess(model, images, labels, settings, *, surrogate=None, guided=True):
    """Evaluate a model, see `evaluate_model`; with guided=False, only blind attacks use the surrogate."""
    began = time.perf_counter()
    settings = replace(settings, eps=radius(settings.eps, settings.norm))
    if isinstance(settings.attacks, str):
        raise ValueError(f"attacks must be a sequence of names, got attacks={settings.attacks!r}")
    if settings.out is not None and Path(settings.out).exists() and not Path(settings.out).is_dir():
        raise ValueError(f"out must be a directory, got the file {settings.out}")
    # Before any pass: a model may count them.
    known = [(None, []) if each is None else identify(each) for each in (model, surrogate)]
    model, x, y, surrogate = _enter(model, images, labels, surrogate, settings.norm, settings.eps)
    runner, notes = _runner(model, x, y, surrogate, settings, guided, known)
    # Passes that examine the model draw as well: they are reproducible and leave the caller's generators alone.
    seed, first = seeds.derive(runner.seed, "evaluate_model"), x[: runner.batch_size]
    with seeds.default_generator_seeded(seed, x.device), seeds.numpy_and_python_seeded(seed):
        n_classes = _n_classes(model, first, surrogate)
        if runner.guide is not None and not is_differentiable(surrogate, first, y[: runner.batch_size]):
            raise ValueError("surrogate must have a gradient with respect to its images: PyTorch finds none")
        has_gradient = runner.guide is not None or is_differentiable(model, first, y[: runner.batch_size])
        default = _default(runner.is_noisy, has_gradient, x.dim() == 4, surrogate is not None)
        names = default if settings.attacks is None else settings.attacks
        options = settings.of_attacks(len(x))
        options["oracle_is_noisy"] = surrogate is not None and _draws(surrogate, first)
        specs = _specs((*names, *settings.also), runner, has_gradient, n_classes, options, notes)
        outcomes = [runner.run(spec) for spec in specs]
        base = "ifgsm20" if has_gradient else "square" if x.dim() == 4 else None
        is_attacked = any(name.partition("@")[0] not in NATURAL for name in (*names, *settings.also))
        curve = _curve(runner, base, options) if is_attacked and runner.is_noisy and base else []
        worst = worst_rows(outcomes[1:], outcomes[0], settings.eps) if has_worst_case(runner) else []
        notes += [] if not is_attacked or has_worst_case(runner) else [BY_LUCK]
        notes += [] if is_attacked else [NO_ATTACK]
        flags, n_flagged = _red_flags(runner, outcomes, settings.eps) if is_attacked else (differing_flags(outcomes), 0)
    return Report(
        attacked_by_gradients=has_gradient,
        rows=[make_row(outcome, runner.natural(outcome.attack)) for outcome in outcomes],
        worst_case=worst,
        red_flags=[asdict(flag) for flag in flags],
        n_flagged=n_flagged,
        eot_curve=curve,
        notes=_first_note(has_gradient, runner.guide) + notes,
        settings=_settings(runner, specs, settings.eps) | {"surrogate": surrogate is not None},
        provenance=environment(x.device, "nets.evaluate") | {"identity": runner.identity["model"]},
        seconds=round(time.perf_counter() - began, 2),
        x_adv={o.attack.name: o.x_adv for o in outcomes if o.x_adv is not None},
    )


def _runner(model, x, y, surrogate, settings, guided, known):
    batch_size = given(settings.batch_size, BATCH_SIZES.get(x.device.type, BATCH_SIZES["cuda"]))
    batch_size = checks.integer("batch_size", batch_size, at_least=1)
    (identity, unread), (other, more) = known
    out, notes = None if settings.out is None else Path(settings.out), []
    if out is not None and (unread := sorted({*unread, *more})):
        notes.append(NOT_KEPT.format(", ".join(unread[:3])))
        # Now, not when hours of work are lost.
        warnings.warn(notes[0], UserWarning, stacklevel=4)
        out = None
    passes, is_seeded = passes_of(model, x[:batch_size], further=out is not None)
    if out is not None:
        conditions = f"{digest_of(x, y)} {batch_size} {x.device.type}"
        check_kept(out, f"{identity} {conditions}", passes, x.dtype)
        if surrogate is not None:
            further, _ = passes_of(surrogate, x[:batch_size], further=True)
            check_kept(out, f"{other} {conditions}", further, x.dtype)
    runner = AttackRunner(
        model,
        ImageSet(x, y),
        torch.arange(len(x)),
        out,
        {"model": identity, "data": digest_of(x, y)},
        norm=settings.norm,
        oracle=None if surrogate is None else (surrogate, other),
        guide=(Guided(model, surrogate), other) if surrogate is not None and guided else None,
        seed=checks.integer("seed", settings.seed, at_least=0),
        n_draws=checks.integer("n_draws", settings.n_draws, at_least=1),
        n_repeats=checks.integer("n_repeats", settings.n_repeats, at_least=1),
        batch_size=batch_size,
        keep_images=settings.keep_images,
        progress=settings.progress,
    )
    return runner, notes if is_seeded else [UNSEEDED, *notes]


def _first_note(has_gradient, guide):
    if not has_gradient:
        return ["the model has no gradient: no attack that needs one was run"]
    if guide is not None:
        return ["the gradients are those of the surrogate, at the logits of the model, which decides"]
    return []


def _settings(runner, specs, eps):
    n_draws, n_repeats = (runner.n_draws, runner.n_repeats) if runner.is_noisy else (1, 1)
    return {
        "eps": eps,
        "norm": runner.norm,
        "attacks": [spec.name for spec in specs],
        "is_noisy": runner.is_noisy,
        "n_draws": n_draws,
        "n_repeats": n_repeats,
        "n_images": len(runner.order),
        "batch_size": runner.batch_size,
        "seed": runner.seed,
    }


def _enter(model, images, labels, surrogate, norm, eps):
    # n_eot=2 suppresses the warning about single draws: the protocol decides which attacks average.
    model, x, y = admit(model, images, labels, n_eot=2, eps=eps, norm=norm)
    # Noise is drawn in the order of the memory: one order for the same images.
    x = x.contiguous()
    if not len(x):
        raise ValueError(f"images must hold at least one image, got shape {tuple(x.shape)}")
    warn_of_modes(model, x)
    if surrogate is not None:
        surrogate = Foreign(admit(surrogate, x, y, n_eot=2)[0])
    return Foreign(model), x, y, surrogate


def _default(is_noisy, has_gradient, as_images, has_surrogate):
    names = (RAND if is_noisy else STANDARD) if has_gradient else BLACK_BOX
    if has_surrogate:
        names = (*names, *(() if "square" in names else BLACK_BOX), "blind-apgd-ce")
    return tuple(name for name in names if as_images or name != "square")


def _draws(model, x):
    with attacked(model):
        return is_noisy(model, x)


def _n_classes(model, x, surrogate):
    counts = []
    for network in (model, surrogate):
        if network is not None:
            with attacked(network):
                counts.append(mean_logits(network, x).shape[1])
    if counts[0] < 2:
        raise ValueError(f"model must return logits of at least 2 classes, got {counts[0]}")
    # Logits of one class would be added to those of all.
    if counts[-1] != counts[0]:
        raise ValueError(f"surrogate must have the {counts[0]} classes of the model, got {counts[-1]}")
    return counts[0]


def _specs(names, runner, has_gradient, n_classes, options, notes):
    specs = attacks_of(names, is_noisy=runner.is_noisy, has_oracle=runner.oracle is not None, **options)
    if any(spec.source == "noise-off" for spec in specs) and not noisy_blocks(runner.model):
        raise ValueError("the model's noise cannot be switched off: give a surrogate= for transfer")
    kept = []
    for spec in specs:
        if spec.needs_gradients and spec.source == "model" and not has_gradient:
            notes.append(f"{spec.name} was not run: the model has no gradient")
            continue
        least = {"apgd-t": 4, "apgd-dlr": 3}.get(spec.base, 2)
        if n_classes < least:
            plain = spec.name.replace(spec.base, "apgd-margin" if n_classes < 3 else "apgd-dlr")
            notes.append(f"{plain} replaces {spec.name}, whose loss needs {least} classes")
            spec = parse(plain, is_noisy=runner.is_noisy, **options)
        if spec.settings() not in [other.settings() for other in kept]:
            kept.append(spec)
    return kept


def _curve(runner, base, options):
    """Robust accuracy under one attack as the draws per gradient or query double, until it no longer falls."""
    curve, before = [], None
    options = options | {"n_images": min(N_PLATEAU, options["n_images"])}
    for n_eot in N_EOTS:
        spec = parse(f"{base}-eot{n_eot}", is_noisy=True, **options)
        outcome = runner.run(spec)
        right = robust(runner.natural(spec).right, outcome.right)
        result, now = score(right), right.double().mean(1)
        curve.append(
            {"attack": base, "n_eot": n_eot, "accuracy": result.accuracy, "stderr": result.stderr, "n": result.n}
        )
        if before is not None:
            # Paired over the same images: the plateau is reached when the fall is within one standard error.
            fall = before - now
            error = fall.std().item() / len(fall) ** 0.5 if len(fall) > 1 else 0.0
            curve[-1]["plateau"] = n_eot >= 20 and fall.mean().item() <= error
            if curve[-1]["plateau"]:
                break
        before = now
    return curve


def _red_flags(runner, outcomes, eps):
    x, y = runner.images.images, runner.images.labels
    accuracies, _ = accuracies_for_flags(outcomes[1:], outcomes[0], eps)
    n = min(N_FLAGGED, len(x))
    n_eot = 20 if runner.is_noisy else 1
    generator = seeds.make_generator(runner.seed, "red flags", device=x.device)
    options = {"eps": eps, "norm": runner.norm, "n_eot": n_eot, "accuracies": accuracies, "generator": generator}
    flags = red_flags.check(runner.guide or runner.model, x[:n], y[:n], **options)
    known = {flag.name for flag in flags}
    flags = [flag for flag in differing_flags(outcomes) if flag.name not in known] + flags
    return flags, n
