"""Files of tensors: whole and of this program, or refused in one line; nothing is unpickled."""

import json
import pickle
import threading

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from safetensors.torch import load_file, save_file

import nets
from nets import checkpoint
from nets.training import recipe

RECORD = {"name": "x", "epochs": [1, 2.5], "none": None, "text": "σ"}


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
        "b": torch.randint(0, 256, (7,), dtype=torch.uint8, generator=generator),
        "c": torch.tensor(3),
        "d": torch.randn(3, generator=generator).bfloat16(),
        "e": torch.tensor([float("nan"), -0.0, float("inf")]),
    }


@pytest.fixture
def file(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, "training", tensors, RECORD)
    return path


@pytest.fixture
def run(tmp_path):
    """A run's directory with a model, its recipe's, and the model."""
    made = recipe("cpu/digits")
    arguments = made.model_arguments(10, [0.3], [0.4])
    model = nets.build(**arguments, seed=5)
    checkpoint.save_model(tmp_path / "best.safetensors", model, {"model": arguments, "name": "cpu/digits"})
    return tmp_path, model


def refused(path, kind="training"):
    with pytest.raises(ValueError) as error:
        checkpoint.read(path, kind)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist(), tensor.dtype, tensor.shape


def test_tensors_and_record_come_back_bit_by_bit(file, tensors):
    back, record = checkpoint.read(file, "training")
    assert record == RECORD
    assert {name: bits(tensor) for name, tensor in back.items()} == {name: bits(t) for name, t in tensors.items()}
    assert file.stat().st_mode & 0o777 == 0o644


def test_any_safetensors_reader_can_read_the_weights(run):
    directory, model = run
    weights = load_file(directory / "best.safetensors")
    assert weights.keys() == model.state_dict().keys()


def test_file_cut_anywhere_is_refused(file):
    whole = file.read_bytes()
    for length in (0, 4, 20, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "is damaged, or not a safetensors file" in refused(file)


def test_one_bit_changed_in_any_tensor_is_refused(file):
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for at in (start, (start + len(whole)) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "do not match its digest" in refused(file)


def test_change_of_the_record_is_refused(file):
    whole = file.read_bytes()
    assert whole.count(b"2.5") == 1
    file.write_bytes(whole.replace(b"2.5", b"3.5"))
    assert "do not match its digest" in refused(file)


def test_foreign_files_are_refused(file, tmp_path, tensors):
    assert "must contain model, and contains training" in refused(file, "model")
    assert "does not exist" in refused(tmp_path / "nothing.safetensors")
    assert "does not exist, or is not a file" in refused(tmp_path)
    save_file({"b": tensors["b"]}, tmp_path / "other.safetensors")
    assert "was not written by this program" in refused(tmp_path / "other.safetensors")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


@pytest.mark.parametrize("write", [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save])
def test_nothing_is_unpickled(tmp_path, write):
    path = tmp_path / "best.safetensors"
    write(Bomb(), path)
    assert "is damaged, or not a safetensors file" in refused(path, "model")
    with pytest.raises(ValueError, match="is damaged, or not a safetensors file"):
        checkpoint.load_model(tmp_path)


def test_write_that_fails_leaves_the_old_file(file, tensors, monkeypatch):
    before = file.read_bytes()

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoint.write(file, "training", tensors, RECORD)
    assert file.read_bytes() == before
    assert [*file.parent.iterdir()] == [file]


def test_record_must_be_what_json_can_hold(file, tensors):
    with pytest.raises(ValueError, match="Out of range float"):
        checkpoint.write(file, "training", tensors, {"loss": float("nan")})


def test_model_comes_back_from_its_file_alone(run):
    directory, model = run
    for path in (directory, directory / "best.safetensors", str(directory)):
        back, record = checkpoint.load_model(path)
        assert not back.training
        assert record["name"] == "cpu/digits"
        assert checkpoint.digest(back.state_dict()) == checkpoint.digest(model.state_dict())
        convolution = back.net.members[0].stem.weight
        assert convolution.is_contiguous(memory_format=torch.channels_last)


def test_run_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="it is not a run, or no epoch has finished"):
        checkpoint.load_model(tmp_path)


@pytest.mark.parametrize("change", [{"name": "resnet20"}, {"n_classes": 7}, {"name": "resnet21"}, {"colour": 1}])
def test_weights_of_another_model_than_named_are_refused(run, change):
    directory, _ = run
    tensors, record = checkpoint.read(directory / "best.safetensors", "model")
    record["model"] |= change
    checkpoint.write(directory / "best.safetensors", "model", tensors, record)
    with pytest.raises(ValueError, match="does not contain the weights of the model it names") as error:
        checkpoint.load_model(directory)
    assert "\n" not in str(error.value)


def test_digest_tells_names_types_shapes_and_bits_apart():
    zeros = torch.zeros(2, 3)
    others = [{"b": zeros}, {"a": zeros.T}, {"a": zeros.double()}, {"a": -zeros}, {"a": zeros, "b": zeros}, {}]
    digests = [checkpoint.digest(tensors) for tensors in ({"a": zeros}, *others)] + [checkpoint.digest({}, "text")]
    assert len({*digests}) == len(digests)
    memory = torch.randn(1, 2, 3, 4)
    assert checkpoint.digest({"a": memory}) == checkpoint.digest({"a": memory.to(memory_format=torch.channels_last)})


def test_record_is_plain_json_in_the_header(file):
    whole = file.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    assert json.loads(header["__metadata__"]["record"]) == RECORD


def test_a_file_that_is_replaced_while_it_is_read_is_one_of_the_two(tmp_path):
    # An evaluation rewrites its file after every batch, and others look at it meanwhile.
    path, done = tmp_path / "x.safetensors", threading.Event()

    def rewrite():
        for i in range(150):
            checkpoint.write(path, "counts", {"a": torch.full((1 + 997 * (i % 2),), i)}, {"i": i})
        done.set()

    checkpoint.write(path, "counts", {"a": torch.zeros(1, dtype=torch.int64)}, {"i": 0})
    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = set()
    while not done.is_set():
        tensors, record = checkpoint.read(path, "counts")
        assert (tensors["a"] == record["i"]).all()
        seen.add(record["i"])
    writer.join()
    assert len(seen) > 10
