"""Figure 2: the architecture of the EnResNet, members side by side and their mean, as it is built here.

    u(x, 0) = E[f(X_T) | X_0 = x]  ~  mean of the members' logits                             (paper: (3.1), Figure 2)

A row is a residual mapping, or a layer outside of one, in the order in which they run on one image, with the shape of
its output and its number of parameters. Equal consecutive rows are merged.

--model NAME draws another network of `nets.build`: en5_resnet20, en3_wrn34_10, resnet44, en1_resnet20+en1_resnet32
(default en2_resnet20).

Takes seconds.
"""

import numpy as np
from matplotlib.figure import Figure

from figures import _architecture
from figures._architecture import from_arrays, model_option
from figures._boxes import arrow, blank, box, number, plus, text
from figures._cli import make_main
from figures._style import label

__all__ = ["compute", "findings", "main", "plot"]

MODEL = "en2_resnet20"
# Width of a column, heights of a row and of its box, and space above and below the rows.
COLUMN, ROW, HIGH = 9.0, 1.0, 0.66
TOP, BOTTOM = 3.4, 4.2
NARROWEST = 12.0
N_SHOWN = 3


def compute(*, quick=False, seed=0, model=MODEL):
    """Boxes of all members (b,) with the member each belongs to (b,), and weights and parameter counts (k,)."""
    net, x = _architecture.build(model, seed)
    pairs = _architecture.members(net.net)
    owner = {part: k for k, (member, _) in enumerate(pairs) for part in _architecture.parts(member)}
    traced = _architecture.trace(net, [net, *owner], x)
    boxes, places = [], []
    for k in range(len(pairs)):
        rows = _architecture.grouped(box for part, box in traced if owner.get(part) == k)
        boxes += rows
        places += [k] * len(rows)
    whole = next(box for part, box in traced if part is net)
    return {
        **_architecture.arrays(boxes),
        "member": np.array(places),
        "weight": np.array([weight for _, weight in pairs]),
        "member_n_parameters": np.array([_architecture.count(member) for member, _ in pairs]),
        "model": np.array(model),
        "image_shape": np.array(whole.input_shape),
        "logits_shape": np.array(whole.output_shape),
        "total_n_parameters": np.array(_architecture.count(net)),
    }


def findings(data):
    """Return the findings for the JSON file."""
    members = [
        {
            "weight": float(weight),
            "n_parameters": int(data["member_n_parameters"][k]),
            "boxes": [
                box._asdict()
                for box, member in zip(_architecture.from_arrays(data), data["member"], strict=True)
                if member == k
            ],
        }
        for k, weight in enumerate(data["weight"])
    ]
    return {"model": str(data["model"]), "n_parameters": int(data["total_n_parameters"]), "members": members}


def plot(data):
    """The image, a column for each member, and the mean."""
    boxes, n_members = from_arrays(data), len(data["weight"])
    columns = [[found for found, k in zip(boxes, data["member"], strict=True) if k == m] for m in range(n_members)]
    shown = range(n_members) if n_members <= N_SHOWN else [0, 1, n_members - 1]
    n_rows = max(len(columns[m]) for m in shown)
    width, height = max(COLUMN * len(shown), NARROWEST), TOP + n_rows * ROW + BOTTOM
    figure = Figure(figsize=(0.6 * width, 0.4 * height), layout="constrained")
    axes = figure.subplots()
    blank(axes, width, height)
    total = number(int(data["total_n_parameters"]))
    axes.set_title(f"{label(str(data['model']))}: {total} parameters", fontsize=12)
    text(axes, width / 2, height - 0.5, f"image in [0, 1], {data['image_shape']}, normalised", fontsize=11)
    fork, join = height - 1.5, BOTTOM - 0.6
    arrow(axes, (width / 2, height - 0.9), (width / 2, fork), head=False)
    for place, m in enumerate(shown):
        centre = width / 2 + COLUMN * (place + 0.5 - len(shown) / 2)
        _column(axes, columns[m], centre, height - TOP, fork, width / 2)
        _caption(axes, data, m, centre, height - TOP)
        foot = height - TOP - (len(columns[m]) - 1) * ROW - HIGH / 2
        arrow(axes, (centre, foot), (centre, join), (width / 2, join), head=False)
    if len(shown) < n_members:
        text(axes, COLUMN * 2, height - TOP - n_rows * ROW / 2, "⋯", fontsize=26)
    _mean(axes, data, width / 2, join)
    _key(axes, boxes, width)
    return figure


def _caption(axes, data, m, x, top):
    if len(data["weight"]) > 1:
        count = number(int(data["member_n_parameters"][m]))
        text(axes, x + 0.2, top + 1.25, f"member {m + 1}, {count} parameters", ha="left", fontsize=9.5)
    heading = {"ha": "right", "fontsize": 7.5, "color": "#555555"}
    text(axes, x + 2.45, top + 0.6, "output", **heading)
    text(axes, x + 3.95, top + 0.6, "parameters", **heading)


def _column(axes, boxes, x, top, fork, middle):
    arrow(axes, (middle, fork), (x, fork), (x, top + HIGH / 2))
    for k, found in enumerate(boxes):
        y = top - k * ROW
        if k:
            arrow(axes, (x, y + ROW - HIGH / 2), (x, y + HIGH / 2))
        box(axes, (x, y), (COLUMN - 0.8, HIGH), found.role)
        repeats = f"{found.n_repeats} × " if found.n_repeats > 1 else ""
        text(axes, x - 3.9, y, repeats + found.label, ha="left", fontsize=9)
        if found.noise:
            _noise(axes, x, y)
        text(axes, x + 2.45, y, found.output_shape, ha="right", fontsize=8.5, color="#555555")
        text(axes, x + 3.95, y, number(found.n_repeats * found.n_parameters), ha="right", fontsize=9)


def _noise(axes, x, y):
    box(axes, (x + 0.55, y), (0.95, 0.46), "noise")
    text(axes, x + 0.55, y, "noise", fontsize=8)


def _mean(axes, data, x, join):
    weights = data["weight"]
    n_members = len(weights)
    if n_members == 1:
        arrow(axes, (x, join), (x, 1.55))
        text(axes, x, 1.2, f"logits, {data['logits_shape']}", fontsize=11)
        return
    arrow(axes, (x, join), (x, join - 0.55))
    plus(axes, x, join - 0.85)
    equal = (weights == weights[0]).all()
    each = f"{weights[0]:.3g} each" if equal else ", ".join(f"{weight:.3g}" for weight in weights)
    text(axes, x + 0.5, join - 0.85, f"mean of the {n_members} members' logits, weights {each}", ha="left", fontsize=10)
    arrow(axes, (x, join - 1.15), (x, 1.55))
    text(axes, x, 1.2, f"logits, {data['logits_shape']}", fontsize=11)


def _key(axes, boxes, width):
    """Key of the colours, and the distribution of the noise."""
    noisy = next((found for found in boxes if found.noise), None)
    entries = [("step", "residual mapping: a time step"), ("change", "with projected shortcut: no time step")]
    if noisy:
        entries.append(("noise", f"{noisy.noise.capitalize()} noise $\\sigma = a s$, $a$ = {noisy.coef:g}"))
    size = 6.0
    left = width / 2 - size * len(entries) / 2
    for k, (role, words) in enumerate(entries):
        box(axes, (left + size * k + 0.3, 0.3), (0.5, 0.4), role)
        text(axes, left + size * k + 0.75, 0.3, words, ha="left", fontsize=8.5)


main = make_main("fig2", __doc__, compute=compute, plot=plot, findings=findings, options=model_option(MODEL))


if __name__ == "__main__":
    main()
