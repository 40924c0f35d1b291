"""README and documentation: code blocks run, links lead somewhere, nothing public is left out.

The site itself is built by `make docs`, which takes warnings for errors.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md"), *DOCS.glob("guide/*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
BLOCKS = [(page, code) for page in PAGES for code in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(BLOCKS)])
def test_code_blocks_run(page, code, tmp_path, monkeypatch):
    if re.search(r"^import (torch|bridge|nets)", code, re.MULTILINE):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page.name, "exec"), {"__name__": "__main__"})
    assert not list(tmp_path.iterdir())


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 9000


def test_all_pages_state_the_same_time_for_all_figures():
    stated = re.compile(r"about (\w+) minutes on two cores", re.IGNORECASE)
    files = ("README.md", "docs/get-started.md", "figures/__main__.py")
    found = {file: set(stated.findall((ROOT / file).read_text(encoding="utf-8"))) for file in files}
    assert all(found.values())
    assert len(set().union(*found.values())) == 1, found


def anchor(heading):
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in LINK.findall(text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in {anchor(each) for each in HEADING.findall(file.read_text(encoding="utf-8"))}, target


def test_every_figure_is_in_the_gallery():
    from figures._registry import FIGURES

    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert not [name for name in FIGURES if f"python -m figures.{name}" not in gallery]
    shown = {Path(name).name for page in PAGES for name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert {path.name for path in DOCS.glob("*.png")} <= shown


def test_every_face_is_in_the_reference():
    from house_map import House, read_modules

    house = House(read_modules(ROOT, ["pde", "bridge", "nets"]))
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("api-*.md"))
    documented = set(re.findall(r"automodule:: (\S+)", text))
    hidden = {name for name in house.face_modules() if name not in documented}
    assert not hidden


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8") + (DOCS / "api.md").read_text(encoding="utf-8")
    words = set(re.findall(r"^([\w/.-]+)$", index, re.MULTILINE))
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES if DOCS in path.parents}
    assert pages - words == {"index"}


def test_every_lesson_is_on_its_page():
    from lessons import LESSONS

    text = (DOCS / "lessons.md").read_text(encoding="utf-8")
    assert not [lesson.title for lesson in LESSONS if lesson.title not in text]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="Sphinx is not installed: make docs")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "searchindex.js").stat().st_size > 10_000
