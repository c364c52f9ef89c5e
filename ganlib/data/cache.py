"""Images made ready once and kept on disk: an ``.npy`` file of pixels beside a JSON file on what they are.

They are written chunk by chunk, with a journal of how far it came, so that a large set takes little memory and a
preparation that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ganlib._runtime import durable
from ganlib._runtime.progress import bar
from ganlib.data.folders import Reading

# Larger arrays stay on disk and are mapped into memory, so that only what is touched is read.
MAP_ABOVE = 512 * 2**20
VERSION = 1
JOURNAL = "journal.jsonl"


def restore(entry: Path, stamp: str | None) -> tuple[np.ndarray, np.ndarray | None, dict] | None:
    """What was kept in the folder ``entry``, or None if it is missing, damaged or no longer what is wanted.

    Args:
        entry: the folder.
        stamp: of the raw images it must have been made from; None takes any real ones.

    Returns:
        pixels: uint8 ``[N, C, H, W]``, mapped if above ``MAP_ABOVE`` bytes (writing to it never reaches the
            file);
        known: int64 labels ``[N]``, float32 attributes ``[N, A]``, or None;
        about: ``source``, ``classes``, ``attributes`` (their names), ``skipped``, ….
    """
    try:
        about = json.loads((entry / "about.json").read_text())
        if about["version"] != VERSION or not (about["real"] if stamp is None else about["stamp"] == stamp):
            return None
        mapped = int(np.prod(about["shape"])) > MAP_ABOVE
        pixels = np.load(entry / "pixels.npy", mmap_mode="c" if mapped else None, allow_pickle=False)
        whole = list(pixels.shape) == about["shape"] and pixels.dtype == np.uint8
        known = None if about["labels"] is None else np.array(about["labels"], np.int64)
        if about.get("attributes"):
            known = np.load(entry / "attributes.npy", allow_pickle=False)
        whole = whole and (known is None or len(known) == len(pixels))
        if not whole or not (mapped or zlib.crc32(pixels) == about["crc"]):
            return None
        return pixels, known, about
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # each is a way of being damaged
        return None


def keep(entry: Path, stamp: str, reading: Reading, about: Callable[[int], dict]) -> None:
    """Write images into the folder ``entry`` a chunk at a time, under a temporary name until they are whole.

    What a killed process, or an interrupted one, has written of the same images is kept and gone on from.

    Args:
        entry: the folder; an older one of the name is replaced.
        stamp: of the raw images.
        reading: the images; drawn here.
        about: called with the number of images written, gives what to keep beside them (JSON types).

    Raises:
        OSError: if there is no room, or no right to write.
        ValueError: from ``reading``.
    """
    head = {"version": VERSION, "stamp": stamp, "shape": list(reading.shape)}
    with _making(entry) as (making, journal):
        with (making / "pixels.npy").open("a+b") as file:
            n, crc, known, skipped = _left_over(file, journal, head)
            reading.skipped.update(skipped)
            tried, told = n + len(skipped), len(reading.skipped)
            # Written front to back: a full disk then raises, where a mapped file would kill the process.
            with bar(reading.shape[0], f"preparing {entry.name}", " images", tried) as progress:
                for pixels, some in reading.chunks(tried):
                    pixels = np.ascontiguousarray(pixels)
                    file.write(pixels.data)
                    file.flush()
                    n, crc = n + len(pixels), zlib.crc32(pixels, crc)
                    known += [] if some is None else [some]
                    new = dict(list(reading.skipped.items())[told:])
                    told += len(new)
                    some = None if some is None else some.tolist()
                    _note(journal, {"n": n, "crc": crc, "known": some, "skipped": new})
                    progress.update(len(pixels) + len(new))
        shape = (n, *reading.shape[1:])
        with (making / "pixels.npy").open("r+b") as file:
            file.write(_header(shape))
        known = np.concatenate([some for some in known if len(some)]) if n and known else None
        if reading.attributes and known is not None:
            np.save(making / "attributes.npy", known.astype(np.float32))
        labels = known.tolist() if reading.classes and known is not None else None
        facts = {"version": VERSION, "shape": shape, "crc": crc, "labels": labels, **about(n)}
        (making / "about.json").write_text(json.dumps(facts))
        durable.rename_folder(making, entry)
        (entry / JOURNAL).unlink(missing_ok=True)  # only now: until then it keeps other processes out


@contextlib.contextmanager
def _making(entry: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The folder in which to make ``entry``, and its journal: what a killed process left, or a new one.

    It is this process's alone. Where another is at work in it, or files cannot be locked (Windows), the folder is a
    fresh one, and nobody will go on from it.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    folder = entry.with_name(f".making-{entry.name}")
    journal = _locked(folder)
    shared = journal is not None
    if not shared:
        folder, journal = Path(tempfile.mkdtemp(prefix=".making-", dir=entry.parent)), io.BytesIO()
    try:
        with journal:
            yield folder, journal
    except BaseException as error:
        # Who was interrupted can go on; after an error, such as a full disk, nothing stays behind.
        if not shared or isinstance(error, Exception):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _locked(folder: Path) -> BinaryIO | None:
    """The journal in ``folder``, open and locked until it is closed; None if that cannot be had."""
    file = None
    try:
        import fcntl

        folder.mkdir(exist_ok=True)
        file = (folder / JOURNAL).open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one who had it may have given the folder its final name between these lines.
        if os.path.samestat(os.fstat(file.fileno()), (folder / JOURNAL).stat()):
            return file
    except (ImportError, OSError):
        pass
    if file:
        file.close()
    return None


def _left_over(file: BinaryIO, journal: BinaryIO, head: dict) -> tuple[int, int, list, dict[str, str]]:
    """How far the file of pixels is known to be right: images, their checksum, what is known of them, the skipped.

    What was written after that is cut off; all of it, if it is of other images or damaged.
    """
    begin, size = _header((0, *head["shape"][1:])), int(np.prod(head["shape"][1:]))
    n, crc, known, skipped = 0, 0, [], {}
    try:
        journal.seek(0)
        first, *lines = journal.readlines()
        if json.loads(first) != head:
            raise ValueError("other images")
        good = len(first)
        for line in lines:
            if not line.endswith(b"\n"):  # torn by the kill
                break
            record = json.loads(line)
            n, crc = record["n"], record["crc"]
            known += [np.array(record["known"])] if record["known"] else []
            skipped |= record["skipped"]
            good += len(line)
        file.seek(len(begin))
        left, seen = n * size, 0
        while left and (block := file.read(min(left, 2**24))):
            left, seen = left - len(block), zlib.crc32(block, seen)
        if left or seen != crc:
            raise ValueError("damaged")
    except (ValueError, KeyError, TypeError):
        journal.truncate(0)
        _note(journal, head)
        file.truncate(0)
        file.write(begin)
        return 0, 0, [], {}
    journal.truncate(good)
    file.truncate(len(begin) + n * size)
    return n, crc, known, skipped


def _note(journal: BinaryIO, line: dict) -> None:
    journal.write(json.dumps(line).encode() + b"\n")
    journal.flush()


def _header(shape: tuple[int, ...]) -> bytes:
    # numpy leaves room in the header for the first number to grow, so that every N has a header of the same length.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def gather(reading: Reading) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a Reading in memory: for a machine where nothing can be kept.

    Returns:
        pixels: uint8 ``[N, C, H, W]``; known: int64 labels ``[N]``, float32 attributes ``[N, A]``, or None.
    """
    pixels, known, n = np.empty(reading.shape, np.uint8), [], 0
    for some, some_known in reading.chunks():
        pixels[n : n + len(some)] = some
        n += len(some)
        known += [] if some_known is None else [some_known]
    return pixels[:n], np.concatenate(known) if known else None
