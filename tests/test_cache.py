"""Preparing goes on where a killed process stopped, and ends with the same bytes."""

import itertools
import json
import multiprocessing
import shutil

import numpy as np
import pytest
from makers import PAGE, idx_files, pictures, put
from PIL import Image

from ganlib.data import cache, folders
from ganlib.data.images import Batches
from ganlib.data.loading import load

N = 300
CHUNK = 16

FORK = multiprocessing.get_context("fork")  # starts in no time, and nothing but PIL and numpy is used in there


def prepare(source, entry, kind, at, chunk, pipe):
    """Prepare a folder, standing still at a line of the journal: before it, in its middle or after it."""
    folders.CHUNK, cache.log.info = chunk, pipe.send
    lines, note, square, decoded = itertools.count(1), cache._note, folders.square, itertools.count()

    def watched(journal, line):
        here = next(lines) == at
        if here and kind == "torn":
            journal.write(json.dumps(line).encode()[:50])
            journal.flush()
        if not here or kind == "after":
            note(journal, line)
        if here:
            pipe.send("standing")
            pipe.recv()
        if here and kind == "before":
            note(journal, line)

    cache._note = watched
    folders.square = lambda *args: next(decoded) is None or square(*args)
    reading = folders.open_pictures(source, image_size=64)
    facts = {"stamp": "stamp", "skipped": reading.skipped, "real": True, "attributes": []}
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
    return process, ours


def stand(*args):
    process, pipe = start(*args)
    assert pipe.recv() == "standing"
    return process, pipe


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


def journal(entry):
    """The lines of the journal that a killed process left and that count."""
    raw = (entry.with_name(f".making-{entry.name}") / cache.JOURNAL).read_bytes()
    return [json.loads(line) for line in raw.splitlines(keepends=True)[1:] if line.endswith(b"\n")]


def test_killed_again_and_again_it_ends_the_same(faces, uninterrupted, tmp_path):
    entry = tmp_path / "faces"
    for kind, at in (("after", 1), ("before", 4), ("torn", 3), ("after", 2), ("torn", 4), ("before", 1)):
        kill(*stand(faces, entry, kind, at))
        assert not entry.exists()
    lines = journal(entry)
    # A fresh journal begins with a line of its own; every process went on from what the others had noted.
    assert len(lines) == 0 + 3 + 2 + 2 + 3 + 0
    done = lines[-1]["n"] + sum(len(line["skipped"]) for line in lines)
    assert done == len(lines) * CHUNK
    assert finish(*start(faces, entry, "never", 0, 50)) == N - done  # another size of chunk does not matter
    assert content(entry) == uninterrupted and visible(tmp_path) == ["faces"]
    assert len(json.loads(uninterrupted["about.json"])["skipped"]) == 7


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("pixels.npy", lambda raw: raw[: -CHUNK * 64 * 64 * 3 - 5]),  # shorter than was noted
        ("pixels.npy", lambda raw: raw[:5000] + b"?" + raw[5001:]),
        (cache.JOURNAL, lambda raw: b'{"version": 1, "stamp": "others"}\n'),
    ],
)
def test_what_is_left_of_other_pictures_or_damaged_is_not_resumed(faces, uninterrupted, tmp_path, file, damage):
    entry, left = tmp_path / "faces", tmp_path / ".making-faces" / file
    kill(*stand(faces, entry, "before", 5))
    left.write_bytes(damage(left.read_bytes()))
    assert finish(*start(faces, entry)) == N and content(entry) == uninterrupted


def test_two_at_once_prepare_once(faces, uninterrupted, tmp_path):
    entry = tmp_path / "faces"
    first = stand(faces, entry, "before", 4)
    second = start(faces, entry)
    assert "waiting" in second[1].recv()
    assert finish(*first, "on") == N and finish(*second) == 0
    assert content(entry) == uninterrupted and visible(tmp_path) == ["faces"]


def test_the_killed_one_of_two_is_resumed_by_the_other(faces, uninterrupted, tmp_path):
    entry = tmp_path / "faces"
    first = stand(faces, entry, "before", 4)
    second = start(faces, entry)
    assert "waiting" in second[1].recv()
    kill(*first)
    assert finish(*second) == N - 2 * CHUNK and content(entry) == uninterrupted


def test_an_error_leaves_nothing_behind_and_an_interruption_everything(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "CHUNK", CHUNK)
    entry = tmp_path / "faces"

    def failing(error):
        reading = folders.open_pictures(faces, image_size=64)
        really = reading.chunks

        def chunks(start=0):
            yield next(really(start))
            raise error

        object.__setattr__(reading, "chunks", chunks)
        with pytest.raises(type(error)):
            cache.keep(entry, "stamp", reading, lambda n: {})

    failing(KeyboardInterrupt())
    failing(KeyboardInterrupt())
    assert len(journal(entry)) == 2
    failing(OSError(28, "No space left on device"))
    assert visible(tmp_path) == []


def test_load_resumes_a_killed_load_with_attributes(faces, root, tmp_path, monkeypatch):
    place = root / "celeba" / "img_align_celeba"
    shutil.copytree(faces, place)
    names = sorted(path.name for path in place.rglob("*.jpg"))
    table = [f"{name} {k % 2 * 2 - 1:2d} {k % 3 - 1 or 1:2d}\n" for k, name in enumerate(names)]
    put(place.parent, {"list_attr_celeba.txt": f"{len(names)}\nOdd Third \n" + "".join(table)})
    monkeypatch.setattr(folders, "CHUNK", CHUNK)
    expected = load("celeba", download=False)
    shutil.rmtree(tmp_path / "cache")
    note, lines = cache._note, []

    def killed(journal, line):
        lines.append(note(journal, line))
        if len(lines) == 6:
            raise KeyboardInterrupt  # what is on the disk then is what a kill leaves

    monkeypatch.setattr(cache, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        load("celeba", download=False)
    monkeypatch.setattr(cache, "_note", note)
    decoded, square = [], folders.square
    monkeypatch.setattr(folders, "square", lambda *args: decoded.append(1) or square(*args))
    images = load("celeba", download=False)
    assert len(decoded) == N - 5 * CHUNK
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda e: (e / "pixels.npy").write_bytes((e / "pixels.npy").read_bytes()[:-100]),
        lambda e: (e / "pixels.npy").write_bytes((e / "pixels.npy").read_bytes()[:-100] + bytes(100)),
        lambda e: (e / "pixels.npy").write_bytes(b""),
        lambda e: (e / "pixels.npy").unlink(),
        lambda e: np.save(e / "pixels.npy", np.zeros((30, 1, 28, 28))),
        lambda e: np.save(e / "pixels.npy", np.array([{"code": "could run"}]), allow_pickle=True),
        lambda e: np.save(e / "known.npy", np.array([{"code": "could run"}]), allow_pickle=True),
        lambda e: (e / "known.npy").unlink(),
        lambda e: (e / "about.json").write_text("{"),
        lambda e: (e / "about.json").write_text("[]"),
        lambda e: (e / "about.json").write_text("{}"),
        lambda e: shutil.rmtree(e),
    ],
)
def test_a_damaged_cache_is_rebuilt(entry, damage):
    before = load("mnist")
    damage(entry)
    after = load("mnist")
    assert (before.pixels == after.pixels).all() and (before.labels == after.labels).all()
    assert cache.restore(entry, None) is not None


def test_the_cache_is_used(entry, tmp_path, monkeypatch):
    before = load("mnist")
    monkeypatch.setattr("ganlib.data.published.read_idx", lambda path: pytest.fail("read again"))
    assert (load("mnist").pixels == before.pixels).all()
    assert visible(entry) == ["about.json", "known.npy", "pixels.npy"] and visible(entry.parent) == [entry.name]


def test_sizes_and_channels_are_kept_apart(entry):
    shapes = [(28, 1), (32, 1), (28, 3), (14, 1)] * 2
    found = [tuple(load("mnist", image_size=s, channels=c).pixels.shape[1:]) for s, c in shapes]
    assert found == [(c, s, s) for s, c in shapes]


def test_a_cache_that_cannot_be_written_is_no_failure(entry, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    images = load("mnist")
    assert images.pixels.shape == (30, 1, 28, 28) and images.labels[0] == 5
    assert images.source == "MNIST · 30 digits · your copy (mnist)"


def test_a_full_disk_is_no_failure(root, tmp_path, monkeypatch):
    def full(entry, stamp, reading, about):
        next(reading.chunks())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "keep", full)
    images = load(put(pictures(tmp_path / "pets"), {"a/bad.png": b"no picture"}))
    assert len(images) == 4 and images.labels.tolist() == [0, 0, 1, 1] and images.skipped == ("a/bad.png",)


def test_a_large_set_is_mapped_and_its_file_is_safe(entry, monkeypatch):
    monkeypatch.setattr(cache, "MAP_ABOVE", 1000)
    load("mnist")
    mapped, really = [], np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: mapped.append(k.get("mmap_mode")) or really(*a, **k))
    images = load("mnist")
    assert mapped[0] == "c" and images.pixels[3, 0, 9, 9] == 7
    images.pixels[:] = 1
    assert load("mnist").pixels[3, 0, 9, 9] == 7
    assert next(Batches(images, 4)).shape == (4, 1, 28, 28)
