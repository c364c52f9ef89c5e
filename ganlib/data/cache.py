"""Prepared images on disk; an interrupted preparation is resumed."""

import json
import logging
import math
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np

from ganlib._runtime.progress import bar
from ganlib.data.folders import Reading

log = logging.getLogger("ganlib")

MAP_ABOVE = 512 * 2**20  # larger arrays stay on disk, mapped into memory: only what is used is read
VERSION = 4
PIXELS, KNOWN, PROGRESS = "pixels.bin", "known.bin", "progress.json"  # the first two are raw numbers, row by row
WAIT_SECONDS = 600  # to wait for another process that prepares the same images


def restore(entry: Path, stamp: str | None) -> tuple[np.ndarray, np.ndarray | None, dict] | None:
    """Cached images, if intact and from files with this stamp (None: any real files)."""
    try:
        about = json.loads((entry / "about.json").read_text())
        if about["version"] != VERSION or not (about["real"] if stamp is None else about["stamp"] == stamp):
            return None
        mapped = math.prod(about["shape"]) > MAP_ABOVE
        # Copy on write: changes to the pixels never reach the file.
        pixels = np.memmap(entry / PIXELS, np.uint8, "c", shape=tuple(about["shape"]))
        pixels = pixels if mapped else np.array(pixels)
        known = np.fromfile(entry / KNOWN, np.float32 if about["attributes"] else np.int64)
        found = [about["crcs"][0] if mapped else zlib.crc32(pixels), zlib.crc32(known)]
        if found != about["crcs"]:
            return None
        known = known.reshape(len(pixels), -1) if about["attributes"] else known if about["classes"] else None
        return pixels, known, about
    except (OSError, ValueError, KeyError, TypeError):  # each of these means a damaged file
        return None


def keep(entry: Path, stamp: str, reading: Reading, about: Callable[[int], dict]) -> None:
    """Write images, and the description ``about(n)``; one process at a time."""
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
    except Exception:  # such as a full disk; after an interruption everything stays, to be resumed
        shutil.rmtree(making, ignore_errors=True)
        raise
    finally:
        lock.release()


def _make(making: Path, head: dict, reading: Reading, about: Callable[[int], dict]) -> None:
    done = _left_over(making, head)
    before = {*reading.skipped}  # found by their headers: the chunks do not count them
    reading.skipped.update(done["skipped"])
    n = done["sizes"][0] // math.prod(reading.shape[1:])
    tried = n + len(reading.skipped) - len(before)
    # Written in order: a full disk raises an error, whereas a mapped file would kill the process.
    with bar(reading.shape[0], "preparing", " images", tried) as progress:
        for chunk in reading.chunks(tried):
            for k, (name, part) in enumerate(zip((PIXELS, KNOWN), chunk, strict=True)):
                data = b"" if part is None else part.tobytes()
                with (making / name).open("ab") as file:
                    file.write(data)
                done["sizes"][k] += len(data)
                done["crcs"][k] = zlib.crc32(data, done["crcs"][k])
            n += len(chunk[0])
            found = {name: why for name, why in reading.skipped.items() if name not in before}
            (making / "progress.new").write_text(json.dumps(done | {"skipped": found}))
            (making / "progress.new").replace(making / PROGRESS)  # if killed, either the old or the new one remains
            progress.update(n + len(found) - progress.n)
    facts = head | {"shape": [n, *reading.shape[1:]], "crcs": done["crcs"], **about(n)}
    (making / "about.json").write_text(json.dumps(facts))
    (making / PROGRESS).unlink(missing_ok=True)


def _left_over(making: Path, head: dict) -> dict:
    """The progress of a killed process; files are cut to it, or emptied if unusable."""
    try:
        done = json.loads((making / PROGRESS).read_text())
        for name, size, crc in zip((PIXELS, KNOWN), done["sizes"], done["crcs"], strict=True):
            found = zlib.crc32(np.memmap(making / name, np.uint8, "r", shape=size) if size else b"")
            if not head.items() <= done.items() or found != crc:
                raise ValueError
    except (OSError, ValueError, KeyError):
        done = {**head, "sizes": [0, 0], "crcs": [0, 0], "skipped": {}}
    for name, size in zip((PIXELS, KNOWN), done["sizes"], strict=True):
        with (making / name).open("ab") as file:
            file.truncate(size)
    return done
