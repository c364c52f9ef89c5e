"""Preparing goes on where a killed process stopped, and ends with the same bytes."""

import itertools
import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from makers import PAGE, idx_files, pictures, put
from PIL import Image

from ganlib.data import cache, folders
from ganlib.data.images import Batches
from ganlib.data.loading import load

N, CHUNK = 300, 16
FORK = multiprocessing.get_context("fork")  # starts in no time, and nothing but PIL and numpy is used in there


def prepare(source, entry, kind, at, chunk, pipe):
    """Prepare a folder, standing still at a chunk: before its pixels are written, before it is noted, or after."""
    folders.CHUNK, cache.log.info = chunk, pipe.send
    count, replace, square, decoded = itertools.count(1), Path.replace, folders.square, itertools.count()

    def stand():
        pipe.send("standing")
        pipe.recv()

    def noted(path, target):
        here = next(count) == at
        if here and kind == "unnoted":
            stand()
        replace(path, target)
        if here and kind == "noted":
            stand()

    Path.replace = noted
    folders.square = lambda *args, **how: next(decoded) is None or square(*args, **how)
    reading = folders.open_pictures(source, image_size=64)
    facts = {"stamp": "stamp", "skipped": reading.skipped, "real": True, "attributes": [], "classes": ["a", "b"]}
    cache.keep(entry, "stamp", reading, lambda n: facts)
    pipe.send(next(decoded))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Soft noise at CelebA's size, in folders that are classes; one in fifty is cut off, and one is a web page."""
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    for k in range(N):
        path = folder / "ab"[k % 2] / f"{k:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (11, 9, 3), np.uint8)).resize((178, 218)).save(path)
        if k % 50 == 7:
            path.write_bytes(path.read_bytes()[:2000])
    return put(folder, {"a/page.jpg": PAGE})


def start(source, entry, kind="never", at=0, chunk=CHUNK):
    """The preparing process and a pipe to it; with ``kind`` it stands still somewhere, until it gets a word."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=prepare, args=(source, entry, kind, at, chunk, theirs), daemon=True)
    process.start()
    theirs.close()
    if kind != "never":
        assert ours.recv() == "standing"
    return process, ours


def kill(process, _):
    process.kill()
    process.join()


def finish(process, pipe, word=None):
    """How many pictures a process decodes that runs to its end."""
    if word:
        pipe.send(word)
    decoded = pipe.recv()
    process.join()
    return decoded


def content(entry):
    return {path.name: path.read_bytes() for path in entry.iterdir()}


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture(scope="module")
def uninterrupted(faces, tmp_path_factory):
    """What the uninterrupted process leaves."""
    entry = tmp_path_factory.mktemp("uninterrupted") / "faces"
    assert finish(*start(faces, entry)) == N and visible(entry.parent) == ["faces"]
    return content(entry)


def test_killed_again_and_again_it_ends_the_same(faces, uninterrupted, tmp_path):
    entry = tmp_path / "faces"
    for kind, at in (("noted", 1), ("unnoted", 4), ("unnoted", 3), ("noted", 2), ("unnoted", 1)):
        kill(*start(faces, entry, kind, at))
        assert not entry.exists()
    # 1 + 3 + 2 + 2 + 0 chunks were noted; another size of chunk does not matter.
    assert finish(*start(faces, entry, chunk=50)) == N - 8 * CHUNK
    assert content(entry) == uninterrupted and visible(tmp_path) == ["faces"]
    assert len(json.loads(uninterrupted["about.json"])["skipped"]) == 7


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (cache.PIXELS, lambda raw: raw[: -CHUNK * 64 * 64 * 3 - 5]),  # shorter than was noted
        (cache.PIXELS, lambda raw: raw[:5000] + b"?" + raw[5001:]),
        (cache.KNOWN, lambda raw: b"?" + raw[1:]),
        (cache.PROGRESS, lambda raw: raw.replace(b'"stamp": "stamp"', b'"stamp": "other"')),
        (cache.PROGRESS, lambda raw: raw[:-9]),
    ],
)
def test_what_is_left_of_other_pictures_or_damaged_is_not_resumed(faces, uninterrupted, tmp_path, file, damage):
    entry, left = tmp_path / "faces", tmp_path / ".making-faces" / file
    kill(*start(faces, entry, "unnoted", 5))
    left.write_bytes(damage(left.read_bytes()))
    assert finish(*start(faces, entry)) == N and content(entry) == uninterrupted


@pytest.mark.parametrize("killed", [False, True])
def test_two_at_once_prepare_once_and_the_other_resumes_a_killed_one(faces, uninterrupted, tmp_path, killed):
    entry = tmp_path / "faces"
    first, second = start(faces, entry, "unnoted", 4), start(faces, entry)
    assert "waiting" in second[1].recv()
    if killed:
        kill(*first)
    else:
        assert finish(*first, "on") == N
    assert finish(*second) == (N - 3 * CHUNK if killed else 0)
    assert content(entry) == uninterrupted and visible(tmp_path) == ["faces"]


def test_an_error_leaves_nothing_behind(faces, tmp_path):
    reading = folders.open_pictures(faces, image_size=64)

    def full(n):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        cache.keep(tmp_path / "faces", "stamp", reading, full)
    assert visible(tmp_path) == []


def test_load_resumes_an_interrupted_load_with_attributes(faces, root, tmp_path, monkeypatch):
    place = root / "celeba" / "img_align_celeba"
    shutil.copytree(faces, place)
    names = sorted(path.name for path in place.rglob("*.jpg"))
    table = [f"{name} {k % 2 * 2 - 1:2d} {k % 3 - 1 or 1:2d}\n" for k, name in enumerate(names)]
    put(place.parent, {"list_attr_celeba.txt": f"{len(names)}\nOdd Third \n" + "".join(table)})
    monkeypatch.setattr(folders, "CHUNK", CHUNK)
    expected = load("celeba", download=False)
    shutil.rmtree(tmp_path / "cache")
    decoded, square = [], folders.square

    def counted(*args, **how):
        if len(decoded) == 90:
            raise KeyboardInterrupt
        return decoded.append(1) or square(*args, **how)

    monkeypatch.setattr(folders, "square", counted)
    with pytest.raises(KeyboardInterrupt):
        load("celeba", download=False)
    decoded[:] = [0] * 91
    images = load("celeba", download=False)
    assert len(decoded) - 91 == N - 5 * CHUNK
    assert (images.pixels == expected.pixels).all() and (images.attributes == expected.attributes).all()
    assert images.source == expected.source and images.skipped == expected.skipped and len(images.skipped) == 7
    inside = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.jpg"))
    rows = [names.index(name.rpartition("/")[2]) for name in inside if name not in images.skipped]
    assert images.attribute("Odd").tolist() == [k % 2 for k in rows]


# --- What is kept --------------------------------------------------------------------------------------------


@pytest.fixture
def entry(root, tmp_path):
    """Where MNIST is kept; a tiny copy of it lies in the data root."""
    put(root / "mnist", idx_files())
    return tmp_path / "cache" / "mnist-train-28-1"


@pytest.mark.parametrize("name", [cache.PIXELS, cache.KNOWN, "about.json"])
@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-100], lambda raw: raw[:-100] + bytes(100), lambda raw: b"{}", None]
)
def test_a_damaged_cache_is_rebuilt(entry, name, damage):
    before = load("mnist")
    (entry / name).write_bytes(damage((entry / name).read_bytes())) if damage else (entry / name).unlink()
    after = load("mnist")
    assert (before.pixels == after.pixels).all() and (before.labels == after.labels).all()
    assert cache.restore(entry, None) is not None


def test_the_cache_is_used_for_each_size_and_channel_count(entry, monkeypatch):
    shapes = [(28, 1), (32, 1), (28, 3), (14, 1)]
    before = [load("mnist", image_size=s, channels=c) for s, c in shapes]
    assert [tuple(images.pixels.shape[1:]) for images in before] == [(c, s, s) for s, c in shapes]
    assert visible(entry) == ["about.json", cache.KNOWN, cache.PIXELS] and len(visible(entry.parent)) == 4
    monkeypatch.setattr("ganlib.data.published.read_idx", lambda path: pytest.fail("read again"))
    for images, (s, c) in zip(before, shapes, strict=True):
        assert (load("mnist", image_size=s, channels=c).pixels == images.pixels).all()


def test_a_cache_that_cannot_be_written_is_no_failure(entry, root, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    images = load("mnist")
    assert images.pixels.shape == (30, 1, 28, 28) and images.labels[0] == 5
    assert images.source == "MNIST · 30 digits · your copy (mnist)"
    images = load(put(pictures(tmp_path / "pets"), {"a/bad.png": b"no picture"}))
    assert len(images) == 4 and images.labels.tolist() == [0, 0, 1, 1] and images.skipped == ("a/bad.png",)


def test_a_large_set_is_mapped_and_its_file_is_safe(entry, monkeypatch):
    monkeypatch.setattr(cache, "MAP_ABOVE", 1000)
    load("mnist")
    images, (pixels, _, _) = load("mnist"), cache.restore(entry, None)
    assert isinstance(pixels, np.memmap) and images.pixels[3, 0, 9, 9] == 7
    images.pixels[:] = 1
    assert load("mnist").pixels[3, 0, 9, 9] == 7
    assert next(Batches(images, 4)).shape == (4, 1, 28, 28)
