"""Fast Adaptive Boundary attack: the nearest misclassified image, by projections onto linearised class boundaries.

    f_s(z) = (Z_s - Z_y)(x) + grad (Z_s - Z_y)(x) . (z - x) = 0     hyperplane of class s around the iterate x
    x <- (1 - a) (x + eta d(x)) + a (x0 + eta d(x0)),   a = min(|d(x)| / (|d(x)| + |d(x0)|), alpha_max)

Z are the logits, x0 is the image. d(z) is the step from z to the nearest point inside the cube [0, 1]^d of the
hyperplane of the nearest class (smallest |f_s| / ||grad||_q). Behind the boundary the iterate steps back towards x0, x
<- x0 + beta (x - x0). (Croce & Hein 2020b.)
"""

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, LinfBall, choose, make_ball
from nets.attacks._decisions import Best, check_classes, likeliest_wrong_classes, resolve_draws
from nets.attacks._image_rng import ImageStreams
from nets.attacks._inputs import admit
from nets.attacks._objective import gradient_of
from nets.attacks._passes import call, mean_logits, single, unmasked
from nets.attacks._state import attacked

__all__ = ["fab"]

# The authors' (section 4 of the paper).
ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9


def fab(
    model,
    x,
    y,
    *,
    eps=EPS,
    norm="linf",
    n_iter=100,
    n_restarts=1,
    targeted=False,
    n_target_classes=9,
    n_eot=1,
    n_draws=None,
    generator=None,
    progress=False,
):
    """Attack by FAB: seek the nearest misclassified image, whatever its distance, and return it if it is within eps.

    Images that are misclassified from the start are returned unchanged, and later runs skip the images that a run has
    broken. For a noisy model, a misclassified iterate counts only if the mean logits of n_draws fresh passes are wrong
    as well.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius of the ball, in units of x and in `norm`; >= 0.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    n_iter : int, default=100
        Number of steps per run; >= 1.
    n_restarts : int, default=1
        Number of runs; the first starts from x, the others from random points; >= 1.
    targeted : bool, default=False
        Whether to make one run for each of the n_target_classes likeliest wrong classes, using only the boundary of
        that class (FAB-T): one gradient per step instead of one per class.
    n_target_classes : int, default=9
        Number of targets; >= 1. If there are fewer wrong classes, all of them.
    n_eot : int, default=1
        Number of passes with independent noise over which logits and gradients are averaged; >= 1.
    n_draws : int, optional
        Number of passes whose mean logits decide whether an image is misclassified. Default: 1, or max(10, n_eot) for a
        noisy model.
    generator : torch.Generator, optional
        Generator of random starts and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1] and within eps of x up to rounding. For an image that is not broken inside the ball, the last
        iterate projected onto the ball.

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the logits or their gradients are not finite.
    NoGradientError
        If the model is not differentiable (raised by a helper).

    References
    ----------
    .. [1] Croce & Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, ICML, arXiv
       1907.02044.
    """
    ball = make_ball(norm, eps)
    n_iter = checks.integer("n_iter", n_iter, at_least=1)
    n_restarts = checks.integer("n_restarts", n_restarts, at_least=1)
    n_target_classes = checks.integer("n_target_classes", n_target_classes, at_least=1)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    model, x, y = admit(model, x, y, n_eot=n_eot, eps=ball.eps, norm=norm, generator=generator)
    if not len(x):
        return x.clone()
    with attacked(model, generator=generator):
        n_draws = resolve_draws(model, x, n_draws, n_eot)
        logits = mean_logits(model, x, n_draws)
        check_classes(logits, y)
        targets = likeliest_wrong_classes(logits, y, n_target_classes) if targeted else [None]
        streams, best = ImageStreams(len(x), generator), Best(x, y, logits, model=model)
        bar = tqdm(
            total=len(targets) * n_restarts * n_iter, disable=None if progress else True, unit="step", desc="fab"
        )
        with bar:
            for restart, target, images in best.runs(targets, n_restarts):
                boundaries = _Boundaries(model, y[images], target, n_eot)
                start = x[images]
                if restart > 0:
                    # At half the radius, the authors' choice.
                    direction = ball.random_direction(streams, images, x[images])
                    start = (start + ball.eps / 2 * direction).clamp_(0, 1)
                candidates = _descend(boundaries, ball, x[images], start, n_iter, n_draws, bar)
                best.offer(images, candidates, mean_logits(model, candidates, n_draws))
    return best.x_adv


class _Boundaries:
    """The linearised class boundaries around iterates: f_s and its gradient for the target or the nearest class."""

    def __init__(self, model, y, target, n_eot):
        self.model, self.y, self.target, self.n_eot = model, y, target, n_eot

    def nearest(self, x, dual):
        """Return f (n_images,) and its gradient (n_images, n_pixels); `dual` is the order q of the dual norm."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = unmasked(single(sum(call(self.model, leaf) for _ in range(self.n_eot)) / self.n_eot))
            gaps = logits - logits.gather(1, self.y[:, None])
            if self.target is not None:
                gap = gaps.gather(1, self.target[:, None]).squeeze(1)
                return gap.detach(), gradient_of(gap, leaf).flatten(1)
            closest = torch.full_like(gaps[:, 0], float("inf")).detach()
            gap, gradient = torch.zeros_like(closest), torch.zeros_like(x.flatten(1))
            n_classes = logits.shape[1]
            for s in range(n_classes):
                slope = gradient_of(gaps[:, s], leaf, retain_graph=s + 1 < n_classes).flatten(1)
                size = torch.linalg.vector_norm(slope, ord=dual, dim=1)
                distance = gaps[:, s].detach().abs() / size.clamp(min=torch.finfo(size.dtype).tiny)
                nearer = (distance < closest) & (self.y != s)
                closest = torch.where(nearer, distance, closest)
                gap = torch.where(nearer, gaps[:, s].detach(), gap)
                gradient = torch.where(nearer[:, None], slope, gradient)
        return gap, gradient


def _descend(boundaries, ball, x, start, n_iter, n_draws, bar):
    """Run once: the nearest misclassified iterate of each image, or else the last, projected onto the ball."""
    project, dual, ord_ = (_project_linf, 1, float("inf")) if isinstance(ball, LinfBall) else (_project_l2, 2, 2)
    # The projections are computed in single precision at least, the images are passed to the model in its own.
    shape, (x0, z) = x.shape, (single(images).flatten(1) for images in (x, start))
    kept, distance = z, z.new_full((len(x),), float("inf"))
    finite = torch.ones((), dtype=torch.bool, device=x.device)
    for _ in range(n_iter):
        gap, w = (values.to(z.dtype) for values in boundaries.nearest(z.view(shape).to(x.dtype), dual))
        finite &= gap.isfinite().all() & w.isfinite().all()
        # w . z' = b on the hyperplane; both projections start on the side of the label.
        b = (w * z).sum(1) - gap
        step = project(torch.cat([z, x0]), torch.cat([w, w]), torch.cat([b, b]))
        to_z, to_x0 = step.chunk(2)
        lengths = [torch.linalg.vector_norm(s, ord=ord_, dim=1, keepdim=True).clamp(min=1e-8) for s in (to_z, to_x0)]
        a = (lengths[0] / (lengths[0] + lengths[1])).clamp(0, ALPHA_MAX)
        z = ((1 - a) * (z + ETA * to_z) + a * (x0 + ETA * to_x0)).clamp(0, 1)
        wrong = mean_logits(boundaries.model, z.view(shape).to(x.dtype), boundaries.n_eot).argmax(1) != boundaries.y
        far = torch.linalg.vector_norm(z - x0, ord=ord_, dim=1)
        nearer = wrong & (far < distance)
        if n_draws > 1 and len(images := nearer.nonzero().flatten()):
            # The draws that guide the search only propose: fresh draws confirm.
            fresh = mean_logits(boundaries.model, z[images].view(-1, *shape[1:]).to(x.dtype), n_draws)
            nearer[images] = fresh.argmax(1) != boundaries.y[images]
        kept, distance = choose(nearer, z, kept), torch.where(nearer, far, distance)
        z = choose(wrong, x0 + BETA * (z - x0), z)
        bar.update()
    if not finite.item():
        raise FloatingPointError("the logits or their gradients are not finite: check the model's weights")
    return ball.around(x)(choose(distance < float("inf"), kept, z).view(shape).to(x.dtype))


def _project_linf(z, w, b):
    """Return the step of least maximum norm from z to {w . z' = b} in [0, 1]^d: every pixel moves at the same speed."""
    w, b = _scaled(w, b)
    return _project(z, w, b, torch.ones_like(w))


def _project_l2(z, w, b):
    """Return the step of least Euclidean norm from z to {w . z' = b} in [0, 1]^d: pixels move in proportion to w."""
    w, b = _scaled(w, b)
    return _project(z, w, b, w.abs())


def _scaled(w, b):
    """The same hyperplane with largest weight 1: small gradients are no small distances, and their squares are > 0."""
    scale = w.abs().amax(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    return w / scale, b / scale.squeeze(1)


def _project(z, w, b, speed):
    """Move every pixel by r speed, up to the faces of the cube; where no r reaches w . z' = b, go to the corner.

    The change of w . z' is piecewise linear in r. Its r is found by sorting the r at which pixels meet the cube.
    """
    c = (w * z).sum(1) - b
    # Turned, so that w . z is to be decreased by |c|.
    w = torch.where(c[:, None] >= 0, w, -w)
    room, size, need = torch.where(w >= 0, z, 1 - z), w.abs(), c.abs()
    meets, order = (room / speed.clamp(min=1e-12)).sort(dim=1)
    rates, met = (size * speed).gather(1, order), (size * room).gather(1, order)
    # Decrease at r = meets[k]: the pixels up to k are at the cube, the others have moved by r speed.
    before = met.cumsum(1)
    rest = rates.sum(1, keepdim=True) - rates.cumsum(1)
    k = torch.searchsorted(before + rest * meets, need[:, None]).squeeze(1)
    inside = k.clamp(max=room.shape[1] - 1)[:, None]
    at_cube, slope = (values.gather(1, inside).squeeze(1) for values in (before - met, rest + rates))
    r = ((need - at_cube) / slope.clamp(min=1e-12)).clamp(min=0)
    r = torch.where(k < room.shape[1], r, torch.inf)[:, None]
    return -w.sign() * torch.minimum(room, torch.where(r.isinf() & (speed == 0), 0, r * speed))
