"""What a model of any origin consists of, as a digest: its code, settings and weights, as far as they can be read.

Read are functions with their closures, defaults and globals, objects with their attributes, classes of the user,
containers, arrays and weights. Of libraries the names are read, of sources of random numbers the kind and the seed:
their states advance from pass to pass.
"""

# Over 300 lines: one method per kind of object.
import dis
import enum
import functools
import hashlib
import logging
import pathlib
import random
import re
import struct
import sys
import sysconfig
import types
import warnings
import weakref

import numpy as np
import torch
from torch import nn

from nets import checkpoint

__all__ = ["identify"]

# Objects that are read, in about a second; a model that leads to more is not identified.
N_OBJECTS = 50_000
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))
# What their text tells apart.
BY_TEXT = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, slice, range, re.Pattern)
BY_TEXT += (pathlib.PurePath, np.dtype)
BUILT_IN = (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)
BUILT_IN += (types.MethodWrapperType, types.ClassMethodDescriptorType, np.ufunc)
NAMED = (types.MemberDescriptorType, types.GetSetDescriptorType)
METHODS = (types.FunctionType, staticmethod, classmethod, property)
LOCKS = ("lock", "RLock")
# Whose computation `_runner.PROTOCOL` identifies.
OURS = ("nets", "bridge", "pde")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
PARTS = ("training", "_parameters", "_buffers", "_modules")
PRIVATE = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
FOLDERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# In the text of a scripted module: numbers of classes in the order in which they were scripted, addresses, lines.
VARYING = re.compile(r"___torch_mangle_\d+\.| at 0x[0-9a-f]+| # .*")


def identify(model):
    """Return a digest of a callable, and the kinds of the objects in it that cannot be read, sorted."""
    reader = _Reader()
    try:
        return reader.read(model), sorted(reader.unread)
    except RecursionError:
        return "unread", [f"{type(model).__name__} of too many levels"]


class _Reader:
    """Digests of objects, each read once; `unread` are the kinds of those that cannot be."""

    def __init__(self):
        self.unread, self._digests, self._held = set(), {}, []

    def read(self, value):
        """Return a text that tells a value from others."""
        if type(value) in PLAIN:
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._digests:
            return self._digests[id(value)]
        if len(self._held) >= N_OBJECTS:
            return self._not_read(value)
        # A number is that of another object once this one is gone.
        self._held.append(value)
        self._digests[id(value)] = "itself"
        text = "\n".join(map(str, self._parts(value)))
        self._digests[id(value)] = digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
        return digest

    def _not_read(self, value):
        self.unread.add(_name(type(value)))
        return f"unread {_name(type(value))}"

    def _all(self, values):
        return [self.read(value) for value in values]

    def _items(self, mapping):
        return [f"{self.read(key)} {self.read(value)}" for key, value in mapping.items()]

    def _parts(self, value):
        for kinds, parts in _KINDS:
            if isinstance(value, kinds):
                return [self.read(type(value)), *parts(self, value)]
        return self._of_object(value)

    def _of_tensor(self, value):
        try:
            if value.is_quantized:
                value = value.dequantize()
            dense = value.to_dense() if value.layout != torch.strided else value
            return [checkpoint.digest({"": dense.resolve_conj().resolve_neg()}), *self._items(vars(value))]
        except (RuntimeError, TypeError, NotImplementedError, ValueError):
            return [self._not_read(value)]

    def _of_array(self, value):
        plain = np.asarray(value)
        if plain.dtype.hasobject:
            return [plain.shape, *self._all(plain.ravel().tolist())]
        contents = hashlib.sha256(np.ascontiguousarray(plain).tobytes()).hexdigest()
        return [plain.dtype.str, plain.shape, contents, *self._items(getattr(value, "__dict__", {}))]

    def _of_source(self, value):
        """A source of random numbers, whose state is another one after each pass."""
        return [value.device, value.initial_seed()] if isinstance(value, torch.Generator) else []

    def _of_dict(self, value):
        made = getattr(value, "default_factory", None)
        return [*self._items(value), self.read(made), *self._items(getattr(value, "__dict__", {}))]

    def _of_sequence(self, value):
        return [*self._all(value), *self._items(getattr(value, "__dict__", {}))]

    def _of_set(self, value):
        return sorted(self._all(value))

    def _of_code(self, code):
        constants = [self._of_code(c) if isinstance(c, types.CodeType) else self.read(c) for c in code.co_consts]
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        return [code.co_code.hex(), names, counts, constants]

    def _of_function(self, function):
        # What `torch.compile` wraps.
        if (original := vars(function).get("_torchdynamo_orig_callable")) is not None:
            return [self.read(original)]
        parts = [self._of_cell(cell) for cell in function.__closure__ or ()] + self._items(vars(function))
        parts += self._all((function.__defaults__, function.__kwdefaults__))
        # `functools.wraps` changes the name of the module, but not the globals.
        if _is_library(function.__globals__.get("__name__")):
            return [function.__module__, function.__qualname__, *parts]
        used, imported, attributes = _names_in(function.__code__)
        reached = {name: function.__globals__[name] for name in used if name in function.__globals__}
        reached |= {f"import {name}": sys.modules.get(name) for name in imported}
        parts += [f"{name} {self._of_global(reached[name], attributes)}" for name in sorted(reached)]
        return [*self._of_code(function.__code__), *parts]

    def _of_cell(self, cell):
        try:
            return self.read(cell.cell_contents)
        except ValueError:
            return "not yet bound"

    def _of_global(self, value, attributes, seen=()):
        """A global of a function, of a module only those attributes whose names the function uses."""
        if not isinstance(value, types.ModuleType):
            return self.read(value)
        if _is_library(value.__name__) or value in seen:
            return value.__name__
        found = sorted(attributes & vars(value).keys())
        inner = [f"{name} {self._of_global(vars(value)[name], attributes, (*seen, value))}" for name in found]
        return " ".join([value.__name__, *inner])

    def _of_module_object(self, module):
        if _is_library(module.__name__):
            return [module.__name__]
        return self._items({name: value for name, value in vars(module).items() if not name.startswith("__")})

    def _of_builtin(self, value):
        owner = getattr(value, "__self__", None)
        owned = [] if owner is None or isinstance(owner, types.ModuleType) else [self.read(owner)]
        return [getattr(value, "__qualname__", value.__name__), *owned]

    def _of_method(self, value):
        return self._all((value.__func__, value.__self__))

    def _of_partial(self, value):
        return self._all((value.func, value.args, value.keywords, value.__dict__))

    def _of_static(self, value):
        return [self.read(value.__func__)]

    def _of_property(self, value):
        return self._all((value.fget, value.fset, value.fdel))

    def _of_weakref(self, value):
        return [self.read(value())]

    def _of_class(self, value):
        # Of classes that Cython makes, it is no text.
        if not isinstance(value.__module__, str) or _is_library(value.__module__):
            return [_name(value)]
        if issubclass(value, enum.Enum):
            return [_name(value), *self._items({member.name: member.value for member in value})]
        members = {
            name: member
            for name, member in sorted(vars(value).items())
            if name != "_abc_impl" and (not name.startswith("__") or isinstance(member, METHODS))
        }
        return [_name(value), *self._all(value.__mro__[1:]), *self._items(members)]

    def _of_module(self, module):
        if "_orig_mod" in module._modules:
            return [self.read(module._modules["_orig_mod"])]
        values = {name: vars(module).get(name) for name in PARTS}
        if isinstance(module, torch.fx.GraphModule):
            # The rest is made from the code, or about it.
            values["_modules"] = {name: part for name, part in module._modules.items() if name != "_guards_fn"}
            kept = {k: v for k, v in vars(module).items() if k[0] != "_" and isinstance(v, (*PLAIN, torch.Tensor))}
            return [module.code, *self._items(values | kept)]
        values |= {name: list(getattr(module, name).values()) for name in HOOKS}
        rest = {name: value for name, value in vars(module).items() if name not in PRIVATE}
        return [self.read(type(module)), *self._items(values | rest)]

    def _of_script(self, value):
        if isinstance(value, torch.jit.ScriptFunction):
            return [VARYING.sub("", str(value.graph))]
        text = value._c.dump_to_str(True, True, False)
        return [VARYING.sub("", text), getattr(value, "training", False), *self._items(dict(value.state_dict()))]

    def _of_object(self, value):
        kind = type(value)
        if isinstance(value, logging.Logger) or (kind.__module__ == "_thread" and kind.__name__ in LOCKS):
            return [_name(kind)]
        slots = {
            name: getattr(value, name)
            for each in kind.__mro__
            for name, member in vars(each).items()
            if isinstance(member, types.MemberDescriptorType) and hasattr(value, name)
        }
        parts = [self.read(kind), *self._items(getattr(value, "__dict__", {})), *self._items(slots)]
        if _is_all_python(kind):
            return parts
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = value.__getstate__() if kind.__name__ == "ScriptObject" else value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001
            # Whatever a class of anybody's raises, it cannot be copied.
            return [*parts, self._not_read(value)]
        if not isinstance(made, tuple):
            return [*parts, self.read(made)]
        return [*parts, *(self.read(list(one) if hasattr(one, "__next__") else one) for one in made)]


_KINDS = (
    (enum.Enum, lambda _, value: [value.name]),
    (torch.Tensor, _Reader._of_tensor),
    (np.ndarray, _Reader._of_array),
    (np.generic, lambda _, value: [value.dtype, repr(value.item())]),
    (BY_TEXT, lambda _, value: [value]),
    ((torch.Generator, np.random.Generator, np.random.BitGenerator), _Reader._of_source),
    ((np.random.RandomState, random.Random), _Reader._of_source),
    ((torch.jit.ScriptModule, torch.jit.ScriptFunction), _Reader._of_script),
    (nn.Module, _Reader._of_module),
    ((dict, types.MappingProxyType), _Reader._of_dict),
    ((list, tuple), _Reader._of_sequence),
    ((set, frozenset), _Reader._of_set),
    (types.FunctionType, _Reader._of_function),
    (types.MethodType, _Reader._of_method),
    (types.CodeType, _Reader._of_code),
    (functools.partial, _Reader._of_partial),
    ((staticmethod, classmethod), _Reader._of_static),
    (property, _Reader._of_property),
    (types.ModuleType, _Reader._of_module_object),
    (type, _Reader._of_class),
    (BUILT_IN, _Reader._of_builtin),
    (NAMED, lambda _, value: [value.__name__]),
    (weakref.ReferenceType, _Reader._of_weakref),
)


def _name(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


@functools.cache
def _is_library(name):
    """Whether a module, by its name, belongs to a library, whose version a defence does not change."""
    top = (name or "").partition(".")[0]
    if top in OURS or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if file is None:
        # Compiled into Python, in contrast to a name that is no module, and to a folder.
        return module is not None and top != "__main__" and not hasattr(module, "__path__")
    return file.startswith(FOLDERS)


def _is_all_python(kind):
    """Whether instances have no memory beside their attributes, as those of a class that C defines may have."""
    classes = [vars(each) for each in kind.__mro__ if "__slots__" in vars(each)]
    n_slots = sum(isinstance(member, types.MemberDescriptorType) for each in classes for member in each.values())
    n_words = n_slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ == object.__basicsize__ + struct.calcsize("P") * n_words and not kind.__itemsize__


@functools.lru_cache(1024)
def _names_in(code):
    """Names of the globals, imported modules, and globals or attributes that a function, or one within it, uses."""
    used, imported, attributes = set(), set(), set(code.co_names)
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            used.add(one.argval)
        elif one.opname == "IMPORT_NAME":
            imported.add(one.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for found, more in zip((used, imported, attributes), _names_in(inner), strict=True):
                found |= more
        elif isinstance(inner, str):
            # Of `getattr`.
            attributes.add(inner)
    return used, imported, attributes
