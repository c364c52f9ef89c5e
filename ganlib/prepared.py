"""Images made ready once and kept on disk: an ``.npy`` file of pixels beside a JSON file on what they are."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ganlib.folders import Reading

# Larger arrays stay on disk and are mapped into memory, so that only what is touched is read.
MAP_ABOVE = 512 * 2**20
VERSION = 1


def restore(entry: Path, stamp: str | None) -> tuple[np.ndarray, dict] | None:
    """What was kept in the folder ``entry``, or None if it is missing, damaged or no longer what is wanted.

    Args:
        entry: the folder.
        stamp: of the raw images it must have been made from; None takes any real ones.

    Returns:
        pixels: uint8 ``[N, C, H, W]``, mapped if above ``MAP_ABOVE`` bytes (writing to it never reaches the
            file);
        about: ``source``, ``classes``, ``labels`` (a list or None), ``skipped``, ….
    """
    try:
        about = json.loads((entry / "about.json").read_text())
        if about["version"] != VERSION or not (about["real"] if stamp is None else about["stamp"] == stamp):
            return None
        mapped = int(np.prod(about["shape"])) > MAP_ABOVE
        pixels = np.load(entry / "pixels.npy", mmap_mode="c" if mapped else None, allow_pickle=False)
        whole = list(pixels.shape) == about["shape"] and pixels.dtype == np.uint8
        whole = whole and (about["labels"] is None or len(about["labels"]) == len(pixels))
        if not whole or not (mapped or zlib.crc32(pixels) == about["crc"]):
            return None
        return pixels, about
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # each is a way of being damaged
        return None


def keep(entry: Path, reading: Reading, about: Callable[[int], dict]) -> None:
    """Write images into the folder ``entry`` a chunk at a time, under a temporary name until they are whole.

    Args:
        entry: the folder; an older one of the name is replaced.
        reading: the images; drawn here.
        about: called with the number of images written, gives what to keep beside them (JSON types).

    Raises:
        OSError: if there is no room, or no right to write.
        ValueError: from ``reading``.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=entry.parent) as temporary:
        making = Path(temporary, "new")
        making.mkdir()
        n, crc, labels = 0, 0, []
        # Written front to back: a full disk then raises, where a mapped file would kill the process.
        with (making / "pixels.npy").open("wb") as file:
            _write_header(file, (0, *reading.shape[1:]))
            for pixels, some_labels in reading.chunks:
                pixels = np.ascontiguousarray(pixels)
                file.write(pixels.data)
                n, crc = n + len(pixels), zlib.crc32(pixels, crc)
                labels += [] if some_labels is None else some_labels.tolist()
            file.seek(0)
            _write_header(file, (n, *reading.shape[1:]))
        facts = {"version": VERSION, "shape": [n, *reading.shape[1:]], "crc": crc, "labels": labels or None}
        (making / "about.json").write_text(json.dumps({**facts, **about(n)}))
        if entry.exists():
            os.rename(entry, Path(temporary, "old"))
        os.rename(making, entry)


def _write_header(file, shape: tuple[int, ...]) -> None:
    # numpy leaves room in the header for the first number to grow, so that a second one has the same length.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def gather(reading: Reading) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a Reading in memory: for a machine where nothing can be kept.

    Returns:
        pixels: uint8 ``[N, C, H, W]``; labels: int64 ``[N]`` or None.
    """
    pixels, labels, n = np.empty(reading.shape, np.uint8), [], 0
    for some, some_labels in reading.chunks:
        pixels[n : n + len(some)] = some
        n += len(some)
        labels += [] if some_labels is None else [some_labels]
    return pixels[:n], np.concatenate(labels) if labels else None
