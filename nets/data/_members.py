"""The image files of a folder or a tar archive in the layout train/<class>/*, test/<class>/*, one after the other.

An archive is read as a stream, member by member: nothing is extracted, and its paths are only used as names of classes.
Files in the layout that are not read are counted in the notes.
"""

import bz2
import gzip
import io
import lzma
import posixpath
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import NamedTuple

__all__ = ["PARTS", "Link", "fingerprint", "is_archive", "members"]

PARTS = ("train", "test")
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".tif",
    ".tiff",
}  # fmt: skip
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".txz", ".tbz2")
# Files that programs for viewing images leave in folders.
NO_IMAGES = ("Thumbs.db", "desktop.ini")
ELSEWHERE = "images not in train/<class>/* or test/<class>/*, left out"
# By the first bytes of a file; others are not compressed.
COMPRESSED = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open, b"\x5d\x00\x00\x80": lzma.open,
}  # fmt: skip
N_BYTES = 2**20
# Errors that damaged archives raise.
DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)
MAX_FILE = 64 * 2**20


class _Header(tarfile.TarInfo):
    """A member of an archive; a damaged header raises an error, where tarfile ends the archive without a word."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from None


class Link(NamedTuple):
    """A member of an archive that is a link to the member of this name."""

    target: str
    is_hard: bool


def is_archive(path):
    """Whether a file's name is that of a tar archive."""
    return path.name.lower().endswith(ARCHIVES)


def fingerprint(path):
    """Name, size in bytes and modification time in nanoseconds of an archive, or of every image in a folder."""

    def stamp(file, name):
        status = file.stat()
        return [name, status.st_size, status.st_mtime_ns]

    path = path.resolve()
    if not path.is_dir():
        return [stamp(path, str(path))]
    return [str(path), *(stamp(file, "/".join(place)) for place, file in _files(path))]


def members(path, notes):
    """Yield (part, class, file name), the full name, and the opened file or a Link, for each image."""
    return _opened(path, notes) if path.is_dir() else _archived(path, notes)


def _place(name):
    """Return (part, class, file name) of train/<class>/<file>, in any folder; None for all other names."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[-3] not in PARTS or not _is_image(parts[-2:]):
        return None
    return parts[-3:]


def _is_image(parts):
    """Whether a name is that of an image, and not hidden, as AppleDouble files and folders of editors are."""
    return PurePosixPath(parts[-1]).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in parts)


def _note(notes, name):
    """Count a file below train/ or test/ that is not read."""
    parts = PurePosixPath(name).parts
    below = next((parts[i + 1 :] for i, part in enumerate(parts) if part in PARTS), ())
    if not below or below[-1] in NO_IMAGES or any(part.startswith(".") for part in below):
        return
    if _is_image(below):
        notes[ELSEWHERE] += 1
    elif len(below) == 2:
        kind = PurePosixPath(below[-1]).suffix or "no suffix"
        notes[f"files of another type ({kind}), left out"] += 1


def _files(folder, notes=None):
    for part in PARTS:
        for file in sorted((folder / part).glob("*/*")):
            name = "/".join(file.parts[-3:])
            place = _place(name)
            if place and file.is_file():
                yield place, file
            elif notes is not None:
                _note_of(file, name, place, notes)
        if notes is not None:
            for file in (folder / part).glob("*"):
                if file.is_file():
                    _note(notes, "/".join(file.parts[-2:]))


def _note_of(file, name, place, notes):
    if file.is_dir():
        for inner in file.rglob("*"):
            if inner.is_file():
                _note(notes, f"{name}/{inner.relative_to(file).as_posix()}")
    elif not place:
        _note(notes, name)
    elif file.is_symlink():
        notes["broken links, left out"] += 1


def _opened(folder, notes):
    for place, file in _files(folder, notes):
        name = "/".join(place)
        try:
            opened = file.open("rb")
        except OSError as error:
            raise ValueError(f"{folder}: {name} cannot be read: {error.strerror}") from None
        with opened:
            yield place, name, opened


def _archived(path, notes):
    try:
        if path.suffix.lower() == ".tar" and not _ends_in_zeros(path):
            raise ValueError(f"{path} is damaged: its end is missing")
        with _decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                place, key = _place(member.name), str(PurePosixPath(member.name))
                if place and member.issym():
                    target = posixpath.normpath(posixpath.join(posixpath.dirname(key), member.linkname))
                    yield place, key, Link(target, is_hard=False)
                elif place and member.islnk():
                    yield place, key, Link(str(PurePosixPath(member.linkname)), is_hard=True)
                elif place and member.isfile():
                    if member.size > MAX_FILE:
                        raise ValueError(f"{path}: {member.name} has {member.size} bytes, more than {MAX_FILE}")
                    yield place, key, io.BytesIO(archive.extractfile(member).read())
                elif member.issym() and {*PurePosixPath(member.name).parts[-2:]} & {*PARTS}:
                    notes["links to folders in the archive, left out: extract the archive to read them"] += 1
                elif not place and not member.isdir():
                    _note(notes, member.name)
            # To the end, where the checksum of gzip is.
            while stream.read(N_BYTES):
                pass
    except ValueError:
        raise
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged, or not a tar archive ({error or type(error).__name__})") from None


def _decompressed(path):
    with path.open("rb") as file:
        start = file.read(max(map(len, COMPRESSED)))
    return next((opened for magic, opened in COMPRESSED.items() if start.startswith(magic)), open)(path, "rb")


def _ends_in_zeros(path):
    """Whether the last block consists of zeros, as it must: otherwise the archive was cut between two members.

    Compressed archives have their own checks.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tarfile.BLOCKSIZE))
        return not any(file.read())
