"""Preparing goes on where a killed process stopped, and ends with the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganlib.data import cache as prepared
from ganlib.data import folders
from ganlib.data.loading import load
from helpers import ROOT

N = 300
CHUNK = 16

# Prepares a folder of faces, standing still at the `at`-th line of the journal: before it, in its middle or after it.
# Neither torch nor the rest of ganlib is needed for that, so it starts in no time.
PROGRAM = """
import itertools, json, sys, time
from pathlib import Path
from ganlib import folders, prepared

source, entry, kind, at, chunk = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
folders.CHUNK = chunk
lines, note, square, decoded = itertools.count(1), prepared._note, folders.square, itertools.count()

def watched(journal, line):
    here = next(lines) == at
    if here and kind == "torn":
        journal.write(json.dumps(line).encode()[:50])
        journal.flush()
    if here and kind == "after":
        note(journal, line)
    if here:
        print("standing", flush=True)
        time.sleep(600)
    note(journal, line)

def counted(*args):
    next(decoded)
    return square(*args)

prepared._note, folders.square = watched, counted
reading = folders.open_pictures(source, image_size=64)
prepared.keep(entry, "stamp", reading, lambda n: {"stamp": "stamp", "skipped": reading.skipped, "real": True})
print("decoded", next(decoded), flush=True)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Soft noise at CelebA's size, in folders that are classes; one in fifty is cut off, and one is a web page."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for k in range(N):
        path = folder / "ab"[k % 2] / f"{k:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (11, 9, 3), np.uint8))
        small.resize((178, 218)).save(path)
        if k % 50 == 7:
            path.write_bytes(path.read_bytes()[:2000])
    (folder / "a" / "page.jpg").write_text("<!DOCTYPE html><html>Sign in</html>")
    return folder


def start(source, entry, kind="never", at=0, chunk=CHUNK):
    """The preparing process; with ``kind`` it stands still somewhere."""
    command = [sys.executable, "-c", PROGRAM, source, entry, kind, str(at), str(chunk)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)


def finish(*args, **kwargs):
    """How many pictures a process decodes that runs to its end."""
    told, _ = start(*args, **kwargs).communicate(timeout=120)
    return int(re.fullmatch(r"decoded (\d+)\n", told)[1])


def kill(process):
    assert process.stdout.readline() == "standing\n"
    process.kill()
    process.communicate()


def content(entry):
    return {path.name: path.read_bytes() for path in entry.iterdir()}


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """What the uninterrupted process leaves."""
    entry = tmp_path_factory.mktemp("whole") / "faces"
    assert finish(pictures, entry) == N
    assert [path.name for path in entry.parent.iterdir()] == ["faces"]
    return content(entry)


def journal(entry):
    """The lines of the journal that a killed process left and that count."""
    raw = (entry.with_name(f".making-{entry.name}") / prepared.JOURNAL).read_bytes()
    return [json.loads(line) for line in raw.splitlines(keepends=True)[1:] if line.endswith(b"\n")]


def test_killed_again_and_again_it_ends_the_same(pictures, whole, tmp_path):
    entry = tmp_path / "faces"
    for kind, at in (("after", 1), ("before", 4), ("torn", 3), ("after", 2), ("torn", 4), ("before", 1)):
        kill(start(pictures, entry, kind, at))
        assert not entry.exists()
    lines = journal(entry)
    # A fresh journal begins with a line of its own; every process went on from what the others had noted.
    assert len(lines) == 0 + 3 + 2 + 2 + 3 + 0
    done = lines[-1]["n"] + sum(len(line["skipped"]) for line in lines)
    assert done == len(lines) * CHUNK
    assert finish(pictures, entry) == N - done
    assert content(entry) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]
    assert len(json.loads(whole["about.json"])["skipped"]) == 7


def test_another_size_of_chunk_does_not_matter(pictures, whole, tmp_path):
    entry = tmp_path / "faces"
    kill(start(pictures, entry, "before", 5))
    assert finish(pictures, entry, chunk=50) == N - 3 * CHUNK
    assert content(entry) == whole


def test_what_is_left_of_other_pictures_or_damaged_is_not_gone_on_from(pictures, whole, tmp_path):
    entry = tmp_path / "faces"
    making = tmp_path / ".making-faces"
    kill(start(pictures, entry, "before", 5))
    for damage in (
        lambda raw: (making / "pixels.npy").write_bytes(raw[: -CHUNK * 64 * 64 * 3 - 5]),  # shorter than was noted
        lambda raw: (making / "pixels.npy").write_bytes(raw[:5000] + b"?" + raw[5001:]),
        lambda raw: (making / prepared.JOURNAL).write_text('{"version": 1, "stamp": "others"}\n'),
    ):
        shutil.copytree(making, tmp_path / "left", dirs_exist_ok=True)
        damage((making / "pixels.npy").read_bytes())
        assert finish(pictures, entry) == N
        assert content(entry) == whole
        shutil.rmtree(entry)
        shutil.copytree(tmp_path / "left", making)


def test_two_at_once_do_not_disturb_each_other(pictures, whole, tmp_path):
    entry = tmp_path / "faces"
    first = start(pictures, entry, "before", 4)
    assert first.stdout.readline() == "standing\n"
    assert finish(pictures, entry) == N
    assert content(entry) == whole
    first.kill()
    first.communicate()
    assert len(journal(entry)) == 2  # nobody wrote there


def test_an_error_leaves_nothing_behind_and_an_interruption_everything(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "CHUNK", CHUNK)
    entry = tmp_path / "faces"

    def failing(error):
        reading = folders.open_pictures(pictures, image_size=64)
        really = reading.chunks

        def chunks(start=0):
            yield next(really(start))
            raise error

        object.__setattr__(reading, "chunks", chunks)
        with pytest.raises(type(error)):
            prepared.keep(entry, "stamp", reading, lambda n: {})

    failing(KeyboardInterrupt())
    failing(KeyboardInterrupt())
    assert len(journal(entry)) == 2
    failing(OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_load_goes_on_where_a_killed_load_was(pictures, tmp_path, monkeypatch):
    """The same from outside, with attributes: a killed program, and the next call of ``load``."""
    place = tmp_path / "data" / "celeba" / "img_align_celeba"
    shutil.copytree(pictures, place)
    names = sorted(path.name for path in place.rglob("*.jpg"))
    table = [f"{name} {k % 2 * 2 - 1:2d} {k % 3 - 1 or 1:2d}\n" for k, name in enumerate(names)]
    (place.parent / "list_attr_celeba.txt").write_text(f"{len(names)}\nOdd Third \n" + "".join(table))
    program = (
        "import itertools, os, signal\n"
        "from ganlib import folders, prepared\nfrom ganlib.data import load\n"
        f"folders.CHUNK, note, lines = {CHUNK}, prepared._note, itertools.count(1)\n"
        "def watched(journal, line):\n"
        "    note(journal, line)\n"
        "    if next(lines) == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepared._note = watched\n"
        "load('celeba', download=False)\n"
    )
    settings = {"PYTHONPATH": str(ROOT), "GANLIB_DATA": str(tmp_path / "data"), "GANLIB_CACHE": str(tmp_path / "cache")}
    killed = subprocess.run([sys.executable, "-c", program], env={**os.environ, **settings}, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    (making,) = (tmp_path / "cache").iterdir()
    left = (making / "pixels.npy").read_bytes()

    monkeypatch.setattr(folders, "CHUNK", CHUNK)
    monkeypatch.setenv("GANLIB_DATA", str(tmp_path / "data"))
    whole = load("celeba", download=False)  # the test's own cache: from the beginning
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    decoded, square = [], folders.square
    monkeypatch.setattr(folders, "square", lambda *args: decoded.append(1) or square(*args))
    images = load("celeba", download=False)
    assert len(decoded) == N - 5 * CHUNK
    assert (images.pixels == whole.pixels).all() and (images.attributes == whole.attributes).all()
    assert images.source == whole.source and images.skipped == whole.skipped and len(images.skipped) == 7
    assert images.pixels.numpy().tobytes().startswith(left[len(prepared._header((0, 3, 64, 64))) :])
    inside = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.jpg"))
    rows = [names.index(name.rpartition("/")[2]) for name in inside if name not in images.skipped]
    assert images.attribute("Odd").tolist() == [k % 2 for k in rows]
