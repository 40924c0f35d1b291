"""The CUDA kernel of the Monte-Carlo solver: it keeps a particle in registers from its start to f(X_T).

Written for numba-cuda, not Triton: the work is gathers from a table in shared memory at addresses that differ from
lane to lane and a reduction in a fixed order, which a kernel of threads expresses directly and Triton's blocks cannot;
and numba's simulator runs the same source, barriers included, where there is no device.
"""

import functools
from typing import NamedTuple

import numba
import numpy as np

from pde.feynman_kac._cuda_device import cuda, make_normals, make_signs, make_spline, make_torus, simulated

__all__ = [
    "REGISTERS",
    "THREADS_AROUND_A_TABLE",
    "Kind",
    "allow_shared",
    "compiled",
    "cuda",
    "make_kernel",
    "n_blocks_with_table",
    "simulated",
]

_W = np.uint32
# Threads of a block that fills a multiprocessor, with the table in shared memory.
THREADS_AROUND_A_TABLE = 1024
# 64 registers for each of 1024 threads is all a multiprocessor has.
REGISTERS = 64


class Kind(NamedTuple):
    """What a kernel is compiled for."""

    dtype: np.dtype
    degree: int
    terminal_degree: int  # 0: the positions are stored, and f is not evaluated
    members: int  # paths of a sample: 2 where they are antithetic
    table_shared: bool  # the velocity's table is copied to shared memory
    noise_shared: bool  # all threads of a block follow one path, from different points
    n_threads: int
    heun: bool = False
    two_point: bool = False


@functools.cache
def make_kernel(kind):
    """Compile the kernel of a kind.

    `runs` (3, n_runs): the table at the beginning of the steps of a run, their number, and the table at their end.
    An item of work is a chunk of samples of a point: `width` threads take `depth` samples each. Or, with shared
    noise, a chunk of samples of as many points as the block has threads; width is then 1.
    """
    dtype, degree, terminal_degree, members, table_shared, noise_shared, n_threads, heun, two_point = kind
    number, word = (numba.float64, numba.float64) if dtype == np.float64 else (numba.float32, numba.uint64)
    draw = make_signs(dtype) if two_point else make_normals(dtype)
    spline, (_, moved), half_of = make_spline(dtype, degree), make_torus(dtype), dtype.type(0.5)
    terminal_spline = make_spline(dtype, terminal_degree or 1)
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
                                    noise[0, thread], noise[1, thread] = draw(
                                        _W(step + done + thread), path, _W(0), k0, k1
                                    )
                                    cuda.syncthreads()
                                z1, z2 = noise[0, slot], noise[1, slot]
                            else:
                                z1, z2 = draw(_W(step + done), path, point, k0, k1)
                            dx, dy = spline(table, n, x, y)
                            if heun:
                                # Only layers have their table in shared memory: one, from begin to end of a step.
                                last = held_table if table_shared else stack[runs[2, r]]
                                ahead_x, ahead_y = moved(x, dx + signed * z1), moved(y, dy + signed * z2)
                                ex, ey = spline(last, n, ahead_x, ahead_y)
                                dx, dy = half_of * (dx + ex), half_of * (dy + ey)
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


def n_blocks_with_table(n_bytes, kind):
    """Number of blocks that the device holds at once, each with a table of n_bytes in shared memory; 0 if none fits."""
    if simulated():
        return 2
    fixed = kind.n_threads * (24 + (2 * kind.dtype.itemsize if kind.noise_shared else 0)) + 1024
    device = cuda.get_current_device()
    if n_bytes + fixed > device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return 0
    blocks = device.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR // (n_bytes + fixed)
    return device.MULTIPROCESSOR_COUNT * min(blocks, 2048 // kind.n_threads)


def allow_shared(kernel, n_bytes):
    """Raise a compiled kernel's limit of 48 KB of shared memory to n_bytes; return whether that worked."""
    if simulated():
        return True
    try:
        from cuda.bindings import driver

        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for overload in kernel.overloads.values():
            # numba-cuda has no public name for this.
            handle = overload._codelibrary.get_cufunc().handle
            if isinstance(handle, driver.CUkernel):
                status = driver.cuKernelSetAttribute(attribute, n_bytes, handle, driver.cuCtxGetDevice()[1])[0]
            else:
                status = driver.cuFuncSetAttribute(driver.CUfunction(int(handle)), attribute, n_bytes)[0]
            if status != driver.CUresult.CUDA_SUCCESS:
                return False
    except (ImportError, AttributeError, TypeError):
        return False
    return True
