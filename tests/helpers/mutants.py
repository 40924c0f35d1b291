"""Mutants of the code, each of which a test must catch: python tests/helpers/mutants.py [NAME ...] [--table FILE].

Every mutant is one small, plausible mistake. It is made in a copy of the project, the tests named beside it run
there, and the first that fails is what caught it; the same test must pass in the copy without the mistake. `--table`
writes the list as Markdown; with `--update`, mutants that are not run keep their row.

Seconds per mutant; a mutant of compiled code compiles again, up to a minute.
"""

# Over 300 lines: a list of mistakes.

import argparse
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mutants_figures
import mutants_rest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "pde",
    "bridge",
    "nets",
    "figures",
    "lessons",
    "docs",
    "results",
    "tests",
    "enresnet.py",
    "_enresnet.py",
    "conftest.py",
    "setup.cfg",
)
COPIED += ("pyproject.toml", "Makefile", "README.md")
# Imported once, by the process from which those that run tests are forked.
LIBRARIES = ["pytest", "numba", "scipy.special", "scipy.sparse", "scipy.stats", "matplotlib.figure", "torch"]
LIBRARIES += [
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
    "torch.func",
    "safetensors.torch",
    "tyro",
    "PIL.Image",
]
PROCESSES = multiprocessing.get_context("forkserver")
ROW = re.compile(r"\| (?P<name>.+) \| `(?P<path>.+)` \| (?P<caught>.+) \|")
HEAD = (
    "# Mutants\n\nMade by `python tests/helpers/mutants.py --table docs/mutants.md`, in parts with `--update`: "
    "every mistake was put into a copy of the code, and the first test to fail is named.\n\n"
)
# Mutants between two writes of the table.
PART = 8
NOT_RUN, NOTHING = "not run", "**nothing**"


class Mutant(NamedTuple):
    """One mistake: in `path`, `right` becomes `wrong`; `tests` are run, a file or FILE::TEST."""

    name: str
    path: str
    right: str
    wrong: str
    tests: str


MUTANTS = [
    Mutant(
        "sign of the convection",
        "pde/spectral/_generator.py",
        "slopes[0, i, j] = slopes[0, i, j] * velocity[0, i, j] +",
        "slopes[0, i, j] = -slopes[0, i, j] * velocity[0, i, j] -",
        "pde/test_spectral",
    ),
    Mutant(
        "time not reversed",
        "pde/spectral/_pieces.py",
        "layer = None if n_layers is None else min(int((begin + end) / 2 / horizon * count), count - 1)",
        "layer = None if n_layers is None else count - 1 - min(int((begin + end) / 2 / horizon * count), count - 1)",
        "pde/test_spectral",
    ),
    Mutant(
        "a stage without its integrating factor",
        "pde/spectral/_integrators.py",
        "end.convection(decay * (half + dt * k3))",
        "end.convection(half + dt * k3)",
        "pde/test_spectral",
    ),
    Mutant(
        "truncation not counted as an error",
        "pde/spectral/_integrators.py",
        "march.error = march.error * allowed(part)[1] + residual",
        "march.error = march.error * allowed(part)[1]",
        "pde/test_spectral",
    ),
    Mutant(
        "maximum principle not looked at",
        "pde/spectral/_state.py",
        "if not self.violation and not excess <= self.tolerance:",
        "if False:",
        "pde/test_spectral",
    ),
    Mutant(
        "Krylov step never shortened",
        "pde/spectral/_hessenberg.py",
        "passes = estimate(trial[n - 2], trial[n - 1], growth) <= max(allowed * (tau + h), 32 * _EPS)",
        "passes = True",
        "pde/test_krylov",
    ),
    Mutant(
        "σ² for σ²/2",
        "pde/equation.py",
        "return self.sigma * self.sigma / 2",
        "return self.sigma * self.sigma",
        "pde/test_spectral",
    ),
    Mutant(
        "a sparse state is taken for an exhausted space",
        "pde/spectral/_arnoldi.py",
        "            return BLIND\n",
        "            norm = 0.0\n            break\n",
        "pde/test_krylov",
    ),
    Mutant(
        "rough velocities end where products do",
        "pde/spectral/_velocity.py",
        "        if reach > least:",
        "        if reach > least and False:",
        "pde/test_error_account",
    ),
    Mutant(
        "one other grid tells the aliases",
        "pde/spectral/_data.py",
        "_OTHER_SIZES = (0.61, 0.43, 0.29)",
        "_OTHER_SIZES = ()",
        "pde/test_error_account",
    ),
    Mutant("grid transposed", "pde/grid.py", 'indexing="ij"', 'indexing="xy"', "pde/test_grid"),
    Mutant(
        "modes up to n/2 for n/3",
        "pde/grid.py",
        "at_least=1) - 1) // 3",
        "at_least=1) - 1) // 2",
        "pde/test_grid",
    ),
    Mutant(
        "dt for √dt",
        "pde/feynman_kac/_paths.py",
        "scale = self.problem.sigma * math.sqrt(piece.dt) / self.problem.length",
        "scale = self.problem.sigma * piece.dt / self.problem.length",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "stderr undivided by √n",
        "pde/feynman_kac/_moments.py",
        "np.sqrt(self.covariance / self.count)",
        "np.sqrt(self.covariance)",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "merging of batches without the gap of the means",
        "pde/feynman_kac/_moments.py",
        "self.products + products + square * (self.count * count / total)",
        "self.products + products",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "layers in reverse",
        "pde/feynman_kac/_velocity_tables.py",
        "layers = steps.layers[run.first : run.first + run.count]",
        "layers = steps.layers[::-1][run.first : run.first + run.count]",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "noise shared by all points",
        "pde/feynman_kac/_kernels64.py",
        "(first_path + start, first_point + row)",
        "(first_path + start, 0)",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "drift against the velocity",
        "pde/feynman_kac/_kernels64.py",
        "px[lane] = _wrap(px[lane] + dx[lane] + z1[lane])",
        "px[lane] = _wrap(px[lane] - dx[lane] + z1[lane])",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "Heun's second slope left out",
        "pde/feynman_kac/_kernels64.py",
        "dx[lane] = 0.5 * (dx[lane] + ex[lane])",
        "dx[lane] = dx[lane]",
        "pde/test_schemes",
    ),
    Mutant(
        "single precision reads the neighbouring cell",
        "pde/feynman_kac/_kernels32.py",
        "(px >> _32) * _U(n) + (py >> _32)",
        "(px >> _32) * _U(n) + (py >> _32) + _U(1)",
        "pde/test_schemes",
    ),
    Mutant(
        "Runge-Kutta weights 1, 1, 1, 1",
        "pde/feynman_kac/_kernels64.py",
        "(1 / 6, 2 / 6, 2 / 6, 1 / 6)",
        "(1 / 4, 1 / 4, 1 / 4, 1 / 4)",
        "pde/test_feynman_kac",
    ),
    Mutant(
        "bilinear weights swapped",
        "pde/feynman_kac/_kernels64.py",
        "return a + wx * (b - a), c + wx * (d - c)",
        "return a + wy * (b - a), c + wy * (d - c)",
        "pde/test_spline_tables",
    ),
    Mutant(
        "rows of a cell weighted by the fraction of y",
        "pde/feynman_kac/_simd_spline.py",
        "builder.load(builder.gep(x, [index]))",
        "builder.load(builder.gep(y, [index]))",
        "pde/test_spline_tables",
    ),
    Mutant(
        "points beyond the count are looked up",
        "pde/feynman_kac/_kernels64.py",
        "    for lane in range(count, whole):\n        places[lane] = np.uint32(0)\n",
        "",
        "pde/test_spline_tables",
    ),
    Mutant(
        "both paths of an antithetic pair alike",
        "pde/feynman_kac/_random.py",
        "    if antithetic:\n",
        "    if antithetic > 1:\n",
        "pde/test_random",
    ),
    Mutant(
        "variance of the normals halved",
        "pde/feynman_kac/_random.py",
        "np.sqrt(-2.0 *",
        "np.sqrt(-1.0 *",
        "pde/test_random",
    ),
    Mutant(
        "both steps of a call take the same words",
        "pde/feynman_kac/_random.py",
        "_log((np.float64(words[i, lane])",
        "_log((np.float64(words[0, lane])",
        "pde/test_random",
    ),
    Mutant(
        "a piece that begins with an odd step has no numbers",
        "pde/feynman_kac/_kernels_general.py",
        "if counter % 2 == 0 or k + sub == 0:",
        "if counter % 2 == 0:",
        "pde/test_whole_formula",
    ),
    Mutant(
        "one round of Philox left out",
        "pde/feynman_kac/_random.py",
        "    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[4], k1 + _K1[4])\n",
        "",
        "pde/test_random",
    ),
    Mutant(
        "Jacobian without 2π / length",
        "pde/fields.py",
        "self.n_modes + 1) * (2 * np.pi / self.length)",
        "self.n_modes + 1) * (2 * np.pi)",
        "pde/test_fields",
    ),
    Mutant(
        "negative wavenumbers taken for large ones",
        "pde/fields.py",
        "np.minimum(rows, n - rows).max(",
        "rows.max(",
        "pde/test_fields",
    ),
    Mutant(
        "negative σ let in",
        "pde/checks.py",
        "not math.isfinite(number) or number < 0 or",
        "not math.isfinite(number) or",
        "pde/test_problems",
    ),
    Mutant(
        "γ of the initial-value problem",
        "pde/bounds/_certified_maxima.py",
        "return middle + radius",
        "return radius - middle",
        "pde/test_bounds",
    ),
    Mutant(
        "a corner of the cells not looked at",
        "pde/fields.py",
        "(dy, np.roll(dy, -1, -2))",
        "(dy,)",
        "pde/test_bounds",
    ),
    Mutant(
        "squares thrown away too soon",
        "pde/bounds/_certified_maxima.py",
        "points = points[values >= best - gap]",
        "points = points[values >= best]",
        "pde/test_bounds",
    ),
    Mutant(
        "σ² for σ²/2 in the bound",
        "pde/bounds/_gradient.py",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2 / 2), mu)]",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2), mu)]",
        "pde/test_bounds",
    ),
    Mutant(
        "λ below 0",
        "pde/bounds/_gradient.py",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2 / 2), mu)]",
        "choices = [(gamma - mu * problem.sigma**2 / 2, mu)]",
        "pde/test_bounds",
    ),
    Mutant(
        "layers of γ in reverse",
        "pde/bounds/_rates.py",
        "np.cumsum(rates)[:-1]",
        "np.cumsum(rates[::-1])[:-1]",
        "pde/test_bounds",
    ),
    Mutant(
        "two paths part with one's noise",
        "pde/bounds/_gradient.py",
        "oscillation, spread, total = high - low, 2 * found.spread",
        "oscillation, spread, total = high - low, math.sqrt(2) * found.spread",
        "pde/test_bounds",
    ),
    Mutant(
        "distance not around the torus",
        "pde/bounds/_hoelder.py",
        "steps = np.minimum(np.arange(n), n - np.arange(n))",
        "steps = np.arange(n)",
        "pde/test_bounds",
    ),
    Mutant(
        "the other branch of Lambert's function",
        "pde/bounds/_counterexamples.py",
        "lambertw(argument, -1)",
        "lambertw(argument, 0)",
        "pde/test_bounds",
    ),
    Mutant(
        "files written in place",
        "figures/_io.py",
        "write(renamings.enter_context(_enresnet.renamed(directory / name)))",
        "write(directory / name)",
        "figures/test_figures_io",
    ),
    Mutant(
        "noise of a block dt for √dt",
        "bridge/residual.py",
        "noise, self.coef * math.sqrt(self.dt))",
        "noise, self.coef * self.dt)",
        "bridge/test_residual",
    ),
    Mutant(
        "noise of a block off in evaluation",
        "bridge/residual.py",
        "return self.enabled and self.noise is not None",
        "return self.training and self.enabled and self.noise is not None",
        "bridge/test_residual",
    ),
    Mutant(
        "gradient of the deviation over n for n - 1",
        "bridge/residual.py",
        "others = y.numel() // std.numel() - 1",
        "others = y.numel() // std.numel()",
        "bridge/test_residual",
    ),
    Mutant(
        "deviation over the batch for that of an image",
        "bridge/residual.py",
        "dims, n = dims[1:], n // max(len(y), 1)",
        "dims, n = dims, n // max(len(y), 1)",
        "bridge/test_residual",
    ),
    Mutant(
        "deviation at the end of the part of a step",
        "bridge/residual.py",
        "end = torch.add(start, branch, alpha=self._whole_dt)",
        "end = torch.add(start, branch, alpha=self.dt)",
        "bridge/test_residual",
    ),
    Mutant(
        "Laplace noise of variance 2", "bridge/noise.py", "mul_(-math.sqrt(0.5))", "mul_(-1.0)", "bridge/test_noise"
    ),
    Mutant(
        "weights of the variances not squared",
        "bridge/ensemble.py",
        "weights.to(draws.dtype) ** 2",
        "weights.to(draws.dtype)",
        "bridge/test_ensemble",
    ),
    Mutant(
        "learned weights not normalised",
        "bridge/ensemble.py",
        "self.weights.copy_(weights / total)",
        "self.weights.copy_(weights)",
        "bridge/test_ensemble",
    ),
    Mutant(
        "layers of the network in reverse",
        "bridge/network.py",
        "return [fields[layer] for layer in _layer_of_each",
        "return [fields[-1 - layer] for layer in _layer_of_each",
        "bridge/test_dynamics",
    ),
    Mutant(
        "modes -k forgotten in PyTorch",
        "bridge/fields.py",
        "np.where(np.arange(m + 1) == 0, 1.0, 2.0)",
        "np.where(np.arange(m + 1) == 0, 1.0, 1.0)",
        "bridge/test_dynamics",
    ),
    Mutant(
        "diffusion of a network without its square root",
        "bridge/dynamics.py",
        "math.sqrt(rate) * diffusion",
        "rate * diffusion",
        "bridge/test_dynamics",
    ),
    Mutant(
        "layer of a network missed by rounding",
        "bridge/dynamics.py",
        "early = math.sqrt(torch.finfo(_dtype(t)).eps) * self.dt",
        "early = 0.0",
        "bridge/test_dynamics",
    ),
    Mutant(
        "activation after the convolution",
        "nets/models.py",
        " *_activation(width), _convolution(width, width, 3), *_activation(width), _convolution(width, width, 3)",
        " _convolution(width, width, 3), *_activation(width), _convolution(width, width, 3), *_activation(width)",
        "nets/test_models",
    ),
    Mutant(
        "images divided before the mean is taken off",
        "nets/models.py",
        "(x - self.mean) / self.std",
        "x / self.std - self.mean",
        "nets/test_models",
    ),
    Mutant(
        "network without the choice of the deviation",
        "nets/models.py",
        '"scale": "std", "std_over": std_over}',
        '"scale": "std", "std_over": "batch"}',
        "nets/test_models",
    ),
    Mutant(
        "APGD without momentum",
        "nets/attacks/_apgd.py",
        "(z - x_now) * alpha + (x_now - x_before) * (1 - alpha)",
        "(z - x_now) * alpha",
        "nets/attacks/test_apgd",
    ),
    Mutant(
        "APGD's second condition left out",
        "nets/attacks/_apgd.py",
        "halved = oscillates | stalls",
        "halved = oscillates",
        "nets/attacks/test_apgd",
    ),
    Mutant(
        "APGD goes on from its last point, not its best",
        "nets/attacks/_apgd.py",
        "choose(halved, x_best, x_now), ",
        "x_now, ",
        "nets/attacks/test_apgd",
    ),
    Mutant(
        "a checkpoint too late",
        "nets/attacks/_apgd.py",
        "-(-now * n_iter // 100)",
        "now * n_iter // 100 + 1",
        "nets/attacks/test_apgd",
    ),
    Mutant(
        "DLR divided by the gap to the second logit",
        "nets/attacks/_losses.py",
        "top[:, 0] - top[:, 2] + TINY",
        "top[:, 0] - top[:, 1] + TINY",
        "nets/attacks/test_apgd",
    ),
    Mutant(
        "matrix of a small image without the padding",
        "nets/attacks/_convolution.py",
        "[s * at - p for s, at, p in",
        "[s * at for s, at, p in",
        "nets/attacks/test_convolution",
    ),
    Mutant(
        "pointwise convolution on the last pixel of each stride",
        "nets/attacks/_convolution.py",
        "(slice(None, None, s) for s in stride)",
        "(slice(s - 1, None, s) for s in stride)",
        "nets/attacks/test_convolution",
    ),
    Mutant(
        "phases of a strided convolution not reversed",
        "nets/attacks/_convolution.py",
        "phases.flip(2, 3).contiguous",
        "phases.contiguous",
        "nets/attacks/test_convolution",
    ),
    Mutant(
        "one draw decides",
        "nets/attacks/_passes.py",
        "return draw_logits(model, x, n_draws).mean(0)",
        "return draw_logits(model, x, n_draws)[0]",
        "nets/attacks/test_autoattack",
    ),
    Mutant(
        "worse points taken",
        "nets/attacks/_decisions.py",
        "(gap > self.margin[images])",
        "(gap < self.margin[images])",
        "nets/attacks/test_square",
    ),
    Mutant(
        "all images draw from one stream",
        "nets/attacks/_image_rng.py",
        "generator=self._generators[image])",
        "generator=self._generators[0])",
        "nets/attacks/test_square",
    ),
    Mutant(
        "the last row and column out of Square's reach",
        "nets/attacks/_square.py",
        "[self.height - side + 1, self.width - side + 1]",
        "[self.height - side, self.width - side]",
        "nets/attacks/test_square",
    ),
    Mutant(
        "the norm of a window lost",
        "nets/attacks/_square.py",
        "bump / _length(bump) * available, torch.where(old, 0, step)",
        "bump, torch.where(old, 0, step)",
        "nets/attacks/test_square",
    ),
    Mutant(
        "broken images attacked again",
        "nets/attacks/_autoattack.py",
        "best.left().split(batch_size)",
        "torch.arange(len(x)).split(batch_size)",
        "nets/attacks/test_autoattack",
    ),
    Mutant(
        "Square's schedule stretched in AutoAttack",
        "nets/attacks/_autoattack.py",
        "rescale=False",
        "rescale=True",
        "nets/attacks/test_autoattack",
    ),
    Mutant(
        "red flags from any gap",
        "nets/red_flags.py",
        "p - q > N_STDERR * math",
        "p - q > 0 * math",
        "nets/evaluation/test_red_flags",
    ),
    Mutant(
        "neighbours stay the same in the look for coupling",
        "nets/red_flags.py",
        "torch.zeros_like(x[:half])",
        "batch[half:]",
        "nets/evaluation/test_red_flags",
    ),
    Mutant(
        "one draw decides for the mean",
        "nets/evaluation/_runner.py",
        "right.append(logits.mean(0).argmax(1) == y)",
        "right.append(logits[0].argmax(1) == y)",
        "nets/evaluation/test_evaluate",
    ),
    Mutant(
        "standard error without the spread of the repeats",
        "nets/evaluation/_statistics.py",
        "math.hypot(binomial_stderr(p, n), (spread or 0.0) / math.sqrt(n_repeats))",
        "binomial_stderr(p, n)",
        "nets/evaluation/test_evaluate",
    ),
    Mutant(
        "worst attack chosen by the repeat that it is scored on",
        "nets/evaluation/_statistics.py",
        "rights.sum(2, keepdim=True) - rights, shares.sum(2, keepdim=True) - shares",
        "rights.sum(2, keepdim=True) + rights, shares.sum(2, keepdim=True) + shares",
        "nets/evaluation/test_evaluate",
    ),
    Mutant(
        "results of other settings taken for these",
        "nets/evaluation/_runner.py",
        '"settings": attack.settings(), "identity"',
        '"settings": attack.base, "identity"',
        "nets/evaluation/test_evaluate",
    ),
    Mutant(
        "images wrong before the attack counted as robust",
        "nets/evaluation/_statistics.py",
        "return natural[: len(attacked)].bool() & attacked.bool()",
        "return attacked.bool()",
        "nets/evaluation/test_evaluate",
    ),
    Mutant(
        "ball not cut by the cube",
        "nets/attacks/_balls.py",
        "low, high = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)",
        "low, high = x - self.eps, x + self.eps",
        "nets/attacks/test_balls",
    ),
    Mutant(
        "points inside the Euclidean ball pushed to its sphere",
        "nets/attacks/_balls.py",
        "length.clamp(min=max(self.eps, torch.finfo(x.dtype).tiny))",
        "length.clamp(min=torch.finfo(x.dtype).tiny)",
        "nets/attacks/test_balls",
    ),
    Mutant(
        "random points of the Euclidean ball crowd at its centre",
        "nets/attacks/_balls.py",
        "radius = self.eps * share ** (1 / math.prod(x.shape[1:]))",
        "radius = self.eps * share",
        "nets/attacks/test_balls",
    ),
    Mutant(
        "lengths of small gradients underflow",
        "nets/attacks/_balls.py",
        "return scaled / _lengths(scaled).clamp(min=torch.finfo(gradient.dtype).tiny)",
        "return gradient / _lengths(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)",
        "nets/attacks/test_balls",
    ),
    Mutant(
        "target run away from",
        "nets/attacks/_objective.py",
        "self.sign = -1 if targeted else 1",
        "self.sign = 1",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "logits averaged outside the loss",
        "nets/attacks/_objective.py",
        'if self.eot == "logits" or self.n_eot == 1:',
        "if self.n_eot == 1:",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "gradient of the last draw for the mean",
        "nets/attacks/_objective.py",
        "total = terms if total is None else tuple(a + b for a, b in zip(total, terms, strict=True))",
        "total = tuple(self.n_eot * term for term in terms)",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "running statistics updated by an attack",
        "nets/attacks/_state.py",
        "norm.training, norm.track_running_stats = True, False",
        "norm.training = True",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "parameters left frozen",
        "nets/attacks/_state.py",
        "parameter.requires_grad_(needed)",
        "pass",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "model left in evaluation mode",
        "nets/attacks/_state.py",
        "module.training = mode\n",
        "pass\n",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "noise from the global generator",
        "nets/attacks/_state.py",
        "stack.enter_context(noise_from(model, generator))",
        "pass",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "negative labels not looked at",
        "nets/attacks/_objective.py",
        "not 0 <= self.y.min().item() <= self.y.max().item() < logits.shape[1]",
        "not self.y.max().item() < logits.shape[1]",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "overflow not looked at by PGD",
        "nets/attacks/_pgd.py",
        "finite &= value.isfinite().all() & gradient.isfinite().all()",
        "pass",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "step from the image, not from the iterate",
        "nets/attacks/_pgd.py",
        "x_adv = project(x_adv.add(ball.ascent(gradient), alpha=step_size))",
        "x_adv = project(x.add(ball.ascent(gradient), alpha=step_size))",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "last restart kept, whatever its loss",
        "nets/attacks/_pgd.py",
        "wins = (score[0] > old[0]) | ((score[0] == old[0]) & (score[1] > old[1]))",
        "wins = score[0] >= old[0]",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "target not told from label in a restart",
        "nets/attacks/_pgd.py",
        "hit = (logits.argmax(1) == objective.y) == (objective.sign < 0)",
        "hit = logits.argmax(1) != objective.y",
        "nets/attacks/test_pgd",
    ),
    Mutant(
        "folded shift without the mean",
        "nets/attacks/_folding.py",
        "b = -norm.running_mean * a",
        "b = torch.zeros_like(a)",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "bias of a folded convolution not scaled",
        "nets/attacks/_folding.py",
        "(b + a * convolution.bias)",
        "(b + convolution.bias)",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "folded gradient without the scale",
        "nets/attacks/_folding.py",
        "threshold_backward(g, y, 0).mul_(a)",
        "threshold_backward(g, y, 0)",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "folded modules never put back",
        "nets/attacks/_folding.py",
        'vars(module).pop("forward", None)',
        "pass",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "hooks of folded modules lost",
        "nets/attacks/_forward.py",
        "if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or",
        "if",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "eps of a folded normalisation left out",
        "nets/attacks/_folding.py",
        "torch.rsqrt(norm.running_var + norm.eps)",
        "torch.rsqrt(norm.running_var)",
        "nets/attacks/test_folding",
    ),
    Mutant(
        "margin beyond kappa still pushed",
        "nets/attacks/_carlini_wagner.py",
        "gap.clamp(min=-kappa) if targeted else gap.clamp(max=kappa)",
        "gap",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "distance not squared in the Euclidean attack",
        "nets/attacks/_carlini_wagner.py",
        'return distance.square() if norm == "l2" else distance',
        "return distance",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "farther deceiving image kept",
        "nets/attacks/_carlini_wagner.py",
        "score = torch.where(hit, -distance,",
        "score = torch.where(hit, distance,",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "last step of Carlini-Wagner not looked at",
        "nets/attacks/_carlini_wagner.py",
        "            kept.offer(x_adv, _distance(norm, x_adv, x), objective.logits(x_adv))\n",
        "",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "released perturbation not scaled by eps",
        "nets/attacks/_carlini_wagner_released.py",
        "x_adv = x + eps * (best - x)",
        "x_adv = best.clone()",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "released second class never the first",
        "nets/attacks/_carlini_wagner_released.py",
        "second = logits.scatter(1, top[:, None], -1.0).argmax(1)",
        'second = logits.scatter(1, top[:, None], float("-inf")).argmax(1)',
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "released image taken before the step",
        "nets/attacks/_carlini_wagner_released.py",
        "choose(total < least, w.detach(), best)",
        "choose(total < least, x + step, best)",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "blind attack without its options",
        "nets/attacks/_transfer.py",
        "return torch.cat([attack(oracle, images, labels, **options) for images, labels in batches])",
        "return torch.cat([attack(oracle, images, labels) for images, labels in batches])",
        "nets/attacks/test_transfer",
    ),
    Mutant(
        "campaign without the time of compiling",
        "nets/campaign.py",
        "(60 * minutes * (1 - evaluation) - for_setup) / for_epoch",
        "(60 * minutes * (1 - evaluation)) / for_epoch",
        "nets/test_campaign",
    ),
    Mutant(
        "seeds' variance not divided by their number",
        "nets/evaluation/_paired.py",
        "shares.mean(1).var().item() / len(shares)",
        "shares.mean(1).var().item()",
        "nets/evaluation/test_compare",
    ),
    Mutant(
        "neighbours against the variance with n",
        "nets/_geary.py",
        "values.var(ddof=1)",
        "values.var(ddof=0)",
        "nets/test_sparsity",
    ),
    Mutant(
        "scale-free sparsity with a scale",
        "nets/sparsity.py",
        "np.mean(unit < relative)",
        "np.mean(size < relative)",
        "nets/test_sparsity",
    ),
    Mutant(
        "last member for the first",
        "figures/_kernels.py",
        "sparsity.members(model)[0]",
        "sparsity.members(model)[-1]",
        "figures/test_fig8",
    ),
    Mutant(
        "a tie deceives",
        "nets/attacks/_carlini_wagner.py",
        "hit = (gap > 0) & (gap >= self.kappa)",
        "hit = gap >= self.kappa",
        "nets/attacks/test_carlini_wagner",
    ),
    Mutant(
        "private modules are open",
        "tests/helpers/house_map.py",
        "if not _may_enter(importer, imported)",
        "if False",
        "test_house_rules::test_checker_finds_private_imports_from_outside",
    ),
    Mutant(
        "circles through functions not seen",
        "tests/helpers/house_map.py",
        "for node in ast.walk(module.tree):\n            if isinstance(node, ast.Import):",
        "for node in module.tree.body:\n            if isinstance(node, ast.Import):",
        "test_house_rules::test_checker_finds_circles_also_through_functions",
    ),
    Mutant(
        "option not named as typed",
        "_enresnet.py",
        "f\"--{name.replace('_', '-')}\" for name in names",
        'f"--{name}" for name in names',
        "test_commands",
    ),
    Mutant(
        "a closed pipe is an error",
        "_enresnet.py",
        "except BrokenPipeError:",
        "except EOFError:",
        "test_commands",
    ),
    Mutant(
        "a foreign pde passes",
        "_enresnet.py",
        'if origin != ours / "__init__.py" or (ours / "pdes").is_dir():',
        "if False:",
        "test_packaging::test_a_foreign_pde_is_told_from_ours",
    ),
    Mutant(
        "foreign origins are served",
        "lessons/_origin.py",
        'return urlsplit(origin).netloc == headers.get("host", "")',
        "return True",
        "lessons/test_lessons_origin",
    ),
]


MUTANTS += [Mutant(*mutant) for mutant in (*mutants_figures.MUTANTS, *mutants_rest.MUTANTS)]


class Copy:
    """A copy of the project, with numba's cache beside it, in which one mutant at a time is made."""

    def __init__(self, folder):
        self.project, self.cache, self.folder = folder / "project", folder / "numba", folder
        self.project.mkdir(parents=True)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.project / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, self.project / name)

    def catch(self, mutant):
        """The name of the first test that fails for a mutant, or None."""
        path = self.project / mutant.path
        source, stat = path.read_text(encoding="utf-8"), path.stat()
        if source.count(mutant.right) != 1:
            raise ValueError(f"{mutant.name}: {mutant.right!r} stands {source.count(mutant.right)} times in {path}")
        path.write_text(source.replace(mutant.right, mutant.wrong), encoding="utf-8")
        try:
            # Compiled loops do not notice a change in a module that they inline: a cache of their own.
            with tempfile.TemporaryDirectory(dir=self.folder) as own:
                failed = self.failures([mutant.tests], own if is_compiled(mutant.path) else self.cache)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return failed[0] if failed else None

    def failures(self, tests, cache=None, n_most=1):
        """The tests that fail, at most `n_most`, of FILE or FILE::TEST, in a process of their own."""
        files = [re.sub(r"(::|$)", r".py\1", f"tests/{test}", count=1) for test in tests]
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=_run, args=(self.project, str(cache or self.cache), files, n_most, sender))
        process.start()
        sender.close()
        try:
            status, found, text = receiver.recv()
        except EOFError:
            raise RuntimeError(f"the process that ran {files} died") from None
        finally:
            process.join()
        if status not in (0, 1, 2):
            raise RuntimeError(f"pytest could not run {files}:\n{text[-2000:]}")
        return found


class Failures:
    """A plugin of pytest that notes what fails, files that cannot be imported included."""

    def __init__(self):
        self.found = []

    def pytest_runtest_logreport(self, report):
        """Note a test."""
        self._note(report)

    def pytest_collectreport(self, report):
        """Note a file."""
        self._note(report)

    def _note(self, report):
        name = report.nodeid.removeprefix("tests/").replace(".py", "", 1)
        if report.failed and name not in self.found:
            self.found.append(name)


def _run(project, cache, files, n_most, sender):
    """Run tests in a process that has imported the large libraries already, and nothing of the project."""
    import numba
    import pytest

    os.chdir(project)
    os.environ |= {"PYTHONPATH": str(project), "NUMBA_CACHE_DIR": cache}
    numba.config.CACHE_DIR = cache
    sys.path[:] = [str(project), *(entry for entry in sys.path if not _is_ours(entry))]
    # The server of forks is one for all: tests that ran before may have had it import the project.
    for name, module in list(sys.modules.items()):
        if name not in ("__main__", "__mp_main__") and _is_ours(getattr(module, "__file__", None) or "."):
            del sys.modules[name]
    plugin = Failures()
    with tempfile.TemporaryFile("w+") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        options = [f"--maxfail={n_most}", "-q", "-p", "no:cacheprovider"]
        status = int(pytest.main([*options, *files], plugins=[plugin]))
        sys.stdout.flush()
        out.seek(0)
        sender.send((status, plugin.found, out.read()))


def _is_ours(path):
    """Whether a path is of the project, and not of an environment within it."""
    path = Path(path)
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def is_compiled(path):
    """Whether a file holds code that numba compiles, or is named in the imports of one that does."""
    decorated = re.compile(r"njit|from pde\._compiled import")
    compiled = [file for file in (ROOT / "pde").rglob("*.py") if decorated.search(file.read_text(encoding="utf-8"))]
    if ROOT / path in compiled:
        return True
    module = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    package, _, name = module.rpartition(".")
    imports = re.compile(rf"from {re.escape(module)} import|from {re.escape(package)} import [^\n]*\b{name}\b")
    return any(imports.search(file.read_text(encoding="utf-8")) for file in compiled)


def catch(mutant):
    """The name of the first test that fails for a mutant, or None, in a copy of its own."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        found = copy.catch(mutant)
        return found if found and not copy.failures([found]) else None


def catch_all(chosen, jobs):
    """Yield tests by mutant, in parts, in `jobs` copies; a test that fails without any mutant has caught none."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies = queue.Queue()
        for number in range(jobs):
            copies.put(Copy(Path(folder) / str(number)))

        def work(function, argument):
            copy = copies.get()
            try:
                return function(copy, argument)
            finally:
                copies.put(copy)

        def control(copy, tests):
            return copy.failures(tests, n_most=len(tests)) if tests else []

        with tqdm(total=len(chosen), disable=None, unit="mutant") as bar:
            for first in range(0, len(chosen), PART):
                part = chosen[first : first + PART]
                found = list(pool.map(lambda mutant: work(Copy.catch, mutant), part))
                broken = set(work(control, sorted({test for test in found if test})))
                for test in sorted(broken):
                    print(f"fails without a mutant: {test}", file=sys.stderr)
                bar.update(len(part))
                yield {m: None if test in broken else test for m, test in zip(part, found, strict=True)}


def table(caught, old=""):
    """The list of all mutants and what caught each, in Markdown; those not run keep the row of an older table."""
    kept = {(row["name"], row["path"]): row["caught"] for row in map(ROW.fullmatch, old.splitlines()) if row}
    lines = ["| mutant | in | caught by |", "|---|---|---|"]
    for mutant in MUTANTS:
        if mutant in caught:
            cell = f"`{caught[mutant]}`" if caught[mutant] else NOTHING
        else:
            cell = kept.get((mutant.name, mutant.path), NOT_RUN)
        lines.append(f"| {mutant.name} | `{mutant.path}` | {cell} |")
    return "\n".join(lines) + "\n"


def main():
    """Run the command line; status 1 if a mutant lives."""
    # As in conftest.py, before the libraries are imported.
    os.environ |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    PROCESSES.set_forkserver_preload(LIBRARIES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="those with NAME in name or path (default: all)")
    parser.add_argument("--table", type=Path, help="write the list to this file")
    parser.add_argument("--update", action="store_true", help="keep the table's rows of mutants that are not run")
    parser.add_argument("--missing", action="store_true", help="run only those that the table has not as caught")
    parser.add_argument("--jobs", type=int, default=1, help="number of mutants at a time (default 1)")
    arguments = parser.parse_args()
    if (arguments.update or arguments.missing) and not arguments.table:
        parser.error("--update and --missing need --table")
    chosen = [m for m in MUTANTS if not arguments.names or any(n in m.name or n in m.path for n in arguments.names)]
    if arguments.missing:
        rows = table({}, _read(arguments.table)).splitlines()[2:]
        due = {m for m, row in zip(MUTANTS, rows, strict=True) if row.endswith((f"| {NOT_RUN} |", f"| {NOTHING} |"))}
        chosen = [m for m in chosen if m in due]
    caught = {}
    if arguments.table and not (arguments.update or arguments.missing):
        arguments.table.unlink(missing_ok=True)
    for part in catch_all(chosen, arguments.jobs):
        for mutant, test in part.items():
            print(f"{mutant.name}: {test or NOTHING}", flush=True)
        caught |= part
        if arguments.table:
            # Read again: another process may have added to it.
            text = table(part, _read(arguments.table))
            arguments.table.write_text(HEAD + text, encoding="utf-8")
    sys.exit(not all(caught.values()))


def _read(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()
