"""Prepared images on disk; a preparation that was killed is resumed."""

import io
import json
import logging
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import filelock
import numpy as np

from ganlib._runtime.progress import bar
from ganlib.data.folders import Reading

log = logging.getLogger("ganlib")

MAP_ABOVE = 512 * 2**20  # larger arrays stay on disk, mapped into memory: only what is touched is read
VERSION = 2
JOURNAL = "journal.jsonl"
WAIT_SECONDS = 600  # for another process that prepares the same images


def restore(entry: Path, stamp: str | None) -> tuple[np.ndarray, np.ndarray | None, dict] | None:
    """What is kept, if intact and of files with this stamp (None: of any real ones)."""
    try:
        about = json.loads((entry / "about.json").read_text())
        if about["version"] != VERSION or not (about["real"] if stamp is None else about["stamp"] == stamp):
            return None
        mapped = int(np.prod(about["shape"])) > MAP_ABOVE
        # Copy on write: what is written to the pixels never reaches the file.
        pixels = np.load(entry / "pixels.npy", mmap_mode="c" if mapped else None, allow_pickle=False)
        known = np.load(entry / "known.npy", allow_pickle=False) if about["known"] else None
        intact = list(pixels.shape) == about["shape"] and pixels.dtype == np.uint8
        intact = intact and (known is None or len(known) == len(pixels))
        return (pixels, known, about) if intact and (mapped or zlib.crc32(pixels) == about["crc"]) else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # each is a way of being damaged
        return None


def keep(entry: Path, stamp: str, reading: Reading, about: Callable[[int], dict]) -> None:
    """Write images, and what ``about(n)`` says of them; one process at a time."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(entry.with_name(f".{entry.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info(f"Another process is preparing these images: waiting for it, up to {WAIT_SECONDS} seconds.")
        lock.acquire(timeout=WAIT_SECONDS)
    making = entry.with_name(f".making-{entry.name}")
    try:
        if not restore(entry, stamp):
            making.mkdir(exist_ok=True)
            _make(making, {"version": VERSION, "stamp": stamp, "shape": list(reading.shape)}, reading, about)
            shutil.rmtree(entry, ignore_errors=True)
            making.rename(entry)
            (entry / JOURNAL).unlink()
    except Exception:  # such as a full disk; after an interruption everything stays, to be resumed
        shutil.rmtree(making, ignore_errors=True)
        raise
    finally:
        lock.release()


def _make(making: Path, head: dict, reading: Reading, about: Callable[[int], dict]) -> None:
    with (making / "pixels.npy").open("a+b") as file, (making / JOURNAL).open("a+b") as journal:
        n, crc, known, skipped = _left_over(file, journal, head)
        reading.skipped.update(skipped)
        tried, told = n + len(skipped), len(reading.skipped)
        # Written front to back: a full disk then raises, where a mapped file would kill the process.
        with bar(reading.shape[0], "preparing", " images", tried) as progress:
            for pixels, some in reading.chunks(tried):
                pixels = np.ascontiguousarray(pixels)
                file.write(pixels.data)
                file.flush()
                n, crc = n + len(pixels), zlib.crc32(pixels, crc)
                known += [] if some is None else [some]
                new = dict(list(reading.skipped.items())[told:])
                told += len(new)
                _note(journal, {"n": n, "crc": crc, "known": None if some is None else some.tolist(), "skipped": new})
                progress.update(len(pixels) + len(new))
    shape = (n, *reading.shape[1:])
    with (making / "pixels.npy").open("r+b") as file:
        file.write(_header(shape))
    if known and n:
        kind = np.float32 if reading.attributes else np.int64
        np.save(making / "known.npy", np.concatenate([some for some in known if len(some)]).astype(kind))
    facts = {"version": VERSION, "shape": shape, "crc": crc, "known": bool(known), **about(n)}
    (making / "about.json").write_text(json.dumps(facts))


def _left_over(file: BinaryIO, journal: BinaryIO, head: dict) -> tuple[int, int, list, dict[str, str]]:
    """What a killed process left: number of images, checksum, labels and skipped."""
    begin, size = _header((0, *head["shape"][1:])), int(np.prod(head["shape"][1:]))
    try:
        journal.seek(0)
        first, *lines = [line for line in journal if line.endswith(b"\n")]  # the last one may be torn by a kill
        records = [json.loads(line) for line in lines]
        n, crc = (records[-1]["n"], records[-1]["crc"]) if records else (0, 0)
        left, seen = n * size, 0
        file.seek(len(begin))
        while left and (block := file.read(min(left, 2**24))):
            left, seen = left - len(block), zlib.crc32(block, seen)
        if json.loads(first) != head or left or seen != crc:
            raise ValueError("other images, or damaged")
        journal.truncate(sum(map(len, [first, *lines])))
        file.truncate(len(begin) + n * size)
        known = [np.array(record["known"]) for record in records if record["known"]]
        return n, crc, known, {name: why for record in records for name, why in record["skipped"].items()}
    except (ValueError, KeyError, TypeError):
        journal.truncate(0)
        _note(journal, head)
        file.truncate(0)
        file.write(begin)
        return 0, 0, [], {}


def _note(journal: BinaryIO, line: dict) -> None:
    journal.write(json.dumps(line).encode() + b"\n")
    journal.flush()


def _header(shape: tuple[int, ...]) -> bytes:
    # numpy leaves room in the header for the first number to grow, so that every N has a header of the same length.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def gather(reading: Reading) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels and labels or attributes in memory, where nothing can be kept."""
    pixels, known = zip(*reading.chunks(), strict=True)
    return np.concatenate(pixels), None if known[0] is None else np.concatenate(known)
