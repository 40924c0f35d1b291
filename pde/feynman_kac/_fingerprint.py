"""The fingerprint of a callable: its code, its constants, and the values that it has captured."""

import functools
import hashlib
import inspect
import types

import numpy as np

# Depth to which captured functions and containers are followed.
_DEPTH = 8


def digest(*parts):
    """SHA-256 of strings and arrays, with their types and shapes."""
    state = hashlib.sha256()
    for part in parts:
        array = np.asarray(part)
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return state.hexdigest()


def fingerprint(function):
    """A digest of a callable: bytecode, constants, defaults, captured and global values that it reads, attributes.

    Numbers, strings, arrays, containers and Python functions are followed; of other objects, the type and the
    attributes. Compiled code counts by its name alone, and another version of Python compiles to another bytecode.
    """
    return digest(*_parts(function, _DEPTH, set()))


def _parts(value, depth, seen):
    """Strings and arrays that stand for a value."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        yield f"{type(value).__name__}:{value!r}"
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield value
    elif depth == 0 or id(value) in seen:
        yield f"{type(value).__name__}:..."
    else:
        yield type(value).__name__
        yield from _inside(value, depth - 1, seen | {id(value)})


def _inside(value, depth, seen):
    if isinstance(value, (list, tuple, set, frozenset)):
        members = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
    elif isinstance(value, dict):
        members = [each for item in sorted(value.items(), key=lambda item: repr(item[0])) for each in item]
    elif isinstance(value, functools.partial):
        members = [value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        members = [value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        members = [value.__code__, value.__defaults__, value.__kwdefaults__, *_captured(value)]
    elif isinstance(value, types.CodeType):
        members = [value.co_code, value.co_names, value.co_varnames, *value.co_consts]
    elif isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
        members = [getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", None))]
    else:
        members = [type(value).__module__, type(value).__qualname__, getattr(value, "__dict__", None)]
        call = inspect.getattr_static(type(value), "__call__", None)
        members += [call] if isinstance(call, types.FunctionType) else []
        inner = getattr(value, "py_func", getattr(value, "pyfunc", None))
        members += [inner] if inspect.isroutine(inner) else []
    for member in members:
        yield from _parts(member, depth, seen)


def _captured(function):
    """Values of the closure and of the globals that a function names, with their names."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            yield from (name, cell.cell_contents)
        except ValueError:
            # Not bound yet.
            yield name
    for name in function.__code__.co_names:
        if name in function.__globals__ and name != "__builtins__":
            yield from (name, function.__globals__[name])
