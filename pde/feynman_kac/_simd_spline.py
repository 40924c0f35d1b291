"""Splines of two components at four points at once: what the compiler does not find by itself in double precision.

v(x, y) = sum_p sum_q a_p(x) b_q(y) c[i + p, j + q],  p, q = 0 ... degree

The coefficients of one row of a cell stand side by side in the table. Summing over the rows before the columns takes
them as vectors, and one transposition of the sums gives four values: a fraction of a load for each coefficient. The
instructions are LLVM's vector operations, which it lowers for any processor.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from pde.feynman_kac._simd_gather import _shuffle

__all__ = ["LANES", "bicubic_lanes", "bilinear_lanes"]

# Points at once: arrays are as long as a multiple of it.
LANES = 4
_I32, _I64, _F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
_V32, _VF = (ir.VectorType(kind, LANES) for kind in (_I32, _F64))
_FLAGS = ["contract", "nsz"]


def _make(degree):
    @intrinsic
    def lanes(typingctx, table, places, row_length, dx, dy, lane):
        """dx, dy[lane : lane + 4] = v at dx, dy, fractions of the cells at `places` (uint32) of the table; float64."""
        signature = types.void(table, places, row_length, dx, dy, lane)

        def generate(context, builder, signature, arguments):
            kinds = dict(zip(("table", "places", "row_length", "dx", "dy", "lane"), signature.args, strict=True))
            values = dict(zip(kinds, arguments, strict=True))
            pointers = {
                name: arrayobj.make_array(kinds[name])(context, builder, values[name]).data
                for name in ("table", "places", "dx", "dy")
            }
            places, x, y = (builder.gep(pointers[name], [values["lane"]]) for name in ("places", "dx", "dy"))
            step = builder.shl(values["row_length"], ir.Constant(_I64, 1))
            first, second = _values(builder, degree, pointers["table"], places, step, x, y)
            _store(builder, first, x)
            _store(builder, second, y)
            return context.get_dummy_value()

        return signature, generate

    return lanes


def _values(builder, degree, table, places, step, x, y):
    """Both components at four points, from pointers to the places of their cells and the fractions of the cells."""
    groups = [[] for _ in range((degree + 1) // 2)]
    across = None if degree == 1 else _cubic_weights(builder, _load(builder, x))
    for k in range(LANES):
        index = ir.Constant(_I32, k)
        # Numbers that are wanted one by one are loaded one by one: taking vectors apart costs more.
        rows = [builder.gep(table, [builder.zext(builder.load(builder.gep(places, [index])), _I64)])]
        for _ in range(degree):
            rows.append(builder.gep(rows[-1], [step]))
        for half, group in enumerate(groups):
            loaded = [_load(builder, builder.gep(row, [ir.Constant(_I64, LANES * half)])) for row in rows]
            if degree == 1:
                weight = _everywhere(builder, builder.load(builder.gep(x, [index])), _VF)
                group.append(_add(builder, loaded[0], _mul(builder, weight, _sub(builder, loaded[1], loaded[0]))))
            else:
                group.append(_sum(builder, [_spread(builder, weights, k) for weights in across], loaded))
    columns = [column for group in groups for column in _transpose(builder, group)]
    wy = _load(builder, y)
    if degree == 1:
        return (_add(builder, columns[c], _mul(builder, wy, _sub(builder, columns[c + 2], columns[c]))) for c in (0, 1))
    along = _cubic_weights(builder, wy)
    return (_sum(builder, along, columns[c::2]) for c in (0, 1))


def _cubic_weights(builder, t):
    """(1 - t)**3 / 6, (3 t**3 - 6 t**2 + 4) / 6 and their mirror images."""

    def outer(s):
        return _mul(builder, _mul(builder, _mul(builder, s, s), s), _all(1 / 6))

    def inner(s):
        cubic = _mul(builder, _mul(builder, s, s), _add(builder, _mul(builder, s, _all(0.5)), _all(-1.0)))
        return _add(builder, cubic, _all(2 / 3))

    r = _sub(builder, _all(1.0), t)
    return outer(r), inner(t), inner(r), outer(t)


def _sum(builder, weights, values):
    total = _mul(builder, weights[0], values[0])
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = _add(builder, total, _mul(builder, weight, value))
    return total


def _transpose(builder, rows):
    """Columns of four rows of four."""
    a, b, c, d = rows
    evens = [_shuffle(builder, first, second, [0, 4, 2, 6]) for first, second in ((a, b), (c, d))]
    odds = [_shuffle(builder, first, second, [1, 5, 3, 7]) for first, second in ((a, b), (c, d))]
    low, high = [0, 1, 4, 5], [2, 3, 6, 7]
    return [_shuffle(builder, *pair, places) for places in (low, high) for pair in (evens, odds)]


def _spread(builder, vector, k):
    """Element k in all lanes."""
    return _shuffle(builder, vector, vector, [k] * LANES)


def _everywhere(builder, scalar, kind):
    vector = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(_V32, [0] * LANES))


def _all(value):
    return ir.Constant(_VF, [value] * LANES)


def _load(builder, pointer):
    return builder.load(builder.bitcast(pointer, _VF.as_pointer()), align=8)


def _store(builder, values, pointer):
    builder.store(values, builder.bitcast(pointer, _VF.as_pointer()), align=8)


def _add(builder, a, b):
    return builder.fadd(a, b, flags=_FLAGS)


def _sub(builder, a, b):
    return builder.fsub(a, b, flags=_FLAGS)


def _mul(builder, a, b):
    return builder.fmul(a, b, flags=_FLAGS)


bilinear_lanes, bicubic_lanes = _make(1), _make(3)
