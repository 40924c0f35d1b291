"""The fields of a problem as the path loops read them: velocity tables for each step, terminal data at the end."""

import numpy as np

from pde import checks
from pde.feynman_kac import _kernels64, _spline_tables
from pde.fields import PeriodicField

__all__ = ["PathFields"]

# Tables of a velocity that changes at every step are made for this many bytes at a time.
_TABLE_BYTES = 2**27


class PathFields:
    """Velocity and terminal data of a problem as tables, made once for all step sizes.

    Parameters
    ----------
    problem : ConvectionDiffusion
        The problem.
    n : int, optional
        Points per side on which a velocity given as a callable v(x, t) is sampled at each step; by default those of
        the terminal data, or 128.

    Raises
    ------
    ValueError
        If n < 1 (raised by the check).
    """

    def __init__(self, problem, n=None):
        self.problem = problem
        self.n = (problem.n or 128) if n is None else checks.integer("n", n, at_least=1)
        self.size = None
        self._stack = None
        self._f = None
        if isinstance(problem.terminal, PeriodicField):
            self._f = _spline_tables.make_table(problem.terminal, 1.0, tolerance=_spline_tables.TERMINAL_TOLERANCE)

    def velocity(self, n_steps):
        """Yield the velocity for n_steps steps, in chunks of steps whose tables fit the memory.

        Parameters
        ----------
        n_steps : int
            Steps from 0 to T. A velocity piecewise constant in time is taken at layer (k n_t) // n_steps in step k.

        Yields
        ------
        tuple
            Tables of v / length, ndarray of shape (n_tables, 2 * (n + degree + 1)**2); the table of each step,
            ndarray of shape (m,), m even in all chunks but the last; and the index of the first step.
        """
        problem = self.problem
        if problem.n_layers is not None:
            if self._stack is None:
                self._stack = self._tables([problem.layer_field(layer) for layer in range(problem.n_layers)])
            yield self._stack, np.arange(n_steps) * problem.n_layers // n_steps, 0
            return
        dt = problem.horizon / n_steps
        per_table = self._tables([problem.velocity_field(0.0, self.n)]).nbytes
        chunk = max(2, _TABLE_BYTES // per_table // 2 * 2)
        for step in range(0, n_steps, chunk):
            count = min(chunk, n_steps - step)
            fields = [problem.velocity_field((step + k) * dt, self.n) for k in range(count)]
            yield self._tables(fields), np.arange(count), step

    def terminal(self, x, y):
        """Evaluate f.

        Parameters
        ----------
        x, y : ndarray of shape (n_points, n_paths)
            Positions as fractions of the period, in [0, 1].

        Returns
        -------
        ndarray of shape (n_points, n_paths)
        """
        if self._f is None:
            return self.problem.terminal_at(np.stack([x, y], axis=-1) * self.problem.length)
        out = np.empty_like(x)
        _kernels64.evaluate(x, y, self._f.coefficients, self._f.degree, self._f.n, out)
        return out

    def _tables(self, fields):
        tolerance = _spline_tables.VELOCITY_TOLERANCE
        made = _spline_tables.make_tables(fields, 1 / self.problem.length, tolerance=tolerance, size=self.size)
        self.size = made[0].degree, made[0].n
        return np.stack([table.coefficients for table in made])
