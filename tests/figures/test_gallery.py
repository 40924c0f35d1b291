"""The gallery: one page that needs nothing else, whatever there is; and the command that makes everything."""

import ast
import base64
import importlib
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import figures.__main__ as command
from figures import _cli, gallery
from figures import _io as common
from figures._registry import FIGURES
from figures.gallery._summary import lines_of

ROOT = Path(__file__).resolve().parents[2]
# Elements without an end.
VOID = {"meta", "img", "br", "link", "input", "hr"}
HEAD = "table,row,attack,paper,ours,stderr,n,difference,recipe,data,command"


class Page(HTMLParser):
    """A page read strictly: every element that begins ends, in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self._open, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def read(directory):
    return Page((directory / "index.html").read_text(encoding="utf-8"))


def pictures(page):
    """The pictures' pixels, by their alternative texts."""
    found = {}
    for image in page.all("img"):
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            picture.load()
            assert picture.size == (int(image["width"]), int(image["height"]))
            found[image["alt"]] = np.asarray(picture.convert("RGB"))
    return found


def assert_needs_nothing(page, html):
    """No script, and no address of anything outside: a link leads into the page, a picture is in it."""
    assert not page.all("script")
    assert not page.all("link")
    assert "url(" not in html
    assert "@import" not in html
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value


def draw(path, colour, size=(6, 4)):
    Image.new("RGB", size, colour).save(path)


def make(directory, name, colour=(200, 100, 0), **findings):
    """The files of a figure."""
    directory.mkdir(exist_ok=True)
    draw(directory / f"{name}.png", colour)
    record = common.provenance({"quick": False, "out": directory}, 1.5) | {"command": f"python -m figures.{name}"}
    common.write_json(directory / f"{name}.json", record | findings)


# The page


def test_a_page_of_nothing_says_in_one_fold_what_would_make_it(tmp_path):
    assert gallery.write(tmp_path) == tmp_path / "index.html"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    page = read(tmp_path)
    assert [section["id"] for section in page.all("section")] == ["missing"]
    assert page.all("details") == [{}]
    assert f"{len(FIGURES)} missing: " in page.words
    for name in FIGURES:
        assert f"python -m figures.{name} --out {tmp_path}" in page.words
    assert pictures(page) == {}
    assert_needs_nothing(page, (tmp_path / "index.html").read_text())


def test_what_is_there_is_shown_pixel_by_pixel(tmp_path):
    make(tmp_path, "fig1", (10, 20, 30), n_parameters=272282, order={"order": 0.98765, "stderr": 0.012})
    make(tmp_path, "fig4", (40, 50, 60), captions={"": "a caption with a < sign", "evidence": "another"})
    draw(tmp_path / "fig4-evidence.png", (70, 80, 90), (9, 2))
    # Of Figure 10, and of none.
    draw(tmp_path / "fig10.png", (1, 2, 3))
    draw(tmp_path / "other.png", (4, 5, 6))
    gallery.write(tmp_path)
    page = read(tmp_path)
    shown = pictures(page)
    assert [tuple(pixels[0, 0].tolist()) for pixels in shown.values()] == [
        (10, 20, 30), (40, 50, 60), (70, 80, 90), (1, 2, 3),
    ]  # fmt: skip
    # Four different texts, each of which says what it stands for.
    assert len(shown) == 4
    assert next(iter(shown)).startswith("Figure 1: the residual mapping of a ResNet")
    assert "evidence" in list(shown)[2]
    assert "a caption with a < sign" in page.words
    for said in ("n parameters 272282", "order 0.9877 ± 0.012", "commit", "numpy", "1.5 s", "python -m figures.fig1"):
        assert said in page.words, said
    assert "another" in page.words
    assert "captions ·" not in page.words
    assert "fig10.json, which records how it was made, is missing" in page.words
    assert f"{len(FIGURES) - 3} missing: " in page.words


def test_the_page_can_be_used_without_a_mouse_and_at_any_size(tmp_path):
    make(tmp_path, "fig7", fraction=0.1)
    gallery.write(tmp_path)
    page, html = read(tmp_path), (tmp_path / "index.html").read_text()
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.all("a")]
    # The first thing that can be reached leads to what matters, and every figure that is there by its title.
    assert links == ["#main", "#fig7"]
    assert "Figure 7: histograms of a ResNet-20's weights, after natural and after adversarial training" in page.words
    assert {link[1:] for link in links} <= set(ids)
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert {len(page.all(tag)) for tag in ("h1", "main", "nav", "title")} == {1}
    assert len(page.all("h2")) == len(FIGURES)
    for rule in ("max-width: 100%", "color-scheme: light dark", "prefers-color-scheme: dark", "overflow-x: auto",
                 "@media (max-width: 40rem)"):  # fmt: skip
        assert rule in html
    # What scrolls by itself can be scrolled by the keyboard, and has a name.
    for region in (attributes for attributes in page.all("div") if attributes.get("class") == "wide"):
        assert region["tabindex"] == "0"
        assert region["aria-label"]
    assert "user-scalable" not in html
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_what_stands_in_files_is_text_and_no_markup(tmp_path):
    trap = "<script>alert('&')</script>\"'"
    make(tmp_path, "fig2", **{trap: {"inner": trap}})
    gallery.write(tmp_path, reasons={"fig3": trap})
    page = read(tmp_path)
    assert not page.all("script")
    assert page.words.count("<script>alert('&')</script>\"'") == 3


def test_quick_runs_are_called_so(tmp_path):
    make(tmp_path, "fig8")
    gallery.write(tmp_path)
    assert "A quick run" not in read(tmp_path).words
    record = json.loads((tmp_path / "fig8.json").read_text())
    record["arguments"]["quick"] = True
    common.write_json(tmp_path / "fig8.json", record)
    gallery.write(tmp_path)
    assert "A quick run" in read(tmp_path).words


@pytest.mark.parametrize("content", (b"", b"\x89PNG\r\n\x1a\n", b"<svg>", None))
def test_a_damaged_picture_is_named_and_the_rest_is_shown(content, tmp_path):
    make(tmp_path, "fig5")
    make(tmp_path, "fig7")
    path = tmp_path / "fig5.png"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    gallery.write(tmp_path)
    page = read(tmp_path)
    assert len(pictures(page)) == 1
    assert "fig5.png is damaged" in page.words


@pytest.mark.parametrize("text", ("", "{", "[1]", "\xff"))
def test_a_damaged_record_is_named_and_the_picture_is_shown(text, tmp_path):
    make(tmp_path, "fig5")
    (tmp_path / "fig5.json").write_text(text, encoding="latin-1")
    gallery.write(tmp_path)
    page = read(tmp_path)
    assert len(pictures(page)) == 1
    assert "fig5.json is damaged" in page.words


def test_tables_show_the_paper_and_ours(tmp_path):
    lines = [
        'table2,resnet20,natural,75.11,54.1234,0.5,1000 × 2,-20.9866,"stand-in cpu/resnet20",c10 (JPEG),"a --b && c"',
        "table2,en5_resnet20,ifgsm20,51.48,,,,,,,a --b",
    ]
    (tmp_path / "table2.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    (tmp_path / "table2.md").write_text("## Table 2: PGD networks\n\nmore\n")
    (tmp_path / "table10.csv").write_text(f"{HEAD}\ntable10,x,natural,1.00,,,,,,,d\n")
    (tmp_path / "section4-4.csv").write_text(f"{HEAD}\nsection4.4,y,natural,1.00,,,,,,,d\n")
    (tmp_path / "tables.csv").write_text("of something else\n")
    gallery.write(tmp_path)
    page = read(tmp_path)
    words = page.words
    assert "ResNet-20 natural 75.11 54.12 ± 0.50 (1000 × 2) −20.99" in words
    assert "Ours: stand-in cpu/resnet20; c10 (JPEG)." in words
    assert "En5ResNet-20 ifgsm20 51.48 missing –" in words
    # On a narrow page a row's cells name their columns.
    heads = [cell.get("data-head") for cell in page.all("td") if "data-head" in cell]
    assert heads == ["paper", "ours", "difference"] * 4
    titles = ["Table 2: PGD networks (1 of 2 numbers are ours)", "table10 (0 of 1", "section4-4 (0 of 1"]
    assert sorted(titles, key=words.index) == titles
    assert "a --b c" in words
    # What there is lies open, what is missing is closed: rows, and whole tables.
    assert "1 missing: the paper's numbers alone" in words
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    folds = re.findall(r"<details><summary>1 missing.*?</details>", html, re.DOTALL)
    assert len(folds) == 1 and "En5ResNet-20" in folds[0] and "54.12" not in folds[0]
    summaries = re.findall(r"<details( open)?><summary>(\w+)", (tmp_path / "index.html").read_text())
    assert [name for opened, name in summaries if opened] == ["Table"]
    assert {"table10", "section4"} <= {name for opened, name in summaries if not opened}
    assert_needs_nothing(page, (tmp_path / "index.html").read_text())


@pytest.mark.parametrize("text", ("", "a,b\n1,2\n", f"{HEAD}\nshort\n", f"{HEAD}\n"))
def test_a_damaged_table_is_named(text, tmp_path):
    (tmp_path / "table3.csv").write_text(text)
    gallery.write(tmp_path)
    assert "table3.csv is damaged" in read(tmp_path).words


def test_the_page_is_written_alone_and_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    make(tmp_path, "fig9")
    gallery.main(["--out", str(tmp_path)])
    assert capsys.readouterr() == (f"{tmp_path / 'index.html'}\n", "")
    before = (tmp_path / "index.html").read_bytes()
    monkeypatch.setattr(gallery._page, "page", lambda sections: 1 / 0)
    with pytest.raises(SystemExit):
        gallery.main(["--out", str(tmp_path)])
    assert (tmp_path / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig9.json", "fig9.png", "index.html"]


def test_no_directory_is_one_line(tmp_path, refused):
    assert refused(gallery.main, "--out", tmp_path / "none") == (
        f"python -m figures.gallery: error: --out {tmp_path / 'none'} is not a directory: python -m figures makes it\n"
    )


def test_findings_are_rounded_and_long_lists_told_by_their_range():
    record = {
        "command": "c", "seconds": 1.0, "deep": {"er": {"x": None, "yes": True}},
        "gain": {"mean": 0.123456, "stderr": 0.00234, "low": 0.1, "high": 0.2, "n": 3},
        "one": {"mean": 0.5, "stderr": None, "low": None, "high": None, "n": 1},
        "long": [float(k) for k in range(20)], "short": [1, 2.5], "empty": [], "names": ["a"] * 10,
        "boxes": [{"n": 1}, {"n": 2}],
    }  # fmt: skip
    found = lines_of(record)
    assert [(line.name, line.value) for line in found] == [
        ("gain", "0.1235 ± 0.0023 (n = 3)"), ("one", "0.5 (n = 1)"), ("long", "20 numbers, 0 to 19"),
        ("short", "1, 2.5"), ("empty", "none"), ("names", ", ".join(["a"] * 10)), ("deep · er · x", "–"),
        ("deep · er · yes", "yes"), ("boxes · 1 · n", "1"), ("boxes · 2 · n", "2"),
    ]  # fmt: skip
    assert [line.name for line in found if line.is_item] == ["boxes · 1 · n", "boxes · 2 · n"]


def test_the_page_shows_a_dozen_findings_and_counts_the_others(tmp_path):
    make(tmp_path, "fig1", boxes=[{"role": "one"}, {"role": "other"}], **{f"number_{k}": k for k in range(15)})
    gallery.write(tmp_path)
    words = read(tmp_path).words
    assert "number 11 11" in words
    assert "number 12" not in words
    assert "boxes · " not in words
    # 15 + 2 less 12.
    assert "Findings, from fig1.json, which holds 5 more numbers" in words


def names_of(node):
    return [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]


def test_every_public_module_with_a_command_is_listed_and_nothing_else():
    commands = set()
    for path in [*(ROOT / "figures").glob("[!_]*.py"), *(ROOT / "figures").glob("[!_]*/__init__.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any("main" in (getattr(node, "name", ""), *names_of(node)) for node in tree.body):
            commands.add(path.parent.name if path.stem == "__init__" else path.stem)
    assert commands == {*FIGURES, "gallery"}


def test_the_list_knows_which_options_each_command_has(capsys):
    pytest.importorskip("torch")
    for name, figure in FIGURES.items():
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(f"figures.{name}").main(["--help"])
        assert stop.value.code == 0
        usage = capsys.readouterr().out.partition("\n\n")[0]
        assert figure.options == tuple(option for option in ("runs", "data") if f"[--{option} " in usage), name


# The command


@pytest.fixture
def fake(monkeypatch):
    """Figures that are functions of the test, by name; the module of any other cannot be imported."""

    def install(**mains):
        def import_module(name):
            if name == "torch":
                return importlib.import_module(name)
            return SimpleNamespace(main=mains[name.removeprefix("figures.")])

        monkeypatch.setattr(command, "importlib", SimpleNamespace(import_module=import_module))
        monkeypatch.setattr(command, "FIGURES", {name: FIGURES[name] for name in mains})

    return install


def written(options):
    """A figure's main that writes its picture and record, as by `_command`."""
    directory = Path(options[options.index("--out") + 1])
    name = Path(sys.argv[0]).stem
    make(directory, name)
    common.write_json(directory / f"{name}.json", common.provenance({"out": directory}, 1.0))


def refused(message):
    """A figure's main that ends as `_cli.run` lets it."""

    def raise_error():
        raise ValueError(message)

    return lambda options: _cli.run(raise_error, "python -m figures.test", {})


LACKING = "runs lacks finished runs for this figure (plain): python -m nets.train cpu/resnet20; or give --quick"


def status(*arguments):
    try:
        command.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def test_each_figure_says_the_command_that_makes_it_alone(fake, tmp_path, capsys):
    typed = list(sys.argv)
    fake(fig1=written, fig7=written)
    assert status("--out", tmp_path, "--seed", 4, "--runs", tmp_path, "--data", "digits") == 0
    told = {name: json.loads((tmp_path / f"{name}.json").read_text())["command"] for name in ("fig1", "fig7")}
    # Records go into repositories: a directory of this machine by its last name alone.
    shared = f"--seed 4 --out {tmp_path.name}"
    assert told["fig1"] == f"python -m figures.fig1 {shared}"
    assert told["fig7"] == f"python -m figures.fig7 {shared} --runs {tmp_path.name} --data digits"
    assert sys.argv == typed
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'index.html'}\n"
    assert err == "python -m figures: 2 of 2 made\n"


def test_a_directory_in_the_place_of_the_page_is_refused_before_a_figure_is_made(fake, tmp_path, capsys):
    fake(fig1=written)
    (tmp_path / "index.html").mkdir()
    assert status("--out", tmp_path) == 2
    assert capsys.readouterr().err.endswith(f"--out {tmp_path} cannot be written: index.html is a directory there\n")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_without_finished_runs_a_figure_is_skipped_and_the_rest_is_made(fake, tmp_path, capsys):
    fake(fig1=written, fig7=refused(LACKING), fig2=written)
    assert status("--out", tmp_path) == 0
    err = capsys.readouterr().err
    assert "python -m figures: 2 of 3 made\n" in err
    assert f"python -m figures: 1 of 3 skipped\n  fig7: {LACKING}\n" in err
    page = read(tmp_path)
    assert len(pictures(page)) == 2
    assert f"Not made by the last call: {LACKING}" in page.words
    assert f"python -m figures.fig7 --out {tmp_path}" in page.words
    # Asked for by name, it is not there, and the status says so.
    assert status("fig7", "--out", tmp_path) == 1


def test_the_message_about_missing_runs_is_the_one_of_the_figures(tmp_path):
    pytest.importorskip("torch")
    from figures import _runs

    for wanted in ({"plain": _runs.Wanted(("resnet20",))}, {"a": _runs.Wanted(("en2_resnet20",), natural=True)}):
        with pytest.raises(ValueError, match=r"runs") as caught:
            _runs.find(tmp_path, wanted)
        assert command.NO_RUNS.search(" ".join(str(caught.value).split()))
    assert not command.NO_RUNS.search("run-3 is damaged (KeyError: 'n'): remove it")


@pytest.mark.parametrize("error", (KeyError("key"), AssertionError(), ImportError("cannot import name x"), TypeError()))
def test_a_fault_of_one_figure_is_told_and_the_rest_goes_on(error, fake, tmp_path, capsys):
    def fail(options):
        raise error

    fake(fig1=fail, fig2=written)
    assert status("--out", tmp_path) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert f"1 of 2 failed\n  fig1: {type(error).__name__}" in err
    assert len(pictures(read(tmp_path))) == 1


def test_an_error_of_one_figure_that_is_no_missing_run_counts_as_failed(fake, tmp_path, capsys):
    fake(fig1=refused("not resolved: n is too small"), fig2=written)
    assert status("--out", tmp_path) == 1
    assert "1 of 2 failed\n  fig1: not resolved: n is too small\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    (
        ImportError('bridge needs PyTorch, which is not installed: pip install "enresnet[nets]"'),
        ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets"),
    ),
)
def test_a_missing_package_is_skipped_with_the_extra_that_holds_it(error, fake, tmp_path, capsys):
    def fail(options):
        raise error

    fake(fig1=fail, fig2=written)
    assert status("--out", tmp_path) == 0
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(r'python -m figures.fig1: skipped: .*pip install "enresnet\[nets\]"\n', err)
    assert status("fig1", "--out", tmp_path) == 1


def test_the_page_follows_each_figure_and_outlives_an_interruption(fake, tmp_path):
    seen = []

    def look(options):
        seen.append(len(pictures(read(tmp_path))))
        written(options)

    def interrupt():
        raise KeyboardInterrupt

    fake(fig1=written, fig2=look, fig7=lambda options: _cli.run(interrupt, "p", {}), fig8=written)
    assert status("--out", tmp_path) == 130
    assert seen == [1]
    assert len(pictures(read(tmp_path))) == 2


def test_one_figure_does_not_take_the_threads_of_the_next(fake, tmp_path):
    torch = pytest.importorskip("torch")
    before, seen = torch.get_num_threads(), []

    def take(options):
        seen.append(torch.get_num_threads())
        torch.set_num_threads(before + 1)

    fake(fig4=take, fig7=take, fig8=take)
    try:
        assert status("--out", tmp_path) == 0
    finally:
        torch.set_num_threads(before)
    assert seen == [before] * 3


def test_an_old_picture_stays_and_is_called_old(fake, tmp_path):
    make(tmp_path, "fig7")
    fake(fig7=refused(LACKING))
    assert status("--out", tmp_path) == 0
    page = read(tmp_path)
    assert len(pictures(page)) == 1
    assert f"Not made by the last call: {LACKING}" in page.words


def test_what_lies_in_files_too_is_not_printed(fake, tmp_path, capsys):
    fake(tables=lambda options: print("| a table |"), fig1=lambda options: print("a path"))
    assert status("--out", tmp_path, "--runs", tmp_path, "--data", "digits") == 0
    assert capsys.readouterr().out == f"a path\n{tmp_path / 'index.html'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--runs", "/nowhere"], "--runs /nowhere is not a directory"),
        (["gallery"], "no figure gallery; there are "),
    ],
)
def test_bad_arguments_are_one_line_and_nothing_is_made(arguments, message, tmp_path, capsys):
    assert status(*arguments, "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"python -m figures: error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )


def test_without_pytorch_the_figures_of_networks_are_skipped(tmp_path):
    program = f"""
import sys
sys.modules["torch"] = None
import figures.__main__ as command
command.FIGURES = {{name: command.FIGURES[name] for name in ("fig1", "fig7", "tables", "sparsity")}}
command.main(["--quick", "--out", {str(tmp_path)!r}])
"""
    done = python("-c", program, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "0 of 4 made" in done.stderr
    assert "4 of 4 skipped" in done.stderr
    assert done.stderr.count('pip install "enresnet[nets]"') == 8
    assert "Traceback" not in done.stderr
    assert read(tmp_path).words.count("which is not installed: pip install") == 4


# One of each kind: of a network, of an equation with two pictures, of trained networks, and tables.
FEW = ("fig1", "fig4", "fig7", "tables")


@pytest.mark.parametrize("names", [FEW, pytest.param((), marks=pytest.mark.slow)], ids=["few", "all"])
def test_figures_are_built_quickly_by_one_command(names, quick_runs, tmp_path, record_property):
    out, expected = tmp_path / "out", names or tuple(FIGURES)
    began = os.times()
    done = python(
        "-m", "figures", *names, "--quick", "--runs", quick_runs, "--out", out, timeout=1800,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    ended = os.times()
    cpu = ended.children_user + ended.children_system - began.children_user - began.children_system
    record_property("cpu_seconds", cpu)
    print(f"CPU time of the whole gallery: {cpu:.1f} s")
    assert done.returncode == 0, done.stderr
    # Off a terminal no progress bar is drawn.
    assert f"python -m figures: {len(expected)} of {len(expected)} made\n" in done.stderr
    assert "\r" not in done.stderr
    html = (out / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert_needs_nothing(page, html)
    assert 'src="http' not in html
    shown = pictures(page)
    # A picture each, but for the tables, and two of Figure 4.
    assert len(shown) == len(expected)
    for name, pixels in shown.items():
        assert pixels.std() > 1, f"{name} is blank"
    assert ('<section id="missing"' in html) == (set(expected) != set(FIGURES))
    assert {path.stem for path in out.glob("*.json")} == set(expected) - {"tables"}
    for path in out.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["command"].startswith(f"python -m figures.{path.stem} --seed 0 --out {out.name} --quick")
    assert page.words.count("Table ") >= 11
    for picture in out.glob("*.png"):
        assert picture.stat().st_size <= 200_000, picture
