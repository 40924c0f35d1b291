"""Figure 1: the residual mapping of a ResNet, and the one with injected noise, as they are built here.

    (a)  x_(l+1) = x_l + F(x_l)          (b)  x_(l+1) = x_l + F(x_l) + N(0, sigma**2 I)           (paper: Figure 1)

The boxes are the modules of the first residual block of a network, in the order in which they run on one image, with
their shapes and numbers of parameters; below are all residual mappings of the network, in order.

--model NAME draws another network: resnet20 (default), resnet32, resnet44, resnet56, resnet110, wrn14_2, wrn34_10; the
network with noise is the member of en1_NAME.

Takes seconds.
"""

import numpy as np
from matplotlib.figure import Figure

from bridge import NoisyResidual
from figures import _architecture
from figures._architecture import from_arrays, model_option
from figures._boxes import arrow, blank, box, law_of, number, plus, text
from figures._cli import make_main
from figures._style import label

__all__ = ["compute", "findings", "main", "plot"]

MODEL = "resnet20"
WIDTH, HEIGHT = 10, 11
BRANCH, SHORTCUT, MODULE = 3.6, 8.3, 0.66


def compute(*, quick=False, seed=0, model=MODEL):
    """Boxes of the block without noise (p,) and with noise (q,), and of all residual mappings (m,) of the network."""
    if str(model).startswith("en") or "+" in str(model):
        raise ValueError(f"--model must be one network without noise, such as {MODEL}, got {model}")
    noisy_model = f"en1_{model}"
    networks = [_architecture.build(name, seed) for name in (model, noisy_model)]
    firsts = [next(module for module in net.modules() if _is_time_step(module)) for net, _ in networks]
    plain, noisy = (
        _architecture.inside(net, block, x) for (net, x), block in zip(networks, firsts, strict=True)
    )  # fmt: skip
    net, x = networks[1]
    traced = [box for _, box in _architecture.trace(net, _architecture.parts(net), x)]
    mappings = _architecture.grouped(box for box in traced if box.role != "layer")
    return {
        **_architecture.arrays(plain, "plain_"),
        **_architecture.arrays(noisy, "noisy_"),
        **_architecture.arrays(mappings, "mapping_"),
        "model": np.array(model),
        "noisy_model": np.array(noisy_model),
        "total_n_parameters": np.array(_architecture.count(net)),
        "rest_n_parameters": np.array(sum(box.n_parameters for box in traced if box.role == "layer")),
        "std_over": np.array(firsts[1].std_over),
    }


def _is_time_step(module):
    return isinstance(module, NoisyResidual) and module.is_time_step


def findings(data):
    """Return the findings for the JSON file."""
    return {
        "model": str(data["model"]),
        "n_parameters": int(data["total_n_parameters"]),
        "blocks": {
            kind: [box._asdict() for box in _architecture.from_arrays(data, f"{kind}_")] for kind in ("plain", "noisy")
        },
        "residual_mappings": [box._asdict() for box in _architecture.from_arrays(data, "mapping_")],
    }


def plot(data):
    """Two panels, (a) without and (b) with noise, and below them the network's residual mappings."""
    figure = Figure(figsize=(11, 8.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[6.4, 1.8])
    left, right = above.subplots(1, 2)
    _block(left, from_arrays(data, "plain_"), f"(a) residual mapping of {label(str(data['model']))}", "")
    _block(right, from_arrays(data, "noisy_"), f"(b) the same with injected noise, {label(str(data['noisy_model']))}",
           str(data["std_over"]))  # fmt: skip
    _mappings(below.subplots(), data)
    return figure


def _block(axes, boxes, title, std_over):
    blank(axes, WIDTH, HEIGHT)
    axes.set_title(title, fontsize=11)
    branch = [found for found in boxes if found.role == "branch"]
    shortcut = next(found for found in boxes if found.role == "shortcut")
    noise = next((found for found in boxes if found.role == "noise"), None)
    top, sum_y, noise_y = HEIGHT - 1.5, 3.4, 2.0
    step = (top - sum_y - 1.0) / len(branch)
    places = [top - 0.75 - step * (k + 0.35) for k in range(len(branch))]
    text(axes, SHORTCUT - 1.5, HEIGHT - 0.5, f"$x_l$   {branch[0].input_shape}", fontsize=11)
    fork = SHORTCUT - 1.5, top - 0.1
    arrow(axes, (fork[0], HEIGHT - 0.85), fork, head=False)
    arrow(axes, fork, (BRANCH, fork[1]), (BRANCH, places[0] + MODULE / 2))
    arrow(axes, fork, (SHORTCUT, fork[1]), (SHORTCUT, sum_y), (BRANCH + 0.28, sum_y))
    text(axes, SHORTCUT + 0.15, (top + sum_y) / 2, shortcut.label, ha="left", rotation=90)
    for k, (found, y) in enumerate(zip(branch, places, strict=True)):
        _module(axes, found, y)
        if k:
            arrow(axes, (BRANCH, places[k - 1] - MODULE / 2), (BRANCH, y + MODULE / 2))
    total = number(sum(found.n_parameters for found in branch))
    text(axes, 6.5, places[0] + MODULE / 2 + 0.24, "parameters", fontsize=8, color="#555555", ha="right")
    text(axes, 7.35, (places[0] + places[-1]) / 2, f"$F$: {total} parameters", rotation=90, fontsize=9.5)
    arrow(axes, (BRANCH, places[-1] - MODULE / 2), (BRANCH, sum_y + 0.28))
    plus(axes, BRANCH, sum_y)
    text(axes, BRANCH + 0.6, sum_y - 0.45, "$x_l + F(x_l)$", ha="left", fontsize=9.5)
    if noise:
        arrow(axes, (BRANCH, sum_y - 0.28), (BRANCH, noise_y + 0.28))
        _noise(axes, noise, noise_y, std_over)
        plus(axes, BRANCH, noise_y)
        arrow(axes, (BRANCH, noise_y - 0.28), (BRANCH, 0.85))
    else:
        arrow(axes, (BRANCH, sum_y - 0.28), (BRANCH, 0.85))
    text(axes, BRANCH, 0.45, f"$x_{{l+1}}$   {branch[-1].output_shape}", fontsize=11)


def _module(axes, found, y):
    box(axes, (BRANCH, y), (6, MODULE), "branch")
    text(axes, 0.85, y, found.label, ha="left")
    text(axes, 5.15, y, found.output_shape, ha="right", fontsize=8.5, color="#555555")
    text(axes, 6.4, y, number(found.n_parameters), ha="right", fontsize=9)


def _noise(axes, found, y, std_over):
    box(axes, (7.35, y), (4.3, 1.3), "noise")
    text(axes, 7.35, y + 0.3, f"${law_of(found.noise)}$,  $\\sigma = a s$,  $a$ = {found.coef:g}", fontsize=10)
    text(axes, 7.35, y - 0.3, f"$s^2$ = Var($x_l + F(x_l)$) over the {std_over}", fontsize=8.5)
    arrow(axes, (5.2, y), (BRANCH + 0.28, y))


def _mappings(axes, data):
    """A row of the residual mappings, side by side."""
    boxes = from_arrays(data, "mapping_")
    blank(axes, 12 * len(boxes), 6)
    n_steps = sum(found.n_repeats for found in boxes if found.role == "step")
    n_changes = sum(found.n_repeats for found in boxes if found.role == "change")
    title = f"(c) the residual mappings of {label(str(data['model']))}: {n_steps} time steps"
    axes.set_title(f"{title}, and {n_changes} changes of the state space, which are not time steps")
    shrink = min(1, 5 / len(boxes))
    for k, found in enumerate(boxes):
        x = 12 * k + 6
        box(axes, (x, 3.4), (10.4, 4.2), found.role)
        kind = "mapping" if found.role == "step" else "projected shortcut"
        text(axes, x, 4.6, f"{found.n_repeats} × {kind}", fontsize=10 * shrink)
        same = found.input_shape == found.output_shape
        shapes = found.input_shape if same else f"{found.input_shape} → {found.output_shape}"
        text(axes, x, 3.4, shapes, fontsize=8.5 * shrink)
        text(axes, x, 2.3, f"{number(found.n_parameters)} parameters each", fontsize=8.5 * shrink, color="#333333")
        if k:
            arrow(axes, (x - 6.8, 3.4), (x - 5.2, 3.4))
    rest, total = number(int(data["rest_n_parameters"])), number(int(data["total_n_parameters"]))
    words = f"{rest} of the {total} parameters lie outside of them; the noise has none"
    text(axes, 6 * len(boxes), 0.5, words, fontsize=9, color="#555555")


main = make_main("fig1", __doc__, compute=compute, plot=plot, findings=findings, options=model_option(MODEL))


if __name__ == "__main__":
    main()
