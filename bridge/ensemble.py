"""The Feynman-Kac formula as an ensemble: the mean of the members' outputs over the injected noise.

u(x, 0) = E[f(X_T) | X_0 = x]  ~  sum_k w_k (1 / n_draws) sum_j logits_kj(x)             (paper: (3.1), Figure 2)
"""

import math

import torch
from torch import nn

from bridge import checks

__all__ = ["FeynmanKacMean"]

_HALF = (torch.float16, torch.bfloat16)


class FeynmanKacMean(nn.Module):
    """Weighted mean of the members' outputs, each averaged over draws of its noise.

    mean = sum_k w_k m_k,  m_k = (1 / n_draws) sum_j logits_kj,  sum_k w_k = 1                    (paper: section 5)
    stderr**2 = sum_k w_k**2 s_k**2 / n_draws,  s_k**2 the variance of logits_kj over the draws j

    The standard error is that of the noise: members differ by their parameters as well, which is not an error. It is 0
    where all draws agree, though an outcome that none of them hit may have a probability of 3 / n_draws (at 95 %).

    Parameters
    ----------
    members : iterable of Module
        Networks of equal output shape, (n_images, n_classes) or any other. A network may itself be such a mean.
    n_draws : int, default=1
        Forward passes of each member; >= 1. Can be set later.
    weights : sequence of float, "learned" or None
        w_k, of which the sum is 1; None: equal; "learned": equal at first, then learned by `update_weights`.
    nonnegative : bool, default=False
        Keep learned weights >= 0.

    Attributes
    ----------
    members : ModuleList
        The networks.
    weights : Tensor of shape (n_members,)
        w_k: a parameter if learned, else a buffer. Its gradient grows through an epoch, see `update_weights`.

    Raises
    ------
    ValueError
        If members is one network or empty, n_draws < 1, or the weights are not one finite number per member, of sum 1.

    References
    ----------
    .. [1] Wang et al. 2020, sections 3.1, 4.2 and 5.
    """

    def __init__(self, members, n_draws: int = 1, weights=None, *, nonnegative: bool = False):
        super().__init__()
        # A Sequential is an iterable of its layers, which are not members.
        if isinstance(members, nn.Module) and not isinstance(members, nn.ModuleList):
            raise ValueError(f"members must be a list of networks, got one {type(members).__name__}")
        self.members = nn.ModuleList(members)
        n_members = len(self.members)
        if not n_members:
            raise ValueError("members must not be empty")
        self.n_draws = checks.integer("n_draws", n_draws, at_least=1)
        self.learned = isinstance(weights, str) and checks.one_of("weights", weights, ("learned",)) == "learned"
        self.nonnegative = bool(nonnegative)
        if weights is None or self.learned:
            values = torch.full((n_members,), 1 / n_members)
        else:
            checks.refuse_masked("weights", weights)
            values = _numbers(weights)
            if values is None or values.shape != (n_members,) or not values.isfinite().all():
                raise ValueError(f"weights must be {n_members} finite numbers, one per member, got {weights!r}")
            # The rounding of n numbers in single precision.
            if abs(values.double().sum().item() - 1) > 1e-6 * n_members:
                raise ValueError(f"weights must have the sum 1, got {values.double().sum().item():g}")
            if self.nonnegative and values.min() < 0:
                raise ValueError(f"weights must be >= 0 with nonnegative=True, got {values.min().item():g}")
        self._equal = weights is None
        if self.learned:
            self.weights = nn.Parameter(values)
        else:
            self.register_buffer("weights", values)

    @property
    def n_members(self):
        """Number of networks."""
        return len(self.members)

    def extra_repr(self) -> str:
        """Describe the average, for `repr`."""
        return f"n_draws={self.n_draws}, weights={'learned' if self.learned else 'equal' if self._equal else 'given'}"

    def forward(
        self, x: torch.Tensor, *, return_stderr: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Average the outputs.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Input of every member.
        return_stderr : bool, default=False
            Return the standard error too; n_draws must be >= 2 then.

        Returns
        -------
        Tensor of shape (n_images, n_classes), or a pair of them
            The mean, and its standard error on request.

        Raises
        ------
        ValueError
            If a standard error is requested with fewer than two draws.
        """
        if return_stderr:
            if self.n_draws < 2:
                raise ValueError(f"n_draws must be >= 2 for a standard error, got n_draws={self.n_draws}")
            draws = self.draws(x)
            weights = draws.new_full((self.n_members,), 1 / self.n_members) if self._equal else self.weights
            mean = torch.einsum("k,k...->...", weights.to(draws.dtype), draws.mean(dim=1))
            variance = torch.einsum("k,k...->...", weights.to(draws.dtype) ** 2, draws.var(dim=1))
            return mean, (variance / self.n_draws).sqrt()
        if self.n_members * self.n_draws == 1 and self._equal:
            return self.members[0](x)
        if self._equal:
            return _mean((member(x) for member in self._each()), self.n_members * self.n_draws)
        means = (_mean((member(x) for _ in range(self.n_draws)), self.n_draws) for member in self.members)
        return sum(weight * mean for weight, mean in zip(self.weights, means, strict=True))

    def draws(self, x: torch.Tensor) -> torch.Tensor:
        """Return every member's output in every draw.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Input of every member.

        Returns
        -------
        Tensor of shape (n_members, n_draws, n_images, n_classes)
        """
        return torch.stack([torch.stack([member(x) for _ in range(self.n_draws)]) for member in self.members])

    def update_weights(self, step_size: float):
        """Take one gradient step in the weights and normalise them: once per epoch, as the paper does.

        w <- w - step_size dL/dw;  w <- max(w, 0) if nonnegative;  w <- w / sum_k w_k

        dL/dw, (5.1) and (5.2), is what backward passes have added to `weights.grad` since the last call; the L of the
        paper is a sum over images, where a loss averaged over a batch divides the gradient by its size. Keep `weights`
        out of the optimiser of the other parameters, and clear their gradients by the optimiser's `zero_grad`: the
        model's would clear this one as well.

        Parameters
        ----------
        step_size : float
            > 0.

        Raises
        ------
        ValueError
            If the weights are not learned, no backward pass has been made, or step_size is not positive.
        FloatingPointError
            If the step leaves weights that cannot be normalised; the old ones are kept.
        """
        step_size = checks.real("step_size", step_size, positive=True)
        if not self.learned:
            raise ValueError("weights must be 'learned' to be updated")
        if self.weights.grad is None:
            raise ValueError("update_weights needs the gradient of a backward pass")
        with torch.no_grad():
            weights = self.weights - step_size * self.weights.grad
            if self.nonnegative:
                weights = weights.clamp(min=0)
            total = weights.sum().item()
            if not math.isfinite(total) or total <= 1e-6:
                raise FloatingPointError(f"the weights' sum is {total:g}: take a smaller step_size than {step_size:g}")
            self.weights.copy_(weights / total)
        self.weights.grad = None

    def _each(self):
        return (member for member in self.members for _ in range(self.n_draws))


def _mean(outputs, count):
    """Mean of so many tensors; those in half precision are added in single, where the last of many still count."""
    total = 0
    for output in outputs:
        total = total + (output.float() if output.dtype in _HALF else output)
    mean = total / count
    return mean.to(output.dtype) if output.dtype in _HALF else mean


def _numbers(values):
    try:
        return torch.as_tensor(values, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError):
        return None
