"""Folders and tar archives of images in the layout train/<class>/*, test/<class>/*, read once and kept as one tensor.

Images of another shape than the first are refused; what is left out, converted or occurs twice is counted in the notes.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import torch
from tqdm import tqdm

from nets.data._members import PARTS, Link, fingerprint, is_archive, members
from nets.data._pixels import decode

__all__ = ["fingerprint", "is_archive", "read_images"]

# The whole set is held in memory.
MAX_TOTAL = 32 * 2**30


def read_images(path, *, mode=None, progress=True):
    """Read every image of a folder or a tar archive; a bar shows progress if standard error is a terminal.

    mode "RGB" or "L" converts all images to colour or grey; by default they must be of one kind.

    Returns a dict: "train_images", "test_images" of shape (n_images, n_channels, height, width), uint8, sorted by class
    and file name; "train_labels", "test_labels" of shape (n_images,); "classes": names in the order of labels;
    "encoding": formats of the files, such as "JPEG"; "notes": what was left out, and images that occur twice.

    Raises a ValueError if there are no images, one is damaged, too large, of more than 8 bits per channel or of another
    shape than the others, or the classes of training and test differ.
    """
    notes, formats, first, total = Counter(), set(), None, 0
    found = {}
    source = members(path, notes)
    with tqdm(source, desc=f"reading {path.name}", unit="img", disable=None if progress else True) as bar:
        for place, key, file in bar:
            if isinstance(file, Link):
                # A hard link is the file of that name as it is here; where a symbolic one leads is seen at the end.
                image = found.get(file.target, (place, file))[1] if file.is_hard else file
            else:
                image, kind = decode(file, "/".join(place), path, mode, notes)
                first = first or (image.shape, "/".join(place))
                _check_shape(path, image, place, first)
                formats.add(kind)
            total += getattr(image, "nbytes", 0)
            if total > MAX_TOTAL:
                raise ValueError(f"{path}: holds more than {MAX_TOTAL / 2**30:.0f} GiB of pixels, more than is kept")
            if key in found:
                notes["paths that occur twice, of which the last was read, as tar does"] += 1
            # Under a path that occurs twice the later image replaces the earlier one.
            found[key] = place, image
    found = _followed(found, notes)
    roots = {key.removesuffix("/".join(place)) for place, key, _ in found}
    if len(roots) > 1:
        notes["folders of the archive with a train or a test in them, all of which were read"] = len(roots)
    sets = _assemble(path, {part: [each for each in found if each[0][0] == part] for part in PARTS})
    told = [f"{what}: {count}" for what, count in notes.items()] + _twice(found)
    return sets | {"encoding": "+".join(sorted(formats)), "notes": told}


def _check_shape(path, image, place, first):
    shape, where = first
    if image.shape != shape:
        remedy = f" ({path}::RGB reads all as colour)" if image.shape[:2] == shape[:2] else ""
        raise ValueError(
            f"{path}: images must be of one shape, {where} is {_size(shape)} and {'/'.join(place)} "
            f"{_size(image.shape)}{remedy}"
        )


def _followed(found, notes):
    """The images (place, key, pixels), links among them as what they lead to."""
    followed = []
    for key, (place, image) in found.items():
        passed = set()
        while isinstance(image, Link) and image.target in found and image.target not in passed:
            passed.add(image.target)
            image = found[image.target][1]
        if isinstance(image, Link):
            notes["links in the archive to what is no image of it, left out: unpacked, as a folder, they are read"] += 1
        else:
            followed.append((place, key, image))
    return followed


def _twice(found):
    """Notes on pixels that occur in training and test, or under two labels."""
    parts, labels = defaultdict(set), defaultdict(set)
    for (part, label, _), _, pixels in found:
        key = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        parts[key].add(part)
        labels[key].add(label)
    counts = {
        "images that are in training and in test": sum(len(where) > 1 for where in parts.values()),
        "images with two labels or more": sum(len(names) > 1 for names in labels.values()),
    }
    return [f"{what}: {count}" for what, count in counts.items() if count]


def _assemble(path, found):
    names = {part: sorted({label for (_, label, _), _, _ in found[part]}) for part in PARTS}
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
        found[part].sort(key=lambda each: (each[0], each[1]))
        pixels = torch.from_numpy(np.stack([image for _, _, image in found[part]]))
        sets[f"{part}_images"] = pixels.permute(0, 3, 1, 2).contiguous()
        sets[f"{part}_labels"] = torch.tensor([names[part].index(label) for (_, label, _), _, _ in found[part]])
    return sets


def _size(shape):
    return " x ".join(map(str, shape))
