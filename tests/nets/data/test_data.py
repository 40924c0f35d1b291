"""Data sets: crops against a reference image by image, archives against folders, the cache, and what is refused."""

import io
import os
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from PIL import Image

from nets import data
from nets.data import _image_folder, _members
from nets.data._augmentation import augment, draw_shifts

N_EACH, SIDE = 3, 5


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "enresnet"


def pictures(classes=("cat", "dog"), side=SIDE, suffix=".png", mode="RGB"):
    """{place in the layout: bytes of a file} of random pictures."""
    rng = np.random.default_rng(0)
    made = {}
    for part in ("train", "test"):
        for label in classes:
            for i in range(N_EACH):
                shape = (side, side, 3) if mode == "RGB" else (side, side)
                file = io.BytesIO()
                picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
                picture.save(file, {".png": "PNG", ".jpg": "JPEG"}[suffix])
                made[f"{part}/{label}/{i:04d}{suffix}"] = file.getvalue()
    return made


def write_folder(folder, files):
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)
    return folder


def write_tar(path, files, *, members=()):
    with tarfile.open(path, "w:" + {".xz": "xz", ".gz": "gz", ".tgz": "gz"}.get(path.suffix, "")) as archive:
        for place, content in files.items():
            info = tarfile.TarInfo(place)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def refused(name):
    """The one line with which a data set is refused."""
    with pytest.raises(ValueError) as error:
        data.load(name, progress=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True))


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crops_and_reflections_are_those_of_torchvision_image_by_image(padding):
    functional = pytest.importorskip("torchvision").transforms.functional
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 9, 7), dtype=torch.uint8, generator=generator)
    shifts = draw_shifts(64, padding=padding, generator=generator)
    ours = augment(images, shifts)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    for i, image in enumerate(images):
        padded = functional.pad(image, padding)
        wanted = functional.crop(padded, shifts.rows[i].item(), shifts.columns[i].item(), 9, 7)
        assert torch.equal(ours[i], functional.hflip(wanted) if shifts.mirrored[i] else wanted)


def test_what_is_drawn_is_uniform_and_independent():
    # Pearson's chi-squared over the 5 x 5 x 2 outcomes: false alarm 1e-4 for a correct sampler; the seed is fixed.
    shifts = draw_shifts(20000, padding=2, generator=torch.Generator().manual_seed(0))
    cell = (shifts.rows * 5 + shifts.columns) * 2 + shifts.mirrored
    counts = torch.bincount(cell, minlength=50).numpy()
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
    # Neighbours in a batch do not share a draw: of 20000 pairs a 50th agrees, five standard deviations are 99.
    assert abs((cell[1:] == cell[:-1]).sum().item() - 400) < 99


def test_without_flip_nothing_is_reflected_and_parts_of_shifts_are_those_of_the_whole():
    shifts = draw_shifts(100, flip=False, generator=torch.Generator().manual_seed(0))
    assert not shifts.mirrored.any()
    images = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(augment(images, shifts)[10:20], augment(images[10:20], shifts.at(slice(10, 20))))
    with pytest.raises(ValueError, match="padding must be an integer >= 0"):
        draw_shifts(1, padding=-1)


def test_split_is_a_partition_set_by_the_seed():
    training, validation = data.split(50000, 0.1, seed=3)
    assert (len(training), len(validation)) == (45000, 5000)
    assert torch.equal(torch.cat([training, validation]).sort().values, torch.arange(50000))
    assert torch.equal(training, data.split(50000, 0.1, seed=3)[0])
    assert not torch.equal(training, data.split(50000, 0.1, seed=4)[0])
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got 1.0"):
        data.split(10, 1.0, seed=0)


def test_digits_are_those_of_scikit_learn_in_the_unit_interval():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    ours = data.load("digits")
    assert (len(ours.train_images), len(ours.test_images), ours.classes) == (1437, 360, tuple("0123456789"))
    images = torch.cat([ours.train_images, ours.test_images])
    labels = torch.cat([ours.train_labels, ours.test_labels])
    x, y = data.Batches(images, labels, ours.white).take(slice(None))
    assert (x.min(), x.max(), x.dtype) == (0, 1, torch.float32)
    # The same images, in another order.
    rows = {(label, tuple(image)) for label, image in zip(digits.target, digits.data / 16, strict=True)}
    assert {
        (label, tuple(image)) for label, image in zip(y.tolist(), x.flatten(1).double().tolist(), strict=True)
    } == rows
    # Every class is in both parts, within five standard deviations of its share: 36 of 360.
    assert torch.bincount(ours.test_labels).sub(36).abs().max() < 5 * 36**0.5


def test_statistics_are_those_of_the_training_images(tmp_path):
    ours = data.load(write_folder(tmp_path / "set", pictures()))
    pixels = ours.train_images.double() / 255
    mean, std = ours.statistics()
    # Sums of 300 numbers in double precision.
    assert np.allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-13)
    assert np.allclose(std, pixels.std((0, 2, 3), correction=0), rtol=1e-13)


@pytest.mark.parametrize("suffix", [".tar", ".tar.xz", ".tar.gz", ".tgz"])
def test_archive_is_read_like_the_folder_in_whatever_order(tmp_path, suffix):
    files = pictures()
    folder = data.load(write_folder(tmp_path / "set", files))
    backwards = dict(reversed(files.items())) | {"train/cat/notes.txt": b"no image", "README": b"", "train/x.png": b""}
    inside = {f"./some/where/{place}": content for place, content in backwards.items()}
    ours = data.load(write_tar(tmp_path / f"set{suffix}", inside))
    assert same(ours, folder)
    assert (ours.classes, ours.encoding, ours.name) == (("cat", "dog"), "PNG", f"set{suffix}")
    wanted = np.asarray(Image.open(io.BytesIO(files["train/dog/0001.png"])))
    assert np.array_equal(ours.train_images[N_EACH + 1].permute(1, 2, 0), wanted)
    assert ours.train_labels.tolist() == [0] * N_EACH + [1] * N_EACH


def test_encoding_and_shape_are_recorded_for_provenance(tmp_path):
    files = pictures(suffix=".jpg", mode="L")
    said = data.load(write_folder(tmp_path / "set", files)).provenance()
    assert said["encoding"] == "JPEG"
    assert (said["shape"], said["n_train"], said["n_classes"]) == ([1, SIDE, SIDE], 2 * N_EACH, 2)
    other = files | {"train/cat/0000.jpg": files["train/cat/0001.jpg"]}
    assert data.load(write_folder(tmp_path / "other", other)).provenance()["digest"] != said["digest"]


def test_nothing_in_an_archive_is_extracted(tmp_path, monkeypatch):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    files = pictures()
    evil = {f"../../train/cat/{name}.png": files["train/cat/0000.png"] for name in ("a", "b")}
    link = tarfile.TarInfo("train/cat/link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    absolute = {"/train/dog/c.png": files["train/dog/0000.png"]}
    path = write_tar(tmp_path / "evil.tar", files | evil | absolute, members=[link])
    before = {*tmp_path.rglob("*.png")}
    ours = data.load(path)
    assert {*tmp_path.rglob("*.png")} == before
    assert not list(place.iterdir())
    # Their pictures count, by class; a link to what is no image does not.
    assert torch.bincount(ours.train_labels).tolist() == [N_EACH + 2, N_EACH + 1]


def test_set_is_decoded_once_and_again_when_its_source_changes(tmp_path, monkeypatch, cache):
    path = write_tar(tmp_path / "set.tar", pictures())
    first = data.load(path)
    (kept,) = cache.iterdir()

    def refuse(*args, **kwargs):
        raise AssertionError("the archive was read again")

    with monkeypatch.context() as patch:
        patch.setattr("nets.data._datasets.read_images", refuse)
        again = data.load(path)
        assert same(again, first)
        assert (again.classes, again.encoding) == (first.classes, first.encoding)
        os.utime(path, ns=(1, 1))
        with pytest.raises(AssertionError, match="read again"):
            data.load(path)
    write_tar(path, pictures(side=SIDE + 1))
    assert data.load(path).train_images.shape[2:] == (SIDE + 1, SIDE + 1)
    assert kept in cache.iterdir()


def test_change_in_a_folder_is_noticed(tmp_path):
    folder = write_folder(tmp_path / "set", pictures())
    before = data.load(folder)
    (folder / "train/cat/0000.png").write_bytes((folder / "train/cat/0001.png").read_bytes())
    after = data.load(folder)
    assert torch.equal(after.train_images[0], before.train_images[1])


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b[:-3] + bytes([b[-3] ^ 1]) + b[-2:]])
def test_damaged_cache_is_made_again(tmp_path, cache, capsys, damage):
    path = write_tar(tmp_path / "set.tar", pictures())
    first = data.load(path)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert same(data.load(path), first)
    assert "recomputing it" in capsys.readouterr().err
    assert [*cache.iterdir()] == [kept]
    assert same(data.load(path), first)
    assert capsys.readouterr().err == ""


def test_set_is_read_where_nothing_can_be_kept(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(data.load(write_tar(tmp_path / "set.tar", pictures())).train_images) == 2 * N_EACH
    assert "cannot be cached" in capsys.readouterr().err


def test_source_that_is_not_there_or_no_archive_is_refused(tmp_path):
    for name in ("cifar11", tmp_path / "nothing.tar", __file__):
        assert "data must be digits, cifar10, cifar100, a folder, or" in refused(name)
    path = tmp_path / "no.tar.xz"
    path.write_bytes(b"no archive at all")
    assert "is damaged, or not a tar archive" in refused(path)


@pytest.mark.parametrize("suffix", [".tar.xz", ".tar.gz", ".tar"])
def test_truncated_archive_is_refused(tmp_path, suffix):
    path = write_tar(tmp_path / f"set{suffix}", pictures())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is damaged" in refused(path)


def test_images_that_do_not_belong_together_are_refused(tmp_path):
    files = pictures()
    bad = {
        "shape": ({"train/dog/0001.png": pictures(side=6)["train/dog/0001.png"]}, "must be of one shape"),
        "cut": ({"train/dog/0001.png": files["train/dog/0001.png"][:50]}, "train/dog/0001.png cannot be read"),
        "text": ({"test/dog/0001.png": b"hello"}, "test/dog/0001.png cannot be read"),
        "class": ({"test/bird/0.png": files["test/dog/0001.png"]}, "the same classes, bird is in only one"),
    }
    for name, (change, message) in bad.items():
        assert message in refused(write_tar(tmp_path / f"{name}.tar", files | change))
    train_only = {place: content for place, content in files.items() if place.startswith("train")}
    assert "contains no images test/<class>/*" in refused(write_folder(tmp_path / "train-only", train_only))
    assert "at least 2 classes, got only" in refused(write_folder(tmp_path / "one", pictures(classes=["cat"])))
    assert "the limit is 512 per side" in refused(write_folder(tmp_path / "large", pictures(side=513)))


def test_absurd_sizes_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "set.tar", pictures())
    with monkeypatch.context() as patch:
        patch.setattr(_members, "MAX_FILE", 10)
        assert "bytes, more than" in refused(path)
    monkeypatch.setattr(_image_folder, "MAX_TOTAL", 100)
    assert "pixels, the limit" in refused(path)


def test_without_a_network_cifar_is_refused_with_the_remedy(monkeypatch):
    datasets = pytest.importorskip("torchvision").datasets

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(datasets, "CIFAR10", no_network)
    message = refused("cifar10")
    assert "could not be downloaded" in message
    assert "--data digits" in message


def test_download_is_kept_as_bytes(monkeypatch, cache):
    datasets = pytest.importorskip("torchvision").datasets
    rng = np.random.default_rng(0)
    parts = {part: rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for part, n in ((True, 6), (False, 4))}

    class Downloaded:
        classes = ("a", "b")

        def __init__(self, root, *, train, download):
            assert download
            assert Path(root).is_relative_to(cache)
            self.data, self.targets = parts[train], [i % 2 for i in range(len(parts[train]))]

    monkeypatch.setattr(datasets, "CIFAR100", Downloaded)
    first = data.load("cifar100")
    assert np.array_equal(first.train_images.permute(0, 2, 3, 1), parts[True])
    assert (first.test_labels.tolist(), first.encoding) == ([0, 1, 0, 1], "raw")
    monkeypatch.delattr(datasets, "CIFAR100")
    assert same(data.load("cifar100"), first)
