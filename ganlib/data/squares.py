"""Pictures of any kind as squares of 8 bits: what is cut, and which numbers become black and white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels
FITS, SMALL = ("crop", "pad", "squash"), ("enlarge", "skip")


@dataclass(frozen=True)
class How:
    """How pictures become squares of 8 bits: ``load``'s arguments of these names."""

    fit: Literal["crop", "pad", "squash"] = "crop"
    small: Literal["enlarge", "skip"] = "enlarge"
    background: str = "white"  # behind transparent pictures, and around those that are padded
    range: str | Sequence[float] | None = None  # "low,high": what becomes black and white; default: see ``Range``

    def __post_init__(self):
        for name, value, allowed in (("fit", self.fit, FITS), ("small", self.small, SMALL)):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, but must be one of: {', '.join(allowed)}.")
        try:
            ImageColor.getrgb(self.background)
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"background is {self.background!r}, but must be a colour: black or #40a0ff.") from error
        try:
            given = self.range.split(",") if isinstance(self.range, str) else self.range
            low, high = (0, 1) if given is None else map(float, given)
            if not -np.inf < low < high < np.inf:
                raise ValueError
        except (ValueError, TypeError) as error:
            raise ValueError(f"range is {self.range!r}, but must be two numbers, lower first: 0,4095.") from error
        object.__setattr__(self, "range", None if given is None else (low, high))


class Range:
    """The numbers of a set whose pictures are not of 8 bits, and which of them become 0 and 255."""

    def __init__(self, given: tuple[float, float] | None = None):
        self.given, self.low, self.high, self.whole, self.unknown = given, np.inf, -np.inf, True, 0

    def see(self, values: np.ndarray) -> None:
        """Take in the numbers of a picture."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        self.unknown += finite.size < values.size
        self.whole &= values.dtype.kind in "iu"
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    @property
    def ends(self) -> tuple[float, float]:
        """The given ones; those of a usual scale, if the set is on it and fills it; or the set's own."""
        low, high = self.low, self.high
        if self.given or low > high:
            return self.given or (0, 1)
        # A number of 16 bits fills its type from a half, one on a scale to 255 from a tenth.
        scales = ((0, 65535, 32767),) if self.whole else ((0, 1, 0), (-1, 1, 0), (0, 255, 25.5))
        for bottom, top, least in scales:
            if bottom <= low and least <= high <= top:
                return bottom, top
        if low < high:
            return low, high
        return min(low, 0), max(2 ** np.ceil(np.log2(max(high, 0) + 1)) - 1, 1)  # one number: the bits that it needs

    def __str__(self) -> str:
        (low, high), what = self.ends, "Whole numbers beyond 8 bits" if self.whole else "Floats"
        why = (
            "as asked"
            if self.given
            else f"the set runs from {self.low:.6g} to {self.high:.6g}; else say range=low,high"
        )
        lost = f"; NaN or infinite numbers in {self.unknown:,} become black or white" if self.unknown else ""
        return f"{what}: {low:.6g} becomes black and {high:.6g} white ({why}){lost}."

    def to_uint8(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the set as 0 to 255."""
        low, high = self.ends
        large = values.dtype.kind in "iu" and values.itemsize > 2
        scaled = (values.astype(np.float64 if large else np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).round().clip(0, 255).astype(np.uint8)


def numbers(image: Image.Image) -> np.ndarray:
    """The numbers of a picture that has more than 8 bits a channel."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    unsigned = values.dtype == np.int32 and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,)
    return values.view(np.uint32) if unsigned else values  # PIL knows only signed ones


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits a channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def square(image: Image.Image, image_size: int, channels: int, how: How, deep: Range) -> np.ndarray:
    """A picture, upright and as one square, as uint8 ``[C, H, W]``."""
    ImageOps.exif_transpose(image, in_place=True)
    eight_bits = not is_deep(image)
    if not eight_bits:
        negative = getattr(image, "tag_v2", {}).get(262) == 0  # TIFF's WhiteIsZero: PIL follows it for 8 bits only
        pixels = deep.to_uint8(numbers(image))
        image = Image.fromarray(255 - pixels if negative else pixels)
    if channels < 4 and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, how.background), image)
    image = image.convert(MODES[channels])
    width, height = image.size
    box, side = None, min(image.size)
    if how.fit == "crop":
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    elif how.fit == "pad" and width != height:
        clear = (0, 0, 0, 0) if channels == 4 else ImageColor.getcolor(how.background, image.mode)
        image = ImageOps.pad(image, (max(image.size),) * 2, color=clear)
    pixels = np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=box))
    pixels = deep.to_uint8(pixels) if deep.given and eight_bits else pixels
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
