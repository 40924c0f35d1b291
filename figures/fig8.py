"""Figure 8: the weights of one convolution of an adversarially trained ResNet-20, as a picture.

The layer is drawn by --seed from those of shape 64 x 64 x 3 x 3, or named by --layer NAME (stages.2.1.branch.2, ...);
Figure 9 shows the same one of the EnResNet on the same colour scale, 99.5 % of |w| of both. Rows are output channels,
columns input channels, a 3 x 3 block is a kernel. Only neighbours within a kernel have a meaning as neighbours, the
order of channels has none; nets/smoothness.py says what the smoothness in the title is.

Writes fig8.png, fig8.npz (the arrays) and fig8.json (arguments, versions, seconds, numbers of the layer) to --out, from
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
    return _kernels.compute("plain", seed=seed, runs=runs, layer=layer)


findings, plot = _kernels.findings, _kernels.plot


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    _kernels.command("fig8", __doc__, argv, compute)


if __name__ == "__main__":
    main()
