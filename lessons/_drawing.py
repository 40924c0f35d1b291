"""What the lessons' pictures share: a white card that is readable in both colour schemes, and a text in its place."""

import base64
import html
import io

import marimo as mo
import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "RED", "as_image", "new_figure"]

# Okabe & Ito's, told apart with every kind of colour blindness.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"

# Dots an inch: sharp at 200 % zoom, where the picture is 600 CSS pixels wide and 1200 on the screen.
DPI = 150
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}


def new_figure(n_panels=1, *, width=9.0, height=3.6):
    """Return a white figure, sizes in inches, and its row of axes (an array if several), without pyplot's global state.

    Letters have 10 points: a tenth of an inch and a half.
    """
    # The reader's own matplotlibrc must not draw white letters on the white card.
    with matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE | {"backend": matplotlib.rcParams["backend"]}):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        return figure, figure.subplots(1, n_panels)


def as_image(figure, alt):
    """Return a figure as an image of a page, as wide as the page at most.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What is shown.
    alt : str
        What the picture says, for readers who do not see it: with the numbers that the sliders change.

    Returns
    -------
    marimo.Html
        An <img> that holds its PNG: nothing is fetched.

    Raises
    ------
    ValueError
        If alt is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the picture shows, got an empty text")
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    style = "max-width: 100%; height: auto; background: white; border-radius: 6px"
    width = round(100 * figure.get_figwidth())
    return mo.Html(f'<img alt="{html.escape(alt)}" width="{width}" style="{style}" src="data:image/png;base64,{data}">')
