"""LFW, LSUN and ImageNet: sets of photographs that nobody may pass on, read from a copy in torchvision's layout.

torchvision's own classes are not used: for LFW they want the archive and its lists beside the pictures, for LSUN they
unpickle a file from the working folder, and the first picture that is damaged ends the reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ganlib.data import folders
from ganlib.data.archives import ARCHIVES, stamp, walk
from ganlib.data.sources import Source

LFW_VERSIONS = ("lfw_funneled", "lfw-deepfunneled", "lfw", "lfw-funneled")  # the last one is the archive of the first
LFW_MISSING = (
    "LFW is not on this machine, and its authors no longer offer it for download. Get the copy that scikit-learn uses, "
    "https://ndownloader.figshare.com/files/5976015, and put it as it is, under the name lfw-funneled.tgz, into "
    "data/lfw-py/; data/README.md says more."
)
LSUN_MISSING = (
    "LSUN is not on this machine. Get the classes you want with https://github.com/fyu/lsun (python3 download.py -c "
    "bedroom), turn each into a folder of pictures (python3 data.py export bedroom_train_lmdb --out_dir bedroom_train) "
    "and put the folder into data/lsun/; data/README.md says more."
)
IMAGENET_MISSING = (
    "ImageNet is not on this machine. Get ILSVRC2012_img_train.tar (and, for split='val', ILSVRC2012_img_val.tar), "
    "which need an account at https://image-net.org/download.php, and ILSVRC2012_devkit_t12.tar.gz into data/imagenet/ "
    "and let torchvision.datasets.ImageNet('data/imagenet') unpack them to train/<class>/ and val/<class>/; "
    "data/README.md says more."
)


def find_lfw(folder: Path, split: str, classes: Sequence[str] | None = None) -> Iterator[Source]:
    """The copies of LFW in or below a folder: a folder, or an archive as published, that holds one a person."""
    for version in LFW_VERSIONS:
        for end in ("", *ARCHIVES):
            for below in ("lfw-py", ""):
                place = folder / below / (version + end)
                if place.is_file() or (place.is_dir() and next(walk(place), None)):
                    yield _by_folder(place, place.relative_to(folder).as_posix(), split)


def _by_folder(place: Path, where: str, split: str) -> Source:
    def open_at(image_size, channels):
        return folders.open_pictures(place, split, image_size, channels)

    return Source(f"your copy ({where})", stamp(place), open_at, files=[place])


def find_lsun(folder: Path, split: str, classes: Sequence[str] | None = None) -> Iterator[Source]:
    """The copy of LSUN below a folder: ``lsun/<class>_<split>/`` with pictures in it, however deep."""
    place = folder / "lsun"
    if place.is_dir():
        there = {p.name.removesuffix(f"_{split}"): p for p in sorted(place.glob(f"*_{split}")) if p.is_dir()}
        yield _of_classes(place, f"lsun, {split}", there, classes)


def find_imagenet(folder: Path, split: str, classes: Sequence[str] | None = None) -> Iterator[Source]:
    """The copies of ImageNet below a folder: ``imagenet/<split>/<class>/``; a class is a WordNet id (n01440764)."""
    for name in ("imagenet", "ImageNet", "ILSVRC2012"):
        place = folder / name / split
        if place.is_dir():
            there = {p.name: p for p in sorted(place.iterdir()) if p.is_dir()}
            yield _of_classes(place, f"{name}/{split}", there, classes)


def _of_classes(place: Path, where: str, there: dict[str, Path], classes: Sequence[str] | None) -> Source:
    """A copy with a folder for each class; ``there`` are those folders, of which only ``classes`` are looked into."""
    names = tuple(sorted(there if classes is None else set(classes)))
    chosen = {there[name].name: k for k, name in enumerate(names) if name in there}

    def open_at(image_size, channels):
        if missing := [name for name in names if name not in there]:
            has = ", ".join(list(there)[:12]) + (", …" if len(there) > 12 else "") or "none"
            packed = "; *_lmdb folders have to be exported first" * any(place.glob("*_lmdb"))
            raise ValueError(f"'{place}' has no class {', '.join(missing)}; it has: {has}{packed}.")
        if not names:
            packed = "lmdb files, which have to be exported first" if any(place.glob("*_lmdb")) else "no class"
            raise ValueError(f"'{place}' has {packed}.")

        def pick(found):
            return folders.Picked({name: chosen[_first(name)] for name in found}, names)

        def wanted(name):
            return _first(name) in chosen and len(PurePosixPath(name).parts) > 1

        return folders.open_pictures(
            place, image_size=image_size, channels=channels, pick=pick, wanted=wanted, leave_small=True
        )

    marks = [stamp(there[name]) for name in names if name in there]
    return Source(f"your copy ({where})", "".join(marks), open_at, files=[place])


def _first(name: str) -> str:
    return PurePosixPath(name).parts[0]
