"""Pictures in a folder or an archive, whatever their format and size, turned into squares of one size."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from ganlib._runtime.progress import bar
from ganlib.data.archives import PICTURES, Members, looks
from ganlib.data.download import looks_like_html

# What the folder of a split is called in the wild.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
# The sizes to choose from when none is asked for: the largest that fits the smallest picture.
USUAL_SIZES = (64, 48, 32, 28)
CHUNK = 256
SILENT_UP_TO = 5000  # preparing more takes long enough to say so


@dataclass(frozen=True)
class Reading:
    """Images of one size and channel count on their way into memory.

    Attributes:
        shape: ``(N, C, H, W)``; fewer than ``N`` come where one turns out to be unreadable.
        classes: the names of the labels; empty without labels.
        chunks: ``chunks(start)`` gives, from the image with that number (0) on, uint8 ``[k, C, H, W]`` with int64
            labels ``[k]``, float32 attributes ``[k, A]`` or None; the same ones whenever it is called.
        skipped: the names of the images that cannot be read, each with why; complete once ``chunks`` is drawn.
        attributes: the names of the attributes; empty without any.
    """

    shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    chunks: Callable[..., Iterator[tuple[np.ndarray, np.ndarray | None]]]
    skipped: dict[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picked:
    """Which pictures are wanted, and what is known of them.

    Attributes:
        known: for the name of each wanted picture, in any order, its label or its row of attributes.
        classes: the names of the labels.
        attributes: the names of the attributes. Without either, what ``known`` holds is not looked at.
    """

    known: Mapping[str, int | np.ndarray]
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


def open_pictures(
    path: Path,
    split: str = "train",
    image_size: int | None = None,
    channels: int | None = None,
    *,
    pick: Callable[[list[str]], Picked] | None = None,
    wanted: Callable[[str], bool] | None = None,
    leave_small: bool = False,
    workers: int = 1,
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
        pick: for a set with rules of its own, which of the readable names belong to the split, and what is known
            of them.
        wanted: False for the name of a picture that need not even be looked at.
        leave_small: leave pictures out that are too small, instead of refusing them all.
        workers: threads that decode pictures side by side; what comes out is the same.

    Raises:
        FileNotFoundError: if ``path`` does not exist.
        ValueError: if there are no pictures, none can be read, the split is not there, one is smaller than
            ``image_size``, or the archive is damaged.
    """
    look = looks(path)
    headers = scan(look(), wanted)
    if not headers:
        which = f" for split='{split}'" if wanted else ""
        raise ValueError(
            f"There are no images{which} in '{path}' (looked for {' '.join(PICTURES)}); "
            "give a folder or archive that has some."
        )
    # An unreadable image has no say in what the folders mean: its name may be a trap that climbs out.
    skipped = {name: header for name, header in headers.items() if isinstance(header, str)}
    names = [name for name in headers if name not in skipped]
    if not names:
        name, why = next(iter(skipped.items()))
        raise ValueError(
            f"None of the {len(skipped)} images in '{path}' can be read, e.g. '{name}' ({why}); "
            "check that they are whole."
        )

    picked = pick(names) if pick else by_folders(path, names, split)
    names = [name for name in names if name in picked.known]
    if leave_small and image_size:
        names = _large_enough(names, headers, image_size)
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
    chosen, shape = set(names), (channels, image_size, image_size)

    def chunks(start=0):
        members = ((name, opener) for name, opener in look() if name in chosen)
        return _decode(members, picked, shape, start, skipped, workers)

    return Reading((len(chosen), *shape), picked.classes, chunks, skipped, picked.attributes)


def scan(members: Members, wanted: Callable[[str], bool] | None = None) -> dict[str, tuple[int, int, bool] | str]:
    """Name: (width, height, is grey) of every picture, by its first bytes; why, where they make no sense.

    Args:
        members: of a folder or an archive, see :func:`ganlib.data.archives.members`.
        wanted: as in :func:`open_pictures`.
    """
    headers = {}
    with warnings.catch_warnings(), bar(None, "looking at", " images") as progress:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, opener in members:
            if wanted is None or wanted(name):
                headers[name] = opener if isinstance(opener, str) else _header(opener)
                progress.update()
    return headers


def _header(opener) -> tuple[int, int, bool] | str:
    try:
        with Image.open(opener()) as image:
            return *image.size, image.mode in ("1", "L", "LA", "I", "F") or image.mode[:2] == "I;"
    except Exception as error:  # PIL raises almost anything: OSError, SyntaxError, struct.error, …
        return _why(opener, error)


def _why(opener, error: Exception) -> str:
    """Why a picture cannot be read, in a few words."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS / 1e6:,.0f} million pixels"
    with contextlib.suppress(Exception):
        source = opener()
        start = source.read_bytes() if isinstance(source, Path) else source.read()
        if not start:
            return "empty"
        if looks_like_html(start[:512]):
            return "a web page"
    return "damaged"


def by_folders(path: Path, names: list[str], split: str) -> Picked:
    """The pictures of a split, and their classes, by the folders they are in: the rules of :func:`open_pictures`.

    Raises:
        ValueError: if the split is not there.
    """
    chosen = _choose_split(path, names, split)
    parts = {name: PurePosixPath(name).parts for name in chosen}
    depth = len(os.path.commonprefix([p[:-1] for p in parts.values()]))
    folders = {name: p[depth] if len(p) > depth + 1 else None for name, p in parts.items()}
    if None in folders.values():
        return Picked(dict.fromkeys(chosen, 0))
    classes = tuple(sorted(set(folders.values())))
    number = {folder: k for k, folder in enumerate(classes)}
    return Picked({name: number[folder] for name, folder in folders.items()}, classes)


def _choose_split(path: Path, names: list[str], split: str) -> list[str]:
    """The names that belong to ``split``."""
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


def _large_enough(names: list[str], headers, image_size: int) -> list[str]:
    """The names of pictures that are; if none is, all of them, so that the smallest can be named."""
    large = [name for name in names if min(headers[name][:2]) >= image_size]
    if large and len(large) < len(names):
        print(f"{len(names) - len(large):,} images smaller than {image_size}×{image_size} are left out.")
    return large or names


def _decode(
    members: Members, picked: Picked, shape: tuple[int, int, int], start: int, skipped: dict[str, str], workers: int
):
    """Chunks of pixels with what is known of them, from the ``start``-th of the members on."""

    def read(file: io.BytesIO | Path | str) -> np.ndarray | str:
        if isinstance(file, str):
            return file
        try:
            with Image.open(file) as image:
                return square(image, shape[1], shape[0])
        except Exception as error:  # as in _header
            return _why(lambda: file if isinstance(file, Path) else io.BytesIO(file.getvalue()), error)

    once = itertools.islice(_once(members), start, None)
    with ThreadPoolExecutor(workers) as pool:  # PIL lets other threads work while it decodes
        side_by_side = pool.map if workers > 1 else map  # handing a small picture over takes as long as to decode it
        while some := list(itertools.islice(once, CHUNK)):
            found = list(side_by_side(read, (file for _, file in some)))
            skipped |= {name: why for (name, _), why in zip(some, found, strict=True) if isinstance(why, str)}
            good = [
                (name, pixels) for (name, _), pixels in zip(some, found, strict=True) if not isinstance(pixels, str)
            ]
            known = [picked.known[name] for name, _ in good]
            pixels = np.stack([pixels for _, pixels in good]) if good else np.empty((0, *shape), np.uint8)
            if picked.attributes:
                yield pixels, np.array(known, np.float32).reshape(len(known), len(picked.attributes))
            else:
                yield pixels, np.array(known, np.int64) if picked.classes else None


def _once(members: Members) -> Iterator[tuple[str, io.BytesIO | Path | str]]:
    """(name, what to open, or why it cannot be) of each member; an archive may hold a name twice."""
    seen = set()
    for name, opener in members:
        if name in seen:
            continue
        seen.add(name)
        try:
            yield name, opener()  # here, as an archive is closed behind its last member
        except Exception as error:  # as in _header
            yield name, _why(opener, error)


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
