"""The compiled loops: where no cache can be written, and their threads."""

import concurrent.futures
import importlib
import os
import pkgutil
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

import pde
from pde import _compiled
from pde.feynman_kac import _precompile


def test_every_loop_is_cached_and_none_uses_numbas_threads():
    names = {module.name for module in pkgutil.walk_packages(pde.__path__, "pde.")} - {"pde.feynman_kac._cuda_device"}
    loops = {
        f"{module}.{name}": loop
        for module in names
        for name, loop in vars(importlib.import_module(module)).items()
        if isinstance(loop, numba.core.dispatcher.Dispatcher)
    }
    assert len(loops) > 20
    # What is compiled into the loop that calls it needs no cache of its own.
    called = {name: loop for name, loop in loops.items() if not loop.targetoptions.get("forceinline")}
    uncached = {name for name, loop in called.items() if isinstance(loop._cache, numba.core.caching.NullCache)}
    assert not uncached
    # `_compiled.threaded` compiles in half the time.
    assert not {name for name, loop in loops.items() if loop.targetoptions.get("parallel")}


def test_without_a_folder_for_the_cache_loops_are_compiled_with_one_warning(monkeypatch):
    def refuse(self):
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", refuse)
    monkeypatch.setattr(_compiled, "_uncached", [])
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR") as caught:
        first, second = (_compiled.njit()(lambda x, k=k: x + k) for k in (1, 2))
    assert len(caught) == 1
    assert (first(1.0), second(1.0)) == (2.0, 3.0)


def test_what_is_compiled_into_others_cannot_be_called_from_python():
    @_compiled.inlined()
    def twice(x):
        return 2.0 * x

    @_compiled.njit()
    def four_times(x):
        return twice(twice(x))

    assert four_times(1.5) == 6.0 == 2 * twice.py_func(1.5)
    with pytest.raises(TypeError, match="twice can be called from compiled functions alone"):
        twice(1.5)


def test_other_errors_of_the_decoration_are_raised(monkeypatch):
    def refuse(self):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", refuse)
    with pytest.raises(RuntimeError, match="something else"):
        _compiled.njit()(lambda x: x)


@_compiled.threaded()
def _count(part, done, of_part):
    for i in range(part[0], done.size, part[1]):
        done[i] += 1
        of_part[i] = part[0]


@pytest.mark.parametrize("number", range(1, numba.config.NUMBA_NUM_THREADS + 1))
def test_each_item_is_done_once_by_the_part_whose_it_is(number):
    done, of_part = np.zeros(101, int), np.full(101, -1)
    with _compiled.limited(number):
        _count(done, of_part)
    assert (done == 1).all()
    assert (of_part == np.arange(101) % number).all()


def test_number_of_threads_is_that_of_numba_or_a_limit_in_this_thread_alone():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert _compiled.n_threads() == 1
        with _compiled.limited(10**6):
            assert _compiled.n_threads() == numba.config.NUMBA_NUM_THREADS
            with _compiled.limited(1), concurrent.futures.ThreadPoolExecutor(1) as other:
                assert (_compiled.n_threads(), other.submit(_compiled.n_threads).result()) == (1, before)
        assert _compiled.n_threads() == 1
    finally:
        numba.set_num_threads(before)
    assert _compiled.n_threads() == before


def test_parts_run_in_threads_of_their_own():
    both = threading.Barrier(2, timeout=20)
    # Neither passes before the other is there.
    _compiled._run(lambda part: both.wait(), 2, ())


def test_many_threads_may_call_a_loop_at_once():
    arrays = [(np.zeros(1000, int), np.zeros(1000, int)) for _ in range(8)]
    threads = [threading.Thread(target=_count, args=both) for both in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((done == 1).all() for done, _ in arrays)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_a_part_is_the_callers(failing):
    def loop(part):
        if part[0] == failing:
            raise OSError(f"part {failing}")

    with pytest.raises(OSError, match=f"part {failing}"):
        _compiled._run(loop, 3, ())


class Pool:
    """Of the tasks given to it runs the first few at once, and then behaves as it is told."""

    def __init__(self, n_run, then):
        self.n_run, self.then, self.kept = n_run, then, []

    def submit(self, task):
        if self.n_run:
            self.n_run -= 1
            task()
        else:
            self.kept.append(task)
            self.then()


def refused():
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("then", [lambda: None, refused], ids=["busy", "refused"])
@pytest.mark.parametrize("n_run", [0, 1])
def test_what_no_other_thread_does_the_caller_does_and_nothing_twice(monkeypatch, then, n_run):
    pool, done = Pool(n_run, then), []
    monkeypatch.setattr(_compiled, "_pool", lambda: pool)
    _compiled._run(done.append, 4, ())
    # A pool that could not start a thread may still have the task in its queue, and get to it.
    for task in pool.kept:
        task()
    assert pool.kept and sorted(done) == [(index, 4) for index in range(4)]


def test_work_that_a_pool_keeps_although_it_cannot_start_a_thread_is_done_once(monkeypatch):
    # One thread is there and busy; a second cannot be started, which `submit` tells after it has queued the work.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        began, go_on = threading.Event(), threading.Event()
        pool.submit(lambda: (began.set(), go_on.wait(30)))
        assert began.wait(30)

        def refuse(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        monkeypatch.setattr(_compiled, "_pool", lambda: pool)
        done = np.zeros(10, np.int64)

        def loop(part, done):
            for i in range(part[0], done.size, part[1]):
                done[i] += 1

        _compiled._run(loop, 2, (done,))
        go_on.set()
        monkeypatch.undo()
    # The pool has done what it kept.
    assert done.tolist() == [1] * 10


SCRIPT = """
import threading, numba, numpy as np, pde

points = pde.grid.points(4)
def estimate():
    return pde.feynman_kac.estimate(pde.problems.constant_velocity(), points, 8, 4, 0).mean
before = estimate()
# OpenMP's number of threads is the process's, and PyTorch's.
assert not numba.np.ufunc.parallel._is_initialized
{what}
"""
IN_A_FORK = """
import os, warnings
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    os._exit(0 if (estimate() == before).all() else 1)
assert os.waitpid(child, 0)[1] == 0
print("same")
"""
AFTER_MAIN = """
def late():
    threading.main_thread().join()
    print("same" if (estimate() == before).all() else "different")
threading.Thread(target=late).start()
"""


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(IN_A_FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"), id="fork"),
        pytest.param(AFTER_MAIN, id="after the main thread"),
    ],
)
def test_paths_are_the_same(what):
    code = SCRIPT.format(what=what)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same"], done.stderr


def test_nothing_is_compiled_beside_where_the_cache_has_it(monkeypatch):
    _precompile.call("float64", "euler")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert pde.feynman_kac.precompile()() is None
    with pytest.raises(ValueError, match="dtype must be one of"):
        pde.feynman_kac.precompile("float16")
    with pytest.raises(ValueError, match="scheme must be one of"):
        pde.feynman_kac.precompile(scheme="milstein")


PRECOMPILED = """
import pde
from pde.feynman_kac import _kernels32, _kernels64
from pde.spectral import _arnoldi, _hessenberg

pde.feynman_kac.precompile("{dtype}", "{scheme}")()
for sigma in (0.0, 0.1):
    problem = pde.problems.figure4(seed=0, n=32, sigma=sigma)
    options = dict(dtype="{dtype}", scheme="{scheme}") if sigma else dict()
    pde.feynman_kac.estimate(problem, pde.grid.points(12), 40, 4, 0, **options)
pde.spectral.solve(pde.problems.eigenfunction())
paths = [loop.dispatcher for loop in (_kernels64.advance_rk4, _kernels64.terminal_moments, {loop})]
small = [_hessenberg.two_norm, _hessenberg._longest_by_steps, _arnoldi.weighted_sum]
for loop in paths + small:
    stats = loop.stats
    assert sum(stats.cache_hits.values()) == 1 and not stats.cache_misses, (loop, stats)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "scheme", "loop"),
    [
        ("float64", "euler", "_kernels64.advance_euler"),
        ("float64", "heun", "_kernels64.advance_heun"),
        ("float32", "euler", "_kernels32.advance32_wide"),
    ],
)
def test_what_was_compiled_beside_is_not_compiled_again(tmp_path, dtype, scheme, loop):
    code = PRECOMPILED.format(dtype=dtype, scheme=scheme, loop=loop)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
