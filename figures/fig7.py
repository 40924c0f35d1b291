"""Figure 7: histograms of a ResNet-20's weights, after natural and after adversarial training.

Weights of all convolutions and of the linear layer with |w| <= 0.3, as densities of all weights; means over the seeds.
The paper: 8.66 % of |w| < 1e-3 after natural training, 3.64 % after adversarial training. What such a fraction depends
on is said in nets/sparsity.py, and shown by `python -m figures.sparsity`.

Writes fig7.png, fig7.npz (the arrays) and fig7.json (arguments, versions, seconds, fractions) to --out, from the runs
in --runs that were trained on the same images, equally long. A second; --quick trains tiny networks on digits first.
"""

from pathlib import Path

from figures import _runs, _weights, _weights_plot
from figures._cli import figure_command
from figures._runs import Wanted

__all__ = ["compute", "findings", "main", "plot"]

WANTED = {"natural": Wanted(("resnet20",), natural=True), "adversarial": Wanted(("resnet20",))}
NAMES = {"natural": "natural", "adversarial": "adversarial"}


def compute(*, quick=False, seed=0, runs=Path("runs"), data=None):
    """Count the weights.

    Parameters
    ----------
    quick, seed, data : optional
        Of every figure of runs; weights depend on none of them.
    runs : Path
        Directory of runs.

    Returns
    -------
    dict of str to ndarray
        `density` (2, b) of the weights after natural and adversarial training, and the rest of `figures._weights`.

    Raises
    ------
    ValueError
        If there are no such runs (raised by a helper).
    """
    return _weights.histograms(_runs.find(runs, WANTED))


findings = _weights.findings


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig7", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=_weights.SHAPES,
        sound=_weights.sound, of_runs=True,
    )  # fmt: skip


def plot(data):
    """Draw the two panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `density` of shape (2, b), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _weights_plot.panels(data, findings(data), NAMES)


if __name__ == "__main__":
    main()
