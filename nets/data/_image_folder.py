"""Folders and tar archives of images in the layout train/<class>/*, test/<class>/*, read into tensors.

Images that differ in shape from the first are refused; files that are left out, converted or occur twice are counted in
the notes.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import torch
from tqdm import tqdm

from nets.data._members import PARTS, Link, fingerprint, is_archive, members
from nets.data._pixels import decode

__all__ = ["fingerprint", "is_archive", "read_images"]

# The whole data set is kept in memory.
MAX_TOTAL = 32 * 2**30


def read_images(path, *, mode=None, progress=True):
    """Read all images of a folder or a tar archive into a dict; `mode` "RGB" or "L" converts all to colour or grey.

    "train_images", "test_images": uint8 of shape (n_images, n_channels, height, width), sorted by class and file name;
    "train_labels", "test_labels": shape (n_images,); "classes": names in the order of labels; "encoding": formats of
    the files; "notes": files that were left out, and images that occur twice. ValueError for images that cannot be
    read.
    """
    notes, formats, first, total = Counter(), set(), None, 0
    found = {}
    source = members(path, notes)
    with tqdm(source, desc=f"reading {path.name}", unit="img", disable=None if progress else True) as bar:
        for place, key, file in bar:
            if isinstance(file, Link):
                # A hard link is resolved at once, to the member before it; a symbolic link at the end.
                image = found.get(file.target, (place, file))[1] if file.is_hard else file
            else:
                image, kind = decode(file, "/".join(place), path, mode, notes)
                first = first or (image.shape, "/".join(place))
                _check_shape(path, image, place, first)
                formats.add(kind)
            total += getattr(image, "nbytes", 0)
            if total > MAX_TOTAL:
                raise ValueError(f"{path}: contains more than {MAX_TOTAL / 2**30:.0f} GiB of pixels, the limit")
            if key in found:
                notes["paths that occur twice, of which the last was read, as tar does"] += 1
            # If a path occurs twice, the later image replaces the earlier one.
            found[key] = place, image
    found = _followed(found, notes)
    roots = {key.removesuffix("/".join(place)) for place, key, _ in found}
    if len(roots) > 1:
        notes["folders of the archive that contain train or test, all of which were read"] = len(roots)
    sets = _assemble(path, {part: [each for each in found if each[0][0] == part] for part in PARTS})
    texts = [f"{what}: {count}" for what, count in notes.items()] + _twice(found)
    return sets | {"encoding": "+".join(sorted(formats)), "notes": texts}


def _check_shape(path, image, place, first):
    shape, where = first
    if image.shape != shape:
        remedy = f" ({path}::RGB reads all as colour)" if image.shape[:2] == shape[:2] else ""
        raise ValueError(
            f"{path}: images must be of one shape, {where} is {_size(shape)} and {'/'.join(place)} "
            f"{_size(image.shape)}{remedy}"
        )


def _followed(found, notes):
    """Return the images (place, key, pixels), with links replaced by their targets."""
    followed = []
    for key, (place, image) in found.items():
        passed = set()
        while isinstance(image, Link) and image.target in found and image.target not in passed:
            passed.add(image.target)
            image = found[image.target][1]
        if isinstance(image, Link):
            notes["links in the archive to no image of it, left out: extract the archive to read them"] += 1
        else:
            followed.append((place, key, image))
    return followed


def _twice(found):
    """Return notes on images that occur in training and test, or with two labels."""
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
            raise ValueError(f"{path}: contains no images {part}/<class>/*, the layout that is read")
    if names["train"] != names["test"]:
        differing = sorted(set(names["train"]) ^ set(names["test"]))
        raise ValueError(
            f"{path}: train and test must have the same classes, {', '.join(differing[:5])} is in only one"
        )
    if len(names["train"]) < 2:
        raise ValueError(f"{path}: there must be at least 2 classes, got only {names['train'][0]!r}")
    sets = {"classes": names["train"]}
    for part in PARTS:
        # The order of the members of an archive is arbitrary.
        found[part].sort(key=lambda each: (each[0], each[1]))
        pixels = torch.from_numpy(np.stack([image for _, _, image in found[part]]))
        sets[f"{part}_images"] = pixels.permute(0, 3, 1, 2).contiguous()
        sets[f"{part}_labels"] = torch.tensor([names[part].index(label) for (_, label, _), _, _ in found[part]])
    return sets


def _size(shape):
    return " x ".join(map(str, shape))
