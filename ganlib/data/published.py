"""Published datasets: finding their files, and reading them without running code.

torchvision's readers unpickle CIFAR-10's batches, unzip nothing, and stop at the first damaged picture.
"""

import functools
import gzip
import pickletools
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch.nn import functional as F

from ganlib.data.archives import has_pictures, intact, places, stamp
from ganlib.data.folders import Picked, Reading, Source, by_folders, open_pictures

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
CELEBA = ("celeba", "CelebA", "celebA")
CELEBA_SPLITS = {"train": 0, "val": 1, "test": 2}  # and their numbers in the list of the partition


def resize(pixels: np.ndarray, image_size: int | None, channels: int | None, pad_to: int = 0) -> np.ndarray:
    """Square images ``[N, C, S, S]`` shrunk, padded (up to ``pad_to``) or upscaled."""
    images, have = torch.tensor(pixels), pixels.shape[-1]
    channels, image_size = channels or pixels.shape[1], image_size or have
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


def resized(read: Callable[[], Reading], pad_to: int = 0) -> Callable[..., Reading]:
    """The ``open`` of a Source of small images, which ``read`` returns as they are."""

    def open_at(image_size, channels):
        reading = read()
        n, c, s, _ = reading.shape
        shape = n, channels or c, image_size or s, image_size or s

        def chunks(start=0):
            return ((resize(x, image_size, channels, pad_to), y) for x, y in reading.chunks(start))

        return replace(reading, shape=shape, chunks=chunks)

    return open_at


def from_arrays(read: Callable, classes: Sequence[str], pad_to: int = 0) -> Callable[..., Reading]:
    """The ``open`` of a Source, if ``read`` returns uint8 pixels and int64 labels."""

    def reading():
        (x, y), n = read(), 4096
        return Reading(x.shape, classes, lambda at=0: ((x[k : k + n], y[k : k + n]) for k in range(at, len(x), n)))

    return resized(reading, pad_to)


def find_named(folder: Path, split: str, _=None, *, names: Sequence[str], below=("",), form=()) -> Iterator[Source]:
    """Pictures labelled by folder name; ``form``: size, channels, pad_to if small."""
    for place in places(folder, names, below):
        read = functools.partial(open_pictures, place, split, *form[:2], pick=by_folders)
        where = place.relative_to(folder).as_posix()
        yield Source(where, stamp(place), resized(read, *form[2:]) if form else read, files=[place])


def find_idx(folder: Path, split: str, _=None, *, names: Sequence[str], classes: Sequence[str]) -> Iterator[Source]:
    """The copies of MNIST or Fashion-MNIST below a folder, first choice first."""
    for below in (f"{names[1]}/raw", names[0]):
        # Unpacked files are faster to read.
        both = [(folder / below / name.removesuffix(".gz"), folder / below / name) for name in IDX_FILES[split]]
        pair = [next(filter(Path.is_file, either), None) for either in both]
        if None not in pair:
            read = functools.partial(_read_pair, *pair, len(classes))
            yield Source(below, stamp(*pair), from_arrays(read, classes, 32), files=pair)
    yield from find_named(folder, split, names=names, form=(28, 1, 32))


def _read_pair(images: Path, labels: Path, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.shape != x.shape[:1] or y.max(initial=0) >= n_classes:
        raise ValueError(f"'{images}' and '{labels.name}' do not belong together; get both again.")
    return x[:, None], y.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in an IDX file (yann.lecun.com/exdb/mnist), gzipped or not."""
    with intact(path, ValueError):
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        _, _, kind, n_dims = content[:4]
        if kind != 8:
            raise ValueError("it does not hold bytes")
        shape = np.frombuffer(content, ">u4", n_dims, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def find_cifar(folder: Path, split: str, _=None) -> Iterator[Source]:
    """The copies of CIFAR-10: unpacked batches, archives as published, then pictures."""
    for place in (Path(below, name) for name in CIFAR_COPIES for below in ("", *CIFAR[:2])):
        if (path := folder / place).exists():
            names = [batch + ".bin" * ("bin" in place.name) for batch in BATCHES[split]]
            files = [path] if path.is_file() else [path / name for name in names]
            opener = from_arrays(functools.partial(read_cifar, path, names), CIFAR_CLASSES)
            yield Source(place.as_posix(), stamp(*filter(Path.is_file, files)), opener, files=files)
    yield from find_named(folder, split, names=CIFAR, form=(32, 3))


def read_cifar(place: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of some batches and their labels, from a folder or archive of them."""
    with intact(place, ValueError, KeyError):
        if place.is_dir():
            raw = {name: (place / name).read_bytes() for name in names}
        else:
            with gzip.open(place) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
                members = ((PurePosixPath(m.name).name, m) for m in archive if m.isreg())
                # A file larger than two batches is not one, and must not fill the memory.
                raw = {name: archive.extractfile(m).read(2**26) for name, m in members if name in names}
                while packed.read(2**20):  # gzip's checksum follows the last byte
                    pass
        pixels, labels = zip(*(_read_batch(name, raw[name]) for name in names), strict=True)
        return np.concatenate(pixels).reshape(-1, 3, 32, 32), np.concatenate(labels).astype(np.int64)


def _read_batch(name: str, raw: bytes) -> tuple[np.ndarray, Sequence[int]]:
    """The pixels ``[10_000, 3072]`` and labels of one batch: plain bytes or a pickle."""
    if name.endswith(".bin"):
        records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        pixels, labels = _from_pickle(raw)
    if (len(pixels), len(labels)) != (PER_BATCH, PER_BATCH) or max(labels) >= len(CIFAR_CLASSES):
        raise ValueError(f"'{name}' does not hold {PER_BATCH:,} pictures with labels from 0 to 9")
    return pixels, labels


def _from_pickle(raw: bytes) -> tuple[np.ndarray, list[int]]:
    """The pixels and labels in a pickle, whose instructions are parsed but never run."""
    pixels, labels, order, counting = b"", [], "C", False
    for instruction, value, _ in pickletools.genops(raw):
        if instruction.name == "BININT1" and counting:
            labels.append(value)
        elif instruction.name in ("NEWTRUE", "NEWFALSE") and not pixels:  # just before them: are they in column order?
            order = "F" if instruction.name == "NEWTRUE" else "C"
        elif isinstance(value, str | bytes):
            counting = value == "labels"  # their list follows that string
            if len(value) >= PIXELS:
                pixels = value.encode("latin1") if isinstance(value, str) else value
    return np.frombuffer(pixels, np.uint8).reshape((-1, PIXELS), order=order), labels


def find_celeba(folder: Path, split: str, _=None) -> Iterator[Source]:
    """The copies of CelebA: unpacked pictures, archives, anything named after it."""
    for place in places(folder, ("img_align_celeba", *CELEBA), (*CELEBA[:2], "")):
        lists = []
        for stem in ("list_attr_celeba", "list_eval_partition"):  # as published, and as in a copy on Kaggle
            texts = (here / (stem + ending) for here in (place, place.parent) for ending in (".txt", ".csv"))
            lists.append(next(filter(Path.is_file, texts), None))
        opener = functools.partial(open_pictures, place, split, pick=functools.partial(_pick_listed, *lists))
        yield Source(place.relative_to(folder).as_posix(), stamp(place, *filter(None, lists)), opener, files=[place])


def _pick_listed(attributes: Path | None, partition: Path | None, place: Path, names, split: str) -> Picked:
    """The faces of a split by CelebA's lists, if these are there."""
    base = {name: PurePosixPath(name).name for name in names}
    if partition is None:
        names = by_folders(place, names, split).known
    else:
        parts = read_list(partition)[1]
        names = [name for name in names if parts.get(base[name], [-1])[0] == CELEBA_SPLITS[split]]
        if not names:
            raise ValueError(f"'{partition}' lists no picture in '{place}' for the split '{split}'.")
    if attributes is None:
        return Picked(dict.fromkeys(names, 0))
    columns, table = read_list(attributes)
    if missing := next((name for name in names if base[name] not in table), None):
        raise ValueError(f"'{missing}' in '{place}' is not listed in '{attributes}'; get both again.")
    return Picked({name: table[base[name]] > 0 for name in names}, attributes=columns)


def read_list(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The columns of one of CelebA's lists, and for each picture its row of int8."""
    with intact(path, ValueError):
        text = path.read_text(encoding="utf-8", errors="replace").replace(",", " ")
        lines = [line.split() for line in text.splitlines()]
        first = min(k for k, words in enumerate(lines) if len(words) > 1 and words[0].endswith((".jpg", ".png")))
        # Above: the number of pictures, then the column names; in a CSV the column names after that of the first.
        columns = [word for word in lines[first - 1] if word != "image_id"] if first else []
        table, width = {}, len(columns) or 1
        for number, words in enumerate(lines[first:], first + 1):
            if len(words) != 1 + width:
                raise ValueError(f"line {number} is not a picture and {width} numbers")
            table[words[0]] = np.array(words[1:], np.int8)
        return columns, table


def find_by_class(folder: Path, split: str, classes: Sequence[str] | None = None, *, below: str) -> Iterator[Source]:
    """A copy of LSUN or ImageNet; only the folders of ``classes`` are looked into."""
    where, _, ending = below.format(split=split).partition("/*")
    there = sorted(path.name for path in (folder / where).glob(f"*{ending}") if has_pictures(path))
    wanted = there if classes is None else [name + ending for name in sorted(set(classes))]
    if there:
        pick = functools.partial(_pick_classes, wanted, ending)
        opener = functools.partial(open_pictures, folder / where, split, pick=pick, folders=wanted)
        yield Source(where, stamp(*(folder / where / name for name in wanted)), opener, files=[folder / where])


def _pick_classes(wanted: Sequence[str], ending: str, place: Path, names: Sequence[str], _) -> Picked:
    tops = {name: PurePosixPath(name).parts[0] for name in names}
    if missing := set(wanted) - set(tops.values()):
        raise ValueError(f"There are no pictures of {', '.join(sorted(missing))} in '{place}'.")
    known = {name: wanted.index(top) for name, top in tops.items()}
    return Picked(known, [name.removesuffix(ending) for name in wanted])
