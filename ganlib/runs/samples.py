"""Snapshots on disk: the images of one step in one PNG, which anybody can look at and which loses nothing."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ganlib._runtime import durable

COLUMNS = 8  # images side by side
NAME = re.compile(r"step-(\d+)\.png$")

log = logging.getLogger("ganlib")


def snapshot_files(folder: Path) -> list[tuple[int, Path]]:
    """The step and the file of every snapshot in ``folder``, the oldest first."""
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted((int(match[1]), path) for path in there if (match := NAME.match(path.name)))


def remove_others(folder: Path, steps: Collection[int]) -> None:
    """Remove the snapshots of other than these steps, which are yet to be made again."""
    for step, path in snapshot_files(folder):
        if step not in steps:
            path.unlink()


def write_snapshot(folder: Path, step: int, images: Tensor) -> dict:
    """Write the snapshot of ``step``, uint8 [n, C, H, W], without gaps; what :func:`read_snapshot` finds it by."""
    n, c, h, w = images.shape
    cells = images if c in (1, 3) else images.reshape(n * c, 1, h, w)  # a PNG has 1 or 3 channels
    rows = -(-len(cells) // COLUMNS)
    sheet = torch.zeros(rows * COLUMNS, *cells.shape[1:], dtype=torch.uint8)
    sheet[: len(cells)] = cells
    sheet = sheet.view(rows, COLUMNS, -1, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, COLUMNS * w, -1)
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1).numpy()).save(buffer, "PNG")
    durable.write(folder / f"step-{step:06d}.png", buffer.getvalue())
    return {"step": step, "shape": [n, c, h, w], "sha256": _hash(images)}


def read_snapshot(folder: Path, frame: dict) -> Tensor | None:
    """The snapshot that was written, uint8 [n, C, H, W], bit for bit; None, and a sentence, if it is lost."""
    n, c, h, w = frame["shape"]
    path = folder / f"step-{frame['step']:06d}.png"
    try:
        images = cells_of(path, h, w).reshape(-1, h, w)[: n * c].reshape(n, c, h, w).contiguous()
        if _hash(images) == frame["sha256"]:
            return images
    except (OSError, ValueError, RuntimeError):  # each is a way of being damaged
        pass
    log.warning(f"'{path}' is missing or damaged; the history goes on without that snapshot.")
    return None


def cells_of(path: Path, height: int, width: int) -> Tensor:
    """The images in a snapshot's file, uint8 [N, C, height, width]; the last row is filled up with black ones."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            sheet = torch.from_numpy(np.array(picture))
        rows = sheet.view(len(sheet) // height, height, COLUMNS, width, -1)
    except (RuntimeError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f"'{path}' is damaged: it holds no images of {height}×{width} pixels.") from error
    return rows.permute(0, 2, 4, 1, 3).flatten(0, 1)


def _hash(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().data).hexdigest()
