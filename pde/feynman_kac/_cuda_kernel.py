"""The CUDA kernel of the Monte-Carlo solver: it keeps a particle in registers from its start to f(X_T).

Written for numba-cuda, not Triton: the work is gathers from a table in shared memory at addresses that differ from
lane to lane and a reduction in a fixed order, which a kernel of threads expresses directly and Triton's blocks cannot;
and numba's simulator runs the same source, barriers included, where there is no device.

Random numbers have the counters of `_random` (step, path, point; key). In float64 the paths are those of the CPU up to
rounding. In float32 positions are 32-bit integers, fractions of the period in units of 2**-32: the torus wraps by
itself and cell and fraction are the two halves of one product; velocities, logarithm, sine and cosine have single
precision, and the first 32 bits of each uniform number are used: the same paths to about 1e-6, the same law.
"""

import functools
import math
from types import SimpleNamespace
from typing import NamedTuple

import numba
import numpy as np

try:
    from numba import cuda
except ImportError:  # a numba without its CUDA target, which numba-cuda replaces
    cuda = None

__all__ = [
    "THREADS_AROUND_A_TABLE",
    "Kind",
    "compiled",
    "cuda",
    "make_kernel",
    "make_normals",
    "make_philox",
    "simulated",
]

_U, _W = np.uint64, np.uint32
_LOW, _32, _12 = _U(0xFFFFFFFF), _U(32), _W(12)
_MULTIPLIERS = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL = _U(0x9E3779B9), _U(0xBB67AE85)
# Threads of a block that fills a multiprocessor, with the table in shared memory.
THREADS_AROUND_A_TABLE = 1024
# 64 registers for each of 1024 threads is all a multiprocessor has.
REGISTERS = 64


def simulated():
    return bool(numba.config.ENABLE_CUDASIM)


def _functions_of(dtype):
    """The device's functions; in the simulator, which has none, those of the C library."""
    if not simulated():
        from numba.cuda import libdevice

        if dtype == np.float64:
            return SimpleNamespace(floor=libdevice.floor, sincospi=libdevice.sincospi)
        return SimpleNamespace(
            log2=libdevice.fast_log2f, rsqrt=libdevice.rsqrtf, sin=libdevice.fast_sinf, cos=libdevice.fast_cosf
        )
    return SimpleNamespace(
        floor=np.floor,
        sincospi=lambda x: (math.sin(math.pi * x), math.cos(math.pi * x)),
        log2=np.log2,
        rsqrt=lambda x: dtype.type(1) / np.sqrt(x),
        sin=np.sin,
        cos=np.cos,
    )


@functools.cache
def make_philox():
    m0, m1 = _MULTIPLIERS
    w0, w1 = _WEYL

    @cuda.jit(device=True)
    def philox(c0, c1, c2, c3, k0, k1):
        """Philox4x32-10: four 32-bit words from a counter of four and a key of two."""
        for _ in range(10):
            p0, p1 = m0 * _U(c0), m1 * _U(c2)
            c0, c1 = _W((p1 >> _32) ^ c1 ^ k0), _W(p1 & _LOW)
            c2, c3 = _W((p0 >> _32) ^ c3 ^ k1), _W(p0 & _LOW)
            k0, k1 = _W((k0 + w0) & _LOW), _W((k1 + w1) & _LOW)
        return c0, c1, c2, c3

    return philox


@functools.cache
def make_normals(dtype):
    """Return the device function (step, path, point, key) -> two normals; _random says which."""
    philox, functions = make_philox(), _functions_of(dtype)
    real = dtype.type

    if dtype == np.float64:
        sincospi = functions.sincospi

        @cuda.jit(device=True)
        def normals(step, path, point, k0, k1):
            a, b, c, d = philox(step, path, point, _W(0), k0, k1)
            u1 = 1.0 - (a * 2.0**-32 + (b >> _12) * 2.0**-52)
            u2 = c * 2.0**-32 + (d >> _12) * 2.0**-52
            radius = math.sqrt(-2.0 * math.log(u1))
            sine, cosine = sincospi(2.0 * u2)
            return radius * cosine, radius * sine

        return normals

    log2, rsqrt, sin, cos = functions.log2, functions.rsqrt, functions.sin, functions.cos
    ones, half, unit = _W(0xFFFFFFFF), real(0.5), real(2.0**-32)
    two_ln2, tiny, turn = real(2 * math.log(2)), real(1e-30), real(2 * math.pi * 2.0**-32)

    @cuda.jit(device=True)
    def normals(step, path, point, k0, k1):
        a, _, c, _ = philox(step, path, point, _W(0), k0, k1)
        # The middle of the interval of 2**-32 that the first word names, so that the logarithm is never that of 0.
        u1 = (real(_W(a ^ ones)) + half) * unit
        # Not quite 0, which has no reciprocal root.
        square = two_ln2 * abs(log2(u1)) + tiny
        radius = square * rsqrt(square)
        # As a signed number, so that the angle is within half a turn of 0: there sine and cosine are good.
        angle = real(_W(c).view(np.int32)) * turn
        return radius * cos(angle), radius * sin(angle)

    return normals


@functools.cache
def _make_torus(dtype):
    """Return the device functions locate(x, n) -> (cell, fraction of the cell) and moved(x, d) -> x + d."""
    real = dtype.type
    if dtype == np.float64:
        floor = _functions_of(dtype).floor

        @cuda.jit(device=True)
        def locate(x, n):
            scaled = x * np.float64(n)
            cell = _W(scaled)
            return cell, scaled - np.float64(cell)

        @cuda.jit(device=True)
        def moved(x, d):
            y = x + d
            return y - floor(y)

        return locate, moved

    unit, period, shifter = real(2.0**-32), real(2.0**32), real(1.5 * 2**23)

    @cuda.jit(device=True)
    def locate(x, n):
        product = _U(x) * _U(n)
        return _W(product >> _32), real(_W(product & _LOW)) * unit

    @cuda.jit(device=True)
    def moved(x, d):
        # Adding and subtracting 1.5 * 2**23 leaves the nearest integer: whole periods, which the integer cannot hold.
        d = d - ((d + shifter) - shifter)
        return _W((np.int64(x) + np.int64(np.int32(d * period))) & np.int64(0xFFFFFFFF))

    return locate, moved


@functools.cache
def _make_spline(dtype, degree):
    """Return the device function (table, n, x, y) -> two components of a packed table at a position."""
    locate, _ = _make_torus(dtype)
    real, one, two, three = dtype.type, _U(1), _U(2), _U(3)
    # Numbers of Python's would be doubles in the kernel.
    r1, r3, r4, r6, sixth = real(1), real(3), real(4), real(6), real(1 / 6)

    if dtype == np.float64:

        @cuda.jit(device=True)
        def fetch(table, o):
            return table[two * o], table[two * o + one]

    else:

        @cuda.jit(device=True)
        def fetch(table, o):
            pair = table[o]
            return _W(pair & _LOW).view(np.float32), _W(pair >> _32).view(np.float32)

    if degree == 1:

        @cuda.jit(device=True)
        def spline(table, n, x, y):
            (i, wx), (j, wy) = locate(x, n), locate(y, n)
            o = _U(_W(i * (n + two) + j))
            q = _U(_W(o + n + two))
            a0, a1 = fetch(table, o)
            b0, b1 = fetch(table, o + one)
            c0, c1 = fetch(table, q)
            d0, d1 = fetch(table, q + one)
            a0, a1 = a0 + wy * (b0 - a0), a1 + wy * (b1 - a1)
            c0, c1 = c0 + wy * (d0 - c0), c1 + wy * (d1 - c1)
            return a0 + wx * (c0 - a0), a1 + wx * (c1 - a1)

        return spline

    @cuda.jit(device=True)
    def weights(t):
        r = r1 - t
        return (
            r * r * r * sixth,
            (t * t * (r3 * t - r6) + r4) * sixth,
            (r * r * (r3 * r - r6) + r4) * sixth,
            t * t * t * sixth,
        )

    @cuda.jit(device=True)
    def row(table, o, w0, w1, w2, w3):
        a0, a1 = fetch(table, o)
        b0, b1 = fetch(table, o + one)
        c0, c1 = fetch(table, o + two)
        d0, d1 = fetch(table, o + three)
        return w0 * a0 + w1 * b0 + w2 * c0 + w3 * d0, w0 * a1 + w1 * b1 + w2 * c1 + w3 * d1

    @cuda.jit(device=True)
    def spline(table, n, x, y):
        (i, tx), (j, ty) = locate(x, n), locate(y, n)
        length = _U(n) + _U(4)
        o = _U(_W(i * length + j))
        u0, u1, u2, u3 = weights(tx)
        w0, w1, w2, w3 = weights(ty)
        a0, a1 = row(table, o, w0, w1, w2, w3)
        b0, b1 = row(table, o + length, w0, w1, w2, w3)
        c0, c1 = row(table, o + two * length, w0, w1, w2, w3)
        d0, d1 = row(table, o + three * length, w0, w1, w2, w3)
        return u0 * a0 + u1 * b0 + u2 * c0 + u3 * d0, u0 * a1 + u1 * b1 + u2 * c1 + u3 * d1

    return spline


class Kind(NamedTuple):
    """What a kernel is compiled for."""

    dtype: np.dtype
    degree: int
    terminal_degree: int  # 0: the positions are stored, and f is not evaluated
    members: int  # paths of a sample: 2 where they are antithetic
    table_shared: bool  # the velocity's table is copied to shared memory
    noise_shared: bool  # all threads of a block follow one path, from different points
    n_threads: int


@functools.cache
def make_kernel(kind):
    """Compile the kernel of a kind.

    An item of work is a chunk of samples of a point: `width` threads take `depth` samples each. Or, with shared
    noise, a chunk of samples of as many points as the block has threads; width is then 1.
    """
    dtype, degree, terminal_degree, members, table_shared, noise_shared, n_threads = kind
    number, word = (numba.float64, numba.float64) if dtype == np.float64 else (numba.float32, numba.uint64)
    normals, spline, (_, moved) = make_normals(dtype), _make_spline(dtype, degree), _make_torus(dtype)
    terminal_spline = _make_spline(dtype, terminal_degree or 1)
    n_noise = n_threads if noise_shared else 1
    options = {"max_registers": REGISTERS} if n_threads == THREADS_AROUND_A_TABLE else {}

    @cuda.jit(**options)
    def kernel(
        start_x, start_y, state_x, state_y, resume, stack, runs, n, scale, step, first_sample, n_samples,
        first_point, k0, k1, terminal, n_terminal, width, depth, means, squares,
    ):  # fmt: skip
        thread = cuda.threadIdx.x
        held_table = cuda.shared.array(0, word)
        noise = cuda.shared.array((2, n_noise), number)
        count_of = cuda.shared.array(n_threads, numba.int64)
        mean_of = cuda.shared.array(n_threads, numba.float64)
        squares_of = cuda.shared.array(n_threads, numba.float64)
        n_points, n_chunks = start_x.size, means.shape[0]
        if noise_shared:
            n_items = (n_points + n_threads - 1) // n_threads * n_chunks
        else:
            n_items = (n_points * n_chunks * width + n_threads - 1) // n_threads
        held = -1
        for item in range(cuda.blockIdx.x, n_items, cuda.gridDim.x):
            if noise_shared:
                row, chunk, lane = item // n_chunks * n_threads + thread, item % n_chunks, 0
            else:
                pair = (item * n_threads + thread) // width
                row, chunk, lane = pair // n_chunks, pair % n_chunks, thread % width
            # Threads without work follow another's path, since all must meet at the barriers, and keep nothing.
            wanted = row < n_points
            row = min(row, n_points - 1)
            point = _W(first_point + row) if first_point >= 0 else _W(0)
            count, mean, square_sum = 0, 0.0, 0.0
            for turn in range(min(depth, (n_samples - chunk * depth * width + width - 1) // width)):
                sample = (chunk * depth + turn) * width + lane
                active = wanted and sample < n_samples
                sample = min(sample, n_samples - 1)
                path = _W(first_sample + sample)
                total = 0.0
                for member in range(members):
                    signed = scale if member == 0 else -scale
                    place = (sample * members + member) * n_points + row
                    if resume:
                        x, y = state_x[place], state_y[place]
                    else:
                        x, y = start_x[row], start_y[row]
                    done = 0
                    for r in range(runs.shape[1]):
                        layer = runs[0, r]
                        if table_shared and layer != held:
                            cuda.syncthreads()
                            for i in range(thread, stack.shape[1], n_threads):
                                held_table[i] = stack[layer, i]
                            cuda.syncthreads()
                            held = layer
                        table = held_table if table_shared else stack[layer]
                        for _ in range(runs[1, r]):
                            if noise_shared:
                                slot = done % n_noise
                                if slot == 0:
                                    cuda.syncthreads()
                                    noise[0, thread], noise[1, thread] = normals(
                                        _W(step + done + thread), path, _W(0), k0, k1
                                    )
                                    cuda.syncthreads()
                                z1, z2 = noise[0, slot], noise[1, slot]
                            else:
                                z1, z2 = normals(_W(step + done), path, point, k0, k1)
                            dx, dy = spline(table, n, x, y)
                            # A scheme of two stages (Heun) would take the table of the step's end at the particle
                            # moved so far here, and replace (dx, dy) by the average.
                            x, y = moved(x, dx + signed * z1), moved(y, dy + signed * z2)
                            done += 1
                    if terminal_degree:
                        value, _ = terminal_spline(terminal, n_terminal, x, y)
                        total += np.float64(value)
                    elif active:
                        state_x[place], state_y[place] = x, y
                if terminal_degree and active:
                    count += 1
                    gap = total / members - mean
                    mean += gap / count
                    square_sum += gap * (total / members - mean)
            if terminal_degree:
                count_of[thread], mean_of[thread], squares_of[thread] = count, mean, square_sum
                cuda.syncthreads()
                half = width // 2
                while half > 0:
                    if lane < half and count_of[thread + half] > 0:
                        a, b = count_of[thread], count_of[thread + half]
                        gap = mean_of[thread + half] - mean_of[thread]
                        mean_of[thread] += gap * b / (a + b)
                        squares_of[thread] += squares_of[thread + half] + gap * gap * a * b / (a + b)
                        count_of[thread] = a + b
                    cuda.syncthreads()
                    half //= 2
                if lane == 0 and wanted:
                    means[chunk, row], squares[chunk, row] = mean_of[thread], squares_of[thread]
                cuda.syncthreads()

    return kernel


def compiled(kind, arguments):
    """The kernel of a kind, compiled for these arguments."""
    return make_kernel(kind).specialize(*arguments)
