"""Weights of trained networks as arrays: which networks, histograms of Figures 7 and 10, and means over the seeds."""

import numpy as np

from figures import _runs
from figures._cli import sound_arrays
from figures.tables import label
from nets import sparsity
from nets.evaluation import interval

__all__ = ["NETWORKS", "findings", "histograms", "means", "names", "sound"]

# Section 7: weights with |w| <= 0.3 are drawn. The other reach shows the threshold, bins of half of it.
REACH, N_BINS = 0.3, 120
NEAR, N_NEAR = 0.01, 40
TEXTS = ("network", "model", "training", "run", "run_network")
# One letter for each axis; arrays with a letter in common have that length in common.
NETWORKS = {"network": "g", "model": "g", "training": "g", "n_members": "g", "run": "r", "run_network": "r"}
SHAPES = NETWORKS | {
    "n_weights": "r", "below": "r", "outside": "r", "reach": "", "near": "", "density": "gb", "near_density": "gz",
}  # fmt: skip


def names(networks):
    """Say which networks were looked at.

    Parameters
    ----------
    networks : dict of str to list of TrainedRun
        By the names of the figure.

    Returns
    -------
    dict of str to ndarray
        Of the shapes in NETWORKS.
    """
    runs = [(name, run) for name, group in networks.items() for run in group]
    firsts = [group[0] for group in networks.values()]
    return {
        "network": np.array(list(networks)),
        "model": np.array([run.model_name for run in firsts]),
        "training": np.array([_runs.describe(run) for run in firsts]),
        "n_members": np.array([float(len(sparsity.members(run.load()))) for run in firsts]),
        "run": np.array([run.directory.name for _, run in runs]),
        "run_network": np.array([name for name, _ in runs]),
    }


def histograms(networks):
    """Count the weights of all members: densities, means over the seeds.

    Parameters
    ----------
    networks : dict of str to list of TrainedRun
        By the names of the figure.

    Returns
    -------
    dict of str to ndarray
        `density` (g, b) on [-reach, reach] and `near_density` (g, z) on [-near, near], both of all weights, those
        outside included; of each run (r,) the fractions `below` and `outside`.
    """
    density, near, runs = [], [], []
    for group in networks.values():
        histogram = []
        for run in group:
            model = run.load()
            values = np.concatenate([array.ravel() for array in sparsity.weights(model).values()])
            histogram.append((_density(values, REACH, N_BINS), _density(values, NEAR, N_NEAR)))
            size = np.abs(values)
            runs.append((values.size, np.mean(size < sparsity.THRESHOLD), np.mean(size > REACH)))
        density.append(np.mean([wide for wide, _ in histogram], axis=0))
        near.append(np.mean([narrow for _, narrow in histogram], axis=0))
    n_weights, below, outside = np.array(runs, dtype=float).T
    return names(networks) | {
        "n_weights": n_weights, "below": below, "outside": outside, "reach": np.array(REACH), "near": np.array(NEAR),
        "density": np.array(density), "near_density": np.array(near),
    }  # fmt: skip


def _density(values, reach, n_bins):
    counts, edges = np.histogram(values, n_bins, (-reach, reach))
    return counts / (values.size * np.diff(edges))


def means(data, key):
    """Average over the runs of each network.

    Parameters
    ----------
    data : dict of str to ndarray
        `network` (g,), `run_network` (r,), and `key` (r,).
    key : str
        What.

    Returns
    -------
    dict of str to Interval
    """
    return {name: interval(data[key][data["run_network"] == name]) for name in data["network"].tolist()}


def findings(data):
    """Return what the JSON file and the legends say.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `histograms`: `below` (r,), and the rest.

    Returns
    -------
    dict
    """
    below, outside = means(data, "below"), means(data, "outside")
    answer = {}
    for row, name in enumerate(data["network"].tolist()):
        model, mine = str(data["model"][row]), data["run_network"] == name
        answer[name] = {
            "model": model,
            "label": label(model),
            "training": str(data["training"][row]),
            "n_members": int(data["n_members"][row]),
            "runs": data["run"][mine].tolist(),
            "n_weights": int(data["n_weights"][mine][0]),
            "below_0.001": below[name]._asdict(),
            "paper_below_0.001": sparsity.PUBLISHED.get(name) if model == "resnet20" else None,
            "outside_0.3": outside[name].mean,
        }
    return {"networks": answer}


def sound(data, path):
    """Return the data, if they are such as `histograms` returns.

    Parameters
    ----------
    data : dict of str to ndarray
        Of the shapes in SHAPES.
    path : Path
        Where they come from.

    Returns
    -------
    dict of str to ndarray
        The same, of the shapes in SHAPES.

    Raises
    ------
    ValueError
        If they are not (raised by a helper).
    """

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        return array.dtype.kind == "f" and np.isfinite(array).all() and (array >= 0).all()

    lengths = {"g": 2, "b": N_BINS, "z": N_NEAR}
    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or negative", lengths=lengths)
