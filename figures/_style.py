"""One style for all figures: colours, and for every network one spelling, one colour and one marker."""

import re
from typing import NamedTuple

import matplotlib

__all__ = ["BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED", "SKY", "Style", "label", "letter", "network",
           "use_style"]  # fmt: skip

# Distinguishable for the colour-blind as well (Okabe & Ito 2008).
BLUE, RED, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
BLACK, GREY = "#000000", "#777777"
# By the number of members: 0 is the plain network. Without noise an ensemble is another network.
MEMBERS = {0: (BLUE, "o"), 1: (RED, "s"), 2: (GREEN, "^"), 5: (PURPLE, "D")}
NOISELESS, NATURAL, OTHER = (ORANGE, "v"), (GREY, "X"), (SKY, "P")
NAME = re.compile(r"(?:en(?P<k>\d+)_)?(?P<kind>resnet|wrn)(?P<depth>\d+)(?:_(?P<wide>\d+))?")
KINDS = {"resnet": "ResNet", "wrn": "WRN"}


class Style(NamedTuple):
    """Name, colour and marker of a network."""

    label: str
    colour: str
    marker: str


def label(text, *, prime=False):
    """Spell the networks in a text: names of `nets.build` become names to read; `prime` marks Laplace noise.

    >>> label("en2_resnet110+en1_wrn34_10"), label("wrn14_2"), label("en1_resnet20", prime=True)
    ('En2ResNet-110 & En1WRN-34-10', 'WRN-14-2', "En1ResNet-20'")
    """

    def name(match):
        size = "-".join(filter(None, (match["depth"], match["wide"])))
        members = f"En{match['k']}" if match["k"] else ""
        return f"{members}{KINDS[match['kind']]}-{size}" + ("'" if prime and members else "")

    return NAME.sub(name, text).replace("+", " & ")


def network(name, *, natural=False, noisy=True):
    """Style of a network, as `nets.build` names it: by its number of members, its training, and whether it draws noise.

    >>> network("en2_resnet20").label, network("en2_resnet20", noisy=False).label
    ('En2ResNet-20', 'En2ResNet-20 without noise')
    """
    match = NAME.match(name)
    members = int(match["k"] or 0) if match else 0
    noiseless = members > 0 and not noisy
    words = label(name) + (" without noise" if noiseless else "") + (", natural training" if natural else "")
    if natural:
        return Style(words, *NATURAL)
    if noiseless or "+" in name:
        return Style(words, *NOISELESS)
    return Style(words, *MEMBERS.get(members, OTHER))


def letter(place):
    """(a), (b), ... of the panels of one picture."""
    return f"({chr(ord('a') + place)})"


def use_style():
    """Set Matplotlib to the style of the figures, drawn without a screen."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "font.size": 10, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.grid": False, "figure.dpi": 110,
            "image.cmap": "viridis", "legend.frameon": False, "legend.fontsize": 9, "axes.spines.top": False,
            "axes.spines.right": False, "svg.hashsalt": "enresnet", "svg.fonttype": "none", "pdf.fonttype": 42,
        }
    )  # fmt: skip
