"""Images to ask a model about, and whether its answers are right: of a noisy one, of means and of single draws."""

import torch

from nets import seeds
from nets.attacks import attacked

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


def balanced_order(labels, seed):
    """Order images at random so that the classes take turns: every first part holds all of them almost equally often.

    Parameters
    ----------
    labels : Tensor of shape (n_images,)
        Labels.
    seed : int
        Of the order.

    Returns
    -------
    Tensor of shape (n_images,)
        Indices.

    Examples
    --------
    >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
    >>> labels[balanced_order(labels, seed=0)].view(3, 2).sum(1)
    tensor([1, 1, 1])
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=seeds.make_generator(seed, "subset"))
    by_class = order[torch.sort(labels[order], stable=True).indices]
    sizes = torch.bincount(labels)
    starts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(labels)) - starts[labels[by_class]]
    # Turn by turn; within a turn as shuffled.
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return by_class[torch.argsort(rank * len(labels) + place[by_class])]
