"""Shards: the same bits from any number of them, on any backend, whoever dies; and memory that has a bound."""

import multiprocessing
import os
import sys
from itertools import pairwise
from pathlib import Path

import joblib
import numba
import numpy as np
import pytest
import tqdm.auto
from shard_scripts import run_script

import pde
from pde import feynman_kac, problems
from pde._compiled import n_threads
from pde.feynman_kac import _estimate
from pde.feynman_kac import _paths as walk
from pde.feynman_kac import _shards as shards

ROOT = Path(__file__).resolve().parents[2]


# --- the cutting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 10, 3, 4), (7, 10, 1, 3), (5, 8, 9, 8), (4, 9, 2, 100)])
def test_blocks_tile_the_rectangle_in_order(shape):
    n_points, n_paths, *_ = shape
    blocks = shards.Blocks(*shape)
    seen = np.zeros((n_points, n_paths), int)
    for index, block in enumerate(blocks):
        assert blocks.n_particles_before(index) == seen.sum()
        here = slice(block.first_point, block.first_point + block.n_points)
        # The moments of a group of points are merged path by path, none left out before.
        assert (seen[here, : block.first_path] == 1).all()
        seen[here, block.first_path : block.first_path + block.n_paths] += 1
    assert (seen == 1).all()
    assert blocks.n_particles_before(len(blocks)) == seen.sum()


@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}])
@pytest.mark.parametrize("n_points", [1, 3, 5000])
@pytest.mark.parametrize("n_steps", [1, 1000, 10**6])
def test_blocks_have_a_bound_and_whole_pairs_and_do_not_shrink_with_the_paths(options, n_points, n_steps):
    plain = {"scheme": "euler", "increments": "gaussian", "dtype": "float64"}
    options = walk.Options(**({"common_paths": False, "antithetic": False} | plain | options))
    problem = problems.constant_velocity()
    sizes = set()
    for n_paths in (10**7, 10**8):
        blocks = _estimate._blocks(problem, n_points, n_paths, n_steps, options)
        sizes.add((blocks.points_per_block, blocks.paths_per_block))
        assert blocks.points_per_block * blocks.paths_per_block <= 2**20
        assert blocks.points_per_block * blocks.paths_per_block > 2**13
        assert not options.antithetic or blocks.paths_per_block % 2 == 0
    assert len(sizes) == 1


# --- rounds -----------------------------------------------------------------------------------------------------


class Squares:
    """A job whose task i gives i**2."""

    def prepare(self):
        return lambda number: number**2


@pytest.mark.parametrize("n_shards", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_rounds_give_the_results_in_order(n_shards, backend):
    with joblib.parallel_config(backend=backend, n_jobs=1 if backend == "sequential" else 2):
        rounds = [*shards.in_rounds(Squares(), lambda task: (task,), 3, 40, n_shards)]
    assert [result for results in rounds for result in results] == [number**2 for number in range(3, 40)]
    # The first round finds out how long a task takes; the others grow fourfold at most, for it may have been short.
    assert len(rounds[0]) <= n_shards
    assert all(len(after) <= 4 * max(len(before), n_shards) for before, after in pairwise(rounds))


def test_the_backend_that_waits_for_ever_is_refused():
    with (
        joblib.parallel_config(backend="multiprocessing", n_jobs=2),
        pytest.raises(ValueError, match="hangs when a worker dies: use 'loky'"),
    ):
        feynman_kac.estimate(problems.constant_velocity(), [0.1, 0.2], 4, 2, n_shards=2)


@pytest.mark.parametrize("n_shards", [0, -1, 1.5, True])
def test_a_bad_number_of_shards_is_refused(n_shards):
    with pytest.raises(ValueError, match="n_shards must be an integer"):
        feynman_kac.estimate(problems.constant_velocity(), [0.1, 0.2], 4, 2, n_shards=n_shards)


def test_an_error_in_a_shard_is_the_callers():
    problem = problems.constant_velocity()
    problem.terminal = lambda x: x
    with joblib.parallel_config(backend="threading", n_jobs=2), pytest.raises(ValueError, match="terminal\\(x\\) must"):
        feynman_kac.estimate(problem, [0.1, 0.2], 4, 2, n_shards=2)


# --- real workers -----------------------------------------------------------------------------------------------


def test_a_worker_takes_one_core_or_the_share_that_loky_gives_it(monkeypatch):
    before = n_threads()
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    with shards._own_threads():
        assert n_threads() == 1
    assert n_threads() == before
    monkeypatch.setenv("NUMBA_NUM_THREADS", "100000")
    with shards._own_threads():
        assert n_threads() == numba.config.NUMBA_NUM_THREADS


def test_one_bar_counts_the_paths_of_all_shards(monkeypatch):
    monkeypatch.setattr(_estimate, "_BATCH", 16)
    bars = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **kwargs):
            super().__init__(**kwargs | {"disable": False, "file": open(os.devnull, "w")})  # noqa: SIM115
            bars.append(self)

        def close(self):
            super().close()
            self.fp.close()

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    points = np.zeros((6, 2))
    with joblib.parallel_config(backend="threading", n_jobs=2):
        feynman_kac.estimate(problems.constant_velocity(), points, 40, 2, n_shards=3, progress=True)
    (bar,) = bars
    assert bar.n == bar.total == 240


@pytest.mark.slow
def test_a_spawned_process_and_joblibs_workers_give_the_same_bits():
    velocity, terminal = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8))[:2], np.eye(8)
    problem = pde.ConvectionDiffusion(velocity, terminal, sigma=0.2)
    arguments = problem, [[0.1, 0.2], [0.6, 0.7]], 64, 5
    here = feynman_kac.estimate(*arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(feynman_kac.estimate, arguments)
    (worked,) = joblib.Parallel(n_jobs=2, backend="loky")([joblib.delayed(feynman_kac.estimate)(*arguments)])
    for there in (spawned, worked):
        assert (there.mean == here.mean).all()
        assert (there.stderr == here.stderr).all()


# --- memory -----------------------------------------------------------------------------------------------------

MEMORY = r"""
import re, sys
from pathlib import Path
import numpy as np
import pde

n_points, n_paths, n_steps, common = map(int, sys.argv[1:])
problem = pde.problems.constant_velocity(n=32, sigma=0.3)
terminal = lambda x: np.cos(2 * np.pi * x[..., 0])
problem = pde.ConvectionDiffusion(problem.velocity, terminal, sigma=0.3)
points = np.random.default_rng(0).random((n_points, 2))
pde.feynman_kac.estimate(problem, points, n_paths, n_steps, common_paths=bool(common))
# Not ru_maxrss, which starts from the peak of the process that started this one.
print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()).group(1))
"""


def peak(*arguments):
    """Peak memory of an estimate, in bytes; terminal data as a callable, which needs the most."""
    return int(run_script(MEMORY, *map(str, arguments))) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, which Linux has")
@pytest.mark.slow
def test_memory_has_a_bound_that_the_number_of_paths_does_not_move():
    few, many = peak(3, 4_000_000, 2, 0), peak(3, 12_000_000, 2, 0)
    # Twelve and thirty-six blocks of 2**20 particles, of 16 MB each; allocators differ by a few of them.
    assert many < few + 2**26
    assert many < 2**30


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, which Linux has")
@pytest.mark.parametrize("sizes", [(1, 10**7, 100, 0), (16384, 1024, 60, 1), (4096, 256, 1000, 0)])
def test_a_thousand_million_path_steps_peak_under_one_gibibyte(sizes):
    n_points, n_paths, n_steps, _ = sizes
    assert n_points * n_paths * n_steps >= 10**9
    assert peak(*sizes) < 2**30
