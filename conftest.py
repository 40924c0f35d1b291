"""Options and skips of the whole suite: the tests, and the doctests of every package."""

import importlib.util
import os
import signal
import sys
import warnings

import pytest

# Before anything imports matplotlib, and inherited by the interpreters that tests start.
os.environ["MPLBACKEND"] = "Agg"
# The tests' tensors are small: a second thread of OpenMP brings little, and on a busy machine, where threads wait for
# each other spinning, it makes a test thirty times slower. A test about threads sets their number itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A suite started in the background of a shell ignores Ctrl-C, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_TORCH = importlib.util.find_spec("torch") is not None


# A marimo application that ran as a script may put the script's module, long gone, back as __main__ when it ends.
MAIN = sys.modules["__main__"]


def pytest_runtest_setup(item):
    sys.modules["__main__"] = MAIN


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config):
    # Doctests of the modules that need PyTorch, in whatever package, become skips that name the module.
    if not HAS_TORCH:
        config.option.doctest_ignore_import_errors = True


def pytest_report_header():
    return None if HAS_TORCH else 'torch is not installed: what needs it is skipped (pip install -e ".[nets]")'


def why_no_gpu():
    """Say why the tests marked gpu cannot run here, or return None."""
    if not HAS_TORCH:
        return "needs a CUDA device, and PyTorch to reach it"
    import torch

    with warnings.catch_warnings():
        # A driver too old for this PyTorch warns and reports no device: a reason to skip, not an error.
        warnings.simplefilter("ignore")
        return None if torch.cuda.is_available() else "needs a CUDA device"


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    # Importing PyTorch takes seconds, so it is asked only where the answer matters.
    if gpu_items and (reason := why_no_gpu()):
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def quick_runs(tmp_path_factory):
    """Directory of the tiny runs of `figures --quick`, trained once for all tests: read them, change nothing."""
    pytest.importorskip("torch")
    from filelock import FileLock

    from figures import _runs

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # One directory for all workers: a run that is there is not trained again.
        root = root.parent
    with FileLock(root / "quick-runs.lock"):
        return _runs.quick_runs(root / "quick-runs")


@pytest.fixture(autouse=True)
def threads_of_pytorch():
    """Give PyTorch its own threads: numba's loops set OpenMP's for the whole process."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
