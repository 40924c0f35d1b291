"""The rules that hold the house together: who may import whom, and what a public docstring must say.

`house_rules` reads the source; here it is run over the packages, and over small bad examples that it must object to.
"""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house_map import (
    House,
    Module,
    face_docstring_violations,
    length_violations,
    long_docstrings,
    machine_paths,
    parameter_violations,
    read_modules,
)
from house_rules import ALLOWED_IMPORTS, docstring_violations, import_violations, public_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(name for name in ALLOWED_IMPORTS if (ROOT / name / "__init__.py").exists())


HOUSE = House(read_modules(ROOT, [*PACKAGES, "benchmarks"]))
TEXTS = {".json", ".md", ".csv", ".cff", ".txt", ".cfg", ".toml", ".py", ".html", ".yml", ".ipynb"}
RECORDED = re.compile(r'"commit": "([0-9a-f]{7,40})(?:-dirty)?"')
NEIGHBOURS = re.compile(r"^\| `([0-9a-f]{7})` \| `([0-9a-f]{7})` \|", re.MULTILINE)


def run_python(*arguments, python_path=""):
    """Run a fresh interpreter in the repository root; its output is the caller's to judge."""
    first = os.pathsep.join(filter(None, (str(python_path), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": first},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def report(violations):
    return "\n" + "\n".join(violations)


def test_every_package_is_under_the_rules_and_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert found == set(PACKAGES)
    with_inner = {module.name for module in HOUSE.modules.values() if module.is_package}
    # The numbers of results/, mapped into the wheel.
    installed = {name for name in setup["options"]["packages"].split() if not name.startswith("#")} - {
        "figures.results"
    }
    assert {name for name in with_inner if not name.startswith("benchmarks")} == installed


def test_imports_never_go_up():
    violations = [
        violation
        for module in HOUSE.modules.values()
        if not module.name.startswith("benchmarks")
        for violation in import_violations(module.source, module.name)
    ]
    assert not violations, report(violations)


def test_layers_inside_nets_never_go_up():
    violations = HOUSE.upward_imports()
    assert not violations, report(violations)


def test_private_modules_are_imported_only_from_their_own_package():
    violations = HOUSE.private_imports()
    assert not violations, report(violations)


def test_no_import_runs_in_a_circle():
    violations = HOUSE.circles()
    assert not violations, report(violations)


def test_files_and_functions_are_short():
    violations = [violation for module in HOUSE.modules.values() for violation in length_violations(module)]
    assert not violations, report(violations)


def test_public_functions_have_few_parameters():
    violations = parameter_violations(HOUSE)
    assert not violations, report(violations)


def test_docstrings_of_the_faces_say_what_the_code_does():
    violations = face_docstring_violations(HOUSE)
    assert not violations, report(violations)


def test_docstrings_behind_the_faces_are_short():
    violations = long_docstrings(HOUSE)
    assert not violations, report(violations)


def test_modules_name_what_is_public():
    violations = [
        f"{module.name}: has no literal __all__"
        for module in HOUSE.modules.values()
        if not module.name.startswith(("benchmarks", "lessons"))
        and not Path(module.path).stem.startswith("_")
        and public_names(module.tree) is None
    ]
    assert not violations, report(violations)


def test_no_file_holds_a_path_of_the_machine_that_made_it():
    listed = git("ls-files", "-z")
    names = [name for name in listed.split("\0") if name] or [
        path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if not {"out", "runs"} & set(path.parts)
    ]
    texts = {name for name in names if Path(name).suffix in TEXTS and (ROOT / name).is_file()}
    violations = [
        violation
        for name in sorted(texts - {"tests/test_house_rules.py"})
        for violation in machine_paths(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not violations, report(violations)


def test_commits_of_records_are_in_the_history_or_named_with_their_neighbours():
    shallow = git("rev-parse", "--is-shallow-repository").strip()
    if shallow != "false":
        pytest.skip("no complete history here")
    records = [*ROOT.glob("results/**/*.json"), *ROOT.glob("nets/zoo/*/*.json")]
    recorded = {commit for path in records for commit in RECORDED.findall(path.read_text(encoding="utf-8"))}
    neighbours = dict(NEIGHBOURS.findall((ROOT / "results" / "README.md").read_text(encoding="utf-8")))
    assert len(recorded) > 5 and neighbours
    for commit in recorded | set(neighbours.values()):
        known = neighbours.get(commit[:7], commit)
        assert git("cat-file", "-t", known) == "commit\n", (
            f"{commit} is not in the history; name it in results/README.md"
        )
    unused = set(neighbours) - {commit[:7] for commit in recorded}
    assert not unused, f"results/README.md names {unused}, which no record has"


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    ("module", "unwanted"), [("pde", {"torch", "matplotlib", "scipy.stats"}), ("figures.fig4", {"torch"})]
)
def test_import_stays_light(module, unwanted, tmp_path):
    # Stand-ins that import in an instant: the answer is then the same where PyTorch is not installed.
    for name in unwanted - {"scipy.stats"}:
        (tmp_path / f"{name}.py").touch()
    done = run_python("-c", f"import {module}, sys; print(*sorted(sys.modules))", python_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert module in done.stdout.split()
    assert not unwanted & set(done.stdout.split())


@pytest.mark.parametrize("package", ["bridge", "nets"])
def test_missing_torch_is_answered_with_the_extra_to_install(package):
    done = run_python("-c", f"import sys; sys.modules['torch'] = None; import {package}")
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ")
    assert package in message.partition("need PyTorch")[0]
    assert 'pip install "enresnet[nets]"' in message


def test_every_figure_is_listed():
    figures = {path.stem for path in (ROOT / "figures").glob("*.py") if not path.stem.startswith("_")} - {"common"}
    done = run_python("-m", "figures", "--list")
    assert done.returncode == 0, done.stderr
    assert not figures - set(done.stdout.replace(":", " ").split()), done.stdout


@pytest.mark.parametrize(
    ("module", "line", "forbidden"),
    [
        ("pde.grid", "import bridge", "bridge"),
        ("pde.grid", "def late():\n    from nets.models import build", "nets"),
        ("bridge.residual", "import figures._io as common", "figures"),
        ("nets.models", "import bridge, pde.fields", "pde"),
        ("figures.fig4", "from lessons import euler", "lessons"),
        ("lessons.euler", "from benchmarks import timing", "benchmarks"),
    ],
)
def test_checker_finds_an_import_that_goes_up(module, line, forbidden):
    (violation,) = import_violations(line, module)
    assert violation.endswith(f"must not import {forbidden}")


def test_checker_lets_imports_go_down_and_stay_inside():
    assert not [*import_violations("import numpy, bridge\nimport nets.data\nfrom . import models", "nets.train")]


GOOD = '''
__all__ = ["Field", "Result", "solve"]

def solve(u, *, n=None, **options):
    """Solve.

    Parameters
    ----------
    u : ndarray
        Values of shape (n, n).
    n, **options : int, optional
        Not arrays.

    Returns
    -------
    ndarray, (2, n, n)

    Raises
    ------
    ValueError
        If n is negative.
    """
    def inner():
        raise KeyError(n)
    if n < 0:
        raise ValueError(n)
    return u

@dataclass(frozen=True)
class Result:
    """A result.

    Attributes
    ----------
    u : ndarray, shape (n, n)
    """

    u: np.ndarray
    _cache: dict

class Field:
    """A field.

    Parameters
    ----------
    n : int

    Raises
    ------
    TypeError
        If n is no integer.
    """

    def __init__(self, n):
        raise TypeError(n)

    @property
    def size(self):
        """Number of points."""
        return 1

    def _private(self, x):
        return x

    def shift(self, by):
        """Shift in place; a line is enough for a method."""
        return by

    def far(self, by):
        """Shift far.

        Parameters
        ----------
        by : int
        """
        return None
'''


def test_checker_passes_a_good_module():
    assert [*docstring_violations(GOOD, "good")] == []


@pytest.mark.parametrize(
    ("old", "new", "violation"),
    [
        ('__all__ = ["', '_all = ["', "bad: has no literal __all__"),
        ('    """Shift in place; a line is enough for a method."""\n', "", "bad.Field.shift: has no docstring"),
        ('        """Number of points."""\n', "", "bad.Field.size: has no docstring"),
        ("def far(self, by)", "def far(self, to)", "bad.Field.far: parameter to is not documented"),
        ("return None", "raise errors.Late(1)", "bad.Field.far: raises Late, which is not under Raises"),
        ("return None", "return 2", "bad.Field.far: gives something back, and has no Returns or Yields section"),
        ("return None", "yield", "bad.Field.far: gives something back, and has no Returns or Yields section"),
        ("__init__(self, n)", "__init__(self, m)", "bad.Field: parameter m is not documented"),
        ("__init__(self, n)", "__init__(self)", "bad.Field: documents n, which is no parameter"),
        ("raise TypeError", "raise KeyError", "bad.Field: raises KeyError, which is not under Raises"),
        ("    _cache: dict", "    cost: float", "bad.Result: parameter cost is not documented"),
        ("u : ndarray, shape (n, n)", "u : ndarray", "bad.Result: gives no shape for `u : ndarray` under Attributes"),
        ("*, n=None", "*, n=None, dt", "bad.solve: parameter dt is not documented"),
        (", **options)", ")", "bad.solve: documents options, which is no parameter"),
        ("of shape (n, n)", "on the grid", "bad.solve: gives no shape for `u : ndarray` under Parameters"),
        ("ndarray, (2, n, n)", "ndarray", "bad.solve: gives no shape for `ndarray` under Returns"),
        ("raise ValueError", "raise OSError", "bad.solve: raises OSError, which is not under Raises"),
    ],
)
def test_checker_finds_what_is_missing(old, new, violation):
    assert GOOD.count(old) == 1
    assert violation in docstring_violations(GOOD.replace(old, new), "bad")


def house(**sources):
    """A house of a few modules: dotted name with __ for the dot -> source; a name that ends in __ is a package."""
    modules = []
    for name, source in sources.items():
        dotted = name.rstrip("_").replace("__", ".").replace(".p_", "._")
        path = dotted.replace(".", "/") + ("/__init__.py" if name.endswith("__") else ".py")
        modules.append(Module(dotted, path, source))
    return House(modules)


def test_checker_finds_private_imports_from_outside():
    rooms = {"nets__": "", "nets__attacks__": "from nets.attacks import _pgd", "nets__attacks__p_pgd": ""}
    assert house(**rooms).private_imports() == []
    found = house(**rooms, nets__train="def late():\n    from nets.attacks import _pgd").private_imports()
    assert found == ["nets.train imports nets.attacks._pgd"]


def test_checker_finds_circles_also_through_functions():
    sources = {"nets__": "", "nets__a": "from nets import b", "nets__b": "import nets.c"}
    assert house(**sources, nets__c="").circles() == []
    found = house(**sources, nets__c="def late():\n    from nets.a import thing").circles()
    assert found == ["nets.a -> nets.b -> nets.c -> nets.a"]


def test_checker_finds_imports_up_the_layers_of_nets():
    rooms = {"nets__": "", "nets__models": "", "nets__data__": "", "nets__attacks__": "from nets import models"}
    assert house(**rooms).upward_imports() == []
    (violation,) = house(**rooms | {"nets__models": "from nets.data import load"}).upward_imports()
    assert violation == "nets.models imports nets.data"
    (violation,) = house(**rooms, nets__loose="").upward_imports()
    assert violation == "nets.loose is in no layer"


def test_checker_finds_long_files_functions_and_lists_of_parameters():
    body = "def f():\n" + "    x = 1\n" * 59
    assert [*length_violations(Module("a", "a.py", body))] == []
    (violation,) = length_violations(Module("a", "a.py", body + "    # a comment is no code\n    x = 2\n"))
    assert violation == "a.py: f has 61 lines of code, more than 60"
    assert [*length_violations(Module("a._cuda", "a/_cuda.py", body + "    x = 2\n"))] == []
    (violation,) = length_violations(Module("a", "a.py", "x = 1\n" * 301))
    assert "Over 300 lines" in violation
    assert [*length_violations(Module("a", "a.py", "# Over 300 lines: a table.\n" + "x = 1\n" * 301))] == []
    (violation,) = length_violations(Module("a", "a.py", "# Over 300 lines: a table.\n" + "x = 1\n" * 401))
    assert violation == "a.py has 402 lines, more than 400"
    many = ", ".join(f"a{i}" for i in range(10))
    face = '__all__ = ["f"]\ndef f({}): pass'
    assert parameter_violations(house(nets__=face.format(many + ", *, n_eot, n_iter"))) == []
    (violation,) = parameter_violations(house(nets__=face.format(many + ", b")))
    assert violation == "nets.f has 11 parameters, more than 10"


def test_checker_judges_docstrings_of_faces_and_not_of_what_is_behind():
    bad = "def f(x):\n    return x\ndef g(x):\n    return x"
    sources = {"nets__": '__all__ = ["f"]\nfrom nets._inner import f', "nets__p_inner": bad}
    assert face_docstring_violations(house(**sources)) == ["nets._inner.f: has no docstring"]
    long = bad.replace("return", '"""Do.\n\n    Parameters\n    ----------\n    x : int\n    """\n    return')
    assert long_docstrings(house(**sources | {"nets__p_inner": long})) == ["nets._inner.g"]
    # A face names a module of another package: what that names is public as well.
    other = {"pde__": '__all__ = ["h"]\nfrom nets import h', "nets__h": '__all__ = ["f"]\n' + bad}
    assert face_docstring_violations(house(**sources, **other)) == [
        "nets._inner.f: has no docstring",
        "nets.h.f: has no docstring",
    ]


@pytest.mark.parametrize(
    "text", ['"out": "/work/shared/x"', "see /root/w/a.py", "in /home/ada/runs", "(/tmp/x1/run)", '"out": "/tmp/x"']
)
def test_checker_finds_paths_of_a_machine(text):
    assert [*machine_paths("a.json", f"fine\n{text}\n")]
    assert not [*machine_paths("a.json", "python -m nets.train --data PATH, /home, n/a, https://x.org/work/a")]


def test_the_page_of_the_attacks_names_all_of_them():
    text = (ROOT / "docs" / "api-nets.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: nets\.attacks\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(public_names(HOUSE.modules["nets.attacks"].tree))
