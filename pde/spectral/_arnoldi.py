"""The kernels of the sketched Krylov basis: truncated Arnoldi, the sketch, and Gram-Schmidt of the sketches.

Vectors are rows; rows of r and g are columns of R and G.
"""

import functools
import math

import numpy as np

from pde._compiled import copy, inlined, njit

# Functions that compiled ones call are compiled into them: otherwise the linker takes whichever copy the process has
# loaded first, and copies may round differently, so that a cold cache would give other bits than a warm one.
_FAST = {"reassoc", "contract", "nsz"}
# A basis vector this close to the span of the others is orthogonalised against all of them.
_DEPENDENT = 1e-3
# Every entry is in a bin of each of so many blocks. In one block alone, two of the few entries of a sparse vector that
# share a bin could not be distinguished.
_BLOCKS = 4
# Status of a new vector, if not 0: the space is invariant, the sketch misses the vector, it is not finite.
INVARIANT, BLIND, NOT_FINITE = 1, 2, -1


@functools.lru_cache(16)
def signs_of(size):
    """Random signs of the entries, the same in all blocks: hardly any two entries share a bin of more than one."""
    return np.random.default_rng(160).choice([-1.0, 1.0], size)


@functools.lru_cache(16)
def blocks_of(n_bins):
    """Numbers of bins per block, prime to each other: two entries share a bin of one block or another, not of all."""
    sizes, size = [], max(2, n_bins // _BLOCKS)
    while len(sizes) < _BLOCKS:
        if all(math.gcd(size, other) == 1 for other in sizes):
            sizes.append(size)
        size += 1
    return np.array(sizes)


@njit(fastmath=_FAST, forceinline=True)
def dot(a, b):
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@inlined(fastmath=_FAST)
def _sketch(v, blocks, out):
    """Sum the entries of v into bins by index, block by block; a copy if there are enough bins."""
    if out.size >= v.size:
        copy(out, v)
        return
    first = 0
    for block in range(blocks.size):
        n = blocks[block]
        bins = out[first : first + n]
        first += n
        for k in range(n):
            bins[k] = 0.0
        # Rows of n entries, four at a time: single rows are too short for a loop of their own.
        rows, i = v.size // n, 0
        w = v[: rows * n].reshape(rows, n)
        while i + 4 <= rows:
            a, b, c, d = w[i], w[i + 1], w[i + 2], w[i + 3]
            for k in range(n):
                bins[k] += a[k] + b[k] + c[k] + d[k]
            i += 4
        while i < rows:
            a = w[i]
            for k in range(n):
                bins[k] += a[k]
            i += 1
        a = v[rows * n :]
        for k in range(a.size):
            bins[k] += a[k]


@inlined(fastmath=_FAST)
def _orthonormalise(q, size, r):
    """Gram-Schmidt of row `size` of q against the rows before it; coefficients into r[:size + 1]."""
    v = q[size]
    r[: size + 1] = 0.0
    before = dot(v, v)
    for _ in range(2):
        whole = size - size % 4
        for i in range(0, whole, 4):
            a, b, c, d = q[i], q[i + 1], q[i + 2], q[i + 3]
            s, t, x, y = 0.0, 0.0, 0.0, 0.0
            for k in range(v.size):
                s += a[k] * v[k]
                t += b[k] * v[k]
                x += c[k] * v[k]
                y += d[k] * v[k]
            for k in range(v.size):
                v[k] -= s * a[k] + t * b[k] + x * c[k] + y * d[k]
            r[i] += s
            r[i + 1] += t
            r[i + 2] += x
            r[i + 3] += y
        for i in range(whole, size):
            row = q[i]
            s = dot(row, v)
            r[i] += s
            for k in range(v.size):
                v[k] -= s * row[k]
        after = dot(v, v)
        # Twice is enough, and once if little was taken (Daniel et al. 1976).
        if after >= 0.5 * before:
            break
        before = after
    norm = np.sqrt(after)
    r[size] = norm
    if norm > 0.0:
        for k in range(v.size):
            v[k] /= norm


@njit(forceinline=True)
def back_substitute(r, c):
    """x of R x = c; row j of r is column j of R."""
    x = c.copy()
    for j in range(c.size - 1, -1, -1):
        x[j] /= r[j, j]
        for i in range(j):
            x[i] -= r[j, i] * x[j]
    return x


@inlined(fastmath=_FAST)
def _take_last_four(vectors, size, v, h):
    """Take from v its parts along the last four vectors; return the norms squared before and after."""
    if size >= 4:
        a, b, c, d = vectors[size - 4], vectors[size - 3], vectors[size - 2], vectors[size - 1]
        p, q, r, s, before, after = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(v.size):
            p += a[k] * v[k]
            q += b[k] * v[k]
            r += c[k] * v[k]
            s += d[k] * v[k]
            before += v[k] * v[k]
        for k in range(v.size):
            v[k] -= p * a[k] + q * b[k] + r * c[k] + s * d[k]
            after += v[k] * v[k]
        h[size - 4], h[size - 3], h[size - 2], h[size - 1] = p, q, r, s
        return before, after
    before = dot(v, v)
    for i in range(size):
        row = vectors[i]
        h[i] = dot(row, v)
        for k in range(v.size):
            v[k] -= h[i] * row[k]
    return before, dot(v, v)


@njit()
def extend(v, size, blocks, signs, vectors, q, r, g):
    """Make v = A (row size - 1 of vectors) row `size`; return INVARIANT, BLIND, NOT_FINITE or 0. Row 0: v itself.

    v is overwritten. Rows of r and g are columns of R and G.
    """
    h, column = np.empty(size + 1), np.empty(size + 1)
    for k in range(size + 1):
        h[k], column[k] = 0.0, 0.0
    before, after = _take_last_four(vectors, size, v, h)
    if not np.isfinite(before):
        return NOT_FINITE
    # Below this the space is invariant and the exponential exact in it.
    smallest = 1e-14 * np.sqrt(before)
    norm = np.sqrt(after)
    new = vectors[size]
    for attempt in range(3):
        if norm <= smallest:
            norm = 0.0
            new[:] = 0.0
            r[size] = 0.0
            break
        if attempt == 0:
            scale = 1 / norm
            for k in range(v.size):
                new[k] = scale * v[k]
        for k in range(v.size):
            v[k] = signs[k] * new[k]
        _sketch(v, blocks, q[size])
        _orthonormalise(q, size, r[size])
        if r[size, size] > _DEPENDENT or size == 0:
            break
        if attempt == 2:
            # Twice orthogonalised, not zero, and yet in the span by its sketch.
            return BLIND
        # Nearly in the span of all the others: orthogonalise in the sketched product.
        c = back_substitute(r, r[size, :size])
        for i in range(size):
            h[i] += norm * c[i]
            row, p = vectors[i], c[i]
            for k in range(v.size):
                new[k] -= p * row[k]
        left = np.sqrt(dot(new, new))
        norm *= left
        if norm > smallest:
            for k in range(v.size):
                new[k] /= left
    if size == 0:
        return 0
    h[size] = norm
    # Column size - 1 of G = R H R^-1.
    for i in range(size + 1):
        if h[i] != 0.0:
            for k in range(i + 1):
                column[k] += h[i] * r[i, k]
    for j in range(size - 1):
        p = r[size - 1, j]
        for k in range(j + 2):
            column[k] -= p * g[j, k]
    for k in range(size + 1):
        g[size - 1, k] = column[k] / r[size - 1, size - 1]
    return INVARIANT if norm == 0.0 else 0


@njit()
def extend_fully(v, size, vectors, g):
    """The same by Gram-Schmidt against all vectors, twice, without a sketch: R = I."""
    before = dot(v, v)
    if not np.isfinite(before):
        return NOT_FINITE
    column = g[size - 1]
    for _ in range(2):
        for i in range(size):
            c = dot(vectors[i], v)
            column[i] += c
            for k in range(v.size):
                v[k] -= c * vectors[i, k]
    norm = np.sqrt(dot(v, v))
    if norm <= 1e-14 * np.sqrt(before):
        return INVARIANT
    column[size] = norm
    for k in range(v.size):
        vectors[size, k] = v[k] / norm
    return 0


@njit(fastmath=_FAST)
def weighted_sum(vectors, weights):
    out, i = np.empty(vectors.shape[1]), 0
    for k in range(out.size):
        out[k] = 0.0
    while i + 4 <= weights.size:
        a, b, c, d = vectors[i], vectors[i + 1], vectors[i + 2], vectors[i + 3]
        p, q, r, s = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for k in range(out.size):
            out[k] += p * a[k] + q * b[k] + r * c[k] + s * d[k]
        i += 4
    while i < weights.size:
        row, p = vectors[i], weights[i]
        for k in range(out.size):
            out[k] += p * row[k]
        i += 1
    return out
