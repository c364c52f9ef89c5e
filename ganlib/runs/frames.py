"""Snapshots on disk: the images of one step in one PNG, which anybody can look at and which loses nothing."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ganlib._runtime import durable

COLUMNS = 8  # images side by side


def path_of(folder: Path, step: int) -> Path:
    """Where ``folder`` has the snapshot of ``step``."""
    return folder / f"step-{step:06d}.png"


def write(folder: Path, step: int, images: Tensor) -> dict:
    """Write the snapshot of ``step``, uint8 [n, C, H, W], into ``folder``, without gaps between its images.

    Returns:
        what :func:`read` finds it again by, in JSON's types.

    Raises:
        OSError: if it cannot be written.
    """
    n, c, h, w = images.shape
    cells = images if c in (1, 3) else images.reshape(n * c, 1, h, w)  # a PNG has 1 or 3 channels
    rows = -(-len(cells) // COLUMNS)
    sheet = torch.zeros(rows * COLUMNS, *cells.shape[1:], dtype=torch.uint8)
    sheet[: len(cells)] = cells
    sheet = sheet.view(rows, COLUMNS, -1, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, COLUMNS * w, -1)
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1).numpy()).save(buffer, "PNG")
    durable.write(path_of(folder, step), buffer.getvalue())
    return {"step": step, "shape": [n, c, h, w], "sha256": _hash(images)}


def read(folder: Path, frame: dict) -> Tensor | None:
    """The snapshot that :func:`write` wrote, uint8 [n, C, H, W], bit for bit; None, and a sentence, if it is lost."""
    n, c, h, w = frame["shape"]
    path = path_of(folder, frame["step"])
    try:
        images = cells(path, h, w).reshape(-1, h, w)[: n * c].reshape(n, c, h, w).contiguous()
        if _hash(images) == frame["sha256"]:
            return images
    except (OSError, ValueError, RuntimeError):  # each is a way of being damaged
        pass
    print(f"'{path}' is missing or damaged; the history goes on without that snapshot.")
    return None


def cells(path: Path, height: int, width: int) -> Tensor:
    """The images in a file that :func:`write` wrote: uint8 [N, C, height, width], C = 1 or 3.

    The last row of the file is filled up with black ones. An image of other than 1 or 3 channels is that many in here.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        ValueError: if it is no PNG, or holds no such images.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            sheet = torch.from_numpy(np.array(picture))
        rows = sheet.view(len(sheet) // height, height, COLUMNS, width, -1)
    except (RuntimeError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f"'{path}' is damaged: it holds no images of {height}×{width} pixels.") from error
    return rows.permute(0, 2, 4, 1, 3).flatten(0, 1)


def _hash(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().data).hexdigest()
