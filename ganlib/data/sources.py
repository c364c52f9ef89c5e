"""How a named image set is come by: files the user has, checked downloads. Which sets there are is in ``sets``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ganlib._runtime import device as runtime
from ganlib.data import folders
from ganlib.data.archives import ARCHIVES, stamp, walk
from ganlib.data.download import fetch
from ganlib.data.folders import Reading


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
    """How to come by a set that is published as arrays of small images.

    Attributes:
        title, unit: ``"MNIST"``, ``"digits"``.
        classes: the names of labels 0, 1, ….
        size, channels: of the images as published.
        names: what a folder or an archive of the images may be called.
        url: what the names of the files are appended to for the download.
        files: for each split, (file name, md5) of what is downloaded.
        find: ``find(folder, split)`` gives (what to call it, paths) of each copy of the published files in
            or below a folder, first choice first.
        read: ``read(paths, split)`` gives the uint8 images ``[N, C, S, S]`` and int64 labels ``[N]`` of such
            a copy.
        stand_in: ``stand_in(split) -> Source`` for an offline machine.
        system: (folder, what to call it) outside the data roots.
        pad_to: up to this size a larger image_size is reached by a border of black, above it by upscaling.
        splits: what ``split`` may be.
    """

    title: str
    unit: str
    classes: tuple[str, ...]
    size: int
    channels: int
    names: tuple[str, ...]
    url: str
    files: dict[str, tuple[tuple[str, str], ...]]
    find: Callable[[Path, str], Iterator[tuple[str, list[Path]]]]
    read: Callable[[Sequence[Path], str], tuple[np.ndarray, np.ndarray]]
    stand_in: Callable[[str], Source]
    system: tuple[tuple[str, str], ...] = ()
    pad_to: int = 0
    splits: tuple[str, ...] = ("train", "test")

    def note(self, image_size: int) -> str:
        """How images of this size came from the published ones; empty if they have it."""
        if image_size == self.size:
            return ""
        larger = "padded" if image_size <= self.pad_to else "upscaled"
        changed = larger if image_size > self.size else "shrunk"
        return f" · {changed} from {self.size}×{self.size} to {image_size}×{image_size}"


@dataclass(frozen=True)
class PhotoSet:
    """How to come by a set that is published as photographs, to be cropped and shrunk.

    Attributes:
        title, unit: ``"CelebA"``, ``"faces"``.
        names: what the set's own folder is called, first the one that ganlib uses.
        splits: what ``split`` may be.
        find: ``find(folder, split, classes)`` gives the copies in or below a folder, first choice first;
            ``classes`` are the names of those that are wanted, None for all.
        missing: where to get the set and where to put it, for who has no copy.
        fetch: ``fetch(folder)`` downloads the set into a folder; None if nobody offers it.
        stand_in: ``stand_in(split) -> Source`` for an offline machine; None if nothing can stand in.
        by_class: whether ``classes`` may be chosen.
        size, channels: what one gets unless one asks for something else.
    """

    title: str
    unit: str
    names: tuple[str, ...]
    splits: tuple[str, ...]
    find: Callable[[Path, str, Sequence[str] | None], Iterator[Source]]
    missing: str
    fetch: Callable[[Path], None] | None = None
    stand_in: Callable[[str], Source] | None = None
    by_class: bool = False
    size: int = 64
    channels: int = 3

    def note(self, image_size: int) -> str:
        """Nothing: photographs are always shrunk."""
        return ""


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

        def chunks(start=0):
            rows = (slice(k, k + 4096) for k in range(start, n, 4096))
            return ((resize(pixels[r], image_size, channels, pad_to), labels[r]) for r in rows)

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

    return Source(where, "".join(map(stamp, files)), from_arrays(read, named.classes, named.pad_to), files=files)


def copies(
    named: NamedSet | PhotoSet, split: str, root: str | os.PathLike | None = None, classes: Sequence[str] | None = None
) -> Iterator[Source]:
    """The copies of a set that are on this machine already, first choice first; no image is read yet.

    In each data root (see :func:`ganlib._runtime.device.data_roots`): the files as published, in torchvision's layout,
    in a folder of the set's name, or in the root itself; then a folder or an archive of images named after the
    set. At last, system folders and what ganlib itself downloaded before.
    """
    if isinstance(named, PhotoSet):
        for base in runtime.data_roots(root):
            yield from named.find(base, split, classes)
        for source in named.find(_download_folder(named), split, classes):
            yield replace(source, where="downloaded")
        return
    for base in runtime.data_roots(root):
        for where, files in named.find(base, split):
            yield _from_files(named, f"your copy ({where})", split, files)
        for name in named.names:
            for path in (base / (name + ending) for ending in ("", *ARCHIVES)):
                if path.is_file() or (path.is_dir() and next(walk(path), None)):
                    yield _from_pictures(named, split, path)
    for folder, title in (*named.system, (_download_folder(named), "downloaded")):
        for _, files in named.find(Path(folder), split):
            yield _from_files(named, title, split, files)


def _from_pictures(named: NamedSet, split: str, path: Path) -> Source:
    def read_at(image_size, channels):
        reading = folders.open_pictures(path, split, named.size, named.channels)
        n, c, s, _ = reading.shape
        shape = (n, channels or c, image_size or s, image_size or s)

        def chunks(start=0):
            return ((resize(x, image_size, channels, named.pad_to), y) for x, y in reading.chunks(start))

        return Reading(shape, reading.classes, chunks, reading.skipped)

    return Source(f"your copy ({path.name})", stamp(path), read_at, files=[path])


# --- The download -------------------------------------------------------------------------------------------


def _download_folder(named: NamedSet | PhotoSet) -> Path:
    return runtime.cache_dir() / "downloads" / named.names[0]


def download(named: NamedSet | PhotoSet, split: str) -> Source:
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
    if isinstance(named, PhotoSet):
        named.fetch(folder)
        return replace(next(named.find(folder, split, None)), where="downloaded")
    files = []
    for name, md5 in named.files[split]:
        files.append(folder / name)
        if not files[-1].exists():
            fetch(named.url + name, files[-1], md5)
    return _from_files(named, "downloaded", split, files)
