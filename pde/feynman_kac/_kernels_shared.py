"""Path loops in single precision for increments that all starting points share: stochastic Heun, and sums of f.

Positions and velocity tables as in `_kernels32`. Where points are many they fill the lanes, a path's increments are
broadcast, and f is summed right after the path; where they are few, paths fill the lanes.
"""

import numpy as np

from pde._compiled import copy, inlined, njit, threaded
from pde.feynman_kac._kernels32 import _drift, _shift, reaches_far

__all__ = ["advance_shared", "scramble", "sobol_uniforms", "sums_of_terminal", "terminal_values"]

_F, _U = np.float32, np.uint64
# Lanes of a block, a constant for which the compiler unrolls the loops over lanes.
_BLOCK = 64
_BITS = 30

_fast = {"contract", "nsz", "reassoc"}
_inline = inlined(error_model="numpy", fastmath=_fast)
_options = {"error_model": "numpy", "fastmath": _fast}


def _make_sums(far):
    """The loop over many points; `far`: steps may cross half a period."""

    @threaded(**_options)
    def add(part, x, y, increments, n_per_sum, tables, layers, degree, n, terminal, f_degree, f_n, sums):
        """sums[r, i] = sum of f(X_T) over paths r n_per_sum, ..., of point i, along increments (n_paths, n_steps, 2).

        x, y (n_points,) uint32 starting points; increments float32, in units of 2**-32 periods; `terminal` a table as
        of a velocity, whose first component is f.
        """
        n_points, n_paths = len(x), len(increments)
        n_blocks = (n_points + _BLOCK - 1) // _BLOCK
        for block in range(part[0], n_blocks, part[1]):
            start = block * _BLOCK
            count = min(_BLOCK, n_points - start)
            bx, by = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
            px, py = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
            qx, qy = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
            places, rows = np.zeros(_BLOCK, np.uint32), np.zeros((8, _BLOCK), np.float32)
            gx, gy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            dx, dy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            ex, ey = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            total = np.zeros(_BLOCK)
            copy(bx, x[start : start + count])
            copy(by, y[start : start + count])
            for path in range(n_paths):
                for lane in range(_BLOCK):
                    px[lane] = bx[lane]
                    py[lane] = by[lane]
                for k in range(len(layers)):
                    z1, z2 = increments[path, k, 0], increments[path, k, 1]
                    _drift(degree, tables[layers[k, 0]], n, px, py, places, gx, gy, rows, dx, dy, _BLOCK)
                    for lane in range(_BLOCK):
                        qx[lane] = _shift(px[lane], dx[lane] + z1, far)
                        qy[lane] = _shift(py[lane], dy[lane] + z2, far)
                    _drift(degree, tables[layers[k, 1]], n, qx, qy, places, gx, gy, rows, ex, ey, _BLOCK)
                    for lane in range(_BLOCK):
                        px[lane] = _shift(px[lane], _F(0.5) * (dx[lane] + ex[lane]) + z1, far)
                        py[lane] = _shift(py[lane], _F(0.5) * (dy[lane] + ey[lane]) + z2, far)
                _drift(f_degree, terminal, f_n, px, py, places, gx, gy, rows, dx, dy, _BLOCK)
                for lane in range(_BLOCK):
                    total[lane] += dx[lane]
                if (path + 1) % n_per_sum == 0:
                    for lane in range(count):
                        sums[path // n_per_sum, start + lane] = total[lane]
                    for lane in range(_BLOCK):
                        total[lane] = 0.0

    return add


_sums_near, _sums_far = _make_sums(False), _make_sums(True)


def sums_of_terminal(x, y, increments, *arguments):
    """As the loop that fits the increments."""
    (_sums_far if _are_far(increments) else _sums_near)(x, y, increments, *arguments)


def _make_advance(far):
    """The loop over few points; `far`: steps may cross half a period."""

    @threaded(**_options)
    def advance(part, x, y, increments, tables, layers, degree, n):
        """Advance particles x, y (n_points, n_paths) along increments (n_steps, 2, n_paths), in place."""
        n_rows, n_lanes = x.shape
        n_blocks = (n_lanes + _BLOCK - 1) // _BLOCK
        for work in range(part[0], n_rows * n_blocks, part[1]):
            row, start = work // n_blocks, (work % n_blocks) * _BLOCK
            count = min(_BLOCK, n_lanes - start)
            px, py = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
            qx, qy = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
            places, rows = np.zeros(_BLOCK, np.uint32), np.zeros((8, _BLOCK), np.float32)
            gx, gy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            dx, dy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            ex, ey = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
            z1, z2 = np.zeros(_BLOCK, np.float32), np.zeros(_BLOCK, np.float32)
            copy(px, x[row, start : start + count])
            copy(py, y[row, start : start + count])
            for k in range(len(layers)):
                copy(z1, increments[k, 0, start : start + count])
                copy(z2, increments[k, 1, start : start + count])
                _drift(degree, tables[layers[k, 0]], n, px, py, places, gx, gy, rows, dx, dy, _BLOCK)
                for lane in range(_BLOCK):
                    qx[lane] = _shift(px[lane], dx[lane] + z1[lane], far)
                    qy[lane] = _shift(py[lane], dy[lane] + z2[lane], far)
                _drift(degree, tables[layers[k, 1]], n, qx, qy, places, gx, gy, rows, ex, ey, _BLOCK)
                for lane in range(_BLOCK):
                    px[lane] = _shift(px[lane], _F(0.5) * (dx[lane] + ex[lane]) + z1[lane], far)
                    py[lane] = _shift(py[lane], _F(0.5) * (dy[lane] + ey[lane]) + z2[lane], far)
            copy(x[row, start : start + count], px)
            copy(y[row, start : start + count], py)

    return advance


_advance_near, _advance_far = _make_advance(False), _make_advance(True)


def advance_shared(x, y, increments, *arguments):
    """As the loop that fits the increments."""
    (_advance_far if _are_far(increments) else _advance_near)(x, y, increments, *arguments)


def _are_far(increments):
    # Of the drift `cell_table` leaves less than a quarter of a period.
    return reaches_far(0.25, 2.0**-32 * float(np.abs(increments).max(initial=0.0)))


@njit(**_options)
def terminal_values(x, y, terminal, f_degree, f_n, out):
    """out = the table's first component at positions x, y (n,) uint32."""
    px, py = np.zeros(_BLOCK, np.uint32), np.zeros(_BLOCK, np.uint32)
    places, rows = np.zeros(_BLOCK, np.uint32), np.zeros((8, _BLOCK), np.float32)
    gx, gy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    dx, dy = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, len(x), _BLOCK):
        count = min(_BLOCK, len(x) - start)
        copy(px, x[start : start + count])
        copy(py, y[start : start + count])
        _drift(f_degree, terminal, f_n, px, py, places, gx, gy, rows, dx, dy, _BLOCK)
        copy(out[start : start + count], dx)


@_inline
def _parity(word):
    word ^= word >> _U(16)
    word ^= word >> _U(8)
    word ^= word >> _U(4)
    word ^= word >> _U(2)
    word ^= word >> _U(1)
    return word & _U(1)


@njit(**_options)
def scramble(directions, words):
    """Direction numbers (n_scrambles, n_dims, m) multiplied by random lower triangular matrices (Matousek 1998).

    directions (n_dims, m) and words (n_scrambles, n_dims, 31), uint64 of 30 bits; words[..., 30] is the digital shift.
    """
    n_dims, m = directions.shape
    out = np.zeros((len(words), n_dims, m), np.uint64)
    for s in range(len(words)):
        for d in range(n_dims):
            for bit in range(_BITS):
                # Row `bit`, from the most significant: random to its left, one on the diagonal.
                place = _U(_BITS - 1 - bit)
                row = ((words[s, d, bit] >> (place + _U(1))) << (place + _U(1))) | (_U(1) << place)
                for column in range(m):
                    out[s, d, column] |= _parity(row & directions[d, column]) << place
    return out


@njit(**_options)
def sobol_uniforms(directions, words, jitter, first, out):
    """Points first, first + 1, ... of each scrambled sequence, in (0, 1): out (n_scrambles, n_points, n_dims).

    jitter (n_scrambles, n_dims) in (0, 1): the place within the last of 30 bits.
    """
    n_scrambles, n_points, n_dims = out.shape
    for s in range(n_scrambles):
        for d in range(n_dims):
            gray = _U(first ^ (first >> 1))
            value = words[s, d, _BITS]
            column = 0
            while gray >> _U(column) != _U(0):
                if (gray >> _U(column)) & _U(1):
                    value ^= directions[s, d, column]
                column += 1
            for i in range(n_points):
                out[s, i, d] = (np.float64(value) + jitter[s, d]) * 2.0**-_BITS
                index = first + i + 1
                column = 0
                while (index >> column) & 1 == 0:
                    column += 1
                if i + 1 < n_points:
                    value ^= directions[s, d, column]
