"""The Feynman-Kac mean: mean, standard error, and the learned weights of section 5."""

import math

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from torch import nn

from bridge import FeynmanKacMean, NoisyResidual, noise_from
from pde import convergence

FALSE_ALARM = 1e-6


class Counted(nn.Module):
    """The member a x: its k-th pass gives a x + k."""

    def __init__(self, a):
        super().__init__()
        self.a, self.calls = a, 0

    def forward(self, x):
        self.calls += 1
        return self.a * x + self.calls


def noisy_members(spreads=(1.0, 0.5, 2.0)):
    return [NoisyResidual(nn.Tanh(), coef=spread, scale="additive") for spread in spreads]


def inputs(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- mean and standard error --------------------------------------------------------------------------------------


@pytest.mark.parametrize("return_stderr", [False, True])
@pytest.mark.parametrize("weights", [None, (0.5, 0.25, 0.25), (1.5, -0.25, -0.25)])
@pytest.mark.parametrize("n_draws", [2, 5])
def test_mean_is_that_of_members_and_draws(weights, n_draws, return_stderr):
    mean = FeynmanKacMean([Counted(a) for a in (1.0, 2.0, 4.0)], n_draws, weights)
    x = inputs(3, 2)
    # The numbers of the passes, 1 ... n_draws, add their mean to every member; the weights have the sum 1.
    w = (1 / 3, 1 / 3, 1 / 3) if weights is None else weights
    expected = (w[0] + 2 * w[1] + 4 * w[2]) * x + (n_draws + 1) / 2
    answer = mean(x, return_stderr=return_stderr)
    if return_stderr:
        answer, stderr = answer
        # Variance of 1 ... D: D (D + 1) / 12.
        variance = sum(wk**2 for wk in w) * (n_draws + 1) / 12
        torch.testing.assert_close(stderr, torch.full_like(x, math.sqrt(variance)), rtol=1e-7, atol=0)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-14)
    assert all(member.calls == n_draws for member in mean.members)


def test_one_member_and_one_draw_is_the_member():
    member, x = Counted(3.0), inputs(3, 2)
    assert torch.equal(FeynmanKacMean([member])(x), 3 * x + 1)


def test_draws_are_members_by_draws_and_of_any_shape():
    mean = FeynmanKacMean([Counted(1.0), Counted(2.0)], n_draws=3)
    for shape in ((4,), (4, 2), (4, 2, 5)):
        x = inputs(*shape)
        assert mean.draws(x).shape == (2, 3, *shape)
        value, stderr = mean(x, return_stderr=True)
        assert value.shape == stderr.shape == shape
    mean.n_draws = 7
    assert len(mean.draws(x)[0]) == 7


@pytest.mark.parametrize("weights", [None, (0.6, 0.3, 0.1)])
def test_standard_error_is_the_spread_over_repetitions(weights):
    n_draws, n_repeats = 8, 4000
    mean = FeynmanKacMean(noisy_members(), n_draws, weights)
    # Rows of one input: independent repetitions, as additive noise does not couple images.
    x = inputs(1, 2).expand(n_repeats, 2)
    with noise_from(mean, torch.Generator().manual_seed(1)):
        values, stderrs = mean(x, return_stderr=True)
    w, spreads = np.array(weights or (1 / 3,) * 3), np.array([1.0, 0.5, 2.0])
    variance = float((w**2 * spreads**2).sum() / n_draws)
    # (n - 1) s**2 / variance is chi square with n - 1 degrees of freedom for the values, two columns of them; of
    # the 3 * 7 degrees in each stderr**2 the unbiased mean is taken, of relative s.d. sqrt(2 / 7) at most.
    low, high = scipy.stats.chi2.isf([1 - FALSE_ALARM / 4, FALSE_ALARM / 4], n_repeats - 1)
    for column in values.numpy().T:
        assert low < (n_repeats - 1) * column.var(ddof=1) / variance < high
    gap = float((stderrs**2).mean()) / variance - 1
    assert abs(gap) < convergence.z_threshold(1, FALSE_ALARM) * math.sqrt(2 / 7 / (2 * n_repeats))
    # The mean of all is the noise-free answer.
    exact = float((x[0] + x[0].tanh()).mean())
    assert abs(float(values.mean()) - exact) < 4.9 * math.sqrt(variance / (2 * n_repeats))


def test_error_of_the_mean_is_the_noise_not_the_difference_of_members():
    _, stderr = FeynmanKacMean([nn.ReLU(), nn.Tanh()], n_draws=2)(inputs(3, 2), return_stderr=True)
    assert not stderr.any()


def test_a_mean_of_means_is_the_mean():
    noisy = noisy_members()
    inner = [FeynmanKacMean(noisy[:2], n_draws=3), noisy[2]]
    x = inputs(5, 2)
    with noise_from(FeynmanKacMean(inner), torch.Generator().manual_seed(2)) as outer:
        answer = outer(x)
    with noise_from(nn.ModuleList(noisy), torch.Generator().manual_seed(2)):
        passes = [noisy[k](x) for k in (0, 0, 0, 1, 1, 1)]
        expected = (sum(passes) / 6 + noisy[2](x)) / 2
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [None, [0.25, 0.75]])
def test_many_draws_in_half_precision_keep_their_mean(dtype, weights):
    # 3 + 3 + ... in bfloat16 ends at 1024, 100 + 100 + ... in float16 beyond its range. Rounding: one unit of 2**-8.
    for value in (3.0, 100.0):
        mean = FeynmanKacMean([nn.Identity(), nn.Identity()], 1000, weights)(torch.full((2,), value, dtype=dtype))
        assert mean.dtype == dtype
        np.testing.assert_allclose(mean.float().numpy(), value, rtol=2**-7)


def test_precision_of_the_members_is_kept():
    x = inputs(3, 2)
    for weights in (None, (0.5, 0.25, 0.25), "learned"):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            assert FeynmanKacMean(noisy_members(), 2, weights)(x.to(dtype)).dtype == dtype
    # Thirds that single precision does not hold.
    same = FeynmanKacMean([nn.Identity()] * 3, n_draws=2)
    for answer in (same(x), same(x, return_stderr=True)[0]):
        torch.testing.assert_close(answer, x, rtol=0, atol=1e-15)


# --- learned weights (section 5) ----------------------------------------------------------------------------------


def printed_gradient(weights, logits, labels):
    """(5.1) and (5.2) for any number of networks: L is the sum of cross-entropies over the images."""
    gradient = np.zeros(len(weights))
    for k in range(len(weights)):
        for i, t in enumerate(labels):
            exponentials = np.exp(sum(w * member[i] for w, member in zip(weights, logits, strict=True)))
            gradient[k] -= logits[k][i, t] - (logits[k][i] * exponentials).sum() / exponentials.sum()
    return gradient


def learned(n_members=2, n_images=20, n_classes=5, **options):
    linear = [nn.Linear(7, n_classes, dtype=torch.float64) for _ in range(n_members)]
    with torch.no_grad():
        for k, layer in enumerate(linear):
            layer.weight.copy_(inputs(n_classes, 7, seed=k) * (1 + k))
    mean = FeynmanKacMean(linear, weights="learned", **options).double()
    labels = torch.randint(n_classes, (n_images,), generator=torch.Generator().manual_seed(9))
    return mean, inputs(n_images, 7, seed=8), labels


@pytest.mark.parametrize("n_members", [2, 3])
def test_gradient_in_the_weights_is_the_printed_one(n_members):
    mean, x, labels = learned(n_members)
    with torch.no_grad():
        mean.weights.copy_(torch.tensor([0.7, 0.4, -0.1][:n_members]) / (1.1 if n_members == 2 else 1))
    nn.CrossEntropyLoss(reduction="sum")(mean(x), labels).backward()
    logits = [member(x).detach().numpy() for member in mean.members]
    expected = printed_gradient(mean.weights.tolist(), logits, labels.tolist())
    np.testing.assert_allclose(mean.weights.grad.numpy(), expected, rtol=1e-11)


def test_update_is_the_gradient_step_of_an_epoch_normalised():
    mean, x, labels = learned(3)
    before, total = mean.weights.detach().clone(), 0.0
    optimiser = torch.optim.SGD(mean.members.parameters(), lr=1e-3)
    for batch in (slice(0, 5), slice(5, 20)):
        total = total + printed_gradient(
            before.tolist(), [member(x[batch]).detach().numpy() for member in mean.members], labels[batch].tolist()
        )
        optimiser.zero_grad()
        nn.CrossEntropyLoss(reduction="sum")(mean(x[batch]), labels[batch]).backward()
        optimiser.step()
        assert torch.equal(mean.weights, before)
    mean.update_weights(1e-4)
    expected = before.numpy() - 1e-4 * total
    np.testing.assert_allclose(mean.weights.detach().numpy(), expected / expected.sum(), rtol=1e-12)
    assert abs(mean.weights.sum().item() - 1) < 1e-15
    assert mean.weights.grad is None


def test_learned_weights_lower_the_loss_and_prefer_the_better_member():
    mean, x, _ = learned(2)
    # Labels of the second member: the loss falls as its weight grows.
    labels = mean.members[1](x).argmax(dim=1)
    losses = []
    for _ in range(20):
        loss = nn.CrossEntropyLoss(reduction="sum")(mean(x), labels)
        losses.append(loss.item())
        loss.backward()
        mean.update_weights(2e-3)
    assert losses == sorted(losses, reverse=True)
    assert mean.weights[1] > mean.weights[0]


def test_nonnegative_weights_stay_so():
    for nonnegative in (True, False):
        mean, _, _ = learned(3, nonnegative=nonnegative)
        mean.weights.grad = torch.tensor([10.0, -1.0, 0.0], dtype=torch.float64)
        mean.update_weights(0.1)
        # 1/3 - 1 = -2/3, 1/3 + 1/10 = 13/30, 1/3; over their sum, 23/30 if the first is cut to 0, else 1/10.
        expected = [0, 13 / 23, 10 / 23] if nonnegative else [-20 / 3, 13 / 3, 10 / 3]
        np.testing.assert_allclose(mean.weights.tolist(), expected, rtol=1e-6)


def test_weights_are_a_parameter_only_where_learned():
    x = inputs(3, 2)
    for weights, names in ((None, set()), ((0.5, 0.5), set()), ("learned", {"weights"})):
        mean = FeynmanKacMean([nn.Tanh(), nn.ReLU()], weights=weights)
        assert {name for name, _ in mean.named_parameters()} == names
        assert "weights" in mean.state_dict()
        # Weights of a checkpoint are those of the mean: no equal ones are assumed.
        if weights is not None:
            mean.load_state_dict({"weights": torch.tensor([0.25, 0.75])})
            torch.testing.assert_close(mean(x), 0.25 * x.tanh() + 0.75 * x.relu(), rtol=1e-14, atol=0)
        assert repr(mean).startswith("FeynmanKacMean(")


# --- doors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "members must not be empty"),
        ((nn.Sequential(nn.ReLU(), nn.ReLU()),), "members must be a list of networks, got one Sequential"),
        ((nn.ReLU(),), "members must be a list of networks, got one ReLU"),
        (([nn.ReLU()], 0), "n_draws must be an integer >= 1, got n_draws=0"),
        (([nn.ReLU()], 1.5), "n_draws must be an integer"),
        (([nn.ReLU()] * 2, 1, "equal"), "weights must be one of 'learned', got weights='equal'"),
        (([nn.ReLU()] * 2, 1, (1.0,)), "weights must be 2 finite numbers"),
        (([nn.ReLU()] * 2, 1, (math.nan, 1.0)), "weights must be 2 finite numbers"),
        (([nn.ReLU()] * 2, 1, ("a", "b")), "weights must be 2 finite numbers"),
        (([nn.ReLU()] * 2, 1, (0.5, 0.6)), "weights must have the sum 1, got 1.1"),
    ],
)
def test_members_draws_and_weights_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeynmanKacMean(*arguments)


def test_negative_weights_are_refused_where_nonnegative_ones_are_asked():
    with pytest.raises(ValueError, match="weights must be >= 0 with nonnegative=True, got -"):
        FeynmanKacMean([nn.ReLU()] * 2, 1, (1.5, -0.5), nonnegative=True)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match="n_draws must be >= 2 for a standard error, got n_draws=1"):
        FeynmanKacMean([nn.ReLU()])(inputs(1, 2), return_stderr=True)
    with pytest.raises(ValueError, match="weights must be 'learned' to be updated"):
        FeynmanKacMean([nn.ReLU()]).update_weights(0.1)
    mean, _, _ = learned()
    with pytest.raises(ValueError, match="needs the gradient of a backward pass"):
        mean.update_weights(0.1)
    with pytest.raises(ValueError, match="step_size must be finite and > 0"):
        mean.update_weights(0.0)
    for gradient in (10.0, math.nan):
        mean.weights.grad = torch.full((2,), gradient, dtype=torch.float64)
        with pytest.raises(FloatingPointError, match="take a smaller step_size than 1"):
            mean.update_weights(1.0)
        assert mean.weights.tolist() == [0.5, 0.5]


def test_masked_weights_are_refused():
    members = [torch.nn.Identity(), torch.nn.Identity()]
    with pytest.raises(ValueError, match="weights must not be masked, got 1 masked values"):
        FeynmanKacMean(members, weights=np.ma.array([0.5, 0.5], mask=[True, False]))
