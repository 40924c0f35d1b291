"""Figure 9: the weights of the layer of Figure 8 in the first member of an adversarially trained EnResNet.

The ensemble is En5ResNet20, as in the paper, where there is a run of it; else En2, else En1: the picture says which.
The layer is drawn by --seed, or named by --layer NAME, and the colour scale is that of Figure 8: see there.

Writes fig9.png, fig9.npz (the arrays) and fig9.json (arguments, versions, seconds, numbers of the layer) to --out, from
the runs of the smallest seed in --runs. A second; --quick trains tiny networks on digits first.
"""

from pathlib import Path

from figures import _kernels

__all__ = ["compute", "findings", "main", "plot"]


def compute(*, quick=False, seed=0, runs=Path("runs"), data=None, layer=None):
    """Take the weights of the layer.

    Parameters
    ----------
    quick, data : optional
        Of every figure of runs; weights depend on neither.
    seed : int, default=0
        Of the choice of the layer.
    runs : Path
        Directory of runs.
    layer : str, optional
        Name of the layer.

    Returns
    -------
    dict of str to ndarray
        `weight` (64, 64, 3, 3), `scale` () of Figures 8 and 9, and names.

    Raises
    ------
    ValueError
        If there are no such runs or no such layer, or seed is negative (raised by helpers).
    """
    return _kernels.compute("ensemble", seed=seed, runs=runs, layer=layer)


findings, plot = _kernels.findings, _kernels.plot


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    _kernels.command("fig9", __doc__, argv, compute)


if __name__ == "__main__":
    main()
