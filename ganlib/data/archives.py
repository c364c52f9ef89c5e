"""The pictures in a folder or an archive, as a stream: nothing is ever unpacked, and nothing leads out of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from ganlib.data.download import looks_like_html

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
HOLD_BELOW = 256 * 2**20  # the pictures of a tar archive, in bytes as they are, that stay in memory between two looks
LARGEST = 256 * 2**20  # bytes of one picture in an archive; all of them are read into memory at once
# Pictures are packed already. What grows by more than this, and to more than that many bytes, is a bomb.
BOMB_TIMES, BOMB_BYTES = 100, 2**30

# (name inside, how to open it) of every picture; for one that must not be opened, why.
Members = Iterable[tuple[str, Callable[[], io.BytesIO | Path] | str]]


def is_archive(path: Path) -> bool:
    """Whether the name of ``path`` ends like an archive's."""
    return path.name.lower().endswith(ARCHIVES)


def is_picture(name: str) -> bool:
    """Whether the name of a member ends like a picture's, and neither it nor its folder is hidden."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part[:2] != ".." for part in parts)
    return name.lower().endswith(PICTURES) and not hidden


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(folder, file name) of every picture under ``folder``, in the order of their names."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in sorted(files):
            if is_picture(name):
                yield here, name


def stamp(path: Path) -> str:
    """A text that changes when the file, or any picture in the folder, changes its name, size or time."""
    files = [path] if path.is_file() else (Path(folder) / name for folder, name in walk(path))
    seen = hashlib.sha256()
    for file in files:
        with contextlib.suppress(OSError):  # a link to nowhere: reading will name it
            info = file.stat()
            seen.update(f"{file.absolute()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(errors="replace"))
    return seen.hexdigest()


def looks(path: Path) -> Callable[[], Members]:
    """To be called for each look at the members: a tar archive that is small enough is decompressed once only.

    Raises:
        FileNotFoundError, ValueError: as :func:`members`.
    """
    if path.is_dir() or path.name.lower().endswith(".zip"):
        return functools.partial(members, path)
    held, size = [], 0
    for name, opener in members(path):
        held.append((name, opener))
        size += 0 if isinstance(opener, str) else opener().getbuffer().nbytes
        if size > HOLD_BELOW:
            return functools.partial(members, path)
    return lambda: held


def members(path: Path) -> Members:
    """The pictures in a folder or a zip, in the order of their names, or in a tar archive, in its own.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if it is neither a folder nor an archive, or the archive cannot be read to its end, or is a bomb.
    """
    if path.is_dir():
        for here, name in walk(path):
            file = Path(here, name)
            yield file.relative_to(path).as_posix(), lambda file=file: file
        return
    if not path.exists():
        raise FileNotFoundError(f"There is no folder or archive '{path}'; check the path.")
    if not is_archive(path):
        raise ValueError(f"'{path}' is neither a folder nor an archive ({' '.join(ARCHIVES)}).")
    try:
        yield from (_zipped if path.name.lower().endswith(".zip") else _tarred)(path)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        with contextlib.suppress(OSError), path.open("rb") as file:
            if looks_like_html(file.read(512)):
                raise ValueError(
                    f"'{path}' is a web page, not an archive: the download was answered by a login, quota or "
                    "error page; get it again in a browser."
                ) from error
        raise ValueError(f"The archive '{path}' cannot be read to its end ({error}); get it again.") from error


def _zipped(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        found = [m for m in archive.infolist() if not m.is_dir() and is_picture(m.filename)]
        _check_size(path, sum(member.file_size for member in found))
        for member in sorted(found, key=lambda member: member.filename):
            link = stat.S_ISLNK(member.external_attr >> 16)
            refused = _refused(member.filename, link, member.file_size)
            # It gives no more bytes than its entry says, whatever it unpacks to.
            yield member.filename, refused or (lambda m=member: io.BytesIO(archive.read(m)))


def _tarred(path: Path) -> Members:
    total = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            total += member.size
            _check_size(path, total)
            if not member.isdir() and is_picture(member.name):
                refused = _refused(member.name, not member.isreg(), member.size)
                data = b"" if refused else archive.extractfile(member).read()
                yield member.name, refused or (lambda data=data: io.BytesIO(data))


def _refused(name: str, link: bool, size: int) -> str:
    """Why a member must not be opened; empty for one that may be."""
    # Backslashes and drive letters too: what is harmless here is not on Windows.
    slashed = name.replace("\\", "/")
    if slashed.startswith("/") or ".." in slashed.split("/") or ":" in slashed.split("/")[0]:
        return "its name leads out of the archive"
    if link:
        return "a link"
    return f"{size / 1e6:,.0f} MB, which is no picture" if size > LARGEST else ""


def _check_size(path: Path, unpacked: int) -> None:
    packed = max(path.stat().st_size, 1)
    if unpacked > BOMB_BYTES and unpacked > BOMB_TIMES * packed:
        raise ValueError(
            f"The archive '{path}' would unpack to {unpacked / 1e9:,.1f} GB, {unpacked / packed:,.0f} times its own "
            "size: that is a zip bomb and no set of pictures, so it was left alone."
        )
