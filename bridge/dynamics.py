"""A trained network as a stochastic differential equation, for the solvers of other libraries.

dX = f(t, X) dt + g(t, X) dW,  0 <= t <= T,  layer l holding for l Dt <= t < (l + 1) Dt,  Dt = T / L
"""

import bisect
import math

import torch
from torch import nn

from bridge import checks
from bridge.network import ResidualNetwork, time_steps

__all__ = ["ResNetSDE"]


class ResNetSDE(nn.Module):
    """The SDE of which the blocks of one stage are Euler-Maruyama steps, for `torchsde` and `torchdiffeq`.

    f(t, y) = (dt_l / Dt) F_l(y)                                 dt_l the block's `dt`, 1 in the paper's networks
    g(t, y) = (dt_l / Dt)**0.5 coef_l scale_l(y)                 scale="std": a s sqrt(L), s**2 = Var(y + dt_l F_l(y))

    A step of size Dt with the increment dW, of variance Dt, is the block with dB = (dt_l / Dt)**0.5 dW. A block whose
    noise is off has g = 0. The equation is Ito's, Laplace noise has the same one (Donsker). Batch normalisation is what
    the modules' mode makes it: call `eval()` for functions f and g of the state alone.

    noise_type is "diagonal": component i of the noise enters component i of the state. For scale="std" g_i depends on
    all components, so that schemes which differentiate g_i in y_i alone (Milstein, SRK) are of strong order 1/2 like
    Euler-Maruyama, not of their own.

    Parameters
    ----------
    blocks : iterable of NoisyResidual
        The time steps of one stage, in order, as `stages[1][1:]` of a `nets.models.ResNet` without its stage change,
        or those of a `ResidualNetwork`; they are shared, not copied.
    horizon : float, default=1.0
        T; > 0.
    state_shape : tuple of int, optional
        Shape of one image's state, (n_channels, height, width). With it f and g take flat states (n_images, d) too,
        as `torchsde` asks.

    Attributes
    ----------
    blocks : ModuleList
        The blocks.
    dt : float
        Dt.
    noise_type, sde_type : str
        "diagonal" and "ito".

    Raises
    ------
    ValueError
        If there is no block, one is a stage change, blocks are of different numbers of channels, or horizon or
        state_shape is out of range.

    References
    ----------
    .. [1] Wang et al. 2020, section 3.1. Li et al. 2020, Scalable gradients for stochastic differential equations.

    Examples
    --------
    >>> from bridge import NoisyResidual
    >>> sde = ResNetSDE([NoisyResidual(nn.Tanh(), coef=0.1, scale="additive") for _ in range(4)])
    >>> sde.g(0.3, torch.zeros(2, 3)).unique()
    tensor([0.2000])
    """

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, blocks, horizon=1.0, *, state_shape=None):
        super().__init__()
        self.blocks = time_steps(blocks)
        widths = [_width(block) for block in self.blocks]
        for width in widths:
            if None not in (width, widths[0]) and width != widths[0]:
                raise ValueError(f"blocks must share one state space, got {widths[0]} and {width} channels")
        self.horizon = checks.real("horizon", horizon, positive=True)
        self.state_shape = None
        if state_shape is not None:
            self.state_shape = tuple(checks.integer("state_shape", size, at_least=1) for size in state_shape)

    @property
    def dt(self):
        """Time of one layer, T / L."""
        return self.horizon / len(self.blocks)

    def extra_repr(self):
        """Describe the equation, for `repr`.

        Returns
        -------
        str
        """
        return f"horizon={self.horizon:g}, state_shape={self.state_shape}"

    def f(self, t, y):
        """Evaluate the drift.

        Parameters
        ----------
        t : float or Tensor of shape ()
            Time; before 0 and after T the first and the last layer go on, as adaptive solvers step over the end.
        y : Tensor of shape (n_images, ...)
            State, flat or of `state_shape`.

        Returns
        -------
        Tensor of shape (n_images, ...)

        Raises
        ------
        ValueError
            If y has another shape, or a block changes it.
        """
        return self.f_and_g(t, y)[0]

    def g(self, t, y):
        """Evaluate the diffusion, the diagonal of the matrix.

        Parameters
        ----------
        t : float or Tensor of shape ()
            Time.
        y : Tensor of shape (n_images, ...)
            State.

        Returns
        -------
        Tensor of shape (n_images, ...)

        Raises
        ------
        ValueError
            If y has another shape, or a block changes it.
        """
        return self.f_and_g(t, y)[1]

    def f_and_g(self, t, y):
        """Evaluate drift and diffusion together, by one evaluation of the branch.

        Parameters
        ----------
        t : float or Tensor of shape ()
            Time.
        y : Tensor of shape (n_images, ...)
            State.

        Returns
        -------
        pair of Tensor of shape (n_images, ...)

        Raises
        ------
        ValueError
            If y has another shape, or a block changes it.
        """
        state = self._state(y)
        drift, diffusion = self._coefficients(self.blocks[self._layer(t)], state)
        return drift.reshape(y.shape), diffusion.expand_as(state).reshape(y.shape)

    def forward(self, t, y):
        """Evaluate the drift, as `torchdiffeq` asks.

        Parameters
        ----------
        t : float or Tensor of shape ()
            Time.
        y : Tensor of shape (n_images, ...)
            State.

        Returns
        -------
        Tensor of shape (n_images, ...)
        """
        return self.f(t, y)

    def jump_times(self, dtype=torch.float64):
        """Return the times at which f and g jump, for the option `jump_t` of `torchdiffeq`.

        They lie before the layers' own times l Dt by sqrt(eps) Dt, eps the spacing of the numbers of t, so that sums of
        steps reach a layer whatever their rounding.

        Parameters
        ----------
        dtype : torch.dtype
            That of the time.

        Returns
        -------
        Tensor of shape (L - 1,)
            In double precision.
        """
        times = [self._jump(layer, dtype) for layer in range(1, len(self.blocks))]
        return torch.tensor(times, dtype=torch.float64, device=_device(self))

    def refined(self, n_substeps):
        """Refine the step between the layers: every block becomes n_substeps of its `substep`.

        Parameters
        ----------
        n_substeps : int
            >= 1.

        Returns
        -------
        ResidualNetwork
            Of L n_substeps blocks that share the branches: Euler-Maruyama of this SDE with the step Dt / n_substeps.

        Raises
        ------
        ValueError
            If n_substeps < 1 (raised by a helper).
        """
        n_substeps = checks.integer("n_substeps", n_substeps, at_least=1)
        return ResidualNetwork(block.substep(n_substeps) for block in self.blocks for _ in range(n_substeps))

    @torch.no_grad()
    def effective_sigma(self, x):
        """Evaluate sigma(t) on data: for the paper's noise a s_l sqrt(L / T), s_l the deviation at the end of block l.

        sigma_l = sqrt(mean of g(l Dt, x_l)**2 over the components),  x_(l+1) = block l of x_l, with its noise

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            States before the first block.

        Returns
        -------
        Tensor of shape (L, n_images)
            In units of the state / sqrt(time).

        Raises
        ------
        ValueError
            If x has another shape, or a block changes it.
        """
        state, rows = self._state(x), []
        for block in self.blocks:
            diffusion = self._coefficients(block, state)[1]
            rows.append(diffusion.expand_as(state).flatten(1).square().mean(dim=1).sqrt())
            state = block(state)
        return torch.stack(rows)

    def _coefficients(self, block, state):
        drift, diffusion = block.drift_and_diffusion(state)
        rate = block.dt / self.dt
        return rate * drift, math.sqrt(rate) * diffusion

    def _jump(self, layer, dtype):
        return (layer - math.sqrt(torch.finfo(dtype).eps)) * self.dt

    def _layer(self, t):
        dtype = t.dtype if isinstance(t, torch.Tensor) else torch.float64
        return bisect.bisect_right(range(1, len(self.blocks)), float(t), key=lambda layer: self._jump(layer, dtype))

    def _state(self, y):
        if self.state_shape is None or y.shape[1:] == self.state_shape:
            return y
        if y.shape[1:] != (math.prod(self.state_shape),):
            raise ValueError(f"y must have shape (n_images, *{self.state_shape}), flat or not, got {tuple(y.shape)}")
        return y.reshape(len(y), *self.state_shape)


def _width(block):
    """Channels that the first layer of a block takes, where it says so."""
    for module in block.branch.modules():
        for name in ("num_features", "in_channels", "in_features"):
            if isinstance(getattr(module, name, None), int):
                return getattr(module, name)
    return None


def _device(module):
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), None)
