"""Networks that a model calls and that are not its submodules: those that a function, or an attribute, leads to.

`eval()` of the model does not reach them. They are looked for in closures, globals and defaults of functions, bound
methods, `functools.partial`, attributes and containers; what a function takes from elsewhere is not seen.
"""

import dis
import functools
import types

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["hidden_networks", "normalises_by_batch"]

# Steps from the model to a network: object, attribute, container, function, its closure, ...
DEPTH = 8
# Items of a container: an ensemble has fewer, and a data set is none.
N_ITEMS = 100
# Objects that are looked at, in some tens of milliseconds: a function may hold half a library.
N_OBJECTS = 20_000
# Whose functions lead to no network of a user's, and to much else.
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "builtins", "functools", "contextlib")


def hidden_networks(model):
    """Return the networks, outermost modules, that a callable leads to and that are not among its submodules."""
    own = {id(module) for module in model.modules()} if isinstance(model, nn.Module) else set()
    # The nearest first.
    found, seen, level = {}, set(), [model]
    for _ in range(DEPTH + 1):
        ahead = []
        for value in level:
            if id(value) in seen or len(seen) >= N_OBJECTS:
                continue
            seen.add(id(value))
            if isinstance(value, nn.Module):
                if id(value) not in own:
                    found[id(value)] = value
                    own.update(id(module) for module in value.modules())
                if _is_plain_part(value):
                    ahead += [part for part in value._modules.values() if part is not None]
                    continue
            ahead += [one for one in _next(value) if not isinstance(one, _ENDS)]
        level = ahead
    # One that is part of another, found later, is not outermost.
    inner = {id(part) for network in found.values() for part in network.modules() if part is not network}
    return [network for key, network in found.items() if key not in inner]


def normalises_by_batch(model):
    """Whether the statistics of the batch enter into a pass, which a single image may then not have."""
    networks = [*([model] if isinstance(model, nn.Module) else []), *hidden_networks(model)]
    norms = [part for network in networks for part in network.modules() if isinstance(part, _BatchNorm)]
    return any(norm.training or norm.running_mean is None for norm in norms)


_PRIVATE = set(vars(nn.Module()))
_ENDS = (bool, int, float, complex, str, bytes, type(None), type, types.ModuleType, types.CodeType)


def _is_plain_part(module):
    """Whether a module is of a library's kind and leads to its submodules alone, as most parts of a network."""
    is_changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not is_changed and _is_library(type(module))


def _next(value):
    """Objects to which a value leads directly."""
    if isinstance(value, nn.Module):
        inner = [*value._modules.values(), *value._forward_hooks.values(), *value._forward_pre_hooks.values()]
        if _is_library(type(value)):
            return [*inner, vars(value).get("forward")]
        # Those that belong to PyTorch are private, and no networks.
        return [*inner, *(one for name, one in vars(value).items() if name not in _PRIVATE), *_called(value)]
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if isinstance(value, types.MethodType):
        owner = value.__self__
        return [value.__func__, owner if isinstance(owner, nn.Module) else getattr(owner, "__dict__", None)]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())[:N_ITEMS]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)[:N_ITEMS]
    if _is_library(type(value)):
        return [getattr(value, "__dict__", {}).get("__wrapped__")]
    return [*getattr(value, "__dict__", {}).values(), *_called(value)]


def _called(value):
    """The functions that run when an object is called."""
    functions = [getattr(type(value), name, None) for name in ("forward", "__call__")]
    return [one for one in functions if isinstance(one, types.FunctionType)]


def _of_function(function):
    if _is_library(function) and not function.__closure__:
        return []
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            # Not yet bound.
            continue
    if not _is_library(function):
        names = _global_names(function.__code__)
        values += [function.__globals__[name] for name in names if name in function.__globals__]
    return [*values, getattr(function, "__wrapped__", None)]


def _is_library(thing):
    return (thing.__module__ or "").partition(".")[0] in LIBRARIES


@functools.lru_cache(1024)
def _global_names(code):
    """Names of the globals that a function, or a function within it, reads."""
    names = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return names.union(*(_global_names(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)))
