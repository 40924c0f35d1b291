"""Images of all kinds from folders and archives: each is read as what it shows, or a line says what is wrong."""

import io
import os
import struct
import tarfile
import warnings
import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from PIL import Image

from nets import data
from nets.data import _members

SIDE = 6
RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(pixels, kind="PNG", mode=None, **options):
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def files(shape=(SIDE, SIDE, 3), n_each=1):
    """{place in the layout: bytes of a PNG} of two classes, all pictures different."""
    places = [f"{part}/{label}/{i}.png" for part in ("train", "test") for label in "ab" for i in range(n_each)]
    rng = np.random.default_rng(1)
    return {place: encoded(rng.integers(0, 256, shape, dtype=np.uint8)) for place in places}


def write(folder, content):
    for place, each in content.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(each)
    return folder


def tar(path, entries):
    """An archive of (name, bytes), or of (name, type of link, target)."""
    with tarfile.open(path, "w") as archive:
        for name, *rest in entries:
            info = tarfile.TarInfo(name)
            if len(rest) == 2:
                info.type, info.linkname = rest
                archive.addfile(info)
            else:
                info.size = len(rest[0])
                archive.addfile(info, io.BytesIO(rest[0]))
    return path


def read_one(tmp_path, content, name, *, grey=False, mode=""):
    """(pixels of that image, shape (n_channels, height, width); what is told) where it stands among others."""
    content = {f"train/a/zz{name}": content} | files((SIDE, SIDE) if grey else (SIDE, SIDE, 3))
    loaded = data.load(f"{write(tmp_path / 'set', content)}{mode}", progress=False)
    return loaded.train_images[1].numpy()


def refused(name):
    with pytest.raises(ValueError) as error:
        data.load(name, progress=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def told(capsys):
    return capsys.readouterr().err.splitlines()


def png(depth, colour_type, rows):
    """A PNG of these bytes per row, by its format: Pillow writes few of the depths."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def deep_files():
    """Files of more than 8 bits per channel, of which Pillow would clip the values or drop their lower half."""
    deep = np.full((SIDE, SIDE), 1000)
    wide = np.full((SIDE, SIDE, 3), 1000)
    yield "grey.png", encoded(deep.astype(np.uint16))
    for name, colour_type, n_channels in (("rgb", 2, 3), ("la", 4, 2), ("rgba", 6, 4)):
        yield f"{name}.png", png(16, colour_type, [struct.pack(">H", 1000) * SIDE * n_channels] * SIDE)
    yield "int.tif", encoded(deep.astype(np.int32), "TIFF")
    yield "float.tif", encoded(deep.astype(np.float32) / 2000, "TIFF")
    size = f"{SIDE} {SIDE}".encode()
    for white in (1023, 65535):
        head = b"%s\n" + size + f"\n{white}\n".encode()
        yield f"{white}.ppm", head % b"P6" + wide.astype(">u2").tobytes()
        yield f"{white}.pgm", head % b"P5" + deep.astype(">u2").tobytes()
        yield f"text{white}.ppm", head % b"P3" + b"1000 " * wide.size


@pytest.mark.parametrize(("name", "content"), list(deep_files()), ids=[name for name, _ in deep_files()])
@pytest.mark.parametrize("mode", ["", "::RGB", "::L"])
def test_more_than_8_bits_are_refused_even_on_conversion(tmp_path, name, content, mode):
    folder = write(tmp_path / "set", files() | {f"train/a/{name}": content})
    assert "more than 8 bits per channel" in refused(f"{folder}{mode}")


def test_few_bits_are_read_on_the_whole_scale(tmp_path):
    """k of a maximum of 2^bits - 1, or of any other white, stands for k 255 / white."""
    pattern = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    for bits in (1, 2, 4):
        values = pattern % 2**bits
        rows = [
            np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, -bits:]).tobytes() for row in values
        ]
        shown = read_one(tmp_path / f"{bits}", png(bits, 0, rows), ".png", grey=True)
        assert (shown[0] == values * 255 // (2**bits - 1)).all()
    for white in (1, 15, 100):
        values = pattern % (white + 1)
        content = f"P5 {SIDE} {SIDE} {white}\n".encode() + values.astype(np.uint8).tobytes()
        shown = read_one(tmp_path / f"white{white}", content, ".pgm", grey=True)
        assert abs(shown[0] - values * 255 / white).max() <= 0.5
    black = np.zeros((SIDE, SIDE), dtype=bool)
    black[1, 2] = True
    shown = read_one(
        tmp_path / "bits", encoded(Image.fromarray(black), "TIFF", compression="group4"), ".tif", grey=True
    )
    assert (shown[0] == black * 255).all()


def test_16_bits_for_three_channels_are_read(tmp_path):
    # A bitmap of 5, 6 and 5 bits: red, with the greatest values.
    pixels, masks = np.full((SIDE, SIDE), 0xF800, "<u2").tobytes(), struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + header + masks + pixels
    assert (read_one(tmp_path, content, ".bmp") == np.array([255, 0, 0])[:, None, None]).all()


def test_palettes_are_read_as_the_colours_they_stand_for(tmp_path, capsys):
    picture = Image.fromarray(COLOUR).quantize(5)
    wanted = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    assert (read_one(tmp_path / "opaque", encoded(picture), ".png") == wanted).all()
    assert (read_one(tmp_path / "gif", encoded(picture, "GIF"), ".gif") == wanted).all()
    assert told(capsys) == []
    # Opacity of one colour, and of each: the colours stay, and that it is left out is told.
    for k, opacity in enumerate((0, bytes([0, 128, 255, 255, 255]))):
        content = encoded(picture, transparency=opacity)
        assert (read_one(tmp_path / f"clear{k}", content, ".png") == wanted).all()
        assert told(capsys) == ["set: images whose transparency was ignored: 1"]


def test_opacity_is_told_where_it_hides_something(tmp_path, capsys):
    whole = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    holed = whole.copy()
    holed[2, 3] = 254
    for k, (opacity, lines) in enumerate(((whole, []), (holed, ["set: images whose transparency was ignored: 1"]))):
        rgba = Image.fromarray(np.dstack([COLOUR, opacity]))
        assert (read_one(tmp_path / f"rgba{k}", encoded(rgba), ".png") == COLOUR.transpose(2, 0, 1)).all()
        assert told(capsys) == lines
        la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(opacity)])
        assert (read_one(tmp_path / f"la{k}", encoded(la), ".png", grey=True)[0] == GREY).all()
        assert told(capsys) == lines
    # A key: the colour of the first pixel, or a grey, counts as clear.
    for pixels, key, grey in ((COLOUR, tuple(map(int, COLOUR[0, 0])), False), (GREY, int(GREY[0, 0]), True)):
        content = encoded(pixels, transparency=key)
        shown = read_one(tmp_path / f"key{grey}", content, ".png", grey=grey)
        assert (shown == (GREY[None] if grey else COLOUR.transpose(2, 0, 1))).all()
        assert told(capsys) == ["set: images whose transparency was ignored: 1"]


def test_four_inks_are_converted_and_told(tmp_path, capsys):
    inks = Image.fromarray(COLOUR).convert("CMYK")
    shown = read_one(tmp_path, encoded(inks, "TIFF"), ".tif")
    # Without black, C M Y are what is missing of red, green and blue.
    assert (shown == COLOUR.transpose(2, 0, 1)).all()
    assert told(capsys) == ["set: images in CMYK, converted without a colour profile: 1"]


def test_grey_among_colour_is_refused_or_converted_on_request(tmp_path):
    folder = write(tmp_path / "set", files() | {"train/a/zz.png": encoded(GREY)})
    message = refused(folder)
    assert "train/a/zz.png 6 x 6 x 1" in message and "::RGB reads all as colour" in message
    shown = data.load(f"{folder}::RGB", progress=False).train_images
    assert shown.shape[1] == 3 and (shown[1].numpy() == GREY).all()
    grey = data.load(f"{folder}::L", progress=False)
    assert grey.train_images.shape[1] == 1 and (grey.train_images[1, 0].numpy() == GREY).all()
    # Grey of colour is 0.299 R + 0.587 G + 0.114 B (ITU-R 601), within half a step and its rounding.
    colours = Image.open(io.BytesIO(files()["train/a/0.png"]))
    luma = np.asarray(colours).astype(float) @ [0.299, 0.587, 0.114]
    assert abs(grey.train_images[0, 0].numpy() - luma).max() <= 0.6
    # From the cache: the two are kept apart.
    assert data.load(f"{folder}::RGB", progress=False).train_images.shape[1] == 3


def test_frames_and_orientation_are_told(tmp_path, capsys):
    frames = [Image.fromarray(np.full((SIDE, SIDE, 3), k, dtype=np.uint8)) for k in (40, 200)]
    for name, kind in (("m.gif", "GIF"), ("m.png", "PNG"), ("m.tif", "TIFF"), ("m.webp", "WEBP")):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (read_one(tmp_path / kind, content, name) == 40).all()
        assert told(capsys) == ["set: images with several frames, of which the first was read: 1"]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(np.repeat(COLOUR[:1], SIDE, axis=0), "PNG", exif=exif)
    assert (read_one(tmp_path / "turned", turned, ".png") == COLOUR[:1].transpose(2, 0, 1)).all()
    assert told(capsys) == ["set: images whose orientation, in their EXIF data, was not applied: 1"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF"])
def test_truncated_images_are_refused_by_name(tmp_path, kind):
    content = encoded(np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8), kind)
    base = files((40, 40, 3))
    for k, length in enumerate((0, 10, len(content) // 2, len(content) * 19 // 20)):
        folder = write(tmp_path / f"{k}", base | {"test/b/cut.png": content[:length]})
        message = refused(folder)
        assert "test/b/cut.png cannot be read" in message and "object at" not in message
        archive = tar(tmp_path / f"{k}.tar", [*base.items(), ("test/b/cut.png", content[:length])])
        assert "test/b/cut.png cannot be read" in refused(archive)


def test_a_damaged_header_does_not_end_an_archive(tmp_path):
    entries = list(files().items())
    archive = tar(tmp_path / "set.tar", entries)
    content, place = bytearray(archive.read_bytes()), entries[2][0].encode()
    # The first letter of the third name, which the checksum of the header covers.
    content[content.index(place)] ^= 1
    archive.write_bytes(content)
    with tarfile.open(archive) as lenient:
        assert len(lenient.getnames()) == 2
    assert "set.tar is damaged" in refused(archive)
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as compressed:
        compressed.fileobj.write(content)
    assert "set.tar.gz is damaged" in refused(tmp_path / "set.tar.gz")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_the_checksum_at_the_end_of_a_compressed_archive_is_read(tmp_path, kind):
    """An image may change by a bit that JPEG itself does not notice: then the sum over all bytes is another one."""
    archive = tmp_path / f"set.tar.{kind}"
    with tarfile.open(archive, f"w:{kind}") as compressed:
        for name, each in files().items():
            info = tarfile.TarInfo(name)
            info.size = len(each)
            compressed.addfile(info, io.BytesIO(each))
    assert len(data.load(archive, progress=False).train_images) == 2
    content = bytearray(archive.read_bytes())
    # The sum and the length of gzip have 4 bytes each; the sum of bzip2 ends within the last byte; xz ends in a footer.
    content[-6] ^= 1
    archive.write_bytes(content)
    assert f"set.tar.{kind} is damaged" in refused(archive)


def test_a_name_does_not_make_the_format(tmp_path):
    jpeg = encoded(COLOUR, "JPEG", quality=95)
    wanted = np.asarray(Image.open(io.BytesIO(jpeg))).transpose(2, 0, 1)
    assert (read_one(tmp_path / "jpeg", jpeg, ".png") == wanted).all()
    # JPEG 2000 may have 12 bits, of which Pillow drops four.
    folder = write(tmp_path / "jp2", files() | {"train/a/x.png": encoded(COLOUR, "JPEG2000")})
    assert "not in a supported image format" in refused(folder)


def test_what_lies_in_the_layout_and_is_not_read_is_told(tmp_path, capsys):
    others = {
        "train/a/deeper/1.png": encoded(COLOUR),
        "train/1.png": encoded(COLOUR),
        "train/a/1.avif": b"",
        "test/b/notes.txt": b"",
        "train/a/Thumbs.db": b"",
        "train/a/.DS_Store": b"",
        "train/a/._0.png": b"",
        "train/.ipynb_checkpoints/0.png": encoded(COLOUR),
        "README.md": b"",
    }
    wanted = [
        "files of another type (.avif), left out: 1",
        "files of another type (.txt), left out: 1",
        "images not in train/<class>/* or test/<class>/*, left out: 2",
    ]
    folder = write(tmp_path / "set", files() | others)
    assert len(data.load(folder, progress=False).train_images) == 2
    assert sorted(told(capsys)) == [f"set: {line}" for line in wanted]
    archive = tar(tmp_path / "set.tar", [*files().items(), *others.items()])
    assert len(data.load(archive, progress=False).train_images) == 2
    assert sorted(told(capsys)) == [f"set.tar: {line}" for line in wanted]
    renamed = files()
    renamed["train/a/1.JFIF"] = encoded(COLOUR, "JPEG")
    assert len(data.load(write(tmp_path / "jfif", renamed), progress=False).train_images) == 3
    assert told(capsys) == []


def test_links_in_an_archive_are_what_they_lead_to(tmp_path, capsys):
    entries = [
        ("set/train/a/soft.png", tarfile.SYMTYPE, "later.png"),
        ("set/train/a/over.png", tarfile.SYMTYPE, "../../test/b/0.png"),
        ("set/train/a/chain.png", tarfile.SYMTYPE, "./soft.png"),
        *((f"set/{name}", content) for name, content in files().items()),
        ("set/train/a/hard.png", tarfile.LNKTYPE, "set/train/b/0.png"),
        ("./set/train/a/later.png", encoded(COLOUR)),
    ]
    path = tar(tmp_path / "links.tar", entries)
    ours = data.load(path, progress=False)
    capsys.readouterr()
    # As tar itself unpacks it.
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    theirs = data.load(tmp_path / "unpacked" / "set", progress=False)
    assert len(ours.train_images) == 7
    for name, tensor in ours.tensors().items():
        assert torch.equal(tensor, theirs.tensors()[name])


def test_links_that_lead_to_no_image_are_told(tmp_path, capsys):
    entries = [
        ("train/a/1.png", tarfile.SYMTYPE, "/etc/passwd"),
        ("train/a/2.png", tarfile.SYMTYPE, "2.png"),
        ("train/a/3.png", tarfile.LNKTYPE, "blobs/3"),
        ("train/c", tarfile.SYMTYPE, "a"),
        *files().items(),
    ]
    assert len(data.load(tar(tmp_path / "set.tar", entries), progress=False).train_images) == 2
    assert sorted(told(capsys)) == [
        "set.tar: links in the archive to no image of it, left out: extract the archive to read them: 3",
        "set.tar: links to folders in the archive, left out: extract the archive to read them: 1",
    ]


def test_links_in_a_folder_are_followed(tmp_path, capsys):
    folder = write(tmp_path / "set", files())
    (folder / "train/a/link.png").symlink_to(folder / "train/b/0.png")
    (folder / "train/a/nowhere.png").symlink_to(folder / "nothing.png")
    os.link(folder / "train/a/0.png", folder / "train/a/hard.png")
    shown = data.load(folder, progress=False)
    assert torch.equal(shown.train_images[0], shown.train_images[1])
    assert torch.equal(shown.train_images[2], shown.train_images[3])
    # The link shows a picture of b among those of a.
    assert told(capsys) == ["set: broken links, left out: 1", "set: images with two labels or more: 1"]


def test_of_a_path_that_occurs_twice_the_last_is_read(tmp_path, capsys):
    later, last = encoded(COLOUR), encoded(255 - COLOUR)
    entries = [*files().items(), ("./train/a/0.png", later), ("train/a//0.png", last)]
    # What is replaced may have another shape, a link to it is the last, and a hard link is what was there then.
    entries = [
        ("train/b/0.png", encoded(255 - COLOUR[:, ::-1])),
        ("train/b/x.png", tarfile.LNKTYPE, "train/b/0.png"),
    ] + entries
    entries.append(("test/a/y.png", tarfile.SYMTYPE, "../../train/a/0.png"))
    loaded = data.load(tar(tmp_path / "set.tar", entries), progress=False)
    train, test = loaded.train_images.numpy(), loaded.test_images.numpy()
    assert (train[0] == 255 - COLOUR.transpose(2, 0, 1)).all()
    assert (train[2] == 255 - COLOUR[:, ::-1].transpose(2, 0, 1)).all()
    assert (test[1] == train[0]).all()
    assert told(capsys) == [
        "set.tar: paths that occur twice, of which the last was read, as tar does: 3",
        "set.tar: images that are in training and in test: 1",
    ]


def test_two_sets_in_one_archive_are_told(tmp_path, capsys):
    entries = [(f"{root}/{name}", content) for root in ("old", "new") for name, content in files().items()]
    backwards = tar(tmp_path / "set.tar", reversed(entries))
    forwards = tar(tmp_path / "other.tar", entries)
    first, second = (data.load(path, progress=False) for path in (backwards, forwards))
    assert torch.equal(first.train_images, second.train_images) and len(first.train_images) == 4
    line = "folders of the archive that contain train or test, all of which were read: 2"
    assert told(capsys) == [f"set.tar: {line}", f"other.tar: {line}"]


def test_the_same_image_in_training_and_test_is_told_whenever_the_set_is_loaded(tmp_path, capsys):
    content = files()
    # In another format, too: what counts are the pixels.
    content["test/a/again.bmp"] = encoded(Image.open(io.BytesIO(content["train/a/0.png"])), "BMP")
    folder = write(tmp_path / "set", content)
    for _ in range(2):
        data.load(folder, progress=False)
        assert told(capsys) == ["set: images that are in training and in test: 1"]


@pytest.mark.parametrize("name", ["set.tar", "SET.TAR"])
def test_archive_cut_between_two_images_is_refused(tmp_path, name):
    path = tar(tmp_path / name, files(n_each=3).items())
    # A header and the padded content of each.
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[-1].offset
    path.write_bytes(path.read_bytes()[:cut])
    assert "its end is missing" in refused(path)


def test_image_that_cannot_be_opened_is_refused_in_one_line(tmp_path, monkeypatch):
    folder, own = write(tmp_path / "set", files()), type(tmp_path).open

    def locked(path, *args, **kwargs):
        if path.name == "0.png" and "test" in path.parts:
            raise PermissionError(13, "Permission denied")
        return own(path, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), "open", locked)
    assert "test/a/0.png cannot be read: Permission denied" in refused(folder)


def test_what_pillow_warns_of_is_told(tmp_path, capsys, monkeypatch):
    own = Image.Image.convert

    def warned(self, *args, **kwargs):
        warnings.warn("strange\ndata", UserWarning, stacklevel=2)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "convert", warned)
    data.load(write(tmp_path / "set", files()), progress=False)
    assert told(capsys) == ["set: images that made Pillow warn (strange data): 4"]


def test_every_name_that_is_read_is_of_a_format_that_is(tmp_path):
    formats = Image.registered_extensions()
    from nets.data._pixels import FORMATS

    assert {formats[suffix] for suffix in _members.SUFFIXES} <= {*FORMATS}
