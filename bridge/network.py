"""Networks whose blocks are time steps: a row of them, and the one that solves a convection-diffusion equation."""

from functools import partial

import numpy as np
import torch
from torch import nn

from bridge import checks
from bridge.fields import CallableField, TorchField
from bridge.residual import NoisyResidual
from pde import PeriodicField, feynman_kac
from pde.equation import admit

__all__ = ["ResidualNetwork", "network_from_velocity"]


class ResidualNetwork(nn.Module):
    """A row of residual blocks that stay in one state space, and an output: a path of the Euler-Maruyama method.

    x_(l+1) = x_l + dt F_l(x_l) + coef scale dB_l,  l = 0, ..., L - 1;  the output is f(x_L)      (paper: (2.3))

    Parameters
    ----------
    blocks : iterable of NoisyResidual
        Time steps, in order; at least one.
    output : Module, optional
        f; by default the identity.

    Raises
    ------
    ValueError
        If there is no block, or one is not a time step.
    """

    def __init__(self, blocks, output: nn.Module | None = None):
        super().__init__()
        self.blocks = time_steps(blocks)
        self.output = nn.Identity() if output is None else output

    def forward(self, x: torch.Tensor, increments: torch.Tensor | None = None) -> torch.Tensor:
        """Follow one path from each state.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            States x_0.
        increments : Tensor of shape (n_blocks, n_images, ...), optional
            dB of each block, of variance `dt` of that block; drawn if not given. Of shape
            (n_blocks, n_paths, n_images, ...) they give many paths from each state. Blocks with noise=None use none.

        Returns
        -------
        Tensor of shape (n_images, ...)
            f(x_L), or x_L without an output.

        Raises
        ------
        ValueError
            If increments are not one per block.
        """
        if increments is None:
            for block in self.blocks:
                x = block(x)
            return self.output(x)
        if len(increments) != len(self.blocks):
            raise ValueError(f"increments must be {len(self.blocks)}, one per block, got {len(increments)}")
        x = x.expand(torch.broadcast_shapes(x.shape, increments.shape[1:]))
        for block, increment in zip(self.blocks, increments, strict=True):
            x = block(x, increment.expand(x.shape) if block.noise else None)
        return self.output(x)


def time_steps(blocks):
    """Return blocks as a ModuleList, or raise a ValueError if there is none or one is not a time step."""
    if isinstance(blocks, NoisyResidual) or not hasattr(blocks, "__iter__"):
        raise ValueError(f"blocks must be a list of NoisyResidual, got one {type(blocks).__name__}")
    blocks = list(blocks)
    if not blocks:
        raise ValueError("blocks must not be empty")
    for index, block in enumerate(blocks):
        parts = [module for module in block.modules() if isinstance(module, NoisyResidual)]
        if any(not part.is_time_step for part in parts):
            raise ValueError(f"blocks[{index}] is a stage change, which is not a time step: pass blocks of one stage")
        if not isinstance(block, NoisyResidual):
            raise ValueError(f"blocks[{index}] must be a NoisyResidual, got {type(block).__name__}")
    return nn.ModuleList(blocks)


def network_from_velocity(problem, n_layers: int, *, noise: str = "gaussian") -> ResidualNetwork:
    """Build the residual network that is one Euler-Maruyama path of the SDE of a convection-diffusion equation.

    x_(l+1) = x_l + dt v(x_l, t_l) + sigma(x_l, t_l) dB_l,  dt = T / n_layers,  t_l = l dt;  the output is f(x_L)

    Its mean over the noise tends to u(x, 0) = E[f(X_T) | X_0 = x] as n_layers grows, with order 1 (paper: (3.1)). Where
    the layers of a velocity piecewise constant in time do not divide n_layers, blocks have the steps of
    `pde.feynman_kac.time_steps`, which end on these layers.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Fields are evaluated by their own rule, in double precision, and can be differentiated in the points. Callables
        v(x, t) and f are evaluated in NumPy at points reduced to the cell, and a gradient through them is refused with
        a RuntimeError; a callable v(t), which returns fields, has the gradient of these.
    n_layers : int
        Blocks, >= 1.
    noise : {"gaussian", "laplace"}
        Law of dB_l; where sigma is 0 there is no noise.

    Returns
    -------
    ResidualNetwork
        Points of shape (..., 2) to f at the ends of the paths, shape (...). With `increments` of shape
        (n_layers, ..., 2) and variance dt it is f of `pde.feynman_kac.euler_maruyama`.

    Raises
    ------
    ValueError
        If n_layers is less than the number of layers of the problem, noise is unknown, or the problem has a potential
        or a source.

    Examples
    --------
    >>> import pde
    >>> from bridge import FeynmanKacMean
    >>> problem = pde.problems.constant_velocity()
    >>> net = network_from_velocity(problem, n_layers=4)
    >>> points = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    >>> mean, stderr = FeynmanKacMean([net], n_draws=1000)(points, return_stderr=True)
    >>> bool(abs(mean - problem.exact([[0.1, 0.2]])[0]) < 5 * stderr)
    True
    """
    n_layers = checks.integer("n_layers", n_layers, at_least=1)
    admit(problem).refuse("network_from_velocity", "potential", "source")
    if n_layers < (problem.n_layers or 1):
        raise ValueError(f"n_layers must be >= {problem.n_layers}, one per layer of the problem, got {n_layers}")
    steps = feynman_kac.time_steps(problem, n_layers)
    branches, noises = _velocities(problem, steps), _noises(problem, steps)
    blocks = []
    for branch, (coef, scale), dt in zip(branches, noises, steps.tolist(), strict=True):
        law = noise if coef else None
        blocks.append(NoisyResidual(branch, dt=dt, noise=law, coef=coef, scale=scale))
    return ResidualNetwork(blocks, _output(problem))


class _Sigma(nn.Module):
    """A positive field as the scale of a block's noise: points (..., 2) to (..., 1)."""

    def __init__(self, sigma):
        super().__init__()
        self.sigma = TorchField(sigma)

    def forward(self, points):
        return self.sigma(points)[..., None]


def _layer_of_each(problem, steps, count):
    """Index of the layer, of `count`, that holds in the middle of each step."""
    middles = np.cumsum(steps) - steps / 2
    return (middles / problem.horizon * count).astype(int).tolist()


def _noises(problem, steps):
    """Pairs (coef, scale), one per block; blocks of one sigma share its module."""
    if problem.has_constant_sigma:
        return [(problem.sigma, "additive")] * len(steps)
    sigmas = [problem.sigma_layer(layer) for layer in range(problem.n_layers or 1)]
    pairs = [(1.0, _Sigma(s)) if isinstance(s, PeriodicField) else (s, "additive") for s in sigmas]
    return [pairs[layer] for layer in _layer_of_each(problem, steps, len(pairs))]


def _velocities(problem, steps):
    """v(., t_l) of each block; blocks of one velocity share its module."""
    if problem.n_layers is not None:
        fields = [TorchField(problem.layer_field(j)) for j in range(problem.n_layers)]
        return [fields[layer] for layer in _layer_of_each(problem, steps, problem.n_layers)]
    times = [layer * (problem.horizon / len(steps)) for layer in range(len(steps))]
    if problem.velocity_is_of_points:
        return [CallableField(partial(problem.velocity_at, t=t)) for t in times]
    return [TorchField(problem.velocity_field(t)) for t in times]


def _output(problem):
    if isinstance(problem.terminal, PeriodicField):
        return TorchField(problem.terminal)
    return CallableField(problem.terminal_at)
