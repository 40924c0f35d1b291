"""Blind attacks: made on the oracle alone, in batches as in one."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import accuracy, generator, images, trained
from attack_nets import residual_net, same, state

from nets.attacks import cw, fgsm, ifgsm, pgd, transfer


@pytest.mark.parametrize("attack", [fgsm, ifgsm, cw])
def test_it_is_the_white_box_attack_on_the_oracle(attack):
    x, y = images(10, seed=1)
    whole = attack(trained(), x, y)
    assert torch.equal(transfer(attack, trained(), x, y), whole)
    # The batch decides the order of sums in a convolution.
    np.testing.assert_allclose(transfer(attack, trained(), x, y, batch_size=4), whole, rtol=0, atol=1e-12)


def test_options_and_the_generator_reach_the_attack():
    x, y = images(10, seed=2)
    options = {"eps": 0.1, "norm": "l2", "n_iter": 2}
    expected = pgd(trained(), x, y, generator=generator(3), **options)
    assert torch.equal(transfer(pgd, trained(), x, y, generator=generator(3), **options), expected)
    # One generator through all batches: equal images of different batches start from different points.
    x, y = x[:1].expand(2, -1, -1, -1), y[:1].expand(2)
    one, other = transfer(pgd, trained(), x, y, batch_size=1, eps=0.1, n_iter=1, step_size=1e-3, generator=generator(3))
    assert not torch.equal(one, other)


def test_a_blind_attack_is_weaker_than_one_that_sees_the_target():
    target, oracle = residual_net(), trained()
    x, y = images(200, seed=4)
    before = state(target)
    natural, blind, white = (
        accuracy(target, adversarial, y) for adversarial in (x, transfer(ifgsm, oracle, x, y), ifgsm(target, x, y))
    )
    assert same(state(target), before)
    # Of 200 paired images tens change.
    assert white < blind - 0.03
    assert blind < natural


def test_a_copy_of_the_target_is_an_oracle_as_good_as_the_target():
    target = residual_net()
    x, y = images(30, seed=5)
    assert torch.equal(transfer(ifgsm, copy.deepcopy(target), x, y), ifgsm(target, x, y))


def test_bad_sizes_are_refused():
    x, y = images(4, seed=6)
    with pytest.raises(ValueError, match="x and y must have the same length, got 4 and 3"):
        transfer(fgsm, trained(), x, y[:3], batch_size=2)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got batch_size=0"):
        transfer(fgsm, trained(), x, y, batch_size=0)
    assert transfer(fgsm, trained(), x[:0], y[:0], batch_size=2).shape == (0, 1, 8, 8)
