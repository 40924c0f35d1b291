"""All random streams of a training run from one seed: a generator for each purpose, epoch and process.

The state of a generator is never stored: the generators of an epoch are derived from the seed of the run, so that a run
resumes from the end of any epoch with the numbers that it would have drawn.
"""

import contextlib
import hashlib
import random

import numpy as np
import torch

__all__ = ["default_generator_seeded", "derive", "make_generator", "numpy_and_python_seeded"]


def derive(seed: int, purpose: str, *numbers) -> int:
    """Return the seed of a purpose ("weights", "split", "order", ...), and of an epoch and process, if given.

    It consists of the leading 63 bits of a SHA-256 of all of these.
    """
    text = "/".join(map(str, (seed, purpose, *numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *numbers, device="cpu"):
    """Return a generator on a device, seeded by `derive`."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, *numbers))


@contextlib.contextmanager
def default_generator_seeded(seed: int, device):
    """Seed PyTorch's own generators of the CPU and of a device inside a `with` block, and restore them at its end.

    For models that draw from no other generator, such as compiled ones.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def numpy_and_python_seeded(seed: int):
    """Seed the global generators of NumPy and Python inside a `with` block, and restore them at its end.

    Yields a function that returns whether anything was drawn from them.
    """

    def state():
        # The generator of models that call np.random.
        return np.random.get_state(), random.getstate()  # noqa: NPY002

    def comparable(state):
        (_, key, *rest), python = state
        return key.tobytes(), rest, python

    before = state()
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        seeded = comparable(state())
        yield lambda: comparable(state()) != seeded
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
