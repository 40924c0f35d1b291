"""Figure 3: inside the residual mapping, and the curves along which the solution is constant.

(a) F(x) = w^C2 * relu(w^B2 - w^C1 * relu(w^B1 - x)), the modules of a block in the order they ran   (paper: (2.2))
(b) Characteristics dX/dt = v(X) of u_t + v . grad u = 0: u(X_t, t) = u(x, 0) = f(X_T). They are traced through a random
    divergence-free velocity by an adaptive Runge-Kutta method; that u is constant on them is checked by the spectral
    solution at five times. Dots: the layers of `bridge.network_from_velocity` without noise, Euler's method. (2.5)
(c) The same for a network: hidden states of test images through the time steps of the last stage, as
    `bridge.ResNetSDE` without its noise, projected on two principal components of the states. A block is one step of
    Euler's method, a straight line; dashed, for one image a class: the equation itself, in steps of an eighth of a
    block. Changes of the state space are no time steps and not crossed.

The network of (c) is a finished adversarial training of resnet20 or en1_resnet20 in --runs; without --runs and without
such a run in ./runs an untrained one, and the picture says so.

Writes fig3.png, fig3.npz (the arrays) and fig3.json (arguments, versions, seconds, deviations) to --out.

Ten seconds on one core, also with --quick, and as many more the first time, when tiny networks are trained.
"""

from pathlib import Path

import numpy as np
import scipy.integrate
import torch

import nets
import pde
from bridge import NoisyResidual, ResNetSDE, network_from_velocity, noise_off
from figures import _architecture, _fig3_plot, _runs
from figures._cli import figure_command, sound_arrays

__all__ = ["compute", "findings", "main", "plot"]

HORIZON, N_MODES = 0.5, 2
# Points per side that resolve what the velocity makes of the terminal datum.
N = 256
N_LAYERS = (8, 16, 32, 64, 128)
# Curves are looked at at the quarters of the time, and drawn at this many times.
N_QUARTERS, N_TIMES = 4, 65
MARGIN, N_PICTURE = 0.15, 131
WANTED = _runs.Wanted(("resnet20", "en1_resnet20"))
N_CLASSES_SHOWN, N_SUBSTEPS = 4, 8
TEXTS = ("class_name", "source", "model", "state_shape")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    **_architecture.shapes("b", "block_"),
    "time": "t", "curve": "tp2", "quarter": "q", "along": "qp", "horizon": "", "spectral_error": "", "edge": "2",
    "picture": "gg", "n_layers": "l", "network_deviation": "l", "network_state": "sp2",
    "label": "i", "class_name": "c", "state": "ri2", "block_state": "ki2", "explained": "2", "apart": "i", "stage": "",
    "source": "", "model": "", "state_shape": "",
}  # fmt: skip


def compute(*, quick=False, seed=0, runs=None, data=None):
    """Trace the curves through a velocity field and through a network.

    Parameters
    ----------
    quick : bool, default=False
        Fewer curves and images.
    seed : int, default=0
        Seed of velocity and terminal datum, and of the weights of an untrained network.
    runs : Path, optional
        Directory of finished runs; None: the network is not trained.
    data : str, optional
        Where the images of the run lie; by default where they lay for the training.

    Returns
    -------
    dict of str to ndarray
        `block_*` (b,), the boxes of panel (a); `curve` (t, p, 2) and `along` (q, p), the solution on the curves, of
        panel (b); `state` (r, i, 2) and `block_state` (k, i, 2) of panel (c); and the rest.

    Raises
    ------
    ValueError
        If seed is negative, or runs holds no run that can be shown (raised by a helper).
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    model, name, source, x, y, classes = _pictured(runs, data, seed, quick)
    return _characteristics(quick, seed) | _hidden(model, x, y, classes) | {
        "model": np.array(name), "source": np.array(source),
    }  # fmt: skip


def _characteristics(quick, seed):
    n_side = 4 if quick else 5
    v_rng, f_rng = np.random.default_rng([seed, 0]).spawn(2)
    velocity = pde.random_fields.divergence_free(N, v_rng, n_modes=N_MODES)
    terminal = pde.random_fields.terminal_datum(N, f_rng, n_modes=N_MODES)
    problem = pde.ConvectionDiffusion(velocity, terminal, sigma=0.0, horizon=HORIZON)
    starts = (pde.grid.points(n_side) + 0.5 / n_side).reshape(-1, 2)
    time = np.linspace(0, HORIZON, N_TIMES)
    curve = _follow(velocity, starts, time)
    quarter = time[:: (N_TIMES - 1) // N_QUARTERS]
    solutions = [_solution(problem, t) for t in quarter[:-1]]
    along = [s.field(curve[time == t][0]) for s, t in zip(solutions, quarter[:-1], strict=True)]
    along.append(problem.terminal_at(curve[-1]))
    states = [_through(network_from_velocity(problem, count), starts) for count in N_LAYERS]
    edge = np.array([-MARGIN, 1 + MARGIN])
    axis = np.linspace(*edge, N_PICTURE)
    return {
        "time": time, "curve": curve, "quarter": quarter, "along": np.array(along), "horizon": np.array(HORIZON),
        "spectral_error": np.array(max(s.error_estimate for s in solutions)), "edge": edge,
        "picture": problem.terminal_at(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)),
        "n_layers": np.array(N_LAYERS, dtype=float), "network_state": states[0],
        "network_deviation": np.array([np.abs(problem.terminal_at(path[-1]) - along[0]).max() for path in states]),
    }  # fmt: skip


def _follow(velocity, starts, time):
    """The characteristics, of shape (n_times, n_points, 2)."""

    def rate(_, flat):
        return velocity(flat.reshape(-1, 2)).ravel()

    span = time[0], time[-1]
    solution = scipy.integrate.solve_ivp(rate, span, starts.ravel(), "DOP853", t_eval=time, rtol=1e-9, atol=1e-10)
    return solution.y.T.reshape(len(time), *starts.shape)


def _solution(problem, t):
    # A steady velocity: u(., t) is the solution at time 0 of the problem that ends at T - t.
    shorter = pde.ConvectionDiffusion(problem.velocity, problem.terminal, sigma=0.0, horizon=problem.horizon - t)
    return pde.spectral.solve(shorter)


def _through(net, starts):
    """States before the first and after every layer, of shape (n_layers + 1, n_points, 2)."""
    states = [torch.from_numpy(starts)]
    with torch.no_grad():
        for block in net.blocks:
            states.append(block(states[-1]))
    return torch.stack(states).numpy()


def _pictured(runs, place, seed, quick):
    """The network, its name, what it is, and images with labels and names of their classes."""
    run = None if runs is None or _may_be_empty(runs) else _runs.find(runs, {"network": WANTED})["network"][0]
    if run:
        images, model, name = _runs.load_data(run, place), run.load(), run.model_name
        source = _runs.describe(run)
    else:
        images, name = nets.data.load(place or "digits"), WANTED.models[0]
        mean, std = images.statistics()
        model = nets.build(name, len(images.classes), mean=mean, std=std, seed=seed).eval()
        source = f"not trained (random weights), {images.name}"
    shown = np.unique(np.linspace(0, len(images.classes) - 1, N_CLASSES_SHOWN).round().astype(int))
    x, y = _runs.test_images(images, len(images.classes) * (6 if quick else 12))
    chosen = torch.isin(y, torch.from_numpy(shown))
    # Labels by place among the classes shown.
    places = np.searchsorted(shown, y[chosen].numpy())
    return model, name, source, x[chosen], places, [str(images.classes[k]) for k in shown]


def _may_be_empty(runs):
    """Whether this is the directory that nobody has asked for, and it has nothing to show."""
    if runs != Path("runs"):
        return False
    return not any(run.model_name in WANTED.models and not run.is_natural for run in _runs.list_runs(runs))


def _hidden(model, x, y, classes):
    net = _architecture.members(model.net)[0][0]
    stage = len(net.stages) - 1
    blocks = [block for block in net.stages[stage] if isinstance(block, NoisyResidual)]
    sde = ResNetSDE(blocks)
    before = _input_of(blocks[0], model, x)
    own, fine = (_states(sde.refined(n), before) for n in (1, N_SUBSTEPS))
    apart = np.linalg.norm(fine[-1] - own[-1], axis=-1) / np.linalg.norm(own[-1] - own[0], axis=-1)
    flat = own.reshape(-1, own.shape[-1])
    mean = flat.mean(axis=0)
    _, sizes, axes = np.linalg.svd(flat - mean, full_matrices=False)
    return {
        **_architecture.arrays(_architecture.inside(model, blocks[0], x[:1]), "block_"),
        "label": y, "class_name": np.array(classes), "state": (fine - mean) @ axes[:2].T,
        "block_state": (own - mean) @ axes[:2].T, "explained": sizes[:2] ** 2 / (sizes**2).sum(),
        "apart": apart, "stage": np.array(float(stage + 1)), "state_shape": np.array(_architecture.shape(before)),
    }  # fmt: skip


def _input_of(block, model, x):
    """What a block is given when the model, without its noise, sees x."""
    seen = []
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    try:
        with torch.no_grad(), noise_off(model):
            model(x)
    finally:
        handle.remove()
    return seen[0]


def _states(network, before):
    """Flat states before the first and after every block without noise, of shape (n_blocks + 1, n_images, d)."""
    states = [before]
    with torch.no_grad(), noise_off(network):
        for block in network.blocks:
            states.append(block(states[-1]))
    return torch.stack(states).flatten(2).double().numpy()


def findings(data):
    """Return what the JSON file and the picture say.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `along` of shape (q, p), and the rest.

    Returns
    -------
    dict
    """
    order = pde.convergence.observed_order(1 / data["n_layers"], data["network_deviation"])
    return {
        "largest_deviation_along_curves": float(np.abs(data["along"] - data["along"][0]).max()),
        "spectral_error_estimate": float(data["spectral_error"]),
        "network": {
            "n_layers": data["n_layers"].tolist(),
            "largest_deviation": data["network_deviation"].tolist(),
            "order": {"order": order.order, "stderr": order.stderr},
        },
        "stage": {
            "model": str(data["model"]),
            "source": str(data["source"]),
            "stage": int(data["stage"]),
            "n_time_steps": len(data["block_state"]) - 1,
            "state_shape": str(data["state_shape"]),
            "explained_variance": data["explained"].tolist(),
            # Between the ends of blocks and equation, in parts of the way from the first state to the last.
            "median_distance_to_equation": float(np.median(data["apart"])),
        },
        "block": [box._asdict() for box in _architecture.from_arrays(data, "block_")],
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig3", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound, of_runs=True
    )


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        if key == "label":
            return array.dtype.kind == "i" and ((array >= 0) & (array < len(data["class_name"]))).all()
        if key.startswith("block_") and key != "block_state":
            return _architecture.is_sound(key, array)
        return array.dtype.kind == "f" and np.isfinite(array).all()

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or not finite", lengths={"2": 2})


def plot(data):
    """Draw the three panels.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `curve` of shape (t, p, 2), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig3_plot.panels(data, findings(data))


if __name__ == "__main__":
    main()
