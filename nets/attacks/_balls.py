"""The sets that an attack may move in: balls around the images, cut by the cube [0, 1]^d of images.

    B(x, eps) = {z in [0, 1]^d : ||z - x||_p <= eps},  p = infinity or 2              (paper: section 3.2)

What differs between the norms is here alone: the projection, the direction of steepest ascent, a uniform random point
and the distance. An attack is written once for both.
"""

from dataclasses import dataclass

import torch

from bridge import checks

__all__ = ["make_ball"]

# The paper's radius in the maximum norm (section 3.2), in units of images in [0, 1].
EPS = 8 / 255


@dataclass(frozen=True)
class LinfBall:
    """The ball of the maximum norm.

    Parameters
    ----------
    eps : float
        Radius in units of x; >= 0.

    Raises
    ------
    ValueError
        If eps is negative or not finite (raised by a helper).
    """

    eps: float

    def __post_init__(self):
        object.__setattr__(self, "eps", checks.real("eps", self.eps, positive=False))

    def around(self, x):
        """Return the function that projects onto the ball around x.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Centres, in [0, 1].

        Returns
        -------
        callable
            Points of shape (n_images, ...) to the nearest points of the ball and the cube.
        """
        # One interval a pixel: the intersection of two intervals projects as they would one after the other.
        low, high = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)
        return lambda z: torch.clamp(z, low, high)

    @staticmethod
    def ascent(gradient):
        """Return the direction of length 1 in which a linear function of this gradient grows fastest.

        Parameters
        ----------
        gradient : Tensor of shape (n_images, ...)
            Of each image's loss.

        Returns
        -------
        Tensor of shape (n_images, ...)
            sign(gradient)                                                       (paper: (3.2))
        """
        return gradient.sign()

    def random_point(self, x, generator=None):
        """Draw uniformly from the ball around x, and project onto the cube.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Centres, in [0, 1].
        generator : torch.Generator, optional
            Source of the random numbers.

        Returns
        -------
        Tensor of shape (n_images, ...)
        """
        return torch.empty_like(x).uniform_(-self.eps, self.eps, generator=generator).add_(x).clamp_(0, 1)

    @staticmethod
    def distance(z, x):
        """Return the distance of each image.

        Parameters
        ----------
        z, x : Tensor of shape (n_images, ...)
            Images.

        Returns
        -------
        Tensor of shape (n_images,)
        """
        return (z - x).abs().flatten(1).amax(1)


@dataclass(frozen=True)
class L2Ball:
    """The ball of the Euclidean norm.

    Parameters
    ----------
    eps : float
        Radius in units of x; >= 0.

    Raises
    ------
    ValueError
        If eps is negative or not finite (raised by a helper).
    """

    eps: float

    def __post_init__(self):
        object.__setattr__(self, "eps", checks.real("eps", self.eps, positive=False))

    def around(self, x):
        """Return the function that brings points into the ball around x and the cube.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Centres, in [0, 1].

        Returns
        -------
        callable
            Points of shape (n_images, ...) to points of both: first to the nearest of the ball, then to that one's
            nearest of the cube, which brings every pixel closer to x.
        """

        def project(z):
            step = z - x
            length = _lengths(step)
            return (x + step * (self.eps / length.clamp(min=max(self.eps, torch.finfo(x.dtype).tiny)))).clamp_(0, 1)

        return project

    @staticmethod
    def ascent(gradient):
        """Return the direction of length 1 in which a linear function of this gradient grows fastest.

        Parameters
        ----------
        gradient : Tensor of shape (n_images, ...)
            Of each image's loss.

        Returns
        -------
        Tensor of shape (n_images, ...)
            gradient / ||gradient||_2, and 0 where the gradient vanishes.
        """
        # Twice: squares of a gradient of 1e-25 would underflow in single precision.
        scaled = gradient / per_image(gradient.abs().flatten(1).amax(1), gradient).clamp(
            min=torch.finfo(gradient.dtype).tiny
        )
        return scaled / _lengths(scaled).clamp(min=torch.finfo(gradient.dtype).tiny)

    def random_point(self, x, generator=None):
        """Draw uniformly from the ball around x, and project onto the cube.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Centres, in [0, 1].
        generator : torch.Generator, optional
            Source of the random numbers.

        Returns
        -------
        Tensor of shape (n_images, ...)
        """
        direction = self.ascent(torch.empty_like(x).normal_(generator=generator))
        share = torch.rand(len(x), dtype=x.dtype, device=x.device, generator=generator)
        radius = self.eps * share ** (1 / max(1, x[0].numel()))
        return direction.mul_(per_image(radius, x)).add_(x).clamp_(0, 1)

    @staticmethod
    def distance(z, x):
        """Return the distance of each image.

        Parameters
        ----------
        z, x : Tensor of shape (n_images, ...)
            Images.

        Returns
        -------
        Tensor of shape (n_images,)
        """
        return _lengths(z - x).flatten()


NORMS = {"linf": LinfBall, "l2": L2Ball}


def make_ball(norm, eps):
    """Return the ball of a norm by name.

    Parameters
    ----------
    norm : {"linf", "l2"}
        Norm.
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
    """Lay one value an image out so that it broadcasts over the image.

    Parameters
    ----------
    values : Tensor of shape (n_images,)
        One an image.
    x : Tensor of shape (n_images, ...)
        Images.

    Returns
    -------
    Tensor of shape (n_images, 1, ...)
    """
    return values.view(-1, *[1] * (x.dim() - 1))


def choose(mask, x, other):
    """Take each image from one batch or the other.

    Parameters
    ----------
    mask : Tensor of shape (n_images,)
        True: from x.
    x, other : Tensor of shape (n_images, ...)
        Images.

    Returns
    -------
    Tensor of shape (n_images, ...)
    """
    return torch.where(per_image(mask, x), x, other)


def _lengths(step):
    return per_image(torch.linalg.vector_norm(step.flatten(1), dim=1), step)
