"""CelebA (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html): finding the faces, and reading what is known of them.

The aligned pictures are 178×218. They are cropped to the central 178×178, the whole width, and shrunk, as PyTorch's
DCGAN tutorial does (https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html: resize to 64, then centre
crop). Others cut out the central 108×108 first: tighter faces, but at half size (89×109) only 54 pixels, too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ganlib.data import folders
from ganlib.data.archives import ARCHIVES, stamp, walk
from ganlib.data.download import fetch_from_drive, looks_like_html
from ganlib.data.sources import Source

PICTURES = "img_align_celeba"
NAMES = ("celeba", "CelebA", "celebA")
SPLITS = {"train": 0, "val": 1, "test": 2}  # and their numbers in the file that says which picture belongs where
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
TEXTS = (".txt", ".csv")  # as published, and as a much-used copy on Kaggle has them
# Google Drive's numbers for the files, and their md5, from torchvision.
DRIVE_FILES = {
    "img_align_celeba.zip": ("0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
    "list_attr_celeba.txt": ("0B7EVK8r0v71pblRyaVFSWGxPY0U", "75e246fa4810816ffd6ee81facbd244c"),
    "list_eval_partition.txt": ("0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
}
BY_HAND = (
    "To get it by hand: open https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html in a browser, follow 'Align&Cropped "
    "Images' to Google Drive or Baidu, and put img_align_celeba.zip as it is, with Anno/list_attr_celeba.txt and "
    "Eval/list_eval_partition.txt, into data/celeba/ (data/README.md says more)."
)


def find_celeba(folder: Path, split: str, classes: Sequence[str] | None = None) -> Iterator[Source]:
    """The copies in or below a folder, first choice first: unpacked pictures, the zip, anything named after the set."""
    places = [folder / below / (PICTURES + end) for end in ("", ".zip") for below in (*NAMES[:2], "")]
    places += [folder / (name + end) for name in NAMES for end in ("", *ARCHIVES)]
    for place in places:
        if place.is_file() or (place.is_dir() and next(walk(place), None)):
            yield _source(place, place.relative_to(folder).as_posix(), split)


def _source(place: Path, where: str, split: str) -> Source:
    beside = [place, place.parent] if place.is_dir() else [place.parent]
    texts = {
        stem: next((path for here in beside for path in (here / (stem + end) for end in TEXTS) if path.is_file()), None)
        for stem in (ATTRIBUTES, PARTITION)
    }

    def open_faces(image_size, channels):
        names, table = read_table(texts[ATTRIBUTES]) if texts[ATTRIBUTES] else ((), None)
        _, parts = read_table(texts[PARTITION]) if texts[PARTITION] else ((), None)

        def wanted(name):
            return parts is None or parts.get(_base(name), [-1])[0] == SPLITS[split]

        def pick(found):
            picked = folders.Picked(dict.fromkeys(found, 0))  # of the split, as far as `wanted` could tell
            if parts is None:
                picked = folders.by_folders(place, found, split)
            if table is None:
                return picked
            if missing := next((name for name in picked.known if _base(name) not in table), None):
                raise ValueError(f"'{missing}' in '{place}' is not listed in '{texts[ATTRIBUTES]}'; get both again.")
            return folders.Picked({name: table[_base(name)] > 0 for name in picked.known}, attributes=names)

        return folders.open_pictures(place, split, image_size, channels, pick=pick, wanted=wanted)

    marks = [stamp(path) for path in (place, *texts.values()) if path]
    return Source(f"your copy ({where})", "".join(marks), open_faces, files=[place])


def _base(name: str) -> str:
    return PurePosixPath(name).name


def read_table(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """One of CelebA's lists: whole numbers for each picture, with or without names for the columns.

    Returns:
        names: of the columns; empty if the list has none.
        table: int8 ``[columns]`` for the name of each picture.

    Raises:
        ValueError: if it is a web page, or a line has too few or too many values, or others than numbers.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").replace(",", " ").splitlines()
    if looks_like_html(lines[0].encode() if lines else b""):
        raise ValueError(f"'{path}' is a web page, not the list; get it again in a browser. {BY_HAND}")
    # As published: the number of pictures, then the names of the columns. As CSV: the names, after that of the first.
    first = next((k for k, line in enumerate(lines) if _is_picture_line(line)), len(lines))
    names = tuple(lines[first - 1].split()) if first else ()
    names = names[1:] if names[:1] == ("image_id",) else names
    table, width = {}, len(names) or 1
    for number, line in enumerate(lines[first:], first + 1):
        try:
            picture, *values = line.split()
            table[picture] = row = np.array(values, np.int8)
        except ValueError:
            row = ()
        if len(row) != width:
            raise ValueError(f"Line {number} of '{path}' is not a picture and {width} numbers; get the list again.")
    return names, table


def _is_picture_line(line: str) -> bool:
    return len(line.split()) > 1 and line.split()[0].lower().endswith((".jpg", ".png"))


def fetch_celeba(folder: Path) -> None:
    """Download the aligned pictures (1.4 GB), their attributes and their splits from Google Drive into ``folder``.

    Raises:
        OSError: if a file cannot be had or is not the right one, with how to get it by hand.
    """
    print("CelebA is for non-commercial research only: see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.")
    for name, (file_id, md5) in DRIVE_FILES.items():
        if not (folder / name).exists():
            try:
                fetch_from_drive(file_id, folder / name, md5)
            except OSError as error:
                raise OSError(f"{error} {BY_HAND}") from error
