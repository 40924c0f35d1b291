"""Figure 10: histograms of the weights of an adversarially trained ResNet-20 and of an EnResNet.

The ensemble is En5ResNet20, as in the paper, where there is a run of it; else En2, else En1: the picture says which.
Weights of all convolutions and linear layers, of all members, with |w| <= 0.3, as densities of all weights; means over
the seeds. The paper finds those of En5ResNet20 more concentrated at zero. The mean over K members divides the gradient
of each member by K, and against the same weight decay smaller gradients leave smaller weights: see nets/sparsity.py
for what a histogram cannot tell, and `python -m figures.sparsity` for numbers that do not depend on the scale.

Writes fig10.png, fig10.npz (the arrays) and fig10.json (arguments, versions, seconds, fractions) to --out, from the
runs in --runs that were trained on the same images, equally long. A second; --quick trains tiny networks on digits
first.
"""

from pathlib import Path

from figures import _runs, _weights, _weights_plot
from figures._cli import figure_command
from figures._runs import Wanted
from figures.tables import label

__all__ = ["ENSEMBLE", "compute", "findings", "main", "plot"]

ENSEMBLE = Wanted(("en5_resnet20", "en2_resnet20", "en1_resnet20"))
WANTED = {"adversarial": Wanted(("resnet20",)), "ensemble": ENSEMBLE}


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
        `density` (2, b) of the weights of ResNet-20 and ensemble, and the rest of `figures._weights`.

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
        "fig10", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=_weights.SHAPES,
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
    models = dict(zip(data["network"].tolist(), data["model"].tolist(), strict=True))
    return _weights_plot.panels(data, findings(data), {name: label(model) for name, model in models.items()})


if __name__ == "__main__":
    main()
