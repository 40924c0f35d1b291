"""Planar networks as equations: their mean without drawing, their equation, and what is not one."""

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from torch import nn

import pde
from bridge import (
    FeynmanKacMean,
    NoisyResidual,
    ResidualNetwork,
    ResNetSDE,
    TorusFeatures,
    mean_field,
    network_from_velocity,
    noise_from,
    noise_off,
    problem_from_network,
)
from pde import convergence, grid, random_fields

FALSE_ALARM = 1e-6


class Positive(nn.Module):
    """0.1 to 0.3, periodic."""

    def __init__(self, length=1.0):
        super().__init__()
        self.body = nn.Sequential(TorusFeatures(length=length), nn.Linear(4, 1), nn.Tanh())

    def forward(self, x):
        return 0.2 + 0.1 * self.body(x)


def planar(n_layers=4, coef=0.15, *, scale="additive", noise="gaussian", length=1.0, seed=0):
    torch.manual_seed(seed)

    def perceptron(hidden, outputs):
        return nn.Sequential(TorusFeatures(length=length), nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, outputs))

    options = {"dt": 1 / n_layers, "coef": coef, "noise": noise}
    scales = [Positive(length) if scale == "module" else scale for _ in range(n_layers)]
    blocks = [NoisyResidual(perceptron(16, 2), scale=scale, **options) for scale in scales]
    return ResidualNetwork(blocks, nn.Sequential(perceptron(8, 1), nn.Flatten(0)))


def refined(net, n_substeps):
    return ResidualNetwork(ResNetSDE(net.blocks).refined(n_substeps).blocks, net.output)


@pytest.mark.parametrize("scale", ["additive", "module"])
@pytest.mark.parametrize("length", [1.0, 2.5])
def test_mean_without_drawing_is_that_of_quadrature(scale, length):
    net = planar(2, 0.8 if scale == "module" else 0.2, scale=scale, length=length).double()
    points = np.random.default_rng(0).uniform(0, length, (3, 2))
    z, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    # Nodes for each component and each of the two blocks.
    pairs = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    product = np.outer(weights, weights).ravel()
    with torch.no_grad():
        x, dt = torch.tensor(points), net.blocks[0].dt
        first = net.blocks[0](x[None].expand(len(pairs), 3, 2).reshape(-1, 2), _spread(pairs, 3, dt))
        second = net.blocks[1](first.repeat(len(pairs), 1), _spread(pairs, len(first), dt))
        values = net.output(second).reshape(len(pairs), len(pairs), 3).numpy()
    expected = np.einsum("i,j,ijk->k", product, product, values)
    field, error = mean_field(net, length=length)
    assert error < 1e-6
    np.testing.assert_allclose(field(points), expected, rtol=0, atol=3e-6)


def _spread(pairs, n_points, dt):
    """Standard normal nodes as increments of variance dt: each node for all points."""
    return torch.tensor(np.repeat(pairs, n_points, axis=0) * np.sqrt(dt))


def test_mean_of_the_network_tends_to_the_solution_with_order_one_in_its_steps():
    net = planar()
    problem = problem_from_network(net)
    assert problem.n_layers == 4
    assert problem.sigma == pytest.approx(0.15)
    solution, n_substeps, errors = pde.spectral.solve(problem, 64), np.array([2, 4, 8]), []
    for count in n_substeps:
        mean, _ = mean_field(refined(net, int(count)))
        errors.append(convergence.sup_norm(mean.on_grid(64) - solution.u))
    # C h (1 + r h), h = 1/8 ... 1/32: 0.12 allows |r| = 1.8. Errors of solver and sampling are 1e-6.
    assert abs(convergence.observed_order(1 / n_substeps, errors).order - 1) < 0.12
    assert errors[-1] > 1e-3


def test_error_of_the_ensemble_falls_with_the_square_root_of_the_draws():
    net, points = planar().double(), np.random.default_rng(1).uniform(size=(400, 2))
    exact, _ = mean_field(net)
    with torch.no_grad(), noise_from(net, torch.Generator().manual_seed(0)):
        for n_draws in (16, 256):
            mean, stderr = FeynmanKacMean([net], n_draws)(torch.tensor(points), return_stderr=True)
            scores = (mean.numpy() - exact(points)) / stderr.numpy()
            # Student's t with 15 or 255 degrees of freedom; the variance of 400 squares, to five standard errors.
            wide = (n_draws - 1) / (n_draws - 3)
            assert abs((scores**2).mean() / wide - 1) < 5 * np.sqrt(2 * 2 / 400)
            assert np.abs(scores.mean()) < 5 * np.sqrt(wide / 400)


def test_ensemble_agrees_with_the_equation_within_both_errors():
    # 8 steps per layer leave a bias below the standard error; 200 points, one family.
    net = planar(2).double()
    problem = problem_from_network(net)
    fine, points = refined(net, 8), np.random.default_rng(2).uniform(size=(200, 2))
    solution = pde.spectral.solve(problem, 64)
    with torch.no_grad(), noise_from(fine, torch.Generator().manual_seed(1)):
        mean, stderr = FeynmanKacMean([fine], 64)(torch.tensor(points), return_stderr=True)
    bias = convergence.sup_norm(mean_field(fine)[0].on_grid(64) - solution.u)
    gap = np.abs(mean.numpy() - solution.field(points))
    # Student's t of 64 draws, at 200 points.
    assert (gap <= scipy.stats.t.isf(FALSE_ALARM / 400, 63) * stderr.numpy() + bias).all()
    # So that the bias hides no other error. It is no random number, and 0.72 of the median of 200 standard errors,
    # which is known to 1.25 / sqrt(2 * 63 * 200) = 0.008 of its own: 1 is more than 30 of these away.
    assert bias < np.median(stderr.numpy())


def test_an_equation_comes_back_from_its_network():
    layers = np.stack([random_fields.band_limited(16, j, n_modes=2, length=2.0).values for j in range(3)])
    f = random_fields.terminal_datum(16, 5, n_modes=3, length=2.0)
    x = grid.points(16)[..., 0]
    fields = 0.3 + 0.1 * np.sin(2 * np.pi * x + np.arange(3)[:, None, None])
    for sigma in (0.3, np.array([0.1, 0.2, 0.3]), pde.PeriodicField(fields, 2.0)):
        problem = pde.ConvectionDiffusion(layers, f, sigma=sigma, length=2.0, horizon=0.6)
        back = problem_from_network(network_from_velocity(problem, 3), horizon=0.6, length=2.0)
        np.testing.assert_allclose(back.velocity.on_grid(16), layers, atol=1e-10)
        np.testing.assert_allclose(back.terminal.on_grid(16), f.values, atol=1e-10)
        if isinstance(sigma, pde.PeriodicField):
            np.testing.assert_allclose(back.sigma.on_grid(16), fields, atol=1e-10)
        else:
            np.testing.assert_allclose(back.sigma, sigma, rtol=1e-12)


def test_horizon_changes_the_unit_of_time_alone():
    net = planar(3)
    u = [pde.spectral.solve(problem_from_network(net, horizon=horizon), 48).u for horizon in (1.0, 7.0)]
    np.testing.assert_allclose(*u, rtol=0, atol=1e-6)


def test_positive_scale_becomes_a_field_and_networks_keep_their_precision():
    net = planar(2, 0.8, scale="module")
    dtype = next(net.parameters()).dtype
    problem = problem_from_network(net)
    assert problem.sigma.values.shape[:1] == (2,)
    x = torch.tensor([[0.3, 0.8]])
    expected = 0.8 * net.blocks[1].scale(x).item()
    assert problem.sigma_layer(1)([0.3, 0.8]) == pytest.approx(expected, rel=1e-5)
    assert next(net.parameters()).dtype == dtype
    # Several outputs are several terminal data.
    net.output = nn.Sequential(TorusFeatures(2), nn.Linear(8, 3))
    assert problem_from_network(net).n_terminals == 3


def test_blocks_may_have_different_features_of_the_torus():
    net = planar(2)
    net.blocks[1].branch = nn.Sequential(TorusFeatures(2), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    problem, x = problem_from_network(net), torch.tensor([[0.3, 0.8]])
    np.testing.assert_allclose(problem.layer_field(1)([[0.3, 0.8]]), net.blocks[1].branch(x).detach(), atol=1e-5)


def test_scale_of_a_network_without_noise_is_no_field():
    net = planar(2, scale="module")
    with noise_off(net):
        assert problem_from_network(net).sigma == 0


def test_networks_that_are_no_equation_are_refused_by_name():
    def refused(net, match, **options):
        with pytest.raises(ValueError, match=match):
            problem_from_network(net, **options)

    net = planar(2)
    branch, f = net.blocks[0].branch, net.output
    refused(nn.Sequential(nn.Linear(2, 8), net), "must be a ResidualNetwork.*lift to wider states, or a stage change")
    refused(FeynmanKacMean([net, planar(2)]), "2 members, each an equation of its own")
    wide = NoisyResidual(nn.Linear(8, 8), scale="additive")
    refused(ResidualNetwork([wide], f), r"blocks\[0\] does not take states of two components")
    refused(ResidualNetwork([NoisyResidual(branch)], f), "std_over='batch', which couples the paths of a batch")
    refused(ResidualNetwork([NoisyResidual(branch, std_over="sample")], f), "'sample', which vanishes where x_1 = x_2")
    refused(ResidualNetwork([NoisyResidual(branch, scale="multiplicative")], f), "neither periodic nor positive")
    plain = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    refused(ResidualNetwork([NoisyResidual(plain, scale="additive")], f), r"blocks\[0\] is not periodic")
    normalised = nn.Sequential(branch, nn.BatchNorm1d(2))
    refused(ResidualNetwork([NoisyResidual(normalised, scale="additive")], f), "BatchNorm1d in training mode")
    negative = NoisyResidual(branch, scale=nn.Sequential(TorusFeatures(), nn.Linear(4, 1, bias=False)))
    refused(ResidualNetwork([negative], f), "the scale of blocks.0. must be positive")
    two = NoisyResidual(branch, scale=nn.Sequential(TorusFeatures(), nn.Linear(4, 2), nn.Softplus()))
    refused(ResidualNetwork([two], f), "the scale of blocks.0. must be one number per point")
    flat = NoisyResidual(branch, scale=nn.Sequential(TorusFeatures(), nn.Linear(4, 1), nn.Softplus(), nn.Flatten(0)))
    refused(ResidualNetwork([flat], f), r"the scale of blocks.0. must have shape \(n_points, 1\), got \(16,\)")
    refused(ResidualNetwork(net.blocks, nn.Sequential(f, nn.Dropout())), "the output has a Dropout in training mode")
    refused(ResidualNetwork(net.blocks, nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))), "the output is not periodic")
    refused(ResidualNetwork(net.blocks), "terminal must be given")
    with pytest.raises(ValueError, match="stage change"):
        ResidualNetwork([NoisyResidual(branch, shortcut=nn.Linear(2, 2))])
    with pytest.raises(ValueError, match="noise must be 'gaussian'"):
        mean_field(planar(2, noise="laplace"))
    assert problem_from_network(planar(2, noise="laplace")).sigma == pytest.approx(0.15)
    with pytest.raises(pde.UnresolvedError, match=r"16 points per side do not resolve blocks\[0\]"):
        problem_from_network(net, n_max=16, rtol=1e-12)
    with pytest.raises(pde.UnresolvedError, match="n_max=32 leaves an error"):
        mean_field(planar(2, 0.0), n=16, n_max=32, rtol=1e-9)


class Waves(nn.Module):
    """Points to (amplitude sin(2 pi k x), 0), or with `scalar` to cos(2 pi k x)."""

    def __init__(self, k, amplitude=1.0, *, scalar=False):
        super().__init__()
        self.k, self.amplitude, self.scalar = 2 * np.pi * k, amplitude, scalar

    def forward(self, x):
        if self.scalar:
            return (self.k * x[:, 0]).cos()
        return torch.stack([self.amplitude * (self.k * x[:, 0]).sin(), 0 * x[:, 0]], dim=-1)


@pytest.mark.parametrize("n", [3, 4, 64])
def test_mean_of_waves_that_all_grids_take_for_a_constant(n):
    # On n and n / 2 points cos(2 pi n x) is 1. Noise of variance s**2 damps it by exp(-(2 pi n s)**2 / 2).
    s = 0.1 / (2 * np.pi * n)
    net = ResidualNetwork([NoisyResidual(Waves(1, 0.0), coef=s, scale="additive")], Waves(n, scalar=True))
    field, error = mean_field(net, n=n)
    x = np.random.default_rng(0).random((100, 2))
    assert np.abs(field(x) - np.exp(-0.005) * np.cos(2 * np.pi * n * x[:, 0])).max() <= 1.01 * error < 1.1e-6


@pytest.mark.parametrize("coef", [0.0, 1e-3])
def test_steps_that_vanish_on_all_grids_are_seen(coef):
    # On 64 points sin(2 pi 64 x) is 0: a step of 0.05 of them wanted 256 points and more.
    net = ResidualNetwork([NoisyResidual(Waves(64, 0.05), coef=coef, scale="additive")], Waves(1, scalar=True))
    with pytest.raises(pde.UnresolvedError, match="n_max=256 leaves an error of 0"):
        mean_field(net)


@pytest.mark.parametrize("function", [problem_from_network, mean_field])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": 0.0}, "rtol must be finite and > 0, got rtol=0"),
        ({"rtol": np.inf}, "rtol must be finite and > 0, got rtol=inf"),
        ({"n_max": 8}, "n_max must be an integer >= 16, got n_max=8"),
    ],
)
def test_tolerances_and_sizes_out_of_range_are_refused(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(planar(1), **options)


def test_one_point_has_no_coarser_grid():
    with pytest.raises(ValueError, match="n must be an integer >= 2, got n=1"):
        mean_field(planar(1), n=1)
