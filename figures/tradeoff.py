"""The price and the gain of diffusion: robust accuracy of EnResNets on the torus, computed exactly without attacks.

    x_(l+1) = x_l + dt F_l(x_l) + sigma sqrt(dt) Z_l,  l < L = 4,  dt = 1 / L,  x_0 in [0, 1)^2 periodic
    u(x) = E f(x_L);  the class of x is the sign of u(x), the averaged classifier

In two dimensions u is known without drawing (`bridge.mean_field`), and so is the distance of a point to the decision
boundary, on the torus, between two bounds (`pde.bounds.boundary_distance`). Three sets of points, networks trained
naturally and by l2 PGD of radius 0.05 for each sigma, and

    exact       share of test points of the right class and farther than r from the boundary
    certified   the same by what the network proves from u(x) alone (docs/certificates.md, Theorem G)
    attacked    share still right after l2 PGD of radius r with averaged gradients, judged by the sign of u

Rows: the data sets. (a), (b) the decision function of one network without and with diffusion. (c) Accuracy against
the radius. (d) Accuracy against sigma: natural (r = 0) and exact robust at r = 0.05; error bars and bands are
standard errors over seeds of the initial weights and the noise.

Two minutes of processor time on one core; ten seconds with --quick.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from tqdm import tqdm

import bridge
import pde
from figures import _planar_training
from figures._cli import make_main
from figures._planar_training import DATASETS, N_BLOCKS, Row, attack, draw_points, train
from figures._style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, letter
from pde import bounds

__all__ = ["compute", "findings", "main", "plot"]

TRAININGS = ("natural", "adversarial")
SIGMAS = (0.0, 0.1, 0.2, 0.4)
RADII = np.linspace(0.0, 0.15, 31)
ATTACK_RADII = np.array([0.025, 0.05, 0.1])
# Radius at which robust accuracy is reported, that of the adversarial training.
RADIUS = 0.05
N_TRAIN, N_ITER, N_EOT, N_ATTACK = 256, 200, 4, 10
# Points per side on which networks without noise are classified.
FINE = 384
SHADES = (BLACK, GREEN, BLUE, ORANGE)


def compute(*, quick=False, seed=0):
    """Accuracies of shape (d, t, s, k) of data sets, trainings, sigmas and seeds, and further axes for the radii.

    `natural`; `exact_lower`, `exact_upper` and `certified` with an axis of the radii; `attacked` with one of the
    attack's; `field` (d, t, s, n, n), u of the first seed; `x` (d, m, 2) and `y` (d, m), the test points.
    """
    names, sigmas, n_seeds, n_test = (DATASETS[:1], SIGMAS[:2], 2, 40) if quick else (DATASETS, SIGMAS, 5, 150)
    n_iter, n_attack = (40, 2) if quick else (N_ITER, N_ATTACK)
    found = {key: [] for key in ("natural", "lower", "upper", "certified", "attacked", "field")}
    points = []
    rows = len(names) * len(TRAININGS)
    with tqdm(total=rows * len(sigmas) * n_seeds, disable=None, desc="tradeoff", unit="network") as bar:
        for name in names:
            place = _planar_training.DATASETS.index(name)
            rng = np.random.default_rng([seed, place])
            (x, y), test = draw_points(name, N_TRAIN, rng), draw_points(name, n_test, rng)
            points.append(test)
            for training, kind in enumerate(TRAININGS):
                generator = torch.Generator().manual_seed(1000 * seed + 10 * place + training)
                row = Row(np.repeat(sigmas, n_seeds), generator)
                with bridge.noise_from(row, generator):
                    train(row, x, y, adversarial=kind == "adversarial", n_iter=n_iter, rng=rng)
                    moved = _attacked(row, *test, n_attack, rng)
                members = [row.member(index) for index in range(len(row.sigmas))]
                # Threads rarely wait for each other: the loops release Python's lock.
                with ThreadPoolExecutor(os.cpu_count()) as threads:
                    for accuracies in threads.map(_accuracies, members, *map(repeat, test), np.moveaxis(moved, 1, 0)):
                        for key, value in accuracies.items():
                            found[key].append(value)
                        bar.update()
    shape = (len(names), len(TRAININGS), len(sigmas), n_seeds)
    data = {key: np.array(values).reshape(*shape, *np.shape(values[0])) for key, values in found.items()}
    data["field"] = data["field"][:, :, :, 0]
    return data | {
        "dataset": np.array(names), "training": np.array(TRAININGS), "sigma": np.array(sigmas), "radius": RADII,
        "attack_radius": ATTACK_RADII, "x": np.stack([x for x, _ in points]), "y": np.stack([y for _, y in points]),
    }  # fmt: skip


def _attacked(row, x, y, n_iter, rng):
    """Adversarial points of shape (a, n_networks, n, 2)."""
    x = torch.tensor(x, dtype=torch.float32).expand(len(row.sigmas), -1, -1)
    y = torch.tensor(y, dtype=torch.float32)
    return np.stack([attack(row, x, y, float(eps), n_iter, N_EOT, rng).double().numpy() for eps in ATTACK_RADII])


def _accuracies(net, x, y, moved):
    """All accuracies of one network."""
    if net.blocks[0].is_noisy:
        classify, error, (lower, upper) = _of_mean(net, x)
    else:
        classify, error, (lower, upper) = _of_path(net, x)
    margin = y * classify(x)
    problem = bridge.problem_from_network(net, rtol=1e-3)
    spread, stretching = bounds.network_spread(problem, N_BLOCKS)
    (low, high), slope = bounds.value_range(problem.terminal), bounds.largest_gradient(problem.terminal).at_most
    certain = np.maximum(margin - error, 0.0)
    right = bounds.smoothing_radius(certain, low, high, spread)
    left = bounds.smoothing_radius(certain, -high, -low, spread)
    proved = np.where(certain > 0, np.maximum(certain / (slope * stretching), np.where(y > 0, right, left)), 0.0)
    return {
        "natural": (margin > 0).mean(),
        "lower": np.array([((margin > error) & (lower > r)).mean() for r in RADII]),
        "upper": np.array([((margin > -error) & (upper > r)).mean() for r in RADII]),
        "certified": np.array([((certain > 0) & (proved > r)).mean() for r in RADII]),
        "attacked": np.array([((margin > 0) & (y * classify(z) > 0)).mean() for z in moved]),
        "field": classify(pde.grid.points(64)),
    }


def _of_mean(net, x):
    """The mean over the noise, its error, and the distances of points to its zeros between two bounds."""
    try:
        field, error = bridge.mean_field(net, rtol=0.05, n_max=128)
    except pde.UnresolvedError:
        # Wide bounds, but bounds.
        field, error = bridge.mean_field(net, rtol=np.inf, n=128)
    return field, error, bounds.boundary_distance(field, x, error, resolution=2.0**-10)


def _of_path(net, x):
    """The same without noise, where layers fold the plane too finely for a field: by the signs on a grid.

    The upper bound is the distance to a grid point of the other class; the lower one is a diagonal less, which holds
    where no part of the other class is thinner than a cell.
    """
    net = net.double()

    @torch.no_grad()
    def classify(points):
        return net(torch.tensor(points.reshape(-1, 2))).numpy().reshape(points.shape[:-1])

    grid = pde.grid.points(FINE)
    signs, own, upper = classify(grid) > 0, classify(x) > 0, np.full(len(x), np.inf)
    for sign in (False, True):
        other = grid[signs != sign]
        if len(other):
            upper[own == sign] = cKDTree(other, boxsize=1.0).query(np.mod(x[own == sign], 1.0))[0]
    return classify, 0.0, (np.maximum(upper - np.sqrt(2) / FINE, 0.0), upper)


def _mean(values, axis=-1):
    """Mean and standard error over the seeds."""
    n = values.shape[axis]
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(n)


def findings(data):
    """For each data set and training: accuracies by sigma, the gain over sigma = 0, attacks and certificates."""
    place = int(np.argmin(np.abs(data["radius"] - RADIUS)))
    attack_place = int(np.argmin(np.abs(data["attack_radius"] - RADIUS)))
    middle = (data["lower"] + data["upper"]) / 2
    found = {"sigma": data["sigma"].tolist(), "radius": float(data["radius"][place])}
    for d, name in enumerate(data["dataset"].tolist()):
        found[name] = {}
        for t, training in enumerate(data["training"].tolist()):
            robust, natural = middle[d, t, :, :, place], data["natural"][d, t]
            pairs = {
                "natural": natural, "exact_robust": robust, "certified": data["certified"][d, t, :, :, place],
                "attacked": data["attacked"][d, t, :, :, attack_place],
                "gain_of_robust": robust - robust[:1], "price_of_natural": natural - natural[:1],
                "attacked_less_exact": data["attacked"][d, t, :, :, attack_place] - robust,
            }  # fmt: skip
            found[name][training] = {
                key: dict(zip(("mean", "stderr"), (part.tolist() for part in _mean(values)), strict=True))
                for key, values in pairs.items()
            } | {"largest_gap_of_bounds": float((data["upper"] - data["lower"])[d, t, :, :, place].max())}
            best = int(np.argmax(robust.mean(1)))
            found[name][training]["best_sigma"] = float(data["sigma"][best])
    return found


def plot(data):
    """One row per data set: two decision functions, accuracy against the radius, accuracy against sigma."""
    n_rows = len(data["dataset"])
    figure = Figure(figsize=(14, 3.5 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, 4, squeeze=False, width_ratios=(1, 1, 1.35, 1.35))
    chosen = _shown_sigma(data)
    for d, (name, axes) in enumerate(zip(data["dataset"].tolist(), grid, strict=True)):
        for axis, s in zip(axes, (0, chosen), strict=False):
            _decision(axis, data, d, s)
        axes[0].set_ylabel(f"{name}\n$y$")
        axes[1].set_ylabel("$y$")
        _against_radius(axes[2], data, d, sorted({0, chosen, len(data["sigma"]) - 1}))
        _against_sigma(axes[3], data, d)
    for place, axis in enumerate(grid[0]):
        axis.set_title(f"{letter(place)} {axis.get_title(loc='left')}")
    for axis in grid[-1]:
        axis.set_xlabel(axis.get_xlabel() or "$x$")
    return figure


def _shown_sigma(data):
    """The sigma > 0 of the largest exact robust accuracy over all data sets, of natural training."""
    place = int(np.argmin(np.abs(data["radius"] - RADIUS)))
    return 1 + int(np.argmax(data["lower"][:, 0, 1:, :, place].mean(axis=(0, 2))))


def _decision(axis, data, d, s):
    u = data["field"][d, 0, s]
    side = np.arange(len(u) + 1) / len(u)
    limit = np.abs(u).max()
    shown = np.pad(u, (0, 1), mode="wrap").T
    axis.pcolormesh(side, side, shown / limit, cmap="PuOr", vmin=-1, vmax=1, shading="gouraud", rasterized=True)
    axis.contour(side, side, shown, levels=[0.0], colors=BLACK, linewidths=1.4)
    for sign, marker, colour in ((-1, "o", RED), (1, "^", BLUE)):
        x = data["x"][d][data["y"][d] == sign][:60]
        axis.plot(*x.T, marker, mfc=colour, mec="white", mew=0.4, ms=4)
    axis.set(aspect="equal", xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axis.set_title(f"$\\sigma$ = {data['sigma'][s]:g}, natural training")


def _against_radius(axis, data, d, shown):
    for s in shown:
        colour, r = SHADES[s * len(SHADES) // len(data["sigma"])], data["radius"]
        (low, low_error), (high, high_error) = _mean(data["lower"][d, 0, s], 0), _mean(data["upper"][d, 0, s], 0)
        axis.fill_between(r, low - low_error, high + high_error, color=colour, alpha=0.25, lw=0)
        axis.plot(r, (low + high) / 2, color=colour, label=f"$\\sigma$ = {data['sigma'][s]:g}")
        axis.plot(r, data["certified"][d, 0, s].mean(0), color=colour, ls=":")
        mean, error = _mean(data["attacked"][d, 0, s], 0)
        axis.errorbar(data["attack_radius"], mean, error, fmt="x", color=colour, capsize=2)
    for style, text in (("-", "exact"), (":", "certified"), ("x", "attacked")):
        axis.plot([], [], style, color=GREY, label=text)
    axis.set(xlabel="distance $r$, periods", ylabel="share right within $r$", ylim=(0, 1.02), title="accuracy")
    axis.legend(fontsize=8)


def _against_sigma(axis, data, d):
    place = int(np.argmin(np.abs(data["radius"] - RADIUS)))
    for t, (training, colour) in enumerate(zip(data["training"].tolist(), (BLUE, RED), strict=True)):
        robust = ((data["lower"] + data["upper"]) / 2)[d, t, :, :, place]
        for values, style, text in ((data["natural"][d, t], "o--", "$r$ = 0"), (robust, "s-", f"$r$ = {RADIUS:g}")):
            mean, error = _mean(values)
            label = f"{training} training, {text}"
            axis.errorbar(np.arange(len(mean)), mean, error, fmt=style, color=colour, capsize=3, ms=4, label=label)
    axis.set_xticks(np.arange(len(data["sigma"])), [f"{s:g}" for s in data["sigma"]])
    axis.set(xlabel=r"$\sigma$, periods", ylabel="accuracy (natural, exact robust)", ylim=(0, 1.02))
    axis.set_title("price and gain of diffusion")
    axis.legend(fontsize=8)


main = make_main("tradeoff", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
