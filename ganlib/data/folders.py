"""Pictures in a folder or an archive (not unpacked), made into equal squares."""

import contextlib
import functools
import hashlib
import io
import itertools
import logging
import lzma
import os
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ganlib._runtime.progress import bar

log = logging.getLogger("ganlib")

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
LARGEST = 256 * 2**20  # bytes of one picture in an archive
HELD = 64 * 2**20  # bytes of a tar whose pictures are kept in memory between two passes
# Pictures are already compressed: an archive that grows by this factor, beyond this many bytes, is a bomb.
BOMB_TIMES, BOMB_BYTES = 100, 2**30
# Common names for the folder of a split.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
ALIASES = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
DEFAULT_SIZES = (64, 48, 32, 28)  # the largest that fits the smallest picture
CHUNK = 256
SILENT_UP_TO = 5000  # preparing more takes long enough to announce it

Opener = Callable[[], BinaryIO] | str  # opens a picture's file; a string says why it must not be opened
Members = Iterable[tuple[str, Opener]]  # with the name inside the folder or archive


@dataclass(frozen=True)
class Reading:
    """Images of one size and channel count, while they are read."""

    shape: tuple[int, int, int, int]  # [N, C, H, W]; includes those that turn out to be unreadable
    classes: Sequence[str]
    # chunks(start): from that image on, uint8 [k, C, H, W] with int64 labels [k], float32 attributes [k, A] or None
    chunks: Callable[..., Iterator[tuple[np.ndarray, np.ndarray | None]]]
    skipped: dict[str, str] = field(default_factory=dict)  # what cannot be read, and why; complete after the chunks
    attributes: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """Images that were found, but not yet read."""

    where: str
    stamp: str  # changes when the files do
    open: Callable[[int | None, int | None], Reading]  # takes image_size and channels; None: as they are
    unit: str = "images"
    real: bool = True  # False for generated pictures and other stand-ins
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Picked:
    """The selected pictures, by name, with their labels or attributes."""

    known: Mapping[str, int | np.ndarray]
    classes: Sequence[str] = ()
    attributes: Sequence[str] = ()

    def of(self, names: Iterable[str]) -> np.ndarray | None:
        """The labels or attributes of some pictures, if any: float32 or int64."""
        if self.classes or self.attributes:
            return np.array([self.known[name] for name in names], np.float32 if self.attributes else np.int64)


def looks_like_html(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a web page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def is_picture(name: str) -> bool:
    """Whether a name has a picture's suffix, and neither it nor its folder is hidden."""
    hidden = any(part.startswith((".", "__MACOSX")) and part[:2] != ".." for part in PurePosixPath(name).parts)
    return name.lower().endswith(PICTURES) and not hidden


def walk(folder: Path) -> Iterator[Path]:
    """Every picture under ``folder``, sorted by name."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        yield from (Path(here, name) for name in sorted(files) if is_picture(name))


def places(folder: Path, names: Sequence[str], below: Sequence[str]) -> Iterator[Path]:
    """Folders and archives of pictures with one of these names, first choice first."""
    for name in (name + ending for name in names for ending in ("", *ARCHIVES)):
        yield from (p for p in (folder / part / name for part in below) if p.is_file() or any(walk(p)))


def stamp(*paths: Path) -> str:
    """A text that changes when a file or a picture changes its name, size or time."""
    seen = hashlib.sha256()
    for file in (file for path in paths for file in ([path] if path.is_file() else walk(path))):
        with contextlib.suppress(OSError):  # a broken link: reading will report it
            info = file.stat()
            seen.update(f"{file.absolute()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(errors="replace"))
    return seen.hexdigest()


@contextlib.contextmanager
def intact(path: Path, *more: type[Exception]):
    """Turn errors from reading a file, and ``more``, into one sentence about it."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, *more) as error:
        why = error
        with contextlib.suppress(OSError), path.open("rb") as file:
            why = "a web page: login, quota or error" if looks_like_html(file.read(512)) else error
        raise ValueError(f"'{path}' cannot be read to its end ({why}); get it again.") from error


def passes(path: Path, folders: Sequence[str] = ("",)) -> Callable[[], Members]:
    """A function that yields the members each time; a small tar is decompressed once."""
    if path.is_file() and not path.name.lower().endswith(".zip") and path.stat().st_size <= HELD:
        held = list(members(path))
        return lambda: held
    return functools.partial(members, path, folders)


def members(path: Path, folders: Sequence[str] = ("",)) -> Members:
    """The pictures of a zip or folder sorted by name, those of a tar in its own order."""
    if path.is_dir():
        found = (file for folder in folders for file in walk(path / folder))
        yield from ((file.relative_to(path).as_posix(), functools.partial(file.open, "rb")) for file in found)
    elif not path.exists():
        raise FileNotFoundError(f"There is no folder or archive '{path}'; check the path.")
    elif not path.name.lower().endswith(ARCHIVES):
        raise ValueError(f"'{path}' is neither a folder nor an archive ({' '.join(ARCHIVES)}).")
    else:
        with intact(path):
            yield from (_zipped if path.name.lower().endswith(".zip") else _tarred)(path)


def _zipped(path: Path) -> Members:
    archive = zipfile.ZipFile(path)  # open while members may be read
    found = [m for m in archive.infolist() if not m.is_dir() and is_picture(m.filename)]
    _refuse_bomb(path, sum(member.file_size for member in found))
    for member in sorted(found, key=lambda member: member.filename):
        refused = _refused(member.filename, stat.S_ISLNK(member.external_attr >> 16), member.file_size)
        # It yields no more bytes than its entry says, whatever it unpacks to.
        yield member.filename, refused or (lambda m=member: io.BytesIO(archive.read(m)))


def _tarred(path: Path) -> Members:
    total = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            total += member.size
            _refuse_bomb(path, total)
            if not member.isdir() and is_picture(member.name):
                refused = _refused(member.name, not member.isreg(), member.size)
                data = b"" if refused else archive.extractfile(member).read()
                yield member.name, refused or functools.partial(io.BytesIO, data)


def _refused(name: str, link: bool, size: int) -> str:
    """Why a member must not be opened; empty if it may be."""
    slashed = name.replace("\\", "/")  # backslashes and drive letters lead out on Windows
    if slashed.startswith("/") or ".." in slashed.split("/") or ":" in slashed.split("/")[0]:
        return "its name leads out of the archive"
    return "a link" if link else f"{size / 1e6:,.0f} MB, too large for a picture" if size > LARGEST else ""


def _refuse_bomb(path: Path, unpacked: int) -> None:
    if unpacked > max(BOMB_BYTES, BOMB_TIMES * path.stat().st_size):
        raise ValueError(f"'{path}' would unpack to {unpacked / 1e9:,.1f} GB: a zip bomb, so it is refused.")


def by_folders(path: Path, names: Sequence[str], split: str) -> Picked:
    """The pictures of a split and their classes, by their folders."""
    parts = {name: PurePosixPath(name).parts for name in names}
    common = os.path.commonprefix([p[:-1] for p in parts.values()])
    depth = len(common)
    found = {name: ALIASES.get(p[depth].lower()) if len(p) > depth + 1 else None for name, p in parts.items()}
    # A class may be called "train" too (it runs on rails), so "train" alone does not make a split.
    if not {"train"} < set(found.values()) - {None}:
        above = [ALIASES[part.lower()] for part in common if part.lower() in ALIASES]
        found = dict.fromkeys(names, above[0] if above else "train")
    parts = {name: parts[name] for name in names if found[name] == ALIASES.get(split, split)}
    if not parts:
        there = ", ".join(sorted(set(found.values()) - {None}))
        raise ValueError(f"'{path}' has no split '{split}'; it has: {there}.")
    depth = len(os.path.commonprefix([p[:-1] for p in parts.values()]))
    folders = {name: p[depth] if len(p) > depth + 1 else None for name, p in parts.items()}
    classes = () if None in folders.values() else tuple(sorted(set(folders.values())))
    number = {folder: k for k, folder in enumerate(classes)}
    return Picked({name: number.get(folder, 0) for name, folder in folders.items()}, classes)


def open_pictures(
    path: Path, split: str = "train", image_size=None, channels=None, *, pick=by_folders, folders=("",), workers=1
) -> Reading:
    """The pictures in a folder or an archive, centre-cropped and shrunk to squares.

    Folders called ``train`` and ``test`` (``val``, …) are splits; without them every picture is for training. The
    first folder below is the class; if a picture is outside of one, or there is only one, there are no labels.
    Default of ``image_size``: the largest of 64, 48, 32 and 28 that fits every picture, or the smallest one's shorter
    side. A dataset with its own rules passes ``pick(path, names, split)``; its small pictures are left out.
    """
    again = passes(path, folders)
    headers = read_headers(again())
    # Unreadable images do not decide what the folders mean: a malicious name may lead out of them.
    skipped = {name: header for name, header in headers.items() if isinstance(header, str)}
    names = [name for name in headers if name not in skipped]
    if not names:
        raise ValueError(none_readable(path, skipped))
    picked = pick(path, names, split)
    shorter = {name: min(headers[name][:2]) for name in names if name in picked.known}
    smallest = min(shorter, key=shorter.get)
    if image_size is None:
        image_size = next((size for size in DEFAULT_SIZES if size <= shorter[smallest]), shorter[smallest])
    large = {name: side for name, side in shorter.items() if side >= image_size}
    if few := len(shorter) - len(large):
        what = f"{few:,} of {len(shorter):,} images in '{path}' are smaller than image_size={image_size}"
        if pick is by_folders or not large:
            width, height, _ = headers[smallest]
            raise ValueError(f"{what}; use {min(width, height)}, or remove them: '{smallest}' is {width}×{height}.")
        log.info(f"{what} and left out.")
    if channels is None:
        channels = 1 if all(headers[name][2] for name in large) else 3
    if len(large) > SILENT_UP_TO:
        log.info(f"Preparing {len(large):,} images from '{path.name}' …")
    shape = (channels, image_size, image_size)

    def chunks(start=0):
        left = dict.fromkeys(large)  # an archive may contain a name twice
        once = (member for member in again() if left.pop(member[0], "") is None)
        return _decode(itertools.islice(once, start, None), picked, shape, skipped, workers)

    return Reading((len(large), *shape), picked.classes, chunks, skipped, picked.attributes)


def none_readable(where: object, skipped: Mapping[str, str]) -> str:
    """The message about a folder or an archive without a readable picture."""
    example = "".join(f", nor is '{name}' ({why})" for name, why in list(skipped.items())[:1])
    return f"There are no images in '{where}' that can be read (looked for {' '.join(PICTURES)}){example}."


def read_headers(found: Members) -> dict[str, tuple[int, int, bool] | str]:
    """(width, height, is grey) of every picture by name, or why it is unreadable."""
    grey, headers = ("1", "L", "LA", "I", "F"), {}
    with warnings.catch_warnings(), bar(None, "looking at", " images") as progress:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, opener in found:
            headers[name] = _try(lambda i: (*i.size, i.mode in grey or i.mode[:2] == "I;"), opener)
            progress.update()
    return headers


def _try(function: Callable, opener: Opener):
    """``function`` of the picture in a file, or a string: why it cannot be read."""
    if isinstance(opener, str):
        return opener
    start = b"?"
    try:
        with opener() as file:
            start = file.read(512)
            with Image.open(file) as image:
                return function(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS / 1e6:,.0f} million pixels"
    except Exception:  # PIL raises almost anything: OSError, SyntaxError, struct.error, …
        return "a web page" if looks_like_html(start) else "damaged" if start else "empty"


def _decode(found: Members, picked: Picked, shape: tuple[int, int, int], skipped: dict[str, str], workers: int):
    """Chunks of pixels with their labels and attributes."""
    read = functools.partial(_try, lambda image: square(image, shape[1], shape[0]))
    with ThreadPoolExecutor(workers) as pool:  # PIL lets other threads work while it decodes
        side_by_side = pool.map if workers > 1 else map  # passing on a small picture takes as long as decoding it
        while some := list(itertools.islice(found, CHUNK)):
            names, openers = zip(*some, strict=True)
            pixels = dict(zip(names, side_by_side(read, openers), strict=True))
            skipped |= {name: pixels.pop(name) for name in names if isinstance(pixels[name], str)}
            if pixels:
                yield np.stack([*pixels.values()]), picked.of(pixels)


def square(image: Image.Image, image_size: int, channels: int) -> np.ndarray:
    """The centre of a picture, upright and on white, as uint8 ``[C, H, W]``."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "I" or image.mode.startswith("I;"):  # 16 bits a pixel; PIL would clip instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    pixels = np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=box))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
