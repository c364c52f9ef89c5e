"""Films of a run: in a notebook, and as GIF, WebP or MP4 files. No frame is left out."""

import base64
import importlib.util
import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganlib.viz.controls import told
from ganlib.viz.display import encoded, img, reduced
from ganlib.viz.images import grid, write_file

KINDS = (".gif", ".webp", ".mp4")
WIDTH = 480  # pixels: the least width of a film in a notebook
ON_PAGE, ON_DISK = 500_000, 4_000_000  # bytes; a film that would take more gets fewer colours, or less detail
HEADER, FONT = 26, 16  # pixels: the heights of the strip that names the step, and of its letters


def animation(history, fps: float = 8, hold_last: float = 1.5, *, columns=(), alt=None, **layout) -> "Animation":
    """A film to end a cell with: the snapshots of a run, or other frames.

    ``history`` is what ``fit`` returned, or a list of ``(step, images)``: a strip above each frame names its step, and
    what was changed by hand since the frame before. Or it is a list of images alone. Images and ``layout`` (cols, pad,
    scale) are as in ``grid``; ``columns`` are names above them, one for each. ``fps`` is at most 50, as browsers slow
    faster films down. The last frame is held ``hold_last`` seconds longer before the film restarts. ``alt`` is the text
    that stands for it where it is read aloud.
    """
    if not isinstance(fps, int | float) or not 0 < fps <= 50:
        raise ValueError(f"fps is {fps!r}, but must be above 0 and at most 50.")
    if hold_last < 0:
        raise ValueError(f"hold_last is {hold_last} seconds, but must be 0 or more.")
    frames = [frame if isinstance(frame, tuple) else (None, frame) for frame in getattr(history, "snapshots", history)]
    names, last = [], -1
    for step, _ in frames:
        changes = [told(name, v) for at, name, v in getattr(history, "changes", ()) if last < at <= (step or 0)]
        names.append(None if step is None else " · ".join([f"step {step:,}", *changes]))
        last = step
    layout |= {"cols": len(columns)} if columns else {}
    pictures = [grid(images, **layout) for _, images in frames]
    if not pictures:
        raise ValueError("There are no frames to animate; take a snapshot at least once during the run.")
    if len(sizes := {str(list(picture.shape)) for picture in pictures}) > 1:
        raise ValueError(f"The frames of an animation must be of one size, but are {' and '.join(sorted(sizes))}.")
    # GIF counts hundredths of a second: rounding the end of a frame, not its duration, adds up no errors.
    ends = [10 * round(100 * k / fps) for k in range(len(pictures) + 1)]
    ends[-1] += 10 * round(100 * hold_last)
    return Animation(pictures, names, np.diff(ends).tolist(), fps, alt, list(columns))


def save_gif(history, path: str | Path, fps: float = 8, hold_last: float = 1.5, **layout) -> Path:
    """Write a GIF in 256 colours that loops forever (see ``animation``); return its path."""
    return animation(history, fps, hold_last, **layout).save(path)


class Animation:
    """A film: ``pictures``, uint8 ``[H, W, C]``, their ``names``, and ``durations`` in milliseconds.

    In a notebook it is an animated WebP, enlarged by a whole factor if it is small; in print it is the last frame.
    """

    def __init__(self, pictures: list[np.ndarray], names: list, durations: list[int], fps: float, alt, columns: list):
        self.pictures, self.names, self.durations, self.fps, self.columns = pictures, names, durations, fps, columns
        height, width = pictures[0].shape[:2]
        self.size = f"{len(pictures)} frames, {width} × {height} pixels"
        ends = f", from {names[0]} to {names[-1]}" if names[0] is not None else ""
        self.alt = alt or f"A film of {self.size}{ends}"

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        return f"Animation({self.size}, {sum(self.durations) / 1000:.1f} s)"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        frames = self._frames(math.ceil(WIDTH / self.pictures[0].shape[1]))
        kind, still = encoded(reduced(self._frames(1)[-1]))
        moving = img("image/webp", _webp(frames, self.durations, ON_PAGE), frames[0].width, self.alt)
        return {"text/html": moving, kind: base64.b64encode(still).decode(), "text/plain": repr(self)}

    def save(self, path: str | Path) -> Path:
        """Write a ``.gif``, ``.webp`` or ``.mp4``, as its name says; return its path.

        A GIF or WebP of more than 4 MB gets fewer colours, or less detail. An MP4 needs the extra ``video``.
        """
        if (kind := Path(path).suffix.lower()) not in KINDS:
            raise ValueError(f"A film is saved as {', '.join(KINDS)}, but '{path}' ends in none of them.")
        frames = self._frames(1)
        if kind == ".mp4":
            film = _mp4(frames, [round(ms * self.fps / 1000) for ms in self.durations], self.fps)
        else:
            film = {".gif": _gif, ".webp": _webp}[kind](frames, self.durations, ON_DISK)
        return write_file(path, film)

    def _frames(self, scale: int) -> list[Image.Image]:
        """The frames, enlarged, each below its names, if it has any."""
        named = zip(self.pictures, self.names, strict=True)
        return [_titled(grid(p, scale=scale), name, self.columns) for p, name in named]


def _titled(picture: np.ndarray, name: str | None, columns: list) -> Image.Image:
    """A picture below white strips with its name and those of its columns, if it has any."""
    image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    lines = [(6, name, FONT, "lm")] if name is not None else []
    if columns:
        each = image.width / len(columns)
        size = min(FONT, max(8, 1.7 * each / max(len(str(column)) for column in columns)))  # a letter is 0.55 wide
        lines += [((k + 0.5) * each, str(column), size, "mm") for k, column in enumerate(columns)]
    head = HEADER * ((name is not None) + bool(columns))
    page = Image.new(image.mode, (image.width, image.height + head), "white")
    page.paste(image, (0, head))
    for x, text, size, anchor in lines:
        y = HEADER // 2 if anchor == "lm" else head - HEADER // 2
        ImageDraw.Draw(page).text((x, y), text, "black", ImageFont.load_default(size), anchor=anchor)
    return page


def _webp(frames: list[Image.Image], durations: list[int], limit: int) -> bytes:
    """A WebP in true colour, with as much detail as its bytes allow."""
    settings = {"extension": ".webp", "plugin": "pillow", "duration": durations, "loop": 0, "method": 2}
    settings["allow_mixed"] = True  # lossless where that is smaller, as for plots
    pictures = [np.asarray(frame.convert("RGB")) for frame in frames]
    for quality in (80, 60, 40, 20):
        film = iio.imwrite("<bytes>", pictures, quality=quality, **settings)
        if len(film) <= limit:
            break
    return film


def _gif(frames: list[Image.Image], durations: list[int], limit: int) -> bytes:
    """A GIF in 256 colours, the same for all frames, or in fewer if it would be too large."""
    settings = dict(extension=".gif", plugin="pillow", mode="P", save_all=True, duration=durations, loop=0)
    some = np.concatenate([np.asarray(frame) for frame in frames[:: 1 + (len(frames) - 1) // 16]])
    for colors in (256, 128, 64, 32):
        if frames[0].mode == "L":  # shades of grey
            shades = ((np.arange(256) / 255 * (colors - 1)).round() / (colors - 1) * 255).round().astype(np.uint8)
            pictures, palette = shades[np.stack(frames)], np.arange(256, dtype=np.uint8).repeat(3)
        else:  # no dither: it flickers and takes more bytes
            shared = Image.fromarray(some).quantize(colors)
            pictures = np.stack([frame.quantize(palette=shared, dither=Image.Dither.NONE) for frame in frames])
            palette = shared.getpalette()
        film = iio.imwrite("<bytes>", pictures, palette=bytes(palette), **settings)
        if len(film) <= limit:
            break
    return film


def _mp4(frames: list[Image.Image], times: list[int], fps: float) -> bytes:
    """An MP4 for any player; each frame is shown a number of times."""
    if not importlib.util.find_spec("imageio_ffmpeg"):
        raise ImportError("An .mp4 needs ffmpeg: pip install imageio-ffmpeg (the extra `video`), and try again.")
    pictures = np.repeat([np.asarray(frame.convert("RGB")) for frame in frames], times, axis=0)
    even = [(0, size % 2) for size in pictures.shape[1:3]]  # most players show only even sizes
    pictures = np.pad(pictures, [(0, 0), *even, (0, 0)], "edge")
    settings = {"extension": ".mp4", "plugin": "FFMPEG", "codec": "libx264", "macro_block_size": 2}
    return iio.imwrite("<bytes>", pictures, fps=fps, **settings)
