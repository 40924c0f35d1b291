"""Square Attack: random search over squares of pixels, which needs predictions of the model but no gradient.

In a window at a random position, the perturbation is replaced by one at the surface of the ball, which is kept if it
raises the margin max_{i != y} z_i - z_y. The window covers a share p of the image that is halved as the search proceeds
(Andriushchenko et al. 2020, Algorithms 1 to 3).
"""

import bisect

import torch
from tqdm import tqdm

from bridge import checks
from nets.attacks._balls import EPS, LinfBall, make_ball
from nets.attacks._decisions import Best, check_classes, resolve_draws
from nets.attacks._image_rng import ImageStreams
from nets.attacks._inputs import admit
from nets.attacks._passes import mean_logits
from nets.attacks._state import attacked

__all__ = ["square"]

# p is halved after these queries of 10 000 (section 4.1).
HALVINGS, PLANNED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000), 10_000
# Number of queries whose random numbers are drawn at once.
BLOCK = 64


def square(
    model,
    x,
    y,
    *,
    eps=EPS,
    norm="linf",
    n_queries=5000,
    p_init=0.8,
    rescale=True,
    targeted=False,
    n_eot=1,
    n_draws=None,
    generator=None,
    progress=False,
):
    """Attack by random search over squares.

    Images that are misclassified from the start are returned unchanged, and a broken image needs no more queries. The
    random numbers of an image depend only on its position in the sequence of images: with a deterministic model,
    splitting a batch, with one generator for all parts, gives the same result up to rounding.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacked`.
    x : Tensor of shape (n_images, n_channels, height, width)
        Images in [0, 1].
    y : Tensor of shape (n_images,)
        Labels; with targeted=True, the target classes.
    eps : float, default=8/255
        Radius of the ball, in units of x and in `norm`; >= 0.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    n_queries : int, default=5000
        Number of predictions per image, including the one at the start; >= 1.
    p_init : float, default=0.8
        Share of the image that the first windows cover; in (0, 1].
    rescale : bool, default=True
        Whether to stretch the schedule of p, made for 10 000 queries, to n_queries. AutoAttack does not.
    targeted : bool, default=False
        Whether to seek images that are classified as y.
    n_eot : int, default=1
        Number of passes with independent noise whose mean logits are one prediction; >= 1.
    n_draws : int, optional
        Number of passes whose mean logits decide whether an image is misclassified. Default: 1, or max(10, n_eot) for a
        noisy model: a prediction that breaks an image is repeated with that many draws. Among many queries one may
        break it by luck, which ends its search: raise n_draws with n_queries.
    generator : torch.Generator, optional
        Generator of the windows and of the model's noise; by default PyTorch's own.
    progress : bool, default=False
        Whether to show a progress bar, if standard error is a terminal.

    Returns
    -------
    Tensor of shape (n_images, n_channels, height, width)
        x_adv, in [0, 1] and within eps of x up to rounding; for an image that is not broken, the best point found.

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the logits are not finite.

    References
    ----------
    .. [1] Andriushchenko, Croce, Flammarion & Hein 2020, Square Attack: a query-efficient black-box adversarial attack
       via random search, ECCV, arXiv 1912.00049.
    """
    ball = make_ball(norm, eps)
    n_queries = checks.integer("n_queries", n_queries, at_least=1)
    p_init = checks.real("p_init", p_init, positive=True)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    if p_init > 1:
        raise ValueError(f"p_init must be in (0, 1], got p_init={p_init:g}")
    model, x, y = admit(model, x, y, n_eot=n_eot, eps=ball.eps, norm=norm, as_images=True, generator=generator)
    if not len(x):
        return x.clone()
    bar = tqdm(total=n_queries, disable=None if progress else True, unit="query", desc="square")
    with attacked(model, generator=generator), bar:
        n_draws = resolve_draws(model, x, n_draws, n_eot)
        logits = mean_logits(model, x, n_draws)
        check_classes(logits, y)
        search = (_LinfSearch if isinstance(ball, LinfBall) else _L2Search)(ball, x, ImageStreams(len(x), generator))
        best = Best(x, y, logits, targeted=targeted, model=model)
        for query in range(n_queries):
            images = best.left()
            if not len(images):
                break
            if query == 0:
                candidates = search.start(images)
            else:
                p = p_init / 2 ** _n_halvings(query, n_queries, rescale)
                candidates = search.step(query, images, best.x_adv[images], p)
            logits = mean_logits(model, candidates, n_eot)
            if n_draws > 1:
                # The draws that guide the search only propose, as many as they may be.
                hits = best.deceives(logits, y[images]).nonzero().flatten()
                if len(hits):
                    logits[hits] = mean_logits(model, candidates[hits], n_draws)
            best.offer(images, candidates, logits)
            bar.update()
    return best.x_adv


def window_side(p, height, width, *, odd=False):
    """Return the side of the window, round(sqrt(p height width)), at least 1 and at most the image's shorter side.

    With odd, the next odd number, at least 3, as for the windows of l_2.

    >>> window_side(0.8, 32, 32), window_side(0.8, 32, 32, odd=True), window_side(0.001, 8, 8)
    (29, 29, 1)
    """
    side = max(round((p * height * width) ** 0.5), 1)
    if odd:
        side = max(side, 3)
        side += side % 2 == 0
    return min(side, height, width)


def _n_halvings(query, n_queries, rescale):
    return bisect.bisect_left(HALVINGS, query * PLANNED // n_queries if rescale else query)


class _Search:
    """The part that both norms share: windows at random positions, and random signs."""

    def __init__(self, ball, x, streams):
        self.ball, self.x, self.streams = ball, x, streams
        self.n_channels, self.height, self.width = x.shape[1:]
        self.numbers = None

    def draw(self, query, images, n):
        """Uniform numbers of each image for this query, of shape (n_chosen, n), drawn for many queries at once."""
        if (query - 1) % BLOCK == 0:
            # Double precision: in single, a number just below 1 may be rounded up to a position outside the image.
            drawn = self.streams.uniform(images, (BLOCK, n), self.x.new_empty(0, dtype=torch.float64))
            self.numbers = drawn.new_zeros((len(self.x), BLOCK, n))
            self.numbers[images] = drawn
        return self.numbers[images, (query - 1) % BLOCK]

    def signs(self, uniform):
        return torch.where(uniform < 0.5, -1.0, 1.0).to(self.x.dtype)

    def corner(self, uniform, side):
        """Row and column of the window's corner, all positions equally likely."""
        space = torch.tensor([self.height - side + 1, self.width - side + 1], device=uniform.device)
        return (uniform * space).long()

    def window(self, corner, side):
        """Mask of shape (n_chosen, 1, height, width)."""
        rows = torch.arange(self.height, device=corner.device) - corner[:, :1]
        columns = torch.arange(self.width, device=corner.device) - corner[:, 1:]
        inside = [(line >= 0) & (line < side) for line in (rows, columns)]
        return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


class _LinfSearch(_Search):
    """Perturbations of +eps or -eps in every pixel (Algorithm 2)."""

    def start(self, images):
        stripes = self.signs(self.streams.uniform(images, (self.n_channels, 1, self.width), self.x))
        return self._corners(images, stripes.expand(-1, -1, self.height, -1))

    def step(self, query, images, x_adv, p):
        side = window_side(p, self.height, self.width)
        uniform = self.draw(query, images, 2 + self.n_channels)
        window = self.window(self.corner(uniform[:, :2], side), side)
        return torch.where(window, self._corners(images, self.signs(uniform[:, 2:])[:, :, None, None]), x_adv)

    def _corners(self, images, signs):
        return (self.x[images] + self.ball.eps * signs).clamp_(0, 1)


class _L2Search(_Search):
    """Perturbations whose norm moves from one window to another (Algorithm 3)."""

    def start(self, images):
        side = max(min(self.height, self.width) // 5, 1)
        n_rows, n_columns = self.height // side, self.width // side
        signs = self.signs(self.streams.uniform(images, (self.n_channels, n_rows, n_columns), self.x))
        tiles = torch.kron(signs, _two_bumps(side, self.x))
        step = torch.zeros_like(self.x[images])
        top, left = (self.height - n_rows * side) // 2, (self.width - n_columns * side) // 2
        step[:, :, top : top + n_rows * side, left : left + n_columns * side] = tiles
        return self._on_sphere(images, step)

    def step(self, query, images, x_adv, p):
        side = window_side(p, self.height, self.width, odd=True)
        uniform = self.draw(query, images, 5 + self.n_channels)
        step = x_adv - self.x[images]
        corner = self.corner(uniform[:, :2], side)
        new, old = self.window(corner, side), self.window(self.corner(uniform[:, 2:4], side), side)
        unused = (self.ball.eps**2 - step.square().sum((1, 2, 3), keepdim=True)).clamp(min=0)
        available = ((step * (new | old)).square().sum((2, 3), keepdim=True) + unused / self.n_channels).sqrt()

        shape = _two_bumps(side, self.x)
        shape = torch.where((uniform[:, 4] < 0.5)[:, None, None, None], shape, shape.T)
        bump = self._placed(self.signs(uniform[:, 5:])[:, :, None, None] * shape, corner, side)
        inside = step * new
        bump += inside / _length(inside)
        step = torch.where(new, bump / _length(bump) * available, torch.where(old, 0, step))
        return self._on_sphere(images, step)

    def _placed(self, values, corner, side):
        """Windows of shape (n_chosen, n_channels, side, side), each at its corner in an image of zeros."""
        line = torch.arange(side, device=corner.device)
        places = (corner[:, :1, None] + line[:, None]) * self.width + corner[:, 1:, None] + line
        places = places.flatten(1)[:, None].expand(-1, self.n_channels, -1)
        image = values.new_zeros((len(values), self.n_channels, self.height * self.width))
        return image.scatter_(2, places, values.flatten(2)).view(-1, self.n_channels, self.height, self.width)

    def _on_sphere(self, images, step):
        # Clipping to the cube has shortened the step: it is scaled to length eps again.
        length = torch.linalg.vector_norm(step.flatten(1), dim=1)[:, None, None, None]
        return (self.x[images] + step * (self.ball.eps / length.clamp(min=torch.finfo(step.dtype).tiny))).clamp_(0, 1)


def _length(step):
    """Length of each channel's step, never 0."""
    length = torch.linalg.vector_norm(step, dim=(2, 3), keepdim=True)
    return length.clamp(min=torch.finfo(step.dtype).tiny)


def _two_bumps(side, like):
    """Pattern of norm 1 and shape (side, side): a positive bump above a negative one."""
    half = side // 2
    pattern = torch.cat([_bump(half, side, like), -_bump(side - half, side, like)])
    return pattern / torch.linalg.vector_norm(pattern)


def _bump(height, width, like):
    """sum_{j >= d} 1 / (j + 1)^2 up to the middle of the longer side, d the distance from the centre in max norm."""
    rows = (torch.arange(height, device=like.device) - height // 2).abs()
    columns = (torch.arange(width, device=like.device) - width // 2).abs()
    terms = torch.arange(1, max(height, width) // 2 + 2, dtype=like.dtype, device=like.device) ** -2
    tails = terms.flip(0).cumsum(0).flip(0)
    bump = tails[torch.maximum(rows[:, None], columns)]
    # Both bumps have the same norm, although one may have a row more.
    return bump / torch.linalg.vector_norm(bump).clamp(min=torch.finfo(like.dtype).tiny)
