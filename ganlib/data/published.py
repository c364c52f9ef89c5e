"""Datasets as published: finding their files, reading them without running code.

torchvision's readers unpickle CIFAR-10's batches, unzip nothing, and end at the first damaged picture.
"""

import functools
import gzip
import pickletools
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from torch.nn import functional as F

from ganlib.data.download import looks_like_html
from ganlib.data.folders import (
    ARCHIVES,
    Picked,
    Reading,
    Source,
    by_folders,
    holds_pictures,
    intact,
    open_pictures,
    stamp,
)

IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
CIFAR = ("cifar10", "CIFAR10", "cifar-10")
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_COPIES = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
BATCHES = {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)}
PER_BATCH = 10_000
PIXELS = 3 * 32 * 32  # of a picture: 1,024 bytes of red, then green, then blue, each row by row
# What a pickled array asks for, by every numpy so far.
ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")
CELEBA = ("celeba", "CelebA", "celebA")
CELEBA_SPLITS = {"train": 0, "val": 1, "test": 2}  # and their numbers in the list of the partition
CURE = "get it again, see data/README.md."


def resize(pixels: np.ndarray, image_size: int | None, channels: int | None, pad_to: int = 0) -> np.ndarray:
    """Square images ``[N, C, S, S]`` padded up to ``pad_to``, upscaled above, shrunk."""
    channels, image_size = channels or pixels.shape[1], image_size or pixels.shape[-1]
    images, have = torch.tensor(pixels), pixels.shape[-1]
    if channels < images.shape[1]:
        luminance = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R 601
        images = (images * luminance).sum(1, keepdim=True).round().to(torch.uint8)
    if have < image_size <= pad_to:
        before = (image_size - have) // 2
        images = F.pad(images, (before, image_size - have - before) * 2)
    elif have != image_size:
        images = F.interpolate(images.float(), (image_size, image_size), mode="bicubic", antialias=True)
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images.expand(-1, channels, -1, -1).numpy()


def resized(read: Callable[[], Reading], pad_to: int = 0) -> Callable[[int | None, int | None], Reading]:
    """The ``open`` of a Source of small images, which ``read`` gives as they are."""

    def open_at(image_size, channels):
        reading = read()
        n, c, s, _ = reading.shape

        def chunks(start=0):
            return ((resize(x, image_size, channels, pad_to), y) for x, y in reading.chunks(start))

        return replace(reading, shape=(n, channels or c, image_size or s, image_size or s), chunks=chunks)

    return open_at


def from_arrays(read: Callable, classes: Sequence[str], pad_to: int = 0) -> Callable[[int | None, int | None], Reading]:
    """The ``open`` of a Source, where ``read`` gives uint8 pixels and int64 labels."""

    def reading():
        x, y = read()
        rows = [slice(k, k + 4096) for k in range(0, len(x), 4096)]
        return Reading(x.shape, classes, lambda at=0: ((x[at:][r], y[at:][r]) for r in rows if at + r.start < len(x)))

    return resized(reading, pad_to)


def find_named(folder: Path, split: str, _=None, *, names: Sequence[str], below=("",), form=()) -> Iterator[Source]:
    """Pictures by the name of their folder; ``form``: size, channels, pad_to if small."""
    for name in (name + ending for name in names for ending in ("", *ARCHIVES)):
        for place in filter(holds_pictures, (folder / part / name for part in below)):
            read = functools.partial(open_pictures, place, split, *form[:2])
            where = place.relative_to(folder).as_posix()
            yield Source(where, stamp(place), resized(read, *form[2:]) if form else read, files=[place])


def find_idx(folder: Path, split: str, _=None, *, title: str, names, classes, opening) -> Iterator[Source]:
    """The copies of MNIST or Fashion-MNIST in or below a folder, first choice first."""
    for below in (f"{names[1]}/raw", names[0], ""):
        pair = []
        for name in IDX_FILES[split]:
            places = (folder / below / name.removesuffix(".gz"), folder / below / name)  # unpacked is quicker
            pair += [path for path in places if path.is_file()][:1]
        if len(pair) == 2:
            # Both sets use the same names: files in the folder itself must begin with the set's own labels.
            read = functools.partial(_read_pair, pair, title, len(classes), "" if below else opening[split])
            yield Source(below or pair[0].name, stamp(*pair), from_arrays(read, classes, 32), files=pair)
    yield from find_named(folder, split, names=names, form=(28, 1, 32))


def _read_pair(pair: Sequence[Path], title: str, n_classes: int, opening: str) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = map(read_idx, pair)
    fit = pixels.ndim == 3 and labels.shape == pixels.shape[:1] and labels.max(initial=0) < n_classes
    if not fit or not "".join(map(str, labels[:10])).startswith(opening):
        files = f"'{pair[0].name}' and '{pair[1].name}' in '{pair[0].parent}'"
        shapes = f"{list(pixels.shape)} and {list(labels.shape)}"
        raise ValueError(f"{files} are not the images and labels of {title} ({shapes}); {CURE}")
    return pixels[:, None], labels.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in an IDX file (yann.lecun.com/exdb/mnist), gzipped or not."""
    raw = b""
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        _, _, kind, n_dims = content[:4]
        if kind != 8:
            raise ValueError("it does not hold bytes")
        shape = np.frombuffer(content, ">u4", n_dims, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        why = "it is a web page" if looks_like_html(raw) else error
        raise ValueError(f"'{path.name}' in '{path.parent}' is damaged ({why}); {CURE}") from error


def find_cifar(folder: Path, split: str, _=None) -> Iterator[Source]:
    """The copies of CIFAR-10: unpacked batches, archives as published, then pictures."""
    for place in (Path(below, name) for name in CIFAR_COPIES for below in ("", *CIFAR[:2])):
        if (folder / place).exists():
            ending = ".bin" if place.name.endswith("bin") else ""
            files = [folder / place / (batch + ending) for batch in BATCHES[split]]
            files = [folder / place] if place.name.endswith(".gz") else files
            opener = from_arrays(functools.partial(read_cifar, folder / place, split), CIFAR_CLASSES)
            yield Source(place.as_posix(), stamp(*filter(Path.is_file, files)), opener, files=files)
    yield from find_named(folder, split, names=CIFAR, form=(32, 3))


def read_cifar(place: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split and their labels, from a folder or archive of batches."""
    batches = {}
    with intact(place):
        for name, file in _batches(place):
            if name.removesuffix(".bin") in BATCHES[split]:
                try:
                    batches[name.removesuffix(".bin")] = _read_batch(file, name.endswith(".bin"))
                except ValueError as error:
                    raise ValueError(f"'{name}' in '{place}' is no batch of CIFAR-10 ({error}); {CURE}") from error
    if missing := [name for name in BATCHES[split] if name not in batches]:
        raise ValueError(f"'{place}' lacks {', '.join(missing)}; {CURE}")
    pixels, labels = zip(*(batches[name] for name in BATCHES[split]), strict=True)
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), np.concatenate(labels)


def _batches(place: Path) -> Iterator[tuple[str, BinaryIO]]:
    if place.is_dir():
        for path in filter(Path.is_file, place.iterdir()):
            with path.open("rb") as file:
                yield path.name, file
        return
    with gzip.open(place) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        for member in filter(tarfile.TarInfo.isreg, archive):
            yield PurePosixPath(member.name).name, archive.extractfile(member)
        while packed.read(2**20):  # gzip's own checksum stands behind the last byte
            pass


def _read_batch(file: BinaryIO, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """The pixels ``[10_000, 3072]`` and labels of one batch: plain bytes or a pickle."""
    limit = 2 * PER_BATCH * (1 + PIXELS)  # what is much larger is something else, and must not fill the memory
    raw = file.read(limit + 1)
    if looks_like_html(raw):
        raise ValueError("it is a web page")
    if len(raw) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    if binary:
        records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        pixels, labels = _from_pickle(raw)
    if len(pixels) != PER_BATCH or len(labels) != PER_BATCH or max(labels) >= len(CIFAR_CLASSES):
        raise ValueError(f"not {PER_BATCH:,} pictures and labels from 0 to 9, but {len(pixels):,} and {len(labels):,}")
    return pixels, np.array(labels, np.int64)


def _from_pickle(raw: bytes) -> tuple[np.ndarray, list[int]]:
    """The pixels and labels in a pickle, whose instructions are listed and never run."""
    pixels, labels, order, counting = b"", [], "C", False
    for instruction, value, _ in pickletools.genops(raw):
        match instruction.name:
            case "EMPTY_LIST" | "MARK" | "APPENDS" | "BINPUT" | "LONG_BINPUT":
                pass
            case "BININT1" if counting:
                labels.append(value)
            case "NEWTRUE" | "NEWFALSE" if not pixels:  # just before the pixels: whether they lie column by column
                order = "F" if instruction.name == "NEWTRUE" else "C"
            case "GLOBAL" | "STACK_GLOBAL" | "INST" | "EXT1" | "EXT2" | "EXT4" | "PERSID" | "BINPERSID":
                if value not in ARRAY or instruction.name != "GLOBAL":
                    what = str(value or instruction.name).replace(" ", ".")
                    raise ValueError(f"it asks for {what}, which may do harm, so it was not run")
            case _:
                counting = value == "labels"  # behind that text stands the list of them
                if isinstance(value, str | bytes) and len(value) >= PIXELS:
                    pixels = value.encode("latin1") if isinstance(value, str) else value
    return np.frombuffer(pixels, np.uint8).reshape((-1, PIXELS), order=order), labels


def find_celeba(folder: Path, split: str, _=None) -> Iterator[Source]:
    """The copies of CelebA: unpacked pictures, the zip, then what is named after it."""
    places = [folder / below / f"img_align_celeba{end}" for end in ("", ".zip") for below in (*CELEBA[:2], "")]
    places += [folder / (name + end) for name in CELEBA for end in ("", *ARCHIVES)]
    for place in filter(holds_pictures, places):
        beside = [place, place.parent] if place.is_dir() else [place.parent]
        lists = []
        for stem in ("list_attr_celeba", "list_eval_partition"):  # as published, and as a copy on Kaggle has them
            texts = (here / (stem + ending) for here in beside for ending in (".txt", ".csv"))
            lists.append(next(filter(Path.is_file, texts), None))
        opener = functools.partial(_open_celeba, place, split, *lists)
        yield Source(place.relative_to(folder).as_posix(), stamp(place, *filter(None, lists)), opener, files=[place])


def _open_celeba(place: Path, split: str, attributes: Path | None, partition: Path | None, *form) -> Reading:
    columns, table = read_list(attributes) if attributes else ((), None)
    parts = read_list(partition)[1] if partition else None

    def pick(found):
        base = {name: PurePosixPath(name).name for name in found}
        if parts is None:
            found = by_folders(place, found, split).known
        else:
            found = [name for name in found if parts.get(base[name], [-1])[0] == CELEBA_SPLITS[split]]
        if table is None:
            return Picked(dict.fromkeys(found, 0))
        if missing := next((name for name in found if base[name] not in table), None):
            raise ValueError(f"'{missing}' in '{place}' is not listed in '{attributes}'; get both again.")
        return Picked({name: table[base[name]] > 0 for name in found}, attributes=columns)

    return open_pictures(place, split, *form, pick=pick)


def read_list(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The columns of one of CelebA's lists, and for each picture its row of int8."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if looks_like_html(text[:512].encode()):
        raise ValueError(f"'{path}' is a web page, not the list; {CURE}")
    lines = [line.split() for line in text.replace(",", " ").splitlines()]
    pictures = (k for k, words in enumerate(lines) if len(words) > 1 and words[0].lower().endswith((".jpg", ".png")))
    first = next(pictures, len(lines))
    # Above: the number of pictures, then the names of the columns; in a CSV their names after that of the first.
    columns = [word for word in lines[first - 1] if word != "image_id"] if first else []
    table, width = {}, len(columns) or 1
    for number, words in enumerate(lines[first:], first + 1):
        try:
            table[words[0]] = row = np.array(words[1:], np.int8)
        except (ValueError, IndexError):
            row = ()
        if len(row) != width:
            raise ValueError(f"Line {number} of '{path}' is not a picture and {width} numbers; get the list again.")
    return columns, table


def find_by_class(folder: Path, split: str, classes: Sequence[str] | None = None, *, below: Sequence[str]):
    """Copies of LSUN or ImageNet; only the folders of ``classes`` are looked into."""
    for where, _, ending in (part.format(split=split).partition("*") for part in below):
        if (place := folder / where).is_dir():
            there = {p.name.removesuffix(ending): p for p in sorted(place.glob(f"*{ending}")) if p.is_dir()}
            names = tuple(sorted(there if classes is None else set(classes)))
            files = [there[name] for name in names if name in there]
            yield Source(where, stamp(*files), functools.partial(_open_classes, place, there, names), files=[place])


def _open_classes(place: Path, there: dict[str, Path], names: Sequence[str], *size_and_channels) -> Reading:
    missing = [name for name in names if name not in there]
    if missing or not names:
        packed = "; *_lmdb folders have to be exported first" if any(place.glob("*_lmdb")) else ""
        has = ", ".join(list(there)[:12]) or "none"
        raise ValueError(f"'{place}' has no class {', '.join(missing) or 'at all'}; it has: {has}{packed}.")
    number = {there[name].name: k for k, name in enumerate(names)}

    def pick(found):
        parts = {name: PurePosixPath(name).parts for name in found}
        return Picked({name: number[p[0]] for name, p in parts.items() if p[0] in number and len(p) > 1}, names)

    return open_pictures(place, "train", *size_and_channels, pick=pick)
