"""The loops over paths compiled by a process of their own, while this one compiles or computes other things."""

import os
import subprocess
import sys
from pathlib import Path

from pde import checks, grid, problems, spectral
from pde.feynman_kac import _kernels32, _kernels64
from pde.feynman_kac._estimate import estimate
from pde.feynman_kac._paths import SCHEMES
from pde.feynman_kac._random import DTYPES


def precompile(dtype="float64", scheme="euler"):
    """Compile the loops of `estimate` in a process of its own, if numba's cache holds none of them.

    Those that `spectral.solve` reaches last are compiled as well. This process can compile others at the same time, so
    that the first solution by both solvers takes two thirds of the time.

    Parameters
    ----------
    dtype : {"float64", "float32"}
        Precision of the paths.
    scheme : {"euler", "heun"}
        Scheme of the paths; the loop for sigma = 0 is always compiled.

    Returns
    -------
    callable
        Waits, called without arguments, until that is done; returns at once if there was nothing to compile.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> import pde
    >>> wait = precompile("float64")
    >>> solution = pde.spectral.solve(pde.problems.eigenfunction())
    >>> wait()
    """
    checks.one_of("dtype", dtype, DTYPES)
    checks.one_of("scheme", scheme, SCHEMES)
    if _are_cached(dtype, scheme):
        return lambda: None
    code = f"from pde.feynman_kac import _precompile; _precompile.call({dtype!r}, {scheme!r})"
    path = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def wait():
        # Errors there are not reported: they occur again where this process calls the loop.
        process.wait()

    return wait


def _are_cached(dtype, scheme):
    """Whether there is a file for each loop, in this or another precision of its arguments; True if there can be none.

    Both schemes of a precision share a file.
    """
    advance = _kernels32.advance32_wide if dtype == "float32" else getattr(_kernels64, f"advance_{scheme}")
    for loop in (advance, _kernels64.advance_rk4, _kernels64.terminal_moments):
        # A plain function with NUMBA_DISABLE_JIT; no folder where none can be written.
        stats = getattr(loop.dispatcher, "stats", None)
        if stats is None or stats.cache_path is None:
            continue
        function = loop.dispatcher.py_func
        if not any(Path(stats.cache_path).glob(f"*.{function.__name__}-{function.__code__.co_firstlineno}.*")):
            return False
    return True


def call(dtype, scheme):
    """Compile, or load from the cache."""
    spectral.precompile()
    for sigma in (0.0, 0.1):
        problem = problems.figure4(seed=0, n=16, sigma=sigma)
        options = {"dtype": dtype, "scheme": scheme} if sigma else {}
        # More points than fit a narrow block of single precision.
        estimate(problem, grid.points(8), 2, 8, 0, common_paths=True, **options)
