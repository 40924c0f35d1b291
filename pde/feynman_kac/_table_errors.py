"""What the tables of a problem's fields miss of these, where memory does not allow finer ones."""

import warnings

import numpy as np

from pde._histories import irregular_times, points_everywhere, velocity_reader
from pde.equation import admit
from pde.feynman_kac import _arguments
from pde.feynman_kac._spline_tables import LARGEST_OF_A_STEP, VELOCITY_TOLERANCE, largest_of, relative_error
from pde.fields import PeriodicField


def telling_times(problem, at=None):
    """Times without a pattern, and the one of many at which values `at`(points, t) are largest, if it is given."""
    times = [share * problem.horizon for share in (0.0, 0.136, 0.3819, 0.6271, 0.8743)]
    if at is not None:
        points, many = points_everywhere(problem), irregular_times(problem.horizon, 256)
        times.append(float(max(many, key=lambda t: np.abs(at(points, float(t))).max())))
    return times


def fields_of(problem, name, n):
    """A callable "velocity", "potential" or "source" as fields at telling times, on n points per side if of points."""
    if name == "velocity":
        read = velocity_reader(problem)
        at = problem.velocity_at if problem.velocity_is_of_points else lambda _, t: read(t)
        return [problem.velocity_field(t, n) for t in telling_times(problem, at)]
    at = problem.potential_at if name == "potential" else problem.source_at
    return [problem.scalar_field(name, t, n) for t in telling_times(problem, at)]


def table_errors(problem):
    """Return what the tables that paths read miss of the fields of a problem.

    Paths follow bicubic splines, which represent bilinear and bicubic fields exactly, and trigonometric ones to 1e-6
    on up to 4096 points per side; on fewer where the velocity has several layers, and on 1024 where it is a callable
    v(t) that returns fields. A RuntimeWarning names what is missed beyond.

    Parameters
    ----------
    problem : ConvectionDiffusion
        Callables of points are left out: how well samples hold these, `estimate` judges itself.

    Returns
    -------
    dict of str to float
        For each of "velocity", "sigma", "potential", "source" and "terminal" that is a field: the largest difference
        between the centres of the tables' cells and the field, relative to its maximum; between them it is at most
        half as large again.

    Examples
    --------
    >>> import pde
    >>> bool(table_errors(pde.problems.constant_velocity())["terminal"] < 1e-6)
    True
    """
    noiseless, parts = _arguments.is_noiseless(admit(problem)), []
    if problem.n_layers is not None:
        parts.append(("velocity", [problem.layer_field(layer) for layer in range(problem.n_layers)], None))
    elif not problem.velocity_is_of_points:
        parts.append(("velocity", fields_of(problem, "velocity", None), LARGEST_OF_A_STEP))
    for name in ("sigma", "potential", "source", "terminal"):
        value = getattr(problem, name)
        # Without noise there are few end points, at which f itself is evaluated.
        if isinstance(value, PeriodicField) and not (name == "terminal" and noiseless):
            parts.append((name, _one_by_one(value), None))
    return {name: _largest(fields, largest or largest_of(len(fields))) for name, fields, largest in parts}


def _one_by_one(field):
    if field.values.ndim == 2:
        return [field]
    return [PeriodicField(values, field.length, field.interpolation) for values in field.values]


def _largest(fields, largest):
    return max((relative_error(field, VELOCITY_TOLERANCE, largest) for field in fields), default=0.0)


def warn_once(problem):
    """Warn, once for a problem, of fields whose tables are coarser than these need."""
    if problem.__dict__.setdefault("_tables_judged", False):
        return
    problem.__dict__["_tables_judged"] = True
    for name, error in table_errors(problem).items():
        if error > VELOCITY_TOLERANCE:
            warnings.warn(
                f"the {name} has modes that no table of affordable size holds: splines miss {error:.2g} of its "
                "maximum, which no stated error includes; give fewer modes (PeriodicField.band_limited), or the rule "
                "interpolation='bicubic', which splines follow exactly",
                RuntimeWarning,
                stacklevel=4,
            )
