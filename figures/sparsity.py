"""Section 7 in numbers: how sparse and how smooth trained weights are, with intervals over seeds, beside the paper's.

Fractions of |w| < 1e-3: in the paper 8.66 % of a ResNet-20's weights after natural training and 3.64 % after
adversarial training. Beside them are the fractions for normal weights with each layer's rms, and numbers that do not
depend on the scale of the weights, which batch normalisation makes meaningless: see nets/sparsity.py. Smoothness
is the mean squared difference of neighbouring taps over twice their variance: 1 for independent weights, 0 for constant
kernels.

Shown are the adversarially trained ResNet-20, and the naturally trained one, En1, En2 and En5 if there are runs on the
same images with as many epochs. Bars are 95 % intervals of Student's distribution: 12.7 standard errors for two seeds.

Prints a Markdown table. Seconds.
"""

import math

import matplotlib
import numpy as np
import scipy.special
from matplotlib.figure import Figure

from figures import _runs, _weights
from figures._cli import make_main
from figures._runs import Wanted, most_of
from nets import sparsity

__all__ = ["compute", "findings", "main", "plot", "table"]

REQUIRED = {"adversarial": Wanted(("resnet20",))}
OPTIONAL = {
    "natural": Wanted(("resnet20",), natural=True),
    "en1": Wanted(("en1_resnet20",)),
    "en2": Wanted(("en2_resnet20",)),
    "noiseless": Wanted(("en2_resnet20",), noisy=False),
    "en5": Wanted(("en5_resnet20",)),
}
ORDER = ("natural", "adversarial", "noiseless", "en1", "en2", "en5")
TOTALS = ("rms", "below", "gaussian", "relative", "kurtosis", "hoyer", "smoothness", "picture")
PROFILES = ("below", "gaussian", "relative", "smoothness")


def compute(*, quick=False, seed=0, runs=None, data=None):
    """Fields of `nets.sparsity.Numbers` of each run (r,), `layer_*` (r, l) of each layer; NaN where undefined."""
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
    arrays = _weights.names(networks) | {"layer": np.array([name.removesuffix(".weight") for name in layers])}
    arrays |= {key: np.array([float(getattr(total, key)) for total in totals]) for key in ("n", *TOTALS)}
    arrays |= {f"all_{key}": np.array([float(getattr(total, key)) for total in everything]) for key in ("n", "below")}
    for key in PROFILES:
        rows = [np.mean([_row(member, layers, key) for member in profile], axis=0) for profile in profiles]
        arrays[f"layer_{key}"] = np.array(rows)
    return arrays


def _row(measured, layers, key):
    values = [getattr(measured[name], key) for name in layers]
    return [math.nan if value is None else value for value in values]


def findings(data):
    """Return the findings for the JSON file."""
    means = {key: _weights.means(data, key) for key in (*TOTALS, "all_below", "all_n", "n")}
    networks = {}
    for row, name in enumerate(data["network"].tolist()):
        mine = data["run_network"] == name
        networks[name] = {
            "label": _weights.style(data, row).label,
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
    return {"networks": networks, "layer": data["layer"].tolist()} | shared


def _difference(means, name):
    """Mean of this network less that of the adversarially trained ResNet-20, seeds of both independent.

    The interval of 95 % is mean ± reach, of Student's distribution with Welch's degrees of freedom.
    """
    ours, other = means[name], means["adversarial"]
    if name == "adversarial":
        return None
    found = {"mean": ours.mean - other.mean, "stderr": None, "reach": None}
    if None in (ours.stderr, other.stderr):
        return found
    stderr = math.hypot(ours.stderr, other.stderr)
    parts = sum(one.stderr**4 / (one.n - 1) for one in (ours, other))
    # Weights that are all alike have no error, and no degrees of freedom.
    reach = float(scipy.special.stdtrit(stderr**4 / parts, 0.975)) * stderr if parts else 0.0
    return found | {"stderr": stderr, "reach": reach}


def _profile(rows):
    """Means over the seeds, None where a layer has no such number."""
    return [None if math.isnan(value) else value for value in rows.mean(axis=0).tolist()]


def table(found):
    """Write the numbers as a Markdown table."""
    normal, networks = found["normal"], found["networks"]
    heads = (
        "network", "n", "below 1e-3, %", "95 %", "paper, %", "normal, same rms, %",
        f"below 0.1 rms, % ({100 * normal['relative']:.2f})", f"kurtosis ({normal['kurtosis']:g})",
        f"Hoyer ({normal['hoyer']:.3f})", "smoothness (1)", "of the picture (1)",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in networks.values():
        below = one["below"]
        ends = "–" if below["low"] is None else f"{100 * below['low']:.2f} to {100 * below['high']:.2f}"
        paper = "–" if one["paper_below"] is None else f"{100 * one['paper_below']:.2f}"
        cells = (
            one["label"], str(below["n"]), _number(below, 2, 100), ends,
            paper, _number(one["gaussian"], 2, 100), _number(one["relative"], 2, 100), _number(one["kurtosis"], 2),
            _number(one["hoyer"], 4), _number(one["smoothness"], 3), _number(one["picture"], 3),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    first = networks["adversarial"]
    share = first["n_parameters"] - first["n_weights"]
    lines += [
        "",
        "± standard error over n seeds; in brackets what independent normal weights have. "
        f"{'; '.join(_runs.in_one(one['training'] for one in networks.values()))}.",
        f"With batch normalisation and biases, {share} parameters more, {first['label']}: "
        f"{_number(first['all_below'], 2, 100)} % below 1e-3.",
    ]
    absent = [name for name in ORDER if name not in networks]
    if absent:
        lines.append(f"No run on the same images with as many epochs: {', '.join(absent)}.")
    return "\n".join(lines)


def _number(value, digits, factor=1):
    error = "" if value["stderr"] is None else f" ± {factor * value['stderr']:.{digits}f}"
    return f"{factor * value['mean']:.{digits}f}{error}"


def plot(data):
    """Draw four panels: the paper's fraction and one without scale by network; the first, and smoothness, by layer."""
    found = findings(data)
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    below, profile, relative, smooth = figure.subplots(2, 2, width_ratios=(1.1, 1.3)).flat
    trainings = _runs.in_one(one["training"] for one in found["networks"].values())
    bars = "(a), (c): thick bar one standard error, thin bar 95 % (Student) over the seeds, small dots the seeds"
    figure.suptitle(f"{'; '.join(trainings)}\n{bars}", fontsize=10)
    _totals(below, data, found, "below")
    below.set_title("(a) fraction of $|w| < 10^{-3}$")
    below.set_ylabel("% of the weights")
    _totals(relative, data, found, "relative")
    relative.set_title(f"(c) fraction of $|w| < {found['relative']:g}$ rms of the layer")
    relative.set_ylabel("% of the weights")
    _profiles(profile, data, found, "below", 100)
    profile.set_title("(b) $|w| < 10^{-3}$ by layer; dotted: normal weights of the same rms")
    profile.set_ylabel("% of the layer's weights")
    _profiles(smooth, data, found, "smoothness", 1)
    smooth.axhline(1, color="black", ls="--", lw=1)
    smooth.set_title("(d) smoothness of the 3 × 3 kernels by layer; dashed: independent")
    smooth.set_ylabel(r"$\langle (w_p - w_q)^2\rangle\,/\,2 s^2$ of neighbours $p, q$")
    smooth.set_ylim(bottom=0)
    return figure


def _totals(axes, data, found, key):
    networks = found["networks"]
    for place, (name, one) in enumerate(networks.items()):
        style = _weights.style(data, data["network"].tolist().index(name))
        value, seeds = one[key], 100 * data[key][data["run_network"] == name]
        if value["stderr"] is not None:
            reach = 100 * (value["high"] - value["mean"])
            axes.errorbar(place, 100 * value["mean"], reach, color=style.colour, capsize=5, lw=1)
            axes.errorbar(place, 100 * value["mean"], 100 * value["stderr"], color=style.colour, lw=4)
        axes.plot(place, 100 * value["mean"], style.marker, color=style.colour, ms=8)
        axes.plot(np.full(len(seeds), place + 0.15), seeds, ".", color=style.colour, ms=5)
        if key == "below":
            first = place == 0
            axes.plot(place - 0.15, 100 * one["gaussian"]["mean"], "x", color="black", ms=6,
                      label="normal weights of each layer's rms" if first else None)  # fmt: skip
    if key == "below":
        _published(axes, networks)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.25 * (high - low))
    else:
        axes.axhline(100 * found["normal"][key], color="black", ls="--", lw=1, label="normal weights")
        axes.legend(loc="upper right", fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))
    names = [
        f"{one['label']}\nn = {one[key]['n']}".replace(", ", ",\n").replace(" without", "\nwithout")
        for name, one in networks.items()
    ]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _published(axes, networks):
    places = [(place, one["paper_below"]) for place, one in enumerate(networks.values()) if one["paper_below"]]
    axes.plot(*zip(*((place, 100 * value) for place, value in places), strict=True), "*", color="white", mec="black",
              ms=13, label="paper, mean of 10 trials")  # fmt: skip


def _profiles(axes, data, found, key, factor):
    for name, one in found["networks"].items():
        style = _weights.style(data, data["network"].tolist().index(name))
        values = np.array([np.nan if value is None else factor * value for value in one["layers"][key]])
        layers = np.arange(1, len(values) + 1)
        known = ~np.isnan(values)
        axes.plot(
            layers[known], values[known], style.marker + "-", color=style.colour, ms=4, lw=1.2, label=one["label"]
        )
        if key == "below":
            axes.plot(layers, factor * np.array(one["layers"]["gaussian"]), ":", color=style.colour, lw=1.2)
    others = [f"{place}" for place, layer in enumerate(found["layer"], 1) if layer.endswith("shortcut")]
    axes.set_xlabel(f"layer ({', '.join(others)}: 1 × 1 projections; {len(found['layer'])}: linear)")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))
    axes.legend(fontsize=8.5, loc="upper right", ncols=2)


main = make_main("sparsity", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True, table=table)


if __name__ == "__main__":
    main()
