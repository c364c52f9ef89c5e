"""Generated pictures: ten soft shapes at random places, to do without a dataset."""

import math

import numpy as np
import torch
from torch import Tensor

from ganlib._runtime.randomness import rng


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _plus(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.28, 1), _box(x, y, 1, 0.28))


_DISTANCES = {  # signed: negative inside the shape, positive outside, slope about 1; y points down
    "disc": lambda x, y: torch.hypot(x, y) - 1,
    "ring": lambda x, y: (torch.hypot(x, y) - 0.75).abs() - 0.25,
    "square": lambda x, y: _box(x, y, 0.85, 0.85),
    "frame": lambda x, y: _box(x, y, 0.7, 0.7).abs() - 0.2,
    "triangle": lambda x, y: torch.maximum(y - 0.55, 0.866 * x.abs() - 0.5 * y - 0.55),
    "plus": _plus,
    "cross": lambda x, y: _plus((x + y) / math.sqrt(2), (x - y) / math.sqrt(2)),
    "bars": lambda x, y: _box(x, y.abs() - 0.55, 0.95, 0.27),
    "pillars": lambda x, y: _box(x.abs() - 0.55, y, 0.27, 0.95),
    "crescent": lambda x, y: torch.maximum(torch.hypot(x, y) - 1, 0.8 - torch.hypot(x - 0.55, y)),
}
SHAPES = tuple(_DISTANCES)


def draw_shapes(n: int, image_size: int = 32, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [n, channels, size, size] of one shape each, and labels int64 [n].

    Grey shapes are light on black, like digits; coloured ones have the hue of their class on a dark gradient.
    """
    if n < 1 or image_size < 8:
        raise ValueError(f"Cannot draw {n} shapes of {image_size}×{image_size}; use n ≥ 1 and image_size ≥ 8.")
    labels, chance = torch.arange(n) % len(SHAPES), torch.rand(n, 8, generator=rng(seed))
    pixels = torch.empty(n, channels, image_size, image_size, dtype=torch.uint8)
    for label in range(len(SHAPES)):
        for rows in (labels == label).nonzero().flatten().split(1024):  # to limit memory
            pixels[rows] = _pictures(label, chance[rows], image_size, channels)
    return pixels.numpy(), labels.numpy()


def _pictures(label: int, chance: Tensor, size: int, channels: int) -> Tensor:
    cx, cy, scale, turn, shade_angle, shade, hue, back_hue = chance.view(-1, 8, 1, 1).unbind(1)
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    u, v = line, line[:, None]
    radius, angle = 0.5 + 0.2 * scale, 0.6 * (turn - 0.5)
    dx, dy = (u - 0.5 * (cx - 0.5)) / radius, (v - 0.5 * (cy - 0.5)) / radius
    # In the shape's own coordinates it fills about [-1, 1]²; its edge is about a pixel wide.
    x, y = angle.cos() * dx + angle.sin() * dy, angle.cos() * dy - angle.sin() * dx
    inside = torch.sigmoid(-_DISTANCES[SHAPES[label]](x, y) * radius * size)

    # 0 to 1 across the picture; overshooting at both ends ensures that black and white occur.
    slope = 0.5 + (u * (2 * math.pi * shade_angle).cos() + v * (2 * math.pi * shade_angle).sin()) / 2
    light = (1.2 - (0.2 + 0.4 * shade) * slope).clamp(0, 1)[:, None]
    picture = inside[:, None] * light
    if channels == 3:
        front = _colour(label / len(SHAPES) + 0.05 * hue) * light
        picture = torch.lerp(_colour(back_hue) * (0.45 * slope - 0.05).clamp(0, 1)[:, None], front, inside[:, None])
    return (picture * 255).round().clamp(0, 255).to(torch.uint8)


def _colour(hue: Tensor) -> Tensor:
    phase = torch.tensor([0, -1 / 3, -2 / 3]).view(1, 3, 1, 1)  # of red, green and blue; hues run from 0 to 1
    return (0.55 + 0.55 * (2 * math.pi * (hue[:, None] + phase)).cos()).clamp(0, 1)
