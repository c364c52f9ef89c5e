"""Pictures in a folder or an archive, whatever their format and size, turned into squares of one size."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from ganlib.downloads import looks_like_html

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
# What the folder of a split is called in the wild.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
# The sizes to choose from when none is asked for: the largest that fits the smallest picture.
USUAL_SIZES = (64, 48, 32, 28)
CHUNK = 256
SILENT_UP_TO = 5000  # preparing more takes long enough to say so
HOLD_BELOW = 256 * 2**20  # the pictures of a tar archive, in bytes as they are, that stay in memory between two looks


@dataclass(frozen=True)
class Reading:
    """Images of one size and channel count on their way into memory.

    Attributes:
        shape: ``(N, C, H, W)``; fewer than ``N`` come where one turns out to be unreadable.
        classes: the names of the labels; empty without labels.
        chunks: uint8 ``[k, C, H, W]`` with int64 labels ``[k]`` or None, to be drawn once.
        skipped: the names of the images that cannot be read; complete once ``chunks`` is drawn.
    """

    shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    chunks: Iterator[tuple[np.ndarray, np.ndarray | None]]
    skipped: list[str] = field(default_factory=list)


def is_archive(path: Path) -> bool:
    """Whether the name of ``path`` ends like an archive's."""
    return path.name.lower().endswith(ARCHIVES)


def stamp(path: Path) -> str:
    """A text that changes when the file, or any picture in the folder, changes its name, size or time."""
    files = [path] if path.is_file() else [Path(folder) / name for folder, name in walk(path)]
    seen = hashlib.sha256()
    for file in files:
        with contextlib.suppress(OSError):  # a link to nowhere: reading will name it
            info = file.stat()
            seen.update(f"{file.absolute()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(errors="replace"))
    return seen.hexdigest()


def open_pictures(
    path: Path, split: str = "train", image_size: int | None = None, channels: int | None = None
) -> Reading:
    """The pictures in a folder or an archive, centre-cropped to squares and shrunk with antialiasing.

    Nothing is ever unpacked: an archive is read as a stream, and a member that is a link, or whose name is
    absolute or climbs out with ``..``, is skipped and named. Folders called ``train`` and ``test``
    (``training``, ``testing``, ``val``, …) are splits; without them every picture belongs to ``"train"``.
    Below that, the first folder is the class; if any picture lies outside a class folder, or there is only
    one class, there are no labels. Transparency becomes white.

    Args:
        path: a folder, or a ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.xz`` or ``.tar.bz2`` file.
        split: which pictures, where there are splits.
        image_size: height and width in pixels; None for the largest of 64, 48, 32 and 28 that fits every
            picture, or the smallest picture's shorter side where none does.
        channels: 1 or 3; None for 1 if every picture is grey, else 3.

    Raises:
        FileNotFoundError: if ``path`` does not exist.
        ValueError: if there are no pictures, none can be read, the split is not there, one is smaller than
            ``image_size``, or the archive is damaged.
    """
    look = _twice(path)
    headers = scan(path, look())
    # An unreadable image has no say in what the folders mean: its name may be a trap that climbs out.
    skipped = [name for name in headers if headers[name] is None]
    names = [name for name in headers if headers[name] is not None]
    if not names:
        raise ValueError(
            f"None of the {len(skipped)} images in '{path}' can be read, e.g. '{skipped[0]}'; "
            "check that they are whole."
        )

    names = in_split(path, names, split)
    smallest = min(names, key=lambda name: min(headers[name][:2]))
    width, height, _ = headers[smallest]
    shorter = min(width, height)
    if image_size is None:
        image_size = next((size for size in USUAL_SIZES if size <= shorter), shorter)
    if shorter < image_size:
        too_small = sum(min(headers[name][:2]) < image_size for name in names)
        raise ValueError(
            f"'{smallest}' in '{path}' is {width}×{height} pixels, smaller than image_size={image_size} "
            f"(as are {too_small} of {len(names)} images); use image_size={shorter} or less, or take "
            "the small ones away."
        )
    if channels is None:
        channels = 1 if all(headers[name][2] for name in names) else 3

    if len(names) > SILENT_UP_TO:
        print(f"Preparing {len(names):,} images from '{path.name}' …")
    classes, label_of = classes_of(names)
    chunks = _decode(look(), label_of, image_size, channels, bool(classes), skipped)
    return Reading((len(names), channels, image_size, image_size), classes, chunks, skipped)


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(folder, file name) of every picture under ``folder``, in the order of their names."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in sorted(files):
            if _is_picture(name):
                yield here, name


def _is_picture(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part[:2] != ".." for part in parts)
    return name.lower().endswith(PICTURES) and not hidden


# (name inside, how to open it) of every picture; None for a member that must not be opened.
Members = Iterable[tuple[str, Callable[[], io.IOBase | Path] | None]]


def _twice(path: Path) -> Callable[[], Members]:
    """To be called for each look at the members: a tar archive that is small enough is decompressed once only."""
    if path.is_dir() or path.name.lower().endswith(".zip"):
        return functools.partial(_members, path)
    held, size = [], 0
    for name, opener in _members(path):
        held.append((name, opener))
        size += opener().getbuffer().nbytes if opener else 0
        if size > HOLD_BELOW:
            return functools.partial(_members, path)
    return lambda: held


def _members(path: Path) -> Members:
    """What is in a folder or an archive, as a stream.

    Raises:
        FileNotFoundError, ValueError: if there is no such path, or the archive cannot be read to its end.
    """
    if path.is_dir():
        for here, name in walk(path):
            file = Path(here, name)
            yield file.relative_to(path).as_posix(), lambda file=file: file
        return
    if not path.exists():
        raise FileNotFoundError(f"There is no folder or archive '{path}'; check the path.")
    if not is_archive(path):
        raise ValueError(f"'{path}' is neither a folder nor an archive ({' '.join(ARCHIVES)}).")
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    link = stat.S_ISLNK(member.external_attr >> 16)
                    if not member.is_dir() and _is_picture(member.filename):
                        safe = not link and _stays_inside(member.filename)
                        yield (
                            member.filename,
                            (lambda m=member: io.BytesIO(archive.read(m))) if safe else None,
                        )
        else:
            with tarfile.open(path, "r|*") as archive:
                for member in archive:
                    if not member.isdir() and _is_picture(member.name):
                        safe = member.isreg() and _stays_inside(member.name)
                        data = archive.extractfile(member).read() if safe else b""
                        yield member.name, (lambda data=data: io.BytesIO(data)) if safe else None
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        with contextlib.suppress(OSError), path.open("rb") as file:
            if looks_like_html(file.read(512)):
                raise ValueError(
                    f"'{path}' is a web page, not an archive: the download was answered by a login, quota or "
                    "error page; get it again in a browser."
                ) from error
        raise ValueError(f"The archive '{path}' cannot be read to its end ({error}); get it again.") from error


def _stays_inside(name: str) -> bool:
    # Backslashes and drive letters too: what is harmless here is not on Windows.
    name = name.replace("\\", "/")
    return not name.startswith("/") and ".." not in name.split("/") and ":" not in name.split("/")[0]


# A picture PIL cannot read raises almost anything: OSError, SyntaxError, struct.error,
# DecompressionBombError, …
_UNREADABLE = Exception


def scan(path: Path, members: Members | None = None) -> dict[str, tuple[int, int, bool] | None]:
    """Name: (width, height, is grey) of every picture in a folder or an archive, by its first bytes; None where they
    make no sense.

    Args:
        path: the folder or archive.
        members: what is in it, if that has been looked up.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if there are no pictures in it, or the archive is damaged.
    """
    headers = {}
    for name, opener in _members(path) if members is None else members:
        headers[name] = None
        if opener is not None:
            with contextlib.suppress(_UNREADABLE), Image.open(opener()) as image:
                headers[name] = (
                    *image.size,
                    image.mode in ("1", "L", "LA", "I", "F") or image.mode[:2] == "I;",
                )
    if not headers:
        raise ValueError(
            f"There are no images in '{path}' (looked for {' '.join(PICTURES)}); "
            "give a folder or archive that has some."
        )
    return headers


def in_split(path: Path, names: list[str], split: str) -> list[str]:
    """Those ``names`` of pictures in ``path`` that belong to ``split``.

    Raises:
        ValueError: if there are none.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    known = {alias: s for s, aliases in SPLITS.items() for alias in aliases}
    common = os.path.commonprefix([p[:-1] for p in parts.values()])
    if named := [known[part.lower()] for part in common if part.lower() in known]:
        found = dict.fromkeys(names, named[0])
    else:
        # A class may be called "train" too (it runs on rails), so "train" alone does not make a split.
        heads = {name: p[len(common)] if len(p) > len(common) + 1 else "" for name, p in parts.items()}
        found = {name: known.get(head.lower()) for name, head in heads.items()}
        if not {"train"} < set(found.values()) - {None}:
            found = dict.fromkeys(names, "train")
    chosen = [name for name in names if found[name] == known.get(split, split)]
    if not chosen:
        there = ", ".join(sorted(set(found.values()) - {None}))
        raise ValueError(f"'{path}' has no split '{split}'; it has: {there}.")
    return chosen


def classes_of(names: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The class names and the label of each picture; no classes where the folders do not tell any apart."""
    parts = [PurePosixPath(name).parts for name in names]
    depth = len(os.path.commonprefix([p[:-1] for p in parts]))
    folders = [p[depth] if len(p) > depth + 1 else None for p in parts]
    if None in folders:
        return (), dict.fromkeys(names, 0)
    classes = tuple(sorted(set(folders)))
    return classes, {name: classes.index(folder) for name, folder in zip(names, folders, strict=True)}


def _decode(members, label_of, image_size, channels, labelled, skipped):
    wanted = dict(label_of)
    pixels, labels = [], []
    for name, opener in members:
        if name not in wanted:
            continue
        label = wanted.pop(name)  # an archive may hold a name twice
        try:
            with Image.open(opener()) as image:
                pixels.append(square(image, image_size, channels))
        except _UNREADABLE:
            skipped.append(name)
            continue
        labels.append(label)
        if len(pixels) == CHUNK:
            yield np.stack(pixels), np.array(labels) if labelled else None
            pixels, labels = [], []
    if pixels:
        yield np.stack(pixels), np.array(labels) if labelled else None


def square(image: Image.Image, image_size: int, channels: int) -> np.ndarray:
    """The centre of a picture as uint8 ``[channels, image_size, image_size]``, shrunk with a Lanczos filter.

    Args:
        image: any PIL mode and size; turned upright by its EXIF orientation; transparency becomes white.
        image_size: height and width in pixels.
        channels: 1 (luminance) or 3.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "I" or image.mode.startswith("I;"):  # 16 bits a pixel; PIL would clip instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == image_size:
        image = image.crop(box)
    else:
        image = image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
