"""Counter-based random numbers for the compiled loops: Philox4x32-10 with the Box-Muller transform, Threefry4x32-12.

(z_1, z_2) = sqrt(-2 log u_1) (cos 2 pi u_2, sin 2 pi u_2),  (u_1, u_2) = Philox(step, path, point, stream; key)

A number is a function of its counter alone, so results depend neither on the number of threads nor on the order of
work (Salmon et al. 2011). Logarithm, sine and cosine are polynomials, exact to a few units in the last place: calls
of the C library would keep the compiler from vectorising the loops over paths.
"""

import math

import numpy as np

from pde import checks
from pde._compiled import inlined

__all__ = [
    "DTYPES",
    "GAUSSIAN32",
    "GAUSSIAN64",
    "INCREMENTS",
    "NORMALS",
    "SIGNS",
    "TWO_POINT32",
    "dtype_name",
    "fill_normals",
    "fill_signs",
    "key_from",
    "philox",
    "threefry",
]

INCREMENTS = ("gaussian", "two-point")
DTYPES = ("float64", "float32")
# The register of streams: the fourth counter keeps apart whatever draws with one key.
# Philox: increments in double precision, and two-point ones; normal numbers in bulk (`_normals`).
GAUSSIAN64, NORMALS, SIGNS = 0, 3, 4
# Threefry: increments in single precision, Gaussian and two-point.
GAUSSIAN32, TWO_POINT32 = 1, 2

_U = np.uint64
_MULTIPLIERS = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = _U(0xFFFFFFFF), _U(32)
_KEYS = np.array([[(w * i) & 0xFFFFFFFF for i in range(10)] for w in _WEYL], dtype=np.uint64)
_K0 = tuple(_KEYS[0])
_K1 = tuple(_KEYS[1])

# sqrt(1/2) as bits: mantissas are taken from [sqrt(1/2), sqrt(2)), where the series of the logarithm converges fast.
_SQRT_HALF = _U(0x3FE6A09E667F3BCD)
_LOG = tuple(1.0 / (2 * k + 1) for k in range(11))
_SIN = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(8))
_COS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(9))
_LN2, _HALF_PI = math.log(2.0), math.pi / 2

_inline = inlined(error_model="numpy", fastmath={"contract", "nsz"})


def dtype_name(dtype):
    """Return the one of DTYPES that a name or a type of NumPy stands for."""
    return checks.one_of("dtype", str(getattr(dtype, "__name__", dtype)), DTYPES)


def key_from(rng):
    """Return the 64-bit key that a seed or a generator stands for.

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        A seed >= 0, a seed sequence, or a generator, from which two numbers are drawn.

    Returns
    -------
    ndarray of shape (2,)
        Two 32-bit words.

    Raises
    ------
    ValueError
        If rng is neither.
    """
    if isinstance(rng, np.random.Generator):
        return rng.integers(0, 2**32, size=2, dtype=np.uint64)
    if isinstance(rng, np.random.SeedSequence):
        return rng.generate_state(2, np.uint32).astype(np.uint64)
    if isinstance(rng, (bool, np.bool_)) or not isinstance(rng, (int, np.integer)) or rng < 0:
        raise ValueError(f"rng must be a seed >= 0, a SeedSequence or a numpy.random.Generator, got rng={rng!r}")
    return np.random.SeedSequence(int(rng)).generate_state(2, np.uint32).astype(np.uint64)


@_inline
def _round(c0, c1, c2, c3, k0, k1):
    p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
    return (p1 >> _32) ^ c1 ^ (k0 & _LOW), p1 & _LOW, (p0 >> _32) ^ c3 ^ (k1 & _LOW), p0 & _LOW


@_inline
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit words (in 64-bit integers) from a counter of four and a key of two."""
    # Written out, because a loop over the rounds keeps the loop over the counters from being vectorised.
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[0], k1 + _K1[0])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[1], k1 + _K1[1])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[2], k1 + _K1[2])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[3], k1 + _K1[3])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[4], k1 + _K1[4])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[5], k1 + _K1[5])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[6], k1 + _K1[6])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[7], k1 + _K1[7])
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[8], k1 + _K1[8])
    return _round(c0, c1, c2, c3, k0 + _K0[9], k1 + _K1[9])


# Threefry4x32: rotations of eight rounds, and the parity of the key schedule (Salmon et al. 2011). As numbers of one
# type: a round is compiled once, not for each constant.
_W = np.uint32
_EARLY = tuple(map(_W, (10, 26, 11, 21, 13, 27, 23, 5)))
_LATE = tuple(map(_W, (6, 20, 17, 11, 25, 10, 18, 20)))
_PARITY = _W(0x1BD11BDA)


@_inline
def _add(a, b):
    return _W(_W(a) + _W(b))


@_inline
def _mix(a, b, rotation):
    a = _add(a, b)
    return a, _W(_W(_W(b << _W(rotation)) | _W(b >> _W(32 - rotation))) ^ a)


@_inline
def _four_rounds(x0, x1, x2, x3, rotations):
    x0, x1 = _mix(x0, x1, rotations[0])
    x2, x3 = _mix(x2, x3, rotations[1])
    x0, x3 = _mix(x0, x3, rotations[2])
    x2, x1 = _mix(x2, x1, rotations[3])
    x0, x1 = _mix(x0, x1, rotations[4])
    x2, x3 = _mix(x2, x3, rotations[5])
    x0, x3 = _mix(x0, x3, rotations[6])
    x2, x1 = _mix(x2, x1, rotations[7])
    return x0, x1, x2, x3


@_inline
def threefry(c0, c1, c2, c3, k0, k1):
    """Threefry4x32-12: four 32-bit words from a counter of four and a key of two (and two zeros)."""
    k4 = _W(_PARITY ^ k0 ^ k1)
    x0, x1, x2, x3 = _add(c0, k0), _add(c1, k1), c2, c3
    x0, x1, x2, x3 = _four_rounds(x0, x1, x2, x3, _EARLY)
    x0, x3 = _add(x0, k1), _add(x3, _add(k4, _W(1)))
    x0, x1, x2, x3 = _four_rounds(x0, x1, x2, x3, _LATE)
    x2, x3 = _add(x2, k4), _add(x3, _add(k0, _W(2)))
    x0, x1, x2, x3 = _four_rounds(x0, x1, x2, x3, _EARLY)
    return x0, _add(x1, k4), _add(x2, k0), _add(x3, _add(k1, _W(3)))


@_inline
def _unit(high, low):
    """Uniform on [0, 1) with 52 bits."""
    bits = (high << _U(20)) | (low >> _U(12)) | _U(0x3FF0000000000000)
    return np.uint64(bits).view(np.float64) - 1.0


@_inline
def _log(u):
    """log(u) for normal u > 0: u = m 2**e, log m = 2 atanh((m - 1) / (m + 1))."""
    bits = np.float64(u).view(np.uint64)
    e = np.uint64(bits - _SQRT_HALF).view(np.int64) >> np.int64(52)
    m = np.uint64(bits - (_U(e) << _U(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _LOG[10]
    p = p * z + _LOG[9]
    p = p * z + _LOG[8]
    p = p * z + _LOG[7]
    p = p * z + _LOG[6]
    p = p * z + _LOG[5]
    p = p * z + _LOG[4]
    p = p * z + _LOG[3]
    p = p * z + _LOG[2]
    p = p * z + _LOG[1]
    p = p * z + _LOG[0]
    return e * _LN2 + 2.0 * s * p


@_inline
def _sin_cos_turn(u):
    """Sine and cosine of 2 pi u for 0 <= u < 1, by Taylor's series on the nearest quarter turn."""
    turns = 4.0 * u
    nearest = np.floor(turns + 0.5)
    r = (turns - nearest) * _HALF_PI
    z = r * r
    s = _SIN[7]
    s = s * z + _SIN[6]
    s = s * z + _SIN[5]
    s = s * z + _SIN[4]
    s = s * z + _SIN[3]
    s = s * z + _SIN[2]
    s = s * z + _SIN[1]
    s = (s * z + 1.0) * r
    c = _COS[8]
    c = c * z + _COS[7]
    c = c * z + _COS[6]
    c = c * z + _COS[5]
    c = c * z + _COS[4]
    c = c * z + _COS[3]
    c = c * z + _COS[2]
    c = c * z + _COS[1]
    c = c * z + 1.0
    quarter = np.int64(nearest)
    odd = (quarter & 1) != 0
    sine, cosine = (c, s) if odd else (s, c)
    return (-sine if (quarter & 2) != 0 else sine), (-cosine if ((quarter + 1) & 2) != 0 else cosine)


@_inline
def fill_normals(z1, z2, count, scale, step, step_stride, path, path_stride, antithetic, point, key):
    """Write `count` pairs of normals of standard deviation `scale` into z1, z2, with the counters (step, path, point).

    A lane adds the strides to step and path; antithetic = 1: paths 2 i, 2 i + 1 share a counter, with opposite signs.
    """
    k0, k1 = key[0], key[1]
    # Three loops, because one would be too large to be vectorised.
    for lane in range(count):
        c0 = _U(step + step_stride * lane)
        c1 = _U((path + path_stride * lane) >> antithetic)
        a0, a1, a2, a3 = philox(c0, c1, _U(point), _U(GAUSSIAN64), k0, k1)
        z1[lane] = 1.0 - _unit(a0, a1)
        z2[lane] = _unit(a2, a3)
    for lane in range(count):
        sign = 1 - 2 * ((path + path_stride * lane) & antithetic)
        z1[lane] = np.sqrt(-2.0 * _log(z1[lane])) * (scale * sign)
    for lane in range(count):
        sine, cosine = _sin_cos_turn(z2[lane])
        z2[lane] = z1[lane] * sine
        z1[lane] = z1[lane] * cosine


@_inline
def fill_signs(z1, z2, count, scale, step, step_stride, path, path_stride, antithetic, point, key):
    """Write `count` pairs of +-scale with equal probability, with the counters of `fill_normals`."""
    for lane in range(count):
        c1 = _U((path + path_stride * lane) >> antithetic)
        a0, a1, _, _ = philox(_U(step + step_stride * lane), c1, _U(point), _U(SIGNS), key[0], key[1])
        sign = 1 - 2 * ((path + path_stride * lane) & antithetic)
        z1[lane] = (scale * sign) * (1.0 - 2.0 * np.float64(a0 >> _U(31)))
        z2[lane] = (scale * sign) * (1.0 - 2.0 * np.float64(a1 >> _U(31)))
