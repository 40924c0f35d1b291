"""Run the campaign of the spectral error account and print its table: docs/error-account.md has one.

python tests/helpers/campaign_table.py [SEED [COUNT]]
"""

import collections
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import numpy as np
import spectral_campaign as campaign


def kind(name):
    """The velocity of a case: the first word, or the first two of "drift, ..." and "plane, ..."."""
    parts = name.split(", ")
    return ", ".join(parts[:2]) if parts[0] in ("drift", "plane") else f"constant, {parts[0]}"


def table(outcomes):
    """Markdown rows: kind, problems, resolved, dishonest, timid, median of estimate / error."""
    groups = collections.defaultdict(list)
    for outcome in outcomes:
        groups[kind(outcome.case.name)].append(outcome)
    rows = [
        "| velocity | problems | resolved | dishonest | timid | median estimate / error |",
        "|---|---|---|---|---|---|",
    ]
    for name, group in [*sorted(groups.items()), ("**all**", outcomes)]:
        # An error of rounding says nothing of the estimate.
        ratios = [o.estimate / o.error for o in group if o.resolved and o.error > 1e-12 * o.case.sup_f]
        median = f"{np.median(ratios):.0f}" if ratios else "–"
        counts = [
            len(group),
            *(sum(getattr(o, key) for o in group) for key in ("resolved", "is_dishonest", "is_timid")),
        ]
        rows.append(f"| {name} | " + " | ".join(map(str, counts)) + f" | {median} |")
    return "\n".join(rows)


def main():
    given = [int(word) for word in sys.argv[1:]]
    seed, count = (*given, *(2020, 500)[len(given) :])
    outcomes, slowest = [], 0.0
    for i, rng in enumerate(np.random.default_rng([seed, 8]).spawn(count)):
        case, began = campaign.draw(rng), time.process_time()
        outcomes.append(campaign.run(case))
        slowest = max(slowest, time.process_time() - began)
        if outcomes[-1].is_dishonest:
            print(f"{i}: {case.name}, n = {case.n}: {outcomes[-1].error:.2e} > {outcomes[-1].estimate:.2e}", flush=True)
    print(table(outcomes))
    print(f"\nThe slowest call took {slowest:.0f} s of processor time.")


if __name__ == "__main__":
    main()
