"""A file from which an interrupted computation resumes: moments, progress, and a description of the computation."""

import json
import os
import time
from pathlib import Path

import numpy as np

from pde.feynman_kac._fingerprint import digest, fingerprint
from pde.fields import PeriodicField

# Incremented when the random numbers of a seed change: moments of two generators must not be merged.
_FORMAT = 3
# Least time between two writes, and the largest share of the time spent on them.
_SECONDS, _SHARE = 2.0, 0.05
# Fractions of the horizon at which a callable is sampled, to recognise it.
_SAMPLED_AT = (0.0, 0.1, 0.3, 0.6, 1.0)


def describe(problem, points, n):
    """Describe a problem and its points (m, 2), to recognise them: names to numbers and to digests of arrays.

    Callables are described by their fingerprint and by values on the grid of n points per side, at five times.
    """
    if problem.n_layers is not None:
        velocities = [problem.velocity]
    else:
        velocities = [problem.velocity_field(fraction * problem.horizon, n) for fraction in _SAMPLED_AT]
    terminal = problem.terminal
    if not isinstance(terminal, PeriodicField):
        terminal = PeriodicField(problem.terminal_on_grid(n), problem.length)
    parts = {"velocity": (problem.velocity, velocities), "terminal": (problem.terminal, [terminal])}
    for name in ("potential", "source"):
        value = getattr(problem, name)
        if value is not None:
            times = _SAMPLED_AT if not isinstance(value, PeriodicField) else ()
            fields = [problem.scalar_field(name, fraction * problem.horizon, n) for fraction in times]
            parts[name] = value, fields or [value]
    described = {name: _digest_of(value, fields) for name, (value, fields) in parts.items()}
    sigma = problem.sigma
    if isinstance(sigma, PeriodicField):
        sigma = _digest_of(sigma, [sigma])
    elif isinstance(sigma, np.ndarray):
        sigma = sigma.tolist()
    numbers = {"sigma": sigma, "horizon": problem.horizon, "length": problem.length}
    return described | {"points": digest(points)} | numbers


def _digest_of(value, fields):
    code = () if isinstance(value, PeriodicField) else (fingerprint(value),)
    return digest(*code, *(part for field in fields for part in (field.interpolation, field.values)))


class Checkpoint:
    """Moments in a file that is replaced as a whole, so that it is complete whenever the process dies.

    `description`, names to numbers and strings, identifies the computation; a file of another one is refused.
    """

    def __init__(self, path, description):
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"checkpoint must be a path, got checkpoint={path!r}")
        self.path = Path(path)
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ValueError(f"checkpoint must be a file in a directory that exists, got checkpoint={str(path)!r}")
        self.description = {"format": _FORMAT, **description}
        self._last, self._pause = time.monotonic(), _SECONDS

    def load(self):
        """Return (n_done, mean, squares) as given to `save`, None without a file; ValueError if it is damaged."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            try:
                with np.load(file, allow_pickle=False) as data:
                    text, n_done, mean, squares = (data[name] for name in ("description", "n_done", "mean", "squares"))
                    if digest(text, n_done, mean, squares) != str(data["digest"]):
                        raise ValueError("its digest does not match")
                stored = json.loads(str(text))
            except Exception as error:
                # Whatever zip, NumPy or JSON raise for a damaged file.
                raise ValueError(
                    f"checkpoint {str(self.path)!r} is damaged, or not a checkpoint ({error}): remove it to start again"
                ) from error
        if stored != self.description:
            raise ValueError(
                f"checkpoint {str(self.path)!r} belongs to another computation, with "
                f"{'; '.join(self._differences(stored))}: call with the same arguments, or give another path"
            )
        return int(n_done), mean, squares

    def _differences(self, stored):
        for name in sorted({*stored, *self.description}):
            old, new = stored.get(name), self.description.get(name)
            if old != new:
                digests = isinstance(old, str) and isinstance(new, str)
                yield f"another {name}" if digests else f"{name}={old} (here {new})"

    @property
    def due(self):
        """Whether the last `save` is long enough ago."""
        return time.monotonic() - self._last >= self._pause

    def save(self, n_done, mean, squares):
        """Write the moments (m,) of the first n_done blocks under another name, then rename the file."""
        began = time.monotonic()
        text, n_done = np.array(json.dumps(self.description)), np.array(n_done)
        written = digest(text, n_done, mean, squares)
        draft = self.path.with_name(self.path.name + ".part")
        try:
            with draft.open("wb") as file:
                np.savez(file, description=text, n_done=n_done, mean=mean, squares=squares, digest=np.array(written))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        self._last = time.monotonic()
        self._pause = max(_SECONDS, (self._last - began) / _SHARE)
