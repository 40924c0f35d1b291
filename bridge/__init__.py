"""The SDE step as a residual block: where the equation of `pde` meets PyTorch.

    x_(l+1) = x_l + dt F(x_l) + coef scale dB          a residual block with noise is an Euler-Maruyama step
    u(x, 0) = E[f(X_T) | X_0 = x]                      an ensemble, a mean over the noise, solves the equation

`NoisyResidual` is the step, `FeynmanKacMean` the mean. `network_from_velocity` makes a network of an equation,
`problem_from_network` an equation of a planar network, which `pde` solves, `ResNetSDE` one of any stage, for other
libraries. Importing this package requires PyTorch; without it the error gives the command that installs it.
"""

import _enresnet

_enresnet.check_pde()
try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    # If PyTorch is installed but broken, let its own error through.
    if error.name != "torch":
        raise
    raise ImportError(
        "bridge, and nets, which is built on it, need PyTorch, which is not installed: "
        'pip install "enresnet[nets]" (or, in a checkout, pip install -e ".[nets]")'
    ) from None

from bridge.dynamics import ResNetSDE
from bridge.ensemble import FeynmanKacMean
from bridge.fields import TorchField, TorusFeatures
from bridge.network import ResidualNetwork, network_from_velocity
from bridge.planar import mean_field, problem_from_network
from bridge.residual import NoisyResidual
from bridge.switches import noise_from, noise_off, noisy_blocks

__all__ = [
    "FeynmanKacMean",
    "NoisyResidual",
    "ResNetSDE",
    "ResidualNetwork",
    "TorchField",
    "TorusFeatures",
    "mean_field",
    "network_from_velocity",
    "noise_from",
    "noise_off",
    "noisy_blocks",
    "problem_from_network",
]
