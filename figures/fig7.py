"""Figure 7: histograms of a ResNet-20's weights, after natural and after adversarial training.

Weights of all convolutions and of the linear layer with |w| <= 0.3, as densities of all weights; means over the seeds.
The paper: 8.66 % of |w| < 1e-3 after natural training, 3.64 % after adversarial training. nets/sparsity.py explains on
what such a fraction depends, and `python -m figures.sparsity` shows it.

A second, from the networks that ship or from those in --runs that were trained on the same images for as many epochs.
"""

from figures import _runs, _weights
from figures._cli import make_main
from figures._runs import Wanted

__all__ = ["compute", "findings", "main", "plot"]

WANTED = {"natural": Wanted(("resnet20",), natural=True), "adversarial": Wanted(("resnet20",))}


def compute(*, quick=False, seed=0, runs=None, data=None):
    """`density` (2, b) after natural and adversarial training, and the rest of `_weights.histograms`."""
    return _weights.histograms(_runs.find(runs, WANTED))


findings, plot = _weights.findings, _weights.plot
main = make_main("fig7", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True)


if __name__ == "__main__":
    main()
