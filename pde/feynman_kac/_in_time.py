"""What steps in time make of callables that depend on it: the part of their integrals that pairs of steps do not show.

Two numbers of steps agree by accident where a coefficient jumps, or where both pass it by. Its integral over time at
some points is known to any accuracy without a path, and so is what the quadrature of the steps makes of it.
"""

from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from pde._histories import irregular_times, points_everywhere, velocity_reader
from pde.feynman_kac._step_means import step_quadrature

# Times at which callables are read: neighbours are less than a thousandth of the horizon apart.
_N_TIMES = 2048
# Intervals that hold more than this share of the integral beside a straight line are halved, so many at most.
_SHARE, _MOST = 1e-8, 2**13
# A rise by so much of the whole variation within a sixteenth of the distance between times is a jump.
_JUMP = 0.01
# Number of times at which accumulated defects are compared, and of steps whose quadrature is made at once.
_N_COMPARED, _CHUNK = 257, 2**15


class Rest(NamedTuple):
    """The size of a defect at the end, its mean over time, and its largest, at the point where each is largest."""

    end: float
    mean: float
    largest: float


class InTime:
    """Callables of a problem at 64 points, as functions of time that are integrated exactly.

    `rule` is the quadrature of the velocity in a step: "left", "trapezoid" or "simpson". Potential and source take the
    last two alone. `with_means`: steps use means where a callable jumps within them.
    """

    def __init__(self, problem, rule, *, with_means=True):
        self.problem, self.horizon, self.with_means = problem, problem.horizon, with_means
        points = points_everywhere(problem)
        other = "trapezoid" if rule == "left" else rule
        # Name, columns and rule of each callable.
        self.parts, self._readers, width = [], [], 0
        for name, read, used in (
            ("velocity", velocity_reader(problem) if problem.velocity_varies else None, rule),
            *((name, _scalar_reader(problem, name, points), other) for name in ("potential", "source")),
        ):
            if read is not None:
                size = np.size(read(0.0))
                self.parts.append((name, slice(width, width + size), used))
                self._readers.append(read)
                width += size
        self._defects, self._exact = {}, {}
        if self.parts:
            self._read()

    def __bool__(self):
        return bool(self.parts)

    @property
    def histories(self):
        """Values of each callable at irregular times, one in each of as many equal parts of the horizon."""
        return [self._first[:, columns] for _, columns, _ in self.parts]

    def _values(self, times):
        return np.stack([np.concatenate([np.ravel(read(float(t))) for read in self._readers]) for t in times])

    def _read(self):
        """Read all callables, and again where they bend: `t` (n_times,), `values` (n_times, width), and integrals."""
        inner = irregular_times(self.horizon, _N_TIMES)
        self._first = self._values(inner)
        t = np.concatenate([[0.0], inner, [self.horizon]])
        values = np.concatenate([self._values([0.0]), self._first, self._values([self.horizon])])
        sizes = np.concatenate(
            [np.full(c.stop - c.start, np.abs(self._first[:, c]).mean(axis=0).max()) for _, c, _ in self.parts]
        )
        sizes = np.where(sizes > 0, sizes, 1.0) * self.horizon
        left = _MOST
        while True:
            beside = _beside(t, values)
            shares = (beside / sizes).max(axis=1)
            bent = np.flatnonzero((shares > _SHARE) & (np.diff(t) > 1e-12 * self.horizon))
            if not bent.size or left <= 0:
                break
            bent = np.sort(bent[np.argsort(-shares[bent], kind="stable")[:left]])
            left -= len(bent)
            middles = (t[bent] + t[bent + 1]) / 2
            values = np.insert(values, bent + 1, self._values(middles), axis=0)
            t = np.insert(t, bent + 1, middles)
        self.t, self.values = t, values
        areas = np.diff(t)[:, None] * (values[1:] + values[:-1]) / 2
        self.integrals = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(areas, axis=0)])
        # What the intervals left are uncertain by, independently of one another: two standard deviations.
        self._uncertain = 2 * np.sqrt((beside**2).sum(axis=0))

    def _at(self, times):
        """Values and integrals at times: between those read, values are on straight lines."""
        k = np.clip(np.searchsorted(self.t, times, side="right") - 1, 0, len(self.t) - 2)
        width = self.t[k + 1] - self.t[k]
        share = ((times - self.t[k]) / width)[:, None]
        values = (1 - share) * self.values[k] + share * self.values[k + 1]
        # In the narrow interval of a jump the value itself counts.
        for i in np.flatnonzero(width < self.horizon / (16 * _N_TIMES)):
            time = float(times[i])
            if time not in self._exact:
                self._exact[time] = self._values([time])[0]
            values[i] = self._exact[time]
        return values, self.integrals[k] + (times - self.t[k])[:, None] * (self.values[k] + values) / 2

    def defect(self, steps):
        """Integrals by the rules of the steps less the exact ones, at times: (n_compared, width)."""
        if steps.n_steps not in self._defects:
            compared = np.linspace(0.0, self.horizon, _N_COMPARED)
            found, before = np.zeros((_N_COMPARED, self.values.shape[1])), 0.0
            for first in range(0, steps.n_steps, _CHUNK):
                ends = steps.t[first : first + _CHUNK + 1]
                exact = self._at(ends)[1]
                made = np.zeros_like(exact)
                for _, columns, rule in self.parts:
                    made[1:, columns] = np.cumsum(self._quadrature(ends, columns, rule).sums, axis=0)
                at_ends = made + before - exact
                before = before + made[-1]
                here = (compared >= ends[0]) & (compared <= ends[-1])
                found[here] = _interpolated(compared[here], ends, at_ends)
            self._defects[steps.n_steps] = found
        return self._defects[steps.n_steps]

    def _quadrature(self, ends, columns, rule):
        def read(times):
            return self._at(times)[0][:, columns]

        jumps = self._jumps(columns)
        return step_quadrature(ends, read, self.t, jumps, rule, with_means=self.with_means)

    def _jumps(self, columns):
        """Times before and after the jumps of a callable, (n_jumps, 2)."""
        rises = np.abs(np.diff(self.values[:, columns], axis=0))
        large = (rises > _JUMP * np.ptp(self.values[:, columns], axis=0).max()).any(axis=1)
        at = np.flatnonzero(large & (np.diff(self.t) < self.horizon / (16 * _N_TIMES)))
        return np.stack([self.t[at], self.t[at + 1]], axis=1)

    def problem_of(self, steps):
        """The problem as the steps are to read it: with means where its callables jump within a step."""
        changed = {}
        for name, columns, rule in self.parts:
            means = self._quadrature(steps.t, columns, rule).means
            if means:
                changed[name] = partial(_mean_at, means, np.diff(steps.t).min() * 1e-6)
        return self.problem.with_means(changed) if changed else self.problem

    def unseen(self, steps, coarse, fine, most):
        """What of the defect of steps is not in proportion to the difference between those of coarse and fine ones.

        `most` is the largest multiple of that difference which is accounted for. By name of the callable, a `Rest`: of
        a displacement, of the logarithm of u, or of u.
        """
        defect, shown = self.defect(steps), self.defect(coarse) - self.defect(fine)
        rest = {}
        for name, columns, _ in self.parts:
            d, s = defect[:, columns], shown[:, columns]
            square = float((s * s).sum())
            share = min(max(float((d * s).sum()) / square, 0.0), most) if square > 0 else 0.0
            left, uncertain = np.abs(d - share * s), self._uncertain[columns]
            if name == "velocity":
                left, uncertain = (np.hypot(each[..., ::2], each[..., 1::2]) for each in (left, uncertain))
            rest[name] = Rest(*(float((each + uncertain).max()) for each in (left[-1], left.mean(axis=0), left)))
        return rest

    def uncertain(self):
        """What is not known of the integrals, as `unseen` has it: no number of steps can be better."""
        sizes = {name: float(self._uncertain[columns].max()) for name, columns, _ in self.parts}
        return {name: Rest(size, size, size) for name, size in sizes.items()}

    @cached_property
    def velocity_is_steady(self):
        """Whether a callable velocity has one value at all times, at the points that are read."""
        return any(name == "velocity" and not np.ptp(self.values[:, c], axis=0).any() for name, c, _ in self.parts)

    def largest(self, name):
        """Largest integral of a callable over time, at the points; 0 if there is none."""
        return max((float(self.integrals[-1, c].max()) for each, c, _ in self.parts if each == name), default=0.0)

    def remedy(self):
        """What to do about coefficients that steps do not resolve."""
        names = " and ".join(name for name, *_ in self.parts)
        return (
            f"the {names} jumps or varies fast in time, near t={self._sharpest():.3g}: give layers (n_t, 2, n, n) that "
            "end there, a smoother callable, or choose a larger stderr"
        )

    def _sharpest(self):
        rises = np.abs(np.diff(self.values, axis=0)) / np.maximum(np.ptp(self.values, axis=0), np.finfo(float).tiny)
        k = int(np.argmax(rises.max(axis=1) / np.diff(self.t)))
        return float(self.t[k])


def _scalar_reader(problem, name, points):
    at = problem.potential_at if name == "potential" else problem.source_at
    return (lambda t: at(points, t)) if problem.scalar_varies(name) else None


def _beside(t, values):
    """Area of each interval that may lie beside a straight line: (n_times - 1, width)."""
    width = np.diff(t)[:, None]
    rise = np.diff(values, axis=0)
    bend = np.abs(np.diff(rise / width, axis=0))
    zero = np.zeros((1, values.shape[1]))
    bend = np.maximum(np.concatenate([zero, bend]), np.concatenate([bend, zero]))
    return np.minimum(np.abs(rise) * width / 2, bend * width**2 / 8)


def _interpolated(times, t, values):
    k = np.clip(np.searchsorted(t, times, side="right") - 1, 0, len(t) - 2)
    share = ((times - t[k]) / (t[k + 1] - t[k]))[:, None]
    return (1 - share) * values[k] + share * values[k + 1]


def _mean_at(means, near, t):
    """Times and weights of the mean that stands for the value at t; None if the value does."""
    k = int(np.searchsorted(means.t, t - near))
    return means.of[k] if k < len(means.t) and means.t[k] <= t + near else None
