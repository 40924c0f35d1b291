"""numba.njit as the package uses it: cached where that can be, and one parallel loop at a time where that must be."""

import contextlib
import functools
import threading
import warnings

import numba

__all__ = ["copy", "njit", "turn"]

_lock = threading.RLock()
_uncached = []


def njit(**options):
    """As numba.njit(cache=True, nogil=True, ...); without a cache if no folder for it can be written, with one warning.

    Parallel loops may be called by several threads at once (see `turn`).
    """

    def decorate(function):
        try:
            dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            dispatcher = numba.njit(nogil=True, **options)(function)
            if not _uncached:
                warnings.warn(
                    "no folder for numba's cache can be written: loops are compiled anew in each process, which takes "
                    "about a minute; set NUMBA_CACHE_DIR to a folder that can",
                    RuntimeWarning,
                    stacklevel=2,
                )
            _uncached.append(function.__name__)
        if not options.get("parallel"):
            return dispatcher

        @functools.wraps(function)
        def call(*arguments):
            with turn():
                return dispatcher(*arguments)

        call.dispatcher = dispatcher
        return call

    return decorate


@numba.njit(nogil=True, forceinline=True)
def copy(target, source):
    """Copy as many elements as both rows have: `target[:] = source` takes seconds to compile, for its error message."""
    for i in range(min(target.size, source.size)):
        target[i] = source[i]


def turn():
    """A lock if the threading layer is numba's own pool, which aborts when two threads enter it; else nothing.

    The layer is known once numba has launched its threads.
    """
    try:
        layer = numba.threading_layer()
    except ValueError:
        layer = "unknown"
    return _lock if layer in ("workqueue", "unknown") else contextlib.nullcontext()
