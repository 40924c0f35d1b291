"""Trained networks that come with the package, their cards, and a sample of test images.

    nets.load("cifar10/en1_resnet20-seed0")        a network in evaluation mode
    nets.zoo.names()                               the names of all networks
    nets.zoo.card("cifar10/en1_resnet20-seed0")    its training and its accuracies
    nets.zoo.sample()                              100 test images of CIFAR-10, JPEG-compressed, with labels

All were trained and evaluated on CIFAR-10 images that were JPEG-compressed with quality 75. Names are
DATA/RECIPE-seedS. `python -m nets.zoo._pack` writes the file and the card of a run.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import torch

import _enresnet
from nets import checkpoint

__all__ = ["Sample", "card", "load", "names", "of_the_zoo", "path", "sample"]

HERE = Path(__file__).parent
PREFIX = "zoo:"
SAMPLE, SAMPLE_SIDE = HERE / "cifar10" / "sample.png", 32


def names():
    """Return the names of the networks that come with the package.

    Returns
    -------
    list of str
        Names, sorted.

    Examples
    --------
    >>> "cifar10/resnet20-seed0" in names()
    True
    """
    files = HERE.glob("*/*.safetensors")
    return sorted(file.relative_to(HERE).with_suffix("").as_posix() for file in files)


def path(name):
    """Return the file of a network, which `nets.checkpoint.load_model` reads.

    Parameters
    ----------
    name : str
        One of `names`, optionally with the prefix "zoo:".

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If there is no network of this name; the message lists similar ones.
    """
    name = str(name).removeprefix(PREFIX)
    if name not in names():
        raise ValueError(f"the zoo has no network {name!r}{_near(name)}: nets.zoo.names() lists all")
    return HERE / f"{name}.safetensors"


def of_the_zoo(run):
    """Return whether a run is given as a network of the zoo, zoo:NAME, and not as a path.

    Parameters
    ----------
    run : str or Path
        Run as it was given.

    Returns
    -------
    bool
    """
    return str(run).startswith(PREFIX)


def card(name):
    """Return the card of a network: its training and its accuracies.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    dict
        "recipe" (fields by name), "seed", "model", "data" with "encoding", "history" (one row per epoch), "accuracies"
        (one row per attack: accuracy, stderr, n), "red_flags", "differs" (deviations from the recipe as run by the
        command), "licences", "versions", "device", "command", "commit".

    Raises
    ------
    ValueError
        If there is no network of this name, or the card is damaged (raised by a helper).
    """
    return _record(path(name).with_suffix(".json"))


def load(name_or_path, device="cpu"):
    """Load a trained network: one that comes with the package, or one from your own run.

    Parameters
    ----------
    name_or_path : str or Path
        One of `names`; or the directory of a run, or its best.safetensors. Names of the zoo take precedence over paths.
    device : str or torch.device, default="cpu"
        Device of the model.

    Returns
    -------
    ImageClassifier
        In evaluation mode: images in [0, 1] of shape (n_images, 3, 32, 32) to logits of shape (n_images, n_classes). A
        network of the "en..." kind draws noise on every call. Its weights are float32; those of the zoo are stored
        in half precision.

    Raises
    ------
    ValueError
        If there is no such name or path, the file is damaged, or there is no such device.

    Examples
    --------
    >>> model, images = load("cifar10/resnet20-seed0"), sample()
    >>> model(images.x[:2]).shape
    torch.Size([2, 10])
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ValueError(f"name_or_path must be a name of the zoo or a path, got {name_or_path!r:.60}")
    name = str(name_or_path)
    if of_the_zoo(name) or name in names():
        file = path(name)
    else:
        file = Path(name_or_path)
        if not file.exists():
            raise ValueError(f"{name} is neither a network of the zoo{_near(name)} nor a path that exists")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device} is not available ({str(error).splitlines()[0]})") from None
    return checkpoint.load_model(file, device)[0].to(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class Sample:
    """Test images of CIFAR-10, ten per class, JPEG-compressed with quality 75.

    Parameters
    ----------
    x : Tensor of shape (100, 3, 32, 32)
        Images in [0, 1].
    y : Tensor of shape (100,)
        Labels; the classes take turns, so that the first 10 n images contain n of each class.
    classes : tuple of str
        Names of the classes, in the order of the labels.
    name : str
        "CIFAR-10 (JPEG), 100 test images", to be quoted with every number computed from them.
    encoding : str
        "JPEG".
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: tuple
    name: str
    encoding: str


def sample(device="cpu"):
    """Return 100 test images of CIFAR-10 with their labels, decoded from JPEG with quality 75.

    They are the first 100 images on which `nets.evaluate` evaluates.

    Parameters
    ----------
    device : str or torch.device, default="cpu"
        Device of the images.

    Returns
    -------
    Sample

    Raises
    ------
    ValueError
        If a file of the package is damaged.

    Examples
    --------
    >>> images = sample()
    >>> images.name, images.y[:20].bincount().tolist()
    ('CIFAR-10 (JPEG), 100 test images', [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    import numpy as np
    from PIL import Image

    about = _record(SAMPLE.with_suffix(".json"))
    try:
        with Image.open(SAMPLE) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{SAMPLE} is damaged ({error})") from None
    # The sheet has one row per class.
    side = SAMPLE_SIDE
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    tiles = pixels.reshape(rows, side, columns, side, 3).transpose(2, 0, 4, 1, 3)
    images = torch.from_numpy(np.ascontiguousarray(tiles)).reshape(-1, 3, side, side)
    classes = tuple(about["classes"])
    # In contiguous order: attacks of other packages take views of the images.
    x = images.to(device, torch.float32, memory_format=torch.contiguous_format) / 255
    y = torch.arange(rows, device=device).repeat(columns)
    return Sample(x, y, classes, f"CIFAR-10 (JPEG), {len(x)} test images", "JPEG")


def _record(file):
    try:
        return _enresnet.read_record(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error})") from None


def _near(name):
    """A list of similar names, for an error message; empty if there is none."""
    known = names()
    # The name may lack its data set or its seed.
    short = {each.partition("/")[2]: each for each in known}
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [short[each] for each in difflib.get_close_matches(name, short, n=3, cutoff=0.5)]
    near = list(dict.fromkeys(near))[:3]
    return f" (similar names: {', '.join(near)})" if near else ""
