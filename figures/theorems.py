"""The paper's two theorems compared with the quantities they bound: where they hold, where they fail, and what is true.

    u_t + v . grad u + (sigma**2 / 2) lap u = 0,  u(x, T) = f(x)                    (paper: Theorems 2.1 and 2.2)

(a)-(c) The largest slope of u(., 0) over sigma, for the velocity of Figure 4 (between neighbours of the grid) and for
two smooth ones, beside the bound of Theorem 2.2 as printed, corrected, and sharp; at the steepest place, the slope by
Bismut's formula, which shares no code with the solver and takes no difference of u. (d), (e) The Gaussian for which the
printed bound fails, over time and over sigma: spectral solution, closed form and bounds. (f) The smallest Hölder
constants of Theorem 2.1, for Figure 4's problem; error bars are the half-difference of two independent estimates. The
proofs are in docs/theorem-2-2.md.

About a minute, seconds with --quick; the first run compiles, too.
"""

# Over 300 lines: the computation and the drawing of one figure stay in one file.

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures import fig4
from figures._cli import make_main
from figures._plane import resolved
from figures._style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, letter
from pde import bounds
from pde.feynman_kac import gradient

__all__ = ["compute", "findings", "main", "plot"]

SMOOTH = ("band-limited", "divergence-free")
ALPHAS = (0.25, 0.5, 0.75, 1.0)
# Relative to max |f|.
RESOLUTION = 1e-3
RADIUS, SIGMA = 2.0, 2.0
FINE = 1024
BOUNDS = (
    ("published", RED, ":", "Theorem 2.2 as printed"),
    ("corrected", BLUE, "--", "corrected"),
    ("sharp", GREEN, "-", "sharp"),
)
ALPHA_COLOURS = (SKY, BLUE, PURPLE, BLACK)
# A bound larger than this is written as text.
HIGHEST = 1e7
SLOPE = r"$\sup_x |\nabla u|$"
UNIT = "(unit of $f$ / length)"
SIGMA_LABEL = "σ (length / time$^{1/2}$)"


def compute(*, quick=False, seed=0):
    """`smooth_*` (f, m) and `rough_*` (s,); `time_*` (t,) and `wide_*` (w,), the counterexample; `hoelder*` (s, a)."""
    smooth = np.array([0.05, 0.1, 0.2, 0.3] if quick else [0.02, 0.03, 0.05, 0.1, 0.2, 0.3])
    rough = np.array([0.003, 0.03, 0.1, 0.3] if quick else [0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3])
    n_times = 5 if quick else 10
    with tqdm(total=len(SMOOTH) * len(smooth) + len(rough) + 1, disable=None, desc="theorems", unit="solve") as bar:
        data = _smooth(smooth, quick, seed, bar) | _rough(rough, quick, seed, bar) | _gaussian(n_times)
        bar.update()
    return data


def _bounds(problem):
    """Printed, corrected and sharp bound, and the mean gamma."""
    sharp = bounds.sharp_gradient_bound(problem)
    corrected, published = bounds.gradient_bound(problem), bounds.gradient_bound_as_published(problem)
    return {"published": published.bound, "corrected": corrected.bound, "sharp": sharp.bound}, sharp.gamma


def _smooth(sigmas, quick, seed, bar):
    shape = (len(SMOOTH), len(sigmas))
    keys = ("n", "measured", "published", "corrected", "sharp", "bismut", "bismut_stderr")
    data = {f"smooth_{key}": np.empty(shape) for key in keys}
    gammas = []
    for row, family in enumerate(SMOOTH):
        for column, sigma in enumerate(sigmas):
            problem = pde.problems.figure4(seed, sigma=float(sigma), velocity=family)
            solution = resolved(problem, (problem.n, 2 * problem.n, 4 * problem.n), RESOLUTION)
            data["smooth_n"][row, column] = len(solution.u)
            data["smooth_measured"][row, column] = bounds.largest_gradient(solution.field).found
            found, gamma = _bounds(problem)
            slopes = solution.field.jacobian_on_grid(FINE)
            steepest = np.unravel_index(np.hypot(slopes[..., 0], slopes[..., 1]).argmax(), slopes.shape[:2])
            direction = slopes[steepest] / np.hypot(*slopes[steepest])
            found |= _by_bismut(problem, np.array(steepest) / FINE, direction, quick, seed)
            for key, value in found.items():
                data[f"smooth_{key}"][row, column] = value
            bar.update()
        gammas.append(gamma)
    return data | {"smooth_family": np.array(SMOOTH), "smooth_sigma": sigmas, "smooth_gamma": np.array(gammas)}


def _by_bismut(problem, point, direction, quick, seed):
    """The slope of u at a point along a direction, without u, and its standard error, at most."""
    n_paths, n_steps = (1024, 100) if quick else (16384, round(1 / fig4.PAPER_DT))
    g = gradient(problem, point[None], "bismut", n_paths, n_steps, seed)
    # Whatever the correlation of the two components.
    return {"bismut": g.mean[0] @ direction, "bismut_stderr": g.stderr[0] @ np.abs(direction)}


def _steepest_pair(u):
    """Middle of the neighbours (of a grid function of period 1) with the largest difference, and the way up."""
    n, differences = len(u), np.stack([np.roll(u, -1, axis) - u for axis in (0, 1)])
    axis, *place = np.unravel_index(np.abs(differences).argmax(), differences.shape)
    along = np.eye(2)[axis]
    return (np.array(place) + along / 2) / n, along * np.sign(differences[axis][tuple(place)])


def _rough(sigmas, quick, seed, bar):
    """Figure 4's problem: by its method of record, and twice where that is Monte Carlo."""
    n, n_paths, n_steps = (48, 16, 200) if quick else (128, 128, round(1 / fig4.PAPER_DT))
    rows, methods, results = [], [], []
    for sigma in sigmas:
        problem = pde.problems.figure4(seed, n, float(sigma))
        u, _, method, _ = fig4.solve(problem, "auto", n_paths, n_steps, seed)
        noise = np.zeros_like(u)
        if method != "spectral":
            u, noise = _mean_and_noise(u, fig4.path_average(problem, n, n_paths, n_steps, seed + 1).mean)
        bismut = _by_bismut(problem, *_steepest_pair(u), quick, seed)
        result = bounds.hoelder_constant(problem, u, alphas=ALPHAS)
        noise = bounds.hoelder_constant(problem, noise, alphas=ALPHAS)
        found, gamma = _bounds(problem)
        rows.append(
            {
                # Differences between neighbours: a slope that u surely has somewhere.
                "rough_measured": result.difference[0] * n, "rough_noise": noise.difference[0] * n,
                "hoelder": result.constant, "hoelder_noise": noise.constant,
                "hoelder_bound": bounds.hoelder_bound(problem, ALPHAS),
            } | {f"rough_{key}": value for key, value in (found | bismut).items()}
        )  # fmt: skip
        methods.append("spectral" if method == "spectral" else "Feynman-Kac")
        results.append(result)
        bar.update()
    fit = bounds.hoelder_exponent(results)
    return {key: np.array([row[key] for row in rows]) for key in rows[0]} | {
        "rough_sigma": sigmas, "rough_gamma": np.array(gamma), "rough_n": np.array(float(n)),
        "rough_method": np.array(methods), "alpha": np.array(ALPHAS), "exponent": np.array(fit.order),
        "exponent_stderr": np.array(fit.stderr),
    }  # fmt: skip


def _mean_and_noise(u, again):
    """Mean of two independent estimates, and their half-difference, which is as noisy as the mean."""
    return (u + again) / 2, (u - again) / 2


def _gaussian(n_times):
    times = np.arange(1, n_times + 1) / n_times
    sigmas = np.linspace(0.25, 2.5, 2 * n_times)
    data = {
        "radius": np.array(RADIUS), "time_sigma": np.array(SIGMA), "time": times, "wide_sigma": sigmas,
        "time_exact": bounds.counterexample_gradient(RADIUS, SIGMA, times),
        "wide_exact": bounds.counterexample_gradient(RADIUS, sigmas, 1.0),
        "threshold": np.array(bounds.counterexample_threshold(RADIUS)),
        "any_threshold": np.array(bounds.published_threshold()),
    }  # fmt: skip
    cases = {"time": [(SIGMA, float(t)) for t in times], "wide": [(float(sigma), 1.0) for sigma in sigmas]}
    # One torus, long enough for the widest of the solutions.
    widest = bounds.counterexample(RADIUS, sigma=float(sigmas[-1]))
    for panel, values in cases.items():
        rows = []
        for sigma, horizon in values:
            problem = pde.ConvectionDiffusion(
                widest.velocity, widest.terminal, sigma=sigma, horizon=horizon, length=widest.length
            )
            field = pde.spectral.solve(problem, rtol=1e-10).field
            # The largest slope is attained on a circle, which a fine grid does not miss.
            rows.append({"measured": field.jacobian_sup_norm(FINE)} | _bounds(problem)[0])
        data |= {f"{panel}_{key}": np.array([row[key] for row in rows]) for key in rows[0]}
    return data


def findings(data):
    """Return the findings for the JSON file."""
    families = {"grid-noise": ("rough", ())} | {
        str(name): ("smooth", (row,)) for row, name in enumerate(data["smooth_family"])
    }
    gradients = {}
    for name, (kind, row) in families.items():
        measured, sharp = data[f"{kind}_measured"][row], data[f"{kind}_sharp"][row]
        gradients[name] = {
            "sigma": data[f"{kind}_sigma"].tolist(),
            "gamma": float(data[f"{kind}_gamma"][row]),
            "measured": measured.tolist(),
            "bismut": data[f"{kind}_bismut"][row].tolist(),
            "bismut_stderr": data[f"{kind}_bismut_stderr"][row].tolist(),
            "sharp": sharp.tolist(),
            "corrected": data[f"{kind}_corrected"][row].tolist(),
            "published": data[f"{kind}_published"][row].tolist(),
            "smallest_sharp_over_measured": float((sharp / measured).min()),
            "smallest_published_over_measured": float((data[f"{kind}_published"][row] / measured).min()),
        }
    exact, wide = data["wide_exact"], data["wide_measured"]
    return {
        "gradients": gradients,
        "captions": {
            "": "(a)–(c) Largest slope of u(x, 0) against σ, and the bounds on it; in (a) between neighbours of the "
            "grid, which u surely has somewhere (the gradient of the bilinear field is up to √2 longer), with bars of "
            "half the difference of two independent estimates where the solution is one of Monte Carlo. Diamonds: "
            "slope at the steepest place found, by Bismut's formula; where grid noise is not resolved, differences "
            "between neighbours miss part of it. (d), (e) A Gaussian without velocity. (f) Smallest Hölder constants; "
            "dashed: the bound."
        },
        "counterexample": {
            "radius": float(data["radius"]),
            "fails_beyond_sigma": float(data["threshold"]),
            "no_data_fail_below_sigma": float(data["any_threshold"]),
            "sigma": float(data["time_sigma"]),
            "measured": float(data["time_measured"][-1]),
            "exact": float(data["time_exact"][-1]),
            "published": float(data["time_published"][-1]),
            "corrected": float(data["time_corrected"][-1]),
            "sharp": float(data["time_sharp"][-1]),
            "largest_relative_error": float(np.abs(wide / exact - 1).max()),
        },
        "hoelder": {
            "sigma": data["rough_sigma"].tolist(),
            "method": data["rough_method"].tolist(),
            "alpha": data["alpha"].tolist(),
            "constant": data["hoelder"].tolist(),
            "noise": data["hoelder_noise"].tolist(),
            "bound": data["hoelder_bound"][0].tolist(),
            "exponent_between_neighbours": {"order": float(data["exponent"]), "stderr": float(data["exponent_stderr"])},
        },
    }


def plot(data):
    """Six panels: slopes and bounds for three velocities; the counterexample twice; Hölder constants."""
    figure = Figure(figsize=(14.5, 8.8), layout="constrained")
    above, below = figure.subplots(2, 3)
    n = int(data["rough_n"])
    keys = ("measured", "published", "corrected", "sharp", "bismut", "bismut_stderr")
    rough = {key: data[f"rough_{key}"] for key in (*keys, "noise")}
    _slopes(above[0], 0, data["rough_sigma"], rough, f"grid noise (Figure 4, n = {n})", data["rough_gamma"])
    for axes, row in zip(above[1:], range(len(data["smooth_family"])), strict=True):
        smooth = {key: data[f"smooth_{key}"][row] for key in keys}
        name = f"{data['smooth_family'][row]} velocity"
        _slopes(axes, row + 1, data["smooth_sigma"], smooth, name, data["smooth_gamma"][row])
    above[0].set_ylabel(f"{SLOPE} at t = 0 {UNIT}")
    above[1].legend(loc="lower left", fontsize=8.5, frameon=False)
    _over_time(below[0], data)
    _over_sigma(below[1], data)
    _hoelder(below[2], data)
    return figure


def _slopes(axes, place, sigma, found, name, gamma):
    axes.set_title(f"{letter(place)} {name}, γ = {float(gamma):.3g}")
    _draw_bounds(axes, sigma, found)
    noise = found.get("noise", np.zeros_like(sigma))
    axes.errorbar(
        sigma, found["measured"], yerr=np.where(noise > 0, noise, np.nan), fmt="ko-", ms=5, lw=0.9, capsize=2,
        label="measured",
    )  # fmt: skip
    axes.errorbar(
        sigma, found["bismut"], yerr=2 * found["bismut_stderr"], fmt="D", ms=8, mfc="none", mec=ORANGE, ecolor=ORANGE,
        capsize=3, lw=1.2, label="by Bismut's formula, ± 2 s.e.",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylim=(0.1, HIGHEST))
    _sigma_ticks(axes, sigma)


def _sigma_ticks(axes, sigma):
    ticks = [s for s in (0.003, 0.01, 0.03, 0.1, 0.3) if sigma.min() <= 1.01 * s <= 1.02 * sigma.max()]
    axes.set_xticks(ticks, [f"{s:g}" for s in ticks])
    axes.minorticks_off()


def _draw_bounds(axes, x, found):
    for key, colour, dashes, label in BOUNDS:
        values = found[key]
        if (values > HIGHEST).all():
            exponents = f"{np.log10(values.max()):.0f}"
            text = f"printed bound: $10^{{{exponents}}}$"
            axes.annotate(text, (0.5, 0.95), xycoords="axes fraction", ha="center", color=colour, fontsize=9)
        else:
            axes.plot(x, values, color=colour, ls=dashes, lw=1.8, label=label)


def _draw_gaussian(axes, data, panel, x, *, note):
    found = {key: data[f"{panel}_{key}"] for key in ("published", "corrected", "sharp")}
    _draw_bounds(axes, x, found)
    axes.plot(x, data[f"{panel}_exact"], color="black", lw=0.9, label="closed form")
    axes.plot(x, data[f"{panel}_measured"], "ko", ms=4, label="spectral solution")
    wrong = data[f"{panel}_exact"] > found["published"]
    axes.fill_between(
        x, found["published"], data[f"{panel}_exact"], where=wrong, color=RED, alpha=0.15, lw=0, interpolate=True
    )
    place = {"xycoords": "axes fraction", "ha": "right", "color": RED, "fontsize": 8.5}
    axes.annotate("true slope >\nprinted bound", (0.98, note), **place)
    axes.set(yscale="log", ylabel=f"{SLOPE} {UNIT}")
    low, high = axes.get_ylim()
    ticks = [t for t in (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low < t < high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def _over_time(axes, data):
    radius, sigma = float(data["radius"]), float(data["time_sigma"])
    axes.set_title(f"(d) v = 0, Gaussian of radius {radius:g}, σ = {sigma:g}: the printed bound fails", fontsize=10)
    _draw_gaussian(axes, data, "time", data["time"], note=0.29)
    axes.set(xlabel="time from the data, T − t (time)")
    axes.legend(loc="lower left", fontsize=8.5, frameon=False)


def _over_sigma(axes, data):
    threshold, lowest = float(data["threshold"]), float(data["any_threshold"])
    axes.set_title(f"(e) the same at T − t = 1: it fails for σ > {threshold:.3f}", fontsize=10)
    _draw_gaussian(axes, data, "wide", data["wide_sigma"], note=0.42)
    axes.axvline(threshold, color=RED, lw=1)
    axes.axvline(lowest, color="grey", lw=1, ls="-.")
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}
    axes.annotate(f"below σ = {lowest:.3f}\nit holds for\nevery datum", (lowest, 0.03), (-6, 0), ha="right", **place)
    axes.annotate("this datum violates\nit from here", (threshold, 0.03), (6, 0), ha="left", color=RED, **place)
    axes.set(xlabel=SIGMA_LABEL)


def _hoelder(axes, data):
    sigma, n = data["rough_sigma"], int(data["rough_n"])
    axes.set_title(f"(f) Hölder constants, grid noise, all pairs of {n}² points", fontsize=10)
    for column, (alpha, colour) in enumerate(zip(data["alpha"], ALPHA_COLOURS, strict=True)):
        noise = data["hoelder_noise"][:, column]
        axes.errorbar(
            sigma, data["hoelder"][:, column], yerr=np.where(noise > 0, noise, np.nan), fmt="o-", ms=4, lw=1.2,
            capsize=2, color=colour, label=f"α = {alpha:g}",
        )  # fmt: skip
        axes.plot(sigma, data["hoelder_bound"][:, column], ls="--", lw=1, color=colour)
    axes.axvspan(axes.get_xlim()[0], 1 / n, color="grey", alpha=0.12, lw=0)
    axes.annotate("◂ σ below the grid spacing", (1 / n, 0.96), (2, 0), xycoords=("data", "axes fraction"), va="top",
                  textcoords="offset points", fontsize=8.5, color="#555555")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, xlim=(sigma.min() * 0.85, sigma.max() * 1.15))
    axes.set_ylabel(r"smallest $C$: $|u(x+\delta) - u(x)| \leq C (|\delta|/\sigma)^\alpha$")
    axes.plot([], [], ls="--", lw=1, color="grey", label="bound (corrected 2.1)")
    axes.legend(loc="lower left", fontsize=8.5, frameon=False, ncols=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.2, high * (high / low) ** 0.08)
    _sigma_ticks(axes, sigma)


main = make_main("theorems", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
