"""A trained network as a stochastic differential equation, for the solvers of other libraries.

dX = f(t, X) dt + g(t, X) dW,  0 <= t <= T,  layer l holding for l Dt <= t < (l + 1) Dt,  Dt = T / L
"""

import bisect
import math
from itertools import pairwise

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
    noise is off has g = 0. The equation is Ito's; Laplace noise has the same one (Donsker). Batch normalisation follows
    the mode of the modules: call `eval()` for functions f and g of the state alone.

    noise_type is "diagonal": component i of the noise enters component i of the state. For scale="std" g_i depends on
    all components, so that schemes which differentiate g_i in y_i alone (Milstein, SRK) have strong order 1/2 like
    Euler-Maruyama, not their own.

    **Without noise, in torchdiffeq.** The drift jumps at l Dt, and a Runge-Kutta step must not see both sides of a
    jump. Pass times in double precision, and

    * adaptive methods (dopri5, bosh3): options={"jump_t": sde.jump_times()};
    * fixed steps (rk4, midpoint, heun3): options={"grid_constructor": sde.step_times(k), "perturb": True}, which
      takes k steps per layer, or {"step_size": sde.dt / k, "perturb": True} with k a power of 2, for which the
      products of the step are the same numbers. Then rk4 has order 4. Without `perturb` it has order 1.

    Parameters
    ----------
    blocks : iterable of NoisyResidual
        The time steps of one stage, in order, as `stages[1][1:]` of a `nets.models.ResNet` without its stage change,
        or those of a `ResidualNetwork`; they are shared, not copied.
    horizon : float, default=1.0
        T; > 0.
    state_shape : tuple of int, optional
        Shape of one image's state, (n_channels, height, width). With it f and g take flat states (n_images, d) too,
        as `torchsde` requires.

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
        If there is no block, one is a stage change, blocks have different numbers of channels, or horizon or
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
        """Describe the equation, for `repr`."""
        return f"horizon={self.horizon:g}, state_shape={self.state_shape}"

    def f(self, t, y):
        """Evaluate the drift, as `f_and_g`."""
        return self.f_and_g(t, y)[0]

    def g(self, t, y):
        """Evaluate the diffusion, the diagonal of its matrix, as `f_and_g`."""
        return self.f_and_g(t, y)[1]

    def f_and_g(self, t, y):
        """Evaluate drift and diffusion together, by one evaluation of the branch.

        Layer l holds from sqrt(eps) Dt before l Dt on, so that rounded sums of steps, as in torchsde, reach it.

        Parameters
        ----------
        t : float or Tensor of shape ()
            Time; before 0 and after T the first and the last layer hold.
        y : Tensor of shape (n_images, ...)
            State, flat or of `state_shape`.

        Returns
        -------
        drift, diffusion : Tensor of shape (n_images, ...)
        """
        state = self._state(y)
        early = math.sqrt(torch.finfo(_dtype(t)).eps) * self.dt
        drift, diffusion = self._coefficients(self._block(_number(t) + early, _dtype(t)), state)
        return drift.reshape(y.shape), diffusion.expand_as(state).reshape(y.shape)

    def forward(self, t, y):
        """Evaluate the drift for `torchdiffeq`, which steps to either side of a jump: layer l from exactly l Dt on.

        Times and states as for `f_and_g`.
        """
        return self._coefficients(self._block(_number(t), _dtype(t)), self._state(y))[0].reshape(y.shape)

    def jump_times(self, dtype=torch.float64):
        """Return l Dt, 0 < l < L, where the drift jumps: the option `jump_t` of `torchdiffeq`, of shape (L - 1,).

        In double precision, rounded to the precision `dtype` of the solver's time.
        """
        return torch.tensor(self._jumps(dtype), dtype=torch.float64, device=_device(self))

    def step_times(self, n_substeps=1):
        """Return the option `grid_constructor` of torchdiffeq's fixed-step methods: equal steps that end on the layers.

        Parameters
        ----------
        n_substeps : int, default=1
            Steps per layer, >= 1.

        Returns
        -------
        callable
            (func, y0, t) to a Tensor of shape (n_steps + 1,) from t[0] to t[-1], over 0, Dt / n, 2 Dt / n, ...
        """
        n_substeps = checks.integer("n_substeps", n_substeps, at_least=1)

        def grid(func, y0, t):
            # The ends of the layers are the very numbers at which `forward` changes its block.
            ends = [0.0, *self._jumps(t.dtype), self.horizon]
            parts = [torch.linspace(a, b, n_substeps + 1, dtype=t.dtype)[:-1] for a, b in pairwise(ends)]
            times = torch.cat([*parts, t.new_tensor([self.horizon]).cpu()]).to(t.device)
            low, high = t[[0, -1]].sort()[0]
            inside = times[(times > low) & (times < high)]
            return torch.cat([t[:1], inside.flip(0) if t[0] > t[-1] else inside, t[-1:]])

        return grid

    def refined(self, n_substeps):
        """Refine the step between the layers: every block becomes n_substeps of its `substep`.

        Parameters
        ----------
        n_substeps : int
            >= 1.

        Returns
        -------
        ResidualNetwork
            L n_substeps blocks that share the branches: Euler-Maruyama of this SDE with the step Dt / n_substeps.
        """
        n_substeps = checks.integer("n_substeps", n_substeps, at_least=1)
        return ResidualNetwork(block.substep(n_substeps) for block in self.blocks for _ in range(n_substeps))

    @torch.no_grad()
    def effective_sigma(self, x):
        """Evaluate sigma(t) on data: a s_l sqrt(L / T) for the paper's noise, s_l the standard deviation of block l.

        sigma_l = sqrt(mean of g(l Dt, x_l)**2 over the components),  x_(l+1) = block l of x_l, with its noise

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            States before the first block.

        Returns
        -------
        Tensor of shape (L, n_images)
            In units of the state / sqrt(time).
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

    def _jumps(self, dtype):
        times = torch.tensor([layer * self.dt for layer in range(1, len(self.blocks))], dtype=torch.float64)
        return times.to(dtype).double().tolist()

    def _block(self, t, dtype):
        return self.blocks[bisect.bisect_right(self._jumps(dtype), t)]

    def _state(self, y):
        if self.state_shape is None or y.shape[1:] == self.state_shape:
            return y
        if y.shape[1:] != (math.prod(self.state_shape),):
            raise ValueError(f"y must have shape (n_images, *{self.state_shape}), flat or not, got {tuple(y.shape)}")
        return y.reshape(len(y), *self.state_shape)


def _number(t):
    return float(t.detach() if isinstance(t, torch.Tensor) else t)


def _dtype(t):
    return t.dtype if isinstance(t, torch.Tensor) else torch.float64


def _width(block):
    """Number of input channels of a block's first layer; None if unknown."""
    for module in block.branch.modules():
        # The width behind a layer that is not PyTorch's own, as TorusFeatures, is not known.
        if not (any(module.children()) or type(module).__module__.startswith("torch.nn.")):
            return None
        for name in ("num_features", "in_channels", "in_features"):
            if isinstance(getattr(module, name, None), int):
                return getattr(module, name)
    return None


def _device(module):
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), None)
