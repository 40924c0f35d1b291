"""The cost of a prescribed accuracy: plain and multilevel Monte Carlo, and other methods of variance reduction.

    u(x, 0) = E[f(X_T) | X_0 = x],  dX = v(X, t) dt + sigma dB                                  (paper: (3.1))

(a) Path-steps against the root-mean-square error over random points, measured against the spectral solution: plain
Monte Carlo with the number of steps that is best for it has slope -3, multilevel Monte Carlo (Giles 2008) slope -2;
`solve_to` (Sobol points, Brownian bridge, stochastic Heun) costs a tenth of that, down to 1e-4.
(b) Variance (order 2) and mean (order 1) of the levels. (c) The gain of each option at equal cost. (d) Seconds against
the error, beside diffrax and torchsde, as `benchmarks/work_precision.py` measured them for the record in results/.

In (a) to (c) the velocity is smooth (modes up to 4), sigma = 0.1, T = 0.5. A minute and a half on two cores, under ten
seconds with --quick.
"""

import math
import time

import numpy as np
from tqdm import tqdm

import _enresnet
import pde
from figures import _io, _mlmc_plot, _results
from figures._cli import make_main
from pde import feynman_kac
from pde.feynman_kac import key_from
from pde.feynman_kac.control_variates import controlled_estimate
from pde.feynman_kac.quasi import quasi_estimate

__all__ = ["compute", "findings", "main", "plot"]

SIGMA, HORIZON = 0.1, 0.5
# Points per side: splines on them differ from the smooth fields by 1e-5, far below the errors shown.
N = 128
RECORD = "benchmark_work_precision.json"
NUMBERS = "requested", "error", "time"
ROW = {"tool": _results.word, "method": _results.word} | dict.fromkeys(NUMBERS, _results.positive)


def compute(*, quick=False, seed=0):
    """Measure costs, errors and variances.

    `asked`, `error` and `cost` (e,) of multilevel Monte Carlo, the same of plain Monte Carlo (p,) and of `solve_to`
    (s,), the levels (l,), the options' gains (o,), and the recorded times (t,). `quick`: fewer points, and accuracies a
    few times coarser.
    """
    timed = _timed()
    problem = _problem(seed)
    n_points, finest, count = (48, 4e-3, 4) if quick else (100, 1e-3, 7)
    points = np.random.default_rng([seed, 1]).random((n_points, 2))
    exact = pde.spectral.solve(problem, rtol=1e-8).field(points)
    asked = finest * 2.0 ** (np.arange(count)[::-1] / (1 if quick else 1.5))
    # Plain Monte Carlo stops where it would take most of a minute.
    plain_asked = asked[: count if quick else count - 2]
    solve_asked = asked[0] * 2.0 ** -np.arange(3 if quick else 8)
    with tqdm(total=2 + len(asked) + len(plain_asked) + len(solve_asked), disable=None, desc="mlmc", unit="run") as bar:
        levels = _levels(problem, points, 200 if quick else 2000, seed)
        bar.update()
        runs = []
        for place, eps in enumerate(asked):
            e = feynman_kac.multilevel(problem, points, stderr=float(eps), rng=np.random.default_rng([seed, 2, place]))
            runs.append((_rms(e.mean - exact), e.cost, len(e.n_steps)))
            bar.update()
        plain = []
        for place, eps in enumerate(plain_asked):
            plain.append(_plain(problem, points, exact, float(eps), levels, np.random.default_rng([seed, 3, place])))
            bar.update()
        solved = []
        for place, eps in enumerate(solve_asked):
            s = feynman_kac.solve_to(problem, points, float(eps), np.random.default_rng([seed, 5, place]))
            solved.append((_rms(s.mean - exact), s.n_paths * s.n_steps * n_points))
            bar.update()
        options = _options(problem, points, 32 if quick else 64, 1024 if quick else 8192, seed)
        bar.update()
    error, cost, n_levels = (np.array(column) for column in zip(*runs, strict=True))
    plain_error, plain_cost, plain_n_steps = (np.array(column) for column in zip(*plain, strict=True))
    solve_error, solve_cost = np.array(solved, dtype=float).T
    return {
        "solve_asked": solve_asked, "solve_error": solve_error, "solve_cost": solve_cost,
        "asked": asked, "error": error, "cost": cost.astype(float), "n_levels": n_levels.astype(float),
        "plain_asked": plain_asked, "plain_error": plain_error, "plain_cost": plain_cost.astype(float),
        "plain_n_steps": plain_n_steps.astype(float), **levels, **options, **timed,
        "n_points": np.array(float(n_points)),
    }  # fmt: skip


def _timed():
    """Error requested, error and seconds of each method, as recorded; ValueError for a record that cannot be read."""
    path = _io.results_directory(RECORD) / RECORD
    try:
        record = _enresnet.read_record(path)
        rows = _results.get(record, "rows", _results.items(_results.mapping(ROW), least=1))
        commit = _results.get(record, "machine.commit", _results.word)
        n_points = _results.get(record, "problem.n_points", _results.count)
    except (OSError, ValueError) as error:
        remedy = f"python benchmarks/work_precision.py --out results/{RECORD}"
        raise ValueError(f"{path.name} cannot be read ({type(error).__name__}: {error}): {remedy}") from None
    methods = [f"{row['tool']}: {row['method']}" for row in rows]
    return {f"timed_{key}": np.array([row[key] for row in rows], dtype=float) for key in NUMBERS} | {
        "timed_method": np.array(methods), "timed_n_points": np.array(n_points), "timed_at": np.array(commit[:9]),
    }  # fmt: skip


def _problem(seed):
    smooth = pde.problems.figure4(seed, N, SIGMA, "band-limited")
    velocity, terminal = (field.with_interpolation("bicubic") for field in (smooth.velocity, smooth.terminal))
    return pde.ConvectionDiffusion(velocity, terminal, sigma=SIGMA, horizon=HORIZON)


def _rms(errors):
    return float(np.sqrt(np.mean(errors**2)))


def _levels(problem, points, n_paths, seed):
    """Variance and mean of f(X^l) - f(X^(l-1)) for n_l = 16, 32, ..., 512 steps, and of f(X^0) for 8 steps."""
    n_steps = 8 * 2 ** np.arange(7)
    key = key_from(np.random.default_rng([seed, 4]))
    variance, mean, noise = [], [], []
    for level, steps in enumerate(n_steps):
        level_key = feynman_kac.level_key(key, level)
        samples = feynman_kac.level_samples(problem, points, int(steps), n_paths, level_key, coupled=level > 0)
        variance.append(samples.var(axis=1, ddof=1).mean())
        # Squared means contain the sampling noise of the means, which is estimated and subtracted.
        squares = samples.mean(axis=1) ** 2
        mean.append(math.sqrt(max(squares.mean() - variance[-1] / n_paths, 0.0)))
        noise.append(variance[-1] / n_paths * math.sqrt(2 / len(points)) / (2 * max(mean[-1], 1e-300)))
    return {
        "level_n_steps": n_steps.astype(float),
        "level_variance": np.array(variance),
        "level_mean": np.array(mean),
        "level_noise": np.array(noise),
    }


def _plain(problem, points, exact, eps, levels, rng):
    """Error, cost and steps of plain Monte Carlo with its best number of steps: bias**2 = eps**2 / 3 (Giles 2015)."""
    # Weak order 1: a level's mean is c h_l, with c the constant of the bias.
    c = np.median(levels["level_mean"][3:] * levels["level_n_steps"][3:])
    n_steps = max(1, math.ceil(math.sqrt(3) * c / eps))
    n_paths = max(2, math.ceil(1.5 * levels["level_variance"][0] / eps**2))
    e = pde.feynman_kac.estimate(problem, points, n_paths, n_steps, rng)
    return _rms(e.mean - exact), n_paths * n_steps * len(points), n_steps


def _options(problem, points, n_steps, n_paths, seed):
    """Variance of plain paths over each option's, at equal path-steps and at equal time, averaged over the points."""
    calls = {
        "plain": lambda m: pde.feynman_kac.estimate(problem, points, m, n_steps, seed),
        "antithetic pairs": lambda m: pde.feynman_kac.estimate(problem, points, m, n_steps, seed, antithetic=True),
        "heat equation": lambda m: controlled_estimate(problem, points, m, n_steps, seed, control="heat"),
        "characteristic": lambda m: controlled_estimate(problem, points, m, n_steps, seed, control="characteristic"),
        "Sobol points, bridge": lambda m: quasi_estimate(problem, points, max(1, m // 16), n_steps, 16, seed),
        "spectral martingale": lambda m: controlled_estimate(problem, points, m, n_steps, seed, n=64),
    }
    variances, seconds = [], []
    for call in calls.values():
        # The first call may have to compile.
        call(32)
        begin = time.perf_counter()
        variances.append(np.mean(call(n_paths).stderr ** 2))
        seconds.append(time.perf_counter() - begin)
    gain, slower = variances[0] / np.array(variances[1:]), np.array(seconds[1:]) / seconds[0]
    return {
        "option": np.array(list(calls)[1:]),
        "gain_per_step": gain,
        "gain_per_second": gain / slower,
        "option_n_steps": np.array(float(n_steps)),
        "option_n_paths": np.array(float(n_paths)),
    }


def findings(data):
    """Return the slopes and gains for the JSON file and for the legends."""
    h = 1 / data["level_n_steps"]
    fine = slice(3, None)
    multi = pde.convergence.observed_order(data["error"], data["cost"])
    plain = pde.convergence.observed_order(data["plain_error"], data["plain_cost"])
    eps = float(data["plain_asked"][-1])
    slopes = {
        "multilevel_cost": multi,
        "plain_cost": plain,
        "solve_cost": pde.convergence.observed_order(data["solve_error"], data["solve_cost"]),
        "level_variance": pde.convergence.observed_order(h[fine], data["level_variance"][fine]),
        "level_mean": pde.convergence.observed_order(h[fine], data["level_mean"][fine]),
    }
    return {
        "slopes": {name: {"order": fit.order, "stderr": fit.stderr} for name, fit in slopes.items()},
        "lines": {name: fit.constant for name, fit in slopes.items()},
        "cost_ratio": {
            "error": eps,
            "plain_over_multilevel": _line(plain, eps) / _line(multi, eps),
            "multilevel_over_solve_to": _line(multi, eps) / _line(slopes["solve_cost"], eps),
        },
        "time_over_solve_to": _time_ratios(data),
        "gain_per_step": dict(zip(data["option"].tolist(), data["gain_per_step"].tolist(), strict=True)),
        "gain_per_second": dict(zip(data["option"].tolist(), data["gain_per_second"].tolist(), strict=True)),
    }


def _time_ratios(data):
    """Each method's time over that of `solve_to` at the smallest error that it was asked for."""
    ratios = {}
    for method in dict.fromkeys(data["timed_method"].tolist()):
        error = data["timed_requested"][data["timed_method"] == method].min()
        at = data["timed_requested"] == error
        seconds = dict(zip(data["timed_method"][at].tolist(), data["timed_time"][at].tolist(), strict=True))
        ratios[method] = {"error": float(error), "ratio": seconds[method] / seconds["ours: solve_to"]}
    return ratios


def _line(fit, error):
    return fit.constant * error**fit.order


def plot(data):
    """Draw the four panels."""
    return _mlmc_plot.panels(data, findings(data))


main = make_main("mlmc", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
