"""Sparsity and smoothness of weights: closed forms of known weights, invariances, intervals, errors."""

import copy
import itertools
import math

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from nets import build, sparsity
from nets._geary import picture, smoothness
from nets.evaluation import interval
from nets.sparsity import intervals, measure, members, numbers, weights

FALSE_ALARM = 1e-6
Z = scipy.stats.norm.isf(FALSE_ALARM / 2)
SCALE_FREE = ("relative", "kurtosis", "hoyer", "smoothness", "picture")


def normal_layer(deviation, seed=0, shape=(64, 64, 3, 3)):
    return deviation * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("deviation", [0.002, 0.04, 1.0])
def test_normal_weights_have_the_fractions_of_the_error_function(deviation):
    found = numbers(normal_layer(deviation))
    for measured, t in ((found.below, 1e-3 / deviation), (found.relative, 0.1)):
        p = math.erf(t / math.sqrt(2))
        # Binomial counts; that the rms of `relative` is the sample's own moves it by 1 / sqrt(2 n) of itself and less.
        limit = Z * (math.sqrt(p * (1 - p) / found.n) + p / math.sqrt(2 * found.n))
        assert abs(measured - p) < limit
    # d log erf / d log r is between -1 and 0, and log rms has the standard error 1 / sqrt(2 n), here 0.4 %; the square
    # of its 4.9-fold adds two hundredths.
    assert abs(found.gaussian / math.erf(1e-3 / deviation / math.sqrt(2)) - 1) < Z / math.sqrt(2 * found.n) * 1.02
    # Standard errors of normal samples: sqrt(24 / n) of the kurtosis; that of mean |w|, sqrt((1 - 2 / pi) / n), bounds
    # that of mean |w| / rms, which share their noise. Hoyer's number has sqrt(n) - 1 below the line, not sqrt(n).
    assert abs(found.kurtosis - 3) < Z * math.sqrt(24 / found.n)
    limit = Z * math.sqrt((1 - 2 / math.pi) / found.n) + 1 / (math.sqrt(found.n) - 1)
    assert abs(found.hoyer - (1 - math.sqrt(2 / math.pi))) < limit


def test_counts_of_a_few_weights_are_those_counted_by_hand():
    weight = np.array([[0.0, 0.0009], [-0.0009, 0.001], [0.5, -2.0]])
    found = numbers(weight)
    assert (found.n, found.below) == (6, 3 / 6)
    assert numbers(weight, threshold=0.6).below == 5 / 6
    # rms = sqrt(4.25 / 6) = 0.84
    assert numbers(weight, relative=0.6).relative == 5 / 6
    assert found.kurtosis == pytest.approx(6 * (0.5**4 + 16) / 4.25**2, rel=1e-5)


def test_sparsity_of_one_weight_and_of_equal_weights_are_its_ends():
    one = np.zeros((4, 4, 3, 3))
    one[2, 1, 0, 2] = -0.3
    found = numbers(one)
    assert (found.hoyer, found.kurtosis) == pytest.approx((1, one.size))
    signs = np.sign(normal_layer(1.0, shape=(8, 8, 3, 3)))
    assert (numbers(signs).hoyer, numbers(signs).kurtosis) == pytest.approx((0, 1))


def test_what_has_no_meaning_is_none():
    zeros = numbers(np.zeros((4, 4, 3, 3)))
    assert (zeros.below, zeros.gaussian) == (1, 1)
    assert {getattr(zeros, key) for key in SCALE_FREE} == {None}
    assert numbers(normal_layer(1.0, shape=(8, 8, 1, 1))).smoothness is None
    assert numbers(np.full((4, 4, 3, 3), 0.2)).smoothness is None
    assert numbers(np.ones(16)).picture is None


def geary_deviation(n_copies, height, width):
    """Standard deviation of Geary's ratio for independent normals on copies of a height x width rectangle (Geary 1954).

    Var C = ((2 S1 + S2) (n - 1) - 4 W**2) / (2 (n + 1) W**2), W = 2 pairs, S1 = 2 W, S2 = 4 sum degree**2
    """
    degree = np.zeros((height, width))
    degree[1:] += 1
    degree[:-1] += 1
    degree[:, 1:] += 1
    degree[:, :-1] += 1
    n, total, squares = n_copies * height * width, n_copies * degree.sum(), n_copies * np.sum(degree**2)
    return math.sqrt(((4 * total + 4 * squares) * (n - 1) - 4 * total**2) / (2 * (n + 1) * total**2))


def test_smoothness_of_independent_weights_is_one():
    weight = normal_layer(0.3, seed=1)
    # The ratio is normal in the limit of many weights.
    assert abs(smoothness(weight) - 1) < Z * geary_deviation(64 * 64, 3, 3)
    assert abs(smoothness(picture(weight)) - 1) < Z * geary_deviation(1, 192, 192)


def test_smoothness_is_one_exactly_over_all_orders_of_any_weights():
    values = [0.0, 0.0, 1.0, -3.0, 10.0, 0.5]
    orders = np.array([smoothness(np.reshape(order, (1, 1, 2, 3))) for order in itertools.permutations(values)])
    assert orders.mean() == pytest.approx(1, rel=1e-12)
    assert orders.std() > 0.1


def test_smoothness_of_known_kernels():
    rng = np.random.default_rng(2)
    constant = np.broadcast_to(rng.standard_normal((16, 16, 1, 1)), (16, 16, 3, 3))
    assert smoothness(constant) == 0
    # The picture sees the borders: of 47 steps along an axis 15 cross one, each as large as between two kernels. The
    # variance of 2304 weights is that of 256, but for one degree of freedom in each.
    between = smoothness(constant[..., 0, 0]) * 15 / 47
    assert smoothness(picture(constant)) == pytest.approx(between * 2303 / (9 * 255))
    board = np.indices((3, 3)).sum(axis=0) % 2 * 2.0 - 1
    # Neighbours differ by 2; of m kernels, 5 taps are -1 and 4 are 1: s**2 = (1 - 1/81) n / (n - 1).
    n = 9 * 100
    assert smoothness(np.tile(board, (10, 10, 1, 1))) == pytest.approx(4 / (2 * (1 - 1 / 81) * n / (n - 1)))
    # a x + b y: squares a**2 and b**2 in equal numbers, variance (a**2 + b**2) 2/3 of nine taps.
    x, y = np.meshgrid([-1.0, 0, 1], [-1.0, 0, 1])
    plane = 0.7 * x - 0.2 * y
    assert smoothness(plane) == pytest.approx((0.49 + 0.04) / 2 / (2 * (0.49 + 0.04) * (2 / 3) * 9 / 8))


def test_smoothness_knows_neither_scale_nor_offset_nor_which_axis_is_which():
    weight = normal_layer(1.0, seed=3, shape=(5, 7, 3, 3))
    moved = [3 * weight, weight + 11, weight[..., ::-1, :], weight.swapaxes(-1, -2), weight[::-1, ::-1]]
    assert [smoothness(other) for other in moved] == pytest.approx([smoothness(weight)] * len(moved))


def test_picture_has_each_tap_where_the_formula_puts_it():
    weight = np.arange(2 * 5 * 3 * 4).reshape(2, 5, 3, 4)
    laid_out = picture(weight)
    assert laid_out.shape == (6, 20)
    for i, j, a, b in np.ndindex(weight.shape):
        assert laid_out[3 * i + a, 4 * j + b] == weight[i, j, a, b]
    linear = np.arange(6).reshape(2, 3)
    assert (picture(linear) == linear).all()


def test_numbers_of_all_layers_are_those_of_the_concatenated_weights():
    model = build("en2_resnet20", seed=0)
    found = measure(model)
    arrays = weights(model)
    assert list(found.layers) == list(arrays)
    everything = np.concatenate([array.ravel() for array in arrays.values()])
    units = np.concatenate([array.ravel() / math.sqrt(np.mean(array**2)) for array in arrays.values()])
    whole = numbers(units)
    total = found.total
    assert total.n == everything.size == 2 * 270_896
    assert total.below == pytest.approx(np.mean(np.abs(everything) < 1e-3))
    assert total.rms == pytest.approx(math.sqrt(np.mean(everything**2)))
    assert (total.relative, total.kurtosis, total.hoyer) == pytest.approx((whole.relative, whole.kurtosis, whole.hoyer))


def test_new_convolutions_are_as_sparse_as_normals_and_independent():
    found = measure(build("resnet20", seed=1))
    total = found.total
    # Convolutions are normal at first, the 640 weights of the linear layer uniform.
    p = total.gaussian
    assert abs(total.below - p) < Z * math.sqrt(p / total.n) + 640 / total.n
    n_taps = sum(layer.n for layer in found.layers.values() if layer.smoothness is not None)
    # Weighted by weights, the layers' ratios have the deviation of one layer of all weights.
    assert abs(total.smoothness - 1) < Z * geary_deviation(n_taps // 9, 3, 3)


def test_members_are_the_networks_of_sums_and_ensembles():
    model = build("en2_resnet20+en1_resnet32", seed=0)
    found = members(model)
    assert [measure(member).total.n for member in found] == [270_896, 270_896, measure(found[2]).total.n]
    assert measure(model).total.n == sum(measure(member).total.n for member in found)
    assert members(build("resnet20", seed=0))[0].stem.weight.shape == (16, 3, 3, 3)


def test_parameters_of_batch_normalisation_count_on_request_and_change_the_fraction_by_their_share_at_most():
    model = build("resnet20", seed=0)
    some, everything = measure(model), measure(model, parameters="all")
    n_other = everything.total.n - some.total.n
    assert everything.total.n == sum(p.numel() for p in model.parameters())
    names = set(everything.layers) - set(some.layers)
    assert all(name.endswith((".weight", ".bias")) for name in names)
    # New shifts are 0: below any threshold. Scales are 1. The ten biases of the linear layer may be anything.
    n_shifts = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias")) - 10
    counted = everything.total.below * everything.total.n - some.total.below * some.total.n
    assert n_shifts - 1e-6 <= counted <= n_shifts + 10 + 1e-6
    assert abs(everything.total.below - some.total.below) <= n_other / everything.total.n


def test_a_scale_that_changes_no_answer_changes_the_papers_fraction_alone():
    model = build("resnet20", seed=0).double().train()
    for module in model.modules():
        # What is added to variances has a scale of its own; PyTorch refuses 0.
        module.eps = 1e-12
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in scaled.named_parameters():
            # The first convolution of each residual mapping of a time step, in front of a batch normalisation.
            if name.endswith("branch.2.weight"):
                parameter *= 0.25
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(scaled(x), model(x), rtol=1e-6)
    before, after = measure(model), measure(scaled)
    for name, layer in before.layers.items():
        other = after.layers[name]
        assert [getattr(other, key) for key in SCALE_FREE] == pytest.approx([getattr(layer, key) for key in SCALE_FREE])
    for key in SCALE_FREE:
        assert getattr(after.total, key) == pytest.approx(getattr(before.total, key))
    # 37 % of the weights are 4 times smaller, so that 4 times as many are below: 1 + 3 * 0.37 in all.
    assert after.total.below > 1.5 * before.total.below


def test_intervals_of_two_and_three_values_are_the_closed_forms_of_student():
    # One degree of freedom is Cauchy's distribution; two have (2 p - 1) / sqrt(2 p (1 - p)).
    two, three = interval([1.0, 4.0], 0.9), interval([1.0, 2.0, 3.0])
    assert (two.mean, two.stderr, two.n) == (2.5, pytest.approx(1.5), 2)
    assert two.high - two.mean == pytest.approx(1.5 * math.tan(0.45 * math.pi))
    p = 0.975
    reach = (2 * p - 1) / math.sqrt(2 * p * (1 - p)) / math.sqrt(3)
    assert (three.low, three.high) == pytest.approx((2 - reach, 2 + reach))
    assert interval([7.0]) == (7.0, None, None, None, 1)


def test_intervals_over_models_are_those_of_their_numbers():
    models = [build("resnet20", seed=seed) for seed in range(3)]
    found = intervals(models, level=0.9, threshold=2e-3)
    below = [measure(model, threshold=2e-3).total.below for model in models]
    assert found["below"] == interval(below, 0.9)
    assert found["kurtosis"].n == 3
    assert set(found) == set(sparsity.Numbers._fields) - {"n"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbers([1.0], threshold=0), "threshold must be finite and > 0, got threshold=0"),
        (lambda: numbers([1.0], relative=-1), "relative must be finite and > 0, got relative=-1"),
        (lambda: numbers([]), "weight must not be empty"),
        (lambda: weights(torch.nn.ReLU()), "has none"),
        (lambda: weights(torch.nn.Linear(2, 2), parameters="conv"), "parameters must be one of"),
        (lambda: smoothness([1.0]), "values must have shape"),
        (lambda: smoothness([[1.0, np.nan]]), "values must be finite"),
        (lambda: picture(np.ones(3)), "weight must have shape"),
        (lambda: interval([]), "one per seed"),
        (lambda: interval([1.0], 1.0), "level must be in"),
        (lambda: intervals([]), "models must not be empty"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_that_are_not_finite_are_named():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with torch.no_grad():
        layer[0].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"0\.weight has values that are not finite"):
        measure(layer)
