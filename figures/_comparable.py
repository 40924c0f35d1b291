"""Which trained models a figure can show beside each other: as many as there are, of one data set, equally long."""

import contextlib
from itertools import combinations

from figures import _runs
from figures._runs import Wanted

__all__ = ["comparable"]


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
    for n in range(len(known), 1, -1):
        for names in combinations(known, n):
            # Not of one data set or one number of epochs: then fewer of them.
            with contextlib.suppress(ValueError):
                return _runs.find(root, {name: Wanted((name,)) for name in names})
    return _runs.find(root, {name: Wanted((name,)) for name in (known or models)[:1]})
