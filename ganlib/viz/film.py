"""Films of a run, for JupyterLab, nbconvert's HTML, GitHub, and as GIF files."""

import io
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image
from torch import Tensor

from ganlib.viz.images import grid, spread_snapshots, write_file


def animation(frames: Sequence, fps: float = 8, hold_last: float = 1.5, *, max_bytes=400_000, **layout) -> "Animation":
    """A film to end a cell with; frames and ``layout`` (cols, pad, …) as in ``grid``.

    ``fps`` is at most 50, as browsers slow faster films down. The last frame is held ``hold_last`` seconds longer
    before the film restarts. It takes at most ``max_bytes`` in a notebook, where every byte counts as 4/3.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps is {fps}, but must be above 0 and at most 50.")
    if hold_last < 0:
        raise ValueError(f"hold_last is {hold_last} seconds, but must be 0 or more.")
    pictures = [grid(frame, **layout) for frame in frames]
    if not pictures:
        raise ValueError("There are no frames to animate; take a snapshot at least once during the run.")
    if len(sizes := {str(list(picture.shape)) for picture in pictures}) > 1:
        raise ValueError(f"The frames of an animation must be of one size, but are {' and '.join(sorted(sizes))}.")
    # GIF counts hundredths of a second: rounding the end of a frame, not its duration, adds up no errors.
    ends = [10 * round(100 * k / fps) for k in range(len(pictures) + 1)]
    ends[-1] += 10 * round(100 * hold_last)
    return Animation(pictures, np.diff(ends).tolist(), max_bytes)


def save_gif(frames: Sequence, path: str | Path, fps: float = 8, hold_last: float = 1.5, **layout) -> Path:
    """Write frames as a GIF that loops forever (see ``animation``); return its path."""
    return animation(frames, fps, hold_last, **layout).save(path)


def frames_of(history, at_most: int = 60) -> list[Tensor]:
    """The snapshots of a run (from ``fit``) as frames, uint8 ``[N, C, H, W]``.

    If there are more than ``at_most``, this many are taken, evenly spread, including the first and the last.
    """
    return [images for _, images in spread_snapshots(history, at_most)]


class Animation:
    """A film: ``pictures``, uint8 ``[H, W, C]``, and ``durations`` in milliseconds.

    In a notebook it is an animated PNG, since nbconvert drops ``image/gif``; in print it shows the last frame. To fit
    a given size it is written in 128 colours shared by all frames, else in 64 or 32 (grey: 32 or 16), else with
    only every second frame, and so on; identical neighbours are merged.
    """

    def __init__(self, pictures: list[np.ndarray], durations: list[int], max_bytes: int):
        self.pictures, self.durations, self.max_bytes = pictures, durations, max_bytes

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        height, width = self.pictures[0].shape[:2]
        return f"Animation({len(self)} frames, {width} × {height} pixels, {sum(self.durations) / 1000:.1f} s)"

    def _repr_png_(self) -> bytes:
        return _encoded(self.pictures, self.durations, ".png", self.max_bytes)

    def save(self, path: str | Path, max_bytes: int = 2_000_000) -> Path:
        """Write a ``.gif`` or ``.png`` of at most ``max_bytes`` bytes; return its path."""
        if (kind := Path(path).suffix.lower()) not in (".gif", ".png"):
            raise ValueError(f"An animation is saved as .gif or .png, but '{path}' ends in neither.")
        return write_file(path, _encoded(self.pictures, self.durations, kind, max_bytes))


def _encoded(pictures: list[np.ndarray], durations: list[int], kind: str, max_bytes: int) -> bytes:
    """A ``.gif`` or animated ``.png`` of at most ``max_bytes``, or with one frame."""
    for colors in (128, 32, 16) if pictures[0].shape[2] == 1 else (128, 64, 32):
        film = _in_colors(pictures, durations, kind, colors)
        if len(film) <= max_bytes or (colors < 64 and len(pictures) == 1):
            return film
        if len(film) > 2 * max_bytes and len(pictures) > 1:
            break  # fewer colours save a third at most
    keep = range((len(pictures) - 1) % 2, len(pictures), 2)  # keeps the last frame
    longer = [sum(durations[max(0, k - 1) : k + 1]) for k in keep]
    return _encoded([pictures[k] for k in keep], longer, kind, max_bytes)


def _in_colors(pictures: list[np.ndarray], durations: list[int], kind: str, colors: int) -> bytes:
    """The film in a number of colours, the same for all frames."""
    # No dither: it flickers and takes more bytes.
    if pictures[0].shape[2] == 3:
        shared = Image.fromarray(np.concatenate(pictures[:: 1 + (len(pictures) - 1) // 16])).quantize(colors)
        frames = [Image.fromarray(p).quantize(palette=shared, dither=Image.Dither.NONE) for p in pictures]
        palette = bytes(shared.getpalette())
    else:
        nearest = (np.arange(256) / 255 * (colors - 1)).round().astype(np.uint8)
        shades = np.linspace(0, 255, colors).round().astype(np.uint8)[nearest]
        frames = [Image.fromarray(shades[p[:, :, 0]]) for p in pictures]
        palette = np.arange(256, dtype=np.uint8).repeat(3).tobytes()
    buffer, settings = io.BytesIO(), {"save_all": True, "duration": durations, "loop": 0}
    if kind == ".gif":
        settings |= {"extension": kind, "plugin": "pillow", "mode": "P", "palette": palette}
        return iio.imwrite("<bytes>", np.stack(frames), **settings)
    # Not by imageio: it has no palettes for PNG, and a film in true colour is twice as large.
    if len(frames) > 1:  # the last frame also comes first, as the still image, which is not part of the film
        settings |= {"append_images": frames, "default_image": True}
    frames[-1].save(buffer, "PNG", **settings)
    return buffer.getvalue()
