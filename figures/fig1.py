"""Figure 1: the residual mapping of a ResNet, and the one with injected noise, as they are built here.

    (a)  x_(l+1) = x_l + F(x_l)          (b)  x_(l+1) = x_l + F(x_l) + N(0, sigma**2 I)           (paper: Figure 1)

The boxes are the modules of the first residual block of a network, in the order in which they ran on one image, with
their shapes and the number of their parameters; below are all residual mappings of the network, in order.

--model NAME draws another one: resnet20 (default), resnet32, resnet44, resnet56, resnet110, wrn14_2, wrn34_10; that
with noise is the member of its ensemble, en1_NAME.

Writes fig1.png, fig1.npz (the boxes) and fig1.json (arguments, versions, parameters) to --out, in seconds.
"""

import numpy as np

from bridge import NoisyResidual
from figures import _architecture, _fig1_plot
from figures._cli import figure_command, sound_arrays

__all__ = ["compute", "findings", "main", "plot"]

MODEL = "resnet20"
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    **_architecture.shapes("p", "plain_"), **_architecture.shapes("q", "noisy_"),
    **_architecture.shapes("m", "mapping_"),
    "model": "", "noisy_model": "", "total_n_parameters": "", "rest_n_parameters": "", "std_over": "",
}  # fmt: skip


def compute(*, quick=False, seed=0, model=MODEL):
    """Build both networks and look at their residual blocks.

    Parameters
    ----------
    quick : bool, default=False
        Nothing is left out: it takes seconds.
    seed : int, default=0
        Seed of the weights, which are not drawn.
    model : str, default="resnet20"
        One network without noise, as `nets.build` names it.

    Returns
    -------
    dict of str to ndarray
        The boxes of the block without noise (p,), of that with noise (q,), the network's residual mappings (m,), and
        the parameters in all and outside of these.

    Raises
    ------
    ValueError
        If there is no such network, or it is an ensemble.
    """
    if str(model).startswith("en") or "+" in str(model):
        raise ValueError(f"--model must be one network without noise, such as {MODEL}, got {model}")
    noisy_model = f"en1_{model}"
    networks = [_architecture.build(name, seed) for name in (model, noisy_model)]
    firsts = [next(module for module in net.modules() if _is_time_step(module)) for net, _ in networks]
    plain, noisy = (
        _architecture.inside(net, block, x) for (net, x), block in zip(networks, firsts, strict=True)
    )  # fmt: skip
    net, x = networks[1]
    traced = [box for _, box in _architecture.trace(net, _architecture.parts(net), x)]
    mappings = _architecture.grouped(box for box in traced if box.role != "layer")
    return {
        **_architecture.arrays(plain, "plain_"),
        **_architecture.arrays(noisy, "noisy_"),
        **_architecture.arrays(mappings, "mapping_"),
        "model": np.array(model),
        "noisy_model": np.array(noisy_model),
        "total_n_parameters": np.array(_architecture.count(net)),
        "rest_n_parameters": np.array(sum(box.n_parameters for box in traced if box.role == "layer")),
        "std_over": np.array(firsts[1].std_over),
    }


def _is_time_step(module):
    return isinstance(module, NoisyResidual) and module.is_time_step


def findings(data):
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `plain_label` of shape (p,), and the rest.

    Returns
    -------
    dict
    """
    return {
        "model": str(data["model"]),
        "n_parameters": int(data["total_n_parameters"]),
        "blocks": {
            kind: [box._asdict() for box in _architecture.from_arrays(data, f"{kind}_")] for kind in ("plain", "noisy")
        },
        "residual_mappings": [box._asdict() for box in _architecture.from_arrays(data, "mapping_")],
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig1", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound,
        options={"model": {"default": MODEL, "help": f"network to draw (default {MODEL})"}},
    )  # fmt: skip


def _sound(data, path):
    """The data, if they are such as `compute` returns."""
    return sound_arrays(data, path, SHAPES, _architecture.is_sound, fault="wrong shape or kind, or negative")


def plot(data):
    """Draw both residual mappings.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `plain_label` of shape (p,), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig1_plot.panels(data)


if __name__ == "__main__":
    main()
