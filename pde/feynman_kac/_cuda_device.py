"""What a particle needs on a CUDA device: random numbers, the torus, and the velocity between grid points.

Random numbers have the counters of `_random` (step, path, point; key). In float64 the paths are those of the CPU up to
rounding. In float32 positions are 32-bit integers, fractions of the period in units of 2**-32: the torus wraps by
itself and cell and fraction are the two halves of one product; velocities, logarithm, sine and cosine have single
precision: the same paths to about 1e-6, the same law.
"""

import functools
import math
from types import SimpleNamespace

import numba
import numpy as np

try:
    from numba import cuda
except ImportError:  # a numba without its CUDA target, which numba-cuda replaces
    cuda = None

from pde.feynman_kac._random import GAUSSIAN64, SIGNS

__all__ = ["cuda", "make_normals", "make_philox", "make_signs", "make_spline", "make_torus", "simulated"]

_U, _W = np.uint64, np.uint32
_LOW, _32 = _U(0xFFFFFFFF), _U(32)
_MULTIPLIERS = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL = _U(0x9E3779B9), _U(0xBB67AE85)


def simulated():
    return bool(numba.config.ENABLE_CUDASIM)


def _functions_of(dtype):
    """The device's functions; in the simulator, which has none, those of the C library."""
    if not simulated():
        from numba.cuda import libdevice

        if dtype == np.float64:
            return SimpleNamespace(floor=libdevice.floor, sincospi=libdevice.sincospi)
        return SimpleNamespace(
            log2=libdevice.fast_log2f, rsqrt=libdevice.rsqrtf, sin=libdevice.fast_sinf, cos=libdevice.fast_cosf
        )
    return SimpleNamespace(
        floor=np.floor,
        sincospi=lambda x: (math.sin(math.pi * x), math.cos(math.pi * x)),
        log2=np.log2,
        rsqrt=lambda x: dtype.type(1) / np.sqrt(x),
        sin=np.sin,
        cos=np.cos,
    )


@functools.cache
def make_philox():
    m0, m1 = _MULTIPLIERS
    w0, w1 = _WEYL

    @cuda.jit(device=True)
    def philox(c0, c1, c2, c3, k0, k1):
        """Philox4x32-10: four 32-bit words from a counter of four and a key of two."""
        for _ in range(10):
            p0, p1 = m0 * _U(c0), m1 * _U(c2)
            c0, c1 = _W((p1 >> _32) ^ c1 ^ k0), _W(p1 & _LOW)
            c2, c3 = _W((p0 >> _32) ^ c3 ^ k1), _W(p0 & _LOW)
            k0, k1 = _W((k0 + w0) & _LOW), _W((k1 + w1) & _LOW)
        return c0, c1, c2, c3

    return philox


@functools.cache
def make_words(stream):
    """Return the device function (step, path, point, key) -> two words: a call of Philox serves two steps."""
    philox, stream = make_philox(), _W(stream)

    @cuda.jit(device=True)
    def words(step, path, point, k0, k1):
        a, b, c, d = philox(_W(step >> _W(1)), path, point, stream, k0, k1)
        odd = step & _W(1)
        return (c if odd else a), (d if odd else b)

    return words


@functools.cache
def make_normals(dtype):
    """Return the device function (step, path, point, key) -> two normals, those of `_random`."""
    words, functions = make_words(GAUSSIAN64), _functions_of(dtype)
    real = dtype.type

    if dtype == np.float64:
        sincospi = functions.sincospi

        @cuda.jit(device=True)
        def normals(step, path, point, k0, k1):
            a, b = words(step, path, point, k0, k1)
            radius = math.sqrt(-2.0 * math.log((a + 0.5) * 2.0**-32))
            sine, cosine = sincospi(b * 2.0**-31)
            return radius * cosine, radius * sine

        return normals

    log2, rsqrt, sin, cos = functions.log2, functions.rsqrt, functions.sin, functions.cos
    half, unit = real(0.5), real(2.0**-32)
    two_ln2, tiny, turn = real(2 * math.log(2)), real(1e-30), real(2 * math.pi * 2.0**-32)

    @cuda.jit(device=True)
    def normals(step, path, point, k0, k1):
        a, b = words(step, path, point, k0, k1)
        # The middle of the interval of 2**-32 that the first word names, so that the logarithm is never that of 0.
        u1 = (real(a) + half) * unit
        # Not quite 0, which has no reciprocal root.
        square = two_ln2 * abs(log2(u1)) + tiny
        radius = square * rsqrt(square)
        # As a signed number, so that the angle is within half a turn of 0: there sine and cosine are good.
        angle = real(_W(b).view(np.int32)) * turn
        return radius * cos(angle), radius * sin(angle)

    return normals


@functools.cache
def make_signs(dtype):
    """Return the device function (step, path, point, key) -> two numbers, each 1 or -1, those of `_random`."""
    words, real = make_words(SIGNS), dtype.type
    one, two = real(1), real(2)

    @cuda.jit(device=True)
    def signs(step, path, point, k0, k1):
        a, b = words(step, path, point, k0, k1)
        return one - two * real(_W(a) >> _W(31)), one - two * real(_W(b) >> _W(31))

    return signs


@functools.cache
def make_torus(dtype):
    """Return the device functions locate(x, n) -> (cell, fraction of the cell) and moved(x, d) -> x + d."""
    real = dtype.type
    if dtype == np.float64:
        floor = _functions_of(dtype).floor

        @cuda.jit(device=True)
        def locate(x, n):
            scaled = x * np.float64(n)
            cell = _W(scaled)
            return cell, scaled - np.float64(cell)

        @cuda.jit(device=True)
        def moved(x, d):
            y = x + d
            return y - floor(y)

        return locate, moved

    unit, period, shifter = real(2.0**-32), real(2.0**32), real(1.5 * 2**23)

    @cuda.jit(device=True)
    def locate(x, n):
        product = _U(x) * _U(n)
        return _W(product >> _32), real(_W(product & _LOW)) * unit

    @cuda.jit(device=True)
    def moved(x, d):
        # Adding and subtracting 1.5 * 2**23 leaves the nearest integer: whole periods, which the integer cannot hold.
        d = d - ((d + shifter) - shifter)
        return _W((np.int64(x) + np.int64(np.int32(d * period))) & np.int64(0xFFFFFFFF))

    return locate, moved


@functools.cache
def make_spline(dtype, degree):
    """Return the device function (table, n, x, y) -> two components of a packed table at a position."""
    locate, _ = make_torus(dtype)
    real, one, two, three = dtype.type, _U(1), _U(2), _U(3)
    # Python floats would be promoted to float64 in the kernel.
    r1, r3, r4, r6, sixth = real(1), real(3), real(4), real(6), real(1 / 6)

    if dtype == np.float64:

        @cuda.jit(device=True)
        def fetch(table, o):
            return table[two * o], table[two * o + one]

    else:

        @cuda.jit(device=True)
        def fetch(table, o):
            pair = table[o]
            return _W(pair & _LOW).view(np.float32), _W(pair >> _32).view(np.float32)

    if degree == 1:

        @cuda.jit(device=True)
        def spline(table, n, x, y):
            (i, wx), (j, wy) = locate(x, n), locate(y, n)
            o = _U(_W(i * (n + two) + j))
            q = _U(_W(o + n + two))
            a0, a1 = fetch(table, o)
            b0, b1 = fetch(table, o + one)
            c0, c1 = fetch(table, q)
            d0, d1 = fetch(table, q + one)
            a0, a1 = a0 + wy * (b0 - a0), a1 + wy * (b1 - a1)
            c0, c1 = c0 + wy * (d0 - c0), c1 + wy * (d1 - c1)
            return a0 + wx * (c0 - a0), a1 + wx * (c1 - a1)

        return spline

    @cuda.jit(device=True)
    def weights(t):
        r = r1 - t
        return (
            r * r * r * sixth,
            (t * t * (r3 * t - r6) + r4) * sixth,
            (r * r * (r3 * r - r6) + r4) * sixth,
            t * t * t * sixth,
        )

    @cuda.jit(device=True)
    def row(table, o, w0, w1, w2, w3):
        a0, a1 = fetch(table, o)
        b0, b1 = fetch(table, o + one)
        c0, c1 = fetch(table, o + two)
        d0, d1 = fetch(table, o + three)
        return w0 * a0 + w1 * b0 + w2 * c0 + w3 * d0, w0 * a1 + w1 * b1 + w2 * c1 + w3 * d1

    @cuda.jit(device=True)
    def spline(table, n, x, y):
        (i, tx), (j, ty) = locate(x, n), locate(y, n)
        length = _U(n) + _U(4)
        o = _U(_W(i * length + j))
        u0, u1, u2, u3 = weights(tx)
        w0, w1, w2, w3 = weights(ty)
        a0, a1 = row(table, o, w0, w1, w2, w3)
        b0, b1 = row(table, o + length, w0, w1, w2, w3)
        c0, c1 = row(table, o + two * length, w0, w1, w2, w3)
        d0, d1 = row(table, o + three * length, w0, w1, w2, w3)
        return u0 * a0 + u1 * b0 + u2 * c0 + u3 * d0, u0 * a1 + u1 * b1 + u2 * c1 + u3 * d1

    return spline
