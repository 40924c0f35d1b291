"""One layer of 64 x 64 kernels of 3 x 3 weights, of the two networks of Figures 8 and 9."""

import numpy as np

from figures import _kernels_plot, _runs, fig10
from figures._cli import figure_command, sound_arrays
from figures._runs import Wanted
from figures.tables import label
from nets import sparsity

__all__ = ["choose", "command", "compute", "findings", "plot", "sound"]

SHAPE = (64, 64, 3, 3)
# Of both networks, so that one colour means one number in both figures; what lies outside has the colour of the ends.
QUANTILE = 0.995
WANTED = {"plain": Wanted(("resnet20",)), "ensemble": fig10.ENSEMBLE}
TEXTS = ("layer", "layers", "model", "training", "run", "other_model")
# One letter for each axis.
SHAPES = {
    "weight": "oikl", "scale": "", "layer": "", "layers": "c", "model": "", "training": "", "run": "",
    "n_members": "", "other_model": "",
}  # fmt: skip


def compute(which, *, seed=0, runs, layer=None):
    """Take the weights of one layer of a network.

    Parameters
    ----------
    which : {"plain", "ensemble"}
        ResNet-20, or the first member of the ensemble.
    seed : int, default=0
        Of the choice of the layer.
    runs : Path
        Directory of runs: that of the smallest seed is taken.
    layer : str, optional
        Name of the layer.

    Returns
    -------
    dict of str to ndarray
        `weight` (64, 64, 3, 3), `scale` () of both networks, and names.

    Raises
    ------
    ValueError
        If there are no such runs, or no such layer (raised by helpers).
    """
    chosen = {name: group[0] for name, group in _runs.find(runs, WANTED).items()}
    models = {name: run.load() for name, run in chosen.items()}
    # The first member: a network without an ensemble is its own.
    arrays = {name: sparsity.weights(sparsity.members(model)[0]) for name, model in models.items()}
    layers = [key.removesuffix(".weight") for key, array in arrays["plain"].items() if array.shape == SHAPE]
    layer = choose(layers, seed, layer)
    weights = {name: found[f"{layer}.weight"] for name, found in arrays.items()}
    scale = np.quantile(np.abs(np.stack(list(weights.values()))), QUANTILE)
    run, other = chosen[which], next(run for name, run in chosen.items() if name != which)
    return {
        "weight": weights[which].astype(np.float32), "scale": np.array(float(scale)), "layer": np.array(layer),
        "layers": np.array(layers), "model": np.array(run.model_name), "training": np.array(_runs.describe(run)),
        "run": np.array(run.directory.name), "n_members": np.array(float(len(sparsity.members(models[which])))),
        "other_model": np.array(other.model_name),
    }  # fmt: skip


def choose(layers, seed, layer=None):
    """Choose a layer at random, the same one for the same seed, or the one that is asked for.

    Parameters
    ----------
    layers : list of str
        Names.
    seed : int
        Seed, >= 0.
    layer : str, optional
        Name asked for.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is none of the layers, or seed is negative.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    if layer is None:
        return layers[np.random.default_rng(seed).integers(len(layers))]
    if layer not in layers:
        raise ValueError(f"--layer must be one of {', '.join(layers)}, got {layer}")
    return layer


def findings(data):
    """Return what the JSON file and the title say.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `weight` of shape (64, 64, 3, 3), and the rest.

    Returns
    -------
    dict
    """
    names = {key: str(data[key]) for key in TEXTS if key != "layers"}
    numbers = sparsity.numbers(data["weight"])._asdict()
    return names | {"label": label(names["model"]), "n_members": int(data["n_members"]), "numbers": numbers} | {
        "scale": float(data["scale"]), "quantile": QUANTILE, "layers": data["layers"].tolist(),
    }  # fmt: skip


def plot(data):
    """Draw the layer.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `weight` of shape (64, 64, 3, 3), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _kernels_plot.panels(data, findings(data))


def command(name, doc, argv, compute):
    """Run the command line of a figure, with the option --layer in addition.

    Parameters
    ----------
    name : str
        Of the figure.
    doc : str
        The module's docstring.
    argv : sequence of str or None
        Arguments; those of the process if None.
    compute : callable
        Of the figure; takes `layer` as well.
    """
    figure_command(
        name, doc, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=sound, of_runs=True,
        options={"layer": {"metavar": "NAME", "help": "layer of 64 x 64 x 3 x 3 (default: one drawn by the seed)"}},
    )  # fmt: skip


def sound(data, path):
    """Return the data, if they are such as `compute` returns.

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
        If they are not.
    """

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        return array.dtype.kind == "f" and np.isfinite(array).all() and (key == "weight" or (array > 0).all())

    lengths = dict(zip(SHAPES["weight"], SHAPE, strict=True))
    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or not finite", lengths=lengths)
