"""Passes of a model, and the mean of its logits over draws of its noise, for all attacks and evaluations."""

from collections.abc import Mapping

import torch

from bridge import checks

__all__ = ["ModelError", "NoGradientError", "call", "draw_logits", "mean_logits", "single", "unmasked"]

# A class that a model masks by -inf gets a logit this far below the least other one, e^-20 of its probability.
MASKED = 20.0
# Errors of the machine and of numerics are not wrapped, nor are those of classes other than these modules'.
PASSED = (torch.OutOfMemoryError, MemoryError, OSError, FloatingPointError)
BUILT_IN = ("builtins", "torch")
TWO = "of one logit z per image make two"


class ModelError(RuntimeError):
    """The model's forward pass failed on the given images."""


class NoGradientError(RuntimeError):
    """The model's logits have no gradient with respect to its images: PyTorch cannot differentiate it."""

    def __init__(self):
        super().__init__(
            "the model has no gradient with respect to its images: attack a differentiable stand-in (transfer, "
            "surrogate=) or use square, which needs no gradient"
        )


def call(model, x):
    """Return the logits (n_images, n_classes) of one pass, checked for type and shape; x is not changed."""
    try:
        # A copy: a model may change its images in place, which must not change those of the attack.
        logits = model(x.clone())
    except Exception as error:
        if isinstance(error, PASSED) or type(error).__module__.partition(".")[0] not in BUILT_IN:
            raise
        raise _explained(error, model, x) from error
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"model must return a Tensor of logits, got {type(logits).__name__}{_way_to_logits(logits)}")
    if logits.dim() != 2 or len(logits) != len(x) or not logits.is_floating_point():
        raise ValueError(
            f"model must return logits of shape ({len(x)}, n_classes), got {tuple(logits.shape)} of {logits.dtype}"
            + (f": {TWO}, torch.stack([0 * z, z], 1)" if logits.shape == x.shape[:1] else "")
        )
    return logits


def check_two_classes(n_classes):
    """Refuse a single class, of which every image is: a model with one logit means another thing."""
    if n_classes < 2:
        raise ValueError(
            f"model must return logits of at least 2 classes, got {n_classes}: {TWO}, torch.cat([0 * z, z], 1)"
        )


def _way_to_logits(output):
    """What to write instead of a model that returns something else, as the end of a message."""
    if type(output).__module__ == "numpy":
        return ": wrap it, torch.as_tensor(model(x))"
    if isinstance(output, (tuple, list)):
        return ": give the function lambda x: model(x)[i], i the place of the logits"
    if isinstance(output, Mapping):
        return f': give the function lambda x: model(x)["logits"], or another of {", ".join(map(str, output)):.60}'
    return ": give a function that returns the logits alone" if output is not None else ""


def _explained(error, model, x):
    """The error to raise in place of the one that a forward pass raised."""
    message = " ".join(str(error).split())
    if "does not require grad" in message:
        return ModelError(
            "the model's forward pass needs gradients of its own weights, which an attack freezes: let it call "
            "requires_grad_ on copies of them"
        )
    if "Inference tensors" in message:
        return ModelError(
            "the model's weights or buffers were made inside torch.inference_mode and have no gradients: make or load "
            "it outside, or copy it by load_state_dict"
        )
    if "numpy() on Tensor that requires grad" in message:
        return NoGradientError()
    if "more than 1 value per channel" in message:
        return ValueError(
            "the model normalises by its batch and cannot take a single image: call eval() on its BatchNorm, or take a "
            "batch_size that leaves none over"
        )
    images = f"images of shape {tuple(x.shape)} in {x.dtype}"
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else ()
    dtypes = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
    if dtypes and x.dtype not in dtypes:
        return ValueError(f"x must be in the model's precision, {min(map(str, dtypes))}, got {images}")
    remedy = ": export it with dynamic_shapes" if message.startswith("Guard failed") else ""
    return ModelError(f"the model fails on {images}: {type(error).__name__}: {message}{remedy}")


def single(logits):
    """Return logits in at least single precision; in half precision, losses and means would be rounded.

    Parameters
    ----------
    logits : Tensor of shape (...)
        Logits.

    Returns
    -------
    Tensor of shape (...)
    """
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def unmasked(logits):
    """Replace -inf, by which models exclude a class, by a finite logit below all others of the image."""
    masked = logits.isneginf()
    least = logits.masked_fill(masked, float("inf")).amin(1, keepdim=True)
    return torch.where(masked, torch.where(least.isinf(), 0.0, least - MASKED), logits)


def draw_logits(model, x, n_draws=1):
    """Return the logits of passes with independent noise, without gradients.

    Parameters
    ----------
    model : callable
        Images to logits.
    x : Tensor of shape (n_images, ...)
        Images.
    n_draws : int, default=1
        Number of passes; >= 1.

    Returns
    -------
    Tensor of shape (n_draws, n_images, n_classes)
        In at least single precision, and finite: -inf, by which a class is excluded, becomes a very small logit.

    Raises
    ------
    ValueError
        If n_draws is no integer >= 1 (raised by a helper).
    FloatingPointError
        If a logit is NaN or +inf.
    """
    n_draws = checks.integer("n_draws", n_draws, at_least=1)
    with torch.no_grad():
        # Copies: a model may return the same memory in every pass.
        logits = torch.stack([single(call(model, x)).clone() for _ in range(n_draws)])
    if not logits.isfinite().all():
        if logits.isnan().any() or logits.isposinf().any():
            raise FloatingPointError("the logits are not finite: check the model's weights, or its precision")
        logits = unmasked(logits.flatten(0, 1)).view_as(logits)
    return logits


def mean_logits(model, x, n_draws=1):
    """Return the mean of the logits over independent passes, without a gradient.

    Parameters
    ----------
    model : callable
        Images to logits.
    x : Tensor of shape (n_images, ...)
        Images.
    n_draws : int, default=1
        Number of passes; >= 1.

    Returns
    -------
    Tensor of shape (n_images, n_classes)
        In at least single precision.

    Raises
    ------
    ValueError
        If the model does not return logits of this shape, or n_draws is no integer >= 1 (raised by a helper).
    FloatingPointError
        If a logit is NaN or infinite; -inf, by which a class is excluded, counts as a very small logit (raised by a
        helper).
    """
    return draw_logits(model, x, n_draws).mean(0)
