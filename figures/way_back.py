"""The way back: a trained network as an equation, where the two agree, and how far they differ.

    x_(l+1) = x_l + dt F_l(x_l) + sigma sqrt(dt) Z_l,  dt = 1 / L,  u_net(x) = E f(x_L)
    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  v = F_l in layer l,  u(x, 1) = f(x)

`bridge.problem_from_network` makes the equation. The network is that of `figures.tradeoff`: L = 4 blocks on the
2-torus, trained on two moons with sigma = 0.2. Each block as m steps of dt / m is a network of m L layers with the same
equation (`ResNetSDE.refined`).

(a) The trained network's decision function, the mean over draws of its noise. (b) u(x, 0), solved spectrally. (c), (d)
Their difference over its standard error, for the trained network and for the finest one: white where noise explains
it. (e) The difference over the layers, by `mean_field`, which draws nothing; order 1 in theory. (f) The error of the
mean over n draws, against `mean_field`; order 1/2. Errors are rms over points, relative to max |u|.

About a minute on one core, seconds with --quick.
"""

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from tqdm import tqdm

import bridge
import pde
from figures._cli import make_main
from figures._planar_training import Row, draw_points, train
from figures._plane import draw_map, resolved
from figures._style import BLUE, GREY, RED, letter

__all__ = ["compare", "compute", "findings", "main", "plot"]

DATASET, SIGMA = "moons", 0.2
N_TRAIN, N_ITER = 256, 200
# Relative to max |u|: of the layers' samples, of the solution, and of the mean field.
SAMPLING, RESOLUTION, MEAN = 1e-4, 1e-4, 1e-3
CHUNK = 16
# Noise exceeds this score at one point in 370.
LARGE = 3.0


def compute(*, quick=False, seed=0):
    """`network`, `u` (m, m), `z_trained`, `z_finest` (m, m); `layers`, `gap` (r,); `draws`, `error` (d,)."""
    net = _trained(40 if quick else N_ITER, seed)
    m, n_draws, substeps = (16, 128, (1, 2, 4)) if quick else (48, 1024, (1, 2, 4, 8, 16))
    return compare(net, m, n_draws, substeps, seed)


def _trained(n_iter, seed):
    """A single network of `figures.tradeoff`."""
    generator, rng = torch.Generator().manual_seed(1000 * seed), np.random.default_rng([seed, 0])
    row = Row([SIGMA], generator)
    with bridge.noise_from(row, generator):
        train(row, *draw_points(DATASET, N_TRAIN, rng), adversarial=False, n_iter=n_iter, rng=rng)
    return row.member(0).double()


def compare(net, m, n_draws, substeps, seed):
    """Compare a planar network, its refinements and its equation on m x m points; see `compute`."""
    points = pde.grid.points(m)
    counts = [n for n in 4 ** np.arange(2, 12) if n <= n_draws]
    with tqdm(total=len(substeps) + 3, disable=None, desc="way_back", unit="solve") as bar:
        u = resolved(bridge.problem_from_network(net, rtol=SAMPLING), (64, 128, 256), RESOLUTION).field(points)
        bar.update()
        sde, exact = bridge.ResNetSDE(net.blocks), []
        for number in substeps:
            refined = _with_output(sde.refined(number), net)
            field, _ = bridge.mean_field(refined, rtol=MEAN)
            exact.append(field(points))
            bar.update()
        means, stderr = _means(net, points, counts, seed)
        bar.update()
        (finest,), finest_stderr = _means(_with_output(sde.refined(substeps[-1]), net), points, counts[-1:], seed + 1)
        bar.update()
    largest, n_layers = np.abs(u).max(), len(net.blocks)
    return {
        "network": means[-1], "u": u, "z_trained": (means[-1] - u) / stderr, "z_finest": (finest - u) / finest_stderr,
        "layers": n_layers * np.array(substeps, dtype=float), "gap": _rms(np.array(exact) - u) / largest,
        "draws": np.array(counts, dtype=float), "error": _rms(means - exact[0]) / largest,
        "stderr": np.array(_rms(stderr[None])[0] / largest), "other_class": np.array((means[-1] * u < 0).mean()),
    }  # fmt: skip


def _with_output(refined, net):
    return bridge.ResidualNetwork(refined.blocks, net.output)


@torch.no_grad()
def _means(net, points, counts, seed):
    """Means (c, m, m) of the network over the first n draws, n of the counts; the standard error of the last."""
    x = torch.tensor(points.reshape(-1, 2))
    total, squares, means, done = 0.0, 0.0, [], 0
    with bridge.noise_from(net, torch.Generator().manual_seed(seed)):
        for count in counts:
            while done < count:
                values = net(x.repeat(CHUNK, 1)).reshape(CHUNK, -1).numpy()
                total, squares, done = total + values.sum(axis=0), squares + (values**2).sum(axis=0), done + CHUNK
            means.append(total / done)
    variance = np.maximum(squares / done - means[-1] ** 2, 0.0) * done / (done - 1)
    shape = points.shape[:-1]
    return np.stack(means).reshape(-1, *shape), np.sqrt(variance / done).reshape(shape)


def _rms(values):
    """Root mean square over the points of arrays (k, m, m)."""
    return np.sqrt(np.mean(values**2, axis=(1, 2)))


def findings(data):
    """Gap of network and equation, shares of points that noise does not explain, and both orders."""
    layers = pde.convergence.observed_order(1 / data["layers"], data["gap"])
    draws = pde.convergence.observed_order(1 / data["draws"], data["error"])
    return {
        "gap_of_the_trained_network": float(data["gap"][0]),
        "gap_of_the_finest_network": float(data["gap"][-1]),
        "share_of_points_of_another_class": float(data["other_class"]),
        "share_beyond_3_standard_errors": {
            name: float((np.abs(data[f"z_{name}"]) > LARGE).mean()) for name in ("trained", "finest")
        },
        "order_in_layers": {"order": layers.order, "stderr": layers.stderr},
        "order_in_draws": {"order": draws.order, "stderr": draws.stderr},
        "lines": {"layers": layers.constant, "draws": draws.constant},
        "captions": {
            "": f"A trained planar network (a) and its equation (b); black: the boundary. (c), (d) Their difference "
            f"over its standard error for the {data['layers'][0]:g} trained layers and for {data['layers'][-1]:g}. "
            "(e) Their difference against the number of layers. (f) The error of the mean over draws."
        },
    }


def plot(data):
    """Draw both decision functions, two maps of scores, and the two orders."""
    found, figure = findings(data), Figure(figsize=(12.4, 7.4), layout="constrained")
    above, below = figure.subplots(2, 3)
    largest = max(np.abs(data["network"]).max(), np.abs(data["u"]).max())
    scale = Normalize(-largest, largest)
    for axes, key, title in (
        (above[0], "network", f"{letter(0)} network, mean over draws"),
        (above[1], "u", f"{letter(1)} equation, $u(\\mathbf{{x}}, 0)$"),
    ):
        image = draw_map(axes, data[key], data[key], scale, "PuOr", title, unit="period")
    figure.colorbar(image, ax=above[:2], label="$u$ (unit of $f$)")
    titles = [
        f"{letter(2)} trained, {data['layers'][0]:g} layers",
        f"{letter(3)} refined, {data['layers'][-1]:g} layers",
    ]
    for axes, key, title in zip((above[2], below[0]), ("z_trained", "z_finest"), titles, strict=True):
        # White within one standard error, full colour from ten on.
        score = np.clip(data[key], -10, 10)
        image = draw_map(axes, score, data["u"], Normalize(-10, 10), "RdBu_r", title, unit="period")
        figure.colorbar(image, ax=axes, label="difference / standard error", ticks=(-10, -5, 0, 5, 10), extend="both")
    _order(below[1], data["layers"], data["gap"], found["order_in_layers"], found["lines"]["layers"], BLUE, "1")
    below[1].set(xlabel="number of layers", ylabel="rms (network − equation) / max |u|")
    below[1].set_title(f"{letter(4)} refinement")
    _order(below[2], data["draws"], data["error"], found["order_in_draws"], found["lines"]["draws"], RED, "1/2")
    below[2].axhline(data["gap"][0], color=GREY, ls="--", lw=1, label="network − equation, trained")
    below[2].set(xlabel="number of draws", ylabel="rms (mean over draws − network) / max |u|")
    below[2].set_title(f"{letter(5)} draws")
    below[2].set_ylim(0.6 * data["error"].min(), 6 * max(data["gap"][0], data["error"].max()))
    below[2].legend(loc="upper right")
    return figure


def _order(axes, x, errors, fit, constant, colour, theory):
    ends = np.array([x[0], x[-1]])
    label = f"order {fit['order']:.3f} ± {fit['stderr']:.3f} (theory {theory})"
    axes.plot(ends, constant * ends ** -fit["order"], color=colour, lw=1)
    axes.plot(x, errors, "o", color=colour, ms=6, label=label)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [f"{number:g}" for number in x])
    axes.minorticks_off()
    # Room for the legend.
    axes.set_ylim(0.6 * errors.min(), 4 * errors.max())
    decades = [t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if 0.6 * errors.min() < t < 4 * errors.max()]
    axes.set_yticks(decades, [f"{t:g}" for t in decades])
    axes.legend(loc="upper right")


main = make_main("way_back", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
