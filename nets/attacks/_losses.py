"""Losses of logits: cross-entropy, the margin, and ratios that are invariant to shift and scale of the logits.

    DLR(z, y) = -(z_y - max_{i != y} z_i) / (z_p1 - z_p3),  z_p1 >= z_p2 >= ... the logits      (Croce & Hein 2020)

For a confident model, cross-entropy vanishes in finite precision, and with it the gradient that an attack needs.
"""

from torch.nn import functional

__all__ = ["LOSSES", "cross_entropy", "dlr", "dlr_targeted", "margin"]

# The authors': a ratio of equal logits is 0, not NaN.
TINY = 1e-12


def cross_entropy(logits, y):
    """-log softmax(z)_y (paper: section 3.2)."""
    return functional.cross_entropy(logits, y, reduction="none")


def margin(logits, y):
    """max_{i != y} z_i - z_y: positive where the prediction is wrong (paper: (3.5), untargeted)."""
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - _of(logits, y)


LOSSES = {"ce": cross_entropy, "margin": margin}


def dlr(logits, y):
    """Difference of logits ratio: positive where the prediction is wrong.

    -(z_y - max_{i != y} z_i) / (z_p1 - z_p3), from logits (n_images, n_classes >= 3), of shape (n_images,)

    >>> import torch
    >>> dlr(torch.tensor([[5.0, 2.0, 1.0], [5.0, 2.0, 1.0]]), torch.tensor([0, 1]))
    tensor([-0.7500,  0.7500])
    """
    _enough("dlr", logits, 3)
    top = logits.topk(3, dim=1).values
    others = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return (others - _of(logits, y)) / (top[:, 0] - top[:, 2] + TINY)


def dlr_targeted(logits, y, target):
    """Difference of logits ratio towards a target class: positive where the target is above the label.

    -(z_y - z_t) / (z_p1 - (z_p3 + z_p4) / 2), from logits (n_images, n_classes >= 4), of shape (n_images,)
    """
    _enough("dlr-targeted", logits, 4)
    top = logits.topk(4, dim=1).values
    return (_of(logits, target) - _of(logits, y)) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY)


def _of(logits, y):
    return logits.gather(1, y[:, None]).squeeze(1)


def _enough(name, logits, n):
    if logits.shape[1] < n:
        raise ValueError(f"loss={name!r} needs at least {n} classes, got {logits.shape[1]}: use loss='margin'")
