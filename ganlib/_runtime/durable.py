"""Files that are on the disk whole or not at all, whenever the process is killed or the machine loses power."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path

# What a network drive answers that cannot be asked to write things down now. All else is a failure.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
TEMPORARY = re.compile(r"^\..+\.tmp-\d+$")


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, wait until it is on the disk, and give it its name.

    Raises:
        OSError: if that fails; an older file of the name is then as it was.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            _sync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk every byte counts
            temporary.unlink()
        raise


def rename_folder(made: Path, folder: Path) -> None:
    """Give the finished folder ``made`` its name; an older one of the name is replaced.

    Raises:
        OSError: if it cannot be renamed.
    """
    sync_folder(made)
    if folder.exists():
        remove_folder(folder)
    os.rename(made, folder)
    sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder; a half-removed one no longer has its name.

    Raises:
        OSError: if it cannot be renamed. What cannot be removed after that stays under a temporary name.
    """
    going = folder.with_name(f".{folder.name}-old.tmp-{os.getpid()}")
    shutil.rmtree(going, ignore_errors=True)
    os.rename(folder, going)
    shutil.rmtree(going, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Where to make what will be called ``path``: in the same folder, so that giving it its name is one operation."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def clean(folder: Path) -> None:
    """Remove what killed processes left half-made in ``folder``, as far as that is possible."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.match(path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk; Windows cannot be asked that.

    Raises:
        OSError: if the disk fails.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
