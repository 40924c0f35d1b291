"""The Monte-Carlo solver on a CUDA device: one kernel that keeps a particle in registers from its start to f(X_T).

Written for numba-cuda, not Triton: the work is gathers from a table in shared memory at addresses that differ from
lane to lane and a reduction in a fixed order, which a kernel of threads says directly and Triton's blocks cannot; and
numba's simulator runs the same source, barriers included, where there is no device.

Random numbers have the counters of `random_numbers` (step, path, point; key). In float64 the paths are those of the
CPU up to rounding. In float32 positions are 32-bit integers, fractions of the period in units of 2**-32: the torus
wraps by itself and cell and fraction are the two halves of one product; velocities, logarithm, sine and cosine have
single precision, and the first 32 bits of each uniform number are used: the same paths to about 1e-6, the same law.

Results depend on the seed alone: each thread adds its samples in order, threads are merged by a fixed tree (Chan,
Golub & LeVeque 1983), in float64, and nothing is added atomically.
"""

import functools
import math
import warnings
from types import SimpleNamespace
from typing import NamedTuple

import numba
import numpy as np
from tqdm import tqdm

from pde import checks
from pde.feynman_kac import _spline_tables
from pde.feynman_kac._paths import follow_characteristics
from pde.feynman_kac._random import key_from
from pde.feynman_kac._result import Estimate
from pde.fields import PeriodicField

try:
    from numba import cuda
except ImportError:  # a numba without its CUDA target, which numba-cuda replaces
    cuda = None

__all__ = ["estimate_cuda"]

DTYPES = ("float64", "float32")

_U, _W = np.uint64, np.uint32
_LOW, _32, _12 = _U(0xFFFFFFFF), _U(32), _W(12)
_MULTIPLIERS = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL = _U(0x9E3779B9), _U(0xBB67AE85)

# Threads that share a point and are merged by the tree: a part of the result's definition, like the next one.
_WIDTH = 256
# Samples that a thread takes in turn, at most, where its block shares the increments, so that partial results stay
# few; and the threads that there must be before any takes more than one.
_DEPTH, _SPREAD = 64, 2**19
# Threads of a block: with the table in shared memory one block fills a multiprocessor.
_THREADS, _THREADS_AROUND_A_TABLE = 256, 1024
# 64 registers for each of 1024 threads is all a multiprocessor has.
_REGISTERS = 64
# Filling shared memory must be paid back by so many steps on the same table.
_STEPS_A_TABLE = 16
# Partial results and positions kept on the device at a time: 64 MB each.
_PARTIALS, _PARTICLES = 2**22, 2**22
# Positions brought back at a time, for terminal data that only Python can evaluate: 16 MB.
_HOST_PARTICLES = 2**20
# Path-steps of one launch: below a second on a small device, whose screen would freeze.
_LAUNCH = 2**36
# Tables of a velocity that changes at every step: made on the host, kept on the device.
_TABLE_BYTES, _DEVICE_TABLE_BYTES = 2**27, 2**32


def estimate_cuda(
    problem,
    points,
    n_paths=1024,
    n_steps=1000,
    rng=0,
    *,
    common_paths=False,
    antithetic=False,
    dtype="float64",
    n=None,
    progress=False,
):
    """Estimate u(x, 0) = E[f(X_T) | X_0 = x] at points, on a CUDA device.

    X_(k+1) = X_k + v(X_k, t_k) dt + sigma dB_k,  dB_k ~ N(0, dt I)                       (Euler-Maruyama)

    As `feynman_kac.estimate`, from the same random numbers. Without diffusion there is one path a point and nothing
    to gain: the characteristics are then followed on the CPU.

    Parameters
    ----------
    problem : ConvectionDiffusion
        The problem. Terminal data given as a callable are evaluated on the CPU, at the end points.
    points : array_like of shape (..., 2)
        Starting points.
    n_paths : int, default=1024
        Paths a point, >= 1; even with antithetic.
    n_steps : int, default=1000
        Steps a path, >= 1; dt = T / n_steps.
    rng : int or numpy.random.Generator, default=0
        Seed. The result depends on it alone.
    common_paths : bool, default=False
        One set of Brownian paths for all points.
    antithetic : bool, default=False
        Paths in pairs with opposite increments; the standard error is that of the pair means.
    dtype : {"float64", "float32"}
        Of the paths; means and standard errors are formed in float64. With float32 the law is the same and paths
        differ by about 1e-6 of the period.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled; by default those of the terminal
        data, or 128.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Estimate
        `mean` and `stderr` of shape (...), as from `feynman_kac.estimate`.

    Raises
    ------
    ValueError
        If points has another shape or is not finite, n_paths or n_steps is out of range, dtype is unknown, rng is no
        seed, or the velocity's grid or interpolation changes in time.
    RuntimeError
        If there is no CUDA device, or no numba-cuda to reach it.
    FloatingPointError
        If the result is not finite.
    """
    points = checks.points_array(points)
    n_paths = checks.integer("n_paths", n_paths, at_least=1)
    n_steps = checks.integer("n_steps", n_steps, at_least=1)
    n = (problem.n or 128) if n is None else checks.integer("n", n, at_least=1)
    problem.refuse("device='cuda'")
    checks.one_of("dtype", dtype, DTYPES)
    if max(n_paths, n_steps, points.size) >= 2**32:
        raise ValueError("n_paths, n_steps and the number of points must be < 2**32, the range of the counters")
    n_layers = problem.n_layers or 1
    if n_steps % n_layers:
        raise ValueError(f"n_steps must be a multiple of the {n_layers} layers on device='cuda', got n_steps={n_steps}")
    if antithetic and n_paths % 2:
        raise ValueError(f"n_paths must be even with antithetic pairs, got n_paths={n_paths}")
    if reason := _why_no_device():
        raise RuntimeError(f'device="cuda" needs a CUDA device and numba-cuda (pip install "enresnet[gpu]"): {reason}')
    if problem.sigma == 0:
        mean = follow_characteristics(problem, points, n_steps, n)
        return Estimate(mean, np.zeros_like(mean), 1, n_steps)
    run = _Run(problem, n_steps, n, key_from(rng), bool(common_paths), 2 if antithetic else 1, np.dtype(dtype))
    starts = np.mod(points.reshape(-1, 2) / problem.length, 1.0)
    with tqdm(total=len(starts) * n_paths, disable=None if progress else True, unit="path", unit_scale=True) as bar:
        mean, stderr = run.estimate(starts, n_paths, bar)
    if not np.isfinite(mean).all():
        raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
    shape = points.shape[:-1]
    return Estimate(mean.reshape(shape), stderr.reshape(shape), n_paths, n_steps, n_paths // (2 if antithetic else 1))


def _why_no_device():
    """What is missing to run a kernel, or None."""
    if cuda is None:
        return "numba.cuda cannot be imported"
    return None if cuda.is_available() else "numba finds no CUDA device"


# --- on the device ------------------------------------------------------------------------------------------------


def _simulated():
    return bool(numba.config.ENABLE_CUDASIM)


def _functions_of(dtype):
    """The device's functions; in the simulator, which has none, those of the C library."""
    if not _simulated():
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
def _make_philox():
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
def _make_normals(dtype):
    """Return the device function (step, path, point, key) -> two normals; random_numbers says which."""
    philox, functions = _make_philox(), _functions_of(dtype)
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


class _Kind(NamedTuple):
    """What a kernel is compiled for."""

    dtype: np.dtype
    degree: int
    terminal_degree: int  # 0: the positions are stored, and f is not evaluated
    members: int  # paths of a sample: 2 where they are antithetic
    table_shared: bool  # the velocity's table is copied to shared memory
    noise_shared: bool  # all threads of a block follow one path, from different points
    n_threads: int


@functools.cache
def _make_kernel(kind):
    """Compile the kernel of a kind.

    An item of work is a chunk of samples of a point: `width` threads take `depth` samples each. Or, with shared
    noise, a chunk of samples of as many points as the block has threads; width is then 1.
    """
    dtype, degree, terminal_degree, members, table_shared, noise_shared, n_threads = kind
    number, word = (numba.float64, numba.float64) if dtype == np.float64 else (numba.float32, numba.uint64)
    normals, spline, (_, moved) = _make_normals(dtype), _make_spline(dtype, degree), _make_torus(dtype)
    terminal_spline = _make_spline(dtype, terminal_degree or 1)
    n_noise = n_threads if noise_shared else 1
    options = {"max_registers": _REGISTERS} if n_threads == _THREADS_AROUND_A_TABLE else {}

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


def _compiled(kind, arguments):
    """The kernel of a kind, compiled for these arguments."""
    return _make_kernel(kind).specialize(*arguments)


# --- on the host --------------------------------------------------------------------------------------------------


def _packed(coefficients, dtype):
    """A table as the kernel reads it: float64, or both components of a float32 pair in one word."""
    if dtype == np.float64:
        return coefficients
    # What is too large for float32 becomes infinite, and the result is checked.
    with np.errstate(over="ignore"):
        return coefficients.astype(np.float32).view(np.uint64)


class _Velocity:
    """The tables of a velocity, in chunks of steps, on the device."""

    def __init__(self, problem, n_steps, n, dtype):
        self.problem, self.n_steps, self.n, self.dtype = problem, n_steps, n, dtype
        self.dt = problem.horizon / n_steps
        self.kept = None
        fields = [problem.velocity_field(0.0, n)]
        if problem.n_layers is not None:
            fields = [problem.layer_field(layer) for layer in range(problem.n_layers)]
        finest = self._table(max(fields, key=lambda field: field.n))
        self.degree, self.size = finest.degree, finest.n
        self.bytes = finest.coefficients.size * dtype.itemsize
        self.chunk, self.keep = n_steps, True
        if problem.n_layers is None:
            self.chunk = min(n_steps, max(1, _TABLE_BYTES // self.bytes))
            self.keep = n_steps * self.bytes <= _DEVICE_TABLE_BYTES
        self.n_chunks = -(-n_steps // self.chunk)
        self.shortest_run = n_steps // (problem.n_layers or n_steps)

    def _table(self, field, n=None):
        tolerance = _spline_tables.VELOCITY_TOLERANCE
        return _spline_tables.make_table(field, self.dt / self.problem.length, tolerance=tolerance, n=n)

    def __iter__(self):
        """Yield (tables, (table, number of steps) of each run of steps with one table, first step)."""
        if self.kept is not None:
            return iter(self.kept)
        if self.keep:
            self.kept = list(self._chunks())
            return iter(self.kept)
        return self._chunks()

    def _chunks(self):
        problem = self.problem
        for step in range(0, self.n_steps, self.chunk):
            count = min(self.chunk, self.n_steps - step)
            if problem.n_layers is None:
                fields = (problem.velocity_field((step + k) * self.dt, self.n) for k in range(count))
                runs = np.stack([np.arange(count), np.ones(count, dtype=np.int64)])
            else:
                fields = (problem.layer_field(layer) for layer in range(problem.n_layers))
                layers, lengths = np.unique(np.arange(count) * problem.n_layers // count, return_counts=True)
                runs = np.stack([layers, lengths])
            stack = np.stack([self._checked(field) for field in fields])
            yield cuda.to_device(stack), cuda.to_device(runs.astype(np.int64)), step

    def _checked(self, field):
        table = self._table(field, n=self.size)
        if (table.degree, table.n) != (self.degree, self.size):
            raise ValueError("velocity must have one grid and one interpolation at all times")
        return _packed(table.coefficients, self.dtype)


class _Run:
    """One estimate: its tables on the device, and the launches."""

    def __init__(self, problem, n_steps, n, key, common, members, dtype):
        self.problem, self.n_steps, self.dtype = problem, n_steps, dtype
        self.common, self.members = common, members
        self.key = _W(key[0]), _W(key[1])
        self.velocity = _Velocity(problem, n_steps, n, dtype)
        self.terminal = None
        if isinstance(problem.terminal, PeriodicField):
            table = _spline_tables.make_table(problem.terminal, 1.0, tolerance=_spline_tables.TERMINAL_TOLERANCE)
            self.terminal = cuda.to_device(_packed(table.coefficients, dtype)), table
        self.scale = dtype.type(problem.sigma * math.sqrt(problem.horizon / n_steps) / problem.length)

    def estimate(self, starts, n_paths, bar):
        """Mean and standard error at starts (n_points, 2), in fractions of the period."""
        n_samples = n_paths // self.members
        # One path for a whole block of points, where there are that many.
        noise_shared = self.common and len(starts) >= _WIDTH
        width = 1 if noise_shared else min(_WIDTH, 1 << (n_samples - 1).bit_length())
        depth = min(_DEPTH, max(1, len(starts) * n_samples // _SPREAD)) if noise_shared else 1
        limit = _LAUNCH // self.n_steps
        if self.terminal is None:
            limit = min(limit, _HOST_PARTICLES)
        elif self.velocity.n_chunks > 1:
            limit = min(limit, _PARTICLES)
        chunk = width * depth
        batch = min(n_samples, max(1, limit // self.members // chunk) * chunk)
        n_points = max(1, min(limit // (batch * self.members), _PARTIALS // -(-batch // chunk)))
        mean, stderr = np.empty(len(starts)), np.empty(len(starts))
        for start in range(0, len(starts), n_points):
            chosen = slice(start, start + n_points)
            moments = 0, 0.0, 0.0
            for sample in range(0, n_samples, batch):
                count = min(batch, n_samples - sample)
                part = self._moments(starts[chosen], start, sample, count, noise_shared, width, depth)
                moments = _merged(moments, part)
                bar.update(len(starts[chosen]) * count * self.members)
            mean[chosen] = moments[1]
            stderr[chosen] = np.sqrt(moments[2] / (n_samples - 1) / n_samples) if n_samples > 1 else np.inf
        return mean, stderr

    def _moments(self, starts, first_point, first_sample, n_samples, noise_shared, width, depth):
        """Count, mean and sum of squared deviations of some samples of some points."""
        positions = [self._to_positions(starts[:, axis]) for axis in (0, 1)]
        stores = self.velocity.n_chunks > 1 or self.terminal is None
        n_state = n_samples * self.members * len(starts) if stores else 1
        state = [cuda.device_array(n_state, positions[0].dtype) for _ in (0, 1)]
        starts_there = [cuda.to_device(x) for x in positions]
        n_chunks = -(-n_samples // (width * depth))
        partial = [cuda.device_array((n_chunks, len(starts)), np.float64) for _ in (0, 1)]
        for index, (stack, runs, step) in enumerate(self.velocity):
            table = self.terminal[1] if self.terminal and index == self.velocity.n_chunks - 1 else None
            self._launch(
                table, noise_shared, width, n_chunks,
                (
                    *starts_there, *state, index > 0, stack, runs, _W(self.velocity.size), self.scale, step,
                    first_sample, n_samples, -1 if self.common else first_point, *self.key,
                    self.terminal[0] if table else stack[0], _W(table.n if table else 1), width, depth, *partial,
                ),
            )  # fmt: skip
        if self.terminal is not None:
            counts = np.minimum(width * depth, n_samples - np.arange(n_chunks) * (width * depth))
            return _tree(counts, *(array.copy_to_host() for array in partial))
        x, y = (self._from_positions(array.copy_to_host()) for array in state)
        values = self.problem.terminal_at(np.stack([x, y], axis=-1) * self.problem.length)
        values = values.reshape(n_samples, self.members, len(starts)).mean(axis=1)
        mean = values.mean(axis=0)
        return n_samples, mean, ((values - mean) ** 2).sum(axis=0)

    def _launch(self, terminal, noise_shared, width, n_chunks, arguments):
        """Run the kernel; with the velocity's table in shared memory where that fits and pays."""
        kind = _Kind(
            self.dtype, self.velocity.degree, terminal.degree if terminal else 0, self.members, False, noise_shared,
            max(8, width) if _simulated() else _THREADS,
        )  # fmt: skip
        around, n_bytes = kind._replace(table_shared=True), self.velocity.bytes
        if not _simulated():
            around = around._replace(n_threads=_THREADS_AROUND_A_TABLE)
        kernel, n_blocks, shared = None, 2**16, 0
        if self.velocity.shortest_run >= _STEPS_A_TABLE and (room := _room_for(n_bytes, around)):
            kernel = _compiled(around, arguments)
            if _allow_shared(kernel, n_bytes):
                kind, n_blocks, shared = around, room, n_bytes
            else:
                kernel = None
        kernel = kernel or _compiled(kind, arguments)
        n_points = arguments[0].size
        rows = n_points if noise_shared else n_points * n_chunks * width
        n_items = -(-rows // kind.n_threads) * (n_chunks if noise_shared else 1)
        with warnings.catch_warnings():
            # A small problem leaves the device idle, and that is all right.
            warnings.filterwarnings("ignore", message=".*[Uu]nder-utilization")
            kernel[min(n_items, n_blocks), kind.n_threads, 0, shared](*arguments)

    def _to_positions(self, fraction):
        if self.dtype == np.float64:
            return np.ascontiguousarray(fraction)
        return (np.floor(fraction * 2.0**32).astype(np.uint64) & _LOW).astype(np.uint32)

    def _from_positions(self, positions):
        return positions if self.dtype == np.float64 else positions * 2.0**-32


def _room_for(n_bytes, kind):
    """How many blocks with a table of so many bytes the device holds at once; 0 if none."""
    if _simulated():
        return 2
    fixed = kind.n_threads * (24 + (2 * kind.dtype.itemsize if kind.noise_shared else 0)) + 1024
    device = cuda.get_current_device()
    if n_bytes + fixed > device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return 0
    blocks = device.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR // (n_bytes + fixed)
    return device.MULTIPROCESSOR_COUNT * min(blocks, 2048 // kind.n_threads)


def _allow_shared(kernel, n_bytes):
    """Let a compiled kernel have more shared memory than the 48 KB that CUDA gives unasked; False if it cannot be."""
    if _simulated():
        return True
    try:
        from cuda.bindings import driver

        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for compiled in kernel.overloads.values():
            # numba-cuda has no public name for this.
            handle = compiled._codelibrary.get_cufunc().handle
            if isinstance(handle, driver.CUkernel):
                status = driver.cuKernelSetAttribute(attribute, n_bytes, handle, driver.cuCtxGetDevice()[1])[0]
            else:
                status = driver.cuFuncSetAttribute(driver.CUfunction(int(handle)), attribute, n_bytes)[0]
            if status != driver.CUresult.CUDA_SUCCESS:
                return False
    except (ImportError, AttributeError, TypeError):
        return False
    return True


def _merged(a, b):
    """Chan's formula: count, mean and sum of squared deviations of two sets together."""
    # Overflow shows in the result, which is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        total, gap = a[0] + b[0], b[1] - a[1]
        return total, a[1] + gap * (b[0] / total), a[2] + b[2] + gap**2 * (a[0] * b[0] / total)


def _tree(counts, means, squares):
    """Chan's formula over the first axis, neighbours first."""
    counts = counts.reshape(-1, *[1] * (means.ndim - 1))
    while len(counts) > 1:
        even = len(counts) // 2 * 2
        parts = counts, means, squares
        pairs = _merged([part[:even:2] for part in parts], [part[1:even:2] for part in parts])
        counts, means, squares = (np.concatenate([pair, part[even:]]) for pair, part in zip(pairs, parts, strict=True))
    return int(counts.flat[0]), means[0], squares[0]
