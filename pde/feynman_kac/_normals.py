"""Standard normal numbers in single precision, in bulk: those of the path loops, without the paths.

z_j is a function of the key and of j alone (Philox4x32-10, Box and Muller), so the numbers do not depend on the number
of threads that write them.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np

from pde import checks
from pde.feynman_kac._kernels32 import normals32

__all__ = ["standard_normals"]

_LANES = 256
_BLOCK = 4 * _LANES
# A counter of the generator no path loop uses.
_STREAM = 3
# Fewer numbers than this take less time than waking a thread.
_SHARE = 2**16


def standard_normals(n, key, *, n_threads=1):
    """Draw independent numbers of the standard normal law.

    Parameters
    ----------
    n : int
        How many; >= 0.
    key : pair of int
        Seed: two words of 32 bits.
    n_threads : int, default=1
        Threads at most; the numbers do not depend on it.

    Returns
    -------
    ndarray of shape (n,)
        float32; |z| < 6, as a uniform number of 24 bits goes no further.

    Raises
    ------
    ValueError
        If n or n_threads is out of range (raised by a helper).

    Examples
    --------
    >>> z = standard_normals(10**6, (1, 2))
    >>> bool(abs(z.mean()) < 5e-3 and abs(z.std() - 1) < 5e-3)
    True
    """
    n = checks.integer("n", n, at_least=0)
    n_threads = checks.integer("n_threads", n_threads, at_least=1)
    key = np.array(key, dtype=np.uint64)
    n_blocks = -(-n // _BLOCK)
    out = np.empty(n_blocks * _BLOCK, dtype=np.float32)
    n_parts = max(1, min(n_threads, n // _SHARE))
    edges = [n_blocks * part // n_parts for part in range(n_parts + 1)]
    if n_parts == 1:
        _fill(out, 0, n_blocks, key)
    else:
        list(_threads(n_parts).map(lambda part: _fill(out, edges[part], edges[part + 1], key), range(n_parts)))
    return out[:n]


@cache
def _threads(n):
    return ThreadPoolExecutor(n, thread_name_prefix="normals")


# Threads do not survive a fork: the child makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


@numba.njit(cache=True, nogil=True)
def _fill(out, first, last, key):
    words, z = np.empty((4, _LANES), np.uint32), np.empty((4, _LANES), np.float32)
    for block in range(first, last):
        normals32(words, z, _LANES, block, _STREAM, key)
        for row in range(4):
            start = (4 * block + row) * _LANES
            out[start : start + _LANES] = z[row]
