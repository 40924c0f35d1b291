"""Boxes and arrows, for the figures of networks; computes nothing."""

from matplotlib.patches import FancyBboxPatch

from figures._style import BLUE, GREEN, GREY, RED

FILLS = {"step": "#CCE3F0", "change": "#F7DFCC", "noise": "#CCECE3", "layer": "#EEEEEE", "branch": "#EEEEEE"}
EDGES = {"step": BLUE, "change": RED, "noise": GREEN, "layer": GREY, "branch": GREY}


def blank(axes, width, height):
    """Axes without a frame, in units of their own."""
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")


def box(axes, centre, size, role, *, fill=None):
    """Draw a rounded box."""
    (x, y), (w, h) = centre, size
    axes.add_patch(
        FancyBboxPatch(
            (x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=0.12",
            fc=FILLS[role] if fill is None else fill, ec=EDGES[role], lw=1.1,
        )
    )  # fmt: skip


def text(axes, x, y, words, **style):
    """Write, by default centred."""
    axes.text(x, y, words, **({"ha": "center", "va": "center", "fontsize": 10} | style))


def arrow(axes, *points, head=True):
    """Draw a line through points, with an arrow head at its end."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color="black", lw=1.2, solid_capstyle="butt")
    style = {"arrowstyle": "-|>" if head else "-", "color": "black", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=style)


def plus(axes, x, y):
    """Draw a sum."""
    axes.plot([x], [y], "o", ms=17, mfc="white", mec="black", mew=1.2)
    axes.plot([x], [y], "+", ms=11, color="black", mew=1.4)


def number(n):
    """A count with thin spaces between its thousands."""
    return f"{n:,}".replace(",", "\u2009")


def law_of(noise):
    """The law of the noise as it stands in a formula."""
    return {"gaussian": r"\mathcal{N}", "laplace": r"\mathrm{Laplace}"}[noise] + r"(0, \sigma^2 I)"
