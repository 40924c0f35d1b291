"""The drawing of sigma(t), noise and drift of the blocks; computes nothing."""

from matplotlib.figure import Figure

__all__ = ["panels"]

# Told apart by the colour-blind too (Okabe & Ito 2008), and by their markers.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
STYLES = ((BLUE, "o"), (RED, "s"), (GREEN, "^"))
MODELS = {"en1_resnet20": "En1ResNet-20", "en2_resnet20": "En2ResNet-20", "en5_resnet20": "En5ResNet-20"}
PANELS = (
    ("sigma", r"$\sigma = a\,s_l\,\sqrt{L}$  (state / $\sqrt{\mathrm{time}}$)", "(a) diffusion coefficient"),
    ("relative_noise", r"$a\,s_l\;/\;\mathrm{rms}(x_l)$", "(b) noise of a step, relative to the state"),
    ("relative_drift", r"$\mathrm{rms}(F_l)\;/\;\mathrm{rms}(x_l)$", "(c) drift of a step, relative to the state"),
    ("peclet", r"$\mathrm{Pe}_l = \mathrm{rms}(F_l)\;/\;(a\,s_l)$", "(d) drift over noise"),
)
# Bands of several models beside each other, in units of the step.
DODGE = 0.16


def panels(data):
    """Four panels over the time of the network.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `figures.effective_diffusion.compute`: `trained_sigma` of shape (m, s, 3), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
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
            axes.legend(fontsize=8.5, frameon=False)
    figure.suptitle(f"{data['training']}; {int(data['n_images'])} test images, mean and 10–90 %", fontsize=10)
    return figure


def _panel(axes, data, key):
    n_models, step = len(data["model"]), 1 / len(data["time"])
    curves = [(_label("untrained", data["n_untrained"]), data[f"untrained_{key}"], GREY, "D")]
    for row, name in enumerate(data["model"].tolist()):
        label = _label(MODELS.get(name, name), data["n_networks"][row])
        curves.append((label, data[f"trained_{key}"][row], *STYLES[row]))
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
    return f"{name}, {int(n)} network{'s' * (int(n) > 1)}"


def _by_stage(axes, data, x, y, **style):
    """A line for each stage: between two stages there is none."""
    for stage in sorted(set(data["stage"])):
        chosen = data["stage"] == stage
        axes.plot(x[chosen], y[chosen], **style)


def _of_sigma(axes, data, step):
    for row, sigma in zip(data["network_model"].astype(int), data["network_sigma"], strict=True):
        _by_stage(axes, data, data["time"] + step / 2, sigma, color=STYLES[row][0], lw=0.5, alpha=0.7)
    jumps = [(data["untrained_jump_sigma"], GREY)]
    jumps += [(values, STYLES[row][0]) for row, values in enumerate(data["trained_jump_sigma"])]
    for values, colour in jumps:
        axes.plot(data["jump_time"], values[:, 0], marker="x", ls="", color=colour, ms=8, mew=1.8)
    axes.plot([], [], marker="x", ls="", color="black", ms=7, mew=1.6, label="stage changes (no time steps)")
    axes.legend(fontsize=8.5, frameon=False)


def _stages(axes, data):
    n = len(data["time"])
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    for at in data["jump_time"]:
        axes.axvline(at, color=GREY, lw=0.8, ls=":")
    axes.set_xticks([place / n for place in range(n + 1)], ["0", *(f"{place}/{n}" for place in range(1, n)), "1"])
