"""Models and images of any origin, in the form that the runner takes."""

import warnings

import torch
from torch import nn

from nets import checkpoint
from nets.attacks import NoGradientError, Objective, TrainingModeWarning, attacked, changed_by_training


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
    """The logits of the model with the gradient of the surrogate; without a gradient, the model alone."""

    def __init__(self, model, surrogate):
        super().__init__()
        self.model, self.surrogate = model, surrogate
        self.training = model.training

    def forward(self, x):
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.model(x)
        guide = self.surrogate(x)
        with torch.no_grad():
            logits = self.model(x.detach())
        return guide + (logits - guide).detach()


def warn_of_modes(model, x):
    if isinstance(model, nn.Module) and (changed := changed_by_training(model, model, x)):
        warnings.warn(
            f"the model is in training mode and evaluated in evaluation mode, which changes {changed}: call "
            "model.eval(), and train() on the submodules that should be random",
            TrainingModeWarning,
            stacklevel=5,
        )


def digest_of(*tensors):
    return checkpoint.digest({str(i): tensor for i, tensor in enumerate(tensors)})


def is_differentiable(model, x, y):
    """Whether any gradient reaches the images: tested by the margin, which does not saturate."""
    with attacked(model):
        try:
            gradient, _, _ = Objective(model, y, loss="margin").gradient(x)
        except NoGradientError:
            return False
    return bool((gradient != 0).any())
