"""Figure 8: the weights of one convolution of an adversarially trained ResNet-20, as a picture.

The layer is drawn by --seed from those of shape 64 x 64 x 3 x 3, or named by --layer NAME (stages.2.1.branch.2, ...);
Figure 9 shows the same one of the EnResNet on the same colour scale, 99.5 % of |w| of both. Rows are output channels,
columns input channels, a 3 x 3 block is a kernel. Only neighbours within a kernel are meaningful, since the order of
channels is arbitrary: (c) shows a property of smooth kernels, taps that are similar to the one in the middle.

A second, from the networks that ship or from those of the smallest seed in --runs.
"""

from figures import _kernels

__all__ = ["compute", "findings", "main", "plot"]


def compute(*, quick=False, seed=0, runs=None, data=None, layer=None):
    """`weight` (64, 64, 3, 3), `scale` () of Figures 8 and 9, and names; see `_kernels.compute`."""
    return _kernels.compute("plain", seed=seed, runs=runs, layer=layer)


findings, plot = _kernels.findings, _kernels.plot
main = _kernels.make_command("fig8", __doc__, compute)


if __name__ == "__main__":
    main()
