"""The gradient of the loss with respect to the images: what every white-box attack is built on.

    g(x) = E grad_x L(f(x), y)  ~  (1 / n_eot) sum_j grad_x L(f_j(x), y)    (paper: section 4; Athalye et al. 2018)

f_j are passes with independent noise. With eot="logits" the mean is taken inside, L((1 / n_eot) sum_j f_j(x), y): the
loss of the ensemble, which is what is attacked, and not the mean loss of its draws.
"""

import contextlib
import warnings

import torch
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from bridge import checks, noise_from, noisy_blocks
from nets.attacks._folding import folded, is_compiled

__all__ = ["LOSSES", "NoisyModelWarning", "Objective", "attacked", "check_images", "compiled"]

EOT = ("gradients", "logits")
BATCH_NORMS = ("running", "batch")


class NoisyModelWarning(UserWarning):
    """A noisy model is evaluated under an attack that sees one draw of its noise a step."""


def cross_entropy(logits, y):
    """-log softmax(z)_y (paper: section 3.2)."""
    return functional.cross_entropy(logits, y, reduction="none")


def margin(logits, y):
    """max_{i != y} z_i - z_y: positive where the prediction is wrong (paper: (3.5), untargeted)."""
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - logits.gather(1, y[:, None]).squeeze(1)


LOSSES = {"ce": cross_entropy, "margin": margin}


@contextlib.contextmanager
def attacked(model, *, generator=None, batch_norm="running", fold=True):
    """Hold a model still while it is attacked, and leave it as it was.

    Parameters
    ----------
    model : Module
        Its parameters ask for no gradient inside, so that none is computed; it is in evaluation mode.
    generator : torch.Generator, optional
        Source of its noise; by default PyTorch's own.
    batch_norm : {"running", "batch"}
        Normalise by the running statistics, or by those of the batch, which the released code does while it trains;
        the running statistics stay as they are in both cases.
    fold : bool, default=True
        Compute running normalisation as part of its neighbours, see `folding.folded`: faster, equal up to rounding.

    Yields
    ------
    Module
        The model.

    Raises
    ------
    ValueError
        If batch_norm is unknown (raised by a helper).
    """
    checks.one_of("batch_norm", batch_norm, BATCH_NORMS)
    modes = [(module, module.training) for module in model.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)] if batch_norm == "batch" else []
    tracks = [(module, module.track_running_stats) for module in norms]
    try:
        model.eval()
        for module in norms:
            # Training mode without tracked statistics: the batch's are used, and nothing is written.
            module.training, module.track_running_stats = True, False
        for parameter, _ in needs:
            parameter.requires_grad_(False)
        with contextlib.ExitStack() as stack:
            if generator is not None:
                stack.enter_context(_noise_from(model, generator))
            if fold and not norms:
                stack.enter_context(folded(model))
            yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for module, tracked in tracks:
            module.track_running_stats = tracked
        for parameter, needed in needs:
            parameter.requires_grad_(needed)


def _noise_from(model, generator):
    return _seeded(generator) if any(map(is_compiled, model.modules())) else noise_from(model, generator)


@contextlib.contextmanager
def _seeded(generator):
    """Let what is compiled, which cannot be given a generator, draw from PyTorch's own, and put that back."""
    device = generator.device
    own = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    state = own.get_state()
    try:
        # A seed, and not the state: else the noise would be made of the numbers of the random start.
        own.manual_seed(torch.randint(2**62, (), generator=generator, device=device).item())
        yield
    finally:
        own.set_state(state)


def compiled(model):
    """Compile a model for attacks on many batches of one size: faster on a CPU, after a minute or so of compilation.

    Everything of `attacks` takes it in place of the model. Every batch size is compiled by itself. Noise is drawn by
    PyTorch's own generator, not that of the compiler, which is several times slower on a CPU; an attack's generator
    seeds it, and its state is put back. The numbers are not those that the model itself would draw.

    Parameters
    ----------
    model : Module
        Images to logits. It is shared, not copied.

    Returns
    -------
    Module
        From `torch.compile`, which needs a C++ compiler on the CPU. Nothing is compiled before the first pass.
    """
    # Of one shape each: PyTorch's generators draw no tensors of symbolic shapes.
    return torch.compile(model, dynamic=False, options={"fallback_random": True})


class Objective:
    """The loss of an attack, averaged over the noise of the model, and its gradient.

    Parameters
    ----------
    model : Module
        Images of shape (n_images, ...) to logits (n_images, n_classes).
    y : Tensor of shape (n_images,)
        Labels, or targets.
    loss : {"ce", "margin"} or callable, default="ce"
        What is maximised: a function of logits (n_images, n_classes) and y to values of shape (n_images,).
    n_eot : int, default=1
        Passes with independent noise; >= 1.
    eot : {"gradients", "logits"}
        Where the mean over them is taken, see above. "logits" holds the graphs of all passes in memory at once.
    targeted : bool, default=False
        y are targets: the loss is minimised.
    check : bool, default=True
        Look at the labels once, for which a GPU is waited for.

    Raises
    ------
    ValueError
        If an option is unknown or out of range (raised by a helper), the model's logits have another shape, or a label
        is none of its classes.
    """

    def __init__(self, model, y, *, loss="ce", n_eot=1, eot="gradients", targeted=False, check=True):
        self.model, self.y = model, y.long()
        self.loss = loss if callable(loss) else LOSSES[checks.one_of("loss", loss, tuple(LOSSES))]
        self.n_eot = checks.integer("n_eot", n_eot, at_least=1)
        self.eot = checks.one_of("eot", eot, EOT)
        self.sign = -1 if targeted else 1
        self._seen = not check

    def value(self, logits):
        """Return what is maximised, of given logits.

        Parameters
        ----------
        logits : Tensor of shape (n_images, n_classes)
            Of the images of y.

        Returns
        -------
        Tensor of shape (n_images,)
        """
        # In half precision the loss would be rounded before it is differentiated.
        return self.sign * self.loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), self.y)

    def logits(self, x):
        """Return the mean logits over n_eot passes, without a gradient.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Images.

        Returns
        -------
        Tensor of shape (n_images, n_classes)
        """
        with torch.no_grad():
            return self._mean_logits(x)

    def gradient(self, x):
        """Return the gradient of the objective, and what the passes said on the way.

        Parameters
        ----------
        x : Tensor of shape (n_images, ...)
            Images.

        Returns
        -------
        gradient : Tensor of shape (n_images, ...)
            Of each image's value.
        value : Tensor of shape (n_images,)
            What is maximised, mean over the passes (eot="gradients") or of the mean logits.
        logits : Tensor of shape (n_images, n_classes)
            Mean over the passes.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            if self.eot == "logits" or self.n_eot == 1:
                logits = self._mean_logits(x)
                value = self.value(logits)
                return torch.autograd.grad(value.sum(), x)[0], value.detach(), logits.detach()
            total = None
            for _ in range(self.n_eot):
                logits = self._checked(self.model(x))
                value = self.value(logits)
                terms = torch.autograd.grad(value.sum(), x)[0], value.detach(), logits.detach()
                total = terms if total is None else tuple(a.add_(b) for a, b in zip(total, terms, strict=True))
        return tuple(sum_ / self.n_eot for sum_ in total)

    def _mean_logits(self, x):
        total = self._checked(self.model(x))
        for _ in range(self.n_eot - 1):
            total = total + self.model(x)
        return total / self.n_eot if self.n_eot > 1 else total

    def _checked(self, logits):
        if logits.dim() != 2 or len(logits) != len(self.y):
            raise ValueError(f"model must return logits of shape ({len(self.y)}, n_classes), got {tuple(logits.shape)}")
        if not self._seen:
            # Once: a look at the labels waits for a GPU, where an index out of range would end the process's context.
            self._seen = True
            if len(self.y) and not 0 <= self.y.min().item() <= self.y.max().item() < logits.shape[1]:
                raise ValueError(f"y must be in 0, ..., {logits.shape[1] - 1}, got {self.y.min()} to {self.y.max()}")
        return logits


def check_images(model, x, y, *, n_eot=1):
    """Check what every attack is given, and warn of a noisy model that is evaluated without averaging.

    Parameters
    ----------
    model : Module
        Model to attack. In training mode, where one draw a step is usual, nothing is said.
    x : Tensor of shape (n_images, ...)
        Images.
    y : Tensor of shape (n_images,)
        Labels.
    n_eot : int, default=1
        Passes that the attack averages.

    Raises
    ------
    ValueError
        If x is not of floating point or not in [0, 1], or y is not of integers, one an image, on the device of x.
    RuntimeError
        Inside `torch.inference_mode`, where there are no gradients to be had.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("an attack needs gradients: leave torch.inference_mode (torch.no_grad is no hindrance)")
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"x must be images (n_images, ...) of floating point, got {tuple(x.shape)} of {x.dtype}")
    if y.shape != x.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"y must be {len(x)} integers, one an image, got {tuple(y.shape)} of {y.dtype}")
    if y.device != x.device:
        raise ValueError(f"y must be on the device of x, {x.device}, got {y.device}")
    # `not <=` finds NaN as well.
    if x.numel() and not (x.min().item() >= 0 and x.max().item() <= 1):
        raise ValueError(f"x must lie in [0, 1], got values from {x.min().item():g} to {x.max().item():g}")
    if n_eot == 1 and not model.training and any(block.is_noisy for block in noisy_blocks(model)):
        warnings.warn(
            "the model draws noise and the attack sees one draw a step: average over draws, n_eot=20 say, before you "
            "call the model robust",
            NoisyModelWarning,
            stacklevel=3,
        )
