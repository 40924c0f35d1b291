"""The Monte-Carlo solver on a CUDA device: tables on the device, launches, and the merging of what they return.

Random numbers are those of the CPU in float64; with float32 the law is the same and paths differ by about 1e-6 of the
period. Terminal data given as a callable are evaluated on the CPU, at the end points. Results depend on the seed
alone: each thread adds its samples in order, threads are merged by a fixed tree (Chan, Golub & LeVeque 1983), in
float64, and nothing is added atomically.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np

from pde.feynman_kac import _arguments, _spline_tables
from pde.feynman_kac._cuda_kernel import (
    THREADS_AROUND_A_TABLE,
    Kind,
    allow_shared,
    compiled,
    cuda,
    n_blocks_with_table,
    simulated,
)
from pde.feynman_kac._moments import merge_neighbours
from pde.feynman_kac._shards import Blocks
from pde.feynman_kac._velocity_tables import size_of_tables
from pde.fields import PeriodicField

__all__ = ["Walk", "blocks_of", "layout_of", "refuse_unless_possible"]

_U, _W = np.uint64, np.uint32
_LOW = _U(0xFFFFFFFF)

# Threads that share a point and are merged by the tree: a part of the result's definition, like the next one.
_WIDTH = 256
# Samples that a thread takes in turn, at most, where its block shares the increments, so that partial results stay
# few; and the threads that there must be before any takes more than one.
_DEPTH, _SPREAD = 64, 2**19
# Threads of a block without a table in shared memory.
_THREADS = 256
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


class Layout(NamedTuple):
    """How samples are spread over threads: `width` threads of `depth` samples each; or blocks that share the noise."""

    noise_shared: bool
    width: int
    depth: int


def refuse_unless_possible(problem, n_steps, ways):
    """Raise a ValueError for what the kernel does not do, a RuntimeError without a device or numba-cuda."""
    problem.refuse("device='cuda'")
    if ways.bias:
        raise ValueError("bias=True needs device='cpu', got device='cuda'")
    if ways.dtype == "float32":
        _arguments.needs_single(problem)
    n_layers = problem.n_layers or 1
    if n_steps % n_layers:
        raise ValueError(f"n_steps must be a multiple of the {n_layers} layers on device='cuda', got n_steps={n_steps}")
    if reason := _why_no_device():
        raise RuntimeError(f'device="cuda" needs a CUDA device and numba-cuda (pip install "enresnet[gpu]"): {reason}')


def layout_of(n_points, n_paths, ways):
    """The layout of a whole call."""
    n_samples = n_paths // _members(ways)
    # One path for a whole block of points, where there are that many.
    if ways.common_paths and n_points >= _WIDTH:
        return Layout(True, 1, min(_DEPTH, max(1, n_points * n_samples // _SPREAD)))
    return Layout(False, min(_WIDTH, 1 << (n_samples - 1).bit_length()), 1)


def blocks_of(problem, n_points, n_paths, n_steps, ways):
    """The blocks of a call, each of one launch per chunk of tables."""
    members, (_, width, depth) = _members(ways), layout_of(n_points, n_paths, ways)
    limit = _LAUNCH // n_steps
    if not isinstance(problem.terminal, PeriodicField):
        limit = min(limit, _HOST_PARTICLES)
    elif problem.n_layers is None:
        limit = min(limit, _PARTICLES)
    chunk = width * depth
    batch = min(n_paths // members, max(1, limit // members // chunk) * chunk)
    points_per_block = max(1, min(limit // (batch * members), _PARTIALS // -(-batch // chunk)))
    return Blocks(n_points, n_paths, points_per_block, batch * members)


def _members(ways):
    return 2 if ways.antithetic else 1


def _why_no_device():
    """What is missing to run a kernel, or None."""
    if cuda is None:
        return "numba.cuda cannot be imported"
    return None if cuda.is_available() else "numba finds no CUDA device"


def _packed(coefficients, dtype):
    """A table as the kernel reads it: float64, or both components of a float32 pair in one word."""
    if dtype == np.float64:
        return coefficients
    # What is too large for float32 becomes infinite, and the result is checked.
    with np.errstate(over="ignore"):
        return coefficients.astype(np.float32).view(np.uint64)


class _Velocity:
    """The tables of a velocity, in chunks of steps, on the device."""

    def __init__(self, problem, n_steps, n, dtype, *, heun=False):
        self.problem, self.n_steps, self.n, self.dtype, self.heun = problem, n_steps, n, dtype, heun
        self.dt = problem.horizon / n_steps
        self.kept = None
        if problem.n_layers is None:
            self.table_size = size_of_tables(problem, "velocity", n, _spline_tables.VELOCITY_TOLERANCE)
        else:
            self.table_size, fields = None, [problem.layer_field(layer) for layer in range(problem.n_layers)]
            table = self._tables(fields)[0]
            self.table_size = table.degree, table.n
        self.degree, self.size = self.table_size
        self.bytes = 2 * (self.size + self.degree + 1) ** 2 * dtype.itemsize
        self.chunk, self.keep = n_steps, True
        if problem.n_layers is None:
            self.chunk = min(n_steps, max(1, _TABLE_BYTES // self.bytes))
            self.keep = n_steps * self.bytes <= _DEVICE_TABLE_BYTES
        self.n_chunks = -(-n_steps // self.chunk)
        self.shortest_run = n_steps // (problem.n_layers or n_steps)

    def _tables(self, fields):
        """Tables of displacements, by the rule of the CPU (`VelocityTables`)."""
        scale, tolerance = self.dt / self.problem.length, _spline_tables.VELOCITY_TOLERANCE
        return _spline_tables.make_tables(fields, scale, tolerance=tolerance, size=self.table_size)

    def __iter__(self):
        """Yield (tables, runs, first step): `runs` (3, n_runs) as `make_kernel` reads them."""
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
                # For a scheme of two stages, the table at the end of the last step as well.
                times = (step + np.arange(count + self.heun)) * self.dt
                fields = (problem.velocity_field(min(float(t), problem.horizon), self.n) for t in times)
                steps = np.arange(count)
                runs = np.stack([steps, np.ones_like(steps), steps + self.heun])
            else:
                fields = (problem.layer_field(layer) for layer in range(problem.n_layers))
                layers, lengths = np.unique(np.arange(count) * problem.n_layers // count, return_counts=True)
                runs = np.stack([layers, lengths, layers])
            stack = np.stack([_packed(self._tables([field])[0].coefficients, self.dtype) for field in fields])
            yield cuda.to_device(stack), cuda.to_device(runs.astype(np.int64)), step


class Walk:
    """The paths of one problem: tables on the device, and the launches; as the walks of the CPU."""

    def __init__(self, problem, n_steps, n, key, ways, layout):
        self.problem, self.n_steps, self.ways, self.layout = problem, n_steps, ways, layout
        self.dtype, self.members = np.dtype(ways.dtype), _members(ways)
        self.key = _W(key[0]), _W(key[1])
        self.velocity = _Velocity(problem, n_steps, n, self.dtype, heun=ways.scheme == "heun")
        self.terminal = None
        if isinstance(problem.terminal, PeriodicField):
            table = _spline_tables.make_table(problem.terminal, 1.0, tolerance=_spline_tables.TERMINAL_TOLERANCE)
            self.terminal = cuda.to_device(_packed(table.coefficients, self.dtype)), table
        self.scale = self.dtype.type(problem.sigma * math.sqrt(problem.horizon / n_steps) / problem.length)

    def moments(self, starts, block):
        """Number of samples per point, and (1, n_points) their means and sums of squared deviations, of one block."""
        n_samples, first_sample = block.n_paths // self.members, block.first_path // self.members
        noise_shared, width, depth = self.layout
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
                    first_sample, n_samples, -1 if self.ways.common_paths else block.first_point, *self.key,
                    self.terminal[0] if table else stack[0], _W(table.n if table else 1), width, depth, *partial,
                ),
            )  # fmt: skip
        if self.terminal is not None:
            counts = np.minimum(width * depth, n_samples - np.arange(n_chunks) * (width * depth))
            count, mean, squares = merge_neighbours(counts, *(array.copy_to_host() for array in partial))
            return count, mean[None], squares[None]
        x, y = (self._from_positions(array.copy_to_host()) for array in state)
        values = self.problem.terminal_at(np.stack([x, y], axis=-1) * self.problem.length)
        values = values.reshape(n_samples, self.members, len(starts)).mean(axis=1)
        mean = values.mean(axis=0)
        return n_samples, mean[None], ((values - mean) ** 2).sum(axis=0)[None]

    def _launch(self, terminal, noise_shared, width, n_chunks, arguments):
        """Run the kernel; with the velocity's table in shared memory where that fits and pays."""
        kind = Kind(
            self.dtype, self.velocity.degree, terminal.degree if terminal else 0, self.members, False, noise_shared,
            max(8, width) if simulated() else _THREADS, self.velocity.heun, self.ways.increments == "two-point",
        )  # fmt: skip
        around, n_bytes = kind._replace(table_shared=True), self.velocity.bytes
        if not simulated():
            around = around._replace(n_threads=THREADS_AROUND_A_TABLE)
        kernel, n_blocks, shared = None, 2**16, 0
        if self.velocity.shortest_run >= _STEPS_A_TABLE and (room := n_blocks_with_table(n_bytes, around)):
            kernel = compiled(around, arguments)
            if allow_shared(kernel, n_bytes):
                kind, n_blocks, shared = around, room, n_bytes
            else:
                kernel = None
        kernel = kernel or compiled(kind, arguments)
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
