"""Compiled path loops that carry more than the path: a coupled path, a martingale, or increments given from outside.

Positions are fractions of the period, in arrays of shape (points, paths); a block is some paths of one point.
Velocities are tables divided by the period; layers (n_steps,) is the table of each step. The other arguments are those
of `_kernels64`, and as there every number depends on its counter alone and blocks are independent: the result does not
depend on the number of threads.
"""

import numpy as np

from pde._compiled import copy, threaded
from pde.feynman_kac._kernels64 import _drift, _wrap
from pde.feynman_kac._random import fill_increments

__all__ = ["ALONE", "COARSE", "STILL", "advance_given", "advance_martingale", "advance_pair", "bridge"]

_U = np.uint64
# Lanes of a block: enough to fill the vector units, few enough for the first-level cache.
_BLOCK = 64
# What the second path of `advance_pair` does.
ALONE, STILL, COARSE = 0, 1, 2

_options = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}


@threaded(**_options)
def advance_pair(part, x, y, cx, cy, tables, layers, degree, n, dt, scale, step, first_path, first_point, second, key):
    """Advance Euler-Maruyama paths by len(layers) steps, and with them second paths of the same increments, in place.

    x += v(x) dt + z;   second = STILL:  cx += z;
    second = COARSE, at every other step:  cx += 2 v(cx) dt + z_k + z_(k+1)

    Positions (n_points, n_paths); cx, cy are not used with ALONE. `step` is even, and with COARSE len(layers) too.
    """
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    row_length, size = _U(n + degree + 1), np.float64(n)
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        places = np.empty(_BLOCK, np.uint32)
        qx, qy, z, words = np.empty(_BLOCK), np.empty(_BLOCK), np.empty((4, _BLOCK)), np.empty((4, _BLOCK), np.uint32)
        copy(px, x[row, start : start + count])
        copy(py, y[row, start : start + count])
        if second != ALONE:
            copy(qx, cx[row, start : start + count])
            copy(qy, cy[row, start : start + count])
        for k in range(len(layers)):
            table = tables[layers[k]]
            if k % 2 == 0:
                fill_increments(
                    z, words, count, scale, (step + k) // 2, 0, first_path + start, 1, 0, first_point + row, False, key
                )
            z1, z2 = z[2 * (k % 2)], z[2 * (k % 2) + 1]
            if second == COARSE and k % 2 == 0:
                _drift(degree, table, row_length, size, qx, qy, places, dx, dy, count)
                # Not wrapped: it is within 1 + 2 max |v| dt of the cell, and the next half step wraps it.
                for lane in range(count):
                    qx[lane] += 2.0 * dt * dx[lane] + z1[lane]
                    qy[lane] += 2.0 * dt * dy[lane] + z2[lane]
            elif second != ALONE:
                for lane in range(count):
                    qx[lane] = _wrap(qx[lane] + z1[lane])
                    qy[lane] = _wrap(qy[lane] + z2[lane])
            _drift(degree, table, row_length, size, px, py, places, dx, dy, count)
            for lane in range(count):
                px[lane] = _wrap(px[lane] + dt * dx[lane] + z1[lane])
                py[lane] = _wrap(py[lane] + dt * dy[lane] + z2[lane])
        copy(x[row, start : start + count], px)
        copy(y[row, start : start + count], py)
        if second != ALONE:
            copy(cx[row, start : start + count], qx)
            copy(cy[row, start : start + count], qy)


@threaded(**_options)
def advance_martingale(
    part, x, y, m, tables, layers, degree, n, slopes, snapshots, slope_n, dt, scale, step, first_path, first_point, key
):
    """Advance Euler-Maruyama paths by len(layers) steps, and the martingale m of a gradient along them, in place.

    m += g_k(x) . z;  x += v(x) dt + z

    All of shape (n_points, n_paths). slopes (n_snapshots, 2 * (slope_n + 4)**2) are bicubic tables of g times the
    period; snapshots (n_steps,) is the table of each step.
    """
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    row_length, size = _U(n + degree + 1), np.float64(n)
    slope_row, slope_size = _U(slope_n + 4), np.float64(slope_n)
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        places = np.empty(_BLOCK, np.uint32)
        gx, gy, z, words = np.empty(_BLOCK), np.empty(_BLOCK), np.empty((4, _BLOCK)), np.empty((4, _BLOCK), np.uint32)
        total = np.empty(_BLOCK)
        copy(px, x[row, start : start + count])
        copy(py, y[row, start : start + count])
        copy(total, m[row, start : start + count])
        for k in range(len(layers)):
            if k % 2 == 0:
                fill_increments(
                    z, words, count, scale, (step + k) // 2, 0, first_path + start, 1, 0, first_point + row, False, key
                )
            z1, z2 = z[2 * (k % 2)], z[2 * (k % 2) + 1]
            _drift(degree, tables[layers[k]], row_length, size, px, py, places, dx, dy, count)
            _drift(3, slopes[snapshots[k]], slope_row, slope_size, px, py, places, gx, gy, count)
            for lane in range(count):
                total[lane] += gx[lane] * z1[lane] + gy[lane] * z2[lane]
                px[lane] = _wrap(px[lane] + dt * dx[lane] + z1[lane])
                py[lane] = _wrap(py[lane] + dt * dy[lane] + z2[lane])
        copy(x[row, start : start + count], px)
        copy(y[row, start : start + count], py)
        copy(m[row, start : start + count], total)


@threaded(**_options)
def advance_given(part, x, y, increments, tables, layers, degree, n, dt, step):
    """Advance Euler-Maruyama paths by len(layers) steps along given increments, in place.

    x += v(x) dt + increments[step + k]

    Positions (n_points, n_paths); increments (n, 2, n_paths), sigma dB / length, the same for all points.
    """
    n_rows, n_lanes = x.shape
    n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
    row_length, size = _U(n + degree + 1), np.float64(n)
    for work in range(part[0], n_rows * n_blocks, part[1]):
        row, start = work // n_blocks, (work % n_blocks) * _BLOCK
        count = min(_BLOCK, n_lanes - start)
        px, py, dx, dy = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
        places = np.empty(_BLOCK, np.uint32)
        copy(px, x[row, start : start + count])
        copy(py, y[row, start : start + count])
        for k in range(len(layers)):
            _drift(degree, tables[layers[k]], row_length, size, px, py, places, dx, dy, count)
            z1, z2 = increments[step + k, 0, start:], increments[step + k, 1, start:]
            for lane in range(count):
                px[lane] = _wrap(px[lane] + dt * dx[lane] + z1[lane])
                py[lane] = _wrap(py[lane] + dt * dy[lane] + z2[lane])
        copy(x[row, start : start + count], px)
        copy(y[row, start : start + count], py)


@threaded(**_options)
def bridge(part, normals, order, weights, scale, increments):
    """Write the increments (n_steps, 2, n_paths) of Brownian paths built from normals in the order of a bridge.

    W_m = (1 - w) W_l + w W_r + s Z_i,  (m, l, r) = order[i],  (w, s) = weights[i]

    normals (n_paths, 2 * n_steps) hold the two components of draw i in columns 2 i and 2 i + 1; s is for steps of
    variance 1, `scale` the standard deviation of an increment.
    """
    n_paths, n_steps = normals.shape[0], len(order)
    n_blocks = (n_paths + _BLOCK - 1) // _BLOCK
    for block in range(part[0], n_blocks, part[1]):
        first, last = block * _BLOCK, min((block + 1) * _BLOCK, n_paths)
        w = np.zeros((n_steps + 1, 2))
        for path in range(first, last):
            for i in range(n_steps):
                middle, left, right = order[i]
                for c in range(2):
                    ends = (1.0 - weights[i, 0]) * w[left, c] + weights[i, 0] * w[right, c]
                    w[middle, c] = ends + weights[i, 1] * normals[path, 2 * i + c]
            for k in range(n_steps):
                for c in range(2):
                    increments[k, c, path] = scale * (w[k + 1, c] - w[k, c])
