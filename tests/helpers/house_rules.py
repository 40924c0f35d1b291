"""What the house rules look for, read from the source alone, so that no package has to be importable to be checked."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# Arrows never go up; a package may always import itself.
ALLOWED_IMPORTS = {
    "pde": set(),
    "bridge": {"pde"},
    "nets": {"bridge"},
    "figures": {"nets", "bridge", "pde"},
    "lessons": {"nets", "bridge", "pde"},
}
OURS = {*ALLOWED_IMPORTS, "tests", "benchmarks", "conftest", "house_rules"}

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
ENTRY = re.compile(r"^(\S.*)((?:\n(?:[ \t].*)?)*)", re.MULTILINE)
SHAPED_TYPE = re.compile("array|tensor", re.IGNORECASE)
LENGTH = r"(?:\.\.\.|[\w.*+/-]+)"
SHAPE = re.compile(rf"\bshapes?\b|\(\s*{LENGTH}\s*,\s*(?:{LENGTH}\s*,\s*)*{LENGTH}?\s*\)")  # (n,), (2, n, n), (..., 2)


def import_violations(source: str, module: str) -> Iterator[str]:
    """Yield the imports, wherever they stand in the module, that its package is not allowed."""
    package = module.partition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = {node.module.partition(".")[0]}
        else:
            continue
        for name in sorted(imported & OURS - ALLOWED_IMPORTS[package] - {package}):
            yield f"{module}:{node.lineno}: {package} must not import {name}"


class Entry(NamedTuple):
    """One entry of a numpydoc section: its unindented line and the indented ones below it."""

    head: str
    body: str

    @property
    def names(self) -> set[str]:
        return {name.strip().lstrip("\\*") for name in self.head.partition(":")[0].split(",")}

    @property
    def type(self) -> str:
        return self.head.partition(":")[2] or self.head


def sections(docstring: str) -> dict[str, list[Entry]]:
    """Split a numpydoc docstring into its underlined sections."""
    lines = inspect.cleandoc(docstring).splitlines()
    titles = [i for i in range(len(lines) - 1) if lines[i].strip() and re.fullmatch("-{3,}", lines[i + 1].strip())]
    found = {}
    for start, end in pairwise([*titles, len(lines)]):
        found[lines[start].strip()] = [Entry(*entry) for entry in ENTRY.findall("\n".join(lines[start + 2 : end]))]
    return found


def named(doc: dict[str, list[Entry]], *titles: str) -> set[str]:
    return {name for title in titles for entry in doc.get(title, []) for name in entry.names}


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module, class or function, and of the functions and classes inside it only themselves."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            yield from own_nodes(node)


def last_name(node: ast.AST) -> str:
    """`b` of `b`, `a.b` and `a.b(...)`; empty for anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def raised(function: ast.AST) -> set[str]:
    """Name the exception classes of `raise X(...)`; what a lower-case variable holds cannot be read from the source."""
    names = {last_name(node.exc) for node in own_nodes(function) if isinstance(node, ast.Raise) and node.exc}
    return {name for name in names if name.lstrip("_")[:1].isupper()}


def parameters(function: ast.AST, *, bound: bool) -> set[str]:
    signature = function.args
    positional = [*signature.posonlyargs, *signature.args]
    rest = [*signature.kwonlyargs, *filter(None, (signature.vararg, signature.kwarg))]
    return {argument.arg for argument in [*positional[bound:], *rest]}


def doc_violations(doc: dict[str, list[Entry]], exceptions: set[str]) -> Iterator[str]:
    """Yield what a function and a class have in common: raised errors and the shapes of arrays."""
    documented = {name.rpartition(".")[2] for name in named(doc, "Raises")}
    for name in sorted(exceptions - documented):
        yield f"raises {name}, which is not under Raises"
    for title in ("Parameters", "Other Parameters", "Attributes", "Returns", "Yields"):
        for entry in doc.get(title, []):
            if SHAPED_TYPE.search(entry.type) and not SHAPE.search(entry.head + entry.body):
                yield f"gives no shape for `{entry.head}` under {title}"


def name_violations(documented: set[str], wanted: set[str]) -> Iterator[str]:
    for name in sorted(wanted - documented):
        yield f"parameter {name} is not documented"
    for name in sorted(documented - wanted):
        yield f"documents {name}, which is no parameter"


def function_violations(function: ast.AST, *, method: bool) -> Iterator[str]:
    decorators = {last_name(decorator) for decorator in function.decorator_list}
    if decorators & {"setter", "deleter", "overload"}:
        return
    docstring = ast.get_docstring(function)
    if not docstring:
        yield "has no docstring"
        return
    if decorators & {"property", "cached_property"}:
        return
    doc = sections(docstring)
    if method and not doc.keys() & {"Parameters", "Other Parameters"}:
        # One to three lines are enough for a method; the shapes in sections that it has must be there.
        yield from doc_violations(doc, set())
        return
    wanted = parameters(function, bound=method and "staticmethod" not in decorators)
    yield from name_violations(named(doc, "Parameters", "Other Parameters"), wanted)
    yield from doc_violations(doc, raised(function))
    gives = [node for node in own_nodes(function) if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom))]
    something = any(not isinstance(node, ast.Return) or getattr(node.value, "value", ...) is not None for node in gives)
    if something and not doc.keys() & {"Returns", "Yields"}:
        yield "gives something back, and has no Returns or Yields section"


def class_violations(cls: ast.ClassDef) -> Iterator[str]:
    docstring = ast.get_docstring(cls)
    if not docstring:
        yield "has no docstring"
        return
    doc = sections(docstring)
    methods = {node.name: node for node in own_nodes(cls) if isinstance(node, FUNCTION)}
    bases = {last_name(base) for base in cls.bases}
    documented = named(doc, "Parameters", "Other Parameters")
    if "NamedTuple" in bases or "dataclass" in {last_name(decorator) for decorator in cls.decorator_list}:
        annotated = [node for node in own_nodes(cls) if isinstance(node, ast.AnnAssign)]
        fields = {last_name(node.target) for node in annotated if "ClassVar" not in ast.unparse(node.annotation)}
        public = {field for field in fields if not field.startswith("_")}
        inherited = set() if bases <= {"NamedTuple"} else documented
        yield from name_violations(documented, public - named(doc, "Attributes") | documented & (fields | inherited))
    elif "__init__" in methods:
        yield from name_violations(documented, parameters(methods["__init__"], bound=True))
    makers = [methods[name] for name in ("__new__", "__init__", "__post_init__") if name in methods]
    yield from doc_violations(doc, set().union(*map(raised, makers)))


def public_names(tree: ast.Module) -> set[str] | None:
    """Read the module's `__all__`, or return None where there is no literal one."""
    for node in own_nodes(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", None) == "__all__" for target in targets):
            try:
                return set(ast.literal_eval(node.value))
            except ValueError:
                return None
    return None


def docstring_violations(source: str, module: str, public: set[str] | None = None) -> Iterator[str]:
    """Yield, as `module.function: what`, where a public docstring states less or more than the code does.

    `public` are the names that are judged; by default those of the module's `__all__`.
    """
    tree = ast.parse(source)
    public = public_names(tree) if public is None else public
    if public is None:
        yield f"{module}: has no literal __all__"
        return
    for node in own_nodes(tree):
        if isinstance(node, FUNCTION) and node.name in public:
            yield from (f"{module}.{node.name}: {what}" for what in function_violations(node, method=False))
        elif isinstance(node, ast.ClassDef) and node.name in public:
            yield from (f"{module}.{node.name}: {what}" for what in class_violations(node))
            for method in (child for child in own_nodes(node) if isinstance(child, FUNCTION)):
                if method.name == "__call__" or not method.name.startswith("_"):
                    for what in function_violations(method, method=True):
                        yield f"{module}.{node.name}.{method.name}: {what}"
