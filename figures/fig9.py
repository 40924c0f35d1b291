"""Figure 9: the weights of the layer of Figure 8 in the first member of an adversarially trained EnResNet.

The ensemble is En5ResNet-20, as in the paper, if there is one, else En2 or En1; the picture names it. The layer is
drawn by --seed or named by --layer NAME, and the colour scale is that of Figure 8.

A second, from the networks that ship or from those of the smallest seed in --runs.
"""

from figures import _kernels

__all__ = ["compute", "findings", "main", "plot"]


def compute(*, quick=False, seed=0, runs=None, data=None, layer=None):
    """`weight` (64, 64, 3, 3), `scale` () of Figures 8 and 9, and names; see `_kernels.compute`."""
    return _kernels.compute("ensemble", seed=seed, runs=runs, layer=layer)


findings, plot = _kernels.findings, _kernels.plot
main = _kernels.make_command("fig9", __doc__, compute)


if __name__ == "__main__":
    main()
