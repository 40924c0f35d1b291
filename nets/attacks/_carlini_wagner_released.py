"""What the paper's published code does under the name of Carlini and Wagner, which is not the printed (3.5)."""

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import choose
from nets.attacks._carlini_wagner import KAPPA, LR, N_ITER, C
from nets.attacks._decisions import check_classes
from nets.attacks._inputs import admit
from nets.attacks._objective import Objective, check_finite
from nets.attacks._state import attacked

__all__ = ["cw_as_released"]

# The released code's.
EPS_RELEASED = 0.031


def cw_as_released(
    model,
    x,
    y=None,
    *,
    eps=EPS_RELEASED,
    c=C,
    kappa=KAPPA,
    n_iter=N_ITER,
    lr=LR,
    clip=False,
    n_eot=1,
    batch_norm="running",
    generator=None,
    progress=False,
):
    """Attack as the paper's released code does under the name of Carlini and Wagner, to compare like with like.

    w = argmin ||w - x||_2**2 + c max(0, Z(w)_p - Z(w)_q + kappa);  x_adv = x + eps (w - x)

    This is not (3.5). p is the predicted class, whatever the label. q is the runner-up, determined once, as the class
    of the largest logit after the logit of p has been set to -1: where all others are below -1, q is p itself, and the
    attack does nothing. w are pixels, without the map by tanh, and may leave [0, 1]. The iterate that is kept is the
    one after the step with the least total loss, whether or not it deceives. Finally, the perturbation is **multiplied
    by eps**: 50 steps of 6e-4 move a pixel by at most 0.03, of which 0.001 remains, a quarter of one of 255 grey
    levels.

    The released code attacks one image at a time. Here every image of a batch is treated as if it were alone, except
    that noise scaled over the batch (std_over="batch") is scaled over this batch.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,), optional
        Labels; checked, but not used.
    eps : float, default=0.031
        Factor by which the perturbation is multiplied; >= 0.
    c : float, default=10
        Weight of the hinge; > 0.
    kappa : float, default=0
        Margin of the logits; >= 0.
    n_iter : int, default=50
        Number of steps of Adam; >= 1.
    lr : float, default=6e-4
        Step size of Adam, in units of x; > 0.
    clip : bool, default=False
        Whether to clip to [0, 1], which the released code does not do.
    n_eot : int, default=1
        Number of passes with independent noise over which each gradient is averaged; >= 1. The released code uses 1.
    batch_norm : {"running", "batch"}
        Statistics used by batch normalisation, see `attacked`.
    generator : torch.Generator, optional
        Generator of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv; without clip it may lie up to about eps n_iter lr outside [0, 1].

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the objective or its gradient is not finite.

    References
    ----------
    .. [1] BaoWangMath/EnResNet, ResNet20/Attack_PGD_EnResNet_5_20.py, method "cw".
    """
    eps, kappa = checks.real("eps", eps, positive=False), checks.real("kappa", kappa, positive=False)
    c, lr = checks.real("c", c, positive=True), checks.real("lr", lr, positive=True)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    if y is None and isinstance(x, torch.Tensor):
        y = torch.zeros(len(x), dtype=torch.long, device=x.device)
    model, x, y = admit(model, x, y, n_eot=n_eot, generator=generator)
    bar = tqdm(range(n_iter), disable=None if progress else True, unit="step", desc="cw_as_released")
    with attacked(model, generator=generator, batch_norm=batch_norm):
        if not len(x):
            return x.clone()
        first, second = _top_two(Objective(model, y, n_eot=n_eot), x)

        def minus_hinge(logits, first):
            gap = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
            return -(gap.squeeze(1) + kappa).clamp(min=0)

        objective = Objective(model, first, loss=minus_hinge, n_eot=n_eot)
        w = x.clone().requires_grad_()
        adam = torch.optim.Adam([w], lr=lr)
        best, least = x, x.new_full((len(x),), float("inf"))
        finite = torch.ones((), dtype=torch.bool, device=x.device)
        for _ in bar:
            step = w.detach() - x
            gradient, value, _ = objective.gradient(w)
            total = step.square().flatten(1).sum(1) - c * value
            w.grad = 2 * step - c * gradient
            finite &= total.isfinite().all() & w.grad.isfinite().all()
            adam.step()
            # As released: the loss before the step, the image after it.
            best, least = choose(total < least, w.detach(), best), torch.minimum(total, least)
    check_finite(finite)
    x_adv = x + eps * (best - x)
    return x_adv.clamp_(0, 1) if clip else x_adv


def _top_two(objective, x):
    """The released code's p and q, from two passes, which differ for a noisy model."""
    first = objective.logits(x).argmax(1)
    logits = objective.logits(x)
    check_classes(logits, objective.y)
    top = logits.argmax(1)
    second = logits.scatter(1, top[:, None], -1.0).argmax(1)
    return first, torch.where(top == first, second, top)
