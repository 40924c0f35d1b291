"""The map of the house, read from the source alone: who imports whom, and how long files and functions are."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from house_rules import FUNCTION, docstring_violations, own_nodes, public_names, sections

# Inside nets a module imports from its own row and from those above it.
NETS_LAYERS = (
    ("models", "seeds", "published", "proportions", "_geary"),
    ("attacks",),
    ("checkpoint", "provenance", "red_flags"),
    ("data",),
    ("training",),
    ("zoo",),
    ("evaluation", "sparsity"),
    ("train", "evaluate", "compare", "campaign", "_early", "_cli"),
)
N_LINES, N_LINES_WITHOUT_REASON, N_LINES_OF_FUNCTION, N_PARAMETERS = 400, 300, 60, 10
REASON = re.compile(r"over 300 lines", re.IGNORECASE)
# Compiled loops, which are long so that the compiler sees all of them.
KERNELS = re.compile(r"(^|/)_(kernels\w*|cuda\w*|simd\w*|normals|random)\.py$")
# Names that the README and the scripts of users hold on to; they do not count.
FLAT_NAMES = frozenset(
    {
        "n_eot",
        "eot",
        "n_iter",
        "n_queries",
        "step_size",
        "random_start",
        "keep",
        "loss",
        "norm",
        "n_restarts",
        "n_draws",
    }
    | {"generator", "seed", "device", "dtype", "progress"}
    | {"scheme", "increments", "antithetic", "common_paths", "interpolation", "n_shards", "checkpoint"}
)


class Module(NamedTuple):
    """A module of the house: its dotted name, its path in the repository, and its source."""

    name: str
    path: str
    source: str

    @property
    def tree(self) -> ast.Module:
        return _parse(self.source)

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


_parse = lru_cache(maxsize=None)(ast.parse)


def read_modules(root: Path, packages: Iterable[str]) -> list[Module]:
    """Read every module of the packages under `root`, but for folders with a dot: environments of other tools."""
    found = (path for package in packages for path in (root / package).rglob("*.py"))
    paths = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return [
        Module(
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"),
            path.relative_to(root).as_posix(),
            path.read_text(encoding="utf-8"),
        )
        for path in paths
    ]


class House:
    """The modules and what they import of each other, imports inside functions included."""

    def __init__(self, modules: Iterable[Module]):
        self.modules = {module.name: module for module in modules}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        return {name: set(self._imported(module)) - {name} for name, module in self.modules.items()}

    def _imported(self, module: Module) -> Iterator[str]:
        package = module.name if module.is_package else module.name.rpartition(".")[0]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                ancestor = package.rsplit(".", node.level - 1)[0] if node.level else ""
                origin = ".".join(filter(None, (ancestor, node.module)))
                named = [f"{origin}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in named:
                # A name that is no module is one of the module before it.
                found = name if name in self.modules else name.rpartition(".")[0]
                if found in self.modules:
                    yield found

    def private_imports(self) -> list[str]:
        """Imports of a private module from outside its own package."""
        return sorted(
            f"{importer} imports {imported}"
            for importer, names in self.imports.items()
            for imported in names
            if not _may_enter(importer, imported)
        )

    def circles(self) -> list[str]:
        """One circle of imports through each module that is in one, starting at its first name in the alphabet."""
        found = set()
        for start in sorted(self.imports):
            # Breadth first, over names not before `start`: every circle is found at its first name.
            paths, seen = [[start]], set()
            while paths:
                path = paths.pop(0)
                for name in sorted(self.imports[path[-1]]):
                    if name == start:
                        found.add(" -> ".join([*path, start]))
                        paths = []
                        break
                    if name > start and name not in seen:
                        seen.add(name)
                        paths.append([*path, name])
        return sorted(found)

    def upward_imports(self, layers=NETS_LAYERS, package="nets") -> list[str]:
        """Imports from a lower to a higher layer of a package, and modules that no layer lists."""
        rank = {name: i for i, names in enumerate(layers) for name in names}
        violations = []
        for importer, names in self.imports.items():
            own = _room(importer, package)
            if own is None:
                continue
            if own not in rank:
                violations.append(f"{package}.{own} is in no layer")
                continue
            rooms = {room for name in names if (room := _room(name, package)) is not None}
            violations += [f"{importer} imports {package}.{room}" for room in rooms if rank.get(room, 0) > rank[own]]
        return sorted(set(violations))

    def face_modules(self) -> set[str]:
        """Modules that users see: the packages, and the modules that a package's `__init__` names."""
        found = {name for name, module in self.modules.items() if module.is_package and not _is_private(name)}
        for name in list(found):
            tree = self.modules[name].tree
            public = public_names(tree) or set()
            # A package may name a module of another one: pde.quasi is pde.feynman_kac.quasi.
            imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level)
            named = {
                f"{node.module}.{a.name}" for node in imports for a in node.names if (a.asname or a.name) in public
            }
            found |= (named | {f"{name}.{each}" for each in public}) & self.modules.keys()
        return found

    def faces(self) -> dict[str, set[str]]:
        """For each module, the functions and classes in it that a face names."""
        found = {name: set() for name in self.modules}
        for face in self.face_modules():
            module = self.modules[face]
            public = public_names(module.tree) or set()
            defined = {node.name for node in module.tree.body if isinstance(node, (*FUNCTION, ast.ClassDef))}
            found[face] |= public & defined
            for node in module.tree.body:
                if isinstance(node, ast.ImportFrom) and node.module in self.modules:
                    found[node.module] |= {a.name for a in node.names if (a.asname or a.name) in public}
        return found


def _may_enter(importer: str, imported: str) -> bool:
    parts = imported.split(".")
    private = (i for i, part in enumerate(parts) if part.startswith("_") and not part.startswith("__"))
    return all(f"{importer}.".startswith(".".join(parts[:i]) + ".") for i in private if i)


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _room(name: str, package: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


def face_docstring_violations(house: House) -> list[str]:
    """What the docstrings of the faces lack, each function and class judged where it is defined."""
    return [
        violation
        for name, public in sorted(house.faces().items())
        if public
        for violation in docstring_violations(house.modules[name].source, name, public)
    ]


def long_docstrings(house: House) -> list[str]:
    """Functions and classes with numpydoc sections that no face names: one to three lines are enough for them."""
    faces, found = house.faces(), []
    for name, module in sorted(house.modules.items()):
        for node in module.tree.body:
            if isinstance(node, (*FUNCTION, ast.ClassDef)) and node.name not in faces[name]:
                inside = [node, *(child for child in own_nodes(node) if isinstance(child, FUNCTION))]
                found += [
                    f"{name}.{node.name}" + (f".{each.name}" if each is not node else "")
                    for each in inside
                    if sections(ast.get_docstring(each) or "").keys() & {"Parameters", "Returns", "Raises"}
                ]
    return found


def length_violations(module: Module) -> Iterator[str]:
    """Yield what is too long in a module: the file, and its functions."""
    n_lines = len(module.source.splitlines())
    head = "\n".join(module.source.splitlines()[:40])
    if n_lines > N_LINES:
        yield f"{module.path} has {n_lines} lines, more than {N_LINES}"
    elif n_lines > N_LINES_WITHOUT_REASON and not REASON.search(head):
        yield f'{module.path} has {n_lines} lines and no comment "Over 300 lines: why" at its head'
    if KERNELS.search(module.path):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, FUNCTION) and (n := lines_of_code(node, module.source)) > N_LINES_OF_FUNCTION:
            yield f"{module.path}: {node.name} has {n} lines of code, more than {N_LINES_OF_FUNCTION}"


def lines_of_code(function: ast.AST, source: str) -> int:
    """Number of lines of a function without its docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = source.splitlines()[function.lineno - 1 : function.end_lineno]
    docstring = (function.body[0].end_lineno - function.body[0].lineno + 1) if body is not function.body else 0
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines) - docstring


def parameter_violations(house: House) -> list[str]:
    """Public functions with more than ten parameters, those with a name of FLAT_NAMES not counted."""
    found = []
    for name, public in house.faces().items():
        for node in house.modules[name].tree.body:
            methods = [node]
            if isinstance(node, ast.ClassDef):
                methods = [child for child in node.body if isinstance(child, FUNCTION) and child.name == "__init__"]
            if getattr(node, "name", None) not in public:
                continue
            for function in methods:
                signature = function.args
                names = [a.arg for a in (*signature.posonlyargs, *signature.args, *signature.kwonlyargs)]
                counted = [each for each in names if each not in FLAT_NAMES | {"self"}]
                if len(counted) > N_PARAMETERS:
                    found.append(f"{name}.{node.name} has {len(counted)} parameters, more than {N_PARAMETERS}")
    return sorted(found)


# The first part of a path that only one machine has. `/tmp` and `/home` alone are examples in prose.
MACHINE_PATH = re.compile(r"""(?<![\w.:/-])/((work|root|home/\w+|workspace|mnt/\w|Users/\w+)/[\w.-]|tmp/\w)""")


def machine_paths(path: str, text: str) -> Iterator[str]:
    """Yield the lines of a file that hold an absolute path of the machine on which it was made."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := MACHINE_PATH.search(line):
            yield f"{path}:{number}: {line[match.start() : match.start() + 60].strip()}"
