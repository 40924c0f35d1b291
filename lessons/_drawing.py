"""Pictures of the lessons: white cards, one per panel, with a description for readers who do not see them.

Panels stand in a row where there is room and below each other on a narrow screen, so that their letters stay readable.
"""

import base64
import html
import io
import itertools

import marimo as mo
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["BLUE", "GREEN", "GREY", "RED", "as_image", "new_figure"]

# Okabe & Ito's, distinguishable with every kind of colour blindness.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"

# Dots per inch of the bitmap and of the page: a picture of 10 inches is 1000 CSS pixels wide where there is room.
DPI, PAGE_DPI = 150, 100
# CSS pixels: a narrower page shows one panel per row.
NARROW = 600
N_COLOURS = 256
# Pixels between the letters of two panels, and to the edge of the card, at least.
ROOM = 6
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}

# The places of the panels in the last figure of each kind, and their number without colour bars.
_layouts = {}


def new_figure(n_panels=1, *, width=9.0, height=3.6):
    """Return a white figure, sizes in inches, and its row of axes (an array if several), without pyplot's global state.

    Letters have 10 points: a tenth of an inch and a half.
    """
    # The reader's own matplotlibrc must not draw white letters on the white card.
    with matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE | {"backend": matplotlib.rcParams["backend"]}):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        # Letters must not touch the edge of the card.
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)
        return figure, figure.subplots(1, n_panels)


def as_image(figure, alt):
    """Return a figure as images of a page, one for each panel, together as wide as the page at most.

    A row of <img> that hold their PNGs: nothing is fetched. `alt`, which must not be empty, describes the picture for
    readers who do not see it, with the numbers that the sliders change.
    """
    if not alt.strip():
        raise ValueError("alt must describe the picture, got an empty text")
    pixels, cuts = _drawn(figure)
    images = []
    for left, right in itertools.pairwise(cuts):
        # Wider than all of the row on a narrow page, and so alone in its own; otherwise as wide as its share.
        style = f"flex: {right - left} 1 calc(({NARROW}px - 100%) * 999); min-width: 0; max-width: 100%; height: auto"
        data = base64.b64encode(_png(pixels[:, left:right])).decode("ascii")
        size = f'width="{right - left}" height="{len(pixels)}"'
        images.append(f'<img alt="" {size} style="{style}" src="data:image/png;base64,{data}">')
    width = round(PAGE_DPI * figure.get_figwidth())
    style = f"display: flex; flex-wrap: wrap; align-items: flex-start; max-width: {width}px; background: white"
    style += "; border-radius: 6px; overflow: hidden"
    return mo.Html(f'<div role="img" aria-label="{html.escape(alt)}" style="{style}">{"".join(images)}</div>')


def _drawn(figure):
    """(pixels, columns between which the panels lie) of a figure.

    Its panels keep the places of the last figure of its kind, if all letters have room there: finding new places takes
    as long as drawing, and panels need not move with a slider.
    """
    canvas, kind = FigureCanvasAgg(figure), _kind(figure)
    if kind in _layouts:
        constrained, (places, n_panels) = figure.get_layout_engine(), _layouts[kind]
        figure.set_layout_engine("none")
        for axes, place in zip(figure.axes, places, strict=True):
            axes.set(**place)
        canvas.draw()
        spans, has_room = _spans(figure)
        if has_room and len(spans) == n_panels:
            return np.asarray(canvas.buffer_rgba()), _cuts(figure, spans)
        figure.set_layout_engine(constrained)
        for axes in figure.axes:
            axes.set_in_layout(True)
    canvas.draw()
    spans, _ = _spans(figure)
    _layouts[kind] = [_place(axes) for axes in figure.axes], len(spans)
    return np.asarray(canvas.buffer_rgba()), _cuts(figure, spans)


def _kind(figure):
    """Properties on which the places of panels depend, except the size of letters."""
    panels = (
        (axes.get_label(), axes.get_aspect(), *map(bool, (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())))
        for axes in figure.axes
    )
    return (*figure.get_size_inches(), *panels)


def _place(axes):
    box = axes.get_position(original=True)
    return {"position": box, "anchor": axes.get_anchor(), "box_aspect": axes.get_box_aspect()}


def _spans(figure):
    """Columns of pixels, first and last, of each panel with its labels and colour bars; whether all have room."""
    spans, has_room = [], True
    for axes in sorted(figure.axes, key=lambda axes: axes.get_position().x0):
        box = axes.get_tightbbox()
        has_room &= min(*box.min, *(figure.bbox.max - box.max)) >= ROOM
        if spans and (axes.get_label() == "<colorbar>" or box.x0 < spans[-1][1]):
            spans[-1][1] = max(spans[-1][1], box.x1)
        else:
            has_room &= not spans or box.x0 >= spans[-1][1] + ROOM
            spans.append([box.x0, box.x1])
    return spans, has_room


def _cuts(figure, spans):
    inner = [round((left[1] + right[0]) / 2) for left, right in itertools.pairwise(spans)]
    return [0, *inner, round(figure.bbox.width)]


def _png(pixels):
    """A PNG of few colours: a quarter of the bytes, and no difference to the eye."""
    colours = Image.fromarray(pixels[..., :3])
    # The palette with the smallest largest error, and a tenth of the time of one that is refined.
    image = colours.quantize(N_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
