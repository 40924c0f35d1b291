"""Files of tensors that can be trusted or are refused: safetensors with a JSON record, nothing is ever unpickled.

A file is written under another name, brought to the disk and renamed, so that it is whole whenever the process dies.
Its header names its format and kind, holds the record, and a digest of the record and of every tensor.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import nets.models

__all__ = ["digest", "load_model", "read", "save_model", "write"]

FORMAT = "enresnet-1"


def digest(tensors, text=""):
    """Hash tensors with their names, types and shapes.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Of any shapes (...), on any device.
    text : str, default=""
        Hashed first.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    state = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


@contextlib.contextmanager
def renamed(path):
    """Give a temporary path in the same directory; what was written there is renamed to `path` at the end."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        # safetensors makes files that only their owner can read.
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write(path, kind, tensors, record):
    """Write a file: complete, or not at all.

    Parameters
    ----------
    path : Path
        Where; replaced if it exists.
    kind : str
        What the file holds, as `read` is to expect it.
    tensors : dict of str to Tensor
        Of any shapes (...), on any device; kept in the order of their indices, not of memory.
    record : dict
        What JSON can hold.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record, allow_nan=False)
    header = {"format": FORMAT, "kind": kind, "record": text, "digest": digest(tensors, FORMAT + kind + text)}
    with renamed(Path(path)) as draft:
        save_file(tensors, draft, metadata=header)


def read(path, kind):
    """Read a file, if it is whole and of this kind.

    Parameters
    ----------
    path : Path
        File.
    kind : str
        As given to `write`.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU, with the shapes (...) that were written.
    record : dict
        As written.

    Raises
    ------
    ValueError
        If the file is missing, damaged, another program's, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there, or is no file")
    try:
        # In one piece: a file that is opened twice may be another one the second time, by a rename in between.
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file ({_first_line(error)})") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by this program")
    if header.get("kind") != kind:
        raise ValueError(f"{path} holds {header.get('kind')}, and {kind} is wanted")
    text = header.get("record", "")
    if digest(tensors, FORMAT + kind + text) != header.get("digest"):
        raise ValueError(f"{path} is damaged: its contents do not have its digest")
    return tensors, json.loads(text)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def save_model(path, model, record):
    """Write a model's weights, with what is needed to build it again.

    Parameters
    ----------
    path : Path
        File.
    model : Module
        Of `nets.build`.
    record : dict
        Its "model" holds the arguments of `nets.build` that made the model.
    """
    write(path, "model", model.state_dict(), record)


def load_model(path, device="cpu"):
    """Build the model of a finished or running training, with its best weights.

    Parameters
    ----------
    path : Path or str
        A run's directory, or its best.safetensors.
    device : str or torch.device, default="cpu"
        Where to.

    Returns
    -------
    model : ImageClassifier
        In evaluation mode, in channels-last memory order.
    record : dict
        "recipe" (fields by name), "name" of the recipe, "seed", "model", "data", "epoch", "accuracy" on validation; see
        `nets.training._run_directory`.

    Raises
    ------
    ValueError
        If there is no such file, or it is damaged or no model of this program.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "best.safetensors").is_file():
            raise ValueError(f"{path} holds no best.safetensors: it is no run, or has no epoch behind it")
        path = path / "best.safetensors"
    tensors, record = read(path, "model")
    try:
        model = nets.models.build(**record["model"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights of the model it names ({_first_line(error)})") from None
    return model.to(device).eval(), record
