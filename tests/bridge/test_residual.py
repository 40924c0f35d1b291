"""The noisy residual block: its definition option by option, its gradient, its noise, its parts."""

import copy
import io
import math
import pickle
from itertools import product

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from torch import nn

from bridge import NoisyResidual, noise_from, noise_off, noisy_blocks
from pde import convergence

FALSE_ALARM = 1e-6
SCALES = [("additive", "batch"), ("multiplicative", "batch"), ("std", "batch"), ("std", "sample")]


def images(*shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(**options)


def convolution(width=3, new_width=None, stride=1):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(11)
        return nn.Conv2d(width, new_width or width, 3, stride, padding=1, dtype=torch.float64)


def by_definition(x, block, dB):
    """Formula of the docstring, in NumPy."""
    start = block.shortcut(x).detach().numpy()
    y = start + block.dt * block.branch(x).detach().numpy()
    if block.scale == "additive":
        scale = 1.0
    elif block.scale == "multiplicative":
        scale = start
    elif block.std_over == "batch":
        scale = np.std(y, ddof=1)
    else:
        scale = np.array([np.std(image, ddof=1) for image in y]).reshape(-1, *[1] * (y.ndim - 1))
    return y + block.coef * scale * dB.numpy()


def released_std_noise(y, dB, coef, std_over):
    """As the released code forms it: `torch.std`, and autograd through it."""
    dims = tuple(range(y.dim()) if std_over == "batch" else range(1, y.dim()))
    return y + coef * torch.std(y, dim=dims, keepdim=True) * dB


class Still(nn.Module):
    """A branch of velocity 0."""

    def forward(self, x):
        return torch.zeros_like(x)


# --- definition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "std_over"), SCALES)
@pytest.mark.parametrize(("dt", "coef"), [(1.0, 0.1), (0.3, 1.7), (0.3, 0.0)])
@pytest.mark.parametrize("changes", [False, True])
def test_block_is_its_definition(scale, std_over, dt, coef, changes):
    shortcut = nn.Conv2d(3, 4, 1, 2, dtype=torch.float64) if changes else None
    branch = convolution(3, 4, 2) if changes else convolution()
    block = NoisyResidual(branch, dt=dt, coef=coef, scale=scale, std_over=std_over, shortcut=shortcut)
    x = images(5, 3, 8, 8)
    dB = images(*block(x).shape, seed=1)
    # Sums of some hundred numbers of size 1, in two orders.
    np.testing.assert_allclose(block(x, dB).detach().numpy(), by_definition(x, block, dB), rtol=0, atol=1e-13)
    assert block.is_time_step == (not changes)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize(("scale", "std_over"), SCALES)
@pytest.mark.parametrize("training", [True, False])
def test_noise_has_the_variance_of_its_definition_in_training_and_evaluation(noise, scale, std_over, training):
    n_draws, dt, coef = 400, 0.25, 0.3
    block = NoisyResidual(nn.Tanh(), dt=dt, coef=coef, noise=noise, scale=scale, std_over=std_over).train(training)
    x = images(2, 50) * torch.tensor([[1.0], [3.0]])  # Images of unequal deviation.
    still = by_definition(x, block, torch.zeros_like(x))
    deviation = by_definition(x, block, torch.ones_like(x)) - still
    with noise_from(block, torch.Generator().manual_seed(2)):
        z = np.stack([block(x).numpy() - still for _ in range(n_draws)]) / (deviation * math.sqrt(dt))
    # Per image, 50 n_draws numbers of mean 0, variance 1 and fourth moment 3 or 6: four normal scores.
    fourth = {"gaussian": 3, "laplace": 6}[noise]
    scores = z.mean(axis=(0, 2)) * math.sqrt(50 * n_draws)
    scores = [*scores, *((z**2).mean(axis=(0, 2)) - 1) * math.sqrt(50 * n_draws / (fourth - 1))]
    assert np.abs(scores).max() < convergence.z_threshold(4, FALSE_ALARM)


def test_answer_for_one_image_depends_on_its_neighbours_only_over_the_batch():
    x, dB = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    other = torch.cat([x[:1], 2 * x[1:]])
    alone = {}
    for std_over in ("batch", "sample"):
        block = NoisyResidual(convolution(), std_over=std_over)
        alone[std_over] = (block(x, dB)[0], block(other, dB)[0], block(x[:1], dB[:1])[0])
    for answer in alone["sample"][1:]:
        # Convolutions of one image and of several may add in another order.
        torch.testing.assert_close(answer, alone["sample"][0], rtol=0, atol=1e-14)
    for answer in alone["batch"][1:]:
        # The deviation changes by several per cent, the noise of size 0.1 with it.
        assert (answer - alone["batch"][0]).abs().max() > 1e-3


def test_channels_last_equals_contiguous():
    x, dB = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    last = {"memory_format": torch.channels_last}
    for std_over in ("batch", "sample"):
        block = NoisyResidual(convolution(), std_over=std_over)
        expected = block(x, dB)
        block = copy.deepcopy(block).to(**last)
        answer = block(x.to(**last), dB.to(**last))
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-13)
        assert block(x.to(**last)).is_contiguous(**last)


def test_half_precision_is_the_block_to_its_rounding():
    x, dB = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    for scale, std_over in SCALES:
        block = NoisyResidual(nn.Tanh(), coef=0.5, scale=scale, std_over=std_over)
        answer = block(x.bfloat16(), dB.bfloat16())
        assert answer.dtype == torch.bfloat16
        # Inputs, tanh, sum, deviation and result are rounded by 2**-9 each: x and tanh to parts of |x| + 1, the noise
        # in three factors; 6 roundings of numbers of size |x| + 1 + coef |scale dB| cover them.
        size = x.abs() + 1 + 0.5 * (x.abs() if scale == "multiplicative" else 2) * dB.abs()
        assert ((answer.double() - block(x, dB)).abs() < 6 * 2**-9 * size).all()


@pytest.mark.parametrize("std_over", ["batch", "sample"])
def test_half_precision_holds_the_sums_over_many_numbers(std_over):
    # Numbers of size 300, of which the square root of the sum of 2**17 squares, 1.1e5, is beyond float16's 65504.
    y, dB, weight = (images(2, 2**16, seed=seed) * size for seed, size in ((0, 300.0), (1, 1.0), (2, 1.0)))
    answers = []
    for dtype in (torch.float64, torch.float16):
        x = y.to(dtype).requires_grad_()
        answer = NoisyResidual(Still(), coef=0.5, std_over=std_over)(x, dB.to(dtype))
        # The gradient of the deviation alone, a sum over all numbers.
        gradient = torch.autograd.grad(answer, x, (weight + 5 * dB).to(dtype))[0] - (weight + 5 * dB).to(dtype)
        answers.append((answer.double(), gradient.double()))
    (exact, slope), (half, half_slope) = answers
    # Roundings of 2**-11 of y, dB, their product, its factor and the sum; the gradient, of size 5 * 0.5 * y / 300, is
    # the difference of numbers up to 30, rounded by 2**-7.
    assert ((half - exact).abs() < 5 * 2**-11 * (exact.abs() + y.abs() + 300)).all()
    assert slope.abs().max() > 5
    assert ((half_slope - slope).abs() < 2**-5).all()


def test_half_precision_under_autocast_draws_in_it():
    block = NoisyResidual(convolution().float())
    with torch.autocast("cpu", torch.bfloat16), noise_from(block, torch.Generator().manual_seed(0)):
        x = images(4, 3, 8, 8, dtype=torch.bfloat16)
        y = block(x)
    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()


# --- gradient -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std_over", ["batch", "sample"])
def test_gradient_through_the_deviation_is_that_of_torch_std(std_over):
    x, dB, weight = images(4, 3, 5, 5), images(4, 3, 5, 5, seed=1), images(4, 3, 5, 5, seed=2)
    branch = convolution()
    block = NoisyResidual(branch, dt=0.5, coef=0.7, std_over=std_over)
    gradients = []
    for step in (block, lambda x, dB: released_std_noise(x + 0.5 * branch(x), dB, 0.7, std_over)):
        start = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad((step(start, dB) * weight).sum(), [start, *branch.parameters()]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("scale", "std_over"), SCALES)
@pytest.mark.parametrize("n_substeps", [1, 3])
def test_gradient_is_that_of_differences(scale, std_over, n_substeps):
    block = NoisyResidual(nn.Tanh(), dt=0.5, coef=0.7, scale=scale, std_over=std_over).substep(n_substeps)
    x, dB = images(3, 4).requires_grad_(), images(3, 4, seed=1)
    assert torch.autograd.gradcheck(block, (x, dB))
    assert torch.autograd.gradcheck(block, (x, dB.requires_grad_()))
    # Second derivatives: of defences that compute gradients, and of trainings that compare them.
    assert torch.autograd.gradgradcheck(block, (x, dB))


def test_gradient_is_finite_where_all_numbers_are_equal():
    block = NoisyResidual(nn.Identity(), std_over="sample")
    x = torch.zeros(2, 8, requires_grad=True)
    block(x, torch.ones(2, 8)).sum().backward()
    # y = 2 x, and the subgradient 0 of the deviation.
    assert torch.equal(x.grad, torch.full((2, 8), 2.0))


# --- where the noise comes from -----------------------------------------------------------------------------------


def network(**options):
    return nn.Sequential(*(NoisyResidual(nn.Tanh(), **options) for _ in range(3)))


def test_noise_from_a_generator_is_reproducible_on_any_number_of_threads():
    net, x = network(), images(4, 500, dtype=torch.float32)
    answers, before = [], torch.get_num_threads()
    state = torch.random.get_rng_state()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            with noise_from(net, torch.Generator().manual_seed(3)) as same:
                assert same is net
                noise = net[0](x) - x - x.tanh()
                answers.append(noise / noise.std())
    finally:
        torch.set_num_threads(before)
    # The deviation is a sum whose order the threads decide: 2000 numbers in single precision.
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(block.generator is None for block in net)
    assert not torch.equal(net(x), net(x))


def test_noise_off_is_the_network_without_noise_and_ends():
    net, x = network(), images(4, 5)
    with noise_off(net):
        assert not any(block.is_noisy for block in net)
        assert torch.equal(net(x), network(noise=None)(x))
        with noise_off(net[0]):
            pass
        assert torch.equal(net(x), network(coef=0.0)(x))
    assert all(block.is_noisy for block in net)
    with pytest.raises(KeyError), noise_off(net):
        raise KeyError
    assert all(block.is_noisy for block in net)
    # Given increments are the caller's own: they are added whether the noise is on or off.
    with noise_off(net):
        assert not torch.equal(net[0](x, images(4, 5, seed=1)), net[0](x))


def test_noisy_blocks_are_found_wherever_they_are():
    net = network()
    assert noisy_blocks(nn.ModuleDict({"a": nn.Sequential(nn.ReLU(), net)})) == list(net)
    assert noisy_blocks(net[1]) == [net[1]]
    assert noisy_blocks(nn.ReLU()) == []


def test_two_blocks_and_two_passes_draw_anew():
    net, x = network(scale="additive", coef=1.0), torch.zeros(2, 50_000)
    first, second = (net[0](x).flatten() for _ in range(2))
    other = net[1](x).flatten()
    # Correlations of 1e5 pairs of independent numbers are of standard deviation 1e-2.5.
    for a, b in ((first, second), (first, other)):
        correlation = float(a @ b / 1e5)
        assert abs(correlation) < convergence.z_threshold(2, FALSE_ALARM) / math.sqrt(1e5)


# --- copies, parts, doors -----------------------------------------------------------------------------------------


def test_copies_are_the_same_block():
    block = NoisyResidual(convolution(), dt=0.5, coef=0.3, noise="laplace", std_over="sample").substep(2)
    x, dB = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    assert set(block.state_dict()) == {"branch.weight", "branch.bias"}
    for other in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert torch.equal(other(x, dB), block(x, dB))
        assert repr(other) == repr(block)
        assert other.branch.weight is not block.branch.weight
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize(("scale", "std_over"), SCALES)
@pytest.mark.parametrize("n_substeps", [1, 4])
def test_parts_share_the_branch_and_keep_drift_and_diffusion(scale, std_over, n_substeps):
    block = NoisyResidual(convolution(), dt=0.8, coef=0.3, noise="laplace", scale=scale, std_over=std_over)
    part = block.substep(n_substeps)
    x, dB = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    assert part.branch is block.branch
    assert part.dt == 0.8 / n_substeps
    drift, diffusion = block.drift_and_diffusion(x)
    for step in (block, part, part.substep(2)):
        for ours, whole in zip(step.drift_and_diffusion(x), (drift, diffusion), strict=True):
            assert torch.equal(ours, whole)
        torch.testing.assert_close(step(x, dB), x + step.dt * drift + diffusion * dB, rtol=0, atol=1e-13)
    assert repr(part).replace(f"dt={part.dt:g}", "dt=0.8") == repr(block)


def test_noise_of_the_parts_has_the_variance_of_the_block():
    block = NoisyResidual(Still(), dt=0.5, coef=0.3, scale="additive")
    part, x = block.substep(5), torch.zeros(1, 50_000, dtype=torch.float64)
    with noise_from(part, torch.Generator().manual_seed(4)):
        for _ in range(5):
            x = part(x)
    # Chi square of 5e4 numbers: both tails together 1e-6.
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], 50_000)
    assert low < float((x**2).sum()) / (0.3**2 * 0.5) < high


def test_off_noise_has_no_diffusion():
    x = images(4, 5)
    for block in (NoisyResidual(nn.Tanh(), noise=None), NoisyResidual(nn.Tanh(), coef=0.0)):
        assert not block.is_noisy
        drift, diffusion = block.drift_and_diffusion(x)
        assert torch.equal(drift, x.tanh())
        assert not diffusion.expand_as(x).any()
    block = NoisyResidual(nn.Tanh())
    with noise_off(block):
        assert not block.drift_and_diffusion(x)[1].any()
        assert not block.substep(2).is_noisy
    assert block.substep(2).is_noisy


def test_a_batch_without_images_passes():
    for scale, std_over in SCALES:
        block = NoisyResidual(convolution(), scale=scale, std_over=std_over)
        x = images(0, 3, 8, 8)
        assert block(x).shape == block(x, x).shape == x.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.0}, "dt must be finite and > 0, got dt=0"),
        ({"dt": math.nan}, "dt must be finite"),
        ({"coef": -0.1}, "coef must be finite and >= 0, got coef=-0.1"),
        ({"coef": math.inf}, "coef must be finite"),
        ({"coef": "a"}, "coef must be a number"),
        ({"noise": "uniform"}, "noise must be one of"),
        ({"scale": "batch"}, "scale must be one of"),
        ({"std_over": "image"}, "std_over must be one of"),
        ({"branch": None}, "branch must be a Module or a function of x, got None"),
        ({"shortcut": "identity"}, "shortcut must be a Module or a function of x, got 'identity'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NoisyResidual(**({"branch": nn.Tanh()} | options))


def test_increments_and_states_out_of_shape_are_refused():
    x = images(4, 5)
    with pytest.raises(ValueError, match=r"increment must have shape \(4, 5\), got \(4, 1\)"):
        NoisyResidual(nn.Tanh())(x, images(4, 1))
    with pytest.raises(ValueError, match="increment must be None for a block with noise=None"):
        NoisyResidual(nn.Tanh(), noise=None)(x, x)
    with pytest.raises(ValueError, match=r"needs two numbers or more per sample, got shape \(4,\)"):
        NoisyResidual(nn.Tanh(), std_over="sample")(x[:, 0])
    with pytest.raises(ValueError, match=r"needs two numbers or more per batch, got shape \(1, 1\)"):
        NoisyResidual(nn.Tanh())(x[:1, :1])
    with pytest.raises(ValueError, match=r"branch must keep the shape of the state, \(4, 5\), got \(4, 2\)"):
        NoisyResidual(nn.Linear(5, 2, dtype=torch.float64)).drift_and_diffusion(x)
    change = NoisyResidual(convolution(), shortcut=convolution())
    for use in (lambda: change.substep(2), lambda: change.drift_and_diffusion(images(1, 3, 8, 8))):
        with pytest.raises(ValueError, match="not a time step"):
            use()
    for n_substeps in (0, 1.5, True):
        with pytest.raises(ValueError, match="n_substeps must be an integer"):
            NoisyResidual(nn.Tanh()).substep(n_substeps)


def test_block_is_one_graph_to_a_compiler():
    block = NoisyResidual(nn.Tanh(), coef=0.3)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    x, dB = images(4, 5).requires_grad_(), images(4, 5, seed=1)
    answers = [step(x, dB) for step in (compiled, block)]
    torch.testing.assert_close(*answers, rtol=0, atol=1e-14)
    torch.testing.assert_close(*(torch.autograd.grad((y**2).sum(), x)[0] for y in answers), rtol=0, atol=1e-13)


def test_description_names_the_options():
    for scale, std_over in product(("std", "additive"), ("batch", "sample")):
        text = repr(NoisyResidual(nn.Tanh(), dt=0.5, noise="laplace", coef=0.2, scale=scale, std_over=std_over))
        assert "dt=0.5, noise='laplace', coef=0.2" in text
        assert (f"std_over='{std_over}'" in text) == (scale == "std")


@pytest.mark.parametrize(("n_in", "n_out"), [(3, 1), (1, 3)])
def test_a_branch_that_would_be_broadcast_is_refused(n_in, n_out):
    block = NoisyResidual(nn.Linear(n_in, n_out), noise=None)
    with pytest.raises(
        ValueError, match=rf"branch must keep the shape of the state, \(4, {n_in}\), got \(4, {n_out}\)"
    ):
        block(torch.zeros(4, n_in))
