"""The list of the figures: what `python -m figures` makes, in the order of the gallery."""

from typing import NamedTuple

__all__ = ["FIGURES", "Figure"]


class Figure(NamedTuple):
    """A module that makes pictures or tables.

    Attributes
    ----------
    what : str
        In a line.
    options : tuple of str
        Options that it knows besides the shared ones: "runs", "data".
    speaks : bool
        Prints what it also writes into files.
    """

    what: str
    options: tuple = ()
    speaks: bool = False


OF_RUNS = ("runs", "data")

FIGURES = {
    "fig1": Figure("the residual mapping of a ResNet, and the one with injected noise, from built networks"),
    "fig2": Figure("the architecture of the EnResNet, from a built network"),
    "fig3": Figure("the pre-activation block, and characteristics of a velocity and of a network's stage", OF_RUNS),
    "fig4": Figure("the convection-diffusion equation at t = 0 for sigma = 0, 0.01, 0.1, and the evidence for it"),
    "fig5": Figure("training and validation accuracy over the epochs, of a ResNet and its ensembles", OF_RUNS),
    "fig6": Figure("images, adversarial images and residuals, for IFGSM^20 and C&W against two models", OF_RUNS),
    "fig7": Figure("histograms of a ResNet-20's weights, after natural and adversarial training", OF_RUNS),
    "fig8": Figure("the weights of one layer of an adversarially trained ResNet-20 as a picture", OF_RUNS),
    "fig9": Figure("the weights of the layer of Figure 8 in an EnResNet", OF_RUNS),
    "fig10": Figure("histograms of the weights of an adversarially trained ResNet-20 and of an EnResNet", OF_RUNS),
    "tables": Figure("the paper's Tables 1 to 11 with our numbers beside them", ("runs",), speaks=True),
    "theorems": Figure(
        "the paper's two theorems: printed, corrected and sharp bounds, the counterexample, Hölder constants"
    ),
    "mlmc": Figure(
        "cost against accuracy of plain and multilevel Monte Carlo, and the gain of each variance reduction"
    ),
    "convergence": Figure("network ensembles tend to the equation's solution: order 1 in depth, 1/2 in draws"),
    "robustness_curve": Figure("accuracy against the radius of the attack, for several attacks", OF_RUNS),
    "effective_diffusion": Figure("sigma(t) of the blocks of a trained EnResNet", OF_RUNS),
    "sparsity": Figure("section 7 in numbers: how sparse and how smooth trained weights are", OF_RUNS),
}
