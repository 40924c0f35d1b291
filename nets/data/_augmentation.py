"""Random crops and reflections of a whole batch: two numbers and a coin per image, and one gather.

    x'[c, i, j] = p[c, i + di, s(j) + dj],   p = x with `padding` zeros on each side,   s(j) = j or width - 1 - j

di, dj uniform on 0, ..., 2 padding; the standard augmentation of CIFAR (paper: section 3.3, after He et al. 2015).
"""

from typing import NamedTuple

import torch
from torch.nn import functional

from bridge import checks

__all__ = ["Shifts", "augment", "draw_shifts"]


class Shifts(NamedTuple):
    """Random crop and reflection of each image.

    Attributes
    ----------
    rows, columns : Tensor of shape (n_images,)
        Corner of the crop in the padded image: integers from 0 to 2 padding.
    mirrored : Tensor of shape (n_images,)
        Whether the image is reflected.
    padding : int
        Number of zeros added on each side.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    mirrored: torch.Tensor
    padding: int

    def at(self, chosen):
        """Select images by a Tensor of shape (n_chosen,) or a slice, or move to a torch.device."""
        if isinstance(chosen, torch.device):
            return Shifts(*(part.to(chosen) for part in self[:3]), self.padding)
        return Shifts(*(part[chosen] for part in self[:3]), self.padding)


def draw_shifts(n_images, *, padding=4, flip=True, generator=None):
    """Draw crops and reflections, independently for each image.

    They are drawn on the CPU, so that they are the same on every device.

    Parameters
    ----------
    n_images : int
        Number of images.
    padding : int, default=4
        Number of zeros added on each side; 0: no crop.
    flip : bool, default=True
        Whether to reflect left to right with probability 1/2.
    generator : torch.Generator, optional
        Generator of the random numbers, on the CPU.

    Returns
    -------
    Shifts

    Raises
    ------
    ValueError
        If padding is negative, or the generator none of PyTorch's (raised by a helper).
    """
    checks.generator(generator)
    padding = checks.integer("padding", padding, at_least=0)
    corners = torch.randint(0, 2 * padding + 1, (2, n_images), generator=generator)
    coins = torch.randint(0, 2, (n_images,), generator=generator)
    return Shifts(corners[0], corners[1], coins.bool() & flip, padding)


def augment(images, shifts):
    """Crop and reflect images.

    Parameters
    ----------
    images : Tensor of shape (n_images, n_channels, height, width)
        Images of any dtype.
    shifts : Shifts
        One crop and reflection per image, on the same device.

    Returns
    -------
    Tensor of shape (n_images, n_channels, height, width)
        In channels-last memory order.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (shifts.padding,) * 4).permute(0, 2, 3, 1)
    rows = torch.arange(height, device=images.device) + shifts.rows[:, None]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(shifts.mirrored[:, None], width - 1 - columns, columns) + shifts.columns[:, None]
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
