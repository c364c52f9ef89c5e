"""Pictures in a folder or an archive, made into equal squares."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ganlib._runtime.progress import bar
from ganlib.data.archives import TOO_SMALL, Members, Opener, format_of, passes, passing, why_not
from ganlib.data.squares import How, Range, is_deep, numbers, square

log = logging.getLogger("ganlib")

# Common names for the folder of a split, and for one of masks, which are no pictures to learn.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
ALIASES = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
MASKS = {"mask", "masks", "label", "labels", "annotations", "segmentation", "segmentations", "gt", "ground_truth"}
IMAGES = {"image", "images", "img", "imgs", "photos", "pictures"}
DEFAULT_SIZES = (64, 48, 32, 28)  # the largest that fits half of the pictures
SMALLEST = 8  # that a network can draw
CHUNK = 256
SILENT_UP_TO = 5000  # preparing more takes long enough to announce it
USUAL = How()


@dataclass(frozen=True)
class Reading:
    """Images of one size and channel count, while they are read."""

    shape: tuple[int, int, int, int]  # [N, C, H, W]; includes those that turn out to be unreadable
    classes: Sequence[str]
    # chunks(start): from that image on, uint8 [k, C, H, W] with int64 labels [k], float32 attributes [k, A] or None
    chunks: Callable[..., Iterable[tuple[np.ndarray, np.ndarray | None]]]
    skipped: dict[str, str] = field(default_factory=dict)  # what is left out, and why; complete after the chunks
    attributes: Sequence[str] = ()
    told: Sequence[str] = ()  # sentences about what is done to the pictures


@dataclass(frozen=True)
class Source:
    """Images that were found, but not yet read."""

    where: str
    stamp: str  # changes when the files do
    open: Callable[[int | None, int | None], Reading]  # takes image_size and channels; None: as they are
    unit: str = "images"
    real: bool = True  # False for generated pictures and other stand-ins
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Picked:
    """The selected pictures, by name, with their labels or attributes."""

    known: Mapping[str, int | np.ndarray]
    classes: Sequence[str] = ()
    attributes: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # why, by name
    told: Sequence[str] = ()

    def of(self, names: Iterable[str]) -> np.ndarray | None:
        """The labels or attributes of some pictures, if any: float32 or int64."""
        if self.classes or self.attributes:
            return np.array([self.known[name] for name in names], np.float32 if self.attributes else np.int64)


def by_folders(path: object, names: Sequence[str], split: str) -> Picked:
    """The pictures of a split and their classes, by their folders.

    The numbers of the classes are those of the split ``train``, if there is one.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    folders = {p[:k] for p in parts.values() for k in range(1, len(p))}
    with_images = {f[:-1] for f in folders if f[-1].lower() in IMAGES}
    masks = {f for f in folders if f[-1].lower() in MASKS and f[:-1] in with_images}
    mine = {name: p for name, p in parts.items() if not (masks and masks & {p[:k] for k in range(len(p))})}
    left_out, parts = dict.fromkeys(parts.keys() - mine.keys(), "a mask beside images"), mine
    common = os.path.commonprefix([p[:-1] for p in parts.values()])
    depth = len(common)
    found = {name: ALIASES.get(p[depth].lower()) if len(p) > depth + 1 else None for name, p in parts.items()}
    # A class may be called "train" too (it runs on rails), so "train" alone does not make a split.
    if not {"train"} < set(found.values()) - {None}:
        above = [ALIASES[part.lower()] for part in common if part.lower() in ALIASES]
        found = dict.fromkeys(parts, above[0] if above else "train")
    split = ALIASES.get(split, split)
    if split not in found.values():
        there = ", ".join(sorted(set(found.values()) - {None}))
        raise ValueError(f"'{path}' has no split '{split}'; it has: {there}.")
    left_out |= dict.fromkeys((name for name, of in found.items() if of is None), "outside of the splits")

    def labelled(of: str, at: int | None = None) -> tuple[dict[str, str | None], int]:
        mine = {name: p for name, p in parts.items() if found[name] == of}
        at = len(os.path.commonprefix([p[:-1] for p in mine.values()])) if at is None else at
        return {name: p[at] if len(p) > at + 1 else None for name, p in mine.items()}, at

    known, _ = labelled(split)
    classes = [] if None in known.values() else sorted(set(known.values()))
    if "train" in found.values():
        first, at = labelled("train")
        same, _ = labelled(split, at)
        if None not in {*first.values(), *same.values()}:  # else the splits are laid out differently
            known, first = same, sorted(set(first.values()))
            classes = first + sorted(set(same.values()) - {*first})
    stray, told = [name for name, folder in known.items() if folder is None], []
    if 0 < len(stray) < len(known):
        told = [f"No labels, as {len(stray):,} pictures, such as '{stray[0]}', are in no class's folder."]
    number = {folder: k for k, folder in enumerate(classes)}
    return Picked({n: number.get(folder, 0) for n, folder in known.items()}, tuple(classes), (), left_out, told)


def by_folders_of_each(_, names: Sequence[str], split: str) -> Picked:
    """As :func:`by_folders` for each of several folders; without classes each is one."""
    inside: dict[str, list[str]] = {}
    for name in names:
        top, _, rest = name.partition("/")
        inside.setdefault(top, []).append(rest)
    each = {top: by_folders(top, rest, split) for top, rest in inside.items()}
    if not all(picked.classes for picked in each.values()):
        each = {top: replace(one, known=dict.fromkeys(one.known, 0), classes=[top]) for top, one in each.items()}
    classes = sorted({name for picked in each.values() for name in picked.classes})
    known = {f"{top}/{n}": classes.index(one.classes[k]) for top, one in each.items() for n, k in one.known.items()}
    left_out = {f"{top}/{name}": why for top, one in each.items() for name, why in one.left_out.items()}
    return Picked(known, tuple(classes), left_out=left_out)


class Header(NamedTuple):
    """What the first pass finds out about a picture."""

    width: int
    height: int
    grey: bool
    pages: bool = False


def open_pictures(
    path: Path | Sequence[Path], split="train", image_size=None, channels=None, *, pick=None, folders=("",), **how
) -> Reading:
    """The pictures in a folder or an archive, or in several, as equal squares.

    Folders called ``train`` and ``test`` (``val``, …) are splits; without them every picture is for training. The
    first folder below is the class; if a picture is outside of one, or there is only one, there are no labels.
    Default of ``image_size``: the largest of 64, 48, 32 and 28 that fits half of the pictures, or their median. A
    dataset with its own rules passes ``pick(where, names, split)``; without ``how`` small pictures are then left out.
    """
    paths = [path] if isinstance(path, Path) else path
    if pick:
        how = {"how": How(small="skip")} | how
    pick = pick or (by_folders if len(paths) == 1 else by_folders_of_each)
    where = " and ".join(map(str, paths))
    return open_members(passes(paths, folders), where, split, image_size, channels, pick=pick, **how)


def open_members(
    again: Callable[[], Members], where: str, split: str, image_size, channels, *, pick, how=USUAL, workers=1
) -> Reading:
    """The pictures that ``again()`` yields each time, as equal squares."""
    deep = Range(how.range)
    headers = read_headers(again(), deep)
    # Unreadable images do not decide what the folders mean: a malicious name may lead out of them.
    skipped = {name: header for name, header in headers.items() if isinstance(header, str)}
    names = [name for name in headers if name not in skipped]
    if not names:
        raise ValueError(none_readable(where, skipped))
    picked = pick(where, names, split)
    skipped |= picked.left_out
    sizes = {name: headers[name][:2] for name in names if name in picked.known}
    if image_size is None:
        median = sorted(map(min, sizes.values()))[(len(sizes) - 1) // 2]
        image_size = max(SMALLEST, next((size for size in DEFAULT_SIZES if size <= median), median))
    told = [*picked.told, *_about_sizes(sizes, image_size, how)]
    if how.small == "skip":
        small = dict.fromkeys((name for name in sizes if min(sizes[name]) < image_size), TOO_SMALL)
        if len(small) == len(sizes):
            largest = max(sizes, key=lambda name: min(sizes[name]))
            what = f"All {len(sizes):,} images in '{where}' are smaller than image_size={image_size}"
            size = "×".join(map(str, sizes[largest]))
            raise ValueError(f"{what}; use {min(sizes[largest])} or less: '{largest}' is {size}.")
        skipped |= small
        sizes = {name: size for name, size in sizes.items() if name not in small}
    if channels is None:
        channels = 1 if all(headers[name].grey for name in sizes) else 3
    if pages := [name for name in sizes if headers[name].pages]:
        told.append(f"{len(pages):,} with several pages or frames, such as '{pages[0]}': the first of each is taken.")
    if deep.low <= deep.high:
        told.append(str(deep))
    if len(sizes) > SILENT_UP_TO:
        log.info(f"Preparing {len(sizes):,} images from '{PurePosixPath(where).name}' …")
    shape = (channels, image_size, image_size)

    def chunks(start=0):
        left = dict.fromkeys(sizes)  # an archive may contain a name twice
        once = (member for member in again() if left.pop(member[0], "") is None)
        read = functools.partial(square, image_size=image_size, channels=channels, how=how, deep=deep)
        return _decode(itertools.islice(once, start, None), picked, read, skipped, workers)

    return Reading((len(sizes), *shape), picked.classes, chunks, skipped, picked.attributes, told)


def _about_sizes(sizes: Mapping[str, tuple[int, int]], to: int, how: How) -> list[str]:
    """Sentences about the sizes of pictures, and what becomes of them."""
    common = Counter(sizes.values()).most_common(4)
    listed = ", ".join(f"{w}×{h} ({n:,})" for (w, h), n in common[:3]) + ", …" * (len(common) > 3)
    away = 1 - sum(min(size) ** 2 / (size[0] * size[1]) for size in sizes.values()) / len(sizes)
    lost = {"crop": f"{away:.0%} of their area is cropped away (fit=pad or squash keeps it)", "pad": "padded"}
    told = [f"Sizes: {listed}; {to}×{to} to the network" + f", {lost.get(how.fit, 'squashed')}" * (away > 0) + "."]
    small = [name for name, size in sizes.items() if min(size) < to]
    if small and how.small == "enlarge":
        name = min(small, key=lambda name: min(sizes[name]))
        size = "×".join(map(str, sizes[name]))
        told.append(
            f"{len(small):,} smaller than {to} are enlarged, such as '{name}' of {size} (small=skip: left out)."
        )
    return told


def left_out(skipped: Mapping[str, str]) -> str:
    """What is left out, counted by reason; up to three of a kind are named."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, why in skipped.items():
        ending = PurePosixPath(name).suffix.lower() or "without an ending"
        kinds.setdefault(((ending if len(ending) < 12 else "others"), why), []).append(name)
    told = []
    for (ending, why), names in sorted(kinds.items(), key=lambda item: -len(item[1])):
        told.append(f"{len(names):,} {ending} ({why})" if len(names) > 3 else f"{', '.join(names)} ({why})")
    return ", ".join(told[:12]) + f", and {len(told) - 12} more kinds" * (len(told) > 12)


def none_readable(where: object, skipped: Mapping[str, str]) -> str:
    """The message about a folder or an archive without a readable picture."""
    there = f"; there are: {left_out(skipped)}" if skipped else ""
    return f"There are no images in '{where}' that can be read{there}."


def read_headers(found: Members, deep: Range) -> dict[str, Header | str]:
    """A Header of every picture by name, or why it is left out; ``deep`` sees its numbers."""
    headers: dict[str, Header | str] = {}
    with warnings.catch_warnings(), bar(None, "looking at", " images") as progress:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, opener in found:
            if name in headers:
                headers[f"{name} (again)"] = "of two with the same name, the first is read"
            else:
                headers[name] = _try(functools.partial(_header, deep=deep), opener, name)
            progress.update()
    return headers


def _header(image: Image.Image, deep: Range) -> Header:
    if is_deep(image):
        deep.see(numbers(image))
    pages = image.format in ("GIF", "TIFF", "PNG", "WEBP", "AVIF") and getattr(image, "is_animated", False)
    return Header(*image.size, is_deep(image) or image.mode in ("1", "L", "LA"), pages)


def _try(function: Callable, opener: Opener, name: str):
    """``function`` of the picture in a file, or a string: why it cannot be read."""
    if isinstance(opener, str):
        return opener
    start, kind = b"?", None
    try:
        file = opener()
        if isinstance(file, Image.Image):
            return function(file)
        with file:
            start = file.read(512)
            if not (kind := format_of(start, name)):
                return why_not(start, name)
            file.seek(0)
            with Image.open(file, formats=[kind]) as image:
                return function(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS / 1e6:,.0f} million pixels"
    except Exception as error:  # PIL raises almost anything: OSError, SyntaxError, struct.error, …
        why = passing(error) or why_not(start, name)
        unknown = kind == "TIFF" and isinstance(error, UnidentifiedImageError)
        return f"{why}, or a kind of TIFF that Pillow cannot read" if unknown else why


def _decode(found: Members, picked: Picked, read: Callable, skipped: dict[str, str], workers: int):
    """Chunks of pixels with their labels and attributes."""
    with ThreadPoolExecutor(workers) as pool:  # PIL lets other threads work while it decodes
        side_by_side = pool.map if workers > 1 else map  # passing on a small picture takes as long as decoding it
        while some := list(itertools.islice(found, CHUNK)):
            names, openers = zip(*some, strict=True)
            pixels = dict(zip(names, side_by_side(functools.partial(_try, read), openers, names), strict=True))
            skipped |= {name: pixels.pop(name) for name in names if isinstance(pixels[name], str)}
            if pixels:
                yield np.stack([*pixels.values()]), picked.of(pixels)
