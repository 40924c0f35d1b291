"""The drawing of images, adversarial images and residuals; computes nothing else."""

import numpy as np
from matplotlib.figure import Figure

from figures.tables import label

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by words.
BLUE, RED, BLACK = "#0072B2", "#D55E00", "#000000"
TITLES = {"IFGSM^20": "IFGSM$^{20}$", "C&W": "C&W"}
WHITE = 255


def panels(data):
    """(a) images and what the attacks make of them, (b) the residuals.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.fig6.compute`: `images` of shape (i, h, w, c), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_attacks, n_images = len(data["attack"]), len(data["images"])
    figure = Figure(figsize=(11.5, 1.5 + 1.72 * n_images), layout="constrained")
    figure.suptitle(_said(data), fontsize=10)
    left, right = figure.subfigures(1, 2, width_ratios=(n_attacks + 1, n_attacks))
    residuals = data["adversarial"].astype(float) - data["images"].astype(float)
    scale = data["change"].max() or 1.0
    left.suptitle("(a) images, and the answers of the model attacked", fontsize=10.5)
    right.suptitle(
        f"(b) residuals, black −{WHITE * scale:.2f}/255, grey 0, white +{WHITE * scale:.2f}/255", fontsize=10.5
    )
    images = left.subplots(n_images, n_attacks + 1, squeeze=False)
    changes = right.subplots(n_images, n_attacks, squeeze=False)
    for row in range(n_images):
        _original(images[row, 0], data, row)
        for column in range(n_attacks):
            _adversarial(images[row, column + 1], data, column, row)
            _show(changes[row, column], 0.5 + residuals[column, row] / (2 * scale))
            changes[row, column].set_xlabel(f"max |δ| =\n{WHITE * data['change'][column, row]:.2f}/255\n", fontsize=9)
    images[0, 0].set_title("original\n", fontsize=9.5)
    for column in range(n_attacks):
        title = f"{TITLES[str(data['attack'][column])]}\n{label(str(data['model'][int(data['attacked'][column])]))}"
        images[0, column + 1].set_title(title, fontsize=9.5)
        changes[0, column].set_title(title, fontsize=9.5)
    return figure


def _said(data):
    told = "; ".join(dict.fromkeys(data["how"].tolist()))
    draws = ", ".join(
        f"{label(str(model))} answers by the mean of {int(n)} draws"
        for model, n in zip(data["model"], data["n_draws"], strict=True)
        if n > 1
    )
    eps = f"IFGSM$^{{20}}$ within {WHITE * float(data['eps']):.4g}/255, C&W as printed, without a radius"
    return "\n".join(filter(None, (told, f"{eps}; {draws}" if draws else eps)))


def _show(axes, image, colour=BLACK, width=0.8):
    axes.imshow(
        image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width)


def _original(axes, data, row):
    _show(axes, np.clip(data["images"][row], 0, 1))
    classes, wanted = data["classes"], int(data["label"][row])
    lines = []
    for model, answer, probability in zip(
        data["model"], data["natural_answer"][:, row], data["natural_probability"][:, row], strict=True
    ):
        name = label(str(model)).replace("ResNet20", "") or "ResNet"
        is_wrong = int(answer) != wanted
        lines.append(f"{name}: {classes[int(answer)] + ' ' if is_wrong else ''}{probability:.2f}")
    axes.set_xlabel("\n".join([f"{classes[wanted]}", *lines]), fontsize=9)


def _adversarial(axes, data, column, row):
    wanted, answer = int(data["label"][row]), int(data["answer"][column, row])
    before = int(data["natural_answer"][int(data["attacked"][column]), row])
    word, colour = ("deceived", RED) if answer != wanted else ("still right", BLUE)
    if answer != wanted and before != wanted:
        word = "wrong before"
    _show(axes, np.clip(data["adversarial"][column, row], 0, 1), colour, 2.5)
    text = f"{data['classes'][answer]} {data['probability'][column, row]:.2f}\n{word}"
    axes.set_xlabel(text, fontsize=9, color=colour)
