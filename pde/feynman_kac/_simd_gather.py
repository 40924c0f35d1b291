"""Sixteen rows of a table at once: the gather that the compiler does not find by itself.

Eight coefficients that are used together stand side by side in the table. Loading them as one vector and transposing
sixteen of these costs a fraction of 128 loads of one number each. The instructions are LLVM's vector operations, which
it lowers for any processor.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


@intrinsic
def load_rows(typingctx, table, places, out, lane):
    """out[c, lane + k] = table[places[lane + k] + c] for c < 8, k < 16; float32 table and out (8, m), uint32 places."""
    signature = types.void(table, places, out, lane)

    def generate(context, builder, signature, arguments):
        table, places, out = (
            arrayobj.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        lane, row_length = arguments[3], builder.extract_value(out.shape, 1)
        first, rows = builder.gep(places.data, [lane]), []
        for k in range(16):
            # One by one: taking a vector apart costs more.
            index = builder.zext(builder.load(builder.gep(first, [ir.Constant(_I32, k)])), _I64)
            rows.append(_load(builder, builder.gep(table.data, [index]), _F32, 8))
        for column, values in enumerate(_transpose(builder, rows)):
            place = builder.add(builder.mul(row_length, ir.Constant(_I64, column)), lane)
            pointer = builder.bitcast(builder.gep(out.data, [place]), ir.VectorType(_F32, 16).as_pointer())
            builder.store(values, pointer, align=4)
        return context.get_dummy_value()

    return signature, generate


def _load(builder, pointer, kind, count):
    return builder.load(builder.bitcast(pointer, ir.VectorType(kind, count).as_pointer()), align=4)


def _shuffle(builder, a, b, places):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))


def _interleave(builder, a, b, width, high):
    """Within each quarter of the vectors: items of `width` numbers of a and b in turn, from its low or high half."""
    places = []
    for quarter in range(0, 16, 4):
        start = quarter + 2 * high
        for item in range(start, start + 2, width):
            places += [*range(item, item + width), *range(16 + item, 16 + item + width)]
    return _shuffle(builder, a, b, places)


def _transpose(builder, rows):
    """Columns of sixteen rows of eight: rows k and k + 8 share a vector, so quarters never mix until the last step."""
    pairs = [_shuffle(builder, rows[k], rows[k + 8], list(range(16))) for k in range(8)]
    columns = [None] * 8
    halves = []
    for k in (0, 4):
        first, second = pairs[k : k + 2], pairs[k + 2 : k + 4]
        for high in (0, 1):
            a, b = _interleave(builder, *first, 1, high), _interleave(builder, *second, 1, high)
            halves += [_interleave(builder, a, b, 2, 0), _interleave(builder, a, b, 2, 1)]
    low, high = [0, 1, 2, 3, 16, 17, 18, 19], [4, 5, 6, 7, 20, 21, 22, 23]
    for j in range(4):
        columns[j] = _shuffle(builder, halves[j], halves[4 + j], low + [k + 8 for k in low])
        columns[4 + j] = _shuffle(builder, halves[j], halves[4 + j], high + [k + 8 for k in high])
    return columns
