"""Files that a disk has damaged: refused in one line or without consequence, and never wrong numbers.

Each format is damaged at random bytes: two places by default, twenty with --slow.
"""

import contextlib
import json
import shutil

import numpy as np
import pytest

import pde

N_PLACES = 20
PLACES = [pytest.param(i, marks=[] if i < 2 else pytest.mark.slow) for i in range(N_PLACES)]


def damage(path, place):
    """Change one random byte of a file, by at least one bit."""
    rng = np.random.default_rng((place, path.stat().st_size))
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(content))


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
    if file.endswith("json"):
        # A byte of white space or of a date may change without consequence; a value may not.
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    damage(path, place)
    try:
        changed = json.loads(path.read_text(encoding="utf-8")) != content if file.endswith("json") else True
    except ValueError:
        changed = True
    capsys.readouterr()
    try:
        train.main(["cpu/digits", *SMALL, "--epochs", "1", "--resume", "--out", str(tmp_path / "run")])
    except SystemExit as stop:
        assert stop.code == 2
        assert len(lines_of(capsys)) == 1
    else:
        assert file.endswith("json") or not changed


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
