"""Image sets by name or by path: a ladder that never blocks and says what it found."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ganlib._runtime import device as runtime
from ganlib.data import cache as prepared
from ganlib.data import folders, sets, sources
from ganlib.data.archives import ARCHIVES, is_archive, stamp
from ganlib.data.images import Batches, ImageSet, to_float, to_uint8
from ganlib.data.sets import SETS
from ganlib.data.shapes import SHAPES, draw_shapes
from ganlib.data.sources import PhotoSet, Source

__all__ = ["Batches", "ImageSet", "load", "to_float", "to_uint8"]

FAKE_COUNT = 10_000

_refused: set[str] = set()  # sets whose download failed: asked for once a process


def load(
    name: str | os.PathLike,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    n: int | None = None,
    split: str = "train",
    classes: Sequence[str] | None = None,
    root: str | os.PathLike | None = None,
    download: bool = True,
    seed: int = 0,
    workers: int = 1,
) -> ImageSet:
    """Load an image set by name, or any folder or archive of images by its path.

    ``load("mnist")``, ``load("fashion-mnist")``, ``load("cifar10")`` and ``load("celeba")`` take, in this order:
    a copy on this machine (``root``, then ``GANLIB_DATA``, the checkout's ``data/``, ``~/.cache/ganlib``;
    Debian's folder); what was prepared earlier from real images; the download; the offline stand-in.
    ``load("lfw")``, ``load("lsun")`` and ``load("imagenet")`` need a copy. ``load("photos.zip")`` or
    ``load("path/to/photos")`` looks in the working folder and then in the data roots; ``load("folder",
    root="photos")`` is the same. ``load("fake")`` draws shapes, ``load("toyfaces")`` faces whose attributes are
    known. What is prepared is kept in :func:`ganlib._runtime.device.cache_dir` and made anew when the files change.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"``, ``"celeba"``, ``"lfw"``, ``"lsun"``,
            ``"imagenet"``, ``"toyfaces"``, ``"fake"``, ``"folder"``, or a path.
        image_size: height and width in pixels. None: 28 for the digits and clothes, 32 for CIFAR-10 and
            ``"fake"``, 64 for faces and the other photographs; for a folder see
            :func:`ganlib.data.folders.open_pictures`. Digits and clothes get a black border up to 32; above it, as
            all of CIFAR-10, they are upscaled; photographs never are.
        channels: 1 or 3; None for as the images are (grey ones get colour only if asked for).
        n: at most this many, chosen at random with balanced classes; for ``"fake"`` and ``"toyfaces"`` how many
            to draw (10,000).
        split: ``"train"`` or ``"test"`` (CelebA: or ``"val"``; LSUN and ImageNet: ``"train"`` or ``"val"``);
            for a folder what its folders are called.
        classes: of ``"lsun"`` or ``"imagenet"``, the names of those to read; None for all there are.
        root: a data root to look in first; for ``"folder"`` the folder or archive itself.
        download: False never touches the network, nor does ``GANLIB_DOWNLOAD=0`` in the environment.
        seed: of the choice of ``n``, and of ``"fake"`` and ``"toyfaces"``.
        workers: threads that decode the pictures of a folder or an archive when they are prepared.

    Returns:
        an ImageSet; its ``source`` says what was found.

    Raises:
        ValueError: if the name, ``image_size``, ``channels``, ``n``, ``split`` or ``classes`` is none there is,
            an image is smaller than ``image_size``, or no image can be read.
        FileNotFoundError: if the path does not exist, or the set is nowhere to be had.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels}, but must be 1 (grey) or 3 (colour).")
    for what, value in (("image_size", image_size), ("n", n), ("workers", workers)):
        if value is not None and value < 1:
            raise ValueError(f"{what} is {value}, but must be at least 1.")

    key = known_name(name)
    if isinstance(classes, str):
        classes = (classes,)
    if classes is not None and not getattr(SETS.get(key), "by_class", False):
        raise ValueError(f"classes= goes with lsun and imagenet; of '{name}', load all and use images.of_class(...).")
    if key == "fake":
        _check_split(key, split)
        return _fake(n or FAKE_COUNT, image_size or 32, channels or 3, split, seed)
    if key == "toyfaces":
        _check_split(key, split)
        return _toyfaces(n or FAKE_COUNT, image_size or 64, channels or 3, split, seed)
    if key in SETS:
        _check_split(key, split, SETS[key].splits)
        images = _climb(key, split, image_size, channels, classes, root, download)
    else:
        images = _from_path(find_path(name, key, root), split, image_size, channels, workers)
    return images.take(n, seed) if n is not None and n < len(images) else images


def _fake(n: int, image_size: int, channels: int, split: str, seed: int) -> ImageSet:
    pixels, labels = draw_shapes(n, image_size, channels, 2 * seed + (split == "test"))
    source = f"fake · {n:,} {'' if split == 'train' else 'test '}generated shapes · seed {seed}"
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), SHAPES, "fake", source, split=split)


def _toyfaces(n: int, image_size: int, channels: int, split: str, seed: int) -> ImageSet:
    source = sets.toy_faces(n, 2 * seed + (split == "test"), f"seed {seed}")
    entry = _entry(f"toyfaces-{n}-{seed}", split, image_size, channels)
    return _prepare(entry, split, image_size, channels, "toyfaces", "toyfaces", "faces", source)


def _climb(key: str, split: str, image_size, channels, classes, root, download: bool) -> ImageSet:
    """Down the ladder for a named set until something holds."""
    recipe = SETS[key]
    download = download and os.environ.get("GANLIB_DOWNLOAD") != "0"
    size, channels = image_size or recipe.size, channels or recipe.channels
    chosen = "" if classes is None else "-" + "+".join(sorted(classes))
    entry = _entry(key + chosen, split, size, channels)
    note = recipe.note(size)
    prepare = functools.partial(_prepare, entry, split, size, channels, key, recipe.title, recipe.unit, note=note)

    for source in sources.copies(recipe, split, root, classes):
        try:
            return prepare(source)
        except ValueError as error:
            print(f"{error} Looking further.")
    if kept := prepared.restore(entry, None):  # made from real images that have since gone
        return _image_set(key, split, *kept)
    if download and key not in _refused and not (isinstance(recipe, PhotoSet) and recipe.fetch is None):
        try:
            return prepare(sources.download(recipe, split))
        except (OSError, ValueError) as error:
            _refused.add(key)
            print(f"{error} Going on with the offline stand-in.")
    if recipe.stand_in is None:
        raise FileNotFoundError(recipe.missing)
    return prepare(recipe.stand_in(split))


def _from_path(path: Path, split: str, image_size, channels, workers: int) -> ImageSet:
    name = path.resolve().name
    title = next((name[: -len(e)] for e in ARCHIVES if name.lower().endswith(e)), name)
    where = f"{'archive' if path.is_file() else 'folder'} {name}"
    how = functools.partial(folders.open_pictures, path, split, workers=workers)
    source = Source(where, stamp(path), lambda size, c: how(size, c))
    # Two folders of one name must not share what is kept.
    place = hashlib.sha256(str(path.absolute()).encode(errors="replace")).hexdigest()[:12]
    entry = _entry(f"{title}-{place}", split, image_size, channels)
    return _prepare(entry, split, image_size, channels, title, title, "images", source)


def _entry(name: str, split: str, image_size: int | None, channels: int | None) -> Path:
    return runtime.cache_dir() / f"{name}-{split}-{image_size or 'auto'}-{channels or 'auto'}"


def _prepare(
    entry: Path, split: str, size, channels, name: str, title: str, unit: str, source: Source, note: str = ""
) -> ImageSet:
    """The images of a source, from the folder ``entry`` if they are kept there, else read and kept there."""
    if kept := prepared.restore(entry, source.stamp):
        return _image_set(name, split, *kept)
    reading = source.open(size, channels)

    def about(n):
        if n == 0:
            name, why = next(iter(reading.skipped.items()))
            raise ValueError(
                f"None of the {len(reading.skipped)} images in {source.where} can be read, e.g. '{name}' ({why}); "
                "check that they are whole."
            )
        parts = [title, f"{n:,} {'' if split == 'train' else split + ' '}{source.unit or unit}"]
        if reading.skipped:
            few = ", ".join(list(reading.skipped)[:3]) + (", …" if len(reading.skipped) > 3 else "")
            parts.append(f"{len(reading.skipped)} skipped as unreadable: {few}")
        line = " · ".join([*parts, source.where]) + note
        names = {"classes": list(reading.classes), "attributes": list(reading.attributes)}
        return {"stamp": source.stamp, "real": source.real, "skipped": list(reading.skipped), "source": line, **names}

    with contextlib.suppress(OSError):  # no room, no right to write, or another process was quicker
        prepared.keep(entry, source.stamp, reading, about)
    kept = prepared.restore(entry, source.stamp)
    if kept is None:
        reading = source.open(size, channels)
        pixels, known = prepared.gather(reading)
        kept = pixels, known, about(len(pixels))
    if reading.skipped:
        few = ", ".join(f"{name} ({why})" for name, why in list(reading.skipped.items())[:10])
        print(f"Unreadable and left out: {few}{', …' * (len(reading.skipped) > 10)}.")
    return _image_set(name, split, *kept)


def _image_set(name: str, split: str, pixels, known, about: dict) -> ImageSet:
    known = None if known is None else torch.from_numpy(known)
    attributes = tuple(about.get("attributes", ()))
    labels, values = (None, known) if attributes else (known, None)
    facts = tuple(about["classes"]), name, about["source"], tuple(about["skipped"]), split
    return ImageSet(torch.from_numpy(pixels), labels, *facts, values, attributes)


def known_name(name: str | os.PathLike) -> str | None:
    """The name as the table has it; None for what looks like a path, or is one.

    Raises:
        ValueError: if it is neither; the names there are, are listed.
    """
    names = [*SETS, "toyfaces", "fake", "folder"]
    text = os.fspath(name)
    plain = {n.replace("-", ""): n for n in names}
    if (key := text.lower().replace("-", "").replace("_", "")) in plain:
        return plain[key]
    looks_like_path = any(s in text for s in "/\\~") or is_archive(Path(text))
    if not isinstance(name, str) or looks_like_path or any(p.exists() for p in _places(text)):
        return None
    near = difflib.get_close_matches(text.lower(), names, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"There is no image set '{name}'; the names are: {', '.join(names)}; or give the path of a folder or "
        f"archive.{hint}"
    )


def _places(path: str | os.PathLike, root: str | os.PathLike | None = None) -> list[Path]:
    path = Path(path).expanduser()
    return [path, *(base / path for base in runtime.data_roots(root))]


def find_path(name: str | os.PathLike, key: str | None, root: str | os.PathLike | None) -> Path:
    """Where a folder or archive of images is: in the working folder or a data root.

    Args:
        name: as given to :func:`load`.
        key: what :func:`known_name` says of it: for ``"folder"`` it is ``root`` itself that is wanted.
        root: a data root to look in first.

    Raises:
        ValueError: if ``root`` is wanted and missing.
        FileNotFoundError: if there is no such path.
    """
    if key == "folder":
        if root is None:
            raise ValueError('load("folder") needs root=, the path of a folder or archive of images.')
        name, root = root, None
    places = _places(name, root)
    found = next((p for p in places if p.exists()), None)
    if found is None:
        roots = ", ".join(f"'{base}'" for base in runtime.data_roots(root))
        raise FileNotFoundError(
            f"There is no folder or archive '{name}' in '{Path.cwd()}' or in the data roots {roots}; check the path."
        )
    return found


def _check_split(name: str, split: str, splits: tuple[str, ...] = ("train", "test")) -> None:
    if split not in splits:
        raise ValueError(f"'{name}' has no split '{split}'; it has: {', '.join(splits)}.")
