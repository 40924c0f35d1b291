"""The drawing of a layer's weights as a picture, and of some of its kernels enlarged; computes nothing."""

import matplotlib
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nets.sparsity import picture

__all__ = ["panels"]

DPI = 110
# Pixels of the picture: of a weight, of a weight enlarged, and margins. Whole numbers: no weight is wider than another.
SIDE, ENLARGED = 3, 16
N_KERNELS = 8
LEFT, BOTTOM, GAP, TOP, BAR, RIGHT = 70, 60, 70, 95, 20, 95
# Few enough that the palette of the file holds them all, and odd: the middle one is white.
N_COLOURS = 63


def panels(data, found):
    """The whole layer, a weight a square, and its first kernels enlarged.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures._kernels.compute`: `weight` of shape (n_out, n_in, 3, 3), and the rest.
    found : dict
        As from `figures._kernels.findings`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    whole = picture(data["weight"])
    n = data["weight"].shape[-1] * N_KERNELS
    height, width, small = SIDE * whole.shape[0], SIDE * whole.shape[1], ENLARGED * n
    total = (LEFT + width + GAP + small + BAR + BAR + RIGHT, BOTTOM + height + TOP)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)

    def place(left, bottom, width, height):
        return figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))

    style = {
        # Blue and red, which the colour-blind tell apart, around white.
        "cmap": matplotlib.colormaps["RdBu_r"].resampled(N_COLOURS),
        "norm": BoundaryNorm(np.linspace(-found["scale"], found["scale"], N_COLOURS + 1), N_COLOURS, clip=True),
        "interpolation": "nearest",
        "aspect": "auto",
    }
    left = place(LEFT, BOTTOM, width, height)
    left.imshow(whole, **style)
    left.set_title(f"{data['weight'].shape[0]} × {data['weight'].shape[1]} kernels of 3 × 3 weights", fontsize=10)
    edge = LEFT + width + GAP
    middle = BOTTOM + (height - small) // 2
    right = place(edge, middle, small, small)
    image = right.imshow(whole[:n, :n], **style)
    right.set_title(f"the first {N_KERNELS} × {N_KERNELS} of them", fontsize=10)
    size = data["weight"].shape[-1]
    for axes, count in ((left, len(whole) // size), (right, N_KERNELS)):
        channels = np.arange(1, count + 1, count // 4)
        middles = (channels - 0.5) * size - 0.5
        axes.set_xticks(middles, channels)
        axes.set_yticks(middles, channels)
        axes.set(xlabel="input channel", ylabel="output channel")
    borders = np.arange(0, n + 1, size) - 0.5
    for draw in (right.axvline, right.axhline):
        for border in borders:
            draw(border, color="black", lw=0.8)
    bar = figure.colorbar(image, cax=place(edge + small + BAR, middle, BAR, small), extend="both", extendfrac=0.03)
    bar.set_label("weight $w$", fontsize=10)
    ticks = MaxNLocator(5).tick_values(-found["scale"], found["scale"])
    bar.set_ticks(ticks[np.abs(ticks) <= found["scale"]])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2f}".replace("-", "−")))
    bar.minorticks_off()
    figure.suptitle(_title(found), fontsize=11, y=1 - 12 / total[1], va="top", linespacing=1.4)
    return figure


def _title(found):
    numbers = found["numbers"]
    which = f"first member of {found['label']}" if found["n_members"] > 1 else found["label"]
    smooth = f"smoothness of kernels {numbers['smoothness']:.2f}, of the picture {numbers['picture']:.2f}"
    return (
        f"{which}, {found['training']}; layer {found['layer']}\n"
        f"rms {numbers['rms']:.4f}, {100 * numbers['below']:.2f} % of $|w| < 10^{{-3}}$, {smooth} (independent: 1)"
    )
