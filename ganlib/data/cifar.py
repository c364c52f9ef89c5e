"""The files of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html): finding and reading them.

They are published twice, as Python pickles and as plain bytes, both in batches of 10,000 pictures. A pickle is
a program for building objects. Here nothing that it asks for is ever built: opening a file runs no code.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from ganlib.data.download import looks_like_html

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)}
PER_BATCH = 10_000
PIXELS = 3 * 32 * 32  # of a picture: 1,024 bytes of red, then green, then blue, each row by row
FOLDERS = {"cifar-10-batches-py": "", "cifar-10-batches-bin": ".bin"}  # and how the names of batches end there
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
BELOW = ("", "cifar10", "CIFAR10")
CURE = "get it again, see data/README.md."


def find_cifar(folder: Path, split: str) -> Iterator[tuple[str, list[Path]]]:
    """The copies of one split in or below a folder, first choice first: unpacked ones, then archives.

    Yields:
        where: how to name the copy in a sentence;
        files: the batches of the split, of which some may be missing, or one archive.
    """
    for layout, ending in FOLDERS.items():
        for below in BELOW:
            place = Path(below, layout)
            batches = [folder / place / (name + ending) for name in BATCHES[split]]
            if any(path.is_file() for path in batches):
                yield place.as_posix(), batches
    for archive in ARCHIVES:
        for below in BELOW:
            place = Path(below, archive)
            if (folder / place).is_file():
                yield place.as_posix(), [folder / place]


def read_cifar(files: Sequence[Path], split: str) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split, in the order of the batches, from batches or from an archive as published.

    An archive is read as a stream; nothing is unpacked, and nothing in a file is executed.

    Returns:
        pixels: uint8 ``[N, 3, 32, 32]``; labels: int64 ``[N]``, indices into ``CLASSES``.

    Raises:
        ValueError: if a batch is missing, of the wrong size, cut off, a web page, or a pickle that asks for
            more than an array; or the archive cannot be read to its end.
    """
    first = files[0]
    batches = _read_archive(first, split) if first.name in ARCHIVES else [_read_file(path) for path in files]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return pixels.reshape(-1, 3, 32, 32), labels


def _read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            return read_batch(file, path.name, path.parent)
    except OSError as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise ValueError(f"'{path.name}' in '{path.parent}' cannot be read: {why}; {CURE}") from error


def _read_archive(path: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    batches = {}
    try:
        with gzip.open(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isreg() and name.removesuffix(".bin") in BATCHES[split]:
                    batches[name.removesuffix(".bin")] = read_batch(archive.extractfile(member), name, path)
            while file.read(2**20):  # gzip's own checksum stands behind the last byte
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        why = f"cannot be read to its end ({error})"
        with contextlib.suppress(OSError), path.open("rb") as file:
            why = "is a web page, not an archive" if looks_like_html(file.read(512)) else why
        raise ValueError(f"'{path.name}' in '{path.parent}' {why}; {CURE}") from error
    if missing := [name for name in BATCHES[split] if name not in batches]:
        raise ValueError(f"'{path.name}' in '{path.parent}' lacks {', '.join(missing)}; {CURE}")
    return [batches[name] for name in BATCHES[split]]


def read_batch(file: BinaryIO, name: str, where: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of one batch.

    Args:
        file: the batch, open.
        name: of the batch; one that ends in ``.bin`` holds bytes, any other a pickle.
        where: the folder or archive it lies in, for the sentence that says what is wrong.

    Returns:
        pixels: uint8 ``[10_000, 3072]``; labels: int64 ``[10_000]``.

    Raises:
        ValueError: if it is anything but a batch of CIFAR-10.
    """
    # The published ones are 31 MB; what is much larger is something else, and must not fill the memory.
    limit = 2 * PER_BATCH * (1 + PIXELS)
    raw = file.read(limit + 1)
    try:
        if looks_like_html(raw):
            raise ValueError("it is a web page")
        if len(raw) > limit:
            raise ValueError(f"it is larger than {limit:,} bytes")
        pixels, labels = (_from_bytes if name.endswith(".bin") else _from_pickle)(raw)
        if len(pixels) != PER_BATCH or len(labels) != PER_BATCH:
            raise ValueError(f"it holds {len(pixels):,} pictures and {len(labels):,} labels, not {PER_BATCH:,}")
        if not all(0 <= label < len(CLASSES) for label in labels):
            raise ValueError(f"its labels are not all from 0 to {len(CLASSES) - 1}")
    except ValueError as error:
        raise ValueError(f"'{name}' in '{where}' is no batch of CIFAR-10 ({error}); {CURE}") from error
    return pixels, np.array(labels, np.int64)


def _from_bytes(raw: bytes) -> tuple[np.ndarray, list[int]]:
    """Records of a label and the pixels, one after the other."""
    if len(raw) % (1 + PIXELS):
        raise ValueError(f"its {len(raw):,} bytes are no whole number of records of {1 + PIXELS:,} bytes")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].tolist()


def _from_pickle(raw: bytes) -> tuple[np.ndarray, list[int]]:
    """A dictionary with an array of uint8 ``[N, 3072]`` under "data" and a list of int under "labels"."""
    try:
        batch = _Unpickler(io.BytesIO(raw), encoding="latin1").load()  # written by Python 2
    except Exception as error:  # what is no pickle raises almost anything
        raise ValueError(str(error) or type(error).__name__) from error
    match batch:
        # The state of an array: version, shape, type, whether column by column, contents.
        case {"data": _Inert(state=[_, (int(n), int(width)), _Inert(args=["u1", *_]), bool(by_columns), contents])}:
            pixels = contents.encode("latin1") if isinstance(contents, str) else contents
        case _:
            raise ValueError("its pickle holds no array of bytes")
    labels = batch.get("labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError("its pickle holds no labels")
    if not isinstance(pixels, bytes) or width != PIXELS or len(pixels) != n * PIXELS:
        raise ValueError(f"its array is {n}×{width}, or not all there, instead of {PER_BATCH:,}×{PIXELS:,}")
    order = "F" if by_columns else "C"
    return np.frombuffer(pixels, np.uint8).reshape((n, PIXELS), order=order), labels


class _Inert:
    """What a batch gets for numpy's array and dtype: it notes what it is given, and does nothing."""

    def __init__(self, *args):
        self.args, self.state = args, None

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Builds numbers, text, lists and dictionaries only; arrays stay notes on what they would be made of."""

    ALLOWED = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),  # numpy 2
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module, name):
        if (module, name) in self.ALLOWED:
            return _Inert
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which pictures do not need and which may do harm, so it was not run"
        )
