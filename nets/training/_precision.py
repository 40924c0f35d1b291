"""The dtype of convolutions, in training and while adversarial images are made."""

import contextlib

import torch

__all__ = ["Precision", "precisions"]


class Precision:
    """The dtype of convolutions on a device, "float32" or "bfloat16", set by `torch.autocast`."""

    def __init__(self, name, device):
        self.dtype, self.device = getattr(torch, name), device

    def __call__(self):
        """Return a context manager within which convolutions have this dtype."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def precisions(recipe, device):
    """Return the dtypes in which a recipe computes on a device.

    Parameters
    ----------
    recipe : Recipe
        Recipe, of which training_dtype and crafting_dtype are used.
    device : torch.device
        Device of the training.

    Returns
    -------
    dict
        "training" and "crafting": "float32" or "bfloat16".
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    auto = "bfloat16" if fast else "float32"
    chosen = {"training": recipe.training_dtype, "crafting": recipe.crafting_dtype}
    return {name: auto if dtype == "auto" else dtype for name, dtype in chosen.items()}
