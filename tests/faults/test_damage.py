"""Files that a disk has damaged: refused in one line or without consequence, and never wrong numbers.

Each format is damaged at random bytes: two places by default, twenty with --slow. What the packages read is checked:
digests are in all of it. Left out are files that nothing here computes with: tables in CSV, which the gallery shows,
pages and notebooks of lessons and their small pictures, and the results of benchmarks, which the documentation shows.
"""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import _enresnet
import pde

N_PLACES = 20
ROOT = Path(__file__).resolve().parents[2]
PLACES = [pytest.param(i, marks=[] if i < 2 else pytest.mark.slow) for i in range(N_PLACES)]


def damage(path, place):
    """Change one random byte of a file, by at least one bit."""
    rng = np.random.default_rng((place, path.stat().st_size))
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(content))


def values(record):
    """A record without its digest, whatever the name of that has become."""
    return {key: value for key, value in record.items() if not (isinstance(value, str) and len(value) == 64)}


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(path of a finished checkpoint, function that resumes it, its result)."""
    path = tmp_path_factory.mktemp("paths") / "run.npz"
    problem = pde.problems.fourier_mode((1, 0), sigma=0.2, horizon=0.5)
    points = np.random.default_rng(0).random((40, 2))

    def resume(file):
        return pde.feynman_kac.estimate(problem, points, n_paths=64, n_steps=4, rng=1, checkpoint=file)

    return path, resume, resume(path)


@pytest.mark.parametrize("place", PLACES)
def test_checkpoint_of_paths(checkpoint, place, tmp_path):
    path, resume, whole = checkpoint
    copy = shutil.copy(path, tmp_path / "run.npz")
    damage(copy, place)
    with contextlib.suppress(ValueError):
        again = resume(copy)
        assert np.array_equal(again.mean, whole.mean) and np.array_equal(again.stderr, whole.stderr)


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """Directory of a figure and the bytes of its picture."""
    from figures import fig4

    directory = tmp_path_factory.mktemp("figure")
    fig4.main(["--quick", "--n", "16", "--out", str(directory)])
    fig4.main(["--replot", "--out", str(directory)])
    return directory, (directory / "fig4.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("place", range(N_PLACES))
def test_arrays_of_a_figure(figure, place, tmp_path, capsys):
    from figures import fig4

    directory, picture = figure
    shutil.copytree(directory, tmp_path / "out")
    damage(tmp_path / "out" / "fig4.npz", place)
    try:
        fig4.main(["--replot", "--out", str(tmp_path / "out")])
    except SystemExit as stop:
        assert stop.code == 2
        (line,) = lines_of(capsys)
        assert "fig4.npz" in line
    assert (tmp_path / "out" / "fig4.png").read_bytes() == picture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Directory of a training of one epoch."""
    pytest.importorskip("torch")
    from nets import train

    directory = tmp_path_factory.mktemp("runs") / "run"
    train.main(["cpu/digits", *SMALL, "--epochs", "1", "--out", str(directory)])
    return directory


SMALL = ["--model", "en1_resnet20", "--n-train", "64", "--n-validation", "32", "--batch-size", "32"]
SMALL += ["--n-threads", "1"]


@pytest.mark.parametrize("file", ["config.json", "last.safetensors"])
@pytest.mark.parametrize("place", PLACES)
def test_training_that_is_resumed(run, place, file, tmp_path, capsys):
    from nets import train

    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / file
    damage(path, place)
    capsys.readouterr()
    try:
        train.main(["cpu/digits", *SMALL, "--epochs", "1", "--resume", "--out", str(tmp_path / "run")])
    except SystemExit as stop:
        assert stop.code == 2
        assert len(lines_of(capsys)) == 1
    else:
        # A byte of white space, or of the digest's name.
        assert file.endswith("json")
        assert values(_enresnet.read_record(path)) == values(_enresnet.read_record(run / file))


@pytest.mark.parametrize("place", PLACES)
def test_weights_that_are_evaluated(run, place, tmp_path, capsys):
    from nets import evaluate

    shutil.copytree(run, tmp_path / "run")
    damage(tmp_path / "run" / "best.safetensors", place)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(tmp_path / "run"), "--quick", "--attacks", "natural"])
    assert stop.value.code == 2
    (line,) = lines_of(capsys)
    assert "best.safetensors" in line


def test_a_record_is_refused_when_a_value_has_changed_and_not_for_how_it_is_written():
    record = {"a": [0.1, 1e-300, None], "b": {"n": 3}}
    text = _enresnet.sealed(record, indent=2)
    assert _enresnet.unsealed(text) == _enresnet.unsealed(text.replace("\n", " ").replace("0.1", "0.10")) == record
    for old, new in (("0.1", "0.2"), ('"n"', '"m"'), (": 3", ": 4"), ("null", "0")):
        with pytest.raises(ValueError, match="do not match its sha256"):
            _enresnet.unsealed(text.replace(old, new, 1))
    # Sealed again after a change; and older files have none.
    assert _enresnet.unsealed(_enresnet.sealed({**record, "sha256": "0"})) == record
    assert _enresnet.unsealed('{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        _enresnet.sealed({"a": float("nan")})


# --- all that is read -------------------------------------------------------------------------------------------


class Format:
    """A file of a kind: `prepare` gives a directory that has it, `read` what is read from it there."""

    file = ""
    # How many places are damaged by default.
    n_fast = 2

    def prepare(self, directory, run):
        """Make the files; `run` is the directory of a training."""

    def read(self, directory):
        """Read them as the packages do."""


class ZooWeights(Format):
    file = "cifar10/resnet20-seed0.safetensors"

    def prepare(self, directory, run):
        from nets import zoo

        (directory / "cifar10").mkdir()
        for name in ("resnet20-seed0.safetensors", "resnet20-seed0.json", "sample.png", "sample.json"):
            shutil.copy(zoo.HERE / "cifar10" / name, directory / "cifar10")

    @staticmethod
    @contextlib.contextmanager
    def inside(directory):
        from nets import zoo

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zoo, "HERE", directory)
            patch.setattr(zoo, "SAMPLE", directory / "cifar10" / "sample.png")
            yield zoo

    def read(self, directory):
        from nets import checkpoint

        with self.inside(directory) as zoo:
            return checkpoint.digest(zoo.load("cifar10/resnet20-seed0").state_dict())


class ZooCard(ZooWeights):
    file = "cifar10/resnet20-seed0.json"

    def read(self, directory):
        with self.inside(directory) as zoo:
            return values(zoo.card("cifar10/resnet20-seed0"))


class SamplePixels(ZooWeights):
    file = "cifar10/sample.png"

    def read(self, directory):
        with self.inside(directory) as zoo:
            sample = zoo.sample()
        return sample.x.numpy().tobytes(), sample.y.tolist(), sample.classes, sample.name


class SampleRecord(SamplePixels):
    file = "cifar10/sample.json"


class ShippedArrays(Format):
    file = "effective_diffusion.npz"

    def prepare(self, directory, run):
        from figures import _shipped

        shutil.copy(_shipped.DIRECTORY / self.file, directory)

    def read(self, directory):
        from figures import _shipped

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_shipped, "DIRECTORY", directory)
            arrays = _shipped.load("effective_diffusion")
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


class EvaluationOfTables(Format):
    """A committed evaluation, as the tables read it."""

    file = "cifar10-resnet20-seed0.json"

    def prepare(self, directory, run):
        shutil.copy(ROOT / "results" / self.file, directory)

    def read(self, directory):
        from figures.tables import _library

        return [vars(found) for found in _library.read(directory, directory / "runs").evaluations]


class EvaluationOfRun(EvaluationOfTables):
    """The evaluation.json of a run."""

    file = "runs/run/evaluation.json"

    def prepare(self, directory, run):
        from nets import evaluate

        shutil.copytree(run, directory / "runs" / "run")
        evaluate.main([str(directory / "runs" / "run"), "--quick", "--attacks", "natural", "fgsm"])


class EvaluationOfVerdict(EvaluationOfTables):
    """The same, a comparison and the record of a figure as the verdict reads them."""

    def prepare(self, directory, run):
        for name in ("resnet20-seed0", "resnet20-seed1", "en1_resnet20-seed0", "en1_resnet20-seed1", "comparison-en1"):
            shutil.copy(ROOT / "results" / f"cifar10-{name}.json", directory)
        shutil.copy(ROOT / "results" / "sparsity.json", directory)

    def read(self, directory):
        from figures import _results

        library = _results.read(directory)
        assert library.comparisons and library.figures
        reports = [report for reports in library.evaluations.values() for report in reports]
        reports += [report for reports in library.comparisons.values() for report in reports]
        return [values(report) for report in [*reports, *library.figures.values()]]


class ComparisonOfVerdict(EvaluationOfVerdict):
    file = "cifar10-comparison-en1.json"


class FigureOfVerdict(EvaluationOfVerdict):
    file = "sparsity.json"


class RunConfig(Format):
    """The files of a run, as the figures read them."""

    file = "run/config.json"

    def prepare(self, directory, run):
        shutil.copytree(run, directory / "run")

    def read(self, directory):
        from figures import _runs
        from nets import checkpoint

        (run,) = _runs.list_runs(directory)
        return values(run.config), run.history, checkpoint.digest(run.load().state_dict())


class RunMetrics(RunConfig):
    file = "run/metrics.csv"


class RunState(RunConfig):
    file = "run/last.safetensors"


class RunWeights(RunConfig):
    file = "run/best.safetensors"


class EvaluationState(EvaluationOfRun):
    """What an evaluation keeps, read by the same command."""

    file = "runs/run/evaluation/*fgsm*.safetensors"
    n_fast = 1

    def read(self, directory):
        from untrained_run import comparable

        from nets import evaluate

        run = directory / "runs" / "run"
        evaluate.main([str(run), "--quick", "--attacks", "natural", "fgsm"])
        report = _enresnet.read_record(run / "evaluation.json")
        return comparable(report), report["red_flags"]["found"], report["red_flags"]["n_eot"]


class FlagsState(EvaluationState):
    file = "runs/run/evaluation/red-flags-*.json"


class Plan(Format):
    """The plan of a campaign."""

    file = "plan.json"

    @staticmethod
    def arguments(directory):
        import torch

        from nets import campaign, data
        from nets.training import recipe

        options = campaign.Options(recipes=("cpu/digits",), runs=directory, quick=True)
        recipes = {"cpu/digits": campaign._adapted(recipe("cpu/digits"), options)}
        return recipes, data.load("digits"), torch.device("cpu"), options

    def prepare(self, directory, run):
        self.read(directory)

    def read(self, directory):
        from nets import campaign

        return campaign._plan(*self.arguments(directory))


class ImageCache(Format):
    file = "cache/enresnet/*.safetensors"

    def prepare(self, directory, run):
        from defences import write_images

        write_images(directory / "images", side=8, n_train=16)

    def read(self, directory):
        from nets import data

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
            return data.load(directory / "images", progress=False).provenance()


class GalleryRecord(Format):
    """The record of a figure, as the gallery reads it."""

    file = "fig1.json"

    def prepare(self, directory, run):
        from figures import fig1

        fig1.main(["--quick", "--out", str(directory)])

    def read(self, directory):
        from figures import gallery

        faults = []
        found = gallery._record(directory / "fig1.json", faults)
        picture = gallery._picture(directory / "fig1.png", "fig1", "", {}, faults)
        if faults:
            (fault,) = faults
            raise ValueError(fault)
        return values(found), picture


class GalleryPicture(GalleryRecord):
    file = "fig1.png"


FORMATS = [
    ZooWeights, ZooCard, SamplePixels, SampleRecord, ShippedArrays, EvaluationOfTables, EvaluationOfRun,
    EvaluationOfVerdict, ComparisonOfVerdict, FigureOfVerdict, RunConfig, RunMetrics, RunState, RunWeights,
    EvaluationState, FlagsState, Plan, ImageCache, GalleryRecord, GalleryPicture,
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(run, tmp_path_factory):
    """Function that gives the directory of a format, made once."""
    made = {}

    def of(kind):
        # Formats that are made by the same method are in the same directory.
        if kind.prepare not in made:
            made[kind.prepare] = tmp_path_factory.mktemp("prepared")
            kind().prepare(made[kind.prepare], run)
        return made[kind.prepare]

    return of


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        pytest.param(kind, i, id=f"{kind.__name__}-{i}", marks=[] if i < kind.n_fast else pytest.mark.slow)
        for kind in FORMATS
        for i in range(N_PLACES)
    ],
)
def test_what_is_read_is_refused_or_the_same(kind, place, prepared, tmp_path, capsys):
    directory, form = tmp_path / "copy", kind()
    shutil.copytree(prepared(kind), directory)
    whole = form.read(directory)
    (file,) = directory.glob(form.file)
    damage(file, place)
    capsys.readouterr()
    try:
        assert form.read(directory) == whole
    except ValueError as error:
        assert "damaged" in str(error)
        assert file.name in str(error) or file.parent.name in str(error)
        assert len(str(error).splitlines()) == 1
    # What is made anew is told in a line, and there is nothing else.
    assert all(file.name in line for line in lines_of(capsys))
