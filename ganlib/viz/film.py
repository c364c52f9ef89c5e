"""Films of a run that move: in JupyterLab, in nbconvert's HTML, on GitHub, and as GIF files."""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ganlib.viz.images import as_picture, spread, write


def animation(
    frames: Sequence,
    fps: float = 8,
    hold_last: float = 1.5,
    scale: int = 1,
    cols: int | None = None,
    pad: int = 2,
    max_bytes: int = 400_000,
) -> Animation:
    """A film to end a notebook's cell with: it moves in JupyterLab, in nbconvert's HTML and in any browser.

    Args:
        frames: image batches ``[N, C, h, w]`` as in ``grid``, or finished pictures, uint8 ``[H, W, C]``.
        fps: frames a second, above 0 and at most 50 (browsers slow faster films down).
        hold_last: seconds for which the last frame stays longer, before the film starts again.
        scale, cols, pad: as in ``grid``.
        max_bytes: the most it may take in a notebook, where every byte counts 4/3.

    Raises:
        ValueError: if there is no frame, a frame is no picture (see ``grid``), frames differ in size,
            ``fps`` is not in (0, 50] or ``hold_last`` is negative.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps is {fps}, but must be above 0 and at most 50.")
    if hold_last < 0:
        raise ValueError(f"hold_last is {hold_last} seconds, but must be 0 or more.")
    pictures = [as_picture(frame, cols, pad, scale) for frame in frames]
    if not pictures:
        raise ValueError("There are no frames to animate; take a snapshot at least once during the run.")
    if len({picture.shape for picture in pictures}) > 1:
        sizes = " and ".join(sorted({str(list(picture.shape)) for picture in pictures}))
        raise ValueError(f"The frames of one animation must be of one size, but some are {sizes}.")
    # GIF counts hundredths of a second: round when a frame ends, not how long it lasts, so no error adds up.
    ends = [10 * round(100 * k / fps) for k in range(len(pictures) + 1)]
    ends[-1] += 10 * round(100 * hold_last)
    return Animation(pictures, [after - before for before, after in itertools.pairwise(ends)], max_bytes)


def save_gif(frames: Sequence, path: str | os.PathLike, fps: float = 8, hold_last: float = 1.5, **layout) -> Path:
    """Write frames as a GIF that loops forever, and return its path: ``animation(...).save(path)``.

    Args:
        frames, fps, hold_last: as in ``animation``; ``layout`` is its ``cols``, ``pad`` and ``scale``.
        path: ends in ``.gif``; folders that are missing are made, an older file of that name is replaced.

    Raises:
        ValueError, OSError: as ``animation`` and ``Animation.save``.
    """
    return animation(frames, fps, hold_last, **layout).save(path)


def frames_of(history, at_most: int = 60) -> list[torch.Tensor]:
    """The snapshots of a run as frames for ``animation``: uint8 ``[N, C, H, W]`` each, oldest first.

    Args:
        history: what ``fit`` returned, or its list of ``(step, images)``.
        at_most: how many, spread evenly over the run, the first and the last among them.

    Raises:
        ValueError: if there are no snapshots, or ``at_most`` is below 1.
    """
    return [images for _, images in spread(history, at_most)]


class Animation:
    """A film, made by ``animation``: ``pictures``, uint8 ``[H, W, C]``, and the ``durations`` of each in ms.

    In a notebook it is an animated PNG: that is ``image/png`` to every viewer, where nbconvert drops
    ``image/gif``. Whatever cannot animate, such as a printed page, shows the last frame.

    To stay within a given size it is written in 128 colours shared by all frames, else in 64 or 32 (grey: 32
    or 16 shades), else with every second frame only, shown as long as two, and so on. Identical neighbours
    are stored once, and shown as long as all of them.
    """

    def __init__(self, pictures: list[np.ndarray], durations: list[int], max_bytes: int):
        self.pictures, self.durations, self.max_bytes = pictures, durations, max_bytes

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        height, width = self.pictures[0].shape[:2]
        return f"Animation({len(self)} frames, {width} × {height} pixels, {sum(self.durations) / 1000:.1f} s)"

    def _repr_png_(self) -> bytes:
        return self._png

    @functools.cached_property
    def _png(self) -> bytes:
        return _film(self.pictures, self.durations, "PNG", self.max_bytes)

    def save(self, path: str | os.PathLike, max_bytes: int = 2_000_000) -> Path:
        """Write the film, in at most ``max_bytes`` bytes, and return its path. An older file is replaced.

        Args:
            path: ends in ``.gif`` or ``.png``; folders that are missing are made.
            max_bytes: the file's largest size.

        Raises:
            ValueError: if ``path`` ends in neither.
            OSError: if the file cannot be written.
        """
        kind = Path(path).suffix.upper()
        if kind not in (".GIF", ".PNG"):
            raise ValueError(f"An animation is saved as .gif or .png, but '{path}' ends in neither.")
        return write(path, _film(self.pictures, self.durations, kind[1:], max_bytes))


def _film(pictures: list[np.ndarray], durations: list[int], kind: str, max_bytes: int) -> bytes:
    """A GIF or an animated PNG as bytes, at most ``max_bytes`` (or a single frame): see ``Animation``."""
    for colors in (128, 32, 16) if pictures[0].shape[2] == 1 else (128, 64, 32):
        buffer = io.BytesIO()
        first, *rest = _reduced(pictures, colors, kind)
        settings = {"save_all": True, "duration": durations, "loop": 0}
        if kind == "PNG" and rest:  # the last frame comes first too: the still, which is no part of the film
            rest[-1].save(buffer, kind, append_images=[first, *rest], default_image=True, **settings)
        else:
            first.save(buffer, kind, append_images=rest, **settings)
        if buffer.tell() <= max_bytes or (colors < 64 and not rest):
            return buffer.getvalue()
        if buffer.tell() > 2 * max_bytes and rest:
            break  # fewer colours save a third, not a half
    keep = range((len(pictures) - 1) % 2, len(pictures), 2)  # the last frame stays
    return _film([pictures[k] for k in keep], [sum(durations[max(0, k - 1) : k + 1]) for k in keep], kind, max_bytes)


def _reduced(pictures: list[np.ndarray], colors: int, kind: str) -> list[Image.Image]:
    """The pictures in ``colors`` colours, the same for all; no dither: it flickers and takes more bytes."""
    if pictures[0].shape[2] == 3:
        some = np.concatenate(pictures[:: math.ceil(len(pictures) / 16)])
        palette = Image.fromarray(some).quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        return [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    shades = np.linspace(0, 255, colors).round().astype(np.uint8)
    nearest = (np.arange(256) / 255 * (colors - 1)).round().astype(np.uint8)
    if kind == "PNG":
        return [Image.fromarray(shades[nearest[p[:, :, 0]]]) for p in pictures]
    images = [Image.fromarray(nearest[p[:, :, 0]]) for p in pictures]
    for image in images:
        image.putpalette(shades.repeat(3).tobytes())
    return images
