"""The objective of the training: the risk on clean or adversarial images, or the clean risk with a regulariser.

natural    L(f(x), y)                                                                    (paper: (1.2))
pgd, fast  L(f(x'), y),  x' = argmax over the ball of L(f(x'), y), by 10 steps or few    (paper: Algorithm 3.1)
trades     L(f(x), y) + beta KL(p(x) || p(x')),  x' = argmax over the ball of the KL     (Zhang et al. 2019)

x' is computed in evaluation mode with frozen weights, and is a constant in the minimisation. GradAlign adds to
"fast" grad_align (1 - cos(g(x), g(x + eta))), g(x) the gradient of L(f(x), y) with respect to x.
"""

import torch
from torch.nn import functional

from nets.attacks import Objective, ascend, attacked, check_finite, make_ball, single
from nets.training._batch_norm import TwiceDifferentiable

__all__ = ["adversarial_images", "empirical_risk", "misalignment"]


def adversarial_images(model, x, y, recipe, generator=None):
    """Return the images on which an adversarial recipe trains, of the shape of x, for a model in training mode.

    TRADES starts from a uniform random point of the ball, like the others; its authors start at x + 0.001 N(0, I),
    since the gradient of the KL vanishes at x. FloatingPointError for numbers that are not finite, on a CPU only.
    """
    on_cpu = x.device.type == "cpu"
    ball = start_ball = make_ball("linf", recipe.eps)
    n_iter, step_size = recipe.n_iter, recipe.step_size
    if recipe.method == "fast":
        # With eps = 0 the result is x, for a step of any size.
        n_iter, step_size = recipe.fast_n_iter, recipe.fast_step * recipe.eps or 1.0
        start_ball = make_ball("linf", recipe.fast_start * recipe.eps)
        # A ball that contains the cube: only the projection onto [0, 1] remains.
        ball = ball if recipe.fast_projection else make_ball("linf", 1.0)
    # For one or two steps on a GPU, folding costs more launches than it saves.
    fold = on_cpu or n_iter > 2
    with attacked(model, generator=generator, batch_norm=recipe.crafting_batch_norm, fold=fold):
        loss = "ce"
        if recipe.method == "trades":
            with torch.no_grad():
                clean = single(model(x)).log_softmax(1)

            def loss(logits, y):
                return _kl(clean, logits)

        objective = Objective(model, y, loss=loss, check=on_cpu)
        start = start_ball.random_point(x, generator) if recipe.random_start else x
        x_adv, finite = ascend(objective, ball, x, start, step_size, n_iter)
    if on_cpu:
        check_finite(finite)
    return x_adv


def empirical_risk(net, x, y, recipe, x_adv=None):
    """Return the risk, of shape (), of a batch for a network in training mode, and logits (n_images, n_classes).

    The logits are those of the images whose accuracy is reported: x_adv from `adversarial_images`, if given, or else x.
    """
    logits = single(net(x if x_adv is None else x_adv))
    if recipe.method != "trades":
        return functional.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing), logits.detach()
    clean = single(net(x))
    risk = functional.cross_entropy(clean, y, label_smoothing=recipe.label_smoothing)
    return risk + recipe.beta * _kl(clean.log_softmax(1), logits).mean(), logits.detach()


def misalignment(net, x, y, eps, generator=None):
    """Return the mean of 1 - cos(g(x), g(x + eta)), of shape (), eta uniform in the ball (Andriushchenko et al. 2020).

    g(x) is a constant, as in the authors' code: the gradient with respect to the weights is that of g(x + eta) alone.
    """
    near = make_ball("linf", eps).random_point(x, generator)
    here = _input_gradient(net, x, y, create_graph=False)
    with TwiceDifferentiable():
        there = _input_gradient(net, near, y, create_graph=True)
    # Gradients of confident networks are small, and their cosine is not.
    tiny = torch.finfo(there.dtype).tiny ** 0.5
    return 1 - functional.cosine_similarity(here, there, eps=tiny).mean()


def _input_gradient(net, x, y, **options):
    x = x.detach().requires_grad_()
    # The sum: the gradient of each image's own loss.
    loss = functional.cross_entropy(single(net(x)), y, reduction="sum")
    return torch.autograd.grad(loss, x, **options)[0].flatten(1)


def _kl(log_p, logits):
    """KL(p || q) of each image, q the softmax of the logits."""
    return functional.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).sum(1)
