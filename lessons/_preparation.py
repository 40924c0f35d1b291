"""Work of the server while its index is read – imports, compiling, training a network – and its progress."""

import contextlib
import importlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["STEPS", "Preparation", "Step"]

# What the lessons import. PyTorch imports sympy with the first optimiser and marimo with the first page: two threads
# that do so at once fail, for its modules import each other.
MODULES = ("matplotlib.backends.backend_agg", "nets", "pde", "bridge", "sympy")
SECONDS_BEFORE_TRAINING = 5


class Step(NamedTuple):
    """A step of the preparation: a description, a function, and whether lessons wait for it."""

    text: str
    run: Callable
    needed: bool = True


def _load():
    # Where it is the first time, one core compiles while the other imports.
    importlib.import_module("lessons._first_calls").begin()
    for module in MODULES:
        importlib.import_module(module)


def _compile():
    importlib.import_module("lessons._first_calls").call()


def _train():
    # A lesson that is opened at once has the processor for itself.
    time.sleep(SECONDS_BEFORE_TRAINING)
    importlib.import_module("lessons._planar").train()


STEPS = (
    Step("loading PyTorch and the solvers", _load),
    Step("compiling the solvers, once per installation", _compile),
    Step("training the small network of lessons 4 and 5", _train, needed=False),
)


class Preparation:
    """Steps that run one after the other in a thread of their own.

    A step that fails ends none of the others: the lesson that needs it shows the error.
    """

    def __init__(self, steps=STEPS):
        self.steps, self._n_done = steps, 0

    def start(self):
        """Begin with the first step."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        for step in self.steps:
            # Anything may be wrong with an installation.
            with contextlib.suppress(Exception):
                step.run()
            self._n_done += 1

    @property
    def ready(self):
        """Whether no lesson has to wait any longer."""
        return not any(step.needed for step in self.steps[self._n_done :])

    @property
    def done(self):
        """Whether all steps have ended."""
        return self._n_done == len(self.steps)

    def status(self):
        """How far the steps are, as the index shows it."""
        n_done = self._n_done
        status = {"ready": self.ready, "done": self.done, "n_steps": len(self.steps)}
        return status | {"step": n_done + 1, "text": "" if status["done"] else self.steps[n_done].text}
