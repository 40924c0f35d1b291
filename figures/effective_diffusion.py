"""The diffusion that a trained EnResNet has learned: sigma(t) of its blocks, beside its drift and an untrained network.

    x_(l+1) = x_l + F_l(x_l) + a s_l xi_l        block l, a step dt = 1 / L of dX = f dt + sigma dB       (section 3.1)
    f = F_l / dt,  sigma = a s_l / sqrt(dt) = a s_l sqrt(L),  s_l**2 = Var(x_l + F_l(x_l)) over the batch

L counts the time steps of all three stages. A stage change moves the state into another space. It is not a time step
and takes no time; it is marked at its position by the noise a s that it would have as a step. Everything is measured on
test images along a path with its noise. With rms over the components of an image's state,

    relative noise      a s_l / rms(x_l) = sigma sqrt(dt) / rms(x_l)
    relative drift      rms(F_l) / rms(x_l)
    Pe_l                rms(F_l) / (a s_l) = |f| dt / (sigma sqrt(dt))

The last is a Péclet number of the step: how far the drift carries the state, in units of how far the noise does. For
noise scaled over the batch, a s_l over the standard deviation of x_l + F_l is `a` by construction; rms(x_l) varies.

Means over test images, members and seeds, with the 10-90 % range; each network's own sigma is a thin line. Noise scaled
over the batch has one sigma for all its images, so that the range of sigma is that over networks. Untrained: the same
architecture with fresh random weights, its batch normalisation adapted to training images by one pass.

Half a minute on one core, under ten seconds with --quick.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from bridge import NoisyResidual, ResNetSDE, noise_from, noise_off
from figures import _runs, _shipped
from figures._cli import make_main
from figures._runs import comparable
from figures._style import GREY, network
from nets import data as image_sets
from nets import models, seeds
from nets.evaluation import balanced_order
from nets.sparsity import members

__all__ = ["compute", "findings", "main", "plot", "walk"]

MODELS = ("en1_resnet20", "en2_resnet20", "en5_resnet20")
# One batch: the noise is scaled over it.
N_IMAGES, N_QUICK = 500, 60
QUANTITIES = ("sigma", "relative_noise", "relative_drift", "peclet", "drift", "state", "jump_sigma")
PANELS = (
    ("sigma", r"$\sigma = a\,s_l\,\sqrt{L}$  (state / $\sqrt{\mathrm{time}}$)", "(a) diffusion coefficient"),
    ("relative_noise", r"$a\,s_l\;/\;\mathrm{rms}(x_l)$", "(b) noise of a step, relative to the state"),
    ("relative_drift", r"$\mathrm{rms}(F_l)\;/\;\mathrm{rms}(x_l)$", "(c) drift of a step, relative to the state"),
    ("peclet", r"$\mathrm{Pe}_l = \mathrm{rms}(F_l)\;/\;(a\,s_l)$", "(d) drift over noise"),
)
# Bands of several models beside each other, in units of the step.
DODGE = 0.16


def compute(*, quick=False, seed=0, runs=None, data=None):
    """`trained_sigma` (m, s, 3): mean, 10 and 90 % of models and time steps; `untrained_sigma` (s, 3); and others."""
    if runs is None and data is None and _shipped.is_there("effective_diffusion"):
        return _shipped.load("effective_diffusion")
    n_images = N_QUICK if quick else N_IMAGES
    groups = comparable(runs, MODELS)
    first = next(iter(groups.values()))[0]
    images = _runs.load_data(first, data)
    x, _ = _runs.test_images(images, n_images)
    # In a file of images the classes may come one after the other.
    mixed = balanced_order(images.train_labels, seed)[: len(x)]
    train = image_sets.Batches(images.train_images, images.train_labels, images.white).take(mixed)[0]
    trained, untrained, networks = {}, [], []
    n_runs = sum(map(len, groups.values()))
    with tqdm(total=n_runs, disable=None, desc="effective_diffusion", unit="run") as bar:
        for row, (name, group) in enumerate(groups.items()):
            trained[name] = []
            for place, run in enumerate(group):
                model = run.load()
                fresh = models.build(**run.config["model"], seed=seeds.derive(seed, f"{name} untrained", place))
                _adapt(fresh, train, seeds.make_generator(seed, f"{name} adapt", place))
                generator = seeds.make_generator(seed, f"{name} noise", place)
                found = [_measure(member, model, x, generator) for member in members(model)]
                trained[name] += found
                networks += [(row, one["sigma"].mean(1)) for one in found]
                untrained += [_measure(member, fresh, x, generator) for member in members(fresh)]
                bar.update()
    everybody = [run for group in groups.values() for run in group]
    return _arrays(trained, untrained, networks) | {
        "training": np.array(_runs.describe(*everybody)), "n_images": np.array(float(len(x))),
        "coef": np.array([float(group[0].config["model"]["coef"]) for group in groups.values()]),
        "run": np.array([run.name for run in everybody]),
        "run_model": np.array([name for name, group in groups.items() for _ in group]),
    }  # fmt: skip


def _adapt(model, x, generator):
    """Give batch normalisation the statistics of a batch."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad(), noise_from(model, generator):
        model.train()(x)
    model.eval()


def _measure(member, model, x, generator):
    found = walk(member, (x - model.mean) / model.std, generator=generator)
    noise = found["sigma"] * math.sqrt(found["dt"])
    return found | {
        "relative_noise": noise / found["state"],
        "relative_drift": found["drift"] / found["state"],
        "peclet": found["drift"] / noise,
    }


@torch.no_grad()
def walk(net, x, *, generator=None):
    """Follow images through one network, with its noise, and measure every block."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    stages = [_split(stage) for stage in net.stages]
    n_steps = sum(len(steps) for _, steps in stages)
    if not all(block.is_noisy for _, steps in stages for block in steps):
        raise ValueError("every time step must draw noise: a block's is off, or its coef is 0")
    rows = {key: [] for key in ("sigma", "drift", "state", "jump_sigma")}
    stage_of, jumps = [], []
    with noise_from(net, generator):
        x = net.stem(x)
        for number, (change, steps) in enumerate(stages):
            if change is not None:
                jumps.append(len(stage_of) / n_steps)
                rows["jump_sigma"].append(_noise_of(change, x) * math.sqrt(n_steps))
                x = change(x)
            sde = ResNetSDE(steps, horizon=len(steps) / n_steps)
            before = generator.get_state()
            rows["sigma"] += sde.effective_sigma(x)
            # So that the path below is the same.
            generator.set_state(before)
            for layer, block in enumerate(steps):
                rows["state"].append(_rms(x))
                rows["drift"].append(_rms(sde.f(layer * sde.dt, x)) * sde.dt)
                x = block(x)
            stage_of += [float(number)] * len(steps)
    n_images = len(x)
    arrays = {key: _stacked(values, n_images) for key, values in rows.items()}
    times = np.arange(n_steps) / n_steps
    return arrays | {"time": times, "stage": np.array(stage_of), "jump_time": np.array(jumps), "dt": 1 / n_steps}


def _stacked(rows, n_images):
    return torch.stack(rows).double().numpy() if rows else np.empty((0, n_images))


def _split(stage):
    """The stage change, or None, and the time steps."""
    first = stage[0]
    starts = isinstance(first, NoisyResidual) and first.is_time_step
    return (None, list(stage)) if starts else (first, list(stage[1:]))


def _rms(x):
    return x.flatten(1).square().mean(1).sqrt()


def _noise_of(change, x):
    """a s of a stage change: what it adds for an increment of one in every component."""
    *before, block = change
    h = nn.Sequential(*before)(x)
    with noise_off(change):
        y = block(h)
    return _rms(block(h, torch.ones_like(y)) - y)


def _arrays(trained, untrained, networks):
    some = untrained[0]
    arrays = {key: some[key] for key in ("time", "stage", "jump_time")}
    for key in QUANTITIES:
        arrays[f"trained_{key}"] = np.stack([_spread(found, key) for found in trained.values()])
        arrays[f"untrained_{key}"] = _spread(untrained, key)
    return arrays | {
        "model": np.array(list(trained)),
        "n_networks": np.array([float(len(found)) for found in trained.values()]),
        "n_untrained": np.array(float(len(untrained))),
        "network_model": np.array([float(row) for row, _ in networks]),
        "network_sigma": np.stack([sigma for _, sigma in networks]),
    }


def _spread(found, key):
    """Mean, 10 and 90 % over images and networks, of shape (n_blocks, 3)."""
    values = np.concatenate([one[key] for one in found], axis=1)
    return np.stack([values.mean(1), *np.quantile(values, (0.1, 0.9), axis=1)], axis=1)


def findings(data):
    """Return the findings for the JSON file."""
    models_found = {}
    for row, name in enumerate(data["model"].tolist()):
        spreads = {key: _spread_of(data[f"trained_{key}"][row]) for key in QUANTITIES}
        own = data["network_sigma"][data["network_model"] == row]
        models_found[name] = spreads | {
            "coef": float(data["coef"][row]),
            "n_networks": int(data["n_networks"][row]),
            "runs": data["run"][data["run_model"] == name].tolist(),
            "sigma_over_untrained": (data["trained_sigma"][row, :, 0] / data["untrained_sigma"][:, 0]).tolist(),
            "sigma_range_over_networks": [own.min(0).tolist(), own.max(0).tolist()],
            "steps_led_by_noise": np.flatnonzero(data["trained_peclet"][row, :, 0] < 1).tolist(),
        }
    return {
        "training": str(data["training"]),
        "n_images": int(data["n_images"]),
        "n_steps": len(data["time"]),
        "time": data["time"].tolist(),
        "stage": data["stage"].astype(int).tolist(),
        "jump_time": data["jump_time"].tolist(),
        "models": models_found,
        "untrained": {key: _spread_of(data[f"untrained_{key}"]) for key in QUANTITIES},
    }


def _spread_of(values):
    return dict(zip(("mean", "q10", "q90"), values.T.tolist(), strict=True))


def plot(data):
    """Four panels over the time of the network."""
    figure = Figure(figsize=(11, 8.2), layout="constrained")
    for axes, (key, label, title) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _panel(axes, data, key)
        axes.set_title(title, fontsize=10)
        axes.set_ylabel(label)
        _stages(axes, data)
        if key == "peclet":
            axes.axhline(1, color="black", lw=0.8, ls="--")
            axes.annotate("Pe = 1", (1, 1), (-2, 3), textcoords="offset points", ha="right", fontsize=9)
        if key == "sigma":
            # Above the curves.
            axes.set_ylim(top=1.35 * axes.get_ylim()[1])
            axes.legend(fontsize=8.5, frameon=False, ncols=2, loc="upper right")
    heading = f"{data['training']}; {int(data['n_images'])} test images; bars: 10–90 % of images, members and seeds"
    figure.suptitle("\n".join(filter(None, (heading, _shipped.note(data)))), fontsize=10)
    return figure


def _panel(axes, data, key):
    n_models, step = len(data["model"]), 1 / len(data["time"])
    curves = [(_label("untrained", data["n_untrained"]), data[f"untrained_{key}"], GREY, "D")]
    for row, name in enumerate(data["model"].tolist()):
        style = network(name)
        label = _label(style.label, data["n_networks"][row])
        curves.append((label, data[f"trained_{key}"][row], style.colour, style.marker))
    for number, (label, values, colour, marker) in enumerate(curves):
        # Step l lasts from l / L to (l + 1) / L.
        middle = data["time"] + step * (0.5 + DODGE * (number - n_models / 2))
        mean, low, high = values.T
        axes.errorbar(
            middle, mean, yerr=(abs(mean - low), abs(high - mean)), fmt=marker, color=colour, ms=5, capsize=3,
            lw=1, label=label,
        )  # fmt: skip
        _by_stage(axes, data, middle, mean, color=colour, lw=1.5)
    if key == "sigma":
        _of_sigma(axes, data, step)
    axes.set_xlabel("$t = l / L$")


def _label(name, n):
    return f"{name}, {int(n)} member{'s' * (int(n) > 1)}"


def _by_stage(axes, data, x, y, **style):
    """A line for each stage: between two stages there is none."""
    for stage in sorted(set(data["stage"])):
        chosen = data["stage"] == stage
        axes.plot(x[chosen], y[chosen], **style)


def _of_sigma(axes, data, step):
    for row, sigma in zip(data["network_model"].astype(int), data["network_sigma"], strict=True):
        _by_stage(
            axes, data, data["time"] + step / 2, sigma, color=network(str(data["model"][row])).colour, lw=0.5, alpha=0.7
        )
    jumps = [(data["untrained_jump_sigma"], GREY)]
    jumps += [
        (values, network(str(name)).colour)
        for name, values in zip(data["model"], data["trained_jump_sigma"], strict=True)
    ]
    for values, colour in jumps:
        axes.plot(data["jump_time"], values[:, 0], marker="x", ls="", color=colour, ms=8, mew=1.8)
    axes.plot([], [], marker="x", ls="", color="black", ms=7, mew=1.6, label="stage changes (no time steps)")


def _stages(axes, data):
    n = len(data["time"])
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    for at in data["jump_time"]:
        axes.axvline(at, color=GREY, lw=0.8, ls=":")
    axes.set_xticks([place / n for place in range(n + 1)], ["0", *(f"{place}/{n}" for place in range(1, n)), "1"])


main = make_main("effective_diffusion", __doc__, compute=compute, plot=plot, findings=findings, of_networks=True)


if __name__ == "__main__":
    main()
