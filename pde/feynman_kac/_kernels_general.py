"""Path loops in double precision for what the fast ones leave out: steps of any sizes, sigma(x), weights, Jacobians.

dX = v dt + sigma(X, t) dB (Ito),  C' = c(X, t),  G' = g(X, t) exp(C)        u = E[f(X_T) exp(C_T) + G_T]
J' = grad v(X, t) J,  W = integral of J^T dB                                  (derivative of the path, Bismut's weight)

Positions are fractions of the period, in arrays (points, paths). A group of tables is a tuple (tables, layers, degree,
n), with `layers` (n_steps, 2) the tables at the beginning and the end of each step; no tables, no such term. Numbers
depend on their counters alone, as in `_kernels64`, whose paths these are where both apply.
"""

import numpy as np

from pde._compiled import copy, inlined, threaded
from pde.feynman_kac._kernels64 import _drift, _wrap
from pde.feynman_kac._random import fill_increments
from pde.feynman_kac._simd_spline import LANES

__all__ = ["advance_general", "advance_jacobian", "advance_weighted_rk4", "terminal_slopes"]

_U = np.uint64
# Lanes of a block: enough to fill the vector units, few enough for the first-level cache.
_BLOCK = 64

_inline = inlined(error_model="numpy", fastmath={"contract", "nsz"})
_options = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}


@_inline
def _noise(z1, z2, drawn, words, k, row, start, count, scale, given, counters, ways, key):
    """Increments of step k: given ones, or the sum of `n_sub` drawn ones of standard deviation `scale`.

    `drawn` (4, lanes) holds those of two steps of the counter, of standard deviation 1, from one call to the next.
    """
    n_sub, first_path, first_point, common, antithetic, two_point, _ = ways
    if given.shape[0] > 0:
        for lane in range(count):
            z1[lane] = given[k, 0, start + lane] * scale
            z2[lane] = given[k, 1, start + lane] * scale
        return
    path, point = first_path + start, 0 if common else first_point + row
    for lane in range(count):
        z1[lane] = 0.0
        z2[lane] = 0.0
    for sub in range(n_sub):
        counter = counters[k] + sub
        # Counters grow by one, or to an even one.
        if counter % 2 == 0 or k + sub == 0:
            fill_increments(drawn, words, count, 1.0, counter // 2, 0, path, 1, antithetic, point, two_point, key)
        first = 2 * (counter % 2)
        for lane in range(count):
            z1[lane] += scale * drawn[first, lane]
            z2[lane] += scale * drawn[first + 1, lane]


@_inline
def _rates(potential, source, k, stage, px, py, places, c, g, unused, count):
    """c and g at a stage of step k; zero where there is none."""
    for values, group in ((c, potential), (g, source)):
        tables, layers, degree, n = group
        if tables.shape[0] > 0:
            table, row_length = tables[layers[k, stage]], _U(n + degree + 1)
            _drift(degree, table, row_length, np.float64(n), px, py, places, values, unused, count)
        else:
            for lane in range(count):
                values[lane] = 0.0


@threaded(**_options)
def advance_general(
    part, x, y, log_weight, integral, velocity, potential, source, spread, dts, scales, counters, given, ways, key
):
    """Advance Euler-Maruyama or stochastic Heun paths by len(dts) steps, and C and G by the trapezoidal rule, in place.

    `velocity`, in periods per time; `potential` c; `source` g; `spread`, sigma(x), by which increments are multiplied;
    scalars are the first components of their tables. `scales` (n_steps,): standard deviation of one drawn increment, or
    factor of `given` (n_steps, 2, n_paths), the same for all points. `counters` (n_steps,). `ways`: (n_sub, first_path,
    first_point, common, antithetic, two_point, heun).
    """
    tables, layers, degree, n = velocity
    spread_tables, spread_layers, spread_degree, spread_n = spread
    heun = ways[6]
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    row_length, size = _U(n + degree + 1), np.float64(n)
    spread_row, spread_size = _U(spread_n + spread_degree + 1), np.float64(spread_n)
    weighted, scaled = potential[0].shape[0] + source[0].shape[0] > 0, spread_tables.shape[0] > 0
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        qx, qy, ex, ey = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        z1, z2 = np.empty(_BLOCK), np.empty(_BLOCK)
        drawn, words = np.empty((4, _BLOCK)), np.empty((4, _BLOCK), np.uint32)
        c, g, c0, g0 = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        places = np.empty(_BLOCK, np.uint32)
        copy(px, x[row, start : start + count])
        copy(py, y[row, start : start + count])
        if weighted:
            copy(c, log_weight[row, start : start + count])
            copy(g, integral[row, start : start + count])
        for k in range(len(dts)):
            dt = dts[k]
            _noise(z1, z2, drawn, words, k, row, start, count, scales[k], given, counters, ways, key)
            if scaled:
                table = spread_tables[spread_layers[k, 0]]
                _drift(spread_degree, table, spread_row, spread_size, px, py, places, ex, ey, count)
                for lane in range(count):
                    z1[lane] *= ex[lane]
                    z2[lane] *= ex[lane]
            if weighted:
                _rates(potential, source, k, 0, px, py, places, c0, g0, ex, count)
                for lane in range(count):
                    g[lane] += 0.5 * dt * g0[lane] * np.exp(c[lane])
                    c[lane] += 0.5 * dt * c0[lane]
            _drift(degree, tables[layers[k, 0]], row_length, size, px, py, places, dx, dy, count)
            if heun:
                for lane in range(count):
                    qx[lane] = _wrap(px[lane] + dt * dx[lane] + z1[lane])
                    qy[lane] = _wrap(py[lane] + dt * dy[lane] + z2[lane])
                _drift(degree, tables[layers[k, 1]], row_length, size, qx, qy, places, ex, ey, count)
                for lane in range(count):
                    dx[lane] = 0.5 * (dx[lane] + ex[lane])
                    dy[lane] = 0.5 * (dy[lane] + ey[lane])
            for lane in range(count):
                px[lane] = _wrap(px[lane] + dt * dx[lane] + z1[lane])
                py[lane] = _wrap(py[lane] + dt * dy[lane] + z2[lane])
            if weighted:
                _rates(potential, source, k, 1, px, py, places, c0, g0, ex, count)
                for lane in range(count):
                    c[lane] += 0.5 * dt * c0[lane]
                    g[lane] += 0.5 * dt * g0[lane] * np.exp(c[lane])
        copy(x[row, start : start + count], px)
        copy(y[row, start : start + count], py)
        if weighted:
            copy(log_weight[row, start : start + count], c)
            copy(integral[row, start : start + count], g)


@threaded(**_options)
def advance_weighted_rk4(part, x, y, log_weight, integral, velocity, potential, source, dts):
    """Advance characteristics with C and G by the classical Runge-Kutta method, in place.

    The tables' `layers` are (n_steps, 3): beginning, middle and end.
    """
    tables, layers, degree, n = velocity
    n_rows, n_lanes = x.shape
    row_length, size = _U(n + degree + 1), np.float64(n)
    for row in range(part[0], n_rows, part[1]):
        # One path at a time, in arrays of the length that `_drift` needs.
        q, d, r, p = np.empty((2, LANES)), np.empty((2, LANES)), np.empty((2, LANES)), np.empty(4)
        places, unused = np.empty(LANES, np.uint32), np.empty(LANES)
        total = np.empty(4)
        for lane in range(n_lanes):
            p[0], p[1], p[2], p[3] = x[row, lane], y[row, lane], log_weight[row, lane], integral[row, lane]
            for k in range(len(dts)):
                dt, c = dts[k], p[2]
                q[0, 0], q[1, 0] = p[0], p[1]
                total[:] = 0.0
                for stage in range(4):
                    middle = (stage + 1) // 2
                    _drift(degree, tables[layers[k, middle]], row_length, size, q[0], q[1], places, d[0], d[1], 1)
                    _rates(potential, source, k, middle, q[0], q[1], places, r[0], r[1], unused, 1)
                    weight = 2.0 if stage == 1 or stage == 2 else 1.0
                    total[0] += weight * d[0, 0]
                    total[1] += weight * d[1, 0]
                    total[2] += weight * r[0, 0]
                    total[3] += weight * r[1, 0] * np.exp(c)
                    reach = 1.0 if stage == 2 else 0.5
                    q[0, 0] = _wrap(p[0] + reach * dt * d[0, 0])
                    q[1, 0] = _wrap(p[1] + reach * dt * d[1, 0])
                    c = p[2] + reach * dt * r[0, 0]
                p[0] = _wrap(p[0] + dt / 6.0 * total[0])
                p[1] = _wrap(p[1] + dt / 6.0 * total[1])
                p[2] += dt / 6.0 * total[2]
                p[3] += dt / 6.0 * total[3]
            x[row, lane], y[row, lane], log_weight[row, lane], integral[row, lane] = p[0], p[1], p[2], p[3]


@_inline
def _weights(degree, t, w, s):
    """Weights of the B-splines at fraction t of a cell, and their slopes per cell."""
    if degree == 1:
        w[0], w[1], s[0], s[1] = 1.0 - t, t, -1.0, 1.0
        return
    r = 1.0 - t
    w[0], w[3] = r * r * r / 6.0, t * t * t / 6.0
    w[1] = (t * t * (3.0 * t - 6.0) + 4.0) / 6.0
    w[2] = (r * r * (3.0 * r - 6.0) + 4.0) / 6.0
    s[0], s[3] = -0.5 * r * r, 0.5 * t * t
    s[1] = 0.5 * t * (3.0 * t - 4.0)
    s[2] = -0.5 * r * (3.0 * r - 4.0)


@_inline
def _value_and_slopes(degree, table, n, x, y, wx, sx, wy, sy, out):
    """out = (v1, v2, d1 v1, d2 v1, d1 v2, d2 v2), slopes per period."""
    fx, fy = x * n, y * n
    i, j = min(int(fx), n - 1), min(int(fy), n - 1)
    _weights(degree, fx - i, wx, sx)
    _weights(degree, fy - j, wy, sy)
    out[:] = 0.0
    row = n + degree + 1
    for p in range(degree + 1):
        for q in range(degree + 1):
            place = 2 * ((i + p) * row + j + q)
            for c in range(2):
                a = table[place + c]
                out[c] += wx[p] * wy[q] * a
                out[2 + 2 * c] += n * sx[p] * wy[q] * a
                out[3 + 2 * c] += n * wx[p] * sy[q] * a


@threaded(**_options)
def advance_jacobian(part, x, y, jacobian, weight, velocity, dts, scales, counters, given, n_window, ways, key):
    """Advance paths with their derivatives J and, by Euler-Maruyama in the first n_window steps, W, in place.

    J_(k+1) = (I + dt grad v(X_k)) J_k,  W += J_(k+1)^T z,  z = sigma dB / length: with J at the end of the step, that
    is the exact formula of integration by parts for the discrete path. Arguments as of `advance_general`;
    `jacobian` (2, 2, n_points, n_paths), `weight` (2, n_points, n_paths).
    """
    tables, layers, degree, n = velocity
    heun = ways[6]
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        z1, z2 = np.empty(_BLOCK), np.empty(_BLOCK)
        drawn, words = np.empty((4, _BLOCK)), np.empty((4, _BLOCK), np.uint32)
        wx, sx, wy, sy = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
        v, e = np.empty(6), np.empty(6)
        for k in range(len(dts)):
            dt = dts[k]
            _noise(z1, z2, drawn, words, k, row, start, count, scales[k], given, counters, ways, key)
            for lane in range(count):
                at = start + lane
                px, py = x[row, at], y[row, at]
                a, b = jacobian[0, 0, row, at], jacobian[0, 1, row, at]
                c, d = jacobian[1, 0, row, at], jacobian[1, 1, row, at]
                _value_and_slopes(degree, tables[layers[k, 0]], n, px, py, wx, sx, wy, sy, v)
                da, db = v[2] * a + v[3] * c, v[2] * b + v[3] * d
                dc, dd = v[4] * a + v[5] * c, v[4] * b + v[5] * d
                vx, vy = v[0], v[1]
                if heun:
                    qx, qy = _wrap(px + dt * vx + z1[lane]), _wrap(py + dt * vy + z2[lane])
                    _value_and_slopes(degree, tables[layers[k, 1]], n, qx, qy, wx, sx, wy, sy, e)
                    fa, fb, fc, fd = a + dt * da, b + dt * db, c + dt * dc, d + dt * dd
                    da, db = 0.5 * (da + e[2] * fa + e[3] * fc), 0.5 * (db + e[2] * fb + e[3] * fd)
                    dc, dd = 0.5 * (dc + e[4] * fa + e[5] * fc), 0.5 * (dd + e[4] * fb + e[5] * fd)
                    vx, vy = 0.5 * (vx + e[0]), 0.5 * (vy + e[1])
                a, b, c, d = a + dt * da, b + dt * db, c + dt * dc, d + dt * dd
                if k < n_window:
                    weight[0, row, at] += a * z1[lane] + c * z2[lane]
                    weight[1, row, at] += b * z1[lane] + d * z2[lane]
                jacobian[0, 0, row, at], jacobian[0, 1, row, at] = a, b
                jacobian[1, 0, row, at], jacobian[1, 1, row, at] = c, d
                x[row, at] = _wrap(px + dt * vx + z1[lane])
                y[row, at] = _wrap(py + dt * vy + z2[lane])


@threaded(**_options)
def terminal_slopes(part, x, y, table, degree, n, values, slopes):
    """values (n_points, n_paths) = the table's first component at positions x, y; slopes (2, ...) per period."""
    for row in range(part[0], x.shape[0], part[1]):
        wx, sx, wy, sy, v = np.empty(4), np.empty(4), np.empty(4), np.empty(4), np.empty(6)
        for lane in range(x.shape[1]):
            _value_and_slopes(degree, table, n, x[row, lane], y[row, lane], wx, sx, wy, sy, v)
            values[row, lane], slopes[0, row, lane], slopes[1, row, lane] = v[0], v[2], v[3]
