"""Certificates: how far each point may provably move without changing its class, and how far it may truly move.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, 1) = f(x);  the class of x is the sign of u(x, 0)

    sharp       |u(x)| / B with B the sharp bound on |grad u|
    smoothing   Bakry and Ledoux: Phi^-1(p(u)) is Lipschitz with a constant that the noise sets
    local       the ball in which the computed u exceeds twice its error, enclosed

(a) u(., 0) and its decision boundary, for the smooth velocity and the terminal datum of Figure 4. (b) The distance on
the torus to the nearest point found in the other class: the true radius, or up to 1 / 2048 of a period more.
(c)-(e) The radius that each certificate proves, on the same logarithmic scale. (f) Certified over true radius against
sigma: medians over all points, bars from quartile to quartile. `sharp` and `smoothing` use u at the point, the rate
of strain of v, and f's range and slope; `local` uses all of u.
The proofs are in docs/certificates.md.

Prints a table. Half a minute on one core, seconds with --quick.
"""

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures._cli import make_main
from figures._plane import draw_map, resolved
from figures._style import BLACK, BLUE, GREEN, PURPLE, RED, letter
from pde import bounds

__all__ = ["compute", "findings", "main", "measure", "plot", "table"]

KINDS = ("sharp", "smoothing", "local")
COLOURS, MARKERS = (BLUE, GREEN, RED), "osD"
SIGMAS, SHOWN = (0.05, 0.1, 0.2, 0.3), 0.1
RESOLUTION = 2.0**-11
QUARTILES = (0.25, 0.5, 0.75)
# The scale of the radii starts at this fraction of the largest distance.
LEAST = 1e-3


def compute(*, quick=False, seed=0):
    """`u`, `distance` and the radii `sharp`, `smoothing` and `local` (s, m, m), for each of `sigma` (s,)."""
    sigmas, n, m = ((0.1, 0.3), 48, 24) if quick else (SIGMAS, 128, 96)
    rows = []
    for sigma in tqdm(sigmas, disable=None, desc="certificates", unit="solve"):
        rows.append(measure(pde.problems.figure4(seed, n, sigma, "band-limited"), m))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]} | {"sigma": np.array(sigmas)}


def measure(problem, m):
    """u, certified radii of three kinds, and the distance to the other class, each of shape (m, m)."""
    points = pde.grid.points(m, problem.length)
    found = bounds.certificates(problem, points, method="spectral")
    n = problem.n
    solution = resolved(problem, (n, 2 * n, 4 * n), 1e-4)
    _, upper = bounds.boundary_distance(solution.field, points, float(solution.error_estimate), resolution=RESOLUTION)
    return {kind: getattr(found, kind) for kind in KINDS} | {"u": solution.field(points), "distance": upper}


def _shares(data):
    """Certified over true radius by kind, (k, s, m * m), and of the largest of the three."""
    radii = [data[kind] for kind in KINDS]
    shares = np.stack([*radii, np.max(radii, axis=0)]) / data["distance"]
    return shares.reshape(*shares.shape[:2], -1)


def findings(data):
    """By sigma and certificate: quartiles of certified over true radius; `most`: the largest of all."""
    shares, found = _shares(data), []
    for s, sigma in enumerate(data["sigma"].tolist()):
        row = {"sigma": sigma, "median_distance": float(np.median(data["distance"][s]))}
        for kind, share in zip((*KINDS, "largest"), shares[:, s], strict=True):
            row[kind] = dict(
                zip(("quartile_1", "median", "quartile_3"), np.quantile(share, QUARTILES).tolist(), strict=True)
            )
        # No certificate may reach as far as a point of the other class.
        row["most"] = float(shares[-1, s].max())
        found.append(row)
    return {
        "n_points": int(data["u"][0].size),
        "certified_over_true": found,
        "captions": {
            "": "Certified and true radii for the smooth velocity of Figure 4. (a) u(x, 0); black: the decision "
            "boundary. (b) Distance to it. (c)–(e) What each certificate proves, on the logarithmic scale of (b). "
            "(f) Certified over true radius: medians over all points, bars from quartile to quartile."
        },
    }


def table(found):
    """Medians of certified over true radius as a Markdown table."""
    names = (*KINDS, "largest")
    lines = [f"| σ | median distance | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row in found["certified_over_true"]:
        cells = " | ".join(f"{row[name]['median']:.3f}" for name in names)
        lines.append(f"| {row['sigma']:g} | {row['median_distance']:.4f} | {cells} |")
    return "\n".join(lines)


def plot(data):
    """Draw u, the distance, the three certificates, and certified over true radius against sigma."""
    figure = Figure(figsize=(12.4, 7.4), layout="constrained")
    above, below = figure.subplots(2, 3)
    shown = int(np.argmin(np.abs(data["sigma"] - SHOWN)))
    title = f"{letter(0)} $u(\\mathbf{{x}}, 0)$, $\\sigma$ = {data['sigma'][shown]:g}"
    u, distance = data["u"][shown], data["distance"][shown]
    most = np.ceil(10 * np.abs(u).max()) / 10
    image = draw_map(above[0], u, u, Normalize(-most, most), "PuOr", title)
    figure.colorbar(image, ax=above[0], label="$u$ (unit of $f$)")
    # On the boundary all radii are 0: darkest.
    scale = LogNorm(LEAST * distance.max(), distance.max(), clip=True)
    maps = {"true distance to the boundary": distance}
    maps |= {f"{kind} certificate": data[kind][shown] for kind in KINDS}
    for place, (axes, (name, values)) in enumerate(zip((*above[1:], *below[:2]), maps.items(), strict=True), 1):
        title = f"{letter(place)} {name}"
        image = draw_map(axes, np.maximum(values, scale.vmin), u, scale, "viridis", title, line="white")
    figure.colorbar(image, ax=(above[2], *below[:2]), label="radius (length)", extend="min")
    _against_sigma(below[2], data)
    return figure


def _against_sigma(axes, data):
    low, middle, high = np.quantile(_shares(data), QUARTILES, axis=-1)
    place, colours = np.arange(len(data["sigma"])), (*COLOURS, PURPLE)
    for k, (kind, colour) in enumerate(zip(KINDS, colours, strict=False)):
        bars = np.stack([middle[k] - low[k], high[k] - middle[k]])
        axes.errorbar(
            place + 0.08 * (k - 1), middle[k], bars, fmt=MARKERS[k] + "-", color=colour, capsize=3, label=kind
        )
    axes.axhline(1, color=BLACK, lw=1, ls="--")
    axes.set_xticks(place, [f"{sigma:g}" for sigma in data["sigma"]])
    axes.set(xlabel="$\\sigma$ (length / time$^{1/2}$)", ylabel="certified / true radius", ylim=(0, 1.05))
    axes.set_title(f"{letter(5)} medians and quartiles over {data['u'][0].size} points")
    axes.legend(loc="center right")


main = make_main("certificates", __doc__, compute=compute, plot=plot, findings=findings, table=table)


if __name__ == "__main__":
    main()
