"""Normal numbers of sixteen bits: the inverse distribution function by a table, sixteen lanes at a time.

z = +-sum_p c_p[i] s**p,  t = m + 1/2 = 2**(i - 1) s,  1 <= s < 2,  for a sign and a number m of 15 bits

The octave i of the distance to the tail chooses one of sixteen cubics. They are fitted to the root mean square of the
normal law over each of the 2**16 cells of equal probability, so that mean and variance are exact; the fourth moment is
3 (1 - 4e-5), the sixth 15 (1 - 5e-4), and max |z| is 4.39. Where the processor permutes vectors by a variable index
(AVX-512, AVX2) the table stays in registers; elsewhere it is read number by number, with the same result to rounding.
"""

import functools
import math

import llvmlite.binding
import numba
import numpy as np
import scipy.special
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from pde._compiled import inlined

# Bound of the numbers of the table.
LARGEST_NORMAL = 4.4

_I32, _F32 = ir.IntType(32), ir.FloatType()
_LANES = 16
_V32, _VF = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)


def _permutes():
    """Width in lanes of the processor's permutation of floats by a variable index, as numba compiles for it, or 0."""
    if numba.config.CPU_FEATURES is not None:
        features = dict.fromkeys(f[1:] for f in numba.config.CPU_FEATURES.split(",") if f.startswith("+"))
    elif numba.config.CPU_NAME not in (None, "host"):
        features = {}
    else:
        try:
            features = {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}
        except RuntimeError:
            features = {}
    return 16 if "avx512f" in features else 8 if "avx2" in features else 0


PERMUTES = _permutes()


@functools.cache
def normal_table():
    """The coefficients c_p[i], (4, 16) float32, with octave i in place (i + 14) % 16 as its float's exponent has it."""
    m = np.arange(2**15)
    # Cells of probability 2**-16 from the tail inwards; the integral of z**2 phi is Phi - z phi.
    edges = -scipy.special.ndtri(np.arange(2**15 + 1) / 2**16)
    with np.errstate(invalid="ignore"):
        moments = scipy.special.ndtr(-edges) + np.where(np.isinf(edges), 0, edges * _density(edges))
    wanted = np.sqrt(np.diff(moments) * 2**16)
    mantissa, exponent = np.frexp(m + 0.5)
    table = np.zeros((4, 16))
    for octave in range(16):
        here = exponent == octave
        degree = min(3, int(here.sum()) - 1)
        # Relative to z, so that small and large numbers weigh alike in the variance.
        fit = np.polynomial.polynomial.polyfit(2 * mantissa[here], wanted[here], degree)
        table[: degree + 1, (octave + 14) % 16] = fit
    values = sum(table[p, (exponent + 14) % 16] * (2 * mantissa) ** p for p in range(4))
    return (table / math.sqrt((values**2).mean())).astype(np.float32)


def _density(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


@intrinsic
def _sixteen_normals(typingctx, words, table, out_low, out_high, lane):
    """Normals of the low and high halves of words[lane : lane + 16]; contiguous 1-D arrays, table (64,)."""
    signature = types.void(words, table, out_low, out_high, lane)

    def generate(context, builder, signature, arguments):
        words, table, low, high = (
            arrayobj.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        )
        lane = arguments[4]
        word = builder.load(builder.bitcast(builder.gep(words.data, [lane]), _V32.as_pointer()), align=4)
        for out, bits in ((low, builder.shl(word, _all(16))), (high, word)):
            z = _normal(builder, bits, table.data)
            builder.store(z, builder.bitcast(builder.gep(out.data, [lane]), _VF.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate


def _all(value, kind=_V32):
    return ir.Constant(kind, [value] * _LANES)


def _normal(builder, bits, table):
    """Sixteen normals from the upper halves of `bits`."""
    magnitude = builder.and_(builder.lshr(bits, _all(16)), _all(0x7FFF))
    t = builder.bitcast(builder.fadd(builder.sitofp(magnitude, _VF), _all(0.5, _VF)), _V32)
    octave = builder.lshr(t, _all(23))
    s = builder.bitcast(builder.or_(builder.and_(t, _all(0x7FFFFF)), _all(0x3F800000)), _VF)
    z = _entries(builder, table, 3, octave)
    for power in (2, 1, 0):
        z = builder.fadd(
            builder.fmul(z, s, flags=["contract"]), _entries(builder, table, power, octave), flags=["contract"]
        )
    sign = builder.and_(bits, _all(0x80000000))
    return builder.bitcast(builder.xor(builder.bitcast(z, _V32), sign), _VF)


def _entries(builder, table, power, octave):
    """table[16 * power + octave % 16] for each lane."""
    row = builder.gep(table, [ir.Constant(ir.IntType(64), 16 * power)])
    if PERMUTES:
        whole = builder.load(builder.bitcast(row, _VF.as_pointer()), align=4)
    if PERMUTES == 16:
        kind = ir.FunctionType(_VF, [_VF, _V32])
        permute = builder.module.declare_intrinsic("llvm.x86.avx512.permvar.sf.512", fnty=kind)
        return builder.call(permute, [whole, octave])
    if PERMUTES == 8:
        kind = ir.FunctionType(ir.VectorType(_F32, 8), [ir.VectorType(_F32, 8), ir.VectorType(_I32, 8)])
        permute = builder.module.declare_intrinsic("llvm.x86.avx2.permps", fnty=kind)
        halves = [_half(builder, whole, start) for start in (0, 8)]
        low, high = (
            _joined(builder, *(builder.call(permute, [half, _half(builder, octave, start)]) for start in (0, 8)))
            for half in halves
        )
        # The fourth bit of the octave, as a mask.
        upper = builder.icmp_signed("<", builder.shl(octave, _all(28)), _all(0))
        return builder.select(upper, high, low)
    places, out = builder.and_(octave, _all(15)), ir.Constant(_VF, ir.Undefined)
    for k in range(_LANES):
        index = ir.Constant(_I32, k)
        entry = builder.load(builder.gep(row, [builder.extract_element(places, index)]), align=4)
        out = builder.insert_element(out, entry, index)
    return out


def _half(builder, vector, start):
    places = ir.Constant(ir.VectorType(_I32, 8), list(range(start, start + 8)))
    return builder.shuffle_vector(vector, vector, places)


def _joined(builder, low, high):
    return builder.shuffle_vector(low, high, ir.Constant(_V32, list(range(_LANES))))


@inlined()
def normals_of_words(words, table, out_low, out_high, count):
    """Two normals for each of the first `count` words, a multiple of sixteen; table as `normal_table`, scaled, flat."""
    for lane in range(0, count, 16):
        _sixteen_normals(words, table, out_low, out_high, lane)
