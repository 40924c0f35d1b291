"""The rules that hold the house together: who may import whom, and what a public docstring must say.

`house_rules` reads the source; here it is run over the packages, and over small bad examples that it must object to.
"""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
from house_rules import ALLOWED_IMPORTS, docstring_violations, import_violations

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(name for name in ALLOWED_IMPORTS if (ROOT / name / "__init__.py").exists())


def modules(*packages):
    """Pairs (dotted name, path) of every module of the packages."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths]


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
    assert found == set(PACKAGES) == set(setup["options"]["packages"].split())


def test_imports_never_go_up():
    violations = [
        violation
        for module, path in modules(*PACKAGES)
        for violation in import_violations(path.read_text(encoding="utf-8"), module)
    ]
    assert not violations, report(violations)


def test_public_docstrings_say_what_the_code_does():
    violations = [
        violation
        for module, path in modules("pde", "bridge", "nets", "figures")
        for violation in docstring_violations(path.read_text(encoding="utf-8"), module)
        # A module whose own name is private, __init__ and __main__ among them, need not list public ones.
        if not (path.stem.startswith("_") and violation.endswith("has no literal __all__"))
    ]
    assert not violations, report(violations)


@pytest.mark.parametrize(("module", "unwanted"), [("pde", {"torch", "matplotlib"}), ("figures.fig4", {"torch"})])
def test_import_stays_light(module, unwanted, tmp_path):
    # Stand-ins that import in an instant: the answer is then the same where PyTorch is not installed.
    for name in unwanted:
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

    def shift(self):
        """Shift in place."""
        return None
'''


def test_checker_passes_a_good_module():
    assert [*docstring_violations(GOOD, "good")] == []


@pytest.mark.parametrize(
    ("old", "new", "violation"),
    [
        ('__all__ = ["', '_all = ["', "bad: has no literal __all__"),
        ('    """Shift in place."""\n', "", "bad.Field.shift: has no docstring"),
        ('        """Number of points."""\n', "", "bad.Field.size: has no docstring"),
        ("def shift(self)", "def shift(self, by)", "bad.Field.shift: parameter by is not documented"),
        ("return None", "return 2", "bad.Field.shift: gives something back, and has no Returns or Yields section"),
        ("return None", "yield", "bad.Field.shift: gives something back, and has no Returns or Yields section"),
        ("return None", "raise errors.Late(1)", "bad.Field.shift: raises Late, which is not under Raises"),
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
