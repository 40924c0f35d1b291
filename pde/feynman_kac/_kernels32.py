"""The compiled path loops in single precision: positions as 32-bit fractions of the period.

A position is an integer p standing for p / 2**32 of the period: wrapping is free, and the resolution, 2.3e-10, is finer
than that of a float32 coordinate. Displacements are float32, in units of 2**-32 periods. Velocities are tables whose
coefficients for one cell (bilinear) or one row of a stencil (bicubic) stand side by side, and are loaded sixteen at a
time.
"""

import math

import numpy as np

from pde._compiled import copy, inlined, njit, threaded
from pde.feynman_kac._normals16 import LARGEST_NORMAL, normal_table, normals_of_words
from pde.feynman_kac._random import GAUSSIAN32, TWO_POINT32, threefry
from pde.feynman_kac._simd_gather import load_rows

__all__ = ["advance32", "advance32_wide", "cell_table", "increments32"]

_U, _W, _I, _F = np.uint64, np.uint32, np.int32, np.float32
_8, _32 = _W(8), _U(32)

_fast = {"contract", "nsz", "reassoc"}
_inline = inlined(error_model="numpy", fastmath=_fast)

_SIGN = _W(0x80000000)
_UNIT = _F(2.0**-24)


def cell_table(table):
    """A table scaled by dt / length in the layout of the loops: float32 coefficients, in units of 2**-32 periods.

    v(x, y) = c_0 + c_1 gx + gy (c_2 + c_3 gx) in a cell, (gx, gy) the place in it in units of 2**-24    (bilinear)

    Eight numbers per cell for degree 1, the table's own layout for degree 3. ValueError where a step could cross a
    quarter of a period.
    """
    values = table.coefficients.reshape(table.n + table.degree + 1, table.n + table.degree + 1, 2)
    if np.abs(values).max() >= 0.25:
        raise ValueError(
            f"n_steps must be {4 * np.abs(values).max():.3g} times as large with dtype='float32': a step may not cross "
            "a quarter of a period"
        )
    values = values * 2.0**32
    if table.degree == 3:
        return np.append(values.ravel(), np.zeros(8)).astype(np.float32)
    n = table.n
    a, b, c, d = (values[i : i + n, j : j + n] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)))
    cells = np.stack([a, (b - a) * 2.0**-24, (c - a) * 2.0**-24, (d - b - c + a) * 2.0**-48], axis=-1)
    return cells.astype(np.float32).ravel()


@_inline
def _words(words, count, call, path, path_stride, antithetic, point, stream, key):
    """Four words of Threefry for each lane: counters (call, path, point, stream)."""
    k0, k1 = _W(key[0]), _W(key[1])
    for lane in range(count):
        c1 = _W((path + path_stride * lane) >> antithetic)
        words[0, lane], words[1, lane], words[2, lane], words[3, lane] = threefry(
            _W(call), c1, _W(point), _W(stream), k0, k1
        )


@_inline
def _normals(words, table, z, step, count, path, path_stride, antithetic):
    """A pair of normals for each lane, a multiple of sixteen, from one word: four steps share four words."""
    normals_of_words(words[step & 3], table, z[0], z[1], count)
    if antithetic:
        for lane in range(count):
            sign = _F(1 - 2 * ((path + path_stride * lane) & 1))
            z[0, lane] *= sign
            z[1, lane] *= sign


@_inline
def _signs(words, z, step, count, scale, path, path_stride, antithetic):
    """Increments +scale or -scale from two bits of the words: sixteen steps per word."""
    word, place = (step >> 4) & 3, 2 * (step & 15)
    # A bit of the word becomes the sign bit of the increment.
    first, second, size = _W(31 - place), _W(30 - place), np.float32(scale).view(np.uint32)
    for lane in range(count):
        z[0, lane] = _W(((words[word, lane] << first) & _SIGN) | size).view(np.float32)
        z[1, lane] = _W(((words[word, lane] << second) & _SIGN) | size).view(np.float32)
    if antithetic:
        for lane in range(count):
            sign = _F(1 - 2 * ((path + path_stride * lane) & 1))
            z[0, lane] *= sign
            z[1, lane] *= sign


@_inline
def _drift(degree, table, n, x, y, places, gx, gy, rows, dx, dy, count):
    """Displacements by the velocity, of a multiple of sixteen lanes."""
    row_length = _U(n + degree + 1)
    for lane in range(count):
        px, py = _U(x[lane]) * _U(n), _U(y[lane]) * _U(n)
        gx[lane] = np.float32(_I(_W(px) >> _8))
        gy[lane] = np.float32(_I(_W(py) >> _8))
        if degree == 1:
            places[lane] = _W(((px >> _32) * _U(n) + (py >> _32)) << _U(3))
        else:
            places[lane] = _W(((px >> _32) * row_length + (py >> _32)) << _U(1))
    if degree == 1:
        for lane in range(0, count, 16):
            load_rows(table, places, rows, lane)
        for lane in range(count):
            a = rows[0, lane] + rows[1, lane] * gx[lane]
            b = rows[2, lane] + rows[3, lane] * gx[lane]
            c = rows[4, lane] + rows[5, lane] * gx[lane]
            d = rows[6, lane] + rows[7, lane] * gx[lane]
            dx[lane] = a + b * gy[lane]
            dy[lane] = c + d * gy[lane]
        return
    for lane in range(count):
        dx[lane] = _F(0)
        dy[lane] = _F(0)
    for stencil in range(4):
        for lane in range(0, count, 16):
            load_rows(table, places, rows, lane)
        for lane in range(count):
            w = _cubic(gx[lane] * _UNIT, stencil)
            t = gy[lane] * _UNIT
            w0, w1, w2, w3 = _cubic(t, 0), _cubic(t, 1), _cubic(t, 2), _cubic(t, 3)
            dx[lane] += w * (w0 * rows[0, lane] + w1 * rows[2, lane] + w2 * rows[4, lane] + w3 * rows[6, lane])
            dy[lane] += w * (w0 * rows[1, lane] + w1 * rows[3, lane] + w2 * rows[5, lane] + w3 * rows[7, lane])
            places[lane] += _W(2) * _W(row_length)


@_inline
def _cubic(t, which):
    r = _F(1) - t
    if which == 0:
        return r * r * r * _F(1 / 6)
    if which == 1:
        return (t * t * (_F(3) * t - _F(6)) + _F(4)) * _F(1 / 6)
    if which == 2:
        return (r * r * (_F(3) * r - _F(6)) + _F(4)) * _F(1 / 6)
    return t * t * t * _F(1 / 6)


@_inline
def _shift(position, displacement, far):
    """The position moved around the torus; `far`: by half a period or more, which 32 bits with a sign do not hold."""
    if far:
        return _W(position + _W(np.int64(displacement)))
    return _W(position + _I(displacement).view(np.uint32))


def reaches_far(drift, noise):
    """Whether steps of displacements of at most `drift` and `noise` periods may cross half a period."""
    # A little less, for what rounding adds.
    return bool(drift + noise > 0.499)


def _make_advance(block, far):
    """The loop for blocks of so many lanes, a constant, for which the compiler unrolls the loops over lanes."""

    @threaded(error_model="numpy", fastmath=_fast)
    def advance(
        part, x, y, tables, layers, degree, n, scale, normal, step, first_path, first_point, common, antithetic,
        two_point, heun, key,
    ):  # fmt: skip
        n_rows, n_lanes = x.shape
        n_blocks = (n_lanes + block - 1) // block
        unit = _F(scale * 2.0**32)
        stream = TWO_POINT32 if two_point else GAUSSIAN32
        # Steps that one call of Threefry serves.
        per_call = 64 if two_point else 4
        for work in range(part[0], n_rows * n_blocks, part[1]):
            row, start = work // n_blocks, (work % n_blocks) * block
            count = min(block, n_lanes - start)
            px, py = np.zeros(block, np.uint32), np.zeros(block, np.uint32)
            qx, qy = np.zeros(block, np.uint32), np.zeros(block, np.uint32)
            places, rows = np.zeros(block, np.uint32), np.zeros((8, block), np.float32)
            gx, gy = np.empty(block, np.float32), np.empty(block, np.float32)
            dx, dy = np.empty(block, np.float32), np.empty(block, np.float32)
            ex, ey = np.empty(block, np.float32), np.empty(block, np.float32)
            words, z = np.zeros((4, block), np.uint32), np.zeros((2, block), np.float32)
            copy(px, x[row, start : start + count])
            copy(py, y[row, start : start + count])
            path = first_path + row if common else first_path + start
            point = 0 if common else first_point + row
            for k in range(len(layers)):
                # A common path needs one lane of numbers, and normals come by sixteen.
                if k % per_call == 0 and common:
                    _words(words, 1, (step + k) // per_call, path, 0, antithetic, point, stream, key)
                elif k % per_call == 0:
                    _words(words, block, (step + k) // per_call, path, 1, antithetic, point, stream, key)
                if common:
                    if two_point:
                        _signs(words, z, k, 1, unit, path, 0, antithetic)
                    else:
                        _normals(words, normal, z, k, 16, path, 0, antithetic)
                    for lane in range(1, block):
                        z[0, lane] = z[0, 0]
                        z[1, lane] = z[1, 0]
                elif two_point:
                    _signs(words, z, k, block, unit, path, 1, antithetic)
                else:
                    _normals(words, normal, z, k, block, path, 1, antithetic)
                _drift(degree, tables[layers[k, 0]], n, px, py, places, gx, gy, rows, dx, dy, block)
                if heun:
                    for lane in range(block):
                        qx[lane] = _shift(px[lane], dx[lane] + z[0, lane], far)
                        qy[lane] = _shift(py[lane], dy[lane] + z[1, lane], far)
                    _drift(degree, tables[layers[k, 1]], n, qx, qy, places, gx, gy, rows, ex, ey, block)
                    for lane in range(block):
                        dx[lane] = _F(0.5) * (dx[lane] + ex[lane])
                        dy[lane] = _F(0.5) * (dy[lane] + ey[lane])
                for lane in range(block):
                    px[lane] = _shift(px[lane], dx[lane] + z[0, lane], far)
                    py[lane] = _shift(py[lane], dy[lane] + z[1, lane], far)
            copy(x[row, start : start + count], px)
            copy(y[row, start : start + count], py)

    return advance


_advance_narrow, advance32_wide = _make_advance(16, False), _make_advance(64, False)
_advance_far_narrow, _advance_far_wide = _make_advance(16, True), _make_advance(64, True)


def advance32(
    x, y, tables, layers, degree, n, scale, step, first_path, first_point, common, antithetic, two_point, heun, key
):
    """Advance all particles by len(layers) Euler-Maruyama or stochastic Heun steps, in place.

    x, y are uint32 of shape (n_rows, n_lanes): rows are points and lanes paths or, with `common` increments, rows are
    paths and lanes points. tables (n_tables, m) are as from `cell_table`, layers (n_steps, 2) their indices at the
    beginning and the end of each step, scale = sigma sqrt(dt) / length. step is a multiple of 64; it, first_path and
    first_point are counters (point 0 with `common`), key that of `_random.key_from`. antithetic = 1: paths 2 i and
    2 i + 1 have opposite increments.
    """
    # Whole blocks are advanced, full or not.
    narrow, wide = _advance_narrow, advance32_wide
    # Of the drift `cell_table` leaves less than a quarter of a period.
    if reaches_far(0.25, scale if two_point else LARGEST_NORMAL * scale):
        narrow, wide = _advance_far_narrow, _advance_far_wide
    advance = narrow if x.shape[1] <= 32 else wide
    table = normal_table().ravel() * np.float32(scale * 2.0**32)
    advance(
        x, y, tables, layers, degree, n, scale, table, step, first_path, first_point, common, antithetic, two_point,
        heun, key,
    )  # fmt: skip


def increments32(key, n_steps, n_paths, dt, point, antithetic, two_point):
    """The Brownian increments of the loops of single precision, (n_steps, n_paths, 2), for one point."""
    out = np.empty((n_steps, n_paths, 2), np.float32)
    table = normal_table().ravel() * np.float32(math.sqrt(dt))
    _fill_increments(out, math.sqrt(dt), table, antithetic, point, two_point, key)
    return out.astype(float)


@njit(error_model="numpy", fastmath=_fast)
def _fill_increments(out, scale, table, antithetic, point, two_point, key):
    n_steps, n_paths = out.shape[:2]
    whole = (n_paths + 15) // 16 * 16
    words, z = np.zeros((4, whole), np.uint32), np.zeros((2, whole), np.float32)
    per_call, stream = (64, TWO_POINT32) if two_point else (4, GAUSSIAN32)
    for k in range(n_steps):
        if k % per_call == 0:
            _words(words, n_paths, k // per_call, 0, 1, antithetic, point, stream, key)
        if two_point:
            _signs(words, z, k, n_paths, _F(scale), 0, 1, antithetic)
        else:
            _normals(words, table, z, k, whole, 0, 1, antithetic)
        for i in range(n_paths):
            out[k, i, 0], out[k, i, 1] = z[0, i], z[1, i]
