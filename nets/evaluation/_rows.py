"""Rows of a report: accuracies with standard errors, per attack and under the worst attack on every image."""

import torch

from nets.evaluation._runner import ROUNDING
from nets.evaluation._statistics import robust, score, worst_case
from nets.red_flags import BLACK_BOX, WHITE_BOX, RedFlag

# Why there is no worst case, see `has_worst_case`.
BY_LUCK = (
    "no worst case: with one repeat of a noisy model, the draws that choose the attack on an image also score it, and "
    "luck passes for strength; take two repeats or more"
)
# Attacks whose accuracies the paper prints, and the fields of `nets.published.Row` that hold them.
COLUMNS = {"natural": "natural", "fgsm": "fgsm", "ifgsm20": "ifgsm20", "cw": "cw"}


def make_row(outcome, natural, published=None):
    """Return an attack's row, a dict: an image counts as robust if it is right in both Outcomes, repeat by repeat.

    "accuracy", "stderr" and "spread" are over the repeats of n_draws draws each. "one_draw" is over single passes on
    the attacked images, which is the paper's measure where all images are attacked. `published` is a row of the paper.
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
    """The paper's accuracy as a fraction: for blind attacks from a row with an oracle, else from one without."""
    blind = published is not None and published.oracle is not None
    name = attack.name.removeprefix("blind-") if blind else attack.name
    if published is None or blind != (attack.source == "oracle") or name not in COLUMNS:
        return None
    percent = getattr(published, COLUMNS[name])
    return None if percent is None else round(percent / 100, 6)


def _within(outcome, natural, eps, n):
    """Which of the first n images are robust, counting only attacked images inside the ball; the shares of draws."""
    right = robust(natural.right, outcome.right)[:n]
    shares = outcome.draws.double().mean(2)[:n]
    # Images of C&W may be outside the ball: the attack then counts as not made on them. Others were checked when made.
    outside = (outcome.distance[:n] > eps + ROUNDING)[:, None] & (not outcome.attack.is_bounded)
    unharmed = natural.right[:n], natural.draws.double().mean(2)[:n]
    return torch.where(outside, unharmed[0], right), torch.where(outside, unharmed[1], shares)


def _inside(outcomes):
    return [outcome for outcome in outcomes if outcome.attack.is_compared]


def has_worst_case(runner):
    """Whether the worst attack on an image can be chosen by other draws than those that score it."""
    return not runner.is_noisy or runner.n_repeats > 1


def worst_rows(outcomes, natural, eps):
    """Rows of the worst attack on every image, one per number of attacked images, in decreasing order.

    Attacked images farther than eps count as not attacked.
    """
    rows = []
    for n in sorted({o.attack.n_images for o in _inside(outcomes)}, reverse=True):
        right, names = worst_rights(outcomes, natural, eps, n)
        rows.append({"name": f"worst case of {len(names)}", **score(right)._asdict(), "attacks": names})
    return rows


def worst_rights(outcomes, natural, eps, n):
    """Which of the first n images are right under the worst attack on n or more, (n, n_repeats); the attacks' names."""
    chosen = [o for o in _inside(outcomes) if o.attack.n_images >= n]
    pairs = [_within(o, natural, eps, n) for o in chosen]
    return worst_case(*map(torch.stack, zip(*pairs, strict=True))), [o.attack.name for o in chosen]


def accuracies_for_flags(outcomes, natural, eps):
    """Accuracies by attack for `red_flags.check`, all on the same images, and the number of images.

    Of several attacks with the same name, the smallest accuracy counts.
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


def differing_flags(outcomes):
    """A list with a red flag if a model that seemed deterministic at first is not; else an empty list."""
    differing = {outcome.attack.name: outcome.n_differing for outcome in outcomes if outcome.n_differing}
    if not differing:
        return []
    name = max(differing, key=differing.get)
    what = f"passes agreed at first, but two differ later, for {differing[name]} images after {name}"
    remedy = "the model is noisy or has a state: average over draws, or make it stateless"
    return [RedFlag("randomised", what, remedy)]
