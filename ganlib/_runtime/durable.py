"""Files that are intact or absent, even after a kill or a power failure."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# The errors of a network drive that does not support fsync. All others are failures.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def write(path: Path, content: bytes) -> None:
    """Write a file; if that fails with an OSError, an older file stays unchanged."""
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
    if os.name != "nt":  # the name must be on the disk as well; Windows cannot do that
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def clean(folder: Path) -> None:
    """Remove half-written files of killed processes from ``folder``, if possible."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp-[0-9]*"):
            path.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
