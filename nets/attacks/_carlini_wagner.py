"""The attack of Carlini and Wagner: the least perturbation that deceives, by Adam in a variable without bounds.

    min_u D(x', x) + c max(-kappa, max_{i != t} Z(x')_i - Z(x')_t),  x' = (tanh(u) + 1) / 2        (paper: (3.4), (3.5))

t is the target; untargeted, the term is max(-kappa, Z(x')_y - max_{i != y} Z(x')_i). D is the distance in the maximum
norm, as the paper has it, or the squared Euclidean one of Carlini and Wagner. `cw_as_released` is what the paper's
published code does under that name.
"""

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import NORMS, choose, make_ball
from nets.attacks._decisions import is_noisy, resolve_draws
from nets.attacks._inputs import admit
from nets.attacks._losses import margin
from nets.attacks._objective import Objective
from nets.attacks._passes import mean_logits, single
from nets.attacks._state import attacked

__all__ = ["cw", "cw_as_released"]

# The paper's section 3.2.
C, KAPPA, N_ITER, LR = 10.0, 0.0, 50, 6e-4
# Of the released code.
EPS_RELEASED = 0.031
# Carlini and Wagner's: 0 and 1 are reached by no finite u.
EDGE = 1 - 1e-6
KEEP = ("best", "last")


def cw(
    model,
    x,
    y,
    *,
    norm="linf",
    c=C,
    kappa=KAPPA,
    n_iter=N_ITER,
    lr=LR,
    eps=None,
    keep="best",
    n_eot=1,
    eot="gradients",
    n_draws=None,
    targeted=False,
    batch_norm="running",
    generator=None,
    progress=False,
):
    """Attack by the method of Carlini and Wagner, as the paper prints it.

    min_u ||x' - x||_inf + c max(-kappa, Z_y - max_{i != y} Z_i),  x' = (tanh(u) + 1) / 2                (paper: (3.5))

    Every image has its own u and is attacked by itself. c is one number, not searched for. The paper states no radius
    for its accuracies under this attack. Its settings limit it all the same: n_iter steps of Adam of about lr each move
    u by 0.03 and so a pixel by 0.015 at most, less than half of 8/255, and one near 0 or 1, where tanh is flat, hardly.
    Nor does c decide much: the maximum norm holds back the farthest pixel alone, and Adam forgets the gradient's scale.

    If the model draws, the nearest iterate that deceives the draws that guided it is one of luck. On a digits
    En1ResNet-20 (50 images, lr=1.2e-2, one | five draws per gradient) it leaves 88 | 70 % right by 100 fresh draws; the
    nearest confirmed by 20 fresh draws 66 | 58 %, the greatest margin over 10 fresh draws 56 | 52 %, the last iterate
    56 | 52 %. So keep="best" takes the greatest margin there, which adds 80 to 90 passes per image to 150 | 770.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is held still, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels; with targeted, the labels to be reached.
    norm : {"linf", "l2"}
        D: the distance in the maximum norm, or the squared Euclidean distance.
    c : float, default=10
        Weight of the classification; > 0.
    kappa : float, default=0
        Margin of the logits that is asked for; >= 0.
    n_iter : int, default=50
        Steps of Adam; >= 1.
    lr : float, default=6e-4
        Its step size, in units of u; > 0.
    eps : float, optional
        Radius, in units of x and in the norm, of the ball onto which the result is projected, deceiving still or not;
        >= 0. By default there is none, as in the paper.
    keep : {"best", "last"}
        Which iterate of each image is returned, on which the paper is silent. "best": the nearest that deceives by the
        margin; if the model draws, the one with the greatest margin over n_draws fresh draws, among those that deceive
        the draws that guided them; the last where none does. "last": always the last.
    n_eot : int, default=1
        Passes with independent noise that a gradient is averaged over; >= 1.
    eot : {"gradients", "logits"}
        Average gradients, or logits inside the objective.
    n_draws : int, optional
        Fresh passes whose mean logits decide what deceives, if the model draws; by default 10, or n_eot if that is
        more.
    targeted : bool, default=False
        y are targets.
    batch_norm : {"running", "batch"}
        Statistics of batch normalisation, see `attacked`.
    generator : torch.Generator, optional
        Source of the noise; by default PyTorch's own.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1].

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the objective or its gradient is not finite.

    References
    ----------
    .. [1] Wang et al. 2020, section 3.2.
    .. [2] Carlini & Wagner 2017, Towards evaluating the robustness of neural networks.
    """
    checks.one_of("norm", norm, tuple(NORMS))
    checks.one_of("keep", keep, KEEP)
    c, lr = checks.real("c", c, positive=True), checks.real("lr", lr, positive=True)
    kappa = checks.real("kappa", kappa, positive=False)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    ball = None if eps is None else make_ball(norm, eps)

    def lead(logits, y):
        """The margin towards what is wanted, up to kappa: `Objective` turns the sign of a targeted one."""
        gap = margin(logits, y)
        return gap.clamp(min=-kappa) if targeted else gap.clamp(max=kappa)

    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    # Before the model is shown them, for which they may be wrong as well.
    if getattr(x, "dtype", None) in (torch.float16, torch.bfloat16):
        raise ValueError(f"x must be of float32 or float64, as u has no room in less, got {x.dtype}")
    model, x, y = admit(model, x, y, n_eot=n_eot, eps=eps, norm=norm, generator=generator)
    objective = Objective(model, y, loss=lead, n_eot=n_eot, eot=eot, targeted=targeted)
    # No finite u has the image 0 or 1. Points between are reproduced.
    u = torch.atanh((2 * x - 1).clamp(-EDGE, EDGE)).requires_grad_()
    adam = torch.optim.Adam([u], lr=lr)
    finite = torch.ones((), dtype=torch.bool, device=x.device)
    bar = tqdm(range(n_iter), disable=None if progress else True, unit="step", desc="cw")
    with attacked(model, generator=generator, batch_norm=batch_norm):
        draws = keep == "best" and len(x) > 0 and is_noisy(model, x)
        kept = _Kept(objective, x, kappa, resolve_draws(model, x, n_draws, n_eot) if draws else None)
        for _ in bar:
            with torch.enable_grad():
                x_adv = _image(u)
                distance = _distance(norm, x_adv, x)
                gradient, value, logits = objective.gradient(x_adv)
                (u.grad,) = torch.autograd.grad(distance.sum() - c * (gradient * x_adv).sum(), u)
            finite &= value.isfinite().all() & u.grad.isfinite().all()
            if keep == "best":
                kept.offer(x_adv.detach(), distance.detach(), logits)
            adam.step()
        x_adv = _image(u.detach())
        if keep == "best":
            kept.offer(x_adv, _distance(norm, x_adv, x), objective.logits(x_adv))
            x_adv = kept.or_else(x_adv)
    if not finite.item():
        raise FloatingPointError("the loss or its gradient is not finite: check the model's weights, or its precision")
    return x_adv if ball is None else ball.around(x)(x_adv)


class _Kept:
    """Of each image, the nearest iterate that deceives; if the model draws, the one that deceives most surely.

    The draws that guided a step only propose an iterate of a model that draws. What decides is its margin by n_draws
    fresh ones: the nearest iterate that deceived its own draws is one that was lucky, on the boundary.
    """

    def __init__(self, objective, x, kappa, n_draws=None):
        self.objective, self.kappa, self.n_draws = objective, kappa, n_draws
        self.x_adv, self.score = x, x.new_full((len(x),), float("-inf"))

    def offer(self, x_adv, distance, logits):
        """Take what is better; logits are those of the draws that guide."""
        gap = self._margin(logits, self.objective.y)
        # The sign beside kappa: at kappa = 0 a tie deceives nobody.
        hit = (gap > 0) & (gap >= self.kappa)
        score = torch.where(hit, -distance, float("-inf"))
        if self.n_draws is not None and len(images := hit.nonzero().flatten()):
            fresh = mean_logits(self.objective.model, x_adv[images], self.n_draws)
            score[images] = self._margin(fresh, self.objective.y[images]).to(score.dtype)
        better = score > self.score
        self.x_adv, self.score = choose(better, x_adv, self.x_adv), torch.where(better, score, self.score)

    def or_else(self, last):
        return choose(self.score > float("-inf"), self.x_adv, last)

    def _margin(self, logits, y):
        return self.objective.sign * margin(single(logits), y)


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
    """Attack as the paper's released code does under the name of Carlini and Wagner, to compare its column with like.

    w = argmin ||w - x||_2**2 + c max(0, Z(w)_p - Z(w)_q + kappa);  x_adv = x + eps (w - x)

    It is not (3.5). p is the class that the model predicts, whatever the label; q the second, found once: the class of
    the largest logit after that of p is set to -1, so p itself where all others are below -1, and then nothing happens.
    w is a pixel, without the map by tanh, and leaves [0, 1] freely; of the iterates the one is kept that follows the
    least total loss, whether or not it deceives. At last the perturbation is **multiplied by eps**: 50 steps of 6e-4
    move a pixel by 0.03 at most, of which 0.001 remains, a quarter of one grey level of 255.

    The released code runs one image at a time. Here every image of a batch is treated as if it were alone, but noise
    scaled over the batch (std_over="batch") is scaled over this batch.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is held still, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,), optional
        Labels. They are checked, and used by nothing.
    eps : float, default=0.031
        Factor of the perturbation; >= 0.
    c : float, default=10
        Weight of the hinge; > 0.
    kappa : float, default=0
        Margin; >= 0.
    n_iter : int, default=50
        Steps of Adam; >= 1.
    lr : float, default=6e-4
        Its step size, in units of x; > 0.
    clip : bool, default=False
        Clip to [0, 1], which the released code does not.
    n_eot : int, default=1
        Passes with independent noise that a gradient is averaged over; >= 1. Released: 1.
    batch_norm : {"running", "batch"}
        Statistics of batch normalisation, see `attacked`.
    generator : torch.Generator, optional
        Source of the noise; by default PyTorch's own.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv; without clip up to about eps n_iter lr outside [0, 1].

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
            # As released: the loss is that before the step, the image that after it.
            best, least = choose(total < least, w.detach(), best), torch.minimum(total, least)
    if not finite.item():
        raise FloatingPointError("the loss or its gradient is not finite: check the model's weights, or its precision")
    x_adv = x + eps * (best - x)
    return x_adv.clamp_(0, 1) if clip else x_adv


def _top_two(objective, x):
    """The released code's p and q, from two passes, which differ if the model draws."""
    first = objective.logits(x).argmax(1)
    logits = objective.logits(x)
    top = logits.argmax(1)
    second = logits.scatter(1, top[:, None], -1.0).argmax(1)
    return first, torch.where(top == first, second, top)


def _image(u):
    return (torch.tanh(u) + 1) / 2


def _distance(norm, x_adv, x):
    distance = NORMS[norm].distance(x_adv, x)
    return distance.square() if norm == "l2" else distance
