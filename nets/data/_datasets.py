"""Image data sets as tensors of bytes: handwritten digits, CIFAR, any folder or archive of images.

    "digits"               1797 images of 8 x 8 from scikit-learn, without a download
    "cifar10", "cifar100"  downloaded by torchvision
    PATH                   a folder, or a .tar, .tar.xz or .tar.gz archive, of train/<class>/* and test/<class>/*
    PATH::RGB, PATH::L     the same, all images converted to colour, or to grey

Images are decoded once, and kept in $XDG_CACHE_HOME/enresnet (~/.cache/enresnet).
"""

import hashlib
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nets import checkpoint
from nets.data._augmentation import augment
from nets.data._image_folder import fingerprint, is_archive, read_images

__all__ = ["Batches", "Dataset", "cache_directory", "load"]

N_DIGITS_TEST = 360
MODES = ("::RGB", "::L")
# Bump when images are read differently, so that cached sets are not reused.
READER = 2
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, training and test.

    Parameters
    ----------
    name : str
        Name as given to `load`, or the last part of a path.
    train_images, test_images : Tensor of shape (n_images, n_channels, height, width)
        Images as uint8.
    train_labels, test_labels : Tensor of shape (n_images,)
        Labels as int64.
    classes : tuple of str
        Names of the classes, in the order of the labels.
    encoding : str
        Format from which the pixels were decoded, such as "JPEG", "PNG" or "raw".
    white : int, default=255
        Byte that represents 1.0.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple
    encoding: str
    white: int = 255

    def to(self, device):
        """Return the data set with its tensors on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self):
        """Return the four tensors by name, a dict."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return {name: getattr(self, name) for name in names}

    def statistics(self):
        """Return the mean and standard deviation of every channel of the training images, two lists.

        They are computed from the counts of the 256 values, so that they are the same on every machine.
        """
        values = torch.arange(256, dtype=torch.float64) / self.white
        channels = self.train_images.cpu().transpose(0, 1).flatten(1)
        shares = [torch.bincount(channel, minlength=256).double() / len(channel) for channel in channels]
        means = [(share * values).sum() for share in shares]
        stds = [(share * (values - mean) ** 2).sum().sqrt() for share, mean in zip(shares, means, strict=True)]
        return [mean.item() for mean in means], [std.item() for std in stds]

    def provenance(self):
        """Return the description of the data, a dict, that is kept with every number computed from them."""
        return {
            "name": self.name,
            "encoding": self.encoding,
            "n_train": len(self.train_images),
            "n_test": len(self.test_images),
            "shape": list(self.train_images.shape[1:]),
            "n_classes": len(self.classes),
            "digest": checkpoint.digest(self.tensors()),
        }


def cache_directory():
    """Return the directory of decoded data sets: $XDG_CACHE_HOME/enresnet, by default ~/.cache/enresnet.

    Returns
    -------
    Path
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enresnet"


def load(name, *, progress=True):
    """Load a data set, from the cache if it has been decoded before.

    Parameters
    ----------
    name : str or Path
        "digits", "cifar10", "cifar100", or the path of a folder or archive; PATH::RGB or PATH::L converts its images to
        colour or grey, where they are of both kinds. What was left out, and images that are in training and test or
        have two labels, is reported on standard error.
    progress : bool, default=True
        Whether to show a progress bar while decoding, if standard error is a terminal.

    Returns
    -------
    Dataset
        Data set on the CPU.

    Raises
    ------
    ValueError
        If there is no such data set, it cannot be downloaded, or its images cannot be read or differ in shape.
    """
    if name == "digits":
        return _digits()
    if name in TORCHVISION:
        return _cached(name, ["torchvision", name], lambda: _download(name))
    place, _, mode = str(name).rpartition("::") if str(name).endswith(MODES) else (str(name), "", "")
    path = Path(place).expanduser()
    if not path.is_dir() and not (path.is_file() and is_archive(path)):
        known = ", ".join(["digits", *TORCHVISION])
        raise ValueError(f"data must be {known}, a folder, or a .tar, .tar.xz or .tar.gz file that exists, got {name}")
    source = [READER, *fingerprint(path), *([mode] if mode else [])]
    return _cached(path.name, source, lambda: read_images(path, mode=mode or None, progress=progress))


class Batches:
    """Images of a set, by index, as floating-point numbers in [0, 1] on the device where their bytes are.

    Parameters
    ----------
    images : Tensor of shape (n_images, n_channels, height, width)
        Images as uint8.
    labels : Tensor of shape (n_images,)
        Labels.
    white : int, default=255
        Byte that represents 1.0.
    channels_last : bool, default=True
        Whether images are returned in channels-last memory order.
    """

    def __init__(self, images, labels, white=255, *, channels_last=True):
        self.images, self.labels, self.white = images, labels, white
        self.order = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self):
        return len(self.images)

    def take(self, chosen, shifts=None):
        """Return images and labels.

        Parameters
        ----------
        chosen : Tensor of shape (n_chosen,) or slice
            Indices of the images.
        shifts : Shifts, optional
            Crops and reflections of these images; by default they are not changed.

        Returns
        -------
        x : Tensor of shape (n_chosen, n_channels, height, width)
            Images as float32 in [0, 1].
        y : Tensor of shape (n_chosen,)
            Labels.
        """
        images = self.images[chosen]
        if shifts is not None:
            images = augment(images, shifts)
        x = images.to(torch.float32, memory_format=self.order)
        return x / self.white, self.labels[chosen]


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    # There is no separate test part, and the images are ordered by writer: the parts must be random.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:N_DIGITS_TEST], order[N_DIGITS_TEST:]
    names = tuple(str(name) for name in digits.target_names)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], names, "raw", white=16)


def _download(name):
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ValueError(f"{name} is downloaded by torchvision, which cannot be imported ({error})") from None
    root = cache_directory() / "downloads"
    kind = getattr(datasets, TORCHVISION[name])
    try:
        # torchvision checks the MD5 sum of every file that it reads.
        parts = {part: kind(root, train=part == "train", download=True) for part in ("train", "test")}
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{name} could not be downloaded ({' '.join(str(error).split())}): without a network, give --data digits, "
            "or --data PATH to a folder or archive of images"
        ) from None
    sets = {"classes": parts["train"].classes, "encoding": "raw"}
    for part, images in parts.items():
        sets[f"{part}_images"] = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()
        sets[f"{part}_labels"] = torch.tensor(images.targets)
    return sets


def _cached(name, source, make):
    """Return the data set whose source has this fingerprint, from the cache, or else make and cache it."""
    text = json.dumps(source)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = cache_directory() / f"{name}-{key}.safetensors"
    if file.is_file():
        try:
            tensors, record = checkpoint.read(file, "images")
            return _dataset(name, tensors, record)
        except ValueError as error:
            sys.stderr.write(f"{error}: recomputing it\n")
    made = make()
    record = {key: made.pop(key) for key in ("classes", "encoding")} | {"notes": made.pop("notes", [])}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(file, "images", made, record)
    except OSError as error:
        sys.stderr.write(f"the decoded images cannot be cached in {file.parent}: {error.strerror}\n")
    return _dataset(name, made, record)


def _dataset(name, tensors, record):
    for note in record.get("notes", ()):
        sys.stderr.write(f"{name}: {note}\n")
    return Dataset(name, **tensors, classes=tuple(record["classes"]), encoding=record["encoding"])
