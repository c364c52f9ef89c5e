"""Datasets by name or path: loading never blocks, and reports what was found."""

import contextlib
import difflib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ganlib._runtime import device as runtime
from ganlib._runtime.checks import check_whole
from ganlib._runtime.randomness import rng
from ganlib.data import arrays, cache
from ganlib.data.archives import (
    ARCHIVES,
    NO_PICTURE,
    NOW,
    QUIET,
    file_and_folder,
    has_pictures,
    is_picture,
    stamp,
    walk,
)
from ganlib.data.folders import Reading, Source, left_out, none_readable, open_pictures
from ganlib.data.images import ImageSet
from ganlib.data.sets import SETS, faces
from ganlib.data.shapes import SHAPES, draw_shapes
from ganlib.data.squares import MODES, How

log = logging.getLogger("ganlib")

GENERATED = {"toyfaces": 64, "fake": 32}  # and their default size
FAKE_COUNT = 10_000
FOR_NOW = " for now"  # ends the stamp of what must be read again
ENOUGH = 2_000  # images whose pixels are looked at for the summary
_refused: set[str] = set()  # datasets whose download failed: tried once per process


def load(
    name,
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
    **how,
) -> ImageSet:
    """Load a dataset by its name, pictures by their path, or arrays of them.

    A name is looked for in ``root``, ``GANLIB_DATA``, the checkout's ``data/`` and ``~/.cache/ganlib``, then among
    prepared images, then downloaded, then a stand-in is taken. ``source`` of the images says what was found.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"``, ``"celeba"``, ``"emoji"``; ``"lfw"``, ``"lsun"``,
            ``"imagenet"`` (these need a copy); ``"fake"`` or ``"toyfaces"`` (drawn); the path of a folder, an archive,
            a folder in it, a .npy, .npz or CSV file; a list of folders; an array or a tensor; (images, labels); a
            dataset.
        image_size: in pixels. Default: the dataset's own; 64 for photographs; what fits half of a folder. Digits and
            clothes get a black border up to 32; above that they are upscaled, like CIFAR-10; photographs never are.
        channels: 1, 3, or 4 to keep transparency. Default: those of the images.
        n: at most this many, at random with balanced classes; for generated images, how many.
        split: ``"train"`` or ``"test"``, for photographs also ``"val"``; for a folder, the name of a subfolder.
        classes: the classes of ``"lsun"`` or ``"imagenet"`` to read, by name. Default: all.
        root: a folder to look in first; with the name ``"folder"``, the folder or archive itself.
        download: False, or ``GANLIB_DOWNLOAD=0`` in the environment, never uses the network.
        seed, workers: for the choice of ``n`` and generated images; threads that decode pictures.
        how: for your own pictures ``fit``, ``small``, ``background``, ``range``: see :class:`ganlib.data.squares.How`.

    Raises ValueError for an invalid argument or unreadable images, FileNotFoundError if the data are missing.
    """
    if channels not in (None, *MODES):
        raise ValueError(f"channels is {channels}, but must be 1 (grey), 3 (colour) or 4 (with transparency).")
    check_whole(image_size=image_size, n=n, workers=workers)
    rng(seed)  # refuses what is no seed
    one = isinstance(name, str | os.PathLike)
    several = isinstance(name, list | tuple) and name and all(isinstance(part, str | os.PathLike) for part in name)
    key = known_name(name) if one else None
    if classes is not None and not (key in SETS and SETS[key].by_class):
        raise ValueError(f"classes= goes with lsun and imagenet; of '{name}', load all and use images.of_class(...).")
    if isinstance(name, ImageSet):
        images = name
    elif key not in (None, "folder"):
        _check_published(key, name, split, channels, how, root)
        if key in GENERATED:
            return _generated(key, n or FAKE_COUNT, image_size or GENERATED[key], channels or 3, split, seed)
        classes = (classes,) if isinstance(classes, str) else classes
        images = _named(key, split, image_size, channels, classes, root, download)
    elif one or several:
        paths = [find_path(part, key, root) for part in ([name] if one else name)]
        images = _from_paths(paths, split, image_size, channels, workers, How(**how))
    else:
        images = _from_object(name, image_size, channels, How(**how))
    return images.take(n, seed) if n is not None and n < len(images) else images


def _check_published(key: str, name, split: str, channels, how: dict, root) -> None:
    """Refuse what a dataset with a name has not, and a name that may mean a folder here."""
    if split not in (splits := SETS[key].splits if key in SETS else ("train", "test")):
        raise ValueError(f"'{key}' has no split '{split}'; it has: {', '.join(splits)}.")
    no_alpha = channels == 4 and not (key in SETS and SETS[key].channels == 4)
    if no_alpha or how != {k: v for k, v in vars(How()).items() if k in how}:
        wrong = "channels=4" if no_alpha else ", ".join(how)
        raise ValueError(f"{wrong} is for your own pictures; leave it out with '{key}'.")
    own = Path(name)
    a_run = (own / "config.json").exists()
    if root is None and own.is_dir() and not a_run and Path.cwd() not in runtime.data_roots() and has_pictures(own):
        why = f"'{name}' is a published dataset, and a folder of pictures here"
        raise ValueError(f"{why}: write './{name}' for yours; for the other say where to look for it, root=PATH.")


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
    if root is not None and (lone := _pictures_in(Path(root))):
        raise ValueError(f"There is no {dataset.title} in '{root}', but '{lone}': for those name the folder itself.")
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


def _pictures_in(root: Path) -> str | None:
    """The first picture in a folder that is not below one with a dataset's name."""
    names = {name.lower() for dataset in SETS.values() for name in dataset.names}
    found = (path.relative_to(root) for path, why in walk(root) if not why and is_picture(path.name))
    return next((str(path) for path in found if not path.parts[0].lower().startswith((*names, "prepared"))), None)


def _from_object(thing, image_size, channels, how: How) -> ImageSet:
    reading = arrays.open_object(thing, image_size, channels, how)
    source = Source("your own", "", lambda *_: reading)
    return _image_set(type(thing).__name__, "train", *_read(reading, _about(reading, source, "images given")), 99)


def _from_paths(paths: Sequence[Path], split: str, image_size, channels, workers: int, how: How) -> ImageSet:
    names = [str(path.resolve().name).encode(errors="surrogateescape").decode(errors="replace") for path in paths]
    title = "+".join(next((name[: -len(e)] for e in ARCHIVES if name.lower().endswith(e)), name) for name in names)
    if paths[0].name.lower().endswith(arrays.FILES) and len(paths) == 1:
        opener = functools.partial(arrays.open_file, paths[0], split, how=how)
    else:
        opener = functools.partial(open_pictures, paths, split, workers=workers, how=how)
    kind = "archive" if file_and_folder(paths[0])[0].is_file() else "folder"
    source = Source(f"{kind} {' and '.join(names)}", f"{stamp(*paths)} {how}", opener)
    # Two folders with the same name must not share a cache.
    place = hashlib.sha256("\0".join(str(path.absolute()) for path in paths).encode(errors="replace")).hexdigest()[:12]
    return _prepare(f"{title}-{place}", split, image_size, channels, source, title, tell=True)


def _entry(name: str, split: str, image_size: int | None, channels: int | None) -> Path:
    return runtime.cache_dir() / f"{name}-{split}-{image_size or 'auto'}-{channels or 'auto'}"


def _about(reading: Reading, source: Source, title: str, split: str = "train") -> Callable[[int], dict]:
    """A function of the number of images that describes them, in JSON's types."""

    def about(n):
        if n == 0:
            raise ValueError(none_readable(source.where, reading.skipped))
        line = [title, f"{n:,} {'' if split == 'train' else split + ' '}{source.unit}", source.where]
        if unread := [name for name, why in reading.skipped.items() if why not in QUIET]:
            line.insert(2, f"{len(unread):,} left out: {', '.join(unread[:3])}{', …' * (len(unread) > 3)}")
        lists = {name: list(getattr(reading, name)) for name in ("classes", "attributes", "told")}
        # What could not be read only now must be tried again.
        stamp = source.stamp + FOR_NOW * any(why.startswith(NOW) for why in reading.skipped.values())
        lists |= {"stamp": stamp, "real": source.real, "source": " · ".join(line)}
        return lists | {"skipped": {name: why[:200] for name, why in reading.skipped.items()}}

    return about


def _read(reading: Reading, about: Callable[[int], dict]) -> tuple[np.ndarray, np.ndarray | None, dict]:
    chunks = [*reading.chunks()] or about(0)
    pixels, known = zip(*chunks, strict=True)
    pixels, known = np.concatenate(pixels), None if known[0] is None else np.concatenate(known)
    return pixels, known, about(len(pixels))


def _prepare(name: str, split: str, size, channels, source: Source, key: str, title="", tell=False) -> ImageSet:
    """The images of a source, from the cache, after adding them if missing."""
    entry = _entry(name, split, size, channels)
    if kept := cache.restore(entry, source.stamp):
        return _image_set(key, split, *kept, tell and 1)
    reading = source.open(size, channels)
    about = _about(reading, source, title or key, split)
    with contextlib.suppress(OSError, NotImplementedError):  # disk full, no permission to write, no locks
        cache.keep(entry, source.stamp, reading, about)
    kept = cache.restore(entry, source.stamp) or cache.restore(entry, source.stamp + FOR_NOW) or _read(reading, about)
    unread = {name: why for name, why in reading.skipped.items() if why != NO_PICTURE}
    if unread and not tell:
        log.warning(f"Left out: {left_out(unread)}.")
    return _image_set(key, split, *kept, tell and 99)


def _image_set(name: str, split: str, pixels, known, about: dict, lines: int = 0) -> ImageSet:
    """An ImageSet; of your own pictures so many lines of its summary are told."""
    known = None if known is None else torch.from_numpy(known)
    labels, attributes = (None, known) if about["attributes"] else (known, None)
    facts = tuple(about["classes"]), name, about["source"]
    skipped = tuple(name for name, why in about["skipped"].items() if why not in QUIET)
    images = ImageSet(torch.from_numpy(pixels), labels, *facts, skipped, split, attributes, tuple(about["attributes"]))
    if lines:
        images = replace(images, summary=_summary(images, about))
        log.info("\n  ".join(images.summary[:lines]))
    return images


def _summary(images: ImageSet, about: dict) -> tuple[str, ...]:
    """What is in a set and what was done to it, line by line."""
    lines = [str(images)]
    if images.labels is not None:
        counts = images.labels.bincount(minlength=len(images.classes)).tolist()
        listed = [f"{c} {n:,}" for c, n in zip(images.classes, counts, strict=True)]
        lines.append(f"{len(listed)} classes: {', '.join(listed[:20])}{', …' * (len(listed) > 20)}.")
    some = images.pixels[:: 1 + len(images) // ENOUGH]
    low, high = int(some.min()), int(some.max())
    narrow = ", less than a tenth of 0 to 255; range=low,high stretches what lies between" * (high - low < 26)
    lines += [*about["told"], f"Pixels: {low} to {high}{narrow}."]
    return (*lines, *[f"Left out: {left_out(about['skipped'])}."] * bool(about["skipped"]))


def known_name(name: str | os.PathLike) -> str | None:
    """The name as in the table, None for a path; ValueError if it is neither."""
    names, text = [*SETS, *GENERATED, "folder"], os.fspath(name)
    if not str(text).strip():
        raise ValueError(f"The dataset is {name!r}: give its name or its path ('.' for the folder you are in).")
    for known in names:
        if known.replace("-", "") == text.lower().replace("-", "").replace("_", ""):
            return known
    looks_like_path = any(s in text for s in "/\\~") or text.lower().endswith((*ARCHIVES, *arrays.FILES))
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
    if found := next((place for place in places if place.exists() or file_and_folder(place)[1]), None):
        return found
    raise FileNotFoundError(f"There is no folder or archive {' or '.join(map(repr, map(str, places)))}.")
