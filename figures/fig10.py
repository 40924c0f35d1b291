"""Figure 10: histograms of the weights of an adversarially trained ResNet-20 and of an EnResNet.

The ensemble is En5ResNet-20, as in the paper, if there is one, else En2 or En1; the picture names it. Shown are the
weights of all convolutions and linear layers, of all members, with |w| <= 0.3, as densities of all weights; means over
the seeds. The paper finds the weights of En5ResNet-20 more concentrated at zero. The mean over K members divides the
gradient of each member by K, and with the same weight decay smaller gradients lead to smaller weights: nets/sparsity.py
explains what a histogram cannot show, and `python -m figures.sparsity` has numbers that do not depend on the scale.

A second, from the networks that ship or from those in --runs that were trained on the same images for as many epochs.
"""

from figures import _runs, _weights
from figures._cli import make_main
from figures._runs import Wanted

__all__ = ["ENSEMBLE", "compute", "findings", "main", "plot"]

ENSEMBLE = Wanted(("en5_resnet20", "en2_resnet20", "en1_resnet20"))
WANTED = {"adversarial": Wanted(("resnet20",)), "ensemble": ENSEMBLE}


def compute(*, quick=False, seed=0, runs=None, data=None):
    """`density` (2, b) of ResNet-20 and of the ensemble, and the rest of `_weights.histograms`."""
    return _weights.histograms(_runs.find(runs, WANTED))


findings, plot = _weights.findings, _weights.plot
main = make_main("fig10", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True)


if __name__ == "__main__":
    main()
