"""Datasets by name or path: loading never blocks, and reports what was found."""

import contextlib
import difflib
import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ganlib._runtime import device as runtime
from ganlib.data import cache
from ganlib.data.folders import ARCHIVES, Source, none_readable, open_pictures, stamp
from ganlib.data.images import ImageSet
from ganlib.data.sets import SETS, faces
from ganlib.data.shapes import SHAPES, draw_shapes

log = logging.getLogger("ganlib")

GENERATED = {"toyfaces": 64, "fake": 32}  # and their default size
FAKE_COUNT = 10_000
_refused: set[str] = set()  # datasets whose download failed: tried once per process


def load(
    name: str | os.PathLike,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    n: int | None = None,
    split: str = "train",
    classes: str | Sequence[str] | None = None,
    root: str | os.PathLike | None = None,
    download: bool = True,
    seed: int = 0,
    workers: int = 1,
) -> ImageSet:
    """Load a dataset by its name, or any folder or archive of pictures by its path.

    It looks for a copy in ``root``, ``GANLIB_DATA``, the checkout's ``data/`` and ``~/.cache/ganlib``, then for
    prepared images, then tries a download, then a stand-in. ``source`` of the images says what was found.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"``, ``"celeba"``; ``"lfw"``, ``"lsun"``, ``"imagenet"``
            (these need a copy); ``"fake"`` or ``"toyfaces"`` (drawn); a path, in the working folder or a data root.
        image_size: in pixels. Default: the dataset's own; 64 for photographs; what fits all for a folder. Digits and
            clothes get a black border up to 32; above that they are upscaled, like CIFAR-10; photographs never are.
        channels: 1 or 3. Default: those of the images.
        n: at most this many, chosen at random with balanced classes; for generated images, how many.
        split: ``"train"`` or ``"test"``, for photographs also ``"val"``; for a folder, the name of a subfolder.
        classes: the classes of ``"lsun"`` or ``"imagenet"`` to read, by name. Default: all.
        root: a folder to look in first; with the name ``"folder"``, the folder or archive itself.
        download: False, or ``GANLIB_DOWNLOAD=0`` in the environment, never uses the network.
        seed: for the choice of ``n``, and for generated images.
        workers: threads that decode pictures while they are prepared.

    Raises ValueError for an invalid argument or unreadable images, FileNotFoundError if the data are missing.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels}, but must be 1 (grey) or 3 (colour).")
    for what, value in (("image_size", image_size), ("n", n), ("workers", workers)):
        if value is not None and value < 1:
            raise ValueError(f"{what} is {value}, but must be at least 1.")
    key = known_name(name)
    if classes is not None and not (key in SETS and SETS[key].by_class):
        raise ValueError(f"classes= goes with lsun and imagenet; of '{name}', load all and use images.of_class(...).")
    splits = SETS[key].splits if key in SETS else ("train", "test")
    if key not in (None, "folder") and split not in splits:
        raise ValueError(f"'{key}' has no split '{split}'; it has: {', '.join(splits)}.")
    if key in GENERATED:
        return _generated(key, n or FAKE_COUNT, image_size or GENERATED[key], channels or 3, split, seed)
    if key in SETS:
        classes = (classes,) if isinstance(classes, str) else classes
        images = _named(key, split, image_size, channels, classes, root, download)
    else:
        images = _from_path(find_path(name, key, root), split, image_size, channels, workers)
    return images.take(n, seed) if n is not None and n < len(images) else images


def _generated(key: str, n: int, size: int, channels: int, split: str, seed: int) -> ImageSet:
    of_split = 2 * seed + (split == "test")
    if key == "toyfaces":
        return _prepare(f"toyfaces-{n}-{seed}", split, size, channels, faces(n, of_split, f"seed {seed}"), key)
    pixels, labels = map(torch.from_numpy, draw_shapes(n, size, channels, of_split))
    source = f"fake · {n:,} {'' if split == 'train' else 'test '}generated shapes · seed {seed}"
    return ImageSet(pixels, labels, SHAPES, "fake", source, split=split)


def _named(key: str, split: str, image_size, channels, classes, root, download: bool) -> ImageSet:
    """Try one source after the other."""
    dataset = SETS[key]
    size, channels = image_size or dataset.size, channels or dataset.channels
    name = key if classes is None else f"{key}-{'+'.join(sorted(classes))}"

    made_of = f" · made of {dataset.size}×{dataset.size}" if dataset.of_one_size and size != dataset.size else ""

    def prepare(source):
        source = replace(source, where=source.where + made_of)
        return _prepare(name, split, size, channels, source, key, dataset.title)

    for source in dataset.copies(split, root, classes):
        try:
            return prepare(source)
        except ValueError as error:
            log.warning(f"{error} Looking further.")
    if kept := cache.restore(_entry(name, split, size, channels), None):  # made from real images, now removed
        return _image_set(key, split, *kept)
    if download and os.environ.get("GANLIB_DOWNLOAD") != "0" and key not in _refused and dataset.files:
        try:
            return prepare(dataset.download(split))
        except (OSError, ValueError) as error:
            _refused.add(key)
            log.warning(f"{error} Continuing with the offline stand-in.")
    how = "\n  ".join(dataset.to_get([split], root))
    if dataset.stand_in is None:
        raise FileNotFoundError(f"{dataset.title} is not on this machine. {how}")
    source = dataset.stand_in(split)
    if source.unit != dataset.unit:
        why = f"What you get are {source.unit}, to try things out: no score on them means anything."
        log.warning(f"{dataset.title} is not on this machine. {why} {how}")
    return prepare(source)


def _from_path(path: Path, split: str, image_size, channels, workers: int) -> ImageSet:
    name = path.resolve().name
    title = next((name[: -len(e)] for e in ARCHIVES if name.lower().endswith(e)), name)
    opener = functools.partial(open_pictures, path, split, workers=workers)
    source = Source(f"{'archive' if path.is_file() else 'folder'} {name}", stamp(path), opener)
    # Two folders with the same name must not share a cache.
    place = hashlib.sha256(str(path.absolute()).encode(errors="replace")).hexdigest()[:12]
    return _prepare(f"{title}-{place}", split, image_size, channels, source, title)


def _entry(name: str, split: str, image_size: int | None, channels: int | None) -> Path:
    return runtime.cache_dir() / f"{name}-{split}-{image_size or 'auto'}-{channels or 'auto'}"


def _prepare(name: str, split: str, size, channels, source: Source, key: str, title: str = "") -> ImageSet:
    """The images of a source, from the cache, after adding them if missing."""
    entry = _entry(name, split, size, channels)
    if kept := cache.restore(entry, source.stamp):
        return _image_set(key, split, *kept)
    reading = source.open(size, channels)

    def about(n):
        if n == 0:
            raise ValueError(none_readable(source.where, reading.skipped))
        line = [title or key, f"{n:,} {'' if split == 'train' else split + ' '}{source.unit}", source.where]
        if reading.skipped:
            few = ", ".join(list(reading.skipped)[:3]) + ", …" * (len(reading.skipped) > 3)
            line.insert(2, f"{len(reading.skipped)} skipped as unreadable: {few}")
        lists = {name: list(getattr(reading, name)) for name in ("classes", "attributes", "skipped")}
        return {"stamp": source.stamp, "real": source.real, "source": " · ".join(line), **lists}

    with contextlib.suppress(OSError, NotImplementedError):  # disk full, no permission to write, no locks
        cache.keep(entry, source.stamp, reading, about)
    if not (kept := cache.restore(entry, source.stamp)):
        pixels, known = zip(*reading.chunks(), strict=True)
        pixels, known = np.concatenate(pixels), None if known[0] is None else np.concatenate(known)
        kept = pixels, known, about(len(pixels))
    if reading.skipped:
        few = ", ".join(f"{name} ({why})" for name, why in list(reading.skipped.items())[:10])
        log.warning(f"Unreadable and left out: {few}{', …' * (len(reading.skipped) > 10)}.")
    return _image_set(key, split, *kept)


def _image_set(name: str, split: str, pixels, known, about: dict) -> ImageSet:
    known = None if known is None else torch.from_numpy(known)
    labels, attributes = (None, known) if about["attributes"] else (known, None)
    facts = tuple(about["classes"]), name, about["source"], tuple(about["skipped"]), split
    return ImageSet(torch.from_numpy(pixels), labels, *facts, attributes, tuple(about["attributes"]))


def known_name(name: str | os.PathLike) -> str | None:
    """The name as in the table, None for a path; ValueError if it is neither."""
    names, text = [*SETS, *GENERATED, "folder"], os.fspath(name)
    for known in names:
        if known.replace("-", "") == text.lower().replace("-", "").replace("_", ""):
            return known
    looks_like_path = any(s in text for s in "/\\~") or text.lower().endswith(ARCHIVES)
    if not isinstance(name, str) or looks_like_path or any(place.exists() for place in _places(text)):
        return None
    hint = "".join(f" Did you mean '{near}'?" for near in difflib.get_close_matches(text.lower(), names, 1))
    raise ValueError(f"There is no dataset '{name}': give a path, or one of {', '.join(names)}.{hint}")


def _places(path: str | os.PathLike, root: str | os.PathLike | None = None) -> list[Path]:
    path = Path(path).expanduser()
    return [path, *(base / path for base in runtime.data_roots(root))]


def find_path(name: str | os.PathLike, key: str | None, root: str | os.PathLike | None) -> Path:
    """Where a folder or archive is; for the name "folder" that is ``root`` itself."""
    if key == "folder":
        if root is None:
            raise ValueError('load("folder") needs root=, the path of a folder or archive of images.')
        name, root = root, None
    places = _places(name, root)
    if found := next((place for place in places if place.exists()), None):
        return found
    raise FileNotFoundError(f"There is no folder or archive {' or '.join(map(repr, map(str, places)))}.")
