"""Quadrature in time by the nodes of steps, and means that take the place of values where a callable jumps.

A value at a node becomes an integral of the callable times a hat around the node. The hats of a step add up to 1, so
that the step moves by the exact integral, and one that holds a jump costs an error of second order, as any other.
"""

from typing import NamedTuple

import numpy as np

# Weights of the values at the beginning, in the middle and at the end of a step, and what of a defect is left by steps
# half as long.
_RULES = {"left": (1.0, 0.0, 0.0), "trapezoid": (0.5, 0.0, 0.5), "simpson": (1 / 6, 2 / 3, 1 / 6)}
_FALLS = {"left": 1 / 2, "trapezoid": 1 / 4, "simpson": 1 / 16}
# A step is irregular where halving it changes the defect by so much of the whole variation otherwise than this.
_IRREGULAR = 0.02
# Hats over a step: the places of their corners, and their heights.
_HATS = {
    "left": (([0, 1], [1, 1]), None, None),
    "trapezoid": (([0, 1], [1, 0]), None, ([0, 1], [0, 1])),
    "simpson": (([0, 1 / 3], [1, 0]), ([0, 1 / 3, 2 / 3, 1], [0, 1, 1, 0]), ([2 / 3, 1], [0, 1])),
}
# Parts into which a step is cut at least, and the most steps that are examined.
_PARTS, _MOST = 8, 2**13


class Means(NamedTuple):
    """Nodes `t` whose values are replaced, and `of` them the times and weights of the mean."""

    t: np.ndarray
    of: list


class Quadrature(NamedTuple):
    """Integrals over the steps as a rule has them, (n_steps, width), and the means that it takes, or None."""

    sums: np.ndarray
    means: Means | None


def step_quadrature(ends, read, known, jumps, rule, *, with_means=True):
    """The quadrature of steps between `ends` (n_steps + 1,) of a callable with values read(times) (n_times, width).

    `known`: increasing times between which the callable is on a straight line; `jumps` (n_jumps, 2): times before and
    after its jumps.
    """
    a, b, c = _RULES[rule]
    dt = np.diff(ends)[:, None]
    middles = (ends[:-1] + ends[1:]) / 2
    at_ends, at_middles = read(ends), read(middles)
    sums = dt * (a * at_ends[:-1] + b * at_middles + c * at_ends[1:])
    if not with_means or len(dt) > _MOST:
        return Quadrature(sums, None)
    first, last = ((ends[:-1] + middles) / 2, (middles + ends[1:]) / 2) if b else (middles, middles)
    halves = a * (at_ends[:-1] + at_middles) + b * (read(first) + read(last)) + c * (at_middles + at_ends[1:])
    halves *= dt / 2
    times = np.union1d(known[(known > ends[0]) & (known < ends[-1])], ends)
    values = read(times)
    areas = np.diff(times)[:, None] * (values[1:] + values[:-1]) / 2
    exact = np.add.reduceat(areas, np.searchsorted(times, ends[:-1]), axis=0)
    lost = np.abs(halves - exact - _FALLS[rule] * (sums - exact)).max(axis=1)
    irregular = np.flatnonzero(lost > _IRREGULAR * np.ptp(values, axis=0).max() * dt[:, 0])
    # By accident, halves may show a jump as they show what is smooth.
    at_jumps = np.searchsorted(ends, jumps.ravel(), side="right") - 1
    irregular = np.union1d(irregular, at_jumps[(at_jumps >= 0) & (at_jumps < len(dt))])
    if not irregular.size:
        return Quadrature(sums, None)
    means = _means(ends, known, rule, set(irregular.tolist()))
    nodes = np.searchsorted(means.t, ends), np.searchsorted(means.t, middles)
    for at, where, t in ((at_ends, nodes[0], ends), (at_middles, nodes[1], middles)):
        for k in np.flatnonzero(np.isin(t, means.t)):
            times, weights = means.of[where[k]]
            at[k] = weights @ read(times)
    return Quadrature(dt * (a * at_ends[:-1] + b * at_middles + c * at_ends[1:]), means)


def _means(ends, known, rule, irregular):
    """Means for the nodes of irregular steps; a regular step beside one adds the value itself."""
    parts, shares = {}, _RULES[rule]
    for k in sorted(irregular):
        begin, end = ends[k], ends[k + 1]
        inside = known[np.searchsorted(known, begin, "right") : np.searchsorted(known, end)]
        times = np.unique(np.concatenate([inside, np.linspace(begin, end, _PARTS + 1)]))
        gaps = np.diff(times) / (2 * (end - begin))
        weights = np.append(gaps, 0.0) + np.append(0.0, gaps)
        for hat, share, node in zip(_HATS[rule], shares, (begin, (begin + end) / 2, end), strict=True):
            if hat is not None:
                shape = np.interp((times - begin) / (end - begin), *hat, left=0.0, right=0.0)
                kept = shape * weights > 0
                parts.setdefault(float(node), []).append((times[kept], shape[kept] * weights[kept] / share))
    inner = set(ends[1:-1].tolist()) if rule != "left" else set()
    found = {}
    for node, sides in parts.items():
        # An end shared by two steps is half of either.
        if node in inner and len(sides) == 1:
            sides = [*sides, (np.array([node]), np.array([1.0]))]
        scale = 1 / len(sides)
        found[node] = tuple(np.concatenate(each) for each in zip(*((t, scale * w) for t, w in sides), strict=True))
    t = np.array(sorted(found))
    return Means(t, [found[node] for node in t.tolist()])
