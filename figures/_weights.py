"""Weights of trained networks: the histograms of Figures 7 and 10, and means over the seeds."""

import numpy as np
from matplotlib.figure import Figure

from figures import _runs
from figures._style import letter, network
from nets import sparsity
from nets.evaluation import interval

__all__ = ["findings", "histograms", "means", "names", "percent", "plot"]

# Section 7: weights with |w| <= 0.3 are drawn. The other reach shows the threshold, bins of half of it.
REACH, N_BINS = 0.3, 120
NEAR, N_NEAR = 0.01, 40


def names(networks):
    """Names of the networks (g,) and of their runs (r,), from runs by the names of the figure."""
    runs = [(name, run) for name, group in networks.items() for run in group]
    firsts = [group[0] for group in networks.values()]
    return {
        "network": np.array(list(networks)),
        "model": np.array([run.model_name for run in firsts]),
        "is_natural": np.array([run.is_natural for run in firsts]),
        "is_noisy": np.array([run.is_noisy for run in firsts]),
        "training": np.array([_runs.describe(*group) for group in networks.values()]),
        "n_members": np.array([float(len(sparsity.members(run.load()))) for run in firsts]),
        "run": np.array([run.name for _, run in runs]),
        "run_network": np.array([name for name, _ in runs]),
    }


def style(data, row):
    """Style of the network in this row."""
    return network(str(data["model"][row]), natural=bool(data["is_natural"][row]), noisy=bool(data["is_noisy"][row]))


def histograms(networks):
    """Densities of the weights of all members, means over the seeds.

    `density` (g, b) on [-reach, reach] and `near_density` (g, z) on [-near, near], both of all weights, those outside
    included; `below` and `outside` (r,), fractions of each run.
    """
    density, near, runs = [], [], []
    for group in networks.values():
        histogram = []
        for run in group:
            values = np.concatenate([array.ravel() for array in sparsity.weights(run.load()).values()])
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
    """Mean over the runs of each network, an `Interval` by its name."""
    return {name: interval(data[key][data["run_network"] == name]) for name in data["network"].tolist()}


def findings(data):
    """Return the contents of the JSON file and of the legends."""
    below, outside = means(data, "below"), means(data, "outside")
    found = {}
    for row, name in enumerate(data["network"].tolist()):
        model, mine = str(data["model"][row]), data["run_network"] == name
        found[name] = {
            "model": model,
            "label": style(data, row).label,
            "training": str(data["training"][row]),
            "n_members": int(data["n_members"][row]),
            "runs": data["run"][mine].tolist(),
            "n_weights": int(data["n_weights"][mine][0]),
            "below_0.001": below[name]._asdict(),
            "paper_below_0.001": sparsity.PUBLISHED.get(name) if model == "resnet20" else None,
            "outside_0.3": outside[name].mean,
        }
    return {"networks": found}


def plot(data):
    """Draw the histograms of two networks on the same axes: (a) all weights, (b) those around zero."""
    found = findings(data)["networks"]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    wide, near = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for axes, key, reach, title in (
        (wide, "density", data["reach"], "all weights of convolutions and linear layers"),
        (near, "near_density", data["near"], "around zero; grey band: $|w| < 10^{-3}$"),
    ):
        edges = np.linspace(-reach, reach, data[key].shape[1] + 1)
        for row, name in enumerate(data["network"].tolist()):
            drawn = style(data, row)
            label = _legend(found[name], drawn.label, near=axes is near)
            axes.stairs(data[key][row], edges, fill=True, color=drawn.colour, alpha=0.25)
            axes.stairs(data[key][row], edges, color=drawn.colour, lw=1.6, ls=("-", "--")[row % 2], label=label)
        axes.set_title(f"{letter(int(axes is near))} {title}")
        axes.set(xlim=(-reach, reach), ylim=(0, 1.6 * data[key].max()), xlabel="weight $w$")
        # In front of the band around zero.
        axes.legend(loc="upper left", fontsize=8.5, frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    near.axvspan(-sparsity.THRESHOLD, sparsity.THRESHOLD, color="#999999", alpha=0.3, lw=0)
    near.set_xticks([-data["near"], -data["near"] / 2, 0, data["near"] / 2, data["near"]])
    wide.set_ylabel("density of the weights, 1 / unit of $w$")
    return figure


def _legend(one, name, *, near):
    if not near:
        n = one["n_members"]
        members = {1: "", 2: ", both members"}.get(n, f", all {n} members")
        return f"{name}{members}\n{one['training']}\n{100 * one['outside_0.3']:.2f} % lie outside"
    paper = one["paper_below_0.001"]
    published = "" if paper is None else f"\npaper {100 * paper:.2f} %, n = 10"
    return f"{name}\n{percent(one['below_0.001'])}{published}"


def percent(value):
    """Write a fraction, given as fields of a `nets.evaluation.Interval`, in per cent.

    >>> percent({"mean": 0.0203, "stderr": 0.0003, "n": 2}), percent({"mean": 0.0203, "stderr": None, "n": 1})
    ('2.03 ± 0.03 % (s.e., 2 seeds)', '2.03 % (1 seed)')
    """
    error = "" if value["stderr"] is None else f" ± {100 * value['stderr']:.2f}"
    seeds = f"s.e., {value['n']} seeds" if error else f"{value['n']} seed{'s' * (value['n'] > 1)}"
    return f"{100 * value['mean']:.2f}{error} % ({seeds})"
