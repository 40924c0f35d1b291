"""Mutants of the code, each of which a test must catch: python tests/mutants.py [NAME ...] [--table FILE].

Every mutant is one small, plausible mistake. It is made in a copy of the project, the tests named beside it run
there, and the first that fails is what caught it. `--table` writes the list as Markdown. About eight minutes on two
cores.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("pde", "bridge", "nets", "figures", "tests", "conftest.py", "setup.cfg", "pyproject.toml", "Makefile")


class Mutant(NamedTuple):
    """One mistake: in `path`, `right` becomes `wrong`; `tests` are run."""

    name: str
    path: str
    right: str
    wrong: str
    tests: str


MUTANTS = [
    Mutant(
        "sign of the convection",
        "pde/generator.py",
        "slopes[0, i, j] = slopes[0, i, j] * velocity[0, i, j] +",
        "slopes[0, i, j] = -slopes[0, i, j] * velocity[0, i, j] -",
        "test_spectral",
    ),
    Mutant(
        "time not reversed",
        "pde/_integrators.py",
        "for layer in reversed(range(problem.n_layers)):",
        "for layer in range(problem.n_layers):",
        "test_spectral",
    ),
    Mutant(
        "a stage without its integrating factor",
        "pde/_integrators.py",
        "end.convection(decay * (half + dt * k3))",
        "end.convection(half + dt * k3)",
        "test_spectral",
    ),
    Mutant(
        "truncation not counted as an error",
        "pde/_integrators.py",
        "march.error = march.error * faded + float(np.abs(residual).max())",
        "march.error = march.error * faded",
        "test_spectral",
    ),
    Mutant(
        "maximum principle not looked at",
        "pde/_march.py",
        "if not self.violation and not excess <= self.tolerance:",
        "if False:",
        "test_spectral",
    ),
    Mutant(
        "Krylov step never shortened",
        "pde/krylov.py",
        "return self.error(tau) / (self.error_rate * tau)",
        "return 0.0",
        "test_krylov",
    ),
    Mutant("σ² for σ²/2", "pde/problems.py", "return self.sigma**2 / 2", "return self.sigma**2", "test_spectral"),
    Mutant("grid transposed", "pde/grid.py", 'indexing="ij"', 'indexing="xy"', "test_grid"),
    Mutant(
        "modes up to n/2 for n/3",
        "pde/grid.py",
        "at_least=1) - 1) // 3",
        "at_least=1) - 1) // 2",
        "test_grid",
    ),
    Mutant(
        "dt for √dt",
        "pde/walk.py",
        "self.problem.sigma * math.sqrt(self.dt)",
        "self.problem.sigma * self.dt",
        "test_feynman_kac",
    ),
    Mutant(
        "stderr undivided by √n",
        "pde/feynman_kac.py",
        "self.squares / (self.count - 1) / self.count",
        "self.squares / (self.count - 1)",
        "test_feynman_kac",
    ),
    Mutant(
        "merging of batches without the gap of the means",
        "pde/feynman_kac.py",
        "+ squares + gap**2 * (self.count * count / total)",
        "+ squares",
        "test_feynman_kac",
    ),
    Mutant(
        "layers in reverse",
        "pde/walk.py",
        "layers = np.arange(self.n_steps) *",
        "layers = np.arange(self.n_steps)[::-1] *",
        "test_feynman_kac",
    ),
    Mutant(
        "noise shared by all points",
        "pde/fk_kernels.py",
        "(first_path + start, first_point + row)",
        "(first_path + start, 0)",
        "test_feynman_kac",
    ),
    Mutant(
        "drift against the velocity",
        "pde/fk_kernels.py",
        "px[lane] = _wrap(px[lane] + dx[lane] + z1[lane])",
        "px[lane] = _wrap(px[lane] - dx[lane] + z1[lane])",
        "test_feynman_kac",
    ),
    Mutant(
        "Heun's second slope left out",
        "pde/fk_kernels.py",
        "dx[lane] = 0.5 * (dx[lane] + ex[lane])",
        "dx[lane] = dx[lane]",
        "test_schemes",
    ),
    Mutant(
        "single precision reads the neighbouring cell",
        "pde/fk_float32.py",
        "(px >> _32) * _U(n) + (py >> _32)",
        "(px >> _32) * _U(n) + (py >> _32) + _U(1)",
        "test_schemes",
    ),
    Mutant(
        "Runge-Kutta weights 1, 1, 1, 1",
        "pde/fk_kernels.py",
        "(1 / 6, 2 / 6, 2 / 6, 1 / 6)",
        "(1 / 4, 1 / 4, 1 / 4, 1 / 4)",
        "test_feynman_kac",
    ),
    Mutant(
        "bilinear weights swapped",
        "pde/fk_kernels.py",
        "return a + wx * (b - a), c + wx * (d - c)",
        "return a + wy * (b - a), c + wy * (d - c)",
        "test_feynman_kac",
    ),
    Mutant(
        "both paths of an antithetic pair alike",
        "pde/random_numbers.py",
        "& antithetic)\n        z1[lane] = np.sqrt(",
        "& 0)\n        z1[lane] = np.sqrt(",
        "test_random_numbers",
    ),
    Mutant(
        "variance of the normals halved",
        "pde/random_numbers.py",
        "np.sqrt(-2.0 *",
        "np.sqrt(-1.0 *",
        "test_random_numbers",
    ),
    Mutant(
        "one round of Philox left out",
        "pde/random_numbers.py",
        "    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0 + _K0[4], k1 + _K1[4])\n",
        "",
        "test_random_numbers",
    ),
    Mutant(
        "Jacobian without 2π / length",
        "pde/fields.py",
        "self.n_modes + 1) * (2 * np.pi / self.length)",
        "self.n_modes + 1) * (2 * np.pi)",
        "test_fields",
    ),
    Mutant(
        "negative σ let in",
        "pde/_checks.py",
        "not math.isfinite(number) or number < 0 or",
        "not math.isfinite(number) or",
        "test_problems",
    ),
    Mutant(
        "γ of the initial-value problem",
        "pde/extrema.py",
        "return middle + radius",
        "return radius - middle",
        "test_bounds",
    ),
    Mutant(
        "a corner of the cells not looked at",
        "pde/extrema.py",
        "for b in (dy, np.roll(dy, -1, -2))",
        "for b in (dy,)",
        "test_bounds",
    ),
    Mutant(
        "squares thrown away too soon",
        "pde/extrema.py",
        "points = points[values >= best - gap]",
        "points = points[values >= best]",
        "test_bounds",
    ),
    Mutant(
        "σ² for σ²/2 in the bound",
        "pde/bounds.py",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2 / 2), mu)]",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2), mu)]",
        "test_bounds",
    ),
    Mutant(
        "λ below 0",
        "pde/bounds.py",
        "choices = [(max(0.0, gamma - mu * problem.sigma**2 / 2), mu)]",
        "choices = [(gamma - mu * problem.sigma**2 / 2, mu)]",
        "test_bounds",
    ),
    Mutant(
        "layers of γ in reverse",
        "pde/bounds.py",
        "growth = np.concatenate([[0.0], np.cumsum(gammas * dt)])",
        "growth = np.concatenate([[0.0], np.cumsum(gammas[::-1] * dt)])",
        "test_bounds",
    ),
    Mutant(
        "two paths part with one's noise",
        "pde/bounds.py",
        "spread = 2 * problem.sigma *",
        "spread = math.sqrt(2) * problem.sigma *",
        "test_bounds",
    ),
    Mutant(
        "distance not around the torus",
        "pde/hoelder.py",
        "steps = np.minimum(np.arange(n), n - np.arange(n))",
        "steps = np.arange(n)",
        "test_bounds",
    ),
    Mutant(
        "the other branch of Lambert's function",
        "pde/counterexamples.py",
        "lambertw(argument, -1)",
        "lambertw(argument, 0)",
        "test_bounds",
    ),
    Mutant(
        "files written in place",
        "figures/common.py",
        "write(written[directory / name])",
        "write(directory / name)",
        "test_figures_common",
    ),
    Mutant(
        "noise of a block dt for √dt",
        "bridge/residual.py",
        "noise, self.coef * math.sqrt(self.dt))",
        "noise, self.coef * self.dt)",
        "test_residual",
    ),
    Mutant(
        "noise of a block off in evaluation",
        "bridge/residual.py",
        "return self.enabled and self.noise is not None",
        "return self.training and self.enabled and self.noise is not None",
        "test_residual",
    ),
    Mutant(
        "gradient of the deviation over n for n - 1",
        "bridge/residual.py",
        "((ctx.n - 1) * std)",
        "(ctx.n * std)",
        "test_residual",
    ),
    Mutant(
        "deviation over the batch for that of an image",
        "bridge/residual.py",
        "dims, n = dims[1:], n // max(len(y), 1)",
        "dims, n = dims, n // max(len(y), 1)",
        "test_residual",
    ),
    Mutant(
        "deviation at the end of the part of a step",
        "bridge/residual.py",
        "end = torch.add(start, branch, alpha=self._whole_dt)",
        "end = torch.add(start, branch, alpha=self.dt)",
        "test_residual",
    ),
    Mutant("Laplace noise of variance 2", "bridge/noise.py", "mul_(-math.sqrt(0.5))", "mul_(-1.0)", "test_noise"),
    Mutant(
        "weights of the variances not squared",
        "bridge/ensemble.py",
        "weights.to(draws.dtype) ** 2",
        "weights.to(draws.dtype)",
        "test_ensemble",
    ),
    Mutant(
        "learned weights not normalised",
        "bridge/ensemble.py",
        "self.weights.copy_(weights / total)",
        "self.weights.copy_(weights)",
        "test_ensemble",
    ),
    Mutant(
        "layers of the network in reverse",
        "bridge/network.py",
        "fields[layer * problem.n_layers // n_layers]",
        "fields[-1 - layer * problem.n_layers // n_layers]",
        "test_dynamics",
    ),
    Mutant(
        "modes -k forgotten in PyTorch",
        "bridge/fields.py",
        "np.where(np.arange(m + 1) == 0, 1.0, 2.0)",
        "np.where(np.arange(m + 1) == 0, 1.0, 1.0)",
        "test_dynamics",
    ),
    Mutant(
        "diffusion of a network without its square root",
        "bridge/dynamics.py",
        "math.sqrt(rate) * diffusion",
        "rate * diffusion",
        "test_dynamics",
    ),
    Mutant(
        "layer of a network missed by rounding",
        "bridge/dynamics.py",
        "(layer - math.sqrt(torch.finfo(dtype).eps)) * self.dt",
        "layer * self.dt",
        "test_dynamics",
    ),
    Mutant(
        "activation after the convolution",
        "nets/models.py",
        " *_activation(width), _convolution(width, width, 3), *_activation(width), _convolution(width, width, 3)",
        " _convolution(width, width, 3), *_activation(width), _convolution(width, width, 3), *_activation(width)",
        "test_models",
    ),
    Mutant(
        "images divided before the mean is taken off",
        "nets/models.py",
        "(x - self.mean) / self.std",
        "x / self.std - self.mean",
        "test_models",
    ),
    Mutant(
        "network without the choice of the deviation",
        "nets/models.py",
        '"scale": "std", "std_over": std_over}',
        '"scale": "std", "std_over": "batch"}',
        "test_models",
    ),
    Mutant(
        "APGD without momentum",
        "nets/apgd.py",
        "(z - x_now) * alpha + (x_now - x_before) * (1 - alpha)",
        "(z - x_now) * alpha",
        "test_apgd",
    ),
    Mutant(
        "APGD's second condition left out",
        "nets/apgd.py",
        "halved = oscillates | stalls",
        "halved = oscillates",
        "test_apgd",
    ),
    Mutant(
        "APGD goes on from its last point, not its best",
        "nets/apgd.py",
        "choose(halved, x_best, x_now), ",
        "x_now, ",
        "test_apgd",
    ),
    Mutant("a checkpoint too late", "nets/apgd.py", "-(-now * n_iter // 100)", "now * n_iter // 100 + 1", "test_apgd"),
    Mutant(
        "DLR divided by the gap to the second logit",
        "nets/losses.py",
        "top[:, 0] - top[:, 2] + TINY",
        "top[:, 0] - top[:, 1] + TINY",
        "test_apgd",
    ),
    Mutant(
        "one draw decides",
        "nets/predictions.py",
        "return total / n_draws",
        "return logits",
        "test_autoattack",
    ),
    Mutant(
        "worse points taken",
        "nets/predictions.py",
        "(gap > self.margin[images])",
        "(gap < self.margin[images])",
        "test_square",
    ),
    Mutant(
        "all images draw from one stream",
        "nets/streams.py",
        "generator=self._generators[image])",
        "generator=self._generators[0])",
        "test_square",
    ),
    Mutant(
        "the last row and column out of Square's reach",
        "nets/square.py",
        "[self.height - side + 1, self.width - side + 1]",
        "[self.height - side, self.width - side]",
        "test_square",
    ),
    Mutant(
        "the norm of a window lost",
        "nets/square.py",
        "bump / _length(bump) * available, torch.where(old, 0, step)",
        "bump, torch.where(old, 0, step)",
        "test_square",
    ),
    Mutant(
        "broken images attacked again",
        "nets/autoattack.py",
        "in best.right.nonzero().flatten().split(batch_size)",
        "in torch.arange(len(x)).split(batch_size)",
        "test_autoattack",
    ),
    Mutant(
        "Square's schedule stretched in AutoAttack",
        "nets/autoattack.py",
        "rescale=False",
        "rescale=True",
        "test_autoattack",
    ),
    Mutant(
        "red flags from any gap",
        "nets/red_flags.py",
        "p - q > N_STDERR * math",
        "p - q > 0 * math",
        "test_red_flags",
    ),
    Mutant(
        "neighbours stay the same in the look for coupling",
        "nets/red_flags.py",
        "torch.zeros_like(neighbours)",
        "neighbours",
        "test_red_flags",
    ),
    Mutant(
        "one draw decides for the mean",
        "nets/answers.py",
        "right.append(logits.mean(0).argmax(1) == y)",
        "right.append(logits[0].argmax(1) == y)",
        "test_evaluate",
    ),
    Mutant(
        "standard error without the spread of the repeats",
        "nets/scores.py",
        "variance = p * (1 - p) / n + (spread or 0.0) ** 2 / n_repeats",
        "variance = p * (1 - p) / n",
        "test_evaluate",
    ),
    Mutant(
        "worst attack chosen by the repeat that it is scored on",
        "nets/scores.py",
        "rights.sum(2, keepdim=True) - rights, shares.sum(2, keepdim=True) - shares",
        "rights.sum(2, keepdim=True) + rights, shares.sum(2, keepdim=True) + shares",
        "test_evaluate",
    ),
    Mutant(
        "results of other settings taken for these",
        "nets/evaluation.py",
        '"settings": attack.settings(), "identity"',
        '"settings": attack.base, "identity"',
        "test_evaluate",
    ),
    Mutant(
        "images wrong before the attack counted as robust",
        "nets/scores.py",
        "return natural[: len(attacked)].bool() & attacked.bool()",
        "return attacked.bool()",
        "test_evaluate",
    ),
    Mutant(
        "ball not cut by the cube",
        "nets/geometry.py",
        "low, high = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)",
        "low, high = x - self.eps, x + self.eps",
        "test_geometry",
    ),
    Mutant(
        "points inside the Euclidean ball pushed to its sphere",
        "nets/geometry.py",
        "length.clamp(min=max(self.eps, torch.finfo(x.dtype).tiny))",
        "length.clamp(min=torch.finfo(x.dtype).tiny)",
        "test_geometry",
    ),
    Mutant(
        "random points of the Euclidean ball crowd at its centre",
        "nets/geometry.py",
        "radius = self.eps * share ** (1 / max(1, x[0].numel()))",
        "radius = self.eps * share",
        "test_geometry",
    ),
    Mutant(
        "lengths of small gradients underflow",
        "nets/geometry.py",
        "return scaled / _lengths(scaled).clamp(min=torch.finfo(gradient.dtype).tiny)",
        "return gradient / _lengths(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)",
        "test_geometry",
    ),
    Mutant(
        "target run away from",
        "nets/gradients.py",
        "self.sign = -1 if targeted else 1",
        "self.sign = 1",
        "test_pgd",
    ),
    Mutant(
        "logits averaged outside the loss",
        "nets/gradients.py",
        'if self.eot == "logits" or self.n_eot == 1:',
        "if self.n_eot == 1:",
        "test_pgd",
    ),
    Mutant(
        "gradient of the last draw for the mean",
        "nets/gradients.py",
        "total = terms if total is None else tuple(a.add_(b) for a, b in zip(total, terms, strict=True))",
        "total = tuple(self.n_eot * term for term in terms)",
        "test_pgd",
    ),
    Mutant(
        "running statistics updated by an attack",
        "nets/gradients.py",
        "module.training, module.track_running_stats = True, False",
        "module.training = True",
        "test_pgd",
    ),
    Mutant(
        "parameters left frozen",
        "nets/gradients.py",
        "parameter.requires_grad_(needed)",
        "pass",
        "test_pgd",
    ),
    Mutant(
        "model left in evaluation mode",
        "nets/gradients.py",
        "module.training = mode\n",
        "pass\n",
        "test_pgd",
    ),
    Mutant(
        "noise from the global generator",
        "nets/gradients.py",
        "stack.enter_context(_noise_from(model, generator))",
        "pass",
        "test_pgd",
    ),
    Mutant(
        "negative labels not looked at",
        "nets/gradients.py",
        "not 0 <= self.y.min().item() <= self.y.max().item() < logits.shape[1]",
        "not self.y.max().item() < logits.shape[1]",
        "test_pgd",
    ),
    Mutant(
        "overflow not looked at by PGD",
        "nets/pgd.py",
        "finite &= value.isfinite().all() & gradient.isfinite().all()",
        "pass",
        "test_pgd",
    ),
    Mutant(
        "step from the image, not from the iterate",
        "nets/pgd.py",
        "x_adv = project(x_adv.add(ball.ascent(gradient), alpha=step_size))",
        "x_adv = project(x.add(ball.ascent(gradient), alpha=step_size))",
        "test_pgd",
    ),
    Mutant(
        "last restart kept, whatever its loss",
        "nets/pgd.py",
        "wins = (score[0] > old[0]) | ((score[0] == old[0]) & (score[1] > old[1]))",
        "wins = score[0] >= old[0]",
        "test_pgd",
    ),
    Mutant(
        "target not told from label in a restart",
        "nets/pgd.py",
        "hit = (logits.argmax(1) == objective.y) == (objective.sign < 0)",
        "hit = logits.argmax(1) != objective.y",
        "test_pgd",
    ),
    Mutant(
        "folded shift without the mean",
        "nets/folding.py",
        "b = -norm.running_mean * a",
        "b = torch.zeros_like(a)",
        "test_folding",
    ),
    Mutant(
        "bias of a folded convolution not scaled",
        "nets/folding.py",
        "(b + a * convolution.bias)",
        "(b + convolution.bias)",
        "test_folding",
    ),
    Mutant(
        "folded gradient without the scale",
        "nets/folding.py",
        "threshold_backward(g, y, 0).mul_(a)",
        "threshold_backward(g, y, 0)",
        "test_folding",
    ),
    Mutant(
        "folded modules never put back",
        "nets/folding.py",
        "del module.forward",
        "pass",
        "test_folding",
    ),
    Mutant(
        "hooks of folded modules lost",
        "nets/folding.py",
        "and not any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))",
        "and True",
        "test_folding",
    ),
    Mutant(
        "statistics of the batch folded away",
        "nets/folding.py",
        "return relu(norm(x)) if mixed or norm.training else _AffineReLU.apply(x, a, b)",
        "return relu(norm(x)) if mixed else _AffineReLU.apply(x, a, b)",
        "test_pgd",
    ),
    Mutant(
        "margin beyond kappa still pushed",
        "nets/carlini_wagner.py",
        "gap.clamp(min=-kappa) if targeted else gap.clamp(max=kappa)",
        "gap",
        "test_carlini_wagner",
    ),
    Mutant(
        "distance not squared in the Euclidean attack",
        "nets/carlini_wagner.py",
        'return distance.square() if norm == "l2" else distance',
        "return distance",
        "test_carlini_wagner",
    ),
    Mutant(
        "farther deceiving image kept",
        "nets/carlini_wagner.py",
        "better = deceives(logits) & (distance < best_distance)",
        "better = deceives(logits)",
        "test_carlini_wagner",
    ),
    Mutant(
        "last step of Carlini-Wagner not looked at",
        "nets/carlini_wagner.py",
        "best, best_distance = compare(last, _distance(norm, last, x), objective.logits(last))",
        "pass",
        "test_carlini_wagner",
    ),
    Mutant(
        "released perturbation not scaled by eps",
        "nets/carlini_wagner.py",
        "x_adv = x + eps * (best - x)",
        "x_adv = best.clone()",
        "test_carlini_wagner",
    ),
    Mutant(
        "released second class never the first",
        "nets/carlini_wagner.py",
        "second = logits.scatter(1, top[:, None], -1.0).argmax(1)",
        'second = logits.scatter(1, top[:, None], float("-inf")).argmax(1)',
        "test_carlini_wagner",
    ),
    Mutant(
        "released image taken before the step",
        "nets/carlini_wagner.py",
        "choose(total < least, w.detach(), best)",
        "choose(total < least, x + step, best)",
        "test_carlini_wagner",
    ),
    Mutant(
        "blind attack without its options",
        "nets/transfer.py",
        "return torch.cat([attack(oracle, images, labels, **options) for images, labels in batches])",
        "return torch.cat([attack(oracle, images, labels) for images, labels in batches])",
        "test_transfer",
    ),
    Mutant(
        "campaign without the time of compiling",
        "nets/campaign.py",
        "(60 * minutes * (1 - evaluation) - for_setup) / for_epoch",
        "(60 * minutes * (1 - evaluation)) / for_epoch",
        "test_campaign",
    ),
    Mutant(
        "seeds' variance not divided by their number",
        "nets/comparison.py",
        "answers.mean(1).var().item() / len(answers)",
        "answers.mean(1).var().item()",
        "test_compare",
    ),
    Mutant(
        "neighbours against the variance with n",
        "nets/smoothness.py",
        "values.var(ddof=1)",
        "values.var(ddof=0)",
        "test_sparsity",
    ),
    Mutant(
        "scale-free sparsity with a scale",
        "nets/sparsity.py",
        "np.mean(unit < relative)",
        "np.mean(size < relative)",
        "test_sparsity",
    ),
    Mutant(
        "last member for the first",
        "figures/_kernels.py",
        "sparsity.members(model)[0]",
        "sparsity.members(model)[-1]",
        "test_fig8",
    ),
]


def catch(mutant):
    """The name of the first test that fails for a mutant, or None."""
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    if source.count(mutant.right) != 1:
        raise ValueError(f"{mutant.name}: {mutant.right!r} stands {source.count(mutant.right)} times in {mutant.path}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        copy.mkdir()
        for name in COPIED:
            copy_one = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            options = {"ignore": shutil.ignore_patterns("__pycache__")} if (ROOT / name).is_dir() else {}
            copy_one(ROOT / name, copy / name, **options)
        (copy / mutant.path).write_text(source.replace(mutant.right, mutant.wrong), encoding="utf-8")
        # A cache of its own: compiled loops do not notice a change in a module that they inline.
        environment = os.environ | {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(Path(folder) / "numba")}
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{mutant.tests}.py"],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
        )
    failed = re.search(r"^(?:FAILED|ERROR) tests/\w+\.py(?:::)?(\S*)", result.stdout, re.MULTILINE)
    return f"{mutant.tests}::{failed.group(1)}" if failed else None


def table(caught):
    """The list of mutants and what caught each, in Markdown."""
    lines = ["| mutant | in | caught by |", "|---|---|---|"]
    lines += [f"| {m.name} | `{m.path}` | {f'`{test}`' if test else '**nothing**'} |" for m, test in caught]
    return "\n".join(lines) + "\n"


def main():
    """Run the command line; status 1 if a mutant lives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants whose name contains NAME (default: all)")
    parser.add_argument("--table", type=Path, help="write the list to this file")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.names or any(name in m.name for name in arguments.names)]
    caught = [(mutant, catch(mutant)) for mutant in tqdm(chosen, disable=None, unit="mutant")]
    text = table(caught)
    print(text, end="")
    if arguments.table:
        arguments.table.write_text(
            "# Mutants\n\nMade by `python tests/mutants.py --table docs/mutants.md`: every mistake was put into a copy "
            f"of the code, and the first test to fail is named.\n\n{text}",
            encoding="utf-8",
        )
    sys.exit(any(test is None for _, test in caught))


if __name__ == "__main__":
    main()
