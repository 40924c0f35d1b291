"""What an evaluation found, as rows of fractions with standard errors, for JSON and as a table in Markdown."""

import torch

from nets.evaluation._runner import ROUNDING
from nets.evaluation._statistics import robust, score, worst_case
from nets.published import MASK
from nets.red_flags import BLACK_BOX, NOTHING, WHITE_BOX

__all__ = ["accuracies_for_flags", "gradient_mask", "make_row", "markdown", "notes", "worst_answers", "worst_rows"]

# Names of rows whose numbers the paper prints, and of its columns.
COLUMNS = {"natural": "natural", "fgsm": "fgsm", "ifgsm20": "ifgsm20", "cw": "cw"}


def make_row(outcome, natural, published=None):
    """Return an attack's row.

    Parameters
    ----------
    outcome : Outcome
        Of the attack, or of natural images.
    natural : Outcome
        Of natural images: an image counts as robust if it is right in both, repeat by repeat.
    published : published.Row, optional
        What the paper prints of this model.

    Returns
    -------
    dict
        "accuracy", "stderr", "spread" over the repeats, each of n_draws draws; "one_draw", of single passes, on the
        attacked images alone: the paper's measure, where all images are attacked.
    """
    attack = outcome.attack
    is_natural = attack.base == "natural"
    right = outcome.right if is_natural else robust(natural.right, outcome.right)
    result = score(right)
    single = score(outcome.draws.flatten(1))
    passes = outcome.draws.flatten(1).double().mean(0)
    n_attacked = int(outcome.attacked.sum())
    distance = outcome.distance[outcome.attacked]
    seconds = outcome.seconds
    row = {
        "name": attack.name,
        **result._asdict(),
        "n_draws": outcome.draws.shape[2],
        "one_draw": {
            "accuracy": single.accuracy,
            "stderr": single.stderr,
            "spread": single.spread,
            "least": passes.min().item(),
            "greatest": passes.max().item(),
            "n_draws": len(passes),
        },
        "n_attacked": n_attacked,
        "seconds": round(seconds, 2),
        "images_per_second": round(n_attacked / seconds, 2) if seconds else None,
        "n_passes": outcome.n_passes,
        "n_gradients": outcome.n_gradients,
        "settings": attack.settings(),
    }
    if not is_natural and n_attacked:
        row["distance"] = {"median": distance.median().item(), "greatest": distance.max().item()}
    return row | {"paper": _paper(attack, published)}


def _paper(attack, published):
    """The paper's number as a fraction: of blind attacks from a row with an oracle, else from one without."""
    blind = published is not None and published.oracle is not None
    name = attack.name.removeprefix("blind-") if blind else attack.name
    if published is None or blind != (attack.source == "oracle") or name not in COLUMNS:
        return None
    percent = getattr(published, COLUMNS[name])
    return None if percent is None else round(percent / 100, 6)


def _within(outcome, natural, eps, n):
    """Robust images among the first n under what the attack reached inside the ball, and the shares of single draws."""
    right = robust(natural.right, outcome.right)[:n]
    shares = outcome.draws.double().mean(2)[:n]
    # C&W's images may lie outside: then it has not attacked this image.
    outside = (outcome.distance[:n] > eps + ROUNDING)[:, None]
    unharmed = natural.right[:n], natural.draws.double().mean(2)[:n]
    return torch.where(outside, unharmed[0], right), torch.where(outside, unharmed[1], shares)


def _inside(outcomes):
    return [outcome for outcome in outcomes if outcome.attack.is_compared]


def worst_rows(outcomes, natural, eps):
    """Return the rows of the worst attack on every image: for each number of images, of all attacks on so many.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of the attacks.
    natural : Outcome
        Of natural images.
    eps : float
        Radius: images further away count as not attacked.

    Returns
    -------
    list of dict
        The greatest number of images first.
    """
    rows = []
    for n in sorted({o.attack.n_images for o in _inside(outcomes)}, reverse=True):
        right, names = worst_answers(outcomes, natural, eps, n)
        rows.append({"name": f"worst case of {len(names)}", **score(right)._asdict(), "attacks": names})
    return rows


def worst_answers(outcomes, natural, eps, n):
    """Say which of the first images are right whatever attack was made on so many.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of the attacks.
    natural : Outcome
        Of natural images.
    eps : float
        Radius: images further away count as not attacked.
    n : int
        Images, at most as many as one of the attacks was made on.

    Returns
    -------
    right : Tensor of shape (n, n_repeats)
        See `scores.worst_case`.
    names : list of str
        Of the attacks.
    """
    chosen = [o for o in _inside(outcomes) if o.attack.n_images >= n]
    pairs = [_within(o, natural, eps, n) for o in chosen]
    return worst_case(*(torch.stack(parts) for parts in zip(*pairs, strict=True))), [o.attack.name for o in chosen]


def accuracies_for_flags(outcomes, natural, eps):
    """Return the accuracies that `red_flags.check` compares, all on the same images.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of the attacks.
    natural : Outcome
        Of natural images.
    eps : float
        Radius.

    Returns
    -------
    accuracies : dict of str to float
        Of several attacks of one name the least.
    n : int
        Images.
    """
    named = []
    for outcome in _inside(outcomes):
        attack = outcome.attack
        name = {"noise-off": "transfer", "oracle": "blind"}.get(attack.source, attack.base)
        if name in ("fgsm", *WHITE_BOX, *BLACK_BOX):
            named.append((name, outcome))
    n = min((outcome.attack.n_images for _, outcome in named), default=0)
    accuracies = {}
    for name, outcome in named:
        accuracy = score(_within(outcome, natural, eps, n)[0]).accuracy
        accuracies[name] = min(accuracy, accuracies.get(name, 1.0))
    return accuracies, n


def gradient_mask(rows, record):
    """Look for masked gradients as the paper's section 4.4 does: without a defence or bounds, nothing may be left.

    Parameters
    ----------
    rows : list of dict
        Of the attacks.
    record : dict
        Of the run.

    Returns
    -------
    dict
        "ifgsm20", the accuracy under it of a naturally trained network, beside the paper's; "unbounded", under an
        attack in the whole cube; "nothing", up to which they count as none.
    """
    accuracy = {row["name"]: row["accuracy"] for row in rows}
    natural = record["recipe"]["method"] == "natural"
    printed = {row.model: row.ifgsm20 / 100 for row in MASK}
    return {
        "naturally_trained": natural,
        "ifgsm20": accuracy.get("ifgsm20") if natural else None,
        "paper": printed.get(record["recipe"]["model"]) if natural else None,
        "unbounded": accuracy.get("unbounded"),
        "nothing": NOTHING,
    }


def notes(mask, record, data, n_epochs, *, is_noisy):
    """Say what a reader must know beside the numbers.

    Parameters
    ----------
    mask : dict
        Of `gradient_mask`.
    record : dict
        Of the run.
    data : dict
        Provenance of the images.
    n_epochs : int or None
        Epochs behind the run.
    is_noisy : bool
        Whether the model draws.

    Returns
    -------
    list of str
    """
    said, epochs = [], record["recipe"]["epochs"]
    if data["encoding"] == "JPEG":
        said.append("the images went through JPEG encoding")
    if data["digest"] != record["data"]["digest"]:
        said.append(f"the network was trained on other images, of {record['data']['name']}")
    if n_epochs is not None and n_epochs < epochs:
        said.append(f"the run is not finished: {n_epochs} epochs of {epochs}")
    if record["recipe"]["select_on"] == "test":
        said.append("the best epoch was chosen on the test images, of which these are some")
    if is_noisy and record["model"]["std_over"] == "batch":
        said.append("the noise is scaled over the batch: an image's answer depends on the others in its batch")
    if mask["ifgsm20"] is not None:
        verdict = "no sign of masked gradients" if mask["ifgsm20"] <= NOTHING else "its gradients may be masked"
        said.append(f"naturally trained, {mask['ifgsm20']:.4f} under IFGSM^20: {verdict} (paper: section 4.4)")
    if mask["unbounded"] is not None and mask["unbounded"] > NOTHING:
        said.append(f"an attack without bounds leaves {mask['unbounded']:.4f} right: the gradients may be masked")
    return said


def markdown(report):
    """Return the report's table, and its red flags, in Markdown.

    Parameters
    ----------
    report : dict
        See `nets.evaluate`.

    Returns
    -------
    str
    """
    has_paper = any(row.get("paper") is not None for row in report["rows"])
    heads = ["attack", "accuracy ± s.e.", "one draw", "draws a gradient", "n", "seconds"] + ["paper"] * has_paper
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in report["rows"]:
        n_eot = row.get("settings", {}).get("n_eot")
        cells = [
            row["name"],
            f"{row['accuracy']:.4f} ± {row['stderr']:.4f}",
            f"{row['one_draw']['accuracy']:.4f}" if "one_draw" in row else "",
            "" if n_eot is None else str(n_eot),
            str(row["n"]),
            f"{row['seconds']:.1f}" if "seconds" in row else "",
        ]
        if has_paper:
            cells.append("" if row.get("paper") is None else f"{row['paper']:.4f}")
        lines.append("| " + " | ".join(cells) + " |")
    flags = [f"- {flag['name']}: {flag['what']}; {flag['remedy']}" for flag in report["red_flags"]["found"]]
    n = report["red_flags"]["n_images"]
    lines += ["", f"Red flags ({n} images): none" if not flags else f"Red flags ({n} images):", *flags]
    lines += ["", "Notes:", *(f"- {note}" for note in report["notes"])] if report["notes"] else []
    return "\n".join(lines) + "\n"
