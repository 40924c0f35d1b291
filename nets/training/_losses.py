"""What is minimised: the risk on clean images, on adversarial ones, or the one with a term that binds the other to it.

natural    L(f(x), y)                                                                    (paper: (1.2))
pgd, fast  L(f(x'), y),  x' = argmax over the ball of L(f(x'), y), by 10 steps or one    (paper: Algorithm 3.1)
trades     L(f(x), y) + beta KL(p(x) || p(x')),  x' = argmax over the ball of the KL     (Zhang et al. 2019)

x' is made with the weights held still and in evaluation mode, and is a constant of the minimisation.
"""

import contextlib

import torch
from torch.nn import functional

from nets import attacks
from nets.attacks import attacked

__all__ = ["Precision", "adversarial_images", "empirical_risk", "precisions"]


class Precision:
    """The type in which convolutions are computed, by `torch.autocast`.

    Parameters
    ----------
    name : {"float32", "bfloat16"}
        Type.
    device : torch.device
        Where.
    """

    def __init__(self, name, device):
        self.dtype, self.device = getattr(torch, name), device

    def __call__(self):
        """Return the context to compute in.

        Returns
        -------
        context manager
        """
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def precisions(recipe, device):
    """Decide in which types a recipe computes on a device.

    Parameters
    ----------
    recipe : Recipe
        Gives training_dtype and crafting_dtype.
    device : torch.device
        Where.

    Returns
    -------
    dict
        "training" and "crafting": "float32" or "bfloat16".
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    auto = "bfloat16" if fast else "float32"
    chosen = {"training": recipe.training_dtype, "crafting": recipe.crafting_dtype}
    return {name: auto if dtype == "auto" else dtype for name, dtype in chosen.items()}


def adversarial_images(model, x, y, recipe, generator=None):
    """Make the images that an adversarial recipe trains on.

    TRADES starts from a uniform random point of the ball, like the others; its authors start 0.001 N(0, I) from x. At x
    itself the gradient of the KL vanishes.

    Parameters
    ----------
    model : Module
        In training mode, where it is not noted that one draw of the noise a step is used.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    recipe : Recipe
        Gives method, eps, step_size, n_iter, random_start, fast_step and crafting_batch_norm.
    generator : torch.Generator, optional
        Source of random starts and noise.

    Returns
    -------
    Tensor of shape (n_images, n_channels, height, width)
        Within eps of x and in [0, 1].
    """
    options = {
        "eps": recipe.eps,
        "random_start": recipe.random_start,
        "batch_norm": recipe.crafting_batch_norm,
        "generator": generator,
    }
    if recipe.method == "fast":
        # eps = 0 asks for x itself, by a step of any size.
        return attacks.fgsm(model, x, y, step_size=recipe.fast_step * recipe.eps or 1.0, **options)
    if recipe.method == "trades":
        with attacked(model, generator=generator, batch_norm=recipe.crafting_batch_norm), torch.no_grad():
            clean = _wide(model(x)).log_softmax(1)
        options["loss"] = lambda logits, y: _kl(clean, logits)
    return attacks.pgd(model, x, y, step_size=recipe.step_size, n_iter=recipe.n_iter, **options)


def empirical_risk(net, x, y, recipe, x_adv=None):
    """Compute what is minimised, on a batch.

    Parameters
    ----------
    net : Module
        In training mode.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images.
    y : Tensor of shape (n_images,)
        Labels.
    recipe : Recipe
        Gives method and beta.
    x_adv : Tensor of shape (n_images, n_channels, height, width), optional
        Of `adversarial_images`; not for "natural".

    Returns
    -------
    risk : Tensor of shape ()
        Mean over the images.
    logits : Tensor of shape (n_images, n_classes)
        Of the images whose accuracy is reported: the adversarial ones, where there are any.
    """
    logits = _wide(net(x if x_adv is None else x_adv))
    if recipe.method != "trades":
        return functional.cross_entropy(logits, y), logits.detach()
    clean = _wide(net(x))
    return functional.cross_entropy(clean, y) + recipe.beta * _kl(clean.log_softmax(1), logits).mean(), logits.detach()


def _wide(logits):
    """In half precision the loss would be rounded before it is differentiated."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _kl(log_p, logits):
    """KL(p || q) of each image, q the softmax of the logits."""
    return functional.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).sum(1)
