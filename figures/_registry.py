"""The register of the figures that `python -m figures` makes, in the order of the gallery."""

from typing import NamedTuple

__all__ = ["FIGURES", "OF_NETWORKS", "Figure"]

OF_NETWORKS = ("runs", "data")


class Figure(NamedTuple):
    """A module that makes pictures or tables: its title, its options, and whether it prints what it writes."""

    what: str
    options: tuple = ()
    prints_output: bool = False


FIGURES = {
    "fig1": Figure("the residual mapping of a ResNet, and the one with injected noise"),
    "fig2": Figure("the architecture of the EnResNet"),
    "fig3": Figure("the pre-activation block, and characteristics of a velocity and of a network's stage", OF_NETWORKS),
    "fig4": Figure("the convection-diffusion equation for growing diffusion, and the evidence for it"),
    "fig5": Figure("accuracy over the epochs of training", OF_NETWORKS),
    "fig6": Figure("images, adversarial images and residuals", OF_NETWORKS),
    "fig7": Figure("weights of a ResNet-20 after natural and adversarial training", OF_NETWORKS),
    "fig8": Figure("one layer of an adversarially trained ResNet-20", OF_NETWORKS),
    "fig9": Figure("the same layer of an EnResNet", OF_NETWORKS),
    "fig10": Figure("weights of a ResNet-20 and of an EnResNet", OF_NETWORKS),
    "tables": Figure("the paper's Tables 1 to 11 with our numbers beside them", ("runs",), prints_output=True),
    "verdict": Figure("which claims of the paper hold", prints_output=True),
    "fig4_forensics": Figure("which reading of the recipe the published Figure 4 is", prints_output=True),
    "theorems": Figure("the two theorems: printed, corrected and sharp bounds"),
    "mlmc": Figure("cost against accuracy of plain and multilevel Monte Carlo"),
    "convergence": Figure("network ensembles tend to the equation's solution"),
    "gradients": Figure("gradients by Monte Carlo: variance against diffusion and horizon"),
    "tradeoff": Figure("price and gain of diffusion: exact, certified and attacked robustness in the plane"),
    "certificates": Figure(
        "certified radii of three kinds beside the true distance to the decision boundary", prints_output=True
    ),
    "way_back": Figure("a trained network and its equation: where they agree, and how far they part"),
    "mixing": Figure("effective diffusivity of a shear and of a cellular flow"),
    "robustness_curve": Figure("accuracy against the radius of the attack", OF_NETWORKS),
    "effective_diffusion": Figure("the diffusion that a trained EnResNet chose", OF_NETWORKS),
    "sparsity": Figure("how sparse and how smooth trained weights are", OF_NETWORKS, prints_output=True),
}
