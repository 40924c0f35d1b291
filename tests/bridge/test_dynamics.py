"""Between equation and network: a velocity field as residual blocks, trained blocks as an SDE."""

import copy
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import nets
import pde
from bridge import (
    FeynmanKacMean,
    NoisyResidual,
    ResidualNetwork,
    ResNetSDE,
    TorchField,
    network_from_velocity,
    noise_from,
    noise_off,
    noisy_blocks,
)
from bridge import fields as torch_fields
from pde import convergence, feynman_kac, problems

FALSE_ALARM = 1e-6
INTERPOLATIONS = ("trigonometric", "bilinear", "bicubic")


def random_points(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 2, (*shape, 2))


def rough(interpolation, *, n=8, n_layers=None, sigma=0.2, length=1.0, horizon=1.0, seed=3):
    rng = np.random.default_rng(seed)
    shape = (2, n, n) if n_layers is None else (n_layers, 2, n, n)
    velocity = pde.PeriodicField(0.2 * rng.uniform(-1, 1, shape), length, interpolation)
    terminal = pde.PeriodicField(rng.uniform(-1, 1, (n, n)), length, interpolation)
    return pde.ConvectionDiffusion(velocity, terminal, sigma=sigma, length=length, horizon=horizon)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("n", [1, 7, 8])
@pytest.mark.parametrize("components", [(), (2,), (3, 2)])
def test_field_and_its_gradient_are_those_of_pde(interpolation, n, components, monkeypatch):
    values = np.random.default_rng(n).uniform(-1, 1, (*components, n, n))
    field = pde.PeriodicField(values, 1.7, interpolation)
    points = np.concatenate([random_points(40), pde.grid.points(n, 1.7).reshape(-1, 2)[:5]])
    monkeypatch.setattr(torch_fields, "_BLOCK_ENTRIES", 400)  # Several blocks of points.
    x = torch.tensor(points, requires_grad=True)
    answer = TorchField(field)(x)
    np.testing.assert_allclose(answer.detach().numpy(), field(points), rtol=0, atol=1e-13)
    # Derivatives are larger than values by 2 pi n / (2 length) at most.
    flat = answer.reshape(len(points), -1)
    rows = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0].numpy() for column in flat.T]
    jacobian = np.stack(rows, axis=1).reshape(len(points), *components, 2)
    np.testing.assert_allclose(jacobian, field.jacobian(points), rtol=0, atol=1e-12)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_field_follows_precision_and_copies(interpolation):
    field = rough(interpolation).velocity
    module = TorchField(field)
    points = random_points(3, 4)
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(torch.tensor(points)), module(torch.tensor(points)))
    single = module.float()(torch.tensor(points, dtype=torch.float32))
    assert single.dtype == torch.float32
    # Points of size 2 are rounded by 2**-23, where gradients are below 2 pi 4 * 2; sums of 81 terms.
    np.testing.assert_allclose(single.numpy(), field(points), rtol=0, atol=1e-4)
    assert module.state_dict() == {}
    assert "shape=(2, 8, 8)" in repr(module)


def test_points_and_fields_of_another_kind_are_refused():
    problem = rough("bilinear")
    for module in (network_from_velocity(problem, 2), network_from_velocity(problems.doob(), 2)):
        with pytest.raises(ValueError, match="points must be a Tensor, got ndarray: use"):
            module(np.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"points must have shape \(..., 2\), got \(4, 3\)"):
            module(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="field must be a PeriodicField, got ndarray"):
        TorchField(np.zeros((4, 4)))


# --- a velocity as a network --------------------------------------------------------------------------------------


def assert_is_euler_maruyama(problem, n_steps, *shape):
    net = network_from_velocity(problem, n_steps)
    points = random_points(*shape)
    increments = normals(n_steps, 3, *shape, 2) * math.sqrt(problem.horizon / n_steps)
    ends = feynman_kac.euler_maruyama(problem, points, increments.numpy())
    states = ResidualNetwork(net.blocks)(torch.tensor(points), increments)
    np.testing.assert_allclose(states.numpy(), ends, rtol=0, atol=1e-13)
    answer = net(torch.tensor(points), increments)
    # f has slopes of 30 at most where its values are of size 1 on 8 points.
    np.testing.assert_allclose(answer.numpy(), problem.terminal_at(ends), rtol=0, atol=3e-12)
    assert answer.shape == (3, *shape)
    assert net(torch.tensor(points)).shape == shape


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("length", "horizon"), [(1.0, 1.0), (2.5, 0.7)])
def test_network_is_euler_maruyama(interpolation, length, horizon):
    assert_is_euler_maruyama(rough(interpolation, length=length, horizon=horizon), 10, 6)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("n_steps", [4, 12, 13])
def test_layers_of_a_velocity_are_crossed_in_order(interpolation, n_steps):
    assert_is_euler_maruyama(rough(interpolation, n_layers=4), n_steps, 2, 3)


def test_network_of_a_velocity_that_depends_on_time_is_euler_maruyama():
    values = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 2, 8, 8))

    def velocity(t):
        return pde.PeriodicField(np.cos(t) * values[0] + np.sin(5 * t) * values[1], interpolation="bicubic")

    assert_is_euler_maruyama(pde.ConvectionDiffusion(velocity, rough("bilinear").terminal, sigma=0.2), 9, 5)


def test_network_of_callables_is_euler_maruyama_and_refuses_a_gradient():
    problem = pde.ConvectionDiffusion(
        problems.doob().velocity, lambda x: np.sin(2 * np.pi * x).prod(axis=-1), sigma=0.3
    )
    assert_is_euler_maruyama(problem, 7, 5)
    points = torch.tensor(random_points(4), requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradient passes through velocity or terminal data given as callables"):
        network_from_velocity(problem, 2)(points).sum().backward()


def test_callables_count_by_their_values_in_the_cell():
    # A bump that is no periodic function, and a velocity that grows outside the cell.
    def bump(x):
        assert ((x >= 0) & (x < 2)).all()
        return np.exp(-((x - 1) ** 2).sum(-1) / 0.08)

    def velocity(x, t):
        assert ((x >= 0) & (x < 2)).all()
        return 0.8 + 0.3 * x

    with pytest.warns(UserWarning, match=r"velocity\(x, t\) jumps by 0.6 at the edge of the cell"):
        problem = pde.ConvectionDiffusion(velocity, bump, sigma=0.0, length=2.0)
    net, start = network_from_velocity(problem, 3), torch.tensor([[1.9, -0.3], [-1e-18, 2.0]], dtype=torch.float64)
    x = np.array([[1.9, 1.7], [0.0, 0.0]])
    for _ in range(3):
        x = np.mod(x + (0.8 + 0.3 * x) / 3, 2.0)
    np.testing.assert_allclose(net(start), bump(x), rtol=1e-12)


def test_network_without_diffusion_is_the_euler_method():
    problem = rough("bicubic", sigma=0.0)
    net, points = network_from_velocity(problem, 8), random_points(5)
    ends = feynman_kac.euler_maruyama(problem, points, np.zeros((8, 5, 2)))
    np.testing.assert_allclose(net(torch.tensor(points)).numpy(), problem.terminal_at(ends), rtol=0, atol=3e-12)
    assert all(block.noise is None for block in noisy_blocks(net))


def test_increments_are_taken_where_some_layers_have_no_noise():
    layers, points = rough("bicubic", n_layers=2), random_points(5)
    for sigma in (0.0, np.array([0.3, 0.0])):
        problem = pde.ConvectionDiffusion(layers.velocity, layers.terminal, sigma=sigma)
        increments = normals(4, 5, 2) / 2
        ends = feynman_kac.euler_maruyama(problem, points, increments.numpy())
        answer = network_from_velocity(problem, 4)(torch.tensor(points), increments)
        np.testing.assert_allclose(answer.numpy(), problem.terminal_at(ends), rtol=0, atol=3e-12)


@pytest.mark.parametrize("interpolation", ["trigonometric", "bicubic"])
def test_gradient_of_the_network_is_that_of_differences(interpolation):
    net = network_from_velocity(rough(interpolation), 3)
    points = torch.tensor(random_points(2), requires_grad=True)
    assert torch.autograd.gradcheck(net, (points, normals(3, 2, 2) / 3), rtol=1e-5, atol=1e-5)


def strong_shears(sigma):
    """Steady crossed shears, resolved by 8 points: a bias of 0.6 dt, 0.16 at four layers."""
    x, y = np.moveaxis(pde.grid.points(8), -1, 0) * (2 * np.pi)
    velocity = 0.3 * np.stack([np.sin(y), np.sin(x)])
    return pde.ConvectionDiffusion(velocity, np.cos(x), sigma=sigma)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_mean_of_the_network_converges_to_the_solution_with_order_one_in_the_layers(noise):
    problem, n_layers, n_paths, n_points = strong_shears(0.1), np.array([4, 8, 16]), 16_000, 8
    points = random_points(n_points, seed=1)
    u = pde.spectral.solve(problem, n=64, rtol=1e-9).field(points)
    biases, stderrs = [], []
    for count in n_layers:
        mean = FeynmanKacMean([network_from_velocity(problem, int(count), noise=noise)], n_draws=4)
        with noise_from(mean, torch.Generator().manual_seed(int(count))):
            values, errors = mean(torch.tensor(points).expand(n_paths // 4, n_points, 2), return_stderr=True)
        biases.append(convergence.l2_norm(values.mean(dim=0).numpy() - u))
        # The root mean square of n_points biases has the stderr of one over sqrt(n_points) at most.
        stderrs.append(math.sqrt(float((errors**2).mean()) / (n_paths / 4) / n_points))
    relative = convergence.relative_noise(stderrs, biases)
    assert relative.max() < 0.1
    # The slope is log(b_4 / b_16) / log 4. Its noise is passed with probability 1e-6 at 4.9 of its deviations; the next
    # term of the bias, C dt (1 + r dt), moves it by r (1/4 - 1/16) / log 4, and 0.1 allows |r| = 0.7.
    noise = math.hypot(relative[0], relative[2]) / math.log(4)
    assert abs(convergence.observed_order(1 / n_layers, biases).order - 1) < 0.1 + 4.9 * noise


def test_error_of_the_mean_falls_with_the_square_root_of_the_draws():
    problem, n_points = problems.constant_velocity(sigma=0.3), 256
    points = random_points(n_points, seed=2)
    # Exact in law: there is no bias, whatever n_layers.
    mean, n_draws, errors = FeynmanKacMean([network_from_velocity(problem, 3)]), np.array([4, 16, 64, 256]), []
    for count in n_draws:
        mean.n_draws = int(count)
        with noise_from(mean, torch.Generator().manual_seed(int(count))):
            values, stderrs = mean(torch.tensor(points), return_stderr=True)
        errors.append(convergence.l2_norm(values.numpy() - problem.exact(points)))
    # Of 256 normals the root mean square has a relative s.d. of 1 / sqrt(512) = 0.044; over four counts spaced by log 4
    # the slope has 0.044 / (log 4 sqrt(5)) = 0.0143, and 4.9 of these are passed with probability 1e-6.
    assert abs(convergence.observed_order(1 / n_draws, errors).order - 0.5) < 4.9 * 0.0143
    # The standard error says how large the error is; of 256 draws it is known to 1 / sqrt(512) of its own a point.
    z = convergence.z_scores(values.numpy(), stderrs.numpy(), problem.exact(points))
    assert np.abs(z).max() < convergence.z_threshold(n_points, FALSE_ALARM) * 1.1
    assert abs(convergence.l2_norm(z) - 1) < 4.9 * 0.044


def test_network_and_equation_are_inverses():
    problem = rough("bicubic", n_layers=4, sigma=0.3, horizon=0.7)
    net, points = network_from_velocity(problem, 8), torch.tensor(random_points(6))
    sde = ResNetSDE(net.blocks, horizon=0.7)
    for t in (0.0, 0.1, 0.36, 0.69):
        np.testing.assert_allclose(sde.f(t, points).numpy(), problem.velocity_at(points, t), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(sde.g(t, points).numpy(), np.full((6, 2), 0.3), rtol=1e-14)


# --- Donsker ------------------------------------------------------------------------------------------------------


def laplace_mean(problem, points, n_layers, q):
    """E f(X_T) for Laplace noise: 1 / (1 + q**2 var / 2) is the characteristic function of one component."""
    shrunk = np.prod([(1 + qi**2 * problem.sigma**2 * problem.horizon / n_layers / 2) ** -n_layers for qi in q])
    free = np.exp(problem.nu * (q @ q) * problem.horizon)
    return problem.exact(points) * free * shrunk


def test_laplace_and_gaussian_blocks_have_one_limit():
    q = 2 * np.pi * np.array([1, 1])
    problem = problems.constant_velocity(k=(1, 1), sigma=0.2)
    points, n_paths, n_layers = np.array([[0.33, -0.05]]), 400_000, np.array([2, 4, 8])
    u = problem.exact(points)[0]
    gaps, stderrs, exact, scores = [], [], [], []
    for count in n_layers:
        for noise in ("gaussian", "laplace"):
            net = network_from_velocity(problem, int(count), noise=noise)
            with noise_from(net, torch.Generator().manual_seed(int(count))):
                values = net(torch.tensor(points).expand(n_paths, 2)).numpy()
            mean, stderr = values.mean(), values.std(ddof=1) / math.sqrt(n_paths)
            truth = u if noise == "gaussian" else laplace_mean(problem, points, count, q)[0]
            scores.append((mean - truth) / stderr)
        gaps.append(mean - u)
        stderrs.append(stderr)
        exact.append(truth - u)
    # Gaussian steps have no bias here, Laplace steps that of the closed form: six scores.
    assert np.abs(scores).max() < convergence.z_threshold(6, FALSE_ALARM)
    relative = convergence.relative_noise(stderrs, gaps)
    assert relative.max() < 0.1
    # The gap is that of the fourth cumulants, of order 1 in 1 / n_layers, which its closed form shows at many layers.
    many = np.array([64, 128])
    limit = [laplace_mean(problem, points, count, q)[0] - u for count in many]
    assert abs(convergence.observed_order(1 / many, np.abs(limit)).order - 1) < 0.02
    slopes = [convergence.observed_order(1 / n_layers, np.abs(values)).order for values in (gaps, exact)]
    assert abs(slopes[0] - slopes[1]) < 4.9 * math.hypot(relative[0], relative[2]) / math.log(4)


class Still(nn.Module):
    """A branch of velocity 0."""

    def forward(self, x):
        return torch.zeros_like(x)


def test_fourth_cumulant_of_laplace_blocks_fades_with_the_layers():
    n_batches, n = 100, 10_000
    for noise, fourth in (("gaussian", 0.0), ("laplace", 3.0)):
        for count in (1, 4, 16):
            blocks = [NoisyResidual(Still(), dt=1 / count, coef=1.0, noise=noise, scale="additive")] * count
            net = ResidualNetwork(blocks)
            with noise_from(net, torch.Generator().manual_seed(count)):
                z = net(torch.zeros(n_batches, n)).double().numpy()
            # Variance 1 whatever the law and the layers, E z**4 = 3 + 3 / L for Laplace noise.
            for power, expected in ((2, 1.0), (4, 3 + fourth / count)):
                means = (z**power).mean(axis=1)
                score = (means.mean() - expected) / (means.std(ddof=1) / math.sqrt(n_batches))
                # Student's law of 99 degrees at a false-alarm rate of 1e-6 over 12 scores is passed at 6.0.
                assert abs(score) < 6.0


# --- a trained stage as an SDE ------------------------------------------------------------------------------------


def stage(index=0, **options):
    """Time steps of a noisy ResNet-20 with statistics and scales as training leaves them, in double precision."""
    net = nets.build("en1_resnet20", seed=0, **options).double().net.members[0]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.copy_(torch.rand(values.shape, generator=generator, dtype=torch.float64) + 0.5)
                for values in (module.bias, module.running_mean):
                    values.copy_(torch.randn(values.shape, generator=generator, dtype=torch.float64) * 0.2)
    blocks = net.eval().stages[index]
    return blocks if index == 0 else blocks[1:]


def smooth_blocks(count=3, width=4, **options):
    """Time steps with smooth branches of Lipschitz constants about 1."""
    blocks = []
    for index in range(count):
        linear = nn.Linear(width, width, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(normals(width, width, seed=index) / 2)
            linear.bias.copy_(normals(width, seed=10 + index) / 2)
        blocks.append(NoisyResidual(nn.Sequential(linear, nn.Tanh()), **options))
    return nn.Sequential(*blocks).requires_grad_(False)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("options", [{}, {"std_over": "sample", "noise": "laplace"}])
@pytest.mark.parametrize("horizon", [1.0, 2.5])
def test_torchsde_integrates_a_stage_unchanged(index, options, horizon):
    torchsde = pytest.importorskip("torchsde")
    blocks = stage(index, **options)
    shape, n_layers = ((16, 8, 8), 3) if index == 0 else ((32, 4, 4), 2)
    sde = ResNetSDE(blocks, horizon, state_shape=shape)
    x = normals(2, *shape)
    times = torch.tensor([layer * sde.dt for layer in range(n_layers + 1)], dtype=torch.float64)
    path = torchsde.BrownianInterval(0.0, horizon, size=(2, math.prod(shape)), dtype=torch.float64, entropy=7)
    with torch.no_grad():
        found = torchsde.sdeint(sde, x.flatten(1), times, bm=path, method="euler", dt=sde.dt)
        state, expected = x, [x]
        for block, start, end in zip(blocks, times[:-1], times[1:], strict=True):
            # dB of a block is of variance dt = 1, dW of variance T / L.
            state = block(state, path(start, end).reshape(x.shape) / math.sqrt(sde.dt))
            expected.append(state)
    # A few hundred sums of numbers of size 10 a layer, through three layers of slope 10.
    torch.testing.assert_close(found, torch.stack(expected).flatten(2), rtol=0, atol=1e-10)


def test_torchsde_gives_the_gradient_of_the_stage():
    torchsde = pytest.importorskip("torchsde")
    blocks = stage()
    sde = ResNetSDE(blocks, state_shape=(16, 4, 4))
    x = normals(2, 256)
    path = torchsde.BrownianInterval(0.0, 1.0, size=(2, 256), dtype=torch.float64, entropy=8)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = torchsde.sdeint(sde, x, times, bm=path, method="euler", dt=1 / 3)[-1]
    steps = [path(layer / 3, (layer + 1) / 3).reshape(2, 16, 4, 4) * math.sqrt(3) for layer in range(3)]
    expected = ResidualNetwork(blocks)(x.reshape(2, 16, 4, 4), torch.stack(steps)).flatten(1)
    gradients = [torch.autograd.grad((y**2).sum(), list(blocks.parameters())) for y in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("scale", "std_over"), [("additive", "batch"), ("multiplicative", "batch"), ("std", "sample")])
def test_torchsde_with_a_finer_step_is_the_refined_network(scale, std_over):
    torchsde = pytest.importorskip("torchsde")
    sde = ResNetSDE(smooth_blocks(coef=0.3, scale=scale, std_over=std_over), horizon=1.5)
    refined, n_steps, x = sde.refined(4), 12, normals(5, 4)
    path = torchsde.BrownianInterval(0.0, 1.5, size=(5, 4), dtype=torch.float64, entropy=9)
    found = torchsde.sdeint(sde, x, torch.tensor([0.0, 1.5], dtype=torch.float64), bm=path, method="euler", dt=1.5 / 12)
    dW = torch.stack([path(1.5 * k / 12, 1.5 * (k + 1) / 12) for k in range(n_steps)])
    torch.testing.assert_close(found[-1], refined(x, dW / math.sqrt(sde.dt)), rtol=0, atol=1e-12)


def test_refined_network_converges_to_the_solution_of_torchsde_by_another_method():
    torchsde = pytest.importorskip("torchsde")
    sde, finest, x = ResNetSDE(smooth_blocks(coef=0.3, scale="additive")), 64, normals(500, 4)
    dt = sde.dt / finest
    grid = torch.arange(3 * finest + 1, dtype=torch.float64) * dt
    path = torchsde.BrownianInterval(
        0.0, 1.0, size=(500, 4), dtype=torch.float64, entropy=3, levy_area_approximation="space-time"
    )
    dW = torch.stack([path(grid[k], grid[k + 1]) for k in range(3 * finest)])
    # The default method, srk, of strong order 1 and without Euler-Maruyama's error of the drift.
    exact = torchsde.sdeint(sde, x, grid[[0, -1]], bm=path, dt=4 * dt)[-1]
    n_substeps, errors = np.array([4, 8, 16]), []
    for count in n_substeps:
        dB = dW.reshape(3 * int(count), -1, 500, 4).sum(dim=1) / math.sqrt(sde.dt)
        errors.append(convergence.l2_norm((sde.refined(int(count))(x, dB) - exact).numpy()))
    # Order 1 with the next term: C h (1 + r h), h = 1/12 ... 1/48, where 0.1 allows |r| = 2.2.
    assert abs(convergence.observed_order(1 / n_substeps, errors).order - 1) < 0.1


def test_torchdiffeq_by_euler_is_the_stage_without_noise():
    torchdiffeq = pytest.importorskip("torchdiffeq")
    for index, shape in ((0, (16, 8, 8)), (1, (32, 4, 4))):
        blocks = stage(index)
        sde, x = ResNetSDE(blocks), normals(2, *shape)
        times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        with torch.no_grad(), noise_off(blocks):
            options = {"step_size": sde.dt, "perturb": True}
            found = torchdiffeq.odeint(sde, x, times, method="euler", options=options)[-1]
            torch.testing.assert_close(found, blocks(x), rtol=0, atol=1e-10)


def test_refined_network_without_noise_converges_to_the_adaptive_solution_with_order_one():
    torchdiffeq = pytest.importorskip("torchdiffeq")
    sde, x = ResNetSDE(smooth_blocks()), normals(5, 4)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    options = {"jump_t": sde.jump_times()}
    exact = torchdiffeq.odeint(sde, x, times, rtol=1e-10, atol=1e-10, options=options)[-1]
    n_substeps, errors = np.array([8, 16, 32]), []
    for count in n_substeps:
        with noise_off(sde.refined(int(count))) as network:
            errors.append(convergence.sup_norm((network(x) - exact).numpy()))
    # C h (1 + r h) with h = 1/24 ... 1/96: 0.05 allows |r| = 0.05 log 4 / (1/24 - 1/96) = 2.2.
    assert abs(convergence.observed_order(1 / n_substeps, errors).order - 1) < 0.05


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_drift_jumps_at_the_layers_and_for_sums_of_steps_a_little_before(dtype):
    sde = ResNetSDE(smooth_blocks(5).to(dtype), horizon=1.3)
    y = normals(1, 4).to(dtype)
    jumps = sde.jump_times(dtype)
    np.testing.assert_allclose(jumps.numpy(), 0.26 * np.arange(1, 5), rtol=1e-15 if dtype == torch.float64 else 1e-7)

    def holds(layer, drift):
        torch.testing.assert_close(drift, sde.blocks[layer].branch(y) / sde.dt, rtol=1e-6, atol=0)

    for layer, jump in enumerate(jumps):
        t = jump.to(dtype)
        before, after = (torch.nextafter(t, t + step) for step in (-1, 1))
        for time, index in ((before, layer), (t, layer + 1), (after, layer + 1)):
            holds(index, sde(time, y))
        holds(layer + 1, sde.f(before, y))
        holds(layer, sde.f(t - 2 * math.sqrt(torch.finfo(dtype).eps) * sde.dt, y))
    t = torch.zeros((), dtype=dtype)
    for layer in range(5):
        holds(layer, sde.f(t, y))
        for _ in range(10):
            t = t + sde.dt / 10
    # The first and the last layer hold beyond the ends.
    for time, layer in ((-0.1, 0), (1.3, 4), (1.5, 4)):
        holds(layer, sde(time, y))


@pytest.mark.parametrize("n_layers", [3, 4])
@pytest.mark.parametrize(("method", "order"), [("midpoint", 2), ("heun3", 3), ("rk4", 4)])
def test_fixed_steps_that_end_on_the_layers_have_the_order_of_their_method(n_layers, method, order):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    sde, x = ResNetSDE(smooth_blocks(n_layers), horizon=1.3), normals(5, 4)
    times = torch.tensor([0.0, 1.3], dtype=torch.float64)

    def solve(options, method=method, times=times):
        return torchdiffeq.odeint(sde, x, times, method=method, rtol=1e-12, atol=1e-13, options=options)[-1]

    exact, n_substeps = solve({"jump_t": sde.jump_times()}, "dopri5"), np.array([2, 4, 8])
    by_grid = [solve({"grid_constructor": sde.step_times(int(k)), "perturb": True}) for k in n_substeps]
    errors = [convergence.sup_norm((found - exact).detach().numpy()) for found in by_grid]
    # C h**p (1 + r h), h = 1/6 ... 1/32: 0.35 allows |r| = 3.
    assert abs(convergence.observed_order(1 / n_substeps, errors).order - order) < 0.35
    # Halves of a step are exact, so that their multiples meet the layers.
    for k, found in zip(n_substeps, by_grid, strict=True):
        by_step = solve({"step_size": sde.dt / int(k), "perturb": True})
        torch.testing.assert_close(by_step, found, rtol=0, atol=1e-13)
    # The times in between are those of the same steps, and of the same path backwards.
    grid = sde.step_times(3)(None, None, torch.tensor([0.1, 1.0], dtype=torch.float64))
    assert grid[0] == 0.1
    assert grid[-1] == 1.0
    assert {*sde.jump_times().tolist()} <= {*grid.tolist()}
    assert torch.equal(sde.step_times(3)(None, None, grid[[-1, 0]]), grid.flip(0))


def test_jump_times_spare_an_adaptive_solver_its_search():
    torchdiffeq = pytest.importorskip("torchdiffeq")
    sde, x = ResNetSDE(smooth_blocks(5)), normals(5, 4)
    times, n_calls = torch.tensor([0.0, 1.0], dtype=torch.float64), []
    for options in ({}, {"jump_t": sde.jump_times()}):
        calls = []
        torchdiffeq.odeint(
            lambda t, y, calls=calls: (calls.append(t), sde(t, y))[1], x, times, rtol=1e-8, atol=1e-8, options=options
        )
        n_calls.append(len(calls))
    assert n_calls[1] < n_calls[0] / 2


@pytest.mark.parametrize(("scale", "order"), [("additive", 1.0), ("multiplicative", 0.5)])
def test_refined_network_converges_strongly_with_the_order_of_its_noise(scale, order):
    sde, finest, x = ResNetSDE(smooth_blocks(coef=0.5, scale=scale)), 256, normals(1, 4).expand(4000, 4)
    dB = normals(3 * finest, 4000, 4, seed=1) / math.sqrt(finest)
    exact = sde.refined(finest)(x, dB)
    n_substeps, errors = np.array([2, 4, 8, 16]), []
    for count in n_substeps:
        summed = dB.reshape(3 * int(count), -1, 4000, 4).sum(dim=1)
        errors.append(convergence.l2_norm((sde.refined(int(count))(x, summed) - exact).numpy()))
    # The same paths at every step, so that the slope has next to no noise. The reference's own error moves it by less
    # than 0.05, at order 1/2 by log(1 + 1/16) / 2 / log 2 as errors add in squares; there the drift's error adds too.
    assert abs(convergence.observed_order(1 / n_substeps, errors).order - order) < 0.1


def test_refining_keeps_the_equation_and_the_variance_of_a_layer():
    for scale, std_over in (("additive", "batch"), ("multiplicative", "batch"), ("std", "batch"), ("std", "sample")):
        sde = ResNetSDE(smooth_blocks(coef=0.4, scale=scale, std_over=std_over), horizon=0.6)
        network = sde.refined(5)
        assert len(network.blocks) == 15
        assert {id(block.branch) for block in network.blocks} == {id(block.branch) for block in sde.blocks}
        again, y = ResNetSDE(network.blocks, horizon=0.6), normals(5, 4)
        for t in (0.0, 0.19, 0.21, 0.59):
            for ours, theirs in zip(again.f_and_g(t, y), sde.f_and_g(t, y), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-14)
        # Five increments of the parts have the variance of one of the block.
        assert math.isclose(5 * network.blocks[0].dt, sde.blocks[0].dt)


# --- sigma(t) -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std_over", ["batch", "sample"])
def test_effective_sigma_is_the_noise_that_a_block_adds(std_over):
    blocks, a, n_draws = stage(std_over=std_over), 0.1, 200
    x = normals(2, 16, 4, 4) * torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    sde, generator = ResNetSDE(blocks), torch.Generator()
    with noise_from(sde, generator.manual_seed(6)):
        sigma = sde.effective_sigma(x)
    assert sigma.shape == (3, 2)
    states = [x]
    with torch.no_grad(), noise_from(sde, generator.manual_seed(6)):
        for block in blocks[:-1]:
            states.append(block(states[-1]))
    with torch.no_grad(), noise_from(sde, generator.manual_seed(7)):
        for layer, (block, state) in enumerate(zip(blocks, states, strict=True)):
            quiet = state + block.branch(state)
            # DESIGN: sigma = a s sqrt(L), s the deviation of the output.
            s = quiet.std().expand(2) if std_over == "batch" else quiet.flatten(1).std(dim=1)
            torch.testing.assert_close(sigma[layer], a * s * math.sqrt(3), rtol=1e-12, atol=0)
            # sigma**2 Dt is the variance that the block adds: of 256 n_draws normals, to sqrt(2 / 51200); six scores.
            added = torch.stack([block(state) - quiet for _ in range(n_draws)])
            scores = (added.square().mean(dim=(0, 2, 3, 4)) / (sigma[layer] ** 2 / 3) - 1) / math.sqrt(2 / 51200)
            assert scores.abs().max() < convergence.z_threshold(6, FALSE_ALARM)


def test_effective_sigma_of_other_scales_and_of_no_noise():
    x = normals(5, 4)
    additive = ResNetSDE(smooth_blocks(coef=0.3, scale="additive", dt=0.5), horizon=1.5)
    np.testing.assert_allclose(additive.effective_sigma(x).numpy(), np.full((3, 5), 0.3), rtol=1e-14)
    multiplicative = ResNetSDE([NoisyResidual(nn.Tanh(), coef=0.3, scale="multiplicative")], state_shape=(2, 2))
    expected = 0.3 * x.square().mean(dim=1).sqrt()
    torch.testing.assert_close(multiplicative.effective_sigma(x)[0], expected, rtol=1e-14, atol=0)
    with noise_off(additive):
        assert not additive.effective_sigma(x).any()
        assert not additive.g(0.0, x).any()


# --- doors --------------------------------------------------------------------------------------------------------


def test_stages_that_are_no_sde_are_refused():
    net = nets.build("en1_resnet20", seed=0).net.members[0]
    for use in (ResNetSDE, ResidualNetwork):
        with pytest.raises(ValueError, match=r"blocks\[0\] is a stage change, which is not a time step"):
            use(net.stages[1])
        with pytest.raises(ValueError, match=r"blocks\[1\] must be a NoisyResidual, got ReLU"):
            use([net.stages[0][0], nn.ReLU()])
        with pytest.raises(ValueError, match="blocks must not be empty"):
            use([])
    with pytest.raises(ValueError, match="blocks must share one state space, got 16 and 32 channels"):
        ResNetSDE([*net.stages[0], *net.stages[1][1:]])
    with pytest.raises(ValueError, match=r"problem must be a ConvectionDiffusion, .* got int"):
        network_from_velocity(3, 2)
    with pytest.raises(ValueError, match="horizon must be finite and > 0"):
        ResNetSDE(net.stages[0], 0.0)
    with pytest.raises(ValueError, match="state_shape must be an integer >= 1"):
        ResNetSDE(net.stages[0], state_shape=(16, 0, 8))
    with pytest.raises(ValueError, match="n_substeps must be an integer >= 1"):
        ResNetSDE(net.stages[0]).refined(0)
    sde = ResNetSDE(net.stages[0], state_shape=(16, 8, 8))
    with pytest.raises(ValueError, match=r"y must have shape \(n_images, \*\(16, 8, 8\)\), flat or not, got \(2, 7\)"):
        sde.f(0.0, torch.zeros(2, 7))
    with pytest.raises(ValueError, match="branch must keep the shape of the state"):
        ResNetSDE([NoisyResidual(nn.Linear(4, 2))]).f(0.0, torch.zeros(2, 4))


def test_networks_that_cannot_be_are_refused():
    problem = problems.constant_velocity()
    for n_layers in (0, 2.5):
        with pytest.raises(ValueError, match="n_layers must be an integer"):
            network_from_velocity(problem, n_layers)
    with pytest.raises(ValueError, match="n_layers must be >= 4, one per layer of the problem, got 3"):
        network_from_velocity(rough("bilinear", n_layers=4), 3)
    with pytest.raises(ValueError, match="noise must be one of"):
        network_from_velocity(problem, 2, noise="two-point")
    net = network_from_velocity(problem, 3)
    with pytest.raises(ValueError, match="increments must be 3, one per block, got 2"):
        net(torch.zeros(4, 2), torch.zeros(2, 4, 2))
