"""Periodic fields of `pde` in PyTorch: the same rules between the grid points, with gradients, on any device.

trigonometric:      u(x) = sum_k c_k exp(2 pi i k . x / length)
bilinear, bicubic:  u(x) = sum_ij a_ij B(n x / length - i) B(n y / length - j)
"""

import math

import numpy as np
import torch
from torch import nn

from bridge import checks
from pde import PeriodicField, grid

__all__ = ["CallableField", "TorchField", "TorusFeatures"]

# Most numbers per block of points: 32 MB of waves or weights.
_BLOCK_ENTRIES = 2**22


class TorchField(nn.Module):
    """A field on the torus, evaluated at points that are tensors, and differentiable in them.

    The derivative of a bilinear field is that from inside the cell, between two cells that towards larger
    coordinates, as in `PeriodicField.jacobian`. Grid data are buffers in double precision, which follow `to`; they
    are left out of the state dict, where a network keeps what it has learned.

    Parameters
    ----------
    field : PeriodicField
        Values of shape (..., n, n).

    Raises
    ------
    ValueError
        If field is not a PeriodicField.

    Examples
    --------
    >>> import numpy as np
    >>> field = PeriodicField(np.sin(2 * np.pi * np.arange(8) / 8)[:, None] * np.ones(8))
    >>> x = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    >>> TorchField(field)(x).backward()
    >>> bool(abs(x.grad[0] + 2 * np.pi) < 1e-12)
    True
    """

    def __init__(self, field):
        super().__init__()
        if not isinstance(field, PeriodicField):
            raise ValueError(f"field must be a PeriodicField, got {type(field).__name__}")
        self.length, self.n, self.components = field.length, field.n, field.values.shape[:-2]
        self.interpolation = field.interpolation
        if field.interpolation == "trigonometric":
            m = field.n_modes
            # c_(-k) is the conjugate of c_k: the half k_2 >= 0, counted twice but for k_2 = 0, has the sum's real part.
            half = grid.coefficients(field.values, m)[..., m:] * np.where(np.arange(m + 1) == 0, 1.0, 2.0)
            half = half.reshape(-1, 2 * m + 1, m + 1)
            # Two real buffers: a change of precision would drop the imaginary part of a complex one.
            self._buffer("cosines", half.real)
            self._buffer("sines", half.imag)
            self._buffer("wavenumbers", np.arange(-m, m + 1) * (2 * np.pi / field.length))
        else:
            self._buffer("coefficients", field.spline_coefficients.reshape(-1, field.n, field.n))

    def _buffer(self, name, values):
        self.register_buffer(name, torch.from_numpy(np.array(values, dtype=np.float64)), persistent=False)

    def extra_repr(self) -> str:
        """Describe the field, for `repr`."""
        return f"shape={(*self.components, self.n, self.n)}, length={self.length:g}, {self.interpolation}"

    def forward(self, points: torch.Tensor):
        """Evaluate the field.

        Parameters
        ----------
        points : Tensor of shape (..., 2)
            Anywhere in the plane.

        Returns
        -------
        Tensor of shape (...) + values.shape[:-2]
            One number per point of a scalar field, (..., 2) of a vector field.
        """
        _check_points(points)
        flat = points.reshape(-1, 2)
        evaluate = self._trigonometric if self.interpolation == "trigonometric" else self._spline
        block = max(1, _BLOCK_ENTRIES // (max(self.n, 16) * max(1, math.prod(self.components))))
        values = torch.cat([evaluate(part) for part in flat.split(block)]) if len(flat) > block else evaluate(flat)
        return values.reshape(points.shape[:-1] + self.components)

    def _trigonometric(self, flat):
        k, m = self.wavenumbers, len(self.wavenumbers) // 2
        phases = flat[:, 0, None] * k, flat[:, 1, None] * k[m:]
        x, y = (torch.complex(phase.cos(), phase.sin()) for phase in phases)
        c = torch.complex(self.cosines, self.sines).to(x.dtype)
        return torch.stack([((x @ component) * y).real.sum(dim=1) for component in c], dim=-1)

    def _spline(self, flat):
        (ix, wx), (iy, wy) = (self._stencil(flat[:, axis]) for axis in (0, 1))
        a = self.coefficients[:, ix[:, :, None], iy[:, None, :]]
        return torch.einsum("cmpq,mp,mq->mc", a.to(wx.dtype), wx, wy)

    def _stencil(self, x):
        """Indices and weights, (n_points, degree + 1), of the B-spline rule at coordinates x."""
        scaled = torch.remainder(x / self.length, 1.0) * self.n
        cell = scaled.detach().floor()
        t = (scaled - cell)[:, None].to(torch.promote_types(x.dtype, self.coefficients.dtype))
        if self.interpolation == "bilinear":
            parts, first = (1 - t, t), 0
        else:
            parts, first = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3), -1
            parts = [part / 6 for part in parts]
        indices = cell.long()[:, None] + torch.arange(first, first + len(parts), device=x.device)
        return indices % self.n, torch.cat(list(parts), dim=1)


class TorusFeatures(nn.Module):
    """Points of the torus as 4 n_modes sines and cosines, which make a branch or an output periodic.

    x -> (sin(k q x_1), cos(k q x_1), sin(k q x_2), cos(k q x_2)),  k = 1, ..., n_modes,  q = 2 pi / length

    Parameters
    ----------
    n_modes : int, default=1
        Largest k, >= 1.
    length : float, default=1.0
        Period, > 0.

    Raises
    ------
    ValueError
        If n_modes < 1 or length <= 0 (raised by a helper).

    Examples
    --------
    >>> branch = nn.Sequential(TorusFeatures(), nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> branch(torch.zeros(5, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, n_modes=1, length=1.0):
        super().__init__()
        self.n_modes = checks.integer("n_modes", n_modes, at_least=1)
        self.length = checks.real("length", length, positive=True)

    def forward(self, x):
        """Evaluate the features.

        Parameters
        ----------
        x : Tensor of shape (..., 2)
            Anywhere in the plane.

        Returns
        -------
        Tensor of shape (..., 4 n_modes)
        """
        k = torch.arange(1, self.n_modes + 1, dtype=x.dtype, device=x.device) * (2 * math.pi / self.length)
        phase = x[..., None] * k
        return torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)


class CallableField(nn.Module):
    """A callable of NumPy arrays (..., 2), evaluated at tensors of points; a gradient through it is refused.

    It is evaluated on the CPU, in double precision.
    """

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, points):
        """Evaluate the callable at points (..., 2): shape (...) or (..., 2)."""
        _check_points(points)
        return _ThroughNumPy.apply(points, self.function)


class _ThroughNumPy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, function):
        values = np.array(function(points.detach().cpu().numpy()), dtype=np.float64)
        return torch.from_numpy(values).to(points.device)

    @staticmethod
    def backward(ctx, g):
        # A gradient that left this part out would be silently wrong.
        raise RuntimeError("no gradient passes through velocity or terminal data given as callables: give fields")


def _check_points(points):
    if not isinstance(points, torch.Tensor):
        raise ValueError(f"points must be a Tensor, got {type(points).__name__}: use torch.as_tensor")
    if points.dim() == 0 or points.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), got {tuple(points.shape)}")
