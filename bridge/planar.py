"""A planar network as an equation: its layers are velocities, its noise is sigma, its mean over the noise is u.

x_(l+1) = x_l + dt_l F_l(x_l) + coef_l scale_l(x_l) dB_l  on the 2-torus            a step of dX = v dt + sigma dB (Ito)
"""

import copy
import math

import numpy as np
import torch
from torch import nn

from bridge import checks
from bridge.dynamics import ResNetSDE
from bridge.ensemble import FeynmanKacMean
from bridge.network import ResidualNetwork
from pde import ConvectionDiffusion, PeriodicField, UnresolvedError, grid

__all__ = ["mean_field", "problem_from_network"]

# Points without a pattern, in periods, at which sampled fields are compared with the network.
_TRIED = np.random.default_rng(0).uniform(size=(512, 2))
# Rounding of a network in double precision, relative to its largest value.
_ROUNDING = 1e-9


def problem_from_network(net, terminal=None, *, horizon=1.0, length=1.0, rtol=1e-6, n_max=256):
    """Return the convection-diffusion equation of which a planar network is an Euler-Maruyama path.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  v = (dt_l / Dt) F_l,  sigma = (dt_l / Dt)**0.5 coef_l scale_l
    for l Dt <= t < (l + 1) Dt,  Dt = T / L,  u(x, T) = f(x)

    The mean of the network over its noise, `mean_field`, tends to u(x, 0) with order 1 as its steps are refined
    (`ResNetSDE.refined`). Where one step of the network is not small, the two differ.

    Parameters
    ----------
    net : ResidualNetwork
        Blocks that map points (n_points, 2) to the same shape and are periodic (`TorusFeatures`), with additive noise
        or none, or with a positive periodic module as their `scale`, of values (n_points, 1). Laplace noise has the
        same equation.
    terminal : Module, PeriodicField, array_like or callable, optional
        f; a module of points (n_points, 2) with values (n_points,) or (n_points, k) is sampled; by default the
        network's output.
    horizon : float, default=1.0
        T; u(x, 0) does not depend on it.
    length : float, default=1.0
        Period.
    rtol : float, default=1e-6
        Largest difference between network and sampled fields, relative to the fields' largest value; > 0.
    n_max : int, default=256
        Points per side of the samples, at most; >= 16.

    Returns
    -------
    ConvectionDiffusion
        sigma is a float, one number per layer, or a field of shape (L, n, n).

    Raises
    ------
    ValueError
        If the network is not an equation on the 2-torus: wider states, stage changes, std noise (over the batch it
        couples the paths; of two components it vanishes on the diagonal), multiplicative noise, batch
        normalisation or dropout in training mode, several members, or a part that is not periodic; or if rtol or n_max
        is out of range.
    UnresolvedError
        If n_max points per side do not resolve a layer or the terminal data.
    """
    net = _planar_network(net, length, rtol, n_max)
    sde = ResNetSDE(net.blocks, horizon)
    middles = [(layer + 0.5) * sde.dt for layer in range(len(net.blocks))]
    velocity = [
        _sampled(lambda x, t=t: sde.f(t, x), f"blocks[{i}]", length, rtol, n_max) for i, t in enumerate(middles)
    ]
    if any(block.is_noisy and isinstance(block.scale, nn.Module) for block in net.blocks):
        sigma = [
            _sampled(lambda x, t=t: sde.g(t, x)[..., :1], f"the scale of blocks[{i}]", length, rtol, n_max)
            for i, t in enumerate(middles)
        ]
        sigma = _stacked(sigma, length, scalar=True)
    else:
        start = torch.zeros(1, 2, dtype=torch.float64)
        sigma = np.array([float(sde.g(t, start).detach()[0, 0]) for t in middles])
        sigma = float(sigma[0]) if (sigma == sigma[0]).all() else sigma
    terminal = _terminal(net, terminal, length, rtol, n_max)
    return ConvectionDiffusion(_stacked(velocity, length), terminal, sigma=sigma, horizon=horizon, length=length)


def mean_field(net, terminal=None, *, length=1.0, rtol=1e-6, n=64, n_max=256):
    """Return the mean of a planar network over its Gaussian noise as a field, without drawing.

    u_l(x) = E u_(l+1)(x + dt F_l(x) + s_l(x) Z) = sum_k c_k exp(i k . (x + dt F_l(x)) - |k|**2 s_l(x)**2 / 2)

    with c_k the Fourier coefficients of u_(l+1), u_L = f and s_l**2 the variance of the noise of block l.

    Parameters
    ----------
    net : ResidualNetwork
        As for `problem_from_network`, with Gaussian noise or none.
    terminal : Module, PeriodicField, array_like or callable, optional
        f, (n_points, 2) to (n_points,); by default the network's output.
    length : float, default=1.0
        Period.
    rtol : float, default=1e-6
        Largest error_estimate, relative to max |f|.
    n, n_max : int, default=64 and 256
        Points per side, doubled from n until rtol is met, n_max at most.

    Returns
    -------
    field : PeriodicField
        Values of shape (n, n).
    error_estimate : float
        Largest difference from the field of half as many points per side, or what is missed at other points if that
        is more, plus the error of sampling f.

    Raises
    ------
    ValueError
        If the network is not planar, its noise is Laplace's, or an argument is out of range.
    UnresolvedError
        If n_max points per side do not meet rtol.
    """
    net, n = _planar_network(net, length, rtol, n_max), checks.integer("n", n, at_least=2)
    if any(block.is_noisy and block.noise != "gaussian" for block in net.blocks):
        raise ValueError("noise must be 'gaussian' for its mean to damp each mode by a known factor")
    noisy = any(block.is_noisy for block in net.blocks)
    sampling = min(rtol / 10, 1e-4)
    terminal = _terminal(net, terminal, length, sampling, n_max)
    f = ConvectionDiffusion(np.zeros((2, 4, 4)), terminal, sigma=0.0, length=length)
    f.refuse("mean_field", "terminals")
    scale = max(float(np.abs(values).max()) for values in (f.terminal_on_grid(n), f.terminal_at(_TRIED * length)))
    # Modes that add up to less than a hundredth of rtol are left out.
    negligible = min(rtol, 0.1) / 100 * scale / len(net.blocks)
    coarse, coarse_missed = _mean(net, f, n // 2, negligible)
    while True:
        fine, missed = _mean(net, f, n, negligible)
        # Grids of n and n / 2 points may be blind to the same modes, which other points see.
        gap = float(np.abs(fine.values - coarse.on_grid(n)).max())
        error = max(gap, missed if noisy else coarse_missed) + sampling * scale
        if error <= rtol * scale:
            # Without noise the finer values are the network's own: the error is that of the coarser field.
            return (fine if noisy else coarse), error
        if 2 * n > (n_max if noisy else 2 * n_max):
            raise UnresolvedError(f"n_max={n_max} leaves an error of {error:.2g}: raise n_max, or rtol={rtol:g}")
        coarse, coarse_missed, n = fine, missed, 2 * n


def _planar_network(net, length, rtol, n_max):
    """Return net in double precision, or raise a ValueError that gives the reason why it has no equation."""
    checks.real("rtol", rtol, positive=True)
    checks.integer("n_max", n_max, at_least=16)
    if isinstance(net, FeynmanKacMean):
        if net.n_members > 1:
            raise ValueError(f"net has {net.n_members} members, each an equation of its own: pass one of net.members")
        net = net.members[0]
    if not isinstance(net, ResidualNetwork):
        raise ValueError(
            f"net must be a ResidualNetwork, all of whose steps stay on the torus, got {type(net).__name__} "
            "(a lift to wider states, or a stage change, is not a time step)"
        )
    net = copy.deepcopy(net).double()
    for index, block in enumerate(net.blocks):
        name = f"blocks[{index}]"
        _check_mode(block, name)
        if block.is_noisy and block.scale == "std":
            why = "couples the paths of a batch" if block.std_over == "batch" else "vanishes where x_1 = x_2"
            raise ValueError(
                f"{name} has scale='std' with std_over={block.std_over!r}, which {why}: this is not a sigma(x)"
            )
        if block.is_noisy and block.scale == "multiplicative":
            raise ValueError(f"{name} has scale='multiplicative': sigma(x) = x is neither periodic nor positive")
        _check_branch(block, name, length)
    return net


def _check_mode(part, name):
    for module in part.modules():
        coupling = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd))
        if coupling and module.training:
            raise ValueError(f"{name} has a {type(module).__name__} in training mode: call eval() first")


@torch.no_grad()
def _check_period(part, name, length):
    x = torch.tensor(_TRIED[:16] * length)
    base, size = part(x), part(x).abs().max().clamp_min(1e-30)
    for shift in torch.eye(2, dtype=x.dtype) * length:
        gap = float((part(x + shift) - base).abs().max() / size)
        if gap > _ROUNDING:
            raise ValueError(f"{name} is not periodic: it changes by {gap:.2g} over a period (TorusFeatures is)")


def _check_branch(block, name, length):
    x = torch.tensor(_TRIED[:16] * length)
    with torch.no_grad():
        try:
            value = block.branch(x)
        except RuntimeError as error:
            raise ValueError(f"{name} does not take states of two components: {error}") from None
        if value.shape != x.shape:
            raise ValueError(f"{name} must map (n_points, 2) to the same shape, got {tuple(value.shape)}")
        _check_period(block.branch, name, length)
        if not (block.is_noisy and isinstance(block.scale, nn.Module)):
            return
        scale = block.scale(x)
        try:
            wide = scale.expand(x.shape)
        except RuntimeError:
            raise ValueError(f"the scale of {name} must have shape (n_points, 1), got {tuple(scale.shape)}") from None
        if not torch.allclose(wide, wide[:, :1], rtol=_ROUNDING, atol=0.0):
            raise ValueError(f"the scale of {name} must be one number per point: two are not a sigma(x)")
        if not (scale > 0).all():
            raise ValueError(f"the scale of {name} must be positive, got {float(scale.min()):.2g}")
        _check_period(block.scale, f"the scale of {name}", length)


@torch.no_grad()
def _values(function, points):
    return function(torch.tensor(points.reshape(-1, 2))).numpy()


def _sampled(function, name, length, rtol, n_max):
    """The values (k, n, n) on the smallest grid of a power of two whose trigonometric field is the function to rtol."""
    tried, n = _TRIED * length, 16
    wanted = _values(function, tried).reshape(len(tried), -1)
    while n <= n_max:
        values = _values(function, grid.points(n, length)).reshape(n * n, -1).T.reshape(-1, n, n)
        found = PeriodicField(values, length)(tried)
        gap, size = np.abs(found - wanted).max(), np.abs(values).max()
        if gap <= rtol * size:
            return values
        n *= 2
    raise UnresolvedError(
        f"{n_max} points per side do not resolve {name}: the error is {gap / size:.2g} of its maximum"
    )


def _stacked(layers, length, scalar=False):
    n = max(values.shape[-1] for values in layers)
    values = np.stack([PeriodicField(values, length).on_grid(n) for values in layers])
    values = values[:, 0] if scalar else values
    return PeriodicField(values[0] if len(layers) == 1 else values, length)


def _terminal(net, terminal, length, rtol, n_max):
    terminal = net.output if terminal is None else terminal
    if isinstance(terminal, nn.Identity):
        raise ValueError("terminal must be given: the network has no output")
    if not isinstance(terminal, nn.Module):
        return terminal
    terminal = copy.deepcopy(terminal).double()
    _check_mode(terminal, "the output")
    _check_period(terminal, "the output", length)
    values = _sampled(terminal, "the terminal data", length, rtol, n_max)
    return PeriodicField(values[0] if len(values) == 1 else values, length)


@torch.no_grad()
def _mean(net, f, n, negligible):
    """The mean on the grid of n points per side, from the last block to the first; what such grids miss elsewhere.

    A step does not increase the sup norm, so what the fields between the steps miss adds up and does not grow.
    """
    tried = _TRIED * f.length
    x = np.concatenate([grid.points(n, f.length).reshape(-1, 2), tried])

    def held(values):
        field = PeriodicField(values[: n * n].reshape(n, n), f.length)
        return field, float(np.abs(field(tried) - values[n * n :]).max())

    points = torch.tensor(x)
    if not any(block.is_noisy for block in net.blocks):
        # Nothing to average: the path itself, without interpolation.
        for block in net.blocks:
            points = block(points)
        return held(f.terminal_at(points.numpy()))
    field, missed = held(f.terminal_at(x))
    for block in reversed(net.blocks):
        drift, diffusion = block.drift_and_diffusion(points)
        ends = x + block.dt * drift.numpy()
        s = math.sqrt(block.dt) * np.broadcast_to(diffusion.numpy(), ends.shape)[:, 0]
        field, more = held(_smoothed(field, ends, s, negligible))
        missed += more
    return field, missed


def _smoothed(field, points, s, negligible):
    """E field(x + s Z) at points (m, 2) with s (m,), without modes that sum to less than `negligible`."""
    c = grid.coefficients(field.values, field.n_modes)
    size, k = np.abs(c), np.abs(np.arange(-field.n_modes, field.n_modes + 1))
    shells = np.bincount(np.maximum(k[:, None], k).ravel(), size.ravel())
    m = int(np.argmax(shells.sum() - np.cumsum(shells) <= negligible))
    kept = slice(field.n_modes - m, field.n_modes + m + 1)
    k = np.arange(-m, m + 1) * (2 * np.pi / field.length)
    half = c[kept, kept][:, m:] * np.where(np.arange(m + 1) == 0, 1.0, 2.0)
    damping = np.exp(-((s[:, None] * k) ** 2) / 2)
    x = np.exp(1j * points[:, :1] * k) * damping
    y = np.exp(1j * points[:, 1:] * k[m:]) * damping[:, m:]
    return np.einsum("pk,pk->p", x @ half, y).real
