"""Signs that a robust accuracy cannot be trusted, to be checked before a number is published.

Most are symptoms of gradients that do not lead to adversarial images although these exist (Athalye et al. 2018; Carlini
et al. 2019); the others show that something other than the model was evaluated. They include all five checks of
auto-attack (Croce & Hein 2020): randomised, dynamic ("optimises"), probabilities, zero gradients, Square winning.
"""

# Over 300 lines: one function per flag, and the docstring that explains them.
import math
import warnings
from dataclasses import dataclass

import torch

from bridge import checks, noise_from
from nets import seeds
from nets.attacks import (
    EPS,
    N_DRAWS,
    NoGradientError,
    Objective,
    admit,
    attacked,
    check_classes,
    draw_logits,
    draws_differ,
    fgsm,
    ifgsm,
    make_ball,
    mean_logits,
    pgd,
    resolve_draws,
)
from nets.proportions import binomial_stderr

__all__ = ["BLACK_BOX", "NOTHING", "WHITE_BOX", "RedFlag", "check"]

# Names of the accuracies that are compared; only `fgsm` takes a single step.
WHITE_BOX = ("ifgsm", "pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "apgd-margin", "fab", "fab-t")
BLACK_BOX = ("square", "transfer", "blind")
N_ITER = 20
# A softmax in single precision sums to 1 within this (auto-attack's), in half precision within two of its eps: a sum,
# a quotient and the exponentials are rounded.
SUMS_TO_ONE, N_ROUNDINGS = 1e-5, 2
# Change of an image's logits relative to their norm: larger than the rounding differences between kernels.
COUPLED = 1e-3
# One-sided for a normal distribution: one false alarm in 740.
N_STDERR = 3
# Share of the images whose loss must rise; a random direction reaches one half.
RISING = 0.75
# Share of the images that may remain right by chance under an unbounded attack, or under attack after natural training.
NOTHING = 0.05
# Number of passes whose disagreement shows that a model is noisy.
N_PASSES = 5


@dataclass(frozen=True)
class RedFlag:
    """One sign that an accuracy cannot be trusted.

    Attributes
    ----------
    name : str
        "randomised", "optimises", "probabilities", "eps-range", "zero-gradients", "loss-stalls", "weak-iterations",
        "black-box-wins", "unbounded-attack-fails" or "batch-coupling".
    what : str
        Observation, with figures.
    remedy : str
        Advice.
    """

    name: str
    what: str
    remedy: str

    def __str__(self):
        return f"{self.name}: {self.what}; {self.remedy}"


def check(
    model,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    eps: float = EPS,
    norm: str = "linf",
    n_eot: int = 1,
    n_draws: int | None = None,
    accuracies=None,
    zero_share: float = 0.0,
    generator=None,
):
    """Look for red flags, on a batch of images of the evaluation.

    This takes about 60 n_eot gradients: FGSM, IFGSM with 20 steps, and PGD with 40 steps in a ball that contains all
    images.

    Parameters
    ----------
    model : callable
        Images in [0, 1] to logits. A Module is switched to evaluation mode during the call, see `attacks.attacked`.
    x : Tensor of shape (n_images, ...)
        Images in [0, 1]: at least one, preferably 100.
    y : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius of the evaluation; > 0.
    norm : {"linf", "l2"}
        Norm of the evaluation.
    n_eot : int, default=1
        Number of passes over which the attacks of the evaluation average; >= 1.
    n_draws : int, optional
        Number of passes whose mean logits decide. Default: 1, or max(10, n_eot) for a noisy model.
    accuracies : dict of str to float, optional
        Accuracies under the attacks of the evaluation, on the same images or on more: "fgsm", the names of `WHITE_BOX`
        and those of `BLACK_BOX`. If "fgsm" or "ifgsm" are missing, they are computed here.
    zero_share : float, default=0.0
        Share of images that may have no gradient; in [0, 1].
    generator : torch.Generator, optional
        Generator of all random numbers; by default PyTorch's own.

    Returns
    -------
    list of RedFlag
        Empty if there is none.

    Raises
    ------
    ValueError
        If x, y or an option is out of range.
    FloatingPointError
        If the logits, the loss or its gradient are not finite.

    Notes
    -----
    "weak-iterations" and "black-box-wins" compare two accuracies p and q on n images, and are raised if the gap exceeds
    three standard errors sqrt((p (1 - p) + q (1 - q)) / n), those of 0 and 1 as in `nets.proportions`. By chance this
    happens once in 740 times for independent samples, and more rarely for the same images; gaps below 0.2 on 100 images
    are not detected. "loss-stalls" is raised if the loss rises for fewer than 75 % of the images (a random direction
    reaches 50 %), "unbounded-attack-fails" if more than 5 % of the images survive. Both consider the images that are
    right and have a gradient, since images without a gradient have a flag of their own. The other flags compare passes
    up to rounding and give no false alarms by chance; "batch-coupling" is left out where passes from equal seeds
    differ. For a model that PyTorch cannot differentiate, "zero-gradients" replaces all flags that need gradients.

    References
    ----------
    .. [1] Athalye, Carlini & Wagner 2018, Obfuscated gradients give a false sense of security.
    .. [2] Carlini et al. 2019, On evaluating adversarial robustness, arXiv 1902.06705.
    .. [3] Croce & Hein 2020, and `checks.py` of auto-attack.
    """
    checks.real("eps", eps, positive=True)
    make_ball(norm, eps)
    n_eot = checks.integer("n_eot", n_eot, at_least=1)
    if not 0 <= zero_share <= 1:
        raise ValueError(f"zero_share must be in [0, 1], got zero_share={zero_share}")
    with warnings.catch_warnings():
        # Reported as flags instead.
        warnings.simplefilter("ignore", UserWarning)
        model, x, y = admit(model, x, y, n_eot=2)
        if not x.numel():
            raise ValueError(f"x must hold at least one image, got shape {tuple(x.shape)}")
        with attacked(model, generator=generator):
            n_draws = resolve_draws(model, x, n_draws, n_eot)
            draws = draw_logits(model, x, n_draws)
            clean = draws.mean(0)
            check_classes(clean, y)
            flags = [_randomised(model, x, n_eot), _optimises(model, x), _probabilities(draws.flatten(0, 1))]
            flags += [_eps_range(x, eps, norm), _batch_coupling(model, x)]
            try:
                gradient, _, _ = Objective(model, y, n_eot=n_eot).gradient(x)
            except NoGradientError:
                flags += [_no_gradient(), _black_box_wins(accuracies or {}, len(x))]
                return [flag for flag in flags if flag is not None]
            has_gradient = gradient.flatten(1).abs().amax(1) > torch.finfo(gradient.dtype).tiny
            flags.append(_zero_gradients(has_gradient, zero_share))
            options = {"eps": eps, "norm": norm, "n_eot": n_eot, "generator": generator}
            seen = {}
            for name, attack in (("fgsm", fgsm), ("ifgsm", ifgsm)):
                steps = {"n_iter": N_ITER, "step_size": eps / 4} if name == "ifgsm" else {}
                seen[name] = mean_logits(model, attack(model, x, y, **options, **steps), n_draws)
            accuracies = {name: _accuracy(logits, y) for name, logits in seen.items()} | (accuracies or {})
            counted = has_gradient & (clean.argmax(1) == y)
            if counted.any():
                flags.append(_loss_stalls(clean[counted], seen["ifgsm"][counted], y[counted]))
                flags.append(_unbounded(model, x[counted], y[counted], norm, n_eot, n_draws, generator))
    flags += [_weak_iterations(accuracies, len(x)), _black_box_wins(accuracies, len(x))]
    return [flag for flag in flags if flag is not None]


def _accuracy(logits, y):
    return (logits.argmax(1) == y).double().mean().item()


def _randomised(model, x, n_eot):
    if n_eot > 1:
        return None
    first, *others = draw_logits(model, x, N_PASSES)
    if not any(draws_differ(first, other) for other in others):
        return None
    changes = [(first.argmax(1) != other.argmax(1)).double().mean().item() for other in others]
    return RedFlag(
        "randomised",
        f"{N_PASSES} passes differ, in the class of {max(changes):.1%} of images; the attack sees one draw per step",
        f"average the attack over draws (n_eot=20, autoattack's version 'rand') and decide by >= {N_DRAWS} draws",
    )


def _optimises(model, x):
    """Auto-attack's dynamic defences: the forward pass computes gradients, of its input or its weights."""
    calls = []
    # The last is called by the others, which a module may have imported by name.
    names = [name for name in ("grad", "backward", "_engine_run_backward") if hasattr(torch.autograd, name)]
    before = {name: getattr(torch.autograd, name) for name in names}

    def counted(function):
        def call(*args, **kwargs):
            calls.append(function)
            return function(*args, **kwargs)

        return call

    try:
        for name, function in before.items():
            setattr(torch.autograd, name, counted(function))
        mean_logits(model, x[:2])
    finally:
        for name, function in before.items():
            setattr(torch.autograd, name, function)
    if not calls:
        return None
    return RedFlag(
        "optimises",
        "the forward pass itself computes gradients: the defence adapts to each image",
        "the attack must differentiate through that optimisation, or adapt to it; standard attacks may be too weak",
    )


def _probabilities(logits):
    # By the numbers, since a model may return those of half precision in single precision.
    halves = [dtype for dtype in (torch.float16, torch.bfloat16) if torch.equal(logits, logits.to(dtype).to(logits))]
    tolerance = max([SUMS_TO_ONE, *(N_ROUNDINGS * torch.finfo(dtype).eps for dtype in halves)])
    if logits.min() < -tolerance or logits.max() > 1 + tolerance:
        return None
    if ((logits.sum(1) - 1).abs() > tolerance).any():
        return None
    return RedFlag(
        "probabilities",
        "the model's outputs lie in [0, 1] and sum to 1",
        "return logits: a softmax of a softmax hides the gradient",
    )


def _eps_range(x, eps, norm):
    largest = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    if eps <= largest:
        return None
    return RedFlag(
        "eps-range",
        f"eps={eps:g} is larger than the cube of images, {largest:.3g}",
        "eps is in units of images in [0, 1]: divide by 255",
    )


def _batch_coupling(model, x):
    """Whether the logits of an image change with its neighbours, at equal noise, or with its place, without noise."""
    # Noise is drawn in the order of the memory, and a batch with others would have its own.
    x = x.contiguous()
    half = (len(x) + 1) // 2
    batch = torch.cat([x, x[: 2 * half - len(x)]])
    first = _same_noise(model, batch)
    # A state, or noise that no seed governs: the cause of a change cannot be determined.
    if _gaps(first, _same_noise(model, batch)).max() > COUPLED:
        return None
    # Black images are valid images, with another spread.
    gaps = _gaps(first, _same_noise(model, torch.cat([x[:half], torch.zeros_like(x[:half])])))[:half]
    gap, with_what = gaps.max().item(), "its neighbours in the batch, at equal noise"
    if gap <= COUPLED and _gaps(first, _same_noise(model, batch, seed=1)).max() <= COUPLED:
        # The median: in another place, rounding may flip a threshold inside of a quantised network.
        gap = _gaps(first, _same_noise(model, batch.flip(0)).flip(0)).median().item()
        with_what = "its place in the batch"
    if gap <= COUPLED:
        return None
    return RedFlag(
        "batch-coupling",
        f"the logits of an image change by {gap:.1%} with {with_what}",
        "state the batch size with the result, or scale the noise by the image alone (std_over='sample')",
    )


def _gaps(first, second):
    return (first - second).norm(dim=1) / first.norm(dim=1).clamp(min=torch.finfo(first.dtype).tiny)


def _same_noise(model, x, seed=0):
    """A pass whose random numbers depend only on shapes and seed, without changing the generators of the process."""
    with seeds.default_generator_seeded(seed, x.device), seeds.numpy_and_python_seeded(seed):
        if not isinstance(model, torch.nn.Module):
            return mean_logits(model, x)
        with noise_from(model, torch.Generator(x.device).manual_seed(seed)):
            return mean_logits(model, x)


def _no_gradient():
    return RedFlag(
        "zero-gradients",
        "the model has no gradient with respect to its images at all: PyTorch cannot differentiate it",
        "attack through a differentiable stand-in (BPDA, surrogate=), by transfer, and by Square",
    )


def _zero_gradients(has_gradient, zero_share):
    share = 1 - has_gradient.double().mean().item()
    if share <= zero_share:
        return None
    return RedFlag(
        "zero-gradients",
        f"the loss has no gradient at {share:.1%} of the images",
        "attack through a differentiable stand-in (BPDA), by a loss that does not saturate (DLR, margin) or by Square",
    )


def _loss_stalls(clean, attacked_logits, y):
    loss = [torch.nn.functional.cross_entropy(logits, y, reduction="none") for logits in (clean, attacked_logits)]
    share = (loss[1] > loss[0]).double().mean().item()
    if share >= RISING:
        return None
    return RedFlag(
        "loss-stalls",
        f"after {N_ITER} steps of IFGSM the loss is above its start for only {share:.1%} of the images",
        "the gradient does not lead uphill: use smaller steps, more draws, a stand-in for the broken part, or Square",
    )


def _weak_iterations(accuracies, n):
    one, many = accuracies["fgsm"], min(accuracies[name] for name in WHITE_BOX if name in accuracies)
    if not _above(many, one, n):
        return None
    return RedFlag(
        "weak-iterations",
        f"accuracy {many:.1%} after many steps, {one:.1%} after one",
        "the loss surface is rough or masked: use more and smaller steps, restarts, and Square",
    )


def _black_box_wins(accuracies, n):
    white = min((accuracies[name] for name in WHITE_BOX if name in accuracies), default=None)
    black = {name: accuracies[name] for name in BLACK_BOX if name in accuracies}
    if not black or white is None:
        return None
    name = min(black, key=black.get)
    if not _above(white, black[name], n):
        return None
    return RedFlag(
        "black-box-wins",
        f"accuracy {black[name]:.1%} under {name}, which uses no gradient, {white:.1%} under the best attack that does",
        "the gradients mislead: replace the part that masks them, and report the worst case of all attacks",
    )


def _above(p, q, n):
    return p - q > N_STDERR * math.hypot(binomial_stderr(p, n), binomial_stderr(q, n))


def _unbounded(model, x, y, norm, n_eot, n_draws, generator):
    """PGD in a ball that contains the cube of images, in which every image can become every other."""
    eps = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    options = {"step_size": eps / 20, "n_iter": 40, "norm": norm, "n_eot": n_eot, "generator": generator}
    accuracy = _accuracy(mean_logits(model, pgd(model, x, y, eps=eps, **options), n_draws), y)
    if accuracy <= NOTHING:
        return None
    return RedFlag(
        "unbounded-attack-fails",
        f"PGD leaves {accuracy:.1%} of the images right, although it may change them arbitrarily",
        "the attack is broken or its gradients are: robustness inside a small ball proves nothing",
    )
