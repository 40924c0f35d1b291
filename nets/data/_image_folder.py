"""Folders and tar archives of images in the layout train/<class>/*, test/<class>/*, read once and kept as one tensor.

An archive is only read, member by member, as a stream: nothing in it is extracted, and its paths name classes alone.
"""

import io
import lzma
import tarfile
import zlib
from pathlib import PurePosixPath

import numpy as np
import torch
from tqdm import tqdm

__all__ = ["fingerprint", "is_archive", "read_images"]

PARTS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".txz")
# The whole set is held in memory: this is for small images, many of them.
MAX_SIDE, MAX_FILE, MAX_TOTAL = 512, 64 * 2**20, 32 * 2**30


def is_archive(path):
    """Tell whether a file's name is that of a tar archive.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    bool
    """
    return path.name.lower().endswith(ARCHIVES)


def fingerprint(path):
    """Describe a source well enough to notice that it has changed.

    Parameters
    ----------
    path : Path
        Archive or folder.

    Returns
    -------
    list
        Name, size in bytes and time of change in nanoseconds: of the archive, or of every image in the folder.
    """

    def stamp(file, name):
        status = file.stat()
        return [name, status.st_size, status.st_mtime_ns]

    path = path.resolve()
    if not path.is_dir():
        return [stamp(path, str(path))]
    return [str(path), *(stamp(file, place) for place, file in _files(path))]


def read_images(path, *, progress=True):
    """Read every image of a folder or an archive.

    Parameters
    ----------
    path : Path
        Folder, or .tar, .tar.xz, .tar.gz or .tar.bz2 archive.
    progress : bool, default=True
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    dict
        "train_images", "test_images": Tensor of shape (n_images, n_channels, height, width), uint8, sorted by class and
        file name; "train_labels", "test_labels": Tensor of shape (n_images,); "classes": names in the order of labels;
        "encoding": formats of the files, such as "JPEG".

    Raises
    ------
    ValueError
        If there are no images, one is damaged, too large or of another shape than the others, or the classes of
        training and test differ.
    """
    source = _members(path) if path.is_dir() else _archived(path)
    found, formats, first = {part: [] for part in PARTS}, set(), None
    total = 0
    with tqdm(source, desc=f"reading {path.name}", unit="img", disable=None if progress else True) as bar:
        for (part, label, name), file in bar:
            pixels, kind = _decode(file, f"{part}/{label}/{name}", path)
            first = first or (pixels.shape, f"{part}/{label}/{name}")
            if pixels.shape != first[0]:
                raise ValueError(
                    f"{path}: images must be of one shape, {first[1]} is {_size(first[0])} and {part}/{label}/{name} "
                    f"{_size(pixels.shape)}"
                )
            total += pixels.nbytes
            if total > MAX_TOTAL:
                raise ValueError(f"{path}: holds more than {MAX_TOTAL / 2**30:.0f} GiB of pixels, more than is kept")
            formats.add(kind)
            found[part].append((label, name, pixels))
    return _assemble(path, found) | {"encoding": "+".join(sorted(formats))}


def _place(name):
    """(part, class, file name) of train/<class>/<file>, in whatever folder that stands; None for all else."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[-3] not in PARTS or PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return None
    # AppleDouble files and the like.
    return None if parts[-1].startswith(".") else parts[-3:]


def _files(folder):
    for part in PARTS:
        for file in sorted((folder / part).glob("*/*")):
            if _place(file.as_posix()) and file.is_file():
                yield "/".join(file.parts[-3:]), file


def _members(folder):
    for place, file in _files(folder):
        with file.open("rb") as opened:
            yield _place(place), opened


def _archived(path):
    try:
        if path.suffix == ".tar" and not _ends_in_zeros(path):
            raise ValueError(f"{path} is damaged: its end is missing")
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                place = _place(member.name)
                if not place or not member.isfile():
                    continue
                if member.size > MAX_FILE:
                    raise ValueError(f"{path}: {member.name} has {member.size} bytes, which is no small image")
                yield place, io.BytesIO(archive.extractfile(member).read())
    except ValueError:
        raise
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no tar archive ({error or type(error).__name__})") from None


def _ends_in_zeros(path):
    """Whether the last block is one of zeros, as it must be: a cut between two members would otherwise go unnoticed.

    Compressed archives have checks of their own.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tarfile.BLOCKSIZE))
        return not any(file.read())


def _decode(file, name, path):
    """(height, width, n_channels) pixels and the name of the format."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"it is {image.size[0]} x {image.size[1]}, sides over {MAX_SIDE} are not read")
            kind = image.format
            pixels = np.array(image if image.mode == "L" else image.convert("RGB"))
    except Exception as error:  # noqa: BLE001
        # A damaged image raises whatever its broken part leads to.
        raise ValueError(f"{path}: {name} cannot be read: {error}") from None
    return pixels[:, :, None] if pixels.ndim == 2 else pixels, kind


def _assemble(path, found):
    names = {part: sorted({label for label, _, _ in found[part]}) for part in PARTS}
    for part in PARTS:
        if not found[part]:
            raise ValueError(f"{path}: holds no images {part}/<class>/*, the layout that is read")
    if names["train"] != names["test"]:
        differing = sorted(set(names["train"]) ^ set(names["test"]))
        raise ValueError(f"{path}: train and test must hold the same classes: {', '.join(differing[:5])} is in one")
    if len(names["train"]) < 2:
        raise ValueError(f"{path}: there must be 2 classes at least, got {names['train'][0]!r} alone")
    sets = {"classes": names["train"]}
    for part in PARTS:
        # The order of an archive's members is an accident.
        found[part].sort(key=lambda entry: entry[:2])
        pixels = torch.from_numpy(np.stack([entry[2] for entry in found[part]]))
        sets[f"{part}_images"] = pixels.permute(0, 3, 1, 2).contiguous()
        sets[f"{part}_labels"] = torch.tensor([names[part].index(label) for label, _, _ in found[part]])
    return sets


def _size(shape):
    return " x ".join(map(str, shape))
