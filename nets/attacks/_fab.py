"""Fast Adaptive Boundary attack: the nearest misclassified image, by projections onto linearised class boundaries.

    f_s(z) = (z_s - z_y)(x) + grad (z_s - z_y)(x) . (z - x) = 0     hyperplane of class s around the iterate x
    x <- (1 - a) (x + eta d(x)) + a (x0 + eta d(x0)),   a = min(|d(x)| / (|d(x)| + |d(x0)|), alpha_max)

d(z) is the step from z to the nearest point of the hyperplane of the nearest class (smallest |f_s| / ||grad||_q) inside
the cube [0, 1]^d. Behind the boundary the iterate steps back towards x0, x <- x0 + beta (x - x0). (Croce & Hein 2020b.)
"""

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, LinfBall, choose, make_ball, per_image
from nets.attacks._decisions import Best, check_classes, resolve_draws
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

    Images that are misclassified are returned as they are, and one that a run breaks is left alone by the next runs. On
    a model that draws, the nearest misclassified iterate only counts if the mean logits of n_draws fresh passes at it
    are wrong too.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is held still, see `attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius, in units of x and in the norm; >= 0.
    norm : {"linf", "l2"}
        Norm.
    n_iter : int, default=100
        Steps of a run; >= 1.
    n_restarts : int, default=1
        Runs; the first starts from x, the others from random points; >= 1.
    targeted : bool, default=False
        Make a run for each of the n_target_classes likeliest wrong classes, with its boundary alone (FAB-T): one
        gradient per step instead of one per class.
    n_target_classes : int, default=9
        Targets; >= 1. With fewer wrong classes than that, all of them.
    n_eot : int, default=1
        Passes with independent noise that logits and gradients are averaged over; >= 1.
    n_draws : int, optional
        Passes whose mean logits decide whether an image is misclassified; by default 1, and for a model that draws, 10
        or n_eot if that is more.
    generator : torch.Generator, optional
        Source of random starts and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, ...)
        x_adv, in [0, 1] and within eps of x up to rounding. For an image that is not broken inside the ball, the last
        iterate projected onto it.

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
        wrong = logits.scatter(1, y[:, None], float("-inf"))
        targets = [None]
        if targeted:
            targets = wrong.topk(min(n_target_classes, logits.shape[1] - 1), dim=1).indices.unbind(1)
        streams, best = ImageStreams(len(x), generator), Best(x, y, logits)
        bar = tqdm(
            total=len(targets) * n_restarts * n_iter, disable=None if progress else True, unit="step", desc="fab"
        )
        with bar:
            for run, target in ((run, target) for target in targets for run in range(n_restarts)):
                images = best.right.nonzero().flatten()
                if not len(images):
                    break
                boundaries = _Boundaries(model, y[images], None if target is None else target[images], n_eot)
                start = x[images] if run == 0 else _random_start(ball, x[images], streams, images)
                candidates = _descend(boundaries, ball, x[images], start, n_iter, n_draws, bar)
                best.offer(images, candidates, mean_logits(model, candidates, n_draws))
    return best.x_adv


class _Boundaries:
    """The linearised class boundaries around iterates: f_s and its gradient for the target, or the nearest class."""

    def __init__(self, model, y, target, n_eot):
        self.model, self.y, self.target, self.n_eot = model, y, target, n_eot

    def nearest(self, x, dual):
        """f of shape (n_images,), and its gradient (n_images, n_pixels)."""
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
                distance = gaps[:, s].detach().abs() / size.clamp(min=1e-12)
                nearer = (distance < closest) & (self.y != s)
                closest = torch.where(nearer, distance, closest)
                gap = torch.where(nearer, gaps[:, s].detach(), gap)
                gradient = torch.where(nearer[:, None], slope, gradient)
        return gap, gradient


def _descend(boundaries, ball, x, start, n_iter, n_draws, bar):
    """One run: of each image the nearest misclassified iterate, projected onto the ball; else the last iterate."""
    linf = isinstance(ball, LinfBall)
    project, dual, ord_ = (_project_linf, 1, float("inf")) if linf else (_project_l2, 2, 2)
    # The projections in single precision at least, the images in the model's.
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
        if n_draws > boundaries.n_eot and len(images := nearer.nonzero().flatten()):
            # The draws that guide only propose: fresh ones confirm.
            fresh = mean_logits(boundaries.model, z[images].view(-1, *shape[1:]).to(x.dtype), n_draws)
            nearer[images] = fresh.argmax(1) != boundaries.y[images]
        kept, distance = choose(nearer, z, kept), torch.where(nearer, far, distance)
        z = choose(wrong, x0 + BETA * (z - x0), z)
        bar.update()
    if not finite.item():
        raise FloatingPointError("the logits or their gradients are not finite: check the model's weights")
    return ball.around(x)(choose(distance < float("inf"), kept, z).view(shape).to(x.dtype))


def _project_linf(z, w, b):
    """Least step in the maximum norm from z to {w . z' = b} in [0, 1]^d; to the cube's corner if none is there.

    The step is r sign in every pixel, cut where the pixel meets the cube; w . step is piecewise linear in r, and its
    r is found by sorting the r at which pixels meet the cube.
    """
    c = (w * z).sum(1) - b
    # Decrease w . z by |c|.
    w = torch.where(c[:, None] >= 0, w, -w)
    room = torch.where(w >= 0, z, 1 - z)
    size, need = w.abs(), c.abs()
    sorted_room, order = room.sort(dim=1)
    sorted_size = size.gather(1, order)
    # Decrease reached at r = sorted_room[k]: pixels up to k are at the cube, the others have moved by r.
    met = (sorted_size * sorted_room).cumsum(1)
    rest = sorted_size.sum(1, keepdim=True) - sorted_size.cumsum(1)
    reached = met + rest * sorted_room
    k = torch.searchsorted(reached, need[:, None]).squeeze(1)
    inside = k.clamp(max=room.shape[1] - 1)[:, None]
    before = (met - sorted_size * sorted_room).gather(1, inside).squeeze(1)
    slope = (rest + sorted_size).gather(1, inside).squeeze(1)
    r = ((need - before) / slope.clamp(min=1e-12)).clamp(min=0)
    r = torch.where(k < room.shape[1], r, torch.inf)[:, None]
    return -w.sign() * torch.minimum(room, r)


def _project_l2(z, w, b):
    """Least Euclidean step from z to {w . z' = b} within [0, 1]^d; the farthest corner along w if none is there.

    The step is -r w in every pixel, cut at the cube: as above, with pixels sorted by the r at which they meet it.
    """
    c = (w * z).sum(1) - b
    w = torch.where(c[:, None] >= 0, w, -w)
    room, size, need = torch.where(w >= 0, z, 1 - z), w.abs(), c.abs()
    # Scaled, so that squares of small gradients do not underflow.
    scale = size.amax(1, keepdim=True).clamp(min=1e-30)
    size, need = size / scale, need / scale.squeeze(1)
    meets, order = (room / size.clamp(min=1e-12)).sort(dim=1)
    sorted_size, sorted_room = size.gather(1, order), room.gather(1, order)
    met = (sorted_size * sorted_room).cumsum(1)
    squares = sorted_size.square()
    rest = squares.sum(1, keepdim=True) - squares.cumsum(1)
    reached = met + rest * meets
    k = torch.searchsorted(reached, need[:, None]).squeeze(1)
    inside = k.clamp(max=room.shape[1] - 1)[:, None]
    before = (met - sorted_size * sorted_room).gather(1, inside).squeeze(1)
    slope = (rest + squares).gather(1, inside).squeeze(1)
    r = ((need - before) / slope.clamp(min=1e-12)).clamp(min=0)
    r = torch.where(k < room.shape[1], r, torch.inf)[:, None]
    return -w.sign() * torch.minimum(room, torch.where(r.isinf() & (size == 0), 0, r * size))


def _random_start(ball, x, streams, images):
    """A random point at half the radius (the authors' choice for eps), inside the cube."""
    if isinstance(ball, LinfBall):
        step = streams.uniform(images, x.shape[1:], x).mul_(2).sub_(1)
        step /= per_image(step.flatten(1).abs().amax(1), x).clamp(min=torch.finfo(x.dtype).tiny)
    else:
        step = ball.ascent(streams.normal(images, x.shape[1:], x))
    return (x + ball.eps / 2 * step).clamp_(0, 1)
