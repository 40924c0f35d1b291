"""Directories of runs: what is left after a refused start, full disks, and runs that go on for longer than planned."""

import errno
from dataclasses import asdict, replace

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

import nets
from nets import checkpoint
from nets.training import Run, check_directory, recipe
from nets.training._schedule import reason_not_to_resume

ROW = {"epoch": 1, "lr": 0.1, "selected": 0.5, "time": 0.0}


def made(**fields):
    return replace(recipe("table2/resnet20"), **({"epochs": 10, "milestones": (0.4, 0.6, 0.8)} | fields))


def config(one, seed=0):
    model = {"name": "resnet20", "n_classes": 10}
    about = {"data": {"name": "none", "digest": "0" * 8}, "versions": {"torch": "2"}}
    return {"name": "table2/resnet20", "recipe": asdict(one), "seed": seed, "model": model, **about}


@pytest.fixture(scope="module")
def model():
    return nets.build("resnet20", 10, seed=0)


@pytest.fixture(autouse=True)
def board(monkeypatch):
    """No TensorBoard: its threads cost a second per run."""

    class Board:
        def add_scalar(self, *args, **kwargs):
            pass

        def flush(self):
            pass

        close = flush

    monkeypatch.setattr("nets.training._run_directory._open_board", lambda directory: Board())


def train(directory, one, model, n_epochs, *, resume=False):
    with Run(directory, config(one), one, resume=resume) as run:
        for k in range(len(run.history) + 1, n_epochs + 1):
            run.save({"w": torch.zeros(2)}, ROW | {"epoch": k}, model)
        return run.notes


def test_start_without_an_epoch_leaves_nothing(tmp_path):
    one = made()
    with Run(tmp_path / "a" / "b", config(one), one):
        assert (tmp_path / "a" / "b" / "config.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_directory_that_was_there_is_left(tmp_path):
    one = made()
    (tmp_path / "mine").mkdir()
    Run(tmp_path / "mine", config(one), one).close()
    assert (tmp_path / "mine").is_dir()


def test_interrupted_start_does_not_block_another_recipe(tmp_path, model):
    """As a killed process leaves it: config.json, and no epoch."""
    one, other = made(), made(lr=0.3)
    (tmp_path / "config.json").write_text('{"recipe": {"lr": 1}}')
    train(tmp_path, other, model, 1)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(tmp_path, one, model, 1, resume=True)


def test_failed_first_epoch_leaves_nothing_that_blocks(tmp_path, model, monkeypatch):
    """A full disk while the weights are written, then while the state is; the error passes, and a new start is free."""
    write = checkpoint.save_file
    for n_good in (0, 1):
        calls = []

        def full(tensors, path, metadata, n_good=n_good, calls=calls):
            calls.append(path)
            if len(calls) > n_good:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(tensors, path, metadata=metadata)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save_file", full)
            with pytest.raises(OSError, match="No space left"):
                train(tmp_path / "run", made(), model, 1)
        train(tmp_path / "run", made(lr=0.5 + n_good), model, 1)
        for path in (tmp_path / "run").iterdir():
            path.unlink()


def test_flipped_bit_of_the_kept_weights_is_refused(tmp_path, model):
    train(tmp_path, made(), model, 1)
    whole = bytearray((tmp_path / "best.safetensors").read_bytes())
    whole[-5] ^= 1
    (tmp_path / "best.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match=r"best\.safetensors is damaged"):
        train(tmp_path, made(), model, 2, resume=True)


def test_run_goes_on_for_longer_where_the_rates_of_its_epochs_stay(tmp_path, model):
    """Of 10 epochs with milestones at 4, 6 and 8: after 3 it may become one of 20, after 5 it may not."""
    train(tmp_path, made(), model, 3)
    with Run(tmp_path, config(made(epochs=20)), made(epochs=20), resume=True) as run:
        assert (run.changes, run.notes) == (["epochs was 10 and is 20"], [])
    train(tmp_path, made(epochs=20), model, 5, resume=True)
    # And on by the new number, which is no change.
    with Run(tmp_path, config(made(epochs=20)), made(epochs=20), resume=True) as run:
        assert (run.changes, len(run.history)) == ([], 5)
    train(tmp_path, made(epochs=20), model, 6, resume=True)
    refusal = r"epochs=20 \(here 10\), which cannot be changed: with schedule=steps, the finished epoch 5"
    with pytest.raises(ValueError, match=refusal):
        train(tmp_path, made(), model, 7, resume=True)
    with pytest.raises(ValueError, match="6 epochs are finished"):
        train(tmp_path, made(epochs=4), model, 7, resume=True)


def test_finished_run_goes_on_by_the_milestones_that_the_refusal_names(tmp_path, model):
    """All of its 10 epochs are done, of which 4, 6 and 8 lie at 1/5, 3/10 and 2/5 of 20."""
    train(tmp_path, made(), model, 10)
    with pytest.raises(ValueError, match=r"--milestones 0\.2 0\.3 0\.4$"):
        train(tmp_path, made(epochs=20), model, 11, resume=True)
    longer = made(epochs=20, milestones=(0.2, 0.3, 0.4))
    with Run(tmp_path, config(longer), longer, resume=True) as run:
        assert [change.partition(" was ")[0] for change in run.changes] == ["epochs", "milestones"]
    train(tmp_path, longer, model, 12, resume=True)
    # A milestone may lie among the epochs to come, and nowhere else.
    train(tmp_path, made(epochs=20, milestones=(0.2, 0.3, 0.4, 0.7)), model, 13, resume=True)
    with pytest.raises(ValueError, match="the finished epoch 11"):
        train(tmp_path, made(epochs=20, milestones=(0.2, 0.3, 0.4, 0.5)), model, 14, resume=True)
    # Another field is another run.
    with pytest.raises(ValueError, match=r"with epochs=20 \(here 30\); lr=0.1 \(here 0.2\)"):
        train(tmp_path, made(epochs=30, lr=0.2), model, 14, resume=True)


def test_constant_rate_goes_on_for_as_long_as_one_likes():
    constant = made(milestones=())
    assert reason_not_to_resume(replace(constant, epochs=11), constant, 10) is None


def test_cyclic_rate_depends_on_the_number_of_epochs():
    cyclic = made(schedule="cyclic")
    reason = reason_not_to_resume(replace(cyclic, epochs=11), cyclic, 1)
    assert "with schedule=cyclic, the finished epoch 1" in reason and "milestones" not in reason
    assert reason_not_to_resume(replace(cyclic, epochs=11), cyclic, 0) is None


def test_directory_is_tried_beforehand_and_left_as_it_was(tmp_path):
    check_directory(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        check_directory(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="cannot be written"):
        check_directory("/proc/run")
