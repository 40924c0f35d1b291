"""What diffusion a trained EnResNet chose: sigma(t) of its blocks, beside its drift and an untrained network.

    x_(l+1) = x_l + F_l(x_l) + a s_l xi_l        block l, a step dt = 1 / L of dX = f dt + sigma dB       (section 3.1)
    f = F_l / dt,  sigma = a s_l / sqrt(dt) = a s_l sqrt(L),  s_l**2 = Var(x_l + F_l(x_l)) over the batch

L counts the time steps of all three stages. A stage change moves the state into another space: it is no time step,
takes no time, and is marked where it stands by what its own noise a s would be as a step's. All is measured on test
images along a path with its noise. With rms over the components of an image's state,

    relative noise      a s_l / rms(x_l) = sigma sqrt(dt) / rms(x_l)
    relative drift      rms(F_l) / rms(x_l)
    Pe_l                rms(F_l) / (a s_l) = |f| dt / (sigma sqrt(dt))

The last is a Péclet number of the step: how far the drift carries the state, in units of how far the noise does. For
noise scaled over the batch, a s_l over the deviation of x_l + F_l is `a` by construction; rms(x_l) is what varies.

Means over test images, members and seeds, with the 10-90 % range; each network's own sigma is a thin line. Noise scaled
over the batch has one sigma for all its images, so that the range of sigma is that over networks. Untrained: the same
architecture with fresh random weights, its batch normalisation adapted to training images by one pass.

Writes effective_diffusion.png, effective_diffusion.npz (the arrays) and effective_diffusion.json (arguments, versions,
seconds, findings) to --out. Half a minute on one core, under ten seconds with --quick once its tiny runs are trained.
"""

import math

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from bridge import FeynmanKacMean, NoisyResidual, ResNetSDE, noise_from, noise_off
from figures import _effective_diffusion_plot, _runs
from figures._cli import figure_command, sound_arrays
from figures._comparable import comparable
from nets import data as image_sets
from nets import models, seeds
from nets.evaluation import balanced_order

__all__ = ["compute", "findings", "main", "plot", "walk"]

MODELS = ("en1_resnet20", "en2_resnet20", "en5_resnet20")
# One batch: the noise is scaled over it.
N_IMAGES, N_QUICK = 500, 60
QUANTITIES = ("sigma", "relative_noise", "relative_drift", "peclet", "drift", "state", "jump_sigma")
TEXTS = ("training", "model", "run", "run_model")
# One letter for each axis; arrays with a letter in common have that length in common. Axis q: mean, 10 %, 90 %.
SHAPES = {
    "training": "", "model": "m", "n_networks": "m", "n_untrained": "", "n_images": "", "coef": "m", "run": "r",
    "run_model": "r", "time": "s", "stage": "s", "jump_time": "j", "network_model": "k", "network_sigma": "ks",
} | {
    f"{who}_{key}": axes + ("j" if key == "jump_sigma" else "s") + "q"
    for who, axes in (("trained", "m"), ("untrained", "")) for key in QUANTITIES
}  # fmt: skip


def compute(*, quick=False, seed=0, runs, data=None):
    """Follow test images through the trained networks and through untrained ones.

    Parameters
    ----------
    quick : bool, default=False
        Fewer images.
    seed : int, default=0
        Seed of the noise and of the untrained networks.
    runs : Path
        Directory of runs.
    data : str, optional
        Where their images lie; by default where they lay for the training.

    Returns
    -------
    dict of str to ndarray
        `trained_sigma` (m, s, 3) of the models and time steps: mean, 10 and 90 % over images, members and seeds;
        `untrained_sigma` (s, 3); the same of the other quantities; `network_sigma` (k, s) of each network alone.

    Raises
    ------
    ValueError
        If seed is negative, or there are no runs.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
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
                found = [_measure(member, model, x, generator) for member in _members(model)]
                trained[name] += found
                networks += [(row, one["sigma"].mean(1)) for one in found]
                untrained += [_measure(member, fresh, x, generator) for member in _members(fresh)]
                bar.update()
    return _arrays(trained, untrained, networks) | {
        "training": np.array(_runs.describe(first)), "n_images": np.array(float(len(x))),
        "coef": np.array([float(group[0].config["model"]["coef"]) for group in groups.values()]),
        "run": np.array([run.directory.name for group in groups.values() for run in group]),
        "run_model": np.array([name for name, group in groups.items() for _ in group]),
    }  # fmt: skip


def _members(model):
    return model.net.members if isinstance(model.net, FeynmanKacMean) else [model.net]


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
    """Follow images through one network, with its noise, and measure every block.

    sigma_l = a s_l sqrt(L),  L the time steps of all stages

    Parameters
    ----------
    net : ResNet
        In evaluation mode.
    x : Tensor of shape (n_images, n_channels, height, width)
        Normalised images, one batch.
    generator : torch.Generator, optional
        Source of the noise; by default PyTorch's own, seeded anew.

    Returns
    -------
    dict
        "sigma", "drift" (rms of F_l) and "state" (rms of x_l) ndarrays of shape (L, n_images); "jump_sigma" of shape
        (n_jumps, n_images), a s sqrt(L) of the stage changes; "time" (L,), "stage" (L,) and "jump_time" (n_jumps,);
        "dt" = 1 / L.

    Raises
    ------
    ValueError
        If a step has no noise: there is no diffusion to be measured.
    """
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
            # The path is the same once more.
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
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `trained_sigma` of shape (m, s, 3), and the rest.

    Returns
    -------
    dict
        Of each model and of the untrained networks the means and 10-90 % ranges, one number a block; the steps where
        the noise carries further than the drift, Pe < 1; sigma over that of the untrained networks.
    """
    models_found = {}
    for row, name in enumerate(data["model"].tolist()):
        told = {key: _told(data[f"trained_{key}"][row]) for key in QUANTITIES}
        own = data["network_sigma"][data["network_model"] == row]
        models_found[name] = told | {
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
        "untrained": {key: _told(data[f"untrained_{key}"]) for key in QUANTITIES},
    }


def _told(values):
    return dict(zip(("mean", "q10", "q90"), values.T.tolist(), strict=True))


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "effective_diffusion", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES,
        sound=_sound, of_runs=True,
    )  # fmt: skip


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        return array.dtype.kind == "f" and np.isfinite(array).all() and (array >= 0).all()

    return sound_arrays(
        data, path, SHAPES, is_sound, fault="wrong shape or kind, not finite or negative", lengths={"q": 3}
    )


def plot(data):
    """Draw the four panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `trained_sigma` of shape (m, s, 3), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _effective_diffusion_plot.panels(data)


if __name__ == "__main__":
    main()
