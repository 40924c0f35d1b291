"""What a model answers: for a noisy one, the mean of its logits over draws of the noise, never one draw.

argmax_i (1 / n_draws) sum_j f_j(x)_i                                              (paper: section 2.4)
"""

import torch

from bridge import checks, noisy_blocks
from nets.attacks._objective import margin

__all__ = ["Best", "N_DRAWS", "check_classes", "draws_differ", "is_noisy", "mean_logits", "resolve_draws"]

# The least over which a noisy model's answer is averaged.
N_DRAWS = 10
# Passes, and images in each, that show whether a model draws.
N_PASSES, N_SHOWN = 5, 16
# auto-attack's: above what the order of summation on a GPU makes of equal passes.
SAME = 1e-4


def mean_logits(model, x, n_draws=1):
    """Return the mean of the logits over independent passes, without a gradient.

    Parameters
    ----------
    model : Module
        Images to logits, in evaluation mode.
    x : Tensor of shape (n_images, ...)
        Images.
    n_draws : int, default=1
        Passes; >= 1.

    Returns
    -------
    Tensor of shape (n_images, n_classes)
        In single precision at least.

    Raises
    ------
    ValueError
        If the model does not return logits of this shape.
    FloatingPointError
        If a logit is not finite.
    """
    total = None
    with torch.no_grad():
        for _ in range(n_draws):
            logits = model(x)
            if logits.dim() != 2 or len(logits) != len(x):
                raise ValueError(f"model must return logits of shape ({len(x)}, n_classes), got {tuple(logits.shape)}")
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            total = logits if total is None else total + logits
    if not total.isfinite().all():
        raise FloatingPointError("the logits are not finite: check the model's weights, or its precision")
    return total / n_draws


def draws_differ(first, second):
    """Say whether two passes are of a model that draws, and do not merely round differently.

    ||f_1(x) - f_2(x)|| > 1e-4 ||f_1(x)|| for one image at least

    Parameters
    ----------
    first, second : Tensor of shape (n_images, n_classes)
        Logits of the passes.

    Returns
    -------
    bool
    """
    return bool(((first - second).norm(dim=1) > SAME * first.norm(dim=1)).any())


def is_noisy(model, x):
    """Say whether a model draws random numbers: by its noisy blocks, or because two of five passes differ.

    Parameters
    ----------
    model : Module
        Images to logits, in evaluation mode.
    x : Tensor of shape (n_images, ...)
        Images.

    Returns
    -------
    bool
    """
    if any(block.is_noisy for block in noisy_blocks(model)):
        return True
    x = x[:N_SHOWN]
    first = mean_logits(model, x)
    return any(draws_differ(first, mean_logits(model, x)) for _ in range(N_PASSES - 1))


def resolve_draws(model, x, n_draws=None, n_eot=1):
    """Choose the passes whose mean decides whether an image is misclassified.

    Parameters
    ----------
    model : Module
        Images to logits, in evaluation mode.
    x : Tensor of shape (n_images, ...)
        Images.
    n_draws : int, optional
        By default 1 for a model that draws nothing, else 10, or n_eot if that is more.
    n_eot : int, default=1
        Passes that the attack averages.

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
    """Check labels and loss against the number of classes, which the model's answer tells.

    Parameters
    ----------
    logits : Tensor of shape (n_images, n_classes)
        Of the images.
    y : Tensor of shape (n_images,)
        Labels.
    at_least : int, default=2
        Classes that the loss asks for.

    Raises
    ------
    ValueError
        If a label is no class, or there are too few.
    """
    n_classes = logits.shape[1]
    if n_classes < at_least:
        raise ValueError(f"the loss needs at least {at_least} classes, got {n_classes}: take loss='ce' or 'margin'")
    if len(y) and not 0 <= y.min().item() <= y.max().item() < n_classes:
        raise ValueError(f"y must lie in 0, ..., {n_classes - 1}, got {y.min().item()} to {y.max().item()}")


class Best:
    """The best adversarial images found so far: misclassified, or else of the greatest margin.

    Parameters
    ----------
    x : Tensor of shape (n_images, ...)
        Images.
    y : Tensor of shape (n_images,)
        Labels.
    logits : Tensor of shape (n_images, n_classes)
        Of x, mean over the draws.
    """

    def __init__(self, x, y, logits):
        self.x_adv, self.y = x.clone(), y
        self.right = logits.argmax(1) == y
        # The first attempt at an image that is right replaces it, whatever it brings.
        self.margin = torch.where(self.right, float("-inf"), margin(logits, y))

    def offer(self, images, candidates, logits):
        """Take what is better.

        Parameters
        ----------
        images : Tensor of shape (n_chosen,)
            Numbers of the images.
        candidates : Tensor of shape (n_chosen, ...)
            Of these.
        logits : Tensor of shape (n_chosen, n_classes)
            Of the candidates, mean over the draws.
        """
        y = self.y[images]
        right, gap = logits.argmax(1) == y, margin(logits, y)
        take = (self.right[images] & ~right) | ((self.right[images] == right) & (gap > self.margin[images]))
        chosen = images[take]
        self.x_adv[chosen] = candidates[take]
        self.right[chosen], self.margin[chosen] = right[take], gap[take]
