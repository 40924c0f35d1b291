"""Memory that stays with the process between the passes of an attack.

The C library returns free memory at the end of the heap to the system, which then has to supply every page again in the
next pass: for PGD on ResNet-20 with 128 images, this took 0.05 to 0.1 s of each step of half a second. A block held at
the end of the heap during an attack keeps the free memory below it. Nothing is written to the block, so it takes
addresses but no memory; with other allocators it has no effect.
"""

import torch

__all__ = ["hold"]

# Number of blocks of the size of the largest activation that a gradient needs beyond the forward pass, at most.
N_ROOM = 8
# Sizes in bytes: larger blocks are mapped separately (glibc's largest M_MMAP_THRESHOLD), smaller ones cost nothing.
LEAST, MOST = 2**17, 2**25


def hold(n_bytes):
    """Return a block above free memory for a gradient whose largest activation has n_bytes; None if it would not help.

    Call it when a pass holds the most memory, after its forward part.
    """
    if not LEAST <= n_bytes <= MOST:
        return None
    blocks = [torch.empty(n_bytes, dtype=torch.uint8) for _ in range(N_ROOM)]
    # The blocks below it are freed here.
    return blocks[-1]
