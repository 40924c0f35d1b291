"""Files of tensors that are checked when read: safetensors with a JSON record; nothing is ever unpickled.

A file is written under another name, synchronised with the disk and renamed, so that it is complete whenever the
process dies. Its header contains its format and kind, the record, and a digest of the record and of every tensor.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import nets.models
from _enresnet import renamed

__all__ = ["digest", "load_model", "read", "save_model", "write"]

FORMAT = "enresnet-1"


def digest(tensors, text=""):
    """Return the SHA-256 of tensors by name, with names, dtypes and shapes, after `text`, in hexadecimal."""
    state = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


def write(path, kind, tensors, record):
    """Write tensors and a JSON record completely or not at all, replacing an existing file.

    `kind` names the contents, which `read` checks. Tensors are stored in contiguous memory order. OSError if the disk
    is full.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record, allow_nan=False)
    header = {"format": FORMAT, "kind": kind, "record": text, "digest": digest(tensors, FORMAT + kind + text)}
    with renamed(Path(path)) as draft:
        try:
            save_file(tensors, draft, metadata=header)
        except SafetensorError as error:
            raise _of_the_system(error, path) from None


def _of_the_system(error, path):
    """The OSError behind an error of safetensors, such as a full disk, which it names by number; others as they are."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path)) if number else error


def read(path, kind):
    """Return the tensors, on the CPU, and the record of a file that `write` wrote.

    ValueError if the file is missing, damaged, of another program or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist, or is not a file")
    try:
        # Opened only once: a rename between two openings would mix two files.
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or not a safetensors file ({_first_line(error)})") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by this program")
    if header.get("kind") != kind:
        raise ValueError(f"{path} must contain {kind}, and contains {header.get('kind')}")
    text = header.get("record", "")
    if digest(tensors, FORMAT + kind + text) != header.get("digest"):
        raise ValueError(f"{path} is damaged: its contents do not match its digest")
    return tensors, json.loads(text)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def save_model(path, model, record):
    """Write a model's weights; record["model"] holds the arguments of `nets.build` that build it again."""
    write(path, "model", model.state_dict(), record)


def load_model(path, device="cpu"):
    """Return the model of a run's directory or of its best.safetensors, in evaluation mode, and its record.

    The record has "recipe" (fields by name), "name" of the recipe, "seed", "model", "data", "epoch" and "accuracy" on
    validation images. ValueError if there is no such file, or it does not contain a model.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "best.safetensors").is_file():
            raise ValueError(f"{path} has no best.safetensors: it is not a run, or no epoch has finished")
        path = path / "best.safetensors"
    elif not path.exists():
        raise ValueError(f"{path} does not exist: a run is a directory, or its file best.safetensors")
    tensors, record = read(path, "model")
    try:
        model = nets.models.build(**record["model"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not contain the weights of the model it names ({_first_line(error)})") from None
    return model.to(device).eval(), record
