"""Section 7 in numbers: how sparse and how smooth trained weights are, with intervals over seeds, beside the paper's.

Fractions of |w| < 1e-3: in the paper 8.66 % of a ResNet-20's weights after natural training and 3.64 % after
adversarial training. Beside them what weights would give that were normal with each layer's rms, and numbers that do
not depend on the scale of the weights, which batch normalisation leaves without a meaning; nets/sparsity.py says why,
and nets/smoothness.py what the smoothness is: 1 for independent weights, 0 for constant kernels.

The adversarially trained ResNet-20, and of the naturally trained one, En1, En2 and En5 those of which there are runs on
the same images, equally long. Bars are intervals of 95 % of Student's distribution: of two seeds 12.7 standard errors.

Writes sparsity.png, sparsity.npz (the arrays) and sparsity.json (arguments, versions, seconds, numbers) to --out, and
prints a Markdown table. Seconds; --quick trains tiny networks on digits first.
"""

import math
from pathlib import Path

import numpy as np

from figures import _sparsity_plot, _weights
from figures._cli import figure_command, sound_arrays
from figures._comparable import most_of
from figures._runs import Wanted
from figures.tables import label
from nets import sparsity

__all__ = ["compute", "findings", "main", "plot", "table"]

REQUIRED = {"adversarial": Wanted(("resnet20",))}
OPTIONAL = {
    "natural": Wanted(("resnet20",), natural=True),
    "en1": Wanted(("en1_resnet20",)),
    "en2": Wanted(("en2_resnet20",)),
    "en5": Wanted(("en5_resnet20",)),
}
ORDER = ("natural", "adversarial", "en1", "en2", "en5")
TOTALS = ("rms", "below", "gaussian", "relative", "kurtosis", "hoyer", "smoothness", "picture")
PROFILES = ("below", "gaussian", "relative", "smoothness")
TEXTS = ("network", "model", "training", "run", "run_network", "layer")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = _weights.NETWORKS | {"layer": "l", "n": "r", "all_n": "r", "all_below": "r"}
SHAPES |= dict.fromkeys(TOTALS, "r") | {f"layer_{key}": "rl" for key in PROFILES}


def compute(*, quick=False, seed=0, runs=Path("runs"), data=None):
    """Measure the weights of all members of all networks.

    Parameters
    ----------
    quick, seed, data : optional
        Of every figure of runs; weights depend on none of them.
    runs : Path
        Directory of runs.

    Returns
    -------
    dict of str to ndarray
        Of each run (r,) the fields of `nets.sparsity.Numbers`, and `all_below`, which counts batch normalisation and
        biases as well; `layer_below` (r, l) and others of each layer, the mean over members. NaN: no smoothness.

    Raises
    ------
    ValueError
        If there is no adversarially trained ResNet-20 (raised by a helper).
    """
    found = most_of(runs, REQUIRED, OPTIONAL)
    networks = {name: found[name] for name in ORDER if name in found}
    totals, everything, profiles = [], [], []
    for group in networks.values():
        for run in group:
            model = run.load()
            totals.append(sparsity.measure(model).total)
            everything.append(sparsity.measure(model, parameters="all").total)
            profiles.append([sparsity.measure(member).layers for member in sparsity.members(model)])
    layers = list(profiles[0][0])
    answer = _weights.names(networks) | {"layer": np.array([name.removesuffix(".weight") for name in layers])}
    answer |= {key: np.array([float(getattr(total, key)) for total in totals]) for key in ("n", *TOTALS)}
    answer |= {f"all_{key}": np.array([float(getattr(total, key)) for total in everything]) for key in ("n", "below")}
    for key in PROFILES:
        rows = [np.mean([_row(member, layers, key) for member in profile], axis=0) for profile in profiles]
        answer[f"layer_{key}"] = np.array(rows)
    return answer


def _row(measured, layers, key):
    values = [getattr(measured[name], key) for name in layers]
    return [math.nan if value is None else value for value in values]


def findings(data):
    """Return the means over the seeds, their intervals, and the differences from the adversarially trained ResNet-20.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `below` (r,), and the rest.

    Returns
    -------
    dict
        Fractions, not per cent; "stderr" and the ends "low" and "high" of the interval None of a single seed.
    """
    means = {key: _weights.means(data, key) for key in (*TOTALS, "all_below", "all_n", "n")}
    answer = {}
    for row, name in enumerate(data["network"].tolist()):
        mine = data["run_network"] == name
        answer[name] = {
            "label": label(str(data["model"][row])),
            "training": str(data["training"][row]),
            "n_members": int(data["n_members"][row]),
            "runs": data["run"][mine].tolist(),
            "n_weights": int(means["n"][name].mean),
            "n_parameters": int(means["all_n"][name].mean),
            "paper_below": sparsity.PUBLISHED.get(name),
            **{key: means[key][name]._asdict() for key in (*TOTALS, "all_below")},
            "difference": {key: _difference(means[key], name) for key in TOTALS},
            "layers": {key: _profile(data[f"layer_{key}"][mine]) for key in PROFILES},
        }
    normal = {
        "relative": math.erf(sparsity.RELATIVE / math.sqrt(2)), "kurtosis": 3.0, "hoyer": 1 - math.sqrt(2 / math.pi)
    }  # fmt: skip
    shared = {"threshold": sparsity.THRESHOLD, "relative": sparsity.RELATIVE, "level": 0.95, "normal": normal}
    return {"networks": answer, "layer": data["layer"].tolist()} | shared


def _difference(means, name):
    """Mean of this network less that of the adversarially trained ResNet-20, seeds of both independent."""
    ours, other = means[name], means["adversarial"]
    if name == "adversarial":
        return None
    known = None not in (ours.stderr, other.stderr)
    return {"mean": ours.mean - other.mean, "stderr": math.hypot(ours.stderr, other.stderr) if known else None}


def _profile(rows):
    """Means over the seeds, None where a layer has no such number."""
    return [None if math.isnan(value) else value for value in rows.mean(axis=0).tolist()]


def table(found):
    """Write the numbers as a Markdown table.

    Parameters
    ----------
    found : dict
        As from `findings`.

    Returns
    -------
    str
    """
    normal, networks = found["normal"], found["networks"]
    heads = (
        "network", "n", "below 1e-3, %", "95 %", "paper, %", "normal, same rms, %",
        f"below 0.1 rms, % ({100 * normal['relative']:.2f})", f"kurtosis ({normal['kurtosis']:g})",
        f"Hoyer ({normal['hoyer']:.3f})", "smoothness (1)", "of the picture (1)",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, one in networks.items():
        below = one["below"]
        ends = "–" if below["low"] is None else f"{100 * below['low']:.2f} to {100 * below['high']:.2f}"
        paper = "–" if one["paper_below"] is None else f"{100 * one['paper_below']:.2f}"
        cells = (
            one["label"] + (", natural" if name == "natural" else ""), str(below["n"]), _number(below, 2, 100), ends,
            paper, _number(one["gaussian"], 2, 100), _number(one["relative"], 2, 100), _number(one["kurtosis"], 2),
            _number(one["hoyer"], 4), _number(one["smoothness"], 3), _number(one["picture"], 3),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    first = networks["adversarial"]
    share = first["n_parameters"] - first["n_weights"]
    lines += [
        "",
        "± standard error over n seeds; in brackets what independent normal weights have. "
        f"{'; '.join(dict.fromkeys(one['training'] for one in networks.values()))}.",
        f"With batch normalisation and biases, {share} parameters more, {first['label']}: "
        f"{_number(first['all_below'], 2, 100)} % below 1e-3.",
    ]
    absent = [name for name in ORDER if name not in networks]
    if absent:
        lines.append(f"No run on the same images, equally long: {', '.join(absent)}.")
    return "\n".join(lines)


def _number(value, digits, factor=1):
    error = "" if value["stderr"] is None else f" ± {factor * value['stderr']:.{digits}f}"
    return f"{factor * value['mean']:.{digits}f}{error}"


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    drawn = {}

    def draw(data):
        drawn.update(data)
        return plot(data)

    figure_command(
        "sparsity", __doc__, argv, compute=compute, plot=draw, findings=findings, shapes=SHAPES, sound=_sound,
        of_runs=True,
    )  # fmt: skip
    print(f"\n{table(findings(drawn))}")


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        # Layers of kernels of one weight have no smoothness.
        known = array[~np.isnan(array)] if key == "layer_smoothness" and array.dtype.kind == "f" else array
        return array.dtype.kind == "f" and np.isfinite(known).all() and (known >= 0).all()

    sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or negative")
    if "adversarial" not in data["network"]:
        raise ValueError(f"{path} is damaged (network: no adversarial one): run without --replot")
    return data


def plot(data):
    """Draw the four panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `below` (r,), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _sparsity_plot.panels(data, findings(data))


if __name__ == "__main__":
    main()
