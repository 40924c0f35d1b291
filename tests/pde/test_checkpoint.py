"""A checkpoint continues to the same bits wherever the run was interrupted; another's or a damaged one is refused."""

import os
from pathlib import Path

import numba
import numpy as np
import pytest
from path_problems import rough

import pde
from pde import feynman_kac
from pde.feynman_kac import _estimate, _paths
from pde.feynman_kac._checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]


POINTS = np.random.default_rng(0).random((6, 2))
ARGUMENTS = {"n_paths": 40, "n_steps": 5, "rng": 1}


def same(a, b):
    return (a.mean == b.mean).all() and (a.stderr == b.stderr).all()


class Interrupted(Exception):
    """Stands for Ctrl-C at a chosen block."""


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 particles, and a checkpoint after each, waiting neither for other cores nor for the disk."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(_estimate, "_BATCH", 16)
    monkeypatch.setattr(pde.feynman_kac._checkpoint, "_SECONDS", 0.0)
    monkeypatch.setattr(pde.feynman_kac._checkpoint, "_SHARE", float("inf"))
    yield
    numba.set_num_threads(before)


def interrupt(monkeypatch, after):
    """Let `after` blocks be done, and raise at the next."""
    moments, left = _paths.Walk.moments, iter(range(after))

    def limited(self, starts, block):
        if next(left, None) is None:
            raise Interrupted
        return moments(self, starts, block)

    monkeypatch.setattr(_paths.Walk, "moments", limited)


def count_blocks(monkeypatch):
    """A list that grows with every block that is done."""
    moments, done = _paths.Walk.moments, []

    def counted(self, starts, block):
        done.append(block)
        return moments(self, starts, block)

    monkeypatch.setattr(_paths.Walk, "moments", counted)
    return done


# --- continuing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}, {"sigma": 0.0}])
def test_every_interrupted_run_continues_to_the_same_bits(options, small_blocks, monkeypatch, tmp_path):
    problem = rough(sigma=options.pop("sigma", 0.1))
    points = np.random.default_rng(0).random((40, 2)) if problem.sigma == 0 else POINTS
    with monkeypatch.context() as patch:
        done = count_blocks(patch)
        whole = feynman_kac.estimate(problem, points, **ARGUMENTS, **options)
        n_blocks = len(done)
    assert n_blocks >= 3
    for after in range(n_blocks):
        path = tmp_path / f"after-{after}"
        with monkeypatch.context() as patch:
            interrupt(patch, after)
            with pytest.raises(Interrupted):
                feynman_kac.estimate(problem, points, **ARGUMENTS, **options, checkpoint=path)
        with monkeypatch.context() as patch:
            done = count_blocks(patch)
            again = feynman_kac.estimate(problem, points, **ARGUMENTS, **options, checkpoint=path)
        assert len(done) == n_blocks - after
        assert same(again, whole)


def test_a_finished_checkpoint_gives_the_result_without_work(small_blocks, monkeypatch, tmp_path):
    path = str(tmp_path / "done.npz")
    first = feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    done = count_blocks(monkeypatch)
    again = feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    assert same(first, again)
    assert not done
    assert os.listdir(tmp_path) == ["done.npz"]


def test_a_run_may_continue_with_other_shards_and_another_shape_of_the_points(small_blocks, monkeypatch, tmp_path):
    path = tmp_path / "c"
    whole = feynman_kac.estimate(rough(), POINTS, **ARGUMENTS)
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(Interrupted):
            feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    again = feynman_kac.estimate(rough(), POINTS.reshape(2, 3, 2), **ARGUMENTS, checkpoint=path, n_shards=3)
    assert (again.mean == whole.mean.reshape(2, 3)).all()


def test_the_file_is_written_only_when_it_is_due(monkeypatch, tmp_path):
    monkeypatch.setattr(_estimate, "_BATCH", 16)
    saves = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, n_done, *_: saves.append(n_done))
    feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=tmp_path / "c")
    # 18 blocks take far less than two seconds: only the finished result is written.
    assert len(saves) == 1


# --- refusing ---------------------------------------------------------------------------------------------------


def shifted(problem, **kwargs):
    """The problem with some of its parts replaced."""
    parts = {"velocity": problem.velocity, "terminal": problem.terminal, "sigma": problem.sigma} | kwargs
    return pde.ConvectionDiffusion(**parts)


ONE_LESS = POINTS.copy()
ONE_LESS[3, 1] = np.nextafter(ONE_LESS[3, 1], 0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"problem": shifted(rough(), velocity=rough(seed=4).velocity)}, "another velocity"),
        ({"problem": shifted(rough(), velocity=rough().velocity.with_interpolation("bicubic"))}, "another velocity"),
        ({"problem": shifted(rough(), terminal=rough(seed=4).terminal)}, "another terminal"),
        ({"problem": shifted(rough(), sigma=0.2)}, "sigma=0.1 (here 0.2)"),
        ({"problem": shifted(rough(), horizon=2.0)}, "horizon=1.0 (here 2.0)"),
        ({"points": ONE_LESS}, "another points"),
        ({"points": POINTS[:5]}, "another points"),
        ({"n_paths": 42}, "n_paths=40 (here 42)"),
        ({"n_steps": 6}, "n_steps=5 (here 6)"),
        ({"rng": 2}, "another rng"),
        ({"antithetic": True}, "antithetic=False (here True)"),
        ({"common_paths": True}, "common_paths=False (here True)"),
    ],
)
def test_the_checkpoint_of_another_call_is_refused_and_says_what_differs(changed, named, tmp_path):
    path = tmp_path / "c"
    call = {"problem": rough(), "points": POINTS} | ARGUMENTS
    feynman_kac.estimate(**call, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to another computation") as caught:
        feynman_kac.estimate(**call | changed, checkpoint=path)
    assert named in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("part", ["velocity", "terminal", "velocity in time"])
def test_callables_are_told_apart_by_their_values(part, tmp_path):
    def problem(factor):
        def velocity(x, t):
            return np.cos(2 * np.pi * x) * (factor if part == "velocity" else 1.0)

        def layered(t):
            return np.full((2, 8, 8), factor * t)

        def terminal(x):
            return np.sin(2 * np.pi * x[..., 0]) * (factor if part == "terminal" else 1.0)

        return pde.ConvectionDiffusion(layered if part == "velocity in time" else velocity, terminal, sigma=0.1)

    path, arguments = tmp_path / "c", ARGUMENTS | {"n": 16}
    first = feynman_kac.estimate(problem(1.0), POINTS, **arguments, checkpoint=path)
    assert same(feynman_kac.estimate(problem(1.0), POINTS, **arguments, checkpoint=path), first)
    with pytest.raises(ValueError, match=f"another {part.split()[0]}"):
        feynman_kac.estimate(problem(2.0), POINTS, **arguments, checkpoint=path)


def test_callables_that_agree_where_they_are_sampled_are_told_apart(tmp_path):
    # Zero at the five times at which values are compared: the captured number alone differs.
    def problem(amplitude):
        def bump(x, t):
            hidden = amplitude * np.prod([(t - each) ** 2 for each in (0.0, 0.1, 0.3, 0.6, 1.0)])
            return np.full_like(x, hidden)

        return pde.ConvectionDiffusion(bump, rough().terminal, sigma=0.1)

    path, arguments = tmp_path / "c", ARGUMENTS | {"n": 16}
    first = feynman_kac.estimate(problem(1e4), POINTS, **arguments, checkpoint=path)
    assert same(feynman_kac.estimate(problem(1e4), POINTS, **arguments, checkpoint=path), first)
    with pytest.raises(ValueError, match="another velocity"):
        feynman_kac.estimate(problem(2e4), POINTS, **arguments, checkpoint=path)


def test_a_damaged_file_is_refused_or_harmless(tmp_path):
    path = tmp_path / "c"
    whole = feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    good = path.read_bytes()
    cuts = [good[:size] for size in (0, 1, 10, len(good) // 2, len(good) - 1)]
    flips = []
    for place in range(0, len(good), 7):
        bad = bytearray(good)
        bad[place] ^= 0x10
        flips.append(bytes(bad))
    refused = 0
    for content in [*cuts, *flips, b"not a checkpoint" * 10]:
        path.write_bytes(content)
        try:
            # Dates and the like in the archive are nobody's data: then the result is the right one.
            assert same(feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path), whole)
        except ValueError as error:
            assert "is damaged, or not a checkpoint" in str(error)
            refused += 1
    assert refused > len(flips) / 2


def test_an_archive_with_another_array_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    with np.load(path) as data:
        arrays = dict(data)
    for changed in ({"mean": arrays["mean"] + 1e-16}, {"n_done": np.array(0)}, {"mean": np.array([{}], dtype=object)}):
        np.savez(path, **arrays | changed)
        with pytest.raises(ValueError, match="is damaged, or not a checkpoint"):
            feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)


@pytest.mark.parametrize("path", [3, True, "missing/c.npz", "."])
def test_a_bad_path_is_refused_before_any_work(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = count_blocks(monkeypatch)
    with pytest.raises(ValueError, match="checkpoint must be a"):
        feynman_kac.estimate(rough(), POINTS, **ARGUMENTS, checkpoint=path)
    assert not done
