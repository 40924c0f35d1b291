"""An ensemble of networks tends to the solution of the equation: order 1 in the depth, 1/2 in the number of draws.

    x_(l+1) = x_l + dt v(x_l) + sigma dB_l,  l < L,  dt = T / L;   E f(x_L) = u(x, 0) + O(1 / L)      (paper: (3.1))

The networks are `bridge.network_from_velocity`, the solution is the spectral one, the errors are root mean squares over
random points. (a) The error of the expectation against the depth L. Its noise is kept far below it by a control of mean
zero, which does not change the expectation:

    sum_l sigma grad u . dB_l + (sigma**2 / 2) (dB_l . H dB_l - dt tr H),  H = D grad u,  all at (x_l, t_l)

(b) The error of the mean of N draws, without the control: it falls as 1 / sqrt(N) down to what (a) shows for that
depth. Laplace noise, of equal variance, has the same limit; at finite depth it is farther from it.

The velocity is that of two crossed shears, sigma = 0.2, T = 1. Under a minute, seconds with --quick.
"""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from bridge import FeynmanKacMean, TorchField, network_from_velocity, noise_from
from bridge.noise import NOISES, standard_noise
from figures._cli import make_main
from figures._style import BLUE, GREY, RED

__all__ = ["compute", "findings", "main", "plot"]

SIGMA, AMPLITUDE, HORIZON = 0.2, 0.3, 1.0
# Points per side: of velocity and terminal datum, which are single modes, and of the solution.
N_DATA, N = 8, 64
# A depth is used for the slope if the relative standard error of its error is below this.
LARGEST_NOISE = 0.1
# Number of forward passes per mean; each evaluates n_draws / N_PASSES copies of the points.
N_PASSES = 4
LAWS = {"gaussian": (BLUE, "o", "Gaussian"), "laplace": (RED, "s", "Laplace")}


def compute(*, quick=False, seed=0):
    """`bias` and `bias_stderr` (w, l) of laws and depths, (a); `error` (w, k, d) of laws, depths and draws, (b)."""
    n_layers = 2 ** np.arange(2, 6 if quick else 8)
    n_bias_draws = 1000 if quick else 1500
    n_draws = 2 ** np.arange(2, 7 if quick else 9)
    depths = n_layers[[0, -1]]
    n_bias_points, n_error_points = (8, 64) if quick else (16, 200)
    problem = _problem()
    points = np.random.default_rng([seed, 0]).random((n_bias_points + n_error_points, 2))
    u = pde.spectral.solve(problem, N).field(points)
    where, exact = torch.from_numpy(points), torch.from_numpy(u)
    few, many = slice(n_bias_points), slice(n_bias_points, None)
    derivatives = _derivatives(problem, int(n_layers[-1]))
    bias, stderr = np.empty((2, len(NOISES), len(n_layers)))
    error = np.empty((len(NOISES), len(depths), len(n_draws)))
    n_steps = n_layers.sum() * n_bias_draws * n_bias_points, depths.sum() * n_draws.sum() * n_error_points
    total = len(NOISES) * int(sum(n_steps))
    with torch.no_grad(), tqdm(total=total, disable=None, desc="convergence", unit="step", unit_scale=True) as bar:
        for row, law in enumerate(NOISES):
            generator = torch.Generator().manual_seed(2 * seed + row)
            for column, count in enumerate(n_layers.tolist()):
                net = network_from_velocity(problem, count, noise=law)
                here = derivatives[:: len(derivatives) // count]
                values, control = _draws(net, here, where[few], n_bias_draws, law, generator)
                bias[row, column], stderr[row, column] = _root_mean_square(values - control, exact[few])
                bar.update(count * n_bias_draws * n_bias_points)
            for place, count in enumerate(depths.tolist()):
                net = network_from_velocity(problem, count, noise=law)
                for column, draws in enumerate(n_draws.tolist()):
                    mean = _mean(net, where[many], draws, generator)
                    error[row, place, column] = pde.convergence.l2_norm((mean - exact[many]).numpy())
                    bar.update(count * draws * n_error_points)
    return {
        "law": np.array(NOISES), "n_layers": n_layers.astype(float), "bias": bias, "bias_stderr": stderr,
        "n_bias_draws": np.array(float(n_bias_draws)), "n_bias_points": np.array(float(n_bias_points)),
        "depth": depths.astype(float), "n_draws": n_draws.astype(float), "error": error,
        "depth_bias": bias[:, np.isin(n_layers, depths)], "n_error_points": np.array(float(n_error_points)),
        "sigma": np.array(SIGMA), "horizon": np.array(HORIZON),
    }  # fmt: skip


def _problem(horizon=HORIZON):
    """v = A (sin(2 pi y), sin(2 pi x)), f = cos(2 pi x)."""
    x, y = np.moveaxis(pde.grid.points(N_DATA), -1, 0) * (2 * np.pi)
    velocity = AMPLITUDE * np.stack([np.sin(y), np.sin(x)])
    return pde.ConvectionDiffusion(velocity, np.cos(x), sigma=SIGMA, horizon=horizon)


def _derivatives(problem, n_times):
    """grad u and D grad u at t_l = l T / n_times, as one field; any function would leave the control's mean at zero."""
    fields = []
    for place in range(n_times):
        # A steady velocity: u(., t) is the solution at time 0 of the problem that ends at T - t.
        shorter = _problem(problem.horizon * (1 - place / n_times))
        gradient = np.moveaxis(pde.spectral.solve(shorter, N, rtol=1e-6).field.jacobian_on_grid(N), -1, 0)
        (xx, xy), (_, yy) = np.moveaxis(pde.PeriodicField(gradient).jacobian_on_grid(N), -1, 1)
        fields.append(TorchField(pde.PeriodicField(np.stack([*gradient, xx, xy, yy]), interpolation="bilinear")))
    return fields


def _draws(net, derivatives, points, n_draws, law, generator):
    """f(x_L), of shape (n_draws, n_points), and for each draw the sum that has the mean zero."""
    x = points.expand(n_draws, *points.shape).contiguous()
    control = x.new_zeros(x.shape[:-1])
    for block, field in zip(net.blocks, derivatives, strict=True):
        noise = block.coef * math.sqrt(block.dt) * standard_noise(x, law, generator)
        (a, b), (u_x, u_y, u_xx, u_xy, u_yy) = noise.unbind(dim=-1), field(x).unbind(dim=-1)
        variance = block.coef**2 * block.dt
        control += a * u_x + b * u_y + (a**2 - variance) * u_xx / 2 + a * b * u_xy + (b**2 - variance) * u_yy / 2
        x = block(x, noise / block.coef)
    return net.output(x), control


def _root_mean_square(values, exact):
    """sqrt(mean over the points of b_i**2), b_i the mean over the draws less u_i, and the standard error of that."""
    errors = values.mean(dim=0) - exact
    variances = values.var(dim=0) / len(values)
    rms = errors.square().mean().sqrt()
    # d rms / d b_i = b_i / (n rms)
    return rms.item(), ((errors.square() * variances).sum().sqrt() / (len(errors) * rms)).item()


def _mean(net, points, n_draws, generator):
    """Mean of f(x_L) over n_draws draws from each point."""
    ensemble = FeynmanKacMean([net], n_draws=N_PASSES)
    with noise_from(ensemble, generator):
        return ensemble(points.expand(n_draws // N_PASSES, *points.shape).contiguous()).mean(dim=0)


def findings(data):
    """Return the findings for the JSON file."""
    noise = data["bias_stderr"] / data["bias"]
    # Relative standard error of a root mean square of m normal numbers.
    scatter = 1 / math.sqrt(2 * float(data["n_error_points"]))
    found = {"order_in_depth": {}, "order_in_draws": {}}
    for row, law in enumerate(data["law"].tolist()):
        fitted = noise[row] < LARGEST_NOISE
        found["order_in_depth"][law] = _fit(1 / data["n_layers"], data["bias"][row], noise[row], fitted) | {
            "n_layers": data["n_layers"][fitted].tolist(),
            "largest_relative_noise": float(noise[row][fitted].max(initial=0.0)),
        }
        error, floor = data["error"][row, -1], data["depth_bias"][row, -1]
        # Errors add in squares: a bias of a fifth of the error changes it by 2 %, less than the scatter.
        fitted = error > 5 * floor
        found["order_in_draws"][law] = _fit(1 / data["n_draws"], error, np.full_like(error, scatter), fitted) | {
            "n_draws": data["n_draws"][fitted].tolist(),
            "n_layers": float(data["depth"][-1]),
        }
    found["bias"] = {law: row.tolist() for law, row in zip(data["law"].tolist(), data["bias"], strict=True)}
    found["bias_stderr"] = {
        law: row.tolist() for law, row in zip(data["law"].tolist(), data["bias_stderr"], strict=True)
    }
    return found | {key: data[key].tolist() for key in ("n_layers", "n_bias_draws", "sigma", "horizon")}


def _fit(h, errors, noise, fitted):
    """Order, its standard error, and the constant; or None."""
    if fitted.sum() < 3:
        return {"order": None, "stderr": None, "constant": None}
    fit = pde.convergence.observed_order(h[fitted], errors[fitted])
    x = np.log(h[fitted]) - np.log(h[fitted]).mean()
    from_noise = np.sqrt(np.sum((x * noise[fitted]) ** 2)) / (x @ x)
    return {"order": fit.order, "stderr": max(fit.stderr, float(from_noise)), "constant": fit.constant}


def plot(data):
    """Two panels: the error against the depth and against the number of draws."""
    found = findings(data)
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    depth, draws = figure.subplots(1, 2)
    _over_depth(depth, data, found["order_in_depth"])
    _over_draws(draws, data, found["order_in_draws"])
    return figure


def _slope(fit, expected):
    if fit["order"] is None:
        return "no slope: too noisy"
    # A minus sign as long as the figures' dashes.
    return f"slope −{fit['order']:.3f} ± {fit['stderr']:.3f} (theory −{expected})"


def _line(axes, fit, n, colour):
    if fit["order"] is not None:
        axes.plot(n, fit["constant"] * n ** -fit["order"], color=colour, lw=1.2)


def _reference(axes, n, start, order, text):
    """A line of the slope of the theory, below the data."""
    axes.plot(n, start * (n / n[0]) ** -order, color=GREY, ls="--", lw=1.2)
    middle = np.sqrt(n[0] * n[-1])
    axes.annotate(text, (middle, start * (middle / n[0]) ** -order), (-4, -3), textcoords="offset points", ha="right",
                  va="top", color="#555555", fontsize=9)  # fmt: skip


def _over_depth(axes, data, fits):
    axes.set_title(f"(a) depth: error of the expectation, {data['n_bias_points']:g} points", fontsize=10)
    n = data["n_layers"]
    for row, law in enumerate(data["law"].tolist()):
        colour, marker, name = LAWS[law]
        axes.errorbar(
            n, data["bias"][row], yerr=data["bias_stderr"][row], fmt=marker, color=colour, ms=5, capsize=3,
            label=f"{name}: {_slope(fits[law], 1)}",
        )  # fmt: skip
        _line(axes, fits[law], n, colour)
    _reference(axes, n, 0.6 * data["bias"][:, 0].min(), 1, "$1/L$")
    axes.set_xlabel("layers $L$")
    axes.set_ylabel(r"rms over points of $E[f(x_L)] - u(x, 0)$, units of $f$")
    _finish(axes, n, room=0.12)


def _over_draws(axes, data, fits):
    axes.set_title(f"(b) draws: error of the mean, {data['n_error_points']:g} points", fontsize=10)
    n = data["n_draws"]
    # Relative standard error of a root mean square of m normal numbers.
    scatter = 1 / np.sqrt(2 * data["n_error_points"])
    for row, law in enumerate(data["law"].tolist()):
        colour, marker, name = LAWS[law]
        for place, depth in enumerate(data["depth"]):
            error, deepest = data["error"][row, place], place == len(data["depth"]) - 1
            text = f", $L = {depth:g}$" + (f": {_slope(fits[law], '1/2')}" if deepest else "")
            axes.errorbar(
                n, error, yerr=scatter * error, fmt=marker, color=colour, ms=5, capsize=3,
                mfc=colour if deepest else "white", label=name + text,
            )  # fmt: skip
            if not deepest:
                axes.axhline(data["depth_bias"][row, place], color=colour, ls=":", lw=1.2)
        _line(axes, fits[law], n, colour)
    _reference(axes, n, 0.6 * data["error"][:, -1, 0].min(), 0.5, r"$1/\sqrt{N}$")
    floor = data["depth_bias"][:, 0].max()
    axes.annotate(f"error (a) of $L = {data['depth'][0]:g}$", (n[0], floor), (0, 3), textcoords="offset points",
                  fontsize=9, color="#555555")  # fmt: skip
    axes.set_xlabel("draws $N$ of the noise per point")
    axes.set_ylabel("rms over points of mean − $u(x, 0)$, units of $f$")
    _finish(axes, n, room=0.5)


def _finish(axes, n, *, room):
    """Logarithmic axes with plain numbers, and room below the data for the legend."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(n, [f"{count:g}" for count in n])
    low, high = axes.get_ylim()
    low /= (high / low) ** room
    ticks = [t for t in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low <= t <= high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.legend(loc="lower left", fontsize=9, frameon=False)


main = make_main("convergence", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
