"""Random numbers of an image that do not depend on the other images of its batch."""

import torch

__all__ = ["ImageStreams"]


class ImageStreams:
    """One stream of random numbers an image, on the CPU, seeded in the images' order.

    Splitting a batch in two, with one generator for both, gives every image the numbers that it had before; and so does
    leaving out an image that needs no more.

    Parameters
    ----------
    n_images : int
        Number of streams.
    generator : torch.Generator, optional
        Source of the seeds, one a stream; by default PyTorch's own.
    """

    def __init__(self, n_images, generator=None):
        device = "cpu" if generator is None else generator.device
        # One call a seed: on a GPU the numbers of one call over many images depend on how many they are.
        seeds = [torch.randint(2**62, (), generator=generator, device=device).item() for _ in range(n_images)]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, images, shape, like):
        """Draw from [0, 1).

        Parameters
        ----------
        images : Tensor of shape (n_chosen,)
            Numbers of the images that draw.
        shape : tuple of int
            What each draws.
        like : Tensor of shape (...)
            Gives dtype and device.

        Returns
        -------
        Tensor of shape (n_chosen, *shape)
        """
        return self._draw(torch.rand, images, shape, like)

    def normal(self, images, shape, like):
        """Draw from the normal distribution of mean 0 and variance 1.

        Parameters
        ----------
        images : Tensor of shape (n_chosen,)
            Numbers of the images that draw.
        shape : tuple of int
            What each draws.
        like : Tensor of shape (...)
            Gives dtype and device.

        Returns
        -------
        Tensor of shape (n_chosen, *shape)
        """
        return self._draw(torch.randn, images, shape, like)

    def _draw(self, law, images, shape, like):
        # In half precision the numbers would be too coarse.
        dtype = torch.promote_types(like.dtype, torch.float32)
        drawn = [law(shape, dtype=dtype, generator=self._generators[image]) for image in images.tolist()]
        return torch.stack(drawn).to(like.device, like.dtype) if drawn else like.new_empty((0, *shape))
