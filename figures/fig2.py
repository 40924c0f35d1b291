"""Figure 2: the architecture of the EnResNet, members side by side and their mean, as it is built here.

    u(x, 0) = E[f(X_T) | X_0 = x]  ~  mean of the members' logits                             (paper: (3.1), Figure 2)

A row is a residual mapping, or a layer outside of one, in the order in which they ran on one image, equal ones
together; with the shapes of what comes out, and the number of parameters.

--model NAME draws another one of `nets.build`'s networks: en5_resnet20, en3_wrn34_10, resnet44,
en1_resnet20+en1_resnet32 (default en2_resnet20).

Writes fig2.png, fig2.npz (the boxes) and fig2.json (arguments, versions, parameters) to --out, in seconds.
"""

import numpy as np

from figures import _architecture, _fig2_plot
from figures._cli import figure_command, sound_arrays

__all__ = ["compute", "findings", "main", "plot"]

MODEL = "en2_resnet20"
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    **_architecture.shapes("b"), "member": "b", "weight": "k", "member_n_parameters": "k", "model": "",
    "image_shape": "",
    "logits_shape": "", "total_n_parameters": "",
}  # fmt: skip


def compute(*, quick=False, seed=0, model=MODEL):
    """Build the network and look at its members.

    Parameters
    ----------
    quick : bool, default=False
        Nothing is left out: it takes seconds.
    seed : int, default=0
        Seed of the weights, which are not drawn.
    model : str, default="en2_resnet20"
        As `nets.build` names it.

    Returns
    -------
    dict of str to ndarray
        The boxes of all members (b,), the member that each belongs to (b,), and the members' weights and parameters
        (k,).

    Raises
    ------
    ValueError
        If there is no such network (raised by a helper).
    """
    net, x = _architecture.build(model, seed)
    pairs = _architecture.members(net.net)
    owner = {part: k for k, (member, _) in enumerate(pairs) for part in _architecture.parts(member)}
    traced = _architecture.trace(net, [net, *owner], x)
    boxes, places = [], []
    for k in range(len(pairs)):
        rows = _architecture.grouped(box for part, box in traced if owner.get(part) == k)
        boxes += rows
        places += [k] * len(rows)
    whole = next(box for part, box in traced if part is net)
    return {
        **_architecture.arrays(boxes),
        "member": np.array(places),
        "weight": np.array([weight for _, weight in pairs]),
        "member_n_parameters": np.array([_architecture.count(member) for member, _ in pairs]),
        "model": np.array(model),
        "image_shape": np.array(whole.input_shape),
        "logits_shape": np.array(whole.output_shape),
        "total_n_parameters": np.array(_architecture.count(net)),
    }


def findings(data):
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `label` of shape (b,), and the rest.

    Returns
    -------
    dict
    """
    members = [
        {
            "weight": float(weight),
            "n_parameters": int(data["member_n_parameters"][k]),
            "boxes": [
                box._asdict()
                for box, member in zip(_architecture.from_arrays(data), data["member"], strict=True)
                if member == k
            ],
        }
        for k, weight in enumerate(data["weight"])
    ]
    return {"model": str(data["model"]), "n_parameters": int(data["total_n_parameters"]), "members": members}


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig2", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound,
        options={"model": {"default": MODEL, "help": f"network to draw (default {MODEL})"}},
    )  # fmt: skip


def _sound(data, path):
    """The data, if they are such as `compute` returns."""

    def is_sound(key, array):
        if key == "weight":
            return array.dtype.kind == "f" and np.isfinite(array).all()
        if key == "member":
            return array.dtype.kind == "i" and {*array.tolist()} == {*range(len(data["weight"]))}
        return _architecture.is_sound(key, array)

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or out of range")


def plot(data):
    """Draw the members and their mean.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `label` of shape (b,), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig2_plot.panels(data)


if __name__ == "__main__":
    main()
