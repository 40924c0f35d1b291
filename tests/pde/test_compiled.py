"""The compiled loops where no cache can be written, and one at a time where the threading layer asks for it."""

import contextlib
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


def test_every_loop_is_cached_and_takes_its_turn():
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
    # `_compiled.njit` hides parallel loops behind a function that waits for its turn.
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


def test_other_errors_of_the_decoration_are_raised(monkeypatch):
    def refuse(self):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", refuse)
    with pytest.raises(RuntimeError, match="something else"):
        _compiled.njit()(lambda x: x)


def test_parallel_loops_take_turns_in_numbas_own_pool(monkeypatch):
    inside, most = [], []

    @contextlib.contextmanager
    def spied():
        with _compiled._lock:
            inside.append(1)
            most.append(len(inside))
            yield
            inside.pop()

    # Whichever layer runs here: with the lock of the pool.
    monkeypatch.setattr(_compiled, "turn", spied)

    @_compiled.njit(parallel=True)
    def double(x):
        for i in numba.prange(len(x)):
            x[i] *= 2

    arrays = [np.ones(1000) for _ in range(4)]
    threads = [threading.Thread(target=double, args=(x,)) for x in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((x == 2).all() for x in arrays)
    assert len(most) == 4 and max(most) == 1


@pytest.mark.parametrize(("layer", "locked"), [("workqueue", True), ("omp", False), ("tbb", False), (None, True)])
def test_lock_is_for_numbas_own_pool_alone(layer, locked, monkeypatch):
    def threading_layer():
        if layer is None:
            raise ValueError("Threading layer is not initialized.")
        return layer

    monkeypatch.setattr(numba, "threading_layer", threading_layer)
    assert (_compiled.turn() is _compiled._lock) == locked


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

pde.feynman_kac.precompile("{dtype}", "{scheme}")()
for sigma in (0.0, 0.1):
    problem = pde.problems.figure4(seed=0, n=32, sigma=sigma)
    options = dict(dtype="{dtype}", scheme="{scheme}") if sigma else dict()
    pde.feynman_kac.estimate(problem, pde.grid.points(12), 40, 4, 0, **options)
for loop in (_kernels64.advance_rk4, _kernels64.terminal_moments, {loop}):
    stats = loop.dispatcher.stats
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
