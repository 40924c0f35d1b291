"""One layer of 64 x 64 kernels of 3 x 3 weights, of the two networks of Figures 8 and 9."""

import re

import matplotlib
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from figures import _runs, fig10
from figures._cli import make_main
from figures._runs import Wanted
from figures._style import label
from nets import sparsity

__all__ = ["choose", "compute", "findings", "layer_name", "make_command", "plot"]

SHAPE = (64, 64, 3, 3)
# Quantile over both networks, so that colours agree in both figures; larger weights have the colours of the ends.
QUANTILE = 0.995
WANTED = {"plain": Wanted(("resnet20",)), "ensemble": fig10.ENSEMBLE}
NAMES = ("layer", "model", "training", "run", "other_model")
DPI = 110
# Sizes in pixels: a weight, an enlarged weight, a tap, and margins. Whole numbers, so that all weights are equally
# wide.
SIDE, ENLARGED, TAP, N_KERNELS = 3, 12, 52, 8
LEFT, BOTTOM, GAP, TOP, BAR, RIGHT = 70, 60, 70, 95, 18, 85
# Few enough for the palette of the file, and odd, so that the middle one is white.
N_COLOURS = 63


def compute(which, *, seed=0, runs, layer=None):
    """`weight` (64, 64, 3, 3) of a layer of the "plain" network or of the "ensemble"'s first member; `scale` of both.

    `correlation` (2, 3, 3): of each tap with the kernel's centre, over the kernels, of this network and of the other.
    """
    chosen = {name: group[0] for name, group in _runs.find(runs, WANTED).items()}
    models = {name: run.load() for name, run in chosen.items()}
    # The first member; a single network is its only member.
    arrays = {name: sparsity.weights(sparsity.members(model)[0]) for name, model in models.items()}
    layers = [key.removesuffix(".weight") for key, array in arrays["plain"].items() if array.shape == SHAPE]
    layer = choose(layers, seed, layer)
    weights = {name: found[f"{layer}.weight"] for name, found in arrays.items()}
    scale = np.quantile(np.abs(np.stack(list(weights.values()))), QUANTILE)
    other = next(name for name in chosen if name != which)
    run = chosen[which]
    return {
        "weight": weights[which].astype(np.float32), "scale": np.array(float(scale)), "layer": np.array(layer),
        "layers": np.array(layers), "model": np.array(run.model_name), "training": np.array(_runs.describe(run)),
        "run": np.array(run.name), "n_members": np.array(float(len(sparsity.members(models[which])))),
        "other_model": np.array(chosen[other].model_name),
        "correlation": np.stack([correlation(weights[name]) for name in (which, other)]),
    }  # fmt: skip


def correlation(weight):
    """Correlation of each tap with the centre, over all kernels: 1 at the centre, 0 elsewhere if independent."""
    taps = weight.reshape(-1, 9).astype(float)
    return np.corrcoef(taps, rowvar=False)[4].reshape(3, 3)


def choose(layers, seed, layer=None):
    """The layer named, or one drawn at random, the same for the same seed >= 0."""
    if layer is None:
        return layers[np.random.default_rng(seed).integers(len(layers))]
    if layer not in layers:
        raise ValueError(f"--layer must be one of {', '.join(layers)}, got {layer}")
    return layer


def layer_name(layer):
    """Name to read of a convolution inside a residual block.

    >>> layer_name("stages.2.2.branch.5")
    'stage 3, block 3, second convolution'
    """
    match = re.fullmatch(r"stages\.(\d+)\.(\d+)(?:\.\d+)?\.branch\.(\d+)", layer)
    if not match:
        return layer
    stage, block, place = map(int, match.groups())
    return f"stage {stage + 1}, block {block + 1}, {'first' if place < 3 else 'second'} convolution"


def findings(data):
    """Return the contents of the JSON file and of the title."""
    names = {key: str(data[key]) for key in NAMES}
    numbers = sparsity.numbers(data["weight"])._asdict()
    return names | {"label": label(names["model"]), "n_members": int(data["n_members"]), "numbers": numbers} | {
        "scale": float(data["scale"]), "quantile": QUANTILE, "layers": data["layers"].tolist(),
        "correlation_with_centre": data["correlation"][0].tolist(),
        "correlation_with_centre_of_the_other": data["correlation"][1].tolist(),
    }  # fmt: skip


def plot(data):
    """Draw (a) the whole layer, one square per weight, (b) its first kernels, (c) the correlation of the taps."""
    found = findings(data)
    whole = sparsity.picture(data["weight"])
    n = data["weight"].shape[-1] * N_KERNELS
    height, width, small = SIDE * whole.shape[0], SIDE * whole.shape[1], ENLARGED * n
    total = (LEFT + width + GAP + small + BAR + BAR + RIGHT, BOTTOM + height + TOP)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)

    def place(left, bottom, width, height):
        return figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))

    style = {
        # Blue and red, which the colour-blind can distinguish, around white.
        "cmap": matplotlib.colormaps["RdBu_r"].resampled(N_COLOURS),
        "norm": BoundaryNorm(np.linspace(-found["scale"], found["scale"], N_COLOURS + 1), N_COLOURS, clip=True),
        "interpolation": "nearest",
        "aspect": "auto",
    }
    left = place(LEFT, BOTTOM, width, height)
    left.imshow(whole, **style)
    left.set_title(f"(a) {data['weight'].shape[0]} × {data['weight'].shape[1]} kernels of 3 × 3 weights")
    edge, upper = LEFT + width + GAP, BOTTOM + height - small
    right = place(edge, upper, small, small)
    image = right.imshow(whole[:n, :n], **style)
    right.set_title(f"(b) the first {N_KERNELS} × {N_KERNELS} of them")
    size = data["weight"].shape[-1]
    for axes, count in ((left, len(whole) // size), (right, N_KERNELS)):
        channels = np.arange(1, count + 1, count // 4)
        middles = (channels - 0.5) * size - 0.5
        axes.set_xticks(middles, channels)
        axes.set_yticks(middles, channels)
        axes.set(xlabel="input channel", ylabel="output channel")
    for border in np.arange(0, n + 1, size) - 0.5:
        right.axvline(border, color="black", lw=0.8)
        right.axhline(border, color="black", lw=0.8)
    _bar(figure, image, place(edge + small + BAR, upper, BAR, small), found["scale"])
    for number, title in enumerate((label(str(data["model"])), label(str(data["other_model"])))):
        axes = place(edge + number * (3 * TAP + 24), BOTTOM - 20, 3 * TAP, 3 * TAP)
        _taps(axes, data["correlation"][number])
        axes.set_title(title, fontsize=9)
    figure.text(edge / total[0], (BOTTOM + 3 * TAP + 8) / total[1], "(c) correlation of each tap with the centre",
                fontsize=10)  # fmt: skip
    figure.suptitle(_title(found), fontsize=10.5, y=1 - 12 / total[1], va="top", linespacing=1.4)
    return figure


def _bar(figure, image, axes, scale):
    bar = figure.colorbar(image, cax=axes, extend="both", extendfrac=0.03)
    bar.set_label("weight $w$", fontsize=10)
    ticks = MaxNLocator(5).tick_values(-scale, scale)
    bar.set_ticks(ticks[np.abs(ticks) <= scale])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}".replace("-", "−")))
    bar.minorticks_off()


def _taps(axes, values):
    axes.imshow(values, cmap="PuOr", vmin=-1, vmax=1)
    axes.set(xticks=[], yticks=[])
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=9, color=colour)


def _title(found):
    numbers = found["numbers"]
    which = f"first member of {found['label']}" if found["n_members"] > 1 else found["label"]
    return (
        f"{which}, {found['training']}; {layer_name(found['layer'])}\n"
        f"rms {numbers['rms']:.4f}, {100 * numbers['below']:.2f} % of $|w| < 10^{{-3}}$; "
        f"$\\langle (w_p - w_q)^2\\rangle / 2s^2$ of neighbouring taps: {numbers['smoothness']:.2f} (independent: 1)"
    )


def make_command(name, doc, compute):
    """Return the main function of Figure 8 or 9, with the option --layer."""
    return make_main(
        name, doc, compute=compute, plot=plot, findings=findings, of_networks=True,
        options={"layer": {"metavar": "NAME", "help": "layer of 64 x 64 x 3 x 3 (default: one drawn by the seed)"}},
    )  # fmt: skip
