"""Errors of the terminal data, estimated by solving again: on fewer modes, and from coarser samples of a callable.

What lies beyond the modes kept does less than what lies between the two numbers of modes, in proportion to its size.
Aliases of half as fine a grid are larger; in the mean alone they may cancel by accident. Both are used where they are
below the bounds of `_fading`.
"""

import functools
import math

import numpy as np

from pde.spectral import _data

# Shares of the modes on which a solution is repeated: the second, where the first is not enough, is near to all of
# them, and the difference small if u converges fast.
_FEWER, _FEW_LESS = 0.7, 0.85
# Least share of the difference that is attributed to what lies beyond the modes kept.
_LEAST_SHARE = 0.5
# Share of it that modes lost on the way give back: they are fewer by half at least than with fewer modes.
_GIVEN_BACK = 0.25
# Below this number of modes that rule is unreliable, and a solution on more of them costs little.
_FEW_MODES = 8
_ROUNDING = 1e-14
# Largest error, in tolerances, for which sampling f on finer grids pays: that at least halves these errors.
_NEARLY = 8


def compared(solve, to_the_end):
    """A march whose errors of f are estimated where their bounds are too large.

    solve(to_the_end, **changes) marches to t = 0, with changed arguments of `March`.
    """
    march = solve(to_the_end)
    # Of a field, two of the comparisons below are one and the same.
    difference = functools.cache(functools.partial(_difference, march, solve))
    if march.is_at_limit and not march.violation and march.tolerance > 0:
        # What such a march loses on the way does not show at the ends of its steps.
        if march.k_max < _FEW_MODES:
            march.given_back = _by_more_modes(march, solve)
        else:
            march.given_back = _GIVEN_BACK * difference(math.floor(_FEW_LESS * march.k_max), False)
    if _of_data(march) > 0.1 * march.tolerance > 0 and not march.violation:
        _compare_modes(march, difference, _FEWER, of_samples=march.data.coarser is not None)
    if not _is_nearly_resolved(march):
        return march
    if march.data.coarser is None:
        _compare_modes(march, difference, _FEW_LESS)
        return march
    data = _data.refined(march.data.scaled(march.exponent), march.problem, march.k_max)
    finer = solve(True, data=data)
    # The samples are others, the modes the same.
    finer.given_back = march.given_back
    difference = functools.partial(_difference, finer, solve)
    _compare_modes(finer, difference, _FEW_LESS)
    finer.alias_error = min(finer.alias_error, difference(finer.k_max, True) + finer.largest_alias)
    return min(march, finer, key=lambda march: march.space_error())


def _of_data(march):
    return march.truncation_error + march.alias_error + march.given_back


def _is_nearly_resolved(march):
    """Whether a better estimate, or finer samples of f, may be all that is missing."""
    error = march.space_error()
    near = march.tolerance < error < _NEARLY * march.tolerance and error - _of_data(march) < march.tolerance
    return near and not march.violation


def _compare_modes(march, difference, share, of_samples=False):
    """Compare with a share of the modes and, with `of_samples`, with coarser samples of f."""
    k_max = math.floor(share * march.k_max)
    found = difference(k_max, of_samples)
    if k_max < march.k_max:
        march.truncation_error = min(march.truncation_error, _share_beyond(march, k_max) * found)
    if of_samples:
        march.alias_error = min(march.alias_error, found + march.largest_alias)


def _difference(march, solve, k_max, of_samples):
    """Twice the difference from the solution on the modes |k_i| <= k_max, of coarser samples with `of_samples`."""
    other = solve(True, k_max=k_max, data=_kept(march, of_samples)) if k_max else None
    if other is None or other.violation:
        return math.inf
    grids = (part.modes.to_grid(part.state, march.n) for part in (march, other))
    # Where nothing lies between the two numbers of modes the difference is rounding, and so is what it is divided by.
    return 2 * float(np.abs(next(grids) - next(grids)).max()) + _ROUNDING * march.sup_f


def _by_more_modes(march, solve):
    """1.5 times the difference from the solution on more than twice as many modes, of f as well."""
    k_max, n, known = 2 * march.k_max + 2, 4 * march.n, march.data.c
    c, r = np.zeros((2 * k_max + 1, k_max + 1), dtype=complex), min(k_max, known.shape[1] - 1)
    _data.low_modes(c, r)[:] = _data.low_modes(known, r)
    data = _data.Data(c, None, 0.0, march.data.values).scaled(march.exponent)
    other = solve(True, n=n, k_max=k_max, save_at=(), data=data)
    if other.violation:
        return math.inf
    u, v = march.modes.to_grid(march.state, march.n), other.modes.to_grid(other.state, n)[::4, ::4]
    return 1.5 * float(np.abs(u - v).max())


def _kept(march, coarser):
    """The modes kept of the terminal data; coarser: those of half as fine a grid."""
    c = march.data.coarser if coarser else _data.low_modes(march.data.c, march.k_max)
    return _data.Data(c, None, 0.0, march.data.values).scaled(march.exponent)


def _share_beyond(march, k_max):
    """What f and the first residual have beyond the modes kept, relative to what is kept beyond k_max."""
    ratio, end = _LEAST_SHARE, march.k_max + 1
    for spectrum in march.spectra:
        between, beyond = float(spectrum[k_max + 1 : end].sum()), float(spectrum[end:].sum())
        if beyond > 0:
            ratio = max(ratio, beyond / between if between > _ROUNDING * beyond else math.inf)
    return ratio
