"""The compiled path loops on the CPU: particles of a periodic velocity, in blocks that the compiler vectorises.

Positions are fractions of the period, in arrays of shape (rows, lanes); a block is some lanes of one row. Velocities
are tables (n_tables, 2 * (n + degree + 1)**2) of B-spline coefficients, as in `_spline_tables.Table`, already
multiplied by dt / length, so that a table's value is a displacement; n is the number of points per side, degree 1 or 3.
Increments have the standard deviation `scale`, sigma sqrt(dt) / length; `step`, even, `first_path` and `first_point`
are the counters of the first step, path and point, and key (2,) comes from `key_from`. Blocks are independent of each
other and every number depends on its counter alone: the result does not depend on the number of threads.

Over 300 lines: the schemes share inlined parts, which the compiler must see in one module.
"""

import numpy as np

from pde._compiled import inlined, threaded
from pde.feynman_kac._random import fill_increments
from pde.feynman_kac._simd_spline import LANES, bicubic_lanes, bilinear_lanes

__all__ = ["advance_euler", "advance_heun", "advance_rk4", "evaluate", "terminal_moments"]

_U = np.uint64
# Lanes of a block: enough to fill the vector units, few enough for the first-level cache.
_BLOCK = 64

_RK4_WEIGHTS = (1 / 6, 2 / 6, 2 / 6, 1 / 6)
# Where the next stage is taken; the last stage has none.
_RK4_REACH = (0.5, 0.5, 1.0, 0.0)

_inline = inlined(error_model="numpy", fastmath={"contract", "nsz"})
_options = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}


@_inline
def _bilinear(table, row, n, x, y):
    """Values of the two components, interleaved in the table; `row` is the length of its rows in points."""
    fx, fy = x * n, y * n
    i, j = _U(fx), _U(fy)
    wx, wy = fx - np.float64(i), fy - np.float64(j)
    o = (i * row + j) * _U(2)
    q = o + row * _U(2)
    a = table[o] + wy * (table[o + _U(2)] - table[o])
    b = table[q] + wy * (table[q + _U(2)] - table[q])
    c = table[o + _U(1)] + wy * (table[o + _U(3)] - table[o + _U(1)])
    d = table[q + _U(1)] + wy * (table[q + _U(3)] - table[q + _U(1)])
    return a + wx * (b - a), c + wx * (d - c)


@_inline
def _cubic_weights(t):
    r = 1.0 - t
    return (
        r * r * r / 6.0,
        (t * t * (3.0 * t - 6.0) + 4.0) / 6.0,
        (r * r * (3.0 * r - 6.0) + 4.0) / 6.0,
        t * t * t / 6.0,
    )


@_inline
def _cubic_row(table, o, w0, w1, w2, w3):
    return w0 * table[o] + w1 * table[o + _U(2)] + w2 * table[o + _U(4)] + w3 * table[o + _U(6)]


@_inline
def _bicubic(table, row, n, x, y):
    fx, fy = x * n, y * n
    i, j = _U(fx), _U(fy)
    a0, a1, a2, a3 = _cubic_weights(fx - np.float64(i))
    b0, b1, b2, b3 = _cubic_weights(fy - np.float64(j))
    o = (i * row + j) * _U(2)
    s = row * _U(2)
    p, q, t = o + s, o + _U(2) * s, o + _U(3) * s
    one = _U(1)
    first = a0 * _cubic_row(table, o, b0, b1, b2, b3) + a1 * _cubic_row(table, p, b0, b1, b2, b3)
    first += a2 * _cubic_row(table, q, b0, b1, b2, b3) + a3 * _cubic_row(table, t, b0, b1, b2, b3)
    second = a0 * _cubic_row(table, o + one, b0, b1, b2, b3) + a1 * _cubic_row(table, p + one, b0, b1, b2, b3)
    second += a2 * _cubic_row(table, q + one, b0, b1, b2, b3) + a3 * _cubic_row(table, t + one, b0, b1, b2, b3)
    return first, second


@_inline
def _drift(degree, table, row, n, x, y, places, dx, dy, count):
    """Displacements by the velocity; arrays are as long as a multiple of LANES, and beyond `count` hold anything."""
    for lane in range(count):
        fx, fy = x[lane] * n, y[lane] * n
        i, j = np.int32(fx), np.int32(fy)
        dx[lane] = fx - np.float64(i)
        dy[lane] = fy - np.float64(j)
        places[lane] = np.uint32((i * np.int32(row) + j) * np.int32(2))
    whole = (count + LANES - 1) // LANES * LANES
    for lane in range(count, whole):
        places[lane] = np.uint32(0)
    if degree == 1:
        for lane in range(0, whole, LANES):
            bilinear_lanes(table, places, row, dx, dy, lane)
    else:
        for lane in range(0, whole, LANES):
            bicubic_lanes(table, places, row, dx, dy, lane)


@_inline
def _wrap(x):
    return x - np.floor(x)


def _make_advance(heun):
    """The loop of Euler-Maruyama or of the stochastic Heun method, each compiled without the other."""

    @threaded(**_options)
    def advance(
        part, x, y, tables, layers, degree, n, scale, step, first_path, first_point, common, antithetic, two_point, key
    ):
        """Advance particles at x, y (n_rows, n_lanes) by len(layers) steps, in place, with increments of size `scale`.

        Rows are points and lanes paths; with `common`, rows are paths, whose increments all lanes (points) share.
        layers (n_steps, 1), or (n_steps, 2) for Heun: the table at the beginning of each step and at its end.
        antithetic = 1: paths 2 i and 2 i + 1 have opposite increments; two_point: increments +-scale, not Gaussian.
        """
        n_rows, n_lanes = x.shape
        n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
        row_length = _U(n + degree + 1)
        size = np.float64(n)
        for work in range(part[0], n_rows * n_blocks, part[1]):
            row, start = work // n_blocks, (work % n_blocks) * _BLOCK
            count = min(_BLOCK, n_lanes - start)
            px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
            z, words = np.empty((4, _BLOCK)), np.empty((4, _BLOCK), np.uint32)
            qx, qy, ex, ey = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
            places = np.empty(_BLOCK, np.uint32)
            # Paths of one point draw for all lanes of two steps; a common path, for many steps at once.
            drawn, call_stride, path_stride = (_BLOCK, 1, 0) if common else (count, 0, 1)
            period = 2 * _BLOCK if common else 2
            path, point = (first_path + row, 0) if common else (first_path + start, first_point + row)
            for lane in range(count):
                px[lane] = x[row, start + lane]
                py[lane] = y[row, start + lane]
            for k in range(len(layers)):
                table = tables[layers[k, 0]]
                if k % period == 0:
                    fill_increments(
                        z, words, drawn, scale, (step + k) // 2, call_stride, path, path_stride, antithetic, point,
                        two_point, key,
                    )  # fmt: skip
                z1, z2 = z[2 * (k % 2)], z[2 * (k % 2) + 1]
                _drift(degree, table, row_length, size, px, py, places, dx, dy, count)
                if heun:
                    # A common path has one increment for all lanes: one of those drawn, at stride 0.
                    first, stride = (k // 2 % _BLOCK, 0) if common else (0, 1)
                    for lane in range(count):
                        qx[lane] = _wrap(px[lane] + dx[lane] + z1[first + stride * lane])
                        qy[lane] = _wrap(py[lane] + dy[lane] + z2[first + stride * lane])
                    _drift(degree, tables[layers[k, 1]], row_length, size, qx, qy, places, ex, ey, count)
                    for lane in range(count):
                        dx[lane] = 0.5 * (dx[lane] + ex[lane])
                        dy[lane] = 0.5 * (dy[lane] + ey[lane])
                if common:
                    s1, s2 = z1[k // 2 % _BLOCK], z2[k // 2 % _BLOCK]
                    for lane in range(count):
                        px[lane] = _wrap(px[lane] + dx[lane] + s1)
                        py[lane] = _wrap(py[lane] + dy[lane] + s2)
                else:
                    for lane in range(count):
                        px[lane] = _wrap(px[lane] + dx[lane] + z1[lane])
                        py[lane] = _wrap(py[lane] + dy[lane] + z2[lane])
            for lane in range(count):
                x[row, start + lane] = px[lane]
                y[row, start + lane] = py[lane]

    return advance


# X <- X + v(X) dt + sigma dB
advance_euler = _make_advance(heun=False)
# Y = X + v(X) dt + sigma dB,  X <- X + (v(X) + v(Y)) dt / 2 + sigma dB:  weak order 2 for additive noise
advance_heun = _make_advance(heun=True)


@threaded(**_options)
def advance_rk4(part, x, y, tables, layers, degree, n):
    """Advance particles at x, y (n_rows, n_lanes) along characteristics by len(layers) Runge-Kutta steps, in place.

    layers (n_steps, 3): the tables at the beginning, the middle and the end of each step.
    """
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    row_length = _U(n + degree + 1)
    size = np.float64(n)
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        qx, qy, sx, sy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        places = np.empty(_BLOCK, np.uint32)
        for lane in range(count):
            px[lane] = x[row, start + lane]
            py[lane] = y[row, start + lane]
        for k in range(len(layers)):
            for lane in range(count):
                qx[lane] = sx[lane] = px[lane]
                qy[lane] = sy[lane] = py[lane]
            for stage in range(4):
                _drift(degree, tables[layers[k, (stage + 1) // 2]], row_length, size, qx, qy, places, dx, dy, count)
                for lane in range(count):
                    sx[lane] += _RK4_WEIGHTS[stage] * dx[lane]
                    sy[lane] += _RK4_WEIGHTS[stage] * dy[lane]
                    qx[lane] = _wrap(px[lane] + _RK4_REACH[stage] * dx[lane])
                    qy[lane] = _wrap(py[lane] + _RK4_REACH[stage] * dy[lane])
            for lane in range(count):
                px[lane] = _wrap(sx[lane])
                py[lane] = _wrap(sy[lane])
        for lane in range(count):
            x[row, start + lane] = px[lane]
            y[row, start + lane] = py[lane]


@threaded(**_options)
def terminal_moments(part, x, y, unit, table, degree, n, common, antithetic, mean, squares):
    """Reduce the terminal data at x, y (n_rows, n_lanes) to mean and sum of squared deviations per point: (n_points,).

    mean <- mean + (f - mean) / k,  squares <- squares + (f - mean_old) (f - mean)                     (Welford 1962)

    Positions are fractions of the period after multiplication by `unit`, 1 or 2**-32 for integers; `common` and
    `antithetic` as in `advance_euler`: an antithetic pair is one sample.
    """
    row_length, size = _U(n + degree + 1), np.float64(n)
    n_paths = x.shape[0] if common else x.shape[1]
    share = 1 + antithetic
    f, held = np.empty(_BLOCK), np.empty(_BLOCK)
    # Points of a block are neighbours in memory where rows are paths.
    n_blocks = (len(mean) + _BLOCK - 1) // _BLOCK
    for block in range(part[0], n_blocks, part[1]):
        first = block * _BLOCK
        n_points = min(_BLOCK, len(mean) - first)
        for index in range(first, first + n_points):
            mean[index] = 0.0
            squares[index] = 0.0
        # One evaluation for both layouts, which costs the compiler half of two.
        n_rows, per_row = (n_paths, 1) if common else (n_points, (n_paths + _BLOCK - 1) // _BLOCK)
        for piece in range(n_rows * per_row):
            row, start, count = piece, first, n_points
            if not common:
                row, start = first + piece // per_row, (piece % per_row) * _BLOCK
                count = min(_BLOCK, n_paths - start)
            for lane in range(count):
                f[lane] = _first(
                    degree, table, row_length, size, x[row, start + lane] * unit, y[row, start + lane] * unit
                )
            if not common:
                for lane in range(0, count, share):
                    value = f[lane] if share == 1 else (f[lane] + f[lane + 1]) / 2
                    _add(mean, squares, row, value, (start + lane) // share + 1)
            elif antithetic and row % 2 == 0:
                for lane in range(count):
                    held[lane] = f[lane]
            else:
                for lane in range(count):
                    value = (held[lane] + f[lane]) / 2 if antithetic else f[lane]
                    _add(mean, squares, start + lane, value, row // share + 1)


@_inline
def _first(degree, table, row_length, size, x, y):
    if degree == 1:
        return _bilinear(table, row_length, size, x, y)[0]
    return _bicubic(table, row_length, size, x, y)[0]


@_inline
def _add(mean, squares, index, value, count):
    gap = value - mean[index]
    mean[index] += gap / count
    squares[index] += gap * (value - mean[index])


@threaded(**_options)
def evaluate(part, x, y, table, degree, n, out):
    """Write the table's first component at the positions x, y (n_rows, n_lanes) into out, of the same shape."""
    row_length, size = _U(n + degree + 1), np.float64(n)
    for row in range(part[0], x.shape[0], part[1]):
        for lane in range(x.shape[1]):
            if degree == 1:
                out[row, lane] = _bilinear(table, row_length, size, x[row, lane], y[row, lane])[0]
            else:
                out[row, lane] = _bicubic(table, row_length, size, x[row, lane], y[row, lane])[0]
