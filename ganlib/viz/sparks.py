"""Small curves, drawn in milliseconds: for a picture that changes while a game runs."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganlib.viz.palette import D_COLOR, G_COLOR, OTHER_COLORS

FINE = 2  # drawn so many times larger, then reduced: smooth lines and letters
COLORS = {"d_loss": D_COLOR, "critic_loss": D_COLOR, "g_loss": G_COLOR}
THICK, THIN = 5, 3  # the generator's line, and others: D and G are alike in grey
QUIET, FRAME = "#666666", "#BBBBBB"


def small_curves(series: Mapping[str, Sequence[float]], size=(450, 150), colors=None, marks=(), first=0) -> np.ndarray:
    """Curves over the steps of a run, in one small panel: uint8 ``[H, W, 3]``.

    ``series`` maps names to values, one per step after step ``first``; above the panel stands each name with its last
    value. Many values are drawn as means, NaN is left out, a rare spike may leave the panel. ``size`` is (W, H), at
    least (120, 60). ``colors`` maps names to colours, in place of the course's own. ``marks`` are steps at which
    something was changed: upright lines.
    """
    width, height = (FINE * pixels for pixels in size)
    if width < FINE * 120 or height < FINE * 60:
        raise ValueError(f"size is {size[0]} × {size[1]}, but small curves need at least 120 × 60 pixels.")
    spare, image = itertools.cycle(OTHER_COLORS), Image.new("RGB", (width, height), "white")
    draw, font, small = ImageDraw.Draw(image), _font(FINE * 11), _font(FINE * 9)
    inks = {name: {**COLORS, **(colors or {})}.get(name) or next(spare) for name in series}
    numbers = {name: np.asarray(values, dtype=float) for name, values in series.items()}
    steps = max(map(len, numbers.values()), default=0)

    x, top = FINE, FINE * 19  # of the next label, and of the panel below
    for name, values in numbers.items():
        known = values[np.isfinite(values)]
        label = f"{name} {known[-1]:.3g}" if len(known) else name
        if x > FINE and x + font.getlength(label) > width:
            x, top = FINE, top + FINE * 14
        draw.text((x, top - FINE * 17), label, inks[name], font)
        x += font.getlength(label) + FINE * 12

    left, right, bottom = FINE * 42, width - FINE, height - FINE * 13
    curves = {name: _means(values, steps, (right - left) // FINE // 2) for name, values in numbers.items()}
    low, high, room = _range(np.concatenate([np.empty(0), *(means for _, means in curves.values())]))

    def height_of(value):
        return bottom - (bottom - top) * (value - low) / (high - low)

    draw.rectangle((left, top, right, bottom), outline=FRAME, width=FINE)
    for mark in marks:
        if first < mark <= first + steps:
            across = left + (right - left) * (mark - first - 0.5) / steps
            draw.line((across, top, across, bottom), QUIET, FINE)
    for name, (where, means) in curves.items():
        down = np.clip(height_of(means), top, bottom)
        points = np.stack([left + (right - left) * where, down], axis=1).tolist()
        if points:  # a short dash at either end, so that a lone value shows
            points = [(points[0][0] - FINE, points[0][1]), *map(tuple, points), (points[-1][0] + FINE, points[-1][1])]
            draw.line(points, inks[name], THICK if name == "g_loss" else THIN, "curve")
    if steps:
        draw.text((left, height), f"step {first + 1:,}", QUIET, small, "ld")
        draw.text((right, height), f"{first + steps:,}", QUIET, small, "rd")
        for value in (low + room, high - room):  # the values of the curves, not those of the frame
            draw.text((left - FINE * 3, height_of(value)), f"{value:.3g}", QUIET, small, "rm")
    return np.asarray(image.reduce(FINE))


_font = functools.cache(ImageFont.load_default)  # ImageFont is kept, as it takes 1 ms to read


def _means(values: np.ndarray, steps: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Where, from 0 to 1 of a run of ``steps``, and the means of the finite values there."""
    bins, finite = max(1, min(steps, columns)), np.isfinite(values)
    column = (np.arange(len(values)) * bins // max(1, steps))[finite]
    count, total = np.bincount(column, minlength=bins), np.bincount(column, values[finite], minlength=bins)
    (some,) = np.nonzero(count)
    return (some + 0.5) / bins, total[some] / count[some]


def _range(means: np.ndarray) -> tuple[float, float, float]:
    """Limits that show all but the rarest spikes, and the room between them and the curves."""
    low, high = np.percentile(means, [1, 99]) if len(means) else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - room, high + room, room
