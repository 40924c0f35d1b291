"""Paths that carry a control variate: a second path of the same noise, or a martingale."""

import math

import numpy as np

from pde.feynman_kac import _spline_tables
from pde.feynman_kac._kernels_coupled import ALONE, STILL, advance_martingale, advance_pair
from pde.feynman_kac._solution_in_time import SolutionInTime
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables
from pde.fields import PeriodicField


class ControlledWalk:
    """Paths of a problem that carry a control."""

    def __init__(self, problem, n_steps, n, key):
        self.problem, self.key = problem, key
        self.steps = TimeSteps(problem, n_steps)
        self.velocity = VelocityTables(problem, n)

    def use_solution(self, solution):
        if not isinstance(solution, SolutionInTime):
            raise ValueError(f"solution must be a SolutionInTime, as from solve_in_time, got solution={solution!r}")
        m = len(solution.t) - 1
        if solution.length != self.problem.length or not math.isclose(solution.t[-1], self.problem.horizon):
            raise ValueError("solution must be one of the same period and horizon as the problem")
        n = solution.u.shape[-1]
        gradients = (np.moveaxis(PeriodicField(u, solution.length).jacobian_on_grid(n), -1, 0) for u in solution.u)
        # dB is in periods, so the gradient is per period.
        made = [
            _spline_tables.make_table(PeriodicField(g, solution.length, "bicubic"), solution.length, tolerance=1e-6)
            for g in gradients
        ]
        self.slopes, self.slope_n = np.stack([table.coefficients for table in made]), n
        self.snapshots = np.rint(self.steps.t[:-1] * (m / self.problem.horizon)).astype(np.int64)

    def _pieces(self):
        """For each piece: its tables as the coupled loops read them, step, scale of the noise, and first counter."""
        for piece in self.velocity.pieces(self.steps):
            degree, n = self.velocity.size
            scale = self.problem.sigma * math.sqrt(piece.dt) / self.problem.length
            yield (piece.tables, piece.layers[:, 0], degree, n), piece.dt, scale, piece

    def ends(self, start):
        """Ends of the paths without noise, shape (n_points, 2), in periods, not reduced to one."""
        x, y = (start[:, i, None].copy() for i in (0, 1))
        for tables, dt, _, piece in self._pieces():
            advance_pair(x, y, x, y, *tables, dt, 0.0, piece.counter, 0, 0, ALONE, self.key)
        return np.concatenate([x, y], axis=1)

    def with_heat(self, start, shift, first_point, first_path, n_paths):
        x, y = (np.repeat(start[:, i, None], n_paths, axis=1) for i in (0, 1))
        cx, cy = (np.repeat(np.mod(start + shift, 1.0)[:, i, None], n_paths, axis=1) for i in (0, 1))
        for tables, dt, scale, piece in self._pieces():
            advance_pair(x, y, cx, cy, *tables, dt, scale, piece.counter, first_path, first_point, STILL, self.key)
        return self.velocity.terminal.values(x, y), self.velocity.terminal.values(cx, cy)

    def with_martingale(self, start, first_point, first_path, n_paths):
        x, y = (np.repeat(start[:, i, None], n_paths, axis=1) for i in (0, 1))
        martingale = np.zeros_like(x)
        for tables, dt, scale, piece in self._pieces():
            snapshots = self.snapshots[piece.first : piece.first + len(piece.layers)]
            advance_martingale(
                x, y, martingale, *tables, self.slopes, snapshots, self.slope_n, dt, scale, piece.counter, first_path,
                first_point, self.key,
            )  # fmt: skip
        return self.velocity.terminal.values(x, y), martingale
