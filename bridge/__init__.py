"""The SDE step as a residual block: where the equation of `pde` meets PyTorch.

    x_(l+1) = x_l + dt F(x_l) + coef scale dB          a residual block with noise is an Euler-Maruyama step
    u(x, 0) = E[f(X_T) | X_0 = x]                      an ensemble, a mean over the noise, solves the equation

`NoisyResidual` is the step, `FeynmanKacMean` the mean. `network_from_velocity` makes a network of an equation,
`ResNetSDE` an equation of a network. Importing this package asks for PyTorch, and says how to get it where it is
missing.
"""

import _enresnet

_enresnet.check_pde()
try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    # A PyTorch that is there and broken has its own story to tell.
    if error.name != "torch":
        raise
    raise ImportError(
        "bridge, and nets, which is built on it, need PyTorch, which is not installed: "
        'pip install "enresnet[nets]" (or, in a checkout, pip install -e ".[nets]")'
    ) from None

from bridge.dynamics import ResNetSDE
from bridge.ensemble import FeynmanKacMean
from bridge.fields import TorchField
from bridge.network import ResidualNetwork, network_from_velocity
from bridge.residual import NoisyResidual, noise_from, noise_off, noisy_blocks

__all__ = [
    "FeynmanKacMean",
    "NoisyResidual",
    "ResNetSDE",
    "ResidualNetwork",
    "TorchField",
    "network_from_velocity",
    "noise_from",
    "noise_off",
    "noisy_blocks",
]
