"""The gradient of the loss with respect to the images, on which every white-box attack is built.

    g(x) = E grad_x L(f(x), y)  ~  (1 / n_eot) sum_j grad_x L(f_j(x), y)    (paper: section 4; Athalye et al. 2018)

f_j are passes with independent noise. With eot="logits" the mean is taken inside, L((1 / n_eot) sum_j f_j(x), y): the
loss of the ensemble, which is what classifies, instead of the mean loss of its draws.
"""

import torch

from bridge import checks
from nets.attacks._losses import LOSSES
from nets.attacks._passes import ModelError, NoGradientError, call, check_two_classes, mean_logits, single, unmasked

__all__ = ["Objective"]

EOT = ("gradients", "logits")


class Objective:
    """The loss of an attack, averaged over the noise of the model, and its gradient.

    Parameters
    ----------
    model : callable
        Images of shape (n_images, ...) to logits (n_images, n_classes).
    y : Tensor of shape (n_images,)
        Labels, or target classes.
    loss : {"ce", "margin"} or callable, default="ce"
        Loss to be maximised: a function of logits (n_images, n_classes) and y to values of shape (n_images,).
    n_eot : int, default=1
        Number of passes with independent noise; >= 1.
    eot : {"gradients", "logits"}
        Whether to average gradients, or logits inside the loss. "logits" keeps the graphs of all passes in memory.
    targeted : bool, default=False
        Whether y are target classes; the loss is then minimised.
    check : bool, default=True
        Whether to check the labels once, which synchronises with a GPU.

    Raises
    ------
    ValueError
        If an option is unknown or out of range (raised by a helper), the model's logits have another shape, or a label
        is not one of its classes.
    """

    def __init__(self, model, y, *, loss="ce", n_eot=1, eot="gradients", targeted=False, check=True):
        self.model, self.y = model, y.long()
        self.loss = loss if callable(loss) else LOSSES[checks.one_of("loss", loss, tuple(LOSSES))]
        self.n_eot = checks.integer("n_eot", n_eot, at_least=1)
        self.eot = checks.one_of("eot", eot, EOT)
        self.sign = -1 if targeted else 1
        self._seen, self._masks = not check, False

    def value(self, logits):
        """Return the objective, of shape (n_images,), for logits (n_images, n_classes); ValueError for other shapes."""
        # In half precision the loss would be rounded before it is differentiated.
        value = self.loss(single(logits), self.y)
        if not isinstance(value, torch.Tensor) or value.shape != self.y.shape:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f"loss must return values of shape ({len(self.y)},), one per image, got {shape}")
        return self.sign * value

    def logits(self, x):
        """Return the mean logits (n_images, n_classes) over n_eot passes, without a gradient."""
        return mean_logits(self.model, x, self.n_eot)

    def gradient(self, x):
        """Return the gradient of the objective, its value and the logits.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Images.

        Returns
        -------
        gradient : Tensor of shape (n_images, ...)
            Gradient of each image's objective.
        value : Tensor of shape (n_images,)
            Objective: the mean over the passes (eot="gradients"), or that of the mean logits.
        logits : Tensor of shape (n_images, n_classes)
            Mean over the passes.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            if self.eot == "logits" or self.n_eot == 1:
                logits = self._mean_logits(x)
                value = self.value(logits)
                return gradient_of(value, x), value.detach(), logits.detach()
            total = None
            for _ in range(self.n_eot):
                logits = self._pass(x)
                value = self.value(logits)
                terms = gradient_of(value, x), value.detach(), logits.detach()
                # Not in place: logits may be memory of the model.
                total = terms if total is None else tuple(a + b for a, b in zip(total, terms, strict=True))
        return tuple(sum_ / self.n_eot for sum_ in total)

    def _mean_logits(self, x):
        total = self._pass(x)
        for _ in range(self.n_eot - 1):
            total = total + self._pass(x)
        return total / self.n_eot if self.n_eot > 1 else total

    def _pass(self, x):
        logits = call(self.model, x)
        if not self._seen:
            # Once: reading values synchronises with a GPU, on which a label out of range would end the CUDA context.
            self._seen = True
            self._masks = bool(logits.isneginf().any())
            check_two_classes(logits.shape[1])
            if len(self.y) and not 0 <= self.y.min().item() <= self.y.max().item() < logits.shape[1]:
                raise ValueError(f"y must be in 0, ..., {logits.shape[1] - 1}, got {self.y.min()} to {self.y.max()}")
        return unmasked(logits) if self._masks else logits


def gradient_of(value, x, **options):
    """Gradient of the sum of values with respect to x; NoGradientError if there is none, ModelError if it fails."""
    if not value.requires_grad:
        raise NoGradientError
    try:
        (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True, **options)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise
        message = " ".join(str(error).split())
        remedy = ": let it keep no logits of earlier passes" if "second time" in message else ""
        raise ModelError(f"the gradient of the model fails{remedy} (PyTorch: {message})") from error
    if gradient is None:
        raise NoGradientError
    return gradient


def check_finite(finite):
    """Raise an error unless the loss and its gradient were finite in all steps.

    Parameters
    ----------
    finite : Tensor of shape ()
        Whether they were, as `ascend` returns it.

    Raises
    ------
    FloatingPointError
        If they were not.
    """
    if not finite.item():
        raise FloatingPointError("the loss or its gradient is not finite: check the model's weights, or its precision")
