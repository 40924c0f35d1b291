"""The ways in which a prepared convolution is computed, against PyTorch's own in double precision."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nets.attacks import _convolution
from nets.attacks._convolution import Convolution

# channels, channels', kernel, stride, padding, image, and the way
CASES = {
    "dense, one pixel": (6, 5, 3, 1, 1, (1, 1), "_dense"),
    "dense, two by two": (6, 5, 3, 1, 1, (2, 2), "_dense"),
    "dense, stride": (6, 5, 3, 2, 1, (2, 2), "_dense"),
    "dense, stride, four by four": (6, 5, 3, 2, 1, (4, 4), "_dense"),
    "dense, not square": (6, 5, (3, 5), (1, 2), (2, 1), (2, 3), "_dense"),
    "dense, image beyond the kernel": (6, 5, (1, 9), 1, (0, 4), (2, 2), "_dense"),
    "far too much padding": (6, 5, 3, 1, 9, (2, 2), "_packed"),
    "pointwise": (40, 50, 1, 1, 0, (4, 3), "_pointwise"),
    "pointwise, one pixel": (6, 5, 1, 1, 0, (1, 1), "_pointwise"),
    "pointwise, stride": (5, 6, 1, 2, 0, (8, 7), "_pointwise"),
    "pointwise, stride of one side": (3, 6, 1, (1, 3), 0, (5, 7), "_pointwise"),
    "a pixel and padding": (40, 50, 1, 1, 1, (2, 2), "_packed"),
    "stem of a ResNet": (3, 8, 7, 2, 3, (16, 16), "_shuffled"),
    "stem, odd image": (3, 8, 7, 2, 3, (17, 15), "_shuffled"),
    "stem, no padding": (3, 8, 5, 2, 0, (16, 13), "_shuffled"),
    "patches": (3, 8, 4, 4, 0, (16, 16), "_shuffled"),
    "patches, image no multiple": (3, 8, 4, 4, 0, (19, 18), "_shuffled"),
    "stride beyond the kernel": (1, 8, 2, 5, 0, (16, 12), "_shuffled"),
    "stride beyond the kernel, padded": (1, 8, 2, 5, 4, (6, 7), "_shuffled"),
    "stride of one side": (4, 8, 3, (1, 3), (1, 0), (9, 10), "_shuffled"),
    "padding beyond the kernel": (2, 8, 3, 2, 5, (6, 5), "_shuffled"),
    "packed": (40, 50, 3, 1, 1, (4, 4), "_packed"),
    "packed, stride": (40, 50, 3, 2, 1, (5, 5), "_packed"),
    "packed, padding beyond the kernel": (40, 50, 3, 1, 4, (4, 4), "_packed"),
    "plain": (5, 6, 3, 1, 1, (8, 8), None),
    "plain, stride": (5, 6, 3, 2, 1, (8, 8), None),
}
EPS = torch.finfo(torch.float32).eps


def prepared(case, bias=True, n=3):
    channels, made, kernel, stride, padding, image, way = CASES[case]
    torch.manual_seed(0)
    module = nn.Conv2d(channels, made, kernel, stride, padding, bias=bias)
    step = Convolution(module)
    step.last = True
    return module, step, torch.randn(n, channels, *image), way


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_those_of_the_convolution_in_double_precision(case, bias):
    module, step, x, way = prepared(case, bias)
    assert getattr(step._way(x), "__name__", None) == way
    own = nn.Conv2d(*CASES[case][:5], bias=bias).double()
    own.load_state_dict(module.state_dict())
    x.requires_grad_()
    z = x.detach().double().requires_grad_()
    y, true = step(x), own(z)
    assert y.shape == true.shape
    # Squared, so that the derivative depends on the point and that of its norm passes through the adjoint's adjoint.
    (g,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    (d,) = torch.autograd.grad((true**2).sum(), z, create_graph=True)
    (g2,) = torch.autograd.grad((g**2).sum(), x)
    (d2,) = torch.autograd.grad((d**2).sum(), z)
    for found, expected in ((y, true), (g, d), (g2, d2)):
        assert found.shape == expected.shape
        # Sums of at most a few thousand products.
        assert (found - expected).abs().max() <= 100 * EPS * expected.abs().max()


@pytest.mark.parametrize("case", ["dense, two by two", "pointwise, stride", "stem of a ResNet", "packed"])
def test_maps_follow_the_shape_of_the_images(case):
    module, step, x, _ = prepared(case)
    for images in (x, x[:1], x.repeat(2, 1, 2, 1), x):
        expected = functional.conv2d(images, module.weight, module.bias, *step.options)
        torch.testing.assert_close(step(images), expected, rtol=0, atol=100 * EPS * expected.abs().max().item())


@pytest.mark.parametrize("case", ["dense, two by two", "pointwise, stride", "stem of a ResNet"])
def test_maps_are_not_made_again_for_another_number_of_images(case, monkeypatch):
    _, step, x, way = prepared(case)
    made = []
    real = getattr(_convolution, way)
    counted = lambda *args: (made.append(1), real(*args))[1]  # noqa: E731
    monkeypatch.setattr(_convolution, way, counted)
    for images in (x, x[:1], x[:2]):
        step(images)
    assert len(made) == 1


@pytest.mark.parametrize("case", ["dense, one pixel", "dense, stride", "pointwise, stride"])
def test_products_without_onednn_are_the_same(case, monkeypatch):
    _, step, x, way = prepared(case)
    expected = step(x)
    monkeypatch.setattr(_convolution, "_CAN_MULTIPLY", False)
    _, step, _, _ = prepared(case)
    assert step._way(x).__name__ == way
    torch.testing.assert_close(step(x), expected)


def test_wrong_images_are_refused_by_pytorch():
    for case in ("dense, two by two", "pointwise, stride", "stem of a ResNet", "packed"):
        _, step, x, _ = prepared(case)
        with pytest.raises(RuntimeError, match="channels"):
            step(x[:, 1:])
    _, step, x, _ = prepared("patches")
    with pytest.raises(RuntimeError, match="Kernel size"):
        step(x[..., :2, :2])
    assert step(x[:0]).shape == (0, 8, 4, 4)


def test_other_kinds_of_convolution_are_pytorchs():
    x = torch.randn(2, 4, 2, 2)
    for options in ({"groups": 2}, {"dilation": 2, "padding": 2}, {"padding": "same"}):
        module = nn.Conv2d(4, 6, 3, **({"padding": 1} | options))
        step = Convolution(module)
        step.last = True
        assert step._way(x) is None
        torch.testing.assert_close(step(x), module(x))
        torch.testing.assert_close(step(x[0]), module(x[0]))
