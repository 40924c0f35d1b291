"""Wheel and sdist: complete, and at work where people install them.

The wheel is built from the files under version control and installed into an environment of its own, which sees the
packages of this one behind it. Its commands run from another directory, with spaces and umlauts in the paths.
"""

import configparser
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import _enresnet

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pde", "bridge", "nets", "figures", "lessons")
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"
ODD = "Ordner für Läufe, zweiter"
NOBODY = 65534
CLASH = "is not enresnet's: py-pde installs its own under the same name"


def committed():
    """Paths of the files under version control, or of all files where there is no repository."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout: which files belong to the sdist is not known")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built from a copy of the files under version control."""
    source = tmp_path_factory.mktemp("source") / "enresnet"
    for name in committed():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    dist = source.parent / "dist"
    dist.mkdir()
    made = []
    for kind in ("wheel", "sdist"):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, kind, str(dist)], cwd=source, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        made.append(dist / done.stdout.splitlines()[-1])
    return made


def install(wheel, directory):
    """A fresh environment in the directory with the wheel in it; returns its folder of packages."""
    venv.create(directory, symlinks=True)
    variables = {"base": str(directory), "platbase": str(directory)}
    packages = Path(sysconfig.get_path("purelib", "venv", variables))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # Behind the wheel, the packages that it needs; but not the checkout, where this one is installed from it.
    (packages / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return packages


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """(environment, directory to work in)."""
    base = tmp_path_factory.mktemp("installed") / ODD
    install(built[0], base / "Umgebung")
    (base / "Arbeit").mkdir()
    return base / "Umgebung", base / "Arbeit"


def call(environment, directory, *words, **options):
    """Run a command of an environment from a directory."""
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    variables |= options.pop("variables", {})
    # A path with a space cannot stand in the first line of the script that pip would write.
    words = (words[0], "-m", "enresnet", *words[2:]) if words[:2] == ("python", "enresnet") else words
    command = [str(environment / "bin" / words[0]), *map(str, words[1:])]
    return subprocess.run(
        command,
        cwd=directory,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
        **options,
    )


def test_the_wheel_holds_every_module_and_every_file_that_is_read(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "enresnet = enresnet:main" in wheel.read(entry_points).decode()
    for name in committed():
        top = Path(name).parts[0]
        if top in PACKAGES or name in ("enresnet.py", "_enresnet.py"):
            assert name in names, name
        if top == "results" and name.endswith(".json") and not name.startswith("results/networks/"):
            assert f"figures/{name}" in names, name
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/", "conftest"))]


def test_the_sdist_holds_every_file_of_the_repository(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    missing = [name for name in committed() if name not in names and not name.startswith(".git")]
    assert not missing


def test_there_is_one_version(built):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["metadata"]["version"] == "attr: _enresnet.__version__"
    version = _enresnet.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert built[0].name.startswith(f"enresnet-{version}-")
    import pde

    assert pde.__version__ == version


def test_the_installed_command_states_its_version(installed):
    done = call(*installed, "python", "enresnet", "--version")
    assert (done.stdout, done.stderr) == (f"enresnet {_enresnet.__version__}\n", "")


@pytest.mark.slow
def test_figure_4_runs_from_anywhere(installed):
    environment, work = installed
    done = call(environment, work, "python", "enresnet", "fig4", "--quick", "--n", "16", "--out", "Bilder ä")
    assert done.returncode == 0, done.stderr
    record = json.loads((work / "Bilder ä" / "fig4.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("python -m figures.fig4 --quick --n 16")
    assert (work / "Bilder ä" / "fig4.png").stat().st_size > 1000


def test_tables_of_the_wheel_show_the_numbers_that_came_with_it(installed):
    pytest.importorskip("torch")
    environment, work = installed
    done = call(environment, work, "python", "enresnet", "tables", "2")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "±" in line]
    assert len(rows) >= 3, done.stdout


def test_packages_come_from_the_wheel(installed):
    environment, work = installed
    code = "import pde, figures; print(pde.__file__); print(figures.__file__)"
    done = call(environment, work, "python", "-c", code)
    assert all(str(environment) in line for line in done.stdout.splitlines()), done.stdout + done.stderr


def spoil(packages, *, ours_last):
    """What installing py-pde into the same folder leaves, before or after our wheel."""
    for name in ("pdes", "grids", "fields"):
        (packages / "pde" / name).mkdir()
        (packages / "pde" / name / "__init__.py").write_text("from .base import nothing\n")
    if not ours_last:
        (packages / "pde" / "__init__.py").write_text('"""The py-pde package."""\nfrom .fields import *\n')


@pytest.mark.parametrize("ours_last", [True, False])
def test_a_foreign_pde_is_named_in_one_line(built, tmp_path, ours_last):
    packages = install(built[0], tmp_path / "env")
    spoil(packages, ours_last=ours_last)
    for name in ("fig4", "tables", "lessons", "train"):
        done = call(tmp_path / "env", tmp_path, "python", "enresnet", name)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"enresnet {name}: error: ") and CLASH in line and "python -m venv" in line
        assert done.returncode == 2
    done = call(tmp_path / "env", tmp_path, "python", "-m", "figures.fig4")
    assert CLASH in done.stderr and len(done.stderr.splitlines()) == 1
    for name in ("bridge", "nets", "figures", "lessons", *["pde"] * ours_last):
        done = call(tmp_path / "env", tmp_path, "python", "-c", f"import {name}")
        assert CLASH in done.stderr.splitlines()[-1], (name, done.stderr)


@pytest.mark.parametrize("ours_last", [True, False])
def test_a_foreign_pde_is_told_from_ours(tmp_path, monkeypatch, ours_last):
    _enresnet.check_pde()
    (tmp_path / "pde").mkdir()
    (tmp_path / "pde" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "pde", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    if ours_last:
        monkeypatch.setattr(_enresnet, "__file__", str(tmp_path / "_enresnet.py"))
        _enresnet.check_pde()
        spoil(tmp_path, ours_last=True)
    with pytest.raises(ImportError, match=CLASH):
        _enresnet.check_pde()


def test_what_is_left_after_py_pde_was_removed_says_so(built, tmp_path):
    packages = install(built[0], tmp_path / "env")
    (packages / "pde" / "__init__.py").unlink()
    done = call(tmp_path / "env", tmp_path, "python", "enresnet", "fig4")
    (line,) = done.stderr.splitlines()
    assert "pde" in line and "python -m venv" in line


@pytest.mark.slow
def test_a_user_without_home_and_without_rights_gets_his_figure(built, tmp_path_factory):
    base = tmp_path_factory.mktemp("nobody")
    packages = install(built[0], base / "env")
    work = base / "work"
    work.mkdir()
    for path in [base / "env", *(base / "env").rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    options = {"variables": {"HOME": "/nonexistent"}}
    if os.getuid() == 0:
        for path in [*base.parents[:3], base, work]:
            path.chmod(path.stat().st_mode | 0o755)
        os.chown(work, NOBODY, NOBODY)
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        reachable = subprocess.run(["true"], cwd=work, user=NOBODY, group=NOBODY, extra_groups=[], check=False)
        assert reachable.returncode == 0
    code = "import sys; print(sys.version)"
    try:
        call(base / "env", work, "python", "-c", code, **options).check_returncode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this interpreter cannot be read by another user")
    done = call(base / "env", work, "python", "-m", "enresnet", "fig4", "--quick", "--n", "16", **options)
    assert done.returncode == 0, done.stderr
    assert (work / "out" / "fig4.png").is_file()
    assert not list(packages.rglob("__pycache__"))


def interpreter(version):
    """Another Python of this machine, on the path or pyenv's; the test is skipped where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in (shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python{version}")):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        if path and subprocess.run([path, "-c", code], capture_output=True, text=True).stdout.strip() == version:
            return str(path)
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_core_runs_in_other_versions_of_python(built, tmp_path, version):
    subprocess.run([interpreter(version), "-m", "venv", str(tmp_path / ODD)], check=True, capture_output=True)
    pip = call(tmp_path / ODD, tmp_path, "python", "-m", "pip", "install", "-q", built[0])
    if pip.returncode:
        pytest.skip(f"pip cannot install the core: {pip.stderr.splitlines()[-1][:200]}")
    done = call(tmp_path / ODD, tmp_path, "python", "enresnet", "fig4", "--quick", "--n", "16")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "fig4.json").read_text(encoding="utf-8"))
    assert all(row["maximum_principle"] for row in record["solutions"])
    # Without PyTorch, the commands that need it say in one line what to install.
    done = call(tmp_path / ODD, tmp_path, "python", "enresnet", "evaluate", "zoo:cifar10/resnet20-seed0")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "enresnet[nets]" in line


def test_extras_are_complete():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert {"nets", "teach", "cluster", "gpu", "fast", "docs", "test", "dev", "all"} <= {
        *setup["options.extras_require"]
    }
