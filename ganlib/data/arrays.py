"""Pictures that are numbers already: arrays, tensors, .npy, .npz, CSV, the datasets of other libraries."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import io
import json
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from ganlib.data.archives import Members, file_and_folder, intact
from ganlib.data.folders import ALIASES, Picked, Reading, open_members
from ganlib.data.squares import How, Range

PAGED = (".tif", ".tiff", ".gif")  # one file of them is all of its pages
FILES = (".npy", ".npz", ".csv", ".tsv", ".csv.gz", ".parquet", *PAGED)
IMAGE = ("image", "img")  # of a column or field of pictures
LABELS = ("label", "labels", "class", "target", "targets", "emotion", "digit", "y")  # of a column, array or field
NO_PIXELS = ("id", "index", "image_id", "filename", "unnamed: 0", "")  # of a column: neither label nor pixel
USAGE = {"training": "train", "publictest": "val", "privatetest": "test"}  # the splits of FER-2013
MOST_NUMBERED = 1000  # labels up to this keep their numbers, so that they agree between splits

Images = np.ndarray | Sequence[Image.Image]


def open_file(path: Path, split: str, image_size=None, channels=None, *, how: How) -> Reading:
    """The pictures in a .npy, .npz, CSV or parquet file, or a TIFF's pages, also in a zip. A pickle is never run."""
    file, inside = file_and_folder(path)
    with intact(file, ValueError, KeyError):
        raw = zipfile.ZipFile(file).read(inside.rstrip("/")) if inside else file.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    ways = {(".npy", ".npz"): _from_numpy, ".parquet": _from_parquet, PAGED: _from_pages}
    read = next((way for ends, way in ways.items() if path.name.lower().endswith(ends)), _from_csv)
    images, labels, told, *classes = read(path, raw, ALIASES.get(split, split))
    return open_images(images, labels, classes, image_size, channels, how, str(path), told)


def _from_pages(path: Path, raw: bytes, _):
    """The pages or frames of one file."""
    with intact(path, Exception), Image.open(io.BytesIO(raw)) as image:
        pages = tuple(page.copy() for page in ImageSequence.Iterator(image))
    return pages, None, [f"The {len(pages):,} pages or frames of the file, a picture each."]


def _from_parquet(path: Path, raw: bytes, _):
    """The images, labels and class names of a table as Hugging Face's: encoded pictures, one a row."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"'{path}' needs PyArrow: pip install pyarrow.") from error
    with intact(path, Exception):
        table = parquet.ParquetFile(io.BytesIO(raw)).read()
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    name = next((name for name in table.column_names if name.lower() in (*IMAGE, "pixels")), None)
    if name is None:
        raise ValueError(f"'{path}' has no column image, only: {', '.join(table.column_names)}.")
    with intact(path, Exception):
        cells = (cell["bytes"] if isinstance(cell, dict) else cell for cell in table[name].to_pylist())
        images = tuple(Image.open(io.BytesIO(cell)) for cell in cells)
    label = next((name for name in table.column_names if name.lower() in LABELS), None)
    classes = about.get("info", {}).get("features", {}).get(label, {}).get("names", ())
    told = [f"Images: {name}; labels: {label or 'none'}."]
    return images, table[label].to_pylist() if label else None, told, *classes


def _from_numpy(path: Path, raw: bytes, split: str):
    """The images and labels of a split among the arrays of a file."""
    try:
        loaded = np.load(io.BytesIO(raw))  # which refuses pickles
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded}
    except Exception as error:
        if "Object arrays" in str(error) or raw[:1] == b"\x80":
            why = "is or holds a pickle, which could run anything"
            raise ValueError(f"'{path}' {why}: save it again by np.save, as numbers.") from error
        with intact(path, Exception):
            raise
    of = {name: next((ALIASES[p] for p in name.lower().split("_") if p in ALIASES), None) for name in arrays}
    there = {*of.values()} - {None} or {"train"}
    if split not in there:
        raise ValueError(f"'{path}' has no split '{split}'; it has: {', '.join(sorted(there))}.")
    mine = {name: array for name, array in arrays.items() if of[name] in (split, None)}
    images = max((name for name in mine if mine[name].ndim >= 2), key=lambda name: mine[name].size, default=None)
    if images is None:
        listed = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"'{path}' holds no images [N, H, W, C], only: {listed}.")
    pixels = mine.pop(images)
    fitting = (name for name, array in mine.items() if array.ndim in (1, 2) and len(array) in pixels.shape)
    labels = min(fitting, key=lambda name: not {*name.lower().split("_")} & {*LABELS}, default=None)
    unused = ", ".join(name for name in mine if name != labels)
    told = [f"Images: {images}; labels: {labels or 'none'}; not used: {unused or 'none'}."] * bool(mine)
    return pixels, mine.get(labels), told


def _from_csv(path: Path, raw: bytes, split: str):
    """The images and labels of a table with a column a pixel, or all of them in one."""
    text = raw.decode("utf-8-sig", "replace")
    start = text.partition("\n")[0]
    mark = max(",;\t", key=start.count)
    first = [word.strip().lower() for word in next(csv.reader([start], delimiter=mark), [])]
    named = not all(re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", word) for word in first)
    names = first if named else [str(k) for k in range(len(first))]
    label = next((k for k, name in enumerate(names) if name in LABELS), None)
    if not named and not _side(len(first)):
        label = 0
    used = [k for k, name in enumerate(names) if k != label and name not in NO_PIXELS]
    if "pixels" not in names and (not _side(len(used)) or len(used) < 16):
        how = "give each picture a row, with a column a pixel; or load a folder with a subfolder a class"
        raise ValueError(f"'{path}' has {len(used)} columns for pixels, which are no square: {how}.")
    with intact(path, ValueError, IndexError):
        if "pixels" in names:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=mark) if row][1:]
            if "usage" in names:
                rows = [row for row in rows if USAGE.get(row[names.index("usage")].lower()) == split]
            pixels = np.array([np.array(row[names.index("pixels")].split(), np.float32) for row in rows])
            return pixels, None if label is None else [row[label] for row in rows], []
        how = dict(delimiter=mark, skiprows=int(named), ndmin=2)
        pixels = np.loadtxt(io.StringIO(text), np.float32, usecols=used, **how)
        return pixels, None if label is None else np.loadtxt(io.StringIO(text), str, usecols=[label], **how)[:, 0], []


def _side(n: int) -> int | None:
    """The side of a square of n numbers, grey or in colour."""
    return next((side for c in (1, 3) if c * (side := math.isqrt(n // c)) ** 2 == n), None)


def open_object(thing, image_size, channels, how: How) -> Reading:
    """The pictures of an array, a tensor, (images, labels), or another library's dataset."""
    where, thing = f"this {type(thing).__name__}", getattr(thing, "tensors", thing)
    told, labels, classes = [], None, tuple(getattr(thing, "classes", ()))
    data = None if _is_array(thing) else getattr(thing, "data", None)
    two = isinstance(thing, tuple | list) and len(thing) == 2 and _is_array(thing[0]) and np.ndim(thing[0]) > 2
    if two and np.ndim(thing[1]) < 3:
        thing, labels = thing
    elif _is_array(data) and len(data) == len(thing):  # torchvision's: the pixels as they are
        labels = next((getattr(thing, name) for name in ("targets", "labels") if hasattr(thing, name)), None)
        told = ["The dataset's transform is not applied."] if getattr(thing, "transform", None) else []
        thing = data
    elif not _is_array(thing):
        listed = hasattr(thing, "__len__") and hasattr(thing, "__getitem__") and not isinstance(thing, dict)
        if not listed or not len(thing):
            raise ValueError(f"{where.capitalize()} holds no images: give a path, an array, a tensor or a dataset.")
        thing, labels = zip(*(_pair(thing[k]) for k in range(len(thing))), strict=True)
        labels = None if None in labels else labels
        if not isinstance(thing[0], Image.Image):
            thing = [_numpy(image) for image in thing]
            if len(shapes := {image.shape for image in thing}) > 1:
                raise ValueError(f"The images of {where} have {len(shapes)} shapes: give PIL images, or one shape.")
            thing = np.stack(thing)
    return open_images(thing, labels, classes, image_size, channels, how, where, told)


def _is_array(thing) -> bool:
    return hasattr(thing, "dtype") and hasattr(thing, "shape")


def _numpy(thing) -> np.ndarray:
    thing = thing.detach().cpu() if hasattr(thing, "detach") else thing
    return np.asarray(thing.float() if str(getattr(thing, "dtype", "")) == "torch.bfloat16" else thing)


def _pair(item) -> tuple[object, object]:
    """The image and the label of a dataset's item."""
    if isinstance(item, dict):  # Hugging Face's
        found = [[item[name] for name in names if name in item] for names in (IMAGE, LABELS)]
        item = [some[0] if some else None for some in found]
    return (item[0], item[1] if np.ndim(item[1]) == 0 else None) if isinstance(item, tuple | list) else (item, None)


def open_images(images, labels, classes, image_size, channels, how: How, where: str, told: Sequence[str]) -> Reading:
    """Images in an array of any layout and range, or PIL's, with their labels, as a Reading."""
    if not isinstance(images, tuple):
        images, deep = _standard(_numpy(images), where), Range(how.range)
        if images.dtype != np.uint8 or how.range:
            # Only what is stored in 16 bits is likely to be on their scale.
            images = images if images.dtype.kind in "iu" and images.itemsize == 2 else images.astype(np.float32)
            deep.see(images)
            images, told, how = deep.to_uint8(images), [*told, str(deep)], replace(how, range=None)
    grey = not isinstance(images, tuple) and images.shape[3] == 1
    labels, classes = (None, ()) if labels is None else _numbered(_numpy(labels), classes)
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"There are {len(labels):,} labels for {len(images):,} images in {where}.")

    def picture(k: int) -> Image.Image:
        image = images[k]
        return image.copy() if isinstance(image, Image.Image) else Image.fromarray(image.squeeze(2) if grey else image)

    def again() -> Members:
        return ((str(k), functools.partial(picture, k)) for k in range(len(images)))

    def pick(_, names: Sequence[str], __) -> Picked:
        return Picked({name: 0 if labels is None else int(labels[int(name)]) for name in names}, classes, told=told)

    return open_members(again, where, "train", image_size, channels, pick=pick, how=how)


def _standard(images: np.ndarray, where: str) -> np.ndarray:
    """Images in any layout as [N, H, W, C]."""
    shape = images.shape
    if images.dtype.kind not in "biuf" or 0 in shape:
        raise ValueError(f"The images in {where} are {images.dtype} {list(shape)}, but must be numbers, and some.")
    colours = (1, 3, 4)
    if images.ndim == 2 and (side := _side(shape[1])):
        # Three numbers for each pixel, or three planes: neighbours are alike.
        planes, points = images.reshape(len(images), -1, side, side), images.reshape(len(images), side, side, -1)
        rough = [np.abs(np.diff(x[:64].astype(np.float32), axis=a)).mean() for x, a in ((planes, 3), (points, 2))]
        return planes.transpose(0, 2, 3, 1) if rough[0] <= rough[1] else points
    if images.ndim == 3 and shape[2] in colours[1:] and min(shape[:2]) > 4:
        images = images[None]  # a single picture
    elif images.ndim == 3:
        images = (images.transpose(2, 0, 1) if shape[0] == shape[1] != shape[2] else images)[..., None]
    shape = images.shape
    if images.ndim == 4:
        # Which axis is the colour, and where the axes N, H, W, C are then.
        layouts = {1: (0, 2, 3, 1), 3: (0, 1, 2, 3), 2: (3, 0, 1, 2), 0: (3, 1, 2, 0)}
        fitting = [axes for axis, axes in layouts.items() if shape[axis] in colours]
        fitting.sort(key=lambda axes: shape[axes[1]] != shape[axes[2]])
        # The number of images comes last only with squares: else it is too much of a guess.
        fitting = [axes for axes in fitting if axes[0] == 0 or shape[axes[1]] == shape[axes[2]]]
        if fitting:
            return images.transpose(fitting[0])
    raise ValueError(f"The images in {where} have shape {list(shape)}, but must be [N, H, W, C] with C = 1, 3 or 4.")


def _numbered(labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of any kind as numbers from 0, and the names of their classes."""
    if labels.ndim == 2:  # a column, or one of n
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(1)
    if labels.dtype.kind in "US":
        with contextlib.suppress(ValueError):
            labels = labels.astype(np.float64)
    if labels.dtype.kind in "bf" and (labels == np.round(labels.astype(np.float64))).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < max(MOST_NUMBERED, len(classes)):
        names = classes if len(classes) > labels.max() else range(labels.max() + 1)
        return labels.astype(np.int64), tuple(map(str, names))
    names, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), tuple(map(str, names))
