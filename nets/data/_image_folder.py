"""Folders and tar archives of images in the layout train/<class>/*, test/<class>/*, read once and kept as one tensor.

An archive is only read, member by member, as a stream: nothing in it is extracted, and its paths name classes alone.
Images are read as 8 bits per channel, grey ones with one channel, all others with three. What would be read otherwise
than it is meant (more bits, images of other shapes) is refused; what is left out (links, transparency, further frames)
is counted in the notes.
"""

import hashlib
import io
import lzma
import tarfile
import zlib
from collections import Counter, defaultdict
from pathlib import PurePosixPath

import numpy as np
import torch
from tqdm import tqdm

__all__ = ["fingerprint", "is_archive", "read_images"]

PARTS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".txz")
# Modes of Pillow with one channel, opaque or not.
GREY = ("1", "L", "LA", "La")
ORIENTATION = 0x0112
# The whole set is held in memory: this is for small images, many of them.
MAX_SIDE, MAX_FILE, MAX_TOTAL = 512, 64 * 2**20, 32 * 2**30


def is_archive(path):
    """Whether a file's name is that of a tar archive."""
    return path.name.lower().endswith(ARCHIVES)


def fingerprint(path):
    """Name, size in bytes and time of change in nanoseconds: of an archive, or of every image in a folder."""

    def stamp(file, name):
        status = file.stat()
        return [name, status.st_size, status.st_mtime_ns]

    path = path.resolve()
    if not path.is_dir():
        return [stamp(path, str(path))]
    return [str(path), *(stamp(file, place) for place, file in _files(path))]


def read_images(path, *, mode=None, progress=True):
    """Read every image of a folder or a tar archive; a bar shows progress if standard error is a terminal.

    mode "RGB" or "L" converts all images to colour or grey; by default they must be of one kind.

    Returns a dict: "train_images", "test_images" of shape (n_images, n_channels, height, width), uint8, sorted by class
    and file name; "train_labels", "test_labels" of shape (n_images,); "classes": names in the order of labels;
    "encoding": formats of the files, such as "JPEG"; "notes": what was left out, and images that occur twice.

    Raises a ValueError if there are no images, one is damaged, too large, of more than 8 bits per channel or of another
    shape than the others, or the classes of training and test differ.
    """
    notes = Counter()
    source = _members(path, notes) if path.is_dir() else _archived(path, notes)
    found, formats, first = {part: {} for part in PARTS}, set(), None
    total = 0
    with tqdm(source, desc=f"reading {path.name}", unit="img", disable=None if progress else True) as bar:
        for (part, label, name), key, file in bar:
            place = f"{part}/{label}/{name}"
            pixels, kind = _decode(file, place, path, mode, notes)
            first = first or (pixels.shape, place)
            if pixels.shape != first[0]:
                remedy = f" ({path}::RGB reads all as colour)" if pixels.shape[:2] == first[0][:2] else ""
                raise ValueError(
                    f"{path}: images must be of one shape, {first[1]} is {_size(first[0])} and {place} "
                    f"{_size(pixels.shape)}{remedy}"
                )
            total += pixels.nbytes
            if total > MAX_TOTAL:
                raise ValueError(f"{path}: holds more than {MAX_TOTAL / 2**30:.0f} GiB of pixels, more than is kept")
            formats.add(kind)
            if key in found[part]:
                notes["paths that occur twice: the last of each was read, as tar does"] += 1
            # Under a path that occurs twice the later image replaces the earlier one.
            found[part][key] = (label, name, pixels)
    found = {part: list(entries.values()) for part, entries in found.items()}
    sets = _assemble(path, found)
    told = [f"{count} {what}" for what, count in notes.items()] + _twice(found)
    return sets | {"encoding": "+".join(sorted(formats)), "notes": told}


def _twice(found):
    """Notes on pixels that occur in training and test, or under two labels."""
    parts, labels = defaultdict(set), defaultdict(set)
    for part, entries in found.items():
        for label, _, pixels in entries:
            key = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
            parts[key].add(part)
            labels[key].add(label)
    leaked = sum(len(where) > 1 for where in parts.values())
    torn = sum(len(names) > 1 for names in labels.values())
    notes = [f"{leaked} images are in training and in test"] if leaked else []
    return notes + ([f"{torn} images have two labels or more"] if torn else [])


def _place(name):
    """(part, class, file name) of train/<class>/<file>, in whatever folder that stands; None for all else."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[-3] not in PARTS or PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return None
    # AppleDouble files and the like.
    return None if parts[-1].startswith(".") else parts[-3:]


def _files(folder, notes=None):
    for part in PARTS:
        for file in sorted((folder / part).glob("*/*")):
            if not _place(file.as_posix()):
                continue
            if file.is_file():
                yield "/".join(file.parts[-3:]), file
            elif notes is not None and file.is_symlink():
                notes["links that lead nowhere were left out"] += 1


def _members(folder, notes):
    for place, file in _files(folder, notes):
        with file.open("rb") as opened:
            yield _place(place), place, opened


def _archived(path, notes):
    try:
        if path.suffix == ".tar" and not _ends_in_zeros(path):
            raise ValueError(f"{path} is damaged: its end is missing")
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                place = _place(member.name)
                if place and (member.issym() or member.islnk()):
                    # The stream has passed what they lead to.
                    notes["links in the archive were left out: unpacked, as a folder, they are read"] += 1
                if not place or not member.isfile():
                    continue
                if member.size > MAX_FILE:
                    raise ValueError(f"{path}: {member.name} has {member.size} bytes, which is no small image")
                yield place, str(PurePosixPath(member.name)), io.BytesIO(archive.extractfile(member).read())
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


def _decode(file, name, path, mode, notes):
    """(height, width, n_channels) pixels and the name of the format."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if max(image.size) > MAX_SIDE:
                raise ValueError(f"it is {image.size[0]} x {image.size[1]}, sides over {MAX_SIDE} are not read")
            _check_depth(image)
            kind = image.format
            if getattr(image, "n_frames", 1) > 1:
                notes["images have several frames, of which the first was read"] += 1
            if image.getexif().get(ORIENTATION, 1) != 1:
                notes["images have an orientation in their EXIF data, which was not applied"] += 1
            if image.has_transparency_data:
                notes["images are transparent, which was ignored"] += 1
            pixels = np.array(image.convert(mode or ("L" if image.mode in GREY else "RGB")))
    except Exception as error:  # noqa: BLE001
        # A damaged image raises whatever its broken part leads to.
        raise ValueError(f"{path}: {name} cannot be read: {error}") from None
    return pixels[:, :, None] if pixels.ndim == 2 else pixels, kind


def _check_depth(image):
    """Pillow would clip, or drop the lower half of, what has more than 8 bits."""
    raw = " ".join(str(tile[3]) for tile in image.tile)
    if image.mode.startswith(("I", "F")) or ";16" in raw:
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode}), convert it to 8 bits first")


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
