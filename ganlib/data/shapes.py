"""Generated pictures: ten soft shapes at random places, for quick tests and machines with no image set."""

from __future__ import annotations

import math

import numpy as np
import torch

from ganlib._runtime import device as runtime

SHAPES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "plus",
    "cross",
    "bars",
    "pillars",
    "crescent",
)


def draw_shapes(n: int, image_size: int = 32, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``n`` pictures of one shape each, the same for the same arguments; classes take turns.

    Grey ones are light shapes on black, like digits; coloured ones have the hue of their class on a dark
    gradient.

    Args:
        n: how many, at least 1.
        image_size: height and width in pixels, at least 8: below that the shapes cannot be told apart.
        channels: 1 or 3.
        seed: of place, size, turn, shading and colours.

    Returns:
        pixels: uint8 ``[n, channels, image_size, image_size]``; labels: int64 ``[n]``, indices into
            ``SHAPES``.

    Raises:
        ValueError: if ``n`` or ``image_size`` is too small.
    """
    if n < 1 or image_size < 8:
        raise ValueError(f"Cannot draw {n} shapes of {image_size}×{image_size}; use n ≥ 1 and image_size ≥ 8.")
    labels = torch.arange(n) % len(SHAPES)
    chance = torch.rand(n, 8, generator=runtime.rng(seed))
    pixels = torch.empty(n, channels, image_size, image_size, dtype=torch.uint8)
    rows_at_once = max(1, 2**20 // image_size**2)
    for rows in torch.arange(n).split(rows_at_once):
        pixels[rows] = _draw(labels[rows], chance[rows], image_size, channels)
    return pixels.numpy(), labels.numpy()


def _draw(labels: torch.Tensor, chance: torch.Tensor, size: int, channels: int) -> torch.Tensor:
    cx, cy, scale, turn, shade_angle, shade, hue, back_hue = (c.view(-1, 1, 1) for c in chance.unbind(1))
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")

    # Into the shape's own coordinates, where it fills about [-1, 1]².
    radius = 0.5 + 0.2 * scale
    angle = 0.6 * (turn - 0.5)
    dx, dy = (u - 0.5 * (cx - 0.5)) / radius, (v - 0.5 * (cy - 0.5)) / radius
    x, y = angle.cos() * dx + angle.sin() * dy, angle.cos() * dy - angle.sin() * dx

    distance = torch.empty_like(x)
    for c in range(len(SHAPES)):
        distance[labels == c] = _signed_distance(c, x[labels == c], y[labels == c])
    inside = torch.sigmoid(-distance * radius * size)  # the edge is about a pixel wide

    # 0 to 1 across the picture; overshooting both ends makes black and white really occur.
    slope = 0.5 + (u * (2 * math.pi * shade_angle).cos() + v * (2 * math.pi * shade_angle).sin()) / 2
    light = (1.2 - (0.2 + 0.4 * shade) * slope).clamp(0, 1)
    if channels == 1:
        picture = (inside * light)[:, None]
    else:
        front = _colour(labels.view(-1, 1, 1) / len(SHAPES) + 0.05 * hue) * light[:, None]
        back = _colour(back_hue) * (0.45 * slope - 0.05).clamp(0, 1)[:, None]
        picture = torch.lerp(back, front, inside[:, None])
    return (picture * 255).round().clamp(0, 255).to(torch.uint8)


def _signed_distance(shape: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Below 0 inside the shape, above it outside, about 1 a unit of length; y points down."""

    def box(x, y, width, height):
        return torch.maximum(x.abs() - width, y.abs() - height)

    r = torch.hypot(x, y)
    match SHAPES[shape]:
        case "disc":
            return r - 1
        case "ring":
            return (r - 0.75).abs() - 0.25
        case "square":
            return box(x, y, 0.85, 0.85)
        case "frame":
            return box(x, y, 0.7, 0.7).abs() - 0.2
        case "triangle":
            return torch.maximum(y - 0.55, 0.866 * x.abs() - 0.5 * y - 0.55)
        case "plus":
            return torch.minimum(box(x, y, 0.28, 1), box(x, y, 1, 0.28))
        case "cross":
            a, b = (x + y) / math.sqrt(2), (x - y) / math.sqrt(2)
            return torch.minimum(box(a, b, 0.28, 1), box(a, b, 1, 0.28))
        case "bars":
            return box(x, y.abs() - 0.55, 0.95, 0.27)
        case "pillars":
            return box(x.abs() - 0.55, y, 0.27, 0.95)
        case _:
            return torch.maximum(r - 1, 0.8 - torch.hypot(x - 0.55, y))


def _colour(hue: torch.Tensor) -> torch.Tensor:
    """A saturated colour for each hue in turns: [n, 1, 1] to [n, 3, 1, 1] in [0, 1]."""
    phase = torch.tensor([0, -1 / 3, -2 / 3]).view(1, 3, 1, 1)
    return (0.55 + 0.55 * (2 * math.pi * (hue[:, None] + phase)).cos()).clamp(0, 1)
