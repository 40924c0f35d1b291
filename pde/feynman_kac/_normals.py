"""Standard normal numbers in single precision, in bulk: those of the path loops, without the paths.

z_j is a function of the key and of j alone (Philox4x32-10, Box and Muller), so the numbers do not depend on the number
of threads that write them.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from pde import checks
from pde._compiled import copy, inlined, njit
from pde.feynman_kac._random import NORMALS, checked_key, philox

_LANES = 256
_BLOCK = 4 * _LANES
# Fewer numbers than this take less time than waking a thread.
_SHARE = 2**16

_W, _I, _F = np.uint32, np.int32, np.float32
_inline = inlined(error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
_HALF_BITS, _8, _30 = _W(0x20000000), _W(8), _W(30)
_LOG = tuple(_F(1 / (2 * k + 1)) for k in range(5))
_SIN = tuple(_F((-1.0) ** k / math.factorial(2 * k + 1)) for k in range(5))
_COS = tuple(_F((-1.0) ** k / math.factorial(2 * k)) for k in range(6))
_LN2, _TURN = _F(math.log(2.0)), _F(2 * math.pi / 2**32)
_SQRT_HALF, _UNIT = _I(0x3F3504F3), _F(2.0**-24)


def standard_normals(n, key, *, n_threads=1):
    """Draw independent numbers of the standard normal law.

    Parameters
    ----------
    n : int
        Number of values; >= 0.
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
        If n or n_threads is out of range, or key is not two words.

    Examples
    --------
    >>> z = standard_normals(10**6, (1, 2))
    >>> bool(abs(z.mean()) < 5e-3 and abs(z.std() - 1) < 5e-3)
    True
    """
    n = checks.integer("n", n, at_least=0)
    n_threads = checks.integer("n_threads", n_threads, at_least=1)
    key = checked_key(key)
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


@_inline
def _log(u):
    bits = np.float32(u).view(np.int32)
    e = _I(_I(bits - _SQRT_HALF) >> _I(23))
    m = _I(bits - _I(e << _I(23))).view(np.float32)
    s = (m - _F(1)) / (m + _F(1))
    z = s * s
    p = _LOG[4]
    p = p * z + _LOG[3]
    p = p * z + _LOG[2]
    p = p * z + _LOG[1]
    p = p * z + _F(1)
    return np.float32(e) * _LN2 + _F(2) * s * p


@_inline
def _sin_cos(word):
    """Sine and cosine of 2 pi word / 2**32."""
    quarter = _W(word + _HALF_BITS) >> _30
    r = np.float32(_W(word - _W(quarter << _30)).view(np.int32)) * _TURN
    z = r * r
    s = _SIN[4]
    s = s * z + _SIN[3]
    s = s * z + _SIN[2]
    s = s * z + _SIN[1]
    s = (s * z + _F(1)) * r
    c = _COS[5]
    c = c * z + _COS[4]
    c = c * z + _COS[3]
    c = c * z + _COS[2]
    c = c * z + _COS[1]
    c = c * z + _F(1)
    odd = (quarter & _W(1)) != 0
    sine, cosine = (c, s) if odd else (s, c)
    sine = -sine if (quarter & _W(2)) != 0 else sine
    return sine, (-cosine if ((quarter + _W(1)) & _W(2)) != 0 else cosine)


@_inline
def normals32(words, z, count, block, stream, key):
    """Four standard normals for each of `count` lanes, in the rows of z (4, m): counters (block, lane) of a stream."""
    for lane in range(count):
        a0, a1, a2, a3 = philox(np.uint64(block), np.uint64(lane), np.uint64(0), np.uint64(stream), key[0], key[1])
        words[0, lane], words[1, lane], words[2, lane], words[3, lane] = _W(a0), _W(a1), _W(a2), _W(a3)
    # Box and Muller.
    for half in range(0, 4, 2):
        for lane in range(count):
            u = (_F(_I(words[half, lane] >> _8)) + _F(0.5)) * _UNIT
            z[half, lane] = np.sqrt(_F(-2) * _log(u))
        for lane in range(count):
            sine, cosine = _sin_cos(words[half + 1, lane])
            z[half + 1, lane] = z[half, lane] * sine
            z[half, lane] = z[half, lane] * cosine


@njit()
def _fill(out, first, last, key):
    words, z = np.empty((4, _LANES), np.uint32), np.empty((4, _LANES), np.float32)
    for block in range(first, last):
        normals32(words, z, _LANES, block, NORMALS, key)
        for row in range(4):
            start = (4 * block + row) * _LANES
            copy(out[start : start + _LANES], z[row])
