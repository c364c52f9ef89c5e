"""The files in a folder or an archive (not unpacked): each is opened, or it is said why not."""

from __future__ import annotations

import bz2
import contextlib
import errno
import functools
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
# Pillow's formats that hold one picture of pixels, and run no other program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "ICO", "DDS", "PCX", "SGI")
TGA = (".tga", ".icb", ".vda", ".vst")  # nothing in such a file says what it is
CAMERA = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")  # TIFFs of a tiny preview
OTHERS = {  # what is no picture to Pillow, and what to do
    **dict.fromkeys((".heic", ".heif"), "pip install pillow-heif reads them"),
    **dict.fromkeys(CAMERA, "a camera's raw data: export it as JPEG"),
    **dict.fromkeys((".psd", ".xcf", ".ai", ".svg", ".eps", ".pdf"), "a drawing program's file: export it as PNG"),
    **dict.fromkeys((*ARCHIVES, ".rar", ".7z", ".gz"), "an archive inside: unpack it"),
}
NO_PICTURE, A_RUN, BY_DISK = "no picture", "a run's folder", "made by the disk's own software"
TOO_SMALL = "smaller than image_size"
QUIET = (NO_PICTURE, A_RUN, BY_DISK, TOO_SMALL)  # reasons that say nothing of damage
NOW = "cannot be read now"  # begins a reason that may be gone the next time
TO_UNPACK = "unpack it, and give its folder"
# How a file begins, and what opens it, or what it is.
KINDS = {b"PK\3\4": zipfile.ZipFile, b"\x1f\x8b": gzip.open, b"\xfd7zXZ": lzma.open, b"BZh": bz2.open}
KINDS |= {b"7z\xbc\xaf": "a 7-Zip archive", b"Rar!": "a RAR archive", b"\x28\xb5\x2f\xfd": "packed by Zstandard"}
UNKNOWN_PACKING = {9: "Deflate64", 99: "AES"}  # ways of packing in a zip that Python cannot undo
RUN = {"config.json", "checkpoints"}, {"config.json", "history.jsonl"}  # either is in the folder of a run
MADE_BY_DISKS = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "lost+found")  # thumbnails and rubbish
LARGEST = 256 * 2**20  # bytes of one picture in an archive
HELD = 64 * 2**20  # bytes of a tar whose pictures are kept in memory between two passes
# Pictures are already compressed: an archive that grows by this factor, beyond this many bytes, is a bomb.
BOMB_TIMES, BOMB_BYTES = 100, 2**30

Opener = Callable[[], BinaryIO] | str  # opens a file; a string says why it must not be opened
Members = Iterable[tuple[str, Opener]]  # with the name inside the folder or archive


@functools.cache
def pictures() -> tuple[str, ...]:
    """The endings of the files that can be read."""
    Image.init()
    with contextlib.suppress(ImportError):
        __import__("pillow_heif").register_heif_opener()
    formats = (*FORMATS, *({"HEIF"} & {*Image.OPEN}))
    return (*(ending for ending, kind in Image.EXTENSION.items() if kind in formats), *TGA)


def is_picture(name: str) -> bool:
    """Whether a name has a picture's ending."""
    return name.lower().endswith(pictures())


def format_of(start: bytes, name: str) -> str | None:
    """Pillow's name for the format of a file that starts with these bytes, if any."""
    ending, _ = os.path.splitext(name)[1].lower(), pictures()
    if ending in CAMERA or len(start) < 4:
        return None
    for kind in (*FORMATS, "HEIF"):
        accept = Image.OPEN.get(kind, (None, None))[1]
        if accept and accept(start) is True:
            return kind
    return "TGA" if ending in TGA else None


def why_not(start: bytes, name: str) -> str:
    """Why a file that starts with these bytes, and that Pillow cannot open, is left out."""
    if known := OTHERS.get(os.path.splitext(name)[1].lower()):
        return known
    if looks_like_html(start):
        return "a web page" if is_picture(name) else NO_PICTURE
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return OTHERS[".heic"]
    return NO_PICTURE if not is_picture(name) and not format_of(start, name) else "damaged" if start else "empty"


def looks_like_html(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a web page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def hidden(part: str) -> bool:
    """Whether a file or folder of this name is the system's own."""
    return part.startswith((".", "__MACOSX")) and part[:2] != ".." or part in ("Thumbs.db", "desktop.ini")


def passing(error: Exception) -> str | None:
    """The reason to give for a failure that may be gone the next time, if it is one."""
    if isinstance(error, MemoryError):
        return f"{NOW}: not enough memory"
    damage = (None, errno.EINVAL, errno.EOVERFLOW)  # PIL's own errors, and seeking to where damaged files point
    return None if getattr(error, "errno", None) in damage else f"{NOW}: {error.strerror}"


def walk(folder: Path, above: tuple = ()) -> Iterator[tuple[Path, str]]:
    """Every file under ``folder``, sorted by name, and why it must not be opened, or ''.

    Links to folders are followed. What a run has written is not part of the dataset that it lies in.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        about = os.stat(folder)
    except OSError as error:
        yield folder, passing(error)
        return
    me, names = (about.st_dev, about.st_ino), {entry.name for entry in entries}
    if me in above or (above and any(run <= names for run in RUN)):
        yield folder, "a link in a circle" if me in above else A_RUN
        return
    below = []
    for entry in entries:
        if hidden(entry.name):
            continue
        if entry.name in MADE_BY_DISKS:
            yield Path(entry.path), BY_DISK
        elif entry.is_dir():
            below.append(entry.path)
        elif entry.is_file():
            yield Path(entry.path), ""
        else:
            yield Path(entry.path), f"{NOW}: a link to nothing" if entry.is_symlink() else "a pipe or a device"
    for path in below:
        yield from walk(Path(path), (*above, me))


def has_pictures(folder: Path) -> bool:
    """Whether there is a file with a picture's ending under ``folder``."""
    return any(is_picture(path.name) for path, why in walk(folder) if not why)


def places(folder: Path, names: Sequence[str], below: Sequence[str]) -> Iterator[Path]:
    """Folders and archives of pictures with one of these names, first choice first."""
    for name in (name + ending for name in names for ending in ("", *ARCHIVES)):
        yield from (p for p in (folder / part / name for part in below) if p.is_file() or has_pictures(p))


def stamp(*paths: Path) -> str:
    """A text that changes when a file is another, or has another name, size or time."""
    seen = hashlib.sha256()
    for path in (file_and_folder(path)[0].absolute() for path in paths):
        for file, _ in [(path, "")] if path.is_file() else walk(path):
            with contextlib.suppress(OSError):  # a broken link: reading will report it
                i = os.stat(file)
                told = f"{file}\0{i.st_size}\0{i.st_mtime_ns}\0{i.st_ctime_ns}\0{i.st_ino}\n"
                seen.update(told.encode(errors="replace"))
    return seen.hexdigest()


@contextlib.contextmanager
def intact(path: Path, *more: type[Exception]):
    """Turn errors from reading a file, and ``more``, into one sentence about it."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, *more) as error:
        if (why := passing(error)) and not isinstance(error, FileNotFoundError):
            raise ValueError(f"'{path}' {why}.") from error
        why = error
        with contextlib.suppress(OSError), path.open("rb") as file:
            why = "a web page: login, quota or error" if looks_like_html(file.read(512)) else error
        raise ValueError(f"'{path}' cannot be read to its end ({why}); get it again.") from error


def file_and_folder(path: Path) -> tuple[Path, str]:
    """An archive and the folder in it that a path such as ``photos.zip/cats`` means."""
    if not path.exists():
        for above in path.parents:
            if above.is_file():
                return above, path.relative_to(above).as_posix() + "/"
    return path, ""


def passes(paths: Sequence[Path], folders: Sequence[str] = ("",)) -> Callable[[], Members]:
    """A function that yields the members each time; a small tar is decompressed once."""
    path = file_and_folder(paths[0])[0]
    if len(paths) == 1 and path.is_file() and path.stat().st_size <= HELD and _opener(path) is not zipfile.ZipFile:
        held = list(members(paths, folders))
        return lambda: held
    return functools.partial(members, paths, folders)


def members(paths: Sequence[Path], folders: Sequence[str] = ("",)) -> Members:
    """The files of folders and zips sorted by name, those of a tar in its own order.

    If there are several paths, the names begin with theirs.
    """
    for number, path in enumerate(paths):
        before = "" if len(paths) == 1 else f"{path.name}/"
        if [other.name for other in paths].count(path.name) > 1:
            before = f"{number + 1} {before}"
        for name, opener in _members_of(path, folders):
            # Windows writes backslashes, and names that are not UTF-8 cannot be printed.
            name = name.replace("\\", "/").encode(errors="surrogateescape").decode(errors="backslashreplace")
            yield before + name, opener


def _members_of(path: Path, folders: Sequence[str]) -> Members:
    file, inside = file_and_folder(path)
    if file.is_dir():
        for found, why in (found for folder in folders for found in walk(file / folder)):
            yield found.relative_to(file).as_posix(), why or functools.partial(found.open, "rb")
        return
    if not file.exists():
        raise FileNotFoundError(f"There is no folder or archive '{path}'; check the path.")
    kind = _opener(file)
    with intact(file):
        for name, opener in _zipped(file) if kind is zipfile.ZipFile else _tarred(file, kind):
            parts = name.replace("\\", "/").split("/")
            if "/".join(parts).startswith(inside) and not any(map(hidden, parts)):
                made = any(part in MADE_BY_DISKS for part in parts)
                yield name[len(inside) :], BY_DISK if made else opener


def _opener(path: Path) -> Callable:
    """ZipFile, or what unpacks a tar; by the file's content, else by its ending."""
    with intact(path), path.open("rb") as file:
        start, name = file.read(512), path.name.lower()
    kind = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), None)
    if isinstance(kind, str):
        raise ValueError(f"'{path}' is {kind}, which cannot be read here: {TO_UNPACK}.")
    tar = start[257:262] == b"ustar"
    if not (kind or tar or name.endswith(ARCHIVES) or zipfile.is_zipfile(path)):
        raise ValueError(f"'{path}' is neither a folder nor an archive ({' '.join(ARCHIVES)}).")
    return kind or (open if tar or name.endswith(ARCHIVES[1:]) else zipfile.ZipFile)


def _zipped(path: Path) -> Members:
    archive = zipfile.ZipFile(path)  # open while members may be read
    found = [m for m in archive.infolist() if not m.is_dir()]
    _refuse_bomb(path, sum(member.file_size for member in found))
    for member in sorted(found, key=lambda member: member.filename):
        refused = _refused(member.filename, stat.S_ISLNK(member.external_attr >> 16), member.file_size)
        if member.flag_bits & 1 and not refused:
            refused = f"it needs a password: {TO_UNPACK}"
        if member.compress_type in UNKNOWN_PACKING and not refused:
            refused = f"packed by {UNKNOWN_PACKING[member.compress_type]}: {TO_UNPACK}"
        # It yields no more bytes than its entry says, whatever it unpacks to.
        yield member.filename, refused or (lambda m=member: _content(archive.open(m), m.filename))


class _Header(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive):
        """The next member's header; Python's own reading ends quietly at a damaged one."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError, tarfile.EmptyHeaderError) as error:
            raise tarfile.ReadError(f"damaged or cut off before byte {archive.offset:,}: {error}") from error


def _tarred(path: Path, opener: Callable) -> Members:
    total = 0
    with opener(path, "rb") as packed, tarfile.open(fileobj=packed, mode="r|", tarinfo=_Header) as archive:
        for member in archive:
            total += member.size
            _refuse_bomb(path, total)
            if not member.isdir():
                refused = _refused(member.name, not member.isreg(), member.size)
                data = None if refused else _content(archive.extractfile(member), member.name).getvalue()
                yield member.name, refused or functools.partial(io.BytesIO, data)
        # Checksums follow the last byte, and after the end there are only zeros.
        if any(any(part) for part in (archive.fileobj.buf, *iter(functools.partial(packed.read, 2**20), b""))):
            raise tarfile.ReadError(f"there is more after its end, byte {archive.offset:,}: damaged, or two in one")


def _content(file: BinaryIO, name: str) -> io.BytesIO:
    """A member's bytes; only the first of them if it is no picture."""
    with file:
        start = file.read(512)
        return io.BytesIO(start + file.read() if format_of(start, name) else start)


def _refused(name: str, link: bool, size: int) -> str:
    """Why a member must not be opened; empty if it may be."""
    slashed = name.replace("\\", "/")  # backslashes and drive letters lead out on Windows
    if slashed.startswith("/") or ".." in slashed.split("/") or re.match("[A-Za-z]:/", slashed):
        return "its name leads out of the archive"
    return "a link" if link else f"{size / 1e6:,.0f} MB, too large for a picture" if size > LARGEST else ""


def _refuse_bomb(path: Path, unpacked: int) -> None:
    if unpacked > max(BOMB_BYTES, BOMB_TIMES * path.stat().st_size):
        raise ValueError(f"'{path}' would unpack to {unpacked / 1e9:,.1f} GB: a zip bomb, so it is refused.")
