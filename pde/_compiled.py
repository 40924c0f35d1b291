"""numba.njit as the package uses it: cached where that can be, and loops over threads of our own."""

import concurrent.futures
import contextlib
import functools
import os
import threading
import warnings

import numba
from numba.core.registry import CPUDispatcher
from numba.np.ufunc import parallel

_uncached = []
_limit = threading.local()


def njit(**options):
    """As numba.njit(cache=True, nogil=True, ...); without a cache, and with one warning, if it cannot be written."""

    def decorate(function):
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            if not _uncached:
                warnings.warn(
                    "no folder for numba's cache can be written: loops are compiled anew in each process, for some "
                    "seconds each; set NUMBA_CACHE_DIR to a writable folder",
                    RuntimeWarning,
                    stacklevel=2,
                )
            _uncached.append(function.__name__)
            return numba.njit(nogil=True, **options)(function)

    return decorate


class _Inlined(CPUDispatcher):
    """A function without an entry point for Python, where a call from Python would crash."""

    def __call__(self, *arguments):
        raise TypeError(
            f"{self.py_func.__name__} can be called from compiled functions alone; from Python call its py_func"
        )


def inlined(**options):
    """As `njit`, for a function that is called from compiled ones alone, and compiled into each of them.

    It has no entry point for Python, which saves a sixth of the time to compile.
    """

    def decorate(function):
        wrapperless = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        compiled = numba.njit(nogil=True, forceinline=True, **wrapperless, **options)(function)
        if isinstance(compiled, CPUDispatcher):
            compiled.__class__ = _Inlined
        return compiled

    return decorate


def threaded(**options):
    """As `njit`, for a loop function(part, ...) over the independent items part[0], part[0] + part[1], ...

    The decorated function is called without `part`, and runs the loop in each of `n_threads()` threads.
    """
    # numba's own parallel loops take twice as long to compile; one of its threading layers aborts when two threads call
    # it, and another sets the number of OpenMP threads of the whole process.

    def decorate(function):
        dispatcher = njit(**options)(function)

        @functools.wraps(function)
        def call(*arguments):
            _run(dispatcher, n_threads(), arguments)

        call.dispatcher = dispatcher
        return call

    return decorate


def n_threads():
    """Return the number of threads of a loop: NUMBA_NUM_THREADS, or what numba.set_num_threads or `limited` set."""
    number = getattr(_limit, "number", None)
    if number is not None:
        return number
    # Without a call of set_num_threads, get_num_threads would start numba's threads.
    return numba.get_num_threads() if getattr(parallel, "_is_initialized", True) else numba.config.NUMBA_NUM_THREADS


@contextlib.contextmanager
def limited(number):
    """Limit the number of threads of the loops that this thread calls, inside a `with` block."""
    before = getattr(_limit, "number", None)
    _limit.number = min(number, numba.config.NUMBA_NUM_THREADS)
    try:
        yield
    finally:
        _limit.number = before


def _run(loop, n_parts, arguments):
    """Call loop(part, *arguments) for each part, in this thread and, as far as they are free, in others."""
    if n_parts == 1:
        loop((0, 1), *arguments)
        return
    parts, done, errors = list(range(n_parts))[::-1], threading.Semaphore(0), []

    def work():
        while parts:
            # Another thread may have taken the last one.
            with contextlib.suppress(IndexError):
                index = parts.pop()
                try:
                    loop((index, n_parts), *arguments)
                except BaseException as error:  # noqa: BLE001
                    errors.append(error)
                finally:
                    done.release()

    # No new threads once the interpreter shuts down, or where none can be started: this one does the rest.
    with contextlib.suppress(RuntimeError):
        for _ in range(n_parts - 1):
            _pool().submit(work)
    work()
    for _ in range(n_parts):
        done.acquire()
    if errors:
        raise errors[0]


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
