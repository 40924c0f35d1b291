"""numba.njit as the package uses it: cached where that can be, and loops over threads of our own."""

import concurrent.futures
import contextlib
import functools
import os
import warnings

import numba
from numba.core.registry import CPUDispatcher

__all__ = ["copy", "inlined", "njit", "threaded"]

_uncached = []


def njit(**options):
    """As numba.njit(cache=True, nogil=True, ...); without a cache if there is no folder for it, with one warning."""

    def decorate(function):
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            if not _uncached:
                warnings.warn(
                    "no folder for numba's cache can be written: loops are compiled anew in each process, which takes "
                    "about a minute; set NUMBA_CACHE_DIR to a folder that can",
                    RuntimeWarning,
                    stacklevel=2,
                )
            _uncached.append(function.__name__)
            return numba.njit(nogil=True, **options)(function)

    return decorate


class _Inlined(CPUDispatcher):
    """Without an entry for Python, which would be jumped to all the same."""

    def __call__(self, *arguments):
        raise TypeError(f"{self.py_func.__name__} can be called by compiled functions alone; its py_func by others")


def inlined(**options):
    """As `njit`, for a function that compiled ones alone call, and that is compiled into each of them.

    It has no entry for Python, whose making and optimising takes a sixth of the time to compile.
    """

    def decorate(function):
        wrapperless = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        compiled = numba.njit(nogil=True, forceinline=True, **wrapperless, **options)(function)
        if isinstance(compiled, CPUDispatcher):
            compiled.__class__ = _Inlined
        return compiled

    return decorate


def threaded(**options):
    """As `njit`, for a loop function(part, ...) that does the items part[0], part[0] + part[1], ... of its work.

    The decorated function is called without `part`, and calls the loop in each of `numba.get_num_threads()` threads.
    Items must not depend on each other. numba's own parallel loops take twice as long to compile, and one of its
    threading layers aborts when two threads call it.
    """

    def decorate(function):
        dispatcher = njit(**options)(function)

        @functools.wraps(function)
        def call(*arguments):
            _run(dispatcher, numba.get_num_threads(), arguments)

        call.dispatcher = dispatcher
        return call

    return decorate


def _run(loop, n_parts, arguments):
    """Call loop(part, *arguments) for each part: the first in this thread, and those that no other thread has begun."""
    # Futures of our own: a pool that cannot start a thread raises, and yet keeps the work for another of its threads.
    futures = [concurrent.futures.Future() for _ in range(1, n_parts)]
    # No new threads once the interpreter shuts down, or beyond a limit: this one does the rest.
    with contextlib.suppress(RuntimeError):
        for index, future in enumerate(futures, start=1):
            _pool().submit(_do, future, loop, (index, n_parts), arguments)
    loop((0, n_parts), *arguments)
    for index, future in enumerate(futures, start=1):
        if future.cancel():
            loop((index, n_parts), *arguments)
        else:
            future.result()


def _do(future, loop, part, arguments):
    """Call loop(part, *arguments) unless its future is cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(loop(part, *arguments))
        except BaseException as error:  # noqa: BLE001 - it is raised by `result`, in the thread that waits.
            future.set_exception(error)


@functools.lru_cache(maxsize=1)
def _pool():
    return concurrent.futures.ThreadPoolExecutor(max(1, numba.config.NUMBA_NUM_THREADS - 1), "pde")


# The threads of a pool do not survive a fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


@inlined()
def copy(target, source):
    """Copy as many elements as both rows have: `target[:] = source` takes seconds to compile, for its error message."""
    for i in range(min(target.size, source.size)):
        target[i] = source[i]
