"""Files that are on the disk intact or not at all, whenever the process is killed or the machine loses power."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# What a network drive answers that cannot be asked to write things down now. All else is a failure.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def write(path: Path, content: bytes) -> None:
    """Write a file; if that fails with an OSError, an older file of the name is as it was."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
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
    if os.name != "nt":  # the name, too, is to be on the disk; Windows cannot be asked that
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def clean(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``, as far as that is possible."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp-[0-9]*"):
            path.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
