"""Random numbers of an image that do not depend on the other images of its batch."""

import torch

__all__ = ["ImageStreams"]


class ImageStreams:
    """One stream of random numbers per image, on the CPU, seeded by the generator in the order of the images.

    Splitting a batch in two, with one generator for both parts, gives every image the same numbers, and so does leaving
    out an image that needs no more.
    """

    def __init__(self, n_images, generator=None):
        device = "cpu" if generator is None else generator.device
        # One call per seed: on a GPU, the numbers of one call for many images depend on how many they are.
        seeds = [torch.randint(2**62, (), generator=generator, device=device).item() for _ in range(n_images)]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, images, shape, like):
        """Draw from [0, 1) for the images with these indices: (n_chosen, *shape), dtype and device of `like`."""
        return self._draw(torch.rand, images, shape, like)

    def normal(self, images, shape, like):
        """Draw standard normal numbers, otherwise as `uniform` does."""
        return self._draw(torch.randn, images, shape, like)

    def _draw(self, law, images, shape, like):
        # In half precision the numbers would be too coarse.
        dtype = torch.promote_types(like.dtype, torch.float32)
        drawn = [law(shape, dtype=dtype, generator=self._generators[image]) for image in images.tolist()]
        return torch.stack(drawn).to(like.device, like.dtype) if drawn else like.new_empty((0, *shape))
