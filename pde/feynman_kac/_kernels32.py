"""The compiled path loops in single precision: positions as 32-bit fractions of the period.

A position is an integer p standing for p / 2**32 of the period: wrapping is free, and the resolution, 2.3e-10, is finer
than that of a float32 coordinate. Displacements are float32, in units of 2**-32 periods. Velocities are tables whose
coefficients for one cell (bilinear) or one row of a stencil (bicubic) stand side by side, and are loaded sixteen at a
time.
"""

import math

import numba
import numpy as np

from pde.feynman_kac._random import philox
from pde.feynman_kac._simd_gather import load_rows

__all__ = ["advance32", "cell_table", "increments32", "normals32"]

_U, _W, _I, _F = np.uint64, np.uint32, np.int32, np.float32
_HALF_BITS, _8, _9, _30, _31, _32 = _W(0x20000000), _W(8), _W(9), _W(30), _W(31), _U(32)
# Streams of the counters, apart from that of double precision (0).
GAUSSIAN32, TWO_POINT = 1, 2

_fast = {"contract", "nsz", "reassoc"}
_inline = numba.njit(nogil=True, forceinline=True, error_model="numpy", fastmath=_fast)

_LOG = tuple(_F(1 / (2 * k + 1)) for k in range(5))
_SIN = tuple(_F((-1.0) ** k / math.factorial(2 * k + 1)) for k in range(5))
_COS = tuple(_F((-1.0) ** k / math.factorial(2 * k)) for k in range(6))
_LN2, _TURN = _F(math.log(2.0)), _F(2 * math.pi / 2**32)
_SQRT_HALF = _I(0x3F3504F3)
_SIGN = _W(0x80000000)
_UNIT = _F(2.0**-24)


def cell_table(table):
    """Return the coefficients of a table as the loops of single precision want them.

    v(x, y) = c_0 + c_1 gx + gy (c_2 + c_3 gx) in a cell, (gx, gy) the place in it in units of 2**-24    (bilinear)

    Parameters
    ----------
    table : tables.Table
        Scaled by dt / length.

    Returns
    -------
    ndarray of shape (m,)
        float32, in units of 2**-32 periods: eight numbers a cell for degree 1, the table's own layout for degree 3.

    Raises
    ------
    ValueError
        If a step could cross half a period.
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
def _words(words, count, step, step_stride, path, path_stride, antithetic, point, stream, key):
    """Four words of Philox for each lane."""
    k0, k1 = key[0], key[1]
    for lane in range(count):
        c1 = _U((path + path_stride * lane) >> antithetic)
        a0, a1, a2, a3 = philox(_U(step + step_stride * lane), c1, _U(point), _U(stream), k0, k1)
        words[0, lane] = _W(a0)
        words[1, lane] = _W(a1)
        words[2, lane] = _W(a2)
        words[3, lane] = _W(a3)


@_inline
def _normals(words, z, count, scale, path, path_stride, antithetic):
    """Two pairs of normals from four words, by Box and Muller: z[0], z[1] of one step, z[2], z[3] of the next."""
    for half in range(0, 4, 2):
        for lane in range(count):
            u = (np.float32(_I(words[half, lane] >> _8)) + _F(0.5)) * _UNIT
            z[half, lane] = np.sqrt(_F(-2) * _log(u)) * scale
        for lane in range(count):
            sine, cosine = _sin_cos(words[half + 1, lane])
            z[half + 1, lane] = z[half, lane] * sine
            z[half, lane] = z[half, lane] * cosine
    if antithetic:
        for row in range(4):
            for lane in range(count):
                z[row, lane] *= _F(1 - 2 * ((path + path_stride * lane) & 1))


@_inline
def normals32(words, z, count, block, stream, key):
    """Write four standard normals for each lane: counters (block, lane) of a stream.

    Parameters
    ----------
    words : ndarray of shape (4, m)
        Room for 32-bit words.
    z : ndarray of shape (4, m)
        Result, float32, in the first `count` places of each row.
    count : int
        Lanes, <= m.
    block, stream : int
        Counters.
    key : ndarray of shape (2,)
        As from `random_numbers.key_from`.
    """
    _words(words, count, block, 0, 0, 1, 0, 0, stream, key)
    _normals(words, z, count, _F(1), 0, 1, 0)


@_inline
def _signs(words, z, step, count, scale, path, path_stride, antithetic):
    """Increments +scale or -scale from two bits of the words: sixteen steps a word."""
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
def _shift(position, displacement):
    return _W(position + _I(displacement).view(np.uint32))


def _make_advance(block):
    """The loop for blocks of so many lanes, a constant, for which the compiler unrolls the loops over lanes."""

    @numba.njit(parallel=True, cache=True, nogil=True, error_model="numpy", fastmath=_fast)
    def advance(
        x, y, tables, layers, degree, n, scale, step, first_path, first_point, common, antithetic, two_point, heun, key
    ):
        n_rows, n_lanes = x.shape
        n_blocks = (n_lanes + block - 1) // block
        unit = np.float32(scale * 2.0**32)
        stream = TWO_POINT if two_point else GAUSSIAN32
        # Steps that one call of Philox serves.
        per_call = 64 if two_point else 2
        for work in numba.prange(n_rows * n_blocks):
            row, start = work // n_blocks, (work % n_blocks) * block
            count = min(block, n_lanes - start)
            px, py = np.zeros(block, np.uint32), np.zeros(block, np.uint32)
            qx, qy = np.zeros(block, np.uint32), np.zeros(block, np.uint32)
            places, rows = np.zeros(block, np.uint32), np.zeros((8, block), np.float32)
            gx, gy = np.empty(block, np.float32), np.empty(block, np.float32)
            dx, dy = np.empty(block, np.float32), np.empty(block, np.float32)
            ex, ey = np.empty(block, np.float32), np.empty(block, np.float32)
            words, z = np.zeros((4, block), np.uint32), np.zeros((4, block), np.float32)
            px[:count] = x[row, start : start + count]
            py[:count] = y[row, start : start + count]
            path = first_path + row if common else first_path + start
            stride = 0 if common else 1
            point = 0 if common else first_point + row
            for k in range(len(layers)):
                if k % per_call == 0:
                    call = (step + k) // per_call
                    if common:
                        _words(words, 1, call, 0, path, stride, antithetic, point, stream, key)
                    else:
                        _words(words, block, call, 0, path, 1, antithetic, point, stream, key)
                    if not two_point and common:
                        _normals(words, z, 1, unit, path, 0, antithetic)
                    elif not two_point:
                        _normals(words, z, block, unit, path, 1, antithetic)
                half = 0 if two_point else 2 * (k & 1)
                if two_point and common:
                    _signs(words, z, k, 1, unit, path, 0, antithetic)
                elif two_point:
                    _signs(words, z, k, block, unit, path, 1, antithetic)
                if common:
                    for lane in range(1, count):
                        z[half, lane] = z[half, 0]
                        z[half + 1, lane] = z[half + 1, 0]
                _drift(degree, tables[layers[k, 0]], n, px, py, places, gx, gy, rows, dx, dy, block)
                if heun:
                    for lane in range(block):
                        qx[lane] = _shift(px[lane], dx[lane] + z[half, lane])
                        qy[lane] = _shift(py[lane], dy[lane] + z[half + 1, lane])
                    _drift(degree, tables[layers[k, 1]], n, qx, qy, places, gx, gy, rows, ex, ey, block)
                    for lane in range(block):
                        dx[lane] = _F(0.5) * (dx[lane] + ex[lane])
                        dy[lane] = _F(0.5) * (dy[lane] + ey[lane])
                for lane in range(block):
                    px[lane] = _shift(px[lane], dx[lane] + z[half, lane])
                    py[lane] = _shift(py[lane], dy[lane] + z[half + 1, lane])
            x[row, start : start + count] = px[:count]
            y[row, start : start + count] = py[:count]

    return advance


_advance_narrow, _advance_wide = _make_advance(16), _make_advance(64)


def advance32(
    x, y, tables, layers, degree, n, scale, step, first_path, first_point, common, antithetic, two_point, heun, key
):
    """Advance all particles by len(layers) Euler-Maruyama or stochastic Heun steps, in place.

    Parameters
    ----------
    x, y : ndarray of shape (n_rows, n_lanes)
        uint32. Rows are points and lanes paths; or, with `common`, rows are paths and lanes points.
    tables : ndarray of shape (n_tables, m)
        As from `cell_table`.
    layers : ndarray of shape (n_steps, 2)
        Indices of the tables at the beginning and the end of each step.
    degree : int
        Of the B-splines: 1 or 3.
    n : int
        Points per side of the tables.
    scale : float
        sigma sqrt(dt) / length.
    step : int
        Counter of the first step, a multiple of 64.
    first_path, first_point : int
        Counters of the first path and the first point.
    common : bool
        One set of increments for all points; their point counter is 0.
    antithetic : int
        1: paths 2 i and 2 i + 1 have opposite increments.
    two_point : bool
        Increments +- sigma sqrt(dt) instead of Gaussian ones.
    heun : bool
        Stochastic Heun instead of Euler-Maruyama.
    key : ndarray of shape (2,)
        As from `random_numbers.key_from`.
    """
    # Whole blocks are advanced, full or not.
    advance = _advance_narrow if x.shape[1] <= 32 else _advance_wide
    advance(
        x, y, tables, layers, degree, n, scale, step, first_path, first_point, common, antithetic, two_point, heun, key
    )


def increments32(key, n_steps, n_paths, dt, point, antithetic, two_point):
    """Return the Brownian increments of the loops of single precision.

    Parameters
    ----------
    key : ndarray of shape (2,)
        As from `random_numbers.key_from`.
    n_steps, n_paths : int
        Steps and paths.
    dt : float
        Step in time.
    point : int
        Counter of the point.
    antithetic : int
        1: paths 2 i and 2 i + 1 have opposite increments.
    two_point : bool
        Increments +- sqrt(dt).

    Returns
    -------
    ndarray of shape (n_steps, n_paths, 2)
    """
    out = np.empty((n_steps, n_paths, 2), np.float32)
    _fill_increments(out, math.sqrt(dt), antithetic, point, two_point, key)
    return out.astype(float)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_fast)
def _fill_increments(out, scale, antithetic, point, two_point, key):
    n_steps, n_paths = out.shape[:2]
    words, z = np.zeros((4, n_paths), np.uint32), np.zeros((4, n_paths), np.float32)
    per_call, stream = (64, TWO_POINT) if two_point else (2, GAUSSIAN32)
    for k in range(n_steps):
        if k % per_call == 0:
            _words(words, n_paths, k // per_call, 0, 0, 1, antithetic, point, stream, key)
            if not two_point:
                _normals(words, z, n_paths, np.float32(scale), 0, 1, antithetic)
        half = 0 if two_point else 2 * (k & 1)
        if two_point:
            _signs(words, z, k, n_paths, np.float32(scale), 0, 1, antithetic)
        out[k, :, 0] = z[half]
        out[k, :, 1] = z[half + 1]
