"""Lessons with sliders on the ODE and SDE view of residual networks: marimo notebooks, one idea each.

python -m lessons               # an index of them in the browser, offline
python lessons/NAME.py          # one of them as a script: exits 1 where the mathematics fails
"""

from typing import NamedTuple

import _enresnet

__all__ = ["LESSONS", "Lesson"]

_enresnet.quiet_imports()
_enresnet.check_pde()


class Lesson(NamedTuple):
    """One entry of the index.

    Attributes
    ----------
    name : str
        lessons/NAME.py.
    title : str
        Its statement.
    summary : str
        One sentence.
    minutes : int
        Time that a reader needs.
    section : str
        Section of the paper.
    """

    name: str
    title: str
    summary: str
    minutes: int
    section: str


# In reading order; a test fails for a file that is missing here.
LESSONS = (
    Lesson(
        "residual_block_is_euler_step",
        "A residual block is an Euler step",
        "A row of blocks x + Δt F(x) follows a velocity field, with an error of order Δt, until Δt is too large.",
        20,
        "2.1",
    ),
    Lesson(
        "noise_makes_euler_maruyama",
        "Noise makes it Euler–Maruyama",
        "Noise in every block turns the path into a cloud of paths, whose average solves a diffusion equation.",
        20,
        "3.1",
    ),
    Lesson(
        "diffusion_regularises",
        "Diffusion regularises",
        "Figure 4 over σ: level sets as decision boundaries, the step that crosses them, and the bound on the slope.",
        25,
        "2.2",
    ),
    Lesson(
        "ensemble_is_expectation",
        "An ensemble is an expectation",
        "A small EnResNet on points of the plane, with and without its noise, attacked with and without averaging.",
        25,
        "3.1",
    ),
    Lesson(
        "trained_networks",
        "What a trained network's step looks like",
        "The steps and the σ(t) of a trained network, and what a finer or coarser step does to its predictions.",
        20,
        "2.1",
    ),
    Lesson(
        "diffusion_as_certificate",
        "Diffusion as a certificate",
        "Balls in which the class provably cannot change, beside the true ones; and what few draws do to the proof.",
        20,
        "2.3",
    ),
)
