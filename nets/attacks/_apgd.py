"""Auto-PGD: projected gradient ascent with momentum, with a step size that follows the progress of the loss.

    z       = P[ x_k + eta_k d(g(x_k)) ]
    x_(k+1) = P[ x_k + alpha (z - x_k) + (1 - alpha) (x_k - x_(k-1)) ]             (Croce & Hein 2020, Algorithm 1)

eta starts at 2 eps. At the checkpoints it is halved, and the ascent continues from the best point so far, for each
image whose loss rose in at most a share rho of the steps since the last checkpoint (condition 1), or whose best loss
did not rise although eta was not halved there (condition 2).
"""

import functools

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, choose, make_ball, per_image
from nets.attacks._decisions import Best, check_classes, likeliest_wrong_classes, resolve_draws
from nets.attacks._image_rng import ImageStreams
from nets.attacks._inputs import admit
from nets.attacks._losses import LOSSES, dlr, dlr_targeted
from nets.attacks._objective import EOT, Objective, check_finite
from nets.attacks._passes import mean_logits
from nets.attacks._state import attacked

__all__ = ["apgd"]

# Croce & Hein 2020, section 3; the checkpoints in hundredths of n_iter.
ALPHA, RHO = 0.75, 0.75
FIRST, SHORTER, SHORTEST = 22, 3, 6
APGD_LOSSES = LOSSES | {"dlr": dlr}


def apgd(
    model,
    x,
    y,
    *,
    eps=EPS,
    norm="linf",
    n_iter=100,
    n_restarts=1,
    loss="ce",
    n_target_classes=9,
    targeted=False,
    n_eot=1,
    eot="gradients",
    n_draws=None,
    generator=None,
    progress=False,
):
    """Attack by Auto-PGD, which has no parameter to tune but the number of steps.

    Images that are misclassified from the start are returned unchanged, and later runs skip the images that a run has
    broken. The random start of an image depends only on its position in the sequence of images: with a deterministic
    model, splitting a batch, with one generator for all parts, gives the same result up to rounding.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels; with targeted=True, the target classes.
    eps : float, default=8/255
        Radius of the ball, in units of x and in `norm`; >= 0.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    n_iter : int, default=100
        Number of steps per run; >= 1.
    n_restarts : int, default=1
        Number of runs from random starts, per target with loss="dlr-targeted"; >= 1.
    loss : {"ce", "dlr", "dlr-targeted", "margin"} or callable
        Loss to be maximised. "dlr-targeted" makes one run for each of the n_target_classes likeliest wrong classes
        (APGD-T).
    n_target_classes : int, default=9
        Number of targets; >= 1. If there are fewer wrong classes, all of them.
    targeted : bool, default=False
        Whether to seek images that are classified as y, by minimising the loss with respect to y. Not allowed with
        "dlr-targeted", which chooses its targets itself.
    n_eot : int, default=1
        Number of passes with independent noise over which each gradient and loss is averaged; >= 1.
    eot : {"gradients", "logits"}
        Whether to average gradients, or logits inside the loss.
    n_draws : int, optional
        Number of passes whose mean logits decide whether an image is misclassified. Default: 1, or max(10, n_eot) for a
        noisy model, since a single draw may be lucky.
    generator : torch.Generator, optional
        Generator of random starts and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1] and within eps of x up to rounding. For an image that is not broken, the point with the
        greatest loss of each run, and among the runs the one with the greatest margin max_{i != y} z_i - z_y.

    Raises
    ------
    ValueError
        If x, y or an option is out of range, or the loss needs more classes than there are.
    FloatingPointError
        If the logits, the loss or its gradient are not finite.

    Notes
    -----
    Where the paper leaves two points open, this follows its authors' code, which published numbers rely on: a share of
    exactly rho counts as too small, and the loss after the first step from the best point is compared with the loss
    before the restart.

    References
    ----------
    .. [1] Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
       attacks, ICML, arXiv 2003.01690.
    """
    ball = make_ball(norm, eps)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    n_restarts = checks.integer("n_restarts", n_restarts, at_least=1)
    n_target_classes = checks.integer("n_target_classes", n_target_classes, at_least=1)
    by_class = loss == "dlr-targeted"
    if by_class and targeted:
        raise ValueError("loss='dlr-targeted' chooses its targets itself: take loss='dlr' with targeted=True")
    if not callable(loss):
        checks.one_of("loss", loss, (*APGD_LOSSES, "dlr-targeted"))
        loss = APGD_LOSSES.get(loss, dlr_targeted)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    checks.one_of("eot", eot, EOT)
    model, x, y = admit(model, x, y, n_eot=n_eot, eps=ball.eps, norm=norm, generator=generator)
    if not len(x):
        return x.clone()
    with attacked(model, generator=generator):
        n_draws = resolve_draws(model, x, n_draws, n_eot)
        logits = mean_logits(model, x, n_draws)
        check_classes(logits, y, at_least=4 if by_class else 3 if loss is dlr else 2)
        targets = likeliest_wrong_classes(logits, y, n_target_classes) if by_class else [None]
        streams = ImageStreams(len(x), generator)
        best = Best(x, y, logits, targeted=targeted, model=model)
        bar = tqdm(
            total=len(targets) * n_restarts * n_iter, disable=None if progress else True, unit="step", desc="apgd"
        )
        with bar:
            for _, target, images in best.runs(targets, n_restarts):
                value = loss if target is None else functools.partial(loss, target=target)
                objective = Objective(model, y[images], loss=value, n_eot=n_eot, eot=eot, targeted=targeted)
                # On the surface of the ball, before clipping to the cube: the authors' choice.
                direction = ball.random_direction(streams, images, x[images])
                start = ball.around(x[images])(x[images] + ball.eps * direction)
                for candidate in _ascend(objective, ball, x[images], start, n_iter, bar):
                    best.offer(images, candidate, mean_logits(model, candidate, n_draws))
    return best.x_adv


def checkpoints(n_iter):
    """List the steps after which the step size may be halved, all below n_iter, since the last step needs none.

    ceil(p_j n_iter),  p_0 = 0,  p_1 = 0.22,  p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    >>> checkpoints(5)
    [2, 3, 4]
    """
    before, now, steps = 0, FIRST, []
    while now < 100:
        # In integers: ceil(0.41 * 100) may be 42.
        steps.append(-(-now * n_iter // 100))
        before, now = now, now + max(now - before - SHORTER, SHORTEST)
    return sorted({step for step in steps if step < n_iter})


def _ascend(objective, ball, x, start, n_iter, bar):
    """Run from one start: the points of greatest loss, and the misclassified points of greatest loss."""
    project, checks = ball.around(x), set(checkpoints(n_iter))
    x_now = x_before = start
    gradient, value, logits = objective.gradient(x_now)
    finite = value.isfinite().all() & gradient.isfinite().all()
    x_best, gradient_best, value_best = x_now, gradient, value
    targeted = objective.sign < 0
    wrong = (logits.argmax(1) == objective.y) == targeted
    x_wrong, value_wrong = x_now, torch.where(wrong, value, float("-inf"))
    step_size = per_image(torch.full_like(x.flatten(1)[:, 0], 2 * ball.eps), x)
    n_rises, halved = torch.zeros_like(value), torch.zeros_like(wrong)
    last, value_last = 0, value
    for k in range(1, n_iter + 1):
        alpha = ALPHA if k > 1 else 1
        z = project(x_now + step_size * ball.ascent(gradient))
        x_before, x_now = x_now, project(x_now + (z - x_now) * alpha + (x_now - x_before) * (1 - alpha))
        old = value
        gradient, value, logits = objective.gradient(x_now)
        # Read once, at the end: reading it at every step would synchronise with the GPU at every step.
        finite &= value.isfinite().all() & gradient.isfinite().all()
        n_rises += value > old
        rises = value > value_best
        x_best, gradient_best = choose(rises, x_now, x_best), choose(rises, gradient, gradient_best)
        value_best = torch.where(rises, value, value_best)
        better = ((logits.argmax(1) == objective.y) == targeted) & (value > value_wrong)
        x_wrong, value_wrong = choose(better, x_now, x_wrong), torch.where(better, value, value_wrong)
        if k in checks:
            oscillates = n_rises <= RHO * (k - last)  # condition 1
            stalls = ~halved & (value_best <= value_last)  # condition 2
            halved = oscillates | stalls
            step_size = torch.where(per_image(halved, x), step_size / 2, step_size)
            x_now, gradient = choose(halved, x_best, x_now), choose(halved, gradient_best, gradient)
            n_rises, last, value_last = torch.zeros_like(value), k, value_best
        bar.update()
    check_finite(finite)
    return x_best, choose(value_wrong > float("-inf"), x_wrong, x_best)
