"""Counter-based random numbers for the compiled loops: Philox4x32-10 with the Box-Muller transform, Threefry4x32-12.

(z_1, z_2) = sqrt(-2 log u_1) (cos 2 pi u_2, sin 2 pi u_2),  (w_0, ..., w_3) = Philox(step // 2, path, point, stream)

An even step takes w_0 and w_1, the next one w_2 and w_3: u_1 = (w + 1/2) / 2**32, u_2 = w / 2**32, so that |z| < 6.8.
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
    "fill_increments",
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
_LN2, _HALF_PI = math.log(2.0), math.pi / 2


def _series(function, largest, n):
    """Coefficients 1, c_1, ... of n terms for function(z) on [0, largest], function(0) = 1, by Chebyshev's nodes."""
    z = np.polynomial.Chebyshev.interpolate(function, n - 1, domain=[0, largest])
    return (1.0, *z.convert(kind=np.polynomial.Polynomial).coef.tolist()[1:])


def _arctanh_ratio(z):
    # atanh(s) / s by its series, for z = s**2 < 0.03.
    return sum(z**k / (2 * k + 1) for k in range(12))


# 2 atanh(s) = log((1 + s) / (1 - s)); sine and cosine within an eighth of a turn. All exact to 3e-16.
_LOG = _series(_arctanh_ratio, (math.sqrt(2) - 1) ** 4, 7)
_SIN = _series(lambda z: np.sinc(np.sqrt(z) / np.pi), (math.pi / 4) ** 2, 7)
_COS = _series(lambda z: np.cos(np.sqrt(z)), (math.pi / 4) ** 2, 7)

_inline = inlined(error_model="numpy", fastmath={"contract", "nsz"})


def dtype_name(dtype):
    """Return the one of DTYPES that a name or a type of NumPy stands for."""
    return checks.one_of("dtype", str(getattr(dtype, "__name__", dtype)), DTYPES)


def checked_key(key):
    """A key as an array (2,) of words, or a ValueError."""
    words = checks.finite_array("key", key)
    if words.shape != (2,) or (words % 1).any() or not ((words >= 0) & (words < 2.0**32)).all():
        raise ValueError(f"key must be two words of 32 bits, as from key_from, got key={key!r}")
    return words.astype(np.uint64)


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


# Threefry4x32: rotations of eight rounds, and the parity of the key schedule (Salmon et al. 2011). All have one type,
# so that a round is compiled once, not for each constant.
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
def _log(u):
    """log(u) for normal u > 0: u = m 2**e, log m = 2 atanh((m - 1) / (m + 1))."""
    bits = np.float64(u).view(np.uint64)
    e = np.uint64(bits - _SQRT_HALF).view(np.int64) >> np.int64(52)
    m = np.uint64(bits - (_U(e) << _U(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = _LOG[6]
    p = p * z + _LOG[5]
    p = p * z + _LOG[4]
    p = p * z + _LOG[3]
    p = p * z + _LOG[2]
    p = p * z + _LOG[1]
    p = p * z + 1.0
    return e * _LN2 + 2.0 * s * p


@_inline
def _sin_cos_turn(word):
    """Sine and cosine of 2 pi word / 2**32, by polynomials on the nearest quarter turn."""
    quarter = _W(word + _W(0x20000000)) >> _W(30)
    r = np.float64(_W(word - _W(quarter << _W(30))).view(np.int32)) * (_HALF_PI * 2.0**-30)
    z = r * r
    s = _SIN[6]
    s = s * z + _SIN[5]
    s = s * z + _SIN[4]
    s = s * z + _SIN[3]
    s = s * z + _SIN[2]
    s = s * z + _SIN[1]
    s = (s * z + 1.0) * r
    c = _COS[6]
    c = c * z + _COS[5]
    c = c * z + _COS[4]
    c = c * z + _COS[3]
    c = c * z + _COS[2]
    c = c * z + _COS[1]
    c = c * z + 1.0
    odd = (quarter & _W(1)) != _W(0)
    sine, cosine = (c, s) if odd else (s, c)
    turned = ((quarter + _W(1)) & _W(2)) != _W(0)
    return (-sine if (quarter & _W(2)) != _W(0) else sine), (-cosine if turned else cosine)


@_inline
def fill_increments(
    z, words, count, scale, call, call_stride, path, path_stride, antithetic, point, two_point, key
):  # fmt: skip
    """Write the increments of steps 2 call (z[0], z[1]) and 2 call + 1 (z[2], z[3]), with counters (call, path, point).

    Normal, or +-scale with equal probability, of standard deviation `scale`; z (4, lanes), words (4, lanes) uint32 to
    work in. A lane adds the strides to call and path; antithetic = 1: paths 2 i, 2 i + 1 share a counter, with opposite
    signs.
    """
    stream = _U(SIGNS if two_point else GAUSSIAN64)
    for lane in range(count):
        c1 = _U((path + path_stride * lane) >> antithetic)
        words[0, lane], words[1, lane], words[2, lane], words[3, lane] = philox(
            _U(call + call_stride * lane), c1, _U(point), stream, key[0], key[1]
        )
    for i in range(0, 4, 2):
        j = i + 1
        if two_point:
            for lane in range(count):
                z[i, lane] = scale * (1.0 - 2.0 * np.float64(words[i, lane] >> _W(31)))
                z[j, lane] = scale * (1.0 - 2.0 * np.float64(words[j, lane] >> _W(31)))
        else:
            # One loop: division and square root hide behind the polynomials.
            for lane in range(count):
                radius = np.sqrt(-2.0 * _log((np.float64(words[i, lane]) + 0.5) * 2.0**-32)) * scale
                sine, cosine = _sin_cos_turn(words[j, lane])
                z[i, lane] = radius * cosine
                z[j, lane] = radius * sine
    if antithetic:
        for i in range(4):
            for lane in range(count):
                z[i, lane] *= 1 - 2 * ((path + path_stride * lane) & 1)
