"""The files of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist): finding and reading them."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ganlib.data.download import looks_like_html

# The images and the labels of each split. Both sets use the same names.
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def find_idx(
    folder: Path, split: str, below: tuple[str, ...], opening: dict[str, tuple[int, ...]]
) -> Iterator[tuple[str, list[Path]]]:
    """The pairs of IDX files of one set and split in or below a folder, gzipped or not, first choice first.

    Args:
        folder: where to look.
        split: ``"train"`` or ``"test"``.
        below: folders below it that are the set's own; ``""`` is the folder itself, in which files of another
            set may lie.
        opening: for each split, the first labels; tells the sets apart.

    Yields:
        where: how to name the pair in a sentence;
        files: the paths of the images and of the labels.
    """
    for part in below:
        pair = []
        for name in FILES[split]:
            # torchvision leaves both; the unpacked one is quicker.
            places = (folder / part / name.removesuffix(".gz"), folder / part / name)
            pair += [path for path in places if path.is_file()][:1]
        if len(pair) == 2 and (part or _may_open_with(pair[1], opening[split])):
            yield part or pair[0].name, pair


def _may_open_with(labels: Path, opening: tuple[int, ...]) -> bool:
    try:
        return tuple(read_idx(labels).ravel()[: len(opening)].tolist()) == opening
    except ValueError:
        return True  # reading the pair will say what is wrong with it


def read_idx_pair(files: Sequence[Path], split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a pair of IDX files.

    Returns:
        pixels: uint8 ``[N, 1, H, W]``; labels: int64 ``[N]``. Other shapes where the files are something else.

    Raises:
        ValueError: if either is a web page, cut off, or no IDX file of bytes.
    """
    pixels, labels = (read_idx(path) for path in files)
    return pixels[:, None], labels.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not.

    Raises:
        ValueError: if it is a web page, cut off, or no IDX file of bytes.
    """
    web_page = False
    try:
        raw = path.read_bytes()
        web_page = looks_like_html(raw)
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        _, kind, n_dims = struct.unpack_from(">HBB", raw)
        shape = struct.unpack_from(f">{n_dims}I", raw, 4)
        body = raw[4 + 4 * n_dims :]
        if kind == 8 and n_dims and len(body) == int(np.prod(shape)):
            return np.frombuffer(body, np.uint8).reshape(shape)
        why = f"it holds {len(body):,} bytes after its header, not the {int(np.prod(shape)):,} of {list(shape)}"
    except (OSError, EOFError, zlib.error, struct.error) as error:
        why = str(error)
    if web_page:
        why = "it is a web page, not the file"
    raise ValueError(f"'{path.name}' in '{path.parent}' is damaged ({why}); get it again, see data/README.md.")
