"""Figure 3: inside the residual mapping, and the curves along which the solution is constant.

(a) F(x) = w^C2 * relu(w^B2 - w^C1 * relu(w^B1 - x)), the modules of a block in the order they run   (paper: (2.2))
(b) Characteristics dX/dt = v(X) of u_t + v . grad u = 0: u(X_t, t) = u(x, 0) = f(X_T). They are traced through a random
    divergence-free velocity by an adaptive Runge-Kutta method; that u is constant on them is checked by the spectral
    solution at five times. Dots: the layers of `bridge.network_from_velocity` without noise, Euler's method. (2.5)
(c) The same for a network: hidden states of test images through the time steps of the last stage, as
    `bridge.ResNetSDE` without its noise, projected on two principal components of the states. A block is one step of
    Euler's method, a straight line; dashed, for one image per class: the equation itself, in steps of an eighth of a
    block. Changes of the state space are not time steps and are not crossed.

The network of (c) is the adversarially trained ResNet-20 that ships, or a finished run of resnet20 or en1_resnet20 in
--runs. Ten seconds on one core, also with --quick.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import numpy as np
import scipy.integrate
import torch
from matplotlib.figure import Figure

import pde
from bridge import NoisyResidual, ResNetSDE, network_from_velocity, noise_off
from figures import _architecture, _runs
from figures._architecture import from_arrays
from figures._boxes import arrow, blank, box, law_of, number, plus, text
from figures._cli import make_main
from figures._style import BLUE, GREEN, PURPLE, RED, label

__all__ = ["compute", "findings", "main", "plot"]

HORIZON, N_MODES = 0.5, 2
# Points per side that resolve the terminal datum after transport by the velocity.
N = 256
N_LAYERS = (8, 16, 32, 64, 128)
# Curves are checked at the quarters of the time, and drawn at this many times.
N_QUARTERS, N_TIMES = 4, 65
MARGIN, N_PICTURE = 0.15, 131
WANTED = _runs.Wanted(("resnet20", "en1_resnet20"))
N_CLASSES_SHOWN, N_SUBSTEPS = 4, 8
N_LEVELS = 12
CLASSES = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (PURPLE, "D"))
# The paper's operators: batch normalisation, activation, convolution.
SYMBOLS = {"batch norm": ("B", r"\ominus"), "convolution": ("C", r"\otimes")}


def compute(*, quick=False, seed=0, runs=None, data=None):
    """Boxes `block_*` (b,) of (a); `curve` (t, p, 2) and `along` (q, p), u on the curves, of (b); states of (c)."""
    model, name, source, x, y, classes = _pictured(runs, data, quick)
    return _characteristics(quick, seed) | _hidden(model, x, y, classes) | {
        "model": np.array(name), "source": np.array(source),
    }  # fmt: skip


def _characteristics(quick, seed):
    n_side = 4 if quick else 5
    v_rng, f_rng = np.random.default_rng([seed, 0]).spawn(2)
    velocity = pde.random_fields.divergence_free(N, v_rng, n_modes=N_MODES)
    terminal = pde.random_fields.terminal_datum(N, f_rng, n_modes=N_MODES)
    problem = pde.ConvectionDiffusion(velocity, terminal, sigma=0.0, horizon=HORIZON)
    starts = (pde.grid.points(n_side) + 0.5 / n_side).reshape(-1, 2)
    time = np.linspace(0, HORIZON, N_TIMES)
    curve = _follow(velocity, starts, time)
    quarter = time[:: (N_TIMES - 1) // N_QUARTERS]
    solutions = [_solution(problem, t) for t in quarter[:-1]]
    along = [s.field(curve[time == t][0]) for s, t in zip(solutions, quarter[:-1], strict=True)]
    along.append(problem.terminal_at(curve[-1]))
    states = [_through(network_from_velocity(problem, count), starts) for count in N_LAYERS]
    edge = np.array([-MARGIN, 1 + MARGIN])
    axis = np.linspace(*edge, N_PICTURE)
    return {
        "time": time, "curve": curve, "quarter": quarter, "along": np.array(along), "horizon": np.array(HORIZON),
        "spectral_error": np.array(max(s.error_estimate for s in solutions)), "edge": edge,
        "picture": problem.terminal_at(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)),
        "n_layers": np.array(N_LAYERS, dtype=float), "network_state": states[0],
        "network_deviation": np.array([np.abs(problem.terminal_at(path[-1]) - along[0]).max() for path in states]),
    }  # fmt: skip


def _follow(velocity, starts, time):
    """The characteristics, of shape (n_times, n_points, 2)."""

    def rate(_, flat):
        return velocity(flat.reshape(-1, 2)).ravel()

    span = time[0], time[-1]
    solution = scipy.integrate.solve_ivp(rate, span, starts.ravel(), "DOP853", t_eval=time, rtol=1e-9, atol=1e-10)
    return solution.y.T.reshape(len(time), *starts.shape)


def _solution(problem, t):
    # A steady velocity: u(., t) is the solution at time 0 of the problem that ends at T - t.
    shorter = pde.ConvectionDiffusion(problem.velocity, problem.terminal, sigma=0.0, horizon=problem.horizon - t)
    return pde.spectral.solve(shorter)


def _through(net, starts):
    """States before the first and after every layer, of shape (n_layers + 1, n_points, 2)."""
    states = [torch.from_numpy(starts)]
    with torch.no_grad():
        for block in net.blocks:
            states.append(block(states[-1]))
    return torch.stack(states).numpy()


def _pictured(runs, place, quick):
    """The network, its name, its description, and images with labels and names of their classes."""
    run = _runs.find(runs, {"network": WANTED})["network"][0]
    images = _runs.load_data(run, place)
    shown = np.unique(np.linspace(0, len(images.classes) - 1, N_CLASSES_SHOWN).round().astype(int))
    x, y = _runs.test_images(images, len(images.classes) * (6 if quick else 10))
    chosen = torch.isin(y, torch.from_numpy(shown))
    # Labels by place among the classes shown.
    places = np.searchsorted(shown, y[chosen].numpy())
    source = f"{_runs.describe(run)}; {len(places)} test images of four classes"
    return run.load(), run.model_name, source, x[chosen], places, [str(images.classes[k]) for k in shown]


def _hidden(model, x, y, classes):
    net = _architecture.members(model.net)[0][0]
    stage = len(net.stages) - 1
    blocks = [block for block in net.stages[stage] if isinstance(block, NoisyResidual)]
    sde = ResNetSDE(blocks)
    before = _input_of(blocks[0], model, x)
    own, fine = (_states(sde.refined(n), before) for n in (1, N_SUBSTEPS))
    apart = np.linalg.norm(fine[-1] - own[-1], axis=-1) / np.linalg.norm(own[-1] - own[0], axis=-1)
    flat = own.reshape(-1, own.shape[-1])
    mean = flat.mean(axis=0)
    _, sizes, axes = np.linalg.svd(flat - mean, full_matrices=False)
    return {
        **_architecture.arrays(_architecture.inside(model, blocks[0], x[:1]), "block_"),
        "label": y, "class_name": np.array(classes), "state": (fine - mean) @ axes[:2].T,
        "block_state": (own - mean) @ axes[:2].T, "explained": sizes[:2] ** 2 / (sizes**2).sum(),
        "apart": apart, "stage": np.array(float(stage + 1)), "state_shape": np.array(_architecture.shape(before)),
    }  # fmt: skip


def _input_of(block, model, x):
    """Input of a block when the model, without its noise, is evaluated at x."""
    seen = []
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        with torch.no_grad(), noise_off(model):
            model(x)
    finally:
        handle.remove()
    return seen[0]


def _states(network, before):
    """Flat states before the first and after every block without noise, of shape (n_blocks + 1, n_images, d)."""
    states = [before]
    with torch.no_grad(), noise_off(network):
        for block in network.blocks:
            states.append(block(states[-1]))
    return torch.stack(states).flatten(2).double().numpy()


def findings(data):
    """Return the findings for the JSON file."""
    order = pde.convergence.observed_order(1 / data["n_layers"], data["network_deviation"])
    return {
        "largest_deviation_along_curves": float(np.abs(data["along"] - data["along"][0]).max()),
        "spectral_error_estimate": float(data["spectral_error"]),
        "network": {
            "n_layers": data["n_layers"].tolist(),
            "largest_deviation": data["network_deviation"].tolist(),
            "order": {"order": order.order, "stderr": order.stderr},
        },
        "stage": {
            "model": str(data["model"]),
            "source": str(data["source"]),
            "stage": int(data["stage"]),
            "n_time_steps": len(data["block_state"]) - 1,
            "state_shape": str(data["state_shape"]),
            "explained_variance": data["explained"].tolist(),
            # Between the ends of blocks and equation, in parts of the way from the first state to the last.
            "median_distance_to_equation": float(np.median(data["apart"])),
        },
        "block": [box._asdict() for box in _architecture.from_arrays(data, "block_")],
        "captions": {"": f"(c) {data['source']}."},
    }


def plot(data):
    """Three panels: the block, the characteristics of a velocity, and those of a network."""
    found = findings(data)
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    block, velocity, network = figure.subplots(1, 3, gridspec_kw={"width_ratios": [0.85, 1.2, 1.1]})
    _draw_block(block, data)
    _draw_characteristics(figure, velocity, data, found)
    _draw_hidden(network, data, found)
    return figure


def _draw_block(axes, data):
    boxes = from_arrays(data, "block_")
    blank(axes, 10, 12)
    axes.set_title(f"(a) a residual mapping of {label(str(data['model']))}, stage {data['stage']:g}", fontsize=10)
    branch = [found for found in boxes if found.role == "branch"]
    noise = next((found for found in boxes if found.role == "noise"), None)
    middle, right, high, top, sum_y = 4.2, 8.9, 0.75, 10.4, 2.9
    step = (top - sum_y - 0.9) / len(branch)
    places = [top - 0.6 - step * (k + 0.35) for k in range(len(branch))]
    text(axes, middle, 11.5, f"$x_l$   {branch[0].input_shape}")
    arrow(axes, (middle, 11.15), (middle, places[0] + high / 2))
    arrow(axes, (middle, top + 0.2), (right, top + 0.2), (right, sum_y), (middle + 0.45, sum_y))
    seen = {}
    for k, (found, y) in enumerate(zip(branch, places, strict=True)):
        if k:
            arrow(axes, (middle, y + step - high / 2), (middle, y + high / 2))
        box(axes, (middle, y), (7.9, high), "branch", fill="white")
        text(axes, 0.5, y, _symbol(found.label, seen), ha="left", fontsize=11)
        text(axes, 2.9, y, found.label, ha="left", fontsize=9)
        text(axes, 7.95, y, number(found.n_parameters), ha="right", fontsize=8.5)
    text(axes, 7.95, places[0] + high / 2 + 0.25, "parameters", ha="right", fontsize=7.5, color="#555555")
    text(axes, right + 0.4, (top + sum_y) / 2, "identity", rotation=90, fontsize=9)
    arrow(axes, (middle, places[-1] - high / 2), (middle, sum_y + 0.4))
    plus(axes, middle, sum_y)
    if noise:
        arrow(axes, (middle, sum_y - 0.4), (middle, 2.05))
        box(axes, (7.6, 1.65), (4.2, 0.85), "noise")
        text(axes, 7.6, 1.65, f"${law_of(noise.noise)}$,  $a$ = {noise.coef:g}", fontsize=9)
        arrow(axes, (5.5, 1.65), (middle + 0.45, 1.65))
        plus(axes, middle, 1.65)
        arrow(axes, (middle, 1.25), (middle, 0.75))
    else:
        arrow(axes, (middle, sum_y - 0.4), (middle, 0.75))
    text(axes, middle, 0.35, f"$x_{{l+1}}$   {branch[-1].output_shape}")


def _symbol(label, seen):
    """The layer in the paper's notation; `seen` counts those of its kind."""
    for start, (letter, operator) in SYMBOLS.items():
        if label.startswith(start):
            seen[letter] = seen.get(letter, 0) + 1
            return rf"$w_l^{{{letter}{seen[letter]}}}\,{operator}$"
    return r"$\sigma$" if label == "ReLU" else ""


def _draw_characteristics(figure, axes, data, found):
    axes.set_title("(b) characteristics of a velocity: $u$ is constant along them", fontsize=10)
    low, high = data["edge"]
    largest = np.abs(data["picture"]).max()
    # Indexed [i, j] for (x_i, y_j).
    # Few colours, which a palette holds.
    levels = np.linspace(-largest, largest, N_LEVELS)
    axis = np.linspace(low, high, len(data["picture"]))
    image = axes.contourf(axis, axis, data["picture"].T, levels, cmap="RdBu_r")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="$f = u(x, T)$; in the circles $u(x, 0)$")
    bar.set_ticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if abs(tick) <= largest])
    axes.plot(*np.moveaxis(data["curve"], -1, 0), color="black", lw=1.1)
    states = np.moveaxis(data["network_state"][1:-1], -1, 0).reshape(2, -1)
    axes.plot(*states, ".", color="black", ms=3.2)
    axes.scatter(
        *data["curve"][0].T, c=data["along"][0], cmap="RdBu_r", vmin=-largest, vmax=largest, s=46, edgecolors="black",
        linewidths=0.9, zorder=3,
    )  # fmt: skip
    for before, end in zip(data["curve"][-4], data["curve"][-1], strict=True):
        axes.annotate("", end, before, arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.1, "shrinkB": 0})
    depths = data["n_layers"]
    deviation = found["network"]["largest_deviation"]
    words = (
        f"largest $|u(X_t, t) - u(x, 0)|$: {_power(found['largest_deviation_along_curves'])} (spectral $u$),\n"
        f"{deviation[0]:.2g} for {depths[0]:g} layers (dots), {deviation[-1]:.1g} for {depths[-1]:g}: "
        f"order {found['network']['order']['order']:.2f} ± {found['network']['order']['stderr']:.2f}"
    )
    axes.set_xlabel(f"$x$ (length 1, $T$ = {data['horizon']:g})\n{words}", fontsize=9)
    axes.set(ylabel="$y$", xlim=(low, high), ylim=(low, high), aspect="equal")


def _draw_hidden(axes, data, found):
    n_steps = found["stage"]["n_time_steps"]
    model = label(str(data["model"]))
    axes.set_title(f"(c) states in stage {data['stage']:g} of {model}, {n_steps} blocks", fontsize=10)
    for k, name in enumerate(data["class_name"].tolist()):
        colour, marker = CLASSES[k % len(CLASSES)]
        own = data["label"] == k
        axes.plot(*np.moveaxis(data["block_state"][:, own], -1, 0), color=colour, lw=0.8, alpha=0.7)
        axes.plot(*np.moveaxis(data["state"][:, own][:, :1], -1, 0), color=colour, lw=1.6, ls="--")
        axes.plot(*data["state"][-1, own][:1].T, "x", color=colour, ms=8, mew=2)
        middle = np.moveaxis(data["block_state"][1:-1, own], -1, 0).reshape(2, -1)
        axes.plot(*middle, marker, color=colour, ms=3)
        axes.plot(*data["block_state"][0, own].T, marker, mec=colour, mfc="white", ms=4.5)
        axes.plot(*data["block_state"][-1, own].T, marker, color=colour, ms=6, label=str(name))
    first, second = data["explained"]
    apart = found["stage"]["median_distance_to_equation"]
    words = f"dashed to ×: the equation; median distance of the ends: {apart:.0%} of the way"
    axes.set_xlabel(f"first principal component ({first:.0%} of the variance)\n{words}", fontsize=8.5)
    axes.set_ylabel(f"second principal component ({second:.0%})", fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.14 * (high - low))
    title = "hollow: before the stage's blocks; full: after them"
    axes.legend(
        fontsize=8.5, frameon=False, ncols=4, loc="upper center", title=title, title_fontsize=8.5, columnspacing=1,
        handletextpad=0.2,
    )  # fmt: skip


def _power(x):
    """A small number as a rounded multiple of a power of ten."""
    mantissa, exponent = f"{x:.0e}".split("e")
    return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"


main = make_main("fig3", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True)


if __name__ == "__main__":
    main()
