"""Projected gradient ascent on the loss: FGSM, IFGSM and PGD are three settings of one loop.

    x_(m) = P_B(x, eps)[ x_(m-1) + alpha d(grad_x L(f(x_(m-1)), y)) ]                 (paper: (3.2), (3.3))

P projects onto the ball of radius eps around x and the cube of images; d is the direction of steepest ascent in the
norm: sign for l_infinity, the normalised gradient for l_2.
"""

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, choose, make_ball
from nets.attacks._decisions import resolve_draws
from nets.attacks._inputs import admit
from nets.attacks._objective import Objective, check_finite
from nets.attacks._passes import mean_logits
from nets.attacks._state import attacked

__all__ = ["ascend", "fgsm", "ifgsm", "pgd"]

# The paper's section 3.2: of its eps = 8/255 a quarter, 2/255.
STEPS_A_RADIUS, N_ITER = 4, 20
# Folding takes about as long as a gradient of 16 images, and saves a quarter of each; of small layers alone, of 8.
N_FOLDED, N_FOLDED_SMALL = 64, 12


def pgd(
    model,
    x,
    y,
    *,
    eps=EPS,
    step_size=None,
    n_iter=N_ITER,
    norm="linf",
    random_start=True,
    n_restarts=1,
    n_eot=1,
    eot="gradients",
    n_draws=None,
    loss="ce",
    targeted=False,
    batch_norm="running",
    generator=None,
    progress=False,
):
    """Attack by projected gradient ascent.

    x_(m) = P[ x_(m-1) + step_size d(g(x_(m-1))) ],  m = 1, ..., n_iter                            (paper: (3.3))

    `torch.autocast` around the call is respected. Images in half precision are attacked in half precision: a pixel of
    x_adv may then be farther from x than eps by 0.002 (float16: 0.0003), half a unit in the last place of 1.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits: a Module, which is switched to evaluation mode during the call (see `attacked`), or
        any differentiable function.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels; with targeted=True, the target classes.
    eps : float, default=8/255
        Radius of the ball, in units of x and in `norm`; >= 0.
    step_size : float, optional
        Step size alpha, in the same units; > 0. Default: eps / 4, the paper's 2/255 for its 8/255.
    n_iter : int, default=20
        Number of steps; >= 1.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    random_start : bool, default=True
        Whether to start from a uniform random point of the ball (Madry et al. 2018) instead of x.
    n_restarts : int, default=1
        Number of runs; >= 1. For each image, the result of a run that is misclassified is kept, or else the one with
        the greatest loss, both under n_draws fresh draws.
    n_eot : int, default=1
        Number of passes with independent noise over which each gradient is averaged; >= 1.
    eot : {"gradients", "logits"}
        Whether to average gradients, as in the paper, or logits inside the loss.
    n_draws : int, optional
        Number of passes whose mean logits choose among the runs. Default: 1, or max(10, n_eot) for a noisy model.
    loss : {"ce", "margin"} or callable, default="ce"
        Loss to be maximised, see `Objective`.
    targeted : bool, default=False
        Whether to minimise the loss with respect to y instead.
    batch_norm : {"running", "batch"}
        Statistics used by batch normalisation, see `attacked`.
    generator : torch.Generator, optional
        Generator of random starts and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1] and within eps of x up to the rounding of x + eps.

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the loss or its gradient is not finite.
    NoGradientError
        If the model is not differentiable (raised by a helper).

    References
    ----------
    .. [1] Wang et al. 2020, section 3.2.
    .. [2] Madry et al. 2018, Towards deep learning models resistant to adversarial attacks.
    """
    ball = make_ball(norm, eps)
    # With eps = 0 the result is x, by a step of any size.
    step_size = (ball.eps / STEPS_A_RADIUS or 1.0) if step_size is None else step_size
    step_size = checks.real("step_size", step_size, positive=True)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    n_restarts = checks.integer("n_restarts", n_restarts, at_least=1)
    if n_restarts > 1 and not random_start:
        raise ValueError(f"n_restarts must be 1 without a random start, got n_restarts={n_restarts}")
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    model, x, y = admit(model, x, y, n_eot=n_eot, eps=ball.eps, norm=norm, generator=generator)
    objective = Objective(model, y, loss=loss, n_eot=n_eot, eot=eot, targeted=targeted)
    bar = tqdm(total=n_restarts * n_iter, disable=None if progress else True, unit="step", desc="pgd")
    n_gradients = len(x) * n_restarts * n_iter * n_eot
    fold = n_gradients >= N_FOLDED or ("small" if n_gradients >= N_FOLDED_SMALL else False)
    with attacked(model, generator=generator, batch_norm=batch_norm, fold=fold), bar:
        if not len(x):
            return x.clone()
        best = None
        n_draws = resolve_draws(model, x, n_draws, n_eot) if n_restarts > 1 else None
        for _ in range(n_restarts):
            start = ball.random_point(x, generator) if random_start else x
            x_adv, finite = ascend(objective, ball, x, start, step_size, n_iter, bar.update)
            check_finite(finite)
            best = x_adv if n_restarts == 1 else _better(objective, best, x_adv, n_draws)
    return best if n_restarts == 1 else best[0]


def ascend(objective, ball, x, start, step_size, n_iter, advance=None):
    """Ascend from a start: the loop of `pgd`, without synchronising with a GPU.

    Parameters
    ----------
    objective : Objective
        Objective to be maximised; call it inside `attacked`.
    ball : LinfBall or L2Ball
        Set in which the images stay.
    x, start : Tensor of shape (n_images, ...)
        Centres of the balls, and starting points.
    step_size : float
        Length of each step.
    n_iter : int
        Number of steps.
    advance : callable, optional
        Function without arguments that is called after each step.

    Returns
    -------
    x_adv : Tensor of shape (n_images, ...)
        The last point.
    finite : Tensor of shape ()
        Whether every loss and gradient was finite.
    """
    project, x_adv = ball.around(x), start
    finite = torch.ones((), dtype=torch.bool, device=x.device)
    for _ in range(n_iter):
        gradient, value, _ = objective.gradient(x_adv)
        # Read once, at the end: reading it at every step would synchronise with the GPU at every step.
        finite &= value.isfinite().all() & gradient.isfinite().all()
        x_adv = project(x_adv.add(ball.ascent(gradient), alpha=step_size))
        if advance is not None:
            advance()
    return x_adv, finite


def _better(objective, best, x_adv, n_draws):
    """Choose for each image the misclassified candidate, or else that of greater loss; return (x_adv, score)."""
    logits = mean_logits(objective.model, x_adv, n_draws) if n_draws else objective.logits(x_adv)
    value = objective.value(logits)
    hit = (logits.argmax(1) == objective.y) == (objective.sign < 0)
    # A misclassified image beats any loss of one that is not.
    score = torch.stack([hit.to(value.dtype), value])
    if best is None:
        return x_adv, score
    old_adv, old = best
    wins = (score[0] > old[0]) | ((score[0] == old[0]) & (score[1] > old[1]))
    return choose(wins, x_adv, old_adv), torch.where(wins, score, old)


def ifgsm(model, x, y, *, eps=EPS, step_size=None, n_iter=N_ITER, n_eot=1, **options):
    """Attack by the iterative fast gradient sign method: `pgd` from x itself; IFGSM^20 of the paper by default.

    x_(m) = Clip_(x, eps)[ x_(m-1) + alpha sign(grad_x L(x_(m-1), y)) ],  x_(0) = x                  (paper: (3.3))

    Parameters
    ----------
    model, x, y, eps, step_size, n_iter, n_eot, **options : optional
        Options of `pgd`, except random_start and n_restarts.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv.
    """
    return pgd(model, x, y, eps=eps, step_size=step_size, n_iter=n_iter, n_eot=n_eot, random_start=False, **options)


def fgsm(model, x, y, *, eps=EPS, step_size=None, n_eot=1, random_start=False, **options):
    """Attack by the fast gradient sign method: one step of `pgd`.

    x' = x + eps sign(grad_x L(x, y))                                                                (paper: (3.2))

    Parameters
    ----------
    model, x, y, eps, n_eot, random_start, **options : optional
        Options of `pgd`, except n_iter. With random_start this is the step of fast adversarial training (Wong et al.
        2020).
    step_size : float, optional
        Length of the step. Default: eps.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv.
    """
    # As above, with eps = 0.
    step_size = (eps or 1.0) if step_size is None else step_size
    return pgd(model, x, y, eps=eps, step_size=step_size, n_iter=1, n_eot=n_eot, random_start=random_start, **options)
