"""The residual block with injected noise: one step of the Euler-Maruyama method.

    x_(l+1) = x_l + dt F(x_l) + coef scale dB,  dB ~ N(0, dt I)                     (paper: (2.3), Figure 1(b))

is a step of dX = F(X) dt + coef scale dB (Ito), F the `branch`. With dt = 1 it is the paper's residual mapping.
"""

import math

import torch
from torch import nn

from bridge import checks
from bridge.noise import NOISES, standard_noise

__all__ = ["NoisyResidual"]

SCALES = ("additive", "multiplicative", "std")
SPREADS = ("batch", "sample")


class NoisyResidual(nn.Module):
    """One Euler-Maruyama step x -> y + coef * scale * dB with y = shortcut(x) + dt * branch(x).

    dB is of mean 0 and variance dt in each component, independent; and

    scale = 1               "additive": dX = F dt + coef dB
    scale = shortcut(x)     "multiplicative": dX = F dt + coef X dB
    scale = sqrt(Var(y))    "std": the paper's specially designed noise (section 3.1)
    scale = scale(x)        a module: dX = F dt + coef scale(X) dB

    The noise is on in training and evaluation alike. With `shortcut` the state space changes, as at the two stage
    changes of a ResNet: such a block is not a time step. The gradient passes through sqrt(Var(y)), as in the released
    code.

    Parameters
    ----------
    branch : Module
        F: tensors of shape (n_images, ...) to those of y.
    dt : float, default=1.0
        Time step; > 0.
    noise : {"gaussian", "laplace"} or None
        Law of dB; None: no noise. Laplace noise of equal variance has the same limit as dt -> 0 (Donsker).
    coef : float, default=0.1
        The paper's a for scale="std", sigma for "additive"; >= 0. At 0 nothing is drawn.
    scale : {"std", "additive", "multiplicative"} or Module
        See above; a module maps states to tensors that broadcast to y.
    std_over : {"batch", "sample"}
        Var(y) for scale="std" over the whole batch tensor, as released, or over each image alone; only then does the
        output for one image not depend on the others in its batch.
    shortcut : Module, optional
        Projection at a stage change; by default the identity.

    Attributes
    ----------
    generator : torch.Generator or None
        Source of the noise; None: PyTorch's own. See `bridge.noise_from`.
    enabled : bool
        Whether noise is drawn. See `bridge.noise_off`.

    Raises
    ------
    ValueError
        If dt is not positive, coef negative or not finite, a part no function, or an option unknown.

    References
    ----------
    .. [1] Wang et al. 2020, section 3.1. Released code: `PreActBasicBlock`, with std_over="batch".

    Examples
    --------
    >>> import torch
    >>> block = NoisyResidual(torch.nn.Tanh(), dt=0.5, coef=2.0, scale="additive")
    >>> block(torch.zeros(1, 2), increment=torch.tensor([[0.25, -0.5]]))
    tensor([[ 0.5000, -1.0000]])
    """

    def __init__(
        self,
        branch: nn.Module,
        *,
        dt: float = 1.0,
        noise="gaussian",
        coef: float = 0.1,
        scale="std",
        std_over: str = "batch",
        shortcut: nn.Module | None = None,
    ):
        super().__init__()
        for name, part in (("branch", branch), ("shortcut", branch if shortcut is None else shortcut)):
            if not callable(part):
                raise ValueError(f"{name} must be a Module or a function of x, got {part!r:.80}")
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.dt = checks.real("dt", dt, positive=True)
        self.noise = None if noise is None else checks.one_of("noise", noise, NOISES)
        self.coef = checks.real("coef", coef, positive=False)
        self.scale = scale if isinstance(scale, nn.Module) else checks.one_of("scale", scale, SCALES)
        self.std_over = checks.one_of("std_over", std_over, SPREADS)
        self.generator = None
        self.enabled = True
        # Var(y) is taken at the end of this step: a part of a step uses that of the whole.
        self._whole_dt = self.dt

    @property
    def is_time_step(self):
        """Whether the block stays in its state space, so that it is a time step."""
        return isinstance(self.shortcut, nn.Identity)

    @property
    def is_noisy(self):
        """Whether a forward pass draws noise."""
        return self.enabled and self.noise is not None and self.coef > 0

    def extra_repr(self) -> str:
        """Describe the noise, for `repr`."""
        over = f", std_over={self.std_over!r}" if self.scale == "std" else ""
        scale = type(self.scale).__name__ if isinstance(self.scale, nn.Module) else repr(self.scale)
        return f"dt={self.dt:g}, noise={self.noise!r}, coef={self.coef:g}, scale={scale}{over}"

    def forward(self, x: torch.Tensor, increment: torch.Tensor | None = None) -> torch.Tensor:
        """Take one step.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            State.
        increment : Tensor of shape (n_images, ...), optional
            dB, of the shape of the result and variance dt; drawn if not given. What is given is used even where
            the noise is off.

        Returns
        -------
        Tensor of shape (n_images, ...)

        Raises
        ------
        ValueError
            If F(x) has another shape than the state, an increment is given to a block without noise or has another
            shape than the result, or Var(y) is that of fewer than two numbers.
        """
        start, branch = self.shortcut(x), self.branch(x)
        if branch.shape != start.shape:
            raise ValueError(
                f"branch must keep the shape of the state, {tuple(start.shape)}, got {tuple(branch.shape)}"
            )
        y = torch.add(start, branch, alpha=self.dt)
        if increment is not None:
            if self.noise is None:
                raise ValueError("increment must be None for a block with noise=None")
            if increment.shape != y.shape:
                raise ValueError(f"increment must have shape {tuple(y.shape)}, got {tuple(increment.shape)}")
        elif not self.is_noisy:
            return y
        # A batch without images has no standard deviation.
        if not y.numel():
            return y
        if increment is not None:
            return self._add(start, branch, y, increment, self.coef)
        noise = standard_noise(y, self.noise, self.generator)
        return self._add(start, branch, y, noise, self.coef * math.sqrt(self.dt))

    def _add(self, start, branch, y, dB, coef):
        if self.scale == "std" and self._whole_dt == self.dt:
            return _AddStdNoise.apply(y, dB, coef, self._std_dims(y))
        if self.scale == "additive":
            return torch.add(y, dB, alpha=coef)
        return torch.addcmul(y, self._scale(start, branch), dB, value=coef)

    def _scale(self, start, branch):
        if self.scale == "additive":
            return start.new_ones(())
        if self.scale == "multiplicative":
            return start
        if isinstance(self.scale, nn.Module):
            return self.scale(start)
        end = torch.add(start, branch, alpha=self._whole_dt)
        return end.std(dim=self._std_dims(end), keepdim=True)

    def _std_dims(self, y):
        dims, n = list(range(y.dim())), y.numel()
        if self.std_over == "sample":
            dims, n = dims[1:], n // max(len(y), 1)
        if n < 2:
            raise ValueError(f"scale='std' needs two numbers or more per {self.std_over}, got shape {tuple(y.shape)}")
        return dims

    def drift_and_diffusion(self, x: torch.Tensor):
        """Evaluate the coefficients of the SDE of which the block is a step, dX = F(X) dt + coef scale(X) dB.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            State.

        Returns
        -------
        drift, diffusion : Tensor of shape (n_images, ...)
            F(x), and coef * scale(x), of a shape that broadcasts to that of F(x); 0 where the noise is off.

        Raises
        ------
        ValueError
            If the block is not a time step, or F(x) has another shape than x.
        """
        if not self.is_time_step:
            raise ValueError("a block with a projected shortcut is not a time step and has no drift")
        branch = self.branch(x)
        if branch.shape != x.shape:
            raise ValueError(f"branch must keep the shape of the state, {tuple(x.shape)}, got {tuple(branch.shape)}")
        if not self.is_noisy:
            return branch, x.new_zeros(())
        return branch, self.coef * self._scale(x, branch)

    def substep(self, n_substeps: int) -> "NoisyResidual":
        """Return a block of the same branch that takes an n-th part of the step: n of them refine it.

        x -> x + (dt / n) F(x) + coef scale(x) dB,  dB of variance dt / n

        `scale` is that of the whole step, sqrt(Var(x + dt F(x))) for "std", so that block and parts are steps of one
        SDE; the variances of the parts' noise add up to that of the block as far as the scale is constant over a step.

        Parameters
        ----------
        n_substeps : int
            n >= 1.

        Returns
        -------
        NoisyResidual

        Raises
        ------
        ValueError
            If n_substeps < 1, or the block is not a time step.
        """
        n_substeps = checks.integer("n_substeps", n_substeps, at_least=1)
        if not self.is_time_step:
            raise ValueError("a block with a projected shortcut is not a time step and has no parts")
        options = {"noise": self.noise, "coef": self.coef, "scale": self.scale, "std_over": self.std_over}
        part = NoisyResidual(self.branch, dt=self.dt / n_substeps, **options)
        part._whole_dt, part.enabled = self._whole_dt, self.enabled
        return part


class _AddStdNoise(torch.autograd.Function):
    """y + coef s z with s = sqrt(Var(y)); the gradient passes through s.

    d/dy of s is (y - mean) / ((N - 1) s), so a gradient g becomes g + coef (g . z) (y - mean) / ((N - 1) s).
    """

    @staticmethod
    def forward(ctx, y, z, coef, over):
        # `torch.std` is a recurrence, not vectorised on a CPU, six times slower.
        mean = y.mean(dim=over, keepdim=True)
        std = _deviation(y - mean, over)
        ctx.save_for_backward(y, z, mean, std)
        ctx.coef, ctx.over = coef, over
        return torch.addcmul(y, z, std.to(y.dtype), value=coef)

    @staticmethod
    def backward(ctx, g):
        y, z, mean, std = ctx.saved_tensors
        # Where the gradient is differentiated itself, as functions of y.
        is_differentiated = torch.is_grad_enabled()
        deviation = y - (y.mean(dim=ctx.over, keepdim=True) if is_differentiated else mean)
        std = _deviation(deviation, ctx.over) if is_differentiated else std
        dot = (g * z).sum(dim=ctx.over, keepdim=True, dtype=std.dtype)
        # A constant y has no direction in which its deviation grows: the subgradient 0, as torch.std has it.
        others = y.numel() // std.numel() - 1
        slope = torch.where(std > 0, ctx.coef * dot / (others * torch.where(std > 0, std, 1)), 0)
        to_increment = ctx.coef * std.to(g.dtype) * g if ctx.needs_input_grad[1] else None
        return torch.addcmul(g, deviation, slope.to(g.dtype)), to_increment, None, None


def _deviation(apart, over):
    """Standard deviation of numbers that have mean 0 over these dimensions."""
    # Sums over many numbers leave the range of float16.
    wide = torch.promote_types(apart.dtype, torch.float32)
    norm = torch.linalg.vector_norm(apart, dim=over, keepdim=True, dtype=wide)
    return norm / math.sqrt(apart.numel() // norm.numel() - 1)
