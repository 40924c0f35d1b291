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
_V32, _VF, _VB = (ir.VectorType(kind, LANES) for kind in (_I32, _F64, ir.IntType(1)))
_FLAGS = ["contract", "nsz"]


def _make(degree):
    @intrinsic
    def lanes(typingctx, table, row_length, n, x, y, dx, dy, lane, count):
        """dx, dy[lane : lane + 4] = v at x, y in periods; contiguous float64 arrays. From `count` on, any numbers."""
        signature = types.void(table, row_length, n, x, y, dx, dy, lane, count)

        def generate(context, builder, signature, arguments):
            values = dict(zip(("table", "row_length", "n", "x", "y", "dx", "dy"), arguments[:7], strict=True))
            pointers = {
                name: arrayobj.make_array(kind)(context, builder, values[name]).data
                for name, kind in zip(values, signature.args[:7], strict=True)
                if name not in ("row_length", "n")
            }
            lane, count = (builder.trunc(argument, _I32) for argument in arguments[7:])
            offset = arguments[7]
            size = _everywhere(builder, values["n"], _VF)
            row = _everywhere(builder, builder.trunc(values["row_length"], _I32), _V32)
            cells, fractions = [], []
            for name in ("x", "y"):
                scaled = _mul(builder, _load(builder, builder.gep(pointers[name], [offset])), size)
                cells.append(builder.fptosi(scaled, _V32))
                fractions.append(_sub(builder, scaled, builder.sitofp(cells[-1], _VF)))
            # What lies beyond the lanes in use is not a position.
            places = builder.add(_everywhere(builder, lane, _V32), ir.Constant(_V32, list(range(LANES))))
            within = builder.icmp_signed("<", places, _everywhere(builder, count, _V32))
            start = builder.add(builder.mul(cells[0], row), cells[1])
            start = builder.select(within, builder.add(start, start), ir.Constant(_V32, [0] * LANES))
            step = builder.shl(values["row_length"], ir.Constant(_I64, 1))
            first, second = _values(builder, degree, pointers["table"], start, step, *fractions)
            _store(builder, first, builder.gep(pointers["dx"], [offset]))
            _store(builder, second, builder.gep(pointers["dy"], [offset]))
            return context.get_dummy_value()

        return signature, generate

    return lanes


def _values(builder, degree, table, start, step, wx, wy):
    """Both components at four points, from the places of their cells in the table and the fractions of the cells."""
    groups = [[] for _ in range((degree + 1) // 2)]
    across = None if degree == 1 else _cubic_weights(builder, wx)
    for k in range(LANES):
        place = builder.zext(builder.extract_element(start, ir.Constant(_I32, k)), _I64)
        rows = [builder.gep(table, [place])]
        for _ in range(degree):
            rows.append(builder.gep(rows[-1], [step]))
        for half, group in enumerate(groups):
            loaded = [_load(builder, builder.gep(row, [ir.Constant(_I64, LANES * half)])) for row in rows]
            if degree == 1:
                weight = _spread(builder, wx, k)
                group.append(_add(builder, loaded[0], _mul(builder, weight, _sub(builder, loaded[1], loaded[0]))))
            else:
                group.append(_sum(builder, [_spread(builder, weights, k) for weights in across], loaded))
    columns = [column for group in groups for column in _transpose(builder, group)]
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
