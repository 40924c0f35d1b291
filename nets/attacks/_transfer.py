"""Blind attacks: adversarial images made on one model, the oracle, and evaluated on another.

    x_adv = attack(oracle, x, y),  and the target classifies x_adv                         (paper: section 3.2, Table 3)

The attacker knows the oracle completely and nothing of the target.
"""

import torch

from bridge import checks

__all__ = ["transfer"]


def transfer(attack, oracle, x, y, *, batch_size=None, **options):
    """Make adversarial images on an oracle; the target's accuracy on them is its accuracy under a blind attack.

    Parameters
    ----------
    attack : callable
        One of the attacks: `attack(model, x, y, **options)` returns images.
    oracle : Module
        Images in [0, 1] to logits.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    batch_size : int, optional
        Number of images per batch; by default all at once.
    **options
        Options of the attack. A generator continues from batch to batch.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv.

    Raises
    ------
    ValueError
        If x and y differ in length, or batch_size is not a positive integer (raised by a helper).
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, got {len(x)} and {len(y)}")
    if batch_size is None or len(x) == 0:
        return attack(oracle, x, y, **options)
    batch_size = checks.integer("batch_size", batch_size, at_least=1)
    batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return torch.cat([attack(oracle, images, labels, **options) for images, labels in batches])
