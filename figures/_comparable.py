"""Which trained networks a figure can show beside each other: as many as there are, of one data set, equally long."""

import contextlib
from itertools import combinations

from figures import _runs
from figures._runs import Wanted

__all__ = ["comparable", "most_of"]


def most_of(root, required, optional):
    """Find runs that can be compared: those required, and as many of the others as there are.

    Parameters
    ----------
    root : Path
        Directory of runs.
    required, optional : dict of str to Wanted
        By any name.

    Returns
    -------
    dict of str to list of TrainedRun
        As `figures._runs.find` gives it: those required, then the others.

    Raises
    ------
    ValueError
        If those required are not there (raised by a helper), or a run is damaged.
    """
    for n in range(len(optional), 0, -1):
        for chosen in combinations(optional, n):
            # No group has them all. A damaged run fails the last call as well, and is reported there.
            with contextlib.suppress(ValueError):
                return _runs.find(root, required | {name: optional[name] for name in chosen})
    return _runs.find(root, required)


def comparable(root, models):
    """Find the adversarially trained runs of as many models as can be compared.

    Parameters
    ----------
    root : Path
        Directory of runs.
    models : sequence of str
        As `nets.build` names them, in the order of the figure.

    Returns
    -------
    dict of str to list of TrainedRun
        The runs of each model in the order of their seeds; of equally many models those named first.

    Raises
    ------
    ValueError
        If there is no run of any (raised by a helper), or one is damaged.
    """
    present = {run.model_name for run in _runs.list_runs(root) if not run.is_natural}
    known = [model for model in models if model in present]
    if not known:
        return _runs.find(root, {name: Wanted((name,)) for name in models[:1]})
    return most_of(root, {}, {name: Wanted((name,)) for name in known})
