"""Auto-PGD: projected gradient ascent with momentum that chooses its step size by what the loss does.

    z       = P[ x_k + eta_k d(g(x_k)) ]
    x_(k+1) = P[ x_k + alpha (z - x_k) + (1 - alpha) (x_k - x_(k-1)) ]             (Croce & Hein 2020, Algorithm 1)

eta starts at 2 eps. At the checkpoints it is halved, and the ascent goes on from the best point so far, for each image
whose loss rose in at most rho of the steps since the last checkpoint (condition 1), or whose best loss did not rise
although eta was not halved there (condition 2).
"""

import functools

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, LinfBall, choose, make_ball, per_image
from nets.attacks._decisions import Best, check_classes, resolve_draws
from nets.attacks._image_rng import ImageStreams
from nets.attacks._inputs import admit
from nets.attacks._losses import LOSSES, dlr, dlr_targeted
from nets.attacks._objective import EOT, Objective
from nets.attacks._passes import mean_logits
from nets.attacks._state import attacked

__all__ = ["apgd"]

# Of Croce & Hein 2020, section 3; the checkpoints in hundredths of n_iter.
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
    """Attack by Auto-PGD: nothing to tune but the number of steps.

    Images that are misclassified are returned as they are, and one that a run breaks is left alone by the next runs.
    The random start of an image is keyed by its place in the sequence of images alone: with a model that draws nothing,
    a batch may be split, with one generator for all parts, and gives the same up to rounding.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is held still, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels; with targeted, the labels to be reached.
    eps : float, default=8/255
        Radius, in units of x and in the norm; >= 0.
    norm : {"linf", "l2"}
        Norm.
    n_iter : int, default=100
        Steps of a run; >= 1.
    n_restarts : int, default=1
        Runs from random starts, for each target with loss="dlr-targeted"; >= 1.
    loss : {"ce", "dlr", "dlr-targeted", "margin"} or callable
        What is maximised. "dlr-targeted" makes a run for each of the n_target_classes likeliest wrong classes (APGD-T).
    n_target_classes : int, default=9
        Targets; >= 1. With fewer wrong classes than that, all of them.
    targeted : bool, default=False
        Seek images that are classified as y: the loss with respect to y is minimised. Not with "dlr-targeted", which
        chooses its targets itself.
    n_eot : int, default=1
        Passes with independent noise that a gradient and a loss are averaged over; >= 1.
    eot : {"gradients", "logits"}
        Average gradients, or logits inside the loss.
    n_draws : int, optional
        Passes whose mean logits decide whether an image is misclassified; by default 1, and for a model that draws, 10
        or n_eot if that is more: never one lucky draw.
    generator : torch.Generator, optional
        Source of random starts and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1] and within eps of x up to rounding. Of an image that stays right, the point of the greatest
        loss of a run, and of the runs the one with the greatest margin max_{i != y} z_i - z_y.

    Raises
    ------
    ValueError
        If x, y or an option is out of range, or the loss asks for more classes than there are.
    FloatingPointError
        If the logits, the loss or its gradient are not finite.

    Notes
    -----
    Two readings of the paper are those of its authors' code, on which published figures rest: a share of exactly rho
    counts as too small, and the step after a restart from the best point is compared with the loss before the restart.

    References
    ----------
    .. [1] Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
       attacks, ICML, arXiv 2003.01690.
    """
    ball = make_ball(norm, eps)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    n_restarts = checks.integer("n_restarts", n_restarts, at_least=1)
    n_target_classes = checks.integer("n_target_classes", n_target_classes, at_least=1)
    chooses = loss == "dlr-targeted"
    if chooses and targeted:
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
        check_classes(logits, y, at_least=4 if chooses else 3 if loss is dlr else 2)
        targets = _targets(logits, y, n_target_classes) if chooses else [None]
        streams = ImageStreams(len(x), generator)
        best = Best(x, y, logits, targeted=targeted)
        bar = tqdm(
            total=len(targets) * n_restarts * n_iter, disable=None if progress else True, unit="step", desc="apgd"
        )
        with bar:
            for target in (target for target in targets for _ in range(n_restarts)):
                images = best.right.nonzero().flatten()
                if not len(images):
                    break
                value = loss if target is None else functools.partial(loss, target=target[images])
                objective = Objective(model, y[images], loss=value, n_eot=n_eot, eot=eot, targeted=targeted)
                start = _start(ball, x[images], streams, images)
                for candidate in _ascend(objective, ball, x[images], start, n_iter, bar):
                    best.offer(images, candidate, mean_logits(model, candidate, n_draws))
    return best.x_adv


def checkpoints(n_iter):
    """List the steps after which the step size is looked at.

    ceil(p_j n_iter),  p_0 = 0,  p_1 = 0.22,  p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)

    Parameters
    ----------
    n_iter : int
        Steps of the run.

    Returns
    -------
    list of int
        Without repetitions and below n_iter: after the last step there is nothing left to choose.

    Examples
    --------
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


def _targets(logits, y, n_target_classes):
    """The likeliest wrong classes of each image: a list of Tensors of shape (n_images,)."""
    wrong = logits.scatter(1, y[:, None], float("-inf"))
    return list(wrong.topk(min(n_target_classes, logits.shape[1] - 1), dim=1).indices.unbind(1))


def _start(ball, x, streams, images):
    """A random point at the ball's surface, before the cube cuts it (the authors' choice)."""
    if isinstance(ball, LinfBall):
        step = streams.uniform(images, x.shape[1:], x).mul_(2).sub_(1)
        step /= per_image(step.flatten(1).abs().amax(1), x).clamp(min=torch.finfo(x.dtype).tiny)
    else:
        step = ball.ascent(streams.normal(images, x.shape[1:], x))
    return ball.around(x)(x + ball.eps * step)


def _ascend(objective, ball, x, start, n_iter, bar):
    """Run from one start: the points of the greatest loss, and the misclassified ones of the greatest loss."""
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
        # Read once, at the end: reading it at every step would make a GPU wait at every step.
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
    if not finite.item():
        raise FloatingPointError("the loss or its gradient is not finite: check the model's weights, or its precision")
    return x_best, choose(value_wrong > float("-inf"), x_wrong, x_best)
