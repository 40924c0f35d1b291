"""A disk that is full at any write: one line, status 2, nothing half-written, and the work can be done again.

Full from a renaming on, for files are written beside their place and then renamed; full in the middle of a text or
before it is safe on the disk; and a small file system of its own that is really full, where that can be mounted.
"""

import contextlib
import errno
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pde

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ROOT = Path(__file__).resolve().parents[2]
# Bytes of the small file system, and of its pages.
SIZE, PAGE = 64 * 2**20, 4096


# --- full disks -------------------------------------------------------------------------------------------------


class Renamings:
    """A disk that is full from the n-th renaming on; without n it only counts them."""

    def __init__(self, n=None):
        self.n, self.done = n, 0

    def __call__(self, original):
        @functools.wraps(original)
        def replaced(*arguments, **options):
            if self.n is not None and self.done >= self.n:
                raise FULL
            self.done += 1
            return original(*arguments, **options)

        return replaced

    @contextlib.contextmanager
    def used(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", self(Path.replace))
            patch.setattr(os, "replace", self(os.replace))
            yield self


class Texts(Renamings):
    """A disk that is full from the n-th text on, of which it holds a half, or the n-th fsync."""

    @contextlib.contextmanager
    def used(self):
        original = Path.write_text

        def write_text(path, text, **options):
            if self.n is not None and self.done >= self.n:
                original(path, text[: len(text) // 2], **options)
            self(lambda: None)()
            return original(path, text, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "write_text", write_text)
            patch.setattr(os, "fsync", self(os.fsync))
            yield self


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)], capture_output=True, text=True
        )
    except OSError as error:
        pytest.skip(f"needs mount ({error})")
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system ({' '.join(done.stderr.split())})")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def filled(place, free):
    """A file that leaves so many bytes of a file system, to whole pages."""
    ballast = place / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(place).free - free // PAGE * PAGE))
    try:
        yield
    finally:
        ballast.unlink()


# --- what writes ------------------------------------------------------------------------------------------------


class Writer:
    """What writes files into a directory: `prepare`, with space; `write`, without; `result`, the same every time."""

    modules = ()
    # A call of the library raises the error itself.
    is_command = True
    # Whether a full disk only costs time, and is told.
    is_optional = False

    def prepare(self, out):
        """Make what the command reads."""

    def write(self, out):
        """Run the command."""

    def result(self, out):
        """All files as they are."""
        return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


class Training(Writer):
    modules = ("torch", "sklearn")

    def write(self, out):
        from digits_runs import TINY

        from nets import train

        train.main(["cpu/digits", *TINY, "--resume", "--out", str(out / "run")])

    def result(self, out):
        import digits_runs

        return (
            digits_runs.weights(out / "run"),
            digits_runs.weights(out / "run", "best.safetensors", "model"),
            digits_runs.deterministic(digits_runs.rows(out / "run")),
        )


class Fig1(Writer):
    def write(self, out):
        from figures import fig1

        fig1.main(["--quick", "--out", str(out)])

    def result(self, out):
        return [(out / name).read_bytes() for name in ("fig1.png", "fig1.npz")]


class Page(Fig1):
    """The page of all figures, and what it shows."""

    def write(self, out):
        import figures.__main__

        figures.__main__.main(["fig1", "--quick", "--out", str(out)])

    def result(self, out):
        # The page has the date of the figure.
        return super().result(out) + [(out / "index.html").read_bytes().endswith(b"</html>\n")]


class Tables(Writer):
    modules = ("torch",)

    def write(self, out):
        from figures import tables

        tables.main(["2", "--results", str(ROOT / "results"), "--runs", str(ROOT / "results"), "--out", str(out)])


class Evaluation(Writer):
    modules = ("torch", "sklearn")
    few = ("--quick", "--attacks", "natural", "fgsm")

    def prepare(self, out):
        from untrained_run import save_run

        save_run(out / "run", "resnet20")

    def write(self, out):
        from nets import evaluate

        evaluate.main([str(out / "run"), *self.few])

    def result(self, out):
        from untrained_run import comparable

        return comparable(report(out / "run" / "evaluation.json"))


class Comparison(Evaluation):
    def prepare(self, out):
        from untrained_run import save_run

        for seed in range(2):
            save_run(out / str(seed), "resnet20", seed=seed)

    def write(self, out):
        from nets import compare

        sides = ["--first", str(out / "0"), "--second", str(out / "1")]
        compare.main([*sides, *self.few, "--out", str(out / "comparison.json")])

    def result(self, out):
        return report(out / "comparison.json")["rows"]


class Target(Writer):
    """The evaluation of a network that ships."""

    modules = ("torch", "PIL", "sklearn")

    def prepare(self, out):
        from defences import write_defences

        with pytest.MonkeyPatch.context() as patch:
            write_defences(out, patch)

    def write(self, out):
        from defences import command

        from nets import evaluate

        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(out)
            patch.syspath_prepend(str(out))
            patch.setenv("XDG_CACHE_HOME", str(out / "cache"))
            try:
                evaluate.main([*command("net", "--attacks", "ifgsm20"), "--out", str(out / "kept")])
            finally:
                sys.modules.pop("defence_of_a_test", None)

    def result(self, out):
        from untrained_run import comparable

        return comparable(report(out / "kept" / "evaluation.json"))


class Campaign(Writer):
    modules = ("torch", "sklearn")

    def write(self, out):
        from nets import campaign

        campaign.main(["table2/resnet20", "--quick", "--runs", str(out / "runs"), "--results", str(out / "results")])

    def result(self, out):
        from digits_runs import weights
        from untrained_run import comparable

        name = "table2-resnet20-seed0"
        return weights(out / "runs" / name), comparable(report(out / "results" / f"{name}.json"))


class Paths(Writer):
    is_command = False

    def write(self, out):
        problem = pde.problems.fourier_mode((1, 0), sigma=0.2, horizon=0.5)
        points = np.random.default_rng(0).random((2000, 2))
        self.found = pde.feynman_kac.estimate(problem, points, n_paths=4, n_steps=2, rng=1, checkpoint=out / "c.npz")

    def result(self, out):
        with np.load(out / "c.npz") as data:
            return self.found.mean.tolist(), {name: data[name].tolist() for name in data.files}


class Images(Writer):
    modules = ("torch", "PIL")
    is_command, is_optional = False, True

    def prepare(self, out):
        from defences import write_images

        write_images(out.parent / "images", side=32, n_train=16)

    def write(self, out):
        from nets import data

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(out))
            self.digest = data.load(out.parent / "images", progress=False).provenance()["digest"]

    def result(self, out):
        return self.digest


class Lesson(Writer):
    """What the lessons' pages, notebooks and handouts are written by."""

    is_command = False

    def write(self, out):
        from lessons import _export

        for name in ("a.html", "b.ipynb"):
            _export.write(out / name, bytes(20_000))


def report(path):
    import _enresnet

    return _enresnet.read_record(path)


WRITERS = [Training, Fig1, Page, Tables, Evaluation, Comparison, Target, Campaign, Paths, Images, Lesson]


# --- tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Function that gives a writer's result, numbers of renamings, texts and bytes, with space; once for each."""

    @functools.cache
    def of(kind):
        out, writer = tmp_path_factory.mktemp("whole") / "out", kind()
        out.mkdir()
        writer.prepare(out)
        with Renamings().used() as renamings, Texts().used() as texts:
            before = n_bytes(out)
            writer.write(out)
        return writer.result(out), renamings.done, texts.done, n_bytes(out) - before

    return of


def n_bytes(out):
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def drafts(out):
    """Files that are not complete; the lock of a run stays."""
    files = [path for path in out.rglob("*") if path.name != ".lock"]
    return [path for path in files if path.name.startswith(".") or path.suffix in (".part", ".tmp")]


def is_refused(writer, out, capsys):
    """Run the writer without space: it says so, and leaves no draft."""
    capsys.readouterr()
    if writer.is_optional:
        writer.write(out)
    else:
        with pytest.raises(SystemExit if writer.is_command else OSError) as stop:
            writer.write(out)
    lines = capsys.readouterr().err.splitlines()
    if writer.is_command:
        assert stop.value.code == 2
    if writer.is_command or writer.is_optional:
        lines = [line for line in lines if "No space left on device" in line]
        assert lines
    else:
        assert stop.value.errno == errno.ENOSPC
    assert not drafts(out)
    return lines


def check(writer, out, full, whole, capsys):
    """Without space, with space, and again without: refused, done, and no file is less than it was."""
    with full():
        is_refused(writer, out, capsys)
    writer.write(out)
    assert writer.result(out) == whole
    kept = {path: path.read_bytes() for path in out.rglob("*.json")}
    with full(), contextlib.suppress(SystemExit, OSError):
        # What is complete need not be written again.
        writer.write(out)
    assert not drafts(out)
    assert writer.result(out) == whole
    # A record is the one before, or a new one that is complete.
    assert all(path.read_bytes() == content or report(path) for path, content in kept.items())


def of_writers(fast, without=()):
    kinds = [kind for kind in WRITERS if kind not in without]
    marks = {kind: [] if kind in fast else pytest.mark.slow for kind in kinds}
    return pytest.mark.parametrize("kind", [pytest.param(kind, marks=marks[kind], id=kind.__name__) for kind in kinds])


def needs(kind):
    for module in kind.modules:
        pytest.importorskip(module)
    return kind()


@pytest.mark.parametrize(
    "share", [0.0, pytest.param(0.5, marks=pytest.mark.slow), pytest.param(0.99, marks=pytest.mark.slow)]
)
@of_writers(fast=(Training, Fig1, Lesson))
def test_full_from_a_renaming_on(kind, share, undisturbed, tmp_path, capsys):
    writer = needs(kind)
    whole, n_renamings, *_ = undisturbed(kind)
    out = tmp_path / "out"
    out.mkdir()
    writer.prepare(out)
    check(writer, out, Renamings(int(share * n_renamings)).used, whole, capsys)


@pytest.mark.parametrize("share", [pytest.param(0.5, marks=pytest.mark.slow), 0.99])
@of_writers(fast=(Tables, Target), without=(Lesson,))
def test_full_from_a_text_on(kind, share, undisturbed, tmp_path, capsys):
    writer = needs(kind)
    whole, _, n_texts, _ = undisturbed(kind)
    out = tmp_path / "out"
    out.mkdir()
    writer.prepare(out)
    check(writer, out, Texts(int(share * n_texts)).used, whole, capsys)


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
@of_writers(fast=(Fig1, Paths, Images))
def test_a_small_file_system_that_is_full(kind, share, undisturbed, small_disk, capsys):
    writer = needs(kind)
    whole, *_, size = undisturbed(kind)
    out = small_disk / "out"
    out.mkdir()
    writer.prepare(out)
    check(writer, out, lambda: filled(small_disk, int(share * size)), whole, capsys)


def test_an_error_of_safetensors_is_one_line(capsys):
    pytest.importorskip("torch")
    import safetensors

    from nets import _cli

    def write():
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(SystemExit) as stop:
        _cli.run(write, "python -m nets.train", options=())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m nets.train: error: ") and "No space left on device" in line
