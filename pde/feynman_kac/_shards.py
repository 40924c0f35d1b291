"""Work cut into blocks, and the blocks spread over the workers that joblib reaches.

The result of a block is a function of the block alone, and results come back in the order of the blocks: sums that are
made in that order depend neither on the number of shards nor on the workers, their threads or their deaths.
"""

import math
import os
import time
from functools import lru_cache
from typing import Any, NamedTuple

from pde._compiled import limited

# An interruption loses one round at most, and at the end of a round the fastest worker waits for the slowest.
_ROUND_SECONDS = 5.0
_MOST_LOSSES = 3
# Errors by which loky, Dask and Ray report that a worker died; by name, because they need not be installed.
_LOST_WORKER = {"TerminatedWorkerError", "KilledWorker", "RayActorError", "WorkerCrashedError"}


class Block(NamedTuple):
    """Some paths of some points: the counters of the first ones, and how many."""

    first_point: int
    n_points: int
    first_path: int
    n_paths: int


class Blocks:
    """The rectangle points x paths cut into a sequence of blocks, in which those of the same points are neighbours."""

    def __init__(self, n_points, n_paths, points_per_block, paths_per_block):
        self.n_points, self.n_paths = n_points, n_paths
        self.points_per_block, self.paths_per_block = points_per_block, paths_per_block
        self._cuts = math.ceil(n_paths / paths_per_block)

    def __len__(self):
        return math.ceil(self.n_points / self.points_per_block) * self._cuts

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        group, cut = divmod(index, self._cuts)
        point, path = group * self.points_per_block, cut * self.paths_per_block
        n_points = min(self.points_per_block, self.n_points - point)
        return Block(point, n_points, path, min(self.paths_per_block, self.n_paths - path))

    def n_particles_before(self, index):
        """Return the number of particles in the first `index` blocks."""
        if index == len(self):
            return self.n_points * self.n_paths
        block = self[index]
        return block.first_point * self.n_paths + block.n_points * block.first_path


class _Piece(NamedTuple):
    """The work of one shard in one round."""

    job: Any
    arguments: list


def in_rounds(job, arguments, start, stop, n_shards):
    """Yield the results of tasks start, ..., stop - 1 in order, as one list per round of about five seconds.

    job.prepare(), called once per worker, returns the function of a task's arguments(task), a tuple; job is hashable
    and picklable. Without a parallel joblib backend a round is one task.
    """
    return_as = None if n_shards == 1 else _return_as()
    if return_as is None:
        compute = job.prepare()
        for task in range(start, stop):
            yield [compute(*arguments(task))]
        return
    each, began = 1, time.monotonic()
    try:
        while start < stop:
            each = min(each, math.ceil((stop - start) / n_shards))
            end = min(stop, start + each * n_shards)
            cuts = [range(cut, min(cut + each, end)) for cut in range(start, end, each)]
            yield _round([_Piece(job, [arguments(task) for task in cut]) for cut in cuts], return_as)
            seconds, began = time.monotonic() - began, time.monotonic()
            # At most four times as many: the first round starts the workers.
            each, start = min(4 * each, max(1, int(each * _ROUND_SECONDS / seconds))), end
    finally:
        _prepared.cache_clear()


def _return_as():
    """The option `return_as` of joblib; None where it would run tasks one after the other in this process."""
    import joblib  # Deferred: importing joblib takes 0.3 s.

    backend, _ = joblib.parallel.get_active_backend()
    if type(backend).__name__ == "MultiprocessingBackend":
        raise ValueError(
            "joblib's backend 'multiprocessing' hangs when a worker dies: use 'loky', 'threading' or 'dask'"
        )
    if joblib.Parallel().n_jobs == 1:
        return None
    return "generator_unordered" if backend.supports_return_generator else "list"


def _round(pieces, return_as):
    """The results of the pieces, in order; the pieces of workers that die are given to others."""
    import joblib

    results, losses = {}, 0
    while len(results) < len(pieces):
        missing = [index for index in range(len(pieces)) if index not in results]
        # One piece per batch: pieces are long, and a batch of several would leave other workers idle.
        parallel = joblib.Parallel(return_as=return_as, batch_size=1, pre_dispatch="all")
        try:
            for index, result in parallel(joblib.delayed(_run)(index, pieces[index]) for index in missing):
                results[index] = result
        except Exception as error:
            losses += 1
            if not _LOST_WORKER & {cls.__name__ for cls in type(error).__mro__}:
                raise
            if losses > _MOST_LOSSES:
                raise RuntimeError(
                    f"workers died {losses} times in one round of {len(pieces)} shards: give each of them more "
                    "memory, or start fewer (n_jobs of joblib.parallel_config, memory_limit of Dask's cluster); with "
                    "checkpoint=PATH the rounds before this one are kept"
                ) from error
    return [result for index in range(len(pieces)) for result in results[index]]


def _run(index, piece):
    """In a worker: the results of a piece, with its index."""
    compute = _prepared(piece.job)
    with _own_threads():
        return index, [compute(*arguments) for arguments in piece.arguments]


@lru_cache(maxsize=1)
def _prepared(job):
    return job.prepare()


def _own_threads():
    """Give the compiled loops of this worker its share of the cores.

    A backend that starts one worker per core would otherwise run cores**2 threads. loky's share, cores // workers, is
    in NUMBA_NUM_THREADS; Dask and Ray count one core per task, and threads of one process share its cores as well.
    """
    return limited(int(os.environ.get("NUMBA_NUM_THREADS", "1")))
