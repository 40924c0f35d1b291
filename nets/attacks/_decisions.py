"""What a model predicts: for a noisy model, by its mean logits over draws of the noise, never by a single draw.

argmax_i (1 / n_draws) sum_j f_j(x)_i                                              (paper: section 2.4)
"""

import functools

import torch

from bridge import checks, noisy_blocks
from nets.attacks._losses import margin
from nets.attacks._passes import check_two_classes, mean_logits
from nets.attacks._reached import normalises_by_batch

__all__ = ["N_DRAWS", "check_classes", "draws_differ", "is_noisy", "n_images_differing", "resolve_draws"]

# Smallest number of draws over which the logits of a noisy model are averaged.
N_DRAWS = 10
# Number of passes, and of images in each, that show whether a model is noisy.
N_PASSES, N_SHOWN = 5, 16
# auto-attack's; above the rounding differences between equal passes on a GPU.
SAME = 1e-4
# Of logits as large as these, in single precision.
ROUNDING = 1e-6


def draws_differ(first, second):
    """Return whether two passes differ by noise, and not merely by rounding.

    Parameters
    ----------
    first, second : Tensor of shape (n_images, n_classes)
        Logits of the two passes.

    Returns
    -------
    bool
    """
    return n_images_differing(first, second) > 0


def n_images_differing(first, second):
    """Count the images for which two passes differ by more than rounding.

    ||c_1 - c_2|| > 1e-4 ||c_1|| + 1e-6 ||f_1||,  c = f less its mean over the classes

    A constant that is added to all logits of an image changes no decision, and hides no noise.

    Parameters
    ----------
    first, second : Tensor of shape (n_images, n_classes)
        Logits of the two passes.

    Returns
    -------
    int
    """
    one, other = (logits - logits.mean(1, keepdim=True) for logits in (first, second))
    return int(((one - other).norm(dim=1) > SAME * one.norm(dim=1) + ROUNDING * first.norm(dim=1)).sum())


def is_noisy(model, x):
    """Return whether a model is noisy: it has noisy blocks of this project, or two of five passes differ.

    All attacks and evaluations decide by this function.

    Parameters
    ----------
    model : callable
        Images to logits, in the modes in which it is evaluated.
    x : Tensor of shape (n_images, ...)
        Images, of which the first 16 are used.

    Returns
    -------
    bool
    """
    if isinstance(model, torch.nn.Module) and any(block.is_noisy for block in noisy_blocks(model)):
        return True
    try:
        first = mean_logits(model, x[:N_SHOWN])
    except RuntimeError:
        # Exported programs and traced modules may require the full size of the batch.
        if len(x) <= N_SHOWN:
            raise
    else:
        x = x[:N_SHOWN]
    first = mean_logits(model, x) if len(x) > N_SHOWN else first
    return any(draws_differ(first, mean_logits(model, x)) for _ in range(N_PASSES - 1))


def resolve_draws(model, x, n_draws=None, n_eot=1):
    """Return the number of passes whose mean logits decide whether an image is misclassified.

    Parameters
    ----------
    model : callable
        Images to logits, in the modes in which it is evaluated.
    x : Tensor of shape (n_images, ...)
        Images.
    n_draws : int, optional
        Number of passes. Default: 1 for a deterministic model, else max(10, n_eot).
    n_eot : int, default=1
        Number of passes over which the attack averages.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If n_draws is not a positive integer (raised by a helper).
    """
    if n_draws is not None:
        return checks.integer("n_draws", n_draws, at_least=1)
    return max(N_DRAWS, n_eot) if is_noisy(model, x) else 1


def check_classes(logits, y, *, at_least=2):
    """Check labels and loss against the number of classes of the logits.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
        Logits of the images.
    y : Tensor of shape (n_images,)
        Labels.
    at_least : int, default=2
        Number of classes that the loss needs.

    Raises
    ------
    ValueError
        If a label is not a class, or there are too few classes.
    """
    n_classes = logits.shape[1]
    check_two_classes(n_classes)
    if n_classes < at_least:
        raise ValueError(f"the loss needs at least {at_least} classes, got {n_classes}: take loss='ce' or 'margin'")
    if len(y) and not 0 <= y.min().item() <= y.max().item() < n_classes:
        raise ValueError(f"y must lie in 0, ..., {n_classes - 1}, got {y.min().item()} to {y.max().item()}")


def likeliest_wrong_classes(logits, y, n):
    """Return the n most likely wrong classes of each image (or all, if fewer): a tuple of tensors (n_images,)."""
    wrong = logits.scatter(1, y[:, None], float("-inf"))
    return wrong.topk(min(n, logits.shape[1] - 1), dim=1).indices.unbind(1)


class Best:
    """The best adversarial images so far: those that deceive, or else those of the greatest margin.

    `right` (n_images,) marks the images that do not deceive yet. `logits` (n_images, n_classes) are means over draws
    that guided no step; if targeted, y are the target classes. A model that normalises by its batch keeps two
    images.
    """

    def __init__(self, x, y, logits, *, targeted=False, model=None):
        self.x_adv, self.y, self.targeted, self.model = x.clone(), y, targeted, model
        self.right = ~self.deceives(logits, y)
        # The first attempt at an image that is classified correctly replaces it in any case.
        self.margin = torch.where(self.right, float("-inf"), self._margin(logits, y))

    def deceives(self, logits, y):
        return (logits.argmax(1) == y) == self.targeted

    def left(self):
        """Indices of the images to be attacked: those that do not deceive, and another one beside a single image."""
        images = self.right.nonzero().flatten()
        if len(images) == 1 < len(self.right) and self._needs_two:
            return torch.cat([images, (~self.right).nonzero().flatten()[:1]])
        return images

    @functools.cached_property
    def _needs_two(self):
        return normalises_by_batch(self.model)

    def runs(self, targets, n_restarts):
        """Yield restart, target classes (or None) and indices of the images to be attacked, until none is left."""
        for target in targets:
            for restart in range(n_restarts):
                images = self.left()
                if not len(images):
                    return
                yield restart, None if target is None else target[images], images

    def offer(self, images, candidates, logits):
        """Take the better of the candidates (n_chosen, ...) for the images with these indices (n_chosen,)."""
        y = self.y[images]
        right, gap = ~self.deceives(logits, y), self._margin(logits, y)
        take = (self.right[images] & ~right) | ((self.right[images] == right) & (gap > self.margin[images]))
        chosen = images[take]
        self.x_adv[chosen] = candidates[take]
        self.right[chosen], self.margin[chosen] = right[take], gap[take]

    def _margin(self, logits, y):
        return -margin(logits, y) if self.targeted else margin(logits, y)
