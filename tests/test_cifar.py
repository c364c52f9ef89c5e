import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.data import cifar, sets, sources
from ganlib.data import loading as data
from ganlib.data.loading import load
from helpers import ROOT, serve

SHARED = ROOT / os.environ.get("GANLIB_DATA", "no such folder")
N = 20  # pictures a batch, where the real ones have 10,000
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}


@pytest.fixture(autouse=True)
def small_batches(root, monkeypatch):
    monkeypatch.setattr(cifar, "PER_BATCH", N)


# --- Makers, written from the published description and not with the code under test -----------------------


def batch(name):
    """(pixels uint8 [N, 3072], labels) of a batch: noise, in which every class occurs twice."""
    rng = np.random.default_rng(sum(name.encode()))
    return rng.integers(0, 256, (N, 3072), np.uint8), rng.permutation(np.arange(N) % 10).tolist()


def text(value):
    """A string as Python 2 pickled it."""
    value = value.encode()
    return b"U" + bytes([len(value)]) + value


def python2_pickle(pixels, labels):
    """What Python 2 and its numpy wrote: opcode for opcode the structure of the published batches."""
    number = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1])
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    order = b"\x88" if pixels.flags.f_contiguous and not pixels.flags.c_contiguous else b"\x89"
    contents = pixels.tobytes(order="A")
    state = b"(K\1" + number + b"\x86" + kind + order + b"T" + struct.pack("<i", len(contents)) + contents + b"tb"
    items = text("batch_label") + text("training batch 1 of 5")
    items += text("labels") + b"](" + b"".join(b"K" + bytes([k]) for k in labels) + b"e" + text("data") + array + state
    return b"\x80\x02}(" + items + b"u."


def binary(pixels, labels):
    return b"".join(bytes([k]) + x.tobytes() for x, k in zip(pixels, labels, strict=True))


def published(kind, split=None):
    """{name: bytes} of the files of a split, or of both, as they lie in the folder."""
    write, ending = {"py": (python2_pickle, ""), "bin": (binary, ".bin")}[kind]
    names = BATCHES[split] if split else BATCHES["train"] + BATCHES["test"]
    return {name + ending: write(*batch(name)) for name in names}


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tar(files, top):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {"readme.html": b"<html>", **files}.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def put_archive(folder, kind, files=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / {"py": "cifar-10-python.tar.gz", "bin": "cifar-10-binary.tar.gz"}[kind]
    path.write_bytes(tar(published(kind) if files is None else files, f"cifar-10-batches-{kind}"))
    return path


def put_pictures(folder, names=NAMES):
    for split, n in (("train", 4), ("test", 2)):
        for c, name in enumerate(names):
            for k in range(n):
                path = folder / split / name / f"{k:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (c, k, n)).save(path)
    return folder


def check(split, where, **options):
    """The split is found there, with the pictures and labels of its batches."""
    images = load("cifar10", split=split, download=False, **options)
    pixels, labels = zip(*(batch(name) for name in BATCHES[split]), strict=True)
    assert np.array_equal(images.pixels, np.concatenate(pixels).reshape(-1, 3, 32, 32))
    assert images.labels.tolist() == sum(labels, []) and list(images.classes) == NAMES
    count = f"{len(BATCHES[split]) * N} {'' if split == 'train' else 'test '}pictures"
    assert images.source == f"CIFAR-10 · {count} · {where}"
    assert images.split == split and images.name == "cifar10"
    return images


# --- Every rung ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "cifar10", "CIFAR10"])
@pytest.mark.parametrize("kind", ["py", "bin"])
def test_unpacked_batches(root, below, kind):
    put(root / below / f"cifar-10-batches-{kind}", published(kind))
    for split in ("train", "test"):
        check(split, f"your copy ({Path(below, f'cifar-10-batches-{kind}').as_posix()})")


@pytest.mark.parametrize("below", ["", "cifar10"])
@pytest.mark.parametrize("kind", ["py", "bin"])
def test_archives_as_published(root, tmp_path, below, kind):
    path = put_archive(root / below, kind)
    before = sorted(tmp_path.rglob("*"))
    for split in ("train", "test"):
        check(split, f"your copy ({path.relative_to(root).as_posix()})")
    made = {file.name for file in set(tmp_path.rglob("*")) - set(before)}
    assert made == {"cache", "cifar10-train-32-3", "cifar10-test-32-3", "pixels.npy", "about.json"}  # not unpacked


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_in_class_folders(root, packed):
    put_pictures(root / "cifar10")
    if packed:
        with tarfile.open(root / "cifar10.tar.xz", "w:xz") as archive:
            for split in ("train", "test"):
                archive.add(root / "cifar10" / split, split)
        shutil.rmtree(root / "cifar10")
    for split, n in (("train", 4), ("test", 2)):
        images = load("CIFAR-10", split=split, download=False)
        assert images.pixels[:, 0, 9, 9].tolist() == images.labels.tolist() == sorted(list(range(10)) * n)
        assert list(images.classes) == NAMES and images.split == split and (images.pixels[:, 2] == n).all()
        assert images.source.endswith(f"pictures · your copy (cifar10{'.tar.xz' * packed})")


def test_other_class_names_are_the_folders_own(root):
    put_pictures(root / "cifar10", names=["car", "plane"])
    assert load("cifar10", download=False).classes == ("car", "plane")


def test_the_order_of_the_rungs(root, monkeypatch):
    put_pictures(root / "cifar10")
    put_archive(root, "bin")
    put_archive(root, "py")
    put(root / "cifar-10-batches-bin", published("bin"))
    put(root / "CIFAR10" / "cifar-10-batches-py", published("py"))
    for where in (
        "CIFAR10/cifar-10-batches-py",
        "cifar-10-batches-bin",
        "cifar-10-python.tar.gz",
        "cifar-10-binary.tar.gz",
    ):
        check("train", f"your copy ({where})")
        path = root / where
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert load("cifar10", download=False).source == "CIFAR-10 · 40 pictures · your copy (cifar10)"
    shutil.rmtree(root / "cifar10")
    monkeypatch.setattr(sources, "fetch", lambda *a: pytest.fail("asked the network"))
    assert load("cifar10").source == "CIFAR-10 · 40 pictures · your copy (cifar10)"  # prepared earlier


@pytest.mark.parametrize("name", ["cifar10", "CIFAR10", "CIFAR-10", "cifar_10", "cifar-10"])
def test_names_may_be_written_otherwise(root, name):
    put(root / "cifar-10-batches-bin", published("bin"))
    assert load(name).name == "cifar10"


def test_sizes_and_channels(root):
    put(root / "cifar-10-batches-bin", published("bin"))
    small = load("cifar10", image_size=16, channels=1)
    assert small.pixels.shape == (100, 1, 16, 16) and small.source.endswith("shrunk from 32×32 to 16×16")
    assert load("cifar10", image_size=64).source.endswith("upscaled from 32×32 to 64×64")


@pytest.mark.parametrize("rung", ["py", "bin", "pictures", "stand-in"])
def test_subsets(root, rung):
    if rung == "pictures":
        put_pictures(root / "cifar10")
    elif rung != "stand-in":
        put(root / f"cifar-10-batches-{rung}", published(rung))
    images = load("cifar10", n=20, download=False)
    assert torch.bincount(images.labels).tolist() == [2] * 10
    every = load("cifar10", split="test", download=False)
    some = every.of_class(every.classes[3])
    assert 0 < len(some) < len(every) and (some.labels == 3).all() and some.split == "test"
    assert torch.equal(some.pixels, every.pixels[every.labels == 3]) and torch.equal(
        some.pixels, every.of_class(3).pixels
    )
    assert some.source == f"class {every.classes[3]} of {every.source}" and some.take(1).split == "test"
    if rung != "stand-in":
        with pytest.raises(ValueError, match="no class 'lion'; it has: 0 airplane, 1 automobile, .*9 truck"):
            images.of_class("lion")


def test_pictures_without_class_folders_have_no_labels(root):
    (root / "cifar10").mkdir()
    Image.new("RGB", (32, 32)).save(root / "cifar10" / "a.png")
    with pytest.raises(ValueError, match="'cifar10' has no labels, so no images of class 'cat'"):
        load("cifar10").of_class("cat")


# --- The stand-in --------------------------------------------------------------------------------------------


def test_the_stand_in_is_loudly_not_cifar(root, capsys):
    for split, count in (("train", "200 generated"), ("test", "200 test generated")):
        for _ in range(2):  # the second time it is kept, and said all the same
            images = load("cifar10", split=split, download=False)
            assert images.source == f"CIFAR-10 · {count} shapes, NOT CIFAR-10 · offline stand-in"
            assert "generated shapes, NOT CIFAR-10" in (said := capsys.readouterr().out) and "data/README.md" in said
        assert images.pixels.shape == (200, 3, 32, 32) and len(images.classes) == 10 and "cat" not in images.classes
        assert torch.bincount(images.labels).tolist() == [20] * 10 and images.split == split
    assert not torch.equal(images.pixels, load("cifar10", download=False).pixels)
    put(root / "cifar-10-batches-bin", published("bin"))
    check("train", "your copy (cifar-10-batches-bin)")  # and never in the way of the real ones


# --- Damage --------------------------------------------------------------------------------------------------


def passed_over(capsys, *sentences, split="train"):
    images = load("cifar10", split=split, download=False)
    said = capsys.readouterr().out
    assert "NOT CIFAR-10" in images.source and "Looking further" in said and "see data/README.md" in said
    for sentence in sentences:
        assert sentence in said


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: b"\n<!DOCTYPE html><html>Log in</html>", "it is a web page"),
        (lambda content: content + bytes(70_000), "it is larger than 122,920 bytes"),
        (lambda content: b"", "data_batch_2"),
    ],
)
@pytest.mark.parametrize("kind", ["py", "bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_batch_is_named_and_passed_over(root, capsys, kind, packed, damage, why):
    files = published(kind)
    name = "data_batch_2" + ".bin" * (kind == "bin")
    files[name] = damage(files[name])
    put_archive(root, kind, files) if packed else put(root / f"cifar-10-batches-{kind}", files)
    where = root / (
        f"cifar-10-{'python' if kind == 'py' else 'binary'}.tar.gz" if packed else f"cifar-10-batches-{kind}"
    )
    passed_over(capsys, f"'{name}' in '{where}' is no batch of CIFAR-10 (", why)
    place = where.name if packed else f"cifar-10-batches-{kind}"
    check("test", f"your copy ({place})")  # the other split is whole


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "test_batch.bin",
            lambda x, y: binary(x, y)[:-100],
            "its 61,360 bytes are no whole number of records of 3,073",
        ),
        ("test_batch.bin", lambda x, y: binary(x[1:], y[1:]), "it holds 19 pictures and 19 labels, not 20"),
        ("test_batch.bin", lambda x, y: binary(x, [10, *y[1:]]), "its labels are not all from 0 to 9"),
        ("test_batch", lambda x, y: python2_pickle(x, y)[:-100], "pickle data was truncated"),
        ("test_batch", lambda x, y: python2_pickle(x[1:], y[1:]), "it holds 19 pictures and 19 labels, not 20"),
        ("test_batch", lambda x, y: python2_pickle(x, y[1:]), "it holds 20 pictures and 19 labels, not 20"),
        ("test_batch", lambda x, y: python2_pickle(x, [10, *y[1:]]), "its labels are not all from 0 to 9"),
        ("test_batch", lambda x, y: python2_pickle(x[:, 1:], y), "its array is 20×3071"),
        ("test_batch", lambda x, y: pickle.dumps({"data": x, "labels": y}, 2), "_codecs.encode"),
        ("test_batch", lambda x, y: pickle.dumps({"data": x.view(np.int16), "labels": y}, 4), "no array of bytes"),
        ("test_batch", lambda x, y: pickle.dumps({"data": x}, 4), "its pickle holds no labels"),
        ("test_batch", lambda x, y: pickle.dumps({"labels": y}), "its pickle holds no array of bytes"),
        ("test_batch", lambda x, y: pickle.dumps([1, 2]), "its pickle holds no array of bytes"),
        ("test_batch", lambda x, y: b"no pickle", "no batch of CIFAR-10"),
    ],
)
def test_a_batch_of_the_wrong_kind(tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(content(*batch("test_batch")))
    with pytest.raises(
        ValueError, match=r"'test_batch(.bin)?' in .* is no batch of CIFAR-10 \(.*\); get it again"
    ) as e:
        cifar.read_cifar([path], "test")
    assert why in str(e.value)


def test_a_missing_batch_is_named(root, capsys):
    files = published("py", "train")
    del files["data_batch_4"]
    put(root / "cifar-10-batches-py", files)
    put_archive(root, "py", files)
    passed_over(
        capsys,
        f"'data_batch_4' in '{root / 'cifar-10-batches-py'}' cannot be read: it is missing",
        f"'cifar-10-python.tar.gz' in '{root}' lacks data_batch_4",
    )


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-3000], "cannot be read to its end ("),
        (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "cannot be read to its end (CRC check failed"),
        (lambda content: b"<html>Quota exceeded</html>", "is a web page, not an archive"),
        (lambda content: b"", "cannot be read to its end ("),
        (lambda content: gzip.compress(b"no archive" * 100), "cannot be read to its end ("),
    ],
)
def test_a_damaged_archive_is_named_and_passed_over(root, capsys, damage, why):
    path = put_archive(root, "bin")
    path.write_bytes(damage(path.read_bytes()))
    passed_over(capsys, f"'cifar-10-binary.tar.gz' in '{root}' {why}")


def test_links_in_an_archive_are_not_followed(root, tmp_path, capsys):
    secret = put(tmp_path / "elsewhere", published("bin", "test")) / "test_batch.bin"
    with tarfile.open(root / "cifar-10-binary.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(member)
    passed_over(capsys, "lacks test_batch", split="test")


# --- Pickles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_columns", [False, True])
def test_the_pickles_of_these_tests_are_what_torchvision_reads(tmp_path, by_columns):
    pixels, labels = batch("test_batch")
    path = tmp_path / "test_batch"
    path.write_bytes(python2_pickle(np.asfortranarray(pixels) if by_columns else pixels, labels))
    theirs = pickle.loads(path.read_bytes(), encoding="latin1")  # as torchvision does; made by this test
    assert np.array_equal(theirs["data"], pixels) and theirs["labels"] == labels
    ours = cifar.read_cifar([path], "test")
    assert np.array_equal(ours[0].reshape(N, -1), pixels) and ours[1].tolist() == labels


def test_pickles_of_this_python_are_read_as_well(tmp_path):
    pixels, labels = batch("test_batch")
    for protocol in (3, 4):
        (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol))
        ours = cifar.read_cifar([tmp_path / "test_batch"], "test")
        assert np.array_equal(ours[0].reshape(N, -1), pixels) and ours[1].tolist() == labels


class Exploit:
    """Unpickled, it calls a function; in a batch, next to pictures that look right."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_that_would_run_code_is_refused(root, tmp_path, capsys, protocol, packed):
    mark = tmp_path / "mark"
    pixels, labels = batch("test_batch")
    attack = pickle.dumps({"x": Exploit(os.mkdir, str(mark)), "data": pixels, "labels": labels}, protocol)
    pickle.loads(attack)
    assert mark.is_dir()  # it works
    mark.rmdir()
    files = {"test_batch": attack}
    put_archive(root, "py", files) if packed else put(root / "cifar-10-batches-py", files)
    passed_over(capsys, f"it asks for {os.mkdir.__module__}.mkdir", "may do harm, so it was not run", split="test")
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    ["os system", "builtins eval", "builtins getattr", "numpy load", "numpy.core.multiarray scalar"],
)
@pytest.mark.parametrize("opcode", ["global", "stack global", "instance"])
def test_everything_but_arrays_is_refused(tmp_path, target, opcode):
    module, name = (part.encode() for part in target.split())
    short = [b"\x8c" + bytes([len(part)]) + part for part in (module, name)]
    path = tmp_path / "test_batch"
    path.write_bytes(
        {
            "global": b"\x80\x02c" + module + b"\n" + name + b"\n.",
            "stack global": b"\x80\x04" + short[0] + short[1] + b"\x93.",
            "instance": b"(i" + module + b"\n" + name + b"\n.",
        }[opcode]
    )
    with pytest.raises(ValueError, match=f"it asks for {target.replace(' ', '.')}, which pictures do not need"):
        cifar.read_cifar([path], "test")


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x02cnumpy\nndarray\nK\0\x85\x81.",  # an array without a state
        b"\x80\x02cnumpy\nndarray\n}U\1xK\1sb.",  # the state of the class itself
        b"\x80\x02cnumpy\ndtype\n(U\1Otb.",
        b"\x80\x02}U\4datacnumpy\nndarray\n)R(K\1K\1K\1tbs.",  # a state of another shape
        b"\x80\x02PU\1x.",  # a persistent id
        b"\x80\x02K\1" * 3,
        b".",
    ],
)
def test_odd_pickles_are_refused(tmp_path, attack):
    (tmp_path / "test_batch").write_bytes(attack)
    with pytest.raises(ValueError, match="is no batch of CIFAR-10"):
        cifar.read_cifar([tmp_path / "test_batch"], "test")
    assert not hasattr(cifar._Inert, "x")


# --- The download --------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of CIFAR-10 on this machine: the archive, and what was asked for."""
    path = put_archive(tmp_path / "web", "bin")
    file = (path.name, hashlib.md5(path.read_bytes()).hexdigest())
    with serve(path.parent) as (url, asked):
        recipe = replace(sets.SETS["cifar10"], files={"train": (file,), "test": (file,)}, url=url)
        monkeypatch.setitem(sets.SETS, "cifar10", recipe)
        yield path, asked


def downloaded(split):
    images = load("cifar10", split=split)
    assert images.source == f"CIFAR-10 · {100 if split == 'train' else '20 test'} pictures · downloaded"
    assert images.labels.tolist() == sum((batch(name)[1] for name in BATCHES[split]), [])


def test_one_download_serves_both_splits(mirror, capsys):
    _, asked = mirror
    for split in ("train", "test"):
        downloaded(split)
    assert len(asked) == 1 and capsys.readouterr().out.count("Downloading http://127.0.0.1") == 1


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: b"<!doctype html><html>Sign in</html>", "a web page came instead of the file"),
        (lambda content: content[:-3000], "its md5 checksum is"),
        (lambda content: content[:-1] + b"x", "its md5 checksum is"),
        (lambda content: None, "could not be downloaded: File not found"),
    ],
)
def test_a_bad_download_is_refused_and_the_ladder_goes_on(mirror, tmp_path, capsys, damage, why):
    path, asked = mirror
    whole = path.read_bytes()
    bad = damage(whole)
    path.unlink() if bad is None else path.write_bytes(bad)
    assert "NOT CIFAR-10" in load("cifar10").source
    said = capsys.readouterr().out
    assert why in said and "by hand as data/README.md says" in said and "generated shapes, NOT CIFAR-10" in said
    assert not list((tmp_path / "cache" / "downloads").rglob("*.gz"))
    assert "NOT CIFAR-10" in load("cifar10", split="test").source and len(asked) <= 2  # refused once, not asked again
    path.write_bytes(whole)
    data._refused.clear()
    downloaded("train")


def test_the_checksum_is_of_the_archive_that_is_named():
    for split in ("train", "test"):
        assert sets.SETS["cifar10"].files[split] == (("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),)


# --- The real ones -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cifar10.tar.xz").is_file(), reason="needs cifar10.tar.xz in GANLIB_DATA")
def test_real_pictures_from_an_archive():
    images = load("cifar10", root=SHARED, split="test", download=False)
    assert images.source == "CIFAR-10 · 10,000 test pictures · your copy (cifar10.tar.xz)"
    assert images.pixels.shape == (10_000, 3, 32, 32) and list(images.classes) == NAMES and not images.skipped
    assert torch.bincount(images.labels).tolist() == [1000] * 10
    assert torch.bincount(images.take(1000).labels).tolist() == [100] * 10
    # Ships and airplanes have a blue ground, deer and frogs a green or brown one.
    blue = [images.of_class(c).pixels.float().mean((0, 2, 3)) for c in ("airplane", "ship", "deer", "frog")]
    assert [bool(mean[2] > mean[0]) for mean in blue] == [True, True, False, False]
