"""Every random number of a training from one seed: a generator for each purpose, epoch and process.

Nothing of a generator has to be stored: an epoch's are made anew from the run's seed, so that a run goes on from the
end of any epoch with the numbers that it would have drawn.
"""

import contextlib
import hashlib

import torch

__all__ = ["default_generator_seeded", "derive", "make_generator"]


def derive(seed: int, purpose: str, *numbers) -> int:
    """Return a seed of its own for a purpose.

    Parameters
    ----------
    seed : int
        The run's.
    purpose : str
        "weights", "split", "order", "attack", "noise", "validation".
    *numbers : int
        Epoch and process, where the purpose has them.

    Returns
    -------
    int
        In [0, 2**63): the leading bits of a SHA-256 of all of these.
    """
    text = "/".join(map(str, (seed, purpose, *numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *numbers, device="cpu"):
    """Make a generator for a purpose.

    Parameters
    ----------
    seed, purpose, *numbers : int, str, int
        As of `derive`.
    device : str or torch.device, default="cpu"
        Where it draws.

    Returns
    -------
    torch.Generator
    """
    return torch.Generator(device).manual_seed(derive(seed, purpose, *numbers))


@contextlib.contextmanager
def default_generator_seeded(seed: int, device):
    """Seed PyTorch's own generators inside a `with` block, and put them back at its end.

    For compiled models alone, in whose graphs no other generator can stand.

    Parameters
    ----------
    seed : int
        Seed.
    device : torch.device
        The device whose generator is meant; that of the CPU is seeded as well.

    Yields
    ------
    None
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
