"""A network as a figure: a box for each map, with its sizes."""

from __future__ import annotations

import math

from torch import nn

from ganlib.models import count_parameters, outputs
from ganlib.viz.images import D_COLOR, G_COLOR, blank

WIDTH, HEIGHT = 760, 270  # pixels
TALL, THICK = 1.6, 1.1  # of a box of 64 × 64 pixels, and of 512 maps
GAP = 0.9
DEPTH = 0.35  # how far a box goes back, of its height
WEIGHTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def network(model: nn.Module, input_shape: tuple[int, ...], title: str = ""):
    """The maps of ``model`` from its input to its output as boxes, as a matplotlib Figure.

    A box is as high and as deep as its map has rows and columns, and as thick as it has channels (both as square roots,
    or the small ones would be points). Over it stands its size, under it what made it and the number of its weights,
    those of the normalisation behind it included.

    Args:
        model: a network of convolutions and linear layers.
        input_shape: shape of one example, without the batch: ``(100,)`` for a generator, ``(3, 64, 64)`` for a
            discriminator.
        title: a line above.

    Raises:
        ValueError: if the model has no such layers.
    """
    boxes = [["input", tuple(input_shape), 0]]
    for layer, shape in outputs(model, input_shape):
        if isinstance(layer, WEIGHTS):
            boxes.append([_name(layer), shape, 0])
        boxes[-1][2] += count_parameters(layer)
    if len(boxes) == 1:
        raise ValueError(f"{type(model).__name__} has no convolution and no linear layer, so there is nothing to draw.")
    figure = blank(WIDTH, HEIGHT)
    axes = figure.add_axes((0, 0, 1, 0.9 if title else 1))
    axes.set_axis_off()
    colour, x = G_COLOR if math.prod(boxes[-1][1]) > math.prod(input_shape) else D_COLOR, 0.0
    for k, (name, shape, weights) in enumerate(boxes):
        channels, rows = (shape[0], shape[1]) if len(shape) == 3 else (math.prod(shape), 1)
        height, thick = TALL * math.sqrt(rows / 64), THICK * math.sqrt(channels / 512)
        right, top = _box(axes, x, height, thick, colour)
        size = f"{channels} × {rows} × {rows}" if rows > 1 else f"{channels}"
        middle = (x + right) / 2
        axes.text(middle, top + 0.08, size, ha="center", va="bottom", fontsize=8)
        made = name if not weights else f"{name}\n{weights:,} weights"
        axes.text(middle, -TALL / 2 - 0.1, made, ha="center", va="top", fontsize=6.5, color="0.35")
        if k < len(boxes) - 1:
            arrow = dict(arrowstyle="->", color="0.5", shrinkA=2, shrinkB=2)
            axes.annotate("", (right + GAP * 0.8, 0), (right + GAP * 0.1, 0), arrowprops=arrow)
        x = right + GAP
    axes.set(xlim=(-0.6, x - GAP + 0.6), ylim=(-TALL / 2 - 0.75, TALL / 2 + TALL * DEPTH + 0.3))
    if title:
        figure.text(0.5, 0.97, title, ha="center", va="top", fontsize=10)
    return figure


def _box(axes, x: float, height: float, thick: float, colour: str) -> tuple[float, float]:
    """A box whose front begins at ``x``, its middle at 0; how far right and up it goes."""
    low, high, back = -height / 2, height / 2, DEPTH * height
    faces = {
        0.75: [(x, low), (x + thick, low), (x + thick, high), (x, high)],
        0.45: [(x, high), (x + thick, high), (x + thick + back, high + back), (x + back, high + back)],
        0.95: [(x + thick, low), (x + thick + back, low + back), (x + thick + back, high + back), (x + thick, high)],
    }
    for alpha, corners in faces.items():
        xs, ys = zip(*corners, strict=True)
        axes.fill(xs, ys, facecolor=colour, alpha=alpha, edgecolor="white", linewidth=0.6)
    return x + thick + back, high + back


def _name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return "linear"
    kind = "transposed" if isinstance(layer, nn.ConvTranspose2d) else "convolution"
    stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{kind}\n{layer.kernel_size[0]}×{layer.kernel_size[1]}{stride}"
