"""Models and images of any origin, in the form that the runner takes."""

import contextlib
import hashlib
import warnings

import torch
from torch import nn

from nets import checkpoint, seeds
from nets.attacks import NoGradientError, Objective, attacked, mean_logits

# Resolution of what identifies a model: two networks differ by more, two ways to round the same one by less.
STEPS = 1000
SETTINGS = (bool, int, float, str, type(None))


class ImageSet:
    """Images and labels in the form that `AttackRunner` takes."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def take(self, indices):
        return self.images[indices], self.labels[indices]


class Foreign(nn.Module):
    """A callable as a Module, in the mode of the model that it wraps."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    def forward(self, x):
        return self.model(x)


class Guided(nn.Module):
    """The logits of the model with the gradient of the surrogate."""

    def __init__(self, model, surrogate):
        super().__init__()
        self.model, self.surrogate = model, surrogate
        self.training = model.training

    def forward(self, x):
        guide = self.surrogate(x)
        with torch.no_grad():
            logits = self.model(x.detach())
        return guide + (logits - guide).detach()


def warn_of_modes(model):
    if not getattr(model, "training", False) or isinstance(model, torch.fx.GraphModule):
        return
    matters = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
    names = [name or "the model" for name, module in model.named_modules() if isinstance(module, matters)]
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.warn(
            f"the model is in training mode and evaluated in evaluation mode, which changes {shown}: call "
            "model.eval(), and train() on the submodules that should be random",
            UserWarning,
            stacklevel=4,
        )


def digest_of(*tensors):
    return checkpoint.digest({str(i): tensor for i, tensor in enumerate(tensors)})


def identify(model, x):
    """Return a digest of a model, and whether passes from equal seeds are equal.

    The digest is of its name, modes, settings and weights, and of its logits and gradients on the images: weights alone
    distinguish neither two defences of one network nor two functions.
    """
    parts = [
        (name, type(m).__qualname__, sorted((k, v) for k, v in vars(m).items() if isinstance(v, SETTINGS)))
        for name, m in model.named_modules()
    ]
    name = getattr(model.model, "__qualname__", "")
    state = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    seen = _fingerprint(model, x)
    is_seeded = seen == _fingerprint(model, x)
    # With noise that no seed governs, only the weights are the same in the next call.
    if is_seeded or not state:
        state["seen"] = torch.tensor(seen)
    return hashlib.sha256(f"{name}{parts}{checkpoint.digest(state)}".encode()).hexdigest(), is_seeded


def _fingerprint(model, x):
    """Logits of the images, and the slope of a margin along each image, as integers that rounding rarely changes."""
    with attacked(model, generator=seeds.make_generator(0, "identity", device=x.device)):
        logits = mean_logits(model, x).double()
        values = [(logits - logits.mean(1, keepdim=True)).flatten()]
        with contextlib.suppress(NoGradientError):
            gradient, _, _ = Objective(model, logits.argmin(1), loss="margin").gradient(x)
            values.append(((x.double() - 0.5) * gradient).flatten(1).sum(1))
    scaled = [value / value.abs().max().clamp(min=torch.finfo(value.dtype).tiny) for value in values]
    return (STEPS * torch.cat(scaled)).round().long().tolist()


def is_differentiable(model, x, y):
    """Whether any gradient reaches the images: tested by the margin, which does not saturate."""
    with attacked(model):
        try:
            gradient, _, _ = Objective(model, y, loss="margin").gradient(x)
        except NoGradientError:
            return False
    return bool((gradient != 0).any())
