"""Figure 5: training and validation accuracy over the epochs, of a ResNet and of its noisy ensembles.

    accuracy(epoch) = share of the images that are answered right

One colour and marker a model, thin lines its seeds, thick lines their mean; broken lines training, full lines
validation, on natural images (left) and on adversarial ones (right). Read from the metrics.csv of the runs: training
accuracy is counted while the weights move, on the cropped and reflected images that are trained on, here adversarial
ones, by the attack of the training; validation accuracy at the end of the epoch, on images held out, natural, and under
PGD of the steps that the picture names. The two attacks need not be equally strong.

All adversarially trained models that can be compared are shown, of one data set and one number of epochs; a row of
panels for each kind of ResNet, as the paper's (a) and (b). Writes fig5.png, fig5.npz (the arrays) and fig5.json
(arguments, versions, seconds, accuracies) to --out. A second; --quick trains tiny networks on digits first.
"""

from pathlib import Path

import numpy as np

from figures import _fig5_plot, _runs
from figures._cli import figure_command, sound_arrays
from figures._comparable import comparable
from nets.evaluation import interval

__all__ = ["compute", "findings", "main", "plot"]

BASES = ("resnet20", "resnet44", "resnet110", "wrn34_10")
# In the order in which they are drawn: a ResNet and its ensembles.
MODELS = tuple(f"{members}{base}" for base in BASES for members in ("", "en1_", "en2_", "en5_"))
CURVES = ("training", "validation", "adversarial")
COLUMNS = {"training": "accuracy", "validation": "validation", "adversarial": "validation_adversarial"}
TEXTS = ("model", "how", "run", "run_model", "attack")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "model": "m", "how": "m", "run": "r", "run_model": "r", "seed": "r", "epoch": "e", "training": "re",
    "validation": "re", "adversarial": "re", "n_validation": "", "largest_stderr": "", "attack": "",
}  # fmt: skip


def compute(*, quick=False, seed=0, runs=Path("runs"), data=None):
    """Read the logs.

    Parameters
    ----------
    quick, seed, data : optional
        Of every figure of runs; logs depend on none of them.
    runs : Path
        Directory of runs.

    Returns
    -------
    dict of str to ndarray
        `training`, `validation` and `adversarial` (r, e): accuracies of the runs after each of the epochs, NaN where
        none was measured; `model` (m,), how they were trained (`how`), and of the runs `run_model` (r,).

    Raises
    ------
    ValueError
        If there are no runs, or a metrics.csv lacks a number.
    """
    groups = comparable(runs, MODELS)
    chosen = [(name, run) for name, group in groups.items() for run in group]
    firsts = [group[0] for group in groups.values()]
    plan, source = firsts[0].config["recipe"], firsts[0].config["data"]
    held_out = source["n_test"] if plan["select_on"] == "test" else round(plan["validation"] * source["n_train"])
    n_validation = min(plan["n_validation"] or held_out, held_out)
    epochs = {tuple(row["epoch"] for row in run.history) for _, run in chosen}
    if len(epochs) > 1:
        raise ValueError(f"the epochs in the metrics.csv of {runs} differ: remove the runs that were cut")
    answer = {
        "model": np.array(list(groups)),
        "how": np.array([_runs.describe(run) for run in firsts]),
        "run": np.array([run.directory.name for _, run in chosen]),
        "run_model": np.array([name for name, _ in chosen]),
        "seed": np.array([float(run.config["seed"]) for _, run in chosen]),
        "epoch": np.array(epochs.pop()),
        "n_validation": np.array(float(n_validation)),
        # sqrt(p (1 - p) / n), greatest at p = 1/2.
        "largest_stderr": np.array(0.5 / np.sqrt(n_validation)),
        "attack": np.array(f"PGD-{plan['validation_n_iter']}, ε = {_radius(plan['eps'])}"),
    }
    return answer | {key: np.array([_column(run, COLUMNS[key]) for _, run in chosen]) for key in CURVES}


def _radius(eps):
    levels = 255 * eps
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-9 else f"{eps:g}"


def _column(run, name):
    values = [row.get(name) for row in run.history]
    if name != "validation_adversarial" and None in values:
        raise ValueError(f"{run.directory}/metrics.csv lacks a number under {name}: remove the run")
    return [np.nan if value is None else value for value in values]


def findings(data):
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `training` of shape (r, e), and the rest.

    Returns
    -------
    dict
        Of each model the accuracies of the last epoch and how far training is above adversarial validation, means over
        the seeds with their intervals.
    """
    models = {}
    for name, how in zip(data["model"].tolist(), data["how"].tolist(), strict=True):
        mine = data["run_model"] == name
        last = {key: data[key][mine, -1] for key in CURVES}
        last["training_less_adversarial"] = last["training"] - last["adversarial"]
        models[name] = {
            "training": how,
            "runs": data["run"][mine].tolist(),
            "last_epoch": {
                key: interval(values)._asdict() for key, values in last.items() if np.isfinite(values).all()
            },
        }
    return {
        "epochs": len(data["epoch"]),
        "n_validation": int(data["n_validation"]),
        "largest_stderr_of_a_validation": float(data["largest_stderr"]),
        "attack": str(data["attack"]),
        "models": models,
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig5", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound, of_runs=True
    )


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        if array.dtype.kind != "f":
            return False
        if key not in CURVES:
            return np.isfinite(array).all()
        within = (array >= 0) & (array <= 1)
        return (within | np.isnan(array) if key == "adversarial" else within).all()

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or out of range")


def plot(data):
    """Draw the panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `training` of shape (r, e), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig5_plot.panels(data)


if __name__ == "__main__":
    main()
