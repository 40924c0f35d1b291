"""Images to ask a model about, and whether its answers are right: of a noisy one, of means and of single draws."""

import torch

from nets.attacks import attacked
from nets.data import balanced_order

__all__ = ["answers", "balanced_order"]


def answers(model, x, y, *, n_repeats, n_draws, generator=None):
    """Ask a model about images.

    Parameters
    ----------
    model : Module
        Images to logits.
    x : Tensor of shape (n_images, ...)
        Images.
    y : Tensor of shape (n_images,)
        Labels.
    n_repeats, n_draws : int
        Repeats, each the mean of the logits over the draws; 1 of a model that draws nothing.
    generator : torch.Generator, optional
        Source of the noise.

    Returns
    -------
    right : Tensor of shape (n_images, n_repeats)
        Whether the mean is right.
    draws : Tensor of shape (n_images, n_repeats, n_draws)
        Whether each pass is.

    Raises
    ------
    FloatingPointError
        If a logit is not finite.
    """
    right, draws = [], []
    with attacked(model, generator=generator), torch.no_grad():
        for _ in range(n_repeats):
            logits = torch.stack([model(x) for _ in range(n_draws)])
            if not logits.isfinite().all():
                raise FloatingPointError("the logits are not finite: check the model's weights")
            draws.append((logits.argmax(2) == y).T)
            right.append(logits.mean(0).argmax(1) == y)
    return torch.stack(right, 1), torch.stack(draws, 1)
