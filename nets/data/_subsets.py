"""Subsets of images: those held out for validation, and an order in which the classes take turns."""

import torch

from nets import seeds

__all__ = ["balanced_order", "split"]


def split(n_images, share, seed):
    """Split the training images into images for training and images held out for validation.

    Parameters
    ----------
    n_images : int
        Number of images.
    share : float
        Share of the images that is held out, in [0, 1). The paper's 45K/5K is 0.1.
    seed : int
        Seed of the permutation.

    Returns
    -------
    training, validation : Tensor of shape (n,)
        Indices, in random order.

    Raises
    ------
    ValueError
        If share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of validation images must be in [0, 1), got {share}")
    order = torch.randperm(n_images, generator=torch.Generator().manual_seed(seed))
    n_held_out = round(share * n_images)
    return order[n_held_out:], order[:n_held_out]


def balanced_order(labels, seed):
    """Order images at random such that the classes take turns: the first n contain all classes almost equally often.

    Parameters
    ----------
    labels : Tensor of shape (n_images,)
        Labels.
    seed : int
        Seed of the order.

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
    # Turn by turn; within a turn in the shuffled order.
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return by_class[torch.argsort(rank * len(labels) + place[by_class])]
