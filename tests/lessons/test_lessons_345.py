"""Facts that lessons 3 to 5 rest on, at every position of their sliders or on problems solved by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

import pde
from lessons._figures import boundary

torch = pytest.importorskip("torch", reason="torch is not installed")

import bridge
from lessons import _planar
from lessons._figures import steps


@pytest.mark.parametrize(
    "path", sorted((Path(boundary.__file__).parents[1]).glob("[a-z]*.py")), ids=lambda path: path.stem
)
def test_no_line_of_a_formula_begins_like_a_list(path):
    # Markdown is read before LaTeX: a line that begins with "+ " ends the formula and begins a list.
    formulas = re.findall(r"\$\$(.*?)\$\$", path.read_text(encoding="utf-8"), re.DOTALL)
    assert formulas
    assert not [
        line for formula in formulas for line in formula.split("\n")[1:] if re.match(r"\s*([-+*=#>]|\d+\.)", line)
    ]


def test_step_and_distance_to_the_boundary_of_a_cosine():
    u = pde.PeriodicField(np.cos(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16))
    way = boundary.crossing(u, np.array([0.1, 0.5]))
    # u = 0 at x = 1/4; steps are 0.5 / 2000 apart, points 1 / FINE, a row of which goes through the input.
    assert 0.15 < way.step <= 0.15 + 0.5 / 2000 + 1e-12
    assert 0.15 - 1e-12 < way.distance <= 0.15 + 1 / boundary.FINE + 1e-12
    np.testing.assert_allclose(way.direction, [1, 0], atol=1e-12)
    assert way.height == pytest.approx(np.cos(0.2 * np.pi), abs=1e-12)
    # From the other class and around the torus: cos(2 pi (x - 0.3)) is negative at 0.98, positive from 1.05 on.
    moved = pde.PeriodicField(np.cos(2 * np.pi * (np.arange(16) / 16 - 0.3))[:, None] * np.ones(16))
    way = boundary.crossing(moved, np.array([0.98, 0.5]))
    assert way.height < 0 and way.direction[0] == pytest.approx(1) and 0.07 < way.step <= 0.07 + 0.5 / 2000 + 1e-12
    assert 0.07 < way.distance <= 0.07 + 1 / boundary.FINE + 1e-12
    one_class = boundary.crossing(pde.PeriodicField(u.values + 2), np.array([0.1, 0.4]))
    assert one_class.step == one_class.distance == np.inf


@pytest.mark.parametrize("sigma", [0.06, 0.08, 0.1, 0.15, 0.2])
def test_lesson_3_s_certificate_holds_wherever_the_input_is(sigma):
    problem = pde.problems.figure4(seed=0, n=64, sigma=sigma, velocity="band-limited")
    u, method = boundary.field_at_zero(problem)
    bound = pde.bounds.sharp_gradient_bound(problem).bound
    assert method == "spectral" and u.jacobian_sup_norm(256) <= 1.01 * bound
    for point in np.random.default_rng(0).integers(0, 51, (12, 2)) / 50:
        way = boundary.crossing(u, point)
        # As in the lesson: the solver's error 1e-3, and twice the spacing of the points.
        assert (abs(way.height) - 2e-3) / bound <= way.distance <= way.step + 2 / boundary.FINE


def test_change_of_units_changes_the_printed_bound_alone():
    problem = pde.problems.figure4(seed=0, n=64, sigma=0.1, velocity="band-limited")
    scaled = boundary.in_units(problem, 36)
    sharp = [pde.bounds.sharp_gradient_bound(part).bound for part in (problem, scaled)]
    assert 36 * sharp[1] == pytest.approx(sharp[0], rel=1e-5)
    u = [pde.spectral.solve(part, 128, rtol=1e-6).field for part in (problem, scaled)]
    # Two runs of a tolerance of 1e-6.
    points = np.random.default_rng(0).random((20, 2))
    np.testing.assert_allclose(u[1](36 * points), u[0](points), atol=1e-4)
    # e^(gamma - 36**2 sigma**2) (36 ||f|| + G): the exponent has become negative, the slope is what it was.
    assert 36 * pde.bounds.gradient_bound_as_published(scaled).bound < u[0].jacobian_sup_norm(256)


def test_spirals_are_images_in_the_square_with_both_labels():
    x, y = _planar.spirals(101, seed=3)
    assert x.shape == (101, 2) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert y.tolist() == [0, 1] * 50 + [0]
    assert torch.equal(_planar.spirals(101, seed=3)[0], x) and not torch.equal(_planar.spirals(101, seed=4)[0], x)
    # One spiral turned by 180 degrees is the other, up to their own noise: means of 2000 points at 5 standard errors.
    x, y = _planar.spirals(4000, seed=0)
    difference = x[y == 0].mean(0) - (1 - x[y == 1]).mean(0)
    assert (difference.abs() < 5 * (x.var(0) / 1000).sqrt()).all()


def test_noise_is_another_inside_the_block_and_as_before_after_it_and_after_an_error():
    model = bridge.FeynmanKacMean([_planar._member(0.2, torch.Generator().manual_seed(0))])
    with pytest.raises(RuntimeError, match="stop"), _planar.noise_scaled(model, 0.7):
        assert {block.coef for block in bridge.noisy_blocks(model)} == {0.7}
        raise RuntimeError("stop")
    assert {block.coef for block in bridge.noisy_blocks(model)} == {0.2}


def test_training_does_not_touch_the_global_generator_and_is_repeatable(monkeypatch):
    monkeypatch.setattr(_planar, "N_STEPS", 5)
    state = torch.get_rng_state()
    first, second, other = (_planar.train.__wrapped__(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(model.parameters()) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def linear_blocks(rate, n_blocks, width=2):
    branch = torch.nn.Linear(width, width, bias=False).requires_grad_(False)
    branch.weight.copy_(-rate * torch.eye(width))
    return [bridge.NoisyResidual(branch, coef=0.3, scale="additive") for _ in range(n_blocks)]


def test_longer_and_shorter_steps_of_a_linear_row_are_the_powers_that_they_should_be():
    rate, net = 0.25, bridge.ResidualNetwork(linear_blocks(0.25, 8), torch.nn.Linear(2, 2))
    start, y = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([0, 1])
    sizes, errors, shares = steps.other_steps(net, start, y)
    assert sizes[:4] == [8, 4, 2, 1] and sizes[-1] == 1 / 256 and len(errors) == len(shares) == len(sizes)
    # x -> (1 - h rate)**(8 / h) x, and exp(-8 rate) in the limit; the noise is off. Extrapolation of C h from 1/128 and
    # 1/256 leaves O(h**2): (8 rate**2 / 2 + ...) h**2 < 1e-4.
    exact = np.exp(-8 * rate)
    for step, error in zip(sizes, errors, strict=True):
        assert error == pytest.approx(abs((1 - step * rate) ** (8 / step) - exact) / exact, abs=1e-4 * (1 + error))
    # The blocks that were given keep their noise.
    assert all(block.is_noisy for block in net.blocks)


def test_slope_of_a_block_is_the_largest_singular_value_of_its_jacobian():
    branch = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Tanh())
    with torch.no_grad():
        branch[0].weight.copy_(torch.tensor([[0.0, 3.0], [0.5, 0.0]]))
    path = torch.zeros(2, 4, 2)
    # tanh' = 1 at 0: dt times the singular values 3 and 1/2 of the matrix.
    assert steps.largest_slopes([bridge.NoisyResidual(branch, dt=0.5)], path).tolist() == pytest.approx([1.5])
