"""Figure 5: training and validation accuracy over the epochs, of a ResNet and of its noisy ensembles.

    accuracy(epoch) = fraction of the images that are classified correctly

Each model has a colour and a marker; thin lines are its seeds, thick lines their mean; broken lines are training, full
lines validation, on natural images (left) and on adversarial images (right). The data are from the metrics.csv of the
runs. Training accuracy is measured while the weights change, on cropped and reflected training images, here adversarial
images from the attack of the training. Validation accuracy is measured at the end of the epoch on held-out images,
natural and under PGD with the number of steps given in the picture. The two attacks need not be equally strong.

All adversarially trained models with the same data set and number of epochs are shown, with a row of panels for each
kind of ResNet, as in the paper's (a) and (b). A second, with --quick or without.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures import _runs
from figures._cli import make_main
from figures._runs import comparable
from figures._style import label, letter, network
from nets.evaluation import interval
from nets.proportions import binomial_stderr

__all__ = ["compute", "findings", "main", "plot"]

BASES = ("resnet20", "resnet44", "resnet110", "wrn34_10")
# In drawing order: a ResNet and its ensembles.
MODELS = tuple(f"{members}{base}" for base in BASES for members in ("", "en1_", "en2_", "en5_"))
CURVES = ("training", "validation", "adversarial")
COLUMNS = {"training": "accuracy", "validation": "validation", "adversarial": "validation_adversarial"}
TRAINING, VALIDATION = (0, (4, 2)), "-"
# With more epochs than this, markers would overlap.
N_MARKED = 30


def compute(*, quick=False, seed=0, runs=None, data=None):
    """`training`, `validation` and `adversarial` (r, e): accuracies after each epoch; NaN where there is none."""
    groups = comparable(runs, MODELS)
    chosen = [(name, run) for name, group in groups.items() for run in group]
    firsts = [group[0] for group in groups.values()]
    plan, source = firsts[0].config["recipe"], firsts[0].config["data"]
    held_out = source["n_test"] if plan["select_on"] == "test" else round(plan["validation"] * source["n_train"])
    n_validation = min(plan["n_validation"] or held_out, held_out)
    epochs = [[row["epoch"] for row in run.history] for _, run in chosen]
    longest = max(epochs, key=len)
    # A training that was cut has the first of them.
    if any(longest[: len(mine)] != mine for mine in epochs):
        raise ValueError(f"the epochs in the metrics.csv of {runs} differ: remove the runs whose epochs are others")
    arrays = {
        "model": np.array(list(groups)),
        "how": np.array([_runs.describe(*group) for group in groups.values()]),
        "run": np.array([run.name for _, run in chosen]),
        "run_model": np.array([name for name, _ in chosen]),
        "seed": np.array([float(run.config["seed"]) for _, run in chosen]),
        "epoch": np.array(longest),
        "n_validation": np.array(float(n_validation)),
        # sqrt(p (1 - p) / n), greatest at p = 1/2.
        "largest_stderr": np.array(0.5 / np.sqrt(n_validation)),
        "attack": np.array(f"PGD-{plan['validation_n_iter']}, ε = {_radius(plan['eps'])}"),
    }
    return arrays | {key: np.array([_column(run, COLUMNS[key], len(longest)) for _, run in chosen]) for key in CURVES}


def _radius(eps):
    levels = 255 * eps
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-9 else f"{eps:g}"


def _column(run, name, n_epochs):
    values = [row.get(name) for row in run.history]
    if name != "validation_adversarial" and None in values:
        raise ValueError(f"{run.directory}/metrics.csv lacks a number under {name}: remove the run")
    values += [None] * (n_epochs - len(values))
    return [np.nan if value is None else value for value in values]


def findings(data):
    """Return the findings for the JSON file."""
    models = {}
    for name, how in zip(data["model"].tolist(), data["how"].tolist(), strict=True):
        mine = data["run_model"] == name
        last = {key: np.array([_last(one) for one in data[key][mine]]) for key in CURVES}
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


def _last(values):
    made = values[np.isfinite(values)]
    return made[-1] if len(made) else np.nan


def plot(data):
    """Draw a row of panels for each kind of ResNet: natural images, adversarial images."""
    families = {}
    for model in data["model"].tolist():
        families.setdefault(model.partition("_")[2] if model.startswith("en") else model, []).append(model)
    figure = Figure(figsize=(10.0, 0.9 + 3.9 * len(families)), layout="constrained")
    grid = figure.subplots(len(families), 2, sharex=True, sharey=True, squeeze=False)
    for number, (row, (base, models)) in enumerate(zip(grid, families.items(), strict=True)):
        natural, adversarial = row
        natural.set_title(f"{letter(2 * number)} {label(base)} and its ensembles, natural images")
        adversarial.set_title(f"{letter(2 * number + 1)} adversarial images")
        for model in models:
            mine = data["run_model"] == model
            _curves(natural, data["epoch"], data["validation"][mine], model, VALIDATION)
            _curves(adversarial, data["epoch"], data["training"][mine], model, TRAINING)
            _curves(adversarial, data["epoch"], data["adversarial"][mine], model, VALIDATION)
            for axes, key in ((natural, "validation"), (adversarial, "adversarial")):
                _band(axes, data["epoch"], data[key][mine], model, float(data["n_validation"]))
        natural.legend(handles=[_handle(data, model) for model in models], loc="lower right")
        adversarial.legend(handles=_kinds(), loc="lower right")
        natural.set_ylabel("accuracy (fraction of images)")
        for axes in row:
            axes.grid(alpha=0.3, lw=0.6)
            axes.tick_params(labelbottom=True)
            axes.set_ylim(bottom=0)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    images = (
        f"validation on {int(data['n_validation'])} images held out; shaded: ± one standard error of an accuracy, "
        f"≤ {data['largest_stderr']:.3f}"
    )
    trainings = _runs.in_one(data["how"].tolist())
    figure.suptitle("\n".join([*trainings, f"{images}; adversarial: {data['attack']}"]), fontsize=10)
    return figure


def _curves(axes, epoch, accuracy, model, dashes):
    """The seeds thin, their mean thick, and a band of the standard error of the images about a validation."""
    style, mean = network(model), np.mean(accuracy, axis=0)
    if len(accuracy) > 1:
        for one in accuracy:
            axes.plot(epoch, one, color=style.colour, ls=dashes, lw=0.7, alpha=0.55)
    marker = style.marker if len(epoch) <= N_MARKED else None
    axes.plot(epoch, mean, color=style.colour, ls=dashes, lw=2.0, marker=marker, ms=4)


def _band(axes, epoch, accuracy, model, n_images):
    mean = np.mean(accuracy, axis=0)
    stderr = np.array([binomial_stderr(p, n_images) for p in mean])
    axes.fill_between(epoch, mean - stderr, mean + stderr, color=network(model).colour, alpha=0.15, lw=0)


def _handle(data, model):
    style, n = network(model), int((data["run_model"] == model).sum())
    text = f"{style.label} ({n} seed{'s' * (n > 1)})"
    return Line2D([], [], color=style.colour, marker=style.marker, lw=2.0, ms=4, label=text)


def _kinds():
    """One entry per kind of line."""
    grey = {"color": "#555555", "lw": 1.8}
    return [
        Line2D([], [], ls=TRAINING, label="training, during the epoch", **grey),
        Line2D([], [], ls=VALIDATION, label="validation, after the epoch", **grey),
    ]


main = make_main("fig5", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True)


if __name__ == "__main__":
    main()
