"""The snapshots of a run: one lossless PNG each, of the images of the fixed z."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from ganlib._runtime import durable

COLUMNS = 8  # images of a snapshot side by side
NAME = re.compile(r"step-(\d+)\.png$")


def snapshots_in(folder: Path) -> list[tuple[int, Path]]:
    """The step and file of each snapshot of a run, the oldest first."""
    there = folder / "samples"
    paths = there.iterdir() if there.is_dir() else ()
    return sorted((int(match[1]), path) for path in paths if (match := NAME.match(path.name)))


def write_snapshot(path: Path, images: Tensor) -> None:
    """Write images, uint8 [n, C, H, W], as one lossless PNG without gaps."""
    n, c, h, w = images.shape
    cells = images if c in (1, 3) else images.reshape(n * c, 1, h, w)  # a PNG has 1 or 3 channels
    rows = -(-len(cells) // COLUMNS)
    sheet = torch.zeros(rows * COLUMNS, *cells.shape[1:], dtype=torch.uint8)
    sheet[: len(cells)] = cells
    sheet = sheet.view(rows, COLUMNS, -1, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, COLUMNS * w, -1)
    buffer, shape = io.BytesIO(), PngImagePlugin.PngInfo()
    shape.add_text("shape", f"{n} {c} {h} {w}")
    Image.fromarray(sheet.squeeze(-1).numpy()).save(buffer, "PNG", pnginfo=shape)
    durable.write(path, buffer.getvalue())


def read_snapshot(path: Path) -> Tensor:
    """Read them back exactly, uint8 [n, C, H, W]; ValueError if the file is damaged."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            n, c, h, w = map(int, picture.info["shape"].split())
            sheet = torch.from_numpy(np.array(picture))
        cells = sheet.view(len(sheet) // h, h, COLUMNS, w, -1).permute(0, 2, 4, 1, 3)  # [rows, columns, C, h, w]
        return cells.reshape(-1, h, w)[: n * c].reshape(n, c, h, w)
    except (OSError, SyntaxError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"The snapshot '{path}' is damaged; it is left out.") from error
