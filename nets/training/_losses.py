"""What is minimised: the risk on clean images, on adversarial ones, or the one with a term that binds the other to it.

natural    L(f(x), y)                                                                    (paper: (1.2))
pgd, fast  L(f(x'), y),  x' = argmax over the ball of L(f(x'), y), by 10 steps or few    (paper: Algorithm 3.1)
trades     L(f(x), y) + beta KL(p(x) || p(x')),  x' = argmax over the ball of the KL     (Zhang et al. 2019)

x' is made with the weights held still and in evaluation mode, and is a constant of the minimisation.
"""

import torch
from torch.nn import functional

from nets.attacks import Objective, ascend, attacked, make_ball

__all__ = ["adversarial_images", "empirical_risk"]


def adversarial_images(model, x, y, recipe, generator=None):
    """Make the images that an adversarial recipe trains on.

    TRADES starts from a uniform random point of the ball, like the others; its authors start 0.001 N(0, I) from x. At x
    itself the gradient of the KL vanishes.

    Parameters
    ----------
    model : Module
        In training mode.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    recipe : Recipe
        Gives method, eps, step_size, n_iter, random_start, fast_step, fast_n_iter, fast_start, fast_projection and
        crafting_batch_norm.
    generator : torch.Generator, optional
        Source of random starts and noise.

    Returns
    -------
    Tensor of shape (n_images, n_channels, height, width)
        In [0, 1] and within eps of x; without fast_projection, within (fast_start + fast_n_iter fast_step) eps.

    Raises
    ------
    FloatingPointError
        On a CPU: if the loss or its gradient is not finite. A GPU is not waited for; the loss of the epoch tells.
    """
    on_cpu = x.device.type == "cpu"
    ball = start_ball = make_ball("linf", recipe.eps)
    n_iter, step_size = recipe.n_iter, recipe.step_size
    if recipe.method == "fast":
        # eps = 0 asks for x itself, by a step of any size.
        n_iter, step_size = recipe.fast_n_iter, recipe.fast_step * recipe.eps or 1.0
        start_ball = make_ball("linf", recipe.fast_start * recipe.eps)
        # A ball that holds the cube: what is left of the projection is [0, 1].
        ball = ball if recipe.fast_projection else make_ball("linf", 1.0)
    # Folding costs a GPU more launches than it saves in one or two steps.
    fold = on_cpu or n_iter > 2
    with attacked(model, generator=generator, batch_norm=recipe.crafting_batch_norm, fold=fold):
        loss = "ce"
        if recipe.method == "trades":
            with torch.no_grad():
                clean = _wide(model(x)).log_softmax(1)

            def loss(logits, y):
                return _kl(clean, logits)

        objective = Objective(model, y, loss=loss, check=on_cpu)
        start = start_ball.random_point(x, generator) if recipe.random_start else x
        x_adv, finite = ascend(objective, ball, x, start, step_size, n_iter)
    if on_cpu and not finite.item():
        raise FloatingPointError("the loss or its gradient is not finite: check the model's weights, or its precision")
    return x_adv


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
        Gives method, beta and label_smoothing.
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
        return functional.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing), logits.detach()
    clean = _wide(net(x))
    risk = functional.cross_entropy(clean, y, label_smoothing=recipe.label_smoothing)
    return risk + recipe.beta * _kl(clean.log_softmax(1), logits).mean(), logits.detach()


def _wide(logits):
    """In half precision the loss would be rounded before it is differentiated."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _kl(log_p, logits):
    """KL(p || q) of each image, q the softmax of the logits."""
    return functional.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).sum(1)
