"""A faster `forward` in the place of a module's own, for the length of an attack, and only while it is the same map."""

import types

import torch

__all__ = ["Forward", "is_compiled", "is_plain", "stand_in_for"]


class Forward:
    """A faster forward of a module.

    The module's own is called where the faster one would be another map: if the weights of `parts` are not what they
    were (a defence that draws or adapts its weights, `torch.func.functional_call`), one of them is in training mode, or
    inside a transform of `torch.func`. A copy of the module has its own forward again. `convolutions` are the steps
    that know channels-last order.
    """

    def __init__(self, module, fast, parts, convolutions=()):
        self.module, self.own, self.fast, self.parts = module, module.forward, fast, parts
        self.convolutions = list(convolutions)
        self._numbers = [number for part in parts for number in _numbers(part)]

    def __call__(self, x):
        return self.fast(x) if self.holds() else self.own(x)

    def holds(self):
        """Whether the faster forward is the module's map."""
        return (
            not torch._C._are_functorch_transforms_active()
            and not any(part.training and hasattr(part, "running_mean") for part in self.parts)
            and all(number.holds() for number in self._numbers)
        )

    def __deepcopy__(self, memo):
        return self.own_of_copy(self.module, memo)

    @staticmethod
    def own_of_copy(module, memo):
        copied = memo[id(module)]
        return types.MethodType(type(copied).forward, copied)


class _Number:
    """A parameter or buffer as it was: the same tensor, unchanged."""

    def __init__(self, place, name):
        self.place, self.name, self.tensor = place, name, place[name]
        self.version, self.pointer = self.tensor._version, self.tensor.data_ptr()
        # What is written through `.data` moves no version; on a GPU a look would wait.
        looks = self.tensor.device.type == "cpu" and self.tensor.numel() and self.tensor.dtype != torch.bfloat16
        self.memory = self.tensor.detach().numpy() if looks else None
        self.ends = self._ends()

    def _ends(self):
        return None if self.memory is None else (self.memory.item(0), self.memory.item(-1))

    def holds(self):
        tensor = self.place.get(self.name)
        same = tensor is self.tensor and tensor._version == self.version and tensor.data_ptr() == self.pointer
        return same and self._ends() == self.ends


def _numbers(part):
    for place in (part._parameters, part._buffers):
        yield from (
            _Number(place, name) for name, value in place.items() if value is not None and name != "num_batches_tracked"
        )


def is_compiled(module):
    """Whether `torch.compile` or `Module.compile` made this module, itself and not the modules in it."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def is_plain(module, kind):
    """Whether a module is of exactly this type, without hooks, and frozen."""
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))
        and not module._backward_pre_hooks
        and not any(parameter.requires_grad for parameter in module.parameters())
    )


def stand_in_for(module, forward):
    """Put the forward back that a module had of its own, or its class's if that is None."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward
