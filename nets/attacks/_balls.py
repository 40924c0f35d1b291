"""The sets in which an attack may move: balls around the images, cut by the cube [0, 1]^d of images.

    B(x, eps) = {z in [0, 1]^d : ||z - x||_p <= eps},  p = infinity or 2              (paper: section 3.2)

Everything that differs between the norms is here: the projection, the direction of steepest ascent, random points and
the distance. Each attack is written once for both.
"""

import math
from dataclasses import dataclass

import torch

from bridge import checks

__all__ = ["make_ball"]

# The paper's radius in the maximum norm (section 3.2), in units of images in [0, 1].
EPS = 8 / 255


@dataclass(frozen=True)
class _Ball:
    """A ball of radius eps >= 0, in units of x; x, z and gradients are of shape (n_images, ...)."""

    eps: float

    def __post_init__(self):
        object.__setattr__(self, "eps", checks.real("eps", self.eps, positive=False))


class LinfBall(_Ball):
    """The ball of the maximum norm."""

    def around(self, x):
        """Return the map from points z to the nearest points in both the ball around x and the cube."""
        # One interval per pixel, whose ends are clipped to the cube: the intersection of ball and cube.
        low, high = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)
        return lambda z: torch.clamp(z, low, high)

    @staticmethod
    def ascent(gradient):
        """Return the unit vectors of steepest ascent, sign(gradient) (paper: (3.2))."""
        return gradient.sign()

    def random_point(self, x, generator=None):
        """Draw uniformly from the ball around x, and project onto the cube."""
        # In the order of the indices, whatever the order of x in memory: the same numbers for the same images.
        return x.add(x.new_empty(x.shape).uniform_(-self.eps, self.eps, generator=generator)).clamp_(0, 1)

    def random_direction(self, streams, images, x):
        """Draw vectors of length 1 for the images with these indices, x (n_chosen, ...), from `ImageStreams`."""
        step = streams.uniform(images, x.shape[1:], x).mul_(2).sub_(1)
        return step.div_(per_image(step.flatten(1).abs().amax(1), x).clamp(min=torch.finfo(x.dtype).tiny))

    @staticmethod
    def distance(z, x):
        """Return ||z - x|| of each image, of shape (n_images,)."""
        return (z - x).abs().flatten(1).amax(1)


class L2Ball(_Ball):
    """The ball of the Euclidean norm."""

    def around(self, x):
        """Return the map that brings points z into the ball around x, and then into the cube.

        The second step moves every pixel closer to x, so the result is in both.
        """

        def project(z):
            step = z - x
            length = _lengths(step)
            return (x + step * (self.eps / length.clamp(min=max(self.eps, torch.finfo(x.dtype).tiny)))).clamp_(0, 1)

        return project

    @staticmethod
    def ascent(gradient):
        """Return the unit vectors of steepest ascent, gradient / ||gradient||_2, and 0 where the gradient vanishes."""
        # Scaled first: squares of a gradient of 1e-25 would underflow in single precision.
        scaled = gradient / per_image(gradient.abs().flatten(1).amax(1), gradient).clamp(
            min=torch.finfo(gradient.dtype).tiny
        )
        return scaled / _lengths(scaled).clamp(min=torch.finfo(gradient.dtype).tiny)

    def random_point(self, x, generator=None):
        """Draw uniformly from the ball around x, and project onto the cube."""
        direction = self.ascent(x.new_empty(x.shape).normal_(generator=generator))
        share = torch.rand(len(x), dtype=x.dtype, device=x.device, generator=generator)
        radius = self.eps * share ** (1 / math.prod(x.shape[1:]))
        return x.add(direction.mul_(per_image(radius, x))).clamp_(0, 1)

    def random_direction(self, streams, images, x):
        """Draw vectors of length 1 for the images with these indices, x (n_chosen, ...), from `ImageStreams`."""
        return self.ascent(streams.normal(images, x.shape[1:], x))

    @staticmethod
    def distance(z, x):
        """Return ||z - x|| of each image, of shape (n_images,)."""
        return _lengths(z - x).flatten()


NORMS = {"linf": LinfBall, "l2": L2Ball}


def make_ball(norm, eps):
    """Return the ball of a norm.

    Parameters
    ----------
    norm : {"linf", "l2"}
        Name of the norm.
    eps : float
        Radius in units of x; >= 0.

    Returns
    -------
    LinfBall or L2Ball

    Raises
    ------
    ValueError
        If the norm is unknown, or eps negative or not finite (raised by a helper).
    """
    return NORMS[checks.one_of("norm", norm, tuple(NORMS))](eps)


def per_image(values, x):
    """Reshape one value per image to (n_images, 1, ...), which broadcasts over images x (n_images, ...)."""
    return values.view(-1, *[1] * (x.dim() - 1))


def choose(mask, x, other):
    """Take each image (n_images, ...) from x where mask (n_images,) is true, else from the other batch."""
    return torch.where(per_image(mask, x), x, other)


def _lengths(step):
    return per_image(torch.linalg.vector_norm(step.flatten(1), dim=1), step)
